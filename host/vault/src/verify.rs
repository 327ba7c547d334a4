//! Checking a vault: every name that claims to be a SHA-256, every snapshot's packs and manifest and, on request,
//! every chunk. Damage is reported with the snapshots and files that it hits; nothing is changed.

use crate::{
    bases::broken,
    chunks::{EpochIndex, pack_damage},
    entry::Entry,
    error::VaultError,
    frame::FrameDecoder,
    index::Index,
    layout::{self, ObjectKind},
    manifest::ListLine,
    moved::Moved,
    open::{Vault, at, sum_line},
    pack::{PackKind, PackReader, Toc, TocFrame},
    progress::Progress,
    reader::ChunkReader,
    snapshots::{Damage, StoredSnapshot},
    store::StoreError,
};
use havun_model::{ChunkId, PackId, SnapshotId};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Paths named for one damaged object; the rest are counted.
const NAMED_FILES: usize = 100;

/// What to check.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// One snapshot and the packs that it needs, or everything.
    pub snapshot: Option<SnapshotId>,
    /// Decrypt, decode and re-hash every chunk.
    pub read_data: bool,
    /// Threads; at least one.
    pub threads: usize,
}

/// What was checked and what is wrong.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct VerifyReport {
    /// Objects whose SHA-256 was compared.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Snapshots whose manifest was read.
    pub snapshots: u64,
    /// Chunks whose SHA-256 was compared.
    pub chunks: u64,
    /// What is wrong; empty when all is well.
    pub damage: Vec<Damage>,
}

impl Vault {
    /// Checks the vault.
    ///
    /// # Errors
    /// Only where the store fails or the snapshot asked for does not exist; damage is in the report.
    pub fn verify(&self, options: &VerifyOptions, progress: &dyn Progress) -> Result<VerifyReport, VaultError> {
        let mut check = Check { vault: self, options, progress, report: VerifyReport::default(), damage: BTreeMap::new() };
        check.head()?;
        check.holds()?;
        check.erasures()?;
        let list = self.snapshots()?;
        for damage in list.damaged {
            check.damage.insert(damage.object.clone(), damage);
        }
        let mut wanted: Vec<StoredSnapshot> = list.snapshots;
        check.report.objects += wanted.len() as u64;
        if let Some(id) = options.snapshot {
            wanted.retain(|s| s.id == id);
            if wanted.is_empty() && !check.damage.values().any(|d| d.snapshots.contains(&id)) {
                return Err(VaultError::NoSnapshot { id });
            }
        }
        for epoch in self.epochs()? {
            let snapshots: Vec<&StoredSnapshot> = wanted.iter().filter(|s| s.snapshot.epoch == epoch).collect();
            if options.snapshot.is_none() || !snapshots.is_empty() {
                check.epoch(&epoch, &snapshots)?;
            }
        }
        check.report.damage = check.damage.into_values().collect();
        Ok(check.report)
    }
}

struct Check<'v> {
    vault: &'v Vault,
    options: &'v VerifyOptions,
    progress: &'v dyn Progress,
    report: VerifyReport,
    damage: BTreeMap<String, Damage>,
}

/// Which packs each snapshot needs, with those that were moved replaced by the packs that stand in for them.
type NeededBy = BTreeMap<SnapshotId, BTreeSet<PackId>>;

fn needed_packs(loaded: &EpochIndex, moved: &Moved, snapshots: &[&StoredSnapshot]) -> NeededBy {
    let whole = |id: &PackId| loaded.is_whole(id);
    // A pack that was moved counts no more, though it is still there for a while.
    let of = |stored: &StoredSnapshot| moved.newest(&stored.id, &stored.snapshot.packs, &whole);
    snapshots.iter().map(|stored| (stored.id, of(stored))).collect()
}

fn hit(needed: &NeededBy, pack: &PackId) -> Vec<SnapshotId> {
    needed.iter().filter(|(_, packs)| packs.contains(pack)).map(|(id, _)| *id).collect()
}

