//! The threads that copy objects, and what they find out.

use super::{
    DEFAULT_THREADS, ReplicateOptions, ReplicationReport,
    catalogue::{Catalogue, CatalogueFiles, Mark},
    look::Digests,
    plan::{EpochObjects, SourceObjects},
};
use crate::{
    error::VaultError,
    layout,
    open::{Vault, at},
    progress::Progress,
    store::{Listed, ObjectName, Source, Store, StoreError, StoredSource},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Bytes hashed at a time.
const PIECE_BYTES: usize = 1 << 20;

/// One replication under way.
pub(super) struct Copier<'a> {
    pub from: &'a Vault,
    pub to: &'a dyn Store,
    pub options: &'a ReplicateOptions,
    progress: &'a dyn Progress,
    state: Mutex<State>,
}

/// What the threads share.
pub(super) struct State {
    pub catalogue: Catalogue,
    /// `None` where none is kept.
    pub files: Option<CatalogueFiles>,
    pub report: ReplicationReport,
    /// Objects that cannot be read at the source, or are others at the replica, and what is wrong with them.
    unusable: BTreeMap<ObjectName, String>,
    /// What ended the copy; the first that went wrong.
    failure: Option<VaultError>,
}

/// What became of one object.
enum Outcome {
    Copied,
    /// It is gone from the source: cleaned up there, and no business of ours.
    Gone,
    /// It is damaged at the source.
    Unreadable(String),
    /// Another object has its name at the replica.
    Wrong,
}

