//! The replication queue: which replica lags behind, since when, and when it is tried again.
//!
//! A row stays until its replica is whole, so that the queue survives a restart. It says nothing that the stores do not
//! say too: where it is lost, the next run finds out again.

use super::{AuditError, AuditLog, Row, args};
use jiff::Timestamp;
use serde::Serialize;

/// A replica that lags behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueRow {
    /// The project.
    pub project: String,
    /// The store.
    pub store: String,
    /// When it first failed.
    pub since: Timestamp,
    /// How often in a row.
    pub attempts: u32,
    /// When it was last tried.
    pub last_try: Timestamp,
    /// Not tried again by itself before.
    pub next_try: Timestamp,
    /// What the last try failed with, on one line.
    pub last_error: String,
    /// Objects still to be sent, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_objects: Option<u64>,
    /// Their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_bytes: Option<u64>,
}

const LIST: &str = "SELECT project, store, since, attempts, last_try, next_try, last_error, pending_objects, pending_bytes \
                    FROM replication_queue WHERE host = ? ORDER BY project, store";
const UPDATE: &str = "UPDATE replication_queue SET since = ?, attempts = ?, last_try = ?, next_try = ?, last_error = ?, \
                      pending_objects = ?, pending_bytes = ? WHERE host = ? AND project = ? AND store = ?";
const INSERT: &str = "INSERT INTO replication_queue (since, attempts, last_try, next_try, last_error, pending_objects, pending_bytes, \
                      host, project, store) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const DELETE: &str = "DELETE FROM replication_queue WHERE host = ? AND project = ? AND store = ?";

impl AuditLog {
    /// Every replica of this host that lags behind, by project and store.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn queue(&self) -> Result<Vec<QueueRow>, AuditError> {
        self.fetch(LIST, args![&self.host])?.iter().map(read_row).collect()
    }

    /// Adds a row, or replaces the one of the same project and store.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn put_queue(&self, row: &QueueRow) -> Result<(), AuditError> {
        if self.write_queue(UPDATE, row)? > 0 {
            return Ok(());
        }
        match self.write_queue(INSERT, row) {
            // Another process may have added it meanwhile.
            Err(error) if error.is_duplicate() => self.write_queue(UPDATE, row).map(drop),
            written => written.map(drop),
        }
    }

    /// Takes a row away: its replica is whole. Whether there was one.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn leave_queue(&self, project: &str, store: &str) -> Result<bool, AuditError> {
        Ok(self.execute(DELETE, args![&self.host, project, store])? > 0)
    }

    fn write_queue(&self, statement: &'static str, row: &QueueRow) -> Result<u64, AuditError> {
        let values = args![
            row.since,
            row.attempts,
            row.last_try,
            row.next_try,
            &row.last_error,
            row.pending_objects,
            row.pending_bytes,
            &self.host,
            &row.project,
            &row.store,
        ];
        self.execute(statement, values)
    }
}

fn read_row(row: &Row) -> Result<QueueRow, AuditError> {
    let count = |column: &str| row.opt_int(column).map(|value| value.and_then(|number| u64::try_from(number).ok()));
    Ok(QueueRow {
        project: row.text("project")?,
        store: row.text("store")?,
        since: row.time("since")?,
        attempts: u32::try_from(row.int("attempts")?).unwrap_or(u32::MAX),
        last_try: row.time("last_try")?,
        next_try: row.time("next_try")?,
        last_error: row.text("last_error")?,
        pending_objects: count("pending_objects")?,
        pending_bytes: count("pending_bytes")?,
    })
}
