//! Retention as pure functions: what to keep is decided here, carried out elsewhere.

use crate::{Outcome, SnapshotId};
use jiff::{Span, Timestamp, civil, tz::TimeZone};
use std::{fmt, str::FromStr};

/// A term: `30d`, `8w`, `6m`, `7y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    count: i16,
    unit: TermUnit,
}

/// Unit of a [`Term`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermUnit {
    /// Days of 24 hours.
    Days,
    /// Seven days.
    Weeks,
    /// Calendar months.
    Months,
    /// Calendar years, counted from the end of the year.
    Years,
}

/// A text that is not a term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a term: write a number from 1 to 1000 and `d`, `w`, `m` or `y`, as in `30d` or `7y`")]
pub struct TermError {
    /// What was given.
    pub text: String,
}

impl FromStr for Term {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        let error = || TermError { text: text.to_owned() };
        let unit = match text.chars().last() {
            Some('d') => TermUnit::Days,
            Some('w') => TermUnit::Weeks,
            Some('m') => TermUnit::Months,
            Some('y') => TermUnit::Years,
            _ => return Err(error()),
        };
        let digits = text.get(..text.len() - 1).unwrap_or_default();
        let count = digits.parse::<i16>().map_err(|_| error())?;
        if digits.bytes().all(|b| b.is_ascii_digit()) && (1..=1000).contains(&count) { Ok(Self { count, unit }) } else { Err(error()) }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            TermUnit::Days => 'd',
            TermUnit::Weeks => 'w',
            TermUnit::Months => 'm',
            TermUnit::Years => 'y',
        };
        write!(f, "{}{unit}", self.count)
    }
}

impl Term {
    /// The moment up to which a snapshot taken at `taken_at` must be kept. A term in years runs from the end of
    /// the calendar year in `zone`: what was made on any day of 2026 with `7y` is kept through 2033.
    /// A moment that no calendar can hold is the end of time.
    pub fn keep_until(self, taken_at: Timestamp, zone: &TimeZone) -> Timestamp {
        let local = taken_at.to_zoned_datetime(zone.clone());
        let count = i64::from(self.count);
        let until = match self.unit {
            TermUnit::Days => local.checked_add(Span::new().hours(count * 24)).ok(),
            TermUnit::Weeks => local.checked_add(Span::new().hours(count * 168)).ok(),
            TermUnit::Months => local.checked_add(Span::new().months(count)).ok(),
            TermUnit::Years => civil::Date::new(local.year().saturating_add(self.count).saturating_add(1), 1, 1)
                .ok()
                .and_then(|day| day.to_zoned_datetime(zone.clone()).ok()),
        };
        until.map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }
}

/// What retention needs to know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Only `ok` snapshots count towards the floor.
    pub outcome: Outcome,
}

/// What to do with one snapshot, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot.
    pub id: SnapshotId,
    /// Whether it stays.
    pub keep: bool,
    /// For `--dry-run`.
    pub reason: String,
}

/// Decides about the hot tier: what is younger than `term` stays, and so do the `floor` newest `ok` snapshots
/// whatever their age, and the newest snapshot of all. A snapshot from the future is kept. Input in any order;
/// the verdicts come newest first.
pub fn decide_hot(candidates: &[Candidate], term: Term, floor: usize, now: Timestamp, zone: &TimeZone) -> Vec<Verdict> {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by(|a, b| b.taken_at.cmp(&a.taken_at).then(b.id.cmp(&a.id)));
    let mut good_seen = 0;
    sorted
        .iter()
        .enumerate()
        .map(|(place, candidate)| {
            let good = candidate.outcome == Outcome::Ok;
            good_seen += usize::from(good);
            let until = term.keep_until(candidate.taken_at, zone);
            let (keep, reason) = if until >= now {
                (true, format!("within {term}"))
            } else if good && good_seen <= floor {
                (true, format!("one of the {floor} newest good snapshots"))
            } else if place == 0 {
                (true, "the newest snapshot".to_owned())
            } else {
                (false, format!("older than {term}"))
            };
            Verdict { id: candidate.id, keep, reason }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn candidate(n: u8, taken: &str, outcome: Outcome) -> Candidate {
        Candidate { id: SnapshotId::from_bytes([n; 32]), taken_at: at(taken), outcome }
    }

    #[test]
    fn a_year_term_ends_with_a_calendar_year() {
        let zone = TimeZone::get("Europe/Amsterdam").unwrap();
        let until = "7y".parse::<Term>().unwrap().keep_until(at("2026-01-15T03:00:00Z"), &zone);
        assert_eq!(until, at("2033-12-31T23:00:00Z"));
    }

    #[test]
    fn the_floor_counts_good_snapshots_only() {
        let all = [
            candidate(1, "2026-01-01T00:00:00Z", Outcome::Ok),
            candidate(2, "2026-01-02T00:00:00Z", Outcome::Ok),
            candidate(3, "2026-01-03T00:00:00Z", Outcome::Partial),
        ];
        let verdicts = decide_hot(&all, "1d".parse().unwrap(), 1, at("2026-06-01T00:00:00Z"), &TimeZone::UTC);
        let kept: Vec<_> = verdicts.iter().filter(|v| v.keep).map(|v| v.id.as_bytes()[0]).collect();
        assert_eq!(kept, [3, 2]);
    }

    #[test]
    fn a_clock_that_jumped_back_deletes_nothing() {
        let all = [candidate(1, "2026-06-01T00:00:00Z", Outcome::Ok), candidate(2, "2026-06-02T00:00:00Z", Outcome::Ok)];
        let verdicts = decide_hot(&all, "1d".parse().unwrap(), 0, at("1970-01-02T00:00:00Z"), &TimeZone::UTC);
        assert!(verdicts.iter().all(|v| v.keep));
    }

    #[test]
    fn nonsense_is_no_term() {
        for text in ["", "d", "0d", "-1d", "7 y", "+7y", "7", "1001d", "é", "7€"] {
            assert!(text.parse::<Term>().is_err(), "{text}");
        }
    }
}
