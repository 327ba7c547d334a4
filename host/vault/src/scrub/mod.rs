//! Scrubbing: every stored byte is read again in a set time, a slice at a time, and compared with its SHA-256. No key is
//! needed for that, so a machine that holds none can do it. Nothing in the store is changed.
//!
//! What was read when lies in a local file ([`ScrubOptions::state`]); the objects that were longest unread go first.
//! Damage stays noted there until a later slice reads the object whole or a repair has mended it.
//!
//! `state` is that file, `head` the few files whose names say no SHA-256, `structure` what only a key can tell.

mod head;
mod state;
pub(crate) mod structure;

pub use state::{ScrubStatus, StandingDamage, scrub_status};

pub(crate) use head::{Small, check_top, info_json, is_small, key_id};
pub(crate) use state::ScrubState;

use crate::{
    error::VaultError,
    layout,
    open::{Vault, VaultInfo, at},
    par2,
    progress::Progress,
    snapshots::Damage,
    store::{Listed, ObjectName, Store, StoreError},
};
use havun_model::Cancel;
use head::Finding;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bytes read at a time.
const PIECE_BYTES: usize = 4 << 20;
/// Objects between two writings of the state, and names in one question to the store's own machine.
const GROUP_OBJECTS: usize = 64;
/// No PAR2 file is larger.
const MAX_PARITY_BYTES: u64 = 3 << 30;
/// The small files are at most this large.
const MAX_SMALL_BYTES: u64 = 1 << 20;

/// What a slice shall do.
#[derive(Debug, Clone)]
pub struct ScrubOptions {
    /// The local file that remembers what was read when. One for each vault and store.
    pub state: PathBuf,
    /// Objects are read, the longest unread first, until this many bytes were; `None` reads everything.
    pub budget_bytes: Option<u64>,
    /// Read and hash every byte here, even where the store's own machine can say the SHA-256.
    pub read: bool,
    /// Objects that must be there, with their sizes, as a catalogue or another store has them. Empty where nobody knows.
    pub expected: Vec<Listed>,
    /// Also ask what only a key can tell: whether snapshots open and whether the packs that they need are there. Reads
    /// every snapshot and index object.
    pub structure: bool,
    /// Threads that read; at least one.
    pub threads: usize,
    /// Now.
    pub now: Timestamp,
    /// Stops between two objects; what was read so far counts.
    pub cancel: Cancel,
}

/// What a slice did and what stands.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ScrubReport {
    /// Objects whose SHA-256 was compared.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Objects among them whose SHA-256 the store's own machine said, without sending them.
    pub by_server: u64,
    /// Everything that is wrong, what earlier slices found included.
    pub damage: Vec<Damage>,
    /// How many of them this slice found.
    pub new_damage: u64,
    /// Whether this slice ended a round through all objects.
    pub completed: bool,
    /// How far the round is.
    pub status: ScrubStatus,
}

/// Bytes for a slice so that `total_bytes` are read once in every `period`, when the last slice was `since_last` ago
/// (`None`: there was none, and a first slice of a thirtieth is as good as any).
pub fn slice_budget(total_bytes: u64, period: Duration, since_last: Option<Duration>) -> u64 {
    let period_secs = u128::from(period.as_secs().max(1));
    let since = since_last.map_or(period_secs.div_ceil(30), |since| u128::from(since.as_secs()));
    let bytes = (u128::from(total_bytes) * since).div_ceil(period_secs);
    u64::try_from(bytes).unwrap_or(u64::MAX).min(total_bytes)
}

/// Scrubs one slice of the vault `info` in `store`. Needs no key.
///
/// # Errors
/// Where the store itself fails or the state cannot be written; damage is in the report. What was read before counts.
pub fn scrub(store: &Arc<dyn Store>, info: &VaultInfo, options: &ScrubOptions, progress: &dyn Progress) -> Result<ScrubReport, VaultError> {
    Slice::begin(store, info, options, progress)?.run(Vec::new())
}

impl Vault {
    /// Scrubs one slice, and says which snapshots each damage hits. With [`ScrubOptions::structure`], also asks what
    /// only a key can tell.
    ///
    /// # Errors
    /// As [`scrub`].
    pub fn scrub(&self, options: &ScrubOptions, progress: &dyn Progress) -> Result<ScrubReport, VaultError> {
        let slice = Slice::begin(&self.store, &self.info, options, progress)?;
        if !options.structure {
            return slice.run(Vec::new());
        }
        let mut slice = slice;
        slice.state.damage.retain(|object, _| !object.ends_with("/index"));
        let structure = structure::check(self)?;
        let mut report = slice.run(structure.findings)?;
        for damage in &mut report.damage {
            damage.snapshots = structure.hits.get(&damage.object).cloned().unwrap_or_default();
        }
        Ok(report)
    }
}

