//! A configuration for the projects that are found, with the reason at each line.
//!
//! Every strategy looks at every folder; the surest one plans, and its plan is told in comments, so that the operator
//! reads what will be backed up before anything is.

use super::InitError;
use crate::{
    config::{Config, Priority, ProjectConfig, Retention, Tier},
    context::{Context, new_run_id},
    error::OperationError,
    strategies,
};
use havun_model::{BackupPlan, Detection, ItemKind, ProjectName, ProposedSetting, StoreName, Strategy, TreeItem};
use havun_plugin_runtime::builtin_ids;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use toml_edit::{Array, InlineTable, Key, Value};

/// What any folder is, if it is nothing better known.
const FALLBACK: &str = "files";

/// What to propose for.
#[derive(Debug, Clone)]
pub struct ProposeRequest {
    /// Folders of projects.
    pub paths: Vec<PathBuf>,
    /// Name of the one project.
    pub name: Option<String>,
    /// Folder of the hot store; the stores of the existing configuration when there is one.
    pub store: PathBuf,
    /// Folder of an archive store.
    pub archive: Option<PathBuf>,
    /// Where the service key goes.
    pub identity: PathBuf,
    /// Recipients of the escrow.
    pub escrow: Vec<String>,
}

/// A proposed configuration.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The general sections; empty when a configuration exists.
    pub general: String,
    /// One for each folder that is not configured yet.
    pub projects: Vec<ProposedProject>,
    /// Folders that are configured already, and as what.
    pub known: Vec<(PathBuf, ProjectName)>,
}

impl Proposal {
    /// The text to write or to add.
    pub fn text(&self) -> String {
        let sections = std::iter::once(&self.general).chain(self.projects.iter().map(|project| &project.text));
        sections.filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("\n")
    }
}

/// One proposed project.
#[derive(Debug, Clone)]
pub struct ProposedProject {
    /// Its name.
    pub name: ProjectName,
    /// What it was found to be.
    pub label: String,
    /// Its section.
    pub text: String,
}

/// Looks at each folder. `fresh` says that there is no configuration yet and `cx` stands for defaults.
///
/// # Errors
/// [`InitError::Root`], [`InitError::Name`], [`InitError::OneName`]; [`InitError::Operation`] when the strategies do not load.
pub fn propose(cx: &Context, request: &ProposeRequest, fresh: bool) -> Result<Proposal, InitError> {
    if request.name.is_some() && request.paths.len() > 1 {
        return Err(InitError::OneName { count: request.paths.len() });
    }
    let general = if fresh { general(&cx.config, request) } else { String::new() };
    let stores = if fresh { new_stores(request) } else { usable_stores(&cx.config) };
    let mut proposal = Proposal { general, projects: Vec::new(), known: Vec::new() };
    let strategies = load_all(cx)?;
    for path in &request.paths {
        let root = std::fs::canonicalize(path).and_then(|root| std::fs::read_dir(&root).map(|_| root));
        let root = root.map_err(|source| InitError::Root { path: path.clone(), source })?;
        if let Some(known) = cx.config.projects.values().find(|project| same_folder(&project.root, &root)) {
            proposal.known.push((root, known.name.clone()));
            continue;
        }
        let name = match &request.name {
            Some(name) => ProjectName::new(name.clone())?,
            None => free_name(&root, |name| cx.config.projects.contains_key(name) || proposal.projects.iter().any(|p| p.name == *name)),
        };
        cx.observer.step(&format!("looking at {}", root.display()));
        proposal.projects.push(project(cx, &strategies, name, &root, &stores)?);
    }
    Ok(proposal)
}

fn same_folder(a: &Path, b: &Path) -> bool {
    std::fs::canonicalize(a).is_ok_and(|a| a == b)
}

/// Strategies by the name that a configuration uses.
type Named = Vec<(String, Arc<dyn Strategy>)>;

