//! When a project is due: `daily 03:00`, `weekly sun 05:00`, or five cron fields. Pure functions; the clock is
//! an argument.
//!
//! A moment that a time zone skips (03:00 on the night that summer time begins) counts as the first moment after
//! the gap; one that occurs twice counts once, at its first occurrence.

use jiff::{Timestamp, civil, tz::TimeZone};
use std::{fmt, str::FromStr};

/// When a project is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    weekdays: u8,
    any_day: bool,
    any_weekday: bool,
    text: String,
}

/// A text that is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a schedule ({why}): write `daily 03:00`, `weekly sun 05:00` or five cron fields such as `15 3 * * 1-5`")]
pub struct ScheduleError {
    /// What was given.
    pub text: String,
    /// Which part is wrong.
    pub why: String,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match words.as_slice() {
            ["daily", time] => daily(time, 0x7f, true),
            ["weekly", day, time] => weekday(day).and_then(|d| daily(time, 1 << d, false)),
            [minute, hour, day, month, week] => cron([minute, hour, day, month, week]),
            _ => Err("the number of words is wrong".to_owned()),
        };
        let parsed =
            parsed.and_then(|schedule| if schedule.ever_comes() { Ok(schedule) } else { Err("no month has such a day".to_owned()) });
        parsed.map(|schedule| Self { text: words.join(" "), ..schedule }).map_err(|why| ScheduleError { text: text.to_owned(), why })
    }
}

/// Whether a project is due at `now`: a moment of its schedule lies after `last` (its last good backup), or there
/// has been none. However many moments were missed, it is due once.
pub fn is_due(schedule: &Schedule, last: Option<Timestamp>, now: Timestamp, zone: &TimeZone) -> bool {
    match (last, schedule.latest_before(now, zone)) {
        (None, _) => true,
        (Some(last), Some(moment)) => last < moment,
        (Some(_), None) => false,
    }
}

