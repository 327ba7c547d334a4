//! What a report says, found out. Writes nothing.

use super::{
    Cost, Counts, Incident, Mark, Period, ProjectReport, Report, RetentionStatement, RunLine, Span, StorageLine, StoreReport, Totals,
    evidence,
    slots::{Attempt, GRACE, slots},
};
use crate::{
    audit::{AlertRow, LogRow, QueueRow},
    config::{Price, ProjectConfig},
    context::{Context, PROGRAM},
    drill::DrillSummary,
    error::OperationError,
    incidents::page_for,
    project,
    report::SCHEMA_VERSION,
    storage::{self, ProjectStatus, StatusOptions, StatusReport, StoreUse},
};
use jiff::Timestamp;

/// More alerts than this are not read.
const ALERTS: u32 = 100_000;

/// Makes the report of a period about these projects, or about all where none is named.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::Audit`], [`OperationError::Interrupted`]. A store that cannot be looked
/// at is in the report.
pub fn gather(cx: &Context, period: &Period, projects: &[String]) -> Result<Report, OperationError> {
    let audit_error = |e| OperationError::Audit(Box::new(e));
    let audit = cx.audit()?;
    let status = storage::status(cx, &StatusOptions { projects: projects.to_vec(), online: false })?;
    let queue = audit.queue().map_err(audit_error)?;
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        host: cx.config.host.name.clone(),
        program: PROGRAM.to_owned(),
        period: period.clone(),
        made_at: cx.now(),
        totals: Totals::default(),
        projects: Vec::new(),
        stores: stores(cx, &status),
        incidents: incidents(&audit.alerts(false, ALERTS).map_err(audit_error)?, period, cx.now()),
        warnings: cx.config.warnings.clone(),
        evidence: None,
    };
    let mut all_rows = Vec::new();
    for project in project::select(cx, projects)? {
        cx.check_cancelled()?;
        let rows = audit.logs(Some(project.name.as_str()), rows_for(period.span)).map_err(audit_error)?;
        let stored = status.projects.iter().find(|stored| stored.project == project.name);
        report.projects.push(one(cx, project, period, &rows, stored, &queue));
        all_rows.push((project, rows));
    }
    report
        .incidents
        .retain(|incident| projects.is_empty() || incident.project.is_empty() || projects.iter().any(|name| *name == incident.project));
    report.totals = totals(&report);
    if period.span == Span::Audit {
        report.evidence = Some(evidence::gather(cx, period, &all_rows)?);
    }
    Ok(report)
}

/// How many of the newest rows of a project are read. A day and a week need the last ones and those before them only.
fn rows_for(span: Span) -> u32 {
    match span {
        Span::Daily => 2_000,
        Span::Weekly => 8_000,
        Span::Monthly | Span::Audit => u32::MAX,
    }
}

