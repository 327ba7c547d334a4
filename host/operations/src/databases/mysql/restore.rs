//! Loading a dump into a named database.
//!
//! A load is not a transaction: what fails half-way leaves half a database. So a target that holds something is
//! touched only after the dump has loaded, whole, into a scratch database of the same server, and after the target's
//! content lies in a file; and a target that was empty is empty again after a failure.

use super::{
    Clients, Inventory, Mysql,
    client::{self, classify, quoted},
    dump::MysqlDump,
    inventory::checksums,
    rewrite::{Changes, Rewriter},
    scan::Objects,
};
use crate::{
    databases::{DUMP_ATTEMPTS, DatabaseError, Dump, DumpForm, DumpSource, RestoreOutcome, RestoreTarget, free_path},
    process,
};
use havun_model::{Cancel, DatabaseRecord};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// How many scratch databases of killed runs are stepped over.
const SCRATCH_NAMES: u32 = 100;

pub(super) fn restore(
    engine: &Mysql,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    let database = target.database.clone().unwrap_or_else(|| engine.database.clone());
    let clients = Clients::find(&engine.connection, cancel)?;
    let job = Job { engine, clients, database, dump, record, cancel };
    let present = job.inventory(&job.database)?;
    match present.content() {
        Some(content) if !target.replace => Err(DatabaseError::NotEmpty { database: job.describe(), content }),
        Some(_) => job.replace(&target.safety_dir),
        None => job.fill(&present),
    }
}

struct Job<'a> {
    engine: &'a Mysql,
    clients: Clients,
    database: String,
    dump: DumpSource<'a>,
    record: &'a DatabaseRecord,
    cancel: &'a Cancel,
}