/// What reading the packs found.
#[derive(Default)]
struct PackFindings {
    /// Object name and what is wrong with it.
    bad_packs: BTreeMap<PackId, String>,
    bad_chunks: HashSet<ChunkId>,
    /// Deltas that could not be read for want of their bases: where they lie, and why not.
    baseless: Vec<(PackId, TocFrame, String)>,
    /// Deltas that cannot be read, with the chunk that is the cause.
    causes: HashMap<ChunkId, ChunkId>,
}

impl PackFindings {
    /// What the bad chunks take with them. A delta that was not read although nothing is wrong with what it rests on is its
    /// own pack's fault.
    fn spread(&mut self, index: &Index) {
        self.causes = broken(index, &self.bad_chunks);
        let mut baseless = std::mem::take(&mut self.baseless);
        baseless.retain(|(_, frame, _)| frame.bases.iter().all(|base| self.cause(base, index).is_none()));
        for (pack, frame, why) in baseless {
            self.bad_chunks.extend(frame.entries.iter().map(|entry| entry.id).filter(|id| is_read_from(index, id, &pack)));
            self.bad_packs.entry(pack).or_insert(why);
        }
    }

    /// The chunk to blame when `id` cannot be read; `None` where it can.
    fn cause(&self, id: &ChunkId, index: &Index) -> Option<ChunkId> {
        if self.bad_chunks.contains(id) || index.get(id).is_none() {
            return Some(*id);
        }
        self.causes.get(id).copied()
    }
}

/// Whether readers look into this pack for a chunk first; one that another pack has too may be read from there.
fn is_read_from(index: &Index, id: &ChunkId, pack: &PackId) -> bool {
    index.get(id).and_then(|at| index.pack(at.pack)).is_none_or(|found| found.id == *pack)
}

