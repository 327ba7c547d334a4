//! A repacked pack that nobody has whole: the packs that it was made of take its place again, from wherever they still lie.
//!
//! An archive is never repacked, so it has them as long as it has the snapshots. They come back byte for byte; the damaged
//! pack goes into the quarantine, for as long as it lies in its place a clean-up takes the old ones for waste.

use super::{Found, Repair, RepairOutcome};
use crate::{
    error::VaultError,
    layout,
    moved::MovedRecord,
    open::{Vault, at},
    scrub::Reading,
    store::ObjectName,
};
use havun_model::PackId;
use std::collections::{BTreeMap, BTreeSet};

/// Packs in hand, by name; those that lie whole in the target are not among them.
type Fetched = BTreeMap<ObjectName, Found>;

impl Repair<'_> {
    /// Brings back what `id` was made of. `None` where not all of it is to be had.
    pub(super) fn from_origins(&self, epoch: &str, id: &PackId) -> Result<Option<(RepairOutcome, Option<String>)>, VaultError> {
        let mut records = self.target.moved_records(epoch)?;
        for source in self.sources {
            records.extend(source.moved_records(epoch).unwrap_or_default());
        }
        let mut fetched = Fetched::new();
        if !self.fetch_origins(epoch, id, &records, &mut BTreeSet::new(), &mut fetched)? {
            return Ok(None);
        }
        let places: BTreeSet<&str> = fetched.values().map(|found| found.from.as_str()).collect();
        let from = if places.is_empty() { String::new() } else { format!(" from {}", places.into_iter().collect::<Vec<_>>().join(", ")) };
        for (name, found) in &fetched {
            if let (RepairOutcome::Lost { why }, kept) = self.replace(name, found)? {
                return Ok(Some((RepairOutcome::Lost { why }, kept)));
            }
        }
        let kept = self.put_aside(&layout::pack(epoch, id))?;
        self.needed_again(epoch)?;
        Ok(Some((RepairOutcome::Repaired { from: format!("the packs that it was made of{from}") }, kept)))
    }

    /// Old packs that snapshots need again, now that a repacked one is gone, are marked no more, and listed: backups rely on them.
    pub(super) fn needed_again(&self, epoch: &str) -> Result<(), VaultError> {
        let moved = self.target.moved(epoch)?;
        let loaded = self.target.load_index(epoch, false, &BTreeSet::new())?;
        let list = self.target.snapshots()?.snapshots;
        let of_epoch = list.iter().filter(|stored| stored.snapshot.epoch == epoch);
        let needed = of_epoch.flat_map(|stored| moved.newest(&stored.id, &stored.snapshot.packs, &|id| loaded.is_whole(id))).collect();
        self.target.unmark_packs(&*self.lease, epoch, &needed)?;
        self.list_unlisted(epoch)?;
        Ok(())
    }

    /// Whether all that `id` was made of by one of the records is whole in the target or in hand.
    fn fetch_origins(
        &self,
        epoch: &str,
        id: &PackId,
        records: &[MovedRecord],
        asked: &mut BTreeSet<PackId>,
        fetched: &mut Fetched,
    ) -> Result<bool, VaultError> {
        asked.insert(*id);
        for record in records.iter().filter(|record| record.to.contains(id) && !record.from.is_empty()) {
            let mut all = true;
            for from in &record.from {
                all = all && !asked.contains(from) && self.fetch(epoch, from, records, asked, fetched)?;
            }
            if all {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fetch(
        &self,
        epoch: &str,
        id: &PackId,
        records: &[MovedRecord],
        asked: &mut BTreeSet<PackId>,
        fetched: &mut Fetched,
    ) -> Result<bool, VaultError> {
        let name = layout::pack(epoch, id);
        if fetched.contains_key(&name) || matches!(self.reading(&name)?, Reading::Sha256(found) if found == id.to_hex()) {
            return Ok(true);
        }
        match self.from_sources(&name, Some(&id.to_hex()))? {
            Ok(found) => {
                fetched.insert(name, found);
                Ok(true)
            }
            Err(_) => self.fetch_origins(epoch, id, records, asked, fetched),
        }
    }
}

impl Vault {
    /// The records of packs that were moved, those that can be read.
    fn moved_records(&self, epoch: &str) -> Result<Vec<MovedRecord>, VaultError> {
        let mut records = Vec::new();
        for object in self.store.list(&layout::moved_folder(epoch)).map_err(|e| at(&*self.store, e))? {
            let bytes = self.store.read(&object.name, 1 << 26).map_err(|e| at(&*self.store, e))?;
            records.extend(serde_json::from_slice::<MovedRecord>(&bytes));
        }
        Ok(records)
    }
}
