//! What lies at the source, sorted into the write order, and when a snapshot may follow its packs.

use super::catalogue::Catalogue;
use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    open::{Vault, at},
    store::{Listed, ObjectName},
};
use havun_model::PackId;
use std::collections::BTreeMap;

/// Folders at the top of a vault whose small records are copied as they are.
const TOP_RECORDS: [&str; 2] = ["holds", "audit"];
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
                    Some(ObjectKind::Hold) | None => {}
                }
            }
            _ => {}
        }
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

/// Whether pack `needed` of `epoch` is at the replica as a snapshot needs it: with the size that it has in `source`, or,
/// where the source has thinned it out since, at all. `Err` says what is wrong.
pub(super) fn satisfied(epoch: &str, needed: &PackId, replica: &Catalogue, source: &BTreeMap<&ObjectName, u64>) -> Result<(), String> {
    let name = layout::pack(epoch, needed);
    match (replica.size(&name), source.get(&name)) {
        (None, None) => Err("missing".to_owned()),
        (None, Some(_)) => Err("not copied".to_owned()),
        (Some(there), Some(here)) if there != *here => Err(format!("{there} bytes at the replica, {here} at the source")),
        (Some(_), _) => Ok(()),
    }
}
