//! The plan of one project: made the same way for a run and for a dry run.

use super::items::overrides;
use crate::{config::ProjectConfig, context::Context, databases::ResolvedConnection, error::OperationError, strategies};
use havun_model::{
    BackupPlan, Connection, DatabaseItem, GeneratedItem, GitItem, ItemKind, ItemName, PlanItem, Strategy, StrategyContext, TreeItem,
};
use std::{collections::BTreeSet, sync::Arc};

/// A plan and who made it.
pub(super) struct Planned {
    pub strategy: Arc<dyn Strategy>,
    pub context: StrategyContext,
    pub plan: BackupPlan,
}

impl Planned {
    /// In path order of what is stored for them.
    pub fn databases(&self) -> Vec<(&ItemName, &DatabaseItem)> {
        let mut items: Vec<_> = self.of(|kind| if let ItemKind::Database(item) = kind { Some(item) } else { None }).collect();
        items.sort_by_key(|(name, _)| format!("{name}.sql"));
        items
    }

    /// In path order.
    pub fn generated(&self) -> Vec<(&ItemName, &GeneratedItem)> {
        let mut items: Vec<_> = self.of(|kind| if let ItemKind::Generated(item) = kind { Some(item) } else { None }).collect();
        items.sort_by_key(|(name, _)| *name);
        items
    }

    /// In path order.
    pub fn git(&self) -> Vec<(&ItemName, &GitItem)> {
        let mut items: Vec<_> = self.of(|kind| if let ItemKind::Git(item) = kind { Some(item) } else { None }).collect();
        items.sort_by_key(|(name, _)| *name);
        items
    }

    /// In the plan's order: the first that claims a file has it.
    pub fn trees(&self) -> Vec<(ItemName, TreeItem)> {
        self.of(|kind| if let ItemKind::Tree(item) = kind { Some(item) } else { None }).map(|(n, i)| (n.clone(), i.clone())).collect()
    }

    fn of<'a, T: 'a>(&'a self, pick: impl Fn(&'a ItemKind) -> Option<T> + 'a) -> impl Iterator<Item = (&'a ItemName, T)> {
        self.plan.items.iter().filter_map(move |item: &PlanItem| Some((&item.name, pick(&item.kind)?)))
    }
}

/// Asks the project's strategy what to back up.
///
/// # Errors
/// [`OperationError::RootGone`], [`OperationError::UnknownStrategy`], [`OperationError::Strategy`], [`OperationError::BadPlan`].
pub(super) fn plan(cx: &Context, project: &ProjectConfig, run_id: &str) -> Result<Planned, OperationError> {
    let gone = |source| OperationError::RootGone { project: project.name.clone(), path: project.root.clone(), source };
    std::fs::read_dir(&project.root).map_err(gone)?;
    let strategy = strategies::resolve(cx, project)?;
    let context = strategies::strategy_context(cx, project, run_id);
    cx.observer.step("plan");
    let made = strategy.plan_backup(&context, &project.root);
    cx.check_cancelled()?;
    let mut plan = made.map_err(|source| OperationError::Strategy { project: project.name.clone(), source: Box::new(source) })?;
    if let Some(why) = broken_rule(&plan) {
        return Err(OperationError::BadPlan { project: project.name.clone(), why });
    }
    leave_out_databases(&mut plan, project);
    Ok(Planned { strategy, context, plan })
}

/// The connections that the project's strategy would back up now, as far as it can be asked.
pub(crate) fn connections(cx: &Context, project: &ProjectConfig) -> Vec<Connection> {
    let planned = plan(cx, project, "connections");
    let of = |item: PlanItem| if let ItemKind::Database(database) = item.kind { Some(database.connection) } else { None };
    planned.map(|planned| planned.plan.items.into_iter().filter_map(of).collect()).unwrap_or_default()
}

/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// A database that is dumped is no file of a tree: copied while it is written it is no database, and a restore would find it
/// in the way of the dump.
fn leave_out_databases(plan: &mut BackupPlan, project: &ProjectConfig) {
    let file = |item: &PlanItem| {
        let ItemKind::Database(database) = &item.kind else { return None };
        let overrides = overrides(project, &database.connection.name).ok()?;
        ResolvedConnection::resolve(&database.connection, &overrides, &project.root).ok()?.file_beneath_root()
    };
    let files: Vec<String> = plan.items.iter().filter_map(file).map(|path| globset::escape(&path).replace('\\', "?")).collect();
    let globs = files.iter().flat_map(|path| COMPANIONS.map(|end| format!("{path}{end}")));
    let globs: Vec<String> = globs.collect();
    for item in &mut plan.items {
        if let ItemKind::Tree(tree) = &mut item.kind {
            let new: Vec<String> = globs.iter().filter(|glob| !tree.exclude.contains(glob)).cloned().collect();
            tree.exclude.extend(new);
        }
    }
}

/// What of a plan could not be stored under the paths of a manifest.
fn broken_rule(plan: &BackupPlan) -> Option<String> {
    if plan.items.is_empty() {
        return Some("it has no items".to_owned());
    }
    let mut names = BTreeSet::new();
    if let Some(item) = plan.items.iter().find(|item| !names.insert(&item.name)) {
        return Some(format!("two items are named `{}`", item.name));
    }
    let databases: Vec<&str> =
        plan.items.iter().filter(|item| matches!(item.kind, ItemKind::Database(_))).map(|item| item.name.as_str()).collect();
    for name in &databases {
        let prefix = format!("{name}.sql");
        if let Some(other) = databases.iter().find(|other| other.starts_with(&prefix)) {
            return Some(format!("the dumps of `{name}` and `{other}` would share a name"));
        }
    }
    plan.items.iter().find_map(|item| match &item.kind {
        ItemKind::Generated(g)
            if g.file_name.is_empty() || g.file_name.contains(['/', '\0']) || matches!(g.file_name.as_str(), "." | "..") =>
        {
            Some(format!("`{}` of item `{}` is no file name", g.file_name.escape_default(), item.name))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str) -> PlanItem {
        let connection = Connection { name: "main".into(), engine: "sqlite".into(), parameters: Vec::new() };
        let kind = ItemKind::Database(DatabaseItem { connection, exclude_rows: Vec::new() });
        PlanItem { name: ItemName::new(name).unwrap(), kind, reason: String::new() }
    }

    fn rule(items: Vec<PlanItem>) -> Option<String> {
        broken_rule(&BackupPlan { items, warnings: Vec::new() })
    }

    #[test]
    fn a_plan_that_could_not_be_stored_is_refused() {
        assert!(rule(Vec::new()).is_some());
        assert!(rule(vec![database("a"), database("a")]).is_some());
        assert!(rule(vec![database("a"), database("a.sqla")]).is_some());
        assert!(rule(vec![database("a"), database("a-b"), database("b")]).is_none());
    }

    #[test]
    fn a_generated_file_name_is_one_component() {
        for name in ["", "..", "a/b"] {
            let kind = ItemKind::Generated(GeneratedItem { file_name: name.into(), media_type: String::new() });
            assert!(rule(vec![PlanItem { name: ItemName::new("x").unwrap(), kind, reason: String::new() }]).is_some(), "{name}");
        }
    }
}
