//! Opening the database and bringing its tables up to date.

use super::AuditError;
use sqlx::{
    ConnectOptions as _, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

/// In the order of their numbers; a file that was ever released never changes.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long another writer is waited for.
const BUSY: Duration = Duration::from_secs(10);

pub(super) async fn open(url: &str) -> Result<SqliteConnection, AuditError> {
    let path = sqlite_path(url)?;
    make_private(path).map_err(|source| AuditError::Create { path: path.to_owned(), source })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY);
    let mut connection = options.connect().await.map_err(super::failed("open"))?;
    migrate(&mut connection).await.map_err(AuditError::Migrate)?;
    Ok(connection)
}

/// SQLite has no lock for migrations: who loses a race against another process finds the tables made the next time.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    for _ in 0..2 {
        if MIGRATIONS.run(&mut *connection).await.is_ok() {
            return Ok(());
        }
    }
    MIGRATIONS.run(connection).await
}

/// `sqlite:///var/lib/x.db` is `/var/lib/x.db`.
fn sqlite_path(url: &str) -> Result<&Path, AuditError> {
    let fault = |why: &str| AuditError::Url { why: why.to_owned() };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("has no scheme; write sqlite:///path/to/audit.db"))?;
    if scheme != "sqlite" {
        return Err(fault(&format!("is for `{scheme}`; this build keeps the audit log in sqlite only")));
    }
    let path = Path::new(rest);
    if path.is_absolute() { Ok(path) } else { Err(fault("needs an absolute path: sqlite:///path/to/audit.db")) }
}

/// Makes the file, readable by its owner only, and its folder where they are missing.
fn make_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
