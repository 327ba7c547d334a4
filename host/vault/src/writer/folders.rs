//! The folders of the target: opened once, made where they are missing, never reached through a symbolic link.

use super::{WriteError, exists_or, lock, shown};
use crate::beneath::open_beneath;
use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, RenameFlags, fchmod, fgetxattr, fremovexattr, fstat, mkdirat, openat, renameat, renameat_with, statat,
        unlinkat,
    },
    io::Errno,
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex},
};

/// Folders kept open; then all are closed but those in use.
const OPEN_FOLDERS: usize = 128;
const DEFAULT_ACL: &str = "system.posix_acl_default";
const ACCESS_ACL: &str = "system.posix_acl_access";

/// An open folder of the target.
#[derive(Debug)]
pub(super) struct Home {
    pub fd: OwnedFd,
    /// Made by this restore: nothing can lie in it that it did not put there.
    pub new: bool,
    /// What is made in it inherits neither a group nor an access control list.
    pub plain: bool,
}

/// All folders of a restore.
pub(super) struct Folders {
    root: Arc<Home>,
    open: Mutex<HashMap<Vec<u8>, Arc<Home>>>,
    /// Made by this restore, and whether an entry describes them.
    made: Mutex<BTreeMap<Vec<u8>, bool>>,
}

/// For whom a folder is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MakeFolder {
    /// For an entry; it may take the place of something that is no folder.
    Entry { replace: bool },
    /// For something in it.
    OnTheWay,
}

impl Home {
    fn new(fd: OwnedFd, new: bool) -> Result<Self, WriteError> {
        let plain = new || !inherits(&fd).map_err(WriteError::io("look at the folder"))?;
        Ok(Self { fd, new, plain })
    }

    /// Refuses a name that is taken, unless it may be replaced.
    pub fn check_vacant(&self, name: &[u8], overwrite: bool) -> Result<(), WriteError> {
        if overwrite {
            return Ok(());
        }
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(WriteError::Exists),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(WriteError::io("look whether something lies there")(errno)),
        }
    }

    /// Gives what lies under a temporary name its own.
    pub fn rename(&self, from: &[u8], to: &[u8], overwrite: bool) -> Result<(), WriteError> {
        if !overwrite {
            return match renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
                // A file system without the flag: the name was free a moment ago.
                Err(Errno::INVAL | Errno::NOSYS) => self.check_vacant(to, false).and_then(|()| self.rename(from, to, true)),
                result => result.map_err(exists_or("give it its name")),
            };
        }
        let renamed = match renameat(&self.fd, from, &self.fd, to) {
            // An empty folder in the way can go, a full one cannot.
            Err(Errno::ISDIR) => unlinkat(&self.fd, to, AtFlags::REMOVEDIR).and_then(|()| renameat(&self.fd, from, &self.fd, to)),
            result => result,
        };
        renamed.map_err(WriteError::io("give it its name"))
    }

    /// Removes a temporary name, if it is there.
    pub fn remove(&self, name: &[u8]) {
        let _gone_already = unlinkat(&self.fd, name, AtFlags::empty());
    }
}

