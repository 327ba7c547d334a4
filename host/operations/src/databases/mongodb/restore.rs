//! A dump into a named database.
//!
//! The stored archive is checked and counted first, without a server. An empty target is loaded directly. One that holds something
//! is replaced only after the archive has been loaded into a scratch database beside it, and what is there has been written to a
//! file: MongoDB cannot rename a database, so nothing is swapped, and `mongorestore --drop` replaces collection by collection.

use super::{Clients, Mongodb, archive::Parser, archive::Summary};
use crate::databases::{DatabaseError, DumpSource, RestoreOutcome, RestoreTarget, free_path};
use havun_model::{Cancel, DatabaseRecord};
use std::{
    fs::DirBuilder,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// How many scratch databases of killed runs are stepped over.
const SCRATCH_NAMES: u32 = 100;

pub(super) fn restore(
    engine: &Mongodb,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    let database = target.database.clone().unwrap_or_else(|| engine.database.clone());
    engine.check_name(&database)?;
    engine.check_name(&record.database)?;
    let clients = engine.clients(&database)?;
    let present = clients.look(&database, cancel)?;
    if let (Some(content), false) = (present.content(), target.replace) {
        return Err(DatabaseError::NotEmpty { database: engine.describe_database(&database), content });
    }
    let stored = check(dump, record)?;
    let describe = engine.describe_database(&database);
    let job = Job { clients, describe, database, stored, dump, record, cancel };
    if present.collections.is_empty() { job.fill(RestoreOutcome::default()) } else { job.replace(&present, &target.safety_dir) }
}

/// The stored archive itself: whole, of one database, with the rows that were recorded.
fn check(dump: DumpSource<'_>, record: &DatabaseRecord) -> Result<Summary, DatabaseError> {
    let mut checking = Checking { parser: Parser::new(&record.database), wrong: None };
    let read = dump(&mut checking);
    let bad = |what| DatabaseError::BadDump { database: record.database.clone(), what };
    if let Some(what) = checking.wrong {
        return Err(bad(what));
    }
    read.map_err(DatabaseError::Source)?;
    let stored = checking.parser.finish().map_err(bad)?;
    match difference(record, &stored) {
        Some(what) => Err(bad(what)),
        None => Ok(stored),
    }
}

/// What first differs from the record.
fn difference(record: &DatabaseRecord, found: &Summary) -> Option<String> {
    let rows = found.rows();
    let differing = record.rows.iter().find(|(name, count)| rows.get(*name) != Some(count));
    let rows = differing.map(|(name, count)| match rows.get(name) {
        Some(found) => format!("collection `{name}` has {found} documents, {count} were recorded"),
        None => format!("collection `{name}` is missing"),
    });
    let objects = found.objects();
    rows.or_else(|| {
        let (name, count) = record.objects.iter().find(|(name, count)| objects.get(*name) != Some(count))?;
        Some(format!("there are {} {name}, {count} were recorded", objects.get(name).copied().unwrap_or_default()))
    })
}

struct Checking {
    parser: Parser,
    wrong: Option<String>,
}

impl Write for Checking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.parser.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(what) => {
                self.wrong = Some(what.clone());
                Err(io::Error::other(what))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Job<'a> {
    clients: Clients,
    describe: String,
    database: String,
    stored: Summary,
    dump: DumpSource<'a>,
    record: &'a DatabaseRecord,
    cancel: &'a Cancel,
}

impl Job<'_> {
    /// Loads into `to`, and believes the program only when it says as many documents as the archive has.
    fn load(&self, to: &str, drop: bool) -> Result<(), DatabaseError> {
        let expected: u64 = self.stored.rows().values().sum();
        let loaded = self.clients.load(&self.record.database, to, drop, self.dump, self.cancel)?;
        let what = format!("{expected} documents are in the dump, and mongorestore says that it loaded {loaded} into `{to}`");
        if loaded == expected { Ok(()) } else { Err(DatabaseError::Counts { what }) }
    }

    /// Loads into a target that is empty.
    fn fill(self, mut outcome: RestoreOutcome) -> Result<RestoreOutcome, DatabaseError> {
        let partly = |source| DatabaseError::PartlyLoaded { database: self.describe.clone(), source: Box::new(source) };
        self.load(&self.database, false).map_err(partly)?;
        self.verify(&mut outcome)?;
        Ok(outcome)
    }

    fn replace(self, present: &Summary, safety_dir: &Path) -> Result<RestoreOutcome, DatabaseError> {
        let scratch = self.scratch()?;
        let left =
            |source| DatabaseError::ScratchLeft { database: self.describe.clone(), scratch: scratch.clone(), source: Box::new(source) };
        self.load(&scratch, false).map_err(left)?;
        let saved = self.save(safety_dir).map_err(left)?;
        let failed = |source| DatabaseError::HalfReplaced {
            database: self.describe.clone(),
            safety_dump: saved.clone(),
            scratch: scratch.clone(),
            source: Box::new(source),
        };
        self.load(&self.database, true).map_err(failed)?;
        let mut outcome = RestoreOutcome { safety_dump: Some(saved.clone()), ..RestoreOutcome::default() };
        outcome
            .warnings
            .push(format!("database `{scratch}`, in which the dump was proved, is left: in mongosh: use {scratch}; db.dropDatabase()"));
        for name in present.collections.keys().filter(|name| !self.stored.collections.contains_key(*name)) {
            outcome
                .problems
                .push(format!("collection `{name}` is not in the dump and is still there: mongorestore drops only what it restores"));
        }
        self.verify(&mut outcome).map_err(failed)?;
        Ok(outcome)
    }

    /// The first name beside the target under which there is nothing.
    fn scratch(&self) -> Result<String, DatabaseError> {
        for n in 1..SCRATCH_NAMES {
            let tail = format!("_havun_restore_{n}");
            let room = self.database.floor_char_boundary(63 - tail.len());
            let name = format!("{}{tail}", self.database.get(..room).unwrap_or_default());
            if self.clients.look(&name, self.cancel)?.collections.is_empty() {
                return Ok(name);
            }
        }
        let content = format!("{} databases of earlier restores are beside it", SCRATCH_NAMES - 1);
        Err(DatabaseError::NotEmpty { database: self.describe.clone(), content })
    }

    /// What the target holds, in a file.
    fn save(&self, folder: &Path) -> Result<PathBuf, DatabaseError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(DatabaseError::io("make", folder))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DatabaseError::io("make a file in", folder))?;
        self.clients.dump(&self.database, &mut file, self.cancel)?;
        let path = free_path(folder, &format!("{}.before-restore", self.database), "archive");
        file.as_file().sync_all().map_err(DatabaseError::io("write", &path))?;
        file.persist_noclobber(&path).map_err(|error| DatabaseError::io("rename to", &path)(error.error))?;
        Ok(path)
    }

    /// Counts what the target holds now.
    fn verify(&self, outcome: &mut RestoreOutcome) -> Result<(), DatabaseError> {
        let found = self.clients.dump(&self.database, &mut io::sink(), self.cancel)?;
        let expected = self.stored.rows();
        let now = found.rows();
        for (name, count) in &expected {
            let there = now.get(name).copied().unwrap_or_default();
            if there != *count {
                outcome.problems.push(format!("collection `{name}` has {there} documents, {count} were restored: somebody writes to it?"));
            }
        }
        let objects = found.objects();
        if outcome.problems.is_empty() && objects != self.stored.objects() {
            outcome.problems.push(format!("collections, indexes and views are {:?}, {:?} were dumped", objects, self.stored.objects()));
        }
        outcome.database.clone_from(&self.describe);
        outcome.tables_verified = expected.len() as u64;
        outcome.rows_verified = expected.values().sum();
        Ok(())
    }
}
