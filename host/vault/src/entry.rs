//! One entry of the manifest: a file, folder, link or device with all its metadata, as a line of JSON.
//!
//! Lines are written by hand, always in the same key order, so that equal entries have equal bytes; they are read
//! with serde, unknown keys ignored, and checked: a parsed path never leaves the folder that it is resolved in.

use crate::paths::{PathError, check_path, escape, unescape};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use havun_model::{ChunkId, Digest};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap, io::Write as _};

/// A line that is no manifest entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Not JSON, or a key has the wrong shape.
    #[error("it is no JSON entry")]
    Json(#[from] serde_json::Error),
    /// A path, link target or attribute name is not acceptable.
    #[error("its {key} is not acceptable")]
    Path {
        /// The key.
        key: &'static str,
        /// Why not.
        source: PathError,
    },
    /// A value is out of bounds.
    #[error("its {key} is out of bounds")]
    Bounds {
        /// The key.
        key: &'static str,
    },
}

/// A moment in seconds and nanoseconds since 1970; before 1970 the seconds are negative, the nanoseconds never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    #[default]
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A socket: listed, never restored.
    Socket,
}

impl EntryKind {
    /// The word in the manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Char => "char",
            Self::Block => "block",
            Self::Socket => "socket",
        }
    }
}

/// One entry of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Raw bytes, `/`-separated, relative: `tree/public/index.php`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The plan's item that it belongs to; empty for none.
    pub item: String,
    /// Logical bytes of a regular file, holes counted; 0 for everything else.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky: the low twelve bits of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name where the host knew one.
    pub user: String,
    /// The group's name where the host knew one.
    pub group: String,
    /// Last modification.
    pub mtime: Time,
    /// Text of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Major and minor number of a device.
    pub rdev: Option<(u32, u32)>,
    /// Of a file with several names: the first of them in path order (perhaps this one).
    pub link_group: Option<Vec<u8>>,
    /// Extended attributes; POSIX ACLs are among them as `system.posix_acl_access` and `…_default`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offset and length of each range that holds data, ascending, when the file has holes. The chunks then hold
    /// these ranges one after the other.
    pub sparse: Option<Vec<(u64, u64)>>,
    /// The content, in order.
    pub chunks: Vec<ChunkId>,
    /// Over the stored content, when there are several chunks.
    pub sha256: Option<Digest>,
    /// The file changed while it was read, and would not hold still.
    pub torn: bool,
}

impl Entry {
    /// Bytes that the chunks hold together: the size, or the data ranges of a sparse file.
    pub fn stored_size(&self) -> u64 {
        match &self.sparse {
            Some(ranges) => ranges.iter().map(|(_, len)| len).sum(),
            None => self.size,
        }
    }

    /// The path for people and reports: its text form.
    pub fn display_path(&self) -> String {
        escape(&self.path).into_owned()
    }

    /// Appends the entry as one line of JSON with its line feed.
    pub fn to_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"path\":");
        push_bytes(out, &self.path);
        push_key(out, "type");
        push_text(out, self.kind.word());
        push_named(out, "item", &self.item);
        if self.kind == EntryKind::File {
            push_number(out, "size", self.size);
        }
        push_format(out, format_args!(",\"mode\":\"{:04o}\",\"uid\":{},\"gid\":{}", self.mode, self.uid, self.gid));
        push_named(out, "user", &self.user);
        push_named(out, "group", &self.group);
        push_format(out, format_args!(",\"mtime\":[{},{}]", self.mtime.secs, self.mtime.nanos));
        self.push_rare(out);
        self.push_content(out);
        out.extend_from_slice(b"}\n");
    }

    fn push_rare(&self, out: &mut Vec<u8>) {
        if let Some(target) = &self.target {
            push_key(out, "target");
            push_bytes(out, target);
        }
        if let Some((major, minor)) = self.rdev {
            push_format(out, format_args!(",\"rdev\":[{major},{minor}]"));
        }
        if let Some(first) = &self.link_group {
            push_key(out, "link_group");
            push_bytes(out, first);
        }
        if !self.xattrs.is_empty() {
            push_key(out, "xattrs");
            push_list(out, (b'{', b'}'), &self.xattrs, |out, (name, value)| {
                push_bytes(out, name);
                out.push(b':');
                push_text(out, &STANDARD.encode(value));
            });
        }
        if let Some(ranges) = &self.sparse {
            push_key(out, "sparse");
            push_list(out, (b'[', b']'), ranges, |out, (at, len)| push_format(out, format_args!("[{at},{len}]")));
        }
    }

    fn push_content(&self, out: &mut Vec<u8>) {
        if !self.chunks.is_empty() {
            push_key(out, "chunks");
            push_list(out, (b'[', b']'), &self.chunks, |out, id| push_hex(out, id.as_bytes()));
        }
        if let Some(digest) = &self.sha256 {
            push_key(out, "sha256");
            push_hex(out, digest.as_bytes());
        }
        if self.torn {
            out.extend_from_slice(b",\"torn\":true");
        }
    }

    /// Reads a line, with or without its line feed.
    ///
    /// # Errors
    /// [`EntryError`] says what is wrong; no input panics.
    pub fn from_line(line: &[u8]) -> Result<Self, EntryError> {
        let line: Line<'_> = serde_json::from_slice(line)?;
        line.into_entry()
    }
}

