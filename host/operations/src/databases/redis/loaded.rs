//! A server that was started on a dump and has loaded it by itself, for drills: whether it answers yet, and what it holds.

use super::{
    super::{DatabaseError, ResolvedConnection, RestoreOutcome},
    Keyspace, Redis, restore,
};
use havun_model::{Cancel, DatabaseRecord};
use std::path::Path;

/// What a server that starts says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has loaded what it was started on.
    Ready,
    /// It still loads.
    Loading,
    /// It does not answer yet.
    Silent,
}

/// Asks a server how far it is.
///
/// # Errors
/// [`DatabaseError::Cancelled`], and a connection that makes no sense.
pub(crate) fn answer(connection: ResolvedConnection, cancel: &Cancel) -> Result<Answer, DatabaseError> {
    match Redis::new(connection)?.connect(cancel) {
        Ok(_) => Ok(Answer::Ready),
        Err(DatabaseError::Connect { message, .. }) if message.contains("LOADING") => Ok(Answer::Loading),
        Err(DatabaseError::Cancelled) => Err(DatabaseError::Cancelled),
        Err(_) => Ok(Answer::Silent),
    }
}

/// Whether a dump is whole by its own marks: its head, its end and its checksum. Returns the version of the format.
///
/// # Errors
/// [`DatabaseError::BadDump`].
pub(crate) fn check_dump(path: &Path) -> Result<String, DatabaseError> {
    restore::check_file(path)
}

/// Counts what a server holds, and compares it with the dump's record.
///
/// # Errors
/// [`DatabaseError::BadDump`] when it is not what was recorded.
pub(crate) fn compare_loaded(
    connection: ResolvedConnection,
    record: &DatabaseRecord,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    let found = Keyspace::take(&mut Redis::new(connection)?.connect(cancel)?)?;
    let said = restore::compare(record, &found)?;
    Ok(RestoreOutcome {
        tables_verified: found.keys.len() as u64,
        rows_verified: found.keys.values().sum(),
        warnings: said.into_iter().collect(),
        ..RestoreOutcome::default()
    })
}
