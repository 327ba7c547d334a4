//! Loading a dump into an empty database, and comparing what is there then with the record.

use super::{
    Clients, Inventory, Mysql,
    client::{self, Flavour, classify, quoted},
    erase,
    inventory::checksums,
    rewrite::{Changes, Only, Passed, Rewriter},
    scan::Objects,
};
use crate::{
    databases::{DatabaseError, DumpSource, RestoreOutcome, RestoreTarget},
    process,
};
use havun_model::{Cancel, DatabaseRecord};
use std::collections::BTreeMap;

/// Everything about one restore.
#[derive(Clone)]
pub(super) struct Job<'a> {
    pub engine: &'a Mysql,
    pub clients: &'a Clients,
    pub database: String,
    pub dump: DumpSource<'a>,
    pub record: &'a DatabaseRecord,
    pub target: &'a RestoreTarget,
    pub cancel: &'a Cancel,
    /// What the server lets us do.
    pub server: Server,
}

/// What a restore must know of the server and of who it is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub account: String,
    pub may_define_for_others: bool,
    pub parses_bodies: bool,
    pub max_allowed_packet: String,
}

impl Server {
    pub(super) fn of(inventory: &Inventory) -> Self {
        Self {
            account: inventory.account(),
            may_define_for_others: inventory.may_define_for_others(),
            // Since then every statement can be prepared.
            parses_bodies: inventory.flavour() == Flavour::MariaDb && inventory.version >= (10, 6, 0),
            max_allowed_packet: inventory.max_allowed_packet.clone(),
        }
    }
}

/// A dump that has been loaded and compared.
pub(super) struct Loaded {
    pub outcome: RestoreOutcome,
    /// What defines its views, triggers, routines and events.
    pub definitions: Vec<u8>,
}

