//! Rates: `20 MiB/s`, `500 KiB/s`.

use std::{fmt, num::NonZeroU64, str::FromStr};

/// Bytes per second, at least 1 KiB/s: less would never get a pack across.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

/// A text that is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a rate: write a number and `KiB/s`, `MiB/s` or `GiB/s` (or `kB/s`, `MB/s`, `GB/s`), as in `20 MiB/s`; at least 1 KiB/s"
)]
pub struct RateError {
    /// What was given.
    pub text: String,
}

/// Units with their bytes, the largest binary one first: the order in which a rate looks for the one to be shown in.
const UNITS: [(&str, u64); 7] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("B", 1)];

impl Rate {
    /// Bytes per second.
    pub fn bytes_per_second(self) -> NonZeroU64 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.strip_suffix("/s")?.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        let rate = number.parse::<u64>().ok()?.checked_mul(*bytes)?;
        NonZeroU64::new(rate).filter(|rate| rate.get() >= 1 << 10).map(Self)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        Self::parse(text).ok_or_else(|| RateError { text: text.to_owned() })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, bytes)| self.0.get().is_multiple_of(*bytes));
        let (unit, bytes) = whole.copied().unwrap_or(("B", 1));
        write!(f, "{} {unit}/s", self.0.get() / bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown_alike() {
        for text in ["20 MiB/s", "500 KiB/s", "1 GiB/s", "5 MB/s", "1500 kB/s", "1025 B/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("20MiB/s".parse::<Rate>().unwrap().bytes_per_second().get(), 20 << 20);
    }

    #[test]
    fn nonsense_is_no_rate() {
        for text in ["", "20", "20 MiB", "MiB/s", "0 MiB/s", "-1 MiB/s", "1.5 MiB/s", "1023 B/s", "99999999999999 GiB/s", "/s", "5 mib/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