/// A line as serde sees it; what needs a check is still text.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: EntryKind,
    #[serde(default)]
    item: String,
    #[serde(default)]
    size: u64,
    #[serde(borrow)]
    mode: Cow<'a, str>,
    uid: u32,
    gid: u32,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    mtime: (i64, u32),
    #[serde(default, borrow)]
    target: Option<Cow<'a, str>>,
    #[serde(default)]
    rdev: Option<(u32, u32)>,
    #[serde(default, borrow)]
    link_group: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    xattrs: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(default)]
    sparse: Option<Vec<(u64, u64)>>,
    #[serde(default)]
    chunks: Vec<ChunkId>,
    #[serde(default)]
    sha256: Option<Digest>,
    #[serde(default)]
    torn: bool,
}

impl Line<'_> {
    fn into_entry(self) -> Result<Entry, EntryError> {
        let link_group = self.link_group.as_deref().map(|text| checked_path(text, "link_group")).transpose()?;
        check_sparse(self.sparse.as_deref(), self.size)?;
        Ok(Entry {
            path: checked_path(&self.path, "path")?,
            kind: self.kind,
            item: self.item,
            size: self.size,
            mode: parse_mode(&self.mode)?,
            uid: self.uid,
            gid: self.gid,
            user: self.user,
            group: self.group,
            mtime: checked_time(self.mtime)?,
            target: self.target.as_deref().map(|text| checked_bytes(text, "target")).transpose()?,
            rdev: self.rdev,
            link_group,
            xattrs: self.xattrs.iter().map(|(name, value)| checked_xattr(name, value)).collect::<Result<_, _>>()?,
            sparse: self.sparse,
            chunks: self.chunks,
            sha256: self.sha256,
            torn: self.torn,
        })
    }
}

fn checked_path(text: &str, key: &'static str) -> Result<Vec<u8>, EntryError> {
    let path = unescape(text).map_err(|source| EntryError::Path { key, source })?;
    check_path(&path).map_err(|source| EntryError::Path { key, source })?;
    Ok(path)
}

/// Not empty and without a zero byte, as the kernel wants link texts and attribute names.
fn checked_bytes(text: &str, key: &'static str) -> Result<Vec<u8>, EntryError> {
    let bytes = unescape(text).map_err(|source| EntryError::Path { key, source })?;
    if bytes.is_empty() || bytes.contains(&0) { Err(EntryError::Bounds { key }) } else { Ok(bytes) }
}

fn checked_xattr(name: &str, value: &str) -> Result<(Vec<u8>, Vec<u8>), EntryError> {
    let value = STANDARD.decode(value).map_err(|_| EntryError::Bounds { key: "xattrs" })?;
    Ok((checked_bytes(name, "xattrs")?, value))
}

fn checked_time((secs, nanos): (i64, u32)) -> Result<Time, EntryError> {
    if nanos < 1_000_000_000 { Ok(Time { secs, nanos }) } else { Err(EntryError::Bounds { key: "mtime" }) }
}

fn parse_mode(text: &str) -> Result<u32, EntryError> {
    let mode = u32::from_str_radix(text, 8).map_err(|_| EntryError::Bounds { key: "mode" })?;
    if mode <= 0o7777 { Ok(mode) } else { Err(EntryError::Bounds { key: "mode" }) }
}

/// Ranges must ascend without touching backwards and stay within the file.
fn check_sparse(ranges: Option<&[(u64, u64)]>, size: u64) -> Result<(), EntryError> {
    let mut end = 0;
    for (at, len) in ranges.unwrap_or_default() {
        let next = at.checked_add(*len).filter(|next| *at >= end && *next <= size);
        end = next.ok_or(EntryError::Bounds { key: "sparse" })?;
    }
    Ok(())
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_number(out: &mut Vec<u8>, key: &str, number: u64) {
    push_key(out, key);
    push_format(out, format_args!("{number}"));
}

fn push_named(out: &mut Vec<u8>, key: &str, text: &str) {
    if !text.is_empty() {
        push_key(out, key);
        push_text(out, text);
    }
}

fn push_format(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let _writing_to_memory_cannot_fail = out.write_fmt(arguments);
}

/// The text form of `bytes` as a JSON string.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_text(out, &escape(bytes));
}

pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..0x20 => push_format(out, format_args!("\\u{byte:04x}")),
                _ => out.push(byte),
            }
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8; 32]) {
    let mut digits = [0; 64];
    let _sizes_agree = hex::encode_to_slice(bytes, &mut digits);
    out.push(b'"');
    out.extend_from_slice(&digits);
    out.push(b'"');
}

fn push_list<I: IntoIterator>(out: &mut Vec<u8>, (open, close): (u8, u8), items: I, mut push: impl FnMut(&mut Vec<u8>, I::Item)) {
    out.push(open);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(close);
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
