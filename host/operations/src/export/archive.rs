//! The bytes of a `tar` archive in the POSIX (PAX) format.
//!
//! Headers are `ustar`; what does not fit (long names, nanoseconds, sizes over 8 GiB, extended attributes) goes into
//! PAX records. Names that are not UTF-8 are kept as they are: short ones in the header, where every `tar` takes them
//! as bytes; long ones in a record, after `hdrcharset=BINARY` as POSIX has it.

use havun_vault::{Entry, EntryKind};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    io::{self, Write},
};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// Bytes of the name field of a `ustar` header.
const NAME: usize = 100;
/// Largest size that a `ustar` header holds in octal.
const LARGEST: u64 = 0o77_777_777_777;

/// An archive that is being written.
pub(super) struct Archive<W: Write> {
    out: W,
    /// Bytes of content since the last header.
    content: u64,
    /// Of each hard-link group the member that is in the archive as a file.
    first: HashMap<Vec<u8>, Vec<u8>>,
}

/// What is still to come for an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Append {
    /// It is not for an archive (a socket).
    Nothing,
    /// It is complete.
    Whole,
    /// [`Archive::header`], its content, [`Archive::pad`].
    Content,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Self { out, content: 0, first: HashMap::new() }
    }

    /// A small file of our own.
    pub fn file(&mut self, name: &str, bytes: &[u8], at: Timestamp) -> io::Result<()> {
        let mut header = Header::new_ustar();
        if let Some(fields) = header.as_ustar_mut() {
            copy(&mut fields.name, name.as_bytes());
        }
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(at.as_second().unsigned_abs());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.content = 0;
        self.write_all(bytes)?;
        self.pad()
    }

    /// Everything of an entry that has no content; `Content` where there is some.
    pub fn begin(&mut self, entry: &Entry) -> io::Result<Append> {
        if entry.kind == EntryKind::Socket {
            return Ok(Append::Nothing);
        }
        let linked = self.link_of(entry).is_some();
        if entry.kind == EntryKind::File && !linked {
            return Ok(Append::Content);
        }
        self.header(entry)?;
        Ok(Append::Whole)
    }

    /// The header of an entry, and its PAX records.
    pub fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let link = self.link_of(entry);
        if let Some(group) = entry.link_group.as_ref().filter(|_| link.is_none()) {
            self.first.insert(group.clone(), entry.path.clone());
        }
        let mut name = entry.path.clone();
        if entry.kind == EntryKind::Dir {
            name.push(b'/');
        }
        let size = if entry.kind == EntryKind::File && link.is_none() { entry.size } else { 0 };
        let target = link.as_deref().or(entry.target.as_deref()).unwrap_or_default();
        let records = records(entry, &name, target, size);
        if !records.is_empty() {
            self.records(&records)?;
        }
        let mut header = Header::new_ustar();
        if let Some(fields) = header.as_ustar_mut() {
            copy(&mut fields.name, &name);
            copy(&mut fields.linkname, target);
            copy(&mut fields.uname, entry.user.as_bytes());
            copy(&mut fields.gname, entry.group.as_bytes());
        }
        header.set_entry_type(kind(entry.kind, link.is_some()));
        header.set_mode(entry.mode);
        header.set_uid(u64::from(entry.uid));
        header.set_gid(u64::from(entry.gid));
        header.set_mtime(u64::try_from(entry.mtime.secs).unwrap_or(0));
        header.set_size(size);
        if let Some((major, minor)) = entry.rdev {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.content = 0;
        Ok(())
    }

    /// Fills the last block of a content.
    pub fn pad(&mut self) -> io::Result<()> {
        let rest = self.content % BLOCK;
        self.content = 0;
        let zeros = [0; BLOCK as usize];
        let missing = usize::try_from((BLOCK - rest) % BLOCK).unwrap_or(0);
        self.out.write_all(zeros.get(..missing).unwrap_or_default())
    }

    /// The end mark.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.out)
    }

    /// The path of the file that an entry is another name of, when that is in the archive.
    fn link_of(&self, entry: &Entry) -> Option<Vec<u8>> {
        let group = entry.link_group.as_ref().filter(|_| entry.kind == EntryKind::File)?;
        self.first.get(group).cloned()
    }

    fn records(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        if let Some(fields) = header.as_ustar_mut() {
            copy(&mut fields.name, b"././@PaxHeader");
        }
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.content = 0;
        self.write_all(records)?;
        self.pad()
    }
}

impl<W: Write> Write for Archive<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.content += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn kind(kind: EntryKind, linked: bool) -> EntryType {
    match kind {
        EntryKind::File if linked => EntryType::Link,
        EntryKind::File | EntryKind::Socket => EntryType::Regular,
        EntryKind::Dir => EntryType::Directory,
        EntryKind::Symlink => EntryType::Symlink,
        EntryKind::Fifo => EntryType::Fifo,
        EntryKind::Char => EntryType::Char,
        EntryKind::Block => EntryType::Block,
    }
}

/// What the header has no room for.
fn records(entry: &Entry, name: &[u8], target: &[u8], size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let is_text = |text: &[u8]| std::str::from_utf8(text).is_ok();
    let long = |text: &[u8]| text.len() > NAME || (!text.is_ascii() && is_text(text));
    let binary = [name, target].iter().any(|text| long(text) && !is_text(text));
    if binary {
        record(&mut out, b"hdrcharset", b"BINARY");
    }
    if long(name) {
        record(&mut out, b"path", name);
    }
    if long(target) {
        record(&mut out, b"linkpath", target);
    }
    if size > LARGEST {
        record(&mut out, b"size", size.to_string().as_bytes());
    }
    if entry.mtime.nanos != 0 || entry.mtime.secs < 0 {
        record(&mut out, b"mtime", decimal_time(entry).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        let mut key = b"SCHILY.xattr.".to_vec();
        key.extend_from_slice(name);
        record(&mut out, &key, value);
    }
    out
}

/// Seconds with nine decimals; before 1970 the whole number is negative.
fn decimal_time(entry: &Entry) -> String {
    let nanos = i128::from(entry.mtime.secs) * 1_000_000_000 + i128::from(entry.mtime.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// As much of `text` as fits, the rest zero.
fn copy(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        let mut out = Vec::new();
        record(&mut out, b"path", &[b'x'; 91]);
        assert_eq!(out.len().to_string().as_bytes(), &out[..3]);
        let mut out = Vec::new();
        record(&mut out, b"a", b"b");
        assert_eq!(out, b"6 a=b\n");
    }

    #[test]
    fn times_before_1970_keep_their_sign() {
        let mut entry = Entry::default();
        (entry.mtime.secs, entry.mtime.nanos) = (-1, 500_000_000);
        assert_eq!(decimal_time(&entry), "-0.500000000");
    }
}
