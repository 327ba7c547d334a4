//! Whether a project's drills are recent enough: as the audit database has them.

use crate::{audit::LogRow, config::ProjectConfig, context::Context, error::OperationError};
use havun_model::retention::Term;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

/// The action of a drill's row.
pub(super) const ACTION: &str = "drill";
/// The target of the row of a snapshot that somebody named.
pub(super) const NAMED: &str = "named";
/// In the details of a row: how many snapshots its drill chose.
pub(super) const CHOSEN: &str = "chosen";
/// How many rows are looked at.
const LOOKED_AT: u32 = 500;

/// What is known of a project's drills.
#[derive(Debug, Clone)]
pub(crate) struct DrillState {
    /// How often.
    pub every: Term,
    /// The worst row of the newest that ended, whatever it found.
    pub last: Option<LogRow>,
    /// When the newest whose snapshots all passed began.
    pub passed_at: Option<Timestamp>,
    /// Since when it is overdue; none while it is not, and while there is nothing to drill.
    pub overdue_since: Option<Timestamp>,
}

impl DrillState {
    /// A drill is due when it is overdue, or when none has ever passed.
    pub fn is_due(&self) -> bool {
        self.overdue_since.is_some() || self.passed_at.is_none()
    }
}

/// A project's drills in few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillSummary {
    /// When the newest began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
    /// `passed`, `incomplete` or `failed`; empty when there was none.
    pub last_result: String,
    /// When the newest that passed began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_at: Option<Timestamp>,
    /// Since when the next one is overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue_since: Option<Timestamp>,
}

/// A project's drills in few words.
///
/// # Errors
/// [`OperationError::Audit`].
pub(crate) fn summary(cx: &Context, project: &ProjectConfig) -> Result<DrillSummary, OperationError> {
    let state = state(cx, project)?;
    let word = |row: &LogRow| match row.status.as_str() {
        "ok" => "passed",
        "partial" => "incomplete",
        _ => "failed",
    };
    Ok(DrillSummary {
        last_result: state.last.as_ref().map(word).unwrap_or_default().to_owned(),
        last_at: state.last.map(|row| row.started_at),
        passed_at: state.passed_at,
        overdue_since: state.overdue_since,
    })
}

/// One drill of a project: a row for each of its snapshots.
struct Past {
    /// The worst of them.
    worst: LogRow,
    rows: u64,
    began: String,
}

impl Past {
    /// A drill that was stopped between two snapshots has fewer rows than it chose snapshots.
    fn passed(&self) -> bool {
        let chosen = self.worst.details.get(CHOSEN).and_then(serde_json::Value::as_u64).unwrap_or(1);
        self.worst.status == "ok" && self.rows >= chosen
    }
}

/// The drills of `rows`, which come newest first. That of a snapshot which somebody named says nothing of the others, and
/// counts for none of this.
fn past(rows: Vec<LogRow>) -> Vec<Past> {
    let mut drills: Vec<Past> = Vec::new();
    for row in rows.into_iter().filter(|row| row.target != NAMED) {
        match drills.iter_mut().find(|drill| drill.worst.run_id == row.run_id) {
            Some(drill) => {
                drill.rows += 1;
                drill.began = row.started_at.clone();
                if badness(&row) > badness(&drill.worst) {
                    drill.worst = row;
                }
            }
            None => drills.push(Past { rows: 1, began: row.started_at.clone(), worst: row }),
        }
    }
    drills
}

/// One that runs, or was stopped, has proven nothing; a failure says more than that.
fn badness(row: &LogRow) -> u8 {
    match row.status.as_str() {
        "ok" => 0,
        "partial" => 2,
        "failed" => 3,
        _ => 1,
    }
}

/// What is known of a project's drills now.
///
/// # Errors
/// [`OperationError::Audit`].
pub(crate) fn state(cx: &Context, project: &ProjectConfig) -> Result<DrillState, OperationError> {
    let rows = cx.audit()?.tests(project.name.as_str(), ACTION, LOOKED_AT).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let drills = past(rows);
    let first_backup = cx.audit()?.first_commit(project.name.as_str()).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let every = project.drill.every.unwrap_or(cx.config.drill.every);
    let passed_at = drills.iter().find(|drill| drill.passed()).and_then(|drill| drill.began.parse().ok());
    let first_backup = first_backup.and_then(|text| text.parse().ok());
    let overdue_since = overdue_since(every, passed_at, first_backup, cx.now(), &cx.zone());
    let last = drills.into_iter().map(|drill| drill.worst).find(|row| matches!(row.status.as_str(), "ok" | "partial" | "failed"));
    Ok(DrillState { every, last, passed_at, overdue_since })
}

/// A project is overdue when neither a passed drill nor its first backup is recent enough.
fn overdue_since(
    every: Term,
    passed: Option<Timestamp>,
    first_backup: Option<Timestamp>,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    passed.or(first_backup).map(|at| every.keep_until(at, zone)).filter(|until| *until < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: &str, target: &str, status: &str, chosen: u64) -> LogRow {
        LogRow {
            kind: "test".to_owned(),
            id: String::new(),
            run_id: run.to_owned(),
            project: "shop".to_owned(),
            host: String::new(),
            action: ACTION.to_owned(),
            status: status.to_owned(),
            started_at: String::new(),
            ended_at: None,
            duration_ms: None,
            snapshot: None,
            stores: Vec::new(),
            target: target.to_owned(),
            strategy: String::new(),
            strategy_digest: String::new(),
            files: 0,
            bytes: 0,
            bytes_added: 0,
            problems: 0,
            message: String::new(),
            details: serde_json::json!({ CHOSEN: chosen }),
            started_by: String::new(),
            user: String::new(),
            program: String::new(),
        }
    }

    #[test]
    fn one_snapshot_that_passes_does_not_pass_the_drill() {
        let passed = |rows: Vec<LogRow>| past(rows).iter().map(|drill| (drill.worst.status.clone(), drill.passed())).collect::<Vec<_>>();
        let one = |status: &str, passed: bool| vec![(status.to_owned(), passed)];
        assert_eq!(passed(vec![row("1", "random", "ok", 2), row("1", "newest", "failed", 2)]), one("failed", false));
        assert_eq!(passed(vec![row("1", "random", "partial", 2), row("1", "newest", "ok", 2)]), one("partial", false));
        assert_eq!(passed(vec![row("1", "random", "cancelled", 2), row("1", "newest", "ok", 2)]), one("cancelled", false));
        assert_eq!(passed(vec![row("1", "newest", "ok", 2)]), one("ok", false), "the second never began");
        assert_eq!(passed(vec![row("1", "random", "ok", 2), row("1", "newest", "ok", 2)]), one("ok", true));
        assert_eq!(passed(vec![row("2", NAMED, "ok", 1), row("1", "newest", "failed", 1)]), one("failed", false));
    }

    #[test]
    fn a_project_is_overdue_after_its_term_and_never_before_its_first_backup() {
        let at = |day: i64| Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        let every = Term::days(90);
        let overdue = |passed, first, now| overdue_since(every, passed, first, now, &TimeZone::UTC).is_some();
        assert!(!overdue(None, None, at(1000)));
        assert!(!overdue(None, Some(at(0)), at(89)));
        assert!(overdue(None, Some(at(0)), at(91)));
        assert!(!overdue(Some(at(60)), Some(at(0)), at(149)));
        assert!(overdue(Some(at(60)), Some(at(0)), at(151)));
    }
}
