//! Erasing rows of persons from a restored file. What is erased is overwritten with zeros.

use super::{DatabaseError, check_is_database, quoted, sqlite_error};
use crate::databases::{
    ErasedRows, RowRule, Subjects,
    erase::{Picked, still_there},
};
use havun_model::{Cancel, erasures::RowAction};
use rusqlite::{Connection, OpenFlags, Transaction, params_from_iter, types::Value};
use std::{path::Path, time::Duration};

/// How long somebody else's lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(15);

pub(super) fn erase(path: &Path, rules: &[RowRule], subjects: &Subjects, cancel: &Cancel) -> Result<Vec<ErasedRows>, DatabaseError> {
    check_is_database(path)?;
    let failed = sqlite_error("erase rows of", path);
    let mut database = open(path).map_err(&failed)?;
    let transaction = database.transaction().map_err(&failed)?;
    let picked: Vec<_> = rules
        .iter()
        .map(|rule| {
            if cancel.is_cancelled() {
                return Err(DatabaseError::Cancelled);
            }
            pick(&transaction, rule, subjects).map_err(&failed)
        })
        .collect::<Result<_, _>>()?;
    let mut done = Vec::new();
    for (rule, picked) in rules.iter().zip(&picked) {
        let rows = picked.values.iter().map(|value| change(&transaction, rule, value)).sum::<rusqlite::Result<u64>>();
        done.push(ErasedRows { rows: rows.map_err(&failed)?, subjects: picked.subjects.clone() });
    }
    let mut left = Vec::new();
    for (at, (rule, picked)) in rules.iter().zip(&picked).enumerate().filter(|(_, (rule, _))| rule.removes_identifier()) {
        let rows = picked.values.iter().map(|value| count(&transaction, rule, value)).sum::<rusqlite::Result<u64>>();
        left.push((at, rows.map_err(&failed)?));
    }
    if let Some(what) = still_there(rules, &left) {
        return Err(DatabaseError::NotErased { database: format!("SQLite database {}", path.display()), what });
    }
    transaction.commit().map_err(&failed)?;
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(&failed)?;
    database.close().map_err(|(_, error)| sqlite_error("close", path)(error))?;
    Ok(done)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    database.busy_timeout(LOCK_WAIT)?;
    database.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF")?;
    database.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    Ok(database)
}

/// Qualified, because SQLite takes a quoted name that is no column for a string.
fn cast(rule: &RowRule) -> String {
    format!("CAST(t.{} AS TEXT)", quoted(&rule.column))
}

fn table(rule: &RowRule) -> String {
    format!("main.{} AS t", quoted(&rule.table))
}

/// The identifiers in the column that are of somebody in the register; every value comes by, once.
fn pick(transaction: &Transaction<'_>, rule: &RowRule, subjects: &Subjects) -> rusqlite::Result<Picked> {
    let sql = format!("SELECT DISTINCT {0} COLLATE BINARY FROM {1} WHERE {0} IS NOT NULL", cast(rule), table(rule));
    let mut statement = transaction.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut picked = Picked::default();
    while let Some(row) = rows.next()? {
        // A value that is no text is no identifier.
        if let Ok(value) = row.get_ref(0)?.as_str() {
            picked.offer(value.to_owned(), rule, subjects);
        }
    }
    Ok(picked)
}

fn change(transaction: &Transaction<'_>, rule: &RowRule, identifier: &str) -> rusqlite::Result<u64> {
    let found = format!("{} = ?1 COLLATE BINARY", cast(rule));
    let mut values = vec![Value::Text(identifier.to_owned())];
    let sql = match &rule.action {
        RowAction::Delete => format!("DELETE FROM {} WHERE {found}", table(rule)),
        RowAction::Replace { values: replaced } => {
            let mut sets = Vec::new();
            for (column, value) in replaced {
                values.push(value.clone().map_or(Value::Null, Value::Text));
                sets.push(format!("{} = ?{}", quoted(column), values.len()));
            }
            format!("UPDATE {} SET {} WHERE {found}", table(rule), sets.join(", "))
        }
    };
    Ok(transaction.execute(&sql, params_from_iter(values))? as u64)
}

fn count(transaction: &Transaction<'_>, rule: &RowRule, identifier: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM {} WHERE {} = ?1 COLLATE BINARY", table(rule), cast(rule));
    transaction.query_row(&sql, [identifier], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}