impl Folders {
    pub fn open(target: &Path) -> Result<Self, WriteError> {
        let failed = |source: io::Error| WriteError::Io { doing: "make the target folder", source };
        let new = make_target(target).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, target, flags, Mode::empty()).map_err(WriteError::io("open the target folder"))?;
        if new {
            disinherit(&fd).map_err(WriteError::io("prepare the target folder"))?;
        }
        let root = Arc::new(Home::new(fd, new)?);
        // The target's own mode is the operator's: it stays private unless an entry says otherwise.
        let made = Mutex::new(BTreeMap::from_iter(new.then(|| (Vec::new(), true))));
        Ok(Self { root, open: Mutex::default(), made })
    }

    pub fn root(&self) -> Arc<Home> {
        Arc::clone(&self.root)
    }

    /// The folder `rel`, made with those above it where they are missing.
    pub fn get(&self, rel: &[u8]) -> Result<Arc<Home>, WriteError> {
        if rel.is_empty() {
            return Ok(self.root());
        }
        if let Some(home) = lock(&self.open).get(rel) {
            return Ok(Arc::clone(home));
        }
        match open_beneath(&self.root.fd, rel, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => self.keep(rel, Home::new(fd, lock(&self.made).contains_key(rel))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, name) = split(rel);
                let parent = self.get(parent)?;
                self.make(&parent, rel, name, MakeFolder::OnTheWay)
            }
            Err(error) => Err(no_folder(rel, error)),
        }
    }

    /// Makes the folder `rel`, called `name` in `parent`, or joins it when it is there.
    pub fn make(&self, parent: &Home, rel: &[u8], name: &[u8], purpose: MakeFolder) -> Result<Arc<Home>, WriteError> {
        loop {
            let new = match mkdirat(&parent.fd, name, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(WriteError::io("make the folder")(errno)),
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&parent.fd, name, flags, Mode::empty()) {
                Ok(fd) => return self.adopt(rel, fd, new, parent.plain, purpose),
                Err(Errno::NOTDIR | Errno::LOOP) if purpose == (MakeFolder::Entry { replace: true }) => {
                    unlinkat(&parent.fd, name, AtFlags::empty()).map_err(WriteError::io("replace what lies there"))?;
                }
                Err(errno) => return Err(no_folder(rel, errno.into())),
            }
        }
    }

    fn adopt(&self, rel: &[u8], fd: OwnedFd, new: bool, plain: bool, purpose: MakeFolder) -> Result<Arc<Home>, WriteError> {
        if new && !plain {
            disinherit(&fd).map_err(WriteError::io("prepare the folder"))?;
        }
        let mut made = lock(&self.made);
        if new {
            made.insert(rel.to_vec(), purpose != MakeFolder::OnTheWay);
        }
        let new = new || made.contains_key(rel);
        drop(made);
        self.keep(rel, Home::new(fd, new)?)
    }

    fn keep(&self, rel: &[u8], home: Home) -> Result<Arc<Home>, WriteError> {
        let home = Arc::new(home);
        let mut open = lock(&self.open);
        if open.len() >= OPEN_FOLDERS {
            open.clear();
        }
        open.insert(rel.to_vec(), Arc::clone(&home));
        Ok(home)
    }

    /// Notes that an entry describes the folder.
    pub fn described(&self, rel: &[u8]) {
        if let Some(described) = lock(&self.made).get_mut(rel) {
            *described = true;
        }
    }

    /// Gives folders that were only made on the way the usual mode; returns those that could not be given it.
    pub fn open_to_all(&self) -> Vec<(Vec<u8>, WriteError)> {
        let made = std::mem::take(&mut *lock(&self.made));
        let usual = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        let mut failed = Vec::new();
        for (rel, _) in made.into_iter().filter(|(_, described)| !described) {
            let done = self.get(&rel).and_then(|home| fchmod(&home.fd, usual).map_err(WriteError::io("set the mode")));
            failed.extend(done.err().map(|error| (rel, error)));
        }
        failed
    }
}

/// The folder and the last component of a path.
pub(super) fn split(rel: &[u8]) -> (&[u8], &[u8]) {
    match rel.iter().rposition(|b| *b == b'/').and_then(|at| rel.split_at_checked(at)) {
        Some((parent, name)) => (parent, name.get(1..).unwrap_or_default()),
        None => (b"", rel),
    }
}

/// Whether the target did not exist.
fn make_target(target: &Path) -> io::Result<bool> {
    use std::os::unix::fs::DirBuilderExt as _;
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(target) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn no_folder(rel: &[u8], error: io::Error) -> WriteError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOTDIR | Errno::LOOP) => WriteError::NoFolder { folder: shown(rel) },
        _ => WriteError::Io { doing: "open the folder", source: error },
    }
}

/// Whether what is made in the folder takes on a group or an access control list from it.
fn inherits(fd: impl AsFd) -> Result<bool, Errno> {
    if Mode::from_raw_mode(fstat(&fd)?.st_mode).contains(Mode::SGID) {
        return Ok(true);
    }
    match fgetxattr(&fd, DEFAULT_ACL, &mut [0u8; 1][..]) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes from a folder that was just made what it inherited.
fn disinherit(fd: impl AsFd) -> Result<(), Errno> {
    for acl in [DEFAULT_ACL, ACCESS_ACL] {
        match fremovexattr(&fd, acl) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    fchmod(fd, Mode::RWXU)
}
