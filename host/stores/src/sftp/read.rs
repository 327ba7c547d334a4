//! Reading: every request for a range is sent at once, as many bytes as may be under way.

use super::{
    failure::{Failure, Said},
    link::{Kind, Link, Request, Seen},
    shared::Shared,
};
use havun_vault::store::{ObjectName, StoreError};
use russh_sftp::protocol::OpenFlags;
use sha2::{Digest as _, Sha256};
use std::{collections::VecDeque, sync::Arc};

/// Asked for and not yet here, at most, on one connection.
const FLIGHT_BYTES: u64 = 8 << 20;

/// What reading an open file came to.
pub(super) enum ReadError {
    /// The file ends first.
    Short,
    Failed(Failure),
}

impl ReadError {
    pub fn at(self, name: &str, end: u64, what: &str) -> StoreError {
        match self {
            Self::Short => StoreError::Short { name: name.to_owned(), end },
            Self::Failed(failure) => failure.at(what),
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Hands the bytes of a range to `each`, in order.
pub(super) async fn read_range(
    link: &Arc<Link>,
    handle: &str,
    offset: u64,
    len: u64,
    mut each: impl FnMut(u64, Vec<u8>) + Send,
) -> Result<(), ReadError> {
    let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok()).ok_or(ReadError::Short)?;
    let mut waiting: VecDeque<(u64, u32, Request<Option<Vec<u8>>>)> = VecDeque::new();
    let (mut asked, mut got) = (offset, offset);
    while got < end {
        while asked < end && asked - got < FLIGHT_BYTES {
            let part = u32::try_from(end - asked).unwrap_or(u32::MAX).min(link.abilities.read_bytes);
            waiting.push_back((asked, part, link.read(handle, asked, part)));
            asked += u64::from(part);
        }
        let Some((at, part, request)) = waiting.pop_front() else { return Err(ReadError::Short) };
        let bytes = request.await?.filter(|bytes| !bytes.is_empty() && bytes.len() as u64 <= u64::from(part)).ok_or(ReadError::Short)?;
        let here = bytes.len() as u64;
        if here < u64::from(part) {
            // A short answer is allowed; the rest is asked for before what comes after it.
            let rest = part - u32::try_from(here).unwrap_or(part);
            waiting.push_front((at + here, rest, link.read(handle, at + here, rest)));
        }
        got += here;
        each(at, bytes);
    }
    Ok(())
}

/// SHA-256 of the first `len` bytes of an open file, read through the connection.
pub(super) async fn hash_back(link: &Arc<Link>, handle: &str, len: u64) -> Result<[u8; 32], ReadError> {
    let mut hasher = Sha256::new();
    read_range(link, handle, 0, len, |_, bytes| hasher.update(&bytes)).await?;
    Ok(hasher.finalize().into())
}

impl Shared {
    /// A file's size; `None` where there is none.
    pub async fn seen(&self, link: &Arc<Link>, path: &str) -> Result<Option<Seen>, StoreError> {
        self.turn();
        let seen = link.lstat(path).await.said(|| format!("looking at {path}"))?;
        seen.map(|seen| regular(path, seen)).transpose()
    }

    /// A whole file of at most `max` bytes in two turns; `None` where there is none.
    pub async fn read_file(&self, link: &Arc<Link>, path: &str, max: u64) -> Result<Option<Whole>, StoreError> {
        self.turn();
        let (seen, open) = (link.lstat(path), link.open(path, OpenFlags::READ));
        let (seen, open) = (seen.await.said(|| format!("looking at {path}"))?, open.await);
        let Some(seen) = seen else { return Ok(None) };
        if let Err(error) = regular(path, seen) {
            close_unseen(link, open);
            return Err(error);
        }
        if seen.size > max {
            close_unseen(link, open);
            return Ok(Some(Whole::TooLarge(seen.size)));
        }
        let handle = match open {
            Err(failure) if failure.is_missing() => return Ok(None),
            open => open.said(|| format!("opening {path}"))?,
        };
        self.turn();
        let mut bytes = Vec::with_capacity(usize::try_from(seen.size).unwrap_or(0));
        let read = read_range(link, &handle, 0, seen.size, |_, part| bytes.extend_from_slice(&part)).await;
        drop(link.close(&handle));
        read.map_err(|error| error.at(path, seen.size, &format!("reading {path}")))?;
        Ok(Some(Whole::Bytes(bytes)))
    }

    /// Sends a range of a file to `parts`.
    pub async fn stream_range(
        &self,
        path: String,
        name: ObjectName,
        offset: u64,
        len: u64,
        parts: std::sync::mpsc::Sender<(u64, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let ticket = self.ticket().await?;
        self.turn();
        let (seen, open) = (ticket.lstat(&path), ticket.open(&path, OpenFlags::READ));
        let (seen, open) = (seen.await.said(|| format!("looking at {path}"))?, open.await);
        let Some(seen) = seen else { return Err(StoreError::NotFound { name }) };
        if let Err(error) = regular(&path, seen) {
            close_unseen(&ticket, open);
            return Err(error);
        }
        let handle = match open {
            Err(failure) if failure.is_missing() => return Err(StoreError::NotFound { name }),
            open => open.said(|| format!("opening {path}"))?,
        };
        self.turn();
        let read = read_range(&ticket, &handle, offset, len, |at, bytes| drop(parts.send((at, bytes)))).await;
        drop(ticket.close(&handle));
        read.map_err(|error| error.at(name.as_str(), offset.saturating_add(len), &format!("reading {path}")))
    }
}

/// A file as it was read.
pub(super) enum Whole {
    Bytes(Vec<u8>),
    TooLarge(u64),
}

fn close_unseen(link: &Arc<Link>, open: Result<String, Failure>) {
    if let Ok(handle) = open {
        drop(link.close(&handle));
    }
}

/// Only a regular file is an object.
pub(super) fn regular(path: &str, seen: Seen) -> Result<Seen, StoreError> {
    if seen.kind == Kind::File {
        Ok(seen)
    } else {
        Err(StoreError::Io { path: path.into(), source: std::io::Error::other("not a regular file") })
    }
}
