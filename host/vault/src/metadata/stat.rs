//! The facts of one `statx`.

use crate::{
    entry::{EntryKind, Time},
    paths::link_hash,
};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, statx};
use std::{collections::HashMap, ffi::CStr, io, os::fd::AsFd, sync::Arc};

/// What `statx` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileStat {
    /// What it is.
    pub kind: EntryKind,
    /// The low twelve bits of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of the file.
    pub nlink: u32,
    /// Logical bytes of a regular file, else 0.
    pub size: u64,
    /// Blocks of 512 bytes that it occupies.
    pub blocks: u64,
    /// Last modification.
    pub mtime: Time,
    /// Last change of content or metadata.
    pub ctime: Time,
    /// Inode number.
    pub ino: u64,
    /// Major and minor number of the file system's device.
    pub dev: (u32, u32),
    /// Major and minor number of the device that it is.
    pub rdev: (u32, u32),
}

impl FileStat {
    /// Whether content and metadata are surely those of `before`: same file, size, mtime and ctime.
    pub fn is_still(&self, before: &Self) -> bool {
        (self.ino, self.dev, self.size, self.mtime, self.ctime) == (before.ino, before.dev, before.size, before.mtime, before.ctime)
    }

    /// Whether it occupies less than it holds: worth asking for its holes.
    pub fn may_have_holes(&self) -> bool {
        self.kind == EntryKind::File && self.blocks.saturating_mul(512) < self.size
    }

    fn from_statx(found: &Statx) -> Self {
        let kind = kind_of(FileType::from_raw_mode(u32::from(found.stx_mode)));
        Self {
            kind,
            mode: u32::from(found.stx_mode) & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            nlink: found.stx_nlink,
            size: if kind == EntryKind::File { found.stx_size } else { 0 },
            blocks: found.stx_blocks,
            mtime: time(&found.stx_mtime),
            ctime: time(&found.stx_ctime),
            ino: found.stx_ino,
            dev: (found.stx_dev_major, found.stx_dev_minor),
            rdev: (found.stx_rdev_major, found.stx_rdev_minor),
        }
    }
}

/// `stat` of `name` in `dir`, never following a symbolic link.
///
/// # Errors
/// As the kernel says.
pub fn stat_at(dir: impl AsFd, name: &CStr) -> io::Result<FileStat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(FileStat::from_statx(&statx(dir, name, flags, StatxFlags::BASIC_STATS)?))
}

/// `stat` of an open file.
///
/// # Errors
/// As the kernel says.
pub fn stat_of(file: impl AsFd) -> io::Result<FileStat> {
    Ok(FileStat::from_statx(&statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
}

fn kind_of(kind: FileType) -> EntryKind {
    match kind {
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::Char,
        FileType::BlockDevice => EntryKind::Block,
        FileType::Socket => EntryKind::Socket,
        _ => EntryKind::File,
    }
}

fn time(t: &StatxTimestamp) -> Time {
    Time { secs: t.tv_sec, nanos: t.tv_nsec }
}

/// Finds the hard links of a run: which path was the first to name each file.
#[derive(Debug, Default)]
pub struct LinkGroups {
    open: HashMap<(u64, (u32, u32)), Group>,
}

#[derive(Debug)]
struct Group {
    first: Arc<[u8]>,
    hash: u64,
    left: u32,
}

impl LinkGroups {
    /// The group of `path`, asked for in path order once for each path: its first path and that path's
    /// [`link_hash`]. `None` where the file has one name only, or is a folder.
    pub fn group(&mut self, path: &[u8], stat: &FileStat) -> Option<(Arc<[u8]>, u64)> {
        if stat.nlink < 2 || stat.kind == EntryKind::Dir {
            return None;
        }
        let key = (stat.ino, stat.dev);
        let group = self.open.entry(key).or_insert_with(|| Group { first: path.into(), hash: link_hash(path), left: stat.nlink });
        group.left = group.left.saturating_sub(1);
        let found = (Arc::clone(&group.first), group.hash);
        if group.left == 0 {
            // Every name has been seen: the number may not belong to another file later in the run.
            self.open.remove(&key);
        }
        Some(found)
    }
}
