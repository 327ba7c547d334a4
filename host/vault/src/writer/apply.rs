//! Giving a file, folder, link or device its owner, attributes, mode and time, in the order that keeps them.

use super::{WriteError, folders::Home};
use crate::{
    entry::{Entry, EntryKind, Time},
    metadata::{Owners, stat_of},
};
use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fchmod, fchown, flistxattr,
        fremovexattr, fsetxattr, futimens, listxattr, openat, removexattr, setxattr, utimensat,
    },
    io::Errno,
    process::geteuid,
};
use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

const ACL_PREFIX: &[u8] = b"system.posix_acl_";
const LIST_BYTES: usize = 64 << 10;

/// An entry's metadata without path and content.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    kind: EntryKind,
    mode: u32,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    mtime: Time,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    pub fn of(entry: &Entry) -> Self {
        Self {
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user.clone(),
            group: entry.group.clone(),
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        }
    }
}

/// What gets metadata: by its descriptor, and by way of `/proc` where that is only a place (`O_PATH`).
pub(super) enum Place<'f> {
    Open(&'f OwnedFd),
    Node(OwnedFd, String),
}

impl Place<'_> {
    /// What was just made in `folder`; refused when it is not of that kind any more.
    pub fn node(folder: &OwnedFd, name: &[u8], kind: EntryKind) -> Result<Self, WriteError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(folder, name, flags, Mode::empty()).map_err(WriteError::io("open what was just made"))?;
        let found = stat_of(&fd).map_err(|source| WriteError::Io { doing: "look at what was just made", source })?;
        if found.kind != kind {
            return Err(WriteError::Exists);
        }
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(Self::Node(fd, path))
    }

    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fchown(fd, uid, gid),
            Self::Node(fd, _) => chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Node(_, path) => chmod(path.as_str(), mode),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Node(_, path) => setxattr(path.as_str(), name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Node(_, path) => removexattr(path.as_str(), name),
        }
    }

    fn list_xattrs(&self, names: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => flistxattr(fd, names),
            Self::Node(_, path) => listxattr(path.as_str(), names),
        }
    }

    fn set_mtime(&self, mtime: Time) -> Result<(), Errno> {
        let last_modification = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) };
        let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification };
        match self {
            Self::Open(fd) => futimens(fd, &times),
            Self::Node(fd, _) => utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
        }
    }
}

/// Applies metadata, and counts what this process may not apply.
pub(super) struct Applier {
    owner: bool,
    root: bool,
    owners: &'static Owners,
    kept_owner: AtomicU64,
    dropped_bits: AtomicU64,
    refused_xattrs: AtomicU64,
}

impl Applier {
    pub fn new(owner: bool, owners: &'static Owners) -> Self {
        let zero = || AtomicU64::new(0);
        Self { owner, root: geteuid().is_root(), owners, kept_owner: zero(), dropped_bits: zero(), refused_xattrs: zero() }
    }

    pub fn is_root(&self) -> bool {
        self.root
    }

    /// Lets this process write into a folder that its owner may not write to; [`Applier::apply`] undoes it.
    pub fn make_writable(&self, home: &Home) {
        if self.root || home.new {
            return;
        }
        if let Ok(found) = stat_of(&home.fd)
            && found.mode & 0o700 != 0o700
        {
            // Where it fails the folder is another's, and writing into it will say so.
            let _not_ours = fchmod(&home.fd, Mode::from_raw_mode(found.mode | 0o700));
        }
    }

    /// Gives `place` its metadata; `foreign` when it may hold attributes that are not the entry's (it was there
    /// before, or inherited them).
    pub fn apply(&self, place: &Place<'_>, meta: &Meta, foreign: bool) -> Result<(), WriteError> {
        let (owner_set, group_set) = self.set_owner(place, meta)?;
        if foreign {
            self.remove_foreign_xattrs(place, meta)?;
        }
        self.set_xattrs(place, meta, false)?;
        if meta.kind != EntryKind::Symlink {
            let mode = self.safe_mode(meta, owner_set, group_set);
            place.chmod(Mode::from_raw_mode(mode)).map_err(WriteError::io("set the mode"))?;
        }
        self.set_xattrs(place, meta, true)?;
        place.set_mtime(meta.mtime).map_err(WriteError::io("set the modification time"))
    }

    /// Whether owner and group are now those of the entry.
    fn set_owner(&self, place: &Place<'_>, meta: &Meta) -> Result<(bool, bool), WriteError> {
        if !self.owner {
            return Ok((false, false));
        }
        let by_name = |name: &str, find: fn(&Owners, &str) -> Option<u32>| if name.is_empty() { None } else { find(self.owners, name) };
        let uid = Uid::from_raw(by_name(&meta.user, Owners::uid).unwrap_or(meta.uid));
        let gid = Gid::from_raw(by_name(&meta.group, Owners::gid).unwrap_or(meta.gid));
        match place.chown(Some(uid), Some(gid)) {
            Ok(()) => return Ok((true, true)),
            // A number outside this user namespace is as foreign as one that needs root.
            Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(WriteError::io("set the owner")(errno)),
        }
        self.kept_owner.fetch_add(1, Ordering::Relaxed);
        let group_set = place.chown(None, Some(gid)).is_ok();
        Ok((place.chown(Some(uid), None).is_ok(), group_set))
    }

    /// The mode without setuid or setgid bits that would lend the rights of another than the entry's owner.
    fn safe_mode(&self, meta: &Meta, owner_set: bool, group_set: bool) -> u32 {
        let mut mode = meta.mode;
        if meta.kind != EntryKind::Dir {
            if !owner_set {
                mode &= !0o4000;
            }
            if !group_set {
                mode &= !0o2000;
            }
        }
        if mode != meta.mode {
            self.dropped_bits.fetch_add(1, Ordering::Relaxed);
        }
        mode
    }

    fn set_xattrs(&self, place: &Place<'_>, meta: &Meta, acls: bool) -> Result<(), WriteError> {
        for (name, value) in meta.xattrs.iter().filter(|(name, _)| name.starts_with(ACL_PREFIX) == acls) {
            match place.set_xattr(name, value) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => drop(self.refused_xattrs.fetch_add(1, Ordering::Relaxed)),
                Err(errno) => return Err(WriteError::io("set an extended attribute")(errno)),
            }
        }
        Ok(())
    }

    fn remove_foreign_xattrs(&self, place: &Place<'_>, meta: &Meta) -> Result<(), WriteError> {
        let mut names = vec![0; LIST_BYTES];
        let len = match place.list_xattrs(&mut names) {
            Ok(len) => len,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(WriteError::io("list the extended attributes")(errno)),
        };
        let listed = names.get(..len).unwrap_or_default();
        for name in listed.split(|b| *b == 0).filter(|n| !n.is_empty() && !meta.xattrs.contains_key(*n)) {
            match place.remove_xattr(name) {
                // What the system keeps for itself (labels and the like) stays.
                Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(WriteError::io("remove an extended attribute")(errno)),
            }
        }
        Ok(())
    }

    pub fn notes(&self) -> Vec<String> {
        let note = |count: &AtomicU64, what: &str| match count.load(Ordering::Relaxed) {
            0 => None,
            n => Some(format!("{n} {what}")),
        };
        let notes = [
            note(&self.kept_owner, "entries could not be given their owner or group: that needs root"),
            note(&self.dropped_bits, "files lost a setuid or setgid bit, because they do not have their owner or group"),
            note(&self.refused_xattrs, "extended attributes were refused by the file system or need root"),
        ];
        notes.into_iter().flatten().collect()
    }
}
