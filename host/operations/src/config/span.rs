//! Short spans of time: `90s`, `10m`, `1h`.

use jiff::SignedDuration;
use std::{fmt, str::FromStr};

/// At most a day: what is longer is a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    seconds: u32,
}

/// A text that is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a span of time: write a number and `s`, `m` (minutes) or `h`, as in `10m`; at most 24h")]
pub struct SpanError {
    /// What was given.
    pub text: String,
}

/// Units with their seconds, the largest first.
const UNITS: [(&str, u32); 4] = [("h", 3600), ("min", 60), ("m", 60), ("s", 1)];
const LONGEST: u32 = 24 * 3600;

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u32) -> Self {
        Self { seconds }
    }

    /// As a duration.
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.seconds))
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let parse = || {
            let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
            let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
            number.parse::<u32>().ok()?.checked_mul(*seconds).filter(|seconds| *seconds <= LONGEST)
        };
        parse().map(|seconds| Self { seconds }).ok_or_else(|| SpanError { text: text.to_owned() })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            0 => f.write_str("0s"),
            seconds if seconds.is_multiple_of(3600) => write!(f, "{}h", seconds / 3600),
            seconds if seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown_alike() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600), ("0s", 0)] {
            let read: Span = text.parse().unwrap();
            assert_eq!((read.to_string().as_str(), read.duration().as_secs()), (text, seconds));
        }
        assert_eq!("10min".parse::<Span>().unwrap().to_string(), "10m");
    }

    #[test]
    fn nonsense_is_no_span() {
        for text in ["", "10", "m", "-1m", "1.5h", "25h", "4 m", "99999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
