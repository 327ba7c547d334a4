//! Every database of a snapshot into a scratch database, compared with its record. Servers start when the first dump
//! needs them, and serve all snapshots of one project's drill.

use super::{
    certificate::CertifiedDatabase,
    folder::DrillFolder,
    foreign::{self, Refused},
};
use crate::{
    context::Context,
    databases::{self as engines, DatabaseError, DumpSource, Engine, ResolvedConnection, RestoreTarget, RowRule, Subjects},
    erasures::Applied,
    error::{OperationError, one_line},
    restore::{PreparedRestore, beneath, make_place},
    scratch_server::{Family, OsUser, ScratchError, ScratchServer},
};
use havun_model::{Cancel, Connection, DatabaseRecord, ItemRecord, Outcome, ScratchDatabase};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Servers of one project's drill.
pub(super) struct Servers<'a> {
    cx: &'a Context,
    running: BTreeMap<Family, ScratchServer>,
    /// Those that cannot be had, so that nobody tries again, and whether that is only because they are not installed.
    absent: BTreeMap<Family, (bool, String)>,
    /// Where nothing may be loaded; looked for when a configured server is to be used.
    productions: std::cell::OnceCell<foreign::Productions>,
}

/// How a database's proof ended, when it did not go through.
pub(super) enum Unproven {
    /// Something is wrong.
    Failed(String),
    /// This host cannot tell.
    Skipped(String),
    Cancelled,
}

impl From<String> for Unproven {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// A scratch database that holds a dump.
pub(super) struct Loaded {
    pub engine: Box<dyn Engine>,
    /// What the engine calls it; `None` for a file, and for a server of its own.
    pub database: Option<String>,
    /// It lies on a server of the configuration.
    pub is_foreign: bool,
    /// The server that holds this dump and nothing else.
    pub server: Option<ScratchServer>,
}

/// The proven databases of one snapshot, open for the strategy's questions.
#[derive(Default)]
pub(super) struct Proven {
    pub certified: Vec<CertifiedDatabase>,
    loaded: Vec<(String, Loaded)>,
}

impl Proven {
    /// The items that are loaded.
    pub fn items(&self) -> Vec<&str> {
        self.loaded.iter().map(|(item, _)| item.as_str()).collect()
    }

    /// Erases in one of them.
    ///
    /// # Errors
    /// One line.
    pub fn erase(&self, item: &str, rules: &[RowRule], subjects: &Subjects, cancel: &Cancel) -> Result<Applied, String> {
        let Some((_, loaded)) = self.loaded.iter().find(|(name, _)| name == item) else { return Ok(Applied::Not) };
        loaded.engine.erase(loaded.database.as_deref(), rules, subjects, cancel).map(Applied::Erased).map_err(|e| one_line(&e))
    }

    /// Read-only handles by item.
    ///
    /// # Errors
    /// One line for each that cannot be opened.
    pub fn open(&self) -> (Vec<(String, Box<dyn ScratchDatabase>)>, Vec<String>) {
        let (mut open, mut errors) = (Vec::new(), Vec::new());
        for (item, loaded) in &self.loaded {
            match loaded.engine.open_scratch(loaded.database.as_deref()) {
                Ok(database) => open.push((item.clone(), database)),
                Err(error) => errors.push(format!("`{item}` cannot be opened for the checks: {}", one_line(&error))),
            }
        }
        (open, errors)
    }
}

/// What is restored, and where to.
pub(super) struct Source<'a> {
    pub prepared: &'a PreparedRestore<'a>,
    pub tree: &'a Path,
    /// A folder for files that have no place in the tree.
    pub place: &'a Path,
}

impl<'a> Servers<'a> {
    pub fn new(cx: &'a Context) -> Self {
        Self { cx, running: BTreeMap::new(), absent: BTreeMap::new(), productions: std::cell::OnceCell::new() }
    }

