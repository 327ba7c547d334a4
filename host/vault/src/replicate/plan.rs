//! What lies at the source, sorted into the write order, and when a snapshot may follow its packs.

use super::{Selection, catalogue::Catalogue};
use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    moved::Moved,
    open::{Vault, at},
    snapshots::StoredSnapshot,
    store::{Listed, ObjectName, StoreError},
};
use havun_model::PackId;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Folders at the top of a vault whose small records are copied as they are.
const TOP_RECORDS: [&str; 3] = [layout::HOLDS, layout::ERASURES, "audit"];
/// Likewise in an epoch. `marks` is not among them: what one store means to delete is its own affair.
const EPOCH_RECORDS: [&str; 2] = ["holds", "moved"];

/// The objects of the source, in the write order.
#[derive(Debug, Default)]
pub(super) struct SourceObjects {
    /// Keys, then what describes the vault; `vault.json` last.
    pub head: Vec<Listed>,
    /// Small records that belong to no epoch.
    pub records: Vec<Listed>,
    /// By epoch.
    pub epochs: BTreeMap<String, EpochObjects>,
}

/// The objects of one epoch.
#[derive(Debug, Default)]
pub(super) struct EpochObjects {
    pub packs: Vec<Listed>,
    pub index: Vec<Listed>,
    pub records: Vec<Listed>,
    pub snapshots: Vec<Listed>,
    /// Packs that others stand in for; known after [`SourceObjects::leave_needless`] where there is anything to copy.
    moved: Moved,
}

impl SourceObjects {
    /// Lists the source.
    pub fn list(from: &Vault) -> Result<Self, VaultError> {
        let mut objects = Self::default();
        let listed = from.store.list("").map_err(|e| at(&*from.store, e))?;
        let mut top = BTreeMap::new();
        for object in listed {
            match top_rank(object.name.as_str()) {
                Some(rank) => {
                    top.insert(rank, object);
                }
                None => objects.sort_in(object),
            }
        }
        objects.head.extend(top.into_values());
        Ok(objects)
    }

    fn sort_in(&mut self, object: Listed) {
        let name = object.name.as_str();
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            ["keys", _] => self.head.push(object),
            [folder, _, ..] if TOP_RECORDS.contains(folder) => self.records.push(object),
            ["epochs", epoch, folder, ..] if layout::is_epoch(epoch) => {
                let is_record = EPOCH_RECORDS.contains(folder);
                let kind = layout::parse(name).map(|(_, kind, _)| kind);
                let epoch = self.epochs.entry((*epoch).to_owned()).or_default();
                match kind {
                    Some(ObjectKind::Pack) => epoch.packs.push(object),
                    Some(ObjectKind::Index) => epoch.index.push(object),
                    Some(ObjectKind::Snapshot) => epoch.snapshots.push(object),
                    None if is_record => epoch.records.push(object),
                    Some(ObjectKind::Hold | ObjectKind::Erasure) | None => {}
                }
            }
            _ => {}
        }
    }

    /// Leaves out packs that would add nothing to what `replica` holds: their chunks were moved from packs that it has.
    pub fn leave_needless(&mut self, from: &Vault, replica: &Catalogue) -> Result<(), VaultError> {
        for (name, epoch) in &mut self.epochs {
            let lacks = |object: &Listed| replica.size(&object.name) != Some(object.size);
            if epoch.records.is_empty() || !epoch.packs.iter().chain(&epoch.snapshots).any(lacks) {
                continue;
            }
            epoch.moved = from.moved(name)?;
            let sizes = epoch.pack_sizes();
            let present = |id: &PackId| at_replica(&layout::pack(name, id), replica, &sizes).is_ok();
            let is_needless = |object: &Listed| {
                let id = layout::claimed_hash(object.name.as_str()).and_then(|hash| hash.parse().ok());
                lacks(object) && id.is_some_and(|id| epoch.moved.needless(&id, &present))
            };
            epoch.packs = epoch.packs.iter().filter(|object| !is_needless(object)).cloned().collect();
        }
        Ok(())
    }

    /// Leaves out snapshots that the replica lacks and is not to have, and what only they need.
    pub fn leave_unwanted(&mut self, from: &Vault, replica: &Catalogue, selection: &Selection) -> Result<(), VaultError> {
        let mut times: Vec<_> =
            self.epochs.values().flat_map(|epoch| &epoch.snapshots).filter_map(|s| layout::taken_at(s.name.as_str())).collect();
        times.sort_unstable();
        let newest = times.len().checked_sub(selection.floor).and_then(|at| times.get(at)).copied();
        let is_young = |object: &Listed| {
            // A name without a time says nothing against it.
            layout::taken_at(object.name.as_str()).is_none_or(|at| selection.is_within(at) || newest.is_none_or(|newest| at >= newest))
        };
        for (name, epoch) in &mut self.epochs {
            let lacks = |object: &Listed| replica.size(&object.name) != Some(object.size);
            let old: Vec<Listed> = epoch.snapshots.iter().filter(|object| lacks(object) && !is_young(object)).cloned().collect();
            let mut unwanted = BTreeSet::new();
            for object in old {
                if !selection.wants(from, &object)? {
                    unwanted.insert(object.name);
                }
            }
            if !unwanted.is_empty() {
                epoch.leave_snapshots(from, name, &unwanted)?;
            }
        }
        Ok(())
    }

    /// By epoch: a digest of what the source has of it and of what else decides whether it goes to a replica.
    pub fn digests(&self, selection: Option<&Selection>) -> BTreeMap<String, String> {
        let policy = selection.map(Selection::fingerprint).unwrap_or_default();
        let digest = |epoch: &EpochObjects| {
            let mut hasher = Sha256::new();
            hasher.update(&policy);
            let objects = [&self.records, &epoch.packs, &epoch.index, &epoch.records, &epoch.snapshots];
            objects.into_iter().flatten().for_each(|object| hasher.update(format!("\n{} {}", object.size, object.name)));
            let mut hex = hex::encode(hasher.finalize());
            hex.truncate(32);
            hex
        };
        self.epochs.iter().map(|(name, epoch)| (name.clone(), digest(epoch))).collect()
    }

    /// Every object, in the write order.
    pub fn all(&self) -> impl Iterator<Item = &Listed> {
        let epochs = self.epochs.values().flat_map(|e| [&e.packs, &e.index, &e.records, &e.snapshots]);
        [&self.head, &self.records].into_iter().chain(epochs).flatten()
    }
}

