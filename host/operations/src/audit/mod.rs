//! The audit database: `backup_logs`, `restore_logs` and `test_logs`, one row for each run, restore and check; and
//! `replication_queue`, the replicas that lag behind; `alerts`, what needs a person; `erasures`, the erasure register;
//! `run_leases`, which host runs a project; and `observations`, what each run counted.
//!
//! A row exists from the moment that the work begins (`running`) and is completed when it ends, so that a killed run
//! is seen: the next time the database is opened its row becomes `interrupted`. SQL is never the only place of
//! anything that a restore needs.
//!
//! It is a file of this machine, or in a MySQL, MariaDB or PostgreSQL server that several hosts may share. Read `address`
//! (which), `connection` (the differences between servers), `database` (one that goes away), `migrations` (its tables),
//! `values`, then what is kept: `statements`, `alerts`, `queue`, `erasures`, `leases`; and `spool`.
//!
//! Calls block for a few milliseconds. The database runs on a small runtime of its own.

mod address;
mod alerts;
mod connection;
mod database;
mod erasures;
mod error;
mod leases;
mod messages;
mod migrations;
mod observations;
pub(crate) mod process_key;
mod queue;
mod spool;
mod statements;
mod tasks;
mod values;

pub use alerts::{Alert, AlertRow};
pub(crate) use database::Transaction;
pub use error::AuditError;
pub(crate) use leases::{Claim, Lease, Wanted};
pub use messages::{DeliveryRow, NewMessage, ToldRow};
pub use queue::QueueRow;
pub(crate) use tasks::{CAN_PASS, TaskRow};
pub(crate) use values::{Arg, Row, args, parsed};

use address::Address;
use database::{Database, Sleeper};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// The audit database, open. Shared between threads by reference.
pub struct AuditLog {
    database: Database,
    host: String,
    spool: Option<PathBuf>,
}

/// Which audit database, and for whom.
#[derive(Clone)]
pub struct Access<'a> {
    /// `sqlite:///absolute/path`, `mysql://…`, `mariadb://…`, `postgres://…` or `postgresql://…`.
    pub url: &'a str,
    /// Password of a server, where the URL has none.
    pub password: Option<&'a str>,
    /// `[host] name`: whose rows are written. Each host that shares a database needs a name of its own.
    pub host: &'a str,
    /// Waits before a server is asked again.
    pub sleeper: Sleeper,
    /// Folder for what cannot be written while a server is away; without one it is an error.
    pub spool: Option<&'a Path>,
}

impl<'a> Access<'a> {
    /// With the system's sleeper and the URL's password.
    pub fn new(url: &'a str, host: &'a str) -> Self {
        Self { url, password: None, host, sleeper: Arc::new(std::thread::sleep), spool: None }
    }
}

