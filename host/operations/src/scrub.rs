//! Scrubbing and repairing: every stored byte is read again in the time that its store asks for, a slice at a time, and what
//! is damaged is made whole from another store.
//!
//! What must be there is asked of whoever knows: the catalogue of a replica, and for a hot store an archive, whose young
//! snapshots must lie in it too. A scrub changes nothing but to
//! write PAR2 files where the configuration asks for them; each store leaves a row in `test_logs`. A repair leaves a row in
//! `backup_logs` for every object.
//!
//! Shapes of `--json`: [`ScrubOutcome`] for `scrub`, [`RepairRun`] for `repair`.

use crate::{
    audit::LogEnd,
    config::{ProjectConfig, StoreConfig, Tier},
    context::{Context, new_run_id},
    error::{OperationError, exit, one_line},
    list::{check_store, uses},
    losses,
    project::{self, OpenStore, vault_error},
    report::{Failure, SCHEMA_VERSION, combined_status},
};
use havun_model::{ProjectName, StoreName};
use havun_vault::{
    RepairOptions, RepairReport, ScrubOptions, ScrubReport, StandingDamage, Vault, VaultError, layout, par2, repair, repair_store,
    replica_objects, scrub, scrub_status, slice_budget,
    store::{Listed, Store},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{path::PathBuf, time::Duration};

pub use havun_vault::{RepairOutcome, RepairRow};

/// What to scrub.
#[derive(Debug, Clone, Default)]
pub struct ScrubRequest {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// This store only.
    pub store: Option<String>,
    /// Everything at once, not the slice that is due.
    pub all: bool,
}

/// Every store that was scrubbed.
#[derive(Debug, Clone, Serialize)]
pub struct ScrubOutcome {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit rows carry it.
    pub run_id: String,
    /// The operator stopped it.
    pub interrupted: bool,
    /// One for each project and store.
    pub stores: Vec<ScrubbedStore>,
}

/// One store of one project.
#[derive(Debug, Clone, Serialize)]
pub struct ScrubbedStore {
    /// The project.
    pub project: ProjectName,
    /// The store.
    pub store: StoreName,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// There is no vault of the project yet; that is no failure.
    pub empty: bool,
    /// What was read, and all damage that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<ScrubReport>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Why it could not be scrubbed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl ScrubOutcome {
    /// 0; 5 when anything is damaged; 3 when a store could not be scrubbed, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        if self.stores.iter().any(|s| s.report.as_ref().is_some_and(|report| !report.damage.is_empty())) {
            return exit::INTEGRITY;
        }
        combined_status(&self.stores.iter().map(|s| s.failure.as_ref().map_or(exit::OK, |f| f.exit_status)).collect::<Vec<_>>())
    }
}

/// What to repair.
#[derive(Debug, Clone, Default)]
pub struct RepairRequest {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// This store only.
    pub store: Option<String>,
    /// Read everything first, to find all damage there is.
    pub check: bool,
    /// Only say what is damaged.
    pub dry_run: bool,
}

/// Every store that was repaired.
#[derive(Debug, Clone, Serialize)]
pub struct RepairRun {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit rows carry it.
    pub run_id: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The operator stopped it.
    pub interrupted: bool,
    /// One for each project and store.
    pub stores: Vec<RepairedStore>,
}

/// One store of one project.
#[derive(Debug, Clone, Serialize)]
pub struct RepairedStore {
    /// The project.
    pub project: ProjectName,
    /// The store.
    pub store: StoreName,
    /// Damage that was known before.
    pub damage: Vec<StandingDamage>,
    /// What was done; none in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RepairReport>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Why it could not be repaired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl RepairRun {
    /// 0; 5 when something is still damaged; 3 when a store could not be repaired, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        let left = |s: &RepairedStore| s.report.as_ref().map_or(self.dry_run && !s.damage.is_empty(), |report| report.left > 0);
        if self.stores.iter().any(left) {
            return exit::INTEGRITY;
        }
        combined_status(&self.stores.iter().map(|s| s.failure.as_ref().map_or(exit::OK, |f| f.exit_status)).collect::<Vec<_>>())
    }
}

