//! Databases: the host dumps and restores, the strategy only names. SQL lives behind this module.
//!
//! An [`Engine`] is one database of one connection. It says whether a dump would be whole ([`Engine::preflight`]),
//! writes dumps as streams ([`Engine::begin_dump`], [`Dump::write`]) and loads one into a named target
//! ([`Engine::restore`]). A dump that ends without an error has ended well in every respect: the dumping program's
//! exit status, the dump's own completion mark and the counts of what is in it. Nothing less is ever `Ok`.
//!
//! Never here: a password in an argument list, in the environment of a child, in an error or in a log.
//!
//! Read `connection` (which database), this file (the seams), then one engine: `mongodb`, `mysql`, `postgresql`, `redis` or `sqlite`.

mod connection;
mod erase;
mod glob;
mod mongodb;
mod mysql;
mod postgresql;
mod private;
mod redis;
mod sqlite;
mod url;

pub(crate) use connection::read_beneath;
pub use connection::{Overrides, ResolvedConnection};
pub use erase::{ErasedRows, RowRule, Subjects, hash as subject_hash};
pub(crate) use glob::matches as glob_matches;
pub(crate) use redis::{Answer as RedisAnswer, answer as redis_answer, check_dump as check_redis_dump, compare_loaded as compare_redis};
pub use sqlite::SqliteScratch;

use crate::process::ProcessError;
use havun_model::{Cancel, DatabaseRecord, ScratchDatabase};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// What the engine of a connection would need to know of the machine.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// Tables whose rows (not whose schema) are left out; `*` matches any run of characters.
    pub exclude_rows: Vec<String>,
    /// A private folder for an engine that must copy before it can read (SQLite); the copy is gone afterwards.
    pub scratch_dir: PathBuf,
    /// How long to wait for a lock that somebody else holds.
    pub lock_wait: Duration,
}

/// What is known before a dump begins.
#[derive(Debug, Clone, Default)]
pub struct Preflight {
    /// As the server says it; the library's own version where there is no server.
    pub server_version: String,
    /// As the dumping program says it.
    pub client_version: String,
    /// Tables that hold rows, sorted.
    pub tables: Vec<String>,
    /// What the operator should know: a table that no snapshot covers, and the like.
    pub warnings: Vec<String>,
}

/// One form of a dump: `databases/<item>.<extension>` in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpForm {
    /// `sql`, `sqlite`, …
    pub extension: &'static str,
    /// The form that a restore reads; exactly one of an engine's forms.
    pub restorable: bool,
}

/// What a finished dump says of itself.
#[derive(Debug, Clone, Default)]
pub struct DumpReport {
    /// For the snapshot.
    pub record: DatabaseRecord,
    /// The dump is whole, but what was dumped is not sound (a damaged SQLite file): the item is `partial`.
    pub problems: Vec<String>,
}

/// A dump under way: every form comes from the same state of the database, as far as the engine can hold one.
pub trait Dump: Send {
    /// The forms, in the byte order of their extensions.
    fn forms(&self) -> &[DumpForm];

