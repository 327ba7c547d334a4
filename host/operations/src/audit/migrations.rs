//! Bringing the tables up to date: one folder of files for every server.
//!
//! The files are portable; what a server needs besides is said in [`for_mysql`] and [`for_postgres`], so that no released
//! file has to change. A migration is known by the checksum of its file, whatever the server is.

use super::{AuditError, connection::Connection, error::failed};
use sqlx::{
    AssertSqlSafe, MySqlConnection, PgConnection, Row as _, SqlSafeStr as _, SqliteConnection,
    migrate::{MigrateError, Migration, Migrator},
};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

/// In the order of their numbers; a file that was ever released never changes.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Byte for byte, trailing spaces included: MariaDB's and MySQL's name for it, and what comes nearest in older servers.
const COLLATIONS: [&str; 3] = ["utf8mb4_nopad_bin", "utf8mb4_0900_bin", "utf8mb4_bin"];

/// Races for migrations of a file are over within this time.
const RACING: Duration = Duration::from_secs(30);
/// So often it may fail in the same place.
const TRIES: u32 = 4;
/// Names of locks are one for the whole server.
const MYSQL_LOCK: &str = "SELECT GET_LOCK(CONCAT('havun-backup ', MD5(DATABASE())), 60) AS held";
const MYSQL_UNLOCK: &str = "SELECT RELEASE_LOCK(CONCAT('havun-backup ', MD5(DATABASE()))) AS held";

pub(super) async fn run(connection: &mut Connection) -> Result<(), AuditError> {
    match connection {
        Connection::Sqlite(connection) => sqlite(connection).await.map_err(AuditError::Migrate),
        Connection::MySql(connection) => mysql(connection).await,
        Connection::Postgres(connection) => postgres(connection).await,
    }
}

/// SQLite has no lock for migrations: who loses a race against another process for one of them goes on with the next.
async fn sqlite(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let (begun, mut failed_at, mut failures) = (Instant::now(), None, 0);
    loop {
        let error = match MIGRATIONS.run(&mut *connection).await {
            Err(error @ (MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))) => error,
            ended => return ended,
        };
        let at = if let MigrateError::ExecuteMigration(_, version) = &error { Some(*version) } else { None };
        failures = if at == failed_at { failures + 1 } else { 1 };
        failed_at = at;
        // A race is lost once for each migration; what fails in one place again and again is no race.
        if failures > TRIES || begun.elapsed() >= RACING {
            return Err(error);
        }
    }
}

/// Under a lock of our own: the one of sqlx waits for a negative time, which MariaDB takes for no lock at all.
async fn mysql(connection: &mut MySqlConnection) -> Result<(), AuditError> {
    let row = sqlx::query(MYSQL_LOCK).fetch_one(&mut *connection).await.map_err(failed("open"))?;
    if row.try_get::<Option<i64>, _>("held").map_err(failed("open"))? != Some(1) {
        return Err(AuditError::Migrating);
    }
    let collation = collation(connection).await.map_err(failed("open"))?;
    let mut migrator = rewritten(|sql| for_mysql(sql, collation));
    migrator.set_locking(false);
    migrator.run(&mut *connection).await.map_err(AuditError::Migrate)?;
    sqlx::query(MYSQL_UNLOCK).execute(connection).await.map_err(failed("open"))?;
    Ok(())
}

async fn collation(connection: &mut MySqlConnection) -> Result<&'static str, sqlx::Error> {
    let rows = sqlx::query("SHOW COLLATION WHERE Charset = 'utf8mb4'").fetch_all(connection).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let best = COLLATIONS.into_iter().find(|best| names.iter().any(|name| name == best));
    best.ok_or_else(|| sqlx::Error::Protocol("the server knows no binary collation of utf8mb4".to_owned()))
}

/// sqlx takes an advisory lock; the session's `lock_timeout` bounds the wait for it.
async fn postgres(connection: &mut PgConnection) -> Result<(), AuditError> {
    match rewritten(for_postgres).run(connection).await {
        Err(MigrateError::Execute(sqlx::Error::Database(error))) if error.code().as_deref() == Some("55P03") => Err(AuditError::Migrating),
        ended => ended.map_err(AuditError::Migrate),
    }
}

/// The same migrations, known by the same checksums, in the words of one server.
fn rewritten(words: impl Fn(&str) -> String) -> Migrator {
    let rewrite =
        |migration: &Migration| Migration { sql: AssertSqlSafe(words(migration.sql.as_str())).into_sql_str(), ..migration.clone() };
    Migrator::with_migrations(MIGRATIONS.iter().map(rewrite).collect())
}

/// Names and ids are compared byte for byte whatever the database's default is, and a text may be longer than 64 KiB.
fn for_mysql(sql: &str, collation: &str) -> String {
    let options = format!(") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE {collation};");
    let line = |line: &str| if line == ");" { options.clone() } else { whole_word(line, "TEXT", "LONGTEXT") };
    sql.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Names, ids and times sort byte for byte whatever the database's default is.
fn for_postgres(sql: &str) -> String {
    let line = |line: &str| match line.split_once("VARCHAR(").and_then(|(before, rest)| Some((before, rest.split_once(')')?))) {
        Some((before, (length, after))) => format!("{before}VARCHAR({length}) COLLATE \"C\"{after}"),
        None => line.to_owned(),
    };
    sql.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn whole_word(line: &str, word: &str, instead: &str) -> String {
    line.split_inclusive([' ', ','])
        .map(|part| if part.trim_end_matches([' ', ',']) == word { part.replace(word, instead) } else { part.to_owned() })
        .collect()
}

/// Only the migrations up to a number: the tables of an earlier version.
#[cfg(test)]
pub(super) async fn run_to(connection: &mut Connection, version: i64) -> Result<(), MigrateError> {
    match connection {
        Connection::Sqlite(connection) => MIGRATIONS.run_to(version, connection).await,
        Connection::MySql(connection) => {
            let mut migrator = rewritten(|sql| for_mysql(sql, "utf8mb4_bin"));
            migrator.set_locking(false).run_to(version, connection).await
        }
        Connection::Postgres(connection) => rewritten(for_postgres).run_to(version, connection).await,
    }
}

/// Makes the file, readable by its owner only, and its folder where they are missing.
pub(super) fn make_private(path: &Path) -> Result<(), AuditError> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| create(path));
    made.map_err(|source| AuditError::Create { path: path.to_owned(), source })
}

fn create(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that ends its tables in another way would make tables that compare names without regard to case.
    #[test]
    fn every_table_gets_what_its_server_needs() {
        for migration in MIGRATIONS.iter() {
            let sql = migration.sql.as_str();
            let mysql = for_mysql(sql, "utf8mb4_bin");
            let tables = sql.matches("CREATE TABLE").count();
            assert_eq!(mysql.matches("COLLATE utf8mb4_bin").count(), tables, "{}", migration.description);
            assert!(!mysql.contains(" TEXT"), "{}", migration.description);
            assert_eq!(for_postgres(sql).matches("COLLATE \"C\"").count(), sql.matches("VARCHAR(").count(), "{}", migration.description);
        }
    }
}
