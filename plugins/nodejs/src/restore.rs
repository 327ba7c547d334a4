//! What a restore needs, the steps inside the restored tree, and whether the application is whole.

use crate::{json_files, project::Project, settings::NodeSettings};
use havun_backup_sdk::prelude::*;

/// JSON files that `verify` reads.
const MAX_JSON_FILES: u32 = 500;
/// Largest JSON file that can be read here.
const MAX_JSON_BYTES: u32 = 16 << 20;

/// Every item back to where it was, with the commands around it.
pub fn plan(_cx: &Context<NodeSettings>, items: &[StoredItem]) -> RestorePlan {
    let mut plan = RestorePlan::in_place(items);
    plan.before("stop the application (pm2 stop, systemctl stop) when restoring over a running one");
    plan.after("install the packages from the lock file (npm ci, pnpm install --frozen-lockfile or yarn install --immutable)");
    plan.after("npm run build, where package.json has that script");
    plan.after("start the application (pm2 start ecosystem.config.js && pm2 save, or systemctl start)");
    plan
}

/// What a person must do, as this tree says.
pub fn after(cx: &Context<NodeSettings>, restored: &dyn Target) -> Vec<StepReport> {
    let project = Project::read(restored, &cx.settings);
    let mut reports = Vec::new();
    let mut review = |title: &str, detail: String| reports.push(StepReport::new(title, StepOutcome::Review, detail));
    if !restored.is_file("node_modules/.package-lock.json") && !restored.is_dir("node_modules/.bin") {
        match project.install_command() {
            Some(command) => review("packages", format!("run {command}")),
            None => review("packages", "there is no lock file: npm install brings the newest versions that package.json allows".to_owned()),
        }
    }
    if project.has_script("build") {
        review("build", "run npm run build".to_owned());
    }
    if project.depends_on("prisma") || project.depends_on("@prisma/client") {
        review("prisma", "run npx prisma generate".to_owned());
    }
    if restored.is_file(".env") {
        review(".env", "review hosts and URLs when this is another machine".to_owned());
    }
    reports
}

/// Package, lock, JSON databases, and every restored database.
pub fn checks(cx: &Context<NodeSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Vec<Check> {
    let project = Project::read(restored, &cx.settings);
    let package = if project.has_package() { (Verdict::Pass, "parses") } else { (Verdict::Fail, "missing or damaged") };
    let lock = match (project.install_command(), project.lock_differences().as_slice()) {
        (Some(command), []) => (Verdict::Pass, format!("matches package.json; `{command}` brings node_modules back")),
        (Some(_), differences) => (Verdict::Fail, format!("does not match package.json: {}", differences.join("; "))),
        (None, _) => (Verdict::Warn, "there is none".to_owned()),
    };
    let mut checks = vec![Check::new("package.json", package.0, package.1), Check::new("lock file", lock.0, lock.1)];
    checks.extend(project.unreadable.iter().map(|file| Check::new(file.clone(), Verdict::Fail, "cannot be read")));
    checks.extend(json_check(&project, &cx.settings));
    checks.extend(databases.iter().map(|database| database_check(*database)));
    checks
}

fn json_check(project: &Project<'_>, settings: &NodeSettings) -> Option<Check> {
    let files = json_files(project, settings, MAX_JSON_FILES);
    let (mut good, mut large, mut bad) = (0, 0, Vec::new());
    for stat in &files {
        match project.root.read(&stat.path, MAX_JSON_BYTES) {
            Ok(bytes) if serde_json::from_slice::<havun_backup_sdk::serde::de::IgnoredAny>(&bytes).is_ok() => good += 1,
            Ok(_) => bad.push(stat.path.as_str()),
            Err(Error::Limit(_)) => large += 1,
            Err(_) => bad.push(stat.path.as_str()),
        }
    }
    let name = "JSON databases";
    match (files.is_empty(), bad.first()) {
        (true, _) => None,
        (false, Some(first)) => {
            Some(Check::new(name, Verdict::Fail, format!("{} of {} do not parse, first {first}", bad.len(), files.len())))
        }
        (false, None) => Some(Check::new(name, Verdict::Pass, format!("{good} parse, {large} too large to look into"))),
    }
}

fn database_check(database: &dyn Database) -> Check {
    let name = format!("{}: tables", database.item());
    match database.tables() {
        Ok(tables) if tables.is_empty() => Check::new(name, Verdict::Warn, "none"),
        Ok(tables) => {
            let rows: u64 = tables.iter().filter_map(|table| database.count_rows(table).ok()).sum();
            let verdict = if rows == 0 { Verdict::Warn } else { Verdict::Pass };
            Check::new(name, verdict, format!("{} tables, {rows} rows", tables.len()))
        }
        Err(error) => Check::new(name, Verdict::Fail, error.text()),
    }
}