/// `vault.json` comes last: a folder that has it is complete.
fn top_rank(name: &str) -> Option<usize> {
    [layout::README, layout::HEAD_SUMS, layout::VAULT_JSON].iter().position(|top| *top == name)
}

impl EpochObjects {
    /// Leaves out these snapshots, and the packs that no other needs; where no other is left, everything.
    fn leave_snapshots(&mut self, from: &Vault, epoch: &str, unwanted: &BTreeSet<ObjectName>) -> Result<(), VaultError> {
        self.snapshots.retain(|object| !unwanted.contains(&object.name));
        if self.snapshots.is_empty() {
            (self.packs, self.index, self.records) = Default::default();
            return Ok(());
        }
        let moved = from.moved(epoch)?;
        let there: BTreeSet<&str> = self.packs.iter().filter_map(|pack| layout::claimed_hash(pack.name.as_str())).collect();
        let present = |id: &PackId| there.contains(id.to_hex().as_str());
        let mut needed = BTreeSet::new();
        for object in &self.snapshots {
            match from.read_snapshot_object(object) {
                Ok(stored) => {
                    needed.extend(moved.newest(&stored.id, &stored.snapshot.packs, &present));
                    needed.extend(stored.snapshot.packs);
                }
                // Nobody knows what it needs.
                Err(VaultError::Damaged { .. }) => return Ok(()),
                // A clean-up took it away since it was listed: it needs nothing.
                Err(VaultError::Store { source: StoreError::NotFound { .. }, .. }) => {}
                Err(other) => return Err(other),
            }
        }
        let needed: BTreeSet<String> = needed.iter().map(PackId::to_hex).collect();
        self.packs.retain(|pack| layout::claimed_hash(pack.name.as_str()).is_none_or(|hash| needed.contains(hash)));
        Ok(())
    }

    /// Whether `replica` has all of it.
    pub fn is_at(&self, replica: &Catalogue) -> bool {
        let mut all = [&self.packs, &self.index, &self.records, &self.snapshots].into_iter().flatten();
        all.all(|object| replica.size(&object.name) == Some(object.size))
    }

    /// Sizes of the packs at the source.
    pub fn pack_sizes(&self) -> BTreeMap<ObjectName, u64> {
        self.packs.iter().map(|pack| (pack.name.clone(), pack.size)).collect()
    }

    /// Whether what a snapshot needs of a pack is at the replica: the pack, or those that its chunks were moved to or came
    /// from. `Err` names the pack and says what is wrong.
    pub fn satisfied(
        &self,
        stored: &StoredSnapshot,
        needed: &PackId,
        replica: &Catalogue,
        source: &BTreeMap<ObjectName, u64>,
    ) -> Result<(), (ObjectName, String)> {
        let name = |id: &PackId| layout::pack(&stored.snapshot.epoch, id);
        let present = |id: &PackId| at_replica(&name(id), replica, source).is_ok();
        if self.moved.satisfied(&stored.id, needed, &present) {
            return Ok(());
        }
        let name = name(needed);
        at_replica(&name, replica, source).map_err(|why| (name, why))
    }
}

/// Whether a pack is at the replica with the size that it has at the source, or, where the source has thinned it out since,
/// at all.
fn at_replica(name: &ObjectName, replica: &Catalogue, source: &BTreeMap<ObjectName, u64>) -> Result<(), String> {
    match (replica.size(name), source.get(name)) {
        (None, None) => Err("missing".to_owned()),
        (None, Some(_)) => Err("not copied".to_owned()),
        (Some(there), Some(here)) if there != *here => Err(format!("{there} bytes at the replica, {here} at the source")),
        (Some(_), _) => Ok(()),
    }
}
