//! Alerts: what needs a person, from the moment that it goes wrong until it is right again.
//!
//! There is one open alert at most for each host, project, store and kind: raising it again counts it. Whoever sends
//! messages reads them here; nothing is lost when a message is.

use super::{AuditError, AuditLog, failed, new_id, time_text};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert<'a> {
    /// The project.
    pub project: &'a str,
    /// The store; empty where it is about none.
    pub store: &'a str,
    /// `run`, `replication`, `health`, `scrub`, …
    pub kind: &'a str,
    /// What happened, to what and why, on one line.
    pub message: String,
    /// What to do next; may be empty.
    pub hint: String,
    /// The exit status that it caused.
    pub exit_status: u8,
    /// The run that raised it.
    pub run_id: &'a str,
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertRow {
    /// Unique.
    pub id: String,
    /// The project.
    pub project: String,
    /// The store; empty where it is about none.
    pub store: String,
    /// `run`, `replication`, `health`, `scrub`, …
    pub kind: String,
    /// The latest message.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// The exit status that it caused.
    pub exit_status: i64,
    /// The run that raised it last.
    pub run_id: String,
    /// When it was first raised.
    pub raised_at: String,
    /// When it was last raised.
    pub last_seen: String,
    /// How often.
    pub times: i64,
    /// When it was right again; `None` while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<String>,
}

const AGAIN: &str = "UPDATE alerts SET message = ?, hint = ?, exit_status = ?, run_id = ?, last_seen = ?, times = times + 1 \
                     WHERE host = ? AND project = ? AND store = ? AND kind = ? AND resolved_at IS NULL";
const INSERT: &str = "INSERT INTO alerts (message, hint, exit_status, run_id, last_seen, host, project, store, kind, id, raised_at, times) \
                      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)";
const RESOLVE: &str = "UPDATE alerts SET resolved_at = ? WHERE host = ? AND project = ? AND store = ? AND kind = ? AND resolved_at IS NULL";
const LIST: &str = "SELECT id, project, store, kind, message, hint, exit_status, run_id, raised_at, last_seen, times, resolved_at \
                    FROM alerts WHERE host = ? ORDER BY raised_at DESC, id DESC LIMIT ?";
const LIST_OPEN: &str = "SELECT id, project, store, kind, message, hint, exit_status, run_id, raised_at, last_seen, times, resolved_at \
                         FROM alerts WHERE host = ? AND resolved_at IS NULL ORDER BY raised_at DESC, id DESC LIMIT ?";

impl AuditLog {
    /// Opens an alert, or counts the one that is open.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn raise(&self, alert: &Alert<'_>, now: Timestamp) -> Result<(), AuditError> {
        let bind = |statement: &'static str| {
            sqlx::query(statement)
                .bind(alert.message.clone())
                .bind(alert.hint.clone())
                .bind(i64::from(alert.exit_status))
                .bind(alert.run_id.to_owned())
                .bind(time_text(now))
                .bind(self.host.clone())
                .bind(alert.project.to_owned())
                .bind(alert.store.to_owned())
                .bind(alert.kind.to_owned())
        };
        let counted = self.with(|runtime, connection| runtime.block_on(bind(AGAIN).execute(connection))).map_err(failed("write"))?;
        if counted.rows_affected() == 0 {
            let statement = bind(INSERT).bind(new_id(now)?).bind(time_text(now));
            self.with(|runtime, connection| runtime.block_on(statement.execute(connection))).map_err(failed("write"))?;
        }
        Ok(())
    }

    /// Closes an alert: what it was about is right again. Whether one was open.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn resolve(&self, project: &str, store: &str, kind: &str, now: Timestamp) -> Result<bool, AuditError> {
        let statement = sqlx::query(RESOLVE).bind(time_text(now)).bind(&self.host).bind(project).bind(store).bind(kind);
        let done = self.with(|runtime, connection| runtime.block_on(statement.execute(connection))).map_err(failed("write"))?;
        Ok(done.rows_affected() > 0)
    }

    /// The newest alerts of this host; with `open`, only those that are not resolved.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn alerts(&self, open: bool, limit: u32) -> Result<Vec<AlertRow>, AuditError> {
        let statement = sqlx::query(if open { LIST_OPEN } else { LIST }).bind(&self.host).bind(i64::from(limit));
        let rows = self.with(|runtime, connection| runtime.block_on(statement.fetch_all(connection))).map_err(failed("read"))?;
        rows.iter().map(read_row).collect::<Result<_, _>>().map_err(failed("read"))
    }
}

fn read_row(row: &SqliteRow) -> Result<AlertRow, sqlx::Error> {
    Ok(AlertRow {
        id: row.try_get("id")?,
        project: row.try_get("project")?,
        store: row.try_get("store")?,
        kind: row.try_get("kind")?,
        message: row.try_get("message")?,
        hint: row.try_get("hint")?,
        exit_status: row.try_get("exit_status")?,
        run_id: row.try_get("run_id")?,
        raised_at: row.try_get("raised_at")?,
        last_seen: row.try_get("last_seen")?,
        times: row.try_get("times")?,
        resolved_at: row.try_get("resolved_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(store: &'static str, message: &str) -> Alert<'static> {
        let (message, hint) = (message.to_owned(), "do this".to_owned());
        Alert { project: "shop", store, kind: "replication", message, hint, exit_status: 10, run_id: "r" }
    }

    #[test]
    fn an_open_alert_is_counted_and_a_resolved_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("audit.db").display());
        let log = AuditLog::open(&url, "here").unwrap();
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        log.raise(&alert("a", "away"), at(0)).unwrap();
        log.raise(&alert("a", "still away"), at(1)).unwrap();
        log.raise(&alert("b", "full"), at(2)).unwrap();
        let open = log.alerts(true, 10).unwrap();
        let told: Vec<_> = open.iter().map(|row| (row.store.as_str(), row.message.as_str(), row.times)).collect();
        assert_eq!(told, [("b", "full", 1), ("a", "still away", 2)]);
        assert!(log.resolve("shop", "a", "replication", at(3)).unwrap());
        assert!(!log.resolve("shop", "a", "replication", at(4)).unwrap());
        log.raise(&alert("a", "away again"), at(5)).unwrap();
        assert_eq!(log.alerts(true, 10).unwrap().len(), 2);
        assert_eq!(log.alerts(false, 10).unwrap().len(), 3, "history stays");
    }
}