fn one(
    cx: &Context,
    project: &ProjectConfig,
    period: &Period,
    rows: &[LogRow],
    stored: Option<&ProjectStatus>,
    queue: &[QueueRow],
) -> ProjectReport {
    // Oldest first from here on.
    let runs: Vec<RunLine> = rows.iter().rev().filter(|row| is_run(row)).filter_map(run_line).collect();
    let ended: Vec<&RunLine> = runs.iter().filter(|run| period.holds(run.started_at) && run.status != "running").collect();
    let good = |until: Timestamp| runs.iter().rev().find(move |run| run.status == "ok" && run.started_at < until);
    let (newest, before) = (good(period.until), good(period.from));
    let mut durations: Vec<u64> = ended.iter().filter(|run| run.status == "ok").filter_map(|run| run.duration_ms).collect();
    durations.sort_unstable();
    let attempts: Vec<Attempt<'_>> = runs.iter().map(attempt).collect();
    // Who is paused is not asked for runs.
    let schedule = project.schedule.as_ref().filter(|_| !project.paused);
    let first = runs.first().map(|run| run.started_at);
    // What never ran is due in the report of today, so that somebody hears of it; a year that was over before asks for nothing.
    let asks = first.is_some() || period.span == Span::Daily;
    let due = schedule
        .filter(|_| asks)
        .map_or_else(Vec::new, |schedule| slots(schedule, &cx.zone(), (period.from, period.until), first, &attempts, cx.now()));
    let last = runs.iter().rev().find(|run| run.started_at < period.until && run.status != "running").cloned();
    // The newest moment that has passed, whether it lies in the period or not: a weekly backup that is missing is so every day.
    let moment = schedule.filter(|_| asks).and_then(|s| s.latest_before(period.until.checked_sub(GRACE).ok()?, &cx.zone()));
    let overdue = moment.filter(|moment| runs.iter().all(|run| run.started_at < *moment || run.started_at >= period.until));
    let gaps: Vec<_> = due.iter().filter(|slot| slot.is_gap()).cloned().collect();
    let (mark, reason) = mark(project, last.as_ref(), overdue.filter(|moment| first.is_none_or(|first| first < *moment)));
    let drills: Vec<&LogRow> = rows.iter().filter(|row| row.kind == "test" && row.action == "drill" && in_period(row, period)).collect();
    ProjectReport {
        project: project.name.to_string(),
        title: project.title.clone(),
        priority: project.priority.word().to_owned(),
        compliance: project.compliance.clone(),
        schedule: project.schedule.as_ref().map(ToString::to_string),
        paused: project.paused,
        mark,
        reason,
        newest_good: newest.map(|run| run.started_at),
        size: newest.map(|run| run.bytes),
        change: newest.zip(before).map(|(newest, before)| difference(newest.bytes, before.bytes)),
        bytes_added: ended.iter().map(|run| run.bytes_added).sum(),
        runs: counts(&ended),
        usual_ms: durations.get(durations.len() / 2).copied(),
        longest_ms: durations.last().copied(),
        due: due.iter().filter(|slot| slot.outcome != "pending").count() as u64,
        done: due.iter().filter(|slot| slot.is_done()).count() as u64,
        gaps,
        storage: stored.iter().flat_map(|stored| &stored.stores).map(|used| storage_line(cx, project, used, queue)).collect(),
        drills: stored.map_or_else(no_drills, |stored| stored.drills.clone()),
        drilled: drills.len() as u64,
        drills_failed: drills.iter().filter(|row| row.status != "ok").count() as u64,
        retention: retention(cx, project),
        warnings: last.as_ref().map_or_else(Vec::new, |last| warnings_of(rows, last)),
        last,
    }
}

fn is_run(row: &LogRow) -> bool {
    row.kind == "backup" && row.action == "run"
}

pub(super) fn in_period(row: &LogRow, period: &Period) -> bool {
    row.started_at.parse().is_ok_and(|at| period.holds(at))
}

pub(super) fn run_line(row: &LogRow) -> Option<RunLine> {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    Some(RunLine {
        started_at: row.started_at.parse().ok()?,
        status: row.status.clone(),
        duration_ms: row.duration_ms.map(positive),
        bytes: positive(row.bytes),
        bytes_added: positive(row.bytes_added),
        snapshot: row.snapshot.clone(),
        message: if row.status == "ok" { String::new() } else { row.message.replace('\n', "; ") },
        host: row.host.clone(),
        user: row.user.clone(),
        started_by: row.started_by.clone(),
    })
}

fn attempt(run: &RunLine) -> Attempt<'_> {
    Attempt { started_at: run.started_at, status: &run.status, message: &run.message, snapshot: run.snapshot.as_deref() }
}

fn counts(runs: &[&RunLine]) -> Counts {
    let mut counts = Counts::default();
    for run in runs {
        *match run.status.as_str() {
            "ok" => &mut counts.ok,
            "partial" => &mut counts.partial,
            "cancelled" => &mut counts.cancelled,
            _ => &mut counts.failed,
        } += 1;
    }
    counts
}

