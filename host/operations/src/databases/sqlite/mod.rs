//! SQLite: an online backup as the form that a restore uses, and plain SQL beside it for people and other programs.
//!
//! Both forms come from one private copy, taken by SQLite's own backup interface under a read transaction: a
//! writer in WAL mode is neither stopped nor seen half-way. The database is opened read-only; nothing is ever
//! created where no database was. Read `copy`, `text`, `restore`, `scratch`, `erase`.

mod copy;
mod erase;
mod restore;
mod scratch;
mod text;

pub use scratch::SqliteScratch;

use super::{
    DatabaseError, Dump, DumpForm, DumpOptions, DumpReport, DumpSource, Engine, ErasedRows, Preflight, Present, ResolvedConnection,
    RestoreOutcome, RestoreTarget, RowRule, Subjects, glob, private::PrivateFolder,
};
use havun_model::{Cancel, DatabaseRecord, ScratchDatabase};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

const FORMS: [DumpForm; 2] = [DumpForm { extension: "sql", restorable: false }, DumpForm { extension: "sqlite", restorable: true }];

/// The first bytes of a database file.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Begins the warning that the source was damaged; a restore of such a dump expects the damage.
const DAMAGE: &str = "integrity check: ";

pub(super) struct Sqlite {
    connection: ResolvedConnection,
    path: PathBuf,
}

impl Sqlite {
    pub(super) fn new(connection: ResolvedConnection) -> Result<Self, DatabaseError> {
        let path = connection.file()?;
        Ok(Self { connection, path })
    }

    fn file(&self, database: Option<&str>) -> PathBuf {
        database.map_or_else(|| self.path.clone(), PathBuf::from)
    }

    fn record(&self, copy: &Connection, path: &Path, exclude_rows: &[String]) -> Result<DumpReport, DatabaseError> {
        let fault = sqlite_error("read", &self.path);
        let mut record = DatabaseRecord {
            engine: "sqlite".to_owned(),
            database: self.connection.recorded_path(&self.path),
            connection: Some(self.connection.recorded()),
            server_version: rusqlite::version().to_owned(),
            client_version: rusqlite::version().to_owned(),
            charset: copy.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(&fault)?,
            rows: count_rows(copy).map_err(&fault)?,
            objects: count_objects(copy).map_err(&fault)?,
            ..DatabaseRecord::default()
        };
        let left_out: Vec<&str> = record.rows.keys().map(String::as_str).filter(|table| glob::any(exclude_rows, table)).collect();
        if !left_out.is_empty() {
            record.warnings.push(format!("rows left out of: {}", left_out.join(", ")));
        }
        record.warnings.extend(foreign_key_warning(copy));
        let problems: Vec<String> = copy::damage(copy, path).into_iter().map(|fault| format!("{DAMAGE}{fault}")).collect();
        record.warnings.extend(problems.iter().cloned());
        Ok(DumpReport { record, problems })
    }
}

impl Engine for Sqlite {
    fn describe(&self) -> String {
        format!("SQLite database {}", self.path.display())
    }

    fn preflight(&self, _cancel: &Cancel) -> Result<Preflight, DatabaseError> {
        let source = open_existing(&self.path, Duration::ZERO)?;
        let tables = match source.get().and_then(table_names) {
            Err(error) if is_busy(&error) => return Ok(self.busy_preflight()),
            tables => tables.map_err(sqlite_error("read", &self.path))?,
        };
        Ok(Preflight { tables, ..self.busy_preflight() }.without_warnings())
    }

    fn begin_dump<'a>(&'a self, options: &DumpOptions, cancel: &Cancel) -> Result<Box<dyn Dump + 'a>, DatabaseError> {
        let folder = PrivateFolder::make(&options.scratch_dir, "havun-sqlite-")?;
        let path = folder.path().join("copy.sqlite");
        copy::online(&self.path, &path, options.lock_wait, cancel)?;
        let report = {
            let copy = open_private(&path)?;
            copy::clear_tables(&copy, &options.exclude_rows).map_err(sqlite_error("leave rows out of the copy of", &self.path))?;
            let report = self.record(&copy, &path, &options.exclude_rows)?;
            copy.close().map_err(|(_, error)| sqlite_error("close the copy of", &self.path)(error))?;
            report
        };
        Ok(Box::new(SqliteDump { path, report, cancel: cancel.clone(), _folder: folder }))
    }

    fn look(&self, target: &RestoreTarget, _cancel: &Cancel) -> Result<Present, DatabaseError> {
        let path = self.file(target.database.as_deref());
        Ok(Present {
            database: format!("SQLite database {}", path.display()),
            content: restore::content(&path)?,
            fate: format!("is kept as a file in {}", target.safety_dir.display()),
            notes: Vec::new(),
        })
    }

    fn restore(
        &self,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<RestoreOutcome, DatabaseError> {
        restore::restore(&self.file(target.database.as_deref()), dump, record, target, cancel)
    }

    fn open_scratch(&self, database: Option<&str>) -> Result<Box<dyn ScratchDatabase>, DatabaseError> {
        Ok(Box::new(SqliteScratch::open(&self.file(database))?))
    }

    fn erase(
        &self,
        database: Option<&str>,
        rules: &[RowRule],
        subjects: &Subjects,
        cancel: &Cancel,
    ) -> Result<Vec<ErasedRows>, DatabaseError> {
        erase::erase(&self.file(database), rules, subjects, cancel)
    }
}