    /// Writes one form from its first byte to its last. After an error what was written is void; when
    /// [`DatabaseError::is_retryable`], the same form may be written again, into a new sink.
    ///
    /// # Errors
    /// Whatever keeps the dump from being whole.
    fn write(&mut self, form: DumpForm, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError>;

    /// What the forms written say of themselves.
    fn finish(self: Box<Self>) -> DumpReport;
}

/// Writes a whole stored dump; an engine may ask for it more than once (to prove it in a scratch database first).
pub type DumpSource<'a> = &'a (dyn Fn(&mut (dyn Write + Send)) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Sync);

/// Owner and mode of a restored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// Permission bits.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Where a dump goes.
#[derive(Debug, Clone)]
pub struct RestoreTarget {
    /// A database of this name on the connection's server, or a file for SQLite; `None` is the connection's own.
    pub database: Option<String>,
    /// Whether a target that holds something may be replaced. Otherwise it is refused, untouched.
    pub replace: bool,
    /// Where the present content is put before it is replaced, when it cannot be kept as a database.
    pub safety_dir: PathBuf,
    /// The restore's time in UTC, as `20261128_003100`: a part of the name under which the present content is kept.
    pub stamp: String,
    /// For an engine that writes a file; else the replaced file's, else the folder's owner with 0640.
    pub owner: Option<FileOwner>,
    /// How long to wait for a lock that somebody else holds.
    pub lock_wait: Duration,
    /// Whoever is erased from the dump before it can be seen in the target; by engines that can
    /// ([`RestoreOutcome::erased`]).
    pub erase: Option<EraseFirst>,
}

/// What a load erases from a dump while it is in a scratch database, or beside the file that it will be.
#[derive(Debug, Clone)]
pub struct EraseFirst {
    /// What is erased.
    pub rules: Vec<RowRule>,
    /// Whose.
    pub subjects: Subjects,
    /// A target that people use does not get a dump from which they could not be erased.
    pub must: bool,
}

impl EraseFirst {
    /// What came of erasing, as [`RestoreOutcome::erased`] has it.
    ///
    /// # Errors
    /// [`DatabaseError::NotErasedFirst`] where it must have been done.
    fn settle(&self, done: Result<Vec<ErasedRows>, DatabaseError>) -> Result<Result<Vec<ErasedRows>, String>, DatabaseError> {
        match done {
            Err(DatabaseError::Cancelled) => Err(DatabaseError::Cancelled),
            Err(source) if self.must => Err(DatabaseError::NotErasedFirst { source: Box::new(source) }),
            done => Ok(done.map_err(|error| crate::error::one_line(&error))),
        }
    }
}

/// What stands in a target, and what a restore would do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// As [`Engine::describe`], of the target.
    pub database: String,
    /// "12 tables, 2 views"; `None` when it is empty or missing.
    pub content: Option<String>,
    /// What becomes of the content when it is replaced: "is kept as database `shop_before_20261128_003100`".
    pub fate: String,
    /// What the operator should know: what an interrupted restore has left behind, and where.
    pub notes: Vec<String>,
}

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct RestoreOutcome {
    /// The database or file that now holds the dump.
    pub database: String,
    /// A file with the content that was there before, when there was some and it is not kept as a database.
    pub safety_dump: Option<PathBuf>,
    /// The database that holds the content that was there before, under another name on the same server, until the
    /// operator drops it.
    pub kept: Option<String>,
    /// Tables whose row counts (and checksums, where recorded) were compared with the record.
    pub tables_verified: u64,
    /// Rows in them.
    pub rows_verified: u64,
    /// What differs from the record though it was loaded without an error.
    pub problems: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What [`RestoreTarget::erase`] did, one answer for each rule, or why it could not; `None` where nobody tried.
    pub erased: Option<Result<Vec<ErasedRows>, String>>,
}

/// One database, ready to be dumped or restored. New engines implement this and join [`engine`].
pub trait Engine: Send + Sync {
    /// "MariaDB database `shop` at 127.0.0.1:3306", for people; no secret.
    fn describe(&self) -> String;

    /// Whether a dump would be whole: the program is there, the server answers, the user may see everything.
    ///
    /// # Errors
    /// What stands in the way, with the statement that would grant what is missing.
    fn preflight(&self, cancel: &Cancel) -> Result<Preflight, DatabaseError>;

