//! The languages in which people are told things, and how each writes numbers.

use serde::{Deserialize, Serialize};

/// A language of messages and reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// Dutch.
    #[serde(rename = "nl")]
    Dutch,
}

impl Language {
    /// `en` or `nl`.
    pub fn word(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Dutch => "nl",
        }
    }

    /// By its [word](Self::word).
    pub fn of(word: &str) -> Option<Self> {
        [Self::English, Self::Dutch].into_iter().find(|language| language.word() == word)
    }

    /// The first text in English, the second in Dutch.
    pub fn pick<T>(self, english: T, dutch: T) -> T {
        match self {
            Self::English => english,
            Self::Dutch => dutch,
        }
    }

    /// A size in decimal units, as providers sell them: `12.5 GB`, in Dutch `12,5 GB`.
    pub fn size(self, bytes: u64) -> String {
        const UNITS: [(&str, u64); 5] =
            [("PB", 1_000_000_000_000_000), ("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
        // What would round to 1000 of a unit is 1 of the next.
        let unit = UNITS.iter().find(|(_, unit)| bytes >= unit - unit / 20_000 && bytes >= 1000);
        unit.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", self.decimal(bytes as f64 / *unit as f64, 1)))
    }

    /// A difference of sizes: `+12.3 MB`, `-4.0 kB`, `±0`.
    pub fn change(self, bytes: i64) -> String {
        match bytes {
            0 => "±0".to_owned(),
            1.. => format!("+{}", self.size(bytes.unsigned_abs())),
            _ => format!("-{}", self.size(bytes.unsigned_abs())),
        }
    }

    /// With so many decimals: `1,234.5`, in Dutch `1.234,5`.
    pub fn decimal(self, number: f64, decimals: usize) -> String {
        let text = format!("{number:.decimals$}");
        let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
        let (group, point) = self.pick((',', '.'), ('.', ','));
        let grouped = grouped(whole, group);
        rest.map_or_else(|| grouped.clone(), |rest| format!("{grouped}{point}{rest}"))
    }

    /// A count: `1,234`, in Dutch `1.234`.
    pub fn count(self, number: u64) -> String {
        grouped(&number.to_string(), self.pick(',', '.'))
    }

    /// `420 ms`, `4.2 s`, `3 min 05 s`, `2 h 07 min`, `3 days`; in Dutch `2 u 07 min`, `3 dagen`.
    pub fn duration(self, millis: u64) -> String {
        let (seconds, hour) = (millis / 1000, self.pick("h", "u"));
        match seconds {
            0 => format!("{millis} ms"),
            1..60 => format!("{} s", self.decimal(millis as f64 / 1000.0, 1)),
            60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
            3600..172_800 => format!("{} {hour} {:02} min", seconds / 3600, seconds / 60 % 60),
            _ => format!("{} {}", seconds / 86_400, self.pick("days", "dagen")),
        }
    }

    /// How long ago, in one unit: `14 min`, `25 h`, `3 days`.
    pub fn age(self, seconds: u64) -> String {
        match seconds {
            0..3600 => format!("{} min", seconds / 60),
            3600..172_800 => format!("{} {}", seconds / 3600, self.pick("h", "u")),
            _ => format!("{} {}", seconds / 86_400, self.pick("days", "dagen")),
        }
    }
}

fn grouped(digits: &str, separator: char) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Language::{Dutch, English};

    #[test]
    fn sizes_are_decimal_and_never_read_1000() {
        let all = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (12_500_000_000, "12.5 GB")];
        for (bytes, text) in all {
            assert_eq!(English.size(bytes), text, "{bytes}");
        }
        assert_eq!(Dutch.size(245_800_000_000), "245,8 GB");
        assert_eq!([English.change(0), English.change(12_300_000), Dutch.change(-4000)], ["±0", "+12.3 MB", "-4,0 kB"]);
    }

    #[test]
    fn numbers_are_grouped_as_the_language_does() {
        assert_eq!([English.count(1_234_567), Dutch.count(1_234_567)], ["1,234,567", "1.234.567"]);
        assert_eq!([English.decimal(1234.56, 2), Dutch.decimal(-1234.56, 2), English.decimal(7.0, 0)], ["1,234.56", "-1.234,56", "7"]);
    }

    #[test]
    fn durations_and_ages_have_one_or_two_units() {
        assert_eq!(
            [English.duration(420), English.duration(4_210), English.duration(185_000), English.duration(7_620_000)],
            ["420 ms", "4.2 s", "3 min 05 s", "2 h 07 min"]
        );
        assert_eq!([Dutch.duration(7_620_000), Dutch.duration(400_000_000)], ["2 u 07 min", "4 dagen"]);
        assert_eq!([English.age(90), English.age(90_000), Dutch.age(90_000), English.age(300_000)], ["1 min", "25 h", "25 u", "3 days"]);
    }
}
