//! What only a key can tell: whether snapshots and index objects open, and whether what they name is there.

use super::head::Finding;
use crate::{error::VaultError, layout, open::Vault, snapshots::StoredSnapshot};
use havun_model::{PackId, SnapshotId};
use std::collections::{BTreeMap, BTreeSet};

/// What was found, and which snapshots each object would take with it.
pub(crate) struct Structure {
    pub findings: Vec<Finding>,
    pub hits: BTreeMap<String, Vec<SnapshotId>>,
}

/// Reads every snapshot and index object of the vault.
pub(crate) fn check(vault: &Vault) -> Result<Structure, VaultError> {
    let list = vault.snapshots()?;
    let mut structure = Structure { findings: Vec::new(), hits: BTreeMap::new() };
    for damage in list.damaged {
        structure.hits.insert(damage.object.clone(), damage.snapshots);
        structure.findings.push((damage.object, damage.what));
    }
    for epoch in vault.epochs()? {
        let snapshots: Vec<&StoredSnapshot> = list.snapshots.iter().filter(|s| s.snapshot.epoch == epoch).collect();
        check_epoch(vault, &epoch, &snapshots, &mut structure)?;
    }
    Ok(structure)
}

fn check_epoch(vault: &Vault, epoch: &str, snapshots: &[&StoredSnapshot], structure: &mut Structure) -> Result<(), VaultError> {
    let loaded = vault.load_index(epoch, false, &BTreeSet::new())?;
    structure.findings.extend(loaded.bad.iter().map(|bad| (bad.object.clone(), bad.what.clone())));
    let moved = vault.moved(epoch)?;
    let whole = |id: &PackId| loaded.present.contains_key(id) && !loaded.missing.contains(id);
    let mut needed = BTreeSet::new();
    for stored in snapshots {
        for named in &stored.snapshot.packs {
            // What was moved to other packs is not missed in this one.
            let packs = moved.standing_in(&stored.id, named, &whole).unwrap_or_else(|| BTreeSet::from([*named]));
            for pack in packs {
                structure.hits.entry(layout::pack(epoch, &pack).as_str().to_owned()).or_default().push(stored.id);
                needed.insert(pack);
            }
        }
    }
    for id in &needed {
        let what = match loaded.present.get(id) {
            None => "it is missing".to_owned(),
            Some(size) if loaded.missing.contains(id) => format!("it has {size} bytes, and the index says otherwise"),
            Some(_) => continue,
        };
        structure.findings.push((layout::pack(epoch, id).as_str().to_owned(), what));
    }
    let unlisted: Vec<PackId> = loaded.unlisted.iter().map(|(id, _, _)| *id).filter(|id| needed.contains(id)).collect();
    if !unlisted.is_empty() {
        let hits = unlisted.iter().filter_map(|id| structure.hits.get(layout::pack(epoch, id).as_str())).flatten();
        let hit: BTreeSet<SnapshotId> = hits.copied().collect();
        structure.hits.insert(layout::index_folder(epoch), hit.into_iter().collect());
        let what = format!("no index object lists {} of the packs that snapshots need", unlisted.len());
        structure.findings.push((layout::index_folder(epoch), what));
    }
    Ok(())
}
