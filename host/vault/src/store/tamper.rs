//! What somebody with a store's credentials could try on an object, past all manners of this program.

/// An operation that a store which guards its objects refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tamper {
    /// Remove it; where versions are kept, its version too.
    Delete,
    /// Write other bytes over it.
    Overwrite,
    /// Cut it to nothing.
    Truncate,
    /// Write behind its end.
    Append,
    /// Give it another name.
    Rename,
    /// Change who may read and write it.
    ChangeMode,
    /// Bring the end of its lock forward.
    ShortenLock,
}

impl Tamper {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Delete, Self::Overwrite, Self::Truncate, Self::Append, Self::Rename, Self::ChangeMode, Self::ShortenLock];

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Overwrite => "overwrite",
            Self::Truncate => "truncate",
            Self::Append => "append",
            Self::Rename => "rename",
            Self::ChangeMode => "change mode",
            Self::ShortenLock => "shorten lock",
        }
    }

    /// Whether it harms the bytes that are read under the name; the others only prepare it.
    pub fn harms_content(self) -> bool {
        !matches!(self, Self::ChangeMode | Self::ShortenLock)
    }
}
