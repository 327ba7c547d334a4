//! Backing up a tree: one thread walks and compares with the file-state cache, several read what has changed, and the
//! session's own thread takes everything in path order.

use super::{
    BackupSession,
    content::{Answer, Batch, Job, ReadFile, Reader, ToRead, Unread},
    counts::{Compared, Content, Counter, looks_random},
};
use crate::{
    entry::Time,
    error::VaultError,
    matcher::PathMatcher,
    metadata::{LinkGroups, Owners},
    paths::escape,
    state::{StateError, StateKey, StateReader, StateRow, StateWriter},
    timing::{Stage, Timings},
    walk::{Step, Walk},
};
use crossbeam_channel::{Receiver, Sender, bounded};
use havun_model::{Cancel, ChunkId, ItemName, TreeItem, anomalies::TreeCounts};
use sha2::{Digest as _, Sha256};
use std::{
    cell::Cell,
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// Files go to the readers in jobs of about this many bytes …
const JOB_BYTES: u64 = 512 << 10;
/// … and at most this many files.
const JOB_FILES: usize = 256;
/// Unchanged files are taken over this many at a time.
const ROWS: usize = 2048;
/// Jobs and batches that wait for the session's thread; bounds the memory of what was read too early.
const AHEAD: usize = 3;
/// Problems kept for one item; the rest are counted.
const KEPT_PROBLEMS: usize = 200;
/// Where the tree stands in a manifest.
const PREFIX: &[u8] = b"tree";

/// What became of the tree items.
#[derive(Debug, Clone, Default)]
pub struct TreeSummary {
    /// By item.
    pub items: BTreeMap<ItemName, TreeItemSummary>,
    /// Files that were removed between the walk and the reading.
    pub vanished: u64,
    /// What became of the files since the snapshot before.
    pub counts: TreeCounts,
}

/// What became of one tree item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeItemSummary {
    /// Regular files.
    pub files: u64,
    /// Their logical bytes.
    pub bytes: u64,
    /// What could not be read or would not hold still: the first 200.
    pub problems: Vec<String>,
    /// All of them.
    pub problem_count: u64,
}

impl TreeItemSummary {
    fn problem(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < KEPT_PROBLEMS {
            self.problems.push(text);
        }
    }
}

/// The cache of this session, put in place after the commit.
#[derive(Default)]
pub(super) struct StateOutcome {
    writer: Option<(StateWriter, bool)>,
}

impl StateOutcome {
    pub fn keep(self, manifest: &ChunkId) -> Result<(), StateError> {
        self.writer.map_or(Ok(()), |(writer, found_all)| writer.finish(*manifest, found_all))
    }
}

/// What the walking thread hands over, in path order.
enum Slot {
    /// Files that are as they were.
    Unchanged(Rows),
    /// Files that are being read.
    Work(Receiver<Answer>),
    /// A file or folder that cannot be looked at.
    Problem { rel: Vec<u8>, item: usize, error: io::Error },
    /// The walk is over; whether the cache held nothing but what the walk met, and what else it held.
    End { found_all: bool, compared: Compared },
}

/// Unchanged files in path order.
#[derive(Default)]
struct Rows {
    paths: Vec<u8>,
    rows: Vec<(Range<usize>, StateRow, usize, bool)>,
}

