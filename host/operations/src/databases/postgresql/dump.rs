//! A dump: the roles by `pg_dumpall`, the database by `pg_dump`, streamed, counted while it passes, and taken for whole
//! only when exit status, completion mark and the number of its objects say so.

use super::{
    Clients, Inventory, Postgresql,
    client::{database_option, failed},
    names::quoted,
    scan::{CLUSTER_COMPLETE, DATABASE_COMPLETE, Scan, Seen},
};
use crate::{
    databases::{DatabaseError, Dump, DumpForm, DumpOptions, DumpReport, glob},
    process,
};
use havun_model::{Cancel, DatabaseRecord};
use std::{collections::BTreeSet, io::Write, time::Duration};

/// The roles of the server.
const GLOBALS: &str = "globals.sql";
const FORMS: [DumpForm; 2] = [DumpForm { extension: GLOBALS, restorable: false }, DumpForm { extension: "sql", restorable: true }];
/// In the place of the random key that would make each dump differ. It guards nothing here: a restore says its own.
const RESTRICT_KEY: &str = "HavunBackup";

pub(super) struct PostgresqlDump<'a> {
    engine: &'a Postgresql,
    clients: Clients,
    before: Inventory,
    /// Tables whose rows are left out.
    without_rows: BTreeSet<String>,
    lock_wait: Duration,
    cancel: Cancel,
    notes: BTreeSet<String>,
    record: DatabaseRecord,
}

impl<'a> PostgresqlDump<'a> {
    pub(super) fn begin(engine: &'a Postgresql, options: &DumpOptions, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let (clients, before) = engine.look(&engine.database, cancel)?;
        let left_out = |(key, (_, name)): &(&String, &(String, String))| {
            glob::any(&options.exclude_rows, key) || glob::any(&options.exclude_rows, name)
        };
        let without_rows = before.tables.iter().filter(left_out).map(|(key, _)| key.clone()).collect();
        Ok(Self {
            engine,
            clients,
            before,
            without_rows,
            lock_wait: options.lock_wait,
            cancel: cancel.clone(),
            notes: BTreeSet::new(),
            record: DatabaseRecord::default(),
        })
    }

    fn database(&self) -> &str {
        &self.engine.database
    }

    fn globals(&mut self, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        let mut command = self.clients.command("pg_dumpall", self.database())?;
        command.arg("--globals-only").arg(format!("--database={}", database_option(self.database())));
        command.args(restrict_key(&self.clients));
        if !self.before.reads_passwords {
            command.arg("--no-role-passwords");
        }
        let mut scan = Scan::new(CLUSTER_COMPLETE);
        let ended = process::read(&mut command, &self.cancel, |piece| {
            scan.feed(piece)?;
            out.write_all(piece).map_err(DatabaseError::Sink)
        })?;
        if !ended.status.success() {
            return Err(self.clients.classify("pg_dumpall", &ended, self.database()));
        }
        scan.finish().map(|_| ())
    }

    fn attempt(&mut self, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        self.before = Inventory::take(&self.clients, self.database(), &self.cancel)?;
        let options = self.options();
        let (seen, notes) = dump(&self.clients, self.database(), &self.before.encoding, &options, &self.cancel, &mut |piece| {
            out.write_all(piece).map_err(DatabaseError::Sink)
        })?;
        self.check(&seen)?;
        self.notes.extend(notes);
        self.record = self.record(seen);
        Ok(())
    }

    fn options(&self) -> Vec<String> {
        let wait = self.lock_wait.as_millis().clamp(1, i32::MAX as u128);
        let mut options = vec![format!("--lock-wait-timeout={wait}")];
        let names = self.without_rows.iter().filter_map(|key| self.before.tables.get(key));
        options.extend(names.map(|(schema, table)| format!("--exclude-table-data={}.{}", quoted(schema), quoted(table))));
        options
    }

    /// Compares what passed with what the server has, which may have changed meanwhile.
    fn check(&self, seen: &Seen) -> Result<(), DatabaseError> {
        let Some(what) = seen.objects.difference(&self.before.objects) else { return Ok(()) };
        let after = Inventory::take(&self.clients, self.database(), &self.cancel)?;
        if seen.objects.difference(&after.objects).is_none() {
            Ok(())
        } else if after.objects == self.before.objects {
            Err(DatabaseError::Counts { what })
        } else {
            Err(DatabaseError::Changed { message: what })
        }
    }

