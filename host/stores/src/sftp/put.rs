//! The way of an object to its name: a temporary file that a later attempt goes on with, every write acknowledged, fsync,
//! verification, and a rename that cannot replace anything.
//!
//! A small durable object costs three turns: open; write, fsync, read back and close; rename and look. The temporary name is
//! the object's hash, so whoever writes to it writes the same bytes to the same places, and it is never truncated.
//!
//! What an earlier attempt left is believed once it is verified: together with the rest where the server sums the whole, before
//! anything is sent where only its size is compared at the end.

use super::{
    VerifyUploads,
    failure::{Failure, Said, io_error},
    lanes::{Lanes, REACH_BYTES, SPREAD_BYTES, Stopped},
    link::{Link, Request, Seen},
    pool::Ticket,
    read::{Whole, hash_back, regular},
    shared::Shared,
};
use havun_vault::store::{ObjectName, Published, Source, StoreError};
use russh_sftp::protocol::OpenFlags;
use sha2::{Digest as _, Sha256};
use std::{path::PathBuf, sync::Arc};

/// Up to this size an object goes in one turn and is read back in it.
pub(super) const SMALL_BYTES: u64 = 64 << 10;
/// Read from the source at a time.
const BLOCK_BYTES: u64 = 4 << 20;

/// An object on its way to a vault.
#[derive(Clone)]
pub(super) struct Job {
    pub shared: Arc<Shared>,
    pub name: ObjectName,
    /// The vault's folder, with which the folders end that may be made.
    pub vault: String,
    pub target: String,
    pub temp: String,
    pub size: u64,
    pub sha256: [u8; 32],
    /// The bytes of a small object, on a put-once store.
    pub small: Option<Arc<Vec<u8>>>,
}

/// A file that is open, for an object that is not there yet.
pub(super) struct Begun {
    pub ticket: Ticket,
    pub handle: String,
    /// What an earlier attempt left.
    pub resumed: Option<Resumed>,
}

/// The bytes at the beginning of a temporary file that an earlier attempt has surely sent.
pub(super) struct Resumed {
    len: u64,
    /// As they lie there; `None` where the whole is verified in the end.
    sha256: Option<[u8; 32]>,
}

enum Start {
    Begun(Begun),
    Done(Published),
}

impl Job {
    /// Whether the name says which bytes the object has.
    pub fn is_named_by_hash(&self) -> bool {
        self.name.file_name().contains(&hex::encode(self.sha256))
    }

    pub fn put(&self, source: &dyn Source) -> Result<Published, StoreError> {
        let _ours = self.shared.occupy(&self.temp);
        if self.size > SMALL_BYTES {
            return self.put_large(source);
        }
        let bytes = self.small_bytes(source)?;
        let job = self.clone();
        self.shared.run(async move { job.put_small(bytes).await })
    }

