//! What goes where: the items of a snapshot, what the operator asked for, and what the strategy advises.

use super::{
    PreparedRestore, RestoreOptions, RestoreView, StepView, entries_in,
    select::{self, Selector},
};
use crate::{
    config::ProjectConfig,
    context::{Context, new_run_id},
    erasures::Register,
    error::{OperationError, one_line},
    project::{OpenStore, vault_error},
    report::SCHEMA_VERSION,
    strategies,
};
use havun_model::{ItemKind, ItemRecord, Outcome, RestorePlan, Snapshot, StoredItem, Strategy};
use havun_vault::{StoredSnapshot, Vault};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// Folder in the target for what has no place of its own there.
const ASIDE: &str = "havun-restored";

/// Work beside the files that go to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// A history, into the folder of its work tree relative to the target.
    Git { item: String, folder: PathBuf },
    /// A database, into a live target.
    Database { item: String, to: DatabaseTarget },
}

/// Where a database goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DatabaseTarget {
    /// Where it came from, as the restored tree and the operator's configuration say.
    Original,
    /// A database of this name (or a file) beside the original.
    Name(String),
    /// Somewhere else altogether.
    Url(String),
    /// A SQLite file at its old path relative to the target.
    Relative(PathBuf),
}

/// What the operator and the strategy say of the items.
struct Planning<'a> {
    options: &'a RestoreOptions,
    snapshot: &'a Snapshot,
    in_place: bool,
    target: PathBuf,
    advice: BTreeMap<String, PathBuf>,
    databases: BTreeMap<String, String>,
    notes: Vec<String>,
}

/// Makes the plan.
///
/// # Errors
/// As [`super::prepare`].
pub(super) fn plan<'a>(
    cx: &'a Context,
    project: &'a ProjectConfig,
    options: &RestoreOptions,
    store: OpenStore,
    vault: Vault,
    stored: StoredSnapshot,
    notes: Vec<String>,
) -> Result<PreparedRestore<'a>, OperationError> {
    let snapshot = &stored.snapshot;
    let wanted = wanted_items(snapshot, options)?;
    let target = match &options.target {
        None => project.root.clone(),
        Some(path) => std::path::absolute(path).map_err(|source| OperationError::Io { doing: "cannot use", path: path.clone(), source })?,
    };
    let existing_entries = entries_in(&target)?;
    if options.target.is_some() && existing_entries > 0 {
        return Err(OperationError::TargetNotEmpty { path: target });
    }
    let (strategy, advice) = advice(cx, project, snapshot, &wanted);
    let mut planning = Planning {
        options,
        snapshot,
        in_place: options.target.is_none(),
        target,
        advice: BTreeMap::new(),
        databases: named_databases(snapshot, &options.databases)?,
        notes,
    };
    let advice = planning.take_advice(advice)?;
    let mut selector = Selector { paths: select::globs(&options.paths)?, ..Selector::default() };
    let (mut steps, mut work) = (Vec::new(), Vec::new());
    for (name, record) in snapshot.items.iter().filter(|(name, _)| wanted.contains(*name)) {
        steps.push(planning.step(name, record, &mut selector, &mut work));
    }
    selector.whole_tree = snapshot.items.iter().filter(|(_, r)| r.kind == "tree").all(|(name, _)| wanted.contains(name));
    let failed = |e| vault_error(&project.name, &store.name, e);
    survey(&vault, snapshot, &mut selector, &mut planning, &mut steps).map_err(failed)?;
    steps.sort_by_key(|step| order_of(&step.kind));
    work.sort_by_key(|work| matches!(work, Work::Database { .. }));
    let register = Register::of(cx, project);
    planning.notes.extend(register.doubts());
    let view = RestoreView {
        schema_version: SCHEMA_VERSION,
        project: project.name.clone(),
        snapshot: stored.id,
        taken_at: snapshot.started_at,
        outcome: snapshot.outcome,
        store: store.name.to_string(),
        target: planning.target.display().to_string(),
        in_place: planning.in_place,
        existing_entries,
        paths: options.paths.clone(),
        steps,
        erasures: register.due(snapshot.started_at),
        refused: Vec::new(),
        before: advice.before,
        after: advice.after,
        notes: planning.notes,
    };
    let target = planning.target;
    let (replace, stamp) = (options.replace, cx.now().strftime("%Y%m%d_%H%M%S").to_string());
    Ok(PreparedRestore { cx, project, store, vault, target, strategy, selector, register, work, replace, stamp, view, stored })
}

