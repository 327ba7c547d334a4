//! Repair: whole bytes in the place of damaged ones.
//!
//! What is whole comes from another store's replica, else from PAR2 files and from what is whole in each of several damaged
//! copies, else from what the vault itself can still say (an index is made
//! anew from packs, sums from files). A pack that nobody has whole is noted as bad, so that the next backup stores what
//! it held anew. The damaged bytes are kept under `quarantine/`.
//!
//! Order, so that a crash never leaves less than there was: whole bytes in hand on the local disk, damaged bytes kept
//! aside, damaged object removed, whole object published, read back. A crash between the last two leaves the object
//! missing, which the scrub state still says, and the next repair mends.
//!
//! `spool` holds bytes in hand, `head` makes the small files, `parts` puts packs together from parity and from several
//! damaged copies, `origins` brings back the packs that a repacked one was made of, `bad` is the note for backups.

mod bad;
mod head;
mod origins;
mod parts;
mod spool;

use crate::{
    error::VaultError,
    keys::Identity,
    layout::{self, ObjectKind},
    open::{Vault, VaultInfo, at},
    progress::Progress,
    scrub::{self, Reading, ScrubOptions, ScrubState},
    store::{Lease, ObjectName, Source as _, Store, StoreError},
};
use havun_model::{Cancel, PackId};
use jiff::Timestamp;
use spool::Spooled;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

/// How to repair.
#[derive(Clone)]
pub struct RepairOptions {
    /// Objects that a verify or somebody named; what the scrub state says is added.
    pub objects: Vec<String>,
    /// The scrub state of this vault and store: its standing damage is mended, and what was mended is struck from it.
    pub state: Option<PathBuf>,
    /// Read everything first, to find all damage there is.
    pub check: bool,
    /// Objects that must be there, for `check`: see [`ScrubOptions::expected`].
    pub expected: Vec<crate::store::Listed>,
    /// Percent of parity in a PAR2 file that is made anew, as it was written: the store's `par2`.
    pub parity_percent: u8,
    /// Opens key files, to tell whole ones from damaged ones; may be empty.
    pub identities: Vec<Identity>,
    /// Local folder with room for a pack.
    pub spool: PathBuf,
    /// Threads that read for `check`.
    pub threads: usize,
    /// Now.
    pub now: Timestamp,
    /// Who takes the lease, for people.
    pub holder: String,
    /// Take the lease from whoever holds it.
    pub force_lease: bool,
    /// Stops between two objects.
    pub cancel: Cancel,
}

/// What became of the damage.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RepairReport {
    /// One for each object.
    pub rows: Vec<RepairRow>,
    /// Objects made whole.
    pub repaired: u64,
    /// Objects that are still damaged or missing.
    pub left: u64,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RepairRow {
    /// Its name in the store.
    pub object: String,
    /// What was wrong.
    pub what: String,
    /// What was done.
    #[serde(flatten)]
    pub outcome: RepairOutcome,
    /// Where in the store the damaged bytes are kept.
    pub kept: Option<String>,
}

/// What was done about one object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RepairOutcome {
    /// It is whole again.
    Repaired {
        /// Where the bytes came from.
        from: String,
    },
    /// Nothing was wrong with it any more.
    Whole,
    /// It was damaged or is gone, and nothing needs it: it is not in the vault any more.
    Unneeded,
    /// A pack that nobody has whole. The next backup stores anew what it held and is still to be found; what can be read
    /// of it stays readable.
    Noted {
        /// Why it could not be made whole.
        why: String,
    },
    /// It stays as it is.
    Lost {
        /// Why.
        why: String,
    },
}

/// Where whole bytes come from, and the bytes.
struct Found {
    bytes: Spooled,
    from: String,
}

/// Repairs `target`, an opened vault. See [`repair_store`] for one that cannot be opened.
///
/// # Errors
/// [`VaultError::Locked`]; where the target store fails. What was repaired stays so, the next repair goes on from there.
pub fn repair(target: &Vault, sources: &[&Vault], options: &RepairOptions, progress: &dyn Progress) -> Result<RepairReport, VaultError> {
    run(target, true, sources, options, progress)
}

