//! Identifiers that cannot be mixed up.
//!
//! Each is 32 bytes and prints as 64 lowercase hex digits. There is no `From<[u8; 32]>` and no `Deref`:
//! a [`PackId`] is not a [`ChunkId`], and the compiler says so.
//!
//! ```compile_fail
//! use havun_model::{ChunkId, PackId};
//! let pack: PackId = ChunkId::from_bytes([0; 32]);
//! ```

use std::{fmt, str::FromStr};

/// A text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not 64 lowercase hexadecimal digits")]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
}

macro_rules! id_type {
    ($(#[$doc:meta])* pub $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// 64 lowercase hex digits.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }

            /// The first eight hex digits, for people.
            pub fn short(&self) -> String {
                let mut text = self.to_hex();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; 32];
                let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if lower => Ok(Self(bytes)),
                    _ => Err(ParseIdError { text: text.to_owned() }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(/// SHA-256 of the stored bytes of a pack.
    pub PackId);
id_type!(/// SHA-256 of the plaintext of a chunk.
    pub ChunkId);
id_type!(/// SHA-256 of the stored bytes of an index object.
    pub IndexId);
id_type!(/// SHA-256 of the stored bytes of a snapshot object; people use a prefix of it.
    pub SnapshotId);
id_type!(/// SHA-256 of a strategy's component, or of a whole file.
    pub Digest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = PackId::from_bytes([0xab; 32]);
        assert_eq!(id.to_hex().parse::<PackId>(), Ok(id));
    }

    #[test]
    fn uppercase_short_and_foreign_texts_are_refused() {
        for text in ["", "ab", &"AB".repeat(32), &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(text.parse::<ChunkId>().is_err(), "{text}");
        }
    }
}
