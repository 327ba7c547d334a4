//! The schedule against what was done: each moment at which a project was due, and what became of it.

use crate::schedule::Schedule;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Serialize;

/// A run may begin so much later than its moment and still be that of it in the eyes of `health`.
pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(1);
/// A schedule of every minute has half a million moments a year: more are not reckoned.
const MOST: usize = 10_000;

/// A moment at which a project was due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// When it was due.
    pub due_at: Timestamp,
    /// `done`, `partial`, `failed`, `missed` (no run began), or `pending` (there is still time).
    pub outcome: &'static str,
    /// The snapshot or the reason.
    pub why: String,
}

impl Slot {
    /// Whether a whole snapshot was made.
    pub fn is_done(&self) -> bool {
        self.outcome == "done"
    }

    /// Whether it counts as not done.
    pub fn is_gap(&self) -> bool {
        !matches!(self.outcome, "done" | "pending")
    }
}

/// A run, as it counts here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub started_at: Timestamp,
    pub status: &'a str,
    pub message: &'a str,
    pub snapshot: Option<&'a str>,
}

/// Every moment of `schedule` after `from` and up to `until`, with the runs between it and the next. `attempts` are in the order
/// of time and reach to `now`. What lies before `since`, when the project was first backed up or configured, is not asked for.
pub(super) fn slots(
    schedule: &Schedule,
    zone: &TimeZone,
    (from, until): (Timestamp, Timestamp),
    since: Option<Timestamp>,
    attempts: &[Attempt<'_>],
    now: Timestamp,
) -> Vec<Slot> {
    let mut slots = Vec::new();
    let Ok(mut before) = from.checked_sub(SignedDuration::from_nanos(1)) else { return slots };
    while let Some(due_at) = schedule.next_after(before, zone).filter(|due| *due < until) {
        if slots.len() == MOST {
            break;
        }
        before = due_at;
        let next = schedule.next_after(due_at, zone).unwrap_or(Timestamp::MAX);
        // Who was first backed up on a Tuesday was not due on the Monday before.
        if since.is_none_or(|since| since < next) {
            slots.push(slot(due_at, next, attempts, now));
        }
    }
    slots
}

fn slot(due_at: Timestamp, next: Timestamp, attempts: &[Attempt<'_>], now: Timestamp) -> Slot {
    let of_it = || attempts.iter().filter(|run| due_at <= run.started_at && run.started_at < next);
    let (outcome, why) = if let Some(run) = of_it().find(|run| run.status == "ok") {
        ("done", run.snapshot.unwrap_or_default().chars().take(8).collect())
    } else if let Some(run) = of_it().rev().find(|run| run.status != "running") {
        (if run.status == "partial" { "partial" } else { "failed" }, run.message.lines().next().unwrap_or_default().to_owned())
    } else if now < due_at.checked_add(GRACE).unwrap_or(Timestamp::MAX) || of_it().next().is_some() {
        ("pending", String::new())
    } else {
        ("missed", String::new())
    };
    Slot { due_at, outcome, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn run(started_at: &str, status: &'static str) -> Attempt<'static> {
        Attempt { started_at: at(started_at), status, message: "away\nmore", snapshot: Some("0123456789abcdef") }
    }

    fn told(slots: &[Slot]) -> Vec<(String, &'static str)> {
        slots.iter().map(|slot| (slot.due_at.strftime("%d %H:%M").to_string(), slot.outcome)).collect()
    }

    #[test]
    fn each_moment_has_its_outcome() {
        let daily: Schedule = "daily 03:00".parse().unwrap();
        let runs = [
            run("2025-11-01T03:00:05Z", "ok"),
            run("2025-11-02T03:00:05Z", "failed"),
            run("2025-11-02T04:00:05Z", "ok"),
            run("2025-11-03T03:00:05Z", "partial"),
            run("2025-11-05T03:00:05Z", "failed"),
        ];
        let between = (at("2025-11-01T00:00:00Z"), at("2025-11-08T00:00:00Z"));
        let all = slots(&daily, &TimeZone::UTC, between, None, &runs, at("2025-11-06T03:30:00Z"));
        let expected = ["done", "done", "partial", "missed", "failed", "pending", "pending"];
        assert_eq!(told(&all).iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>(), expected);
        assert_eq!((all[0].why.as_str(), all[4].why.as_str()), ("01234567", "away"));
    }

    #[test]
    fn nothing_is_asked_for_before_the_first_backup_and_a_catch_up_counts() {
        let weekly: Schedule = "weekly sun 05:00".parse().unwrap();
        // Down from Saturday to Tuesday: caught up once.
        let runs = [run("2025-11-12T10:00:00Z", "ok"), run("2025-11-18T08:00:00Z", "ok")];
        let between = (at("2025-11-01T00:00:00Z"), at("2025-11-20T00:00:00Z"));
        let since = Some(at("2025-11-12T10:00:00Z"));
        let all = slots(&weekly, &TimeZone::UTC, between, since, &runs, at("2025-11-20T00:00:00Z"));
        assert_eq!(told(&all), [("09 05:00".to_owned(), "done"), ("16 05:00".to_owned(), "done")]);
    }

    #[test]
    fn both_changes_of_the_clocks_have_one_moment_each() {
        let daily: Schedule = "daily 02:30".parse().unwrap();
        let zone = TimeZone::get("Europe/Amsterdam").unwrap();
        for (from, until) in [("2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z"), ("2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z")] {
            assert_eq!(slots(&daily, &zone, (at(from), at(until)), None, &[], at(until)).len(), 1, "{from}");
        }
    }

    #[test]
    fn a_schedule_whose_day_does_not_come_in_a_year_has_none() {
        let never: Schedule = "0 0 29 2 *".parse().unwrap();
        let between = (at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        assert!(slots(&never, &TimeZone::UTC, between, None, &[], between.1).is_empty());
    }
}
