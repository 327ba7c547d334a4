//! Questions of a strategy to a restored database, read-only.

use super::{DatabaseError, Source, open_existing, quoted, sqlite_error, table_names};
use havun_model::ScratchDatabase;
use rusqlite::types::ValueRef;
use std::{path::Path, time::Duration};

/// A restored SQLite file that `verify` may ask.
pub struct SqliteScratch {
    source: Source,
}

impl SqliteScratch {
    /// Opens the file at `path`, read-only.
    ///
    /// # Errors
    /// When it is missing, or not a database.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let source = open_existing(path, Duration::from_secs(5))?;
        let careful = source.get().and_then(|database| database.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF"));
        careful.map_err(sqlite_error("open", path))?;
        Ok(Self { source })
    }
}

impl ScratchDatabase for SqliteScratch {
    fn tables(&mut self) -> Result<Vec<String>, String> {
        self.source.get().and_then(table_names).map_err(|error| error.to_string())
    }

    fn count_rows(&mut self, table: &str) -> Result<u64, String> {
        let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
        let count = self.source.get().and_then(|database| database.query_row(&sql, [], |row| row.get::<_, i64>(0)));
        count.map(i64::unsigned_abs).map_err(|error| error.to_string())
    }

    fn sample(&mut self, table: &str, column: &str, limit: u32) -> Result<Vec<Option<String>>, String> {
        // Qualified, because SQLite takes a quoted name that is no column for a string.
        let sql = format!("SELECT t.{} FROM main.{} AS t LIMIT ?1", quoted(column), quoted(table));
        let read = || {
            let mut statement = self.source.get()?.prepare(&sql)?;
            statement.query_map([limit], |row| row.get_ref(0).map(as_text))?.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| error.to_string())
    }
}

fn as_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(hex::encode(bytes)),
    }
}