impl BackupSession<'_> {
    /// Backs up everything that `items` claim beneath `root`, in one walk. Paths land under `tree/`. Call it once,
    /// after all streams.
    ///
    /// # Errors
    /// When the root cannot be opened, a pattern is no glob, or the vault fails. A single file that cannot be read is a
    /// problem in the summary.
    pub fn add_tree(&mut self, root: &Path, items: &[(ItemName, TreeItem)]) -> Result<TreeSummary, VaultError> {
        let matcher = PathMatcher::new(items.iter().map(|(_, item)| item)).map_err(|e| VaultError::Pattern { why: e.to_string() })?;
        let threads = self.options.threads.max(1);
        let failed = |source| VaultError::Path { path: root.to_path_buf(), source };
        let walk = Walk::new(root, Arc::new(matcher), PREFIX, threads).map_err(failed)?;
        let cache = self.open_cache(root, items)?;
        let chunker = self.file_chunker();
        let root_handle = walk.root_handle();
        let (known, cancel) = (Arc::clone(&self.known), self.options.cancel.clone());
        let whole_below = u64::from(self.vault.info.chunking.files.whole_below);
        let json: Vec<bool> = items.iter().map(|(_, item)| item.json).collect();
        let (pause, timings) = (Arc::clone(&self.pause), Arc::clone(&self.timings));
        let compared = Compared::with(cache.reader.is_some());
        let result = std::thread::scope(|scope| {
            let (jobs, job_queue) = bounded::<Job>(threads);
            let (slots, slot_queue) = bounded::<Slot>(AHEAD);
            let (used, spare) = bounded(AHEAD);
            for _ in 0..threads {
                let spare = spare.clone();
                let (queue, known, chunker, cancel, root) = (job_queue.clone(), &*known, &chunker, &cancel, &root_handle);
                let (json, pause, timings) = (json.as_slice(), &*pause, &*timings);
                scope.spawn(move || {
                    let root = std::os::fd::AsFd::as_fd(root);
                    Reader {
                        root,
                        known,
                        chunker,
                        whole_below,
                        cancel,
                        owners: Owners::of_host(),
                        spare,
                        json,
                        pause,
                        timings,
                        small_files: Cell::default(),
                    }
                    .run(&queue);
                });
            }
            drop(job_queue);
            let has_cache = compared.compared;
            let planner = Planner { slots, jobs, cancel: &cancel, rows: Rows::default(), files: Vec::new(), bytes: 0, compared };
            let timings = &*timings;
            scope.spawn(move || planner.run(walk, cache.reader, timings));
            Assembler { compared: has_cache, ..Assembler::new(self, items, cache.writer, used) }.run(slot_queue)
        });
        if result.as_ref().is_err_and(VaultError::is_integrity) {
            // The manifest before is damaged: without the cache the next run reads every file and needs nothing of it.
            drop(fs::remove_file(&cache.path));
        }
        result
    }

    fn open_cache(&self, root: &Path, items: &[(ItemName, TreeItem)]) -> Result<Cache, VaultError> {
        let folder = self.options.state_dir.join(&self.vault.info.vault_id);
        let failed = |source| VaultError::Path { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let path = folder.join("files.cache");
        let plan = serde_json::to_vec(items).map_err(|e| VaultError::Internal { what: "hashing the plan", why: e.to_string() })?;
        let mut hasher = Sha256::new();
        hasher.update(std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str()));
        hasher.update([0]);
        hasher.update(plan);
        let none = ChunkId::from_bytes([0; 32]);
        let key = StateKey {
            vault_id: self.vault.info.vault_id.clone(),
            manifest: self.parent.as_ref().map_or(none, |p| p.stored.snapshot.manifest.chunk),
            plan: hasher.finalize().into(),
        };
        let reader = self.parent.as_ref().and_then(|_| StateReader::open(&path, &key));
        let writer = StateWriter::new(&path, &key, reader.is_some()).map_err(|e| VaultError::Path { path: e.path, source: e.source })?;
        Ok(Cache { path, reader, writer })
    }
}

struct Cache {
    path: PathBuf,
    reader: Option<StateReader>,
    writer: StateWriter,
}

/// Walks and decides what is unchanged.
struct Planner<'a> {
    slots: Sender<Slot>,
    jobs: Sender<Job>,
    cancel: &'a Cancel,
    rows: Rows,
    files: Vec<ToRead>,
    bytes: u64,
    compared: Compared,
}

/// Nobody takes slots any more: the session's thread has failed and says why.
struct Hung;

