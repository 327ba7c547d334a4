//! Alerts: what needs a person, from the moment that it goes wrong until it is right again.
//!
//! There is one open alert at most for each host, project, store and kind: raising it again counts it. Whoever sends
//! messages reads them here; nothing is lost when a message is.

use super::{Arg, AuditError, AuditLog, Row, args, new_id};
use jiff::Timestamp;
use serde::Serialize;

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
        let values = [
            Arg::from(&alert.message),
            Arg::from(&alert.hint),
            Arg::from(u32::from(alert.exit_status)),
            Arg::from(alert.run_id),
            Arg::from(now),
            Arg::from(&self.host),
            Arg::from(alert.project),
            Arg::from(alert.store),
            Arg::from(alert.kind),
        ];
        if self.execute(AGAIN, &values)? > 0 {
            return Ok(());
        }
        let values: Vec<Arg> = values.into_iter().chain([Arg::from(new_id(now)?), Arg::from(now)]).collect();
        match self.execute(INSERT, &values) {
            // Its key is random: the one that is there was sent over a connection that died before it answered.
            Err(error) if error.is_duplicate() => Ok(()),
            written => written.map(drop),
        }
    }

    /// Closes an alert: what it was about is right again. Whether one was open.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn resolve(&self, project: &str, store: &str, kind: &str, now: Timestamp) -> Result<bool, AuditError> {
        Ok(self.execute(RESOLVE, args![now, &self.host, project, store, kind])? > 0)
    }

    /// The newest alerts of this host; with `open`, only those that are not resolved.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn alerts(&self, open: bool, limit: u32) -> Result<Vec<AlertRow>, AuditError> {
        let rows = self.fetch(if open { LIST_OPEN } else { LIST }, args![&self.host, limit])?;
        rows.iter().map(read_row).collect()
    }
}

pub(super) fn read_row(row: &Row) -> Result<AlertRow, AuditError> {
    Ok(AlertRow {
        id: row.text("id")?,
        project: row.text("project")?,
        store: row.text("store")?,
        kind: row.text("kind")?,
        message: row.text("message")?,
        hint: row.text("hint")?,
        exit_status: row.int("exit_status")?,
        run_id: row.text("run_id")?,
        raised_at: row.text("raised_at")?,
        last_seen: row.text("last_seen")?,
        times: row.int("times")?,
        resolved_at: row.opt_text("resolved_at")?,
    })
}
