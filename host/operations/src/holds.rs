//! Holds: placing, listing and ending them. A held snapshot stays in every store, whatever its term says.
//!
//! A hold is placed in the first store of the project that opens, which is the primary unless it is away, and goes to the
//! others by replication; one that is away gets it with the next copy. Whoever deletes asks the holds of every store
//! that can be asked, so a hold counts from the moment that it stands in one.
//!
//! Shapes of `--json`: [`HoldReport`] for `hold add` and `hold remove`, [`HoldList`] for `hold list`.

use crate::{
    audit::LogEnd,
    config::ProjectConfig,
    context::{Context, new_run_id},
    error::{OperationError, exit, one_line},
    project::{self, vault_error},
    replication::{self, PushOptions, Pushed},
    report::{Failure, SCHEMA_VERSION, combined_status},
    run,
    selection::SnapshotChoice,
};
use havun_model::{
    ProjectName, SnapshotId, StoreName,
    holds::{Hold, HoldScope, Release},
};
use havun_vault::{Holds, StoredHold, StoredSnapshot, Vault};
use jiff::{Timestamp, ToSpan as _, civil, tz::TimeZone};
use serde::Serialize;
use std::collections::BTreeMap;

/// Which snapshots a new hold keeps, as an operator says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldWhat {
    /// All of the project, those still to be made included.
    All,
    /// Those of a year.
    Epoch(String),
    /// Those whose ids begin so.
    Snapshots(Vec<String>),
    /// Those of these days (`2026-01-31`) in the configured time zone, both included.
    Days {
        /// The first.
        from: String,
        /// The last.
        until: String,
    },
}

/// A hold that was placed or ended. Shape of `havun-backup hold add --json` and `hold remove --json`.
#[derive(Debug, Clone, Serialize)]
pub struct HoldReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The project.
    pub project: ProjectName,
    /// The hold.
    pub hold: Hold,
    /// How it was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The store that it was written to first.
    pub store: StoreName,
    /// Snapshots that are there now and that it keeps.
    pub snapshots: u64,
    /// How it went to the other stores.
    pub copied: Vec<Pushed>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl HoldReport {
    /// 0; 3 when a store does not have it yet.
    pub fn exit_status(&self) -> u8 {
        let copies = self.copied.iter().map(Pushed::exit_status);
        combined_status(&std::iter::once(exit::OK).chain(copies).collect::<Vec<_>>())
    }
}

/// Every hold. Shape of `havun-backup hold list --json`.
#[derive(Debug, Clone, Serialize)]
pub struct HoldList {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The projects.
    pub projects: Vec<ProjectHolds>,
}

/// The holds of one project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectHolds {
    /// The project.
    pub project: ProjectName,
    /// Those that stand in at least one store.
    pub active: Vec<HoldLine>,
    /// Those that have been ended.
    pub released: Vec<(Hold, Release)>,
    /// Hold objects that cannot be read, each with its store: they keep everything there.
    pub damaged: Vec<String>,
    /// Stores that could not be asked.
    pub failures: BTreeMap<String, Failure>,
}

/// A hold and where it stands.
#[derive(Debug, Clone, Serialize)]
pub struct HoldLine {
    /// The hold.
    #[serde(flatten)]
    pub hold: Hold,
    /// Stores that have it.
    pub stores: Vec<StoreName>,
}

impl HoldList {
    /// 0; 5 when a hold cannot be read; else what the stores that could not be asked say.
    pub fn exit_status(&self) -> u8 {
        if self.projects.iter().any(|project| !project.damaged.is_empty()) {
            return exit::INTEGRITY;
        }
        let statuses = |p: &ProjectHolds| p.failures.values().map(|f| f.exit_status).max().unwrap_or(exit::OK);
        combined_status(&self.projects.iter().map(statuses).collect::<Vec<_>>())
    }
}