/// How the project stands at the end of the period. One that failed and was whole an hour later is good.
fn mark(project: &ProjectConfig, last: Option<&RunLine>, overdue: Option<Timestamp>) -> (Mark, String) {
    match (last, overdue) {
        _ if project.paused => (Mark::Idle, String::new()),
        (_, Some(moment)) => (Mark::Bad, format!("no run began at {moment} or since")),
        (Some(run), None) if run.status == "ok" => (Mark::Good, String::new()),
        (Some(run), None) => (Mark::Bad, if run.message.is_empty() { run.status.clone() } else { run.message.clone() }),
        (None, None) => (Mark::Idle, String::new()),
    }
}

fn difference(now: u64, before: u64) -> i64 {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    signed(now).saturating_sub(signed(before))
}

fn storage_line(cx: &Context, project: &ProjectConfig, used: &StoreUse, queue: &[QueueRow]) -> StorageLine {
    let waits = queue.iter().find(|row| row.project == project.name.as_str() && row.store == used.store.as_str());
    let (state, why) = match (waits, used.source.as_str()) {
        (Some(row), _) => ("behind", format!("since {}: {}", row.since, row.last_error)),
        (None, "empty") => ("empty", String::new()),
        (None, "unknown") => ("unknown", used.failure.as_ref().map(crate::report::Failure::one_line).unwrap_or_default()),
        (None, _) => ("whole", String::new()),
    };
    StorageLine {
        store: used.store.to_string(),
        tier: used.tier.clone(),
        state,
        why,
        bytes: used.stored_bytes,
        snapshots: used.snapshots,
        oldest: used.oldest,
        newest: used.newest,
        cost: price(cx, used.store.as_str()).map(|price| cost(price, used.stored_bytes)),
    }
}

fn price(cx: &Context, store: &str) -> Option<Price> {
    cx.config.stores.iter().find(|(name, _)| name.as_str() == store).and_then(|(_, store)| store.cost)
}

fn cost(price: Price, bytes: u64) -> Cost {
    Cost { amount: (price.of(bytes) * 100.0).round() / 100.0, currency: price.currency() }
}

fn stores(cx: &Context, status: &StatusReport) -> Vec<StoreReport> {
    let one = |space: &storage::StoreSpace| StoreReport {
        store: space.store.to_string(),
        tier: space.tier.clone(),
        bytes: space.stored_bytes,
        growth_per_day: space.growth_per_day,
        free_bytes: space.free_bytes,
        full_at: space.full_at,
        cost: price(cx, space.store.as_str()).map(|price| cost(price, space.stored_bytes)),
    };
    status.stores.iter().map(one).collect()
}

/// Alerts that were open at some time of the period, oldest first.
fn incidents(alerts: &[AlertRow], period: &Period, now: Timestamp) -> Vec<Incident> {
    let one = |alert: &AlertRow| {
        let raised_at: Timestamp = alert.raised_at.parse().ok()?;
        let resolved_at: Option<Timestamp> = alert.resolved_at.as_ref().and_then(|at| at.parse().ok());
        let open_secs = resolved_at.unwrap_or(now).as_second().saturating_sub(raised_at.as_second());
        let in_it = raised_at < period.until && resolved_at.is_none_or(|at| at >= period.from);
        in_it.then(|| Incident {
            project: alert.project.clone(),
            store: alert.store.clone(),
            kind: alert.kind.clone(),
            page: page_for(&alert.kind, alert.exit_status, &alert.message).slug,
            message: alert.message.clone(),
            raised_at,
            resolved_at,
            open_secs: u64::try_from(open_secs).unwrap_or(0),
            times: u64::try_from(alert.times).unwrap_or(0),
        })
    };
    alerts.iter().rev().filter_map(one).collect()
}

