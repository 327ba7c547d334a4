//! The audit database: `backup_logs`, `restore_logs` and `test_logs`, one row for each run, restore and check; and
//! `replication_queue`, the replicas that lag behind; `alerts`, what needs a person; and `erasures`, the erasure register.
//!
//! A row exists from the moment that the work begins (`running`) and is completed when it ends, so that a killed run
//! is seen: the next time the database is opened its row becomes `interrupted`. SQL is never the only place of
//! anything that a restore needs.
//!
//! Calls block for a few milliseconds. The database runs on a small runtime of its own.

mod alerts;
mod erasures;
mod migrations;
pub(crate) mod process_key;
mod queue;
mod statements;

pub use alerts::{Alert, AlertRow};
pub use queue::QueueRow;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteRow};
use std::{path::PathBuf, sync::Mutex, sync::PoisonError};
use tokio::runtime::Runtime;

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// `backup_logs`: runs.
    Backup,
    /// `restore_logs`: restores and exports.
    Restore,
    /// `test_logs`: `verify` and drills.
    Test,
}

impl LogKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Backup, Self::Restore, Self::Test];
}

/// What is known when work begins.
#[derive(Debug, Clone)]
pub struct LogStart {
    /// Unique to the run; the projects of one `run` may share it.
    pub run_id: String,
    /// The project.
    pub project: String,
    /// `[host] name`.
    pub host: String,
    /// `run`, `restore`, `export`, `verify`, `verify --read-data`, `cleanup`, …
    pub action: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The snapshot that it is about, when it is known already.
    pub snapshot: Option<String>,
    /// Stores that take part.
    pub stores: Vec<String>,
    /// Where a restore goes, what of it; empty otherwise.
    pub target: String,
    /// Strategy id and version; empty where none takes part.
    pub strategy: String,
    /// SHA-256 of its component, hex; empty where none takes part.
    pub strategy_digest: String,
    /// `operator`, `schedule`, …
    pub started_by: String,
    /// Login name of who started it.
    pub user: String,
    /// Name and version of this program.
    pub program: String,
}

/// How work ended.
#[derive(Debug, Clone)]
pub struct LogEnd {
    /// `ok`, `partial`, `failed` or `cancelled`.
    pub status: String,
    /// When.
    pub ended_at: Timestamp,
    /// The snapshot that it made or was about.
    pub snapshot: Option<String>,
    /// Files read, restored or checked.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that the store grew by.
    pub bytes_added: u64,
    /// Number of problems.
    pub problems: u64,
    /// The reason when it is not `ok`: the error with its causes, on one line each.
    pub message: String,
    /// Anything else worth keeping, as JSON.
    pub details: serde_json::Value,
}

/// A row that is still to be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a row that is never completed reads as interrupted"]
pub struct LogId {
    kind: LogKind,
    id: String,
    started_at: Timestamp,
}

/// One row of the three tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogRow {
    /// `backup`, `restore` or `test`.
    pub kind: String,
    /// Unique.
    pub id: String,
    /// As [`LogStart::run_id`].
    pub run_id: String,
    /// As [`LogStart::project`].
    pub project: String,
    /// As [`LogStart::host`].
    pub host: String,
    /// As [`LogStart::action`].
    pub action: String,
    /// `running`, `interrupted` or as [`LogEnd::status`].
    pub status: String,
    /// UTC, ISO 8601.
    pub started_at: String,
    /// UTC, ISO 8601; none while it runs or when it was interrupted.
    pub ended_at: Option<String>,
    /// Milliseconds.
    pub duration_ms: Option<i64>,
    /// The snapshot's id.
    pub snapshot: Option<String>,
    /// Stores that took part.
    pub stores: Vec<String>,
    /// As [`LogStart::target`].
    pub target: String,
    /// As [`LogStart::strategy`].
    pub strategy: String,
    /// As [`LogStart::strategy_digest`].
    pub strategy_digest: String,
    /// As [`LogEnd::files`].
    pub files: i64,
    /// As [`LogEnd::bytes`].
    pub bytes: i64,
    /// As [`LogEnd::bytes_added`].
    pub bytes_added: i64,
    /// As [`LogEnd::problems`].
    pub problems: i64,
    /// As [`LogEnd::message`].
    pub message: String,
    /// As [`LogEnd::details`].
    pub details: serde_json::Value,
    /// As [`LogStart::started_by`].
    pub started_by: String,
    /// As [`LogStart::user`].
    pub user: String,
    /// As [`LogStart::program`].
    pub program: String,
}

