//! Anomalies: is this run unlike those before it, and why? Pure functions over what runs have counted; nothing here
//! blocks a backup.
//!
//! Every rule compares the new run with the project's own history and can say in a sentence what it saw. A run is judged by
//! how far it *steps* away from the runs before it, after the rhythm of weekdays and of the turn of the month has been taken
//! out; a step counts when it is larger than anything that was usual, by a margin. Alternatives that were left aside: a
//! fitted model of the series (it cannot say why), and fixed limits (a shop that triples every December would be flagged
//! every December, a still archive never).
//!
//! Read `observation` (what a run counts), `series` (steps and what is usual), then the rules: `content`, `sizes`,
//! `databases`.

mod content;
mod databases;
mod observation;
mod series;
mod sizes;

pub use observation::{DatabaseCounts, KindCounts, MAX_TABLES, Observation, TreeCounts};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Runs before the first that is judged at all.
pub const LEAST_RUNS: usize = 3;
/// Runs before one is judged by what is usual.
pub const USUAL_RUNS: usize = 14;
/// Older runs than so many say nothing of today.
pub const MOST_RUNS: usize = 400;

/// Which rule a run broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Files changed, or were replaced by others, and look like random bytes.
    Encryption,
    /// Far more files changed than usual.
    MassChange,
    /// Far more files are gone than usual.
    MassDeletion,
    /// A dump is much smaller than it was.
    SmallDump,
    /// A table has lost its rows, or is gone.
    LostRows,
    /// It is much larger than it was.
    Growth,
    /// It is much smaller than it was.
    Shrinkage,
    /// Far more of it is new than usual.
    NewContent,
    /// It took far longer than usual.
    Duration,
}

/// What is unusual about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// By which rule.
    pub rule: Rule,
    /// What was seen and against what, for a person.
    pub sentence: String,
}

impl Anomaly {
    fn new(rule: Rule, sentence: String) -> Self {
        Self { rule, sentence }
    }
}

/// What is unusual about `now`, the gravest first. `history` comes oldest first and holds runs of the same project; of more
/// than [`MOST_RUNS`] the newest count. Weekdays and months are those of `zone`.
pub fn detect(history: &[Observation], now: &Observation, zone: &TimeZone) -> Vec<Anomaly> {
    let history = history.get(history.len().saturating_sub(MOST_RUNS)..).unwrap_or_default();
    if history.len() < LEAST_RUNS {
        return Vec::new();
    }
    let mut found = content::judge(history, now);
    found.extend(databases::judge(history, now, zone));
    found.extend(sizes::judge(history, now, zone));
    // One cause, one sentence: what was encrypted or deleted is also changed and smaller.
    let has = |rule: Rule| found.iter().any(|anomaly| anomaly.rule == rule);
    let (encrypted, deleted) = (has(Rule::Encryption), has(Rule::MassDeletion));
    found.retain(|anomaly| match anomaly.rule {
        Rule::MassChange | Rule::NewContent | Rule::MassDeletion => !encrypted,
        Rule::Shrinkage => !encrypted && !deleted,
        _ => true,
    });
    found.sort_by_key(|anomaly| anomaly.rule);
    found
}

/// `1,204`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 GB`.
fn sized(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} {name}") } else { format!("{value:.1} {name}") }
}

/// `31 %` of a share of one.
fn percent(share: f64) -> String {
    let hundred = share * 100.0;
    if hundred < 10.0 { format!("{hundred:.1} %") } else { format!("{hundred:.0} %") }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