impl AuditLog {
    /// As [`Self::open_with`], with nothing but a URL and a host.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open(url: &str, host: &str) -> Result<Self, AuditError> {
        Self::open_with(&Access::new(url, host))
    }

    /// Opens the database, makes its tables (and a file) where they are missing, and marks rows of this host whose
    /// process has died as `interrupted`.
    ///
    /// # Errors
    /// When it cannot be opened, or was made by a newer version of this program.
    pub fn open_with(access: &Access<'_>) -> Result<Self, AuditError> {
        let address = Address::parse(access.url, access.password)?;
        let database = Database::open(address, Arc::clone(&access.sleeper))?;
        let log = Self { database, host: access.host.to_owned(), spool: access.spool.map(Path::to_owned) };
        log.write_late()?;
        log.mark_interrupted()?;
        Ok(log)
    }

    /// Carries out one statement: `?` stands for values everywhere, so that the same text serves every server. How many
    /// rows it found. A statement may be sent twice when a connection dies: it must bear that.
    ///
    /// # Errors
    /// [`AuditError::Gone`] when the server is away, [`AuditError::Database`] when it says no.
    pub(crate) fn execute(&self, sql: &'static str, args: &[Arg]) -> Result<u64, AuditError> {
        self.database.execute(sql, args)
    }

    /// The rows of one query.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(crate) fn fetch(&self, sql: &'static str, args: &[Arg]) -> Result<Vec<Row>, AuditError> {
        self.database.fetch(sql, args)
    }

    /// Carries out all of `work` or nothing of it. It may be begun anew, so it must change nothing else; and it must not
    /// use the log but by what it is given. It only writes: what it expects to find stands in the `WHERE`.
    ///
    /// # Errors
    /// Those of `work`, and of [`Self::execute`].
    pub(crate) fn transaction<T>(&self, work: impl FnMut(&mut Transaction<'_>) -> Result<T, AuditError>) -> Result<T, AuditError> {
        self.database.transaction(work)
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
        self.transaction(|transaction| {
            for (start, end) in rows {
                let id = LogId::new(LogKind::Backup, start)?;
                transaction.execute(statements::insert(id.kind), &begun(&id, start))?;
                transaction.execute(statements::complete(id.kind), &ended(&id, end))?;
            }
            Ok(())
        })
    }

    /// Completes a row. A second completion changes nothing. While the server is away it is kept in a file of the spool.
    ///
    /// # Errors
    /// As [`Self::execute`]; [`AuditError::Create`] when it cannot be kept either.
    pub fn end(&self, id: LogId, end: &LogEnd) -> Result<(), AuditError> {
        match self.execute(statements::complete(id.kind), &ended(&id, end)) {
            Err(error) => self.keep_for_later(&id, end, error),
            Ok(_) => Ok(()),
        }
    }

    /// The newest rows of one project or of all, newest first.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn logs(&self, project: Option<&str>, limit: u32) -> Result<Vec<LogRow>, AuditError> {
        let rows = match project {
            None => self.fetch(statements::LIST_ALL, args![limit]),
            Some(project) => self.fetch(statements::LIST_PROJECT, args![project, project, project, limit]),
        };
        rows?.iter().map(read_row).collect()
    }

    /// The newest rows of `test_logs` of this host about one project and one action, newest first.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn tests(&self, project: &str, action: &str, limit: u32) -> Result<Vec<LogRow>, AuditError> {
        let rows = self.fetch(statements::LIST_TESTS, args![project, &self.host, action, limit])?;
        rows.iter().map(read_row).collect()
    }

    /// How many runs have tested a project on this host with one action, but for those of the target `without`.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn count_tests(&self, project: &str, action: &str, without: &str) -> Result<u64, AuditError> {
        let rows = self.fetch(statements::COUNT_TESTS, args![project, &self.host, action, without])?;
        let count = rows.first().map_or(Ok(0), |row| row.int("counted"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The newest runs of a project, newest first.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn runs(&self, project: &str, limit: u32) -> Result<Vec<LogRow>, AuditError> {
        self.fetch(statements::LIST_RUNS, args![project, limit])?.iter().map(read_row).collect()
    }

    /// When the runs of a project since `since` that committed something began, and what they stored.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn stored_since(&self, project: &str, since: Timestamp) -> Result<Vec<(Timestamp, u64)>, AuditError> {
        let rows = self.fetch(statements::STORED_SINCE, args![project, since])?;
        rows.iter().map(|row| Ok((row.time("started_at")?, u64::try_from(row.int("bytes_added")?).unwrap_or(0)))).collect()
    }

    /// When the first run of a project that committed something began, as text.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn first_commit(&self, project: &str) -> Result<Option<String>, AuditError> {
        let rows = self.fetch(statements::FIRST_COMMIT, args![project, &self.host])?;
        rows.first().map_or(Ok(None), |row| row.opt_text("earliest"))
    }

    fn begin(&self, kind: LogKind, start: &LogStart) -> Result<LogId, AuditError> {
        self.write_late()?;
        let id = LogId::new(kind, start)?;
        match self.execute(statements::insert(kind), &begun(&id, start)) {
            // Its key is random: the one that is there was sent over a connection that died before it answered.
            Err(error) if error.is_duplicate() => Ok(id),
            written => written.map(|_| id),
        }
    }

    /// Rows of this host whose process has died, and runs of other hosts whose lease has expired, become `interrupted`.
    pub(crate) fn mark_interrupted(&self) -> Result<(), AuditError> {
        self.mark_expired()?;
        for kind in LogKind::ALL {
            for row in self.fetch(statements::running(kind), args![&self.host])? {
                self.mark_if_dead(kind, &row)?;
            }
        }
        Ok(())
    }

    fn mark_if_dead(&self, kind: LogKind, row: &Row) -> Result<(), AuditError> {
        let (id, pid, key) = (row.text("id")?, row.int("pid")?, row.text("process_key")?);
        if process_key::is_alive(pid, &key) {
            return Ok(());
        }
        let message = format!("process {pid} ended without completing this row: it was killed, or the machine stopped");
        self.execute(statements::interrupt(kind), args![message, id]).map(drop)
    }

    /// Closes the database in order; dropping it does so too, a little less tidily.
    pub fn close(self) {
        self.database.close();
    }
}

