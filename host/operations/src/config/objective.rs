//! Objectives of recovery: `30min`, `4h`, `2d`.

use jiff::SignedDuration;
use std::{fmt, str::FromStr};

/// How long something may take, or how old it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objective {
    count: u32,
    unit: &'static str,
}

/// Units with their seconds. `m` is none: it is a month where terms are written.
const UNITS: [(&str, i64); 3] = [("min", 60), ("h", 3600), ("d", 86_400)];

/// A text that is not an objective.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time: write a number from 1 to 100000 and `min`, `h` or `d`, as in `4h`")]
pub struct ObjectiveError {
    /// What was given.
    pub text: String,
}

impl Objective {
    /// So many hours.
    pub(crate) const fn hours(count: u32) -> Self {
        Self { count, unit: "h" }
    }

    /// As a duration.
    pub fn duration(self) -> SignedDuration {
        let seconds = UNITS.iter().find(|(unit, _)| *unit == self.unit).map_or(1, |(_, seconds)| *seconds);
        SignedDuration::from_secs(i64::from(self.count) * seconds)
    }
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let parse = || {
            let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
            let (unit, _) = UNITS.iter().find(|(name, _)| *name == unit)?;
            let count = number.parse().ok().filter(|count| (1..=100_000).contains(count))?;
            Some(Self { count, unit })
        };
        parse().ok_or_else(|| ObjectiveError { text: text.to_owned() })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_and_shown_alike() {
        for (text, seconds) in [("30min", 1800), ("4h", 14_400), ("2d", 172_800)] {
            let read: Objective = text.parse().unwrap();
            assert_eq!((read.to_string().as_str(), read.duration().as_secs()), (text, seconds));
        }
    }

    #[test]
    fn a_month_is_no_minute() {
        for text in ["", "4", "h", "0h", "4m", "-1h", "4 h", "1.5h", "100001d"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }
}
