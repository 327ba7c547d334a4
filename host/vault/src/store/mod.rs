//! Where a vault lies: bytes under names, and nothing else.
//!
//! A [`Store`] is rooted at one vault folder. Every object in it is written once, never changed, and published
//! under its final name only when it is whole and durable; nothing is ever overwritten. A store knows no pack,
//! no snapshot and no key.
//!
//! Read this file first, then `local` (the real thing) and `memory` (the same promises without a disk).
//! `retry`, `limit` and `fault` are decorators, `conformance` is what every store has to pass, `probe` what `store check`
//! does.

pub mod conformance;
mod error;
mod fault;
mod limit;
mod local;
mod memory;
mod name;
pub mod probe;
mod retry;
mod session;
mod source;
mod tamper;

pub use error::StoreError;
pub use fault::{Call, Fault, FaultPlan, FaultStore, Operation};
pub use limit::{Bandwidth, LimitedStore, SteadyClock, steady_clock};
pub use local::{LocalRoot, LocalStore};
pub use memory::MemoryStore;
pub use name::ObjectName;
pub use retry::{RetryPolicy, RetryStore, Sleeper, ThreadSleeper};
pub use session::{Life, Session};
pub use source::{Source, StoredSource, put_by_upload};
pub use tamper::Tamper;

use std::{sync::Arc, time::Duration};

/// The file that marks a folder as a store.
pub const MARKER: &str = ".havun-backup-store.json";

/// Top-level names that belong to the store itself and are never objects.
pub(crate) const RESERVED: [&str; 2] = ["tmp", "lease"];

/// What a store holds to when it says that an object is published. Recorded with every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Promises {
    /// The bytes survive a power cut once `publish` has returned.
    pub durable_file: bool,
    /// The name survives a power cut once `publish` has returned.
    pub durable_name: bool,
    /// `publish` cannot replace an object, not even in a race.
    pub no_overwrite: bool,
    /// `remove` works. A put-once or locked store has only what nobody can take away.
    #[serde(default = "yes")]
    pub removes: bool,
    /// A lease keeps every other writer out, those on other machines too.
    #[serde(default = "yes")]
    pub exclusive: bool,
}

fn yes() -> bool {
    true
}

impl Promises {
    /// All of them.
    pub const ALL: Self = Self { durable_file: true, durable_name: true, no_overwrite: true, removes: true, exclusive: true };
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name, from the vault's folder.
    pub name: ObjectName,
    /// Stored bytes.
    pub size: u64,
}

/// What `publish` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The name was free.
    New,
    /// The same object was there already, and is now as durable as a new one.
    AlreadyThere,
}

/// Bytes under names, beneath one vault folder. All methods may be called from several threads at once.
pub trait Store: Send + Sync {
    /// For people: `local folder /var/backups/havun/havunadmin`.
    fn describe(&self) -> String;

    /// What `publish` and `remove` hold to.
    fn promises(&self) -> Promises;

    /// What the store does not promise, one sentence each, for the operator and for the record of the run.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Stores a whole object whose bytes can be had from any place, as often as needed: it is begun anew or resumed
    /// after a failure, and sent in parallel where that is faster. Its SHA-256 is compared with `sha256` before it has its
    /// name (on a put-once store: before its first byte is sent).
    ///
    /// # Errors
    /// [`StoreError::Source`] when the bytes cannot be read or are not those of `sha256`; [`StoreError::ReadBack`] when the
    /// store holds other bytes than were sent; [`StoreError::Conflict`].
    fn put(&self, name: &ObjectName, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
        put_by_upload(self.as_dyn(), name, source, sha256)
    }

    /// SHA-256 of stored objects, reckoned by the store's own machine from what lies on its disk, without sending it: one
    /// answer for each name, `None` where there is no such object. The whole answer is `None` where the store cannot.
    fn server_sha256(&self, _names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        Ok(None)
    }

