//! A database as plain SQL that `sqlite3` reads.
//!
//! What `sqlite3 .dump` loses is kept: strings with NUL in them or that are not UTF-8, rowids that no column shows,
//! `user_version`, `application_id`, page size and encoding. Deterministic: the same database gives the same bytes.
//! The last line is [`COMPLETED`].

use super::{DatabaseError, quoted, sqlite_error};
use havun_model::Cancel;
use rusqlite::{Connection, types::ValueRef};
use std::{fmt::Write as _, io::Write, path::Path};

/// The completion mark.
pub(super) const COMPLETED: &str = "-- Dump completed\n";

/// Bytes that are collected before they are handed on.
const BLOCK: usize = 128 * 1024;

/// Writes the whole database.
pub(super) fn write(connection: &Connection, path: &Path, cancel: &Cancel, out: &mut dyn Write) -> Result<(), DatabaseError> {
    let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(sqlite_error("read", path))?;
    let mut writer = Writer { connection, path, cancel, out, text: String::with_capacity(BLOCK + 4096), utf16: Utf16::of(&encoding) };
    writer.head(&encoding)?;
    let tables = writer.tables()?;
    for table in &tables {
        writer.schema(table)?;
        if !table.is_virtual() {
            writer.rows(table)?;
        }
    }
    writer.statistics()?;
    writer.others()?;
    writer.tail(tables.iter().any(Table::is_virtual))
}

struct Table {
    name: String,
    sql: String,
}

impl Table {
    fn is_virtual(&self) -> bool {
        self.sql.get(..20).is_some_and(|head| head.eq_ignore_ascii_case("CREATE VIRTUAL TABLE"))
    }
}

#[derive(Clone, Copy)]
enum Utf16 {
    No,
    Little,
    Big,
}

impl Utf16 {
    fn of(encoding: &str) -> Self {
        match encoding {
            "UTF-16le" => Self::Little,
            "UTF-16be" => Self::Big,
            _ => Self::No,
        }
    }

    /// The bytes of `text` as the database's encoding has them, for a cast of a blob.
    fn bytes(self, text: &[u8]) -> Vec<u8> {
        let units = || String::from_utf8_lossy(text).encode_utf16().collect::<Vec<_>>();
        match self {
            Self::No => text.to_vec(),
            Self::Little => units().into_iter().flat_map(u16::to_le_bytes).collect(),
            Self::Big => units().into_iter().flat_map(u16::to_be_bytes).collect(),
        }
    }
}

struct Writer<'a> {
    connection: &'a Connection,
    path: &'a Path,
    cancel: &'a Cancel,
    out: &'a mut dyn Write,
    text: String,
    utf16: Utf16,
}

