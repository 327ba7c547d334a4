//! What is told of alerts: a pure function of what happened, what was told, and the time.
//!
//! One message when an alert opens and one when it closes. An alert that opens more than [`FLAPS`] times within [`WINDOW`] is
//! told once as flapping, and then nothing of it until it has not changed for [`STABLE`]. What is critical and stays open is told
//! again after a while. What another alert says already (the age of a backup that fails, a store that no copy reaches) is told
//! for itself only where that one is silent.

use crate::audit::{AlertRow, ToldRow};
use havun_notify::{Event, Severity};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// More openings than these within the window are flapping.
pub const FLAPS: usize = 3;
/// The window.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// Unchanged for this long is stable.
pub const STABLE: SignedDuration = SignedDuration::from_hours(6);

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell<'a> {
    /// Of which alert.
    pub alert: &'a AlertRow,
    /// What.
    pub event: Event,
    /// The how many-th of its kind, for reminders; 0 otherwise.
    pub number: usize,
    /// How often it opened of late.
    pub changes: usize,
}

/// What is to be told now. `history` is in the order in which the alerts were raised, `told` in the order of time.
pub fn decide<'a>(
    history: &'a [AlertRow],
    told: &[ToldRow],
    severity: impl Fn(&AlertRow) -> Severity,
    remind: SignedDuration,
    now: Timestamp,
) -> Vec<Tell<'a>> {
    let mut subjects: BTreeMap<(&str, &str, &str), Vec<&AlertRow>> = BTreeMap::new();
    for alert in history {
        subjects.entry((&alert.project, &alert.store, &alert.kind)).or_default().push(alert);
    }
    let mut tells = Vec::new();
    for alerts in subjects.values() {
        if is_explained(alerts, history) {
            continue;
        }
        tells.extend(subject(alerts, told, &severity, remind, now));
    }
    tells.sort_by(|a, b| (&a.alert.raised_at, &a.alert.id).cmp(&(&b.alert.raised_at, &b.alert.id)));
    tells
}

/// Whether another alert says the same and is open, or was when this one was last raised: then that one is told, or was, and not
/// what follows from it.
fn is_explained(alerts: &[&AlertRow], history: &[AlertRow]) -> bool {
    let Some(open) = alerts.last().filter(|alert| alert.resolved_at.is_none()) else { return false };
    let mut others = history.iter().filter(|other| other.project == open.project && explains(other, open));
    others.any(|other| other.resolved_at.as_ref().is_none_or(|at| *at >= open.last_seen))
}

/// Whether `alert` follows from what `other` tells of the same project.
fn explains(other: &AlertRow, alert: &AlertRow) -> bool {
    let of_one_store = other.store == alert.store;
    match alert.kind.as_str() {
        "health" => other.kind != "health",
        // That no run began is explained by nothing; that a store has nothing new may be.
        "age" => matches!(other.kind.as_str(), "run" | "missed" | "replication" | "store"),
        "lag" => of_one_store && matches!(other.kind.as_str(), "replication" | "store"),
        "store" => of_one_store && other.kind == "replication" && other.raised_at <= alert.raised_at,
        "replication" => of_one_store && other.kind == "store" && other.raised_at < alert.raised_at,
        _ => false,
    }
}

/// What is to be told of one project, store and kind.
fn subject<'a>(
    alerts: &[&'a AlertRow],
    told: &[ToldRow],
    severity: impl Fn(&AlertRow) -> Severity,
    remind: SignedDuration,
    now: Timestamp,
) -> Option<Tell<'a>> {
    let alert = *alerts.last()?;
    let ours: Vec<(&str, Event, Timestamp)> = told
        .iter()
        .filter(|row| alerts.iter().any(|alert| alert.id == row.alert_id))
        .filter_map(|row| Some((row.alert_id.as_str(), Event::of_word(&row.event)?, row.at)))
        .collect();
    let tell = |event, number, changes| Some(Tell { alert, event, number, changes });
    if let Some(flap) = flapping(alerts, now) {
        let is_told = ours.iter().any(|(_, event, at)| *event == Event::Flapping && *at >= flap.since);
        return if is_told { None } else { tell(Event::Flapping, 0, flap.openings) };
    }
    let last = ours.last();
    if alert.resolved_at.is_some() {
        return last.filter(|(_, event, _)| *event != Event::Recovery).and_then(|_| tell(Event::Recovery, 0, 0));
    }
    if !ours.iter().any(|(id, event, _)| *id == alert.id && *event == Event::Failure) {
        return tell(Event::Failure, 0, 0);
    }
    let reminders = ours.iter().filter(|(id, event, _)| *id == alert.id && *event == Event::Reminder).count();
    let is_due = last.is_some_and(|(_, _, at)| now.duration_since(*at) >= remind);
    if severity(alert) == Severity::Critical && is_due { tell(Event::Reminder, reminders + 1, 0) } else { None }
}

struct Flap {
    since: Timestamp,
    openings: usize,
}

/// The flapping that still goes on, if it does.
fn flapping(alerts: &[&AlertRow], now: Timestamp) -> Option<Flap> {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let mut changes: Vec<(Timestamp, bool)> = alerts.iter().filter_map(|alert| Some((time(&alert.raised_at)?, true))).collect();
    changes.extend(alerts.iter().filter_map(|alert| Some((time(alert.resolved_at.as_deref()?)?, false))));
    changes.sort();
    let mut since: Option<Timestamp> = None;
    let mut openings: Vec<Timestamp> = Vec::new();
    let mut before: Option<Timestamp> = None;
    for (at, opens) in changes {
        if since.is_some() && before.is_some_and(|before| at.duration_since(before) >= STABLE) {
            since = None;
            openings.clear();
        }
        if opens {
            openings.push(at);
            let recent = openings.iter().filter(|opened| at.duration_since(**opened) < WINDOW).count();
            if since.is_none() && recent > FLAPS {
                since = Some(at);
            }
        }
        before = Some(at);
    }
    let goes_on = before.is_some_and(|before| now.duration_since(before) < STABLE);
    since.filter(|_| goes_on).map(|since| Flap { since, openings: openings.len() })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
