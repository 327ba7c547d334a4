//! Packs whose needed chunks were copied into others. A snapshot object never changes, so it goes on naming the packs that
//! it was made with; a `moved` record says where to look instead, and for which snapshots that holds.
//!
//! A record says two things. For the snapshots that it names: all that they need of the packs in `from` is in the packs in
//! `to`. And for everybody: what is in the packs in `to` is also in the packs in `from`, so a replica that has all of
//! `from` never needs `to`.

use crate::{
    error::VaultError,
    layout,
    open::{Vault, at, check_hash},
};
use havun_model::{PackId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Largest record, in bytes.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// One record as stored, in the clear: ids say nothing of what is behind them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedRecord {
    /// The new packs.
    pub to: Vec<PackId>,
    /// The old ones.
    pub from: Vec<PackId>,
    /// Snapshots for which `to` does instead of `from`: those that were there. Others may need more of `from`.
    pub snapshots: Vec<SnapshotId>,
}

/// All records of an epoch.
#[derive(Debug, Clone, Default)]
pub struct Moved {
    records: Vec<Record>,
    by_from: BTreeMap<PackId, Vec<usize>>,
    by_to: BTreeMap<PackId, Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Record {
    to: Vec<PackId>,
    from: Vec<PackId>,
    snapshots: BTreeSet<SnapshotId>,
}

impl Moved {
    /// From records in any order.
    pub fn new(records: impl IntoIterator<Item = MovedRecord>) -> Self {
        let mut moved = Self::default();
        for record in records {
            moved.add(record);
        }
        moved
    }

    fn add(&mut self, record: MovedRecord) {
        let number = self.records.len();
        record.from.iter().for_each(|id| self.by_from.entry(*id).or_default().push(number));
        record.to.iter().for_each(|id| self.by_to.entry(*id).or_default().push(number));
        self.records.push(Record { to: record.to, from: record.from, snapshots: record.snapshots.into_iter().collect() });
    }

    /// Whether nothing was ever moved.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether what `snapshot` needs of `pack` is there: the pack itself, the packs that its chunks were moved to, or
    /// those that they were moved from.
    pub fn satisfied(&self, snapshot: &SnapshotId, pack: &PackId, present: &dyn Fn(&PackId) -> bool) -> bool {
        self.standing_in(snapshot, pack, present).is_some()
    }

    /// The packs that hold what `snapshot` needs of `pack`: itself where it is there, else others; `None` where they are
    /// not all there.
    pub fn standing_in(&self, snapshot: &SnapshotId, pack: &PackId, present: &dyn Fn(&PackId) -> bool) -> Option<BTreeSet<PackId>> {
        let mut search = Search { moved: self, snapshot, present, forward: BTreeMap::new(), back: BTreeMap::new() };
        search.any(pack)
    }

    /// Whether a copy of `pack` would add nothing to a store: all that is in it is there already, in the packs that its
    /// chunks were moved from.
    pub fn needless(&self, pack: &PackId, present: &dyn Fn(&PackId) -> bool) -> bool {
        // No snapshot has the id of none.
        let nobody = SnapshotId::from_bytes([0; 32]);
        let mut search = Search { moved: self, snapshot: &nobody, present, forward: BTreeMap::new(), back: BTreeMap::new() };
        !present(pack) && search.origins(pack).is_some()
    }

    /// What `snapshot` needs now of the packs that it names: those that its chunks were moved to, as far as these are
    /// present, else the pack itself. Unlike [`Moved::standing_in`] it prefers the new packs while the old ones are still there.
    pub fn newest(&self, snapshot: &SnapshotId, named: &[PackId], present: &dyn Fn(&PackId) -> bool) -> BTreeSet<PackId> {
        let mut search = Search { moved: self, snapshot, present, forward: BTreeMap::new(), back: BTreeMap::new() };
        let mut needed = BTreeSet::new();
        for pack in named {
            match search.forward(pack) {
                Some(packs) => needed.extend(packs),
                None => match search.origins(pack) {
                    Some(packs) => needed.extend(packs),
                    None => drop(needed.insert(*pack)),
                },
            }
        }
        needed
    }
}

type Found = Option<BTreeSet<PackId>>;

/// One question; what was answered on the way is kept, and what is being asked counts as no, so that it always ends.
struct Search<'a> {
    moved: &'a Moved,
    snapshot: &'a SnapshotId,
    present: &'a dyn Fn(&PackId) -> bool,
    forward: BTreeMap<PackId, Found>,
    back: BTreeMap<PackId, Found>,
}

