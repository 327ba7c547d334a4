//! A dump into a running server.
//!
//! The dump is proved by a private server that loads it, and goes from there key by key into database numbers of the
//! target that are empty; there the keys are counted, and one transaction of `SWAPDB` puts them in place. What was there
//! before is then under those numbers, until the operator flushes them. Where there are not enough empty numbers or not
//! enough memory for both, what is there is written to a file first, and loaded back when the restore fails.

use super::{
    Keyspace, Redis, rdb,
    server::PrivateServer,
    wire::{Reply, Wire},
};
use crate::databases::{DatabaseError, DumpSource, RestoreOutcome, RestoreTarget, free_path};
use havun_model::{Cancel, DatabaseRecord};
use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Keys under way at once.
const BATCH: usize = 200;
/// Numbers of databases that are looked at for being empty.
pub(super) const NUMBERS: u32 = 1024;

/// A server is restored as a whole.
pub(super) fn check_name(engine: &Redis, target: &RestoreTarget) -> Result<(), DatabaseError> {
    let why = "is of no use for Redis, which is restored as a whole server: give --database-as ITEM=redis://HOST:PORT".to_owned();
    if target.database.is_some() { Err(engine.connection.fault("database", why)) } else { Ok(()) }
}

pub(super) fn restore(
    engine: &Redis,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    check_name(engine, target)?;
    let mut wire = engine.connect(cancel)?;
    let present = Keyspace::take(&mut wire)?;
    if let (Some(content), false) = (present.content(), target.replace) {
        return Err(DatabaseError::NotEmpty { database: engine.describe_server(), content });
    }
    let (_server, from, loaded) = prove(dump, &target.safety_dir, cancel)?;
    let mut job = Job { engine, record, target, cancel, from, to: wire, loaded, outcome: RestoreOutcome::default() };
    job.outcome.warnings.extend(compare(record, &job.loaded)?);
    match job.spare(&present)? {
        Some(places) => job.swap_in(&present, &places)?,
        None => job.replace(&present)?,
    }
    job.functions();
    let Job { mut outcome, loaded, .. } = job;
    outcome.database = engine.describe_server();
    outcome.tables_verified = loaded.keys.len() as u64;
    outcome.rows_verified = loaded.keys.values().sum();
    Ok(outcome)
}

/// A private server that has loaded the dump.
pub(super) fn prove(dump: DumpSource<'_>, parent: &Path, cancel: &Cancel) -> Result<(PrivateServer, Wire, Keyspace), DatabaseError> {
    let folder = PrivateServer::folder(parent)?;
    let path = folder.path().join(PrivateServer::DUMP);
    let mut file = File::create(&path).map_err(DatabaseError::io("make", &path))?;
    dump(&mut file).map_err(DatabaseError::Source)?;
    file.flush().map_err(DatabaseError::io("write", &path))?;
    drop(file);
    check_file(&path)?;
    let (server, mut wire) = PrivateServer::start(folder, cancel)?;
    let loaded = Keyspace::take(&mut wire)?;
    Ok((server, wire, loaded))
}

/// The version of the format, of a file that is whole.
///
/// # Errors
/// [`DatabaseError::BadDump`].
pub(super) fn check_file(path: &Path) -> Result<String, DatabaseError> {
    let mut nothing = io::sink();
    let mut check = rdb::Check::new(&mut nothing);
    let mut file = File::open(path).map_err(DatabaseError::io("open", path))?;
    let mut piece = vec![0; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut piece).map_err(DatabaseError::io("read", path))? {
            0 => break,
            count => check.write(piece.get(..count).unwrap_or_default())?,
        }
    }
    check.finish().map_err(|error| DatabaseError::BadDump { database: "all".to_owned(), what: error.to_string() })
}