impl LogId {
    fn new(kind: LogKind, start: &LogStart) -> Result<Self, AuditError> {
        Ok(Self { kind, id: new_id(start.started_at)?, started_at: start.started_at })
    }
}

/// The values of [`statements::insert`].
fn begun(id: &LogId, start: &LogStart) -> [Arg; 16] {
    let stores = serde_json::json!(start.stores).to_string();
    let process = std::process::id();
    [
        Arg::from(&id.id),
        Arg::from(&start.run_id),
        Arg::from(&start.project),
        Arg::from(&start.host),
        Arg::from(&start.action),
        Arg::from(start.started_at),
        Arg::from(&start.snapshot),
        Arg::from(stores),
        Arg::from(&start.target),
        Arg::from(clipped(&start.strategy, 128)),
        Arg::from(&start.strategy_digest),
        Arg::from(&start.started_by),
        Arg::from(clipped(&start.user, 128)),
        Arg::from(&start.program),
        Arg::from(process),
        Arg::from(process_key::of(process).unwrap_or_default()),
    ]
}

/// The values of [`statements::complete`].
fn ended(id: &LogId, end: &LogEnd) -> [Arg; 11] {
    let duration = end.ended_at.as_microsecond().saturating_sub(id.started_at.as_microsecond()) / 1000;
    [
        Arg::from(&end.status),
        Arg::from(end.ended_at),
        Arg::from(duration),
        Arg::from(&end.snapshot),
        Arg::from(end.files),
        Arg::from(end.bytes),
        Arg::from(end.bytes_added),
        Arg::from(end.problems),
        Arg::from(&end.message),
        Arg::from(end.details.to_string()),
        Arg::from(&id.id),
    ]
}

/// As much as a column takes: a server refuses more.
fn clipped(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
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

fn read_row(row: &Row) -> Result<LogRow, AuditError> {
    Ok(LogRow {
        kind: row.text("kind")?,
        id: row.text("id")?,
        run_id: row.text("run_id")?,
        project: row.text("project")?,
        host: row.text("host")?,
        action: row.text("action")?,
        status: row.text("status")?,
        started_at: row.text("started_at")?,
        ended_at: row.opt_text("ended_at")?,
        duration_ms: row.opt_int("duration_ms")?,
        snapshot: row.opt_text("snapshot")?,
        stores: serde_json::from_str(&row.text("stores")?).unwrap_or_default(),
        target: row.text("target")?,
        strategy: row.text("strategy")?,
        strategy_digest: row.text("strategy_digest")?,
        files: row.int("files")?,
        bytes: row.int("bytes")?,
        bytes_added: row.int("bytes_added")?,
        problems: row.int("problems")?,
        message: row.text("message")?,
        details: serde_json::from_str(&row.text("details")?).unwrap_or_default(),
        started_by: row.text("started_by")?,
        user: row.text("user_name")?,
        program: row.text("program")?,
    })
}

#[cfg(test)]
mod tests;
