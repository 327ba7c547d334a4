//! Prices of storage: `3.81 EUR` for a terabyte and month.

use std::{fmt, str::FromStr};

/// What a terabyte (10^12 bytes) costs in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price {
    /// Hundredths of the currency.
    pub cents: u32,
    /// Its code (ISO 4217), in capitals.
    pub currency: [u8; 3],
}

/// A text that is not a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a price: write a number with two decimals at most and a currency, as in `3.81 EUR`")]
pub struct PriceError {
    /// What was given.
    pub text: String,
}

impl Price {
    /// The currency's code.
    pub fn currency(&self) -> String {
        self.currency.iter().map(|letter| char::from(*letter)).collect()
    }

    /// What so many bytes cost in a month.
    pub fn of(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e12 * f64::from(self.cents) / 100.0
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, code) = text.split_once(' ')?;
        let currency: [u8; 3] = code.trim_start().as_bytes().try_into().ok()?;
        let (whole, cents) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !currency.iter().all(u8::is_ascii_uppercase) || !digits(whole) || !digits(cents) || cents.len() > 2 {
            return None;
        }
        let tenths = if cents.len() == 1 { 10 } else { 1 };
        let cents = cents.parse::<u32>().ok()? * tenths;
        Some(Self { cents: whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(cents)?, currency })
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        Self::parse(text).ok_or_else(|| PriceError { text: text.to_owned() })
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} {}", self.cents / 100, self.cents % 100, self.currency())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_shown_alike() {
        for (text, shown) in [("3.81 EUR", "3.81 EUR"), ("4 USD", "4.00 USD"), ("0.5 EUR", "0.50 EUR"), ("12.05  CHF", "12.05 CHF")] {
            assert_eq!(text.parse::<Price>().unwrap().to_string(), shown);
        }
        assert_eq!("3.81 EUR".parse::<Price>().unwrap().of(2_000_000_000_000), 7.62);
    }

    #[test]
    fn nonsense_is_no_price() {
        for text in ["", "3.81", "EUR", "3,81 EUR", "3.811 EUR", "-1 EUR", "3.81 eur", "3.81 €", "99999999 EUR", ". EUR"] {
            assert!(text.parse::<Price>().is_err(), "{text}");
        }
    }
}
