//! Making what a configuration names and is not there yet, and testing everything that it leads to.
//!
//! One step after the other, none skipped because another failed: the operator sees all that is left to do.

use crate::{
    config::{ProjectConfig, Secret, StoreConfig, StoreKind},
    context::{Context, new_run_id},
    databases::{ResolvedConnection, engine},
    error::{OperationError, exit},
    notify, project, remote,
    report::{Failure, SCHEMA_VERSION},
    signing::NoteSigner,
    strategies,
};
use havun_model::{DatabaseItem, ItemKind, ProjectName};
use havun_vault::{
    keys::{Identity, write_private_file},
    store::{LocalRoot, StoreError},
};
use serde::Serialize;
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What `init` made and tested. Shape of `havun-backup init --json`.
#[derive(Debug, Clone, Serialize)]
pub struct InitReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The configuration.
    pub config: PathBuf,
    /// In order.
    pub steps: Vec<InitStep>,
}

/// One thing that was made or tested.
#[derive(Debug, Clone, Serialize)]
pub struct InitStep {
    /// `store local`, `project blog`.
    pub subject: String,
    /// How it went.
    pub state: StepState,
    /// What was found or made.
    pub detail: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It is there and works.
    Ok,
    /// It was made.
    Made,
    /// The operator should know.
    Note,
    /// It does not work.
    Failed,
}

impl StepState {
    /// `ok`, `made`, `note` or `failed`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Made => "made",
            Self::Note => "note",
            Self::Failed => "failed",
        }
    }
}

impl InitReport {
    /// 0, or what the failed steps have in common; 1 when that is nothing.
    pub fn exit_status(&self) -> u8 {
        let mut failed = self.steps.iter().filter_map(|step| step.failure.as_ref()).map(|failure| failure.exit_status);
        let Some(first) = failed.next() else { return exit::OK };
        if failed.all(|status| status == first) { first } else { exit::FAILED }
    }

    fn add(&mut self, subject: impl Into<String>, made: Result<(StepState, String), OperationError>) {
        let subject = subject.into();
        self.steps.push(match made {
            Ok((state, detail)) => InitStep { subject, state, detail, failure: None },
            Err(error) => InitStep { subject, state: StepState::Failed, detail: String::new(), failure: Some(error.to_failure()) },
        });
    }
}

/// Whether missing things are made, or only told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Tell,
}

/// Makes what the configuration names and is not there, and tests everything.
pub fn prepare(cx: &Context) -> InitReport {
    go_through(cx, Missing::Make, &Parts::all(cx))
}

/// Tests everything that the configuration names, and writes nothing.
pub fn check(cx: &Context) -> InitReport {
    go_through(cx, Missing::Tell, &Parts::all(cx))
}

/// Tests some of it, and writes nothing.
pub(crate) fn check_parts(cx: &Context, parts: &Parts) -> InitReport {
    go_through(cx, Missing::Tell, parts)
}

/// What of a configuration is tested.
pub(crate) struct Parts {
    /// State folder, service key, escrow, signing key.
    pub keys: bool,
    /// The audit database.
    pub audit: bool,
    /// The stores of the projects.
    pub stores: bool,
    /// The projects themselves.
    pub projects: bool,
    /// The channels that messages go out by.
    pub channels: bool,
    /// These projects.
    pub only: Vec<ProjectName>,
}

impl Parts {
    fn all(cx: &Context) -> Self {
        Self { keys: true, audit: true, stores: true, projects: true, channels: true, only: cx.config.projects.keys().cloned().collect() }
    }
}

fn go_through(cx: &Context, missing: Missing, parts: &Parts) -> InitReport {
    let mut report = InitReport { schema_version: SCHEMA_VERSION, config: cx.config.path.clone(), steps: Vec::new() };
    if parts.keys {
        keys(cx, missing, &mut report);
    }
    if parts.audit {
        report.add("audit database", audit(cx, missing));
    }
    let projects = || cx.config.projects.values().filter(|project| parts.only.contains(&project.name));
    // All of them unless only some projects are looked at: a store that no project uses yet is tested too.
    let whole = parts.only.len() == cx.config.projects.len();
    let used = |store: &StoreConfig| whole || projects().any(|project| project.stores.contains(&store.name));
    for store in cx.config.stores.values().filter(|store| parts.stores && used(store)) {
        cx.observer.step(&format!("testing store `{}`", store.name));
        report.add(format!("store {}", store.name), one_store(cx, store, missing));
    }
    for project in projects().filter(|_| parts.projects) {
        cx.observer.step(&format!("testing project `{}`", project.name));
        test_project(cx, project, &mut report);
    }
    if parts.channels {
        channels(cx, &mut report);
    }
    if parts.projects && cx.config.projects.is_empty() {
        let none = "the configuration has none yet; `havun-backup init PATH` proposes one".to_owned();
        report.add("projects", Ok((StepState::Note, none)));
    }
    report
}

