//! An epoch's index, loaded and compared with the packs that are there. Chunks are read by [`crate::reader`].

use crate::{
    error::VaultError,
    index::{Index, decode as decode_index},
    layout::{self, ObjectKind},
    open::{Vault, at},
    pack::{PackReader, Toc},
    store::Listed,
};
use havun_model::{IndexId, PackId};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// A damaged or missing object that was met while loading, with the epoch's name in front.
#[derive(Debug, Clone)]
pub(crate) struct BadObject {
    pub object: String,
    pub what: String,
}

/// What an epoch's index says, compared with the packs that are really there.
pub(crate) struct EpochIndex {
    /// Chunks of packs that are there.
    pub index: Index,
    /// Packs that are there, with their stored size in bytes.
    pub present: BTreeMap<PackId, u64>,
    /// Index objects and the packs that each lists.
    pub objects: BTreeMap<IndexId, Vec<PackId>>,
    /// Packs that are there and that no readable index object lists.
    pub unlisted: Vec<(PackId, u64, Toc)>,
    /// Packs that an index object lists and that are not there, or have another size.
    pub missing: BTreeSet<PackId>,
    /// Objects that could not be read.
    pub bad: Vec<BadObject>,
    /// Packs noted as damaged: a chunk is looked for in every other pack first.
    pub noted: BTreeSet<PackId>,
    /// Those of them that index objects list, until the others are in.
    last: Vec<(PackId, u64, Toc)>,
}

impl Vault {
    /// Packs that lie in the epoch, with their sizes.
    pub(crate) fn list_packs(&self, epoch: &str) -> Result<BTreeMap<PackId, u64>, VaultError> {
        let listed = self.list_kind(epoch, ObjectKind::Pack)?;
        Ok(listed
            .into_iter()
            .filter_map(|l| {
                let id = layout::claimed_hash(l.name.as_str())?.parse().ok()?;
                Some((id, l.size))
            })
            .collect())
    }

    pub(crate) fn list_kind(&self, epoch: &str, kind: ObjectKind) -> Result<Vec<Listed>, VaultError> {
        self.store.list(&format!("epochs/{epoch}/{}", kind.folder())).map_err(|e| at(&*self.store, e))
    }

    /// Loads the index of an epoch. Packs without an index object are read from their own tables of contents,
    /// except those in `ignore`; `whole` asks that their SHA-256 is compared first, as adopting them needs.
    pub(crate) fn load_index(&self, epoch: &str, whole: bool, ignore: &BTreeSet<PackId>) -> Result<EpochIndex, VaultError> {
        let present = self.list_packs(epoch)?;
        let mut loaded = EpochIndex {
            index: Index::empty(),
            present,
            objects: BTreeMap::new(),
            unlisted: Vec::new(),
            missing: BTreeSet::new(),
            bad: Vec::new(),
            noted: self.bad_packs(epoch)?,
            last: Vec::new(),
        };
        let mut listed = BTreeSet::new();
        for object in self.list_kind(epoch, ObjectKind::Index)? {
            self.load_index_object(&object, &mut loaded, &mut listed);
        }
        let passed_over = |id: &PackId| listed.contains(id) || ignore.contains(id);
        let strays: Vec<(PackId, u64)> = loaded.present.iter().filter(|(id, _)| !passed_over(id)).map(|(id, size)| (*id, *size)).collect();
        for (id, size) in strays {
            let noted = loaded.noted.contains(&id);
            match self.read_stray(epoch, &id, size, whole && !noted) {
                Ok(toc) if noted => loaded.last.push((id, size, toc)),
                Ok(toc) => {
                    loaded.index.insert_pack(id, size, &toc);
                    loaded.unlisted.push((id, size, toc));
                }
                Err(error) => loaded.bad.push(BadObject { object: layout::pack(epoch, &id).as_str().to_owned(), what: error.to_string() }),
            }
        }
        for (id, size, toc) in std::mem::take(&mut loaded.last) {
            loaded.index.insert_pack(id, size, &toc);
        }
        Ok(loaded)
    }

    fn load_index_object(&self, object: &Listed, loaded: &mut EpochIndex, listed: &mut BTreeSet<PackId>) {
        let name = object.name.as_str().to_owned();
        let packs = self
            .read_object(&object.name, ObjectKind::Index)
            .and_then(|plain| decode_index(&plain).map_err(|e| VaultError::Damaged { object: name.clone(), what: e.to_string() }));
        let packs = match packs {
            Ok(packs) => packs,
            Err(error) => {
                let what = match error {
                    VaultError::Damaged { what, .. } => what,
                    other => other.to_string(),
                };
                loaded.bad.push(BadObject { object: name, what });
                return;
            }
        };
        let ids = packs.iter().map(|(id, _, _)| *id).collect();
        for (id, size, toc) in packs {
            if loaded.present.get(&id) != Some(&size) {
                loaded.missing.insert(id);
            } else if listed.insert(id) && loaded.noted.contains(&id) {
                loaded.last.push((id, size, toc));
            } else if !loaded.noted.contains(&id) {
                loaded.index.insert_pack(id, size, &toc);
            }
        }
        if let Some(id) = layout::claimed_hash(&name).and_then(|hash| hash.parse().ok()) {
            loaded.objects.insert(id, ids);
        }
    }

    /// The table of contents of a pack that no index lists.
    fn read_stray(&self, epoch: &str, id: &PackId, size: u64, whole: bool) -> Result<Toc, VaultError> {
        let name = layout::pack(epoch, id);
        if whole {
            let found = self.hash_object(&name, size)?;
            if found != id.to_hex() {
                return Err(VaultError::Damaged { object: name.as_str().to_owned(), what: format!("its SHA-256 is {found}") });
            }
        }
        let context = self.context(ObjectKind::Pack);
        let keys = self.is_encrypted().then_some((&self.ring, context.as_str()));
        let reader = PackReader::open(&*self.store, &name, keys).map_err(|e| pack_damage(self, &name, e))?;
        reader.toc().map_err(|e| pack_damage(self, &name, e))
    }

    /// SHA-256 of a stored object, read in pieces.
    pub(crate) fn hash_object(&self, name: &crate::store::ObjectName, size: u64) -> Result<String, VaultError> {
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < size {
            let len = usize::try_from((size - offset).min(piece.len() as u64)).unwrap_or(piece.len());
            let part = piece.get_mut(..len).unwrap_or_default();
            self.store.read_range(name, offset, part).map_err(|e| at(&*self.store, e))?;
            hasher.update(&*part);
            offset += len as u64;
        }
        Ok(hex::encode(hasher.finalize()))
    }
}

pub(crate) fn pack_damage(vault: &Vault, name: &crate::store::ObjectName, error: crate::pack::PackError) -> VaultError {
    match error {
        crate::pack::PackError::Store(crate::store::StoreError::NotFound { .. }) => {
            VaultError::Damaged { object: name.as_str().to_owned(), what: "it is missing".to_owned() }
        }
        crate::pack::PackError::Store(source) => at(&*vault.store, source),
        other => VaultError::Damaged { object: name.as_str().to_owned(), what: other.to_string() },
    }
}
