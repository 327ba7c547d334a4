//! Copying a vault to another store, byte for byte, in the write order: keys, packs, index, snapshots.

use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    open::{Vault, at, check_hash, publish, publish_upload, read_info},
    progress::Progress,
    store::{Lease, Listed, ObjectName, Store, StoreError},
};
use havun_model::{PackId, SnapshotId};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Bytes read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a replication copied.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ReplicationReport {
    /// Objects copied.
    pub objects: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Snapshots that were held back because something that they need is missing or damaged, and why.
    pub held_back: Vec<(SnapshotId, String)>,
}

/// Brings the replica in `to` up to date with `from`; makes it where there is none. A snapshot is copied only when
/// every pack that it needs lies in `to` with the size that it has in `from`.
///
/// # Errors
/// [`VaultError::OtherVault`] when `to` holds another vault; [`VaultError::Store`] when a store fails: what was
/// copied so far stays, and the next call goes on from there.
pub fn replicate(from: &Vault, to: &Arc<dyn Store>, holder: &str, progress: &dyn Progress) -> Result<ReplicationReport, VaultError> {
    let lease = to.lease(holder, false).map_err(|e| at(&**to, e))?;
    let mut copy = Copy { from, to, lease, progress, report: ReplicationReport::default() };
    copy.head()?;
    for epoch in from.epochs()? {
        copy.epoch(&epoch)?;
    }
    Ok(copy.report)
}

struct Copy<'a> {
    from: &'a Vault,
    to: &'a Arc<dyn Store>,
    lease: Box<dyn Lease>,
    progress: &'a dyn Progress,
    report: ReplicationReport,
}