fn keys(cx: &Context, missing: Missing, report: &mut InitReport) {
    report.add("state folder", private_folder(&cx.config.host.state_dir, missing));
    report.add("service key", service_key(cx, missing));
    if !cx.config.keys.escrow.is_empty() {
        let keys = cx.recipients().map(|_| (StepState::Ok, cx.config.keys.escrow.join(", ")));
        report.add("escrow", keys);
    }
    report.add("signing key", signing_key(cx, missing));
}

/// Connects to each, and sends nothing.
fn channels(cx: &Context, report: &mut InitReport) {
    for probe in notify::probe_channels(cx) {
        let state = if probe.failure.is_some() { StepState::Failed } else { StepState::Ok };
        let subject = format!("channel {}", probe.channel);
        report.steps.push(InitStep { subject, state, detail: probe.found, failure: probe.failure });
    }
}

fn private_folder(path: &Path, missing: Missing) -> Result<(StepState, String), OperationError> {
    if path.is_dir() {
        return Ok((StepState::Ok, path.display().to_string()));
    }
    if missing == Missing::Tell {
        return Ok((StepState::Note, format!("{} is not there yet; `havun-backup init` makes it", path.display())));
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| OperationError::Io { doing: "cannot make", path: path.to_owned(), source })?;
    Ok((StepState::Made, path.display().to_string()))
}

/// Reads the key of this host; makes it where the configuration names a file that is not there.
fn service_key(cx: &Context, missing: Missing) -> Result<(StepState, String), OperationError> {
    let Some(secret) = &cx.config.keys.identity else {
        let encrypted = cx.config.projects.values().find(|project| project.encryption);
        let none = || Ok((StepState::Note, "none is configured: encrypted projects need one".to_owned()));
        return encrypted.map_or_else(none, |project| Err(OperationError::NoKey { project: project.name.clone() }));
    };
    let mut state = StepState::Ok;
    if missing == Missing::Make
        && let Secret::File(path) = secret
        && matches!(fs::symlink_metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound)
    {
        make_key(path, &cx.config.host.name).map_err(|source| OperationError::Key { from: secret.to_string(), source })?;
        state = StepState::Made;
    }
    let recipients = cx.identities()?.iter().map(|identity| identity.recipient().to_string()).collect::<Vec<_>>();
    Ok((state, format!("{secret}, {}", recipients.join(", "))))
}

/// The key that signs certificates of drills.
fn signing_key(cx: &Context, missing: Missing) -> Result<(StepState, String), OperationError> {
    let path = cx.config.host.state_dir.join("keys").join("signing.key");
    let is_there = path.exists();
    if missing == Missing::Tell && !is_there {
        return Ok((StepState::Note, format!("{} is not there yet; `havun-backup init` makes it", path.display())));
    }
    let signer = NoteSigner::of_host(cx)?;
    Ok((if is_there { StepState::Ok } else { StepState::Made }, signer.verifier().to_string()))
}

fn make_key(path: &Path, host: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let text = Identity::generate().file_text(&format!("service key of havun-backup on {host}: opens every vault of this host"));
    Ok(write_private_file(path, text.as_bytes())?)
}

fn audit(cx: &Context, missing: Missing) -> Result<(StepState, String), OperationError> {
    if missing == Missing::Tell
        && let Secret::Plain(url) = &cx.config.audit.url
        && let Some(path) = url.strip_prefix("sqlite://")
        && !Path::new(path).exists()
    {
        return Ok((StepState::Note, format!("{path} is not there yet; `havun-backup init` makes it")));
    }
    cx.audit().map(|_| (StepState::Ok, "opened; its tables are there".to_owned()))
}