/// Rules that are known by name: what they ask for, and for how many years after the year of the backup.
const RULES: &[(&str, &str, i16)] = &[
    ("belastingdienst", "art. 52 AWR (Belastingdienst): books and data carriers, 7 years", 7),
    ("awr", "art. 52 AWR: books and data carriers, 7 years", 7),
    ("onroerend-goed", "Wet OB (real estate): 9 years after the year of first use", 10),
    ("oss", "EU VAT one-stop shop: 10 years", 10),
    ("gdpr", "GDPR art. 32(1)(c): the ability to restore; art. 5(1)(e): not longer than needed", 0),
    ("avg", "AVG (GDPR) art. 32(1)(c): the ability to restore; art. 5(1)(e): not longer than needed", 0),
    ("iso27001", "ISO/IEC 27001:2022 A.8.13: backups kept and regularly tested by policy", 0),
    ("nis2", "NIS2 art. 21(2)(c): backup management and disaster recovery", 0),
];

fn retention(cx: &Context, project: &ProjectConfig) -> RetentionStatement {
    let kept = &project.retention;
    let until = kept.archive.keep_until(cx.now(), &cx.zone());
    let rule = |name: &String| RULES.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known));
    let asked = project.compliance.iter().filter_map(rule).map(|(.., years)| *years).max().filter(|years| *years > 0);
    let year = |at: Timestamp| at.to_zoned_datetime(cx.zone()).year();
    // A term in years runs from the end of the year, so it ends on the first of January after it.
    let short = asked.filter(|years| i32::from(year(until)) <= i32::from(year(cx.now())) + i32::from(*years));
    let is_archived =
        project.stores.iter().any(|store| cx.config.stores.get(store).is_some_and(|store| store.tier == crate::config::Tier::Archive));
    let mut doubts = Vec::new();
    if let Some(years) = short {
        doubts.push(format!("kept for {} in archives, and a rule that it falls under asks for {years} years", kept.archive));
    }
    if asked.is_some() && !is_archived {
        doubts.push("it falls under a rule, and none of its stores is an archive".to_owned());
    }
    RetentionStatement {
        hot: kept.hot.to_string(),
        archive: kept.archive.to_string(),
        explicit: kept.explicit_archive,
        auto_delete: kept.archive_auto_delete,
        until,
        grounds: project.compliance.iter().map(|name| rule(name).map_or_else(|| name.clone(), |(_, text, _)| (*text).to_owned())).collect(),
        doubts,
    }
}

fn no_drills() -> DrillSummary {
    DrillSummary { last_at: None, last_result: String::new(), passed_at: None, overdue_since: None }
}

/// What the newest run wrote down for the operator.
fn warnings_of(rows: &[LogRow], last: &RunLine) -> Vec<String> {
    let row = rows.iter().find(|row| is_run(row) && row.started_at.parse::<Timestamp>().is_ok_and(|at| at == last.started_at));
    let listed = row.and_then(|row| row.details.get("warnings")).and_then(serde_json::Value::as_array);
    listed.into_iter().flatten().filter_map(serde_json::Value::as_str).map(str::to_owned).collect()
}

fn totals(report: &Report) -> Totals {
    let projects = &report.projects;
    let sum = |of: fn(&ProjectReport) -> u64| projects.iter().map(of).sum::<u64>();
    let with = |mark: Mark| projects.iter().filter(|project| project.mark == mark).count() as u64;
    let bytes = |archive: bool| report.stores.iter().filter(|store| (store.tier == "archive") == archive).map(|store| store.bytes).sum();
    let (runs, runs_ok) = (sum(|p| p.runs.all()), sum(|p| p.runs.ok));
    let mut unknown: Vec<String> = projects
        .iter()
        .flat_map(|project| project.storage.iter().filter(|line| line.state == "unknown").map(|line| line.store.clone()))
        .collect();
    unknown.sort();
    unknown.dedup();
    Totals {
        projects: projects.iter().filter(|project| !project.paused).count() as u64,
        succeeded: with(Mark::Good),
        failed: with(Mark::Bad),
        runs,
        runs_ok,
        success_percent: (runs > 0).then(|| (runs_ok as f64 / runs as f64 * 1000.0).round() / 10.0),
        due: sum(|p| p.due),
        done: sum(|p| p.done),
        local_bytes: bytes(false),
        offsite_bytes: bytes(true),
        unknown,
    }
}
