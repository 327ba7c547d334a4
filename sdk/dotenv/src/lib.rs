//! The rules of dotenv files, which are two sets of rules: PHP's `vlucas/phpdotenv` 5 (Laravel) and Node's
//! `dotenv` 16 and 17. They differ where it hurts, in passwords: `A=x#y` is `x` to both, `A=x y` an error to one
//! and a value to the other, `A="\$"` a dollar to one and a backslash and a dollar to the other.
//!
//! Read [`parse`], then `phpdotenv` and `node`; [`laravel`] is what `env()` makes of a value afterwards.
//! The process environment is never looked at: a backup reads the project's files, not its own surroundings.
//!
//! ```
//! use havun_dotenv::{Syntax, get, parse};
//! let entries = parse("DB_HOST=db\nDB_URL=\"mysql://${DB_HOST}/shop\"\n", Syntax::Phpdotenv)?;
//! assert_eq!(get(&entries, "DB_URL"), Some("mysql://db/shop"));
//! # Ok::<(), havun_dotenv::DotenvError>(())
//! ```

pub mod laravel;
mod node;
mod phpdotenv;

use std::{collections::HashMap, fmt, str::FromStr};

/// Whose rules a file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `vlucas/phpdotenv` 5: Laravel, Symfony-free PHP.
    Phpdotenv,
    /// Node's `dotenv` 16 and 17, without `dotenv-expand`.
    Dotenv,
}

impl Syntax {
    /// The word that a plan uses: `phpdotenv` or `dotenv`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Phpdotenv => "phpdotenv",
            Self::Dotenv => "dotenv",
        }
    }
}

impl FromStr for Syntax {
    type Err = UnknownSyntax;

    fn from_str(word: &str) -> Result<Self, UnknownSyntax> {
        match word {
            "phpdotenv" => Ok(Self::Phpdotenv),
            "dotenv" => Ok(Self::Dotenv),
            _ => Err(UnknownSyntax { word: word.to_owned() }),
        }
    }
}

/// A word that names no syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownSyntax {
    /// What was given.
    pub word: String,
}

impl fmt::Display for UnknownSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a dotenv syntax: use `phpdotenv` or `dotenv`", self.word)
    }
}

impl std::error::Error for UnknownSyntax {}

/// Why a file is not a dotenv file. Never carries a value: it may be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DotenvError {
    /// 1-based line where the entry begins.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `=value`.
    MissingName,
    /// A name with a character that the syntax does not allow.
    InvalidName,
    /// Text after a closing quote, or a blank within an unquoted value.
    UnexpectedWhitespace,
    /// A backslash before a character that takes none, in double quotes.
    UnexpectedEscape,
    /// A quote that is never closed.
    MissingClosingQuote,
    /// Reading it would take unreasonable time or memory; no real file does.
    TooComplex,
}

impl fmt::Display for DotenvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::MissingName => "an equals sign without a name before it",
            Fault::InvalidName => "an invalid name",
            Fault::UnexpectedWhitespace => "text after a blank or after the closing quote; a value with blanks needs quotes",
            Fault::UnexpectedEscape => "an unexpected escape sequence in double quotes",
            Fault::MissingClosingQuote => "a missing closing quote",
            Fault::TooComplex => "an entry that takes unreasonable time or memory to read",
        };
        write!(f, "line {}: {what}", self.line)
    }
}

impl std::error::Error for DotenvError {}

/// The variables that an application would see: each name once, in the order of its first appearance, with the
/// value that wins (the last in the file).
///
/// # Errors
/// [`DotenvError`] where the original library would throw; Node's rules never do, but for a file that is made to
/// take for ever.
pub fn parse(text: &str, syntax: Syntax) -> Result<Vec<(String, String)>, DotenvError> {
    match syntax {
        Syntax::Phpdotenv => phpdotenv::parse(text),
        Syntax::Dotenv => node::parse(text),
    }
}

/// The value of `name` among `entries`.
pub fn get<'e>(entries: &'e [(String, String)], name: &str) -> Option<&'e str> {
    entries.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Most bytes of all values together: references to references can double a value on each line.
const MAX_BYTES: usize = 16 << 20;
/// Most bytes that putting references in their places may move.
const MAX_MOVED: usize = 1 << 30;

/// Variables while a file is read: each name once, in the order of its first appearance.
#[derive(Default)]
struct Variables {
    entries: Vec<(String, Option<String>)>,
    places: HashMap<String, usize>,
    bytes: usize,
    moved: usize,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(*self.places.get(name)?)?.1.as_deref()
    }

    /// Sets or unsets `name`.
    fn set(&mut self, name: String, value: Option<String>) -> Result<(), Fault> {
        self.bytes += value.as_ref().map_or(0, String::len);
        match self.places.get(&name).and_then(|place| self.entries.get_mut(*place)) {
            Some(entry) => entry.1 = value,
            None => {
                self.places.insert(name.clone(), self.entries.len());
                self.entries.push((name, value));
            }
        }
        if self.bytes > MAX_BYTES { Err(Fault::TooComplex) } else { Ok(()) }
    }

    fn into_entries(self) -> Vec<(String, String)> {
        self.entries.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
