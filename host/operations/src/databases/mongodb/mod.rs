//! MongoDB, one database at a time, by `mongodump` and `mongorestore` of the machine.
//!
//! Built from the programs' documented options and format of archives. Read `archive` (what a dump is, and when it is whole),
//! `client` (the programs), `restore`.

mod archive;
mod bson;
mod client;
mod crc;
mod restore;

use super::{
    DatabaseError, Dump, DumpForm, DumpOptions, DumpReport, DumpSource, Engine, Preflight, Present, ResolvedConnection, RestoreOutcome,
    RestoreTarget,
};
use archive::{Kind, Summary};
use client::Clients;
use havun_model::{Cancel, DatabaseRecord, ScratchDatabase};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

const FORMS: [DumpForm; 1] = [DumpForm { extension: "archive", restorable: true }];

pub(super) struct Mongodb {
    connection: ResolvedConnection,
    database: String,
    /// Where its programs are looked for.
    folders: Vec<PathBuf>,
}

impl Mongodb {
    pub(super) fn new(connection: ResolvedConnection) -> Result<Self, DatabaseError> {
        let database = connection.require("database")?.to_owned();
        client::uri(&connection)?;
        let folders = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        let engine = Self { connection, database, folders };
        engine.check_name(&engine.database)?;
        Ok(engine)
    }

    /// What no server takes in a name would be a pattern in an argument.
    fn check_name(&self, name: &str) -> Result<(), DatabaseError> {
        let sound = !name.is_empty() && name.len() < 64 && !name.contains(['/', '\\', '.', ' ', '"', '$', '*', '\0']);
        let why = "is no name of a MongoDB database: fewer than 64 bytes, and none of / \\ . space \" $ *".to_owned();
        if sound { Ok(()) } else { Err(self.connection.fault("database", why)) }
    }

    fn describe_database(&self, database: &str) -> String {
        let port = self.connection.get("port").map(|port| format!(":{port}")).unwrap_or_default();
        let place = match (self.connection.get("socket"), self.connection.get("host")) {
            (Some(socket), _) => socket.to_owned(),
            (None, host) => format!("{}{port}", host.unwrap_or("127.0.0.1")),
        };
        format!("MongoDB database `{database}` at {place}")
    }

    fn clients(&self, database: &str) -> Result<Clients, DatabaseError> {
        Clients::find(&self.connection, &self.folders, &self.describe_database(database))
    }
}

fn warnings(found: &Summary) -> Vec<String> {
    let plain = found.collections.values().filter(|one| one.kind != Kind::View).count();
    let text = format!("{plain} collections are dumped one after another: each is whole, but they are not of one point in time");
    (plain > 1).then_some(text).into_iter().collect()
}

impl Engine for Mongodb {
    fn describe(&self) -> String {
        self.describe_database(&self.database)
    }

    fn preflight(&self, cancel: &Cancel) -> Result<Preflight, DatabaseError> {
        let clients = self.clients(&self.database)?;
        let client_version = clients.version(cancel)?;
        let found = clients.look(&self.database, cancel)?;
        if found.collections.is_empty() {
            return Err(DatabaseError::NoDatabase { database: self.describe() });
        }
        Ok(Preflight {
            server_version: found.server.clone(),
            client_version,
            tables: found.rows().into_keys().collect(),
            warnings: warnings(&found),
        })
    }

    fn begin_dump<'a>(&'a self, options: &DumpOptions, cancel: &Cancel) -> Result<Box<dyn Dump + 'a>, DatabaseError> {
        let preflight = self.preflight(cancel)?;
        let record = DatabaseRecord { client_version: preflight.client_version, ..DatabaseRecord::default() };
        let ignored = !options.exclude_rows.is_empty();
        Ok(Box::new(MongoDump { engine: self, cancel: cancel.clone(), record, ignored }))
    }

    fn look(&self, target: &RestoreTarget, cancel: &Cancel) -> Result<Present, DatabaseError> {
        let database = target.database.as_ref().unwrap_or(&self.database);
        self.check_name(database)?;
        let content = self.clients(database)?.look(database, cancel)?.content();
        let fate = format!("is kept as an archive in {}", target.safety_dir.display());
        Ok(Present { database: self.describe_database(database), content, fate, notes: Vec::new() })
    }

    fn restore(
        &self,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<RestoreOutcome, DatabaseError> {
        restore::restore(self, dump, record, target, cancel)
    }

    fn open_scratch(&self, database: Option<&str>) -> Result<Box<dyn ScratchDatabase>, DatabaseError> {
        let database = database.unwrap_or(&self.database);
        self.check_name(database)?;
        let found = self.clients(database)?.dump(database, &mut io::sink(), &Cancel::default())?;
        Ok(Box::new(MongoScratch { rows: found.rows() }))
    }
}

struct MongoDump<'a> {
    engine: &'a Mongodb,
    cancel: Cancel,
    record: DatabaseRecord,
    ignored: bool,
}

impl Dump for MongoDump<'_> {
    fn forms(&self) -> &[DumpForm] {
        &FORMS
    }

    fn write(&mut self, _form: DumpForm, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        let engine = self.engine;
        let clients = engine.clients(&engine.database)?;
        let found = clients.dump(&engine.database, out, &self.cancel)?;
        if found.collections.is_empty() {
            return Err(DatabaseError::NoDatabase { database: engine.describe() });
        }
        let mut warnings = warnings(&found);
        if self.ignored {
            warnings.push("rows of MongoDB collections cannot be left out: all of them are in the dump".to_owned());
        }
        self.record = DatabaseRecord {
            engine: "mongodb".to_owned(),
            database: engine.database.clone(),
            connection: Some(engine.connection.recorded()),
            server_version: found.server.clone(),
            client_version: std::mem::take(&mut self.record.client_version),
            flags: clients.dump_flags(),
            rows: found.rows(),
            objects: found.objects(),
            warnings,
            ..DatabaseRecord::default()
        };
        Ok(())
    }

    fn finish(self: Box<Self>) -> DumpReport {
        DumpReport { record: self.record, problems: Vec::new() }
    }
}

/// A restored database, counted once.
struct MongoScratch {
    rows: BTreeMap<String, u64>,
}

impl ScratchDatabase for MongoScratch {
    fn tables(&mut self) -> Result<Vec<String>, String> {
        Ok(self.rows.keys().cloned().collect())
    }

    fn count_rows(&mut self, table: &str) -> Result<u64, String> {
        self.rows.get(table).copied().ok_or_else(|| format!("there is no collection {table}"))
    }

    fn sample(&mut self, _table: &str, _column: &str, _limit: u32) -> Result<Vec<Option<String>>, String> {
        Err("MongoDB has documents, no columns".to_owned())
    }
}

#[cfg(test)]
mod tests;
