//! Making a snapshot: a session takes streams and one tree in path order, writes packs as it goes, and commits with
//! [`BackupSession::finish`]. Until then nothing that it wrote is part of a snapshot, and everything that it wrote is
//! found again by the next session.

mod align;
mod content;
mod counts;
mod delta;
mod json;
mod leaves;
mod stream;
mod tree;

pub use json::Pause;
pub use stream::{StreamError, StreamProfile, StreamSummary};
pub use tree::{TreeItemSummary, TreeSummary};

use crate::{
    chunk::{ChunkProfile, Chunker, Gear},
    error::VaultError,
    keys::Recipient,
    known::{Known, SharedLease},
    lease::{self, LeaseWait},
    manifest::ManifestWriter,
    open::{Profile, Vault, at},
    pack::PackKind,
    progress::Progress,
    seal::SealKey,
    sink::{PackSink, SinkParts},
    snapshots::{StoredSnapshot, epoch_of},
    timing::{Stage, StageTimes, Timings},
};
use align::Align;
use havun_model::{
    BackupPlan, Cancel, ChunkId, ConsistencyRecord, ItemRecord, ManifestRoot, Outcome, PackId, RetentionRecord, Snapshot, SnapshotStrategy,
    anomalies::Observation,
};
use jiff::Timestamp;
use leaves::{LeafSink, LeafSource, LeafStore};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// Uploads of unknown sessions are removed when they are older than this.
const STALE_UPLOAD: Duration = Duration::from_secs(48 * 3600);

/// How to make a backup.
pub struct BackupOptions {
    /// The run's start; decides the epoch.
    pub now: Timestamp,
    /// For whom the key of a new epoch is wrapped.
    pub recipients: Vec<Recipient>,
    /// Folder for the file-state cache.
    pub state_dir: PathBuf,
    /// Threads that read and that encode; at least one of each.
    pub threads: usize,
    /// zstd level.
    pub level: i32,
    /// Take the lease from whoever holds it.
    pub force_lease: bool,
    /// Who takes the lease, for people.
    pub holder: String,
    /// How long to wait for a clean-up that holds it.
    pub lease_wait: LeaseWait,
    /// Stops the session.
    pub cancel: Cancel,
    /// Takes progress.
    pub progress: Arc<dyn Progress>,
}

/// A backup under way. Dropped without [`BackupSession::finish`], nothing is committed.
#[must_use = "a backup is committed by `finish`"]
pub struct BackupSession<'v> {
    vault: &'v Vault,
    options: BackupOptions,
    lease: SharedLease,
    epoch: String,
    key: Option<Arc<SealKey>>,
    gear: Gear,
    parent: Option<Parent>,
    known: Arc<Known<'v>>,
    manifest: ManifestWriter<LeafSink<'v>, LeafSource<'v>>,
    leaves: leaves::SharedLeaves,
    data: PackSink,
    /// Deltas of dumps, and where they go.
    deltas: delta::Deltas<'v>,
    delta_packs: PackSink,
    session_chunks: HashSet<ChunkId>,
    state: tree::StateOutcome,
    pause: json::Pause,
    project_config: Option<serde_json::Value>,
    consistency: Option<ConsistencyRecord>,
    observation: Option<Observation>,
    timings: Arc<Timings>,
    stats: BackupStats,
    started: Instant,
}

/// The snapshot that a session is compared with.
#[derive(Clone)]
struct Parent {
    stored: StoredSnapshot,
    /// Packs that hold what it needs: those that it names, or those that their chunks were moved to since.
    packs: Vec<PackId>,
}

/// What the caller knows of a snapshot; the session adds the rest.
#[derive(Debug, Clone)]
pub struct SnapshotDraft {
    /// For people.
    pub title: String,
    /// Unique to the run.
    pub run_id: String,
    /// Name of the host.
    pub host: String,
    /// The project's root.
    pub root: String,
    /// `ok` or `partial`.
    pub outcome: Outcome,
    /// Who planned it.
    pub strategy: SnapshotStrategy,
    /// The plan as executed.
    pub plan: BackupPlan,
    /// What became of each item.
    pub items: BTreeMap<String, ItemRecord>,
    /// Terms.
    pub retention: RetentionRecord,
    /// Head of the audit log.
    pub audit_head: String,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Version of the program.
    pub program: String,
    /// When the last byte had been read.
    pub ended_at: Timestamp,
}

