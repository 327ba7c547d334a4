//! Where the audit database is, by its URL. What is wrong with one is said without repeating it: it may hold a password.

use super::AuditError;
use sqlx::{
    mysql::MySqlConnectOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{path::Path, time::Duration};
use url::Url;

/// How long another writer of an SQLite file is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// Query parameters that a MySQL or MariaDB URL may have.
const MYSQL_PARAMETERS: &[&str] = &["ssl-mode", "sslmode", "ssl-ca", "sslca", "ssl-cert", "sslcert", "ssl-key", "sslkey", "socket"];
/// Query parameters that a PostgreSQL URL may have.
const POSTGRES_PARAMETERS: &[&str] = &["sslmode", "ssl-mode", "sslrootcert", "sslcert", "sslkey", "host", "options"];

/// A database, as its driver wants it named.
pub(super) enum Address {
    /// A file of this machine.
    Sqlite(Box<SqliteConnectOptions>),
    /// A MySQL or MariaDB server.
    MySql(Box<MySqlConnectOptions>),
    /// A PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

impl Address {
    /// Reads `sqlite:///file`, `mysql://…`, `mariadb://…`, `postgres://…` or `postgresql://…`. `password` stands in for
    /// the one that a server's URL has not.
    pub(super) fn parse(url: &str, password: Option<&str>) -> Result<Self, AuditError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("has no scheme; write sqlite:///path/to/audit.db"))?;
        match scheme {
            "sqlite" => sqlite(rest),
            "mysql" | "mariadb" => {
                let mut options: MySqlConnectOptions = server(url, MYSQL_PARAMETERS)?;
                if let Some(password) = password {
                    options = options.password(password);
                }
                Ok(Self::MySql(Box::new(options)))
            }
            "postgres" | "postgresql" => {
                let mut options: PgConnectOptions = server(url, POSTGRES_PARAMETERS)?;
                if let Some(password) = password {
                    options = options.password(password);
                }
                Ok(Self::Postgres(Box::new(options.application_name("havun-backup"))))
            }
            _ => Err(fault(&format!("is for `{scheme}`: an audit log is kept in sqlite, mysql, mariadb or postgres"))),
        }
    }

    /// Whether it is a file: it never goes away, and nobody shares it with another machine.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Asks the server for milliseconds since 1970, as `ms`. The session's time zone is UTC.
    pub(super) fn clock(&self) -> Option<&'static str> {
        match self {
            Self::Sqlite(_) => None,
            Self::MySql(_) => Some("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) AS ms"),
            Self::Postgres(_) => Some("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS ms"),
        }
    }

    /// The server, for people.
    pub(super) fn server(&self) -> String {
        match self {
            Self::Sqlite(options) => options.get_filename().display().to_string(),
            Self::MySql(options) => match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{}:{}", options.get_host(), options.get_port()),
            },
            Self::Postgres(options) => match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{}:{}", options.get_host(), options.get_port()),
            },
        }
    }
}

fn sqlite(rest: &str) -> Result<Address, AuditError> {
    let path = Path::new(rest);
    if !path.is_absolute() {
        return Err(fault("needs an absolute path: sqlite:///path/to/audit.db"));
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY);
    Ok(Address::Sqlite(Box::new(options)))
}

/// The options of a server's URL. A parameter that the driver would pass over is an error: `sslmodes=require` must not
/// mean an open connection.
fn server<T: sqlx::ConnectOptions>(text: &str, parameters: &[&str]) -> Result<T, AuditError> {
    let url = Url::parse(text).map_err(|error| {
        fault(&format!("is no URL ({error}); `@`, `:`, `/`, `?`, `#` and `%` in a password are written as %40, %3A, %2F, %3F, %23 and %25"))
    })?;
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| !parameters.contains(&&**name)) {
        return Err(fault(&format!("has a parameter that is not known: `{name}`; there are {}", parameters.join(", "))));
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(fault("names no database: …://user@host/DATABASE"));
    }
    T::from_url(&url).map_err(|error| fault(&format!("cannot be used: {}", why(error))))
}

fn why(error: sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(source) => source.to_string(),
        other => other.to_string(),
    }
}

fn fault(why: &str) -> AuditError {
    AuditError::Url { why: why.to_owned() }
}
