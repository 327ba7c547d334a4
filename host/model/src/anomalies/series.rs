//! Steps of a series, and how large they usually are.
//!
//! A series is a count of each run as its logarithm, so that a step is a ratio. The rhythm is taken out first: for each
//! weekday, and for the first and the last day of a month, the median of how such days differ from the week before them.
//! Then a run *steps* by what both the run before and the median of the last seven leave unexplained; a series that stays at a
//! new level, or returns to its old one, does not step again. What is usual is the size that few steps of the history
//! exceeded: an order statistic, so neither one freak nor a known peak moves it much.

use jiff::{Timestamp, tz::TimeZone};

/// Runs that make the level.
const LEVEL: usize = 7;
/// A rhythm is believed from so many days of its kind on.
const LEAST_DAYS: usize = 4;
/// A step is unusual when it is larger than a usual one so many times.
pub(super) const MARGIN: f64 = 1.5;

/// One run of a series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub at: Timestamp,
    pub value: f64,
    pub flagged: bool,
}

/// How the newest run stands in its series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    /// Above zero: it rose. A natural logarithm.
    pub size: f64,
    /// A rise that few exceeded; 0 where none rose.
    pub usual_rise: f64,
    /// A fall that few exceeded; a positive number.
    pub usual_fall: f64,
}

impl Step {
    /// It rose by more than `floor` and by more than is usual with a margin.
    pub fn rises(&self, floor: f64) -> bool {
        self.size > floor && self.size > MARGIN * self.usual_rise
    }

    /// Likewise it fell.
    pub fn falls(&self, floor: f64) -> bool {
        -self.size > floor && -self.size > MARGIN * self.usual_fall
    }
}

/// How `now` stands after `history` (oldest first); `None` while there is too little of it.
pub(super) fn step(history: &[Point], now: Point, zone: &TimeZone) -> Option<Step> {
    if history.len() < super::USUAL_RUNS {
        return None;
    }
    let mut points: Vec<Point> = history.to_vec();
    points.push(now);
    take_out(&mut points, |at| usize::try_from(at.to_zoned_datetime(zone.clone()).weekday().to_sunday_zero_offset()).unwrap_or(0), 7);
    take_out(&mut points, |at| turn_of_month(at, zone), 3);
    let steps: Vec<f64> = (1..points.len()).map(|place| step_at(&points, place)).collect();
    let (size, before) = steps.split_last()?;
    let steady = || before.iter().zip(points.iter().skip(1)).filter(|(_, point)| !point.flagged).map(|(step, _)| *step);
    let usual_rise = exceeded_by_few(steady().filter(|step| *step > 0.0).collect(), before.len());
    let usual_fall = exceeded_by_few(steady().filter(|step| *step < 0.0).map(|step| -step).collect(), before.len());
    Some(Step { size: *size, usual_rise, usual_fall })
}

/// The size that few of `sizes` exceed: of a history of `runs`, one and one more for each hundred.
pub(super) fn exceeded_by_few(mut sizes: Vec<f64>, runs: usize) -> f64 {
    sizes.sort_by(|a, b| b.total_cmp(a));
    sizes.get(1 + runs / 100).or(sizes.last()).copied().unwrap_or(0.0)
}

/// What neither the run before nor the level explains.
fn step_at(points: &[Point], place: usize) -> f64 {
    let value = |place: usize| points.get(place).map_or(0.0, |point| point.value);
    let from_last = value(place) - value(place - 1);
    let from_level = value(place) - level(points, place);
    match from_last.signum() == from_level.signum() {
        false => 0.0,
        true if from_last.abs() < from_level.abs() => from_last,
        true => from_level,
    }
}

/// The median of the runs before `place`.
fn level(points: &[Point], place: usize) -> f64 {
    median(points.get(place.saturating_sub(LEVEL)..place).unwrap_or_default().iter().map(|point| point.value).collect())
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Takes the rhythm of `classes` kinds of days out of a series. The newest point, which is judged, has no say in it.
fn take_out(points: &mut [Point], class_of: impl Fn(Timestamp) -> usize, classes: usize) {
    let kinds: Vec<usize> = points.iter().map(|point| class_of(point.at)).collect();
    let mut away: Vec<Vec<f64>> = vec![Vec::new(); classes];
    for place in LEVEL.min(points.len())..points.len().saturating_sub(1) {
        let Some(point) = points.get(place).filter(|point| !point.flagged) else { continue };
        let from_level = point.value - level(points, place);
        if let Some(days) = kinds.get(place).and_then(|kind| away.get_mut(*kind)) {
            days.push(from_level);
        }
    }
    let shifts: Vec<f64> = away.into_iter().map(|days| if days.len() < LEAST_DAYS { 0.0 } else { median(days) }).collect();
    for (point, kind) in points.iter_mut().zip(kinds) {
        point.value -= shifts.get(kind).copied().unwrap_or(0.0);
    }
}

/// 1 for the last day of a month, 2 for the first.
fn turn_of_month(at: Timestamp, zone: &TimeZone) -> usize {
    let day = at.to_zoned_datetime(zone.clone()).date();
    match day.day() {
        1 => 2,
        last if last == day.last_of_month().day() => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl IntoIterator<Item = f64>) -> (Vec<Point>, Point) {
        let at = |day: i64| Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        let mut points: Vec<Point> =
            (0..).zip(values).map(|(day, value)| Point { at: at(day), value: value.ln(), flagged: false }).collect();
        let now = points.pop().unwrap();
        (points, now)
    }

    fn judged(values: impl IntoIterator<Item = f64>) -> Step {
        let (history, now) = series(values);
        step(&history, now, &TimeZone::UTC).unwrap()
    }

    #[test]
    fn steady_growth_is_no_step_and_a_jump_is_one() {
        let grows = |days: i32| (0..days).map(|day| 1.01f64.powi(day));
        assert!(!judged(grows(60)).rises(0.0));
        assert!(judged(grows(60).chain([1.01f64.powi(60) * 1.5])).rises(0.2));
        assert!(judged(grows(60).chain([1.01f64.powi(60) * 0.6])).falls(0.2));
    }

    #[test]
    fn what_stays_at_a_new_level_or_returns_does_not_step_again() {
        let still = || std::iter::repeat_n(100.0, 40);
        assert!(judged(still().chain([300.0])).rises(0.5));
        assert!(!judged(still().chain([300.0, 305.0])).rises(0.1));
        assert!(!judged(still().chain([300.0, 100.0])).falls(0.1));
    }

    #[test]
    fn a_weekly_peak_is_rhythm_and_the_same_on_another_day_is_not() {
        let week = |day: usize| if day % 7 == 3 { 300.0 } else { 100.0 };
        assert!(!judged((0..67).map(week).chain([100.0])).rises(0.5));
        assert!(!judged((0..66).map(week).chain([300.0])).rises(0.5), "day 66 is its day");
        assert!(judged((0..68).map(week).chain([300.0])).rises(0.5), "day 68 is not");
    }

    #[test]
    fn one_freak_does_not_make_a_jump_usual() {
        let values = (0..60).map(|day| if day == 20 { 5_000.0 } else { 100.0 + f64::from(day % 3) });
        assert!(judged(values.chain([200.0])).rises(0.3));
    }
}