impl Schedule {
    /// The latest moment of the schedule at or before `now`, within the five years before it.
    pub fn latest_before(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut day = now.to_zoned_datetime(zone.clone()).date();
        for _ in 0..(5 * 366) {
            if self.has_day(day) {
                let latest = self.times().rev().filter_map(|time| instant(day, time, zone)).find(|moment| *moment <= now);
                if latest.is_some() {
                    return latest;
                }
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    /// The first moment of the schedule after `now`, within the next five years.
    pub fn next_after(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut day = now.to_zoned_datetime(zone.clone()).date();
        for _ in 0..(5 * 366) {
            if self.has_day(day) {
                let next = self.times().filter_map(|time| instant(day, time, zone)).find(|moment| *moment > now);
                if next.is_some() {
                    return next;
                }
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// Whether it has a day at all: 30 February never comes. Any weekday falls on any date within 28 years.
    fn ever_comes(&self) -> bool {
        let mut day = civil::date(2000, 1, 1);
        for _ in 0..(28 * 366) {
            if self.has_day(day) {
                return true;
            }
            day = day.saturating_add(jiff::Span::new().days(1));
        }
        false
    }

    /// Cron's rule: when both day fields are restricted, either suffices.
    fn has_day(&self, day: civil::Date) -> bool {
        let month = self.months & (1 << day.month()) != 0;
        let of_month = self.days & (1 << day.day()) != 0;
        let of_week = self.weekdays & (1 << day.weekday().to_sunday_zero_offset()) != 0;
        let matched = if self.any_day || self.any_weekday { of_month && of_week } else { of_month || of_week };
        month && matched
    }

    fn times(&self) -> impl DoubleEndedIterator<Item = (i8, i8)> + '_ {
        (0..24i8)
            .filter(|h| self.hours & (1 << h) != 0)
            .flat_map(|h| (0..60i8).filter(|m| self.minutes & (1 << m) != 0).map(move |m| (h, m)))
    }
}

fn instant(day: civil::Date, (hour, minute): (i8, i8), zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(day.at(hour, minute, 0, 0)).compatible().ok()
}

fn daily(time: &str, weekdays: u8, any_weekday: bool) -> Result<Schedule, String> {
    let wrong = || format!("`{time}` is not a time of day");
    let (hour, minute) = time.split_once(':').ok_or_else(wrong)?;
    let digits = |text: &str| text.len() <= 2 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || minute.len() != 2 || !digits(minute) {
        return Err(wrong());
    }
    let hour: u32 = hour.parse().map_err(|_| wrong())?;
    let minute: u32 = minute.parse().map_err(|_| wrong())?;
    if hour > 23 || minute > 59 {
        return Err(wrong());
    }
    Ok(Schedule {
        minutes: 1 << minute,
        hours: 1 << hour,
        days: u32::MAX,
        months: u16::MAX,
        weekdays,
        any_day: true,
        any_weekday,
        text: String::new(),
    })
}

fn cron([minute, hour, day, month, week]: [&&str; 5]) -> Result<Schedule, String> {
    let weekdays = field(week, 0, 7, |word| weekday(word).ok())?;
    Ok(Schedule {
        minutes: field(minute, 0, 59, |_| None)?,
        hours: u32::try_from(field(hour, 0, 23, |_| None)?).unwrap_or(u32::MAX),
        days: u32::try_from(field(day, 1, 31, |_| None)?).unwrap_or(u32::MAX),
        months: u16::try_from(field(month, 1, 12, month_name)?).unwrap_or(u16::MAX),
        weekdays: u8::try_from((weekdays | (weekdays >> 7)) & 0x7f).unwrap_or(0x7f),
        any_day: day.starts_with('*'),
        any_weekday: week.starts_with('*'),
        text: String::new(),
    })
}

/// One cron field as a bit set: `*`, `*/5`, `1-5`, `1-10/2`, `7`, lists of them.
fn field(text: &str, low: u32, high: u32, name: impl Fn(&str) -> Option<u32>) -> Result<u64, String> {
    let mut set = 0u64;
    for part in text.split(',') {
        let wrong = || format!("`{part}` is not between {low} and {high}");
        let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
        let step = match step {
            None => 1,
            Some(s) => s.parse::<usize>().ok().filter(|s| *s > 0 && *s < 60).ok_or_else(wrong)?,
        };
        let number = |word: &str| word.parse::<u32>().ok().or_else(|| name(word)).filter(|n| (low..=high).contains(n)).ok_or_else(wrong);
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((a, b)) => (number(a)?, number(b)?),
            None if part.contains('/') => (number(range)?, high),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return Err(wrong());
        }
        (first..=last).step_by(step).for_each(|n| set |= 1 << n);
    }
    Ok(set)
}

fn weekday(word: &str) -> Result<u32, String> {
    let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let lower = word.to_ascii_lowercase();
    let place = days.iter().position(|d| lower == *d || (lower.len() > 3 && lower.starts_with(d) && lower.ends_with("day")));
    place.and_then(|p| u32::try_from(p).ok()).ok_or_else(|| format!("`{word}` is not a day of the week"))
}

fn month_name(word: &str) -> Option<u32> {
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    months.iter().position(|m| word.eq_ignore_ascii_case(m)).and_then(|p| u32::try_from(p + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    fn amsterdam() -> TimeZone {
        TimeZone::get("Europe/Amsterdam").unwrap()
    }

    #[test]
    fn never_backed_up_is_due_at_once() {
        assert!(is_due(&schedule("weekly sun 05:00"), None, at("2026-01-01T00:00:00Z"), &TimeZone::UTC));
    }

    #[test]
    fn daily_is_due_once_a_day_at_local_time() {
        let daily = schedule("daily 03:00");
        let last = Some(at("2026-01-10T02:00:30Z"));
        assert!(!is_due(&daily, last, at("2026-01-11T01:59:59Z"), &amsterdam()));
        assert!(is_due(&daily, last, at("2026-01-11T02:00:00Z"), &amsterdam()));
    }

    #[test]
    fn several_missed_moments_ask_for_one_run() {
        let daily = schedule("daily 03:00");
        let now = at("2026-01-20T12:00:00Z");
        assert!(is_due(&daily, Some(at("2026-01-10T02:00:00Z")), now, &amsterdam()));
        assert!(!is_due(&daily, Some(now), now, &amsterdam()));
    }

    #[test]
    fn a_skipped_hour_still_has_its_run() {
        let night = schedule("daily 02:30");
        let due = night.latest_before(at("2026-03-29T12:00:00Z"), &amsterdam()).unwrap();
        assert_eq!(due, at("2026-03-29T01:30:00Z"));
    }

    #[test]
    fn an_hour_that_occurs_twice_has_one_run() {
        let night = schedule("daily 02:30");
        let first = night.latest_before(at("2026-10-25T12:00:00Z"), &amsterdam()).unwrap();
        assert_eq!(first, at("2026-10-25T00:30:00Z"));
        assert!(!is_due(&night, Some(first), at("2026-10-25T12:00:00Z"), &amsterdam()));
    }

    #[test]
    fn weekly_and_cron_agree() {
        let now = at("2026-11-25T12:00:00Z");
        let sunday = at("2026-11-22T05:00:00Z");
        for text in ["weekly sun 05:00", "weekly sunday 05:00", "0 5 * * 0", "0 5 * * 7", "0 5 * * sun"] {
            assert_eq!(schedule(text).latest_before(now, &TimeZone::UTC), Some(sunday), "{text}");
        }
    }

    #[test]
    fn both_restricted_day_fields_are_alternatives() {
        let cron = schedule("0 0 13 * fri");
        assert_eq!(cron.next_after(at("2026-11-07T00:00:00Z"), &TimeZone::UTC), Some(at("2026-11-13T00:00:00Z")));
        assert_eq!(cron.next_after(at("2026-11-13T00:00:00Z"), &TimeZone::UTC), Some(at("2026-11-20T00:00:00Z")));
    }

    #[test]
    fn steps_lists_and_ranges() {
        let cron = schedule("*/20 8-10/2 * * *");
        let mut moment = at("2026-01-01T00:00:00Z");
        let mut seen = Vec::new();
        for _ in 0..4 {
            moment = cron.next_after(moment, &TimeZone::UTC).unwrap();
            seen.push(moment.to_string());
        }
        assert_eq!(seen, ["2026-01-01T08:00:00Z", "2026-01-01T08:20:00Z", "2026-01-01T08:40:00Z", "2026-01-01T10:00:00Z"]);
    }

    #[test]
    fn a_day_that_never_comes_is_refused() {
        for never in ["0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6,9,11 *"] {
            let error = never.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains("no month has such a day"), "{error}");
        }
        assert!("0 0 29 2 *".parse::<Schedule>().is_ok(), "leap years have it");
    }

    #[test]
    fn nonsense_is_no_schedule() {
        for text in [
            "",
            "daily",
            "daily 24:00",
            "daily 3",
            "daily +3:00",
            "weekly x 05:00",
            "* * * *",
            "60 0 * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "hourly",
        ] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }
}