impl Sqlite {
    fn busy_preflight(&self) -> Preflight {
        let version = rusqlite::version().to_owned();
        let warning = format!("{} is locked by another program just now", self.describe());
        Preflight { server_version: version.clone(), client_version: version, tables: Vec::new(), warnings: vec![warning] }
    }
}

impl Preflight {
    fn without_warnings(mut self) -> Self {
        self.warnings.clear();
        self
    }
}

struct SqliteDump {
    path: PathBuf,
    report: DumpReport,
    cancel: Cancel,
    /// Removed with everything in it when the dump is dropped.
    _folder: PrivateFolder,
}

impl Dump for SqliteDump {
    fn forms(&self) -> &[DumpForm] {
        &FORMS
    }

    fn write(&mut self, form: DumpForm, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        match form.extension {
            "sql" => text::write(&open_private(&self.path)?, &self.path, &self.cancel, out),
            _ => stream_file(&self.path, &self.cancel, out),
        }
    }

    fn finish(self: Box<Self>) -> DumpReport {
        self.report
    }
}

fn stream_file(path: &Path, cancel: &Cancel, out: &mut dyn Write) -> Result<(), DatabaseError> {
    let mut file = File::open(path).map_err(DatabaseError::io("open", path))?;
    let size = file.metadata().map_err(DatabaseError::io("look at", path))?.len();
    let mut buffer = vec![0; 256 * 1024];
    let mut copied = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(DatabaseError::Cancelled);
        }
        match file.read(&mut buffer).map_err(DatabaseError::io("read", path))? {
            0 => break,
            count => {
                out.write_all(buffer.get(..count).unwrap_or_default()).map_err(DatabaseError::Sink)?;
                copied += count as u64;
            }
        }
    }
    if copied == size { Ok(()) } else { Err(DatabaseError::Truncated { what: format!("{copied} of {size} bytes of the copy") }) }
}

/// A database that exists, open for reading only.
struct Source {
    /// None only while it is dropped.
    connection: Option<Connection>,
    path: PathBuf,
    /// The log and its shared memory are of our making.
    tidy: bool,
}

impl Source {
    fn get(&self) -> rusqlite::Result<&Connection> {
        self.connection.as_ref().ok_or(rusqlite::Error::InvalidQuery)
    }
}

impl Drop for Source {
    /// Even a reader makes the files of a write-ahead log, and cannot remove them. A connection that may write does
    /// so when it closes, unless somebody else has come to use them; it changes nothing in the database.
    fn drop(&mut self) {
        drop(self.connection.take());
        if self.tidy && has_log(&self.path) {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            if let Ok(last) = Connection::open_with_flags(&self.path, flags) {
                let _ = last.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
            }
        }
    }
}

fn has_log(path: &Path) -> bool {
    restore::companion(path, "-wal").exists() || restore::companion(path, "-shm").exists()
}

/// Opens a database that exists, read-only. Nothing is created, whatever happens.
fn open_existing(path: &Path, lock_wait: Duration) -> Result<Source, DatabaseError> {
    check_is_database(path)?;
    let tidy = !has_log(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite_error("open", path))?;
    let source = Source { connection: Some(connection), path: path.to_owned(), tidy };
    source.get().and_then(|connection| connection.busy_timeout(lock_wait)).map_err(sqlite_error("open", path))?;
    Ok(source)
}

fn check_is_database(path: &Path) -> Result<(), DatabaseError> {
    let foreign = |why: &str| DatabaseError::NotADatabase { path: path.to_owned(), why: why.to_owned() };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DatabaseError::Missing { path: path.to_owned() }),
        metadata => metadata.map_err(DatabaseError::io("look at", path))?,
    };
    if !metadata.is_file() {
        return Err(foreign("it is not a regular file"));
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(DatabaseError::io("open", path))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(DatabaseError::io("read", path))?;
    if head.is_empty() || head == MAGIC { Ok(()) } else { Err(foreign("it begins with other bytes")) }
}

/// Opens a file that nobody else knows of: no shared memory beside it, triggers asleep.
fn open_private(path: &Path) -> Result<Connection, DatabaseError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA foreign_keys = OFF")?;
        Ok(connection)
    };
    open().map_err(sqlite_error("open", path))
}

fn sqlite_error(what: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> DatabaseError {
    let path = path.to_owned();
    move |source| DatabaseError::Sqlite { what, path: path.clone(), source }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// `name` as an identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Tables that hold rows of their own, sorted: no views, no virtual tables, nothing of SQLite's.
fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         ORDER BY name",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn count_rows(connection: &Connection) -> rusqlite::Result<std::collections::BTreeMap<String, u64>> {
    let count = |table: &String| {
        let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(|rows| (table.clone(), rows.unsigned_abs()))
    };
    table_names(connection)?.iter().map(count).collect()
}

fn count_objects(connection: &Connection) -> rusqlite::Result<std::collections::BTreeMap<String, u64>> {
    let mut statement =
        connection.prepare("SELECT type || 's', count(*) FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL GROUP BY type")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    rows.map(|row| row.map(|(kind, count)| (if kind == "indexs" { "indexes".to_owned() } else { kind }, count))).collect()
}

fn foreign_key_warning(connection: &Connection) -> Option<String> {
    let count: i64 = connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0)).ok()?;
    (count > 0).then(|| format!("{count} rows refer to rows that are not there (PRAGMA foreign_key_check)"))
}

#[cfg(test)]
mod tests;