/// Places a hold.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::NoSnapshot`], [`OperationError::BadDate`], [`OperationError::BadEpoch`];
/// the vault's. That a store is away is in the report.
pub fn add(cx: &Context, project: &str, what: &HoldWhat, reason: &str) -> Result<HoldReport, OperationError> {
    let project = project::find(cx, project)?;
    let scope = scope(cx, project, what)?;
    let order = project::store_order(cx, project, None)?;
    let (store, vault, mut notes) = project::first_open(cx, project, &order)?;
    let hold = Hold { id: String::new(), created: cx.now(), by: who(cx, project), reason: reason.to_owned(), scope, automatic: false };
    let failed = |e| vault_error(&project.name, &store.name, e);
    let stored = recorded(cx, project, &store.name, "hold", reason, || {
        let stored = vault.add_hold(hold, &cx.holder("hold")).map_err(failed)?;
        let details = serde_json::json!({ "hold": stored.hold });
        Ok((stored, details))
    })?;
    let list = vault.snapshots().map_err(failed)?;
    let held = list.snapshots.iter().filter(|s| covers(&stored.hold, s)).count() as u64;
    if held == 0 {
        notes.push("no snapshot that is there now is kept by it".to_owned());
    }
    let copied = copy(cx, project)?;
    Ok(HoldReport {
        schema_version: SCHEMA_VERSION,
        project: project.name.clone(),
        hold: stored.hold,
        release: None,
        store: store.name,
        snapshots: held,
        copied,
        notes,
    })
}

/// Ends the hold whose id begins with `id`.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::NoHold`]; the vault's.
pub fn remove(cx: &Context, project: Option<&str>, id: &str, reason: &str) -> Result<HoldReport, OperationError> {
    let names: Vec<String> = project.iter().map(|name| (*name).to_owned()).collect();
    let mut standing = Vec::new();
    for project in project::select(cx, &names)? {
        for (store, vault) in open_all(cx, project).0 {
            let holds = vault.holds().map_err(|e| vault_error(&project.name, &store, e))?;
            let found = holds.active.into_iter().filter(|stored| stored.hold.id.starts_with(id));
            standing.extend(found.map(|stored| (project, store.clone(), stored.hold)));
        }
    }
    let Some((project, store, hold)) = standing.first().cloned() else { return Err(OperationError::NoHold { id: id.to_owned() }) };
    if standing.iter().any(|(_, _, other)| other.id != hold.id) {
        let matches = standing.iter().map(|(project, _, hold)| format!("{} of {project}", hold.id, project = project.name)).collect();
        return Err(OperationError::AmbiguousHold { prefix: id.to_owned(), matches });
    }
    let release = Release { hold: hold.id.clone(), at: cx.now(), by: who(cx, project), reason: reason.to_owned() };
    release_in(cx, project, &store, &release)?;
    let copied = copy(cx, project)?;
    if hold.automatic {
        let others = standing_elsewhere(cx, project, &hold.id)?;
        run::explained(cx, project, others);
    }
    // Where it still stands, nothing was copied from the store where it was ended: it is ended there by itself.
    for (name, vault) in open_all(cx, project).0 {
        let holds = vault.holds().map_err(|e| vault_error(&project.name, &name, e))?;
        if holds.active.iter().any(|stored| stored.hold.id == hold.id) {
            release_in(cx, project, &name, &release)?;
        }
    }
    Ok(HoldReport {
        schema_version: SCHEMA_VERSION,
        project: project.name.clone(),
        hold,
        release: Some(release),
        store,
        snapshots: 0,
        copied,
        notes: Vec::new(),
    })
}

