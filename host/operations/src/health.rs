//! Is everything as it should be? The age of the newest good snapshot in each store, replicas that lag behind, objects
//! that vanished from an archive, space, last runs. Writes nothing but alerts into the audit
//! database.
//!
//! Shape of `havun-backup health --json`: one [`HealthReport`].

use crate::{
    audit::{LogRow, QueueRow},
    config::ProjectConfig,
    context::Context,
    databases::UNFINISHED,
    drill,
    error::{OperationError, exit, one_line},
    losses::{self, Losses},
    project, replication,
    report::{Failure, SCHEMA_VERSION},
    run, storage,
};
use havun_model::{ProjectName, StoreName};
use havun_vault::{Lag, ReplicaAudit, StoredSnapshot, Vault, audit_replica, replica_lag, scrub_status, store::Store};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// A scheduled run may be so late.
const GRACE: SignedDuration = SignedDuration::from_hours(1);
/// A store that is full within this time needs attention.
const SPACE_DAYS: i64 = 14;
/// Less free space than this needs attention whatever the growth.
const LEAST_FREE: u64 = 256 << 20;
/// How many objects a finding names.
const NAMED: usize = 20;

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct HealthOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct HealthReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it was found.
    pub at: Timestamp,
    /// Whether there is no problem at all.
    pub healthy: bool,
    /// The most important first.
    pub projects: Vec<ProjectHealth>,
}

/// One project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectHealth {
    /// Its name.
    pub project: ProjectName,
    /// What needs attention.
    pub problems: Vec<Finding>,
    /// What the operator should know.
    pub notes: Vec<Finding>,
    /// Its stores, the primary first.
    pub stores: Vec<StoreHealth>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreName>,
    /// What.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Objects that it is about, bounded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

/// One store of a project.
#[derive(Debug, Clone, Serialize)]
pub struct StoreHealth {
    /// Its name.
    pub store: StoreName,
    /// `hot`, `archive`, `test` or `spool`.
    pub tier: String,
    /// Whether it could be asked.
    pub reachable: bool,
    /// When its newest good snapshot was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_good: Option<Timestamp>,
    /// Why and since when it is behind, and when it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueRow>,
    /// What it lacks, so far as is known without asking it (replicas).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// What lies there against what is known to (replicas).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<ReplicaAudit>,
    /// Free bytes, where it can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

impl HealthReport {
    /// 0 or 4.
    pub fn exit_status(&self) -> u8 {
        if self.healthy { exit::OK } else { exit::UNHEALTHY }
    }
}

/// Looks at everything.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::Audit`], [`OperationError::Interrupted`]. What else is wrong is in
/// the report.
pub fn health(cx: &Context, options: &HealthOptions) -> Result<HealthReport, OperationError> {
    let audit_error = |e| OperationError::Audit(Box::new(e));
    let queue = cx.audit()?.queue().map_err(audit_error)?;
    let mut report = HealthReport { schema_version: SCHEMA_VERSION, at: cx.now(), healthy: true, projects: Vec::new() };
    for project in project::select(cx, &options.projects)? {
        let logs = cx.audit()?.logs(Some(project.name.as_str()), 200).map_err(audit_error)?;
        let mut check = Check { cx, project, growth: storage::growth_per_day(cx, &project.name)?.unwrap_or(0), found: empty(project) };
        check.runs(&logs);
        check.left_behind();
        check.unfinished_restores();
        check.drills()?;
        check.stores(&queue)?;
        alert(cx, &check.found);
        report.healthy &= check.found.problems.is_empty();
        report.projects.push(check.found);
    }
    Ok(report)
}

/// What health finds is an alert like any other, until it finds nothing.
fn alert(cx: &Context, found: &ProjectHealth) {
    let failure = found.problems.first().map(|first| Failure {
        message: found.problems.iter().map(|problem| problem.what.as_str()).collect::<Vec<_>>().join("; "),
        causes: Vec::new(),
        hint: Some(first.hint.clone()).filter(|hint| !hint.is_empty()),
        exit_status: exit::UNHEALTHY,
    });
    cx.alert(found.project.as_str(), "", "health", failure.as_ref(), "");
}

fn empty(project: &ProjectConfig) -> ProjectHealth {
    ProjectHealth { project: project.name.clone(), problems: Vec::new(), notes: Vec::new(), stores: Vec::new() }
}

struct Check<'a> {
    cx: &'a Context,
    project: &'a ProjectConfig,
    growth: u64,
    found: ProjectHealth,
}

