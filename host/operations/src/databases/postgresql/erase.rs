//! Erasing rows of persons from a restored database.
//!
//! Identifiers go to psql through a file in memory, as hexadecimal constants: none is in an argument.

use super::{
    Postgresql,
    client::Clients,
    names::{literal, parse_key, quoted},
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
    engine: &Postgresql,
    database: &str,
    rules: &[RowRule],
    subjects: &Subjects,
    cancel: &Cancel,
) -> Result<Vec<ErasedRows>, DatabaseError> {
    let describe = engine.describe_database(database);
    let clients = Clients::find(&engine.connection, database, &describe, cancel)?;
    let fault = |what: String| DatabaseError::NotErased { database: describe.clone(), what };
    let tables: Vec<String> = rules
        .iter()
        .map(|rule| table(&rule.table).ok_or_else(|| fault(format!("`{}` is no name of a table", rule.table))))
        .collect::<Result<_, _>>()?;
    let pick = |(rule, table): (&RowRule, &String)| pick(&clients, database, rule, table, subjects, cancel);
    let picked: Vec<Picked> = rules.iter().zip(&tables).map(pick).collect::<Result<_, DatabaseError>>()?;
    let mut done: Vec<ErasedRows> = picked.iter().map(|p| ErasedRows { rows: 0, subjects: p.subjects.clone() }).collect();
    if picked.iter().all(|picked| picked.values.is_empty()) {
        return Ok(done);
    }
    let mut left = Vec::new();
    for row in clients.query_as(database, "UTF8", &script(rules, &tables, &picked), cancel)? {
        match row.as_slice() {
            [mark, at, count] if mark == "rows" => {
                if let (Some(rule), Ok(count)) = (at.parse().ok().and_then(|at: usize| done.get_mut(at)), count.parse::<u64>()) {
                    rule.rows += count;
                }
            }
            [mark, at, count] if mark == "left" => left.extend(at.parse().ok().zip(count.parse().ok())),
            _ => {}
        }
    }
    match still_there(rules, &left) {
        Some(what) => Err(fault(what)),
        None => Ok(done),
    }
}

/// `users` is in the schema `public`; others are written `schema.users`.
fn table(key: &str) -> Option<String> {
    let (schema, table) = parse_key(key)?;
    Some(format!("{}.{}", quoted(&schema), quoted(&table)))
}

/// The identifiers in the column that are of somebody in the register; every value comes by, once, and only those stay.
fn pick(
    clients: &Clients,
    database: &str,
    rule: &RowRule,
    table: &str,
    subjects: &Subjects,
    cancel: &Cancel,
) -> Result<Picked, DatabaseError> {
    let column = quoted(&rule.column);
    let bytes = bytes_of(&rule.column);
    let sql = format!("COPY (SELECT DISTINCT pg_catalog.encode({bytes}, 'hex') FROM {table} AS t WHERE t.{column} IS NOT NULL) TO STDOUT");
    let mut command = clients.psql(database)?;
    command.arg(format!("--command={sql}"));
    let (mut picked, mut rest) = (Picked::default(), Vec::new());
    let ended = process::read::<DatabaseError>(&mut command, cancel, |piece| {
        rest.extend_from_slice(piece);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = rest.drain(..whole).collect();
        let values = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).filter_map(from_hex);
        values.for_each(|value| picked.offer(value, rule, subjects));
        Ok(())
    })?;
    if ended.status.success() { Ok(picked) } else { Err(clients.classify("psql", &ended, database)) }
}

/// A value that is no text is no identifier.
fn from_hex(line: &[u8]) -> Option<String> {
    String::from_utf8(hex::decode(line).ok()?).ok()
}

/// What a column holds as text, in UTF-8. Compared byte by byte, whatever its collation.
fn bytes_of(column: &str) -> String {
    format!("pg_catalog.convert_to(t.{}::pg_catalog.text, 'UTF8')", quoted(column))
}

/// One transaction, in which what is left is counted too. Triggers find what they find in the application's own session, and
/// an error does not repeat the row that it is about.
fn script(rules: &[RowRule], tables: &[String], picked: &[Picked]) -> String {
    let mut work = String::from("\\set VERBOSITY terse\nRESET search_path;\nBEGIN;\n");
    let mut checks = String::new();
    for (at, ((rule, table), picked)) in rules.iter().zip(tables).zip(picked).enumerate() {
        for values in picked.values.chunks(AT_ONCE) {
            let list: Vec<String> = values.iter().map(|value| format!("'\\x{}'::pg_catalog.bytea", hex::encode(value))).collect();
            let found = format!("{} IN ({})", bytes_of(&rule.column), list.join(", "));
            work.push_str(&format!("SELECT 'rows', {at}, count(*) FROM {table} AS t WHERE {found};\n"));
            work.push_str(&match &rule.action {
                RowAction::Delete => format!("DELETE FROM {table} AS t WHERE {found};\n"),
                RowAction::Replace { values } => {
                    let text = |value: &Option<String>| value.as_ref().map_or_else(|| "NULL".to_owned(), |value| literal(value));
                    let sets: Vec<String> = values.iter().map(|(column, value)| format!("{} = {}", quoted(column), text(value))).collect();
                    format!("UPDATE {table} AS t SET {} WHERE {found};\n", sets.join(", "))
                }
            });
            if rule.removes_identifier() {
                checks.push_str(&format!("SELECT 'left', {at}, count(*) FROM {table} AS t WHERE {found};\n"));
            }
        }
    }
    format!("{work}{checks}COMMIT;\n")
}