fn one_store(cx: &Context, store: &StoreConfig, missing: Missing) -> Result<(StepState, String), OperationError> {
    let failed = |source| OperationError::Store { store: store.name.clone(), source };
    let StoreKind::Local { path } = &store.kind else {
        return remote_store(cx, store, missing);
    };
    let (state, root) = match LocalRoot::open(path) {
        Err(StoreError::NoMarker { .. }) if missing == Missing::Make => (StepState::Made, LocalRoot::create(path, &store.name)),
        opened => (StepState::Ok, opened.and_then(|root| root.named(&store.name))),
    };
    let root = root.map_err(failed)?;
    Ok((state, format!("{} ({})", root.path().display(), store.tier.word())))
}

/// Connects and logs in; makes folder and marker where they are missing.
fn remote_store(cx: &Context, store: &StoreConfig, missing: Missing) -> Result<(StepState, String), OperationError> {
    let failed = |source| OperationError::Store { store: store.name.clone(), source };
    let place = || format!("{} ({})", store.kind.place(), store.tier.word());
    let Some(root) = remote::root(cx, store, None)? else { return Ok((StepState::Ok, place())) };
    match root.check(&store.name) {
        Err(StoreError::NoMarker { .. }) if missing == Missing::Make => {
            root.prepare(&store.name).map_err(failed)?;
            Ok((StepState::Made, place()))
        }
        Ok(()) if missing == Missing::Make => root.prepare(&store.name).map(|()| (StepState::Ok, place())).map_err(failed),
        Ok(()) => Ok((StepState::Ok, place())),
        Err(error) => Err(failed(error)),
    }
}

fn test_project(cx: &Context, project: &ProjectConfig, report: &mut InitReport) {
    let subject = format!("project {}", project.name);
    if let Err(source) = fs::read_dir(&project.root) {
        let (project, path) = (project.name.clone(), project.root.clone());
        return report.add(subject, Err(OperationError::RootGone { project, path, source }));
    }
    for name in &project.stores {
        if let Some(problem) = vault_problem(cx, project, name) {
            report.add(format!("{subject} in {name}"), Err(problem));
        }
    }
    let plan = strategies::resolve(cx, project).and_then(|strategy| {
        let context = strategies::strategy_context(cx, project, &new_run_id(cx.now())?);
        let plan = strategy.plan_backup(&context, &project.root);
        plan.map_err(|source| OperationError::Strategy { project: project.name.clone(), source: Box::new(source) })
    });
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return report.add(subject, Err(error)),
    };
    let items: Vec<String> = plan.items.iter().map(|item| format!("{} ({})", item.name, item.kind.word())).collect();
    report.add(&*subject, Ok((StepState::Ok, format!("strategy {}: {}", project.strategy, items.join(", ")))));
    for warning in plan.warnings {
        report.add(&*subject, Ok((StepState::Note, warning)));
    }
    for item in &plan.items {
        if let ItemKind::Database(database) = &item.kind {
            report.add(format!("{subject}, {}", item.name), test_database(cx, project, &item.name, database));
        }
    }
}

/// Whether a vault is there that this host cannot use. None at all is well: the first run makes it.
fn vault_problem(cx: &Context, project: &ProjectConfig, store: &havun_model::StoreName) -> Option<OperationError> {
    let store = project::open_store(cx, &project.name, store).ok()?;
    project::open_vault(cx, &project.name, &store).err().filter(|error| !project::is_no_vault(error))
}

fn test_database(
    cx: &Context,
    project: &ProjectConfig,
    item: &havun_model::ItemName,
    database: &DatabaseItem,
) -> Result<(StepState, String), OperationError> {
    let failed = |source| OperationError::DatabaseTest { project: project.name.clone(), item: item.clone(), source: Box::new(source) };
    let overrides = match project.databases.get(&database.connection.name) {
        Some(config) => config.parameters().map_err(|e| OperationError::Secret { project: project.name.clone(), source: e })?,
        None => Default::default(),
    };
    let engine = ResolvedConnection::resolve(&database.connection, &overrides, &project.root).and_then(engine).map_err(failed)?;
    let found = engine.preflight(&cx.cancel).map_err(failed)?;
    let tables = match found.tables.len() {
        1 => "1 table".to_owned(),
        n => format!("{n} tables"),
    };
    let warnings: String = found.warnings.iter().map(|warning| format!("; note: {warning}")).collect();
    Ok((StepState::Ok, format!("{}: server {}, {tables}{warnings}", engine.describe(), found.server_version)))
}
