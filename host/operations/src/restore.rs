//! Bringing a snapshot back: into a folder of its own, or in place.
//!
//! [`prepare`] chooses snapshot and store and makes the plan, which is a value that can be shown; nothing has been
//! written until [`PreparedRestore::execute`]. Every byte restored is checked against its id on the way; a database
//! is loaded by its engine, which proves the dump first. What cannot be restored is listed, the rest is restored.
//!
//! A snapshot says itself what it is: neither the strategy that planned it nor the databases' present configuration
//! must exist for its files to come back.
//!
//! Read this file, then `plan` (what goes where), `select` (which entries), `targets` (what databases hold), `execute`,
//! `databases`, `erase`, `report`.

mod databases;
mod erase;
mod execute;
mod git;
mod plan;
mod report;
mod select;
mod targets;

pub(crate) use databases::make_place;
pub(crate) use plan::beneath;
pub use report::{FailedPath, RestoreOutcome, RestoreView, RestoredItem, StepView};
pub(crate) use select::globs;

use crate::{
    config::ProjectConfig,
    context::Context,
    erasures::Register,
    error::OperationError,
    project::{self, OpenStore},
    selection::SnapshotChoice,
};
use havun_model::Strategy;
use havun_vault::{StoredSnapshot, Vault};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What to restore, and where to.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The project.
    pub project: String,
    /// Which snapshot.
    pub choice: SnapshotChoice,
    /// An empty or missing folder; `None` restores in place: files to the project's root, databases to where they
    /// came from.
    pub target: Option<PathBuf>,
    /// These items only; empty means all.
    pub items: Vec<String>,
    /// Only files whose path relative to the project's root matches one of these globs, or that lie beneath a folder
    /// that does.
    pub paths: Vec<String>,
    /// Read from this store; otherwise from the first that opens.
    pub store: Option<String>,
    /// `ITEM=NAME` or `ITEM=URL`: load this item into that database.
    pub databases: Vec<String>,
    /// Databases that hold something may be replaced; what they hold is kept. Otherwise nothing at all is restored.
    pub replace: bool,
}

/// A restore that is ready to begin.
pub struct PreparedRestore<'a> {
    cx: &'a Context,
    project: &'a ProjectConfig,
    store: OpenStore,
    vault: Vault,
    stored: StoredSnapshot,
    strategy: Option<Arc<dyn Strategy>>,
    target: PathBuf,
    selector: select::Selector,
    /// Whose data is erased again in what is restored.
    register: Register,
    work: Vec<plan::Work>,
    replace: bool,
    /// Names what this restore keeps.
    stamp: String,
    view: RestoreView,
}

/// Chooses snapshot and store, and plans. Writes nothing.
///
/// # Errors
/// Of choosing ([`OperationError::NoSnapshot`], [`OperationError::AmbiguousSnapshot`], [`OperationError::UnknownItem`], …),
/// of opening ([`OperationError::Vault`], [`OperationError::Store`]), and [`OperationError::TargetNotEmpty`].
pub fn prepare<'a>(cx: &'a Context, options: &RestoreOptions) -> Result<PreparedRestore<'a>, OperationError> {
    let project = project::find(cx, &options.project)?;
    let order = project::store_order(cx, project, options.store.as_deref())?;
    let (store, vault, stored, notes) = project::find_snapshot(cx, project, &order, &options.choice)?;
    let mut prepared = plan::plan(cx, project, options, store, vault, stored, notes)?;
    targets::survey(&mut prepared)?;
    Ok(prepared)
}

impl PreparedRestore<'_> {
    /// What it will do.
    pub fn view(&self) -> &RestoreView {
        &self.view
    }

    /// Whether [`Self::execute`] would refuse it for the sake of a database that holds something.
    ///
    /// # Errors
    /// [`OperationError::DatabaseNotEmpty`].
    pub fn check(&self) -> Result<(), OperationError> {
        if self.view.refused.is_empty() { Ok(()) } else { Err(OperationError::DatabaseNotEmpty { databases: self.view.refused.clone() }) }
    }

    /// Does it. The row in `restore_logs` is written before anything else.
    ///
    /// # Errors
    /// [`OperationError::Audit`], [`OperationError::TargetNotEmpty`] when the target has been filled meanwhile,
    /// [`OperationError::DatabaseNotEmpty`] before anything is written, and [`OperationError::NothingRestorable`]. What could not be restored beside something that could is in the outcome.
    pub fn execute(self) -> Result<RestoreOutcome, OperationError> {
        execute::execute(self)
    }

    /// Takes databases out of the plan: a drill loads them itself.
    pub(crate) fn leave_out_databases(&mut self) {
        self.work.retain(|work| matches!(work, plan::Work::Git { .. }));
        let databases = self.stored.snapshot.items.iter().filter(|(_, record)| record.kind == "database");
        databases.for_each(|(name, _)| drop(self.selector.destinations.remove(name)));
        self.view.steps.retain(|step| step.kind != "database");
    }

    /// Restores files and histories without a row in `restore_logs`: a drill has its own.
    ///
    /// # Errors
    /// As [`Self::execute`]; what could not be restored is in the outcome.
    pub(crate) fn rehearse_files(&self, run_id: &str) -> Result<RestoreOutcome, OperationError> {
        execute::rehearse_files(self, run_id)
    }

    /// Erases again whoever was erased since: in the tree, and by `erase` in the databases that a drill has loaded.
    pub(crate) fn rehearse_erasures(
        &self,
        outcome: &RestoreOutcome,
        databases: &[&str],
        erase: crate::erasures::Erase<'_>,
    ) -> crate::erasures::ErasureOutcome {
        erase::rehearse(self, outcome, databases, erase)
    }

    /// Takes the strategy's steps in the restored tree.
    pub(crate) fn rehearse_steps(&self, outcome: &mut RestoreOutcome) {
        execute::own_steps(self, outcome);
    }

    /// Where an entry of the manifest is restored to; `None` when it is not.
    pub(crate) fn place_of(&self, entry: &havun_vault::Entry) -> Option<PathBuf> {
        self.selector.destination(entry).map(|place| self.target.join(place))
    }

    /// The entry of the form of a dump that a restore reads.
    ///
    /// # Errors
    /// One line: it is not there, or the manifest cannot be read.
    pub(crate) fn dump_entry(&self, record: &havun_model::ItemRecord) -> Result<havun_vault::Entry, String> {
        databases::dump_entry(self, record)
    }

    /// The manifest entry of one form of a dump.
    ///
    /// # Errors
    /// As [`Self::dump_entry`].
    pub(crate) fn entry(&self, path: &str) -> Result<havun_vault::Entry, String> {
        databases::entry(self, path)
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    pub(crate) fn snapshot(&self) -> &havun_model::Snapshot {
        &self.stored.snapshot
    }

    pub(crate) fn strategy(&self) -> Option<&Arc<dyn Strategy>> {
        self.strategy.as_ref()
    }

    pub(crate) fn project(&self) -> &ProjectConfig {
        self.project
    }

    pub(crate) fn project_name(&self) -> &havun_model::ProjectName {
        &self.project.name
    }

    pub(crate) fn store_name(&self) -> &havun_model::StoreName {
        &self.store.name
    }
}

/// How many entries a folder holds; 0 when it is missing.
///
/// # Errors
/// [`OperationError::Io`] when it cannot be read.
pub(crate) fn entries_in(path: &Path) -> Result<u64, OperationError> {
    match std::fs::read_dir(path) {
        Ok(entries) => Ok(entries.count() as u64),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(OperationError::Io { doing: "cannot read", path: path.to_owned(), source }),
    }
}