impl Check<'_> {
    fn note(&mut self, object: &str, what: &str) -> &mut Damage {
        self.damage.entry(object.to_owned()).or_insert_with(|| Damage::of(object, what))
    }

    /// The files at the top against their sums. The README's text is not compared with this program's: an earlier
    /// version may have written another.
    fn head(&mut self) -> Result<(), VaultError> {
        let sums = self.read_top(layout::HEAD_SUMS)?.unwrap_or_default();
        let sums = String::from_utf8_lossy(&sums);
        let mut expected = String::new();
        for name in [layout::README, layout::VAULT_JSON] {
            let Some(bytes) = self.read_top(name)? else {
                self.note(name, "it is missing");
                continue;
            };
            let line = sum_line(&bytes, name);
            if !sums.contains(&line) {
                self.note(name, "its SHA-256 is not the one in vault.sha256 (one of the two is damaged)");
            }
            expected += &line;
        }
        if sums != expected {
            self.note(layout::HEAD_SUMS, "it is not the sums of README.txt and vault.json");
        }
        self.report.objects += 3;
        self.keys()
    }

    fn read_top(&self, name: &'static str) -> Result<Option<Vec<u8>>, VaultError> {
        match self.vault.store.read(&layout::top(name), 1 << 20) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(at(&*self.vault.store, e)),
        }
    }

    fn keys(&mut self) -> Result<(), VaultError> {
        for (object, what) in self.vault.damaged_keys()? {
            self.note(&object, &what);
        }
        self.report.objects += self.vault.store.list("keys").map_err(|e| at(&*self.vault.store, e))?.len() as u64;
        Ok(())
    }

    /// The records of packs that were moved; what is wrong with them is noted.
    fn moved(&mut self, epoch: &str) -> Result<Moved, VaultError> {
        let list = self.vault.read_moved(epoch)?;
        self.report.objects += list.objects;
        for (object, what) in list.damaged {
            self.note(&object, &what);
        }
        Ok(list.moved)
    }

    fn holds(&mut self) -> Result<(), VaultError> {
        let holds = self.vault.holds()?;
        self.report.objects += (holds.active.len() + 2 * holds.released.len() + holds.damaged.len()) as u64;
        for damaged in holds.damaged {
            self.note(&damaged.object, &format!("{}; until it is repaired it keeps every snapshot", damaged.what));
        }
        Ok(())
    }

    fn erasures(&mut self) -> Result<(), VaultError> {
        let erasures = self.vault.erasures()?;
        self.report.objects += (erasures.standing.len() + 2 * erasures.withdrawn.len() + erasures.damaged.len()) as u64;
        for damaged in erasures.damaged {
            self.note(&damaged.object, &format!("{}; nobody knows whose data it says to erase after a restore", damaged.what));
        }
        Ok(())
    }

    fn epoch(&mut self, epoch: &str, snapshots: &[&StoredSnapshot]) -> Result<(), VaultError> {
        let mut loaded = self.vault.load_index(epoch, false, &BTreeSet::new())?;
        self.report.objects += loaded.objects.len() as u64;
        for bad in &loaded.bad {
            self.note(&bad.object, &bad.what);
        }
        let moved = self.moved(epoch)?;
        let snapshots_packs = needed_packs(&loaded, &moved, snapshots);
        self.unlisted(epoch, &loaded, &snapshots_packs);
        let needed: BTreeSet<PackId> = snapshots_packs.values().flatten().copied().collect();
        let to_read: Vec<PackId> = match self.options.snapshot {
            Some(_) => needed.iter().filter(|id| loaded.present.contains_key(*id)).copied().collect(),
            None => loaded.present.keys().copied().collect(),
        };
        let index = Arc::new(std::mem::take(&mut loaded.index));
        let mut findings = self.read_packs(epoch, &loaded, &index, &to_read)?;
        self.missing(epoch, &loaded, &needed, &mut findings);
        findings.spread(&index);
        for (id, what) in &findings.bad_packs {
            self.note(layout::pack(epoch, id).as_str(), what).snapshots = hit(&snapshots_packs, id);
        }
        self.manifests(epoch, index, snapshots, &findings)
    }

    /// Packs that a snapshot needs and no index object lists: an index object was lost or replaced by an old one.
    fn unlisted(&mut self, epoch: &str, loaded: &EpochIndex, needed: &NeededBy) {
        for (id, _, _) in &loaded.unlisted {
            let hit = hit(needed, id);
            if !hit.is_empty() {
                let object = format!("epochs/{epoch}/index");
                let what =
                    format!("no index object lists pack {id}; its own table of contents was used, and the next run writes a new one");
                self.note(&object, &what).snapshots = hit;
            }
        }
    }

    fn missing(&mut self, epoch: &str, loaded: &EpochIndex, needed: &BTreeSet<PackId>, findings: &mut PackFindings) {
        for id in needed.iter().filter(|id| !loaded.present.contains_key(*id) || loaded.missing.contains(*id)) {
            let what = match loaded.present.get(id) {
                None => "it is missing".to_owned(),
                Some(size) => format!("it has {size} bytes, and the index says otherwise"),
            };
            tracing::debug!(%epoch, pack = %id, "a needed pack is not as the index says");
            findings.bad_packs.entry(*id).or_insert(what);
        }
    }

    fn read_packs(&mut self, epoch: &str, loaded: &EpochIndex, index: &Arc<Index>, packs: &[PackId]) -> Result<PackFindings, VaultError> {
        let findings = Mutex::new(PackFindings::default());
        let (next, bytes, chunks) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let work = || -> Result<(), VaultError> {
            while let Some(id) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let size = loaded.present.get(id).copied().unwrap_or(0);
                let found = self.read_pack(epoch, index, id, size)?;
                bytes.fetch_add(size, Ordering::Relaxed);
                chunks.fetch_add(found.chunks, Ordering::Relaxed);
                let mut all = findings.lock().unwrap_or_else(PoisonError::into_inner);
                all.baseless.extend(found.baseless.into_iter().map(|(frame, why)| (*id, frame, why)));
                if let Some(what) = found.what {
                    all.bad_packs.insert(*id, what);
                    all.bad_chunks.extend(found.bad_chunks);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.options.threads.max(1)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(panicked()))).collect::<Result<Vec<()>, _>>()
        })?;
        self.report.objects += packs.len() as u64;
        self.report.bytes += bytes.into_inner();
        self.report.chunks += chunks.into_inner();
        Ok(findings.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// One pack: its SHA-256 and, on request or when that is wrong, each of its chunks.
    fn read_pack(&self, epoch: &str, index: &Arc<Index>, id: &PackId, size: u64) -> Result<PackFinding, VaultError> {
        let name = layout::pack(epoch, id);
        let hash = match self.vault.hash_object(&name, size) {
            Ok(hash) => hash,
            Err(VaultError::Store { source, .. }) if !source.is_transient() => format!("unreadable ({source})"),
            Err(other) => return Err(other),
        };
        self.progress.advance("verify", 0, size);
        let whole = hash == id.to_hex();
        let mut finding = PackFinding { what: (!whole).then(|| format!("its SHA-256 is {hash}")), ..PackFinding::default() };
        if (self.options.read_data || !whole)
            && let Some(toc) = index.toc(id)
        {
            self.read_chunks(epoch, index, id, &toc, &mut finding)?;
        }
        Ok(finding)
    }

    fn read_chunks(&self, epoch: &str, index: &Arc<Index>, id: &PackId, toc: &Toc, finding: &mut PackFinding) -> Result<(), VaultError> {
        let mut bases = match toc.kind {
            PackKind::Delta => Some(ChunkReader::new(self.vault, epoch, Arc::clone(index))?),
            PackKind::Data | PackKind::Manifest => None,
        };
        let name = layout::pack(epoch, id);
        let context = self.vault.context(ObjectKind::Pack);
        let keys = self.vault.is_encrypted().then_some((&self.vault.ring, context.as_str()));
        let mut decoder = FrameDecoder::new().map_err(|e| VaultError::Internal { what: "zstd", why: e.to_string() })?;
        let mut reader = PackReader::open(&*self.vault.store, &name, keys).map_err(|e| pack_damage(self.vault, &name, e));
        for (n, frame) in toc.frames.iter().enumerate() {
            let prefix = match bases.as_mut().map(|bases| bases.prefix_of(name.as_str(), &frame.bases)).transpose() {
                Ok(prefix) => prefix,
                Err(error) if error.is_integrity() => {
                    finding.baseless.push((frame.clone(), error.to_string()));
                    continue;
                }
                Err(other) => return Err(other),
            };
            let mut decode = |stored: &[u8]| match &prefix {
                Some(prefix) => decoder.decode_delta(stored, frame.place.raw, prefix),
                None => decoder.decode(stored, frame.place.raw),
            };
            let decoded = match &mut reader {
                Ok(reader) => {
                    reader.read_frame(&frame.place).map_err(|e| e.to_string()).and_then(|stored| decode(&stored).map_err(|e| e.to_string()))
                }
                Err(error) => Err(error.to_string()),
            };
            let problem = decoded.as_ref().err().map(|what| format!("frame {n}: {what}"));
            if let Some(what) = problem {
                finding.what.get_or_insert(what);
            }
            let raw = decoded.unwrap_or_default();
            for entry in &frame.entries {
                let start = entry.offset as usize;
                let part = raw.get(start..start.saturating_add(entry.len as usize));
                finding.chunks += 1;
                if part.is_none_or(|part| Sha256::digest(part).as_slice() != entry.id.as_bytes()) {
                    finding.what.get_or_insert_with(|| format!("chunk {} in it is not what its id says", entry.id));
                    if is_read_from(index, &entry.id, id) {
                        finding.bad_chunks.push(entry.id);
                    }
                }
            }
        }
        Ok(())
    }

    fn manifests(
        &mut self,
        epoch: &str,
        index: Arc<Index>,
        snapshots: &[&StoredSnapshot],
        findings: &PackFindings,
    ) -> Result<(), VaultError> {
        let mut walk = ManifestWalk {
            reader: ChunkReader::new(self.vault, epoch, Arc::clone(&index))?,
            good: HashSet::new(),
            cause: Box::new(move |id| findings.cause(id, &index)),
        };
        for stored in snapshots {
            let root = &stored.snapshot.manifest;
            let mut hits = Vec::new();
            walk.list(&root.chunk, root.depth, "", &mut hits)?;
            self.report.snapshots += 1;
            self.progress.advance("verify", root.entries, 0);
            for hit in hits {
                self.hit(epoch, stored, hit, &walk);
            }
        }
        Ok(())
    }

    /// Books one damaged file or list to the pack that is to blame.
    fn hit(&mut self, epoch: &str, stored: &StoredSnapshot, hit: Hit, walk: &ManifestWalk<'_>) {
        let object = walk.reader.pack_of(&hit.chunk).unwrap_or_else(|| {
            // No index and no table of contents knows the chunk: it was in a pack that is gone.
            let gone = self.damage.values().find(|d| d.object.contains("/packs/") && d.snapshots.contains(&stored.id));
            gone.map_or_else(|| format!("epochs/{epoch}/index"), |d| d.object.clone())
        });
        let damage = self.note(&object, &format!("chunk {} cannot be read", hit.chunk));
        if !damage.snapshots.contains(&stored.id) {
            damage.snapshots.push(stored.id);
        }
        damage.file_count += 1;
        if damage.files.len() < NAMED_FILES && !damage.files.contains(&hit.path) {
            damage.files.push(hit.path);
        }
    }
}

