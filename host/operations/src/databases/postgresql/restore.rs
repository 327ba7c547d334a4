//! Loading a dump into a named database.
//!
//! Always into a scratch database beside the target, verified there by dumping it again and comparing, and swapped in by
//! renaming. Whatever fails before the swap leaves the target as it was, and the swap is one transaction. Only a user who may
//! make no databases loads into an empty target directly, in one transaction.

use super::{
    Clients, Inventory, Postgresql,
    client::version_in,
    dump::{bad_dump, dump},
    erase,
    guard::{Guard, Passed, Rules},
    names::{quoted, with_suffix},
    roles::Standing,
    scan::Seen,
    settings::Settings,
};
use crate::{
    databases::{DatabaseError, DumpSource, EraseFirst, Present, RestoreOutcome, RestoreTarget},
    process,
};
use havun_model::{Cancel, DatabaseRecord};
use std::collections::BTreeSet;

/// How many scratch databases of killed runs are stepped over.
const SCRATCH_NAMES: u32 = 100;
/// How a scratch database is called after its target.
const SCRATCH: &str = "_havun_restore_";

pub(super) fn look(engine: &Postgresql, target: &RestoreTarget, cancel: &Cancel) -> Result<Present, DatabaseError> {
    let database = target.database.as_ref().unwrap_or(&engine.database);
    let describe = engine.describe_database(database);
    let clients = Clients::find(&engine.connection, database, &describe, cancel)?;
    let content = match Inventory::take(&clients, database, cancel) {
        Ok(inventory) => inventory.content(),
        Err(DatabaseError::NoDatabase { .. }) => None,
        Err(error) => return Err(error),
    };
    let fate = format!("is kept as database `{}` and the time", with_suffix(database, "_before_"));
    Ok(Present { database: describe, content, fate, notes: code_note(&clients, database, cancel).into_iter().collect() })
}

/// The code of a dump runs with the rights of whoever restores it.
fn code_note(clients: &Clients, database: &str, cancel: &Cancel) -> Option<String> {
    let sql = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user;";
    let asked = [database, "postgres"].into_iter().find_map(|place| clients.query(place, sql, cancel).ok())?;
    let superuser = asked.iter().flatten().any(|value| value == "t");
    superuser.then(|| {
        "the login is a superuser: code of the dump (functions in indexes, constraints, rules) runs with its rights; restore a dump \
         that you do not trust with a login of its own"
            .to_owned()
    })
}

pub(super) fn restore(
    engine: &Postgresql,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    mark: Option<&str>,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    let database = target.database.clone().unwrap_or_else(|| engine.database.clone());
    let describe = engine.describe_database(&database);
    let clients = Clients::find(&engine.connection, &database, &describe, cancel)?;
    let place = clients.maintenance(cancel)?;
    let standing = Standing::take(&clients, &place, cancel)?;
    let present = Settings::read(&clients, &place, &database, cancel)?;
    let (erase, warnings) = (target.erase.as_ref(), Vec::new());
    let mut job = Job { clients, place, standing, describe, database, present, dump, record, engine, erase, mark, cancel, warnings };
    let content = job.content(&job.database)?;
    match content {
        Some(content) if !target.replace => Err(DatabaseError::NotEmpty { database: job.describe, content }),
        content => job.run(content.is_some()),
    }
}

pub(super) struct Job<'a> {
    pub clients: Clients,
    /// The database to be in while others are made and renamed.
    pub place: String,
    pub standing: Standing,
    pub describe: String,
    pub database: String,
    /// Of the target, where there is one.
    pub present: Option<Settings>,
    dump: DumpSource<'a>,
    record: &'a DatabaseRecord,
    engine: &'a Postgresql,
    erase: Option<&'a EraseFirst>,
    /// By which the roles that are made here are known later.
    mark: Option<&'a str>,
    pub cancel: &'a Cancel,
    pub warnings: Vec<String>,
}