impl Job<'_> {
    fn describe(&self) -> String {
        self.engine.describe_database(&self.database)
    }

    fn inventory(&self, database: &str) -> Result<Inventory, DatabaseError> {
        Inventory::take(&self.clients, database, &self.engine.describe_database(database), self.cancel)
    }

    fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, DatabaseError> {
        self.clients.query(sql, &self.describe(), self.cancel)
    }

    /// Into a target that is missing or empty.
    fn fill(&self, present: &Inventory) -> Result<RestoreOutcome, DatabaseError> {
        let mut warnings = Vec::new();
        if !present.exists {
            self.create(&self.database)?;
        } else if (&present.charset, &present.collation) != (&self.record.charset, &self.record.collation) {
            let sql = format!("ALTER DATABASE {}{};", quoted(&self.database), self.character_set());
            warnings.extend(
                self.query(&sql).err().map(|error| format!("the database's default character set stays {}: {error}", present.charset)),
            );
        }
        let loaded = self.load_whole(&self.database, self.dump, false);
        let mut outcome = loaded.map_err(|error| self.undo(present.exists, error))?;
        outcome.warnings.splice(0..0, warnings);
        Ok(outcome)
    }

    /// Leaves the target as it was found: missing, or empty.
    fn undo(&self, existed: bool, error: DatabaseError) -> DatabaseError {
        let undone = if existed { self.clear(&self.database) } else { self.drop_database(&self.database) };
        match undone {
            Ok(()) => error,
            Err(undo) => DatabaseError::BadDump {
                database: self.record.database.clone(),
                what: format!("{error}; what had been loaded into `{}` could not be removed: {undo}", self.database),
            },
        }
    }

    fn replace(&self, safety_dir: &Path) -> Result<RestoreOutcome, DatabaseError> {
        let mut warnings: Vec<String> = self.prove()?.into_iter().collect();
        let safety_dump = self.save(safety_dir)?;
        let replaced = self.clear(&self.database).and_then(|()| self.load_whole(&self.database, self.dump, false));
        let mut outcome = replaced.map_err(|error| self.put_back(&safety_dump, error))?;
        warnings.append(&mut outcome.warnings);
        Ok(RestoreOutcome { warnings, safety_dump: Some(safety_dump), ..outcome })
    }

    /// Loads the dump into a scratch database and drops it again. Returns a warning where that is not allowed.
    fn prove(&self) -> Result<Option<String>, DatabaseError> {
        let scratch = match self.create_scratch() {
            Ok(scratch) => scratch,
            Err(error @ (DatabaseError::Connect { .. } | DatabaseError::Client { .. })) => {
                return Ok(Some(format!("not loaded into a scratch database first, as none could be made: {error}")));
            }
            Err(error) => return Err(error),
        };
        let proved = self.load_whole(&scratch, self.dump, true);
        let dropped = self.drop_database(&scratch);
        proved?;
        dropped.map(|()| None)
    }

    fn create_scratch(&self) -> Result<String, DatabaseError> {
        let stem: String = self.database.chars().take(40).collect();
        let mut last = DatabaseError::Cancelled;
        for n in 1..=SCRATCH_NAMES {
            let name = format!("{stem}_havun_restore_{n}");
            match self.create(&name) {
                Ok(()) => return Ok(name),
                Err(DatabaseError::Client { message, program, status }) => {
                    let taken = client::error_number(&message) == Some(1007);
                    last = DatabaseError::Client { program, status, message };
                    if !taken {
                        return Err(last);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Writes the target's content to a new file that only we may read.
    fn save(&self, folder: &Path) -> Result<PathBuf, DatabaseError> {
        fs::create_dir_all(folder).map_err(DatabaseError::io("make", folder))?;
        let mut attempt = 1;
        let file = loop {
            match self.save_once(folder) {
                Err(error) if error.is_retryable() && attempt < DUMP_ATTEMPTS => attempt += 1,
                saved => break saved?,
            }
        };
        let path = free_path(folder, &format!("{}.before-restore", self.database.replace('/', "_")), "sql");
        file.as_file().sync_all().map_err(DatabaseError::io("write", &path))?;
        file.persist_noclobber(&path).map_err(|error| DatabaseError::io("rename to", &path)(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(DatabaseError::io("write", folder))?;
        Ok(path)
    }

    fn save_once(&self, folder: &Path) -> Result<tempfile::NamedTempFile, DatabaseError> {
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DatabaseError::io("make a file in", folder))?;
        let mut dump = MysqlDump::begin(self.engine, &self.database, &[], self.cancel)?;
        dump.write(DumpForm { extension: "sql", restorable: true }, &mut file)?;
        Ok(file)
    }

    /// Loads what was saved, after the new dump has failed.
    fn put_back(&self, safety_dump: &Path, error: DatabaseError) -> DatabaseError {
        let source = |out: &mut (dyn io::Write + Send)| Ok(io::copy(&mut File::open(safety_dump)?, out).map(|_| ())?);
        let back = self.clear(&self.database).and_then(|()| self.load(&self.database, &source, false));
        match back {
            Ok(_) => error,
            Err(_) => DatabaseError::Replace { database: self.describe(), safety_dump: safety_dump.to_owned(), source: Box::new(error) },
        }
    }

    /// Loads and compares with the record.
    fn load_whole(&self, database: &str, dump: DumpSource<'_>, scratch: bool) -> Result<RestoreOutcome, DatabaseError> {
        let definers = self.load(database, dump, scratch)?;
        let mut outcome = self.compare(database, scratch)?;
        if definers > 0 {
            outcome.warnings.push(format!(
                "{definers} views, triggers, events or routines now run as the user that restored them, who may not act for their DEFINER"
            ));
        }
        Ok(outcome)
    }

    /// Loads a dump into an empty database; with other definers when the server does not allow the dump's. Returns
    /// how many were replaced.
    fn load(&self, database: &str, dump: DumpSource<'_>, scratch: bool) -> Result<u64, DatabaseError> {
        let changes = Changes { drop_sandbox_line: !self.clients.shell.has_sandbox(), current_definer: false, drop_events: scratch };
        match self.load_once(database, dump, changes) {
            Err(DatabaseError::Client { message, .. }) if matches!(client::error_number(&message), Some(1227 | 1449)) => {
                self.clear(database)?;
                self.load_once(database, dump, Changes { current_definer: true, ..changes })
            }
            loaded => loaded,
        }
    }

    fn load_once(&self, database: &str, dump: DumpSource<'_>, changes: Changes) -> Result<u64, DatabaseError> {
        let shell = &self.clients.shell;
        let mut command = self.clients.command(shell)?;
        command.args(["--batch", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--local-infile=0"]);
        command.arg(format!("--database={database}"));
        let fed = process::feed(&mut command, self.cancel, |stdin| {
            let mut rewriter = Rewriter::new(changes, stdin);
            dump(&mut rewriter).map_err(DatabaseError::Source)?;
            rewriter.finish()
        })?;
        if self.cancel.is_cancelled() {
            return Err(DatabaseError::Cancelled);
        }
        // A client that gave up says why; that it closed its input is only the consequence.
        if fed.ended.status.code().is_some_and(|code| code != 0) {
            return Err(classify(&shell.name, &fed.ended, &self.engine.describe_database(database)));
        }
        let definers = fed.given?;
        if fed.ended.status.success() { Ok(definers) } else { Err(client::failed(&shell.name, &fed.ended)) }
    }

    fn compare(&self, database: &str, scratch: bool) -> Result<RestoreOutcome, DatabaseError> {
        let found = self.inventory(database)?;
        let rows = self.count_rows(database, found.tables.keys())?;
        if let Some(what) = self.record.rows.iter().find_map(|expected| row_difference(expected, &rows)) {
            return Err(DatabaseError::BadDump { database: self.record.database.clone(), what });
        }
        let mut outcome = RestoreOutcome {
            database: database.to_owned(),
            tables_verified: self.record.rows.len() as u64,
            rows_verified: self.record.rows.values().sum(),
            ..RestoreOutcome::default()
        };
        outcome.problems.extend(self.object_differences(&found.objects, scratch));
        if !scratch {
            self.compare_checksums(database, &found, &mut outcome)?;
            outcome.warnings.extend(self.missing_definers(database));
        }
        Ok(outcome)
    }

    fn count_rows<'t>(&self, database: &str, tables: impl Iterator<Item = &'t String>) -> Result<BTreeMap<String, u64>, DatabaseError> {
        let count = |table: &String| format!("SELECT {}, COUNT(*) FROM {}.{};\n", client::literal(table), quoted(database), quoted(table));
        let sql: String = tables.map(count).collect();
        let number = |row: Vec<String>| match <[String; 2]>::try_from(row) {
            Ok([table, count]) => count.parse().ok().map(|count| (table, count)),
            Err(_) => None,
        };
        Ok(self.query(&sql)?.into_iter().filter_map(number).collect())
    }

    fn object_differences(&self, found: &Objects, scratch: bool) -> Vec<String> {
        let counts = found.counts();
        let differs = |(kind, expected): (&String, &u64)| {
            let now = counts.get(kind).copied().unwrap_or_default();
            let skipped = scratch && kind == "events";
            (now != *expected && !skipped).then(|| format!("{now} {kind} where {expected} were recorded"))
        };
        self.record.objects.iter().filter_map(differs).collect()
    }

    fn compare_checksums(&self, database: &str, found: &Inventory, outcome: &mut RestoreOutcome) -> Result<(), DatabaseError> {
        let tables: Vec<&str> = self.record.checksums.keys().map(String::as_str).collect();
        let sums = checksums(&self.clients, database, &tables, &self.describe(), self.cancel)?;
        let differing: Vec<&str> = tables.into_iter().filter(|table| sums.get(*table) != self.record.checksums.get(*table)).collect();
        if differing.is_empty() {
            return Ok(());
        }
        let text = format!("CHECKSUM TABLE differs from the record for: {}", differing.join(", "));
        // The sum depends on how a version stores its rows.
        if found.version == client::version_in(&self.record.server_version) {
            outcome.problems.push(text)
        } else {
            outcome.warnings.push(text)
        }
        Ok(())
    }

    /// Objects whose DEFINER is no user of this server cannot be used; nobody says so while they are made.
    fn missing_definers(&self, database: &str) -> Option<String> {
        let name = client::literal(database);
        let sql = format!(
            "SELECT DISTINCT d FROM (SELECT DEFINER AS d FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name}
             UNION SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {name}
             UNION SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {name}
             UNION SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name}) AS all_of_them
             WHERE d <> '' AND d NOT IN (SELECT CONCAT(User, '@', Host) FROM mysql.user);"
        );
        // Who may not read the users cannot be told.
        let missing: Vec<String> = self.query(&sql).ok()?.into_iter().flatten().collect();
        (!missing.is_empty()).then(|| {
            format!("no such user on this server, though views, triggers, events or routines are defined by: {}", missing.join(", "))
        })
    }

    fn create(&self, database: &str) -> Result<(), DatabaseError> {
        self.query(&format!("CREATE DATABASE {}{};", quoted(database), self.character_set())).map(|_| ())
    }

    fn character_set(&self) -> String {
        let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let (charset, collation) = (&self.record.charset, &self.record.collation);
        let mut text = if word(charset) { format!(" CHARACTER SET {charset}") } else { String::new() };
        if word(collation) {
            text.push_str(&format!(" COLLATE {collation}"));
        }
        text
    }

    fn drop_database(&self, database: &str) -> Result<(), DatabaseError> {
        self.query(&format!("DROP DATABASE IF EXISTS {};", quoted(database))).map(|_| ())
    }

    /// Drops everything in a database, but not the database itself, on which rights may have been granted.
    fn clear(&self, database: &str) -> Result<(), DatabaseError> {
        let found = Inventory::take(&self.clients, database, &self.describe(), &Cancel::default())?;
        let name = |name: &String| format!("{}.{}", quoted(database), quoted(name));
        let mut sql = String::from("SET FOREIGN_KEY_CHECKS = 0;\n");
        let mut drop_all =
            |kind: &str, names: Vec<String>| names.iter().for_each(|name| sql.push_str(&format!("DROP {kind} IF EXISTS {name};\n")));
        drop_all("EVENT", found.event_names.iter().map(name).collect());
        drop_all("VIEW", found.view_names.iter().map(name).collect());
        drop_all("TABLE", found.tables.keys().map(name).collect());
        drop_all("SEQUENCE", found.sequence_names.iter().map(name).collect());
        for kind in ["PACKAGE BODY", "PACKAGE", "PROCEDURE", "FUNCTION"] {
            drop_all(kind, found.routine_names.iter().filter(|(of, _)| of == kind).map(|(_, routine)| name(routine)).collect());
        }
        self.clients.query(&sql, &self.describe(), &Cancel::default()).map(|_| ())
    }
}

fn row_difference((table, rows): (&String, &u64), found: &BTreeMap<String, u64>) -> Option<String> {
    match found.get(table) {
        Some(now) if now == rows => None,
        Some(now) => Some(format!("table {table} has {now} rows, {rows} were recorded")),
        None => Some(format!("table {table} is missing")),
    }
}
