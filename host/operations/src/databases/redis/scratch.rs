//! A dump into a server that the configuration names for drills, and out of it again.
//!
//! Redis has no databases by name, so the server must be empty and nobody's replica. Which numbers are filled, and with how
//! many keys, is written into a key of the drill's name in a number of its own, each right before it is filled. What is taken away is
//! what stands there, and never a database that holds more than the drill put into it.

use super::{
    Keyspace, Redis,
    restore::{self, Job, NUMBERS, numbers},
    wire::{Reply, Wire},
};
use crate::databases::{DatabaseError, DumpSource, RestoreOutcome, RestoreTarget};
use havun_model::{Cancel, DatabaseRecord};

pub(super) fn load(
    engine: &Redis,
    name: &str,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    let mut wire = engine.connect(cancel)?;
    let present = Keyspace::take(&mut wire)?;
    stands_alone(engine, &present)?;
    if let Some(content) = present.content() {
        return Err(DatabaseError::NotEmpty { database: engine.describe_server(), content });
    }
    let (_server, from, loaded) = restore::prove(dump, &target.safety_dir, cancel)?;
    let said = restore::compare(record, &loaded)?;
    let spot = place(engine, &mut wire, &loaded)?;
    let outcome = RestoreOutcome::default();
    let mut job = Job { engine, record, target, cancel, from, to: wire, loaded, outcome };
    let mut made: Vec<String> = Vec::new();
    for number in numbers(&job.loaded.keys).collect::<Vec<_>>() {
        // Seen empty before it is said to be ours: what is said to be ours is flushed in the end.
        job.still_empty(number)?;
        made.push(format!("{number}={}", job.loaded.keys.get(&format!("db{number}")).copied().unwrap_or_default()));
        select(&mut job.to, spot)?;
        job.to.ask(&[b"SET", name.as_bytes(), made.join(",").as_bytes()])?;
        job.copy(number, number)?;
    }
    let Job { mut outcome, loaded, .. } = job;
    outcome.database = engine.describe_server();
    outcome.tables_verified = loaded.keys.len() as u64;
    outcome.rows_verified = loaded.keys.values().sum();
    outcome.warnings.extend(said);
    Ok(outcome)
}

/// What is written to a server with replicas is written to them too, and one of them could be in production.
fn stands_alone(engine: &Redis, present: &Keyspace) -> Result<(), DatabaseError> {
    let what = match (present.role.as_str(), present.replicas) {
        _ if present.cluster => "it is a node of a cluster".to_owned(),
        ("master", 0) => return Ok(()),
        ("master", replicas) => format!("{replicas} replicas follow it"),
        _ => "it is the replica of another server".to_owned(),
    };
    let why = format!("a drill takes only a server that stands alone, and {what}");
    Err(DatabaseError::Connect { database: engine.describe_server(), message: why })
}

/// Where it is written down what is filled (`0=15,3=1`): the highest number that stays free.
fn place(engine: &Redis, wire: &mut Wire, loaded: &Keyspace) -> Result<u32, DatabaseError> {
    let free = |number: &u32| !loaded.keys.contains_key(&format!("db{number}"));
    let chosen = (0..NUMBERS).rev().filter(free).find(|number| select(wire, *number).is_ok());
    chosen.ok_or_else(|| DatabaseError::NotEmpty {
        database: engine.describe_server(),
        content: "no database number is left beside those of the dump; raise `databases` in its configuration".to_owned(),
    })
}

fn select(wire: &mut Wire, number: u32) -> Result<(), DatabaseError> {
    wire.ask(&[b"SELECT", number.to_string().as_bytes()]).map(|_| ())
}

fn size(wire: &mut Wire) -> Result<u64, DatabaseError> {
    match wire.ask(&[b"DBSIZE"])? {
        Reply::Number(count) => Ok(count.unsigned_abs()),
        _ => Ok(u64::MAX),
    }
}

/// Takes away what [`load`] put there under `name`.
pub(super) fn drop(engine: &Redis, name: &str) -> Result<(), DatabaseError> {
    let mut wire = engine.connect(&Cancel::default())?;
    let present = Keyspace::take(&mut wire)?;
    for place in numbers(&present.keys).collect::<Vec<_>>() {
        select(&mut wire, place)?;
        let made = match wire.ask(&[b"GET", name.as_bytes()]) {
            Ok(Reply::Bytes(made)) => made,
            Ok(_) => continue,
            // A key of that name that is no text is nobody's mark.
            Err(DatabaseError::Client { message, .. }) if message.contains("WRONGTYPE") => continue,
            Err(error) => return Err(error),
        };
        take_away(engine, &mut wire, &String::from_utf8_lossy(&made))?;
        select(&mut wire, place)?;
        wire.ask(&[b"DEL", name.as_bytes()])?;
    }
    Ok(())
}

fn take_away(engine: &Redis, wire: &mut Wire, made: &str) -> Result<(), DatabaseError> {
    for (number, keys) in made.split(',').filter_map(|pair| pair.split_once('=')) {
        let (Ok(number), Ok(keys)) = (number.parse::<u32>(), keys.parse::<u64>()) else { continue };
        select(wire, number)?;
        let found = size(wire)?;
        if found > keys {
            let content = format!("db{number} holds {found} keys, and the drill put {keys} there at most: look, and flush it by hand");
            return Err(DatabaseError::NotEmpty { database: engine.describe_server(), content });
        }
        wire.ask(&[b"FLUSHDB"])?;
    }
    Ok(())
}
