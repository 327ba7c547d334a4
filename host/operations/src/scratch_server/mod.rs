//! Database servers of our own, for the length of a drill: started from the server programs that are installed, with
//! data in a folder of the drill's, reachable by a Unix socket only, and never by a production client.
//!
//! A dump is a stranger's program. So the server runs as a user without files (where we are root), has nothing but its
//! own folder to write to, listens on no network, runs no events; and the dump is loaded by a database user who owns the
//! scratch databases and nothing else. What it costs is durability, which a scratch server does not need.
//!
//! A server dies with this process ([`launch`]), and with [`ScratchServer`]; what outlives both is found by the folder
//! in its command line (`drill::leftovers`).
//!
//! Read `launch` (as whom and how a child is started), then `mysql`, `postgres`, `mongodb`, and `redis`, whose server is
//! started on the dump itself.

mod launch;
mod mongodb;
mod mysql;
mod postgres;
mod redis;

pub(crate) use launch::OsUser;

use crate::{
    databases::{DatabaseError, DumpSource, Overrides, ResolvedConnection},
    process::ProcessError,
};
use havun_model::{Cancel, Connection, DatabaseRecord};
use std::{
    io,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a server that was asked to stop may take before it is killed.
const STOPPING: Duration = Duration::from_secs(10);
/// How often a server that starts or stops is looked at.
const TICK: Duration = Duration::from_millis(25);
/// The longest path of a Unix socket, in bytes.
const LONGEST_SOCKET: usize = 107;
/// The database user who loads dumps.
const USER: &str = "havun_drill";

/// A kind of server that a drill can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    MariaDb,
    MySql,
    PostgreSql,
    MongoDb,
    /// One server for each dump: it loads it as it starts ([`ScratchServer::on_dump`]).
    Redis,
}

impl Family {
    /// The server that a recorded dump is loaded into. `None` for an engine that needs another way: SQLite has no server, and
    /// Redis one for each dump.
    pub fn of(record: &DatabaseRecord) -> Option<Self> {
        match record.engine.as_str() {
            // The connection's word may be `mysql` for either; the server said what it is.
            "mariadb" | "mysql" if record.server_version.contains("MariaDB") => Some(Self::MariaDb),
            "mariadb" => Some(Self::MariaDb),
            "mysql" => Some(Self::MySql),
            "postgresql" => Some(Self::PostgreSql),
            "mongodb" => Some(Self::MongoDb),
            _ => None,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
            Self::PostgreSql => "PostgreSQL",
            Self::MongoDb => "MongoDB",
            Self::Redis => "Redis",
        }
    }
}

/// What else would do. A dump of Redis is always proved by a server here, whatever server it then goes to.
fn elsewhere(engine: &str) -> String {
    if engine == "redis" { String::new() } else { format!(", or name a scratch server at [drill.databases.{engine}]") }
}

