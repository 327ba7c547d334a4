//! Restoring: entries in path order, content in the order of the packs. Each frame is decoded once for all the files
//! of a window that need it, on several threads; nothing is written that does not have the SHA-256 of its chunk.
//! A file that cannot be had is named in the report, and the others are restored.

use crate::{
    entry::{Entry, EntryKind},
    error::VaultError,
    index::{Index, Location},
    open::Vault,
    paths::escape,
    progress::Progress,
    reader::ChunkReader,
    writer::{NewFile, Placed, TreeWriter, WriteError, WriteOptions},
};
use havun_model::{Cancel, ChunkId, Snapshot};
use std::{
    borrow::Cow,
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A window is worked off when it holds this many files …
const WINDOW_FILES: usize = 20_000;
/// … or this many bytes of content …
const WINDOW_BYTES: u64 = 128 << 20;
/// … or this many files of several chunks, which stay open meanwhile.
const WINDOW_LARGE: usize = 200;

/// A thread takes so many bytes of content at a time.
const BATCH_BYTES: u64 = 4 << 20;

/// What to restore, and where to.
pub struct RestoreRequest<'a> {
    /// Destination of an entry relative to the target, or `None` to pass over it.
    pub select: &'a (dyn Fn(&Entry) -> Option<PathBuf> + Sync),
    /// A folder; made when it is missing.
    pub target: &'a Path,
    /// Replace what lies there.
    pub overwrite: bool,
    /// Restore owners and groups.
    pub owner: bool,
    /// Threads; at least one.
    pub threads: usize,
    /// Have everything on the disk before the restore returns.
    pub sync: bool,
    /// Stops the restore between two frames.
    pub cancel: Cancel,
}

/// What was restored.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RestoreReport {
    /// Entries of every kind that are there now.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Their logical bytes.
    pub bytes: u64,
    /// Manifest paths that are not there or not as they should be, and why.
    pub failed: Vec<(String, String)>,
    /// What could not be restored by its nature (owners without root, sockets), each kind once.
    pub notes: Vec<String>,
}

impl Vault {
    /// Restores the entries of a snapshot that `request` selects.
    ///
    /// # Errors
    /// When the store fails altogether, the target cannot be used, or the operator stops it. Damage is in the report.
    pub fn restore(&self, snapshot: &Snapshot, request: &RestoreRequest<'_>, progress: &dyn Progress) -> Result<RestoreReport, VaultError> {
        let index = self.reading_index(&snapshot.epoch)?;
        let options = WriteOptions { overwrite: request.overwrite, owner: request.owner, sync: request.sync };
        let writer = TreeWriter::new(request.target, options).map_err(|e| target_error(request.target, e))?;
        let mut run = Run {
            vault: self,
            epoch: &snapshot.epoch,
            index: &index,
            request,
            progress,
            writer: &writer,
            report: RestoreReport::default(),
        };
        let mut window = Window::default();
        for entry in self.entries_with(snapshot, Arc::clone(&index))? {
            match entry {
                Ok(entry) => {
                    if let Some(destination) = (request.select)(&entry) {
                        run.take(entry, &destination, &mut window)?;
                    }
                }
                Err(error) if error.is_integrity() => run.report.failed.push(("(a part of the manifest)".to_owned(), error.to_string())),
                Err(other) => return Err(other),
            }
        }
        run.work_off(&mut window)?;
        let mut report = run.report;
        let end = writer.finish();
        report.failed.extend(end.failed.into_iter().map(|(path, error)| (escape(&path).into_owned(), chain(&error))));
        report.notes.extend(end.notes);
        Ok(report)
    }
}

struct Run<'a> {
    vault: &'a Vault,
    epoch: &'a str,
    index: &'a Arc<Index>,
    request: &'a RestoreRequest<'a>,
    progress: &'a dyn Progress,
    writer: &'a TreeWriter,
    report: RestoreReport,
}

/// Files whose content is fetched together.
#[derive(Default)]
struct Window {
    files: Vec<Wanted>,
    bytes: u64,
    large: usize,
    /// Further names of files that are placed in this window or were before.
    links: Vec<(Vec<u8>, Entry)>,
}

/// A file that waits for its content.
struct Wanted {
    rel: Vec<u8>,
    entry: Entry,
    left: AtomicUsize,
    state: Mutex<State>,
}