/// Scrubs the slice of each store that is due, or everything.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::UnknownStore`], [`OperationError::Audit`]. What is wrong with a
/// store is in the outcome.
pub fn scrub_stores(cx: &Context, request: &ScrubRequest) -> Result<ScrubOutcome, OperationError> {
    check_store(cx, request.store.as_deref())?;
    let run_id = new_run_id(cx.now())?;
    let mut outcome = ScrubOutcome { schema_version: SCHEMA_VERSION, run_id, interrupted: false, stores: Vec::new() };
    for (project, name) in wanted(cx, &request.projects, request.store.as_deref())? {
        match scrub_one(cx, project, &name, request.all, &outcome.run_id) {
            Ok(store) => outcome.stores.push(store),
            Err(OperationError::Interrupted) => {
                outcome.interrupted = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(outcome)
}

/// Repairs what scrubs have found.
///
/// # Errors
/// As [`scrub_stores`].
pub fn repair_stores(cx: &Context, request: &RepairRequest) -> Result<RepairRun, OperationError> {
    check_store(cx, request.store.as_deref())?;
    let run_id = new_run_id(cx.now())?;
    let mut run = RepairRun { schema_version: SCHEMA_VERSION, run_id, dry_run: request.dry_run, interrupted: false, stores: Vec::new() };
    for (project, name) in wanted(cx, &request.projects, request.store.as_deref())? {
        if cx.cancel.is_cancelled() {
            run.interrupted = true;
            break;
        }
        if let Some(store) = repair_one(cx, project, &name, request, &run.run_id)? {
            run.stores.push(store);
        }
    }
    Ok(run)
}

fn wanted<'a>(cx: &'a Context, projects: &[String], store: Option<&str>) -> Result<Vec<(&'a ProjectConfig, StoreName)>, OperationError> {
    let mut all = Vec::new();
    for project in project::select(cx, projects)?.into_iter().filter(|project| uses(project, store)) {
        all.extend(project::store_order(cx, project, store)?.into_iter().map(|name| (project, name)));
    }
    Ok(all)
}

/// A store as a scrub sees it.
struct Scene {
    store: OpenStore,
    /// The vault, where it opens.
    vault: Option<Vault>,
    /// Other replicas that open, the primary first.
    others: Vec<(StoreName, Vault)>,
    notes: Vec<String>,
}

impl Scene {
    /// `None` where nothing of the project lies there, and nothing was ever seen there.
    fn open(cx: &Context, project: &ProjectConfig, name: &StoreName) -> Result<Option<Self>, OperationError> {
        cx.check_cancelled()?;
        cx.observer.step(&format!("{} in `{name}`", project.name));
        let store = project::open_store(cx, &project.name, name)?;
        let mut scene = Self { store, vault: None, others: Vec::new(), notes: Vec::new() };
        for other in project::store_order(cx, project, None)?.iter().filter(|other| *other != name) {
            match project::open_store(cx, &project.name, other).and_then(|store| project::open_vault(cx, &project.name, &store)) {
                Ok(vault) => scene.others.push((other.clone(), vault)),
                Err(error) if project::is_no_vault(&error) => {}
                Err(error) => scene.notes.push(format!("not compared with `{other}`: {}", one_line(&error))),
            }
        }
        match project::open_vault(cx, &project.name, &scene.store) {
            Ok(vault) => scene.vault = Some(vault),
            Err(error) if project::is_no_vault(&error) && !scene.was_there(cx, project)? => return Ok(None),
            Err(error) if scene.others.is_empty() || !is_damage(&error) => return Err(error),
            Err(error) => scene.notes.push(format!("read by the description of another store: {}", one_line(&error))),
        }
        Ok(Some(scene))
    }

    /// Whether a vault without its `vault.json` was one before.
    fn was_there(&self, cx: &Context, project: &ProjectConfig) -> Result<bool, OperationError> {
        let Some((_, like)) = self.others.first() else { return Ok(false) };
        if scrub_status(&state_file(cx, project, &self.store.name), &like.info().vault_id).is_some() {
            return Ok(true);
        }
        let listed = self.store.store.list("keys");
        let listed = listed.map_err(|source| OperationError::Store { store: self.store.name.clone(), source })?;
        Ok(!listed.is_empty())
    }

    fn like(&self) -> Option<&Vault> {
        self.vault.as_ref().or_else(|| self.others.first().map(|(_, vault)| vault))
    }

    /// What must be there, as somebody else knows it.
    fn expected(&self, cx: &Context, project: &ProjectConfig) -> Result<Vec<Listed>, OperationError> {
        let Some(like) = self.like() else { return Ok(Vec::new()) };
        if let Some(known) = replica_objects(&cx.catalogue(&project.name, &self.store.name), &like.info().vault_id) {
            return Ok(known);
        }
        if self.store.tier != Tier::Hot {
            return Ok(Vec::new());
        }
        let mut expected = Vec::new();
        if let Some((name, other)) = self.others.first() {
            let failed = |source| OperationError::Store { store: name.clone(), source };
            for records in [layout::HOLDS, layout::ERASURES] {
                expected.extend(other.store().list(records).map_err(failed)?);
            }
            for object in other.store().list("epochs").map_err(failed)? {
                let young = layout::taken_at(object.name.as_str())
                    .is_some_and(|taken_at| project.retention.hot.keep_until(taken_at, &cx.zone()) > cx.now());
                if young {
                    expected.push(object);
                }
            }
        }
        Ok(expected)
    }
}

/// Whether another replica can say what this vault is.
fn is_damage(error: &OperationError) -> bool {
    project::is_no_vault(error)
        || matches!(error, OperationError::Vault { source, .. }
            if source.is_integrity() || matches!(**source, VaultError::NotAVault { .. } | VaultError::WrongKey { .. }))
}

/// The file that remembers what was read when.
pub(crate) fn state_file(cx: &Context, project: &ProjectConfig, store: &StoreName) -> PathBuf {
    cx.config.host.state_dir.join("scrub").join(store.as_str()).join(format!("{}.json", project.name))
}

fn scrub_one(cx: &Context, project: &ProjectConfig, name: &StoreName, all: bool, run_id: &str) -> Result<ScrubbedStore, OperationError> {
    let failed = |e| OperationError::Audit(Box::new(e));
    let audit = cx.audit()?;
    let last = last_scrub(cx, project, name)?;
    let mut start = cx.log_start(run_id, project.name.as_str(), if all { "scrub --all" } else { "scrub" }, cx.now());
    start.stores = vec![name.to_string()];
    let row = audit.begin_test(&start).map_err(failed)?;
    let mut line = ScrubbedStore {
        project: project.name.clone(),
        store: name.clone(),
        started_at: start.started_at,
        ended_at: start.started_at,
        empty: false,
        report: None,
        notes: Vec::new(),
        failure: None,
    };
    let result = read(cx, project, name, all, last, &mut line);
    line.ended_at = cx.now();
    if let Err(error) = &result {
        line.failure = Some(error.to_failure());
    }
    audit.end(row, &scrub_end(&line)).map_err(failed)?;
    if !matches!(result, Err(OperationError::Interrupted)) {
        cx.alert(project.name.as_str(), name.as_str(), "scrub", alarm(&line).as_ref(), run_id);
    }
    match result {
        Err(OperationError::Interrupted) => Err(OperationError::Interrupted),
        _ => Ok(line),
    }
}

/// What needs a person: damage that stands, or a store that could not be read.
fn alarm(line: &ScrubbedStore) -> Option<Failure> {
    let damage = line.report.iter().flat_map(|report| &report.damage);
    let named: Vec<String> = damage.map(|damage| format!("{}: {}", damage.object, damage.what)).collect();
    let found = || {
        let (message, hint) = (named.join("; "), Some("`havun-backup repair` mends it from another store".to_owned()));
        Failure { message, causes: Vec::new(), hint, exit_status: exit::INTEGRITY }
    };
    line.failure.clone().or_else(|| (!named.is_empty()).then(found))
}

fn read(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    all: bool,
    last: Option<Timestamp>,
    line: &mut ScrubbedStore,
) -> Result<(), OperationError> {
    let Some(scene) = Scene::open(cx, project, name)? else {
        line.empty = true;
        return Ok(());
    };
    line.notes.clone_from(&scene.notes);
    let failed = |e| vault_error(&project.name, name, e);
    let Some(like) = scene.like() else { return Ok(()) };
    let state = state_file(cx, project, name);
    let budget_bytes = if all { None } else { Some(budget(cx, &scene, like, &state, last)?) };
    let options = ScrubOptions {
        state,
        budget_bytes,
        read: false,
        expected: scene.expected(cx, project)?,
        structure: scene.vault.is_some(),
        threads: cx.threads(),
        now: cx.now(),
        cancel: cx.cancel.clone(),
    };
    let report = match &scene.vault {
        Some(vault) => vault.scrub(&options, &*cx.progress()),
        None => scrub(&scene.store.store, like.info(), &options, &*cx.progress()),
    };
    let report = report.map_err(failed)?;
    let whole = report.damage.is_empty();
    line.report = Some(report);
    if let (true, Some(percent)) = (whole, cx.config.stores.get(name).and_then(|store| store.par2)) {
        line.notes.extend(parity(cx, &*scene.store.store, percent).map_err(failed)?);
    }
    Ok(())
}

/// PAR2 files for the packs that have none yet, from the bytes that lie in the store, each compared with its SHA-256 first.
fn parity(cx: &Context, store: &dyn Store, percent: u8) -> Result<Option<String>, VaultError> {
    let lacking = par2::packs_without_parity(store)?;
    let options = par2::ParityOptions { percent, threads: cx.threads() };
    let done = par2::write_parity(store, store, &lacking, &options, &*cx.progress())?;
    Ok((done.objects > 0).then(|| format!("PAR2 files were written for {} packs ({} bytes)", done.objects, done.bytes)))
}

/// Bytes that are due, so that everything is read once in the time that the store asks for.
fn budget(cx: &Context, scene: &Scene, like: &Vault, state: &std::path::Path, last: Option<Timestamp>) -> Result<u64, OperationError> {
    let total = match scrub_status(state, &like.info().vault_id) {
        Some(status) => status.bytes,
        None => {
            let listed = scene.store.store.list("");
            let listed = listed.map_err(|source| OperationError::Store { store: scene.store.name.clone(), source })?;
            listed.iter().map(|object| object.size).sum()
        }
    };
    let Some(config) = cx.config.stores.get(&scene.store.name) else { return Ok(total) };
    Ok(slice_budget(total, period(cx, config), last.map(|last| seconds(last, cx.now()))))
}

fn period(cx: &Context, config: &StoreConfig) -> Duration {
    seconds(cx.now(), config.scrub.keep_until(cx.now(), &cx.zone()))
}

fn seconds(from: Timestamp, until: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(until.as_second().saturating_sub(from.as_second())).unwrap_or(0))
}

/// When the last slice of a store was read.
fn last_scrub(cx: &Context, project: &ProjectConfig, store: &StoreName) -> Result<Option<Timestamp>, OperationError> {
    let rows = cx.audit()?.logs(Some(project.name.as_str()), 1000).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let is_one = |row: &&crate::audit::LogRow| {
        row.kind == "test" && row.action.starts_with("scrub") && row.status != "running" && row.stores.iter().any(|s| s == store.as_str())
    };
    Ok(rows.iter().find(is_one).and_then(|row| row.started_at.parse().ok()))
}

fn scrub_end(line: &ScrubbedStore) -> LogEnd {
    let damage = line.report.as_ref().map(|report| report.damage.as_slice()).unwrap_or_default();
    let cancelled = line.failure.as_ref().is_some_and(|failure| failure.exit_status == exit::INTERRUPTED);
    let bad = line.failure.is_some() || !damage.is_empty();
    let message = match &line.failure {
        Some(failure) => failure.one_line(),
        None => damage.iter().map(|d| format!("{}: {}", d.object, d.what)).collect::<Vec<_>>().join("\n"),
    };
    LogEnd {
        status: if cancelled {
            "cancelled"
        } else if bad {
            "failed"
        } else {
            "ok"
        }
        .to_owned(),
        ended_at: line.ended_at,
        snapshot: None,
        files: line.report.as_ref().map_or(0, |report| report.objects),
        bytes: line.report.as_ref().map_or(0, |report| report.bytes),
        bytes_added: 0,
        problems: damage.len() as u64,
        message,
        details: serde_json::json!({ "report": line.report, "notes": line.notes }),
    }
}

/// `None` where nothing of the project lies in the store.
fn repair_one(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    request: &RepairRequest,
    run_id: &str,
) -> Result<Option<RepairedStore>, OperationError> {
    let mut line = RepairedStore {
        project: project.name.clone(),
        store: name.clone(),
        damage: Vec::new(),
        report: None,
        notes: Vec::new(),
        failure: None,
    };
    match mend(cx, project, name, request, &mut line) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => line.failure = Some(error.to_failure()),
    }
    for row in line.report.iter().flat_map(|report| &report.rows) {
        record(cx, run_id, &line, row)?;
    }
    Ok(Some(line))
}

