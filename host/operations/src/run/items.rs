//! The items of a plan into a session, in path order: databases, generated files, history, and the tree last.
//!
//! An item that fails leaves its reason and never stops the others. Only the vault's own errors, and the operator,
//! end the run.

use super::{pause::Pause, plan::Planned};
use crate::{
    config::ProjectConfig,
    context::Context,
    databases::{self, DUMP_ATTEMPTS, DatabaseError, Dump, DumpForm, DumpOptions, Overrides, ResolvedConnection},
    error::{OperationError, one_line},
    project::vault_error,
};
use havun_model::{
    DatabaseItem, DatabaseRecord, FileOwnerRecord, GeneratedItem, ItemName, ItemRecord, Outcome, StoreName, TreeItem, anomalies::TreeCounts,
};
use havun_vault::{BackupSession, StreamError, StreamProfile, TreeItemSummary};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Mode of what has no file of its own: only its owner may read a dump.
pub(super) const PRIVATE: u32 = 0o600;

/// The items of one project.
pub(super) struct Items<'a> {
    pub cx: &'a Context,
    pub project: &'a ProjectConfig,
    pub planned: &'a Planned,
    pub store: &'a StoreName,
    /// Where files are read: the project's root, or its place in a snapshot of the file system.
    pub root: PathBuf,
}

/// What was stored.
#[derive(Default)]
pub(super) struct Stored {
    /// What became of each item, by name.
    pub records: Records,
    /// What became of the files since the snapshot before.
    pub counts: TreeCounts,
    /// Milliseconds by step.
    pub steps_ms: BTreeMap<String, u64>,
}

/// What became of each item, by name.
type Records = BTreeMap<String, ItemRecord>;

impl Items<'_> {
    /// Stores every item of the plan.
    ///
    /// # Errors
    /// The vault's, and [`OperationError::Interrupted`]: the session is void then.
    pub fn store_all(mut self, session: &mut BackupSession<'_>, pause: &mut Pause<'_>) -> Result<Stored, OperationError> {
        let mut stored = Stored::default();
        let mut began = self.cx.now();
        for (name, item) in self.planned.databases() {
            self.begin("database", name)?;
            stored.records.insert(name.to_string(), self.database(session, name, item)?);
        }
        self.step("databases", &mut began, &mut stored);
        self.cx.check_cancelled()?;
        self.root = pause.databases_are_dumped()?;
        for (name, item) in self.planned.generated() {
            self.begin("generating", name)?;
            stored.records.insert(name.to_string(), self.generated(session, name, item)?);
        }
        self.step("generated", &mut began, &mut stored);
        for (name, item) in self.planned.git() {
            self.begin("history", name)?;
            stored.records.insert(name.to_string(), self.git(session, name, item)?);
        }
        self.step("history", &mut began, &mut stored);
        self.trees(session, &mut stored)?;
        self.step("files", &mut began, &mut stored);
        Ok(stored)
    }

    /// Notes how long a step took, by the run's clock.
    fn step(&self, name: &str, began: &mut Timestamp, stored: &mut Stored) {
        let now = self.cx.now();
        stored.steps_ms.insert(name.to_owned(), milliseconds(*began, now));
        *began = now;
    }

    fn begin(&self, what: &str, name: &ItemName) -> Result<(), OperationError> {
        self.cx.check_cancelled()?;
        self.cx.observer.step(&format!("{what} `{name}`"));
        Ok(())
    }

    fn database(&self, session: &mut BackupSession<'_>, name: &ItemName, item: &DatabaseItem) -> Result<ItemRecord, OperationError> {
        let mut record = empty_record("database");
        match self.dump(session, name, item, &mut record) {
            Ok(()) => {}
            Err(Stop::Run(error)) => return Err(error),
            Err(Stop::Item(why)) => {
                record.outcome = Outcome::Failed;
                record.problems.push(why);
            }
        }
        self.cx.check_cancelled()?;
        Ok(record)
    }

    fn dump(&self, session: &mut BackupSession<'_>, name: &ItemName, item: &DatabaseItem, record: &mut ItemRecord) -> Result<(), Stop> {
        let overrides = overrides(self.project, &item.connection.name).map_err(|e| Stop::Item(one_line(&e)))?;
        let connection = ResolvedConnection::resolve(&item.connection, &overrides, &self.project.root)?;
        let engine = databases::engine(connection)?;
        let options = DumpOptions {
            exclude_rows: item.exclude_rows.clone(),
            scratch_dir: self.cx.scratch_dir().map_err(|e| Stop::Item(one_line(&e)))?,
            lock_wait: self.cx.lock_wait,
        };
        let mut dump = engine.begin_dump(&options, &self.cx.cancel)?;
        for form in dump.forms().to_vec() {
            let path = format!("databases/{name}.{}", form.extension);
            record.bytes += self.write_form(session, &path, name, &mut *dump, form)?;
            record.files += 1;
            record.paths.push(path);
        }
        let report = dump.finish();
        record.owner = owner_of(&report.record, &self.project.root);
        record.database = Some(report.record);
        if !report.problems.is_empty() {
            record.outcome = Outcome::Partial;
            record.problems.extend(report.problems);
        }
        Ok(())
    }

    /// One form of a dump; again from its first byte when a table changed its definition meanwhile.
    fn write_form(
        &self,
        session: &mut BackupSession<'_>,
        path: &str,
        name: &ItemName,
        dump: &mut dyn Dump,
        form: DumpForm,
    ) -> Result<u64, Stop> {
        let mut attempt = 1;
        loop {
            let now = self.cx.now();
            let stored = session.add_stream(path, name.as_str(), PRIVATE, now, StreamProfile::Dump, |out| dump.write(form, out));
            match stored {
                Ok(summary) => return Ok(summary.bytes),
                Err(StreamError::Produce(error)) if error.is_retryable() && attempt < DUMP_ATTEMPTS => {
                    self.cx.observer.step(&format!("database `{name}` again: {error}"));
                    (self.cx.sleeper)(Duration::from_secs(u64::from(attempt)));
                    attempt += 1;
                }
                Err(error) => return Err(self.stop(error)),
            }
        }
    }

    fn generated(&self, session: &mut BackupSession<'_>, name: &ItemName, item: &GeneratedItem) -> Result<ItemRecord, OperationError> {
        let mut record = empty_record("generated");
        let path = format!("generated/{name}/{}", item.file_name);
        let (strategy, context) = (&self.planned.strategy, &self.planned.context);
        let stored = session.add_stream(&path, name.as_str(), PRIVATE, self.cx.now(), StreamProfile::File, |out| {
            strategy.generate(context, &self.root, name.as_str(), out).map(drop)
        });
        match stored.map_err(|e| self.stop(e)) {
            Ok(summary) => (record.bytes, record.files, record.paths) = (summary.bytes, 1, vec![path]),
            Err(Stop::Run(error)) => return Err(error),
            Err(Stop::Item(why)) => {
                record.outcome = Outcome::Failed;
                record.problems.push(why);
            }
        }
        Ok(record)
    }

    fn trees(&self, session: &mut BackupSession<'_>, stored: &mut Stored) -> Result<(), OperationError> {
        let items = self.planned.trees();
        if items.is_empty() {
            return Ok(());
        }
        self.cx.check_cancelled()?;
        self.cx.observer.step("files");
        let summary = session.add_tree(&self.root, &items).map_err(|e| vault_error(&self.project.name, self.store, e))?;
        let records = &mut stored.records;
        for (name, item) in &items {
            let tally = summary.items.get(name).cloned().unwrap_or_default();
            records.insert(name.to_string(), tree_record(&self.root, item, tally));
        }
        if summary.vanished > 0
            && let Some(record) = items.first().and_then(|(name, _)| records.get_mut(name.as_str()))
        {
            record.outcome = record.outcome.max(Outcome::Partial);
            record.problems.push(format!("{} files were removed while they were about to be read", summary.vanished));
        }
        stored.counts = summary.counts;
        Ok(())
    }

    /// Whose error it was decides what it ends.
    pub(super) fn stop<E: std::error::Error>(&self, error: StreamError<E>) -> Stop {
        match error {
            StreamError::Produce(error) => Stop::Item(one_line(&error)),
            StreamError::Vault(error) => Stop::Run(vault_error(&self.project.name, self.store, error)),
        }
    }
}

