//! Which files: everything beneath the root but what the package manager and the build make anew.

use crate::{project::Project, settings::NodeSettings};
use havun_backup_sdk::{
    prelude::*,
    project_files::{LinkTarget, link_target},
};

/// Folders that applications keep files of users in, by custom.
pub const UPLOADS: [&str; 8] =
    ["uploads", "upload", "public/uploads", "public/upload", "static/uploads", "storage/uploads", "data/uploads", "media"];

/// Settings, secrets, lock files, and what a process manager and Prisma need.
const CONFIG: [&str; 22] = [
    ".env",
    ".env.*",
    ".npmrc",
    ".nvmrc",
    ".node-version",
    ".tool-versions",
    ".yarnrc.yml",
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "bun.lock",
    "bun.lockb",
    "ecosystem.config.*",
    "pm2.json",
    "process.json",
    "Procfile",
    "prisma",
    "prisma.config.*",
    "drizzle.config.*",
];

/// Folders where the application itself keeps JSON files, by custom.
const JSON_PLACES: [&str; 8] =
    ["data/**/*.json", "db/**/*.json", "database/**/*.json", "storage/**/*.json", "db.json", "database.json", "store.json", "*.db.json"];
/// Packages that keep data in a JSON file.
const JSON_PACKAGES: [&str; 5] = ["lowdb", "json-server", "node-json-db", "simple-json-db", "steno"];
/// JSON files at the root that are configuration, with comments at times.
const NO_DATA: [&str; 12] = [
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "tsconfig*.json",
    "jsconfig*.json",
    "nest-cli.json",
    "angular.json",
    "turbo.json",
    "nx.json",
    "vercel.json",
    "components.json",
    "lerna.json",
];

/// Globs of the JSON databases: the operator's, or those that exist by custom.
pub fn json_databases(project: &Project<'_>, settings: &NodeSettings) -> Result<Vec<String>> {
    if let Some(globs) = &settings.json_databases {
        return Ok(globs.clone());
    }
    let mut globs: Vec<&str> = JSON_PLACES.to_vec();
    if JSON_PACKAGES.iter().any(|name| project.depends_on(name)) {
        globs.push("*.json");
    }
    let mut present = Vec::new();
    for glob in globs {
        let excludes: Vec<&str> =
            NO_DATA.into_iter().chain(["**/node_modules"]).chain(settings.exclude.iter().map(String::as_str)).collect();
        if project.root.find(&[glob], &excludes, 1)?.iter().any(|stat| stat.kind == "file") {
            present.push(glob.to_owned());
        }
    }
    Ok(present)
}

/// Files that the JSON item never takes, so that comments in a configuration file are no damage.
pub fn json_excludes() -> Vec<&'static str> {
    NO_DATA.to_vec()
}

/// Folders of users' files that are there.
fn uploads(project: &Project<'_>, settings: &NodeSettings) -> Vec<String> {
    let known = UPLOADS.into_iter().chain(settings.uploads.iter().map(|folder| folder.trim_end_matches('/')));
    known.filter(|folder| project.root.is_dir(folder)).map(str::to_owned).collect()
}

/// The tree items, what is small and precious first.
pub fn items(project: &Project<'_>, settings: &NodeSettings, raw_files: &[String]) -> Result<Vec<Item>> {
    let excludes = excludes(project, settings, raw_files);
    let mut items = Vec::new();
    let json = json_databases(project, settings)?;
    if !json.is_empty() {
        let item = Item::tree("json-data").include(&json).exclude(&excludes).exclude(&json_excludes()).json();
        items.push(item.because("JSON files that the application writes: each is read whole and must parse"));
    }
    let config = Item::tree("config").include(&CONFIG).include(settings.env_file.as_slice()).exclude(&excludes);
    items.push(config.because("settings, secrets and lock files"));
    let uploads = uploads(project, settings);
    if !uploads.is_empty() {
        items.push(Item::tree("uploads").include(&uploads).exclude(&excludes).because("files that the application and its users store"));
    }
    items.push(Item::tree("source").exclude(&excludes).because("everything else beneath the root"));
    Ok(items)
}

/// Contents, not folders, so that the restored tree has the folders that the application expects.
fn excludes(project: &Project<'_>, settings: &NodeSettings, raw_files: &[String]) -> Vec<String> {
    let caches = ["**/node_modules/**", "**/.turbo/**", "**/.cache/**", "**/.parcel-cache/**", ".npm/**", "coverage/**", ".nyc_output/**"];
    let mut excludes: Vec<String> = caches.iter().map(|glob| (*glob).to_owned()).collect();
    if rebuilds(project, settings) {
        let built = ["**/.next/**", "**/.nuxt/**", "**/.output/**", "**/.svelte-kit/**", "dist/**", "packages/*/dist/**", "apps/*/dist/**"];
        excludes.extend(built.iter().map(|glob| (*glob).to_owned()));
    }
    if settings.exclude_git {
        excludes.push(".git".to_owned());
    }
    excludes.extend(raw_files.iter().cloned());
    excludes.extend(settings.exclude.iter().cloned());
    excludes
}

/// Build results are left out only where a build script brings them back.
fn rebuilds(project: &Project<'_>, settings: &NodeSettings) -> bool {
    !settings.include_build && project.has_script("build")
}

/// What the operator should know before relying on this backup.
pub fn warnings(project: &Project<'_>, settings: &NodeSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = project.root;
    if !project.has_package() {
        warnings.push("there is no package.json that parses".to_owned());
    }
    if project.install_command().is_none() && root.is_dir("node_modules") {
        warnings.push("there is no lock file: installing anew would bring other versions; node_modules is left out".to_owned());
    }
    for file in &project.unreadable {
        warnings.push(format!("{file} cannot be read: databases that it names are not found"));
    }
    if !rebuilds(project, settings) && !settings.include_build && ["dist", ".next", ".nuxt"].iter().any(|folder| root.is_dir(folder)) {
        warnings.push("build results are kept: package.json has no build script that would bring them back".to_owned());
    }
    if ["ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.config.json", "pm2.json"].iter().any(|file| root.is_file(file)) {
        warnings.push("pm2 keeps its list of processes in ~/.pm2/dump.pm2, outside of the root: run `pm2 start` with the ecosystem file after a restore".to_owned());
    }
    let links = ["data", "db", "storage", "prisma", ".env"].into_iter().chain(UPLOADS);
    for path in links {
        if let LinkTarget::Outside(text) = link_target(root, path) {
            warnings.push(format!("{path} is a link to {text}, outside of the root: what is there is not backed up"));
        }
    }
    warnings
}
