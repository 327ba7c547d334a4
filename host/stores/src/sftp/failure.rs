//! What a request can come to, sorted for callers.

use havun_vault::store::StoreError;
use russh_sftp::{client::error::Error as SftpError, protocol::StatusCode};
use std::{io, path::PathBuf};

/// What to do about a server that forbids what we need.
pub(super) const FORBIDDEN: &str = "give this login the right to create, rename and remove in the store's folder; for a server that is locked to create and read, set `put_once = true`";

/// Why a request brought no answer, or not the one that was hoped for.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The server says no.
    Status(StatusCode, String),
    /// The connection is gone.
    Broken(String),
}

impl Failure {
    /// The request never reached a server that would have understood it.
    pub fn of(error: SftpError) -> Self {
        match error {
            SftpError::Status(status) => Self::Status(status.status_code, status.error_message),
            other => Self::Broken(other.to_string()),
        }
    }

    pub fn is(&self, code: StatusCode) -> bool {
        matches!(self, Self::Status(found, _) if *found == code)
    }

    pub fn is_missing(&self) -> bool {
        self.is(StatusCode::NoSuchFile)
    }

    /// Neither a broken connection nor a lack of rights: what the server says when a name is taken, a disk is full, or else.
    pub fn is_plain(&self) -> bool {
        self.is(StatusCode::Failure)
    }

    /// As the caller of a store sees it; `what` is the request and its path.
    pub fn at(self, what: &str) -> StoreError {
        match self {
            Self::Broken(why) => StoreError::Unreachable { what: format!("{what}: {why}") },
            Self::Status(StatusCode::PermissionDenied | StatusCode::OpUnsupported, why) => {
                StoreError::Refused { what: what.to_owned(), why: format!("the server says “{why}”"), hint: FORBIDDEN }
            }
            Self::Status(StatusCode::ConnectionLost | StatusCode::NoConnection, why) => {
                StoreError::Unreachable { what: format!("{what}: {why}") }
            }
            Self::Status(StatusCode::NoSuchFile, why) => io_error(what, io::ErrorKind::NotFound, &why),
            Self::Status(_, why) => io_error(what, io::ErrorKind::Other, &why),
        }
    }
}

pub(super) fn io_error(what: &str, kind: io::ErrorKind, why: &str) -> StoreError {
    StoreError::Io { path: PathBuf::from(what), source: io::Error::new(kind, format!("the server says “{why}”")) }
}

/// Names the request that failed.
pub(super) trait Said<T> {
    fn said(self, what: impl FnOnce() -> String) -> Result<T, StoreError>;
}

impl<T> Said<T> for Result<T, Failure> {
    fn said(self, what: impl FnOnce() -> String) -> Result<T, StoreError> {
        self.map_err(|failure| failure.at(&what()))
    }
}
