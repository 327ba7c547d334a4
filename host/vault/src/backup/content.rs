//! Reading files: small ones many at a time, large ones piece by piece. Runs on several threads; each job answers on
//! a channel of its own, so that the answers are taken in path order whatever the threads do.

use super::{
    counts::{Content, looks_random},
    json,
};
use crate::{
    chunk::{Chunker, chunk_id},
    cut::Cutter,
    entry::{Entry, EntryKind},
    error::VaultError,
    known::Known,
    metadata::{FileStat, OpenedFile, Owners, describe, open_file, stat_of},
    timing::{Stage, Timings},
};
use crossbeam_channel::{Receiver, Sender};
use havun_model::{Cancel, ChunkId, Digest};
use std::{
    cell::Cell,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

/// A file that changes while it is read is read this many times before it is stored as torn.
const ATTEMPTS: u32 = 3;
/// A batch of small files is answered when it holds this many bytes.
const BATCH_BYTES: usize = 512 << 10;

/// One file, link, folder or device to read.
pub(super) struct ToRead {
    pub rel: Vec<u8>,
    pub stat: FileStat,
    pub item: usize,
    pub link: Option<(Arc<[u8]>, u64)>,
    /// The snapshot before had a file of its name.
    pub before: bool,
}

/// Things to read in path order, and where the answers go.
pub(super) struct Job {
    pub files: Vec<ToRead>,
    pub answers: Sender<Answer>,
}

/// Part of the answer to a job, in order.
pub(super) enum Answer {
    /// Whole small files.
    Batch(Batch),
    /// A chunk of a large file; the bytes are absent when the vault has it.
    Chunk(ChunkId, Option<Vec<u8>>),
    /// The large file changed while it was read: forget its chunks.
    Restart,
    /// The end of a large file.
    Large(ReadFile),
    /// The vault failed.
    Failed(VaultError),
    /// The job is done.
    End,
}

/// Small files and their contents.
#[derive(Default)]
pub(super) struct Batch {
    pub arena: Vec<u8>,
    pub files: Vec<ReadFile>,
}

/// A file that was read, or why it was not.
pub(super) struct ReadFile {
    pub rel: Vec<u8>,
    pub item: usize,
    pub link: u64,
    pub before: bool,
    pub outcome: Result<Read, Unread>,
}

/// What reading a file gave. The path is relative to the root; the chunks of a large file came before.
pub(super) struct Read {
    pub entry: Entry,
    pub stat: FileStat,
    /// The content's only chunk, and where its bytes lie in the batch unless the vault has it.
    pub chunk: Option<(ChunkId, Option<Range<usize>>)>,
    pub read_at: Instant,
    pub bytes: u64,
    /// What of a small file the vault does not have.
    pub content: Content,
    /// What is wrong with it although it held still; it is marked torn then.
    pub fault: Option<String>,
}

/// Why a file was not read.
pub(super) enum Unread {
    /// It was removed after the walk had met it.
    Vanished,
    /// The kernel said no.
    Failed(io::Error),
}

/// Reads files for one thread.
pub(super) struct Reader<'a> {
    pub root: BorrowedFd<'a>,
    pub known: &'a Known<'a>,
    pub chunker: &'a Chunker,
    pub whole_below: u64,
    pub cancel: &'a Cancel,
    pub owners: &'a Owners,
    /// Buffers of batches that have been taken.
    pub spare: Receiver<Vec<u8>>,
    /// By number of the item: whether its files must parse as JSON.
    pub json: &'a [bool],
    /// Waits before such a file is read again.
    pub pause: &'a (dyn Fn(Duration) + Send + Sync),
    pub timings: &'a Timings,
    /// So many small files were read by this thread.
    pub small_files: Cell<u32>,
}

/// A large file's end.
struct Streamed {
    sha256: Option<Digest>,
    bytes: u64,
}

/// Why a large file's stream ended early.
enum Broken {
    Source(io::Error),
    Vault(VaultError),
    /// Nobody takes answers any more.
    Hung,
}

