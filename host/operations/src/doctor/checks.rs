//! What is looked at, topic by topic.

use super::{Finding, FindingState, Repair};
use crate::{
    config::{ProjectConfig, Secret, StoreKind},
    context::Context,
    drill,
    error::{OperationError, one_line},
    health::{self, FindingKind, HealthOptions, health},
    incidents::{Topic, page_for},
    init::{self, InitStep, Parts, StepState},
    project, run,
};
use havun_model::StoreName;
use havun_vault::store::StoreError;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Less than this in the state folder keeps caches, the audit database and drills from being written.
const LEAST_FREE: u64 = 256 << 20;
/// What was logged may be so much later than now before the clock is in doubt: two hosts may share an audit database.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    pub all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, topic: Topic, subject: impl Into<String>, state: FindingState, detail: impl Into<String>) {
        let (subject, detail) = (subject.into(), detail.into());
        self.all.push(Finding { topic, subject, state, detail, advice: String::new(), repair: None });
    }

    fn problem(
        &mut self,
        topic: Topic,
        subject: impl Into<String>,
        detail: impl Into<String>,
        advice: impl Into<String>,
        repair: Option<Repair>,
    ) {
        let (subject, detail, advice) = (subject.into(), detail.into(), advice.into());
        self.all.push(Finding { topic, subject, state: FindingState::Problem, detail, advice, repair });
    }

    /// Whether something of this subject says the same already.
    fn says(&self, detail: &str) -> bool {
        self.all.iter().any(|finding| finding.detail == detail)
    }
}

/// Looks at these topics.
pub(super) fn look(cx: &Context, projects: &[&ProjectConfig], topics: &[Topic], found: &mut Findings) -> Result<(), OperationError> {
    let wanted = |topic: Topic| topics.contains(&topic);
    basics(cx, projects, topics, found);
    cx.check_cancelled()?;
    if wanted(Topic::Keys) {
        permissions(cx, found);
    }
    if wanted(Topic::Space) {
        state_space(cx, found);
    }
    if wanted(Topic::Clock) {
        clock(cx, found);
    }
    if wanted(Topic::LeftBehind) {
        left_behind(cx, found);
    }
    if wanted(Topic::Leases) {
        leases(cx, projects, found)?;
    }
    if [Topic::Runs, Topic::Replicas, Topic::Damage, Topic::Space, Topic::LeftBehind].into_iter().any(wanted) {
        of_health(cx, projects, topics, found)?;
    }
    if wanted(Topic::Notify) {
        notify(cx, found);
    }
    Ok(())
}

/// Keys, audit database, stores and projects, as `config --check --online` tests them.
fn basics(cx: &Context, projects: &[&ProjectConfig], topics: &[Topic], found: &mut Findings) {
    let parts = Parts {
        keys: topics.contains(&Topic::Keys),
        audit: topics.contains(&Topic::Audit),
        stores: topics.contains(&Topic::Stores),
        projects: topics.contains(&Topic::Projects),
        channels: topics.contains(&Topic::Notify),
        only: projects.iter().map(|project| project.name.clone()).collect(),
    };
    for step in init::check_parts(cx, &parts).steps {
        found.all.push(of_step(step));
    }
}

fn of_step(step: InitStep) -> Finding {
    let topic = match step.subject.split(' ').next() {
        Some("store") => Topic::Stores,
        Some("channel") => Topic::Notify,
        Some("project" | "projects") => Topic::Projects,
        Some("audit") => Topic::Audit,
        _ => Topic::Keys,
    };
    let state = match (&step.failure, step.state) {
        (Some(_), _) => FindingState::Problem,
        (None, StepState::Note) => FindingState::Note,
        (None, _) => FindingState::Ok,
    };
    let detail = step.failure.as_ref().map_or(step.detail, |failure| failure.one_line());
    let advice = step.failure.and_then(|failure| {
        let page = page_for("", i64::from(failure.exit_status), &failure.one_line());
        failure.hint.or_else(|| Some(format!("`havun-backup doctor --kind {}` has the procedure", page.slug)))
    });
    Finding { topic, subject: step.subject, state, detail, advice: advice.unwrap_or_default(), repair: None }
}

/// Files that hold secrets: whose, and whether others may read them.
fn permissions(cx: &Context, found: &mut Findings) {
    let mut open = Vec::new();
    for (path, strict) in secret_files(cx) {
        // Others never; the group neither where it is the key of all backups.
        let bad = if strict { 0o077 } else { 0o007 };
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        let mode = meta.permissions().mode() & 0o7777;
        if mode & bad != 0 && (meta.is_file() || meta.is_dir()) {
            open.push((path, mode, mode & !bad));
        }
    }
    if open.is_empty() {
        found.add(Topic::Keys, "permissions", FindingState::Ok, "no key or secret can be read by others");
    }
    for (path, mode, to) in open {
        let detail = format!("{} can be read by others (mode {mode:o})", path.display());
        let advice = format!("chmod {to:o} {}; was it readable for long, treat what it holds as known", path.display());
        found.problem(Topic::Keys, "permissions", detail, advice, Some(Repair::Permissions { path, mode: to }));
    }
}

