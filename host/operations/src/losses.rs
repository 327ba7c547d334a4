//! What a store has lost and no copy brings back: kept until it is there again, or a person has said that it is known.
//!
//! A copy that finds out that objects are gone from a replica, and are not at the source either, fails once. From then on the
//! list stands beside the replica's catalogue, in `<vault id>.lost`: `health` fails for it, `repair` looks for the objects in
//! every other store, nothing is expired in that store. `archive accept-loss` ends that, with a reason in the audit log. What
//! is there again is no longer accepted: should it vanish again, it is lost again.
//!
//! Shape of `havun-backup archive accept-loss --json`: one [`AcceptedLoss`].

use crate::{
    audit::{AuditError, LogEnd},
    config::ProjectConfig,
    context::{Context, new_run_id},
    error::{OperationError, exit},
    project,
    report::SCHEMA_VERSION,
};
use havun_model::{ProjectName, StoreName};
use havun_vault::{
    OnLost, VaultError,
    store::{ObjectName, Store, StoreError},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One object that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Its bytes.
    pub size: u64,
    /// When a copy found out.
    pub found_at: Timestamp,
    /// When a person said that it is known, and why nothing more is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<(Timestamp, String)>,
}

/// Objects by name.
pub type Losses = BTreeMap<String, Loss>;

/// What was accepted.
#[derive(Debug, Clone, Serialize)]
pub struct AcceptedLoss {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The project.
    pub project: ProjectName,
    /// The store.
    pub store: StoreName,
    /// The objects.
    pub objects: Losses,
}

impl AcceptedLoss {
    /// 0; 1 when there was nothing to accept.
    pub fn exit_status(&self) -> u8 {
        if self.objects.is_empty() { exit::FAILED } else { exit::OK }
    }
}

fn file(cx: &Context, project: &ProjectName, store: &StoreName, vault_id: &str) -> PathBuf {
    cx.catalogue(project, store).join(format!("{vault_id}.lost"))
}

/// Every loss that was ever noted and that still stands. One that cannot be read stands for itself.
pub(crate) fn load(cx: &Context, project: &ProjectName, store: &StoreName, vault_id: &str) -> Result<Losses, OperationError> {
    read(&file(cx, project, store, vault_id))
}