impl<'a> Copier<'a> {
    pub fn new(from: &'a Vault, to: &'a dyn Store, options: &'a ReplicateOptions, progress: &'a dyn Progress) -> Self {
        let files = options.catalogue.as_ref().map(|folder| CatalogueFiles::new(folder, &from.info.vault_id, Some(to.describe())));
        let state = State {
            catalogue: Catalogue::default(),
            files,
            report: ReplicationReport::default(),
            unusable: BTreeMap::new(),
            failure: None,
        };
        Self { from, to, options, progress, state: Mutex::new(state) }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn threads(&self) -> usize {
        if self.options.threads == 0 { DEFAULT_THREADS } else { self.options.threads }
    }

    /// Objects copied so far.
    pub fn copied(&self) -> u64 {
        self.lock().report.objects
    }

    /// Those of `objects` that the replica is not known to hold with this size.
    pub fn missing(&self, objects: &[Listed]) -> Vec<Listed> {
        let state = self.lock();
        objects.iter().filter(|o| state.catalogue.size(&o.name) != Some(o.size)).cloned().collect()
    }

    /// Leaves out what the replica has no use for, and notes how much there is to do.
    pub fn plan(&self, source: &mut SourceObjects) -> Result<(), VaultError> {
        let mut state = self.lock();
        source.leave_needless(self.from, &state.catalogue)?;
        if let Some(selection) = &self.options.selection {
            source.leave_unwanted(self.from, &state.catalogue, selection)?;
        }
        let State { catalogue, report, .. } = &mut *state;
        for object in source.all().filter(|o| catalogue.size(&o.name) != Some(o.size)) {
            report.pending_objects += 1;
            report.pending_bytes += object.size;
        }
        Ok(())
    }

    /// Copies what is missing of `objects`.
    pub fn batch(&self, objects: &[Listed], threads: usize) -> Result<(), VaultError> {
        self.each(&self.missing(objects), threads, |object| self.copy(object))
    }

    /// Copies snapshots whose packs are at the replica; the others are held back.
    pub fn snapshots(&self, objects: &[Listed], epoch: &EpochObjects) -> Result<(), VaultError> {
        let packs = epoch.pack_sizes();
        self.each(objects, self.threads(), |object| self.copy_snapshot(object, epoch, &packs))
    }

    fn copy_snapshot(&self, object: &Listed, epoch: &EpochObjects, packs: &BTreeMap<ObjectName, u64>) -> Result<(), VaultError> {
        let stored = match self.from.read_snapshot_object(object) {
            Ok(stored) => stored,
            Err(VaultError::Damaged { what, .. }) => {
                self.note(object, Outcome::Unreadable(what));
                return Ok(());
            }
            Err(VaultError::Store { source: StoreError::NotFound { .. }, .. }) => return Ok(()),
            Err(other) => return Err(other),
        };
        let held_back = {
            let state = self.lock();
            stored.snapshot.packs.iter().find_map(|id| {
                let (pack, why) = epoch.satisfied(&stored, id, &state.catalogue, packs).err()?;
                let why = state.unusable.get(&pack).cloned().unwrap_or(why);
                Some(format!("pack {} is damaged in {}: {why}", id.short(), self.from.store.describe()))
            })
        };
        match held_back {
            None => self.copy(object),
            Some(why) => {
                self.lock().report.held_back.push((stored.id, why));
                Ok(())
            }
        }
    }

    /// Calls `work` for each object, in several threads, until one fails.
    fn each(&self, objects: &[Listed], threads: usize, work: impl Fn(&Listed) -> Result<(), VaultError> + Sync) -> Result<(), VaultError> {
        let next = AtomicUsize::new(0);
        let turn = || {
            while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.lock().failure.is_some() {
                    break;
                }
                if let Err(error) = self.check_cancelled().and_then(|()| work(object)) {
                    self.lock().failure.get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..threads.min(objects.len()) {
                scope.spawn(turn);
            }
        });
        self.lock().failure.take().map_or(Ok(()), Err)
    }

    fn check_cancelled(&self) -> Result<(), VaultError> {
        if self.options.cancel.is_cancelled() { Err(VaultError::Cancelled) } else { Ok(()) }
    }

    fn copy(&self, object: &Listed) -> Result<(), VaultError> {
        let outcome = self.put(object)?;
        self.note(object, outcome);
        Ok(())
    }

    fn put(&self, object: &Listed) -> Result<Outcome, VaultError> {
        let stored = StoredSource::new(&*self.from.store, object.name.clone(), object.size);
        let tap = Tap { inner: stored, name: object.name.clone(), copier: self, failure: Mutex::new(None) };
        let sent = match claimed_sha(&object.name) {
            Some(sha256) => self.to.put(&object.name, &tap, &sha256),
            None => tap.sha256().and_then(|sha256| self.to.put(&object.name, &tap, &sha256)),
        };
        match sent {
            Ok(_) => Ok(Outcome::Copied),
            Err(_) if self.options.cancel.is_cancelled() => Err(VaultError::Cancelled),
            Err(StoreError::Conflict { .. }) => Ok(Outcome::Wrong),
            Err(StoreError::Source { why, .. }) => match tap.into_failure() {
                Some(StoreError::NotFound { .. }) => Ok(Outcome::Gone),
                Some(error) if is_away(&error) => Err(at(&*self.from.store, error)),
                _ => Ok(Outcome::Unreadable(why)),
            },
            Err(StoreError::ReadBack { name }) => Err(VaultError::ReadBack { object: name.as_str().to_owned() }),
            Err(error) => Err(at(self.to, error)),
        }
    }

    fn note(&self, object: &Listed, outcome: Outcome) {
        let settled = self.to.promises().durable_name;
        let name = object.name.as_str().to_owned();
        let mut state = self.lock();
        match outcome {
            Outcome::Copied => state.put(object, settled),
            Outcome::Gone => state.done(object),
            Outcome::Unreadable(why) => {
                tracing::warn!(object = %name, %why, "a damaged object was not copied");
                state.unusable.insert(object.name.clone(), why.clone());
                state.report.unreadable.push((name, why));
            }
            Outcome::Wrong => {
                tracing::warn!(object = %name, "the replica holds another object of this name");
                state.unusable.insert(object.name.clone(), "the replica holds another object of its name".to_owned());
                state.report.wrong.push(name);
            }
        }
    }

    /// Marks epochs that no copy has to look at again while the source has the same of them. The newest one changes with each
    /// run and stays open.
    pub fn mark(&self, source: &SourceObjects, digests: &Digests) {
        let mut state = self.lock();
        let newest = digests.keys().next_back();
        for epoch in state.catalogue.loaded() {
            if Some(&epoch) == newest || !state.catalogue.is_settled(&epoch) {
                continue;
            }
            let mark = match (source.epochs.get(&epoch), digests.get(&epoch)) {
                (Some(objects), Some(digest)) if objects.is_at(&state.catalogue) => Mark::Done(digest.clone()),
                (None, None) => Mark::Settled,
                _ => continue,
            };
            state.mark(&epoch, mark);
        }
    }

    /// Says what was done.
    pub fn finish(self) -> ReplicationReport {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.report.unsettled = state.catalogue.unsettled().len() as u64;
        state.report.held_back.sort();
        state.report.unreadable.sort();
        state.report.wrong.sort();
        state.report
    }
}

impl State {
    fn put(&mut self, object: &Listed, settled: bool) {
        self.catalogue.insert(object.name.clone(), object.size, settled);
        self.report.objects += 1;
        self.report.bytes += object.size;
        self.done(object);
        self.append(&object.name);
    }

