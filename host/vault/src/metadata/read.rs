//! Reading a file's metadata into an [`Entry`].

use super::{FileStat, Owners, stat_of};
use crate::{
    beneath::open_beneath,
    entry::{Entry, EntryKind},
};
use rustix::{
    fs::{Mode, OFlags, SeekFrom, fgetxattr, flistxattr, getxattr, listxattr, readlinkat, seek},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

/// More data ranges than this, and the smallest holes are stored as zeros.
const MAX_RANGES: usize = 4096;
/// Bytes that a list or value of extended attributes usually fits in; the kernel's bound is 64 KiB.
const XATTR_BYTES: usize = 1024;
const XATTR_MAX_BYTES: usize = 64 << 10;

/// A regular file, open for reading, and what it looked like after it was opened.
#[derive(Debug)]
pub struct OpenedFile {
    /// The file.
    pub file: File,
    /// Its stat.
    pub stat: FileStat,
}

/// Opens the regular file `rel` beneath `root`; never blocks on a pipe, never follows a link, and leaves the
/// access time alone where it may.
///
/// # Errors
/// As the kernel says; [`io::ErrorKind::InvalidInput`] when it is no regular file any more.
pub fn open_file(root: impl AsFd, rel: &[u8]) -> io::Result<OpenedFile> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = match open_beneath(&root, rel, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner (or root) may spare the access time.
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => open_beneath(&root, rel, flags, Mode::empty())?,
        other => other?,
    };
    let stat = stat_of(&opened)?;
    if stat.kind != EntryKind::File {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file any more"));
    }
    Ok(OpenedFile { file: File::from(opened), stat })
}

/// The entry of `rel` beneath `root`, which looked like `stat`: all metadata, no content. A regular file is given
/// opened. `path` is `rel`; `item`, `link_group`, `chunks`, `sha256` and `torn` are left to the caller.
///
/// # Errors
/// As the kernel says.
pub fn describe(root: impl AsFd, rel: &[u8], stat: &FileStat, opened: Option<&File>, owners: &Owners) -> io::Result<Entry> {
    let mut entry = Entry {
        path: rel.to_vec(),
        kind: stat.kind,
        size: stat.size,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        user: owners.user(stat.uid).to_owned(),
        group: owners.group(stat.gid).to_owned(),
        mtime: stat.mtime,
        ..Entry::default()
    };
    if matches!(stat.kind, EntryKind::Char | EntryKind::Block) {
        entry.rdev = Some(stat.rdev);
    }
    if let Some(file) = opened {
        entry.xattrs = xattrs_of(file)?;
        if stat.may_have_holes() {
            entry.sparse = data_ranges(file, stat.size)?;
        }
        return Ok(entry);
    }
    let place = open_beneath(root, rel, OFlags::PATH, Mode::empty())?;
    if stat.kind == EntryKind::Symlink {
        entry.target = Some(readlinkat(&place, c"", Vec::new())?.into_bytes());
    }
    entry.xattrs = xattrs_of_place(&place)?;
    Ok(entry)
}

/// Offset and length of each range of `file` that holds data, ascending; `None` where there is no hole (or the file
/// system does not say).
///
/// # Errors
/// As the kernel says.
pub fn data_ranges(file: &File, size: u64) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        if end <= start {
            break;
        }
        ranges.push((start, end - start));
        at = end;
    }
    seek(file, SeekFrom::Start(0))?;
    let whole = size == 0 || ranges.as_slice() == [(0, size)];
    Ok(if whole { None } else { Some(fewer(ranges)) })
}

/// Joins the ranges with the smallest holes between them until there are at most [`MAX_RANGES`].
fn fewer(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut gap = 64 << 10;
    while ranges.len() > MAX_RANGES {
        ranges.dedup_by(|next, before| {
            let joined = next.0 - (before.0 + before.1) < gap;
            if joined {
                before.1 = next.0 + next.1 - before.0;
            }
            joined
        });
        gap = gap.saturating_mul(2);
    }
    ranges
}

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

fn xattrs_of(file: &File) -> io::Result<Xattrs> {
    collect(|buf| flistxattr(file, buf), |name, buf| fgetxattr(file, name, buf))
}

/// Of anything, also of what cannot be opened: by way of `/proc`, which leads to the open place and not by its name.
fn xattrs_of_place(place: &OwnedFd) -> io::Result<Xattrs> {
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    collect(|buf| listxattr(path.as_str(), buf), |name, buf| getxattr(path.as_str(), name, buf))
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let names = match grow(&list) {
        Ok(names) => names,
        // No attributes on this file system, or none on symbolic links.
        Err(Errno::OPNOTSUPP | Errno::NODATA) => return Ok(Xattrs::new()),
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Xattrs::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        match grow(|buf| get(name, buf)) {
            Ok(value) => drop(xattrs.insert(name.to_vec(), value)),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(xattrs)
}

fn grow(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; XATTR_BYTES];
    match read(&mut small) {
        Ok(len) => return Ok(small.get(..len).unwrap_or_default().to_vec()),
        Err(Errno::RANGE | Errno::TOOBIG) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; XATTR_MAX_BYTES];
    let len = read(&mut large)?;
    large.truncate(len);
    Ok(large)
}
