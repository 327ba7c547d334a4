//! How far a replica is behind, and whether somebody else has been at it.

use super::{
    Selection,
    catalogue::{Catalogue, CatalogueFiles},
    plan::SourceObjects,
};
use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    open::{Vault, at},
    store::{Listed, ObjectName, Store},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, path::Path};

/// What a replica lacks, so far as its catalogue says.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Lag {
    /// Whether there is a catalogue. Without one, everything counts as lacking until the next copy has looked.
    pub known: bool,
    /// Objects of the source that the replica lacks.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots among them.
    pub snapshots: u64,
    /// When the oldest of these was taken.
    pub oldest: Option<Timestamp>,
    /// Objects at the replica that the next copy has to see again before they count as settled.
    pub unsettled: u64,
}

/// Compares the objects of `from` with the catalogue in the folder `catalogue`, but for what `selection` leaves out. The
/// replica is not asked.
///
/// # Errors
/// When the source cannot be listed.
pub fn replica_lag(from: &Vault, catalogue: &Path, selection: Option<&Selection>) -> Result<Lag, VaultError> {
    let mut source = SourceObjects::list(from)?;
    let digests = source.digests(selection);
    let known = load_for(catalogue, &from.info.vault_id, &mut source, &digests);
    let mut lag = Lag { known: known.is_some(), ..Lag::default() };
    let known = known.unwrap_or_default();
    lag.unsettled = known.unsettled().len() as u64;
    source.leave_needless(from, &known)?;
    if let Some(selection) = selection {
        source.leave_unwanted(from, &known, selection)?;
    }
    for object in source.all().filter(|o| known.size(&o.name) != Some(o.size)) {
        lag.objects += 1;
        lag.bytes += object.size;
        if let Some((_, ObjectKind::Snapshot, _)) = layout::parse(object.name.as_str()) {
            lag.snapshots += 1;
            lag.oldest = lag.oldest.into_iter().chain(layout::taken_at(object.name.as_str())).min();
        }
    }
    Ok(lag)
}

/// The catalogue, as far as it has to be compared with `source`; what it is known to have completely is struck from that.
fn load_for(folder: &Path, vault: &str, source: &mut SourceObjects, digests: &BTreeMap<String, String>) -> Option<Catalogue> {
    let mut files = CatalogueFiles::new(folder, vault, None);
    let mut catalogue = files.load()?;
    let is_done = |epoch: &String| digests.get(epoch).is_some_and(|digest| catalogue.is_done(epoch, digest));
    let open: Vec<String> = source.epochs.keys().filter(|epoch| !is_done(epoch)).cloned().collect();
    if !open.iter().all(|epoch| files.load_epoch(&mut catalogue, epoch)) {
        return None;
    }
    source.epochs.retain(|epoch, _| open.contains(epoch));
    Some(catalogue)
}

/// What lies at a replica, against its catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReplicaAudit {
    /// Whether there is a catalogue to compare with; without one, nothing is missed.
    pub known: bool,
    /// Of what the catalogue is damaged, so that nothing of it can be missed. Empty where there never was one.
    pub forgotten: Vec<String>,
    /// Objects that the replica held and that are gone from it, with their size.
    pub missing: Vec<(String, u64)>,
    /// Objects whose size is not what it was: name, size before, size now.
    pub wrong_size: Vec<(String, u64, u64)>,
    /// Objects that are gone and never were settled: a power cut may have undone them. The next copy sends them again.
    pub undone: Vec<(String, u64)>,
    /// Objects that the catalogue does not have.
    pub unknown: u64,
    /// Objects at the replica.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ReplicaAudit {
    /// Whether everything that was there is there, as long as it was.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.wrong_size.is_empty()
    }
}

/// Lists the replica of vault `vault_id` in `to` once and compares it with the catalogue in the folder `catalogue`:
/// what was deleted or cut behind the program's back. Nothing is changed.
///
/// # Errors
/// When the replica cannot be listed.
pub fn audit_replica(catalogue: &Path, vault_id: &str, to: &dyn Store) -> Result<ReplicaAudit, VaultError> {
    let (known, forgotten) = CatalogueFiles::new(catalogue, vault_id, None).salvage();
    let mut audit = ReplicaAudit { known: known.is_some(), forgotten, ..ReplicaAudit::default() };
    let mut expected = known.unwrap_or_default();
    for object in to.list("").map_err(|e| at(to, e))? {
        audit.objects += 1;
        audit.bytes += object.size;
        match expected.size(&object.name) {
            None => audit.unknown += 1,
            Some(size) if size != object.size => audit.wrong_size.push((object.name.as_str().to_owned(), size, object.size)),
            Some(_) => {}
        }
        expected.remove(&object.name);
    }
    for (name, known) in expected.iter() {
        // A listing may be stale: what it lacks is asked for by name.
        match to.size(name).map_err(|e| at(to, e))? {
            Some(size) if size == known.size => {}
            Some(size) => audit.wrong_size.push((name.as_str().to_owned(), known.size, size)),
            None if known.settled => audit.missing.push((name.as_str().to_owned(), known.size)),
            None => audit.undone.push((name.as_str().to_owned(), known.size)),
        }
    }
    Ok(audit)
}

/// What the replica of vault `vault_id` is known to hold, sorted by name. The replica is not asked. `None` where the
/// folder `catalogue` does not know it.
pub fn replica_objects(catalogue: &Path, vault_id: &str) -> Option<Vec<Listed>> {
    let known = CatalogueFiles::new(catalogue, vault_id, None).load_all()?;
    Some(known.iter().map(|(name, known)| Listed { name: name.clone(), size: known.size }).collect())
}

/// Whether the replica of vault `vault_id` is known to hold `object`. Reads what is known of one epoch at most.
pub fn replica_has(catalogue: &Path, vault_id: &str, object: &ObjectName) -> bool {
    let mut files = CatalogueFiles::new(catalogue, vault_id, None);
    let Some(mut known) = files.load() else { return false };
    let epoch = object.as_str().split('/').nth(1).unwrap_or_default();
    files.load_epoch(&mut known, epoch) && known.size(object).is_some()
}