    /// Does the preflight and prepares a dump.
    ///
    /// # Errors
    /// As [`Self::preflight`]; for SQLite also whatever befalls the copy.
    fn begin_dump<'a>(&'a self, options: &DumpOptions, cancel: &Cancel) -> Result<Box<dyn Dump + 'a>, DatabaseError>;

    /// What `target` holds, without changing it: what [`Self::restore`] would refuse or replace.
    ///
    /// # Errors
    /// When it cannot be told: the server is away, the login is wrong.
    fn look(&self, target: &RestoreTarget, cancel: &Cancel) -> Result<Present, DatabaseError>;

    /// Loads a dump into `target` and compares it with `record`. A target that holds something is refused, or
    /// (`replace`) replaced only after the new dump has proved to load, and kept: as a database, or in a file.
    ///
    /// # Errors
    /// When the target does not hold the whole dump afterwards; the error says what it holds then.
    fn restore(
        &self,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<RestoreOutcome, DatabaseError>;

    /// Opens a database or file (as [`RestoreTarget::database`]) for the checks of a strategy, read-only.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open_scratch(&self, database: Option<&str>) -> Result<Box<dyn ScratchDatabase>, DatabaseError>;

    /// Erases from a restored database (as [`RestoreTarget::database`]), in one transaction: what each of `rules` finds of
    /// `subjects`. Returns one answer for each rule.
    ///
    /// # Errors
    /// When anything of it could not be done: nothing was changed then, unless the error says otherwise.
    fn erase(
        &self,
        _database: Option<&str>,
        _rules: &[RowRule],
        _subjects: &Subjects,
        _cancel: &Cancel,
    ) -> Result<Vec<ErasedRows>, DatabaseError> {
        Err(DatabaseError::CannotErase { database: self.describe() })
    }

    /// What tells the server from every other one, so far as it can be asked: two connections with the same answer lead to one
    /// server, whatever way they take.
    fn server_identity(&self) -> Option<String> {
        None
    }

    /// Loads a dump on a server for drills, under a name that the drill has made up and that nothing else has.
    ///
    /// # Errors
    /// As [`Self::restore`].
    fn load_scratch(
        &self,
        name: &str,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<RestoreOutcome, DatabaseError> {
        self.restore(dump, record, &RestoreTarget { database: Some(name.to_owned()), ..target.clone() }, cancel)
    }

    /// Drops what [`Self::load_scratch`] made under `database`, and nothing else; a missing one is fine.
    ///
    /// # Errors
    /// When it is still there afterwards.
    fn drop_scratch(&self, database: &str) -> Result<(), DatabaseError> {
        Err(DatabaseError::NotDropped { database: database.to_owned() })
    }
}

/// The engine of a connection.
///
/// # Errors
/// [`DatabaseError::UnknownEngine`], or a parameter that the engine needs and that is not there.
pub fn engine(connection: ResolvedConnection) -> Result<Box<dyn Engine>, DatabaseError> {
    match connection.engine() {
        "mariadb" | "mysql" => Ok(Box::new(mysql::Mysql::new(connection)?)),
        "mongodb" => Ok(Box::new(mongodb::Mongodb::new(connection)?)),
        "postgresql" => Ok(Box::new(postgresql::Postgresql::new(connection)?)),
        "redis" => Ok(Box::new(redis::Redis::new(connection)?)),
        "sqlite" => Ok(Box::new(sqlite::Sqlite::new(connection)?)),
        other => Err(DatabaseError::UnknownEngine { engine: other.to_owned() }),
    }
}

/// Why a database could not be dumped or restored.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No engine of this name.
    #[error("there is no engine `{engine}` for databases; this build knows mariadb, mongodb, mysql, postgresql, redis and sqlite")]
    UnknownEngine {
        /// As planned or configured.
        engine: String,
    },
    /// A parameter of the connection is missing or senseless.
    #[error("connection `{connection}`: {parameter} {why}")]
    Parameter {
        /// The connection.
        connection: String,
        /// The parameter.
        parameter: String,
        /// What is wrong; never the value of a secret.
        why: String,
    },
    /// A dotenv file that the connection names cannot be read.
    #[error("connection `{connection}`: cannot read {file} beneath the project's root")]
    EnvFile {
        /// The connection.
        connection: String,
        /// Relative to the root.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A dotenv file that the connection names breaks the rules.
    #[error("connection `{connection}`: {file} is not a dotenv file")]
    EnvSyntax {
        /// The connection.
        connection: String,
        /// Relative to the root.
        file: String,
        /// Why.
        source: havun_dotenv::DotenvError,
    },
    /// The strategy names something that only the operator may name.
    #[error("connection `{connection}`: {what}; to allow it, list it under [projects.NAME.databases.{connection}]")]
    NotGranted {
        /// The connection.
        connection: String,
        /// What was asked for.
        what: String,
    },
    /// No client program on the PATH.
    #[error("no client for {engine} on this machine: none of {} is on the PATH", tried.join(", "))]
    NoClient {
        /// `mariadb` or `mysql`.
        engine: String,
        /// Names of programs.
        tried: Vec<String>,
    },
    /// Every client program on this machine is older than the server, and would refuse it.
    #[error("{client} is older than the server ({server}): install {install} or newer")]
    OldClient {
        /// The newest there is.
        client: String,
        /// As the server says it.
        server: String,
        /// What to install.
        install: String,
    },
    /// The server cannot be reached or refuses the login.
    #[error("cannot connect to {database}: {message}")]
    Connect {
        /// As [`Engine::describe`].
        database: String,
        /// As the client says it.
        message: String,
    },
    /// No such database on the server.
    #[error("there is no {database}")]
    NoDatabase {
        /// As [`Engine::describe`].
        database: String,
    },
    /// A dump by this user would not be whole.
    #[error("a dump by {user} would lack {lacking}; as an administrator run: {grant}")]
    Privileges {
        /// `'user'@'host'` as the server sees it.
        user: String,
        /// What would be missing.
        lacking: String,
        /// The statement to run.
        grant: String,
    },
    /// A restore by this user is not possible.
    #[error("{user} may not {what}; nothing was changed; as an administrator run: {grant}")]
    RestoreRights {
        /// The role.
        user: String,
        /// What it may not do.
        what: String,
        /// The statement to run.
        grant: String,
    },
    /// The dump was loaded and proved, but could not be put in the place of the target.
    #[error("{database} was not replaced and is as it was")]
    NotSwapped {
        /// The target.
        database: String,
        /// Why.
        #[source]
        source: Box<DatabaseError>,
    },
    /// Somebody else changes a table, and was still at it after the wait.
    #[error("a table of {database} is locked by somebody who changes it: {message}")]
    Busy {
        /// Which.
        database: String,
        /// As the client says it.
        message: String,
    },
    /// A client program failed.
    #[error("{program} failed ({status}): {message}")]
    Client {
        /// Program.
        program: String,
        /// "exit status 2", "signal 9".
        status: String,
        /// What it said, bounded.
        message: String,
    },
    /// A table changed its definition during the dump.
    #[error("a table changed its definition during the dump: {message}")]
    Changed {
        /// As the client says it.
        message: String,
    },
    /// The dump ended without its completion mark.
    #[error("the dump is cut short: {what}")]
    Truncated {
        /// What is missing.
        what: String,
    },
    /// The dump holds fewer or more objects than the database.
    #[error("the dump is not whole: {what}")]
    Counts {
        /// What differs.
        what: String,
    },
    /// Somebody else holds a lock.
    #[error("{database} is locked by another program; waited {waited:?}")]
    Locked {
        /// Which.
        database: String,
        /// How long.
        waited: Duration,
    },
    /// A database file is not there.
    #[error("there is no database file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is not a database of this engine.
    #[error("{} is not a SQLite database: {why}", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A crash left a rollback journal, which only a connection that may write can play back.
    #[error("{} was left within a transaction by a crash; open it once with its application, or run: sqlite3 {} .tables", path.display(), path.display())]
    HotJournal {
        /// The file.
        path: PathBuf,
    },
    /// SQLite says no.
    #[error("cannot {what} {}", path.display())]
    Sqlite {
        /// What was tried: "read".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The stored dump does not load, or does not hold what its record says; the target is untouched or, when it
    /// was new, empty again.
    #[error("the dump of `{database}` does not load: {what}")]
    BadDump {
        /// The database as recorded.
        database: String,
        /// What went wrong.
        what: String,
    },
    /// The stored dump holds what could reach beyond its database; it went no further than a scratch database.
    #[error("the dump is refused: {what}")]
    Refused {
        /// What, by its first words.
        what: String,
    },
    /// The server takes no statement as long as one of the dump's.
    #[error(
        "the server takes statements of {allowed} bytes at most (max_allowed_packet), and the dump holds a longer one, or it went away; as an administrator run: SET GLOBAL max_allowed_packet = 1073741824;"
    )]
    Packet {
        /// The server's limit, in bytes.
        allowed: String,
    },
    /// A database could be neither swapped nor brought back to what it was.
    #[error("{database} is not whole: its tables are in database `{kept}`, its views, triggers, routines and events in {}, and the restored ones in `{scratch}`", definitions.display())]
    HalfSwapped {
        /// The target.
        database: String,
        /// Holds the former tables.
        kept: String,
        /// Holds the restored tables.
        scratch: String,
        /// SQL.
        definitions: PathBuf,
        /// Why.
        #[source]
        source: Box<DatabaseError>,
    },
    /// The target of a restore holds something.
    #[error("{database} is not empty ({content}); nothing was changed")]
    NotEmpty {
        /// The target.
        database: String,
        /// What is in it.
        content: String,
    },
    /// The target could not be replaced after its content had been saved.
    #[error("{database} was not replaced; its former content is in {}", safety_dump.display())]
    Replace {
        /// The target.
        database: String,
        /// Where the former content is.
        safety_dump: PathBuf,
        /// Why.
        #[source]
        source: Box<DatabaseError>,
    },
    /// A load into an empty target ended early, and nothing can take back what it loaded.
    #[error("{database} was empty and may now hold a part of the dump: look, and drop it before the next try")]
    PartlyLoaded {
        /// The target.
        database: String,
        /// Why.
        #[source]
        source: Box<DatabaseError>,
    },
    /// A dump could not be proved, or what is there not saved; the database that was made to prove it cannot be dropped by us.
    #[error("{database} was not replaced and is as it was; database `{scratch}` holds a part of the dump: drop it by hand")]
    ScratchLeft {
        /// The target.
        database: String,
        /// Holds a part of the dump.
        scratch: String,
        /// Why.
        #[source]
        source: Box<DatabaseError>,
    },
    /// A database that is replaced collection by collection was replaced in part.
    #[error("{database} is replaced in part; all of its former content is in {}, all of the dump in database `{scratch}`", safety_dump.display())]
    HalfReplaced {
        /// The target.
        database: String,
        /// Where the former content is.
        safety_dump: PathBuf,
        /// Holds the restored collections.
        scratch: String,
        /// Why.
        #[source]
        source: Box<DatabaseError>,
    },
    /// This engine knows no way to erase.
    #[error("this program cannot erase rows of a {database}; erase them by its own means")]
    CannotErase {
        /// As [`Engine::describe`].
        database: String,
    },
    /// A live target would have brought back people who were erased.
    #[error(
        "nothing was put in place, because whoever is in the erasure register could not be erased from the dump first; \
         restore it under another name with --database-as, and erase there by hand"
    )]
    NotErasedFirst {
        /// Why.
        source: Box<DatabaseError>,
    },
    /// Something was to be erased and is still there.
    #[error("not everything was erased from {database}: {what}")]
    NotErased {
        /// As [`Engine::describe`].
        database: String,
        /// What is left; never an identifier.
        what: String,
    },
    /// The stored dump could not be read.
    #[error("cannot read the stored dump")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What takes the dump failed.
    #[error("cannot store the dump")]
    Sink(#[source] io::Error),
    /// A child could not be run.
    #[error(transparent)]
    Process(ProcessError),
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// "write", "rename", …
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine drops no databases.
    #[error("database `{database}` has to be dropped by hand")]
    NotDropped {
        /// The database.
        database: String,
    },
    /// Stopped by the operator.
    #[error("stopped before the end")]
    Cancelled,
}

impl From<ProcessError> for DatabaseError {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Cancelled { .. } => Self::Cancelled,
            error => Self::Process(error),
        }
    }
}

impl DatabaseError {
    /// Whether the same dump may well succeed when it is begun again at once.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Busy { .. })
    }

    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// The extension of a file in the folder of what a restore replaced: the target that its first line names is not whole.
pub const UNFINISHED: &str = "unfinished";

/// How often a dump is written before a [retryable](DatabaseError::is_retryable) error is final.
pub const DUMP_ATTEMPTS: u32 = 3;

/// The first of `stem.extension`, `stem-2.extension`, … in `folder` that does not exist.
fn free_path(folder: &Path, stem: &str, extension: &str) -> PathBuf {
    let name = |n: u32| if n == 1 { format!("{stem}.{extension}") } else { format!("{stem}-{n}.{extension}") };
    (1..).map(|n| folder.join(name(n))).find(|path| !path.exists()).unwrap_or_else(|| folder.join(name(0)))
}