fn load_all(cx: &Context) -> Result<Named, InitError> {
    let names = builtin_ids().map(str::to_owned).chain(cx.config.plugins.keys().cloned());
    names.map(|name| Ok((name.clone(), strategies::resolve(cx, &draft(&name, FALLBACK, Path::new("/")))?))).collect()
}

/// A project as it would be configured, to plan with.
fn draft(strategy: &str, name: &str, root: &Path) -> ProjectConfig {
    #[expect(clippy::expect_used, reason = "constants, held by a test of this module")]
    let (safe, hot, archive) = (ProjectName::new(FALLBACK).expect("a name"), "30d".parse().expect("a term"), "7y".parse().expect("a term"));
    ProjectConfig {
        name: ProjectName::new(name).unwrap_or(safe),
        title: name.to_owned(),
        strategy: strategy.to_owned(),
        root: root.to_owned(),
        priority: Priority::Medium,
        compliance: Vec::new(),
        schedule: None,
        stores: Vec::new(),
        encryption: true,
        paused: false,
        retention: Retention { hot, archive, archive_auto_delete: false, explicit_hot: true, explicit_archive: true },
        rto: None,
        rpo: None,
        drill: Default::default(),
        databases: Default::default(),
        quiesce: None,
        snapshot: None,
        settings: serde_json::json!({}),
    }
}

fn project(
    cx: &Context,
    strategies: &[(String, Arc<dyn Strategy>)],
    name: ProjectName,
    root: &Path,
    stores: &[StoreName],
) -> Result<ProposedProject, InitError> {
    let mut notes = Vec::new();
    let mut best: Option<(&str, &Arc<dyn Strategy>, Detection)> = None;
    for (id, strategy) in strategies {
        match strategy.detect(root, &cx.cancel) {
            Ok(Some(found)) if best.as_ref().is_none_or(|(_, _, other)| found.confidence > other.confidence) => {
                best = Some((id, strategy, found))
            }
            Ok(_) => {}
            Err(error) => notes.push(format!("could not be asked: {error}")),
        }
    }
    cx.check_cancelled()?;
    let fallback = || strategies.iter().find(|(id, _)| id == FALLBACK).map(|(id, strategy)| (id.as_str(), strategy, plain_folder()));
    let Some((strategy, loaded, found)) = best.or_else(fallback) else {
        return Err(OperationError::UnknownStrategy { project: name, strategy: FALLBACK.to_owned(), nearest: Vec::new() }.into());
    };
    let mut draft = draft(strategy, name.as_str(), root);
    draft.settings = found.settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect();
    let context = strategies::strategy_context(cx, &draft, &new_run_id(cx.now())?);
    let plan = match loaded.plan_backup(&context, root) {
        Ok(plan) => plan,
        Err(error) => {
            notes.push(format!("no plan yet: {}", error.message));
            BackupPlan::default()
        }
    };
    notes.extend(found.notes.iter().cloned());
    let label = found.label.clone();
    Ok(ProposedProject { text: section(&draft, &found, &notes, &plan, stores), name, label })
}

fn plain_folder() -> Detection {
    Detection { confidence: 0, label: "a folder of files".to_owned(), settings: Vec::new(), notes: Vec::new() }
}