/// What a session did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BackupStats {
    /// Files whose content was read.
    pub files_new: u64,
    /// Files taken over as they were.
    pub files_unchanged: u64,
    /// Content bytes that were read.
    pub bytes_read: u64,
    /// Stored bytes of the packs, index and snapshot that were written.
    pub bytes_added: u64,
    /// Chunks that the vault did not have.
    pub chunks_new: u64,
    /// Their bytes, before compression.
    pub bytes_new: u64,
    /// Those of them that are stored as deltas of an earlier dump's.
    pub chunks_delta: u64,
    /// Packs written.
    pub packs_new: u64,
    /// Packs of an interrupted run that were adopted.
    pub packs_adopted: u64,
}

/// A committed snapshot.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The snapshot.
    pub stored: StoredSnapshot,
    /// What the session did.
    pub stats: BackupStats,
    /// How long its stages were busy.
    pub times: StageTimes,
}

impl Vault {
    /// Begins a backup: takes the lease, finds the parent, makes the epoch's key where it is the first of its epoch.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; the store's.
    pub fn begin_backup(&self, options: BackupOptions) -> Result<BackupSession<'_>, VaultError> {
        let lease: SharedLease =
            Arc::from(lease::take(&*self.store, &options.holder, options.force_lease, &options.lease_wait, &options.cancel)?);
        self.store.remove_stale_uploads(STALE_UPLOAD).map_err(|e| at(&*self.store, e))?;
        let epoch = epoch_of(options.now);
        let key = match self.epoch_key(&epoch)? {
            None if self.is_encrypted() => Some(self.new_epoch_key(&options.recipients)?),
            found => found,
        };
        let known = Arc::new(Known::new(self, &epoch));
        let parent = self.usable_parent(&epoch, &known)?;
        let parts = SinkParts {
            store: Arc::clone(&self.store),
            lease: Arc::clone(&lease),
            epoch: epoch.clone(),
            vault_id: self.info.vault_id.clone(),
            key: key.clone(),
            level: options.level,
            encoders: options.threads.max(1),
            timings: Arc::default(),
        };
        let timings = Arc::clone(&parts.timings);
        let leaf_parts = SinkParts { encoders: 1, ..parts.clone() };
        let leaves = LeafStore::shared(PackSink::new(leaf_parts, PackKind::Manifest));
        let source = || LeafSource::new(self, &epoch, Arc::clone(&known));
        let sink = || LeafSink::new(Arc::clone(&leaves), Arc::clone(&known));
        let old = parent.as_ref().map(|parent| (&parent.stored.snapshot.manifest, source()));
        let (parent, manifest) = match ManifestWriter::new(sink(), old) {
            // Without the manifest before, every file is read again and stored where it is missing.
            Err(error) if error.is_integrity() => {
                tracing::warn!(%error, "the manifest of the last snapshot is damaged; every file is read again");
                (None, ManifestWriter::new(sink(), None)?)
            }
            made => (parent.clone(), made?),
        };
        let deltas = delta::Deltas::new(self, &epoch, options.level, Arc::clone(&known), parent.as_ref());
        let delta_packs = PackSink::new(SinkParts { encoders: 1, ..parts.clone() }, PackKind::Delta);
        Ok(BackupSession {
            vault: self,
            gear: self.gear(key.as_deref(), &epoch),
            options,
            lease,
            epoch,
            key,
            parent,
            known,
            manifest,
            leaves,
            data: PackSink::new(parts, PackKind::Data),
            deltas,
            delta_packs,
            session_chunks: HashSet::new(),
            state: tree::StateOutcome::default(),
            pause: Arc::new(std::thread::sleep),
            project_config: None,
            consistency: None,
            observation: None,
            timings,
            stats: BackupStats::default(),
            started: Instant::now(),
        })
    }

    /// The newest snapshot of the epoch, with the packs that hold what it needs today. Where one is gone there is no
    /// parent: every file is read again, and what was lost is stored anew.
    fn usable_parent(&self, epoch: &str, known: &Known<'_>) -> Result<Option<Parent>, VaultError> {
        let Some(stored) = self.newest_snapshot(epoch)? else { return Ok(None) };
        let present = self.list_packs(epoch)?;
        let bad = self.bad_packs(epoch)?;
        let there = |id: &PackId| present.contains_key(id) && !bad.contains(id);
        let packs = self.moved(epoch)?.newest(&stored.id, &stored.snapshot.packs, &there);
        // The index has only packs that are there with the size that they were written with.
        let index = known.index()?;
        if let Some(id) = packs.iter().find(|id| !there(id) || index.find_pack(id).is_none()) {
            tracing::warn!(pack = %id, "a pack of the last snapshot is missing or damaged; every file is read again");
            return Ok(None);
        }
        Ok(Some(Parent { stored, packs: packs.into_iter().collect() }))
    }

    /// The gear table of an epoch: from its key, or from the vault's id and the epoch where nothing is encrypted.
    fn gear(&self, key: Option<&SealKey>, epoch: &str) -> Gear {
        match key {
            Some(key) => Gear::derive(key.expose()),
            None => Gear::derive(&Sha256::digest(format!("{}/{epoch}", self.info.vault_id)).into()),
        }
    }
}