/// What was loaded with what was recorded; keys whose time has come are gone. Returns what there is to say.
///
/// # Errors
/// [`DatabaseError::BadDump`].
pub(super) fn compare(record: &DatabaseRecord, loaded: &Keyspace) -> Result<Option<String>, DatabaseError> {
    let bad = |what: String| DatabaseError::BadDump { database: "all".to_owned(), what };
    let expiring = record.objects.get("expiring keys").copied().unwrap_or_default();
    let mut gone = 0;
    for (database, expected) in &record.rows {
        let found = loaded.keys.get(database).copied().unwrap_or_default();
        gone += expected.saturating_sub(found);
        if found > *expected || gone > expiring {
            return Err(bad(format!("{database} has {found} keys, {expected} were recorded")));
        }
    }
    if record.rows.is_empty() {
        return Ok(loaded.content().map(|content| format!("how many keys there were is not recorded; there are {content}")));
    }
    match loaded.keys.iter().find(|(database, _)| !record.rows.contains_key(*database)) {
        Some((database, found)) => Err(bad(format!("{database} has {found} keys, and none were recorded"))),
        None => Ok((gone > 0).then(|| format!("{gone} keys are not back, as their time has come since"))),
    }
}

pub(super) struct Job<'a> {
    pub engine: &'a Redis,
    pub record: &'a DatabaseRecord,
    pub target: &'a RestoreTarget,
    pub cancel: &'a Cancel,
    pub from: Wire,
    pub to: Wire,
    pub loaded: Keyspace,
    pub outcome: RestoreOutcome,
}