impl Reader<'_> {
    /// Answers jobs until there are no more.
    pub fn run(&self, jobs: &Receiver<Job>) {
        let mut cutter = Cutter::new(self.chunker);
        for job in jobs {
            let end = match self.job(&job, &mut cutter) {
                Ok(()) => Answer::End,
                Err(Broken::Vault(error)) => Answer::Failed(error),
                Err(_) => return,
            };
            if job.answers.send(end).is_err() {
                return;
            }
        }
    }

    fn job(&self, job: &Job, cutter: &mut Cutter<'_>) -> Result<(), Broken> {
        let mut batch = self.batch();
        for file in &job.files {
            if self.cancel.is_cancelled() {
                return Err(Broken::Vault(VaultError::Cancelled));
            }
            if file.stat.kind == EntryKind::File && file.stat.size > self.whole_below {
                flush(job, &mut batch)?;
                self.large(job, file, cutter)?;
                continue;
            }
            match self.small(file, &mut batch.arena)? {
                Some(read) => batch.files.push(read),
                None => {
                    flush(job, &mut batch)?;
                    self.large(job, file, cutter)?;
                }
            }
            if batch.arena.len() >= BATCH_BYTES {
                flush(job, &mut batch)?;
                batch = self.batch();
            }
        }
        flush(job, &mut batch)
    }

    fn batch(&self) -> Batch {
        let mut arena = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH_BYTES + BATCH_BYTES));
        arena.clear();
        Batch { arena, files: Vec::new() }
    }

    /// A file of one chunk at most, or anything but a file. `None` when it has grown beyond that.
    fn small(&self, file: &ToRead, arena: &mut Vec<u8>) -> Result<Option<ReadFile>, Broken> {
        let place = self.small_files.get();
        self.small_files.set(place.wrapping_add(1));
        let start = arena.len();
        let (mut attempt, mut parsed) = (1, 1);
        loop {
            arena.truncate(start);
            let outcome = self.timings.of_many(place, Stage::Read, || self.read_small(file, arena, attempt == ATTEMPTS));
            match outcome {
                Ok(Small::Read(mut read)) => {
                    if self.must_parse(file, &read.entry)
                        && let Some(fault) = json::fault(arena.get(start..).unwrap_or_default())
                    {
                        if self.may_try_again(&mut parsed) {
                            attempt = 1;
                            continue;
                        }
                        read.entry.torn = true;
                        read.fault = Some(fault);
                    }
                    self.timings.of_many(place, Stage::Hash, || self.settle(&mut read, arena, start))?;
                    return Ok(Some(file.answer(Ok(*read))));
                }
                Ok(Small::Moving) => attempt += 1,
                Ok(Small::Grown) => {
                    arena.truncate(start);
                    return Ok(None);
                }
                Err(error) => {
                    arena.truncate(start);
                    return Ok(Some(file.answer(Err(unread(error)))));
                }
            }
        }
    }

    fn must_parse(&self, file: &ToRead, entry: &Entry) -> bool {
        self.json.get(file.item).copied().unwrap_or(false) && json::applies(entry)
    }

    /// Waits, unless a file that does not parse has been read often enough.
    fn may_try_again(&self, attempt: &mut u32) -> bool {
        if *attempt >= json::ATTEMPTS || self.cancel.is_cancelled() {
            return false;
        }
        (self.pause)(json::pause_after(*attempt));
        *attempt += 1;
        true
    }

    /// Names the chunk and drops bytes that the vault has.
    fn settle(&self, read: &mut Read, arena: &mut Vec<u8>, start: usize) -> Result<(), Broken> {
        let content = arena.get(start..).unwrap_or_default();
        if content.is_empty() {
            return Ok(());
        }
        let id = chunk_id(content);
        let range = if self.known.has(&id).map_err(Broken::Vault)? {
            arena.truncate(start);
            None
        } else {
            let (fresh, head) = (content.len() as u64, looks_random(content));
            read.content = Content { fresh, opaque: if head == Some(true) { fresh } else { 0 }, head };
            Some(start..arena.len())
        };
        read.chunk = Some((id, range));
        Ok(())
    }

    fn read_small(&self, file: &ToRead, arena: &mut Vec<u8>, last: bool) -> io::Result<Small> {
        let read_at = Instant::now();
        if file.stat.kind != EntryKind::File {
            let entry = describe(self.root, &file.rel, &file.stat, None, self.owners)?;
            return Ok(Small::Read(Box::new(Read {
                entry,
                stat: file.stat.clone(),
                chunk: None,
                read_at,
                bytes: 0,
                content: Content::default(),
                fault: None,
            })));
        }
        let OpenedFile { file: mut open, stat } = open_file(self.root, &file.rel)?;
        let mut entry = describe(self.root, &file.rel, &stat, Some(&open), self.owners)?;
        let start = arena.len();
        match entry.sparse.clone() {
            None => drop((&open).take(self.whole_below + 1).read_to_end(arena)?),
            Some(ranges) => {
                for (offset, len) in ranges {
                    open.seek(SeekFrom::Start(offset))?;
                    (&open).take(len).read_to_end(arena)?;
                }
            }
        }
        let bytes = (arena.len() - start) as u64;
        if bytes > self.whole_below {
            return Ok(Small::Grown);
        }
        let after = stat_of(&open)?;
        let still = after.is_still(&stat) && bytes == entry.stored_size();
        if !still && !last {
            return Ok(Small::Moving);
        }
        if !still {
            torn(&mut entry, bytes);
        }
        Ok(Small::Read(Box::new(Read { entry, stat, chunk: None, read_at, bytes, content: Content::default(), fault: None })))
    }

    fn large(&self, job: &Job, file: &ToRead, cutter: &mut Cutter<'_>) -> Result<(), Broken> {
        let outcome = match self.stream_large(job, file, cutter) {
            Ok(read) => Ok(read),
            Err(Broken::Source(error)) => {
                send(job, Answer::Restart)?;
                Err(unread(error))
            }
            Err(other) => return Err(other),
        };
        send(job, Answer::Large(file.answer(outcome)))
    }

    fn stream_large(&self, job: &Job, file: &ToRead, cutter: &mut Cutter<'_>) -> Result<Read, Broken> {
        let (mut attempt, mut parsed) = (1, 1);
        loop {
            let read_at = Instant::now();
            let OpenedFile { file: open, stat } = open_file(self.root, &file.rel).map_err(Broken::Source)?;
            let mut entry = describe(self.root, &file.rel, &stat, Some(&open), self.owners).map_err(Broken::Source)?;
            let fault = match self.must_parse(file, &entry) {
                true => json::fault_of(&open).map_err(Broken::Source)?,
                false => None,
            };
            if fault.is_some() && self.may_try_again(&mut parsed) {
                continue;
            }
            let streamed = self.stream(job, &open, entry.sparse.as_deref(), cutter)?;
            let after = stat_of(&open).map_err(Broken::Source)?;
            let still = after.is_still(&stat) && streamed.bytes == entry.stored_size();
            if still || attempt == ATTEMPTS {
                if !still {
                    torn(&mut entry, streamed.bytes);
                }
                entry.torn |= fault.is_some();
                entry.sha256 = streamed.sha256;
                return Ok(Read { entry, stat, chunk: None, read_at, bytes: streamed.bytes, content: Content::default(), fault });
            }
            attempt += 1;
            send(job, Answer::Restart)?;
        }
    }

    fn stream(&self, job: &Job, file: &File, sparse: Option<&[(u64, u64)]>, cutter: &mut Cutter<'_>) -> Result<Streamed, Broken> {
        cutter.reset();
        let whole = [(0, u64::MAX)];
        let mut bytes = 0;
        for (offset, len) in sparse.unwrap_or(&whole) {
            let mut file = file;
            file.seek(SeekFrom::Start(*offset)).map_err(Broken::Source)?;
            let mut part = file.take(*len);
            loop {
                if self.cancel.is_cancelled() {
                    return Err(Broken::Vault(VaultError::Cancelled));
                }
                let count = match self.timings.of(Stage::Read, || part.read(cutter.space())) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Broken::Source(error)),
                };
                cutter.filled(count);
                bytes += count as u64;
                self.send_chunks(job, cutter, false)?;
            }
        }
        self.send_chunks(job, cutter, true)?;
        Ok(Streamed { sha256: cutter.whole_hash(), bytes })
    }

    fn send_chunks(&self, job: &Job, cutter: &mut Cutter<'_>, at_end: bool) -> Result<(), Broken> {
        while let Some((id, chunk)) = self.timings.of(Stage::Hash, || cutter.next(at_end)) {
            let has = self.known.has(&id).map_err(Broken::Vault)?;
            send(job, Answer::Chunk(id, (!has).then(|| chunk.to_vec())))?;
        }
        Ok(())
    }
}

