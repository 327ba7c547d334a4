//! One connection, to whichever server. Statements have `?` for values everywhere; PostgreSQL gets its `$1` here.

use super::{
    address::Address,
    values::{Arg, Row},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, PgConnection, SqliteConnection, mysql::MySqlDatabaseError,
};
use std::{future::Future, io, time::Duration};

/// How long a server may take to let us in.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one statement may take before its connection is given up.
const STATEMENT: Duration = Duration::from_secs(60);

/// Long enough for a lock, short enough that a run is told; times are UTC and what does not fit is an error, never cut.
const MYSQL_SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION innodb_lock_wait_timeout = 50, \
                             SESSION lock_wait_timeout = 50";
const POSTGRES_SESSION: &str = "SET lock_timeout = '50s'; SET standard_conforming_strings = on";

/// A connection.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
    Postgres(PgConnection),
}

macro_rules! bound {
    ($database:ty, $sql:expr, $args:expr) => {
        $args.iter().fold(sqlx::query::<$database>($sql), |query, arg| match arg {
            Arg::Text(text) => query.bind(text.clone()),
            Arg::Int(number) => query.bind(*number),
        })
    };
}

impl Connection {
    pub(super) async fn open(address: &Address) -> Result<Self, sqlx::Error> {
        match address {
            Address::Sqlite(options) => options.connect().await.map(Self::Sqlite),
            Address::MySql(options) => {
                let mut connection = within(CONNECT, options.connect()).await?;
                within(CONNECT, sqlx::raw_sql(MYSQL_SESSION).execute(&mut connection)).await?;
                Ok(Self::MySql(connection))
            }
            Address::Postgres(options) => {
                let mut connection = within(CONNECT, options.connect()).await?;
                within(CONNECT, sqlx::raw_sql(POSTGRES_SESSION).execute(&mut connection)).await?;
                Ok(Self::Postgres(connection))
            }
        }
    }

    /// How many rows it touched; rows that it found and left as they were count too.
    pub(super) async fn execute(&mut self, sql: &'static str, args: &[Arg]) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => Ok(bound!(sqlx::Sqlite, sql, args).execute(connection).await?.rows_affected()),
            Self::MySql(connection) => Ok(within(STATEMENT, bound!(sqlx::MySql, sql, args).execute(connection)).await?.rows_affected()),
            Self::Postgres(connection) => {
                let (sql, args) = (numbered(sql), without_nul(args));
                Ok(within(STATEMENT, bound!(sqlx::Postgres, AssertSqlSafe(sql), args).execute(connection)).await?.rows_affected())
            }
        }
    }

    pub(super) async fn fetch(&mut self, sql: &'static str, args: &[Arg]) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                let rows = bound!(sqlx::Sqlite, sql, args).fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::MySql(connection) => {
                let rows = within(STATEMENT, bound!(sqlx::MySql, sql, args).fetch_all(connection)).await?;
                Ok(rows.into_iter().map(Row::MySql).collect())
            }
            Self::Postgres(connection) => {
                let (sql, args) = (numbered(sql), without_nul(args));
                let rows = within(STATEMENT, bound!(sqlx::Postgres, AssertSqlSafe(sql), args).fetch_all(connection)).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Begins a transaction that means to write.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        match self {
            // Upgrading a lock later could fail with another writer waiting for the same.
            Self::Sqlite(_) => self.plain("BEGIN IMMEDIATE").await,
            Self::MySql(_) => self.plain("START TRANSACTION").await,
            Self::Postgres(_) => self.plain("BEGIN").await,
        }
    }

    /// A statement without values, not prepared.
    pub(super) async fn plain(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Self::MySql(connection) => within(STATEMENT, sqlx::raw_sql(sql).execute(connection)).await.map(drop),
            Self::Postgres(connection) => within(STATEMENT, sqlx::raw_sql(sql).execute(connection)).await.map(drop),
        }
    }

    pub(super) async fn close(self) {
        let closed = match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::MySql(connection) => within(CONNECT, connection.close()).await,
            Self::Postgres(connection) => within(CONNECT, connection.close()).await,
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "the audit database was not closed in order");
        }
    }
}

/// A server that falls silent is one that went away.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// Whether the connection is of no use any more, or the server lets nobody in for now.
pub(super) fn is_gone(error: &sqlx::Error) -> bool {
    match error {
        // A certificate that is refused comes as bad data, and stays refused.
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        sqlx::Error::Protocol(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            // Too many connections, shutting down, killed, idle for too long.
            Some(error) => matches!(error.number(), 1040 | 1053 | 1077 | 1152 | 1158..=1161 | 1927 | 4031),
            None => error.code().is_some_and(|code| {
                // Connection exceptions, too many connections, shutting down, starting up, idle for too long.
                code.starts_with("08") || matches!(&*code, "53300" | "57P01" | "57P02" | "57P03" | "57P05")
            }),
        },
        _ => false,
    }
}

/// `?` as `$1`, `$2`, …, but for those in quotes.
fn numbered(sql: &str) -> String {
    let (mut out, mut quoted, mut count) = (String::with_capacity(sql.len() + 16), false, 0);
    for character in sql.chars() {
        quoted ^= character == '\'';
        if character == '?' && !quoted {
            count += 1;
            out.push_str(&format!("${count}"));
        } else {
            out.push(character);
        }
    }
    out
}

/// PostgreSQL keeps no NUL in a text; a message of a stranger's program may hold one.
fn without_nul(args: &[Arg]) -> Vec<Arg> {
    let clean = |arg: &Arg| match arg {
        Arg::Text(Some(text)) if text.contains('\0') => Arg::Text(Some(text.replace('\0', "\u{fffd}"))),
        other => other.clone(),
    };
    args.iter().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn values_are_numbered_but_not_in_quotes() {
        assert_eq!(
            numbered("SELECT '?' FROM t WHERE a = ? AND b <> 'it''s ?' LIMIT ?"),
            "SELECT '?' FROM t WHERE a = $1 AND b <> 'it''s ?' LIMIT $2"
        );
    }
}