impl Writer<'_> {
    fn fault(&self, error: rusqlite::Error) -> DatabaseError {
        sqlite_error("read", self.path)(error)
    }

    fn pragma(&self, name: &str) -> Result<String, DatabaseError> {
        let text = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
        match self.connection.query_row(&format!("PRAGMA {name}"), [], text).map_err(|error| self.fault(error))? {
            rusqlite::types::Value::Integer(number) => Ok(number.to_string()),
            rusqlite::types::Value::Text(text) => Ok(text),
            _ => Ok(String::new()),
        }
    }

    fn head(&mut self, encoding: &str) -> Result<(), DatabaseError> {
        let (page_size, vacuum) = (self.pragma("page_size")?, self.pragma("auto_vacuum")?);
        let _ = write!(
            self.text,
            "-- SQLite database as SQL, by havun-backup\nPRAGMA encoding = '{encoding}';\nPRAGMA page_size = {page_size};\n\
             PRAGMA auto_vacuum = {vacuum};\nPRAGMA foreign_keys = OFF;\nBEGIN;\n"
        );
        self.flush_block()
    }

    fn tables(&self) -> Result<Vec<Table>, DatabaseError> {
        let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql IS NOT NULL \
                   ORDER BY rowid";
        let read = || {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([], |row| Ok(Table { name: row.get(0)?, sql: row.get(1)? }))?.collect::<Result<_, _>>()
        };
        read().map_err(|error| self.fault(error))
    }

    fn schema(&mut self, table: &Table) -> Result<(), DatabaseError> {
        if table.is_virtual() {
            // Its shadow tables come as tables of their own, so its module must not make them a second time.
            let (name, sql) = (literal(&table.name), literal(&table.sql));
            let _ = writeln!(
                self.text,
                "PRAGMA writable_schema = ON;\nINSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql) VALUES('table', {name}, {name}, 0, {sql});"
            );
            return self.flush_block();
        }
        self.statement(&table.sql)
    }

    fn statement(&mut self, sql: &str) -> Result<(), DatabaseError> {
        self.text.push_str(sql);
        // A comment at the end would swallow the semicolon.
        self.text.push_str(if sql.contains("--") { "\n;\n" } else { ";\n" });
        self.flush_block()
    }

    fn rows(&mut self, table: &Table) -> Result<(), DatabaseError> {
        let shape = Shape::of(self.connection, &table.name).map_err(|error| self.fault(error))?;
        let insert = format!("INSERT INTO {}{} VALUES(", quoted(&table.name), shape.columns());
        self.inserts(&shape.select(&table.name), &insert)
    }

    fn inserts(&mut self, select: &str, insert: &str) -> Result<(), DatabaseError> {
        let connection = self.connection;
        let mut statement = connection.prepare(select).map_err(|error| self.fault(error))?;
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(|error| self.fault(error))?;
        while let Some(row) = rows.next().map_err(|error| self.fault(error))? {
            self.text.push_str(insert);
            for column in 0..columns {
                if column > 0 {
                    self.text.push(',');
                }
                let value = row.get_ref(column).map_err(|error| self.fault(error))?;
                self.value(value);
            }
            self.text.push_str(");\n");
            self.flush_block()?;
        }
        Ok(())
    }

    fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.text.push_str("NULL"),
            ValueRef::Integer(number) => drop(write!(self.text, "{number}")),
            ValueRef::Real(number) if number.is_infinite() => self.text.push_str(if number > 0.0 { "9e999" } else { "-9e999" }),
            ValueRef::Real(number) => self.real(number),
            ValueRef::Blob(bytes) => self.hex(bytes),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => self.text.push_str(&literal(text)),
                _ => {
                    self.text.push_str("CAST(");
                    self.hex(&self.utf16.bytes(bytes));
                    self.text.push_str(" AS TEXT)");
                }
            },
        }
    }

    /// The shortest decimal, where SQLite reads it as the same number; else as an exact product of powers of two.
    fn real(&mut self, number: f64) {
        let shortest = format!("{number:?}");
        let read = self.connection.prepare_cached("SELECT CAST(?1 AS REAL)");
        let same = read.and_then(|mut read| read.query_row([&shortest], |row| row.get::<_, f64>(0)));
        match same {
            Ok(same) if same.to_bits() == number.to_bits() => self.text.push_str(&shortest),
            _ => self.text.push_str(&exact(number)),
        }
    }

    fn hex(&mut self, bytes: &[u8]) {
        self.text.push_str("X'");
        self.text.push_str(&hex::encode(bytes));
        self.text.push('\'');
    }

    /// The counters of AUTOINCREMENT and what ANALYZE found.
    fn statistics(&mut self) -> Result<(), DatabaseError> {
        for table in self.own_tables()? {
            match table.as_str() {
                "sqlite_sequence" => self.text.push_str("DELETE FROM sqlite_sequence;\n"),
                _ => self.text.push_str("ANALYZE sqlite_schema;\n"),
            }
            self.inserts(&format!("SELECT * FROM {table} ORDER BY rowid"), &format!("INSERT INTO {table} VALUES("))?;
        }
        Ok(())
    }

    fn own_tables(&self) -> Result<Vec<String>, DatabaseError> {
        let read = || {
            let names = "SELECT name FROM sqlite_schema WHERE name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4') ORDER BY name";
            let mut statement = self.connection.prepare(names)?;
            statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()
        };
        read().map_err(|error| self.fault(error))
    }

    fn others(&mut self) -> Result<(), DatabaseError> {
        for kind in ["index", "view", "trigger"] {
            for sql in self.definitions(kind)? {
                self.statement(&sql)?;
            }
        }
        Ok(())
    }

    fn definitions(&self, kind: &str) -> Result<Vec<String>, DatabaseError> {
        let read = || {
            let mut statement =
                self.connection.prepare("SELECT sql FROM sqlite_schema WHERE type = ?1 AND sql IS NOT NULL ORDER BY rowid")?;
            statement.query_map([kind], |row| row.get(0))?.collect::<Result<_, _>>()
        };
        read().map_err(|error| self.fault(error))
    }

    fn tail(&mut self, schema_was_written: bool) -> Result<(), DatabaseError> {
        let (user, application) = (self.pragma("user_version")?, self.pragma("application_id")?);
        if schema_was_written {
            self.text.push_str("PRAGMA writable_schema = OFF;\n");
        }
        let _ = write!(self.text, "COMMIT;\nPRAGMA user_version = {user};\nPRAGMA application_id = {application};\n{COMPLETED}");
        self.flush()
    }

    fn flush_block(&mut self) -> Result<(), DatabaseError> {
        if self.text.len() < BLOCK { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), DatabaseError> {
        if self.cancel.is_cancelled() {
            return Err(DatabaseError::Cancelled);
        }
        self.out.write_all(self.text.as_bytes()).map_err(DatabaseError::Sink)?;
        self.text.clear();
        Ok(())
    }
}