    /// Starts what the snapshot will need, so that the time for that is none of the restore's.
    ///
    /// # Errors
    /// [`OperationError::Interrupted`].
    pub fn warm_up<'r>(&mut self, records: impl Iterator<Item = &'r DatabaseRecord>, folder: &DrillFolder) -> Result<(), OperationError> {
        for record in records {
            if let Some(family) = Family::of(record).filter(|_| !self.cx.config.drill.databases.contains_key(&record.engine)) {
                self.server(family, folder).map(|_| ()).or_else(|unproven| match unproven {
                    Unproven::Cancelled => Err(OperationError::Interrupted),
                    _ => Ok(()),
                })?;
            }
        }
        Ok(())
    }

    /// Loads every database of a snapshot.
    ///
    /// # Errors
    /// [`OperationError::Interrupted`], [`OperationError::Io`]. What is wrong with a database is in its line.
    pub fn prove(&mut self, source: &Source<'_>, folder: &mut DrillFolder, proven: &mut Proven) -> Result<(), OperationError> {
        let items = &source.prepared.snapshot().items;
        for (item, record) in items.iter().filter(|(_, record)| record.kind == "database") {
            self.cx.check_cancelled()?;
            self.cx.observer.step(&format!("loading database `{item}`"));
            let mut line = CertifiedDatabase::of(item, record);
            match self.one(source, item, record, folder, &mut line) {
                Ok(loaded) => proven.loaded.push((item.clone(), loaded)),
                Err(Unproven::Cancelled) => return Err(OperationError::Interrupted),
                Err(Unproven::Failed(why)) => line.failed(why),
                Err(Unproven::Skipped(why)) => line.skipped(why),
            }
            proven.certified.push(line);
        }
        Ok(())
    }

    /// Reads what no load has read: every form of a dump that could not be loaded, and the further forms of those that were.
    /// Their hashes are checked on the way. One that cannot be read, or is not whole, fails whatever may stay unproven.
    ///
    /// # Errors
    /// [`OperationError::Interrupted`].
    pub fn read_the_rest(&self, prepared: &PreparedRestore<'_>, proven: &mut Proven) -> Result<(), OperationError> {
        for line in proven.certified.iter_mut().filter(|line| line.result != "failed") {
            let Some(record) = prepared.snapshot().items.get(&line.item) else { continue };
            self.cx.check_cancelled()?;
            self.cx.observer.step(&format!("reading the dump of `{}`", line.item));
            let loaded = line.result == "passed";
            match read_forms(self.cx, prepared, record, loaded) {
                Ok(_) if loaded => {}
                Ok(bytes) => line.bytes = bytes,
                Err(_) if self.cx.cancel.is_cancelled() => return Err(OperationError::Interrupted),
                Err(why) => line.failed(why),
            }
        }
        Ok(())
    }

    /// Drops the scratch databases of one snapshot. On a server of our own that only saves space.
    ///
    /// # Errors
    /// One line for each that stays on a server of the configuration; the next drill tries again.
    pub fn forget(&mut self, proven: Proven, folder: &mut DrillFolder) -> Vec<String> {
        let mut errors = Vec::new();
        // The other way round: a role is made with the first database that needs it, and others may follow.
        for (item, loaded) in proven.loaded.into_iter().rev() {
            if let Some(server) = loaded.server {
                let place = server.folder().to_owned();
                drop(server);
                // What cannot be removed now is removed with the drill's folder, which says why it cannot.
                let _ = super::folder::remove_tree(&place);
                continue;
            }
            let Some(database) = &loaded.database else { continue };
            if !loaded.is_foreign {
                let _ = loaded.engine.drop_scratch(database);
            } else if let Err(left) = drop_foreign(&loaded, folder) {
                errors.push(format!("the scratch database {database} of `{item}` is still there: {left}"));
            }
        }
        errors
    }

    fn one(
        &mut self,
        source: &Source<'_>,
        item: &str,
        record: &ItemRecord,
        folder: &mut DrillFolder,
        line: &mut CertifiedDatabase,
    ) -> Result<Loaded, Unproven> {
        let database =
            record.database.as_ref().ok_or_else(|| format!("the snapshot holds no whole dump of it: {}", record.problems.join("; ")))?;
        let loaded = match database.engine.as_str() {
            "sqlite" => self.file(source, item, database, line)?,
            "redis" if !self.cx.config.drill.databases.contains_key("redis") => {
                return super::redis::load(self.cx, source, record, database, folder, line);
            }
            engine if self.cx.config.drill.databases.contains_key(engine) => self.foreign(source, database, folder, line)?,
            _ => self.own(database, folder, line)?,
        };
        self.load(source, record, database, &loaded, line).map_err(|unproven| match unproven {
            // Whatever was made of it is dropped with its server; a foreign one by its record.
            Unproven::Failed(why) if loaded.is_foreign => Unproven::Failed(dropped(&loaded, folder, why)),
            Unproven::Skipped(why) if loaded.is_foreign => Unproven::Skipped(dropped(&loaded, folder, why)),
            Unproven::Cancelled if loaded.is_foreign => {
                // What stays is on the record, and is dropped at the next start.
                let _ = drop_foreign(&loaded, folder);
                Unproven::Cancelled
            }
            other => other,
        })?;
        Ok(loaded)
    }

    /// A SQLite file goes to its place in the tree, or beside the tree where it has none.
    fn file(&self, source: &Source<'_>, item: &str, database: &DatabaseRecord, line: &mut CertifiedDatabase) -> Result<Loaded, Unproven> {
        let inside = beneath(&database.database).filter(|path| !path.as_os_str().is_empty());
        std::fs::create_dir_all(source.tree).map_err(|e| format!("cannot make {}: {e}", source.tree.display()))?;
        let place = inside.map(|path| make_place(source.tree, &path).map(|()| source.tree.join(path)));
        let path: PathBuf = match place {
            Some(Ok(path)) => path,
            beside => {
                // The tree may hold a link to where the live file is.
                line.notes.extend(beside.and_then(Result::err).map(|why| format!("loaded beside the tree: {why}")));
                source.place.join(format!("{item}.sqlite"))
            }
        };
        let planned = Connection { name: "drill".to_owned(), engine: "sqlite".to_owned(), parameters: Vec::new() };
        let overrides = engines::Overrides::from([("path", path.to_string_lossy().into_owned().into())]);
        let connection = ResolvedConnection::resolve(&planned, &overrides, source.place).map_err(|e| one_line(&e))?;
        line.scratch_server = format!("SQLite {}", rusqlite::version());
        Ok(Loaded { engine: foreign::opened(connection)?, database: None, is_foreign: false, server: None })
    }

    fn own(&mut self, database: &DatabaseRecord, folder: &mut DrillFolder, line: &mut CertifiedDatabase) -> Result<Loaded, Unproven> {
        let family = Family::of(database).ok_or_else(|| {
            let engine = &database.engine;
            Unproven::Skipped(format!("this program starts no scratch server for `{engine}`; name one at [drill.databases.{engine}]"))
        })?;
        let name = folder.database();
        let server = self.server(family, folder)?;
        line.scratch_server = server.version().to_owned();
        let connection = server.connection(&database.engine, &name).map_err(|e| one_line(&e))?;
        Ok(Loaded { engine: foreign::opened(connection)?, database: Some(name), is_foreign: false, server: None })
    }

    fn foreign(
        &self,
        source: &Source<'_>,
        database: &DatabaseRecord,
        folder: &mut DrillFolder,
        line: &mut CertifiedDatabase,
    ) -> Result<Loaded, Unproven> {
        let name = folder.database();
        let connection = foreign::connection(self.cx, &database.engine, &name).ok_or_else(|| "it is not configured".to_owned())??;
        let again = foreign::connection(self.cx, &database.engine, &name).ok_or_else(|| "it is not configured".to_owned())??;
        let engine = foreign::opened(again)?;
        let project = source.prepared.project();
        let productions = self.productions.get_or_init(|| foreign::productions(self.cx));
        let refused =
            foreign::refuse_production(self.cx, project, database.connection.as_ref(), source.tree, &connection, &*engine, productions);
        refused.map_err(|refused| match refused {
            Refused::Production(why) => Unproven::Failed(why),
            Refused::Unknown(why) => Unproven::Skipped(why),
        })?;
        line.scratch_server = format!("the server of [drill.databases.{}]", database.engine);
        folder.note_foreign(&database.engine, &name, engine.describe()).map_err(|e| one_line(&e))?;
        Ok(Loaded { engine, database: Some(name), is_foreign: true, server: None })
    }

    fn server(&mut self, family: Family, folder: &DrillFolder) -> Result<&ScratchServer, Unproven> {
        if !self.running.contains_key(&family) && !self.absent.contains_key(&family) {
            self.cx.observer.step(&format!("starting a scratch {} server", family.title()));
            match self.start(family, folder) {
                Ok(server) => drop(self.running.insert(family, server)),
                Err(error) if error.is_cancelled() => return Err(Unproven::Cancelled),
                Err(error) => drop(self.absent.insert(family, (error.is_of_this_host(), one_line(&error)))),
            }
        }
        match (self.running.get(&family), self.absent.get(&family)) {
            (Some(server), _) => Ok(server),
            (None, Some((true, why))) => Err(Unproven::Skipped(why.clone())),
            (None, absent) => Err(Unproven::Failed(absent.map(|(_, why)| why.clone()).unwrap_or_default())),
        }
    }

    fn start(&self, family: Family, folder: &DrillFolder) -> Result<ScratchServer, ScratchError> {
        let user = OsUser::resolve(&self.cx.config.drill.user)?;
        ScratchServer::start(family, &folder.server(family.title()), &user, &self.cx.cancel)
    }

    fn load(
        &self,
        source: &Source<'_>,
        record: &ItemRecord,
        database: &DatabaseRecord,
        loaded: &Loaded,
        line: &mut CertifiedDatabase,
    ) -> Result<(), Unproven> {
        let prepared = source.prepared;
        let entry = prepared.dump_entry(record)?;
        let dump = |out: &mut (dyn Write + Send)| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let mut contents = prepared.vault().contents(prepared.snapshot())?;
            Ok(contents.write(&entry, out)?)
        };
        let dump: DumpSource<'_> = &dump;
        let target = RestoreTarget {
            database: loaded.database.clone(),
            replace: false,
            safety_dir: source.place.to_owned(),
            stamp: self.cx.now().strftime("%Y%m%d_%H%M%S").to_string(),
            owner: None,
            lock_wait: self.cx.lock_wait,
            erase: None,
        };
        let cancel = &self.cx.cancel;
        let done = match &loaded.database {
            Some(name) => loaded.engine.load_scratch(name, dump, database, &target, cancel),
            None => loaded.engine.restore(dump, database, &target, cancel),
        };
        let done = done.map_err(|error| match error {
            DatabaseError::Cancelled => Unproven::Cancelled,
            // That a program is not there says nothing of the dump.
            error @ (DatabaseError::NoClient { .. } | DatabaseError::OldClient { .. }) => Unproven::Skipped(one_line(&error)),
            // Nor does a server of the configuration that is away or in use.
            error @ (DatabaseError::Connect { .. } | DatabaseError::NotEmpty { .. }) if loaded.is_foreign => {
                Unproven::Skipped(one_line(&error))
            }
            error => lacking(one_line(&error)),
        })?;
        line.tables_found = done.tables_verified;
        line.rows_found = done.rows_verified;
        line.bytes = entry.size;
        line.notes.extend(done.warnings);
        whole(record, done.problems)
    }
}