/// What one attempt at a small file gave.
enum Small {
    Read(Box<Read>),
    /// It changed while it was read.
    Moving,
    /// It is not small any more.
    Grown,
}

impl ToRead {
    fn answer(&self, outcome: Result<Read, Unread>) -> ReadFile {
        let outcome = outcome.map(|mut read| {
            if let Some((first, _)) = &self.link {
                read.entry.link_group = Some(first.to_vec());
            }
            read
        });
        ReadFile {
            rel: self.rel.clone(),
            item: self.item,
            link: self.link.as_ref().map_or(0, |(_, hash)| *hash),
            before: self.before,
            outcome,
        }
    }
}

/// A file that would not hold still is stored as it was read, without holes.
fn torn(entry: &mut Entry, bytes: u64) {
    entry.torn = true;
    if entry.stored_size() != bytes {
        entry.sparse = None;
        entry.size = bytes;
    }
}

fn unread(error: io::Error) -> Unread {
    match error.kind() {
        io::ErrorKind::NotFound => Unread::Vanished,
        _ => Unread::Failed(error),
    }
}

fn flush(job: &Job, batch: &mut Batch) -> Result<(), Broken> {
    if batch.files.is_empty() {
        return Ok(());
    }
    send(job, Answer::Batch(std::mem::take(batch)))
}

fn send(job: &Job, answer: Answer) -> Result<(), Broken> {
    job.answers.send(answer).map_err(|_| Broken::Hung)
}
