//! The replication queue: which replica lags behind, since when, and when it is tried again.
//!
//! A row stays until its replica is whole, so that the queue survives a restart. It says nothing that the stores do not
//! say too: where it is lost, the next run finds out again.

use super::{AuditError, AuditLog, failed, time_text};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};

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
        let statement = sqlx::query(LIST).bind(&self.host);
        let rows = self.with(|runtime, connection| runtime.block_on(statement.fetch_all(connection))).map_err(failed("read"))?;
        rows.iter().map(read_row).collect::<Result<_, _>>().map_err(failed("read"))
    }

    /// Adds a row, or replaces the one of the same project and store.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn put_queue(&self, row: &QueueRow) -> Result<(), AuditError> {
        if self.write_queue(UPDATE, row).map_err(failed("write"))? > 0 {
            return Ok(());
        }
        // Another process may have added it meanwhile.
        if self.write_queue(INSERT, row).is_err() {
            self.write_queue(UPDATE, row).map_err(failed("write"))?;
        }
        Ok(())
    }

    /// Takes a row away: its replica is whole. Whether there was one.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn leave_queue(&self, project: &str, store: &str) -> Result<bool, AuditError> {
        let statement = sqlx::query(DELETE).bind(&self.host).bind(project).bind(store);
        let done = self.with(|runtime, connection| runtime.block_on(statement.execute(connection))).map_err(failed("write"))?;
        Ok(done.rows_affected() > 0)
    }

    fn write_queue(&self, statement: &'static str, row: &QueueRow) -> Result<u64, sqlx::Error> {
        let count = |value: Option<u64>| value.map(super::signed);
        let statement = sqlx::query(statement)
            .bind(time_text(row.since))
            .bind(i64::from(row.attempts))
            .bind(time_text(row.last_try))
            .bind(time_text(row.next_try))
            .bind(&row.last_error)
            .bind(count(row.pending_objects))
            .bind(count(row.pending_bytes))
            .bind(&self.host)
            .bind(&row.project)
            .bind(&row.store);
        let done = self.with(|runtime, connection| runtime.block_on(statement.execute(connection)))?;
        Ok(done.rows_affected())
    }
}

fn read_row(row: &SqliteRow) -> Result<QueueRow, sqlx::Error> {
    let time = |column: &str| row.try_get::<String, _>(column)?.parse().map_err(|e: jiff::Error| sqlx::Error::Decode(e.into()));
    let count = |column: &str| row.try_get::<Option<i64>, _>(column).map(|value| value.and_then(|number| u64::try_from(number).ok()));
    Ok(QueueRow {
        project: row.try_get("project")?,
        store: row.try_get("store")?,
        since: time("since")?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
        last_try: time("last_try")?,
        next_try: time("next_try")?,
        last_error: row.try_get("last_error")?,
        pending_objects: count("pending_objects")?,
        pending_bytes: count("pending_bytes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(store: &str, attempts: u32) -> QueueRow {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        QueueRow {
            project: "shop".to_owned(),
            store: store.to_owned(),
            since: at(0),
            attempts,
            last_try: at(10),
            next_try: at(310),
            last_error: "store `x` cannot be used: away".to_owned(),
            pending_objects: Some(3),
            pending_bytes: None,
        }
    }

    #[test]
    fn the_queue_survives_a_restart_and_is_of_one_host() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("audit.db").display());
        let log = AuditLog::open(&url, "here").unwrap();
        log.put_queue(&row("b", 1)).unwrap();
        log.put_queue(&row("a", 1)).unwrap();
        log.put_queue(&row("b", 2)).unwrap();
        log.close();

        let log = AuditLog::open(&url, "here").unwrap();
        assert_eq!(log.queue().unwrap(), [row("a", 1), row("b", 2)]);
        assert!(AuditLog::open(&url, "elsewhere").unwrap().queue().unwrap().is_empty());
        assert!(log.leave_queue("shop", "a").unwrap());
        assert!(!log.leave_queue("shop", "a").unwrap());
        assert_eq!(log.queue().unwrap(), [row("b", 2)]);
    }
}
