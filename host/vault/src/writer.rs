//! Writing a tree back: files, folders, links and devices with all their metadata, beneath one folder and nowhere
//! else.
//!
//! Every folder is opened without following symbolic links, so neither the archive nor what lies in the target can
//! lead a write elsewhere. A file is written under a temporary name and renamed over the old one when it is whole;
//! in a folder that this restore made, it is written under its own name at once. Owners come before modes (a
//! change of owner clears setuid bits), access control lists after modes, hard links when all files are whole,
//! metadata of folders at the very end, deepest first.
//!
//! An error concerns one entry; nothing here aborts the others.

mod apply;
mod file;
mod folders;

pub use file::NewFile;

use crate::{
    entry::{Entry, EntryKind},
    metadata::Owners,
    paths::{check_path, compare_paths, escape},
};
use apply::{Applier, Meta, Place};
use folders::{Folders, Home, MakeFolder, split};
use rustix::{
    fs::{FileType, Mode, linkat, makedev, mknodat, symlinkat, syncfs},
    io::Errno,
};
use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Why an entry could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something lies there, and may not be replaced.
    #[error("something lies there already")]
    Exists,
    /// A component of the path is no folder (perhaps a symbolic link, which is never followed).
    #[error("`{folder}` is no folder (a symbolic link is not followed)")]
    NoFolder {
        /// The component, relative to the target.
        folder: String,
    },
    /// The entry's path leads out of the target.
    #[error("its path leads out of the target")]
    Outside,
    /// The entry lacks what its kind needs.
    #[error("the entry has no {what}")]
    Lacks {
        /// The missing part.
        what: &'static str,
    },
    /// Content came for a place that the entry does not have, or some is missing.
    #[error("{written} bytes of {expected} were written")]
    Incomplete {
        /// Bytes written.
        written: u64,
        /// Bytes of the entry.
        expected: u64,
    },
    /// The operating system.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl WriteError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Io { doing, source: errno.into() }
    }
}

/// How to restore.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// Replace what lies there. Folders are joined in any case, and never emptied.
    pub overwrite: bool,
    /// Restore owners and groups: by name where this host knows it, else by number.
    pub owner: bool,
    /// Have everything on the disk before [`TreeWriter::finish`] returns.
    pub sync: bool,
}

/// Restores entries beneath one folder; shared by several threads. Folders must come before what is in them, and the
/// members of one hard-link group must be placed by one thread.
#[must_use = "links and folders are completed only by `finish`"]
pub struct TreeWriter {
    shared: Arc<Shared>,
    restored_folders: Mutex<Vec<(Vec<u8>, Meta)>>,
    /// The first restored member of each hard-link group.
    groups: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    links: Mutex<Vec<Link>>,
    sockets: AtomicU64,
    devices: AtomicU64,
    sync: bool,
}

struct Link {
    first: Vec<u8>,
    rel: Vec<u8>,
}

/// What files under way need of the writer.
pub(crate) struct Shared {
    folders: Folders,
    applier: Applier,
    overwrite: bool,
    temporary: AtomicU64,
}

/// What became of an entry.
#[derive(Debug)]
#[must_use]
#[expect(clippy::large_enum_variant, reason = "taken apart at once; a box would cost every small file an allocation")]
pub enum Placed {
    /// It is there, but for what waits for the end.
    Done,
    /// It is another name of a file that was placed before; [`TreeWriter::finish`] links it. Its content is not wanted.
    Linked,
    /// It is skipped, with a note.
    Skipped,
    /// A regular file that waits for its content.
    File(NewFile),
}

/// What [`TreeWriter::finish`] found.
#[derive(Debug, Default)]
pub struct WriteReport {
    /// Paths relative to the target, and why they are not as they should be.
    pub failed: Vec<(Vec<u8>, WriteError)>,
    /// What could not be restored here by its nature (owners without root, sockets, …), each kind once.
    pub notes: Vec<String>,
}

