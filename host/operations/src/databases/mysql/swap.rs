//! A scratch database becomes the target, and the target's content becomes a database of another name.
//!
//! No server renames a database, but all of them rename tables, across databases and many in one statement: that
//! statement is the swap, and all its moves happen or none. What it does not move is made anew from its text: triggers
//! (which forbid the move, so they go before it), views, routines and events. So the order is
//!
//! 1. the target's definitions are written to a file, and the database that will keep its tables is made;
//! 2. the triggers of both are dropped, then all tables change places in one `RENAME TABLE`;
//! 3. the target gets the dump's definitions, the kept database its own, but for events, which would run there.
//!
//! Until 2 the target is as it was; what fails in 2 or 3 is taken back. After a kill nothing is lost: every table is in
//! one of the three databases, every definition in the file, and `restore::look` says what is where. Rights on the
//! target stay, because it is never dropped; those on single routines are given again.

use super::{
    Inventory,
    client::{self, literal, quoted},
    load::{Job, Loaded, definers_warning},
    mark::Mark,
    rewrite::Only,
};
use crate::databases::{DatabaseError, RestoreOutcome, RestoreTarget};
use havun_model::Cancel;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

/// The longest name of a database.
const LONGEST_NAME: usize = 64;

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The dump is in the scratch database, and compared.
    Loaded,
    /// The target's definitions are in a file, and the database that will keep its tables is there.
    Saved,
    /// The triggers of both are gone.
    Freed,
    /// The tables have changed places.
    Swapped,
    /// The target is whole.
    Defined,
    /// The kept database is whole.
    Kept,
}

/// How many names that are taken are stepped over.
const KEPT_NAMES: u32 = 100;

/// Under which name the content of `database` is kept, unless that is taken.
pub(super) fn kept_name(database: &str, target: &RestoreTarget) -> String {
    format!("{}{}", kept_stem(database), target.stamp)
}

/// The `n`th name to try.
fn numbered(name: &str, n: u32) -> String {
    let suffix = if n == 1 { String::new() } else { format!("_{n}") };
    let room = LONGEST_NAME - suffix.len();
    format!("{}{suffix}", name.chars().take(room).collect::<String>())
}

/// What the names of all that was ever kept of `database` begin with.
pub(super) fn kept_stem(database: &str) -> String {
    let room = LONGEST_NAME - "_before_20261128_003100_100".len();
    format!("{}_before_", database.chars().take(room).collect::<String>())
}

/// Loads the dump into `scratch`, compares it, and swaps. `scratch` is gone afterwards, whatever happens.
pub(super) fn through_scratch(
    job: &Job<'_>,
    scratch: &str,
    present: &Inventory,
    watch: &dyn Fn(Step),
) -> Result<RestoreOutcome, DatabaseError> {
    let proved = job.load_whole(scratch, job.dump, true).and_then(|loaded| Ok((loaded, job.inventory(scratch)?)));
    let (Loaded { mut outcome, definitions }, new) = match proved {
        Ok(proved) => proved,
        Err(error) => return Err(give_up(job, &[scratch], error)),
    };
    watch(Step::Loaded);
    if job.cancel.is_cancelled() {
        return Err(give_up(job, &[scratch], DatabaseError::Cancelled));
    }
    // From here on it is done or taken back, whatever the operator says meanwhile: it takes a moment.
    let calm = Cancel::default();
    let job = &Job { cancel: &calm, ..job.clone() };
    let kept = present.content().map(|_| kept_name(&job.database, job.target));
    let mut swap =
        Swap { job, scratch, kept, old: present, new: &new, definitions, saved: None, made: vec![scratch.to_owned()], mark: None, watch };
    swap.run(&mut outcome)?;
    outcome.database.clone_from(&job.database);
    outcome.kept = swap.kept;
    Ok(outcome)
}

/// Drops what was made, and says so when that fails too.
fn give_up(job: &Job<'_>, made: &[&str], error: DatabaseError) -> DatabaseError {
    for database in made {
        if let Err(undo) = job.drop_database(database) {
            return DatabaseError::BadDump {
                database: job.record.database.clone(),
                what: format!("{error}; the database `{database}`, which it was loaded into or kept in, could not be dropped: {undo}"),
            };
        }
    }
    error
}