    /// Itself, for methods that have a default.
    fn as_dyn(&self) -> &dyn Store;

    /// Begins an object beneath `tmp/`, on the same file system as its final name.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], [`StoreError::Denied`], [`StoreError::NoMarker`] where the disk is not mounted.
    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError>;

    /// Stored bytes of an object; `None` where there is none.
    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError>;

    /// A whole object of at most `max` bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::TooLarge`] before anything is read.
    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Short`] where the object ends before `buf` is full.
    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError>;

    /// Every object beneath `folder` (`""` is the whole vault), sorted by name. A missing folder is empty.
    /// Uploads under way, the lease and names that are no [`ObjectName`] are not shown.
    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError>;

    /// Names of the folders directly beneath `folder`, sorted. A missing folder is empty.
    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError>;

    /// Removes an object, durably. A missing one is fine.
    fn remove(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// Removes what dead sessions left beneath `tmp/`: those whose process is known to be gone, and those of
    /// which nothing is known (another machine, another container) once they are older than `older_than`.
    /// Returns how many.
    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Takes the vault's writer lease for `holder` (a host and a command, for people). Readers need none.
    /// With `force`, a lease that another session holds is taken from it: its next check fails.
    ///
    /// # Errors
    /// [`StoreError::Locked`] names the holder.
    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError>;

    /// Free bytes for us; `None` where the store cannot say.
    fn free_bytes(&self) -> Result<Option<u64>, StoreError>;

    /// Really tries to harm an object, with the store's own credentials and past all of its manners: for [`probe`], on an
    /// object made for it. `Ok` where the server let it happen, `None` where there is no such operation.
    fn tamper(&self, _name: &ObjectName, _attempt: Tamper) -> Option<Result<(), StoreError>> {
        None
    }
}

/// An object being written. Dropping it abandons it and removes what was written.
#[must_use = "an upload is published or abandoned"]
pub trait Upload: Send {
    /// Appends. After an error the upload is void: nothing but dropping it is of use.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Fills `buf` with what was written at `offset`, from the store and not from a copy of our own where it can.
    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError>;

    /// Makes the bytes durable, gives them their name without overwriting, and makes the name durable.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where another object has the name. After any error the object does not count as
    /// published, though its name may be there.
    fn publish(self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError>;
}

/// The right to write to one vault. Dropping it gives it back; a dead process gives it back by dying.
#[must_use = "the lease ends when it is dropped"]
pub trait Lease: Send + Sync {
    /// Grows with every lease of the vault.
    fn fencing(&self) -> u64;

    /// Asked before each publish and delete that others would see.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another session has taken over.
    fn check(&self) -> Result<(), StoreError>;
}

macro_rules! store_behind {
    ($pointer:ty) => {
        impl<S: Store + ?Sized> Store for $pointer {
            fn describe(&self) -> String {
                (**self).describe()
            }

            fn promises(&self) -> Promises {
                (**self).promises()
            }

            fn notes(&self) -> Vec<String> {
                (**self).notes()
            }

            fn put(&self, name: &ObjectName, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
                (**self).put(name, source, sha256)
            }

            fn server_sha256(&self, names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
                (**self).server_sha256(names)
            }

            fn as_dyn(&self) -> &dyn Store {
                (**self).as_dyn()
            }

            fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
                (**self).begin()
            }

            fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
                (**self).size(name)
            }

            fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
                (**self).read(name, max)
            }

            fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
                (**self).read_range(name, offset, buf)
            }

            fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
                (**self).list(folder)
            }

            fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
                (**self).folders(folder)
            }

            fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
                (**self).remove(name)
            }

            fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
                (**self).remove_stale_uploads(older_than)
            }

            fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
                (**self).lease(holder, force)
            }

            fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
                (**self).free_bytes()
            }

            fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
                (**self).tamper(name, attempt)
            }
        }
    };
}

store_behind!(Arc<S>);
store_behind!(&S);
