//! A dump: the client's own, streamed, counted while it passes, and taken for whole only when its exit status, its
//! last line and the number of its tables, views, routines, triggers and events say so.

use super::{
    Clients, Inventory, Mysql,
    client::{self, Flavour, failed},
    inventory::checksums,
    scan::{Objects, Scan},
};
use crate::{
    databases::{DatabaseError, Dump, DumpForm, DumpReport, glob},
    process,
};
use havun_model::{Cancel, DatabaseRecord};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::Command,
};

const FORMS: [DumpForm; 1] = [DumpForm { extension: "sql", restorable: true }];

/// Flags that both clients take. Deterministic, complete, and without rights beyond reading.
const FLAGS: [&str; 10] = [
    "--single-transaction",
    "--quick",
    "--routines",
    "--events",
    "--triggers",
    "--hex-blob",
    "--default-character-set=utf8mb4",
    "--skip-dump-date",
    "--no-tablespaces",
    "--max-allowed-packet=1G",
];

pub(super) struct MysqlDump<'a> {
    engine: &'a Mysql,
    database: String,
    pub(super) clients: Clients,
    before: Inventory,
    /// Tables whose rows are left out.
    without_rows: BTreeSet<String>,
    cancel: Cancel,
    record: DatabaseRecord,
}

impl<'a> MysqlDump<'a> {
    pub(super) fn begin(engine: &'a Mysql, database: &str, exclude_rows: &[String], cancel: &Cancel) -> Result<Self, DatabaseError> {
        let (clients, before) = engine.look(database, cancel)?;
        check_age(&clients, &before)?;
        let without_rows = before.tables.keys().filter(|table| glob::any(exclude_rows, table)).cloned().collect();
        let record = DatabaseRecord::default();
        Ok(Self { engine, database: database.to_owned(), clients, before, without_rows, cancel: cancel.clone(), record })
    }

    fn describe(&self) -> String {
        self.engine.describe_database(&self.database)
    }

    fn attempt(&mut self, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        let describe = self.describe();
        self.before = Inventory::take(&self.clients, &self.database, &describe, &self.cancel)?;
        let summable: Vec<&str> = self.before.summable().into_iter().filter(|table| !self.without_rows.contains(*table)).collect();
        let sums = checksums(&self.clients, &self.database, &summable, &describe, &self.cancel)?;
        let mut scan = Scan::new();
        let mut notes = Vec::new();
        for arguments in self.passes() {
            notes.extend(self.pass(&arguments, &mut scan, out)?);
        }
        let (objects, rows) = scan.finish();
        self.check(&objects)?;
        let sums_after = checksums(&self.clients, &self.database, &summable, &describe, &self.cancel)?;
        self.record = self.record(&objects, rows, notes);
        // A sum that is the same before and after is that of the rows in the dump.
        self.record.checksums = sums.into_iter().filter(|(table, sum)| sums_after.get(table) == Some(sum)).collect();
        Ok(())
    }

    /// What every run of the client is told, but for the names of tables.
    fn flags(&self) -> Vec<String> {
        let dumper = &self.clients.dumper;
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        if dumper.flavour == Flavour::MySql {
            flags.push("--set-gtid-purged=OFF".to_owned());
            if dumper.version >= (8, 0, 0) {
                flags.push("--column-statistics=0".to_owned());
            }
        } else if self.before.has_history && dumper.version >= (10, 11, 0) {
            flags.push("--dump-history".to_owned());
        }
        flags
    }

    /// The arguments of each run of the client; tables without rows come first where it cannot leave rows out, as
    /// views may need them.
    fn passes(&self) -> Vec<Vec<String>> {
        let (dumper, flags) = (&self.clients.dumper, self.flags());
        let per_table =
            |option: &str| self.without_rows.iter().map(|table| format!("--{option}={}.{table}", self.database)).collect::<Vec<_>>();
        let whole = ["--".to_owned(), self.database.clone()];
        if self.without_rows.is_empty() {
            return vec![[flags.as_slice(), &whole].concat()];
        }
        if dumper.flavour == Flavour::MariaDb && dumper.version >= (10, 5, 3) {
            return vec![[flags.as_slice(), &per_table("ignore-table-data"), &whole].concat()];
        }
        let schema: Vec<String> = flags.iter().filter(|flag| !matches!(flag.as_str(), "--routines" | "--events")).cloned().collect();
        let tables: Vec<String> = self.without_rows.iter().cloned().collect();
        let only = ["--no-data".to_owned(), "--skip-routines".to_owned(), "--skip-events".to_owned()];
        vec![[schema.as_slice(), &only, &whole, &tables].concat(), [flags.as_slice(), &per_table("ignore-table"), &whole].concat()]
    }