/// The order in which items are carried out: databases come when the tree, with its `.env`, is there.
fn order_of(kind: &str) -> u8 {
    match kind {
        "tree" => 0,
        "git" => 1,
        "generated" => 2,
        _ => 3,
    }
}

fn wanted_items(snapshot: &Snapshot, options: &RestoreOptions) -> Result<BTreeSet<String>, OperationError> {
    let unknown = options.items.iter().find(|item| !snapshot.items.contains_key(*item));
    if let Some(item) = unknown {
        return Err(OperationError::UnknownItem { item: item.clone(), there_are: snapshot.items.keys().cloned().collect() });
    }
    // Globs speak of files: without a named item they leave databases, histories and generated files alone.
    let by_default = |record: &ItemRecord| options.paths.is_empty() || record.kind == "tree";
    let wanted = snapshot.items.iter().filter(|(name, record)| match options.items.as_slice() {
        [] => by_default(record),
        items => items.contains(name),
    });
    Ok(wanted.map(|(name, _)| name.clone()).collect())
}

/// `ITEM=NAME` and `ITEM=URL` by item.
fn named_databases(snapshot: &Snapshot, texts: &[String]) -> Result<BTreeMap<String, String>, OperationError> {
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for text in texts {
        let (item, target) = text.split_once('=').filter(|(item, target)| !item.is_empty() && !target.is_empty()).ok_or_else(|| {
            let text = text.split_once("://").map_or(text.as_str(), |(scheme, _)| scheme);
            OperationError::BadTargetDatabase { text: text.to_owned() }
        })?;
        if snapshot.items.get(item).is_none_or(|record| record.kind != "database") {
            let databases = snapshot.items.iter().filter(|(_, record)| record.kind == "database");
            return Err(OperationError::UnknownItem {
                item: item.to_owned(),
                there_are: databases.map(|(name, _)| name.clone()).collect(),
            });
        }
        if let Some((other, _)) = named.iter().find(|(other, taken)| *taken == target && is_same_kind(snapshot, other, item)) {
            let shown = if target.contains("://") { crate::restore::databases::without_password(target) } else { target.to_owned() };
            return Err(OperationError::TargetDatabase {
                target: shown,
                item: item.to_owned(),
                why: format!("item `{other}` goes there; name another database for one of them"),
            });
        }
        named.insert(item.to_owned(), target.to_owned());
    }
    Ok(named)
}

/// Two items whose targets of one name are one database.
fn is_same_kind(snapshot: &Snapshot, one: &str, other: &str) -> bool {
    let engine = |item: &str| snapshot.items.get(item).and_then(|record| record.database.as_ref()).map(|record| record.engine.as_str());
    one != other && engine(one) == engine(other)
}

/// What the strategy says; a strategy that is gone or fails takes nothing from the restore but its advice.
fn advice(
    cx: &Context,
    project: &ProjectConfig,
    snapshot: &Snapshot,
    wanted: &BTreeSet<String>,
) -> (Option<Arc<dyn Strategy>>, Result<RestorePlan, String>) {
    let strategy = match strategies::resolve(cx, project) {
        Ok(strategy) => strategy,
        Err(error) => return (None, Err(one_line(&error))),
    };
    let items: Vec<StoredItem> = snapshot
        .items
        .iter()
        .filter(|(name, _)| wanted.contains(*name))
        .map(|(name, record)| StoredItem {
            name: name.clone(),
            kind: record.kind.clone(),
            complete: record.outcome == Outcome::Ok,
            bytes: record.bytes,
            files: record.files,
        })
        .collect();
    let plan = new_run_id(cx.now()).map_err(|e| one_line(&e)).and_then(|id| {
        let context = strategies::strategy_context(cx, project, &id);
        strategy.plan_restore(&context, &items).map_err(|e| one_line(&e))
    });
    (Some(strategy), plan)
}

