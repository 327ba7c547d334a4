//! The writer lease of a local vault: an advisory lock on `<vault>/lease`, which a dead process gives back by
//! dying, and in the file a fencing number that grows with each lease.
//!
//! The file is replaced, never rewritten, by one that is locked already: a reader always sees a whole one, and
//! whoever waits on the old one finds that its path leads elsewhere. Taking over by force is the same step
//! without owning the old lock: the old holder's next check finds a number that is not its own.

use super::{is_missing, root::random_hex, sync_folder};
use crate::store::{Lease, StoreError};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Attempts to lock a file that others replace meanwhile; each lost race is another session's success.
const ATTEMPTS: u32 = 16;

/// Content of the lease file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseRecord {
    fencing: u64,
    holder: String,
    pid: u32,
    host: String,
    /// Seconds since 1970, for people.
    since: u64,
    /// Random: two sessions never hold the same record.
    token: String,
}

/// A held lease.
pub(super) struct LocalLease {
    path: PathBuf,
    record: LeaseRecord,
    /// Holds the lock for as long as it is open.
    _locked: File,
}

impl LocalLease {
    /// Takes the lease of `vault`; `new` is a free name on the same file system.
    pub fn take(vault: &Path, new: &Path, holder: &str, force: bool) -> Result<Self, StoreError> {
        let path = vault.join("lease");
        let old = lock_current(&path, force)?;
        let before = read_record(&path)?;
        let record = LeaseRecord {
            fencing: before.as_ref().map_or(0, |r| r.fencing).saturating_add(1),
            holder: holder.to_owned(),
            pid: std::process::id(),
            host: host_name(),
            since: std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs()),
            token: random_hex(&path)?,
        };
        let locked = replace(new, &path, &record)?;
        drop(old);
        let lease = Self { path, record, _locked: locked };
        // Two sessions that both used force: the later one has it.
        lease.check()?;
        Ok(lease)
    }
}

impl Lease for LocalLease {
    fn fencing(&self) -> u64 {
        self.record.fencing
    }

    fn check(&self) -> Result<(), StoreError> {
        match read_record(&self.path)? {
            Some(record) if record == self.record => Ok(()),
            Some(record) => Err(StoreError::Fenced { holder: describe(&record) }),
            None => Err(StoreError::Fenced { holder: "someone who removed the lease file".to_owned() }),
        }
    }
}

/// The lock on the lease file as it is now; `None` where `force` goes on without it.
fn lock_current(path: &Path, force: bool) -> Result<Option<File>, StoreError> {
    for _ in 0..ATTEMPTS {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|e| StoreError::at(path, e))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path).map_err(|e| StoreError::at(path, e))? => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if force => return Ok(None),
            Err(TryLockError::WouldBlock) => return Err(locked(path)),
            Err(TryLockError::Error(e)) => return Err(StoreError::at(path, e)),
        }
    }
    Err(locked(path))
}

/// Writes a new lease file, locks it, and only then puts it in the place of the old one.
fn replace(new: &Path, path: &Path, record: &LeaseRecord) -> Result<File, StoreError> {
    let write = || -> io::Result<File> {
        let mut file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(new)?;
        file.try_lock()?;
        let mut text = serde_json::to_vec(record)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(new, path)?;
        Ok(file)
    };
    let file = write().map_err(|e| {
        let _gone = fs::remove_file(new);
        StoreError::at(path, e)
    })?;
    sync_folder(path.parent().unwrap_or(path))?;
    Ok(file)
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// `None` where there is none yet, or what a power cut left of one.
fn read_record(path: &Path) -> Result<Option<LeaseRecord>, StoreError> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(StoreError::at(path, e)),
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(e) if is_missing(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn locked(path: &Path) -> StoreError {
    let holder = read_record(path).ok().flatten().map_or_else(|| "another session".to_owned(), |record| describe(&record));
    StoreError::Locked { holder }
}

fn describe(record: &LeaseRecord) -> String {
    let since = i64::try_from(record.since).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    let since = since.map_or_else(String::new, |time| format!(" since {}", time.strftime("%Y-%m-%d %H:%M:%S UTC")));
    format!("{} (process {} on {}{since})", record.holder, record.pid, record.host)
}
