//! Marks: packs that nothing needs any more, with the time when that was seen.

use super::{CleanupReport, GRACE_SECS};
use crate::{
    error::VaultError,
    layout,
    open::{Vault, at, publish},
    store::{Lease, ObjectName},
};
use havun_model::PackId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// A mark as stored, in the clear: ids of packs say nothing of what is in them.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    marked_at: Timestamp,
    packs: Vec<PackId>,
}

/// The marks of an epoch.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    /// Every pack that is marked.
    pub marked: BTreeSet<PackId>,
    /// Those whose grace has passed.
    pub due: BTreeSet<PackId>,
    /// The marks that say so.
    pub spent: Vec<ObjectName>,
}

impl Vault {
    /// Packs that are marked in an epoch.
    pub(crate) fn marked_packs(&self, epoch: &str) -> Result<BTreeSet<PackId>, VaultError> {
        Ok(self.read_marks(epoch)?.into_iter().flat_map(|(_, mark)| mark.packs).collect())
    }

    pub(super) fn marks(&self, epoch: &str, now: Timestamp) -> Result<Marks, VaultError> {
        let mut marks = Marks::default();
        for (name, mark) in self.read_marks(epoch)? {
            if now.as_second().saturating_sub(mark.marked_at.as_second()) >= GRACE_SECS {
                marks.due.extend(mark.packs.iter().copied());
                marks.spent.push(name);
            }
            marks.marked.extend(mark.packs);
        }
        Ok(marks)
    }

    /// A damaged mark marks nothing: its packs stay until they are marked again.
    fn read_marks(&self, epoch: &str) -> Result<Vec<(ObjectName, Mark)>, VaultError> {
        let mut marks = Vec::new();
        for object in self.store.list(&format!("epochs/{epoch}/marks")).map_err(|e| at(&*self.store, e))? {
            let bytes = self.store.read(&object.name, 1 << 28).map_err(|e| at(&*self.store, e))?;
            match (crate::open::check_hash(&object.name, &bytes), serde_json::from_slice(&bytes)) {
                (Ok(()), Ok(mark)) => marks.push((object.name, mark)),
                _ => tracing::warn!(object = object.name.as_str(), "a damaged mark was passed over"),
            }
        }
        Ok(marks)
    }

    pub(super) fn mark_packs(
        &self,
        lease: &dyn Lease,
        epoch: &str,
        packs: &BTreeSet<PackId>,
        now: Timestamp,
        report: &mut CleanupReport,
    ) -> Result<(), VaultError> {
        if packs.is_empty() {
            return Ok(());
        }
        self.publish_mark(lease, epoch, &Mark { marked_at: now, packs: packs.iter().copied().collect() })?;
        report.marked += packs.len() as u64;
        Ok(())
    }

    fn publish_mark(&self, lease: &dyn Lease, epoch: &str, mark: &Mark) -> Result<(), VaultError> {
        let json = serde_json::to_vec(mark).map_err(|e| VaultError::Internal { what: "writing a mark", why: e.to_string() })?;
        lease.check().map_err(|e| at(&*self.store, e))?;
        publish(&*self.store, &layout::mark(epoch, &hex::encode(Sha256::digest(&json))), &json)?;
        Ok(())
    }

    /// Takes packs that are needed again from the marks that name them: the new mark first, then the old one goes.
    pub(crate) fn unmark_packs(&self, lease: &dyn Lease, epoch: &str, packs: &BTreeSet<PackId>) -> Result<(), VaultError> {
        for (name, mut mark) in self.read_marks(epoch)? {
            let before = mark.packs.len();
            mark.packs.retain(|id| !packs.contains(id));
            if mark.packs.len() == before {
                continue;
            }
            if !mark.packs.is_empty() {
                self.publish_mark(lease, epoch, &mark)?;
            }
            lease.check().map_err(|e| at(&*self.store, e))?;
            self.store.remove(&name).map_err(|e| at(&*self.store, e))?;
        }
        Ok(())
    }
}