impl Job<'_> {
    pub(super) fn describe(&self) -> String {
        self.engine.describe_database(&self.database)
    }

    pub(super) fn inventory(&self, database: &str) -> Result<Inventory, DatabaseError> {
        Inventory::take(self.clients, database, &self.engine.describe_database(database), self.cancel)
    }

    pub(super) fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, DatabaseError> {
        self.clients.query(sql, &self.describe(), self.cancel)
    }

    /// Loads, compares with the record, and erases whoever the target asks for.
    pub(super) fn load_whole(&self, database: &str, dump: DumpSource<'_>, scratch: bool) -> Result<Loaded, DatabaseError> {
        let passed = self.load(database, dump, scratch)?;
        let mut outcome = self.compare(database, scratch)?;
        outcome.warnings.extend(definers_warning(passed.definers));
        if let Some(first) = &self.target.erase {
            if scratch {
                self.drop_triggers(database)?;
            }
            let done = erase::erase(self.engine, database, &first.rules, &first.subjects, self.cancel);
            outcome.erased = Some(first.settle(done)?);
        }
        Ok(Loaded { outcome, definitions: passed.definitions })
    }

    /// Triggers may name the live database, and would write there what is erased here. They are made again, from their
    /// definitions, when the tables stand in their place.
    fn drop_triggers(&self, database: &str) -> Result<(), DatabaseError> {
        let drop = |name: &String| format!("DROP TRIGGER IF EXISTS {}.{};\n", quoted(database), quoted(name));
        let sql: String = self.inventory(database)?.trigger_names.iter().map(drop).collect();
        if sql.is_empty() { Ok(()) } else { self.query(&sql).map(|_| ()) }
    }

    /// Loads a dump into an empty database; with other definers when the server does not allow the dump's. Returns
    /// how many were replaced.
    pub(super) fn load(&self, database: &str, dump: DumpSource<'_>, scratch: bool) -> Result<Passed, DatabaseError> {
        let changes = Changes { keep_definitions: true, drop_events: scratch, ..self.changes() };
        match self.feed(database, dump, &changes) {
            Err(DatabaseError::Client { message, .. }) if matches!(client::error_number(&message), Some(1227 | 1449)) => {
                self.clear(database)?;
                self.feed(database, dump, &Changes { current_definer: true, ..changes })
            }
            loaded => loaded,
        }
    }

    /// Executes definitions, as they stand in a dump of database `of`, in `database`. Returns how many definers were
    /// replaced.
    pub(super) fn define(
        &self,
        database: &str,
        of: &str,
        definitions: DumpSource<'_>,
        only: Only,
        events: bool,
    ) -> Result<u64, DatabaseError> {
        let changes = Changes { database: of.to_owned(), only, drop_events: !events, ..self.changes() };
        Ok(self.feed(database, definitions, &changes)?.definers)
    }

    fn changes(&self) -> Changes {
        Changes {
            database: self.record.database.clone(),
            drop_sandbox_line: !self.clients.shell.has_sandbox(),
            current_definer: !self.server.may_define_for_others,
            parse_bodies: self.server.parses_bodies,
            own_account: self.server.account.clone(),
            ..Changes::default()
        }
    }

    fn feed(&self, database: &str, dump: DumpSource<'_>, changes: &Changes) -> Result<Passed, DatabaseError> {
        let shell = &self.clients.shell;
        let mut command = self.clients.command(shell)?;
        command.args(["--batch", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--local-infile=0"]);
        if shell.has_sandbox() {
            command.arg("--sandbox");
        }
        // The mode that the guard begins with, whatever the server's own is.
        command.arg(format!(
            "--init-command=SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', SESSION lock_wait_timeout = {}",
            client::LOCK_WAIT
        ));
        command.arg(format!("--database={database}"));
        let mut fed = process::feed(&mut command, self.cancel, |stdin| {
            let mut rewriter = Rewriter::new(changes.clone(), stdin);
            match (dump(&mut rewriter), rewriter.failure()) {
                (_, Some(refused)) => Err(refused),
                (Err(error), None) => Err(DatabaseError::Source(error)),
                (Ok(()), None) => rewriter.finish(),
            }
        })?;
        fed.ended.complaint = client::without_echo(&fed.ended.complaint);
        if self.cancel.is_cancelled() {
            return Err(DatabaseError::Cancelled);
        }
        // A client that gave up says why; that it closed its input is only the consequence.
        if fed.ended.status.code().is_some_and(|code| code != 0) {
            return Err(match client::error_number(&fed.ended.complaint) {
                Some(1153 | 2006) => DatabaseError::Packet { allowed: self.server.max_allowed_packet.clone() },
                _ => classify(&shell.name, &fed.ended, &self.engine.describe_database(database)),
            });
        }
        let passed = fed.given?;
        if fed.ended.status.success() { Ok(passed) } else { Err(client::failed(&shell.name, &fed.ended)) }
    }

    fn compare(&self, database: &str, scratch: bool) -> Result<RestoreOutcome, DatabaseError> {
        let found = self.inventory(database)?;
        let rows = self.count_rows(database, &found)?;
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
        self.compare_checksums(database, &found, &mut outcome)?;
        if !scratch {
            outcome.warnings.extend(self.missing_definers(database));
        }
        Ok(outcome)
    }

    /// A dump holds the history of a table too, where it has one.
    fn count_rows(&self, database: &str, found: &Inventory) -> Result<BTreeMap<String, u64>, DatabaseError> {
        let all = |table: &String| if found.versioned.contains(table) { " FOR SYSTEM_TIME ALL" } else { "" };
        let count = |table: &String| {
            format!("SELECT {}, COUNT(*) FROM {}.{}{};\n", client::literal(table), quoted(database), quoted(table), all(table))
        };
        let sql: String = found.tables.keys().map(count).collect();
        let number = |row: Vec<String>| match <[String; 2]>::try_from(row) {
            Ok([table, count]) => count.parse().ok().map(|count| (table, count)),
            Err(_) => None,
        };
        Ok(self.query(&sql)?.into_iter().filter_map(number).collect())
    }

    pub(super) fn object_differences(&self, found: &Objects, scratch: bool) -> Vec<String> {
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
        let sums = checksums(self.clients, database, &tables, &self.describe(), self.cancel)?;
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
    pub(super) fn missing_definers(&self, database: &str) -> Option<String> {
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

    pub(super) fn create(&self, database: &str) -> Result<(), DatabaseError> {
        self.query(&format!("CREATE DATABASE {}{};", quoted(database), self.character_set())).map(|_| ())
    }

    pub(super) fn character_set(&self) -> String {
        let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let (charset, collation) = (&self.record.charset, &self.record.collation);
        let mut text = if word(charset) { format!(" CHARACTER SET {charset}") } else { String::new() };
        if word(collation) {
            text.push_str(&format!(" COLLATE {collation}"));
        }
        text
    }

    pub(super) fn drop_database(&self, database: &str) -> Result<(), DatabaseError> {
        let sql = format!("DROP DATABASE IF EXISTS {};", quoted(database));
        self.clients.query(&sql, &self.describe(), &Cancel::default()).map(|_| ())
    }

    /// Drops everything in a database, but not the database itself, on which rights may have been granted.
    pub(super) fn clear(&self, database: &str) -> Result<(), DatabaseError> {
        let found = Inventory::take(self.clients, database, &self.describe(), &Cancel::default())?;
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

/// What the operator should know of definers that were replaced.
pub(super) fn definers_warning(definers: u64) -> Option<String> {
    (definers > 0).then(|| {
        format!("{definers} views, triggers, events or routines now run as the user that restored them, who may not act for their DEFINER")
    })
}

fn row_difference((table, rows): (&String, &u64), found: &BTreeMap<String, u64>) -> Option<String> {
    match found.get(table) {
        Some(now) if now == rows => None,
        Some(now) => Some(format!("table {table} has {now} rows, {rows} were recorded")),
        None => Some(format!("table {table} is missing")),
    }
}
