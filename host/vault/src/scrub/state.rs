//! The scrub's memory: a local file that says when each object was last read and what was wrong with it. Losing it
//! costs reading, never safety: a file that is not whole is no state, and everything counts as unread.

use crate::{error::VaultError, store::Listed};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

/// What a slice remembers for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScrubState {
    vault_id: String,
    /// Counts from 1; a cycle ends when every object has been read in it.
    pub cycle: u64,
    pub cycle_started: Option<Timestamp>,
    /// When the last cycle ended.
    pub completed: Option<Timestamp>,
    pub objects: BTreeMap<String, Seen>,
    pub damage: BTreeMap<String, Standing>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub size: u64,
    /// When it was last read; where it never was, when it was first seen.
    pub since: Timestamp,
    /// The cycle in which it was last read; that before its first sight where it never was.
    pub cycle: u64,
    pub read: bool,
    /// Of an object whose name says no SHA-256: that of its bytes when they were first read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
}

/// Damage that was found and has not been repaired since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub what: String,
    pub found_at: Timestamp,
}

/// How far a scrub has come and what it found, told without reading a byte of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScrubStatus {
    /// Objects that lay in the store when a slice last looked.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Which round through all objects this is, from 1.
    pub cycle: u64,
    /// When it began.
    pub cycle_started: Option<Timestamp>,
    /// Bytes of objects that were read in this round.
    pub bytes_read: u64,
    /// Bytes of objects that were never read.
    pub bytes_never_read: u64,
    /// The longest time that any object has not been read: its last reading, or when it was first seen.
    pub oldest: Option<Timestamp>,
    /// When the last round ended.
    pub completed: Option<Timestamp>,
    /// Damage that stands.
    pub damage: Vec<StandingDamage>,
}

/// Damage that a slice found and that nobody has repaired since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandingDamage {
    /// Name in the store.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// When that was first seen.
    pub found_at: Timestamp,
}

/// What the scrub state at `path` says of a vault; `None` where there is none, or it is damaged or of another vault.
pub fn scrub_status(path: &Path, vault_id: &str) -> Option<ScrubStatus> {
    ScrubState::read(path, vault_id).map(|state| state.status())
}

impl ScrubState {
    /// The state at `path`, or a new one.
    pub fn load(path: &Path, vault_id: &str) -> Self {
        Self::read(path, vault_id).unwrap_or_else(|| Self { vault_id: vault_id.to_owned(), cycle: 1, ..Self::default() })
    }

    fn read(path: &Path, vault_id: &str) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (sum, json) = text.split_once('\n')?;
        if sum != hex::encode(Sha256::digest(json)) {
            tracing::warn!(path = %path.display(), "the scrub state is damaged; scrubbing starts anew");
            return None;
        }
        serde_json::from_str(json).ok().filter(|state: &Self| state.vault_id == vault_id && state.cycle > 0)
    }

    /// Writes it, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), VaultError> {
        let at_path = |source: io::Error| VaultError::Path { path: path.to_owned(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(at_path)?;
        let json = serde_json::to_string(self).map_err(|e| at_path(e.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(at_path)?;
        write!(file, "{}\n{json}", hex::encode(Sha256::digest(&json))).map_err(at_path)?;
        file.as_file().sync_all().map_err(at_path)?;
        file.persist(path).map_err(|e| at_path(e.error))?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at_path)
    }

    /// Takes over what a listing shows. Returns the objects whose size is not what it was: nothing in a vault changes.
    pub fn meet(&mut self, listed: &[Listed], now: Timestamp) -> Vec<String> {
        let mut resized = Vec::new();
        let mut objects = BTreeMap::new();
        for Listed { name, size } in listed {
            let new = Seen { size: *size, since: now, cycle: self.cycle.saturating_sub(1), read: false, pinned: None };
            let mut seen = self.objects.remove(name.as_str()).unwrap_or(new);
            if seen.size != *size {
                seen.size = *size;
                resized.push(name.as_str().to_owned());
            }
            objects.insert(name.as_str().to_owned(), seen);
        }
        self.objects = objects;
        resized
    }

    /// Every object that is due, the one that was longest unread first.
    pub fn by_age(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(&String, &Seen)> = self.objects.iter().collect();
        all.sort_by_key(|(name, seen)| (seen.cycle, seen.since, *name));
        all.into_iter().map(|(name, seen)| (name.clone(), seen.size)).collect()
    }

    /// Whether an object was read in this cycle.
    pub fn is_read(&self, name: &str) -> bool {
        self.objects.get(name).is_some_and(|seen| seen.cycle >= self.cycle)
    }

    /// Notes that an object was read.
    pub fn was_read(&mut self, name: &str, now: Timestamp) {
        let cycle = self.cycle;
        if let Some(seen) = self.objects.get_mut(name) {
            (seen.since, seen.cycle, seen.read) = (now, cycle, true);
        }
    }

    /// Notes damage; the date of what was known before stays.
    pub fn note(&mut self, object: &str, what: &str, now: Timestamp) {
        let standing = self.damage.entry(object.to_owned()).or_insert_with(|| Standing { what: String::new(), found_at: now });
        what.clone_into(&mut standing.what);
    }

    /// Forgets all about an object that was repaired, so that it counts as new.
    pub fn forget(&mut self, object: &str) {
        self.damage.remove(object);
        self.objects.remove(object);
    }

    /// Ends the cycle where everything has been read in it.
    pub fn complete(&mut self, now: Timestamp) -> bool {
        let done = self.objects.values().all(|seen| seen.cycle >= self.cycle);
        if done {
            self.completed = Some(now);
        }
        done
    }

    /// Begins the next cycle where the last one has ended.
    pub fn begin(&mut self, now: Timestamp) {
        if self.cycle_started.is_none() {
            self.cycle_started = Some(now);
        } else if !self.objects.is_empty() && self.objects.values().all(|seen| seen.cycle >= self.cycle) {
            self.cycle += 1;
            self.cycle_started = Some(now);
        }
    }

    /// For people and for health.
    pub fn status(&self) -> ScrubStatus {
        let bytes = |which: &dyn Fn(&Seen) -> bool| self.objects.values().filter(|seen| which(seen)).map(|seen| seen.size).sum();
        let damage = self.damage.iter();
        ScrubStatus {
            objects: self.objects.len() as u64,
            bytes: bytes(&|_| true),
            cycle: self.cycle,
            cycle_started: self.cycle_started,
            bytes_read: bytes(&|seen| seen.cycle >= self.cycle),
            bytes_never_read: bytes(&|seen| !seen.read),
            oldest: self.objects.values().map(|seen| seen.since).min(),
            completed: self.completed,
            damage: damage.map(|(o, s)| StandingDamage { object: o.clone(), what: s.what.clone(), found_at: s.found_at }).collect(),
        }
    }
}
