//! When the audit database itself cannot be used: there is no queue then, so that is told directly, once per reminder time,
//! and remembered in a file. When it works again, that goes through the queue.

use super::{Outbox, channels, words::Words};
use crate::{
    config::ToldEvent,
    context::Context,
    error::{OperationError, one_line},
};
use jiff::Timestamp;
use std::{fs, path::PathBuf};

/// Since when, and when it was told last.
struct Mark {
    since: Timestamp,
    told: Timestamp,
}

/// Tells that there is no database, unless that was told of late.
pub(super) fn tell(cx: &Context, error: &OperationError, now: Timestamp) {
    let mark = read(cx);
    if mark.as_ref().is_some_and(|mark| now.duration_since(mark.told) < cx.config.notify.remind.duration()) {
        return;
    }
    let since = mark.as_ref().map_or(now, |mark| mark.since);
    let message = Words::new(cx).audit_away(cx, &one_line(error), &error.hint().unwrap_or_default(), since, now).made_visible();
    let mut told = false;
    for channel in cx.config.notify.channels.iter().filter(|channel| channel.events.contains(&ToldEvent::Failure)) {
        match channels::open(channel).and_then(|way| way.send(&message)) {
            Ok(()) => told = true,
            Err(error) => tracing::warn!(channel = channel.name, error = one_line(&error), "a message could not be sent"),
        }
    }
    if told {
        write(cx, &Mark { since, told: now });
    }
}

/// Tells that the database works again, where it was told that it does not.
pub(super) fn back(outbox: &Outbox<'_>, now: Timestamp) {
    let Some(mark) = read(outbox.cx) else { return };
    let message = Words::new(outbox.cx).audit_back(outbox.cx, mark.since, now);
    match outbox.put(message, now) {
        Ok(_) => drop(fs::remove_file(path(outbox.cx))),
        Err(error) => tracing::warn!(error = one_line(&error), "a message could not be kept"),
    }
}

fn path(cx: &Context) -> PathBuf {
    cx.config.host.state_dir.join("audit-away")
}

fn read(cx: &Context) -> Option<Mark> {
    let text = fs::read_to_string(path(cx)).ok()?;
    let mut times = text.split_whitespace().filter_map(|time| time.parse().ok());
    Some(Mark { since: times.next()?, told: times.next()? })
}

fn write(cx: &Context, mark: &Mark) {
    let written =
        fs::create_dir_all(&cx.config.host.state_dir).and_then(|()| fs::write(path(cx), format!("{}\n{}\n", mark.since, mark.told)));
    if let Err(error) = written {
        tracing::warn!(%error, "it cannot be remembered that a message was sent: it will be sent again");
    }
}