/// What the primary store says.
struct Primary {
    vault: Vault,
    snapshots: Vec<StoredSnapshot>,
}

impl Check<'_> {
    fn problem(&mut self, store: Option<&StoreName>, what: String, hint: impl Into<String>, objects: Vec<String>) {
        self.found.problems.push(Finding { store: store.cloned(), what, hint: hint.into(), objects });
    }

    fn note(&mut self, store: Option<&StoreName>, what: String) {
        self.found.notes.push(Finding { store: store.cloned(), what, hint: String::new(), objects: Vec::new() });
    }

    /// The last run, and whether there are runs at all.
    fn runs(&mut self, logs: &[LogRow]) {
        if self.project.paused {
            self.note(None, "paused: no run makes a new snapshot".to_owned());
        } else if self.project.schedule.is_none() {
            let name = &self.project.name;
            let what = "it has no schedule: nothing backs it up by itself, and how old its newest snapshot may be is not known".to_owned();
            let hint = format!("set `schedule` in [projects.{name}], as in \"daily 03:00\", or `paused = true` where that is meant");
            self.found.notes.push(Finding { store: None, what, hint, objects: Vec::new() });
        }
        let last = logs.iter().find(|row| row.kind == "backup" && row.action == "run" && row.status != "running");
        if let Some(row) = last.filter(|row| !matches!(row.status.as_str(), "ok" | "partial")) {
            let message = row.message.lines().next().unwrap_or_default();
            self.problem(
                None,
                format!("the last run ({}) is {}: {message}", row.started_at, row.status),
                "`havun-backup logs` has the whole message",
                Vec::new(),
            );
        }
    }

    /// What a run that was killed has not undone: the application may still rest.
    fn left_behind(&mut self) {
        for (project, what) in run::left_behind(self.cx) {
            if project.as_ref().is_none_or(|name| *name == self.project.name) {
                self.problem(None, what, "`havun-backup run` of any project undoes it", Vec::new());
            }
        }
    }

    /// Databases that a restore which was killed may have left without their views and triggers.
    fn unfinished_restores(&mut self) {
        let folder = self.cx.config.host.state_dir.join("replaced").join(self.project.name.as_str());
        let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten()).map(|file| file.path());
        let marks: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == UNFINISHED)).collect();
        for path in marks {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| path.display().to_string());
            let hint = format!("repeat the restore (--replace); it takes {} away", path.display());
            self.problem(None, text.trim().replacen('\n', ": ", 1), hint, Vec::new());
        }
    }

    /// Restores that are not proven are a promise only.
    fn drills(&mut self) -> Result<(), OperationError> {
        let state = drill::state(self.cx, self.project)?;
        let hint = format!("`havun-backup test --project {}` drills now", self.project.name);
        if let Some(row) = state.last.as_ref().filter(|row| row.status != "ok") {
            let word = if row.status == "partial" { "incomplete" } else { "failed" };
            let reason = row.message.lines().next().unwrap_or_default();
            let snapshot: String = row.snapshot.as_deref().unwrap_or_default().chars().take(8).collect();
            let at = row
                .started_at
                .parse::<Timestamp>()
                .map_or_else(|_| row.started_at.clone(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
            let what = format!("the last drill ({at}, snapshot {snapshot}) {word}: {reason}");
            self.problem(None, what, "`havun-backup logs` has all reasons, the certificate the whole of it", Vec::new());
        }
        match (state.overdue_since, state.passed_at) {
            (Some(since), Some(passed)) => {
                let what =
                    format!("overdue for a drill since {since}: the last that passed was on {passed}, every {} is asked for", state.every);
                self.problem(None, what, hint, Vec::new());
            }
            (Some(since), None) => {
                let what = format!("overdue for a drill since {since}: no restore was ever proven, every {} is asked for", state.every);
                self.problem(None, what, hint, Vec::new());
            }
            (None, None) => self.note(None, "no restore was proven yet: `havun-backup test` does".to_owned()),
            (None, Some(_)) => {}
        }
        Ok(())
    }

    fn stores(&mut self, queue: &[QueueRow]) -> Result<(), OperationError> {
        let (cx, project) = (self.cx, self.project);
        let mut primary = None;
        for (place, name) in project::store_order(cx, project, None)?.iter().enumerate() {
            cx.check_cancelled()?;
            let mut store = StoreHealth {
                store: name.clone(),
                tier: project::tier_word(cx, name).to_owned(),
                reachable: false,
                newest_good: None,
                queue: queue.iter().find(|row| row.project == project.name.as_str() && row.store == name.as_str()).cloned(),
                lag: None,
                audit: None,
                free_bytes: None,
            };
            match self.store(name, place == 0, &mut primary, &mut store) {
                Ok(()) => {}
                Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
                Err(error) => {
                    let hint = error.hint().unwrap_or_default();
                    self.problem(Some(name), one_line(&error), hint, Vec::new());
                }
            }
            self.lag(name, &store);
            self.found.stores.push(store);
        }
        Ok(())
    }

    fn store(
        &mut self,
        name: &StoreName,
        is_primary: bool,
        primary: &mut Option<Primary>,
        found: &mut StoreHealth,
    ) -> Result<(), OperationError> {
        let (cx, project) = (self.cx, self.project);
        if let Some(primary) = primary.as_ref() {
            // Before the store is asked: what it lacks is known here even where it is away.
            let selection = replication::selection(cx, project, name);
            let lag = replica_lag(&primary.vault, &cx.catalogue(&project.name, name), selection.as_ref());
            found.lag = Some(lag.map_err(|e| project::vault_error(&project.name, name, e))?);
        }
        let store = project::open_store(cx, &project.name, name)?;
        let failed = |source| OperationError::Store { store: name.clone(), source };
        let vault = match project::open_vault(cx, &project.name, &store) {
            Err(error) if project::is_no_vault(&error) => {
                found.reachable = true;
                self.problem(Some(name), "holds no backup of this project".to_owned(), "`havun-backup run` makes the first", Vec::new());
                return Ok(());
            }
            other => other?,
        };
        found.reachable = true;
        found.free_bytes = store.store.free_bytes().map_err(failed)?;
        let objects = store.store.list("epochs").map_err(failed)?;
        let accepted = self.losses(name, &vault, &*store.store)?;
        self.scrubs(name, &vault, storage::ids(&objects).map(|(_, taken_at)| taken_at).min(), &accepted);
        if is_primary {
            let list = vault.snapshots().map_err(|e| project::vault_error(&project.name, name, e))?;
            for damage in &list.damaged {
                self.problem(
                    Some(name),
                    format!("{}: {}", damage.object, damage.what),
                    "`havun-backup verify` names what is hit",
                    vec![damage.object.clone()],
                );
            }
            *primary = Some(Primary { vault, snapshots: list.snapshots });
        } else {
            let audit = audit_replica(&cx.catalogue(&project.name, name), &vault.info().vault_id, &*store.store);
            let audit = audit.map_err(|e| project::vault_error(&project.name, name, e))?;
            self.audit(name, &audit);
            found.audit = Some(bounded(audit));
        }
        let known = primary.as_ref().map_or(&[][..], |primary| &primary.snapshots);
        let (good, newest) = storage::newest_good(&objects, known);
        found.newest_good = good;
        self.age(name, good, newest);
        self.space(name, found.free_bytes);
        Ok(())
    }

    /// The newest good snapshot against the schedule.
    fn age(&mut self, name: &StoreName, good: Option<Timestamp>, newest: Option<Timestamp>) {
        let (cx, project) = (self.cx, self.project);
        let hint = "`havun-backup logs` says what became of the last runs; `havun-backup run` makes a new one";
        let Some(good) = good else {
            return self.problem(Some(name), "holds no good snapshot".to_owned(), hint, Vec::new());
        };
        if newest.is_some_and(|newest| newest > good) {
            self.note(Some(name), format!("newer snapshots than that of {good} are partial"));
        }
        let due = project.schedule.as_ref().filter(|_| !project.paused).and_then(|schedule| {
            let latest = cx.now().checked_sub(GRACE).ok()?;
            schedule.latest_before(latest, &cx.zone())
        });
        if let Some(due) = due.filter(|due| good < *due) {
            let hours = cx.now().duration_since(good).as_hours();
            self.problem(
                Some(name),
                format!("the newest good snapshot is {hours} hours old (of {good}); one was due at {due}"),
                hint,
                Vec::new(),
            );
        }
    }

    fn lag(&mut self, name: &StoreName, store: &StoreHealth) {
        let lag = store.lag.clone().unwrap_or_default();
        let hint = format!("`havun-backup archive push --store {name}` tries it now");
        match &store.queue {
            Some(row) => {
                let (objects, bytes) = (row.pending_objects.unwrap_or(lag.objects), row.pending_bytes.unwrap_or(lag.bytes));
                let what = format!(
                    "behind since {} by {objects} objects, {bytes} bytes; tried {} times, again after {}: {}",
                    row.since, row.attempts, row.next_try, row.last_error
                );
                self.problem(Some(name), what, hint, Vec::new());
            }
            None if lag.known && lag.snapshots > 0 => {
                let what = format!("lacks {} snapshots ({} objects, {} bytes)", lag.snapshots, lag.objects, lag.bytes);
                self.problem(Some(name), what, hint, Vec::new());
            }
            None => {}
        }
    }

    /// What somebody else did to the replica.
    fn audit(&mut self, name: &StoreName, audit: &ReplicaAudit) {
        if !audit.forgotten.is_empty() {
            let what = format!(
                "what is known of it is damaged in the state folder ({}): what may have vanished of that cannot be told",
                audit.forgotten.join(", ")
            );
            let hint = format!("`havun-backup archive push --full --store {name}` lists it anew");
            self.problem(Some(name), what, hint, Vec::new());
        }
        let hint = format!("find out who has access; `havun-backup archive push --full --store {name}` sends again what is still here");
        if !audit.missing.is_empty() {
            let objects = audit.missing.iter().take(NAMED).map(|(object, _)| object.clone()).collect();
            self.problem(Some(name), format!("{} objects were deleted behind the program's back", audit.missing.len()), &*hint, objects);
        }
        if !audit.wrong_size.is_empty() {
            let sized = audit.wrong_size.iter().take(NAMED);
            let objects = sized.map(|(object, before, now)| format!("{object} ({now} bytes instead of {before})")).collect();
            let repair = format!("find out who has access; `havun-backup repair --store {name}` mends them");
            self.problem(Some(name), format!("{} objects were changed behind the program's back", audit.wrong_size.len()), repair, objects);
        }
        if !audit.undone.is_empty() {
            self.note(
                Some(name),
                format!("{} objects of the last copy are not there (any more); the next copy sends them again", audit.undone.len()),
            );
        }
    }

    /// What is lost for good, until somebody has dealt with it. Gives the names of what a person has accepted.
    fn losses(&mut self, name: &StoreName, vault: &Vault, store: &dyn Store) -> Result<Losses, OperationError> {
        let (cx, project, id) = (self.cx, self.project, &vault.info().vault_id);
        let (open, accepted) = losses::standing(cx, &project.name, name, id, store)?;
        if let Some(since) = open.values().map(|loss| loss.found_at).min() {
            let objects = open.keys().take(NAMED).cloned().collect();
            let hint = format!(
                "`havun-backup repair --store {name}` looks for them in every other store; `havun-backup archive accept-loss --project {} \
                 --store {name}` when nothing brings them back",
                project.name
            );
            self.problem(Some(name), format!("{} objects are lost from it since {since}, and no copy has them", open.len()), hint, objects);
        }
        if accepted > 0 {
            self.note(Some(name), format!("{accepted} objects are lost from it; a person has accepted that (`havun-backup logs`)"));
        }
        Ok(losses::load(cx, &project.name, name, id)?.into_iter().filter(|(_, loss)| loss.accepted.is_some()).collect())
    }

    /// What scrubs found that nobody has repaired, and whether they keep up with the store's term. `oldest` is when the
    /// oldest snapshot in the store was taken.
    fn scrubs(&mut self, name: &StoreName, vault: &Vault, oldest: Option<Timestamp>, accepted: &Losses) {
        let (cx, project) = (self.cx, self.project);
        let Some(config) = cx.config.stores.get(name) else { return };
        let state = crate::scrub::state_file(cx, project, name);
        let is_late = |since: Timestamp| config.scrub.keep_until(since, &cx.zone()) < cx.now();
        let Some(status) = scrub_status(&state, &vault.info().vault_id) else {
            return match oldest {
                Some(oldest) if is_late(oldest) => {
                    let what = format!(
                        "nothing of it was ever read back, and its oldest snapshot is of {oldest}; `scrub` in [stores.{name}] asks for all of it every {}",
                        config.scrub
                    );
                    let hint =
                        format!("`havun-backup scrub --all --store {name}` reads all of it; then call `havun-backup scrub` every day");
                    self.problem(Some(name), what, hint, Vec::new());
                }
                _ => self.note(Some(name), "no scrub has read it yet".to_owned()),
            };
        };
        let damage: Vec<_> = status.damage.iter().filter(|damage| !accepted.contains_key(&damage.object)).collect();
        if !damage.is_empty() {
            let objects = damage.iter().take(NAMED).map(|d| format!("{}: {} (since {})", d.object, d.what, d.found_at)).collect();
            self.problem(
                Some(name),
                format!("{} damaged objects", damage.len()),
                "`havun-backup repair` mends them from another store",
                objects,
            );
        }
        if let Some(oldest) = status.oldest.filter(|oldest| is_late(*oldest)) {
            let what = format!("some of it was not read since {oldest}; `scrub` in [stores.{name}] asks for every {}", config.scrub);
            self.problem(Some(name), what, "run `havun-backup scrub` more often, or all of it at once", Vec::new());
        }
    }

    fn space(&mut self, name: &StoreName, free: Option<u64>) {
        let Some(free) = free else { return };
        let full = storage::full_at(free, self.growth, self.cx.now());
        let soon = self.cx.now().checked_add(SignedDuration::from_hours(SPACE_DAYS * 24)).ok();
        let hint = "free some space, get more, or shorten `retention.hot` and run `havun-backup cleanup`";
        if let Some(full) = full.filter(|full| soon.is_some_and(|soon| *full < soon)) {
            self.problem(Some(name), format!("full at {full} if it goes on like this ({free} bytes free)"), hint, Vec::new());
        } else if free < LEAST_FREE {
            self.problem(Some(name), format!("{free} bytes free only"), hint, Vec::new());
        }
    }
}

/// Lists of objects can be as long as the store.
fn bounded(mut audit: ReplicaAudit) -> ReplicaAudit {
    audit.missing.truncate(NAMED);
    audit.wrong_size.truncate(NAMED);
    audit.undone.truncate(NAMED);
    audit
}
