//! The database behind the log: one connection, opened again when the server went away.
//!
//! A statement that meets a dead connection is sent once more over a new one. It may then have been carried out twice, so
//! every statement is one that can be: it inserts under a key of its own, or says in its `WHERE` what it expects to find.
//! A transaction is never sent twice by itself: when it meets a dead connection, it fails.

use super::{
    AuditError,
    address::Address,
    connection::{Connection, is_gone},
    error::failed,
    migrations,
    values::{Arg, Row},
};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::runtime::Runtime;

/// Waits, before a server is asked again.
pub(super) type Sleeper = std::sync::Arc<dyn Fn(Duration) + Send + Sync>;

/// Between one attempt to reach a server and the next, when nothing has been begun yet.
const OPENING: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// The same in the middle of work: long enough for a server that is started again.
const GOING_ON: [Duration; 5] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];
/// Between one attempt to open a file that another process is opening and the next.
const BUSY: Duration = Duration::from_millis(50);
const BUSY_TRIES: u32 = 40;
/// The tables are brought up to date within this time.
const MIGRATING: Duration = Duration::from_secs(300);
/// How often a transaction is begun that the server undoes because of another one.
const CONFLICTS: usize = 5;

pub(super) struct Database {
    runtime: Runtime,
    address: Address,
    sleeper: Sleeper,
    /// It was waited for in vain: until it answers again nobody else waits.
    given_up: AtomicBool,
    connection: Mutex<Option<Connection>>,
}