impl Planner<'_> {
    fn run(mut self, mut walk: Walk, mut cache: Option<StateReader>, timings: &Timings) {
        let began = Instant::now();
        let mut links = LinkGroups::default();
        while let Some(step) = walk.next_step() {
            if self.cancel.is_cancelled() || self.step(step, &mut cache, &mut links).is_err() {
                return;
            }
        }
        timings.add(Stage::Walk, began.elapsed());
        if let Some(cache) = &mut cache {
            cache.pass_rest(|path, row| self.compared.passed(path, row));
        }
        let found_all = cache.is_some_and(StateReader::found_all);
        if self.end_rows().is_ok() && self.end_job().is_ok() {
            let compared = std::mem::take(&mut self.compared);
            drop(self.slots.send(Slot::End { found_all, compared }));
        }
    }

    fn step(&mut self, step: Step<'_>, cache: &mut Option<StateReader>, links: &mut LinkGroups) -> Result<(), Hung> {
        let found = match step {
            Step::Found(found) => found,
            Step::Problem { rel, item, error, .. } => {
                self.end_rows()?;
                self.end_job()?;
                return self.slots.send(Slot::Problem { rel: rel.to_vec(), item, error }).map_err(|_| Hung);
            }
        };
        let link = links.group(found.path, found.stat);
        let hash = link.as_ref().map_or(0, |(_, hash)| *hash);
        let known = cache.as_mut().and_then(|cache| cache.find_telling(found.path, |path, row| self.compared.passed(path, row)));
        let before = known.is_some();
        let row = known.filter(|row| row.matches(found.stat, hash));
        let is_file = found.stat.kind == crate::entry::EntryKind::File;
        if is_file && !before {
            self.compared.appeared(found.path, found.stat.ino);
        }
        match row {
            Some(row) => {
                self.end_job()?;
                let start = self.rows.paths.len();
                self.rows.paths.extend_from_slice(found.path);
                self.rows.rows.push((start..self.rows.paths.len(), row, found.item, is_file));
                if self.rows.rows.len() >= ROWS { self.end_rows() } else { Ok(()) }
            }
            None => {
                self.end_rows()?;
                self.bytes += if is_file { found.stat.size } else { 0 };
                self.files.push(ToRead { rel: found.rel.to_vec(), stat: found.stat.clone(), item: found.item, link, before });
                if self.bytes >= JOB_BYTES || self.files.len() >= JOB_FILES { self.end_job() } else { Ok(()) }
            }
        }
    }

    fn end_rows(&mut self) -> Result<(), Hung> {
        if self.rows.rows.is_empty() {
            return Ok(());
        }
        self.slots.send(Slot::Unchanged(std::mem::take(&mut self.rows))).map_err(|_| Hung)
    }

    /// The slot goes first: the session's thread then waits for the answers of the oldest job, which some reader has.
    fn end_job(&mut self) -> Result<(), Hung> {
        if self.files.is_empty() {
            return Ok(());
        }
        let (answers, queue) = bounded(1);
        self.bytes = 0;
        self.slots.send(Slot::Work(queue)).map_err(|_| Hung)?;
        self.jobs.send(Job { files: std::mem::take(&mut self.files), answers }).map_err(|_| Hung)
    }
}

/// Takes everything in path order.
struct Assembler<'s, 'v> {
    session: &'s mut BackupSession<'v>,
    cache: StateWriter,
    names: Vec<ItemName>,
    tallies: Vec<TreeItemSummary>,
    vanished: u64,
    path: Vec<u8>,
    large: Vec<ChunkId>,
    /// What of the large file under way the vault does not have.
    large_content: Content,
    counter: Counter,
    /// Whether there was a snapshot before to compare with.
    compared: bool,
    used: Sender<Vec<u8>>,
    started: Instant,
}

impl<'s, 'v> Assembler<'s, 'v> {
    fn new(session: &'s mut BackupSession<'v>, items: &[(ItemName, TreeItem)], cache: StateWriter, used: Sender<Vec<u8>>) -> Self {
        let names: Vec<ItemName> = items.iter().map(|(name, _)| name.clone()).collect();
        let tallies = vec![TreeItemSummary::default(); names.len()];
        let started = session.started;
        Self {
            session,
            cache,
            names,
            tallies,
            vanished: 0,
            path: Vec::new(),
            large: Vec::new(),
            large_content: Content::default(),
            counter: Counter::default(),
            compared: false,
            used,
            started,
        }
    }

    fn run(mut self, slots: Receiver<Slot>) -> Result<TreeSummary, VaultError> {
        let mut ended = None;
        for slot in &slots {
            match slot {
                Slot::Unchanged(rows) => self.unchanged(&rows)?,
                Slot::Work(answers) => self.work(&answers)?,
                Slot::Problem { rel, item, error } => self.problem(item, &rel, &error.to_string()),
                Slot::End { found_all, compared } => ended = Some((found_all, compared)),
            }
        }
        drop(slots);
        self.session.check_cancelled()?;
        let (found_all, compared) =
            ended.ok_or(VaultError::Internal { what: "walking the tree", why: "the walk ended early".to_owned() })?;
        self.session.state.writer = Some((self.cache, found_all));
        let counts = self.counter.end(compared);
        Ok(TreeSummary { items: self.names.into_iter().zip(self.tallies).collect(), vanished: self.vanished, counts })
    }

    fn unchanged(&mut self, rows: &Rows) -> Result<(), VaultError> {
        let (mut files, mut bytes) = (0, 0);
        for (range, row, item, is_file) in &rows.rows {
            let path = rows.paths.get(range.clone()).unwrap_or_default();
            let position = self.session.manifest.unchanged(path, row)?;
            self.cache.keep(path, row, position).map_err(cache_failed)?;
            if *is_file {
                self.counter.unchanged(path);
                files += 1;
                bytes += row.size;
                if let Some(tally) = self.tallies.get_mut(*item) {
                    tally.files += 1;
                    tally.bytes += row.size;
                }
            }
        }
        self.session.stats.files_unchanged += files;
        self.session.options.progress.advance("tree", files, bytes);
        Ok(())
    }