pub(crate) fn sha_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What reading an object gave.
pub(crate) enum Reading {
    Sha256(String),
    Missing,
    Unreadable(String),
}

struct Slice<'a> {
    store: &'a Arc<dyn Store>,
    info: &'a VaultInfo,
    options: &'a ScrubOptions,
    progress: &'a dyn Progress,
    state: ScrubState,
    listed: Vec<Listed>,
    /// Objects that go first: their size is not what it was.
    suspects: BTreeSet<String>,
    /// What only a key could tell: reading the bytes does not take it back.
    structural: BTreeSet<String>,
    report: ScrubReport,
    found: BTreeSet<String>,
}

impl<'a> Slice<'a> {
    fn begin(
        store: &'a Arc<dyn Store>,
        info: &'a VaultInfo,
        options: &'a ScrubOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, VaultError> {
        let mut state = ScrubState::load(&options.state, &info.vault_id);
        let mut listed = store.list("").map_err(|e| at(&**store, e))?;
        // What a repair kept aside is damaged and shall be.
        listed.retain(|l| !l.name.is_beneath(layout::QUARANTINE));
        state.begin(options.now);
        let (suspects, structural, found) = Default::default();
        Ok(Self { store, info, options, progress, state, listed, suspects, structural, report: ScrubReport::default(), found })
    }

    fn run(mut self, structure: Vec<Finding>) -> Result<ScrubReport, VaultError> {
        self.missing();
        for (object, what) in &structure {
            self.note(object, what);
        }
        self.structural.extend(structure.into_iter().map(|(object, _)| object));
        let small = self.small()?;
        let read = self.read(small);
        // What was read counts, even when the store failed in the middle.
        self.report.completed = self.state.complete(self.options.now) && read.is_ok();
        self.state.save(&self.options.state)?;
        read?;
        self.report.new_damage = self.found.len() as u64;
        self.report.damage = self.state.damage.iter().map(|(object, standing)| Damage::of(object, &standing.what)).collect();
        self.report.status = self.state.status();
        Ok(self.report)
    }

    fn note(&mut self, object: &str, what: &str) {
        if !self.state.damage.contains_key(object) {
            self.found.insert(object.to_owned());
        }
        self.state.note(object, what, self.options.now);
    }

    /// Compares the listing with what was seen before and with what is expected. Objects come and go with clean-ups; the
    /// files at the top and the keys never go, and what is expected must be there.
    fn missing(&mut self) {
        let before: Vec<String> = self.state.objects.keys().cloned().collect();
        self.suspects.extend(self.state.meet(&self.listed, self.options.now));
        let there: BTreeMap<&str, u64> = self.listed.iter().map(|l| (l.name.as_str(), l.size)).collect();
        let gone: Vec<String> = before.into_iter().filter(|name| is_small(name) && !there.contains_key(name.as_str())).collect();
        let (mut absent, mut resized) = (gone, Vec::new());
        for Listed { name, size } in &self.options.expected {
            match there.get(name.as_str()) {
                None => absent.push(name.as_str().to_owned()),
                Some(found) if found != size => resized.push(name.as_str().to_owned()),
                Some(_) => {}
            }
        }
        for name in &absent {
            self.note(name, "it is missing");
        }
        self.suspects.extend(resized);
        // Of these the bytes cannot tell: their size is all that is known.
        let unnamed = |name: &&String| !is_small(name) && layout::claimed_hash(name).is_none();
        for name in self.suspects.iter().filter(unnamed).cloned().collect::<Vec<_>>() {
            self.note(&name, "its size is not what it was");
            self.structural.insert(name);
        }
    }

    fn pins(&self) -> BTreeMap<String, String> {
        self.state.objects.iter().filter_map(|(name, seen)| Some((name.clone(), seen.pinned.clone()?))).collect()
    }