fn run(
    target: &Vault,
    opened_here: bool,
    sources: &[&Vault],
    options: &RepairOptions,
    progress: &dyn Progress,
) -> Result<RepairReport, VaultError> {
    if let Some(other) = sources.iter().find(|source| source.info.vault_id != target.info.vault_id) {
        let expected = target.info.vault_id.clone();
        return Err(VaultError::OtherVault { place: other.store.describe(), found: other.info.vault_id.clone(), expected });
    }
    let lease = target.store.lease(&options.holder, options.force_lease).map_err(|e| at(&*target.store, e))?;
    let mut repair = Repair { target, opened_here, sources, options, lease, progress, bad: BTreeMap::new(), good: BTreeMap::new() };
    repair.run()
}

/// Repairs the vault in `store` when it cannot be opened, its `vault.json` or its keys being damaged: `like` is another
/// replica of it, whose description and keys are used.
///
/// # Errors
/// As [`repair`].
pub fn repair_store(
    store: &Arc<dyn Store>,
    like: &Vault,
    sources: &[&Vault],
    options: &RepairOptions,
    progress: &dyn Progress,
) -> Result<RepairReport, VaultError> {
    run(&like.replica_in(Arc::clone(store)), false, sources, options, progress)
}

struct Repair<'a> {
    target: &'a Vault,
    /// The target's own key files opened, so they are whole.
    opened_here: bool,
    sources: &'a [&'a Vault],
    options: &'a RepairOptions,
    lease: Box<dyn Lease>,
    progress: &'a dyn Progress,
    /// By epoch: packs to note as bad, and packs that are whole again.
    bad: BTreeMap<String, BTreeMap<PackId, String>>,
    good: BTreeMap<String, BTreeSet<PackId>>,
}