fn mend(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    request: &RepairRequest,
    line: &mut RepairedStore,
) -> Result<bool, OperationError> {
    let Some(scene) = Scene::open(cx, project, name)? else { return Ok(false) };
    line.notes.clone_from(&scene.notes);
    let Some(like) = scene.like() else { return Ok(false) };
    let state = state_file(cx, project, name);
    // Where nothing was ever read, nothing is known to be whole.
    let check = request.check || scrub_status(&state, &like.info().vault_id).is_none();
    if request.dry_run && check {
        let mut scrubbed = scrub_one(cx, project, name, true, &new_run_id(cx.now())?)?;
        line.failure = scrubbed.failure.take();
    }
    line.damage = scrub_status(&state, &like.info().vault_id).map(|status| status.damage).unwrap_or_default();
    if request.dry_run {
        return Ok(true);
    }
    let (lost, _) = losses::standing(cx, &project.name, name, &like.info().vault_id, &*scene.store.store)?;
    let options = RepairOptions {
        objects: lost.into_keys().collect(),
        identities: cx.identities()?,
        state: Some(state),
        check,
        expected: scene.expected(cx, project)?,
        spool: cx.private_dir("repair")?,
        parity_percent: cx.config.stores.get(name).and_then(|store| store.par2).unwrap_or(10),
        threads: cx.threads(),
        now: cx.now(),
        holder: cx.holder("repair"),
        force_lease: false,
        cancel: cx.cancel.clone(),
    };
    let sources: Vec<&Vault> = scene.others.iter().map(|(_, vault)| vault).collect();
    let report = match &scene.vault {
        Some(vault) => repair(vault, &sources, &options, &*cx.progress()),
        None => repair_store(&scene.store.store, like, &sources, &options, &*cx.progress()),
    };
    line.report = Some(report.map_err(|e| vault_error(&project.name, name, e))?);
    Ok(true)
}