    /// Reads the small files, always: they are few, and nothing can be read without them.
    fn small(&mut self) -> Result<BTreeSet<String>, VaultError> {
        let names: Vec<ObjectName> = self.listed.iter().map(|l| l.name.clone()).filter(|name| is_small(name.as_str())).collect();
        let (mut files, mut bad) = (Small::new(), Vec::new());
        for name in &names {
            match self.store.read(name, MAX_SMALL_BYTES) {
                Ok(bytes) => drop(files.insert(name.as_str().to_owned(), bytes)),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) if tells_of(&**self.store, name, &error) => {
                    bad.push((name.as_str().to_owned(), format!("it cannot be read ({error})")));
                }
                Err(error) => return Err(at(&**self.store, error)),
            }
        }
        bad.extend(
            head::check_top(&files, self.info)
                .into_iter()
                .filter(|(name, _)| bad.iter().all(|(known, _)| known != name))
                .collect::<Vec<_>>(),
        );
        bad.extend(
            head::check_keys(&files, &self.pins())
                .into_iter()
                .filter(|(name, _)| bad.iter().all(|(known, _)| known != name))
                .collect::<Vec<_>>(),
        );
        for (name, bytes) in &files {
            self.state.was_read(name, self.options.now);
            self.report.objects += 1;
            self.report.bytes += bytes.len() as u64;
            if bad.iter().all(|(damaged, _)| damaged != name) {
                self.state.damage.remove(name);
                if let Some(seen) = self.state.objects.get_mut(name) {
                    seen.pinned = Some(sha_hex(bytes));
                }
            }
        }
        for (name, what) in bad {
            self.note(&name, &what);
        }
        Ok(files.into_keys().collect())
    }

    /// Reads objects by age until the budget is used up.
    fn read(&mut self, done: BTreeSet<String>) -> Result<(), VaultError> {
        let mut due: Vec<(String, u64)> = self.state.by_age();
        due.retain(|(name, _)| !done.contains(name));
        if self.options.budget_bytes.is_some() {
            // A slice ends with the round: nothing is read twice in one.
            due.retain(|(name, _)| self.suspects.contains(name) || !self.state.is_read(name));
        }
        due.sort_by_key(|(name, _)| !self.suspects.contains(name));
        let mut left = self.options.budget_bytes.unwrap_or(u64::MAX);
        due.retain(|(_, size)| {
            let take = left > 0;
            left = left.saturating_sub((*size).max(1));
            take
        });
        for group in due.chunks(GROUP_OBJECTS) {
            if self.options.cancel.is_cancelled() {
                return Err(VaultError::Cancelled);
            }
            self.read_group(group)?;
            self.state.save(&self.options.state)?;
        }
        Ok(())
    }

    fn read_group(&mut self, group: &[(String, u64)]) -> Result<(), VaultError> {
        let named: Vec<(ObjectName, u64)> =
            group.iter().filter_map(|(name, size)| Some((ObjectName::new(name.clone()).ok()?, *size))).collect();
        // The packets of a PAR2 file check themselves; what its SHA-256 is shows when it is first read.
        let is_new = |name: &str| self.state.objects.get(name).is_none_or(|seen| seen.pinned.is_none());
        let (parity, named): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|(name, _)| layout::pack_of_parity(name.as_str()).is_some() && is_new(name.as_str()));
        let readings = match self.ask_server(&named)? {
            Some(readings) => readings,
            None => self.read_here(&named)?,
        };
        for ((name, size), reading) in named.iter().zip(readings) {
            self.judge(name, *size, reading);
        }
        for (name, size) in parity {
            let reading = self.read_parity(&name)?;
            self.judge(&name, size, reading);
        }
        Ok(())
    }

    fn read_parity(&self, name: &ObjectName) -> Result<Reading, VaultError> {
        match self.store.read(name, MAX_PARITY_BYTES) {
            Ok(bytes) if par2::is_whole(&bytes, name.file_name().trim_end_matches(".par2")) => Ok(Reading::Sha256(sha_hex(&bytes))),
            Ok(_) => Ok(Reading::Unreadable("it is not a whole PAR2 file of its pack".to_owned())),
            Err(StoreError::NotFound { .. }) => Ok(Reading::Missing),
            Err(error) if tells_of(&**self.store, name, &error) => Ok(Reading::Unreadable(format!("it cannot be read ({error})"))),
            Err(error) => Err(at(&**self.store, error)),
        }
    }

    fn ask_server(&mut self, named: &[(ObjectName, u64)]) -> Result<Option<Vec<Reading>>, VaultError> {
        if self.options.read {
            return Ok(None);
        }
        let names: Vec<ObjectName> = named.iter().map(|(name, _)| name.clone()).collect();
        let Some(sums) = self.store.server_sha256(&names).map_err(|e| at(&**self.store, e))? else { return Ok(None) };
        self.report.by_server += sums.len() as u64;
        let mut readings = Vec::new();
        for (sum, (name, size)) in sums.into_iter().zip(named) {
            readings.push(match sum {
                Some(sum) => Reading::Sha256(hex::encode(sum)),
                // It was listed: the server could not read it, or was stopped. Only a look of our own tells.
                None => read_hash(&**self.store, name, *size)?,
            });
        }
        Ok(Some(readings))
    }

    fn read_here(&self, named: &[(ObjectName, u64)]) -> Result<Vec<Reading>, VaultError> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(BTreeMap::new());
        let work = || -> Result<(), VaultError> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((name, size)) = named.get(number) else { return Ok(()) };
                if self.options.cancel.is_cancelled() {
                    return Err(VaultError::Cancelled);
                }
                let reading = read_hash(&**self.store, name, *size)?;
                self.progress.advance("scrub", 0, *size);
                done.lock().unwrap_or_else(PoisonError::into_inner).insert(number, reading);
            }
        };
        let panicked = || VaultError::Internal { what: "scrub", why: "a thread panicked".to_owned() };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.options.threads.clamp(1, named.len().max(1))).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(panicked()))).collect::<Result<Vec<()>, _>>()
        })?;
        Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect())
    }

    fn judge(&mut self, name: &ObjectName, size: u64, reading: Reading) {
        let text = name.as_str();
        let found = match reading {
            // Listed a moment ago and gone now: a clean-up runs. What must be there is found missing by the next slice.
            Reading::Missing => return self.state.forget(text),
            Reading::Unreadable(what) => {
                self.state.was_read(text, self.options.now);
                return self.note(text, &what);
            }
            Reading::Sha256(found) => found,
        };
        self.report.objects += 1;
        self.report.bytes += size;
        self.state.was_read(text, self.options.now);
        let pinned = self.state.objects.get(text).and_then(|seen| seen.pinned.clone());
        match layout::claimed_hash(text).map(str::to_owned).or(pinned) {
            Some(expected) if expected == found && self.structural.contains(text) => {}
            Some(expected) if expected == found => drop(self.state.damage.remove(text)),
            Some(_) => self.note(text, &format!("its SHA-256 is {found}, and it has {size} bytes")),
            None if self.structural.contains(text) => {}
            None => {
                self.state.damage.remove(text);
                if let Some(seen) = self.state.objects.get_mut(text) {
                    seen.pinned = Some(found);
                }
            }
        }
    }
}

