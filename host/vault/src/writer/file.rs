//! A regular file under way.

use super::{
    Shared, WriteError,
    apply::{Meta, Place},
    exists_or,
    folders::{Home, split},
};
use crate::entry::Entry;
use rustix::{
    fs::{Mode, OFlags, ftruncate, openat},
    io::{Errno, pwrite},
};
use std::{
    fmt,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A regular file that waits for its content, which may come in any order and from several threads. Dropped without
/// [`NewFile::finish`], it leaves no trace.
#[must_use = "a file is there only after `finish`"]
pub struct NewFile {
    shared: Arc<Shared>,
    home: Arc<Home>,
    fd: OwnedFd,
    /// The name that it has now: a temporary one, or its own.
    current: Vec<u8>,
    name: Vec<u8>,
    meta: Meta,
    size: u64,
    expected: u64,
    written: AtomicU64,
    /// Of a sparse file: where each data range begins in the stored content, and in the file.
    ranges: Option<Vec<Range>>,
    published: bool,
}

struct Range {
    stored: u64,
    at: u64,
    len: u64,
}

impl fmt::Debug for NewFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewFile").field("name", &super::shown(&self.name)).field("size", &self.size).finish_non_exhaustive()
    }
}

impl NewFile {
    pub(super) fn create(shared: &Arc<Shared>, rel: &[u8], entry: &Entry) -> Result<Self, WriteError> {
        let (parent, name) = split(rel);
        let home = shared.folders.get(parent)?;
        let (current, fd) = shared.create_file(&home, name)?;
        Ok(Self {
            shared: Arc::clone(shared),
            home,
            fd,
            current,
            name: name.to_vec(),
            meta: Meta::of(entry),
            size: entry.size,
            expected: entry.stored_size(),
            written: AtomicU64::new(0),
            ranges: entry.sparse.as_deref().map(ranges),
            published: false,
        })
    }

    /// Writes a part of the stored content: `offset` counts in what the chunks hold together (in a sparse file, the
    /// data without the holes). Each byte must be written once.
    ///
    /// # Errors
    /// When it lies outside, or the disk fails.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let len = bytes.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.expected) {
            return Err(WriteError::Incomplete { written: offset.saturating_add(len), expected: self.expected });
        }
        match &self.ranges {
            None => self.write_all(offset, bytes)?,
            Some(ranges) => self.write_ranges(ranges, offset, bytes)?,
        }
        self.written.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn write_ranges(&self, ranges: &[Range], mut offset: u64, mut bytes: &[u8]) -> Result<(), WriteError> {
        let first = ranges.partition_point(|r| r.stored + r.len <= offset);
        for range in ranges.iter().skip(first) {
            let skipped = offset - range.stored;
            let here = bytes.len().min(usize::try_from(range.len - skipped).unwrap_or(usize::MAX));
            let (part, rest) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
            self.write_all(range.at + skipped, part)?;
            if rest.is_empty() {
                break;
            }
            offset += here as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn write_all(&self, mut at: u64, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            match pwrite(&self.fd, bytes, at) {
                Ok(0) => return Err(WriteError::io("write the content")(Errno::IO)),
                Ok(n) => {
                    at += n as u64;
                    bytes = bytes.get(n..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(WriteError::io("write the content")(errno)),
            }
        }
        Ok(())
    }

    /// Gives the file its metadata and its name.
    ///
    /// # Errors
    /// When content is missing, or the operating system refuses; the file is then gone, and what lay there before
    /// still does.
    pub fn finish(mut self) -> Result<(), WriteError> {
        let written = self.written.load(Ordering::Relaxed);
        if written != self.expected {
            return Err(WriteError::Incomplete { written, expected: self.expected });
        }
        if self.ranges.is_some() {
            ftruncate(&self.fd, self.size).map_err(WriteError::io("set the size"))?;
        }
        self.shared.applier.apply(&Place::Open(&self.fd), &self.meta, !self.home.plain)?;
        if self.current != self.name {
            self.home.rename(&self.current, &self.name, self.shared.overwrite)?;
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            self.home.remove(&self.current);
        }
    }
}

impl Shared {
    /// A new file in `home` for `name`: under that name in a new folder, else under a temporary one.
    fn create_file(&self, home: &Home, name: &[u8]) -> Result<(Vec<u8>, OwnedFd), WriteError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = |name: &[u8]| openat(&home.fd, name, flags, Mode::RUSR | Mode::WUSR);
        if home.new {
            match create(name) {
                Ok(fd) => return Ok((name.to_vec(), fd)),
                Err(Errno::EXIST) if self.overwrite => {}
                Err(errno) => return Err(exists_or("make the file")(errno)),
            }
        }
        home.check_vacant(name, self.overwrite)?;
        self.temporary_name(create).map_err(WriteError::io("make the file"))
    }
}

fn ranges(sparse: &[(u64, u64)]) -> Vec<Range> {
    let mut stored = 0;
    let mut ranges = Vec::with_capacity(sparse.len());
    for (at, len) in sparse.iter().filter(|(_, len)| *len > 0) {
        ranges.push(Range { stored, at: *at, len: *len });
        stored += len;
    }
    ranges
}
