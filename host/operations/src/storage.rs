//! Storage use: how much lies where, how fast it grows, and when a store is full.
//!
//! Stores on this machine are listed; of the others, what this host knows of them is told without asking, unless that is
//! wanted. Shape of `havun-backup status --json` and `report --json`: one [`StatusReport`].

use crate::{
    config::{ProjectConfig, StoreConfig},
    context::Context,
    daemon::{self, DaemonStatus, plan::NextRun},
    error::{OperationError, exit},
    project::{self, OpenStore, vault_error},
    report::{Failure, SCHEMA_VERSION, combined_status},
};
use havun_model::{ProjectName, SnapshotId, StoreName};
use havun_vault::{
    StoredSnapshot, Vault,
    layout::{self, ObjectKind},
    replica_objects,
    store::Listed,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Growth is reckoned over so many days.
const GROWTH_DAYS: i64 = 30;

/// What to tell.
#[derive(Debug, Clone, Default)]
pub struct StatusOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// Also ask stores on other machines.
    pub online: bool,
}

/// How much lies where.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it was found.
    pub at: Timestamp,
    /// Whether stores on other machines were asked.
    pub online: bool,
    /// The most important first.
    pub projects: Vec<ProjectStatus>,
    /// Every store that they use.
    pub stores: Vec<StoreSpace>,
    /// When each project is next backed up by itself, the next first.
    pub next_runs: Vec<NextRun>,
    /// The daemon; none where there has never been one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonStatus>,
}

/// One project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectStatus {
    /// Its name.
    pub project: ProjectName,
    /// Its title.
    pub title: String,
    /// Left out of runs unless forced.
    pub paused: bool,
    /// What its runs stored, per day, over the last 30 days; none before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_per_day: Option<u64>,
    /// Its stores, the primary first.
    pub stores: Vec<StoreUse>,
    /// Whether its restores are proven.
    pub drills: crate::drill::DrillSummary,
}

/// One store of one project.
#[derive(Debug, Clone, Serialize)]
pub struct StoreUse {
    /// The store.
    pub store: StoreName,
    /// `hot`, `archive`, `test` or `spool`.
    pub tier: String,
    /// `listed`, `known` (as the last copy left it), `empty` or `unknown`.
    pub source: String,
    /// Snapshots in it.
    pub snapshots: u64,
    /// When the newest was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// When the oldest was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// Objects in it.
    pub objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Their bytes by year.
    pub by_year: BTreeMap<String, u64>,
    /// Bytes of the newest snapshot as a restore would write them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_bytes: Option<u64>,
    /// The same of all snapshots together whose size is known here.
    pub raw_bytes_all: u64,
    /// Snapshots whose size is not known here.
    pub snapshots_unknown: u64,
    /// How many times smaller everything lies there than it would without deduplication and compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Why it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// One store, over all projects that were asked for.
#[derive(Debug, Clone, Serialize)]
pub struct StoreSpace {
    /// Its name.
    pub store: StoreName,
    /// `hot`, `archive`, `test` or `spool`.
    pub tier: String,
    /// `local`, `sftp` or `s3`.
    pub kind: String,
    /// Bytes of the projects that were asked for.
    pub stored_bytes: u64,
    /// Free bytes for us, where the store was asked and can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// What it grows by each day.
    pub growth_per_day: u64,
    /// When it is full if it goes on like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_at: Option<Timestamp>,
}

impl StatusReport {
    /// 0; 3 when a store could not be looked at, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        let stores = self.projects.iter().flat_map(|project| &project.stores);
        combined_status(&stores.map(|store| store.failure.as_ref().map_or(exit::OK, |f| f.exit_status)).collect::<Vec<_>>())
    }
}

/// Tells storage use. Writes nothing.
///
/// # Errors
/// [`OperationError::UnknownProject`]. What is wrong with a store is in the report.
pub fn status(cx: &Context, options: &StatusOptions) -> Result<StatusReport, OperationError> {
    let mut report = StatusReport {
        schema_version: SCHEMA_VERSION,
        at: cx.now(),
        online: options.online,
        projects: Vec::new(),
        stores: Vec::new(),
        next_runs: daemon::next_runs(cx, &options.projects)?,
        daemon: daemon::daemon_status(cx),
    };
    let mut spaces: BTreeMap<StoreName, StoreSpace> = BTreeMap::new();
    for project in project::select(cx, &options.projects)? {
        cx.check_cancelled()?;
        let looked = look(cx, project, options.online)?;
        for (used, free) in looked.stores.iter().zip(&looked.free) {
            let space = spaces.entry(used.store.clone()).or_insert_with(|| space(cx.config.stores.get(&used.store), used));
            space.stored_bytes += used.stored_bytes;
            space.free_bytes = space.free_bytes.or(*free);
            space.growth_per_day += looked.growth.unwrap_or(0);
        }
        report.projects.push(ProjectStatus {
            project: project.name.clone(),
            title: project.title.clone(),
            paused: project.paused,
            growth_per_day: looked.growth,
            stores: looked.stores,
            drills: crate::drill::summary(cx, project)?,
        });
    }
    for space in spaces.values_mut() {
        space.full_at = space.free_bytes.and_then(|free| full_at(free, space.growth_per_day, report.at));
    }
    report.stores = spaces.into_values().collect();
    Ok(report)
}