    /// Writes down what the catalogue now says of an object.
    pub fn append(&mut self, name: &ObjectName) {
        let Self { files, catalogue, .. } = self;
        if let Some(files) = files {
            let appended = files.append(name, catalogue);
            self.note_file(appended);
        }
    }

    fn mark(&mut self, epoch: &str, mark: Mark) {
        let Self { files, catalogue, .. } = self;
        if let Some(files) = files {
            let marked = files.mark(epoch, mark, catalogue);
            self.note_file(marked);
        }
    }

    fn done(&mut self, object: &Listed) {
        self.report.pending_objects = self.report.pending_objects.saturating_sub(1);
        self.report.pending_bytes = self.report.pending_bytes.saturating_sub(object.size);
    }

    /// Writes the catalogue anew.
    pub fn save(&mut self) {
        if let Some(files) = &mut self.files {
            let saved = files.save(&mut self.catalogue);
            self.note_file(saved);
        }
    }

    /// Makes what was written survive a power cut.
    pub fn keep(&mut self) {
        if let Some(files) = &mut self.files {
            let kept = files.finish(&self.catalogue);
            self.note_file(kept);
        }
    }

    /// A catalogue that cannot be kept costs a listing and no more: it is said, and the copy goes on without.
    fn note_file(&mut self, result: std::io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, "the replica catalogue cannot be saved");
            self.report.notes.push(format!("the catalogue of this replica cannot be saved ({error}): the next copy lists the store"));
            self.files = None;
        }
    }
}

/// The SHA-256 that an object's name claims; keys and the vault's description have none.
fn claimed_sha(name: &ObjectName) -> Option<[u8; 32]> {
    hex::decode(layout::claimed_hash(name.as_str())?).ok()?.try_into().ok()
}

/// Whether the source as a whole is away, rather than one object bad.
fn is_away(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unreachable { .. }
            | StoreError::NoMarker { .. }
            | StoreError::WrongMarker { .. }
            | StoreError::HostKey { .. }
            | StoreError::Refused { .. }
    )
}

/// The bytes of one object on their way: counts them, stops when the operator says so, and keeps what the source said.
struct Tap<'c> {
    inner: StoredSource<'c>,
    name: ObjectName,
    copier: &'c Copier<'c>,
    failure: Mutex<Option<StoreError>>,
}

impl Tap<'_> {
    /// SHA-256 of an object whose name does not claim one.
    fn sha256(&self) -> Result<[u8; 32], StoreError> {
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = 0;
        while offset < self.size() {
            let len = usize::try_from(self.size() - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let part = piece.get_mut(..len).unwrap_or_default();
            self.read_at(offset, part)?;
            hasher.update(&*part);
            offset += len as u64;
        }
        Ok(hasher.finalize().into())
    }

    fn into_failure(self) -> Option<StoreError> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, why: &str) -> StoreError {
        StoreError::Source { name: self.name.clone(), why: why.to_owned() }
    }
}

impl Source for Tap<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        if self.copier.options.cancel.is_cancelled() {
            return Err(self.failed("stopped by the operator"));
        }
        if let Err(error) = self.inner.read_at(offset, buf) {
            let said = self.failed(&error.to_string());
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return Err(said);
        }
        self.copier.progress.advance("replicate", 0, buf.len() as u64);
        Ok(())
    }
}