impl Planning<'_> {
    fn take_advice(&mut self, advice: Result<RestorePlan, String>) -> Result<RestorePlan, OperationError> {
        let plan = advice.unwrap_or_else(|why| {
            self.notes.push(format!("the strategy cannot advise, so every item goes to its usual place: {why}"));
            RestorePlan::default()
        });
        for step in &plan.steps {
            let Some(folder) = beneath(&step.destination) else {
                self.notes
                    .push(format!("the strategy's destination for `{}` leads out of the target; it goes to its usual place", step.item));
                continue;
            };
            let place = self.target.join(&folder);
            if step.must_be_empty && entries_in(&place)? > 0 {
                return Err(OperationError::TargetNotEmpty { path: place });
            }
            self.advice.insert(step.item.to_string(), folder);
        }
        self.notes.extend(plan.warnings.iter().cloned());
        Ok(plan)
    }

    fn step(&mut self, name: &str, record: &ItemRecord, selector: &mut Selector, work: &mut Vec<Work>) -> StepView {
        let destination = match record.kind.as_str() {
            "tree" => self.folder(name, PathBuf::new(), selector),
            "generated" => self.folder(name, Path::new(ASIDE).join(name), selector),
            "git" => {
                let planned = self.planned_folder(name).unwrap_or_default();
                let folder = self.advice.get(name).cloned().filter(|f| !f.as_os_str().is_empty()).unwrap_or(planned);
                work.push(Work::Git { item: name.to_owned(), folder: folder.clone() });
                self.target.join(folder).join(".git").display().to_string()
            }
            "database" => self.database(name, record, selector, work),
            _ => self.folder(name, Path::new(ASIDE).join(name), selector),
        };
        if record.outcome != Outcome::Ok {
            let reasons = record.problems.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
            self.notes.push(format!("`{name}` is {} in this snapshot: {reasons}", record.outcome.word()));
        }
        StepView {
            item: name.to_owned(),
            kind: record.kind.clone(),
            destination,
            bytes: record.bytes,
            files: record.files,
            overwrites: String::new(),
            complete: record.outcome == Outcome::Ok,
        }
    }

    fn folder(&self, name: &str, usual: PathBuf, selector: &mut Selector) -> String {
        let folder = self.advice.get(name).cloned().unwrap_or(usual);
        let shown = self.target.join(&folder).components().collect::<PathBuf>().display().to_string();
        selector.destinations.insert(name.to_owned(), folder);
        shown
    }

    /// Where the plan of the snapshot found an item.
    fn planned_folder(&self, name: &str) -> Option<PathBuf> {
        self.snapshot.plan.items.iter().find(|item| item.name.as_str() == name).and_then(|item| match &item.kind {
            ItemKind::Git(git) => beneath(&git.path),
            _ => None,
        })
    }

    fn database(&self, name: &str, record: &ItemRecord, selector: &mut Selector, work: &mut Vec<Work>) -> String {
        let item = name.to_owned();
        if let Some(text) = self.databases.get(name) {
            let (to, shown) = match text.contains("://") {
                true => (DatabaseTarget::Url(text.clone()), crate::restore::databases::without_password(text)),
                false => (DatabaseTarget::Name(text.clone()), format!("database {text}")),
            };
            work.push(Work::Database { item, to });
            return shown;
        }
        if self.in_place {
            work.push(Work::Database { item, to: DatabaseTarget::Original });
            let database = record.database.as_ref();
            return database.map_or_else(String::new, |d| format!("{} database {}", d.engine, d.database));
        }
        let relative = record.database.as_ref().filter(|d| d.engine == "sqlite").and_then(|d| beneath(&d.database));
        match relative.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => {
                let shown = self.target.join(&path).display().to_string();
                // The file is back in its place: dumps beside it would only make the tree another one.
                work.push(Work::Database { item, to: DatabaseTarget::Relative(path) });
                shown
            }
            None => {
                let folder = PathBuf::from("databases");
                let files = self.target.join(&folder).display().to_string();
                selector.destinations.insert(item, folder);
                format!("files in {files}")
            }
        }
    }
}