    fn record(&self, seen: Seen) -> DatabaseRecord {
        let mut warnings = self.before.warnings();
        if !self.without_rows.is_empty() {
            let tables: Vec<&str> = self.without_rows.iter().map(String::as_str).collect();
            warnings.push(format!("rows left out of: {}", tables.join(", ")));
        }
        warnings.extend(self.notes.iter().cloned());
        let mut rows = seen.rows;
        for table in &self.without_rows {
            rows.entry(table.clone()).or_default();
        }
        DatabaseRecord {
            engine: "postgresql".to_owned(),
            database: self.database().to_owned(),
            connection: Some(self.engine.connection.recorded()),
            server_version: self.clients.server.clone(),
            client_version: self.clients.dumper.text.clone(),
            flags: [fixed_options(&self.clients, &self.before.encoding), self.options()].concat(),
            charset: self.before.encoding.clone(),
            collation: self.before.settings.collate.clone(),
            rows,
            checksums: seen.checksums,
            objects: seen.objects.counts(),
            position: self.before.position.clone(),
            settings: self.before.settings.to_record(&self.before.roles),
            warnings,
        }
    }
}

impl Dump for PostgresqlDump<'_> {
    fn forms(&self) -> &[DumpForm] {
        &FORMS
    }

    fn write(&mut self, form: DumpForm, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        if form.extension == GLOBALS { self.globals(out) } else { self.attempt(out) }
    }

    fn finish(self: Box<Self>) -> DumpReport {
        DumpReport { record: self.record, problems: Vec::new() }
    }
}

/// One run of `pg_dump`; returns what was in it, and what it said though it succeeded.
pub(super) fn dump(
    clients: &Clients,
    database: &str,
    encoding: &str,
    options: &[String],
    cancel: &Cancel,
    take: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
) -> Result<(Seen, Vec<String>), DatabaseError> {
    let mut command = clients.command("pg_dump", database)?;
    command.args(fixed_options(clients, encoding)).args(options);
    // The one setting that changes rows (of `timestamptz`) and that pg_dump leaves to the server, the database or the role.
    command.env("PGTZ", "UTC");
    let mut scan = Scan::new(DATABASE_COMPLETE);
    let ended = process::read(&mut command, cancel, |piece| {
        scan.feed(piece)?;
        take(piece)
    })?;
    if !ended.status.success() {
        return Err(match ended.complaint {
            message if message.contains("does not exist") && message.contains("Query was") => DatabaseError::Changed { message },
            message if message.contains("cache lookup failed") || message.contains("could not open relation") => {
                DatabaseError::Changed { message }
            }
            message if message.contains("LOCK TABLE") && !message.contains("permission denied") => {
                DatabaseError::Busy { database: clients.describe().to_owned(), message }
            }
            complaint => {
                let ended = process::Ended { complaint, status: ended.status };
                clients.classify("pg_dump", &ended, database)
            }
        });
    }
    let seen = scan.finish()?;
    Ok((seen, ended.complaint.lines().map(str::to_owned).collect()))
}

fn fixed_options(clients: &Clients, encoding: &str) -> Vec<String> {
    let mut options = vec!["--format=plain".to_owned(), format!("--encoding={encoding}")];
    options.extend(restrict_key(clients));
    options
}

/// The fixed key, where the client knows it.
fn restrict_key(clients: &Clients) -> Option<String> {
    clients.dumper.restricts().then(|| format!("--restrict-key={RESTRICT_KEY}"))
}

/// The error of a client whose input was a dump that does not load.
pub(super) fn bad_dump(database: &str, ended: &process::Ended) -> DatabaseError {
    match failed("psql", ended) {
        DatabaseError::Client { message, status, .. } if message.is_empty() => {
            DatabaseError::BadDump { database: database.to_owned(), what: format!("psql ended with {status}") }
        }
        DatabaseError::Client { message, .. } => DatabaseError::BadDump { database: database.to_owned(), what: message },
        error => error,
    }
}
