//! Whether a run is unlike those before it, and what is done then: it is said, and the snapshot and the last good one before
//! it are kept until a person has looked. Nothing here makes a run fail.

use super::{
    ProjectRun,
    items::{Stored, milliseconds},
};
use crate::{
    config::ProjectConfig,
    context::Context,
    error::{OperationError, exit, one_line},
    holds,
    project::vault_error,
    report::Failure,
};
use havun_model::{
    ItemRecord, Outcome, SnapshotId, StoreName,
    anomalies::{self, Anomaly, DatabaseCounts, Observation, Rule, USUAL_RUNS},
    holds::{Hold, HoldScope},
};
use havun_vault::{BackupStats, Vault, VaultError};
use std::collections::BTreeMap;

/// So many runs are the history: more would cost every run, and tell of weekdays and months no more.
const HISTORY: u32 = 200;
/// So many snapshots are read where the audit database knows too little.
const READ: usize = 60;
/// The kind of the alert.
const KIND: &str = "anomaly";

/// What a run counted, and what is unusual about it. What the history is, is not worth a failed run: without it nothing is
/// unusual, and that is said.
pub(super) fn judge(
    cx: &Context,
    project: &ProjectConfig,
    store: &StoreName,
    vault: &Vault,
    run: &mut ProjectRun,
    stored: &Stored,
    stats: BackupStats,
) -> Observation {
    let mut observation = observe(cx, run, stored, stats);
    match history(cx, project, store, vault) {
        Ok(history) => run.anomalies = anomalies::detect(&history, &observation, &cx.zone()),
        Err(error) => run.warnings.push(format!("whether this run is like those before could not be told: {}", one_line(&error))),
    }
    if is_incomplete(&run.items) {
        // What failed is missing, and said to be: it did not shrink.
        let content = [Rule::Encryption, Rule::MassChange, Rule::MassDeletion, Rule::LostRows];
        run.anomalies.retain(|anomaly| content.contains(&anomaly.rule));
    }
    observation.flagged = !run.anomalies.is_empty();
    run.warnings.extend(run.anomalies.iter().map(|anomaly| format!("unlike the runs before: {}", anomaly.sentence)));
    observation
}

/// Keeps what a run that has committed counted; and where it is suspicious, its snapshot and the last good one before it.
pub(super) fn keep(
    cx: &Context,
    project: &ProjectConfig,
    store: &StoreName,
    vault: &Vault,
    run: &mut ProjectRun,
    observation: &Observation,
    run_id: &str,
) {
    if !is_incomplete(&run.items) {
        let kept = cx.audit().and_then(|audit| {
            audit.keep_observation(project.name.as_str(), run_id, observation).map_err(|e| OperationError::Audit(Box::new(e)))
        });
        if let Err(error) = kept {
            run.warnings.push(format!("what the run counted is kept in the snapshot only: {}", one_line(&error)));
        }
    }
    let Some(snapshot) = run.snapshot.filter(|_| !run.anomalies.is_empty()) else { return };
    let why = sentences(&run.anomalies);
    let held = hold(cx, project, store, vault, snapshot, &why);
    let hint = match &held {
        Ok(hold) => format!(
            "look at the live application and at the snapshot before anything else; it is kept by a hold until `havun-backup hold remove {} \
             --reason …` says that it is explained",
            hold.id
        ),
        Err(error) => {
            run.warnings.push(format!("the suspicious snapshot could not be kept from retention: {}", one_line(error)));
            format!(
                "look at it, and keep it: `havun-backup hold add --project {} --snapshot {} --reason …`",
                project.name,
                snapshot.short()
            )
        }
    };
    let message = format!("snapshot {} is unlike those before it: {why}", snapshot.short());
    let failure = Failure { message, causes: Vec::new(), hint: Some(hint), exit_status: exit::UNHEALTHY };
    cx.alert(project.name.as_str(), "", KIND, Some(&failure), run_id);
}

/// A hold that ends says that its snapshots are explained: with the last of them the alert is over.
pub(crate) fn explained(cx: &Context, project: &ProjectConfig, standing: bool) {
    if !standing {
        cx.alert(project.name.as_str(), "", KIND, None, "");
    }
}