fn read(path: &Path) -> Result<Losses, OperationError> {
    let failed = |source| OperationError::Io { doing: "cannot read", path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Losses::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Changes the list, and no other process meanwhile.
fn change(path: &Path, change: impl FnOnce(&mut Losses)) -> Result<(), OperationError> {
    let failed = |source| OperationError::Io { doing: "cannot write", path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let lock = fs::create_dir_all(folder).and_then(|()| fs::File::create(path.with_extension("lost-lock")));
    let lock = lock.and_then(|lock| lock.lock().map(|()| lock)).map_err(failed)?;
    let mut losses = read(path)?;
    change(&mut losses);
    save(path, folder, &losses).map_err(failed)?;
    drop(lock);
    Ok(())
}

fn save(path: &Path, folder: &Path, losses: &Losses) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(losses)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

/// Notes what a copy finds lost, as soon as it does.
pub(crate) fn noted(cx: &Context, project: &ProjectName, store: &StoreName, vault_id: &str) -> OnLost {
    let (path, now) = (file(cx, project, store, vault_id), cx.now());
    OnLost(Arc::new(move |lost| {
        let unkept = |error| VaultError::Path { path: path.clone(), source: std::io::Error::other(crate::error::one_line(&error)) };
        note(&path, lost, now).map_err(unkept)
    }))
}

/// What was lost before keeps its date. What was accepted must have come back since, or nobody would have missed it: that
/// acceptance is over.
fn note(path: &Path, lost: &[(String, u64)], now: Timestamp) -> Result<(), OperationError> {
    change(path, |losses| {
        losses.retain(|object, loss| loss.accepted.is_none() || !lost.iter().any(|(name, _)| name == object));
        for (object, size) in lost {
            losses.entry(object.clone()).or_insert(Loss { size: *size, found_at: now, accepted: None });
        }
    })
}

/// Those that nobody has accepted and that are still not there; and how many were accepted and are not there either. That
/// one was accepted ends when it is there again; it stays on the list, for no catalogue knows it before the next listing.
pub(crate) fn standing(
    cx: &Context,
    project: &ProjectName,
    name: &StoreName,
    vault_id: &str,
    store: &dyn Store,
) -> Result<(Losses, usize), OperationError> {
    let failed = |source| OperationError::Store { store: name.clone(), source };
    standing_at(&file(cx, project, name, vault_id), store, failed)
}

fn standing_at(path: &Path, store: &dyn Store, failed: impl Fn(StoreError) -> OperationError) -> Result<(Losses, usize), OperationError> {
    let (mut back, mut still) = (Losses::new(), Losses::new());
    for (object, loss) in read(path)? {
        let there = match ObjectName::new(object.clone()) {
            Ok(object) => size(store, &object).map_err(&failed)?,
            Err(_) => None,
        };
        if there != Some(loss.size) {
            still.insert(object, loss);
        } else if loss.accepted.is_some() {
            back.insert(object, loss);
        }
    }
    if !back.is_empty() {
        change(path, |losses| {
            losses.iter_mut().filter(|(object, loss)| back.get(*object) == Some(&**loss)).for_each(|(_, loss)| loss.accepted = None);
        })?;
    }
    let (accepted, open): (Losses, Losses) = still.into_iter().partition(|(_, loss)| loss.accepted.is_some());
    Ok((open, accepted.len()))
}

fn size(store: &dyn Store, object: &ObjectName) -> Result<Option<u64>, StoreError> {
    match store.size(object) {
        Err(StoreError::NotFound { .. }) => Ok(None),
        other => other,
    }
}

/// Says that the losses of a store are known and that nothing brings them back. The audit log has them, with the reason.
///
/// # Errors
/// The store's; [`OperationError::Audit`].
pub fn accept(cx: &Context, project: &ProjectConfig, name: &StoreName, reason: &str) -> Result<AcceptedLoss, OperationError> {
    let store = project::open_store(cx, &project.name, name)?;
    let vault = project::open_vault(cx, &project.name, &store)?;
    let vault_id = vault.info().vault_id.clone();
    let (open, _) = standing(cx, &project.name, name, &vault_id, &*store.store)?;
    let outcome = AcceptedLoss { schema_version: SCHEMA_VERSION, project: project.name.clone(), store: name.clone(), objects: open };
    if outcome.objects.is_empty() {
        return Ok(outcome);
    }
    record(cx, &outcome, reason)?;
    change(&file(cx, &project.name, name, &vault_id), |losses| {
        for (_, loss) in losses.iter_mut().filter(|(object, _)| outcome.objects.contains_key(*object)) {
            loss.accepted = Some((cx.now(), reason.to_owned()));
        }
    })?;
    Ok(outcome)
}

/// The row comes first: nothing is accepted that the log does not have.
fn record(cx: &Context, outcome: &AcceptedLoss, reason: &str) -> Result<(), OperationError> {
    let failed = |e: AuditError| OperationError::Audit(Box::new(e));
    let audit = cx.audit()?;
    let mut start = cx.log_start(&new_run_id(cx.now())?, outcome.project.as_str(), "accept-loss", cx.now());
    start.stores = vec![outcome.store.to_string()];
    start.target = format!("{} objects: {reason}", outcome.objects.len());
    let row = audit.begin_backup(&start).map_err(failed)?;
    let end = LogEnd {
        status: "ok".to_owned(),
        ended_at: cx.now(),
        snapshot: None,
        files: outcome.objects.len() as u64,
        bytes: outcome.objects.values().map(|loss| loss.size).sum(),
        bytes_added: 0,
        problems: 0,
        message: reason.to_owned(),
        details: serde_json::json!({ "reason": reason, "lost": outcome.objects }),
    };
    audit.end(row, &end).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use havun_vault::store::MemoryStore;
    use sha2::{Digest as _, Sha256};

    fn failed(source: StoreError) -> OperationError {
        OperationError::Store { store: StoreName::new("archive".to_owned()).unwrap(), source }
    }

    #[test]
    fn an_accepted_loss_that_came_back_is_accepted_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica").join("ab.lost");
        let (store, name, now) = (MemoryStore::new("archive"), "epochs/2026/packs/ab/cd", Timestamp::UNIX_EPOCH);
        let state = || standing_at(&path, &store, failed).map(|(open, accepted)| (open.len(), accepted)).unwrap();
        let lost = [(name.to_owned(), 3), ("other".to_owned(), 1)];
        note(&path, &lost, now).unwrap();
        assert_eq!(state(), (2, 0));
        let accept = || {
            change(&path, |losses| {
                losses.values_mut().for_each(|loss| loss.accepted = Some((now, "known".to_owned())));
            })
            .unwrap();
        };
        accept();
        assert_eq!(state(), (0, 2));
        let object = ObjectName::new(name.to_owned()).unwrap();
        let bytes: &[u8] = b"abc";
        store.put(&object, &bytes, &Sha256::digest(b"abc").into()).unwrap();
        assert_eq!(state(), (0, 1));
        store.remove(&object).unwrap();
        assert_eq!(state(), (1, 1), "it was seen to be there, and is gone again");
        note(&path, &lost[..1], now).unwrap();
        assert_eq!(state(), (1, 1));
        // A copy misses only what it had: what it misses again came back unseen.
        accept();
        note(&path, &lost[..1], now).unwrap();
        assert_eq!(state(), (1, 1));
    }
}
