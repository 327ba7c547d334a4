//! Retention as pure functions: what to keep is decided here, carried out elsewhere.

use crate::{Outcome, Snapshot, SnapshotId};
use jiff::{Span, Timestamp, civil, tz::TimeZone};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

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
    /// So many days.
    pub const fn days(count: i16) -> Self {
        Self { count, unit: TermUnit::Days }
    }

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
    /// Up to when it was promised to be kept in this tier when it was made. A configuration that shortens the term later
    /// does not shorten the promise.
    pub promised_until: Option<Timestamp>,
}

impl Candidate {
    /// A snapshot in a hot store: what its own record promises counts.
    pub fn hot(id: SnapshotId, snapshot: &Snapshot, zone: &TimeZone) -> Self {
        let promised = snapshot.retention.hot.parse::<Term>().ok().map(|term| term.keep_until(snapshot.started_at, zone));
        Self { id, taken_at: snapshot.started_at, outcome: snapshot.outcome, promised_until: promised }
    }

    /// A snapshot in an archive.
    pub fn archived(id: SnapshotId, snapshot: &Snapshot) -> Self {
        let promised_until = Some(snapshot.retention.retain_until);
        Self { id, taken_at: snapshot.started_at, outcome: snapshot.outcome, promised_until }
    }
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

/// Whether the clock can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock<'a> {
    /// It is compared with the times of the candidates and with these, which may come from other stores.
    Compared(&'a [Timestamp]),
    /// A person has looked at it.
    Confirmed,
}

/// What holds for every snapshot of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Now.
    pub now: Timestamp,
    /// Where calendar years begin and end.
    pub zone: &'a TimeZone,
    /// Snapshots that a hold keeps, with what to say of it.
    pub held: &'a BTreeMap<SnapshotId, String>,
    /// Whether `now` can be believed.
    pub clock: Clock<'a>,
}

impl Circumstances<'_> {
    /// Why nothing may be deleted by this clock. A held snapshot may lie far from the others for good, so it opens no gap.
    fn doubt(&self, candidates: &[Candidate]) -> Option<String> {
        let Clock::Compared(others) = self.clock else { return None };
        let all: Vec<Timestamp> = candidates.iter().map(|c| c.taken_at).chain(others.iter().copied()).collect();
        let free = candidates.iter().filter(|c| !self.held.contains_key(&c.id)).map(|c| c.taken_at);
        let free: Vec<Timestamp> = free.chain(others.iter().copied()).collect();
        behind(&all, self.now).or_else(|| clock_doubt(&free, self.now))
    }
}

/// A pause between snapshots that is longer than this is looked at, in days.
const LONG_PAUSE_DAYS: i64 = 40;
/// So many days with a snapshot after a pause say that the clock was right on them.
const DAYS_AFTER_PAUSE: usize = 7;
const DAY_SECS: i64 = 24 * 3600;

/// Why the clock may be wrong, judged by when snapshots were taken: `now` lies before the newest; the newest lies more
/// than 40 days back; or the newest few lie more than 40 days behind the rest, as after a clock that jumped ahead and
/// made one snapshot. What was made on 7 different days after a pause is believed.
pub fn clock_doubt(taken: &[Timestamp], now: Timestamp) -> Option<String> {
    let mut sorted = taken.to_vec();
    sorted.sort_unstable();
    let newest = *sorted.last()?;
    if newest > now {
        return behind(taken, now);
    }
    if is_long(newest, now) {
        return Some(format!(
            "the newest snapshot ({newest}) is more than {LONG_PAUSE_DAYS} days old: either the clock is wrong or there are no backups"
        ));
    }
    let gap = sorted.windows(2).rev().find_map(|pair| match pair {
        [before, after] if is_long(*before, *after) => Some((*before, *after)),
        _ => None,
    });
    let (before, after) = gap?;
    let days: BTreeSet<i64> = sorted.iter().filter(|t| **t >= after).map(|t| t.as_second().div_euclid(DAY_SECS)).collect();
    (days.len() < DAYS_AFTER_PAUSE)
        .then(|| format!("there is no snapshot between {before} and {after}, and there are too few since to tell that the clock is right"))
}

fn behind(taken: &[Timestamp], now: Timestamp) -> Option<String> {
    let newest = taken.iter().max()?;
    (*newest > now).then(|| format!("the newest snapshot ({newest}) lies in the future: the clock is or was wrong"))
}

fn is_long(from: Timestamp, until: Timestamp) -> bool {
    until.as_second().saturating_sub(from.as_second()) > LONG_PAUSE_DAYS * DAY_SECS
}

/// Decides about the hot tier: what is younger than `term`, or than its own promise, stays; so do held snapshots, the
/// `floor` newest `ok` snapshots whatever their age, and the newest snapshot of all. While the clock is in doubt
/// everything stays. Input in any order; the verdicts come newest first.
pub fn decide_hot(candidates: &[Candidate], term: Term, floor: usize, by: &Circumstances<'_>) -> Vec<Verdict> {
    decide(candidates, Some(term), floor, by)
}

/// Decides about an archive: a snapshot may go only when `now` is past the later of its own `retain_until` and what the
/// term of today gives, so a configuration that shortens a term changes nothing and one that lengthens it counts. Without
/// a term everything stays, and so do held snapshots, the newest snapshot and the newest good one.
pub fn decide_archive(candidates: &[Candidate], term: Option<Term>, by: &Circumstances<'_>) -> Vec<Verdict> {
    decide(candidates, term, 1, by)
}

fn decide(candidates: &[Candidate], term: Option<Term>, floor: usize, by: &Circumstances<'_>) -> Vec<Verdict> {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by(|a, b| b.taken_at.cmp(&a.taken_at).then(b.id.cmp(&a.id)));
    let doubt = by.doubt(candidates);
    let mut good_seen = 0;
    let verdict = |(place, candidate): (usize, &&Candidate)| {
        let good = candidate.outcome == Outcome::Ok;
        good_seen += usize::from(good);
        let kept = within(candidate, term, by)
            .or_else(|| by.held.get(&candidate.id).map(|hold| format!("held: {hold}")))
            .or_else(|| (good && good_seen <= floor).then(|| newest_good(floor)))
            .or_else(|| (place == 0).then(|| "the newest snapshot".to_owned()))
            .or_else(|| doubt.clone());
        let keep = kept.is_some();
        let past = || term.map_or_else(String::new, |term| format!("older than {term}"));
        Verdict { id: candidate.id, keep, reason: kept.unwrap_or_else(past) }
    };
    sorted.iter().enumerate().map(verdict).collect()
}

fn newest_good(floor: usize) -> String {
    if floor == 1 { "the newest good snapshot".to_owned() } else { format!("one of the {floor} newest good snapshots") }
}

/// Why the term of a snapshot has not passed.
fn within(candidate: &Candidate, term: Option<Term>, by: &Circumstances<'_>) -> Option<String> {
    let Some(term) = term else { return Some("no term is set".to_owned()) };
    if term.keep_until(candidate.taken_at, by.zone) >= by.now {
        return Some(format!("within {term}"));
    }
    let promised = candidate.promised_until?;
    (promised >= by.now).then(|| format!("promised until {promised} when it was made"))
}

#[cfg(test)]
mod tests;
