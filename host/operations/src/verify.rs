//! Checking what is stored, store by store: names against SHA-256 sums, packs, manifests and, on request, every
//! chunk. Changes nothing; each store checked leaves a row in `test_logs`.
//!
//! Shape of `havun-backup verify --json`: one [`VerifyOutcome`].

use crate::{
    audit::LogEnd,
    config::ProjectConfig,
    context::{Context, new_run_id},
    error::{OperationError, exit},
    list::{check_store, uses},
    project,
    report::{Failure, SCHEMA_VERSION, combined_status},
    selection,
};
use havun_model::{ProjectName, StoreName};
use havun_vault::{Damage, Vault, VaultError, VerifyOptions, VerifyReport};
use jiff::Timestamp;
use serde::Serialize;

/// What to check.
#[derive(Debug, Clone, Default)]
pub struct VerifyRequest {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// This store only.
    pub store: Option<String>,
    /// Prefix of the id of one snapshot.
    pub snapshot: Option<String>,
    /// Decrypt, decode and re-hash every chunk.
    pub read_data: bool,
}

/// Every store that was checked.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyOutcome {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit rows carry it.
    pub run_id: String,
    /// Whether every chunk was read.
    pub read_data: bool,
    /// The operator stopped it.
    pub interrupted: bool,
    /// One for each project and store.
    pub stores: Vec<VerifiedStore>,
}

/// One store of one project.
#[derive(Debug, Clone, Serialize)]
pub struct VerifiedStore {
    /// The project.
    pub project: ProjectName,
    /// The store.
    pub store: StoreName,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Objects whose SHA-256 was compared.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots whose manifest was read.
    pub snapshots: u64,
    /// Chunks whose SHA-256 was compared.
    pub chunks: u64,
    /// What is wrong; empty when all is well.
    pub damage: Vec<Damage>,
    /// There is no vault of the project yet; that is no failure.
    pub empty: bool,
    /// Why it could not be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl VerifyOutcome {
    /// 0; 5 when anything is damaged; 3 when a store could not be checked, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        if self.stores.iter().any(|s| !s.damage.is_empty()) {
            return exit::INTEGRITY;
        }
        combined_status(&self.stores.iter().map(|s| s.failure.as_ref().map_or(exit::OK, |f| f.exit_status)).collect::<Vec<_>>())
    }
}

