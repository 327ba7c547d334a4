//! Names of objects: short, plain relative paths that every kind of store can hold.

use super::{RESERVED, StoreError};
use std::{fmt, str::FromStr};

/// A relative path of components of `A-Z a-z 0-9 . _ -`, none of them `.` or `..`, 255 bytes at most in all,
/// and outside what belongs to the store itself (`tmp`, `lease`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// Checks and takes `text`.
    ///
    /// # Errors
    /// [`StoreError::BadName`].
    pub fn new(text: impl Into<String>) -> Result<Self, StoreError> {
        let text = text.into();
        let good = text.len() <= 255 && text.split('/').all(is_component) && !text.split('/').next().is_some_and(|t| RESERVED.contains(&t));
        if good { Ok(Self(text)) } else { Err(StoreError::BadName { name: text }) }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the last `/`; empty for a name at the top.
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// What stands after the last `/`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// Whether it lies beneath `folder` (`""` holds everything).
    pub fn is_beneath(&self, folder: &str) -> bool {
        folder.is_empty() || self.0.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn is_component(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    plain && !matches!(text, "" | "." | "..")
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for ObjectName {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_vault_are_refused() {
        for text in ["", ".", "..", "/a", "a/", "a//b", "a/../b", "a/./b", "a\\b", "a b", "é", "tmp", "tmp/x", "lease", &"a".repeat(256)] {
            assert!(ObjectName::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn folder_and_file_name_are_its_two_halves() {
        let name = ObjectName::new("epochs/2026/packs/ab/abcd").unwrap();
        assert_eq!((name.folder(), name.file_name()), ("epochs/2026/packs/ab", "abcd"));
        assert!(name.is_beneath("epochs/2026") && name.is_beneath("") && !name.is_beneath("epochs/202"));
        assert_eq!(ObjectName::new("vault.json").unwrap().folder(), "");
    }
}