impl Repair<'_> {
    fn run(&mut self) -> Result<RepairReport, VaultError> {
        let mut report = RepairReport::default();
        let mended = self.mend_all(&mut report);
        // Whatever ended it, what was found out about packs is written down.
        let noted = self.note_packs();
        mended.and(noted)?;
        Ok(report)
    }

    fn mend_all(&mut self, report: &mut RepairReport) -> Result<(), VaultError> {
        for (object, what) in self.work()? {
            if self.options.cancel.is_cancelled() {
                return Err(VaultError::Cancelled);
            }
            let (outcome, kept) = self.mend(&object, &what)?;
            match &outcome {
                RepairOutcome::Repaired { .. } => report.repaired += 1,
                RepairOutcome::Noted { .. } | RepairOutcome::Lost { .. } => report.left += 1,
                RepairOutcome::Whole | RepairOutcome::Unneeded => {}
            }
            if !matches!(outcome, RepairOutcome::Noted { .. } | RepairOutcome::Lost { .. }) {
                self.strike(&object)?;
            }
            self.progress.advance("repair", 1, 0);
            report.rows.push(RepairRow { object, what, outcome, kept });
        }
        Ok(())
    }

    /// What to mend, in an order in which each can rely on those before: description, keys, packs, index, snapshots.
    fn work(&self) -> Result<Vec<(String, String)>, VaultError> {
        let mut work = BTreeMap::new();
        let scratch = tempfile::tempdir_in(self.spool_folder()?).map_err(|e| spool::in_folder(&self.options.spool, e))?;
        let state = self.options.state.clone().unwrap_or_else(|| scratch.path().join("scrub.state"));
        if self.options.check {
            let options = ScrubOptions {
                state: state.clone(),
                budget_bytes: None,
                read: false,
                expected: self.options.expected.clone(),
                structure: self.target.can_read(),
                threads: self.options.threads,
                now: self.options.now,
                cancel: self.options.cancel.clone(),
            };
            self.target.scrub(&options, self.progress)?;
        }
        for (object, standing) in ScrubState::load(&state, &self.target.info.vault_id).damage {
            work.insert(object, standing.what);
        }
        // A note that outlived its repair is taken back by the next one.
        for epoch in self.target.epochs()? {
            for id in self.target.bad_packs(&epoch)? {
                work.entry(layout::pack(&epoch, &id).as_str().to_owned()).or_insert_with(|| "it is noted as bad".to_owned());
            }
        }
        for object in &self.options.objects {
            work.entry(object.clone()).or_insert_with(|| "it was named to the repair".to_owned());
        }
        let mut work: Vec<(String, String)> = work.into_iter().collect();
        work.sort_by_key(|(object, _)| rank(object));
        Ok(work)
    }

    fn spool_folder(&self) -> Result<&PathBuf, VaultError> {
        std::fs::create_dir_all(&self.options.spool).map_err(|e| spool::in_folder(&self.options.spool, e))?;
        Ok(&self.options.spool)
    }

    /// Strikes an object from the scrub's list of damage, at once: the next repair does not meet it again.
    fn strike(&self, object: &str) -> Result<(), VaultError> {
        let Some(path) = &self.options.state else { return Ok(()) };
        let mut state = ScrubState::load(path, &self.target.info.vault_id);
        state.forget(object);
        state.save(path)
    }

    fn mend(&mut self, object: &str, what: &str) -> Result<(RepairOutcome, Option<String>), VaultError> {
        if let Some(epoch) = object.strip_prefix("epochs/").and_then(|rest| rest.strip_suffix("/index")) {
            return Ok((self.index_of(epoch)?, None));
        }
        let Ok(name) = ObjectName::new(object) else {
            return Ok((RepairOutcome::Lost { why: "no object can have this name".to_owned() }, None));
        };
        if scrub::is_small(object) {
            return self.small(&name);
        }
        if let Some(pack) = layout::pack_of_parity(object) {
            return self.parity(&name, &pack);
        }
        let Some(expected) = layout::claimed_hash(object).map(str::to_owned) else {
            return self.unnamed(&name);
        };
        match self.reading(&name)? {
            Reading::Sha256(found) if found == expected => {
                self.is_good(object);
                return Ok((RepairOutcome::Whole, None));
            }
            _ => {}
        }
        let found = match self.from_sources(&name, Some(&expected))? {
            Ok(found) => Ok(found),
            Err(why) => self.from_parts(&name, &expected)?.ok_or(why),
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => return self.without_source(&name, what, why),
        };
        let outcome = self.replace(&name, &found)?;
        if matches!(outcome.0, RepairOutcome::Repaired { .. }) {
            self.is_good(object);
        }
        Ok(outcome)
    }

    fn is_good(&mut self, object: &str) {
        if let Some((epoch, ObjectKind::Pack, hash)) = layout::parse(object)
            && let Ok(id) = hash.parse()
        {
            self.good.entry(epoch.to_owned()).or_default().insert(id);
        }
    }

    fn reading(&self, name: &ObjectName) -> Result<Reading, VaultError> {
        match self.target.store.size(name).map_err(|e| at(&*self.target.store, e))? {
            None => Ok(Reading::Missing),
            Some(size) => scrub::read_hash(&*self.target.store, name, size),
        }
    }

    /// The bytes of `name` from the first other replica that has them with the SHA-256 `expected`; where that is not
    /// known, from the first that has any. `Err` says why none does.
    fn from_sources(&self, name: &ObjectName, expected: Option<&str>) -> Result<Result<Found, String>, VaultError> {
        let mut why = Vec::new();
        for source in self.sources {
            let place = source.store.describe();
            match Spooled::fetch(&self.options.spool, &*source.store, name, false) {
                Ok(Some(bytes)) if expected.is_none_or(|expected| bytes.hex() == expected) => return Ok(Ok(Found { bytes, from: place })),
                Ok(Some(_)) => why.push(format!("damaged in {place}, too")),
                Ok(None) => why.push(format!("not in {place}")),
                Err(error @ VaultError::Path { .. }) => return Err(error),
                Err(VaultError::Store { source, .. }) => why.push(format!("{place}: {source}")),
                Err(error) => why.push(format!("{place}: {error}")),
            }
        }
        Ok(Err(if why.is_empty() { "no other store was given".to_owned() } else { why.join("; ") }))
    }

    /// An object that no other replica has whole.
    fn without_source(&mut self, name: &ObjectName, what: &str, why: String) -> Result<(RepairOutcome, Option<String>), VaultError> {
        match layout::parse(name.as_str()) {
            Some((epoch, ObjectKind::Index, _)) if self.target.can_read() => self.index_object(epoch, name),
            Some((epoch, ObjectKind::Pack, hash)) => self.pack_left(epoch, hash, what, why),
            // A mark that cannot be read marks nothing, and a bad note notes nothing: both are written again.
            None if name.as_str().contains("/marks/") || name.as_str().contains("/bad/") => {
                let kept = if self.removes() { self.put_aside(name)? } else { None };
                Ok((RepairOutcome::Unneeded, kept))
            }
            _ => Ok((RepairOutcome::Lost { why }, None)),
        }
    }

    /// A pack that nobody has whole.
    fn pack_left(&mut self, epoch: &str, hash: &str, what: &str, why: String) -> Result<(RepairOutcome, Option<String>), VaultError> {
        let Ok(id) = hash.parse::<PackId>() else { return Ok((RepairOutcome::Lost { why }, None)) };
        if self.target.can_read() && self.is_unneeded(epoch, &id)? {
            if self.removes() {
                self.needed_again(epoch)?;
            }
            return Ok((RepairOutcome::Unneeded, None));
        }
        if !self.removes() {
            return Ok((RepairOutcome::Lost { why }, None));
        }
        if self.target.can_read()
            && let Some(mended) = self.from_origins(epoch, &id)?
        {
            if matches!(mended.0, RepairOutcome::Repaired { .. }) {
                self.good.entry(epoch.to_owned()).or_default().insert(id);
            }
            return Ok(mended);
        }
        self.bad.entry(epoch.to_owned()).or_default().insert(id, what.to_owned());
        Ok((RepairOutcome::Noted { why }, None))
    }

    /// Gone, and no snapshot needs it: it was deleted, or what it held was moved.
    fn is_unneeded(&self, epoch: &str, id: &PackId) -> Result<bool, VaultError> {
        if self.target.store.size(&layout::pack(epoch, id)).map_err(|e| at(&*self.target.store, e))?.is_some() {
            return Ok(false);
        }
        let structure = scrub::structure::check(self.target)?;
        let unsure = structure.findings.iter().any(|(object, _)| matches!(layout::parse(object), Some((_, ObjectKind::Snapshot, _))));
        Ok(!unsure && !structure.hits.contains_key(layout::pack(epoch, id).as_str()))
    }

    /// An object whose name says no hash: the first other replica's bytes are taken where they differ.
    fn unnamed(&self, name: &ObjectName) -> Result<(RepairOutcome, Option<String>), VaultError> {
        match self.from_sources(name, None)? {
            Err(why) => Ok((RepairOutcome::Lost { why }, None)),
            Ok(found) => match self.reading(name)? {
                Reading::Sha256(there) if there == found.bytes.hex() => Ok((RepairOutcome::Whole, None)),
                _ => self.replace(name, &found),
            },
        }
    }

    /// Packs that snapshots need are in no index object: another replica's index objects, else one made from the packs.
    fn index_of(&self, epoch: &str) -> Result<RepairOutcome, VaultError> {
        let mut from = BTreeSet::new();
        for source in self.sources {
            let listed = match source.list_kind(epoch, ObjectKind::Index) {
                Ok(listed) => listed,
                Err(error) => {
                    tracing::warn!(%error, "a source of repairs was passed over");
                    continue;
                }
            };
            for object in listed {
                if self.target.store.size(&object.name).map_err(|e| at(&*self.target.store, e))?.is_some() {
                    continue;
                }
                let expected = layout::claimed_hash(object.name.as_str());
                if let Ok(found) = self.from_sources(&object.name, expected)? {
                    self.replace(&object.name, &found)?;
                    from.insert(found.from);
                }
            }
        }
        if self.list_unlisted(epoch)? > 0 {
            from.insert("the packs' own tables of contents".to_owned());
        }
        if from.is_empty() {
            return Ok(RepairOutcome::Whole);
        }
        Ok(RepairOutcome::Repaired { from: from.into_iter().collect::<Vec<_>>().join(", ") })
    }

    /// A damaged index object that nobody has whole: what it listed is listed anew, then it goes aside.
    fn index_object(&self, epoch: &str, name: &ObjectName) -> Result<(RepairOutcome, Option<String>), VaultError> {
        self.list_unlisted(epoch)?;
        let kept = if self.removes() { self.put_aside(name)? } else { None };
        Ok((RepairOutcome::Repaired { from: "the packs' own tables of contents".to_owned() }, kept))
    }

    /// Writes an index object for the packs that none lists; returns how many there were.
    fn list_unlisted(&self, epoch: &str) -> Result<usize, VaultError> {
        let marked = self.target.marked_packs(epoch)?;
        let unlisted = self.target.load_index(epoch, true, &marked)?.unlisted;
        if !unlisted.is_empty() {
            let key = self.target.epoch_key(epoch)?;
            self.target.publish_index(&*self.lease, epoch, key.as_deref(), &unlisted)?;
        }
        Ok(unlisted.len())
    }

    fn removes(&self) -> bool {
        self.target.store.promises().removes
    }

    /// Puts `found` in the place of what lies under `name`. It is in hand; nothing is removed before its damaged bytes
    /// are kept aside.
    fn replace(&self, name: &ObjectName, found: &Found) -> Result<(RepairOutcome, Option<String>), VaultError> {
        let store = &self.target.store;
        let kept = if self.removes() { self.put_aside(name)? } else { None };
        self.lease.check().map_err(|e| at(&**store, e))?;
        match store.put(name, &found.bytes, found.bytes.sha256()) {
            Ok(_) => {}
            // A store that takes nothing away keeps the damaged bytes, and some take no second object beside them.
            Err(error @ (StoreError::Conflict { .. } | StoreError::Refused { .. } | StoreError::Denied { .. })) if !self.removes() => {
                return Ok((RepairOutcome::Lost { why: format!("the store takes no other bytes under this name: {error}") }, kept));
            }
            Err(error) => return Err(at(&**store, error)),
        }
        let outcome = match scrub::read_hash(&**store, name, found.bytes.size())? {
            Reading::Sha256(sha) if sha == found.bytes.hex() => RepairOutcome::Repaired { from: found.from.clone() },
            _ => RepairOutcome::Lost { why: "what was written does not read back".to_owned() },
        };
        Ok((outcome, kept))
    }

    /// Copies what lies under `name` into the quarantine and removes it; returns where it is kept.
    fn put_aside(&self, name: &ObjectName) -> Result<Option<String>, VaultError> {
        let store = &self.target.store;
        let Some(damaged) = Spooled::fetch(&self.options.spool, &**store, name, true)? else { return Ok(None) };
        if damaged.unreadable > 0 {
            tracing::warn!(object = name.as_str(), bytes = damaged.unreadable, "bytes that cannot be read are kept aside as zeros");
        }
        let aside = layout::quarantined(name, &damaged.hex());
        if let Some(aside) = &aside {
            self.lease.check().map_err(|e| at(&**store, e))?;
            store.put(aside, &damaged, damaged.sha256()).map_err(|e| at(&**store, e))?;
        }
        self.lease.check().map_err(|e| at(&**store, e))?;
        store.remove(name).map_err(|e| at(&**store, e))?;
        Ok(aside.map(|name| name.as_str().to_owned()))
    }

    fn note_packs(&self) -> Result<(), VaultError> {
        let epochs: BTreeSet<&String> = self.bad.keys().chain(self.good.keys()).collect();
        let (none, nothing) = (BTreeMap::new(), BTreeSet::new());
        for epoch in epochs {
            let bad = self.bad.get(epoch).unwrap_or(&none);
            let good = self.good.get(epoch).unwrap_or(&nothing);
            self.target.note_bad_packs(&*self.lease, epoch, bad, good, self.options.now)?;
        }
        Ok(())
    }

    fn info(&self) -> &VaultInfo {
        &self.target.info
    }
}

/// Later ones rely on earlier ones.
fn rank(object: &str) -> u8 {
    match layout::parse(object).map(|(_, kind, _)| kind) {
        None if object == layout::VAULT_JSON => 0,
        None if object == layout::README => 1,
        None if object.ends_with(".age") => 2,
        None if scrub::is_small(object) => 3,
        Some(ObjectKind::Pack) => 4,
        Some(ObjectKind::Index) => 5,
        None if object.ends_with("/index") => 6,
        Some(ObjectKind::Snapshot) => 7,
        Some(ObjectKind::Hold | ObjectKind::Erasure) | None => 8,
    }
}