/// Why the audit database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The URL is none that this build knows.
    #[error("the audit URL {why}")]
    Url {
        /// What is wrong; never the URL, which may hold a password.
        why: String,
    },
    /// The file or its folder cannot be made.
    #[error("cannot make the audit database {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The tables are of a newer version of this program, or cannot be made.
    #[error("cannot bring the tables of the audit database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The database says no.
    #[error("cannot {what} the audit database")]
    Database {
        /// "open", "write", "read".
        what: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// No runtime for it.
    #[error("cannot start the audit database's runtime")]
    Runtime(#[source] std::io::Error),
}

/// The audit database, open. Shared between threads by reference.
pub struct AuditLog {
    runtime: Runtime,
    connection: Mutex<SqliteConnection>,
    host: String,
}

impl AuditLog {
    /// Opens the database at `url` (`sqlite:///absolute/path`), makes it and its tables where they are missing, and
    /// marks rows of this `host` whose process has died as `interrupted`.
    ///
    /// # Errors
    /// When it cannot be opened, or was made by a newer version of this program.
    pub fn open(url: &str, host: &str) -> Result<Self, AuditError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AuditError::Runtime)?;
        let connection = runtime.block_on(migrations::open(url))?;
        let log = Self { runtime, connection: Mutex::new(connection), host: host.to_owned() };
        log.mark_interrupted()?;
        Ok(log)
    }

    /// Writes the row of a run that begins.
    ///
    /// # Errors
    /// [`AuditError::Database`]; without its row no work should begin.
    pub fn begin_backup(&self, start: &LogStart) -> Result<LogId, AuditError> {
        self.begin(LogKind::Backup, start)
    }

    /// Writes the row of a restore that begins.
    ///
    /// # Errors
    /// As [`Self::begin_backup`].
    pub fn begin_restore(&self, start: &LogStart) -> Result<LogId, AuditError> {
        self.begin(LogKind::Restore, start)
    }

    /// Writes the row of a check that begins.
    ///
    /// # Errors
    /// As [`Self::begin_backup`].
    pub fn begin_test(&self, start: &LogStart) -> Result<LogId, AuditError> {
        self.begin(LogKind::Test, start)
    }

    /// Writes rows of runs that have begun and ended already, all or none.
    ///
    /// # Errors
    /// As [`Self::begin_backup`].
    pub fn add_whole(&self, rows: &[(LogStart, LogEnd)]) -> Result<(), AuditError> {
        self.plain("BEGIN IMMEDIATE")?;
        let written = rows.iter().try_for_each(|(start, end)| self.begin_backup(start).and_then(|row| self.end(row, end)));
        match written {
            Ok(()) => self.plain("COMMIT"),
            Err(error) => {
                let _ = self.plain("ROLLBACK");
                Err(error)
            }
        }
    }

    fn plain(&self, statement: &'static str) -> Result<(), AuditError> {
        let statement = sqlx::query(statement);
        self.with(|runtime, connection| runtime.block_on(statement.execute(connection))).map(drop).map_err(failed("write"))
    }

    /// Completes a row. A second completion changes nothing.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn end(&self, id: LogId, end: &LogEnd) -> Result<(), AuditError> {
        let duration = end.ended_at.as_microsecond().saturating_sub(id.started_at.as_microsecond()) / 1000;
        let statement = sqlx::query(statements::complete(id.kind))
            .bind(&end.status)
            .bind(time_text(end.ended_at))
            .bind(duration)
            .bind(&end.snapshot)
            .bind(signed(end.files))
            .bind(signed(end.bytes))
            .bind(signed(end.bytes_added))
            .bind(signed(end.problems))
            .bind(&end.message)
            .bind(end.details.to_string())
            .bind(id.id);
        self.with(|runtime, connection| runtime.block_on(statement.execute(connection))).map_err(failed("write"))?;
        Ok(())
    }

    /// The newest rows of one project or of all, newest first.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn logs(&self, project: Option<&str>, limit: u32) -> Result<Vec<LogRow>, AuditError> {
        let statement = match project {
            None => sqlx::query(statements::LIST_ALL),
            Some(project) => sqlx::query(statements::LIST_PROJECT).bind(project).bind(project).bind(project),
        };
        let statement = statement.bind(i64::from(limit));
        let rows = self.with(|runtime, connection| runtime.block_on(statement.fetch_all(connection))).map_err(failed("read"))?;
        rows.iter().map(read_row).collect::<Result<_, _>>().map_err(failed("read"))
    }

    /// The newest rows of `test_logs` of this host about one project and one action, newest first.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn tests(&self, project: &str, action: &str, limit: u32) -> Result<Vec<LogRow>, AuditError> {
        let statement = sqlx::query(statements::LIST_TESTS).bind(project).bind(&self.host).bind(action).bind(i64::from(limit));
        let rows = self.with(|runtime, connection| runtime.block_on(statement.fetch_all(connection))).map_err(failed("read"))?;
        rows.iter().map(read_row).collect::<Result<_, _>>().map_err(failed("read"))
    }

    /// How many runs have tested a project on this host with one action, but for those of the target `without`.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn count_tests(&self, project: &str, action: &str, without: &str) -> Result<u64, AuditError> {
        let statement = sqlx::query(statements::COUNT_TESTS).bind(project).bind(&self.host).bind(action).bind(without);
        let row = self.with(|runtime, connection| runtime.block_on(statement.fetch_one(connection))).map_err(failed("read"))?;
        let count: i64 = row.try_get(0).map_err(failed("read"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// When the first run of a project that committed something began, as text.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn first_commit(&self, project: &str) -> Result<Option<String>, AuditError> {
        let statement = sqlx::query(statements::FIRST_COMMIT).bind(project).bind(&self.host);
        let row = self.with(|runtime, connection| runtime.block_on(statement.fetch_one(connection))).map_err(failed("read"))?;
        row.try_get(0).map_err(failed("read"))
    }

    fn begin(&self, kind: LogKind, start: &LogStart) -> Result<LogId, AuditError> {
        let id = LogId { kind, id: new_id(start.started_at)?, started_at: start.started_at };
        let statement = sqlx::query(statements::insert(kind))
            .bind(&id.id)
            .bind(&start.run_id)
            .bind(&start.project)
            .bind(&start.host)
            .bind(&start.action)
            .bind(time_text(start.started_at))
            .bind(&start.snapshot)
            .bind(serde_json::json!(start.stores).to_string())
            .bind(&start.target)
            .bind(&start.strategy)
            .bind(&start.strategy_digest)
            .bind(&start.started_by)
            .bind(&start.user)
            .bind(&start.program)
            .bind(i64::from(std::process::id()))
            .bind(process_key::of(std::process::id()).unwrap_or_default());
        self.with(|runtime, connection| runtime.block_on(statement.execute(connection))).map_err(failed("write"))?;
        Ok(id)
    }

    fn mark_interrupted(&self) -> Result<(), AuditError> {
        for kind in LogKind::ALL {
            let statement = sqlx::query(statements::running(kind)).bind(&self.host);
            let rows = self.with(|runtime, connection| runtime.block_on(statement.fetch_all(connection))).map_err(failed("read"))?;
            for row in rows {
                self.mark_if_dead(kind, &row).map_err(failed("write"))?;
            }
        }
        Ok(())
    }

    fn mark_if_dead(&self, kind: LogKind, row: &SqliteRow) -> Result<(), sqlx::Error> {
        let (id, pid, key): (String, i64, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if u32::try_from(pid).ok().and_then(process_key::of).is_some_and(|now| now == key) {
            return Ok(());
        }
        let message = format!("process {pid} ended without completing this row: it was killed, or the machine stopped");
        let statement = sqlx::query(statements::interrupt(kind)).bind(message).bind(id);
        self.with(|runtime, connection| runtime.block_on(statement.execute(connection)))?;
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&Runtime, &mut SqliteConnection) -> T) -> T {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        work(&self.runtime, &mut connection)
    }

    /// Closes the database in order; dropping it does so too, a little less tidily.
    pub fn close(self) {
        let connection = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = self.runtime.block_on(connection.close());
    }
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> AuditError {
    move |source| AuditError::Database { what, source }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sorts by time, and is unique.
fn new_id(started_at: Timestamp) -> Result<String, AuditError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| AuditError::Runtime(std::io::Error::other(error.to_string())))?;
    Ok(format!("{:016x}{}", started_at.as_microsecond(), hex::encode(random)))
}

fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn read_row(row: &SqliteRow) -> Result<LogRow, sqlx::Error> {
    Ok(LogRow {
        kind: row.try_get("kind")?,
        id: row.try_get("id")?,
        run_id: row.try_get("run_id")?,
        project: row.try_get("project")?,
        host: row.try_get("host")?,
        action: row.try_get("action")?,
        status: row.try_get("status")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
        duration_ms: row.try_get("duration_ms")?,
        snapshot: row.try_get("snapshot")?,
        stores: serde_json::from_str(row.try_get("stores")?).unwrap_or_default(),
        target: row.try_get("target")?,
        strategy: row.try_get("strategy")?,
        strategy_digest: row.try_get("strategy_digest")?,
        files: row.try_get("files")?,
        bytes: row.try_get("bytes")?,
        bytes_added: row.try_get("bytes_added")?,
        problems: row.try_get("problems")?,
        message: row.try_get("message")?,
        details: serde_json::from_str(row.try_get("details")?).unwrap_or_default(),
        started_by: row.try_get("started_by")?,
        user: row.try_get("user_name")?,
        program: row.try_get("program")?,
    })
}

#[cfg(test)]
mod tests;
