//! What can go wrong with a vault, in the operator's words.

use crate::{manifest::ManifestError, store::StoreError};
use havun_model::{ChunkId, SnapshotId};
use std::{io, path::PathBuf};

/// Why an operation on a vault failed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store holds no vault for the project yet.
    #[error("there is no vault in {place}")]
    NoVault {
        /// The store, as it describes itself.
        place: String,
    },
    /// Something is there, but not a vault.
    #[error("what lies in {place} is not a vault of havun-backup: {why}")]
    NotAVault {
        /// The store.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// A later version of the program wrote it.
    #[error("the vault in {place} has format {found}, and this program knows format {known}")]
    NewerFormat {
        /// The store.
        place: String,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// The vault is of another project, or a replica of another vault.
    #[error("the vault in {place} is another one: {found}, expected {expected}")]
    OtherVault {
        /// The store.
        place: String,
        /// Its id or project.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// No identity opens any key of the vault.
    #[error("none of the given identities opens a key of the vault in {place}")]
    WrongKey {
        /// The store.
        place: String,
    },
    /// Another process writes to the vault.
    #[error("the vault in {place} is locked by {holder}")]
    Locked {
        /// The store.
        place: String,
        /// Who holds the lease.
        holder: String,
    },
    /// A stored object is not what its name says, or does not open.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// Name in the store.
        object: String,
        /// What was found.
        what: String,
    },
    /// A chunk that the manifest names is in no pack.
    #[error("chunk {chunk} is in no pack of the vault")]
    MissingChunk {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A delta cannot be read because a chunk that it is a delta of cannot.
    #[error("a delta in {pack} needs a chunk of an earlier dump: {base}")]
    Base {
        /// Where the delta lies.
        pack: String,
        /// What is wrong with the earlier chunk.
        base: Box<VaultError>,
    },
    /// No snapshot has this id.
    #[error("there is no snapshot {id}")]
    NoSnapshot {
        /// The id.
        id: SnapshotId,
    },
    /// No hold with this id stands.
    #[error("there is no hold {id}")]
    NoHold {
        /// The id.
        id: String,
    },
    /// No erasure with this id stands.
    #[error("there is no erasure {id}")]
    NoErasure {
        /// The id.
        id: String,
    },
    /// An encrypted vault has no key yet to seal anything with.
    #[error("the vault in {place} has no key yet: its first backup makes one")]
    NoKey {
        /// The store.
        place: String,
    },
    /// The store lets nobody remove anything, so nothing was touched.
    #[error("{place} lets nothing be removed: what is past its term goes when its own locks end, or by its owner's hand")]
    CannotRemove {
        /// The store.
        place: String,
    },
    /// A path of the source or of the restore target.
    #[error("cannot use {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Paths of a backup came out of order.
    #[error("`{path}` does not come after `{before}` in path order")]
    Order {
        /// The path.
        path: String,
        /// The path before it.
        before: String,
    },
    /// An include or exclude pattern is not a glob.
    #[error("bad pattern: {why}")]
    Pattern {
        /// What is wrong.
        why: String,
    },
    /// The operating system gave no random bytes, or an encoder failed.
    #[error("{what} failed: {why}")]
    Internal {
        /// Which step.
        what: &'static str,
        /// Its own words.
        why: String,
    },
    /// What was written did not read back the same: bad memory or a bad disk.
    #[error("what was written to {object} did not read back the same: bad memory or a bad disk")]
    ReadBack {
        /// Which object.
        object: String,
    },
    /// The store.
    #[error("{place}")]
    Store {
        /// The store, as it describes itself.
        place: String,
        /// Its error.
        source: StoreError,
    },
    /// The manifest is not what it should be.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The operator stopped the run.
    #[error("stopped by the operator")]
    Cancelled,
}

impl VaultError {
    /// Whether the operator's disk or server is the cause rather than the vault's content.
    pub fn is_store(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::NoVault { .. })
    }

    /// Whether stored bytes are not what they should be.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Base { .. } | Self::Manifest(_) | Self::MissingChunk { .. } | Self::ReadBack { .. })
    }
}
