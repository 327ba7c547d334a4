//! The private copy that every form is made from.

use super::{DatabaseError, is_busy, open_existing, quoted, sqlite_error, table_names};
use crate::databases::glob;
use havun_model::Cancel;
use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use std::{io, path::Path, time::Duration};

/// Pages between two looks at the cancel flag.
const PAGES: i32 = 1024;

/// Copies the database at `source` to the new file `copy` as it stands at one moment, waiting at most `lock_wait`
/// for a lock.
pub(super) fn online(source: &Path, copy: &Path, lock_wait: Duration, cancel: &Cancel) -> Result<(), DatabaseError> {
    let opened = open_existing(source, lock_wait)?;
    let from = opened.get().map_err(sqlite_error("open", source))?;
    let fault = |error: rusqlite::Error| match error {
        error if is_busy(&error) => DatabaseError::Locked { database: format!("SQLite database {}", source.display()), waited: lock_wait },
        error if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            DatabaseError::NotADatabase { path: source.to_owned(), why: error.to_string() }
        }
        error if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly) => DatabaseError::HotJournal { path: source.to_owned() },
        error if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
            DatabaseError::io("write", copy)(io::ErrorKind::StorageFull.into())
        }
        error => sqlite_error("read", source)(error),
    };
    // The read transaction holds the state still, so that no writer makes the copy begin again; in WAL mode it
    // stops nobody.
    from.execute_batch("BEGIN").map_err(fault)?;
    from.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(fault)?;
    let pages: i64 = from.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(fault)?;
    let mut to = Connection::open(copy).map_err(sqlite_error("make", copy))?;
    to.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(sqlite_error("make", copy))?;
    {
        let backup = Backup::new(from, &mut to).map_err(fault)?;
        while backup.step(PAGES).map_err(fault)? != StepResult::Done {
            if cancel.is_cancelled() {
                return Err(DatabaseError::Cancelled);
            }
        }
    }
    let copied: i64 = to.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(sqlite_error("read", copy))?;
    if copied == pages {
        Ok(())
    } else {
        Err(DatabaseError::Truncated { what: format!("{copied} of {pages} pages of {}", source.display()) })
    }
}

/// Deletes the rows of the tables that `patterns` name. Deleted pages are overwritten with zeros.
pub(super) fn clear_tables(copy: &Connection, patterns: &[String]) -> rusqlite::Result<()> {
    if patterns.is_empty() {
        return Ok(());
    }
    copy.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    for table in table_names(copy)?.iter().filter(|table| glob::any(patterns, table)) {
        copy.execute(&format!("DELETE FROM main.{}", quoted(table)), [])?;
    }
    Ok(())
}

/// What `PRAGMA integrity_check` finds, at most twenty lines; empty when the database is sound.
pub(super) fn damage(connection: &Connection, path: &Path) -> Vec<String> {
    let check = || {
        let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
    };
    match check() {
        Ok(lines) => lines.into_iter().filter(|line| line != "ok").collect(),
        Err(error) => vec![format!("cannot check {}: {error}", path.display())],
    }
}