/// One row for one object.
fn record(cx: &Context, run_id: &str, line: &RepairedStore, row: &RepairRow) -> Result<(), OperationError> {
    let failed = |e| OperationError::Audit(Box::new(e));
    let audit = cx.audit()?;
    let mut start = cx.log_start(run_id, line.project.as_str(), "repair", cx.now());
    start.stores = vec![line.store.to_string()];
    start.target.clone_from(&row.object);
    let id = audit.begin_backup(&start).map_err(failed)?;
    let (status, done) = match &row.outcome {
        RepairOutcome::Repaired { from } => ("ok", format!("made whole from {from}")),
        RepairOutcome::Whole => ("ok", "it was whole again already".to_owned()),
        RepairOutcome::Unneeded => ("ok", "nothing needs it".to_owned()),
        RepairOutcome::Noted { why } => ("partial", format!("the next run stores anew what it held: {why}")),
        RepairOutcome::Lost { why } => ("failed", why.clone()),
    };
    let end = LogEnd {
        status: status.to_owned(),
        ended_at: cx.now(),
        snapshot: None,
        files: 1,
        bytes: 0,
        bytes_added: 0,
        problems: u64::from(status != "ok"),
        message: format!("{}: {done}", row.what),
        details: serde_json::json!({ "repair": row }),
    };
    audit.end(id, &end).map_err(failed)
}
