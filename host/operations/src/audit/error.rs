//! Why the audit database cannot be used.

use std::path::PathBuf;

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
    /// Another process brings the tables up to date, and takes too long.
    #[error("another process has been bringing the tables of the audit database up to date for more than a minute")]
    Migrating,
    /// The server cannot be reached, or went away and did not come back.
    #[error("the audit database at {server} does not answer")]
    Gone {
        /// Which server: host and port, or socket.
        server: String,
        /// The last failure.
        source: sqlx::Error,
    },
    /// The database says no.
    #[error("cannot {what} the audit database")]
    Database {
        /// "open", "write", "read".
        what: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// What was kept for a server that was away cannot be read.
    #[error("cannot read {}", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A row that no version of this program wrote.
    #[error("the audit database has `{found}` in column `{column}`, which is no {expected}")]
    Odd {
        /// Which column.
        column: String,
        /// What it holds.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// No runtime for it.
    #[error("cannot start the audit database's runtime")]
    Runtime(#[source] std::io::Error),
}

impl AuditError {
    /// Whether the server is away: what was to be written may be written later.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether a row of the same key was there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Database { source: sqlx::Error::Database(error), .. } if error.is_unique_violation())
    }

    /// Whether the server undid a transaction because another one stood in its way: it can be tried again.
    pub(super) fn is_conflict(&self) -> bool {
        let Self::Database { source: sqlx::Error::Database(error), .. } = self else { return false };
        matches!(error.code().as_deref(), Some("40001" | "40P01"))
    }
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> AuditError {
    move |source| AuditError::Database { what, source }
}