/// What was loaded and compared proves only what the snapshot holds wholly.
pub(super) fn whole(record: &ItemRecord, problems: Vec<String>) -> Result<(), Unproven> {
    match (record.outcome, problems.is_empty()) {
        (Outcome::Ok, true) => Ok(()),
        (Outcome::Ok, false) => Err(Unproven::Failed(problems.join("; "))),
        _ => Err(Unproven::Failed(partial(record))),
    }
}

/// What a scratch server refuses because it lacks an extension, or because its user may not do what only an administrator
/// may, says nothing of the dump.
fn lacking(why: String) -> Unproven {
    let lacks =
        ["permission denied to create extension", "permission denied to create event trigger", "could not open extension control file"];
    let is_missing = why.contains("extension \"") && why.contains("is not available");
    if is_missing || lacks.iter().any(|text| why.contains(text)) {
        return Unproven::Skipped(format!(
            "the scratch server cannot take it: {why}; name a server at [drill.databases.postgresql] that has the extension and whose user may do this"
        ));
    }
    Unproven::Failed(why)
}

/// Drops a scratch database on a server of the configuration; `why` it was not proven, and what of it stays.
fn dropped(loaded: &Loaded, folder: &mut DrillFolder, why: String) -> String {
    match drop_foreign(loaded, folder) {
        Ok(()) => why,
        Err(left) => format!("{why}; and {left}"),
    }
}