impl Job<'_> {
    /// For each database of the dump and of the target an empty one; `None` where there are not enough, or not enough
    /// memory for both data sets.
    fn spare(&mut self, present: &Keyspace) -> Result<Option<BTreeMap<u32, u32>>, DatabaseError> {
        let room =
            present.max_memory == 0 || present.used_memory.saturating_mul(2).saturating_add(self.loaded.used_memory) < present.max_memory;
        if present.cluster || !room {
            return Ok(None);
        }
        let mut places = BTreeMap::new();
        let mut free = (0..NUMBERS).rev().filter(|n| {
            let name = format!("db{n}");
            !present.keys.contains_key(&name) && !self.loaded.keys.contains_key(&name)
        });
        for number in numbers(&self.loaded.keys).chain(numbers(&present.keys)) {
            if places.contains_key(&number) {
                continue;
            }
            let there = free.find(|n| self.to.ask(&[b"SELECT", n.to_string().as_bytes()]).is_ok());
            match there {
                Some(place) => drop(places.insert(number, place)),
                None => return Ok(None),
            }
        }
        Ok(Some(places))
    }

    fn swap_in(&mut self, present: &Keyspace, places: &BTreeMap<u32, u32>) -> Result<(), DatabaseError> {
        let mut filling = Vec::new();
        let filled = numbers(&self.loaded.keys).collect::<Vec<_>>().into_iter().try_for_each(|number| {
            let place = places.get(&number).copied().unwrap_or(number);
            self.still_empty(place)?;
            filling.push(place);
            self.copy(number, place)
        });
        if let Err(error) = filled.and_then(|()| self.queue_swap(places)) {
            self.empty_again(&filling);
            return Err(error);
        }
        self.swap(places)?;
        let kept: Vec<String> = places
            .iter()
            .filter(|(number, _)| present.keys.contains_key(&format!("db{number}")))
            .map(|(_, place)| place.to_string())
            .collect();
        if !kept.is_empty() {
            self.outcome.warnings.push(format!(
                "to drop what is kept: {}",
                kept.iter().map(|n| format!("redis-cli -n {n} FLUSHDB")).collect::<Vec<_>>().join("; ")
            ));
            self.outcome.kept = Some(kept.join(", "));
        }
        Ok(())
    }

    /// With a connection that no cancel stops.
    fn calm(&self, commands: &[&[&[u8]]]) -> Result<(), DatabaseError> {
        let mut wire = self.engine.connect(&Cancel::default())?;
        commands.iter().try_for_each(|words| wire.ask(words).map(drop))
    }

    /// Drops what we have filled ourselves: it was empty, and nothing has changed places with it.
    fn empty_again(&self, filling: &[u32]) {
        for place in filling {
            let _ = self.calm(&[&[b"SELECT", place.to_string().as_bytes()], &[b"FLUSHDB"]]);
        }
    }

    /// Somebody may have filled it since it was chosen.
    pub(super) fn still_empty(&mut self, place: u32) -> Result<(), DatabaseError> {
        self.to.ask(&[b"SELECT", place.to_string().as_bytes()])?;
        match self.to.ask(&[b"DBSIZE"])? {
            Reply::Number(0) => Ok(()),
            keys => {
                let content = format!("{} keys in db{place}, which was empty a moment ago", keys.text());
                Err(DatabaseError::NotEmpty { database: self.engine.describe_server(), content })
            }
        }
    }

    fn queue_swap(&mut self, places: &BTreeMap<u32, u32>) -> Result<(), DatabaseError> {
        self.to.ask(&[b"MULTI"])?;
        for (number, place) in places {
            self.to.ask(&[b"SWAPDB", number.to_string().as_bytes(), place.to_string().as_bytes()])?;
        }
        Ok(())
    }

    /// All of them change places at once. From here on the server may have done it whatever the answer is, so nothing is
    /// emptied any more: what was there before could be where the new keys were.
    fn swap(&mut self, places: &BTreeMap<u32, u32>) -> Result<(), DatabaseError> {
        let why = match self.to.ask(&[b"EXEC"]) {
            Ok(Reply::List(answers)) if answers.iter().all(|answer| !matches!(answer, Reply::Error(_))) => return Ok(()),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        let pairs: Vec<String> = places.iter().map(|(number, place)| format!("db{number} with db{place}")).collect();
        let message = format!(
            "{why}; whether these have changed places is not known: {}. Nothing was emptied: look at each (redis-cli -n NUMBER DBSIZE) \
             before one is flushed",
            pairs.join(", ")
        );
        Err(DatabaseError::Client { program: "EXEC".to_owned(), status: self.engine.describe_server(), message })
    }

    /// Every key of one database of the private server, with its time to live.
    pub(super) fn copy(&mut self, number: u32, place: u32) -> Result<(), DatabaseError> {
        self.from.ask(&[b"SELECT", number.to_string().as_bytes()])?;
        self.to.ask(&[b"SELECT", place.to_string().as_bytes()])?;
        let mut cursor = b"0".to_vec();
        loop {
            if self.cancel.is_cancelled() {
                return Err(DatabaseError::Cancelled);
            }
            let (next, keys) = scanned(self.from.ask(&[b"SCAN", &cursor, b"COUNT", BATCH.to_string().as_bytes()])?);
            self.copy_keys(&keys)?;
            if next == b"0" {
                break;
            }
            cursor = next;
        }
        self.count(number, place)
    }

    fn copy_keys(&mut self, keys: &[Vec<u8>]) -> Result<(), DatabaseError> {
        let mut sent = 0;
        for key in keys {
            let (Reply::Bytes(value), expires) = (self.from.ask(&[b"DUMP", key])?, self.expires(key)?) else { continue };
            self.to.send(&[b"RESTORE", key, expires.to_string().as_bytes(), &value, b"REPLACE", b"ABSTTL"])?;
            sent += 1;
        }
        (0..sent).try_for_each(|_| self.to.answer(&[b"RESTORE"]).map(drop))
    }

    /// When a key expires, in milliseconds of Unix time; 0 is never.
    fn expires(&mut self, key: &[u8]) -> Result<i64, DatabaseError> {
        if let Ok(Reply::Number(at)) = self.from.ask(&[b"PEXPIRETIME", key]) {
            return Ok(at.max(0));
        }
        // Before 7.0 only how long it lives from now on.
        let Reply::Number(left) = self.from.ask(&[b"PTTL", key])? else { return Ok(0) };
        let Reply::List(now) = self.from.ask(&[b"TIME"])? else { return Ok(0) };
        let seconds: i64 = now.into_iter().next().map(Reply::text).and_then(|text| text.parse().ok()).unwrap_or_default();
        Ok(if left > 0 { seconds * 1000 + left } else { 0 })
    }

    fn count(&mut self, number: u32, place: u32) -> Result<(), DatabaseError> {
        let (ours, theirs) = (self.from.ask(&[b"DBSIZE"])?, self.to.ask(&[b"DBSIZE"])?);
        let expiring = self.loaded.expiring.get(&format!("db{number}")).copied().unwrap_or_default();
        match (ours, theirs) {
            (Reply::Number(ours), Reply::Number(theirs)) if ours.abs_diff(theirs) <= expiring => Ok(()),
            (ours, theirs) => Err(DatabaseError::Counts {
                what: format!("{} of {} keys of db{number} came to database {place} of the target", theirs.text(), ours.text()),
            }),
        }
    }

    /// Without room for both: into a file with what is there, then out with it.
    fn replace(&mut self, present: &Keyspace) -> Result<(), DatabaseError> {
        let now = Keyspace::take(&mut self.to)?;
        if let (true, Some(content)) = (present.keys.is_empty(), now.content()) {
            let content = format!("{content}, and was empty when this restore began");
            return Err(DatabaseError::NotEmpty { database: self.engine.describe_server(), content });
        }
        let saved = if now.keys.is_empty() { None } else { Some(self.save()?) };
        let all: Vec<u32> = numbers(&self.loaded.keys).collect();
        let filled = self.to.ask(&[b"FLUSHALL"]).map(drop).and_then(|()| all.iter().try_for_each(|number| self.copy(*number, *number)));
        if let Err(error) = filled {
            return Err(self.put_back(saved, error));
        }
        self.outcome.safety_dump = saved;
        Ok(())
    }

    fn save(&self) -> Result<PathBuf, DatabaseError> {
        let folder = &self.target.safety_dir;
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(DatabaseError::io("make", folder))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DatabaseError::io("make a file in", folder))?;
        let mut check = rdb::Check::new(&mut file);
        self.engine.connect(self.cancel)?.replicate(&mut |piece| check.write(piece))?;
        check.finish()?;
        let path = free_path(folder, "redis.before-restore", "rdb");
        file.as_file().sync_all().map_err(DatabaseError::io("write", &path))?;
        file.persist_noclobber(&path).map_err(|error| DatabaseError::io("rename to", &path)(error.error))?;
        Ok(path)
    }

    fn put_back(&mut self, saved: Option<PathBuf>, error: DatabaseError) -> DatabaseError {
        let Some(saved) = saved else {
            let _ = self.calm(&[&[b"FLUSHALL"]]);
            return error;
        };
        let source = |out: &mut (dyn Write + Send)| Ok(io::copy(&mut File::open(&saved)?, out).map(drop)?);
        let calm = Cancel::default();
        let back = prove(&source, &self.target.safety_dir, &calm).and_then(|(_server, from, loaded)| {
            let (record, outcome) = (self.record, RestoreOutcome::default());
            let to = self.engine.connect(&calm)?;
            let mut job = Job { engine: self.engine, record, target: self.target, cancel: &calm, from, to, loaded, outcome };
            job.to.ask(&[b"FLUSHALL"])?;
            numbers(&job.loaded.keys).collect::<Vec<_>>().into_iter().try_for_each(|number| job.copy(number, number))
        });
        match back {
            Ok(()) => {
                let _ = std::fs::remove_file(&saved);
                error
            }
            Err(_) => DatabaseError::Replace { database: self.engine.describe_server(), safety_dump: saved, source: Box::new(error) },
        }
    }

    /// Libraries of functions belong to the server, not to a database of it.
    fn functions(&mut self) {
        let Ok(Reply::Bytes(libraries)) = self.from.ask(&[b"FUNCTION", b"DUMP"]) else { return };
        if matches!(self.from.ask(&[b"FUNCTION", b"LIST"]), Ok(Reply::List(list)) if list.is_empty()) {
            return;
        }
        if let Err(error) = self.to.ask(&[b"FUNCTION", b"RESTORE", &libraries, b"REPLACE"]) {
            self.outcome.problems.push(format!("the dump's libraries of functions were not restored: {error}"));
        }
    }
}

pub(super) fn numbers(keys: &BTreeMap<String, u64>) -> impl Iterator<Item = u32> + use<'_> {
    keys.keys().filter_map(|name| name.strip_prefix("db")?.parse().ok())
}

fn scanned(reply: Reply) -> (Vec<u8>, Vec<Vec<u8>>) {
    let Reply::List(mut parts) = reply else { return (b"0".to_vec(), Vec::new()) };
    let keys = match parts.pop() {
        Some(Reply::List(keys)) => keys.into_iter().filter_map(|key| if let Reply::Bytes(key) = key { Some(key) } else { None }).collect(),
        _ => Vec::new(),
    };
    match parts.pop() {
        Some(Reply::Bytes(cursor)) => (cursor, keys),
        _ => (b"0".to_vec(), keys),
    }
}
