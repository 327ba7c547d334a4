//! Any folder, and the databases that the operator listed: for what no other strategy knows.
//!
//! It decides nothing by itself, so what an operator reads in the configuration is what is backed up.

use havun_backup_sdk::{prelude::*, project_files};

settings! {
    /// Settings of the `files` strategy.
    pub struct FilesSettings {
        /// Globs, relative to the root, of what to back up; everything when empty. A name of a file or folder without wildcards takes all that is in it.
        include: Vec<String>,
        /// Globs, relative to the root, of what to leave out; `a/**` keeps the folder `a` itself.
        exclude: Vec<String>,
        /// Names of listed databases to back up; all of `[projects.NAME.databases]` when absent.
        databases: Option<Vec<String>>,
        /// What is erased again from a restored backup, of everybody in the erasure register: `{ table = "users", column = "email" }` deletes rows, with `clear = ["name"]` or `replace = { name = "erased" }` it empties columns of them; `{ files = "avatars/{subject}.png" }` removes files.
        erasure: Vec<EraseSetting>,
    }
}

/// The strategy.
pub struct Files;

impl Strategy for Files {
    type Settings = FilesSettings;

    fn about() -> About {
        About::new("files", env!("CARGO_PKG_VERSION"), "Files and listed databases")
    }

    fn plan_backup(cx: &Context<FilesSettings>, root: &dyn Tree) -> Result<BackupPlan> {
        let mut plan = BackupPlan::of(databases(cx)?);
        let include: Vec<&str> = cx.settings.include.iter().map(|glob| glob.trim_end_matches('/')).collect();
        let reason = if include.is_empty() { "everything beneath the root" } else { "what the setting `include` names" };
        plan.items.push(Item::tree("files").include(&include).exclude(&cx.settings.exclude).because(reason));
        for glob in &cx.settings.include {
            if is_plain(glob) && !root.exists(glob.trim_end_matches('/')) {
                plan.warn(format!("`{glob}` of the setting `include` does not exist"));
            }
        }
        plan.warnings.extend(erasing::faults(&cx.settings.erasure));
        Ok(plan)
    }

    fn plan_restore(_cx: &Context<FilesSettings>, items: &[StoredItem]) -> Result<RestorePlan> {
        Ok(RestorePlan::in_place(items))
    }

    fn verify(_cx: &Context<FilesSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Result<Vec<Check>> {
        let mut checks = vec![files_check(restored)];
        checks.extend(databases.iter().map(|database| database_check(*database)));
        Ok(checks)
    }

    fn plan_erase(cx: &Context<FilesSettings>, items: &[RestoredItem]) -> Result<Vec<EraseRule>> {
        erasing::rules(&cx.settings.erasure, items)
    }
}

export_strategy!(Files);

/// One item for each database: those of the setting, or all that are listed.
fn databases(cx: &Context<FilesSettings>) -> Result<Vec<Item>> {
    let listed: Vec<&str> = cx.connections.iter().map(|connection| connection.name.as_str()).collect();
    let wanted = match &cx.settings.databases {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => listed.clone(),
    };
    if let Some(missing) = wanted.iter().find(|name| !listed.contains(name)) {
        let known = if listed.is_empty() { "none is listed".to_owned() } else { format!("listed are {}", listed.join(", ")) };
        return Err(Error::Invalid(format!("setting `databases`: `{missing}` is no database of this project; {known}")));
    }
    let alone = wanted.len() == 1;
    let item = |name: &&str| {
        let engine = cx.connections.iter().find(|connection| connection.name == **name).map_or("", |connection| connection.engine.as_str());
        let item_name = if alone { "database".to_owned() } else { project_files::item_name("database", name) };
        Item::database(&item_name, Connection::new(name, engine)).because(format!("the listed database `{name}`"))
    };
    Ok(wanted.iter().map(item).collect())
}

fn is_plain(glob: &str) -> bool {
    !glob.contains(['*', '?', '[', '{', '\\'])
}

fn files_check(restored: &dyn Tree) -> Check {
    match restored.list_dir("") {
        Ok(entries) if entries.is_empty() => Check::new("files", Verdict::Warn, "the restored folder is empty"),
        Ok(entries) => Check::new("files", Verdict::Pass, format!("{} entries in the restored folder", entries.len())),
        Err(Error::Limit(_)) => Check::new("files", Verdict::Pass, "more entries in the restored folder than can be listed"),
        Err(error) => Check::new("files", Verdict::Fail, error.text()),
    }
}

fn database_check(database: &dyn Database) -> Check {
    let name = format!("database {}", database.item());
    match database.tables() {
        Ok(tables) if tables.is_empty() => Check::new(name, Verdict::Warn, "no tables"),
        Ok(tables) => Check::new(name, Verdict::Pass, format!("{} tables", tables.len())),
        Err(_) => Check::new(name, Verdict::Fail, "its tables cannot be listed"),
    }
}
