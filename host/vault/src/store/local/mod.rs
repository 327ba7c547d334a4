//! A vault in a local folder (a disk, an NFS mount): the store that everything else is measured by.
//!
//! `root` knows the store's folder and its marker, `upload` the way of an object to its name, `lease` who may
//! write. This file reads, lists and removes.

mod lease;
mod root;
mod tamper;
mod upload;

pub use root::LocalRoot;

use super::{
    Lease, Listed, ObjectName, Promises, Store, StoreError, Tamper, Upload,
    session::{Life, Session},
};
use rustix::fs::{Mode, OFlags};
use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// One vault's folder beneath a [`LocalRoot`].
#[derive(Debug)]
pub struct LocalStore {
    root: LocalRoot,
    vault: PathBuf,
    session: Session,
    /// Folders of which this session has made sure that a power cut leaves them.
    durable_folders: Mutex<HashSet<PathBuf>>,
}

impl LocalStore {
    /// Opens the store's folder: it must exist and hold the marker file, so that a disk that is not mounted is
    /// an error and not a full root disk.
    ///
    /// # Errors
    /// [`StoreError::NoMarker`].
    pub fn open_root(path: &Path) -> Result<LocalRoot, StoreError> {
        LocalRoot::open(path)
    }

    fn new(root: LocalRoot, vault: PathBuf) -> Self {
        Self { root, vault, session: Session::current(), durable_folders: Mutex::default() }
    }

    /// The vault's folder.
    pub fn path(&self) -> &Path {
        &self.vault
    }

    fn path_of(&self, name: &ObjectName) -> PathBuf {
        self.vault.join(name.as_str())
    }

    fn tmp(&self) -> PathBuf {
        self.vault.join("tmp")
    }

    /// Never follows a link and never waits for a FIFO: only a regular file is an object.
    fn open(&self, name: &ObjectName) -> Result<(File, u64), StoreError> {
        let path = self.path_of(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(StoreError::NotFound { name: name.clone() }),
            Err(errno) => return Err(StoreError::at(&path, errno.into())),
        };
        let status = file.metadata().map_err(|e| StoreError::at(&path, e))?;
        if status.is_file() { Ok((file, status.len())) } else { Err(not_regular(&path)) }
    }

