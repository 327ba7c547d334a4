//! Laravel applications: what only the server has. Files, the database that `.env` names, uploads, and not what
//! Composer, npm and the framework make anew.
//!
//! Read `settings`, `database` (with `php`), `files`, `restore`, `verify` (with `models`, `cipher`).

mod cipher;
mod database;
mod files;
mod models;
mod php;
mod restore;
mod settings;
mod verify;

use database::Application;
use havun_backup_sdk::{prelude::*, project_files};
pub use settings::LaravelSettings;

/// The strategy.
pub struct Laravel;

impl Strategy for Laravel {
    type Settings = LaravelSettings;

    fn about() -> About {
        About::new("laravel", env!("CARGO_PKG_VERSION"), "Laravel application")
    }

    fn detect(root: &dyn Tree) -> Result<Option<Detection>> {
        Ok(detect(root))
    }

    fn plan_backup(cx: &Context<LaravelSettings>, root: &dyn Tree) -> Result<BackupPlan> {
        let app = Application::read(root, &cx.settings.env_file);
        let databases = database::databases(cx, &app)?;
        let layout = files::Layout::of(root, &cx.settings, &databases.raw_files);
        let mut plan = BackupPlan::of(databases.items);
        plan.items.extend(layout.items(&cx.settings));
        plan.warnings.extend(databases.warnings);
        plan.warnings.extend(files::warnings(root, &app, &layout));
        plan.warnings.extend(erasing::faults(&cx.settings.erasure));
        Ok(plan)
    }

    fn plan_restore(cx: &Context<LaravelSettings>, items: &[StoredItem]) -> Result<RestorePlan> {
        Ok(restore::plan(cx, items))
    }

    fn after_restore(cx: &Context<LaravelSettings>, restored: &dyn Target) -> Result<Vec<StepReport>> {
        Ok(restore::after(cx, restored))
    }

    fn verify(cx: &Context<LaravelSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Result<Vec<Check>> {
        Ok(verify::checks(cx, restored, databases))
    }

    fn plan_erase(cx: &Context<LaravelSettings>, items: &[RestoredItem]) -> Result<Vec<EraseRule>> {
        erasing::rules(&cx.settings.erasure, items)
    }
}

export_strategy!(Laravel);

fn detect(root: &dyn Tree) -> Option<Detection> {
    let composer = root.json("composer.json").unwrap_or_default();
    let requires = project_files::composer_requires(&composer, "laravel/framework");
    let confidence = match (root.is_file("artisan"), requires) {
        (true, true) => 95,
        (true, false) if root.is_file("bootstrap/app.php") => 70,
        (false, true) if root.is_file("bootstrap/app.php") => 60,
        _ => return None,
    };
    let app = Application::read(root, ".env");
    let key = app.default_connection();
    let version = project_files::composer_locked(root, "laravel/framework");
    let major = version.as_deref().and_then(|version| version.split('.').next()).map_or(String::new(), |major| format!(" {major}"));
    let mut detection = Detection::new(confidence, format!("Laravel{major} application, {}", engine_title(&app.engine(&key))));
    if root.is_dir("vendor") && !root.is_file("composer.lock") {
        detection.propose(
            "include_vendor",
            true,
            "there is no composer.lock, so that `composer install` would not bring back the same packages",
        );
    }
    if let Some(version) = version {
        detection.note(format!("composer.lock pins laravel/framework {version}"));
    }
    match &app.env_fault {
        Some(fault) => detection.note(format!("{fault}; without it the database is not known")),
        None => detection.note(format!(".env names the connection `{key}`; its password stays in .env and is read when the backup runs")),
    }
    detection.note("rows of cache, sessions, jobs, telescope_* and pulse_* tables are left out; failed_jobs is kept");
    detection.note("vendor, node_modules and caches of the framework are left out; composer.lock brings them back");
    let layout = files::Layout::of(root, &LaravelSettings::default(), &[]);
    files::warnings(root, &app, &layout).into_iter().for_each(|warning| detection.note(warning));
    Some(detection)
}

fn engine_title(engine: &str) -> &str {
    match engine {
        "mysql" => "MySQL or MariaDB",
        "mariadb" => "MariaDB",
        "postgresql" => "PostgreSQL",
        "sqlite" => "SQLite",
        other => other,
    }
}