/// By a clock that may leap.
pub(super) fn milliseconds(from: Timestamp, until: Timestamp) -> u64 {
    u64::try_from(until.duration_since(from).as_millis()).unwrap_or(0)
}

/// What an error ends.
pub(super) enum Stop {
    /// The item; the run goes on.
    Item(String),
    /// The run.
    Run(OperationError),
}

impl From<DatabaseError> for Stop {
    fn from(error: DatabaseError) -> Self {
        Self::Item(one_line(&error))
    }
}

pub(super) fn empty_record(kind: &str) -> ItemRecord {
    ItemRecord {
        kind: kind.to_owned(),
        outcome: Outcome::Ok,
        bytes: 0,
        files: 0,
        paths: Vec::new(),
        problems: Vec::new(),
        database: None,
        owner: None,
        notes: Vec::new(),
    }
}

fn tree_record(root: &Path, item: &TreeItem, tally: TreeItemSummary) -> ItemRecord {
    let mut record = ItemRecord { bytes: tally.bytes, files: tally.files, problems: tally.problems, ..empty_record("tree") };
    let unlisted = tally.problem_count.saturating_sub(record.problems.len() as u64);
    if unlisted > 0 {
        record.problems.push(format!("and {unlisted} more"));
    }
    if !item.path.is_empty() && std::fs::symlink_metadata(root.join(&item.path)).is_err() {
        record.problems.push(format!("{} is not there", item.path));
    }
    if !record.problems.is_empty() {
        record.outcome = if record.files == 0 { Outcome::Failed } else { Outcome::Partial };
    }
    record
}

/// The operator's parameters for a connection.
pub(crate) fn overrides(project: &ProjectConfig, connection: &str) -> Result<Overrides, crate::config::SecretError> {
    let Some(config) = project.databases.get(connection) else { return Ok(Overrides::new()) };
    let mut parameters = config.parameters()?;
    if let Some(engine) = &config.engine {
        parameters.insert("engine", engine.clone().into());
    }
    Ok(parameters)
}

/// Owner and mode of a database that is a file, so that a restore can give them back.
fn owner_of(record: &DatabaseRecord, root: &Path) -> Option<FileOwnerRecord> {
    if record.engine != "sqlite" {
        return None;
    }
    let meta = std::fs::metadata(root.join(&record.database)).ok()?;
    Some(FileOwnerRecord { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() })
}