/// With whether it is a key that opens backups.
fn secret_files(cx: &Context) -> BTreeMap<PathBuf, bool> {
    let config = &cx.config;
    let mut files = BTreeMap::new();
    let mut add = |secret: Option<&Secret>, strict: bool| {
        if let Some(Secret::File(path)) = secret {
            files.insert(path.clone(), strict);
        }
    };
    add(config.keys.identity.as_ref(), true);
    add(Some(&config.audit.url), false);
    for store in config.stores.values() {
        match &store.kind {
            StoreKind::Local { .. } => {}
            StoreKind::Sftp(s) => [&s.identity, &s.passphrase, &s.password].into_iter().for_each(|secret| add(secret.as_ref(), false)),
            StoreKind::S3(s) => {
                [&s.access_key_id, &s.secret_access_key, &s.session_token].into_iter().for_each(|secret| add(secret.as_ref(), false));
            }
        }
    }
    for database in config.projects.values().flat_map(|project| project.databases.values()) {
        [&database.url, &database.password].into_iter().for_each(|secret| add(secret.as_ref(), false));
    }
    files.insert(config.host.state_dir.clone(), true);
    files.insert(config.host.state_dir.join("keys").join("signing.key"), true);
    files.insert(config.host.state_dir.join("audit.db"), true);
    files
}