    /// Makes `folder` and what is missing above it up to the store's folder, and makes each of their names
    /// durable. Another process may have made them a moment ago without having come to its fsync, so this is
    /// done once per session for folders that exist, too.
    fn make_durable_folder(&self, folder: &Path) -> Result<(), StoreError> {
        if folder == self.root.path() || self.folders_done().contains(folder) {
            return Ok(());
        }
        let Some(parent) = folder.parent() else { return Ok(()) };
        self.make_durable_folder(parent)?;
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(|e| StoreError::at(folder, e))?,
        }
        sync_folder(parent)?;
        self.folders_done().insert(folder.to_owned());
        Ok(())
    }

    fn folders_done(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for LocalStore {
    fn describe(&self) -> String {
        format!("local folder {}", self.vault.display())
    }

    fn promises(&self) -> Promises {
        Promises::ALL
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        self.root.check()?;
        Ok(Box::new(upload::LocalUpload::begin(self)?))
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        let path = self.path_of(name);
        match fs::symlink_metadata(&path) {
            Ok(status) if status.is_file() => Ok(Some(status.len())),
            Ok(_) => Err(not_regular(&path)),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(StoreError::at(&path, e)),
        }
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        let (mut file, size) = self.open(name)?;
        if size > max {
            return Err(StoreError::TooLarge { name: name.clone(), size, max });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        Read::by_ref(&mut file).take(size).read_to_end(&mut bytes).map_err(|e| StoreError::at(&self.path_of(name), e))?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(StoreError::Short { name: name.to_string(), end: size }) }
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let (file, size) = self.open(name)?;
        let end = offset.saturating_add(buf.len() as u64);
        if end > size {
            return Err(StoreError::Short { name: name.to_string(), end });
        }
        file.read_exact_at(buf, offset).map_err(|e| StoreError::at(&self.path_of(name), e))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let mut found = Vec::new();
        let start = if folder.is_empty() { String::new() } else { ObjectName::new(folder)?.to_string() };
        collect(&self.vault, &start, &mut found)?;
        found.sort_unstable();
        Ok(found)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let start = if folder.is_empty() { String::new() } else { ObjectName::new(folder)?.to_string() };
        let mut names = Vec::new();
        for_each_entry(&self.vault.join(&start), |name, kind, _| {
            if kind.is_dir() && ObjectName::new(join(&start, name)).is_ok() {
                names.push(name.to_owned());
            }
            Ok(())
        })?;
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        let path = self.path_of(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(path.parent().unwrap_or(&self.vault)),
            Err(e) if is_missing(&e) => Ok(()),
            Err(e) => Err(StoreError::at(&path, e)),
        }
    }

    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        let tmp = self.tmp();
        let mut removed = 0;
        for_each_entry(&tmp, |name, kind, status| {
            if kind.is_file() && is_stale(name, &status()?, older_than) {
                let path = tmp.join(name);
                fs::remove_file(&path).map_err(|e| StoreError::at(&path, e))?;
                removed += 1;
            }
            Ok(())
        })?;
        Ok(removed)
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        self.root.check()?;
        let tmp = self.tmp();
        self.make_durable_folder(&tmp)?;
        let new = tmp.join(self.session.upload_name());
        Ok(Box::new(lease::LocalLease::take(&self.vault, &new, holder, force)?))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let path = self.root.path();
        let status = rustix::fs::statvfs(path).map_err(|e| StoreError::at(path, e.into()))?;
        Ok(Some(status.f_bavail.saturating_mul(status.f_frsize)))
    }

    fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
        tamper::tamper(self, name, attempt)
    }
}

fn is_stale(name: &str, status: &fs::Metadata, older_than: Duration) -> bool {
    match Session::of_upload(name).map_or(Life::Unknown, |session| session.life()) {
        Life::Alive => false,
        Life::Dead => true,
        Life::Unknown => {
            let age = status.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            age.is_some_and(|age| age >= older_than)
        }
    }
}

/// Regular files beneath `vault/start` whose names can be objects.
fn collect(vault: &Path, start: &str, found: &mut Vec<Listed>) -> Result<(), StoreError> {
    for_each_entry(&vault.join(start), |entry, kind, status| {
        let Ok(name) = ObjectName::new(join(start, entry)) else { return Ok(()) };
        if kind.is_dir() {
            collect(vault, name.as_str(), found)
        } else if kind.is_file() {
            let size = status()?.len();
            found.push(Listed { name, size });
            Ok(())
        } else {
            Ok(())
        }
    })
}

type Status<'a> = &'a dyn Fn() -> Result<fs::Metadata, StoreError>;

/// Calls `each` for every entry of `folder` with a UTF-8 name; a missing folder has none. An entry that
/// vanishes meanwhile is passed over.
fn for_each_entry(folder: &Path, mut each: impl FnMut(&str, fs::FileType, Status<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if is_missing(&e) => return Ok(()),
        other => other.map_err(|e| StoreError::at(folder, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::at(folder, e))?;
        let name = entry.file_name();
        let Some(name) = OsStr::to_str(&name) else { continue };
        let kind = entry.file_type().map_err(|e| StoreError::at(&entry.path(), e))?;
        match each(name, kind, &|| entry.metadata().map_err(|e| StoreError::at(&entry.path(), e))) {
            Err(StoreError::Io { source, .. }) if is_missing(&source) => {}
            other => other?,
        }
    }
    Ok(())
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn not_regular(path: &Path) -> StoreError {
    StoreError::Io { path: path.to_owned(), source: io::Error::other("not a regular file") }
}

/// Makes the names in a folder survive a power cut.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let open = File::open(folder).and_then(|folder| folder.sync_all());
    open.map_err(|e| StoreError::at(folder, e))
}

#[cfg(test)]
mod tests;
