//! What the daemon remembers of its periodic work, so that a restart neither repeats nor forgets any of it; and what the
//! planner asks of earlier runs.

use super::{AuditError, AuditLog, args, values::Row};
use crate::daemon::plan::{Attempt, Ending};
use jiff::Timestamp;

/// In the details of a run's row: whether the same run may end better later, with nobody's help.
pub(crate) const CAN_PASS: &str = "can_pass";
/// A project has not run more often than this since the last moment of its schedule.
const MOST: u32 = 200;

/// One task of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskRow {
    /// Its name.
    pub task: String,
    /// When it was last begun, or when it was first known.
    pub last_begun: Timestamp,
    /// When it last ended; none while it runs, and when it was killed.
    pub last_ended: Option<Timestamp>,
    /// `new`, `running`, `ok` or `failed`.
    pub status: String,
    /// Failures in a row.
    pub failures: u32,
    /// After a failure: not tried again before.
    pub next_try: Option<Timestamp>,
    /// What the last failure was, on one line.
    pub message: String,
}

const LIST: &str =
    "SELECT task, last_begun, last_ended, status, failures, next_try, message FROM daemon_tasks WHERE host = ? ORDER BY task";
const UPDATE: &str = "UPDATE daemon_tasks SET last_begun = ?, last_ended = ?, status = ?, failures = ?, next_try = ?, message = ? \
                      WHERE host = ? AND task = ?";
const INSERT: &str = "INSERT INTO daemon_tasks (last_begun, last_ended, status, failures, next_try, message, host, task) \
                      VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
const ATTEMPTS: &str = "SELECT host, status, started_at, ended_at, details FROM backup_logs WHERE project = ? AND action = 'run' \
                        AND started_at >= ? ORDER BY started_at DESC LIMIT ?";

impl AuditLog {
    /// What is remembered of this host's tasks.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub(crate) fn tasks(&self) -> Result<Vec<TaskRow>, AuditError> {
        self.fetch(LIST, args![&self.host])?.iter().map(read_task).collect()
    }

    /// Adds a row, or replaces the one of the same task.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub(crate) fn put_task(&self, row: &TaskRow) -> Result<(), AuditError> {
        if self.write_task(UPDATE, row)? == 0 && self.write_task(INSERT, row).is_err() {
            // Another process may have added it meanwhile.
            self.write_task(UPDATE, row)?;
        }
        Ok(())
    }

    fn write_task(&self, sql: &'static str, row: &TaskRow) -> Result<u64, AuditError> {
        self.execute(
            sql,
            args![row.last_begun, row.last_ended, &row.status, row.failures, row.next_try, &row.message, &self.host, &row.task],
        )
    }

    /// The runs of a project that began at `since` or later, on whichever host: each moment is served once. Whether a run
    /// of another host still goes on is for its lease to say, and not told here.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub(crate) fn attempts(&self, project: &str, since: Timestamp) -> Result<Vec<Attempt>, AuditError> {
        let rows = self.fetch(ATTEMPTS, args![project, since, MOST])?;
        let mut attempts = Vec::new();
        for row in &rows {
            let attempt = read_attempt(row)?;
            if attempt.ending != Ending::Running || row.text("host")? == self.host {
                attempts.push(attempt);
            }
        }
        Ok(attempts)
    }
}

fn read_task(row: &Row) -> Result<TaskRow, AuditError> {
    Ok(TaskRow {
        task: row.text("task")?,
        last_begun: row.time("last_begun")?,
        last_ended: row.opt_time("last_ended")?,
        status: row.text("status")?,
        failures: u32::try_from(row.int("failures")?).unwrap_or(u32::MAX),
        next_try: row.opt_time("next_try")?,
        message: row.text("message")?,
    })
}

fn read_attempt(row: &Row) -> Result<Attempt, AuditError> {
    let details: serde_json::Value = serde_json::from_str(&row.text("details")?).unwrap_or_default();
    let can_pass = details.get(CAN_PASS).and_then(serde_json::Value::as_bool);
    Ok(Attempt { began: row.time("started_at")?, ended: row.opt_time("ended_at")?, ending: ending(&row.text("status")?, can_pass) })
}

/// A row of an older version does not say whether it can pass: a failure may, and a partial backup was one.
fn ending(status: &str, can_pass: Option<bool>) -> Ending {
    match (status, can_pass) {
        ("running", _) => Ending::Running,
        ("partial", Some(true)) => Ending::Partial,
        ("ok" | "partial", _) => Ending::Served,
        ("failed", Some(false)) => Ending::Failed,
        ("failed", _) => Ending::Passing,
        ("cancelled", _) => Ending::Stopped,
        _ => Ending::Died,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{LogEnd, LogStart};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn open() -> (tempfile::TempDir, AuditLog) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("audit.db").display());
        let log = AuditLog::open(&url, "here").unwrap();
        (folder, log)
    }

    fn start(second: i64, action: &str) -> LogStart {
        LogStart {
            run_id: "r".to_owned(),
            project: "shop".to_owned(),
            host: "here".to_owned(),
            action: action.to_owned(),
            started_at: at(second),
            snapshot: None,
            stores: Vec::new(),
            target: String::new(),
            strategy: String::new(),
            strategy_digest: String::new(),
            started_by: String::new(),
            user: String::new(),
            program: String::new(),
        }
    }

    fn end(log: &AuditLog, second: i64, action: &str, status: &str, details: serde_json::Value) {
        let row = log.begin_backup(&start(second, action)).unwrap();
        let end = LogEnd {
            status: status.to_owned(),
            ended_at: at(second + 1),
            snapshot: None,
            files: 0,
            bytes: 0,
            bytes_added: 0,
            problems: 0,
            message: String::new(),
            details,
        };
        log.end(row, &end).unwrap();
    }

    #[test]
    fn a_task_is_remembered_with_its_failures() {
        let (_folder, log) = open();
        let mut row = TaskRow {
            task: "scrub".to_owned(),
            last_begun: at(0),
            last_ended: None,
            status: "running".to_owned(),
            failures: 0,
            next_try: None,
            message: String::new(),
        };
        log.put_task(&row).unwrap();
        row = TaskRow {
            last_ended: Some(at(9)),
            status: "failed".to_owned(),
            failures: 1,
            next_try: Some(at(300)),
            message: "away".to_owned(),
            ..row
        };
        log.put_task(&row).unwrap();
        assert_eq!(log.tasks().unwrap(), [row]);
    }

    #[test]
    fn the_rows_of_runs_say_whether_they_served() {
        let (_folder, log) = open();
        end(&log, 0, "run", "ok", serde_json::json!({}));
        end(&log, 10, "run", "failed", serde_json::json!({ CAN_PASS: false }));
        end(&log, 20, "run", "failed", serde_json::json!({ CAN_PASS: true }));
        end(&log, 30, "run", "partial", serde_json::json!({ CAN_PASS: true }));
        end(&log, 40, "run", "partial", serde_json::json!({}));
        end(&log, 50, "run", "cancelled", serde_json::json!({}));
        end(&log, 60, "replicate", "failed", serde_json::json!({}));
        let _running = log.begin_backup(&start(70, "run")).unwrap();
        let endings: Vec<Ending> = log.attempts("shop", at(10)).unwrap().iter().map(|attempt| attempt.ending).collect();
        use Ending::{Failed, Partial, Passing, Running, Served, Stopped};
        assert_eq!(endings, [Running, Stopped, Served, Partial, Passing, Failed]);
        assert!(log.attempts("other", at(0)).unwrap().is_empty());
    }
}