    /// One run of the client; returns what it said though it succeeded.
    fn pass(&self, arguments: &[String], scan: &mut Scan, out: &mut (dyn Write + Send)) -> Result<Vec<String>, DatabaseError> {
        let dumper = &self.clients.dumper;
        let mut command: Command = self.clients.command(dumper)?;
        command.args(arguments);
        let ended = process::read(&mut command, &self.cancel, |piece| {
            scan.feed(piece)?;
            out.write_all(piece).map_err(DatabaseError::Sink)
        })?;
        if !ended.status.success() {
            return Err(match client::error_number(&ended.complaint) {
                Some(1412 | 1146) => DatabaseError::Changed { message: ended.complaint },
                Some(1045 | 1130 | 2002 | 2003 | 1049) => client::classify(&dumper.name, &ended, &self.describe()),
                _ => failed(&dumper.name, &ended),
            });
        }
        scan.check_trailer()?;
        Ok(ended.complaint.lines().map(|line| format!("{}: {line}", dumper.name)).collect())
    }

    /// Compares what passed with what the server has, which may have changed meanwhile.
    fn check(&self, objects: &Objects) -> Result<(), DatabaseError> {
        let Some(what) = objects.difference(&self.before.objects) else { return Ok(()) };
        let after = Inventory::take(&self.clients, &self.database, &self.describe(), &self.cancel)?;
        if objects.difference(&after.objects).is_none() {
            return Ok(());
        }
        if after.objects == self.before.objects {
            Err(DatabaseError::Counts { what })
        } else {
            Err(DatabaseError::Changed { message: what })
        }
    }

    fn record(&self, objects: &Objects, rows: BTreeMap<String, u64>, notes: Vec<String>) -> DatabaseRecord {
        let mut warnings = warnings(&self.clients, &self.before);
        if !self.without_rows.is_empty() {
            let tables: Vec<&str> = self.without_rows.iter().map(String::as_str).collect();
            warnings.push(format!("rows left out of: {}", tables.join(", ")));
        }
        warnings.extend(notes);
        DatabaseRecord {
            engine: if self.before.flavour_is_mariadb { "mariadb" } else { "mysql" }.to_owned(),
            database: self.database.clone(),
            connection: Some(self.engine.connection.recorded()),
            server_version: self.before.server.clone(),
            client_version: self.clients.dumper.text.clone(),
            flags: self.flags(),
            charset: self.before.charset.clone(),
            collation: self.before.collation.clone(),
            rows,
            checksums: BTreeMap::new(),
            objects: objects.counts(),
            position: self.before.position.clone(),
            settings: BTreeMap::new(),
            warnings,
        }
    }
}

impl Dump for MysqlDump<'_> {
    fn forms(&self) -> &[DumpForm] {
        &FORMS
    }

    fn write(&mut self, _form: DumpForm, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        self.attempt(out)
    }

    fn finish(self: Box<Self>) -> DumpReport {
        DumpReport { record: self.record, problems: Vec::new() }
    }
}

/// What is compared of two versions: the third number only mends.
fn series(version: client::Version) -> (u32, u32) {
    (version.0, version.1)
}

/// A client of an older major version does not know all that the server can hold, and may leave it out without a word.
///
/// # Errors
/// [`DatabaseError::OldClient`].
pub(super) fn check_age(clients: &Clients, inventory: &Inventory) -> Result<(), DatabaseError> {
    let dumper = &clients.dumper;
    if dumper.flavour != inventory.flavour() || dumper.version.0 >= inventory.version.0 {
        return Ok(());
    }
    let install = format!("the client programs of {} {}", dumper.flavour.title(), inventory.version.0);
    Err(DatabaseError::OldClient { client: dumper.text.clone(), server: inventory.server.clone(), install })
}

/// What the operator should know of a dump by these programs of this database.
pub(super) fn warnings(clients: &Clients, inventory: &Inventory) -> Vec<String> {
    let mut warnings = inventory.warnings();
    let dumper = &clients.dumper;
    if dumper.flavour != inventory.flavour() {
        let (own, server) = (dumper.flavour.title(), inventory.flavour().title());
        warnings.push(format!("{} is of {own}, the server is {server}: install the server's own client", dumper.name));
    } else if series(dumper.version) < series(inventory.version) {
        let ((major, minor), own) = (series(dumper.version), series(inventory.version));
        warnings.push(format!(
            "{} {major}.{minor} is older than the server ({}.{}): what the server has learnt since may be missing from a dump; install its own version",
            dumper.name, own.0, own.1
        ));
    }
    if inventory.has_history && (dumper.flavour == Flavour::MySql || dumper.version < (10, 11, 0)) {
        warnings.push("the history of system-versioned tables is not in the dump".to_owned());
    }
    warnings
}