/// Why there is no scratch server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScratchError {
    /// No server program on this machine.
    #[error("no {title} server is installed on this machine (looked for {}); install {package}{}", tried.join(", "), elsewhere(engine))]
    NotInstalled { title: &'static str, engine: &'static str, package: &'static str, tried: Vec<String> },
    /// The user that servers run as.
    #[error("there is no user `{user}` on this machine for scratch servers to run as; correct `user` in [drill]")]
    NoUser { user: String },
    /// The folder of a socket.
    #[error("the path {} is too long for a Unix socket; set `scratch_dir` in [drill] to a shorter one", path.display())]
    LongPath { path: PathBuf },
    /// The data folder could not be made.
    #[error("cannot prepare a scratch {title} server: {program} ended with {status}: {said}")]
    Prepare { title: &'static str, program: String, status: String, said: String },
    /// The server ended, or did not answer.
    #[error("the scratch {title} server {what}: {said}")]
    Start { title: &'static str, what: String, said: String },
    /// A server that starts with a dump does not take it.
    #[error("the dump does not load into the scratch {title} server: {said}")]
    DoesNotLoad { title: &'static str, said: String },
    /// It does not take it for what it lacks itself, which says nothing of the dump.
    #[error("the scratch {title} server ({version}) cannot take the dump: {what}")]
    Lacks { title: &'static str, version: String, what: String },
    /// The system refused something.
    #[error("cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// A child could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its connection could not be put together.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(String),
}

impl ScratchError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// The server is not there, or lacks something, which is no fault of the backup.
    pub fn is_of_this_host(&self) -> bool {
        matches!(self, Self::NotInstalled { .. } | Self::Lacks { .. } | Self::NoUser { .. } | Self::LongPath { .. } | Self::Io { .. })
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Process(ProcessError::Cancelled { .. }) | Self::Database(DatabaseError::Cancelled))
    }
}

/// A running server; stopped when it is dropped. Its folder is the caller's to remove.
pub(crate) struct ScratchServer {
    family: Family,
    folder: PathBuf,
    /// The socket, or the folder that it lies in, as the engine's connection wants it.
    socket: PathBuf,
    password: Zeroizing<String>,
    version: String,
    child: Child,
}

impl ScratchServer {
    /// Starts a server of `family` with everything in the new folder `folder`, whose parent `user` can reach.
    ///
    /// # Errors
    /// [`ScratchError::NotInstalled`], or what went wrong with the server's own words.
    pub fn start(family: Family, folder: &Path, user: &OsUser, cancel: &Cancel) -> Result<Self, ScratchError> {
        match family {
            Family::MariaDb | Family::MySql => mysql::start(family, folder, user, cancel),
            Family::PostgreSql => postgres::start(folder, user, cancel),
            Family::MongoDb => mongodb::start(folder, user, cancel),
            Family::Redis => Err(ScratchError::DoesNotLoad { title: family.title(), said: "it is started on a dump only".to_owned() }),
        }
    }

    /// Starts a Redis server that loads `dump` as it starts, and returns when it has.
    ///
    /// # Errors
    /// [`ScratchError::NotInstalled`], [`ScratchError::DoesNotLoad`], [`ScratchError::Lacks`], or what went wrong with the server's own
    /// words.
    pub fn on_dump(
        folder: &Path,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        user: &OsUser,
        cancel: &Cancel,
    ) -> Result<Self, ScratchError> {
        redis::start(folder, dump, record, user, cancel)
    }

    /// Everything that it has on the disk.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// As it says it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A login that may make and fill `database`.
    ///
    /// # Errors
    /// [`ScratchError::Database`].
    pub fn connection(&self, engine: &str, database: &str) -> Result<ResolvedConnection, ScratchError> {
        let planned = Connection { name: "drill".to_owned(), engine: engine.to_owned(), parameters: Vec::new() };
        let text = |text: &str| Zeroizing::new(text.to_owned());
        let mut overrides = Overrides::from([("socket", text(&self.socket.to_string_lossy())), ("database", text(database))]);
        // Of a server without accounts the socket, which is ours alone, keeps the door.
        if self.family != Family::MongoDb {
            overrides.insert("password", self.password.clone());
        }
        if !matches!(self.family, Family::MongoDb | Family::Redis) {
            overrides.insert("user", text(USER));
        }
        Ok(ResolvedConnection::resolve(&planned, &overrides, &self.folder)?)
    }

    /// Waits until `ready` says so.
    fn wait_until(&mut self, log: &Path, cancel: &Cancel, ready: impl Fn(&Self) -> bool) -> Result<(), ScratchError> {
        let deadline = Instant::now() + PATIENCE;
        let title = self.family.title();
        while !ready(self) {
            let failed = |what: String| ScratchError::Start { title, what, said: last_words(log) };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(failed(format!("ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(failed(format!("did not answer within {} seconds", PATIENCE.as_secs())));
            }
            if cancel.is_cancelled() {
                return Err(ScratchError::Process(ProcessError::Cancelled { program: title.to_owned() }));
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for ScratchServer {
    /// A PostgreSQL server is asked first, because it alone gives its shared memory back; nothing else is worth waiting for.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        if self.family == Family::PostgreSql && rustix::process::kill_process(pid, rustix::process::Signal::QUIT).is_ok() {
            let deadline = Instant::now() + STOPPING;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(TICK);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log, for an error.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let errors: Vec<&str> = lines.iter().copied().filter(|line| line.contains("ERROR") || line.contains("FATAL")).collect();
    let chosen = if errors.is_empty() { lines } else { errors };
    let from = chosen.len().saturating_sub(4);
    chosen.get(from..).unwrap_or_default().join("; ")
}

/// A password of 128 random bits.
fn new_password() -> Result<Zeroizing<String>, ScratchError> {
    let mut random = Zeroizing::new([0; 16]);
    getrandom::fill(random.as_mut_slice()).map_err(|e| ScratchError::Random(e.to_string()))?;
    Ok(Zeroizing::new(hex::encode(random.as_slice())))
}

/// A path for a socket that the kernel can take.
fn socket_path(path: PathBuf) -> Result<PathBuf, ScratchError> {
    if path.as_os_str().len() > LONGEST_SOCKET { Err(ScratchError::LongPath { path }) } else { Ok(path) }
}

#[cfg(test)]
mod tests;