    /// The whole object, compared with its hash.
    pub fn small_bytes(&self, source: &dyn Source) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(0)];
        source.read_at(0, &mut bytes).map_err(|e| StoreError::source(&self.name, e))?;
        StoreError::check_source(&self.name, &Sha256::digest(&bytes).into(), &self.sha256)?;
        Ok(bytes)
    }

    async fn put_small(&self, bytes: Vec<u8>) -> Result<Published, StoreError> {
        match self.begin(false).await? {
            Start::Done(published) => Ok(published),
            Start::Begun(begun) => {
                let written = self.write_small(&begun.ticket, &begun.handle, &bytes).await;
                self.clear_after(&begun.ticket, written).await?;
                self.publish(&begun.ticket).await
            }
        }
    }

    fn put_large(&self, source: &dyn Source) -> Result<Published, StoreError> {
        let mut resume = true;
        loop {
            let job = self.clone();
            let begun = match self.shared.run(async move { job.begin(resume).await })? {
                Start::Done(published) => return Ok(published),
                Start::Begun(begun) => begun,
            };
            let mut hasher = Sha256::new();
            let resumed = begun.resumed.as_ref().map_or(0, |resumed| resumed.len);
            if self.goes_on(source, &begun, &mut hasher)? {
                match self.send_rest(source, begun, hasher, resumed) {
                    Err(StoreError::ReadBack { .. }) if resumed > 0 => {}
                    done => return done,
                }
            } else {
                self.discard(begun);
            }
            tracing::warn!(name = %self.name, "a half-sent object is damaged; sending it anew");
            resume = false;
        }
    }

    /// Hashes what need not be sent again; `false` where other bytes lie there.
    fn goes_on(&self, source: &dyn Source, begun: &Begun, hasher: &mut Sha256) -> Result<bool, StoreError> {
        let Some(Resumed { len, sha256 }) = begun.resumed else { return Ok(true) };
        self.read_source(source, 0, len, &mut |part| {
            hasher.update(part);
            Ok(())
        })?;
        Ok(sha256.is_none_or(|there| <[u8; 32]>::from(hasher.clone().finalize()) == there))
    }

    fn send_rest(&self, source: &dyn Source, begun: Begun, mut hasher: Sha256, start: u64) -> Result<Published, StoreError> {
        let sent = self.feed(source, &begun, start, Some(&mut hasher));
        let whole = sent.and_then(|()| StoreError::check_source(&self.name, &hasher.finalize().into(), &self.sha256));
        if let Err(error @ StoreError::Source { .. }) = whole {
            self.discard(begun);
            return Err(error);
        }
        let job = self.clone();
        self.shared.run(async move {
            let verified = match whole {
                Ok(()) => job.finish(&begun.ticket, &begun.handle, &job.temp).await,
                Err(error) => Err(error),
            };
            // A file that is open keeps its space after it is removed. The server does these in order.
            drop(begun.ticket.close(&begun.handle));
            job.clear_after(&begun.ticket, verified).await?;
            job.publish(&begun.ticket).await
        })
    }

    /// Removes the temporary file of an object that came to nothing.
    fn discard(&self, begun: Begun) {
        let job = self.clone();
        let removed = self.shared.run(async move {
            drop(begun.ticket.close(&begun.handle));
            begun.ticket.remove(&job.temp).await.said(|| format!("removing {}", job.temp))
        });
        if let Err(error) = removed {
            tracing::warn!(temp = self.temp, %error, "a temporary file could not be removed");
        }
    }

    /// Hands the source's bytes from `start` to `start + len` to `each`, in blocks.
    fn read_source(
        &self,
        source: &dyn Source,
        start: u64,
        end: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut block = vec![0; usize::try_from(end.saturating_sub(start).min(BLOCK_BYTES)).unwrap_or(0)];
        let mut at = start;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(block.len());
            let part = block.get_mut(..len).unwrap_or_default();
            source.read_at(at, part).map_err(|e| StoreError::source(&self.name, e))?;
            each(part)?;
            at += len as u64;
        }
        Ok(())
    }

    /// SHA-256 of the whole source.
    pub fn check_source(&self, source: &dyn Source) -> Result<(), StoreError> {
        let mut hasher = Sha256::new();
        self.read_source(source, 0, self.size, &mut |part| {
            hasher.update(part);
            Ok(())
        })?;
        StoreError::check_source(&self.name, &hasher.finalize().into(), &self.sha256)
    }

    /// Sends the source from `start` on, over several connections where it is large; this thread reads while they send. Returns
    /// when every byte is acknowledged.
    pub fn feed(&self, source: &dyn Source, begun: &Begun, start: u64, mut hasher: Option<&mut Sha256>) -> Result<(), StoreError> {
        let Begun { ticket, handle, .. } = begun;
        self.shared.try_summers_early(&ticket.link);
        let lanes = Lanes::start(&self.shared, &ticket.link, handle);
        if self.is_spread() && self.shows_holes(&ticket.link) {
            lanes.spread(&self.shared, ticket, &self.temp);
        }
        let part_bytes = ticket.link.abilities.write_bytes as usize;
        let mut at = start;
        let read = self.read_source(source, start, self.size, &mut |block| {
            if let Some(hasher) = &mut hasher {
                hasher.update(block);
            }
            for part in block.chunks(part_bytes) {
                lanes.send(at, part.to_vec()).map_err(|Stopped| StoreError::Void)?;
                at += part.len() as u64;
            }
            Ok(())
        });
        self.shared.turn();
        match (read, lanes.end()) {
            (_, Err(failure)) => Err(self.write_error(&ticket.link, failure)),
            // The connection ended while nothing was under way.
            (Err(StoreError::Void), Ok(())) => {
                Err(Failure::Broken("the connection was lost".to_owned()).at(&format!("writing {}", self.temp)))
            }
            (read, Ok(())) => read,
        }
    }

    fn write_error(&self, link: &Arc<Link>, failure: Failure) -> StoreError {
        let (job, link) = (self.clone(), Arc::clone(link));
        let classified = self.shared.run(async move { Ok(job.classify(&link, failure, "writing").await) });
        classified.unwrap_or_else(|error| error)
    }

    /// A plain failure on a full disk is a want of space.
    pub async fn classify(&self, link: &Arc<Link>, failure: Failure, doing: &str) -> StoreError {
        let what = format!("{doing} {}", self.target);
        if !failure.is_plain() {
            return failure.at(&what);
        }
        match self.shared.free_bytes_on(link).await {
            Ok(Some(free)) if free < self.size.max(1 << 16) => StoreError::NoSpace { path: PathBuf::from(&self.target), free: Some(free) },
            _ => failure.at(&what),
        }
    }

    /// After a failure that is no broken connection nothing is left; after a broken one what was sent is of use later.
    async fn clear_after(&self, link: &Arc<Link>, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if result.as_ref().is_err_and(|error| !error.is_transient()) {
            let _best_effort = link.remove(&self.temp).await;
        }
        result
    }

    /// Looks whether the object is there, and opens its temporary file.
    async fn begin(&self, resume: bool) -> Result<Start, StoreError> {
        let ticket = self.shared.ticket().await?;
        let mut made_folders = false;
        loop {
            self.shared.turn();
            let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
            let (there, half, open) = (ticket.lstat(&self.target), ticket.lstat(&self.temp), ticket.open(&self.temp, flags));
            let (there, half, open) = (there.await, half.await.said(|| format!("looking at {}", self.temp))?, open.await);
            let handle = match open {
                Err(failure) if failure.is_missing() && !made_folders => {
                    self.make_folders(&ticket, &self.temp).await?;
                    made_folders = true;
                    continue;
                }
                Err(failure) => return Err(self.classify(&ticket, failure, "opening a temporary file for").await),
                Ok(handle) => handle,
            };
            if let Some(there) = there.said(|| format!("looking at {}", self.target))? {
                drop(ticket.close(&handle));
                drop(ticket.remove(&self.temp));
                return Ok(Start::Done(self.settle(&ticket, there).await?));
            }
            let half = half.map_or(0, |half| half.size);
            if half > self.size || half > 0 && !resume {
                self.remove_temp(&ticket, &handle).await?;
                continue;
            }
            let resumed = self.resumed(&ticket, &handle, half).await?;
            return Ok(Start::Begun(Begun { ticket, handle, resumed }));
        }
    }

    /// What is of use of `half` bytes. Of an object that was spread, parts of the last may be missing.
    async fn resumed(&self, link: &Arc<Link>, handle: &str, half: u64) -> Result<Option<Resumed>, StoreError> {
        let len = if self.is_spread() { half.saturating_sub(REACH_BYTES) } else { half };
        if len == 0 || self.size <= SMALL_BYTES {
            return Ok(None);
        }
        let whole_is_verified = match self.shared.options.verify {
            VerifyUploads::Size => false,
            VerifyUploads::ReadBack => true,
            VerifyUploads::Auto => self.shared.can_sum(link).await?,
        };
        let sha256 = if whole_is_verified { None } else { Some(self.hash_beginning(link, handle, len).await?) };
        Ok(Some(Resumed { len, sha256 }))
    }

    async fn hash_beginning(&self, link: &Arc<Link>, handle: &str, len: u64) -> Result<[u8; 32], StoreError> {
        self.shared.turn();
        let back = hash_back(link, handle, len).await;
        back.map_err(|error| error.at(&self.temp, len, &format!("reading {} back", self.temp)))
    }

    /// Whether it goes over several connections, where there are several: told from its size alone, so that a later attempt
    /// knows what an earlier one did.
    fn is_spread(&self) -> bool {
        self.size >= SPREAD_BYTES && !self.shared.options.put_once
    }

    /// Whether a file that several handles wrote to cannot pass with a part missing: the server is known to have one file for
    /// all of them, or the whole is compared with what was sent. A size alone shows no hole.
    fn shows_holes(&self, link: &Link) -> bool {
        match self.shared.options.verify {
            VerifyUploads::ReadBack => true,
            VerifyUploads::Auto if self.shared.sums.get().is_some_and(Option::is_some) => true,
            VerifyUploads::Auto | VerifyUploads::Size => link.abilities.careful_rename,
        }
    }

    async fn remove_temp(&self, link: &Arc<Link>, handle: &str) -> Result<(), StoreError> {
        self.shared.turn();
        drop(link.close(handle));
        link.remove(&self.temp).await.said(|| format!("removing {}", self.temp))
    }

    /// Hash of an open file of `len` bytes: by the server where it can, else by reading it.
    async fn hash_there(&self, link: &Arc<Link>, path: &str, handle: &str, len: u64) -> Result<[u8; 32], StoreError> {
        if len > SMALL_BYTES
            && let Some(sum) = self.shared.sum_of(link, path, len).await?
        {
            return Ok(sum);
        }
        self.shared.turn();
        hash_back(link, handle, len).await.map_err(|error| error.at(path, len, &format!("reading {path} back")))
    }

    /// Makes what is missing of the folders above `path`, the store's own folder excepted. All are asked for at once; those
    /// that exist fail, and whether that was the reason shows when `path` is tried again.
    pub async fn make_folders(&self, link: &Arc<Link>, path: &str) -> Result<(), StoreError> {
        self.shared.turn();
        let start = self.vault.len();
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at >= start);
        let requests: Vec<(String, Request<()>)> =
            ends.filter_map(|end| path.get(..end)).map(|folder| (folder.to_owned(), link.mkdir(folder))).collect();
        for (folder, request) in requests {
            match request.await {
                Ok(()) => {}
                Err(failure) if failure.is_plain() => {}
                Err(failure) => return Err(failure.at(&format!("making the folder {folder}"))),
            }
        }
        Ok(())
    }

    /// Writes a small object, makes it durable, reads it back and closes it, in one turn.
    pub async fn write_small(&self, link: &Arc<Link>, handle: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.shared.turn();
        let part = link.abilities.write_bytes as usize;
        let parts = bytes.chunks(part).enumerate();
        let writes: Vec<Request<()>> = parts.map(|(n, bytes)| link.write(handle, (n * part) as u64, bytes.to_vec())).collect();
        let fsync = link.fsync(handle);
        let back = self.shared.options.verify != VerifyUploads::Size;
        let reads: Vec<Request<Option<Vec<u8>>>> = if back { ask_for(link, handle, self.size) } else { Vec::new() };
        let (seen, close) = (link.fstat(handle), link.close(handle));
        for write in writes {
            if let Err(failure) = write.await {
                return Err(self.classify(link, failure, "writing").await);
            }
        }
        if let Err(failure) = fsync.await {
            return Err(self.classify(link, failure, "making durable").await);
        }
        let mut found = Vec::with_capacity(bytes.len());
        for read in reads {
            found.extend(read.await.said(|| format!("reading {} back", self.temp))?.unwrap_or_default());
        }
        let seen = seen.await.said(|| format!("looking at {}", self.temp))?;
        close.await.said(|| format!("closing {}", self.temp))?;
        let same = !back || found == bytes || found.len() < bytes.len() && self.holds(link, &self.temp).await?;
        if seen.size == self.size && same { Ok(()) } else { Err(self.read_back()) }
    }

    /// Makes a large object durable, and verifies it as it lies at `path`.
    pub async fn finish(&self, link: &Arc<Link>, handle: &str, path: &str) -> Result<(), StoreError> {
        self.shared.turn();
        let (fsync, seen) = (link.fsync(handle), link.fstat(handle));
        if let Err(failure) = fsync.await {
            return Err(self.classify(link, failure, "making durable").await);
        }
        let seen = seen.await.said(|| format!("looking at {path}"))?;
        if seen.size != self.size {
            return Err(self.read_back());
        }
        let found = match self.shared.options.verify {
            VerifyUploads::Size => self.sha256,
            // A server that can sum and does not sum this file may not be able to read it.
            VerifyUploads::Auto if self.shared.can_sum(link).await? => match self.shared.sum_of(link, path, self.size).await? {
                Some(sum) => sum,
                None => self.hash_back(link, handle, path).await?,
            },
            VerifyUploads::Auto => self.sha256,
            VerifyUploads::ReadBack => self.hash_back(link, handle, path).await?,
        };
        if found == self.sha256 { Ok(()) } else { Err(self.read_back()) }
    }

    async fn hash_back(&self, link: &Arc<Link>, handle: &str, path: &str) -> Result<[u8; 32], StoreError> {
        self.shared.turn();
        let back = hash_back(link, handle, self.size).await;
        back.map_err(|error| error.at(self.name.as_str(), self.size, &format!("reading {path} back")))
    }

    fn read_back(&self) -> StoreError {
        StoreError::ReadBack { name: self.name.clone() }
    }

    /// Gives the temporary file its name, unless something has it.
    async fn publish(&self, link: &Arc<Link>) -> Result<Published, StoreError> {
        let mut made_folders = false;
        loop {
            self.shared.turn();
            let by_link = !link.abilities.careful_rename && link.abilities.hardlink;
            let named = if by_link { link.hardlink(&self.temp, &self.target) } else { link.rename(&self.temp, &self.target) };
            let there = link.lstat(&self.target);
            let (named, there) = (named.await, there.await);
            match (named, there.said(|| format!("looking at {}", self.target))?) {
                (Ok(()), Some(there)) => {
                    if by_link {
                        drop(link.remove(&self.temp));
                    }
                    return if there.size == self.size { Ok(Published::New) } else { Err(self.read_back()) };
                }
                (Ok(()), None) => return Err(self.read_back()),
                (Err(_), Some(there)) => {
                    drop(link.remove(&self.temp));
                    return self.settle(link, there).await;
                }
                (Err(failure), None) if failure.is_missing() && !made_folders => {
                    self.make_folders(link, &self.target).await?;
                    made_folders = true;
                }
                (Err(failure), None) => return Err(self.classify(link, failure, "publishing").await),
            }
        }
    }

    /// Another object has the name, or this one.
    async fn settle(&self, link: &Arc<Link>, there: Seen) -> Result<Published, StoreError> {
        let there = regular(&self.target, there)?;
        let same = there.size == self.size && (self.is_named_by_hash() || self.holds(link, &self.target).await?);
        if same { Ok(Published::AlreadyThere) } else { Err(StoreError::Conflict { name: self.name.clone() }) }
    }

    /// Whether the file at `path` has this object's bytes.
    pub async fn holds(&self, link: &Arc<Link>, path: &str) -> Result<bool, StoreError> {
        if self.size <= SMALL_BYTES {
            let found = self.shared.read_file(link, path, self.size).await?;
            return Ok(matches!(found, Some(Whole::Bytes(bytes)) if <[u8; 32]>::from(Sha256::digest(&bytes)) == self.sha256));
        }
        self.shared.turn();
        let handle = link.open(path, OpenFlags::READ).await.said(|| format!("opening {path}"))?;
        let found = self.hash_there(link, path, &handle, self.size).await;
        drop(link.close(&handle));
        match found {
            Err(StoreError::Short { .. }) => Ok(false),
            found => Ok(found? == self.sha256),
        }
    }
}

/// Asks for a whole small file at once.
fn ask_for(link: &Arc<Link>, handle: &str, size: u64) -> Vec<Request<Option<Vec<u8>>>> {
    let part = link.abilities.read_bytes;
    let offsets = (0..size).step_by(part as usize);
    offsets.map(|at| link.read(handle, at, u32::try_from(size - at).unwrap_or(part).min(part))).collect()
}

impl Shared {
    /// Free bytes for us; `None` where the server does not say.
    pub async fn free_bytes_on(&self, link: &Arc<Link>) -> Result<Option<u64>, StoreError> {
        if !link.abilities.statvfs {
            return Ok(None);
        }
        self.turn();
        let root = self.path("");
        match link.statvfs(&root).await {
            // A Storage Box has f_bsize other than f_frsize: only the latter is the unit.
            Ok(status) => Ok(Some(status.blocks_avail.saturating_mul(status.fragment_size))),
            Err(failure @ Failure::Broken(_)) => Err(failure.at(&format!("asking for the free space of {root}"))),
            Err(failure) if failure.is_missing() => Err(io_error(&root, std::io::ErrorKind::NotFound, "no such folder")),
            Err(_) => Ok(None),
        }
    }
}
