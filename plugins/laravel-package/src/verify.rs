//! Steps inside the restored tree, and whether the package is whole.

use crate::{
    files::{History, vault_globs},
    settings::PackageSettings,
};
use havun_backup_sdk::prelude::*;
use serde_json::Value;

/// What a person must do, as this tree says.
pub fn steps(restored: &dyn Target) -> Vec<StepReport> {
    let mut reports = Vec::new();
    if !restored.is_file("vendor/autoload.php") {
        reports.push(StepReport::new("vendor", StepOutcome::Review, "run composer install"));
    }
    reports.push(match History::of(restored) {
        History::Here => StepReport::new("history", StepOutcome::Done, ".git is back; git status shows what was not committed"),
        History::Elsewhere => StepReport::new("history", StepOutcome::Review, ".git is no folder: the history lies elsewhere"),
        History::None => StepReport::new("history", StepOutcome::Skipped, "there is no .git"),
    });
    reports
}

/// Composer's file, the source folders that it names, vaults, history and databases.
pub fn checks(cx: &Context<PackageSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Vec<Check> {
    let composer = restored.json("composer.json").unwrap_or_default();
    let mut checks = vec![match composer.is_object() {
        true => Check::new("composer.json", Verdict::Pass, "parses"),
        false => Check::new("composer.json", Verdict::Fail, "missing or damaged"),
    }];
    checks.extend(source(&composer, restored));
    checks.extend(vaults(&cx.settings, restored));
    checks.push(history(restored));
    checks.extend(databases.iter().map(|database| tables(*database)));
    checks
}

/// The folders of `autoload.psr-4`.
fn source(composer: &Value, restored: &dyn Tree) -> Option<Check> {
    let folders = composer.get("autoload")?.get("psr-4")?.as_object()?;
    let names = folders.values().flat_map(|value| match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect::<Vec<_>>(),
    });
    let missing: Vec<&str> = names.filter(|name| !name.is_empty() && !restored.is_dir(name.trim_end_matches('/'))).collect();
    Some(match missing.as_slice() {
        [] => Check::new("source", Verdict::Pass, "every autoloaded folder is there"),
        missing => Check::new("source", Verdict::Fail, format!("missing: {}", missing.join(", "))),
    })
}

/// An empty vault file is a lost one.
fn vaults(settings: &PackageSettings, restored: &dyn Tree) -> Option<Check> {
    let found = restored.find(&vault_globs(settings), &["vendor", "node_modules", ".git"], 10_000).ok()?;
    let files: Vec<&Stat> = found.iter().filter(|stat| stat.kind == "file").collect();
    let empty = files.iter().find(|stat| stat.size < 1.0);
    match (files.is_empty(), empty) {
        (true, _) => None,
        (false, Some(stat)) => Some(Check::new("vaults", Verdict::Warn, format!("{} is empty", stat.path))),
        (false, None) => Some(Check::new("vaults", Verdict::Pass, format!("{} files", files.len()))),
    }
}

fn history(restored: &dyn Tree) -> Check {
    match History::of(restored) {
        History::Here if restored.is_file(".git/HEAD") => Check::new("history", Verdict::Pass, ".git is there with a HEAD"),
        History::Here => Check::new("history", Verdict::Fail, ".git has no HEAD"),
        History::Elsewhere => Check::new("history", Verdict::Warn, ".git is no folder"),
        History::None => Check::new("history", Verdict::Pass, "there is no .git: no history to check"),
    }
}

fn tables(database: &dyn Database) -> Check {
    let name = format!("{}: tables", database.item());
    match database.tables() {
        Ok(tables) if tables.is_empty() => Check::new(name, Verdict::Warn, "none"),
        Ok(tables) => Check::new(name, Verdict::Pass, format!("{} tables", tables.len())),
        Err(error) => Check::new(name, Verdict::Fail, error.text()),
    }
}