impl Job<'_> {
    pub(super) fn admin(&self, sql: &str) -> Result<Vec<Vec<String>>, DatabaseError> {
        self.clients.query(&self.place, sql, self.cancel)
    }

    /// What a database holds; `None` also when there is none.
    pub(super) fn content(&self, database: &str) -> Result<Option<String>, DatabaseError> {
        match Inventory::take(&self.clients, database, self.cancel) {
            Ok(inventory) => Ok(inventory.content()),
            Err(DatabaseError::NoDatabase { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn run(&mut self, occupied: bool) -> Result<RestoreOutcome, DatabaseError> {
        if !self.standing.makes_databases && self.present.is_some() && !occupied {
            return self.fill_in_place();
        }
        self.check_rights()?;
        self.warn_of_left_overs();
        let made = self.make_roles()?;
        let result = self.into_scratch(occupied);
        match result {
            Ok(mut outcome) => {
                outcome.warnings.splice(0..0, std::mem::take(&mut self.warnings));
                Ok(outcome)
            }
            Err(error) => {
                self.drop_roles(&made);
                Err(error)
            }
        }
    }

    fn check_rights(&self) -> Result<(), DatabaseError> {
        let user = quoted(&self.standing.user);
        if !self.standing.makes_databases {
            let what = "make the scratch database that a dump is proved in".to_owned();
            return Err(DatabaseError::RestoreRights { grant: format!("ALTER ROLE {user} CREATEDB;"), user, what });
        }
        let foreign = self.present.as_ref().filter(|present| !self.standing.superuser && !self.standing.own.contains(&present.owner));
        match foreign {
            Some(_) => Err(DatabaseError::RestoreRights {
                grant: format!("ALTER DATABASE {} OWNER TO {user};", quoted(&self.database)),
                user,
                what: format!("rename {}", self.describe),
            }),
            None => Ok(()),
        }
    }

    fn warn_of_left_overs(&mut self) {
        let stem = with_suffix(&self.database, &format!("{SCRATCH}100"));
        let stem = stem.trim_end_matches("100").to_owned();
        let left: Vec<&String> = self.standing.databases.iter().filter(|name| name.starts_with(&stem)).collect();
        self.warnings.extend(left.into_iter().map(|name| {
            format!("`{name}` was left by a restore that was killed (or is one under way); when it is not: DROP DATABASE {};", quoted(name))
        }));
    }

    /// Placeholders for the roles that the dump names and this server lacks.
    fn make_roles(&mut self) -> Result<Vec<String>, DatabaseError> {
        let needed = Settings::recorded_roles(self.record);
        let made = self.standing.make_roles(&needed, self.mark, &self.clients, &self.place, self.cancel)?;
        if !made.is_empty() {
            let text = format!(
                "made as placeholders, without login, password and memberships (the snapshot's {}.globals.sql has them): roles {}",
                self.record.database,
                made.join(", ")
            );
            self.warnings.push(text);
        }
        Ok(made)
    }

    fn drop_roles(&self, made: &[String]) {
        let sql: String = made.iter().map(|role| format!("DROP ROLE IF EXISTS {};\n", quoted(role))).collect();
        // Placeholders that stay do no harm.
        let _ = self.clients.query(&self.place, &sql, &Cancel::default());
    }

    fn into_scratch(&mut self, occupied: bool) -> Result<RestoreOutcome, DatabaseError> {
        let scratch = self.create_scratch()?;
        let recorded = Settings::from_record(self.record);
        self.apply(&scratch, recorded.session_statements(&scratch));
        let done = self.load_whole(&scratch, false).and_then(|outcome| {
            let settings = self.present.clone().unwrap_or(recorded);
            let reset = format!("ALTER DATABASE {} RESET ALL;", quoted(&scratch));
            self.apply(&scratch, std::iter::once(reset).chain(settings.statements(&scratch, &self.standing.roles)).collect());
            Ok(RestoreOutcome { kept: self.swap(&scratch, occupied)?, database: self.database.clone(), ..outcome })
        });
        done.map_err(|error| self.undo(&scratch, error))
    }

    /// Drops the scratch database, also after the operator has stopped the restore.
    fn undo(&self, scratch: &str, error: DatabaseError) -> DatabaseError {
        let dropped = self.clients.query(&self.place, &format!("DROP DATABASE IF EXISTS {};", quoted(scratch)), &Cancel::default());
        match dropped {
            Ok(_) => error,
            Err(undo) => DatabaseError::BadDump {
                database: self.record.database.clone(),
                what: format!("{error}; what had been loaded is in the database `{scratch}`, which could not be dropped: {undo}"),
            },
        }
    }

    fn create_scratch(&mut self) -> Result<String, DatabaseError> {
        let taken = &self.standing.databases;
        let names = (1..=SCRATCH_NAMES).map(|n| with_suffix(&self.database, &format!("{SCRATCH}{n}")));
        let mut free: Vec<String> = names.filter(|name| !taken.contains(name)).collect();
        free.reverse();
        let settings = Settings::from_record(self.record);
        let server = self.clients.server_version.0;
        let name = free.pop().unwrap_or_else(|| with_suffix(&self.database, SCRATCH));
        let create = |with_locale| format!("CREATE DATABASE {} {};", quoted(&name), settings.create_options(server, with_locale));
        let Err(error) = self.admin(&create(true)) else { return Ok(name) };
        // A locale that this server lacks is no reason to lose the data.
        if self.admin(&create(false)).is_err() {
            return Err(error);
        }
        self.warnings.push(format!("sorted by this server's default locale, as it does not know `{}`: {error}", settings.collate));
        Ok(name)
    }

    /// Loads into `database`, compares with the record, and erases whoever the target asks for.
    fn load_whole(&mut self, database: &str, one_transaction: bool) -> Result<RestoreOutcome, DatabaseError> {
        let passed = self.load(database, one_transaction)?;
        self.warnings.extend(passed.left_out);
        let mut outcome = self.compare(database, &passed.seen)?;
        if let Some(first) = self.erase {
            let done = erase::erase(self.engine, database, &first.rules, &first.subjects, self.cancel);
            outcome.erased = Some(first.settle(done)?);
        }
        if let Err(error) = self.clients.query(database, "ANALYZE;", self.cancel) {
            outcome.warnings.push(format!("not analysed; run ANALYZE in it: {error}"));
        }
        Ok(outcome)
    }

    fn load(&self, database: &str, one_transaction: bool) -> Result<Passed, DatabaseError> {
        let mut command = self.clients.psql(database)?;
        command.args(["--output=/dev/null", "--file=-"]);
        if one_transaction {
            command.arg("--single-transaction");
        }
        let rules = Rules::of(&self.standing, self.clients.server_version.0, one_transaction);
        let recorded = &self.record.database;
        let key = self.clients.dumper.restricts().then(random_key);
        let fed = process::feed(&mut command, self.cancel, |stdin| {
            if let Some(key) = &key {
                stdin.write_all(format!("\\restrict {key}\n").as_bytes()).map_err(|source| DatabaseError::Source(Box::new(source)))?;
            }
            let mut guard = Guard::new(rules, stdin);
            let given = (self.dump)(&mut guard);
            if let Some(what) = guard.refused() {
                return Err(DatabaseError::BadDump { database: recorded.clone(), what });
            }
            given.map_err(DatabaseError::Source)?;
            guard.finish(recorded)
        })?;
        if self.cancel.is_cancelled() {
            return Err(DatabaseError::Cancelled);
        }
        // A client that gave up says why; that it closed its input is only the consequence.
        match (fed.ended.status.code(), fed.given) {
            (_, Err(error @ DatabaseError::BadDump { .. })) => Err(error),
            (Some(0), given) => given,
            (Some(2), _) => Err(self.clients.classify("psql", &fed.ended, database)),
            (Some(_), _) => Err(bad_dump(recorded, &fed.ended)),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(bad_dump(recorded, &fed.ended)),
        }
    }

    /// Dumps what was loaded and compares it with what was read and with the record.
    fn compare(&mut self, database: &str, loaded: &Seen) -> Result<RestoreOutcome, DatabaseError> {
        let encoding = if self.record.charset.is_empty() { "UTF8" } else { &self.record.charset };
        let (found, _) = dump(&self.clients, database, encoding, &[], self.cancel, &mut |_| Ok(()))?;
        let recorded = &self.record.rows;
        let differs = |(table, expected): (&String, &u64)| match found.rows.get(table) {
            Some(rows) if rows == expected => None,
            Some(rows) => Some(format!("table {table} has {rows} rows where {expected} were recorded")),
            None => Some(format!("table {table} is missing")),
        };
        if let Some(what) = recorded.iter().find_map(differs) {
            return Err(DatabaseError::BadDump { database: self.record.database.clone(), what });
        }
        let mut outcome = RestoreOutcome {
            database: database.to_owned(),
            tables_verified: recorded.len() as u64,
            rows_verified: recorded.values().sum(),
            ..RestoreOutcome::default()
        };
        let now = found.objects.counts();
        outcome.problems.extend(self.record.objects.iter().filter_map(|(kind, expected)| {
            let count = now.get(kind).copied().unwrap_or_default();
            (count != *expected).then(|| format!("{count} {kind} where {expected} were recorded"))
        }));
        let sequences = loaded.sequences.iter().filter(|(name, value)| found.sequences.get(*name) != Some(value));
        let sequences: Vec<&str> = sequences.map(|(name, _)| name.as_str()).collect();
        if !sequences.is_empty() {
            outcome.problems.push(format!("sequences stand elsewhere than in the dump: {}", sequences.join(", ")));
        }
        self.compare_checksums(&found, &mut outcome);
        Ok(outcome)
    }

    fn compare_checksums(&self, found: &Seen, outcome: &mut RestoreOutcome) {
        let recorded = self.record.checksums.iter();
        let differing: Vec<&str> =
            recorded.filter(|(table, sum)| found.checksums.get(*table) != Some(sum)).map(|(table, _)| table.as_str()).collect();
        if differing.is_empty() {
            return;
        }
        let text = format!("rows differ from the record in: {}", differing.join(", "));
        // Versions may write a value in different ways.
        if version_in(&self.record.server_version).0 == self.clients.server_version.0 {
            outcome.problems.push(text);
        } else {
            outcome.warnings.push(text);
        }
    }

    /// Gives `database` the settings that a dump does not hold; what this user may not set is said.
    fn apply(&mut self, database: &str, statements: Vec<String>) {
        for statement in statements {
            if let Err(error) = self.admin(&statement) {
                let statement = statement.replace(&quoted(database), &quoted(&self.database));
                self.warnings.push(format!("could not be set (an administrator may run it): {statement} ({error})"));
            }
        }
    }

    fn fill_in_place(&mut self) -> Result<RestoreOutcome, DatabaseError> {
        let database = self.database.clone();
        let encoding = self.present.as_ref().map(|present| present.encoding.clone()).unwrap_or_default();
        if !self.record.charset.is_empty() && encoding != self.record.charset {
            self.warnings.push(format!("the encoding of the database is {encoding}, that of the dump {}", self.record.charset));
        }
        let made: BTreeSet<String> = self.make_roles()?.into_iter().collect();
        // What is loaded here is there at once, and nothing takes it back: it is erased when the restore has ended.
        self.erase = None;
        let done = self.load_whole(&database, true);
        let mut outcome = done.map_err(|error| {
            self.drop_roles(&made.iter().cloned().collect::<Vec<_>>());
            error
        })?;
        outcome.warnings.splice(0..0, std::mem::take(&mut self.warnings));
        outcome.warnings.push(format!(
            "loaded without a scratch database first, as {} may make none: ALTER ROLE {} CREATEDB;",
            self.standing.user,
            quoted(&self.standing.user)
        ));
        Ok(outcome)
    }
}

/// What a hostile dump cannot know, and so cannot end.
fn random_key() -> String {
    let mut bytes = [0u8; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => hex::encode(bytes),
        // The guard has let no command through; the key is the second bolt.
        Err(_) => "HavunRestore".to_owned(),
    }
}