/// Whether another hold stands that the program placed.
fn standing_elsewhere(cx: &Context, project: &ProjectConfig, ended: &str) -> Result<bool, OperationError> {
    for (store, vault) in open_all(cx, project).0 {
        let holds = vault.holds().map_err(|e| vault_error(&project.name, &store, e))?;
        if holds.active.iter().any(|stored| stored.hold.automatic && stored.hold.id != ended) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every hold of the named projects, or of all. Writes nothing.
///
/// # Errors
/// [`OperationError::UnknownProject`].
pub fn list(cx: &Context, projects: &[String]) -> Result<HoldList, OperationError> {
    let projects = project::select(cx, projects)?.into_iter().map(|project| list_project(cx, project)).collect();
    Ok(HoldList { schema_version: SCHEMA_VERSION, projects })
}

fn list_project(cx: &Context, project: &ProjectConfig) -> ProjectHolds {
    let (open, failures) = open_all(cx, project);
    let failures = failures.into_iter().map(|(store, error)| (store.to_string(), error.to_failure())).collect();
    let mut lines = ProjectHolds { project: project.name.clone(), active: Vec::new(), released: Vec::new(), damaged: Vec::new(), failures };
    for (store, vault) in open {
        match vault.holds() {
            Ok(holds) => lines.take(&store, holds),
            Err(error) => drop(lines.failures.insert(store.to_string(), vault_error(&project.name, &store, error).to_failure())),
        }
    }
    lines
}

impl ProjectHolds {
    fn take(&mut self, store: &StoreName, holds: Holds) {
        for stored in holds.active {
            match self.active.iter_mut().find(|line| line.hold.id == stored.hold.id) {
                Some(line) => line.stores.push(store.clone()),
                None => self.active.push(HoldLine { hold: stored.hold, stores: vec![store.clone()] }),
            }
        }
        for (stored, release) in holds.released {
            if !self.released.iter().any(|(hold, _)| hold.id == stored.hold.id) {
                self.released.push((stored.hold, release));
            }
        }
        self.damaged.extend(holds.damaged.into_iter().map(|d| format!("{} in {store}: {}", d.object, d.what)));
    }
}

/// Why snapshots of a project must stay: the holds of every store that can be asked, taken together.
pub(crate) struct AllHolds {
    stores: Vec<Holds>,
    away: Vec<String>,
}

impl AllHolds {
    /// Asks every store. One that is away is passed over: what it alone holds stays there all the same.
    pub(crate) fn of(cx: &Context, project: &ProjectConfig) -> Result<Self, OperationError> {
        let (open, failures) = open_all(cx, project);
        let mut stores = Vec::new();
        for (name, vault) in open {
            stores.push(vault.holds().map_err(|e| vault_error(&project.name, &name, e))?);
        }
        Ok(Self { stores, away: failures.iter().map(|(_, error)| one_line(error)).collect() })
    }

    /// Why some stores could not be asked.
    pub(crate) fn away(&self) -> Option<String> {
        (!self.away.is_empty()).then(|| self.away.join("; "))
    }

    /// The held ones of `snapshots`, with why. A hold that was ended in one store stands no more, even where another
    /// store has not heard of it.
    pub(crate) fn held(&self, snapshots: &[StoredSnapshot]) -> BTreeMap<SnapshotId, String> {
        let ended: Vec<&str> = self.stores.iter().flat_map(|h| &h.released).map(|(stored, _)| stored.hold.id.as_str()).collect();
        let mut held = BTreeMap::new();
        for holds in &self.stores {
            let mut standing = holds.clone();
            standing.active.retain(|stored| !ended.contains(&stored.hold.id.as_str()));
            held.extend(standing.held(snapshots));
        }
        held
    }
}

/// Vaults by the store that they are in, the primary's first.
type OpenVaults = Vec<(StoreName, Vault)>;
/// Why others do not open.
type NotOpened = Vec<(StoreName, OperationError)>;

/// Every vault of a project that opens, the primary's first, and why the others do not. None at all is no failure.
pub(crate) fn open_all(cx: &Context, project: &ProjectConfig) -> (OpenVaults, NotOpened) {
    let (mut open, mut failures) = (Vec::new(), Vec::new());
    for name in project::store_order(cx, project, None).unwrap_or_default() {
        match project::open_store(cx, &project.name, &name).and_then(|store| project::open_vault(cx, &project.name, &store)) {
            Ok(vault) => open.push((name, vault)),
            Err(error) if project::is_no_vault(&error) => {}
            Err(error) => failures.push((name, error)),
        }
    }
    (open, failures)
}

fn release_in(cx: &Context, project: &ProjectConfig, store: &StoreName, release: &Release) -> Result<(), OperationError> {
    let opened = project::open_store(cx, &project.name, store)?;
    let vault = project::open_vault(cx, &project.name, &opened)?;
    recorded(cx, project, store, "hold-release", &release.reason, || {
        let ended: StoredHold =
            vault.release_hold(release.clone(), &cx.holder("hold")).map_err(|e| vault_error(&project.name, store, e))?;
        Ok(((), serde_json::json!({ "hold": ended.hold, "release": release })))
    })
}

/// To the other stores; what is away is queued.
pub(crate) fn copy(cx: &Context, project: &ProjectConfig) -> Result<Vec<Pushed>, OperationError> {
    let options = PushOptions { projects: vec![project.name.to_string()], ..PushOptions::default() };
    Ok(replication::push(cx, &options)?.pushed)
}

/// Does `work` between the two halves of a row in `backup_logs`.
pub(crate) fn recorded<T>(
    cx: &Context,
    project: &ProjectConfig,
    store: &StoreName,
    action: &str,
    reason: &str,
    work: impl FnOnce() -> Result<(T, serde_json::Value), OperationError>,
) -> Result<T, OperationError> {
    let failed = |e| OperationError::Audit(Box::new(e));
    let audit = cx.audit()?;
    let mut start = cx.log_start(&new_run_id(cx.now())?, project.name.as_str(), action, cx.now());
    start.stores = vec![store.to_string()];
    let row = audit.begin_backup(&start).map_err(failed)?;
    let done = work();
    let (status, message, details) = match &done {
        Ok((_, details)) => ("ok", reason.to_owned(), details.clone()),
        Err(error) => ("failed", one_line(error), serde_json::json!({ "reason": reason })),
    };
    let end = LogEnd {
        status: status.to_owned(),
        ended_at: cx.now(),
        snapshot: None,
        files: 0,
        bytes: 0,
        bytes_added: 0,
        problems: u64::from(done.is_err()),
        message,
        details,
    };
    audit.end(row, &end).map_err(failed)?;
    done.map(|(value, _)| value)
}

pub(crate) fn who(cx: &Context, project: &ProjectConfig) -> String {
    let start = cx.log_start("", project.name.as_str(), "hold", cx.now());
    format!("{} on {}", start.user, start.host)
}

fn covers(hold: &Hold, stored: &StoredSnapshot) -> bool {
    hold.scope.covers(&stored.id, &stored.snapshot.epoch, stored.snapshot.started_at)
}

fn scope(cx: &Context, project: &ProjectConfig, what: &HoldWhat) -> Result<HoldScope, OperationError> {
    Ok(match what {
        HoldWhat::All => HoldScope::All,
        HoldWhat::Epoch(epoch) if epoch.len() == 4 && epoch.bytes().all(|b| b.is_ascii_digit()) => {
            HoldScope::Epoch { epoch: epoch.clone() }
        }
        HoldWhat::Epoch(epoch) => return Err(OperationError::BadEpoch { text: epoch.clone() }),
        HoldWhat::Snapshots(prefixes) => {
            let order = project::store_order(cx, project, None)?;
            let find = |prefix: &String| {
                let found = project::find_snapshot(cx, project, &order, &SnapshotChoice::Id(prefix.clone()))?;
                Ok(found.2.id)
            };
            HoldScope::Snapshots { ids: prefixes.iter().map(find).collect::<Result<_, OperationError>>()? }
        }
        HoldWhat::Days { from, until } => {
            let zone = cx.zone();
            let (from, until) = (day(from)?, day(until)?);
            if until < from {
                return Err(OperationError::BadDate { text: format!("{until} lies before {from}: {until}") });
            }
            let bad = |_| OperationError::BadDate { text: until.to_string() };
            let after = until.checked_add(1.day()).map_err(bad)?;
            let last = begin(after, &zone)?.checked_sub(1.nanosecond()).map_err(bad)?;
            HoldScope::Period { from: begin(from, &zone)?, until: last }
        }
    })
}

fn day(text: &str) -> Result<civil::Date, OperationError> {
    text.parse().map_err(|_| OperationError::BadDate { text: text.to_owned() })
}

fn begin(day: civil::Date, zone: &TimeZone) -> Result<Timestamp, OperationError> {
    let zoned = day.to_zoned_datetime(zone.clone());
    zoned.map(|zoned| zoned.timestamp()).map_err(|_| OperationError::BadDate { text: day.to_string() })
}