/// Checks stores.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::UnknownStore`], [`OperationError::Audit`];
/// [`OperationError::NoSnapshot`] and [`OperationError::AmbiguousSnapshot`] when one snapshot was asked for. What is
/// wrong with a store is in the report.
pub fn verify(cx: &Context, request: &VerifyRequest) -> Result<VerifyOutcome, OperationError> {
    let projects = project::select(cx, &request.projects)?;
    check_store(cx, request.store.as_deref())?;
    let run_id = new_run_id(cx.now())?;
    let mut outcome =
        VerifyOutcome { schema_version: SCHEMA_VERSION, run_id, read_data: request.read_data, interrupted: false, stores: Vec::new() };
    let mut missing = None;
    for project in
        projects.into_iter().filter(|p| uses(p, request.store.as_deref()) || project::is_in_spool(cx, p, request.store.as_deref()))
    {
        for name in project::store_order(cx, project, request.store.as_deref())? {
            match verify_store(cx, project, &name, request, &outcome.run_id) {
                Ok(store) => outcome.stores.push(store),
                Err(OperationError::Interrupted) => {
                    outcome.interrupted = true;
                    return Ok(outcome);
                }
                // Another project or store may have it.
                Err(error @ OperationError::NoSnapshot { .. }) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
    }
    match missing {
        Some(error) if outcome.stores.iter().all(|s| s.empty) => Err(error),
        _ => Ok(outcome),
    }
}

fn verify_store(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    request: &VerifyRequest,
    run_id: &str,
) -> Result<VerifiedStore, OperationError> {
    let mut store = VerifiedStore {
        project: project.name.clone(),
        store: name.clone(),
        started_at: cx.now(),
        ended_at: cx.now(),
        objects: 0,
        bytes: 0,
        snapshots: 0,
        chunks: 0,
        damage: Vec::new(),
        empty: false,
        failure: None,
    };
    let action = if request.read_data { "verify --read-data" } else { "verify" };
    let mut start = cx.log_start(run_id, project.name.as_str(), action, store.started_at);
    start.stores = vec![name.to_string()];
    let audit = cx.audit()?;
    let row = audit.begin_test(&start).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let checked = check(cx, project, name, request);
    store.ended_at = cx.now();
    let result = match checked {
        Ok(report) => {
            (store.objects, store.bytes, store.snapshots, store.chunks) = (report.objects, report.bytes, report.snapshots, report.chunks);
            store.damage = report.damage;
            Ok(())
        }
        Err(error) if project::is_no_vault(&error) => {
            store.empty = true;
            Ok(())
        }
        Err(error @ (OperationError::Interrupted | OperationError::NoSnapshot { .. } | OperationError::AmbiguousSnapshot { .. })) => {
            Err(error)
        }
        Err(error) => {
            store.failure = Some(error.to_failure());
            Ok(())
        }
    };
    let end = log_end(&store, result.as_ref().err());
    audit.end(row, &end).map_err(|e| OperationError::Audit(Box::new(e)))?;
    result.map(|()| store)
}

fn log_end(store: &VerifiedStore, error: Option<&OperationError>) -> LogEnd {
    let message = match (error, &store.failure) {
        (Some(error), _) => error.to_failure().one_line(),
        (None, Some(failure)) => failure.one_line(),
        (None, None) => store.damage.iter().map(|d| format!("{}: {}", d.object, d.what)).collect::<Vec<_>>().join("\n"),
    };
    let status = match error {
        Some(OperationError::Interrupted) => "cancelled",
        Some(_) => "failed",
        None if store.failure.is_some() || !store.damage.is_empty() => "failed",
        None => "ok",
    };
    LogEnd {
        status: status.to_owned(),
        ended_at: store.ended_at,
        snapshot: None,
        files: store.objects,
        bytes: store.bytes,
        bytes_added: 0,
        problems: store.damage.len() as u64,
        message,
        details: serde_json::json!({ "snapshots": store.snapshots, "chunks": store.chunks, "damage": store.damage }),
    }
}

fn check(cx: &Context, project: &ProjectConfig, name: &StoreName, request: &VerifyRequest) -> Result<VerifyReport, OperationError> {
    cx.check_cancelled()?;
    cx.observer.step(&format!("{} in `{name}`", project.name));
    let store = project::open_store(cx, &project.name, name)?;
    let vault = match project::open_vault(cx, &project.name, &store) {
        Err(error) => return damaged_head(error),
        Ok(vault) => vault,
    };
    let wrap = |e| project::vault_error(&project.name, name, e);
    let snapshot = match &request.snapshot {
        None => None,
        Some(prefix) => Some(wanted(&vault, &project.name, prefix).map_err(|e| e.unwrap_or_vault(&wrap))?),
    };
    let options = VerifyOptions { snapshot, read_data: request.read_data, threads: cx.threads() };
    vault.verify(&options, &*cx.progress()).map_err(wrap)
}

/// What `vault.json` itself or a key file has suffered is damage like any other.
fn damaged_head(error: OperationError) -> Result<VerifyReport, OperationError> {
    let damage = match &error {
        OperationError::Vault { source, .. } => match &**source {
            VaultError::NotAVault { why, .. } => Some(Damage::of("vault.json", why.clone())),
            VaultError::Damaged { object, what } => Some(Damage::of(object.clone(), what.clone())),
            _ => None,
        },
        _ => None,
    };
    damage.map(|damage| VerifyReport { damage: vec![damage], ..VerifyReport::default() }).ok_or(error)
}

fn wanted(vault: &Vault, project: &ProjectName, prefix: &str) -> Result<havun_model::SnapshotId, selection::SelectError> {
    let list = vault.snapshots()?;
    let damaged = list.damaged.iter().flat_map(|d| d.snapshots.iter().copied());
    selection::by_prefix(project, &list.snapshots, damaged, prefix).map_err(Into::into)
}
