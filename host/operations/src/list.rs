//! What is stored: every snapshot of every project in every store. Writes nothing.
//!
//! Shape of `havun-backup list --json`: one [`ListReport`].

use crate::{
    config::{ProjectConfig, SPOOL},
    context::Context,
    error::{OperationError, exit, nearest},
    project::{self, OpenStore},
    report::{Failure, SCHEMA_VERSION, combined_status},
};
use havun_model::{Outcome, ProjectName, SnapshotId, StoreName};
use havun_vault::{Damage, StoredSnapshot};
use jiff::Timestamp;
use serde::Serialize;

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// This store only.
    pub store: Option<String>,
}

/// Every project that was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct ListReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The projects, the most important first.
    pub projects: Vec<ProjectListing>,
}

/// One project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectListing {
    /// Its name.
    pub project: ProjectName,
    /// Its title.
    pub title: String,
    /// Its stores, the primary first.
    pub stores: Vec<StoreListing>,
}

/// One store of one project.
#[derive(Debug, Clone, Serialize)]
pub struct StoreListing {
    /// The store.
    pub store: StoreName,
    /// `hot`, `archive` or `test`.
    pub tier: String,
    /// Its snapshots, newest first; empty when there is no vault yet.
    pub snapshots: Vec<SnapshotLine>,
    /// Snapshot objects that do not open.
    pub damaged: Vec<Damage>,
    /// Why it could not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// One snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotLine {
    /// Its id.
    pub id: SnapshotId,
    /// When the run began.
    pub taken_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// `ok` or `partial`.
    pub outcome: Outcome,
    /// Entries.
    pub entries: u64,
    /// Logical bytes.
    pub bytes: u64,
    /// Its items.
    pub items: Vec<String>,
    /// What is missing or torn, of all items.
    pub problems: Vec<String>,
    /// The strategy and its version.
    pub strategy: String,
    /// No archive copy may go before.
    pub retain_until: Timestamp,
}

impl SnapshotLine {
    /// Of a stored snapshot.
    pub fn of(stored: &StoredSnapshot) -> Self {
        let s = &stored.snapshot;
        let problems = s.items.iter().flat_map(|(name, item)| item.problems.iter().map(move |p| format!("{name}: {p}")));
        Self {
            id: stored.id,
            taken_at: s.started_at,
            ended_at: s.ended_at,
            outcome: s.outcome,
            entries: s.manifest.entries,
            bytes: s.manifest.bytes,
            items: s.items.keys().cloned().collect(),
            problems: problems.collect(),
            strategy: format!("{} {}", s.strategy.id, s.strategy.version),
            retain_until: s.retention.retain_until,
        }
    }
}

impl ListReport {
    /// 0; 5 when a snapshot object is damaged; 3 when a store could not be listed, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        let stores = || self.projects.iter().flat_map(|p| &p.stores);
        if stores().any(|s| !s.damaged.is_empty()) {
            return exit::INTEGRITY;
        }
        combined_status(&stores().map(|s| s.failure.as_ref().map_or(exit::OK, |f| f.exit_status)).collect::<Vec<_>>())
    }
}

/// Lists snapshots.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::UnknownStore`]. A store that cannot be listed is in the report.
pub fn list(cx: &Context, options: &ListOptions) -> Result<ListReport, OperationError> {
    let projects = project::select(cx, &options.projects)?;
    check_store(cx, options.store.as_deref())?;
    let projects = projects
        .into_iter()
        .filter(|p| uses(p, options.store.as_deref()) || project::is_in_spool(cx, p, options.store.as_deref()))
        .map(|p| list_project(cx, p, options));
    Ok(ListReport { schema_version: SCHEMA_VERSION, projects: projects.collect::<Result<_, _>>()? })
}

/// A store that nobody has configured is an error; one that a project does not use passes the project over.
pub(crate) fn check_store(cx: &Context, store: Option<&str>) -> Result<(), OperationError> {
    match store {
        Some(name) if name != SPOOL && !cx.config.stores.keys().any(|known| known.as_str() == name) => {
            let nearest = nearest(name, cx.config.stores.keys().map(StoreName::as_str));
            Err(OperationError::UnknownStore { name: name.to_owned(), nearest })
        }
        _ => Ok(()),
    }
}

pub(crate) fn uses(project: &ProjectConfig, store: Option<&str>) -> bool {
    store.is_none_or(|name| project.stores.iter().any(|used| used.as_str() == name))
}

fn list_project(cx: &Context, project: &ProjectConfig, options: &ListOptions) -> Result<ProjectListing, OperationError> {
    let order = project::store_order(cx, project, options.store.as_deref())?;
    let mut stores = Vec::new();
    for name in order {
        cx.check_cancelled()?;
        stores.push(list_store(cx, project, &name));
    }
    Ok(ProjectListing { project: project.name.clone(), title: project.title.clone(), stores })
}

fn list_store(cx: &Context, project: &ProjectConfig, name: &StoreName) -> StoreListing {
    let tier = cx.config.stores.get(name).map_or("", |s| s.tier.word()).to_owned();
    let mut listing = StoreListing { store: name.clone(), tier, snapshots: Vec::new(), damaged: Vec::new(), failure: None };
    match project::open_store(cx, &project.name, name).and_then(|store| read(cx, project, &store)) {
        Ok((snapshots, damaged)) => (listing.snapshots, listing.damaged) = (snapshots, damaged),
        Err(error) if project::is_no_vault(&error) => {}
        Err(error) => listing.failure = Some(error.to_failure()),
    }
    listing
}

fn read(cx: &Context, project: &ProjectConfig, store: &OpenStore) -> Result<(Vec<SnapshotLine>, Vec<Damage>), OperationError> {
    let vault = project::open_vault(cx, &project.name, store)?;
    let list = vault.snapshots().map_err(|e| project::vault_error(&project.name, &store.name, e))?;
    Ok((list.snapshots.iter().rev().map(SnapshotLine::of).collect(), list.damaged))
}
