//! Bytes, files, new content and time against what is usual.

use super::{
    Anomaly, Observation, Rule, grouped, percent,
    series::{self, Point, Step},
    sized,
};
use jiff::tz::TimeZone;

/// Steps below these are no news whatever is usual: natural logarithms.
const GROWTH: f64 = 0.22;
const SHRINKAGE: f64 = 0.20;
const MORE_FILES: f64 = 0.30;
const FEWER_FILES: f64 = 0.15;
/// Differences below these are no news either.
const FEW_BYTES: u64 = 1 << 20;
const FEW_FILES: u64 = 20;
/// New content is judged from this share of everything on …
const NEW_SHARE: f64 = 0.15;
/// … and from so many times what is usual.
const NEW_TIMES: f64 = 3.0;
/// A run that takes longer is judged from so many times the usual on …
const LONGER_TIMES: f64 = 4.0;
/// … and from so many milliseconds more.
const LONGER_MS: u64 = 600_000;

pub(super) fn judge(history: &[Observation], now: &Observation, zone: &TimeZone) -> Vec<Anomaly> {
    let judge = Judge { history, now, zone };
    [judge.bytes(), judge.files(), judge.new_content(), judge.duration()].into_iter().flatten().collect()
}

struct Judge<'a> {
    history: &'a [Observation],
    now: &'a Observation,
    zone: &'a TimeZone,
}

impl Judge<'_> {
    fn step(&self, count: impl Fn(&Observation) -> u64) -> Option<Step> {
        let point = |run: &Observation| Point { at: run.at, value: log(count(run)), flagged: run.flagged };
        series::step(&self.history.iter().map(&point).collect::<Vec<_>>(), point(self.now), self.zone)
    }

    /// The run before.
    fn last(&self, count: impl Fn(&Observation) -> u64) -> u64 {
        self.history.last().map(count).unwrap_or(0)
    }

    fn bytes(&self) -> Option<Anomaly> {
        let (before, now) = (self.last(|run| run.bytes), self.now.bytes);
        if before.abs_diff(now) < FEW_BYTES || is_near(before, now, SHRINKAGE) {
            return None;
        }
        let step = self.step(|run| run.bytes)?;
        let runs = self.history.len();
        if step.rises(GROWTH) {
            let usual = percent(step.usual_rise.exp() - 1.0);
            let what = format!(
                "it grew from {} to {} in one run; in {runs} runs before, a usual step up was at most {usual}",
                sized(before),
                sized(now)
            );
            return Some(Anomaly::new(Rule::Growth, what));
        }
        step.falls(SHRINKAGE).then(|| {
            let usual = percent(1.0 - (-step.usual_fall).exp());
            let what = format!(
                "it shrank from {} to {} in one run; in {runs} runs before, a usual step down was at most {usual}",
                sized(before),
                sized(now)
            );
            Anomaly::new(Rule::Shrinkage, what)
        })
    }

    fn files(&self) -> Option<Anomaly> {
        let count = |run: &Observation| run.tree.total().files;
        let (before, now) = (self.last(count), count(self.now));
        if before.abs_diff(now) < FEW_FILES || is_near(before, now, FEWER_FILES) {
            return None;
        }
        let step = self.step(count)?;
        let sentence = || {
            format!(
                "the number of files went from {} to {} in one run; in {} runs before, it was steadier than that",
                grouped(before),
                grouped(now),
                self.history.len()
            )
        };
        if step.rises(MORE_FILES) {
            return Some(Anomaly::new(Rule::Growth, sentence()));
        }
        step.falls(FEWER_FILES).then(|| Anomaly::new(Rule::Shrinkage, sentence()))
    }

    /// A size can stay although everything in it was written anew.
    fn new_content(&self) -> Option<Anomaly> {
        let share = |run: &Observation| run.bytes_new as f64 / run.bytes.max(1) as f64;
        let (now, runs) = (share(self.now), self.history.len());
        if runs < super::USUAL_RUNS || now < NEW_SHARE || self.now.bytes_new < FEW_BYTES {
            return None;
        }
        // The first run of all has stored everything.
        let usual = series::exceeded_by_few(self.history.iter().skip(1).filter(|run| !run.flagged).map(share).collect(), runs);
        (now > NEW_TIMES * usual).then(|| {
            let what = format!(
                "{} of {} is new content ({}); in {runs} runs before, usually at most {}",
                sized(self.now.bytes_new),
                sized(self.now.bytes),
                percent(now),
                percent(usual)
            );
            Anomaly::new(Rule::NewContent, what)
        })
    }

    fn duration(&self) -> Option<Anomaly> {
        if self.now.duration_ms < LONGER_MS {
            return None;
        }
        let before: Vec<f64> = self.history.iter().skip(1).filter(|run| !run.flagged).map(|run| run.duration_ms as f64).collect();
        let usual = series::exceeded_by_few(before, self.history.len());
        let now = self.now.duration_ms;
        let longer = now as f64 > LONGER_TIMES.max(series::MARGIN) * usual && now as f64 > usual + LONGER_MS as f64;
        if !longer || !self.step(|run| run.duration_ms)?.rises(LONGER_TIMES.ln()) {
            return None;
        }
        Some({
            let minutes = |ms: f64| format!("{:.0} minutes", ms / 60_000.0);
            let what = format!(
                "it took {} to read; in {} runs before, usually at most {}",
                minutes(now as f64),
                self.history.len(),
                minutes(usual)
            );
            Anomaly::new(Rule::Duration, what)
        })
    }
}

/// Whether two counts differ by less than the smallest step that is looked at.
fn is_near(before: u64, now: u64, floor: f64) -> bool {
    (log(before) - log(now)).abs() < floor
}

pub(super) fn log(count: u64) -> f64 {
    (count as f64 + 1.0).ln()
}
