//! Dumps that shrink, and tables that lose their rows.

use super::{
    Anomaly, DatabaseCounts, LEAST_RUNS, Observation, Rule, grouped, percent,
    series::{self, Point},
    sized,
    sizes::log,
};
use jiff::tz::TimeZone;

/// A dump below this share of the smallest of the last week is flagged whatever its history says.
const FRACTION: f64 = 0.5;
/// Falls below this are no news.
const FALL: f64 = 0.15;
/// Rises below this are no news.
const RISE: f64 = 0.35;
const FEW_BYTES: u64 = 64 << 10;
/// Tables with fewer rows come and go.
const MANY_ROWS: u64 = 1_000;
/// Runs that a table is compared with.
const LATELY: usize = 7;
/// Tables that one sentence names.
const NAMED: usize = 5;

pub(super) fn judge(history: &[Observation], now: &Observation, zone: &TimeZone) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (name, counts) in &now.databases {
        let before: Vec<(&Observation, &DatabaseCounts)> = history.iter().filter_map(|run| Some((run, run.databases.get(name)?))).collect();
        if before.len() < LEAST_RUNS {
            continue;
        }
        let database = Judge { name, before: &before, at: now, counts, zone };
        found.extend([database.size(), database.rows()].into_iter().flatten());
    }
    found
}

struct Judge<'a> {
    name: &'a str,
    before: &'a [(&'a Observation, &'a DatabaseCounts)],
    at: &'a Observation,
    counts: &'a DatabaseCounts,
    zone: &'a TimeZone,
}

impl Judge<'_> {
    /// The last runs that were not flagged, the newest last.
    fn lately(&self) -> Vec<&DatabaseCounts> {
        let steady = self.before.iter().rev().filter(|(run, _)| !run.flagged).take(LATELY);
        let mut counts: Vec<&DatabaseCounts> = steady.map(|(_, counts)| *counts).collect();
        counts.reverse();
        counts
    }

    fn size(&self) -> Option<Anomaly> {
        let (name, now) = (self.name, self.counts.bytes);
        let last = self.before.last().map_or(0, |(_, counts)| counts.bytes);
        if last.abs_diff(now) < FEW_BYTES {
            return None;
        }
        let smallest = self.lately().iter().map(|counts| counts.bytes).min().unwrap_or(0);
        // What stays small was flagged when it became so.
        if (now as f64) < FRACTION * smallest as f64 && (now as f64) < FRACTION * last as f64 {
            let share = percent(now as f64 / smallest.max(1) as f64);
            let what = format!("the dump of `{name}` has {}, {share} of the smallest of the last runs ({})", sized(now), sized(smallest));
            return Some(Anomaly::new(Rule::SmallDump, what));
        }
        if (log(last) - log(now)).abs() < FALL {
            return None;
        }
        let point = |run: &Observation, bytes: u64| Point { at: run.at, value: log(bytes), flagged: run.flagged };
        let history: Vec<Point> = self.before.iter().map(|(run, counts)| point(run, counts.bytes)).collect();
        let step = series::step(&history, point(self.at, now), self.zone)?;
        let sentence = |word: &str, usual: f64| {
            format!(
                "the dump of `{name}` {word} from {} to {} in one run; in {} runs before, usually by at most {}",
                sized(last),
                sized(now),
                history.len(),
                percent(usual)
            )
        };
        if step.falls(FALL) {
            return Some(Anomaly::new(Rule::SmallDump, sentence("shrank", 1.0 - (-step.usual_fall).exp())));
        }
        step.rises(RISE).then(|| Anomaly::new(Rule::Growth, sentence("grew", step.usual_rise.exp() - 1.0)))
    }

    fn rows(&self) -> Option<Anomaly> {
        if self.counts.rows.is_empty() {
            return None;
        }
        let lately = self.lately();
        let newest = lately.last()?;
        let lost: Vec<String> = newest.rows.keys().filter_map(|table| self.lost(table, &lately)).collect();
        if lost.is_empty() {
            return None;
        }
        let more = if lost.len() > NAMED { format!(", and {} more", lost.len() - NAMED) } else { String::new() };
        let named = lost.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        Some(Anomaly::new(Rule::LostRows, format!("`{}`: {named}{more}", self.name)))
    }

    /// How a table lost its rows, if it did: it had many in each of the last runs, and has none or less than half of what it
    /// had at least.
    fn lost(&self, table: &str, lately: &[&DatabaseCounts]) -> Option<String> {
        let least = lately.iter().map(|counts| counts.rows.get(table).copied().unwrap_or(0)).min()?;
        if least < MANY_ROWS {
            return None;
        }
        let Some(now) = self.counts.rows.get(table).copied() else {
            // Where others are left out, it may be one that has become small.
            let all = self.counts.rows.len() < super::MAX_TABLES;
            return all.then(|| format!("table `{table}` is gone, which had {} rows", grouped(least)));
        };
        let last = self.before.last().and_then(|(_, counts)| counts.rows.get(table).copied()).unwrap_or(least);
        // What stays small was flagged when it became so; what often falls is used to it.
        if now as f64 >= FRACTION * least as f64 || now as f64 >= FRACTION * last as f64 || (now > 0 && self.often_falls(table)) {
            return None;
        }
        Some(format!("table `{table}` has {} rows, and had {} or more in the runs before", grouped(now), grouped(least)))
    }

    /// Whether a table halves from time to time.
    fn often_falls(&self, table: &str) -> bool {
        let rows = |counts: &DatabaseCounts| counts.rows.get(table).copied().unwrap_or(0) as f64;
        let falls = self.before.windows(2).filter(|pair| match pair {
            [(_, before), (run, after)] => !run.flagged && rows(after) < FRACTION * rows(before),
            _ => false,
        });
        falls.count() >= 2
    }
}
