//! Node.js applications: source, settings, JSON and SQLite databases, and not what the package manager and the
//! build make anew.
//!
//! Read `settings`, `project`, `database`, `files`, `restore`.

mod database;
mod files;
mod project;
mod restore;
mod settings;

use havun_backup_sdk::prelude::*;
use project::Project;
pub use settings::NodeSettings;

/// The strategy.
pub struct NodeJs;

impl Strategy for NodeJs {
    type Settings = NodeSettings;

    fn about() -> About {
        About::new("nodejs", env!("CARGO_PKG_VERSION"), "Node.js application")
    }

    fn detect(root: &dyn Tree) -> Result<Option<Detection>> {
        let settings = NodeSettings::default();
        let project = Project::read(root, &settings);
        if project.has_package() { detect(&project, settings).map(Some) } else { Ok(None) }
    }

    fn plan_backup(cx: &Context<NodeSettings>, root: &dyn Tree) -> Result<BackupPlan> {
        let project = Project::read(root, &cx.settings);
        let databases = database::databases(cx, &project)?;
        let mut plan = BackupPlan::of(databases.items);
        plan.items.extend(files::items(&project, &cx.settings, &databases.raw_files)?);
        plan.warnings.extend(databases.warnings);
        plan.warnings.extend(files::warnings(&project, &cx.settings));
        plan.warnings.extend(erasing::faults(&cx.settings.erasure));
        Ok(plan)
    }

    fn plan_restore(cx: &Context<NodeSettings>, items: &[StoredItem]) -> Result<RestorePlan> {
        Ok(restore::plan(cx, items))
    }

    fn after_restore(cx: &Context<NodeSettings>, restored: &dyn Target) -> Result<Vec<StepReport>> {
        Ok(restore::after(cx, restored))
    }

    fn verify(cx: &Context<NodeSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Result<Vec<Check>> {
        Ok(restore::checks(cx, restored, databases))
    }

    fn plan_erase(cx: &Context<NodeSettings>, items: &[RestoredItem]) -> Result<Vec<EraseRule>> {
        erasing::rules(&cx.settings.erasure, items)
    }
}

export_strategy!(NodeJs);

const FRAMEWORKS: [(&str, &str); 9] = [
    ("next", "Next.js"),
    ("nuxt", "Nuxt"),
    ("@nestjs/core", "NestJS"),
    ("@remix-run/node", "Remix"),
    ("@sveltejs/kit", "SvelteKit"),
    ("express", "Express"),
    ("fastify", "Fastify"),
    ("koa", "Koa"),
    ("json-server", "json-server"),
];

fn detect(project: &Project<'_>, settings: NodeSettings) -> Result<Detection> {
    let framework = FRAMEWORKS.iter().find(|(package, _)| project.depends_on(package)).map(|(_, title)| *title);
    let confidence = match (project.root.is_file("artisan") || project.root.is_file("composer.json"), project.install_command(), framework)
    {
        // PHP applications have a package.json for their assets.
        (true, ..) => 20,
        (false, Some(_), Some(_)) => 90,
        (false, None, None) => 50,
        _ => 75,
    };
    let label = framework.map_or("Node.js application".to_owned(), |framework| format!("Node.js application, {framework}"));
    let mut detection = Detection::new(confidence, label);
    let json = files::json_databases(project, &settings)?;
    if !json.is_empty() {
        detection.propose(
            "json_databases",
            &json,
            "JSON files stand where applications keep their data; each is read whole and must parse",
        );
    }
    let cx = Context { run_id: String::new(), project: String::new(), settings, connections: Vec::new(), granted: Vec::new() };
    let databases = database::databases(&cx, project)?;
    for item in &databases.items {
        detection.note(format!("database: {}", item.reason));
    }
    let command = project.install_command().unwrap_or("npm install");
    detection.note(format!("node_modules is left out; `{command}` brings it back"));
    let warnings = databases.warnings.into_iter().chain(files::warnings(project, &cx.settings));
    warnings.for_each(|warning| detection.note(warning));
    Ok(detection)
}

/// Files that the JSON item takes, at most `max`.
fn json_files(project: &Project<'_>, settings: &NodeSettings, max: u32) -> Vec<Stat> {
    let globs = files::json_databases(project, settings).unwrap_or_default();
    let excludes: Vec<&str> =
        files::json_excludes().into_iter().chain(settings.exclude.iter().map(String::as_str)).chain(["**/node_modules"]).collect();
    let includes: Vec<&str> = globs.iter().map(String::as_str).collect();
    if includes.is_empty() {
        return Vec::new();
    }
    let found = project.root.find(&includes, &excludes, max).unwrap_or_default();
    found.into_iter().filter(|stat| stat.kind == "file").collect()
}
