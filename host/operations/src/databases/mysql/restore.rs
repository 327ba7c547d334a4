//! A dump into a named database, and which way it goes there.
//!
//! A load is not a transaction: what fails half-way leaves half a database. So a dump is loaded into a scratch
//! database of the same server, once, compared there, and its tables are then moved (`swap`). Where the user may make
//! no scratch database, the dump is loaded in place: a target that holds something is written to a file first, and
//! loaded back when the dump fails; a target that was empty is empty again after a failure.

use super::{
    Clients, Inventory, Mysql,
    client::{self, literal, quoted},
    dump::MysqlDump,
    load::{Job, Server},
    swap::{self, Step},
};
use crate::databases::{DUMP_ATTEMPTS, DatabaseError, Dump, DumpForm, DumpSource, Present, RestoreOutcome, RestoreTarget, free_path};
use havun_model::{Cancel, DatabaseRecord};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// How many scratch databases of killed runs are stepped over.
const SCRATCH_NAMES: u32 = 100;

pub(super) fn look(engine: &Mysql, target: &RestoreTarget, cancel: &Cancel) -> Result<Present, DatabaseError> {
    let database = target.database.as_ref().unwrap_or(&engine.database);
    let describe = engine.describe_database(database);
    let clients = Clients::find(&engine.connection, cancel)?;
    let found = Inventory::take(&clients, database, &describe, cancel)?;
    let fate = format!("is kept as database `{}`, or in a file where no database can be made", swap::kept_name(database, target));
    let mut notes = left_behind(&clients, database, &describe, &target.safety_dir, cancel)?;
    notes.extend(code_note(&found));
    Ok(Present { database: describe, content: found.content(), fate, notes })
}

/// What earlier restores have left on the server.
fn left_behind(
    clients: &Clients,
    database: &str,
    describe: &str,
    safety_dir: &Path,
    cancel: &Cancel,
) -> Result<Vec<String>, DatabaseError> {
    let (scratch, kept) = (format!("{}_havun_restore_", stem(database)), swap::kept_stem(database));
    let like = |start: &str| literal(&format!("{}%", start.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%")));
    let sql = format!(
        "SELECT SCHEMA_NAME, (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = SCHEMA_NAME AND TABLE_TYPE NOT IN ('VIEW', 'SEQUENCE')) FROM information_schema.SCHEMATA
         WHERE SCHEMA_NAME LIKE {} OR SCHEMA_NAME LIKE {} ORDER BY 1;",
        like(&scratch),
        like(&kept)
    );
    let folder = safety_dir.parent().unwrap_or(safety_dir).display().to_string();
    let line = |row: Vec<String>| match row.as_slice() {
        [name, tables] if name.starts_with(&scratch) => Some(format!(
            "database `{name}` ({tables} tables) was left by a restore that was interrupted, or belongs to one that is under way; \
             if none is, drop it. When `{database}` lacks views, triggers or routines, they are in {folder}"
        )),
        [name, tables] if tables == "0" => {
            Some(format!("database `{name}` is empty: a restore was interrupted before it kept anything there"))
        }
        [name, tables] => {
            Some(format!("database `{name}` ({tables} tables) is what an earlier restore replaced; drop it when you no longer need it"))
        }
        _ => None,
    };
    Ok(clients.query(&sql, describe, cancel)?.into_iter().filter_map(line).collect())
}

fn stem(database: &str) -> String {
    database.chars().take(40).collect()
}

pub(super) fn restore(
    engine: &Mysql,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    restore_watched(engine, dump, record, target, cancel, &|_| {})
}

/// `watch` is told each step of a swap once it is done.
pub(super) fn restore_watched(
    engine: &Mysql,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    cancel: &Cancel,
    watch: &dyn Fn(Step),
) -> Result<RestoreOutcome, DatabaseError> {
    let database = target.database.clone().unwrap_or_else(|| engine.database.clone());
    let clients = Clients::find(&engine.connection, cancel)?;
    let present = Inventory::take(&clients, &database, &engine.describe_database(&database), cancel)?;
    let job = Job { engine, clients: &clients, database, dump, record, target, cancel, server: Server::of(&present) };
    let content = present.content();
    if let (Some(content), false) = (&content, target.replace) {
        return Err(DatabaseError::NotEmpty { database: job.describe(), content: content.clone() });
    }
    let done = match job.create_scratch() {
        Ok(scratch) => match swap::through_scratch(&job, &scratch, &present, watch) {
            // A view of two databases names this one too, which is not there yet.
            Err(DatabaseError::Client { message, .. })
                if content.is_none() && matches!(client::error_number(&message), Some(1049 | 1146 | 1356)) =>
            {
                job.fill(&present)
            }
            done => done,
        },
        Err(error @ (DatabaseError::Connect { .. } | DatabaseError::Client { .. })) => {
            let done = if content.is_some() { job.replace(&target.safety_dir) } else { job.fill(&present) };
            done.map(|mut outcome| {
                outcome.warnings.push(format!("loaded in place, as no scratch database could be made beside it: {error}"));
                outcome
            })
        }
        Err(error) => Err(error),
    };
    let outcome = done?;
    super::mark::clear_earlier(&job);
    Ok(outcome)
}

/// The code of a dump runs with the rights of whoever it names, when the login may name anybody.
fn code_note(inventory: &Inventory) -> Option<String> {
    let parsed = if Server::of(inventory).parses_bodies { "" } else { " (and this server cannot take bodies apart before they are made)" };
    inventory.may_define_for_others().then(|| {
        format!(
            "the login may define views, triggers and routines for others: those of the dump run with the rights of any user that it \
             names{parsed}; restore a dump that you do not trust with a login that has rights on this database only"
        )
    })
}

impl Job<'_> {
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
        let mut outcome = loaded.map_err(|error| self.undo(present.exists, error))?.outcome;
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
        let safety_dump = self.save(safety_dir, true)?;
        let replaced = self.clear(&self.database).and_then(|()| self.load_whole(&self.database, self.dump, false));
        let outcome = replaced.map_err(|error| self.put_back(&safety_dump, error))?.outcome;
        Ok(RestoreOutcome { safety_dump: Some(safety_dump), ..outcome })
    }

    fn create_scratch(&self) -> Result<String, DatabaseError> {
        let stem = stem(&self.database);
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

    /// Writes the target's content, or what defines it without its rows, to a new file that only we may read.
    pub(super) fn save(&self, folder: &Path, rows: bool) -> Result<PathBuf, DatabaseError> {
        fs::create_dir_all(folder).map_err(DatabaseError::io("make", folder))?;
        let mut attempt = 1;
        let file = loop {
            match self.save_once(folder, rows) {
                Err(error) if error.is_retryable() && attempt < DUMP_ATTEMPTS => attempt += 1,
                saved => break saved?,
            }
        };
        let path = free_path(
            folder,
            &format!("{}.{}", self.database.replace('/', "_"), if rows { "before-restore" } else { "definitions" }),
            "sql",
        );
        file.as_file().sync_all().map_err(DatabaseError::io("write", &path))?;
        file.persist_noclobber(&path).map_err(|error| DatabaseError::io("rename to", &path)(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(DatabaseError::io("write", folder))?;
        Ok(path)
    }

    fn save_once(&self, folder: &Path, rows: bool) -> Result<tempfile::NamedTempFile, DatabaseError> {
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DatabaseError::io("make a file in", folder))?;
        let all = ["*".to_owned()];
        let mut dump = MysqlDump::begin(self.engine, &self.database, if rows { &[] } else { &all }, self.cancel)?;
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
}