impl Search<'_> {
    fn any(&mut self, pack: &PackId) -> Found {
        if (self.present)(pack) {
            return Some(BTreeSet::from([*pack]));
        }
        self.forward(pack).or_else(|| self.origins(pack))
    }

    /// The newest packs that stand in for `pack`, itself where it was not moved.
    fn forward(&mut self, pack: &PackId) -> Found {
        if let Some(known) = self.forward.get(pack) {
            return known.clone();
        }
        self.forward.insert(*pack, None);
        let moved = self.moved;
        let mut found = None;
        for record in moved.by_from.get(pack).into_iter().flatten().filter_map(|n| moved.records.get(*n)) {
            if record.snapshots.contains(self.snapshot) {
                found = all(&record.to, |to| self.forward(to));
            }
            if found.is_some() {
                break;
            }
        }
        let found = found.or_else(|| (self.present)(pack).then(|| BTreeSet::from([*pack])));
        self.forward.insert(*pack, found.clone());
        found
    }

    /// The packs that what is in `pack` came from, where it is not there itself.
    fn origins(&mut self, pack: &PackId) -> Found {
        if let Some(known) = self.back.get(pack) {
            return known.clone();
        }
        self.back.insert(*pack, None);
        let moved = self.moved;
        let mut found = None;
        for record in moved.by_to.get(pack).into_iter().flatten().filter_map(|n| moved.records.get(*n)) {
            found = all(&record.from, |from| if (self.present)(from) { Some(BTreeSet::from([*from])) } else { self.origins(from) });
            if found.is_some() {
                break;
            }
        }
        self.back.insert(*pack, found.clone());
        found
    }
}

/// The union, where each is found; nothing of nothing is not found.
fn all(packs: &[PackId], mut find: impl FnMut(&PackId) -> Found) -> Found {
    let mut union = BTreeSet::new();
    for pack in packs {
        union.extend(find(pack)?);
    }
    (!packs.is_empty()).then_some(union)
}

/// The records of an epoch, and those that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct MovedList {
    pub moved: Moved,
    /// Object and what is wrong with it.
    pub damaged: Vec<(String, String)>,
    /// How many there are.
    pub objects: u64,
}

impl Vault {
    /// The records of packs that were moved, of one epoch. A damaged one is passed over with a warning.
    ///
    /// # Errors
    /// The store's.
    pub fn moved(&self, epoch: &str) -> Result<Moved, VaultError> {
        Ok(self.read_moved(epoch)?.moved)
    }

    pub(crate) fn read_moved(&self, epoch: &str) -> Result<MovedList, VaultError> {
        let mut list = MovedList::default();
        for object in self.store.list(&layout::moved_folder(epoch)).map_err(|e| at(&*self.store, e))? {
            list.objects += 1;
            let bytes = self.store.read(&object.name, MAX_RECORD_BYTES).map_err(|e| at(&*self.store, e))?;
            let record = check_hash(&object.name, &bytes).map_err(|e| match e {
                VaultError::Damaged { what, .. } => what,
                other => other.to_string(),
            });
            match record.and_then(|()| serde_json::from_slice(&bytes).map_err(|e| e.to_string())) {
                Ok(record) => list.moved.add(record),
                Err(what) => {
                    tracing::warn!(object = object.name.as_str(), %what, "a damaged record of moved packs was passed over");
                    list.damaged.push((object.name.as_str().to_owned(), what));
                }
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests;