fn space(config: Option<&StoreConfig>, used: &StoreUse) -> StoreSpace {
    StoreSpace {
        store: used.store.clone(),
        tier: used.tier.clone(),
        kind: config.map_or("local", |store| store.kind.word()).to_owned(),
        stored_bytes: 0,
        free_bytes: None,
        growth_per_day: 0,
        full_at: None,
    }
}

/// When `free` bytes are used up; `None` where nothing grows, or not within a lifetime.
pub(crate) fn full_at(free: u64, growth_per_day: u64, now: Timestamp) -> Option<Timestamp> {
    let days = i64::try_from(free.checked_div(growth_per_day)?).ok().filter(|days| *days < 36_500)?;
    now.checked_add(SignedDuration::from_hours(days * 24)).ok()
}

struct Looked {
    stores: Vec<StoreUse>,
    free: Vec<Option<u64>>,
    growth: Option<u64>,
}

fn look(cx: &Context, project: &ProjectConfig, online: bool) -> Result<Looked, OperationError> {
    let mut looked = Looked { stores: Vec::new(), free: Vec::new(), growth: growth_per_day(cx, &project.name)? };
    let mut primary: Option<(String, Vec<StoredSnapshot>)> = None;
    for name in project::store_order(cx, project, None)? {
        let mut used = empty(cx, &name);
        let remote = cx.config.stores.get(&name).is_some_and(|store| store.kind.is_remote());
        let mut free = None;
        if remote && !online {
            let known =
                primary.as_ref().and_then(|(id, snapshots)| Some((replica_objects(&cx.catalogue(&project.name, &name), id)?, snapshots)));
            if let Some((objects, snapshots)) = known {
                used.source = "known".to_owned();
                used.count(&objects, snapshots);
            }
        } else {
            match list(cx, project, &name, primary.as_ref().map(|(_, snapshots)| snapshots.as_slice())) {
                Ok(Some(listed)) => {
                    used.source = "listed".to_owned();
                    used.count(&listed.objects, &listed.snapshots);
                    free = listed.free;
                    primary = primary.or(Some((listed.vault_id, listed.snapshots)));
                }
                Ok(None) => used.source = "empty".to_owned(),
                Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
                Err(error) => used.failure = Some(error.to_failure()),
            }
        }
        looked.stores.push(used);
        looked.free.push(free);
    }
    Ok(looked)
}

fn empty(cx: &Context, name: &StoreName) -> StoreUse {
    StoreUse {
        store: name.clone(),
        tier: project::tier_word(cx, name).to_owned(),
        source: "unknown".to_owned(),
        snapshots: 0,
        newest: None,
        oldest: None,
        objects: 0,
        stored_bytes: 0,
        by_year: BTreeMap::new(),
        raw_bytes: None,
        raw_bytes_all: 0,
        snapshots_unknown: 0,
        ratio: None,
        failure: None,
    }
}

struct ListedStore {
    vault_id: String,
    objects: Vec<Listed>,
    snapshots: Vec<StoredSnapshot>,
    free: Option<u64>,
}

/// Lists a store; `None` when it holds no vault yet. Snapshots that the primary has are not read a second time from a
/// store on another machine.
fn list(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    primary: Option<&[StoredSnapshot]>,
) -> Result<Option<ListedStore>, OperationError> {
    let store = project::open_store(cx, &project.name, name)?;
    let vault = match project::open_vault(cx, &project.name, &store) {
        Err(error) if project::is_no_vault(&error) => return Ok(None),
        other => other?,
    };
    let failed = |source| OperationError::Store { store: name.clone(), source };
    let objects = store.store.list("").map_err(failed)?;
    let free = store.store.free_bytes().map_err(failed)?;
    let snapshots = snapshots(project, &store, &vault, &objects, primary)?;
    Ok(Some(ListedStore { vault_id: vault.info().vault_id.clone(), objects, snapshots, free }))
}

fn snapshots(
    project: &ProjectConfig,
    store: &OpenStore,
    vault: &Vault,
    objects: &[Listed],
    primary: Option<&[StoredSnapshot]>,
) -> Result<Vec<StoredSnapshot>, OperationError> {
    let known = primary.unwrap_or_default();
    let all_known = ids(objects).all(|(id, _)| known.iter().any(|stored| stored.id == id));
    if all_known {
        return Ok(known.to_vec());
    }
    Ok(vault.snapshots().map_err(|e| vault_error(&project.name, &store.name, e))?.snapshots)
}

