//! Copying a vault to another store, byte for byte, in the write order: keys, packs, index, records, snapshots.
//!
//! What a replica is known to hold stands in a local file (`catalogue`), so that a copy asks the replica for next to
//! nothing and lists nothing. The catalogue is a memory and no authority: it is made anew by one listing, and an object
//! whose name may not survive a power cut is looked at again by the next copy before it is believed.
//!
//! Nothing is ever deleted at a replica here, whatever has vanished at the source.
//!
//! Read `plan` (what there is to copy, and when a snapshot may follow), `selection` (what a replica is not to have),
//! `catalogue`, `look` (what is there), `copy` (the threads), `lag` (what health asks).

mod catalogue;
mod copy;
mod lag;
mod look;
mod plan;
mod selection;

pub use lag::{Lag, ReplicaAudit, audit_replica, replica_has, replica_lag, replica_objects};
pub use selection::Selection;

use crate::{
    error::VaultError,
    open::{Vault, at},
    progress::Progress,
    store::{Lease, Store},
};
use copy::Copier;
use havun_model::{Cancel, SnapshotId};
use jiff::Timestamp;
use plan::{EpochObjects, SourceObjects};
use std::{path::PathBuf, sync::Arc};

/// Objects sent at once where the caller does not say.
const DEFAULT_THREADS: usize = 4;

/// Is told, by name and size, of what a replica has lost and the source does not have either, before the catalogue forgets
/// it. Where that fails, the copy ends and the catalogue stays as it is.
#[derive(Clone)]
pub struct OnLost(pub Arc<TellLost>);

/// See [`OnLost`].
pub type TellLost = dyn Fn(&[(String, u64)]) -> Result<(), VaultError> + Send + Sync;

impl std::fmt::Debug for OnLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnLost")
    }
}

/// How a replication is done.
#[derive(Debug, Clone)]
pub struct ReplicateOptions {
    /// Who copies, for people.
    pub holder: String,
    /// Objects sent at once; 0 for a few.
    pub threads: usize,
    /// Folder for the list of what the replica holds, one for each store, made when missing. Without it, each copy lists
    /// the replica.
    pub catalogue: Option<PathBuf>,
    /// Lists the replica even where its catalogue is known, and finds out what vanished.
    pub full: bool,
    /// Which snapshots the replica is to have; without it, all.
    pub selection: Option<Selection>,
    /// Keeps losses in mind.
    pub on_lost: Option<OnLost>,
    /// Now.
    pub now: Timestamp,
    /// Stops it, between objects and within one.
    pub cancel: Cancel,
}

/// What a replication copied, and what it found.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ReplicationReport {
    /// Objects copied.
    pub objects: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Objects of the source that the replica still lacks.
    pub pending_objects: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Snapshots that were held back because something that they need is missing or damaged, and why.
    pub held_back: Vec<(SnapshotId, String)>,
    /// Objects that were not copied because they are damaged at the source, and how.
    pub unreadable: Vec<(String, String)>,
    /// Objects that lie at the replica with another size or content than at the source. They were left as they are.
    pub wrong: Vec<String>,
    /// Objects that the replica held and that are gone from it.
    pub vanished: Vec<String>,
    /// Those of them that the source does not have any more either.
    pub lost: Vec<String>,
    /// The sizes that the lost ones had.
    pub lost_bytes: Vec<u64>,
    /// What the store does not promise, and what kept the catalogue from being saved.
    pub notes: Vec<String>,
    /// Whether the replica was listed.
    pub listed: bool,
    /// Objects at the replica that count as settled only when the next copy has seen them again.
    pub unsettled: u64,
}

/// A replication that ended early. What was copied stays, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
#[error("the copy ended after {} objects ({} bytes)", report.objects, report.bytes)]
pub struct ReplicateError {
    /// What was copied until then.
    pub report: Box<ReplicationReport>,
    /// Why it ended.
    pub source: VaultError,
}

impl From<ReplicateError> for VaultError {
    fn from(error: ReplicateError) -> Self {
        error.source
    }
}

/// Brings the replica in `to` up to date with `from`; makes it where there is none. A snapshot is copied only when
/// every pack that it needs lies in `to` with the size that it has in `from`.
///
/// # Errors
/// [`VaultError::OtherVault`] when `to` holds another vault; [`VaultError::Store`] when a store fails;
/// [`VaultError::Cancelled`]. What was copied until then is in the error, stays, and is where the next call goes on.
pub fn replicate(
    from: &Vault,
    to: &Arc<dyn Store>,
    options: &ReplicateOptions,
    progress: &dyn Progress,
) -> Result<ReplicationReport, ReplicateError> {
    let copier = Copier::new(from, &**to, options, progress);
    let outcome = leased(&copier);
    let report = copier.finish();
    match outcome {
        Ok(()) => Ok(report),
        Err(source) => Err(ReplicateError { report: Box::new(report), source }),
    }
}

/// The catalogue is read and written under the lease: what another copy writes meanwhile would be overwritten.
fn leased(copier: &Copier<'_>) -> Result<(), VaultError> {
    let lease = copier.to.lease(&copier.options.holder, false).map_err(|e| at(copier.to, e))?;
    let outcome = run(copier, &*lease);
    copier.lock().keep();
    outcome
}

fn run(copier: &Copier<'_>, lease: &dyn Lease) -> Result<(), VaultError> {
    let known = copier.known()?;
    let mut source = SourceObjects::list(copier.from)?;
    let digests = source.digests(copier.options.selection.as_ref());
    copier.settle(known, &mut source, &digests)?;
    copier.plan(&mut source)?;
    // A replica without its keys is worth nothing, and one with its description is complete: one after the other.
    copier.batch(&source.head, 1)?;
    copier.batch(&source.records, copier.threads())?;
    // The newest epoch first: what was stored last is what the operator would miss most.
    for epoch in source.epochs.values().rev() {
        copy_epoch(copier, epoch, lease)?;
    }
    copier.mark(&source, &digests);
    Ok(())
}

fn copy_epoch(copier: &Copier<'_>, epoch: &EpochObjects, lease: &dyn Lease) -> Result<(), VaultError> {
    let before = copier.copied();
    copier.batch(&epoch.packs, copier.threads())?;
    copier.batch(&epoch.index, copier.threads())?;
    copier.batch(&epoch.records, copier.threads())?;
    let snapshots = copier.missing(&epoch.snapshots);
    if snapshots.is_empty() {
        return Ok(());
    }
    // Objects are named by their content, so those put under a lease that was lost do no harm. Only a snapshot makes
    // others rely on what lies there; a lease that is as young as a few small requests needs no second question.
    if copier.copied() != before {
        lease.check().map_err(|e| at(copier.to, e))?;
    }
    copier.snapshots(&snapshots, epoch)
}