struct Swap<'a> {
    job: &'a Job<'a>,
    scratch: &'a str,
    /// None when the target holds nothing.
    kept: Option<String>,
    old: &'a Inventory,
    new: &'a Inventory,
    definitions: Vec<u8>,
    saved: Option<PathBuf>,
    /// The databases that this run has made itself: nothing else is ever dropped.
    made: Vec<String>,
    /// While the target may lack something.
    mark: Option<Mark>,
    watch: &'a dyn Fn(Step),
}

impl Swap<'_> {
    fn run(&mut self, outcome: &mut RestoreOutcome) -> Result<(), DatabaseError> {
        self.prepare(outcome).and_then(|()| self.is_free()).and_then(|()| self.mark()).map_err(|error| self.abandon(error))?;
        (self.watch)(Step::Saved);
        let grants = self.routine_grants();
        self.free().and_then(|()| self.rename()).map_err(|error| self.free_again(error))?;
        (self.watch)(Step::Swapped);
        self.define(outcome).map_err(|error| self.swap_back(error))?;
        self.unmark();
        (self.watch)(Step::Defined);
        self.define_kept(outcome);
        (self.watch)(Step::Kept);
        self.grant_again(&grants, outcome);
        if let Err(error) = self.job.drop_database(self.scratch) {
            outcome.warnings.push(format!("the empty database `{}` could not be dropped: {error}", self.scratch));
        }
        Ok(())
    }

    fn prepare(&mut self, outcome: &mut RestoreOutcome) -> Result<(), DatabaseError> {
        let job = self.job;
        if let Some(kept) = self.kept.clone() {
            self.saved = Some(job.save(&job.target.safety_dir, false)?);
            let made = self.make_kept(&kept)?;
            self.made.push(made.clone());
            self.kept = Some(made);
        }
        if !self.old.exists {
            job.create(&job.database)?;
            self.made.push(job.database.clone());
            return Ok(());
        }
        if (&self.old.charset, &self.old.collation) != (&job.record.charset, &job.record.collation) {
            let sql = format!("ALTER DATABASE {}{};", quoted(&job.database), job.character_set());
            let failed = job.query(&sql).err();
            outcome
                .warnings
                .extend(failed.map(|error| format!("the database's default character set stays {}: {error}", self.old.charset)));
        }
        Ok(())
    }

    /// An empty database of that name, or of that name with a number: another item may have kept its content there.
    fn make_kept(&self, name: &str) -> Result<String, DatabaseError> {
        let (charset, collation) = (&self.old.charset, &self.old.collation);
        let mut n = 1;
        loop {
            let kept = numbered(name, n);
            match self.job.query(&format!("CREATE DATABASE {} CHARACTER SET {charset} COLLATE {collation};", quoted(&kept))) {
                Err(DatabaseError::Client { message, .. }) if n < KEPT_NAMES && client::error_number(&message) == Some(1007) => n += 1,
                made => return made.map(|_| kept),
            }
        }
    }

    /// Whether nobody holds a table of the target: dropping its triggers would wait for them, too.
    fn is_free(&self) -> Result<(), DatabaseError> {
        let tables = self.old.tables.keys().map(|table| format!("{}.{} WRITE", quoted(&self.job.database), quoted(table)));
        let tables: Vec<String> = tables.collect();
        if tables.is_empty() {
            return Ok(());
        }
        match self.locked(&format!("LOCK TABLES {};\nUNLOCK TABLES;", tables.join(", "))) {
            Err(error @ (DatabaseError::Locked { .. } | DatabaseError::Cancelled)) => Err(error),
            // Who may not lock finds out at the move.
            _ => Ok(()),
        }
    }

    /// Runs what waits for locks, for as long as was said.
    fn locked(&self, sql: &str) -> Result<(), DatabaseError> {
        let wait = self.job.target.lock_wait.max(Duration::from_secs(1));
        match self.job.query(&format!("SET SESSION lock_wait_timeout = {};\n{sql}", wait.as_secs())) {
            Err(DatabaseError::Client { message, .. }) if client::error_number(&message) == Some(1205) => {
                Err(DatabaseError::Locked { database: self.job.describe(), waited: wait })
            }
            done => done.map(drop),
        }
    }

    fn free(&self) -> Result<(), DatabaseError> {
        let drops = |database: &str, names: &[String]| -> String {
            names.iter().map(|name| format!("DROP TRIGGER IF EXISTS {}.{};\n", quoted(database), quoted(name))).collect()
        };
        let sql = drops(self.scratch, &self.new.trigger_names) + &drops(&self.job.database, &self.old.trigger_names);
        self.locked(&sql)?;
        (self.watch)(Step::Freed);
        Ok(())
    }

    fn rename(&self) -> Result<(), DatabaseError> {
        let mut moves = self.moves(&self.job.database, self.kept.as_deref(), self.old);
        moves.extend(self.moves(self.scratch, Some(&self.job.database), self.new));
        self.rename_all(&moves)
    }

    fn moves(&self, from: &str, to: Option<&str>, inventory: &Inventory) -> Vec<String> {
        let Some(to) = to else { return Vec::new() };
        let tables = inventory.tables.keys().chain(&inventory.sequence_names);
        tables.map(|table| format!("{}.{table} TO {}.{table}", quoted(from), quoted(to), table = quoted(table))).collect()
    }

    /// All or nothing.
    fn rename_all(&self, moves: &[String]) -> Result<(), DatabaseError> {
        if moves.is_empty() {
            return Ok(());
        }
        self.locked(&format!("RENAME TABLE {};", moves.join(", ")))
    }

    /// The target's own views, triggers, routines and events, from the dump.
    fn define(&self, outcome: &mut RestoreOutcome) -> Result<(), DatabaseError> {
        let job = self.job;
        self.drop_definitions(self.old, &[])?;
        let definitions = self.definitions.as_slice();
        let source = |out: &mut (dyn Write + Send)| Ok(out.write_all(definitions)?);
        let definers = job.define(&job.database, &job.record.database, &source, Only::Definitions, true)?;
        self.own_sequences(&job.database, self.new)?;
        let found = job.inventory(&job.database)?;
        let differences = job.object_differences(&found.objects, false);
        if let Some(table) = self.new.tables.keys().find(|table| !found.tables.contains_key(*table)) {
            return Err(DatabaseError::BadDump { database: job.record.database.clone(), what: format!("table {table} was not moved") });
        }
        outcome.problems = differences;
        outcome.warnings.retain(|warning| !warning.contains("DEFINER"));
        outcome.warnings.extend(definers_warning(definers));
        outcome.warnings.extend(job.missing_definers(&job.database));
        Ok(())
    }

    /// Drops the target's views, routines and events, as `inventory` has them, and triggers.
    fn drop_definitions(&self, inventory: &Inventory, triggers: &[String]) -> Result<(), DatabaseError> {
        let mut sql = String::new();
        let mut drops = |kind: &str, name: &String| {
            sql.push_str(&format!("DROP {kind} IF EXISTS {}.{};\n", quoted(&self.job.database), quoted(name)));
        };
        triggers.iter().for_each(|name| drops("TRIGGER", name));
        inventory.event_names.iter().for_each(|name| drops("EVENT", name));
        inventory.view_names.iter().for_each(|name| drops("VIEW", name));
        for kind in ["PACKAGE BODY", "PACKAGE", "PROCEDURE", "FUNCTION"] {
            inventory.routine_names.iter().filter(|(of, _)| of == kind).for_each(|(_, name)| drops(kind, name));
        }
        self.job.query(&sql).map(drop)
    }

    /// A column whose default is a sequence's next number goes on naming the sequence where it was.
    fn own_sequences(&self, database: &str, inventory: &Inventory) -> Result<(), DatabaseError> {
        let alter = |(table, column, sequence): &(String, String, String)| {
            let (database, sequence) = (quoted(database), quoted(sequence));
            let (table, column) = (quoted(table), quoted(column));
            format!("ALTER TABLE {database}.{table} ALTER COLUMN {column} SET DEFAULT nextval({database}.{sequence});\n")
        };
        // A view shows the default of its table's column, and has none to set.
        let own = inventory.sequence_defaults.iter().filter(|(table, ..)| inventory.tables.contains_key(table));
        let sql: String = own.map(alter).collect();
        if sql.is_empty() { Ok(()) } else { self.job.query(&sql).map(drop) }
    }

    /// What is kept gets its own views, triggers and routines, so that it is what it was. The restore has succeeded.
    fn define_kept(&self, outcome: &mut RestoreOutcome) {
        let (Some(kept), Some(saved)) = (&self.kept, &self.saved) else { return };
        let source = |out: &mut (dyn Write + Send)| Ok(io::copy(&mut File::open(saved)?, out).map(|_| ())?);
        let defined =
            self.own_sequences(kept, self.old).and_then(|()| self.job.define(kept, &self.job.database, &source, Only::Definitions, false));
        match defined {
            Ok(_) if self.old.event_names.is_empty() => drop(fs::remove_file(saved)),
            Ok(_) => outcome.warnings.push(format!(
                "the events of what was there before are not in `{kept}`, where they would run, but in {}",
                saved.display()
            )),
            Err(error) => outcome.warnings.push(format!(
                "`{kept}` has all tables and rows of what was there before, but not its views, triggers and routines, which are in {}: {error}",
                saved.display()
            )),
        }
    }

    /// Rights on single routines of the target: they go with the routine when it is dropped.
    fn routine_grants(&self) -> Vec<(String, String)> {
        let sql = format!(
            "SELECT Routine_type, Routine_name, Proc_priv, User, Host FROM mysql.procs_priv WHERE Db = {};",
            literal(&self.job.database)
        );
        // Who may not read them could not give them either.
        let rows = self.job.query(&sql).unwrap_or_default();
        rows.iter().filter_map(|row| self.routine_grant(row)).collect()
    }

    fn routine_grant(&self, row: &[String]) -> Option<(String, String)> {
        let [kind, routine, privileges, user, host] = row else { return None };
        let (option, privileges): (Vec<&str>, Vec<&str>) = privileges.split(',').partition(|word| *word == "Grant");
        let privileges = if privileges.is_empty() { "USAGE".to_owned() } else { privileges.join(", ") };
        let option = if option.is_empty() { "" } else { " WITH GRANT OPTION" };
        let (database, name) = (quoted(&self.job.database), quoted(routine));
        let sql = format!("GRANT {privileges} ON {kind} {database}.{name} TO {}@{}{option};", literal(user), literal(host));
        Some((routine.clone(), sql))
    }

    fn grant_again(&self, grants: &[(String, String)], outcome: &mut RestoreOutcome) {
        for (routine, sql) in grants {
            let there = self.new.routine_names.iter().any(|(_, name)| name == routine);
            if there && let Err(error) = self.job.query(sql) {
                outcome.warnings.push(format!("a right on a routine could not be given again ({sql}): {error}"));
            }
        }
    }

    fn mark(&mut self) -> Result<(), DatabaseError> {
        let mark = Mark::set(self.job, self.scratch, self.kept.as_deref(), self.saved.as_deref(), &self.definitions)?;
        self.mark = Some(mark);
        Ok(())
    }

    fn unmark(&self) {
        if let Some(mark) = &self.mark {
            mark.clear();
        }
    }

    /// The target is as it was.
    fn abandon(&self, error: DatabaseError) -> DatabaseError {
        self.unmark();
        if let Some(saved) = &self.saved {
            let _ = fs::remove_file(saved);
        }
        give_up(self.job, &self.made.iter().map(String::as_str).collect::<Vec<_>>(), error)
    }

    /// The tables are where they were; some of the target's triggers may be gone.
    fn free_again(&self, error: DatabaseError) -> DatabaseError {
        match self.restore_definitions(Only::Triggers) {
            Ok(()) => self.abandon(error),
            Err(_) => self.half_swapped(error),
        }
    }

    /// Everything back: the tables in one statement, then the target's definitions from the file.
    fn swap_back(&self, error: DatabaseError) -> DatabaseError {
        let back = || {
            let found = self.job.inventory(&self.job.database)?;
            self.drop_definitions(&found, &found.trigger_names)?;
            let mut moves = self.moves(&self.job.database, Some(self.scratch), self.new);
            moves.extend(self.kept.as_deref().map(|kept| self.moves(kept, Some(&self.job.database), self.old)).unwrap_or_default());
            self.rename_all(&moves)?;
            self.restore_definitions(Only::Definitions)
        };
        match back() {
            Ok(()) => self.abandon(error),
            Err(_) => self.half_swapped(error),
        }
    }

    fn restore_definitions(&self, only: Only) -> Result<(), DatabaseError> {
        let Some(saved) = &self.saved else { return Ok(()) };
        let job = self.job;
        let left = job.inventory(&job.database)?;
        self.drop_definitions(&Inventory::default(), &left.trigger_names)?;
        let source = |out: &mut (dyn Write + Send)| Ok(io::copy(&mut File::open(saved)?, out).map(|_| ())?);
        job.define(&job.database, &job.database, &source, only, true).map(drop)
    }

    fn half_swapped(&self, error: DatabaseError) -> DatabaseError {
        DatabaseError::HalfSwapped {
            database: self.job.describe(),
            kept: self.kept.clone().unwrap_or_else(|| self.job.database.clone()),
            scratch: self.scratch.to_owned(),
            definitions: self.saved.clone().unwrap_or_default(),
            source: Box::new(error),
        }
    }
}