    fn work(&mut self, answers: &Receiver<Answer>) -> Result<(), VaultError> {
        self.restart();
        for answer in answers {
            match answer {
                Answer::Batch(batch) => self.batch(batch)?,
                Answer::Chunk(id, bytes) => {
                    if let Some(bytes) = bytes {
                        self.count_chunk(&bytes);
                        self.session.store_chunk(id, &bytes)?;
                        self.session.options.progress.advance("tree", 0, bytes.len() as u64);
                    }
                    self.large.push(id);
                }
                Answer::Restart => self.restart(),
                Answer::Large(mut file) => {
                    let (chunks, content) = (std::mem::take(&mut self.large), std::mem::take(&mut self.large_content));
                    if let Ok(read) = &mut file.outcome {
                        read.content = content;
                    }
                    self.file(file, chunks)?;
                }
                Answer::Failed(error) => return Err(error),
                Answer::End => return Ok(()),
            }
        }
        self.session.check_cancelled()?;
        Err(VaultError::Internal { what: "reading files", why: "a reader ended early".to_owned() })
    }

    /// The large file under way begins again.
    fn restart(&mut self) {
        self.large.clear();
        self.large_content = Content::default();
    }

    fn count_chunk(&mut self, bytes: &[u8]) {
        let (fresh, head) = (bytes.len() as u64, looks_random(bytes));
        self.large_content.fresh += fresh;
        self.large_content.opaque += if head == Some(true) { fresh } else { 0 };
        // Only the file's own beginning says what it is.
        if self.large.is_empty() {
            self.large_content.head = head;
        }
    }

    fn batch(&mut self, batch: Batch) -> Result<(), VaultError> {
        let Batch { arena, files } = batch;
        self.session.options.progress.advance("tree", files.len() as u64, arena.len() as u64);
        for mut file in files {
            let chunk = file.outcome.as_mut().ok().and_then(|read| read.chunk.take());
            let chunks = chunk.as_ref().map(|(id, _)| *id).into_iter().collect();
            if let Some((id, Some(range))) = chunk {
                self.session.store_chunk(id, arena.get(range).unwrap_or_default())?;
            }
            self.file(file, chunks)?;
        }
        // A buffer too many is simply dropped.
        let _full = self.used.try_send(arena);
        Ok(())
    }

    fn file(&mut self, file: ReadFile, chunks: Vec<ChunkId>) -> Result<(), VaultError> {
        let read = match file.outcome {
            Ok(read) => read,
            Err(Unread::Vanished) => {
                self.vanished += 1;
                return Ok(());
            }
            Err(Unread::Failed(error)) => {
                self.problem(file.item, &file.rel, &error.to_string());
                return Ok(());
            }
        };
        let mut entry = read.entry;
        self.set_path(&file.rel);
        entry.path.clone_from(&self.path);
        entry.chunks = chunks;
        if let Some(name) = self.names.get(file.item) {
            name.as_str().clone_into(&mut entry.item);
        }
        let position = self.session.manifest.entry(&entry)?;
        self.session.stats.bytes_read += read.bytes;
        if entry.torn {
            let changing = "it kept changing while it was read; stored as it was read last";
            self.problem(file.item, &file.rel, read.fault.as_deref().unwrap_or(changing));
        } else {
            let row = StateRow::of(&read.stat, file.link, position);
            let read_at = self.moment(read.read_at);
            self.cache.push(&entry.path, &row, read_at).map_err(cache_failed)?;
        }
        if entry.kind == crate::entry::EntryKind::File {
            self.session.stats.files_new += 1;
            self.counter.read(&entry.path, file.before, self.compared, read.content);
            if let Some(tally) = self.tallies.get_mut(file.item) {
                tally.files += 1;
                tally.bytes += entry.size;
            }
        }
        Ok(())
    }

    /// The moment on the run's clock.
    fn moment(&self, at: Instant) -> Time {
        let now = self.session.options.now;
        let later = at.saturating_duration_since(self.started);
        Time { secs: now.as_second().saturating_add_unsigned(later.as_secs()), nanos: 0 }
    }

    fn set_path(&mut self, rel: &[u8]) {
        self.path.clear();
        self.path.extend_from_slice(PREFIX);
        if !rel.is_empty() {
            self.path.push(b'/');
            self.path.extend_from_slice(rel);
        }
    }

    fn problem(&mut self, item: usize, rel: &[u8], why: &str) {
        if let Some(tally) = self.tallies.get_mut(item) {
            tally.problem(format!("{}: {why}", escape(rel)));
        }
    }
}

fn cache_failed(error: StateError) -> VaultError {
    VaultError::Path { path: error.path, source: error.source }
}