impl TreeWriter {
    /// A writer beneath `target`, which is made when it is missing (with mode 0700, until an entry says otherwise).
    ///
    /// # Errors
    /// When `target` is no folder or cannot be made.
    pub fn new(target: &Path, options: WriteOptions) -> Result<Self, WriteError> {
        let folders = Folders::open(target)?;
        let applier = Applier::new(options.owner, Owners::of_host());
        let shared = Shared { folders, applier, overwrite: options.overwrite, temporary: AtomicU64::new(0) };
        Ok(Self {
            shared: Arc::new(shared),
            restored_folders: Mutex::default(),
            groups: Mutex::default(),
            links: Mutex::default(),
            sockets: AtomicU64::new(0),
            devices: AtomicU64::new(0),
            sync: options.sync,
        })
    }

    /// Restores `entry` as `rel` beneath the target (the empty path is the target itself).
    ///
    /// # Errors
    /// [`WriteError`], which concerns this entry only.
    pub fn place(&self, rel: &[u8], entry: &Entry) -> Result<Placed, WriteError> {
        if entry.kind == EntryKind::Dir {
            return self.folder(rel, entry).map(|()| Placed::Done);
        }
        check_path(rel).map_err(|_| WriteError::Outside)?;
        if let Some(group) = &entry.link_group
            && let Some(first) = lock(&self.groups).get(group)
        {
            lock(&self.links).push(Link { first: first.clone(), rel: rel.to_vec() });
            return Ok(Placed::Linked);
        }
        let placed = self.place_content(rel, entry)?;
        if let Some(group) = &entry.link_group
            && !matches!(placed, Placed::Skipped)
        {
            lock(&self.groups).insert(group.clone(), rel.to_vec());
        }
        Ok(placed)
    }

    fn place_content(&self, rel: &[u8], entry: &Entry) -> Result<Placed, WriteError> {
        let skip = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Placed::Skipped)
        };
        match entry.kind {
            EntryKind::File | EntryKind::Dir => return NewFile::create(&self.shared, rel, entry).map(Placed::File),
            EntryKind::Socket => return skip(&self.sockets),
            EntryKind::Char | EntryKind::Block if !self.shared.applier.is_root() => return skip(&self.devices),
            EntryKind::Symlink => self.symlink(rel, entry)?,
            EntryKind::Fifo => self.node(rel, entry, FileType::Fifo, 0)?,
            EntryKind::Char => self.node(rel, entry, FileType::CharacterDevice, device(entry)?)?,
            EntryKind::Block => self.node(rel, entry, FileType::BlockDevice, device(entry)?)?,
        }
        Ok(Placed::Done)
    }

    fn folder(&self, rel: &[u8], entry: &Entry) -> Result<(), WriteError> {
        let home = if rel.is_empty() {
            self.shared.folders.root()
        } else {
            check_path(rel).map_err(|_| WriteError::Outside)?;
            let (parent, name) = split(rel);
            let home = self.shared.folders.get(parent)?;
            self.shared.folders.make(&home, rel, name, MakeFolder::Entry { replace: self.shared.overwrite })?
        };
        self.shared.applier.make_writable(&home);
        lock(&self.restored_folders).push((rel.to_vec(), Meta::of(entry)));
        Ok(())
    }

    fn symlink(&self, rel: &[u8], entry: &Entry) -> Result<(), WriteError> {
        let target = entry.target.as_ref().ok_or(WriteError::Lacks { what: "link target" })?;
        self.shared.make_and_describe(rel, entry, |home, name| symlinkat(target, &home.fd, name))
    }

    fn node(&self, rel: &[u8], entry: &Entry, kind: FileType, device: u64) -> Result<(), WriteError> {
        let private = Mode::RUSR | Mode::WUSR;
        self.shared.make_and_describe(rel, entry, |home, name| mknodat(&home.fd, name, kind, private, device))
    }

    /// Links what is another name of a file placed before, and gives folders their metadata. Every [`NewFile`] must
    /// have been finished or dropped.
    pub fn finish(self) -> WriteReport {
        let mut report = WriteReport::default();
        for link in std::mem::take(&mut *lock(&self.links)) {
            if let Err(error) = self.shared.link(&link) {
                report.failed.push((link.rel, error));
            }
        }
        let mut folders = std::mem::take(&mut *lock(&self.restored_folders));
        folders.sort_by(|a, b| compare_paths(&b.0, &a.0));
        for (rel, meta) in &folders {
            self.shared.folders.described(rel);
            if let Err(error) = self.shared.finish_folder(rel, meta) {
                report.failed.push((rel.clone(), error));
            }
        }
        report.failed.extend(self.shared.folders.open_to_all());
        if self.sync
            && let Err(error) = syncfs(&self.shared.folders.root().fd).map_err(WriteError::io("write to the disk"))
        {
            report.failed.push((Vec::new(), error));
        }
        report.notes = self.notes();
        report
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.shared.applier.notes();
        let mut count = |count: &AtomicU64, what: &str| match count.load(Ordering::Relaxed) {
            0 => {}
            n => notes.push(format!("{n} {what}")),
        };
        count(&self.sockets, "sockets were not restored: the program that listens makes its own");
        count(&self.devices, "devices were not restored: that needs root");
        notes
    }
}