fn section(draft: &ProjectConfig, found: &Detection, notes: &[String], plan: &BackupPlan, stores: &[StoreName]) -> String {
    let name = &draft.name;
    let mut out = Lines::default();
    let sure = if found.confidence > 0 { format!(" (sure to {} %)", found.confidence) } else { String::new() };
    out.comment(&format!("{}: {}{sure}", draft.root.display(), found.label));
    notes.iter().for_each(|note| out.comment(&format!("  {note}")));
    if !plan.items.is_empty() {
        out.comment("What will be backed up:");
        plan.items.iter().for_each(|item| out.comment(&format!("  {} ({}): {}", item.name, what(&item.kind), item.reason)));
        let left_out = left_out(plan);
        if !left_out.is_empty() {
            out.comment(&format!("  left out: {}", left_out.join(", ")));
        }
    }
    plan.warnings.iter().for_each(|warning| out.comment(&format!("Warning: {warning}")));
    out.head(&format!("projects.{}", key(name.as_str())));
    out.entry("title", &Value::from(title(&draft.root)), "the name in reports");
    let why = if found.confidence > 0 { found.label.as_str() } else { "no strategy knows this folder better" };
    out.entry("strategy", &Value::from(draft.strategy.as_str()), why);
    out.entry("root", &path_value(&draft.root), "the folder that was named");
    out.entry("priority", &Value::from("medium"), "critical, high, medium or low: the order of runs");
    out.entry("schedule", &Value::from("daily 03:00"), "when few people work; `havun-backup run --due` keeps to it");
    out.entry("stores", &Value::from(stores.iter().map(StoreName::as_str).collect::<Array>()), "every store of this configuration");
    out.entry("encryption", &Value::from(true), "what is stored can be read with a key only");
    out.head(&format!("projects.{}.retention", key(name.as_str())));
    out.entry("hot", &Value::from("30d"), "a month of days near at hand");
    out.entry("archive", &Value::from("7y"), "what the tax authority asks for; counted from the end of the calendar year");
    out.entry("archive_auto_delete", &Value::from(false), "an archive is only ever deleted by a person");
    let writable: Vec<_> = found.settings.iter().filter_map(|setting| Some((setting, toml(&setting.value)?))).collect();
    if !writable.is_empty() {
        out.head(&format!("projects.{}.settings", key(name.as_str())));
    }
    for (ProposedSetting { key: setting, reason, .. }, value) in writable {
        out.entry(&key(setting), &value, reason);
    }
    out.text
}

/// What no item of files takes: what one leaves to another is not left out.
fn left_out(plan: &BackupPlan) -> Vec<String> {
    let trees = || plan.items.iter().filter_map(|item| if let ItemKind::Tree(tree) = &item.kind { Some(tree) } else { None });
    let first = trees().next().map(|tree| tree.exclude.clone()).unwrap_or_default();
    first.into_iter().filter(|glob| trees().all(|tree| tree.exclude.contains(glob))).collect()
}

/// What an item is.
fn what(kind: &ItemKind) -> String {
    match kind {
        ItemKind::Tree(TreeItem { path, .. }) if path.is_empty() => "files".to_owned(),
        ItemKind::Tree(TreeItem { path, .. }) => format!("files in {path}"),
        ItemKind::Database(database) => {
            let engine = if database.connection.engine.is_empty() { "database" } else { &database.connection.engine };
            let empty = &database.exclude_rows;
            let left_out = if empty.is_empty() { String::new() } else { format!(", without the rows of {}", empty.join(", ")) };
            format!("{engine} connection `{}`{left_out}", database.connection.name)
        }
        ItemKind::Git(git) => format!("Git history of {}", if git.path.is_empty() { "the root" } else { &git.path }),
        ItemKind::Generated(generated) => format!("generated {}", generated.file_name),
    }
}