/// Whether an error tells of the object `name` rather than of the way to it. A server that only says that a read failed
/// tells of the object when it answers for the same object all the same.
pub(crate) fn tells_of(store: &dyn Store, name: &ObjectName, error: &StoreError) -> bool {
    is_damage(error) || (matches!(error, StoreError::Io { .. }) && store.size(name).is_ok())
}

/// Whether an error tells of the object, whatever the store.
pub(crate) fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Short { .. } | StoreError::TooLarge { .. } | StoreError::ReadBack { .. })
        || matches!(error, StoreError::Io { source, .. } if source.raw_os_error() == Some(5))
}

/// SHA-256 of an object of `size` bytes, read in pieces.
pub(crate) fn read_hash(store: &dyn Store, name: &ObjectName, size: u64) -> Result<Reading, VaultError> {
    let mut hasher = Sha256::new();
    let longest = usize::try_from(size).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
    let mut piece = vec![0; longest];
    let mut offset = 0;
    while offset < size {
        let len = usize::try_from(size - offset).unwrap_or(longest).min(longest);
        let part = piece.get_mut(..len).unwrap_or_default();
        // What is said of an object for good is not said after one try.
        match store.read_range(name, offset, part).or_else(|_| store.read_range(name, offset, part)) {
            Ok(()) => {}
            Err(StoreError::NotFound { .. }) => return Ok(Reading::Missing),
            Err(error) if tells_of(store, name, &error) => return Ok(Reading::Unreadable(format!("it cannot be read ({error})"))),
            Err(error) => return Err(at(store, error)),
        }
        hasher.update(&*part);
        offset += len as u64;
    }
    Ok(Reading::Sha256(hex::encode(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up_to_everything_in_the_period() {
        let day = Duration::from_secs(86_400);
        assert_eq!(slice_budget(900, 90 * day, Some(day)), 10);
        assert_eq!(slice_budget(901, 90 * day, Some(day)), 11, "rounded up: the period is kept");
        assert_eq!(slice_budget(900, 90 * day, Some(400 * day)), 900);
        assert_eq!(slice_budget(900, 90 * day, None), 30);
        assert_eq!(slice_budget(u64::MAX, day, Some(day)), u64::MAX);
        assert_eq!(slice_budget(0, Duration::ZERO, Some(day)), 0);
    }
}