#[derive(Default)]
struct PackFinding {
    what: Option<String>,
    bad_chunks: Vec<ChunkId>,
    baseless: Vec<(TocFrame, String)>,
    chunks: u64,
}

/// A file (or a run of manifest entries) that cannot be had, and the chunk to blame.
struct Hit {
    path: String,
    chunk: ChunkId,
}

/// Reads manifests, each list and leaf once however many snapshots share it.
struct ManifestWalk<'a> {
    reader: ChunkReader<'a>,
    good: HashSet<ChunkId>,
    /// The chunk to blame when one cannot be read.
    cause: Box<dyn Fn(&ChunkId) -> Option<ChunkId> + 'a>,
}

impl ManifestWalk<'_> {
    fn list(&mut self, chunk: &ChunkId, depth: u32, first: &str, hits: &mut Vec<Hit>) -> Result<(), VaultError> {
        if self.good.contains(chunk) {
            return Ok(());
        }
        let before = hits.len();
        let lines = match self.reader.chunk(chunk) {
            Ok(lines) => lines,
            Err(error) if error.is_integrity() => {
                hits.push(Hit {
                    path: format!("(every entry from {:?} on)", if first.is_empty() { "the first" } else { first }),
                    chunk: *chunk,
                });
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            self.line(chunk, depth, line, hits)?;
        }
        if hits.len() == before {
            self.good.insert(*chunk);
        }
        Ok(())
    }

    fn line(&mut self, chunk: &ChunkId, depth: u32, line: &[u8], hits: &mut Vec<Hit>) -> Result<(), VaultError> {
        if depth > 0 {
            match ListLine::from_line(line) {
                Ok(inner) => self.list(&inner.chunk, depth - 1, &inner.first, hits)?,
                Err(error) => hits.push(Hit { path: format!("(a list of the manifest: {error})"), chunk: *chunk }),
            }
            return Ok(());
        }
        match Entry::from_line(line) {
            Ok(entry) => {
                if let Some(chunk) = entry.chunks.iter().find_map(|id| (self.cause)(id)) {
                    hits.push(Hit { path: entry.display_path(), chunk });
                }
            }
            Err(error) => hits.push(Hit { path: format!("(an entry of the manifest: {error})"), chunk: *chunk }),
        }
        Ok(())
    }
}

fn panicked() -> VaultError {
    VaultError::Internal { what: "verify", why: "a thread panicked".to_owned() }
}