fn state_space(cx: &Context, found: &mut Findings) {
    let path = &cx.config.host.state_dir;
    let Some(free) = free_bytes(path) else { return };
    if free < LEAST_FREE {
        let detail = format!("{free} bytes free only in {}", path.display());
        found.problem(Topic::Space, "state folder", detail, "free some space on that disk: no run can be recorded without it", None);
    } else {
        found.add(Topic::Space, "state folder", FindingState::Ok, format!("{} MB free", free / 1_000_000));
    }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What was written down is not later than now.
fn clock(cx: &Context, found: &mut Findings) {
    let newest: Option<Timestamp> =
        cx.audit().ok().and_then(|audit| audit.logs(None, 1).ok()).and_then(|rows| rows.first()?.started_at.parse().ok());
    let limit = cx.now().checked_add(AHEAD).unwrap_or(cx.now());
    match newest {
        Some(newest) if newest > limit => {
            let detail = format!("the clock says {}, and the newest entry in the audit database is of {newest}", cx.now());
            found.problem(Topic::Clock, "clock", detail, "compare with another clock: `timedatectl`; `chronyc tracking`", None);
        }
        _ => {
            found.add(Topic::Clock, "clock", FindingState::Ok, format!("{}, later than everything that was logged", cx.now()));
        }
    }
}

fn left_behind(cx: &Context, found: &mut Findings) {
    let before = found.all.len();
    for (project, what) in run::left_behind(cx) {
        let subject = project.map_or_else(|| "runs".to_owned(), |name| format!("project {name}"));
        found.problem(Topic::LeftBehind, subject, what, "any run undoes it too", Some(Repair::UndoLeftBehind));
    }
    for what in drill::left_behind(cx) {
        found.problem(Topic::LeftBehind, "drills", what, "the next drill or run removes it too", Some(Repair::RemoveDrillLeftovers));
    }
    if found.all.len() == before {
        found.add(Topic::LeftBehind, "left behind", FindingState::Ok, "nothing of runs or drills that were killed");
    }
}

/// Whether each vault's lease is free, by taking it and giving it back; a backup that begins meanwhile waits for that.
fn leases(cx: &Context, projects: &[&ProjectConfig], found: &mut Findings) -> Result<(), OperationError> {
    for project in projects {
        project_lease(cx, project, found);
        for name in project::store_order(cx, project, None)? {
            cx.check_cancelled()?;
            lease(cx, project, &name, found);
        }
    }
    Ok(())
}

/// Who backs it up now, on this host or on one that shares the audit database. That the latter is away is another topic's.
fn project_lease(cx: &Context, project: &ProjectConfig, found: &mut Findings) {
    let holder = cx.audit().ok().and_then(|audit| audit.lease_holder(project.name.as_str(), cx.now()).ok()).flatten();
    if let Some(holder) = holder {
        let advice = "its lease ends by itself when that process is gone";
        found.add(Topic::Leases, format!("project {}", project.name), FindingState::Note, format!("{holder} backs it up now; {advice}"));
    }
}

fn lease(cx: &Context, project: &ProjectConfig, name: &StoreName, found: &mut Findings) {
    let subject = format!("{} in {name}", project.name);
    let Ok(open) = project::open_store(cx, &project.name, name) else { return };
    if project::open_vault(cx, &project.name, &open).is_err() {
        // That it is away, or not there yet, is another topic's.
        return;
    }
    match open.store.lease(&format!("cleanup: {}", cx.holder("doctor")), false) {
        Ok(lease) => {
            drop(lease);
            found.add(Topic::Leases, subject, FindingState::Ok, "nobody holds the vault");
        }
        Err(StoreError::Locked { holder }) => {
            let (running, detail) = (is_running(cx, project), format!("the vault is held by {holder}"));
            if running {
                found.add(Topic::Leases, subject, FindingState::Note, format!("{detail}: a run of this host is at work"));
            } else {
                let repair = Repair::TakeLease { project: project.name.to_string(), store: name.to_string(), holder };
                let advice = "look whether that process lives, on its host; only when it is gone for certain, take the lease over";
                found.problem(Topic::Leases, subject, detail, advice, Some(repair));
            }
        }
        Err(error) => {
            found.add(Topic::Leases, subject, FindingState::Note, format!("whether it is free is not known: {}", one_line(&error)));
        }
    }
}

/// Whether a run of the project is at work, as the audit database has it: rows of dead processes were marked when it was opened.
fn is_running(cx: &Context, project: &ProjectConfig) -> bool {
    let rows = cx.audit().ok().and_then(|audit| audit.logs(Some(project.name.as_str()), 50).ok()).unwrap_or_default();
    rows.iter().any(|row| row.status == "running")
}

/// What `health` finds, each with the repair that it names.
fn of_health(cx: &Context, projects: &[&ProjectConfig], topics: &[Topic], found: &mut Findings) -> Result<(), OperationError> {
    let options = HealthOptions { projects: projects.iter().map(|project| project.name.to_string()).collect() };
    let report = match health(cx, &options) {
        Ok(report) => report,
        Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
        Err(error) => {
            let detail = one_line(&error);
            if !found.says(&detail) {
                found.problem(Topic::Audit, "health", detail, error.hint().unwrap_or_default(), None);
            }
            return Ok(());
        }
    };
    for finding in report.host.problems {
        of_finding("this host", "", finding, topics, found);
    }
    for project in report.projects {
        let name = project.project.to_string();
        let is_fine = project.problems.iter().all(|finding| topic_of(finding.kind) != Topic::Runs);
        for finding in project.problems {
            of_finding(&name, &name, finding, topics, found);
        }
        if is_fine && topics.contains(&Topic::Runs) {
            found.add(Topic::Runs, format!("project {name}"), FindingState::Ok, "runs and drills are as they should be");
        }
    }
    Ok(())
}

fn of_finding(subject: &str, project: &str, finding: health::Finding, topics: &[Topic], found: &mut Findings) {
    let topic = topic_of(finding.kind);
    let objects: String = finding.objects.iter().map(|object| format!("; {object}")).collect();
    let detail = format!("{}{objects}", finding.what);
    // That the audit database is away was found before.
    let is_known = found.says(&detail) || topic == Topic::Audit;
    if is_known || !topics.contains(&topic) {
        return;
    }
    let store = finding.store.as_ref().map(StoreName::as_str);
    let place = store.map_or_else(|| subject.to_owned(), |store| format!("{subject} in {store}"));
    found.problem(topic, place, detail, finding.hint, repair(finding.kind, project, store.unwrap_or_default()));
}

fn topic_of(kind: FindingKind) -> Topic {
    use FindingKind as Kind;
    match kind {
        Kind::Replication | Kind::Lag | Kind::Missing | Kind::Changed => Topic::Replicas,
        Kind::Scrub | Kind::Damage => Topic::Damage,
        Kind::Store => Topic::Stores,
        Kind::Space => Topic::Space,
        Kind::LeftBehind | Kind::Restore => Topic::LeftBehind,
        Kind::Key => Topic::Keys,
        Kind::Clock => Topic::Clock,
        Kind::Notify => Topic::Notify,
        Kind::Audit => Topic::Audit,
        _ => Topic::Runs,
    }
}

/// What this program can do about a finding about a store of a project.
fn repair(kind: FindingKind, project: &str, store: &str) -> Option<Repair> {
    use FindingKind as Kind;
    let is_placed = !project.is_empty() && !store.is_empty();
    let (project, store) = (project.to_owned(), store.to_owned());
    match kind {
        Kind::LeftBehind => Some(Repair::UndoLeftBehind),
        Kind::Missing if is_placed => Some(Repair::Push { project, store, full: true }),
        Kind::Changed | Kind::Scrub | Kind::Damage if is_placed => Some(Repair::Mend { project, store }),
        Kind::Replication | Kind::Lag if is_placed => Some(Repair::Push { project, store, full: false }),
        _ => None,
    }
}

/// Whether each channel would work, and messages that could not be delivered. Sends nothing.
fn notify(cx: &Context, found: &mut Findings) {
    if cx.config.notify.channels.is_empty() {
        found.add(Topic::Notify, "messages", FindingState::Note, "[notify] has no channel: nobody is told when something goes wrong");
    }
    for probe in crate::notify::probe_channels(cx) {
        let subject = format!("channel {}", probe.channel);
        match probe.failure {
            None => found.add(Topic::Notify, subject, FindingState::Ok, probe.found),
            Some(failure) => found.problem(Topic::Notify, subject, failure.one_line(), failure.hint.unwrap_or_default(), None),
        }
    }
    let open = cx.audit().ok().and_then(|audit| audit.alerts(true, 1000).ok()).unwrap_or_default();
    for alert in open.into_iter().filter(|alert| alert.kind == crate::notify::NOTIFY) {
        found.problem(Topic::Notify, "messages", alert.message, alert.hint, None);
    }
}