enum State {
    Waiting,
    Open(NewFile),
    Done,
    Failed(String),
}

/// A chunk that a file of the window needs.
struct Piece {
    place: Location,
    id: ChunkId,
    file: usize,
    at: u64,
}

impl Run<'_> {
    fn take(&mut self, entry: Entry, destination: &Path, window: &mut Window) -> Result<(), VaultError> {
        let rel = destination.as_os_str().as_bytes().to_vec();
        if entry.link_group.is_some() && window.knows_group(&entry) {
            window.links.push((rel, entry));
            return Ok(());
        }
        if entry.kind != EntryKind::File || entry.chunks.is_empty() {
            self.place_now(&rel, &entry);
            return Ok(());
        }
        window.bytes += entry.stored_size();
        window.large += usize::from(entry.chunks.len() > 1);
        let left = AtomicUsize::new(entry.chunks.len());
        window.files.push(Wanted { rel, entry, left, state: Mutex::new(State::Waiting) });
        if window.files.len() >= WINDOW_FILES || window.bytes >= WINDOW_BYTES || window.large >= WINDOW_LARGE {
            self.work_off(window)?;
        }
        Ok(())
    }

    /// Whatever needs no content.
    fn place_now(&mut self, rel: &[u8], entry: &Entry) {
        let placed = match self.writer.place(rel, entry) {
            Ok(Placed::File(file)) => file.finish().map(|()| true),
            Ok(Placed::Skipped) => Ok(false),
            Ok(Placed::Done | Placed::Linked) => Ok(true),
            Err(error) => Err(error),
        };
        match placed {
            Ok(true) => self.count(entry),
            Ok(false) => {}
            Err(error) => self.report.failed.push((entry.display_path(), chain(&error))),
        }
    }

    fn count(&mut self, entry: &Entry) {
        self.report.entries += 1;
        if entry.kind == EntryKind::File {
            self.report.files += 1;
            self.report.bytes += entry.size;
            self.progress.advance("restore", 1, entry.size);
        }
    }

    fn work_off(&mut self, window: &mut Window) -> Result<(), VaultError> {
        let window = std::mem::take(window);
        self.fetch(&window.files)?;
        for file in window.files {
            match file.state.into_inner().unwrap_or_else(PoisonError::into_inner) {
                State::Done => self.count(&file.entry),
                State::Failed(why) => self.report.failed.push((file.entry.display_path(), why)),
                State::Waiting | State::Open(_) => {
                    self.report.failed.push((file.entry.display_path(), "its content did not come".to_owned()))
                }
            }
        }
        for (rel, entry) in window.links {
            self.link(&rel, entry)?;
        }
        Ok(())
    }

    /// Another name of a file. Where the first name could not be restored, this one is a file of its own.
    fn link(&mut self, rel: &[u8], entry: Entry) -> Result<(), VaultError> {
        match self.writer.place(rel, &entry) {
            Ok(Placed::File(file)) => {
                let alone =
                    Wanted { rel: rel.to_vec(), left: AtomicUsize::new(entry.chunks.len()), state: Mutex::new(State::Open(file)), entry };
                if alone.entry.chunks.is_empty() {
                    alone.end();
                }
                let mut window = Window { files: vec![alone], ..Window::default() };
                self.work_off(&mut window)
            }
            Ok(Placed::Skipped) => Ok(()),
            Ok(Placed::Done | Placed::Linked) => {
                self.count(&entry);
                Ok(())
            }
            Err(error) => {
                self.report.failed.push((entry.display_path(), chain(&error)));
                Ok(())
            }
        }
    }

    /// Decodes each frame that the files need once, in the order of the packs.
    fn fetch(&self, files: &[Wanted]) -> Result<(), VaultError> {
        let pieces = self.pieces(files);
        let groups = batches(&pieces, groups(&pieces));
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), VaultError> {
            let mut reader = ChunkReader::new(self.vault, self.epoch, Arc::clone(self.index))?;
            while let Some(batch) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                for group in batch {
                    if self.request.cancel.is_cancelled() {
                        return Err(VaultError::Cancelled);
                    }
                    self.group(pieces.get(group.clone()).unwrap_or_default(), files, &mut reader)?;
                }
            }
            Ok(())
        };
        let threads = self.request.threads.clamp(1, groups.len().max(1));
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let panicked = || VaultError::Internal { what: "restoring", why: "a thread panicked".to_owned() };
            running.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(panicked())))
        })
    }

    /// Where each chunk of each file lies, sorted by place. A file with a chunk that no pack has fails here.
    fn pieces(&self, files: &[Wanted]) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(files.iter().map(|f| f.entry.chunks.len()).sum());
        for (number, file) in files.iter().enumerate() {
            let before = pieces.len();
            let mut at = 0;
            for id in &file.entry.chunks {
                let Some(place) = self.index.get(id) else {
                    pieces.truncate(before);
                    file.fail(VaultError::MissingChunk { chunk: *id }.to_string());
                    break;
                };
                pieces.push(Piece { place, id: *id, file: number, at });
                at += u64::from(place.len);
            }
        }
        pieces.sort_by_key(|p| (p.place.pack, p.place.frame, p.place.offset));
        pieces
    }

    /// The pieces of one frame.
    fn group(&self, pieces: &[Piece], files: &[Wanted], reader: &mut ChunkReader<'_>) -> Result<(), VaultError> {
        let Some(first) = pieces.first() else { return Ok(()) };
        let frame = match reader.frame(first.place.pack, first.place.frame) {
            Err(error) if !error.is_integrity() => return Err(error),
            frame => frame.ok(),
        };
        for same in pieces.chunk_by(|a, b| a.id == b.id) {
            let Some(piece) = same.first() else { continue };
            let here = frame.as_ref().and_then(|frame| reader.slice(&piece.id, &piece.place, frame).ok());
            // What cannot be had from here is asked for alone: another pack may have it, and if none has, the error says why.
            let bytes = match here {
                Some(bytes) => Ok(Cow::Borrowed(bytes)),
                None => reader.chunk(&piece.id).map(Cow::Owned),
            };
            for piece in same {
                let Some(file) = files.get(piece.file) else { continue };
                match &bytes {
                    Ok(bytes) => file.write(self.writer, piece.at, bytes),
                    Err(error) if error.is_integrity() => file.fail(error.to_string()),
                    Err(_) => {}
                }
            }
            if let Err(error) = bytes
                && !error.is_integrity()
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Window {
    /// Whether an earlier entry of this window or before it is of the same group: it comes first in path order, and
    /// only a first member names itself.
    fn knows_group(&self, entry: &Entry) -> bool {
        entry.link_group.as_deref() != Some(entry.path.as_slice())
    }
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, why: String) {
        let mut state = self.lock();
        if !matches!(*state, State::Failed(_)) {
            // Dropping the open file removes it.
            *state = State::Failed(why);
        }
    }

    fn write(&self, writer: &TreeWriter, at: u64, bytes: &[u8]) {
        let mut state = self.lock();
        if matches!(*state, State::Waiting) {
            *state = match writer.place(&self.rel, &self.entry) {
                Ok(Placed::File(file)) => State::Open(file),
                Ok(_) => State::Done,
                Err(error) => State::Failed(chain(&error)),
            };
        }
        if let State::Open(file) = &*state
            && let Err(error) = file.write_at(at, bytes)
        {
            *state = State::Failed(chain(&error));
        }
        drop(state);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
        }
    }

    fn end(&self) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Done) {
            State::Open(file) => file.finish().map_or_else(|error| State::Failed(chain(&error)), |()| State::Done),
            other => other,
        };
    }
}

/// Runs of pieces of the same frame.
fn groups(pieces: &[Piece]) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    for run in pieces.chunk_by(|a, b| (a.place.pack, a.place.frame) == (b.place.pack, b.place.frame)) {
        groups.push(start..start + run.len());
        start += run.len();
    }
    groups
}

/// Groups that one thread works off one after the other: neighbouring deltas rest on neighbouring chunks, which are then decoded
/// once for all of them.
fn batches(pieces: &[Piece], groups: Vec<Range<usize>>) -> Vec<Vec<Range<usize>>> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for group in groups {
        bytes += pieces.get(group.clone()).unwrap_or_default().iter().map(|piece| u64::from(piece.place.len)).sum::<u64>();
        batch.push(group);
        if bytes >= BATCH_BYTES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    batches.push(batch);
    batches
}

/// An error with what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn target_error(target: &Path, error: WriteError) -> VaultError {
    let source = match error {
        WriteError::Io { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    };
    VaultError::Path { path: target.to_path_buf(), source }
}