/// A clean path that stays beneath the folder that it is joined to.
pub(crate) fn beneath(text: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// Reads the manifest once: notes the folders on the way to what is selected, and what of the target it meets.
fn survey(
    vault: &Vault,
    snapshot: &Snapshot,
    selector: &mut Selector,
    planning: &mut Planning<'_>,
    steps: &mut [StepView],
) -> Result<(), havun_vault::VaultError> {
    let filtered = !selector.is_unfiltered();
    if !filtered && !planning.in_place {
        return avoid_collision(vault, snapshot, selector, planning, steps);
    }
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut selected = 0u64;
    for entry in vault.entries(snapshot)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.is_integrity() => continue,
            Err(error) => return Err(error),
        };
        if !selector.takes(&entry) {
            continue;
        }
        selected += 1;
        if filtered {
            selector.note_ancestors(&entry);
        }
        if planning.in_place
            && let Some(place) = selector.destination(&entry)
            && let Some(different) = differs(&planning.target.join(place), &entry)
        {
            let count = counts.entry(entry.item.clone()).or_default();
            count.0 += 1;
            count.1 += u64::from(different);
        }
    }
    for step in steps.iter_mut() {
        if let Some((there, different)) = counts.get(&step.item).filter(|(there, _)| *there > 0) {
            step.overwrites = format!("{there} files are there, {different} of them differ and will be replaced");
        }
    }
    if selected == 0 && !planning.options.paths.is_empty() {
        planning.notes.push("no file of the snapshot matches".to_owned());
    }
    if planning.in_place {
        planning.notes.push("files that are not in the snapshot are left as they are".to_owned());
        Ok(())
    } else {
        avoid_collision(vault, snapshot, selector, planning, steps)
    }
}

/// Whether a regular file is there, and if so whether it is another one, as far as size and time tell.
fn differs(path: &Path, entry: &havun_vault::Entry) -> Option<bool> {
    use std::os::unix::fs::MetadataExt;
    if entry.kind != havun_vault::EntryKind::File {
        return None;
    }
    let meta = std::fs::symlink_metadata(path).ok().filter(|meta| !meta.is_dir())?;
    let same =
        meta.is_file() && meta.len() == entry.size && (meta.mtime(), meta.mtime_nsec()) == (entry.mtime.secs, i64::from(entry.mtime.nanos));
    Some(!same)
}

/// Dumps go to `databases/`; where the project has a folder of that name, to `havun-restored/databases/`.
fn avoid_collision(
    vault: &Vault,
    snapshot: &Snapshot,
    selector: &mut Selector,
    planning: &Planning<'_>,
    steps: &mut [StepView],
) -> Result<(), havun_vault::VaultError> {
    let dumps: Vec<String> =
        selector.destinations.iter().filter(|(_, folder)| **folder == *Path::new("databases")).map(|(n, _)| n.clone()).collect();
    if dumps.is_empty() {
        return Ok(());
    }
    for entry in vault.entries(snapshot)? {
        let Ok(entry) = entry else { continue };
        if entry.path == b"tree/databases" {
            let (usual, aside) = (planning.target.join("databases"), planning.target.join(ASIDE).join("databases"));
            for name in &dumps {
                selector.destinations.insert(name.clone(), Path::new(ASIDE).join("databases"));
            }
            for step in steps.iter_mut().filter(|step| dumps.contains(&step.item)) {
                step.destination = step.destination.replace(&usual.display().to_string(), &aside.display().to_string());
            }
            return Ok(());
        }
        if entry.path.as_slice() > b"tree/databases".as_slice()
            && entry.path.starts_with(b"tree/")
            && !entry.path.starts_with(b"tree/databases")
        {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_stays_beneath_its_target() {
        assert_eq!(beneath("./a//b/"), Some("a/b".into()));
        assert_eq!(beneath(""), Some(PathBuf::new()));
        for text in ["/etc", "../x", "a/../../x"] {
            assert_eq!(beneath(text), None, "{text}");
        }
    }
}