impl Database {
    /// Opens the database and brings its tables up to date.
    pub(super) fn open(address: Address, sleeper: Sleeper) -> Result<Self, AuditError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AuditError::Runtime)?;
        if let Address::Sqlite(options) = &address {
            migrations::make_private(options.get_filename())?;
        }
        let database = Self { runtime, address, sleeper, given_up: AtomicBool::new(false), connection: Mutex::new(None) };
        let mut connection = database.connect(&OPENING)?;
        // Nothing else here waits without a bound, and everybody waits for this.
        let migrated = database.runtime.block_on(async { tokio::time::timeout(MIGRATING, migrations::run(&mut connection)).await });
        migrated.map_err(|_| database.gone(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))??;
        *database.slot() = Some(connection);
        Ok(database)
    }

    pub(super) fn execute(&self, sql: &'static str, args: &[Arg]) -> Result<u64, AuditError> {
        self.twice("write", |runtime, connection| runtime.block_on(connection.execute(sql, args)))
    }

    pub(super) fn fetch(&self, sql: &'static str, args: &[Arg]) -> Result<Vec<Row>, AuditError> {
        self.twice("read", |runtime, connection| runtime.block_on(connection.fetch(sql, args)))
    }

    /// The clock of the server; none where the database is a file.
    pub(super) fn server_ms(&self) -> Result<Option<i64>, AuditError> {
        let Some(sql) = self.address.clock() else { return Ok(None) };
        self.fetch(sql, &[])?.first().map(|row| row.int("ms")).transpose()
    }

    /// Carries out all of `work` or nothing of it; begins anew when the server undid it because of another transaction.
    pub(super) fn transaction<T>(&self, mut work: impl FnMut(&mut Transaction<'_>) -> Result<T, AuditError>) -> Result<T, AuditError> {
        let mut attempt = 1;
        loop {
            match self.transaction_once(&mut work) {
                Err(error) if error.is_conflict() && attempt < CONFLICTS => attempt += 1,
                ended => return ended,
            }
        }
    }

    fn transaction_once<T>(&self, work: &mut impl FnMut(&mut Transaction<'_>) -> Result<T, AuditError>) -> Result<T, AuditError> {
        let mut slot = self.slot();
        self.twice_in(&mut slot, "write", |runtime, connection| runtime.block_on(connection.begin()))?;
        // Outside of the slot meanwhile: after a panic it must not be used again.
        let Some(mut connection) = slot.take() else { return Err(self.gone(sqlx::Error::PoolClosed)) };
        let mut transaction = Transaction { database: self, connection: &mut connection };
        let ended = match work(&mut transaction) {
            Ok(value) => transaction.plain("COMMIT").map(|()| value),
            Err(error) => Err(error),
        };
        let is_clean = ended.is_ok() || self.runtime.block_on(connection.plain("ROLLBACK")).is_ok();
        if is_clean {
            *slot = Some(connection);
        }
        ended
    }

    /// Closes it in order.
    pub(super) fn close(self) {
        let connection = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connection {
            self.runtime.block_on(connection.close());
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn twice<T>(&self, what: &'static str, work: impl Fn(&Runtime, &mut Connection) -> Result<T, sqlx::Error>) -> Result<T, AuditError> {
        self.twice_in(&mut self.slot(), what, work)
    }

    /// Over the connection that there is; when that turns out to be dead, once more over a new one.
    fn twice_in<T>(
        &self,
        slot: &mut Option<Connection>,
        what: &'static str,
        work: impl Fn(&Runtime, &mut Connection) -> Result<T, sqlx::Error>,
    ) -> Result<T, AuditError> {
        if let Some(connection) = slot {
            match work(&self.runtime, connection) {
                Err(error) if self.went_away(&error) => *slot = None,
                ended => return ended.map_err(failed(what)),
            }
        }
        let connection = slot.insert(self.connect(&GOING_ON)?);
        match work(&self.runtime, connection) {
            Err(error) if self.went_away(&error) => {
                *slot = None;
                Err(self.gone(error))
            }
            ended => ended.map_err(failed(what)),
        }
    }

    /// A new connection; a server that is away is asked again a few times, once for all.
    fn connect(&self, waits: &[Duration]) -> Result<Connection, AuditError> {
        let mut waits = waits.iter().take_while(|_| !self.given_up.load(Ordering::Relaxed));
        let mut busy = BUSY_TRIES;
        loop {
            let error = match self.runtime.block_on(Connection::open(&self.address)) {
                Ok(connection) => {
                    self.given_up.store(false, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => error,
            };
            if self.is_busy(&error) && busy > 0 {
                busy -= 1;
                (self.sleeper)(BUSY);
                continue;
            }
            if !self.went_away(&error) {
                return Err(failed("open")(error));
            }
            let Some(wait) = waits.next() else {
                self.given_up.store(true, Ordering::Relaxed);
                return Err(self.gone(error));
            };
            (self.sleeper)(*wait);
        }
    }

    /// SQLite waits for no lock while a file is given a log of its own (WAL): who opens it at that moment is refused at once.
    fn is_busy(&self, error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(|error| error.code());
        self.address.is_file() && matches!(code.as_deref(), Some("5" | "261" | "517"))
    }

    fn went_away(&self, error: &sqlx::Error) -> bool {
        !self.address.is_file() && is_gone(error)
    }

    fn gone(&self, source: sqlx::Error) -> AuditError {
        AuditError::Gone { server: self.address.server(), source }
    }

    fn told(&self, what: &'static str, error: sqlx::Error) -> AuditError {
        if self.went_away(&error) { self.gone(error) } else { failed(what)(error) }
    }
}

/// Statements that are carried out together or not at all. The log itself must not be used before it ends.
pub(crate) struct Transaction<'a> {
    database: &'a Database,
    connection: &'a mut Connection,
}

impl Transaction<'_> {
    /// As [`super::AuditLog::execute`].
    pub(crate) fn execute(&mut self, sql: &'static str, args: &[Arg]) -> Result<u64, AuditError> {
        let done = self.database.runtime.block_on(self.connection.execute(sql, args));
        done.map_err(|error| self.database.told("write", error))
    }

    fn plain(&mut self, sql: &'static str) -> Result<(), AuditError> {
        let done = self.database.runtime.block_on(self.connection.plain(sql));
        done.map_err(|error| self.database.told("write", error))
    }
}