fn profile(profile: &Profile) -> ChunkProfile {
    ChunkProfile { min: profile.min, avg: profile.avg, max: profile.max }
}

impl BackupSession<'_> {
    /// The snapshot that this one is compared with.
    pub fn parent(&self) -> Option<&StoredSnapshot> {
        self.parent.as_ref().map(|parent| &parent.stored)
    }

    /// Waits with `pause` before a JSON store that does not parse is read again; the default sleeps.
    pub fn pause_with(&mut self, pause: Pause) {
        self.pause = pause;
    }

    /// Keeps how the project is configured, without any secret, in the snapshot: a host that starts with nothing but the
    /// archive takes it up from there.
    pub fn remember_config(&mut self, config: serde_json::Value) {
        self.project_config = Some(config);
    }

    /// Says in the snapshot how databases and files were kept of one moment.
    pub fn remember_consistency(&mut self, record: Option<ConsistencyRecord>) {
        self.consistency = record;
    }

    /// Keeps in the snapshot what the run counted, for a host that has lost its audit database.
    pub fn remember_observation(&mut self, observation: Observation) {
        self.observation = Some(observation);
    }

    /// What the session has done so far.
    pub fn stats(&self) -> BackupStats {
        self.stats
    }

    fn file_chunker(&self) -> Chunker {
        Chunker::new(&self.gear, profile(&self.vault.info.chunking.files))
    }

    fn dump_chunker(&self) -> Chunker {
        Chunker::new(&self.gear, profile(&self.vault.info.chunking.dumps))
    }

    /// Stores a chunk unless the vault or this session has it.
    fn store_chunk(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), VaultError> {
        if self.known.has(&id)? || !self.session_chunks.insert(id) {
            return Ok(());
        }
        self.stats.chunks_new += 1;
        self.stats.bytes_new += bytes.len() as u64;
        self.data.push(id, bytes)
    }

    /// Likewise a chunk of a dump, as a delta of what lay in its place in the dump before where that gains.
    fn store_dump_chunk(&mut self, id: ChunkId, bytes: &[u8], earlier: &mut Align) -> Result<(), VaultError> {
        if self.known.has(&id)? || self.session_chunks.contains(&id) {
            earlier.pass(&id, bytes.len() as u64);
            return Ok(());
        }
        let bases = earlier.place(bytes.len() as u64);
        let delta = if bases.is_empty() { None } else { self.deltas.encode(id, bytes, bases)? };
        self.session_chunks.insert(id);
        self.stats.chunks_new += 1;
        self.stats.bytes_new += bytes.len() as u64;
        match delta {
            Some(frame) => {
                self.stats.chunks_delta += 1;
                self.delta_packs.push_encoded(frame)
            }
            None => {
                earlier.is_lost();
                self.data.push(id, bytes)
            }
        }
    }

    fn check_cancelled(&self) -> Result<(), VaultError> {
        if self.options.cancel.is_cancelled() { Err(VaultError::Cancelled) } else { Ok(()) }
    }

    /// Commits: packs, then index, then the snapshot, then the cache. When this returns, the snapshot survives a power
    /// cut; when it fails, there is none.
    ///
    /// # Errors
    /// The store's; [`VaultError::Cancelled`].
    pub fn finish(self, draft: SnapshotDraft) -> Result<Committed, VaultError> {
        self.check_cancelled()?;
        let began = Instant::now();
        let Self {
            vault,
            options,
            lease,
            epoch,
            key,
            parent,
            known,
            manifest,
            leaves,
            data,
            delta_packs,
            state,
            project_config,
            consistency,
            observation,
            timings,
            mut stats,
            ..
        } = self;
        let root = manifest.finish()?;
        let mut written = data.finish()?;
        written.extend(delta_packs.finish()?);
        let leaves = LeafStore::finish(leaves)?;
        written.extend(leaves.packs);
        if options.cancel.is_cancelled() {
            return Err(VaultError::Cancelled);
        }
        let adopted = known.take_adopted();
        stats.packs_new = written.len() as u64;
        stats.packs_adopted = adopted.len() as u64;
        stats.bytes_added += written.iter().map(|p| p.stored_bytes).sum::<u64>();
        let packs = match &parent {
            Some(parent) if parent.stored.snapshot.manifest == root => parent.packs.clone(),
            _ => {
                let old = leaves.needed.packs(vault, &epoch, &known, &written)?;
                old.into_iter().chain(written.iter().map(|p| p.id)).collect::<BTreeSet<PackId>>().into_iter().collect()
            }
        };
        let listed: Vec<_> = written.into_iter().map(|p| (p.id, p.stored_bytes, p.toc)).chain(adopted).collect();
        if !listed.is_empty() {
            vault.publish_index(&*lease, &epoch, key.as_deref(), &listed)?;
        }
        let parent = parent.as_ref().map(|p| p.stored.id);
        let snapshot =
            Snapshot { project_config, consistency, observation, ..snapshot(vault, &epoch, &options, draft, root, packs, parent) };
        lease.check().map_err(|e| at(&*vault.store, e))?;
        let stored = vault.commit_snapshot(&snapshot, key.as_deref())?;
        stats.bytes_added += stored.stored_bytes;
        // The cache comes last and is never worth a failed run.
        if let Err(error) = state.keep(&stored.snapshot.manifest.chunk) {
            tracing::warn!(%error, "the file-state cache was not kept; the next run reads every file");
        }
        timings.add(Stage::Commit, began.elapsed());
        Ok(Committed { stored, stats, times: timings.read() })
    }
}

fn snapshot(
    vault: &Vault,
    epoch: &str,
    options: &BackupOptions,
    draft: SnapshotDraft,
    manifest: ManifestRoot,
    packs: Vec<PackId>,
    parent: Option<havun_model::SnapshotId>,
) -> Snapshot {
    Snapshot {
        format: crate::open::FORMAT,
        vault_id: vault.info.vault_id.clone(),
        epoch: epoch.to_owned(),
        project: vault.info.project.clone(),
        title: draft.title,
        run_id: draft.run_id,
        host: draft.host,
        root: draft.root,
        started_at: options.now,
        ended_at: draft.ended_at,
        outcome: draft.outcome,
        strategy: draft.strategy,
        plan: draft.plan,
        items: draft.items,
        manifest,
        packs,
        parent,
        retention: draft.retention,
        audit_head: draft.audit_head,
        warnings: draft.warnings,
        program: draft.program,
        project_config: None,
        consistency: None,
        observation: None,
    }
}