fn hold(
    cx: &Context,
    project: &ProjectConfig,
    store: &StoreName,
    vault: &Vault,
    snapshot: SnapshotId,
    why: &str,
) -> Result<Hold, OperationError> {
    let failed = |e: VaultError| vault_error(&project.name, store, e);
    let good = last_good(vault, snapshot).map_err(failed)?;
    let names_good = |hold: &Hold| matches!(&hold.scope, HoldScope::Snapshots { ids } if good.is_some_and(|id| ids.contains(&id)));
    let standing = vault.holds().map_err(failed)?.active.into_iter().map(|stored| stored.hold);
    if let Some(hold) = standing.filter(|hold| hold.automatic).find(names_good) {
        // What was good is kept already; one more hold a night would keep everything for ever.
        return Ok(hold);
    }
    let before = good.map(|id| format!("; {} is the last good one before it", id.short())).unwrap_or_default();
    let hold = Hold {
        id: String::new(),
        created: cx.now(),
        by: format!("anomaly detection on {}", cx.config.host.name),
        reason: format!("suspicious: {why}{before}"),
        scope: HoldScope::Snapshots { ids: [snapshot].into_iter().chain(good).collect() },
        automatic: true,
    };
    let place = || vault.add_hold(hold.clone(), &cx.holder("run")).map(|stored| stored.hold).map_err(failed);
    let placed = holds::recorded(cx, project, store, "hold", &hold.reason, || {
        let hold = place()?;
        let details = serde_json::json!({ "hold": hold });
        Ok((hold, details))
    });
    match placed {
        // The vault keeps the snapshot whether or not the audit database can say so.
        Err(OperationError::Audit(_)) => place(),
        placed => placed,
    }
}

/// The newest snapshot before `suspicious` that is whole and was like those before it.
fn last_good(vault: &Vault, suspicious: SnapshotId) -> Result<Option<SnapshotId>, VaultError> {
    for object in vault.snapshot_names()?.iter().rev().take(READ) {
        match vault.read_snapshot(object) {
            Ok(stored) if stored.id == suspicious || stored.snapshot.outcome != Outcome::Ok => {}
            Ok(stored) if stored.snapshot.observation.as_ref().is_some_and(|observation| observation.flagged) => {}
            Ok(stored) => return Ok(Some(stored.id)),
            Err(VaultError::Damaged { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// As the audit database knows it; where that is young or new, also as the newest snapshots do.
fn history(cx: &Context, project: &ProjectConfig, store: &StoreName, vault: &Vault) -> Result<Vec<Observation>, OperationError> {
    let known = cx.audit()?.observations(project.name.as_str(), HISTORY).map_err(|e| OperationError::Audit(Box::new(e)))?;
    if known.len() >= USUAL_RUNS {
        return Ok(known);
    }
    let mut by_time: BTreeMap<_, _> = known.into_iter().map(|run| (run.at, run)).collect();
    let failed = |e: VaultError| vault_error(&project.name, store, e);
    for object in vault.snapshot_names().map_err(failed)?.iter().rev().take(READ) {
        match vault.read_snapshot(object) {
            Ok(stored) if is_incomplete(&stored.snapshot.items) => {}
            Ok(stored) => by_time.extend(stored.snapshot.observation.map(|run| (run.at, run))),
            Err(VaultError::Damaged { .. }) => {}
            Err(other) => return Err(failed(other)),
        }
    }
    Ok(by_time.into_values().collect())
}

fn observe(cx: &Context, run: &ProjectRun, stored: &Stored, stats: BackupStats) -> Observation {
    let database = |(name, item): (&String, &ItemRecord)| {
        let record = item.database.as_ref()?;
        Some((name.clone(), DatabaseCounts::new(item.bytes, &record.rows)))
    };
    Observation {
        at: run.started_at,
        duration_ms: milliseconds(run.started_at, cx.now()),
        bytes: run.items.values().map(|item| item.bytes).sum(),
        bytes_new: stats.bytes_new,
        tree: stored.counts.clone(),
        databases: run.items.iter().filter_map(database).collect(),
        flagged: false,
    }
}

fn is_incomplete(items: &BTreeMap<String, ItemRecord>) -> bool {
    items.values().any(|item| item.outcome == Outcome::Failed)
}

fn sentences(anomalies: &[Anomaly]) -> String {
    anomalies.iter().map(|anomaly| anomaly.sentence.as_str()).collect::<Vec<_>>().join("; ")
}