/// Id and time of each snapshot of a listing, oldest first within an epoch.
pub(crate) fn ids(objects: &[Listed]) -> impl Iterator<Item = (SnapshotId, Timestamp)> + '_ {
    objects.iter().filter_map(|object| {
        let name = object.name.as_str();
        let (_, kind, hash) = layout::parse(name)?;
        let id = (kind == ObjectKind::Snapshot).then(|| hash.parse().ok())??;
        Some((id, layout::taken_at(name)?))
    })
}

impl StoreUse {
    fn count(&mut self, objects: &[Listed], snapshots: &[StoredSnapshot]) {
        for object in objects {
            self.objects += 1;
            self.stored_bytes += object.size;
            if let Some((epoch, _)) = object.name.as_str().strip_prefix("epochs/").and_then(|rest| rest.split_once('/')) {
                *self.by_year.entry(epoch.to_owned()).or_default() += object.size;
            }
        }
        let mut newest: Option<(Timestamp, Option<u64>)> = None;
        for (id, taken_at) in ids(objects) {
            self.snapshots += 1;
            self.oldest = self.oldest.into_iter().chain([taken_at]).min();
            let raw = snapshots.iter().find(|stored| stored.id == id).map(|stored| stored.snapshot.manifest.bytes);
            match raw {
                Some(bytes) => self.raw_bytes_all += bytes,
                None => self.snapshots_unknown += 1,
            }
            if newest.is_none_or(|(known, _)| known <= taken_at) {
                newest = Some((taken_at, raw));
            }
        }
        self.newest = newest.map(|(at, _)| at);
        self.raw_bytes = newest.and_then(|(_, raw)| raw);
        let known = self.snapshots > 0 && self.snapshots_unknown == 0 && self.stored_bytes > 0;
        self.ratio = known.then(|| ratio(self.raw_bytes_all, self.stored_bytes));
    }
}

/// With two decimals.
fn ratio(raw: u64, stored: u64) -> f64 {
    (raw as f64 / stored as f64 * 100.0).round() / 100.0
}

/// What the runs of a project stored per day, over the last 30 days or since its first run.
pub(crate) fn growth_per_day(cx: &Context, project: &ProjectName) -> Result<Option<u64>, OperationError> {
    let failed = |e| OperationError::Audit(Box::new(e));
    let audit = cx.audit()?;
    let first = audit.first_commit(project.as_str()).map_err(failed)?;
    let window = SignedDuration::from_hours(GROWTH_DAYS * 24);
    let since = cx.now().checked_sub(window).unwrap_or(Timestamp::MIN);
    let mut runs = audit.stored_since(project.as_str(), since).map_err(failed)?;
    runs.extend(first.and_then(|text| text.parse().ok()).map(|first| (first, 0)));
    Ok(growth(&runs, cx.now()))
}

/// The first run of all is no growth: it stored what was there before.
fn growth(runs: &[(Timestamp, u64)], now: Timestamp) -> Option<u64> {
    let first = runs.iter().map(|(at, _)| *at).min()?;
    let window = SignedDuration::from_hours(GROWTH_DAYS * 24);
    let since = now.checked_sub(window).unwrap_or(Timestamp::MIN).max(first);
    let bytes: u64 = runs.iter().filter(|(at, _)| *at > first && *at >= since).map(|(_, bytes)| bytes).sum();
    let hours = u64::try_from(now.duration_since(since).as_hours()).unwrap_or(0).max(24);
    Some(bytes * 24 / hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn growth_leaves_out_the_first_run_and_what_is_long_ago() {
        let now = at("2026-03-01T00:00:00Z");
        assert_eq!(growth(&[], now), None);
        assert_eq!(growth(&[(at("2026-02-27T00:00:00Z"), 9_000)], now), Some(0));
        let runs = [(at("2026-02-19T00:00:00Z"), 1 << 40), (at("2026-02-20T00:00:00Z"), 600), (at("2026-02-28T00:00:00Z"), 400)];
        assert_eq!(growth(&runs, now), Some(100));
        let old = [(at("2025-01-01T00:00:00Z"), 1 << 40), (at("2025-06-01T00:00:00Z"), 1 << 40), (at("2026-02-28T00:00:00Z"), 3_000)];
        assert_eq!(growth(&old, now), Some(100));
    }

    #[test]
    fn a_store_is_full_when_its_space_is_used_up_and_never_when_nothing_grows() {
        let now = at("2026-03-01T00:00:00Z");
        assert_eq!(full_at(1_000, 100, now), Some(at("2026-03-11T00:00:00Z")));
        assert_eq!(full_at(1_000, 0, now), None);
        assert_eq!(full_at(u64::MAX, 1, now), None);
    }
}
