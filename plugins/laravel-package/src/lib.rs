//! Laravel packages: source with its Git history, settings, and vault files byte for byte.
//!
//! Read `settings`, `files`, `verify`.

mod files;
mod settings;
mod verify;

use files::History;
use havun_backup_sdk::{prelude::*, project_files::item_name};
use serde_json::Value;
pub use settings::PackageSettings;

/// The strategy.
pub struct LaravelPackage;

impl Strategy for LaravelPackage {
    type Settings = PackageSettings;

    fn about() -> About {
        About::new("laravel-package", env!("CARGO_PKG_VERSION"), "Laravel package")
    }

    fn detect(root: &dyn Tree) -> Result<Option<Detection>> {
        let composer = root.json("composer.json").unwrap_or_default();
        let Some(confidence) = confidence(root, &composer) else {
            return Ok(None);
        };
        let name = composer.get("name").and_then(Value::as_str).map_or(String::new(), |name| format!(" {name}"));
        let mut detection = Detection::new(confidence, format!("Laravel package{name}"));
        if History::of(root) == History::Here {
            detection.note("the Git history is kept as a bundle, with hooks, config, stashes and uncommitted files");
        }
        let settings = PackageSettings::default();
        for item in files::items(root, &settings)?.iter().filter(|item| item.name == "vaults") {
            detection.note(item.reason.clone());
        }
        files::warnings(root, &settings)?.into_iter().for_each(|warning| detection.note(warning));
        Ok(Some(detection))
    }

    fn plan_backup(cx: &Context<PackageSettings>, root: &dyn Tree) -> Result<BackupPlan> {
        let mut plan = BackupPlan::of(databases(cx)?);
        plan.items.extend(files::items(root, &cx.settings)?);
        plan.warnings.extend(files::warnings(root, &cx.settings)?);
        Ok(plan)
    }

    fn plan_restore(_cx: &Context<PackageSettings>, items: &[StoredItem]) -> Result<RestorePlan> {
        let mut plan = RestorePlan::in_place(items);
        plan.after("composer install (vendor is not part of the backup)");
        plan.after("git status, to see what was not committed when the backup was taken");
        if items.iter().any(|item| item.name == "vaults") {
            plan.after("put the vaults' passwords back from where they are kept");
        }
        Ok(plan)
    }

    fn after_restore(_cx: &Context<PackageSettings>, restored: &dyn Target) -> Result<Vec<StepReport>> {
        Ok(verify::steps(restored))
    }

    fn verify(cx: &Context<PackageSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Result<Vec<Check>> {
        Ok(verify::checks(cx, restored, databases))
    }
}

export_strategy!(LaravelPackage);

/// A library that requires a part of Laravel; an application has `artisan`.
fn confidence(root: &dyn Tree, composer: &Value) -> Option<u8> {
    let library = matches!(composer.get("type").and_then(Value::as_str), None | Some("library" | "laravel-package"));
    if !composer.is_object() || !library || root.is_file("artisan") {
        return None;
    }
    let requires = |section: &str, prefix: &str| {
        let packages = composer.get(section).and_then(Value::as_object);
        packages.is_some_and(|packages| packages.keys().any(|name| name.starts_with(prefix)))
    };
    if composer.get("extra").and_then(|extra| extra.get("laravel")).is_some() {
        return Some(90);
    }
    if requires("require", "illuminate/") || requires("require", "laravel/framework") {
        return Some(85);
    }
    requires("require-dev", "orchestra/testbench").then_some(70)
}

/// Databases that the operator listed.
fn databases(cx: &Context<PackageSettings>) -> Result<Vec<Item>> {
    let wants = |name: &str| cx.settings.databases.as_ref().is_none_or(|names| names.iter().any(|wanted| wanted == name));
    let listed = |name: &str| cx.connections.iter().any(|connection| connection.name == name);
    if let Some(unknown) = cx.settings.databases.iter().flatten().find(|name| !listed(name)) {
        return Err(Error::Invalid(format!("setting `databases`: `{unknown}` is not listed under [projects.NAME.databases]")));
    }
    let item = |connection: &ConnectionInfo| {
        let reason = format!("the listed database `{}`", connection.name);
        Item::database(&item_name("database", &connection.name), Connection::new(&connection.name, &connection.engine)).because(reason)
    };
    Ok(cx.connections.iter().filter(|connection| wants(&connection.name)).map(item).collect())
}