fn general(config: &Config, request: &ProposeRequest) -> String {
    let mut out = Lines::default();
    out.comment("Proposed by `havun-backup init`. Every line says why; change what does not fit.");
    out.head("host");
    out.entry("name", &Value::from(config.host.name.as_str()), "this machine, in reports and snapshots");
    out.entry("state_dir", &path_value(&config.host.state_dir), "caches and the audit database; lost, it costs time only");
    let zone = config.host.timezone.iana_name().unwrap_or("UTC");
    out.entry("timezone", &Value::from(zone), "the zone of this machine; schedules and terms are reckoned in it");
    out.head("audit");
    let url = format!("sqlite://{}", config.host.state_dir.join("audit.db").display());
    out.entry("url", &Value::from(url), "every run, restore and check leaves a row");
    out.head("keys");
    let identity: InlineTable = [("file", path_value(&request.identity))].into_iter().collect();
    out.entry("identity", &Value::from(identity), "the key of this host, made by init; opens what this host stored");
    let escrow: Array = request.escrow.iter().map(String::as_str).collect();
    let why = match request.escrow.is_empty() {
        true => "added by init when you have taken the escrow kit away from this host",
        false => "the key that is kept elsewhere: opens everything when this host is lost",
    };
    out.entry("escrow", &Value::from(escrow), why);
    let mut store = |name: &str, tier: &str, path: &Path, why: &str| {
        out.head(&format!("stores.{name}"));
        out.entry("tier", &Value::from(tier), why);
        out.entry("kind", &Value::from("local"), "a folder on this machine or a mounted disk");
        out.entry("path", &path_value(path), "one folder for each project is made in it");
    };
    store("local", "hot", &request.store, "near and fast: thinned by `retention.hot`");
    if let Some(archive) = &request.archive {
        store("archive", "archive", archive, "kept for `retention.archive`; best on another disk");
    }
    out.text
}

fn new_stores(request: &ProposeRequest) -> Vec<StoreName> {
    let names = ["local"].into_iter().chain(request.archive.as_ref().map(|_| "archive"));
    names.filter_map(|name| StoreName::new(name).ok()).collect()
}

/// The stores of an existing configuration that backups go to, hot ones first.
fn usable_stores(config: &Config) -> Vec<StoreName> {
    let usable = config.stores.values().filter(|store| store.tier != Tier::Test);
    let mut stores: Vec<_> = usable.collect();
    stores.sort_by_key(|store| store.tier);
    stores.into_iter().map(|store| store.name.clone()).collect()
}

/// A name made of the folder's, with a number where that is taken.
fn free_name(root: &Path, taken: impl Fn(&ProjectName) -> bool) -> ProjectName {
    let text = root.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let safe = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let base: String = text.chars().map(safe).take(60).collect();
    let base = base.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).trim_end_matches(['-', '.']);
    let base = if base.is_empty() { "project" } else { base };
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let mut names = std::iter::once(base.to_owned()).chain(numbered).filter_map(|name| ProjectName::new(name).ok());
    #[expect(clippy::expect_used, reason = "there are more numbers than projects, and every name is made of safe characters")]
    names.find(|name| !taken(name)).expect("a free name")
}

fn title(root: &Path) -> String {
    let name: String = root.file_name().unwrap_or_default().to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { "Root".to_owned() } else { name }
}

fn path_value(path: &Path) -> Value {
    Value::from(path.to_string_lossy().into_owned())
}

fn key(text: &str) -> String {
    Key::new(text).display_repr().into_owned()
}

/// JSON as TOML; `None` for null, which TOML does not have.
fn toml(value: &serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::from(integer),
            None => Value::from(number.as_f64()?),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().filter_map(toml).collect::<Array>()),
        serde_json::Value::Object(entries) => {
            let entries = entries.iter().filter_map(|(name, value)| Some((name.as_str(), toml(value)?)));
            Value::from(entries.collect::<InlineTable>())
        }
    })
}

/// Lines of a configuration.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    /// What is told here comes from strategies and file names: a line break must not end the comment.
    fn comment(&mut self, text: &str) {
        let text = text.replace(char::is_control, " ");
        let _ = writeln!(self.text, "# {}", text.trim_end());
    }

    fn head(&mut self, section: &str) {
        let gap = if self.text.is_empty() || !self.text.contains('[') { "" } else { "\n" };
        let _ = writeln!(self.text, "{gap}[{section}]");
    }

    fn entry(&mut self, key: &str, value: &Value, why: &str) {
        self.comment(why);
        let _ = writeln!(self.text, "{key} = {}", value.to_string().trim());
    }
}
