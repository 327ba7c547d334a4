//! What a store has lost and no copy brings back: kept until it is there again, or a person has said that it is known.
//!
//! A copy that finds out that objects are gone from a replica, and are not at the source either, fails once. From then on the
//! list stands beside the replica's catalogue, in `<vault id>.lost`: `health` fails for it, `repair` looks for the objects in
//! every other store, nothing is expired in that store. `archive accept-loss` ends that, with a reason in the audit log.
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
use havun_vault::store::{ObjectName, Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf};

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
    let path = file(cx, project, store, vault_id);
    let failed = |source| OperationError::Io { doing: "cannot read", path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Losses::new()),
        Err(error) => Err(failed(error)),
    }
}

fn save(cx: &Context, project: &ProjectName, store: &StoreName, vault_id: &str, losses: &Losses) -> Result<(), OperationError> {
    let path = file(cx, project, store, vault_id);
    let folder = cx.catalogue(project, store);
    let written = fs::create_dir_all(&folder).and_then(|()| {
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(&serde_json::to_vec_pretty(losses)?)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|e| e.error)?;
        fs::File::open(&folder)?.sync_all()
    });
    written.map_err(|source| OperationError::Io { doing: "cannot write", path, source })
}

/// Adds what a copy found lost. What was lost before keeps its date.
pub(crate) fn note(
    cx: &Context,
    project: &ProjectName,
    store: &StoreName,
    vault_id: &str,
    lost: impl Iterator<Item = (String, u64)>,
) -> Result<(), OperationError> {
    let mut losses = load(cx, project, store, vault_id)?;
    for (object, size) in lost {
        losses.entry(object).or_insert(Loss { size, found_at: cx.now(), accepted: None });
    }
    save(cx, project, store, vault_id, &losses)
}

/// Those that nobody has accepted and that are still not there; and how many were accepted.
pub(crate) fn standing(
    cx: &Context,
    project: &ProjectName,
    name: &StoreName,
    vault_id: &str,
    store: &dyn Store,
) -> Result<(Losses, usize), OperationError> {
    let (accepted, mut open): (Losses, Losses) =
        load(cx, project, name, vault_id)?.into_iter().partition(|(_, loss)| loss.accepted.is_some());
    for (object, loss) in std::mem::take(&mut open) {
        let there = match ObjectName::new(object.clone()) {
            Ok(object) => store.size(&object).map_err(|source| OperationError::Store { store: name.clone(), source })?,
            Err(_) => None,
        };
        if there != Some(loss.size) {
            open.insert(object, loss);
        }
    }
    Ok((open, accepted.len()))
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
    let mut losses = load(cx, &project.name, name, &vault_id)?;
    losses.iter_mut().filter(|(object, _)| outcome.objects.contains_key(*object)).for_each(|(_, loss)| {
        loss.accepted = Some((cx.now(), reason.to_owned()));
    });
    save(cx, &project.name, name, &vault_id, &losses)?;
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
