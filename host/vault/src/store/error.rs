//! What can go wrong between us and a store, in kinds that a caller can act on.

use super::ObjectName;
use std::{io, path::Path, path::PathBuf};

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("object {name} is not in the store")]
    NotFound {
        /// The object.
        name: ObjectName,
    },
    /// The store is full, or our quota of it.
    #[error("no space left for {path}{}", free_text(*.free))]
    NoSpace {
        /// File or folder that was being written.
        path: PathBuf,
        /// Bytes that are free, where the store says so.
        free: Option<u64>,
    },
    /// The store does not answer; worth trying again.
    #[error("store is unreachable: {what}")]
    Unreachable {
        /// What was tried.
        what: String,
    },
    /// The store refuses.
    #[error("access to {path} is denied: {source}")]
    Denied {
        /// What was asked for.
        path: PathBuf,
        /// Permission, or a read-only file system.
        source: io::Error,
    },
    /// Another object has the name.
    #[error("object {name} exists with other content")]
    Conflict {
        /// The object.
        name: ObjectName,
    },
    /// Another session writes to the vault.
    #[error("vault is locked by {holder}")]
    Locked {
        /// Who, since when, on which host.
        holder: String,
    },
    /// Another session has taken the lease over.
    #[error("lease was taken over by {holder}")]
    Fenced {
        /// Who holds it now.
        holder: String,
    },
    /// The folder is not a store: no marker file in it.
    #[error("{path} is not a store: the marker file {marker} is missing", marker = super::MARKER)]
    NoMarker {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder is another store than the one that was meant.
    #[error("{path} belongs to the store `{found}`, not `{expected}`")]
    WrongMarker {
        /// The store's folder.
        path: PathBuf,
        /// The configured name.
        expected: String,
        /// The name in the marker file.
        found: String,
    },
    /// A text that cannot name an object.
    #[error("`{name}` cannot name an object")]
    BadName {
        /// The text.
        name: String,
    },
    /// An object ends before the range that was asked for.
    #[error("object {name} ends before byte {end}")]
    Short {
        /// The object.
        name: String,
        /// First byte after the range.
        end: u64,
    },
    /// An object is larger than its reader takes.
    #[error("object {name} has {size} bytes, more than the {max} that it can have")]
    TooLarge {
        /// The object.
        name: ObjectName,
        /// Its size.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// What shall be stored cannot be read where it comes from, or is damaged there. Nothing is wrong with this store.
    #[error("{name} cannot be copied: {why}")]
    Source {
        /// The object.
        name: ObjectName,
        /// What reading it said.
        why: String,
    },
    /// The store holds other bytes than were sent.
    #[error("{name} reads back as other bytes than were written")]
    ReadBack {
        /// The object.
        name: ObjectName,
    },
    /// The server is another one than the configuration names. Never tried again, never accepted.
    #[error("the host key of {host} is {found}, and the configuration allows {expected}")]
    HostKey {
        /// Name and port.
        host: String,
        /// Fingerprint that the server showed.
        found: String,
        /// What is pinned.
        expected: String,
    },
    /// The server answers and will not serve us as configured: a refused login, a missing bucket, a wrong clock, an
    /// operation that it does not allow.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// As the server says it.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// An object lies in the store without the lock that was asked for.
    #[error("{name} is not locked as asked: {found}")]
    NotLocked {
        /// The object.
        name: ObjectName,
        /// What the server says of its lock.
        found: String,
    },
    /// A write or fsync failed before, so the object is void.
    #[error("upload is void after an earlier failure")]
    Void,
    /// Anything else that the system says.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
}

/// How much is free, for people; a little may be left where an object needs more.
fn free_text(free: Option<u64>) -> String {
    free.map_or_else(String::new, |free| format!(": the store is full ({:.1} MiB free)", free as f64 / 1_048_576.0))
}

impl StoreError {
    /// Whether the same call may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Io { source, .. } => matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::TimedOut),
            _ => false,
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoMarker { .. } => Some("is the disk mounted? a new store folder is made by `havun-backup init`"),
            Self::WrongMarker { .. } => Some("is the right disk mounted at this path?"),
            Self::NoSpace { .. } => Some("free some space, or shorten the hot retention and run `havun-backup cleanup`"),
            Self::Denied { .. } => Some("run as the user who owns the store, or correct its permissions"),
            Self::Locked { .. } => Some("wait for the other run to end; `--force` takes the vault over from one that hangs"),
            Self::HostKey { .. } => Some(
                "if the server's owner has announced a new key, check its fingerprint and put it at `host_key`; otherwise somebody stands between",
            ),
            Self::Refused { hint, .. } => Some(hint),
            Self::NotLocked { .. } => Some("does the bucket allow object lock with that term? `havun-backup store check` tries it"),
            Self::Source { .. } => Some("`havun-backup verify` names what is damaged; `havun-backup repair` mends it from another store"),
            Self::ReadBack { .. } => Some("the disk or the server is failing; nothing was published"),
            Self::Unreachable { .. } => Some("check the network and the store's server, then run again"),
            _ => None,
        }
    }

    /// An error of the origin that [`super::Store::put`] copies from: never worth another try at the destination.
    pub fn source(name: &ObjectName, why: Self) -> Self {
        match why {
            Self::Source { .. } => why,
            why => Self::Source { name: name.clone(), why: why.to_string() },
        }
    }

    /// Compares what an object's bytes hash to with what they should.
    ///
    /// # Errors
    /// [`StoreError::Source`].
    pub fn check_source(name: &ObjectName, found: &[u8; 32], expected: &[u8; 32]) -> Result<(), Self> {
        if found == expected {
            return Ok(());
        }
        Err(Self::Source { name: name.clone(), why: format!("its SHA-256 is {}, expected {}", hex::encode(found), hex::encode(expected)) })
    }

    /// Sorts a system error at `path` into its kind.
    pub fn at(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let path = path.to_owned();
        match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Self::NoSpace { path, free: None },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Denied { path, source },
            Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::StaleNetworkFileHandle => {
                Self::Unreachable { what: format!("{}: {source}", path.display()) }
            }
            _ => Self::Io { path, source },
        }
    }
}
