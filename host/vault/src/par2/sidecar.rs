//! PAR2 files in a store: `epochs/<epoch>/parity/<xx>/<sha256 of the pack>.par2`.

use super::encode;
use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    open::{Vault, at},
    progress::Progress,
    store::{ObjectName, Store},
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// No pack is larger.
const MAX_PACK_BYTES: u64 = 3 << 30;

/// How to write parity.
#[derive(Debug, Clone, Copy)]
pub struct ParityOptions {
    /// Parity in percent of the pack, 1 to 100.
    pub percent: u8,
    /// Threads that reckon; at least one.
    pub threads: usize,
}

/// What was written.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ParityReport {
    /// PAR2 files written.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that are damaged or missing, with what is wrong: parity of damaged bytes would keep the damage.
    pub damaged: Vec<(String, String)>,
}

/// Writes a PAR2 file beside each of `packs` in `to` that has none. Their bytes are read from `from`, a store that has
/// them (the same one, or a nearer one).
///
/// # Errors
/// The stores'.
pub fn write_parity(
    from: &dyn Store,
    to: &dyn Store,
    packs: &[ObjectName],
    options: &ParityOptions,
    progress: &dyn Progress,
) -> Result<ParityReport, VaultError> {
    let mut report = ParityReport::default();
    for pack in packs {
        let Some(name) = layout::parity_of(pack.as_str()) else { continue };
        if to.size(&name).map_err(|e| at(to, e))?.is_some() {
            continue;
        }
        let Some(size) = from.size(pack).map_err(|e| at(from, e))? else {
            report.damaged.push((pack.as_str().to_owned(), "it is missing".to_owned()));
            continue;
        };
        let bytes = from.read(pack, MAX_PACK_BYTES).map_err(|e| at(from, e))?;
        if let Err(VaultError::Damaged { object, what }) = crate::open::check_hash(pack, &bytes) {
            report.damaged.push((object, what));
            continue;
        }
        let file = encode(pack.file_name(), &bytes, options.percent.clamp(1, 100), options.threads);
        to.put(&name, &file.as_slice(), &Sha256::digest(&file).into()).map_err(|e| at(to, e))?;
        report.objects += 1;
        report.bytes += file.len() as u64;
        progress.advance("parity", 1, size);
    }
    Ok(report)
}

/// Packs of a vault in `store` that have no PAR2 file.
///
/// # Errors
/// The store's.
pub fn packs_without_parity(store: &dyn Store) -> Result<Vec<ObjectName>, VaultError> {
    let listed = store.list("epochs").map_err(|e| at(store, e))?;
    let there: BTreeSet<&str> = listed.iter().map(|l| l.name.as_str()).collect();
    let lacks = |name: &&ObjectName| {
        matches!(layout::parse(name.as_str()), Some((_, ObjectKind::Pack, _)))
            && layout::parity_of(name.as_str()).is_some_and(|parity| !there.contains(parity.as_str()))
    };
    Ok(listed.iter().map(|l| &l.name).filter(lacks).cloned().collect())
}

/// Removes PAR2 files whose packs were deleted; returns how many. Runs after a clean-up.
///
/// # Errors
/// [`VaultError::Locked`]; the store's.
pub fn remove_orphaned_parity(vault: &Vault, holder: &str) -> Result<u64, VaultError> {
    let store = vault.store();
    let lease = store.lease(holder, false).map_err(|e| at(&**store, e))?;
    let listed = store.list("epochs").map_err(|e| at(&**store, e))?;
    let there: BTreeSet<&str> = listed.iter().map(|l| l.name.as_str()).collect();
    let mut removed = 0;
    for object in &listed {
        if layout::pack_of_parity(object.name.as_str()).is_some_and(|pack| !there.contains(pack.as_str())) {
            lease.check().map_err(|e| at(&**store, e))?;
            store.remove(&object.name).map_err(|e| at(&**store, e))?;
            removed += 1;
        }
    }
    Ok(removed)
}