/// Drops it, and forgets it then.
fn drop_foreign(loaded: &Loaded, folder: &mut DrillFolder) -> Result<(), String> {
    let Some(name) = &loaded.database else { return Ok(()) };
    foreign::drop_all(&*loaded.engine, name)?;
    folder.forget_foreign(name).map_err(|e| one_line(&e))
}

fn partial(record: &ItemRecord) -> String {
    format!("the snapshot holds it {}: {}", record.outcome.word(), record.problems.join("; "))
}

/// Reads the forms of a dump, but for the one that was loaded, into nothing. Returns how many bytes they have.
fn read_forms(cx: &Context, prepared: &PreparedRestore<'_>, record: &ItemRecord, loaded: bool) -> Result<u64, String> {
    if record.outcome != Outcome::Ok {
        return Err(partial(record));
    }
    if record.paths.is_empty() {
        return Err("the snapshot has no dump of it".to_owned());
    }
    let skip = if loaded { Some(prepared.dump_entry(record)?.path) } else { None };
    let wanted: Vec<&String> = record.paths.iter().filter(|path| skip.as_deref() != Some(path.as_bytes())).collect();
    let mut bytes = 0;
    for path in wanted {
        let entry = prepared.entry(path)?;
        let mut contents = prepared.vault().contents(prepared.snapshot()).map_err(|e| one_line(&e))?;
        contents.write(&entry, &mut Sink(&cx.cancel)).map_err(|e| format!("{path} cannot be read from the store: {}", one_line(&e)))?;
        bytes += entry.size;
    }
    Ok(bytes)
}

/// Takes everything until the operator stops it.
struct Sink<'a>(&'a Cancel);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.is_cancelled() { Err(io::Error::other("stopped by the operator")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_scratch_server_lacks_is_not_proven_and_no_failure() {
        let skipped = |text: &str| matches!(lacking(text.to_owned()), Unproven::Skipped(_));
        assert!(skipped("ERROR:  permission denied to create extension \"postgis\""));
        assert!(skipped("ERROR:  extension \"postgis\" is not available"));
        assert!(skipped("ERROR:  permission denied to create event trigger \"audit\""));
        assert!(!skipped("ERROR:  duplicate key value violates unique constraint"));
        assert!(!skipped("the column \"extension\" holds other rows"));
    }
}
