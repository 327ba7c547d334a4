//! Which files: everything beneath the root but what the framework, Composer and npm make anew.

use crate::{database::Application, settings::LaravelSettings};
use havun_backup_sdk::{
    prelude::*,
    project_files::{LinkTarget, link_target},
};

/// What makes an application this one, and what only the server has.
const CONFIG: [&str; 12] = [
    ".env",
    ".env.*",
    "auth.json",
    "composer.json",
    "composer.lock",
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
];

/// Where the application keeps its files, and what of them is left out.
pub struct Layout {
    /// `storage`, or where a link of that name leads within the root.
    storage: String,
    has_uploads: bool,
    excludes: Vec<String>,
    /// `public/build` cannot be built anew here and is therefore kept.
    keeps_build: bool,
}

impl Layout {
    /// Looks at `root`. `raw_files` are globs of database files that the databases' own items bring back.
    pub fn of(root: &dyn Tree, settings: &LaravelSettings, raw_files: &[String]) -> Self {
        let storage = match link_target(root, "storage") {
            LinkTarget::Inside(path) if root.is_dir(&path) => path,
            _ => "storage".to_owned(),
        };
        let keeps_build = settings.include_build || !can_build(root);
        let mut excludes = own_excludes(root, settings, &storage, keeps_build);
        excludes.extend(raw_files.iter().cloned());
        excludes.extend(settings.exclude.iter().cloned());
        Self { has_uploads: root.is_dir(&format!("{storage}/app")), storage, excludes, keeps_build }
    }

    /// The tree items: what is small and precious first, so that it can be restored by itself.
    pub fn items(&self, settings: &LaravelSettings) -> Vec<Item> {
        let keys = format!("{}/*.key", self.storage);
        let config = Item::tree("config").include(&CONFIG).include(&[keys.as_str(), &settings.env_file]).exclude(&self.excludes);
        let config = config.because("settings, keys and lock files: what only the server has");
        let uploads = Item::tree("uploads").at(&format!("{}/app", self.storage)).exclude(&self.excludes);
        let uploads = uploads.because("files that the application and its users store");
        let source = Item::tree("source").exclude(&self.excludes).because("everything else beneath the root");
        let uploads = self.has_uploads.then_some(uploads);
        std::iter::once(config).chain(uploads).chain([source]).collect()
    }
}

/// `npm run build` would bring `public/build` back.
fn can_build(root: &dyn Tree) -> bool {
    let package = root.json("package.json").unwrap_or_default();
    package.get("scripts").and_then(|scripts| scripts.get("build")).is_some()
}

/// Contents, not folders, and never the `.gitignore` files of Laravel's skeleton, so that the restored tree has the
/// folders that the framework needs.
fn own_excludes(root: &dyn Tree, settings: &LaravelSettings, storage: &str, keeps_build: bool) -> Vec<String> {
    let mut excludes = vec!["node_modules/**".to_owned(), "public/hot".to_owned()];
    let beneath = ["framework/cache/data/[!.]*", "framework/cache/*.php", "framework/cache/laravel-excel/**", "framework/sessions/[!.]*"];
    let more = ["framework/views/[!.]*", "framework/testing/[!.]*", "pail/[!.]*", "app/backup-temp/**", "debugbar/[!.]*"];
    excludes.extend(beneath.iter().chain(&more).map(|content| format!("{storage}/{content}")));
    if settings.exclude_logs {
        excludes.push(format!("{storage}/logs/[!.]*"));
    }
    if !settings.include_vendor {
        excludes.push("vendor/**".to_owned());
    }
    if !keeps_build {
        excludes.push("public/build/**".to_owned());
    }
    if settings.exclude_git {
        excludes.push(".git".to_owned());
    }
    // Without a dotenv file the cached configuration is the only place of the application's secrets.
    if root.exists(&settings.env_file) {
        excludes.push("bootstrap/cache/*.php".to_owned());
    }
    excludes
}

/// What the operator should know before relying on this backup.
pub fn warnings(root: &dyn Tree, app: &Application<'_>, layout: &Layout) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(fault) = &app.env_fault {
        warnings.push(format!("{fault}: the database cannot be found without it"));
    }
    if root.is_file("bootstrap/cache/config.php") {
        warnings.push("bootstrap/cache/config.php exists: the running application reads it instead of .env; if they differ, .env (which is backed up) is not what runs".to_owned());
    }
    if root.is_dir("vendor") && !root.is_file("composer.lock") {
        warnings.push(
            "there is no composer.lock: `composer install` would not bring back the same packages; set include_vendor = true".to_owned(),
        );
    }
    if layout.keeps_build && root.is_dir("public/build") && !can_build(root) {
        warnings.push("public/build is kept: package.json has no build script that would bring it back".to_owned());
    }
    for path in ["storage", "storage/app", "storage/app/public", "storage/app/private", ".env", "database"] {
        if let LinkTarget::Outside(text) = link_target(root, path) {
            warnings.push(format!(
                "{path} is a link to {text}, outside of the root: what is there is not backed up; let `root` be the folder that holds both"
            ));
        }
    }
    if let Some(disk) = app.env("FILESYSTEM_DISK").or_else(|| app.env("FILESYSTEM_DRIVER")).filter(|disk| disk == "s3") {
        warnings.push(format!("FILESYSTEM_DISK={disk}: files in an object store are not part of this backup"));
    }
    warnings
}
