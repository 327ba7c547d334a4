//! Names that people choose: of projects, stores and items. Each is safe as a folder name.

use std::{fmt, str::FromStr};

/// A name that would not be safe as a folder name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what} name: use 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit")]
pub struct NameError {
    /// `project`, `store` or `item`.
    pub what: &'static str,
    /// What was given.
    pub text: String,
}

macro_rules! name_type {
    ($(#[$doc:meta])* pub $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks and takes `text`: 1 to 64 of `a-z 0-9 - _ .`, beginning with a letter or digit.
            ///
            /// # Errors
            /// [`NameError`] says what is allowed.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                let body = text.bytes().all(|b| good(b) || matches!(b, b'-' | b'_' | b'.'));
                if body && text.bytes().next().is_some_and(good) && text.len() <= 64 {
                    Ok(Self(text))
                } else {
                    Err(NameError { what: $what, text })
                }
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(/// A project of the configuration; also its folder in every store.
    pub ProjectName, "project");
name_type!(/// A store of the configuration.
    pub StoreName, "store");
name_type!(/// One named part of a project: `database`, `uploads`, `config`.
    pub ItemName, "item");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for text in ["", ".", "..", "a/b", "-x", "A", "a\0", &"x".repeat(65)] {
            assert!(ProjectName::new(text).is_err(), "{text:?}");
        }
        assert!(ProjectName::new("havun-admin_2.0").is_ok());
    }
}