impl Shared {
    /// Makes something that is no regular file, and gives it its metadata before it gets its name.
    fn make_and_describe(&self, rel: &[u8], entry: &Entry, make: impl Fn(&Home, &[u8]) -> Result<(), Errno>) -> Result<(), WriteError> {
        let describe = |home: &Home, name: &[u8]| {
            let place = Place::node(&home.fd, name, entry.kind)?;
            self.applier.apply(&place, &Meta::of(entry), !home.plain)
        };
        self.publish(rel, make, describe)
    }

    /// Makes something under its own name where the folder is new, else under a temporary one that is then renamed.
    fn publish(
        &self,
        rel: &[u8],
        make: impl Fn(&Home, &[u8]) -> Result<(), Errno>,
        describe: impl Fn(&Home, &[u8]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let (parent, name) = split(rel);
        let home = self.folders.get(parent)?;
        if home.new {
            match make(&home, name) {
                Ok(()) => return describe(&home, name).inspect_err(|_| home.remove(name)),
                Err(Errno::EXIST) if self.overwrite => {}
                Err(errno) => return Err(exists_or("make it")(errno)),
            }
        }
        home.check_vacant(name, self.overwrite)?;
        let temporary = self.temporary_name(|name| make(&home, name)).map_err(WriteError::io("make it"))?.0;
        let described = describe(&home, &temporary);
        let published = described.and_then(|()| home.rename(&temporary, name, self.overwrite));
        // Renaming one name of a file over another does nothing: the temporary name would stay.
        home.remove(&temporary);
        published
    }

    /// Calls `make` with temporary names until one is free.
    fn temporary_name<T>(&self, make: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(Vec<u8>, T), Errno> {
        loop {
            let number = self.temporary.fetch_add(1, Ordering::Relaxed);
            let name = format!(".havun-restore-{}-{number}", std::process::id()).into_bytes();
            match make(&name) {
                Ok(made) => return Ok((name, made)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn link(&self, link: &Link) -> Result<(), WriteError> {
        let (parent, first) = split(&link.first);
        let from = self.folders.get(parent)?;
        let make = |home: &Home, name: &[u8]| linkat(&from.fd, first, &home.fd, name, rustix::fs::AtFlags::empty());
        self.publish(&link.rel, make, |_, _| Ok(()))
    }

    fn finish_folder(&self, rel: &[u8], meta: &Meta) -> Result<(), WriteError> {
        let home = self.folders.get(rel)?;
        self.applier.apply(&Place::Open(&home.fd), meta, !home.new)
    }
}

fn device(entry: &Entry) -> Result<u64, WriteError> {
    let (major, minor) = entry.rdev.ok_or(WriteError::Lacks { what: "device number" })?;
    Ok(makedev(major, minor))
}

fn exists_or(doing: &'static str) -> impl FnOnce(Errno) -> WriteError {
    move |errno| if errno == Errno::EXIST { WriteError::Exists } else { WriteError::io(doing)(errno) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For messages.
fn shown(path: &[u8]) -> String {
    escape(path).into_owned()
}

#[cfg(test)]
mod tests;
