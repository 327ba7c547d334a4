//! Which days a report is about.

use jiff::{Timestamp, ToSpan as _, ZonedDateTime, civil::Date, tz::TimeZone};
use serde::Serialize;

/// How much a report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// The day up to a moment: what the mail of each morning has.
    Daily,
    /// Monday to Sunday.
    Weekly,
    /// A calendar month.
    Monthly,
    /// A calendar year, with everything that an auditor asks for.
    Audit,
}

impl Span {
    /// `daily`, `weekly`, `monthly` or `audit`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Audit => "audit",
        }
    }
}

/// From a moment (included) to another (left out), with a name for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Period {
    /// Which kind.
    pub span: Span,
    /// `2025-11-21`, `2025-W47`, `2025-11`, `2025`.
    pub label: String,
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
}

impl Period {
    /// The period that holds `day`, no further than `now`. A day that is not over begins where the report of the day before
    /// ended when that was made at the same time: 24 hours of the wall clock before `now`. `None` for days that lie in the
    /// future, and those that no calendar has.
    pub fn of(span: Span, day: Date, now: &ZonedDateTime) -> Option<Self> {
        let zone = now.time_zone();
        let (first, after, label) = match span {
            Span::Daily => (day, day.tomorrow().ok()?, day.to_string()),
            Span::Weekly => {
                let week = day.iso_week_date();
                let first = day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days()).ok()?;
                (first, first.checked_add(7.days()).ok()?, format!("{}-W{:02}", week.year(), week.week()))
            }
            Span::Monthly => {
                let first = day.first_of_month();
                (first, first.checked_add(1.month()).ok()?, first.strftime("%Y-%m").to_string())
            }
            Span::Audit => {
                let first = day.first_of_year();
                (first, first.checked_add(1.year()).ok()?, first.strftime("%Y").to_string())
            }
        };
        let (from, until) = (start(first, zone)?, start(after, zone)?);
        let now_at = now.timestamp();
        if span == Span::Daily && from <= now_at && now_at < until {
            let yesterday = now.checked_sub(1.day()).ok()?.timestamp();
            return Some(Self { span, label, from: yesterday, until: now_at });
        }
        (from <= now_at).then(|| Self { span, label, from, until: until.min(now_at) })
    }

    /// The period that a person means who names none: today; the last whole week or month.
    pub fn latest(span: Span, now: &ZonedDateTime) -> Option<Self> {
        let today = now.date();
        let day = match span {
            Span::Daily => today,
            Span::Weekly => today.checked_sub(7.days()).ok()?,
            Span::Monthly => today.first_of_month().yesterday().ok()?,
            Span::Audit => today.first_of_year().yesterday().ok()?,
        };
        Self::of(span, day, now)
    }

    /// Whether a moment lies in it.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

/// The first moment of a day; where a time zone skips midnight, the first after that.
fn start(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    day.to_zoned_datetime(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(text: &str) -> ZonedDateTime {
        text.parse::<Timestamp>().unwrap().to_zoned_datetime(TimeZone::get("Europe/Amsterdam").unwrap())
    }

    fn of(span: Span, day: &str, at: &str) -> Option<(String, String, String)> {
        Period::of(span, day.parse().unwrap(), &now(at)).map(|p| (p.label, p.from.to_string(), p.until.to_string()))
    }

    fn told(label: &str, from: &str, until: &str) -> Option<(String, String, String)> {
        Some((label.to_owned(), from.to_owned(), until.to_owned()))
    }

    #[test]
    fn the_mail_of_a_morning_begins_where_that_of_the_day_before_ended() {
        let at = "2025-11-21T06:00:00Z";
        assert_eq!(of(Span::Daily, "2025-11-21", at), told("2025-11-21", "2025-11-20T06:00:00Z", at));
        // Over a change of the clocks: 25 hours.
        let at = "2025-10-26T06:00:00Z";
        assert_eq!(of(Span::Daily, "2025-10-26", at), told("2025-10-26", "2025-10-25T05:00:00Z", at));
        assert_eq!(
            of(Span::Daily, "2025-10-26", "2025-12-01T00:00:00Z"),
            told("2025-10-26", "2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z")
        );
    }

    #[test]
    fn weeks_months_and_years_end_where_they_end_or_now() {
        let at = "2026-01-02T12:00:00Z";
        assert_eq!(of(Span::Weekly, "2026-01-01", at), told("2026-W01", "2025-12-28T23:00:00Z", at));
        assert_eq!(of(Span::Monthly, "2025-12-31", at), told("2025-12", "2025-11-30T23:00:00Z", "2025-12-31T23:00:00Z"));
        assert_eq!(of(Span::Audit, "2025-06-01", at), told("2025", "2024-12-31T23:00:00Z", "2025-12-31T23:00:00Z"));
        assert_eq!(of(Span::Monthly, "2026-02-01", at), None);
        assert_eq!(of(Span::Daily, "2026-01-03", at), None);
    }

    #[test]
    fn who_names_no_day_means_the_last_whole_week_or_month() {
        let at = now("2026-03-02T06:00:00Z");
        let label = |span| Period::latest(span, &at).unwrap().label;
        assert_eq!(
            [label(Span::Daily), label(Span::Weekly), label(Span::Monthly), label(Span::Audit)],
            ["2026-03-02", "2026-W09", "2026-02", "2025"]
        );
    }
}
