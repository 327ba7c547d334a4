//! What concerns the host and no project: keys, clock, the daemon, messages that do not go out.

use super::{Finding, FindingKind, Findings};
use crate::{
    audit::AlertRow,
    config::Secret,
    context::Context,
    error::{OperationError, one_line},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::{fs, os::unix::fs::MetadataExt as _};

/// Clocks may differ by this.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// A daemon that shows no life for longer is dead or stuck.
const SILENCE: SignedDuration = SignedDuration::from_mins(10);

/// What the daemon says of itself in `daemon.json`, as far as health asks for it.
#[derive(Deserialize)]
struct Daemon {
    pid: u32,
    #[serde(default)]
    mode: String,
    beat_at: Timestamp,
    #[serde(default)]
    stopped_at: Option<Timestamp>,
}

/// Looks at the host. `latest` is the latest moment that anything of it was recorded.
pub(super) fn look(cx: &Context, latest: Option<Timestamp>, open: &[AlertRow]) -> Findings {
    let mut found = Findings::default();
    keys(cx, &mut found);
    clock(cx, latest, &mut found);
    daemon(cx, &mut found);
    for row in open.iter().filter(|row| row.kind == FindingKind::Notify.word()) {
        let what = format!("messages are not delivered since {}: {}", row.raised_at, row.message);
        found.problems.push(Finding::new(FindingKind::Notify, what, row.hint.clone()));
    }
    found
}

fn keys(cx: &Context, found: &mut Findings) {
    let keys = &cx.config.keys;
    let encrypted = cx.config.projects.values().any(|project| project.encryption);
    if !encrypted && keys.identity.is_none() {
        return;
    }
    if let Err(error) = cx.identities() {
        let hint = error.hint().unwrap_or_default();
        found.problems.push(Finding::new(FindingKind::Key, format!("the service key cannot be used: {}", one_line(&error)), hint));
    } else if keys.identity.is_none() {
        let hint = "`havun-backup init` makes one, and says where it belongs in the configuration";
        found.problems.push(Finding::new(FindingKind::Key, "projects are encrypted, and `identity` in [keys] is not set".to_owned(), hint));
    }
    if let Some(Secret::File(path)) = &keys.identity
        && let Some(mode) = fs::metadata(path).ok().map(|meta| meta.mode() & 0o077).filter(|mode| *mode != 0)
    {
        let what = format!("the service key in {} can be read by others (mode bits {mode:03o})", path.display());
        found.problems.push(Finding::new(FindingKind::Key, what, format!("run `chmod 600 {}`", path.display())));
    }
    if encrypted && keys.escrow.is_empty() {
        let what = "there is no escrow key: when this host is lost, nobody can read its backups".to_owned();
        found.problems.push(Finding::new(FindingKind::Key, what, "`havun-backup init` makes one; keep its secret off this host"));
    }
}

fn clock(cx: &Context, latest: Option<Timestamp>, found: &mut Findings) {
    let Some(latest) = latest.filter(|latest| latest.duration_since(cx.now()) > SKEW) else { return };
    let what = format!("the clock says {}, and something was recorded at {latest}: it is or was wrong", cx.now());
    let hint = "`timedatectl` shows whether a time server keeps it right; nothing is thinned and nothing expires until it is";
    found.problems.push(Finding::new(FindingKind::Clock, what, hint));
}

fn daemon(cx: &Context, found: &mut Findings) {
    let Ok(text) = fs::read(cx.config.host.state_dir.join("daemon.json")) else { return };
    let Ok(daemon) = serde_json::from_slice::<Daemon>(&text) else { return };
    // One that cron calls is missed by its runs.
    if daemon.mode == "once" {
        return;
    }
    match daemon.stopped_at {
        Some(at) => {
            found.notes.push(Finding::new(FindingKind::Note, format!("the daemon was stopped at {at}: nothing runs by itself"), ""))
        }
        None if cx.now().duration_since(daemon.beat_at) > SILENCE => {
            let what = format!("the daemon (process {}) has shown no life since {}", daemon.pid, daemon.beat_at);
            found.problems.push(Finding::new(FindingKind::Heartbeat, what, "`systemctl status havun-backup` says why; start it again"));
        }
        None => {}
    }
}

/// The audit database cannot be used, so no run can begin either.
pub(super) fn without_audit(error: &OperationError) -> Finding {
    Finding::new(FindingKind::Audit, format!("no run can begin: {}", one_line(error)), error.hint().unwrap_or_default())
}