/// `text` as a string literal; it holds no NUL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `number` as an integer multiplied or divided by powers of two, each step of which is exact.
fn exact(number: f64) -> String {
    let bits = number.to_bits();
    let exponent = i64::try_from(bits >> 52 & 0x7ff).unwrap_or_default();
    let fraction = bits & ((1 << 52) - 1);
    let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    let mut power = exponent.max(1) - 1075;
    let mut text = format!("({}{mantissa}*1.0", if number.is_sign_negative() { "-" } else { "" });
    let (sign, whole) = if power < 0 { ('/', -1) } else { ('*', 1) };
    while power != 0 {
        let step = (power * whole).min(32);
        let _ = write!(text, "{sign}{}.0", 1_u64 << step);
        power -= step * whole;
    }
    text.push(')');
    text
}

/// Which columns a table's rows are written with.
struct Shape {
    columns: Vec<String>,
    /// Generated columns are left out, so the others must be named.
    named: bool,
    /// A name for the rowid, where there is one.
    rowid: Option<&'static str>,
    /// A column shows the rowid already.
    shown: bool,
}

impl Shape {
    fn of(connection: &Connection, table: &str) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare("SELECT name, upper(type), pk, hidden FROM pragma_table_xinfo(?1)")?;
        let all: Vec<(String, String, i64, i64)> =
            statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?.collect::<Result<_, _>>()?;
        let without_rowid: bool =
            connection.query_row("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1", [table], |row| row.get(0))?;
        let key_index: bool =
            connection.query_row("SELECT count(*) > 0 FROM pragma_index_list(?1) WHERE origin = 'pk'", [table], |row| row.get(0))?;
        let keys: Vec<&str> = all.iter().filter(|(_, _, key, _)| *key > 0).map(|(_, kind, ..)| kind.as_str()).collect();
        let shown = keys == ["INTEGER"] && !key_index;
        let free = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !all.iter().any(|(column, ..)| column.eq_ignore_ascii_case(name)));
        Ok(Self {
            named: all.iter().any(|(.., hidden)| *hidden != 0),
            columns: all.into_iter().filter(|(.., hidden)| *hidden == 0).map(|(name, ..)| name).collect(),
            rowid: free.filter(|_| !without_rowid),
            shown,
        })
    }

    fn extra(&self) -> Option<&'static str> {
        self.rowid.filter(|_| !self.shown)
    }

    fn list(&self) -> String {
        self.extra().map(str::to_owned).into_iter().chain(self.columns.iter().map(|name| quoted(name))).collect::<Vec<_>>().join(",")
    }

    fn columns(&self) -> String {
        if self.named || self.extra().is_some() { format!("({})", self.list()) } else { String::new() }
    }

    fn select(&self, table: &str) -> String {
        let order = self.rowid.map(|rowid| format!(" ORDER BY {rowid}")).unwrap_or_default();
        format!("SELECT {} FROM main.{}{order}", self.list(), quoted(table))
    }
}
