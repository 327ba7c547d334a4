//! Erasing rows of persons from a restored database.
//!
//! Identifiers go to the client through its standard input, as hexadecimal literals: none is in an argument.

use super::{
    Mysql,
    client::{self, Clients, quoted},
};
use crate::{
    databases::{
        DatabaseError, ErasedRows, RowRule, Subjects,
        erase::{Picked, still_there},
    },
    process,
};
use havun_model::{Cancel, erasures::RowAction};

/// Identifiers that one statement names.
const AT_ONCE: usize = 200;

pub(super) fn erase(
    engine: &Mysql,
    database: &str,
    rules: &[RowRule],
    subjects: &Subjects,
    cancel: &Cancel,
) -> Result<Vec<ErasedRows>, DatabaseError> {
    let describe = engine.describe_database(database);
    let clients = Clients::find(&engine.connection, cancel)?;
    let pick = |rule| pick(&clients, database, rule, subjects, &describe, cancel);
    let picked: Vec<Picked> = rules.iter().map(pick).collect::<Result<_, DatabaseError>>()?;
    let mut done: Vec<ErasedRows> = picked.iter().map(|p| ErasedRows { rows: 0, subjects: p.subjects.clone() }).collect();
    if picked.iter().all(|picked| picked.values.is_empty()) {
        return Ok(done);
    }
    let mut left = Vec::new();
    for row in clients.query(&script(database, rules, &picked), &describe, cancel)? {
        match row.as_slice() {
            [mark, at, count] if mark == "rows" => add(&mut done, at, count),
            [mark, at, count] if mark == "left" => left.extend(at.parse().ok().zip(count.parse().ok())),
            _ => {}
        }
    }
    let checks = rules.iter().zip(&picked).filter(|(rule, picked)| rule.removes_identifier() && !picked.values.is_empty()).count();
    match still_there(rules, &left) {
        Some(what) => Err(DatabaseError::NotErased { database: describe, what }),
        None if left.len() < checks => {
            Err(DatabaseError::NotErased { database: describe, what: "the server did not say that they are gone".to_owned() })
        }
        None => Ok(done),
    }
}

fn add(done: &mut [ErasedRows], at: &str, count: &str) {
    if let (Some(rule), Ok(count)) = (at.parse().ok().and_then(|at: usize| done.get_mut(at)), count.parse::<u64>()) {
        rule.rows += count;
    }
}

/// The identifiers in the column that are of somebody in the register. Every value comes by, once, and only those stay: a
/// column of identifiers has about as many values as the table has rows.
fn pick(
    clients: &Clients,
    database: &str,
    rule: &RowRule,
    subjects: &Subjects,
    describe: &str,
    cancel: &Cancel,
) -> Result<Picked, DatabaseError> {
    let (table, column) = (format!("{}.{}", quoted(database), quoted(&rule.table)), quoted(&rule.column));
    let sql = format!("SELECT DISTINCT HEX(CONVERT({column} USING utf8mb4)) FROM {table} WHERE {column} IS NOT NULL");
    let mut command = clients.command(&clients.shell)?;
    command.args(["--batch", "--skip-column-names", "--quick", "--connect-timeout=15", "--default-character-set=utf8mb4"]);
    command.arg(format!("--execute={sql}"));
    let (mut picked, mut rest) = (Picked::default(), Vec::new());
    let ended = process::read::<DatabaseError>(&mut command, cancel, |piece| {
        rest.extend_from_slice(piece);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = rest.drain(..whole).collect();
        let values = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).filter_map(from_hex);
        values.for_each(|value| picked.offer(value, rule, subjects));
        Ok(())
    })?;
    if ended.status.success() { Ok(picked) } else { Err(client::classify(&clients.shell.name, &ended, describe)) }
}

/// A value that is no text is no identifier.
fn from_hex(line: &[u8]) -> Option<String> {
    String::from_utf8(hex::decode(line).ok()?).ok()
}

/// One transaction; what is left is counted after it. In strict mode a column that cannot be NULL is an error.
fn script(database: &str, rules: &[RowRule], picked: &[Picked]) -> String {
    let mut work = String::from("SET SESSION sql_mode = 'STRICT_ALL_TABLES';\nSTART TRANSACTION;\n");
    let mut checks = String::new();
    for (at, (rule, picked)) in rules.iter().zip(picked).enumerate() {
        let table = format!("{}.{}", quoted(database), quoted(&rule.table));
        for values in picked.values.chunks(AT_ONCE) {
            let found = condition(&rule.column, values);
            work.push_str(&format!("SELECT 'rows', {at}, COUNT(*) FROM {table} WHERE {found};\n"));
            work.push_str(&match &rule.action {
                RowAction::Delete => format!("DELETE FROM {table} WHERE {found};\n"),
                RowAction::Replace { values } => {
                    let set = |(column, value): (&String, &Option<String>)| format!("{} = {}", quoted(column), text(value.as_deref()));
                    let sets: Vec<String> = values.iter().map(set).collect();
                    format!("UPDATE {table} SET {} WHERE {found};\n", sets.join(", "))
                }
            });
            if rule.removes_identifier() {
                checks.push_str(&format!("SELECT 'left', {at}, COUNT(*) FROM {table} WHERE {found};\n"));
            }
        }
    }
    format!("{work}COMMIT;\n{checks}")
}

/// Compared byte by byte, whatever the column's collation.
fn condition(column: &str, values: &[String]) -> String {
    let list: Vec<String> = values.iter().map(|value| format!("x'{}'", hex::encode(value))).collect();
    format!("CAST(CONVERT({} USING utf8mb4) AS BINARY) IN ({})", quoted(column), list.join(", "))
}

fn text(value: Option<&str>) -> String {
    value.map_or_else(
        || "NULL".to_owned(),
        |value| if value.is_empty() { "''".to_owned() } else { format!("CONVERT(x'{}' USING utf8mb4)", hex::encode(value)) },
    )
}
