//! Which chunks a vault has already: the epoch's index, loaded when it is first asked for, and what this session
//! has written since.

use crate::{chunks::EpochIndex, error::VaultError, index::Index, open::Vault, pack::Toc, store::Lease};
use havun_model::{ChunkId, PackId};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A lazily loaded index. Packs that an earlier run left without an index object are adopted: compared with their
/// SHA-256, used, and listed in the next index object. Marked packs and packs noted as damaged count as absent, and so do deltas that
/// need something of them.
pub(crate) struct Known<'v> {
    vault: &'v Vault,
    epoch: String,
    loading: Mutex<()>,
    loaded: OnceLock<Arc<Index>>,
    adopted: Mutex<Vec<(PackId, u64, Toc)>>,
}

impl<'v> Known<'v> {
    pub fn new(vault: &'v Vault, epoch: &str) -> Self {
        Self { vault, epoch: epoch.to_owned(), loading: Mutex::new(()), loaded: OnceLock::new(), adopted: Mutex::new(Vec::new()) }
    }

    /// The index; the first call reads it.
    pub fn index(&self) -> Result<&Arc<Index>, VaultError> {
        if let Some(index) = self.loaded.get() {
            return Ok(index);
        }
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = self.loaded.get() {
            return Ok(index);
        }
        let marked = self.vault.marked_packs(&self.epoch)?;
        let EpochIndex { mut index, unlisted, bad, noted, .. } = self.vault.load_index(&self.epoch, true, &marked)?;
        index.remove_packs(marked.union(&noted));
        index.forget_baseless();
        for object in bad {
            tracing::warn!(object = %object.object, what = %object.what, "a damaged object was passed over; what it held is stored anew where it is needed");
        }
        *self.adopted.lock().unwrap_or_else(PoisonError::into_inner) = unlisted;
        Ok(self.loaded.get_or_init(|| Arc::new(index)))
    }

    /// Whether a usable pack has the chunk.
    pub fn has(&self, id: &ChunkId) -> Result<bool, VaultError> {
        Ok(self.index()?.get(id).is_some())
    }

    /// Packs to list in this session's index object besides its own; empty while the index was never needed.
    pub fn take_adopted(&self) -> Vec<(PackId, u64, Toc)> {
        std::mem::take(&mut *self.adopted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A lease shared by the threads of a session.
pub(crate) type SharedLease = Arc<dyn Lease>;