impl Copy<'_> {
    /// The keys and the description: a replica without its keys is worth nothing, so they go first.
    fn head(&mut self) -> Result<(), VaultError> {
        match read_info(&**self.to) {
            Ok(info) if info.vault_id == self.from.info.vault_id => {}
            Ok(info) => {
                return Err(VaultError::OtherVault {
                    place: self.to.describe(),
                    found: info.vault_id,
                    expected: self.from.info.vault_id.clone(),
                });
            }
            Err(VaultError::NoVault { .. }) => {}
            Err(other) => return Err(other),
        }
        let mut names: Vec<ObjectName> = self.list_from("keys")?.into_iter().map(|l| l.name).collect();
        names.extend([layout::README, layout::HEAD_SUMS, layout::VAULT_JSON].map(layout::top));
        for name in names {
            self.small(&name)?;
        }
        Ok(())
    }

    fn small(&mut self, name: &ObjectName) -> Result<(), VaultError> {
        let there = self.to.size(name).map_err(|e| at(&**self.to, e))?;
        if there.is_none() {
            let bytes = match self.from.store.read(name, 1 << 20) {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => return Ok(()),
                Err(e) => return Err(at(&*self.from.store, e)),
            };
            self.publish(name, &bytes)?;
        }
        Ok(())
    }

    fn epoch(&mut self, epoch: &str) -> Result<(), VaultError> {
        let source = self.from.list_packs(epoch)?;
        let mut there = self.packs_there(epoch)?;
        let mut unreadable = BTreeMap::new();
        for (id, size) in &source {
            if there.get(id) == Some(size) {
                continue;
            }
            match self.pack(epoch, id, *size) {
                Ok(()) => {
                    there.insert(*id, *size);
                }
                Err(VaultError::Damaged { what, .. }) => {
                    unreadable.insert(*id, what);
                }
                Err(other) => return Err(other),
            }
        }
        for object in self.missing_there(epoch, ObjectKind::Index)? {
            self.object(&object)?;
        }
        for object in self.missing_there(epoch, ObjectKind::Snapshot)? {
            self.snapshot(&object, &source, &there, &unreadable)?;
        }
        Ok(())
    }

    fn packs_there(&self, epoch: &str) -> Result<BTreeMap<PackId, u64>, VaultError> {
        let listed = self.to.list(&format!("epochs/{epoch}/packs")).map_err(|e| at(&**self.to, e))?;
        Ok(listed.iter().filter_map(|l| Some((layout::claimed_hash(l.name.as_str())?.parse().ok()?, l.size))).collect())
    }

    fn missing_there(&self, epoch: &str, kind: ObjectKind) -> Result<Vec<Listed>, VaultError> {
        let folder = format!("epochs/{epoch}/{}", kind.folder());
        let there: BTreeSet<String> =
            self.to.list(&folder).map_err(|e| at(&**self.to, e))?.into_iter().map(|l| l.name.as_str().to_owned()).collect();
        let mut source = self.from.list_kind(epoch, kind)?;
        source.retain(|l| !there.contains(l.name.as_str()));
        Ok(source)
    }

    /// One pack in pieces, its SHA-256 compared with its name before it is published.
    fn pack(&mut self, epoch: &str, id: &PackId, size: u64) -> Result<(), VaultError> {
        let name = layout::pack(epoch, id);
        let mut upload = self.to.begin().map_err(|e| at(&**self.to, e))?;
        let mut hasher = Sha256::new();
        let (mut piece, mut back) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        let mut offset = 0;
        while offset < size {
            let len = usize::try_from((size - offset).min(PIECE_BYTES as u64)).unwrap_or(PIECE_BYTES);
            let (part, again) = (piece.get_mut(..len).unwrap_or_default(), back.get_mut(..len).unwrap_or_default());
            self.from.store.read_range(&name, offset, part).map_err(|e| at(&*self.from.store, e))?;
            hasher.update(&*part);
            upload.write(part).map_err(|e| at(&**self.to, e))?;
            upload.read_back(offset, again).map_err(|e| at(&**self.to, e))?;
            if part != again {
                return Err(VaultError::ReadBack { object: name.as_str().to_owned() });
            }
            offset += len as u64;
            self.progress.advance("replicate", 0, len as u64);
        }
        let found = hex::encode(hasher.finalize());
        if found != id.to_hex() {
            return Err(VaultError::Damaged { object: name.as_str().to_owned(), what: format!("its SHA-256 is {found}") });
        }
        self.lease.check().map_err(|e| at(&**self.to, e))?;
        publish_upload(&**self.to, upload, &name, size)?;
        self.count(size);
        Ok(())
    }

    /// An index or snapshot object; a damaged one is left behind, `verify` names it.
    fn object(&mut self, object: &Listed) -> Result<(), VaultError> {
        let bytes = self.from.store.read(&object.name, 1 << 30).map_err(|e| at(&*self.from.store, e))?;
        if let Err(error) = check_hash(&object.name, &bytes) {
            tracing::warn!(%error, "a damaged object was not copied");
            return Ok(());
        }
        self.publish(&object.name, &bytes)
    }

    fn snapshot(
        &mut self,
        object: &Listed,
        source: &BTreeMap<PackId, u64>,
        there: &BTreeMap<PackId, u64>,
        unreadable: &BTreeMap<PackId, String>,
    ) -> Result<(), VaultError> {
        let stored = match self.from.read_snapshot_object(object) {
            Ok(stored) => stored,
            Err(VaultError::Damaged { .. }) => return Ok(()),
            Err(other) => return Err(other),
        };
        let missing = stored.snapshot.packs.iter().find(|id| there.get(*id).is_none() || there.get(*id) != source.get(*id));
        if let Some(id) = missing {
            let why = unreadable.get(id).map_or_else(|| "missing".to_owned(), Clone::clone);
            self.report.held_back.push((stored.id, format!("pack {} is damaged in {}: {why}", id.short(), self.from.store.describe())));
            return Ok(());
        }
        self.object(object)
    }

    fn publish(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<(), VaultError> {
        self.lease.check().map_err(|e| at(&**self.to, e))?;
        publish(&**self.to, name, bytes)?;
        self.count(bytes.len() as u64);
        Ok(())
    }

    fn count(&mut self, bytes: u64) {
        self.report.objects += 1;
        self.report.bytes += bytes;
    }

    fn list_from(&self, folder: &str) -> Result<Vec<Listed>, VaultError> {
        self.from.store.list(folder).map_err(|e| at(&*self.from.store, e))
    }
}
