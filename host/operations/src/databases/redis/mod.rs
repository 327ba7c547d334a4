//! Redis, as its own replication stream gives it: an RDB file, checked to its last byte.
//!
//! No client program is needed, so no password is in an argument or an environment: it goes over the socket. Read
//! `wire` (the protocol), `rdb` (what a dump is, and when it is whole), `server` (a private server that proves one),
//! `restore`, and for drills `loaded` (a server that was started on a dump) and `scratch` (one that the configuration names).

mod loaded;
mod rdb;
mod restore;
mod scratch;
mod server;
mod wire;

pub(crate) use loaded::{Answer, answer, check_dump, compare_loaded};

use super::{
    DatabaseError, Dump, DumpForm, DumpOptions, DumpReport, DumpSource, Engine, Preflight, Present, ResolvedConnection, RestoreOutcome,
    RestoreTarget, connection::Tls,
};
use havun_model::{Cancel, DatabaseRecord, ScratchDatabase};
use std::{collections::BTreeMap, io::Write};
use wire::{Reply, Wire};

const FORMS: [DumpForm; 1] = [DumpForm { extension: "rdb", restorable: true }];

pub(super) struct Redis {
    connection: ResolvedConnection,
}

/// What a server says of itself and of its databases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Keyspace {
    version: String,
    /// Keys, by database: `db0`.
    keys: BTreeMap<String, u64>,
    /// Those of them that will expire.
    expiring: BTreeMap<String, u64>,
    /// What may be taken, in bytes; 0 is no limit.
    max_memory: u64,
    used_memory: u64,
    position: String,
    cluster: bool,
    /// Of this run of the server: no other run of any server has it.
    run_id: String,
    /// `master`, or `slave` of another.
    role: String,
    replicas: u64,
}

impl Keyspace {
    fn take(wire: &mut Wire) -> Result<Self, DatabaseError> {
        let mut found = Self::default();
        for section in ["server", "memory", "replication", "cluster", "keyspace"] {
            let text = wire.ask(&[b"INFO", section.as_bytes()])?.text();
            text.lines().filter_map(|line| line.trim().split_once(':')).for_each(|(name, value)| found.line(name, value));
        }
        Ok(found)
    }

    fn line(&mut self, name: &str, value: &str) {
        match name {
            "redis_version" => value.clone_into(&mut self.version),
            "maxmemory" => self.max_memory = value.parse().unwrap_or_default(),
            "used_memory" => self.used_memory = value.parse().unwrap_or_default(),
            "master_repl_offset" => self.position = format!("master_repl_offset {value}"),
            "cluster_enabled" => self.cluster = value == "1",
            "run_id" => value.clone_into(&mut self.run_id),
            "role" => value.clone_into(&mut self.role),
            "connected_slaves" => self.replicas = value.parse().unwrap_or_default(),
            _ if name.strip_prefix("db").is_some_and(|rest| rest.parse::<u32>().is_ok()) => {
                let number = |wanted: &str| {
                    let field = value.split(',').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == wanted);
                    field.and_then(|(_, count)| count.parse().ok()).unwrap_or_default()
                };
                self.keys.insert(name.to_owned(), number("keys"));
                self.expiring.insert(name.to_owned(), number("expires"));
            }
            _ => {}
        }
    }

    fn content(&self) -> Option<String> {
        let parts: Vec<String> = self.keys.iter().map(|(name, count)| format!("{count} keys in {name}")).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn warnings(&self) -> Vec<String> {
        let expiring: u64 = self.expiring.values().sum();
        let mut warnings = Vec::new();
        if expiring > 0 {
            warnings
                .push(format!("{expiring} keys expire by themselves: a restore brings back only those whose time has not come by then"));
        }
        if self.cluster {
            warnings.push("the server is one node of a cluster: the dump holds its own slots only".to_owned());
        }
        warnings
    }
}

impl Redis {
    pub(super) fn new(connection: ResolvedConnection) -> Result<Self, DatabaseError> {
        connection.port()?;
        if matches!(connection.tls()?, Tls::Required | Tls::Verified) {
            let why = "is not possible with Redis yet: connect over its socket, or over a tunnel on loopback".to_owned();
            return Err(connection.fault("tls", why));
        }
        Ok(Self { connection })
    }

    fn describe_server(&self) -> String {
        let place = match (self.connection.get("socket"), self.connection.get("host")) {
            (Some(socket), _) => socket.to_owned(),
            (None, host) => format!("{}:{}", host.unwrap_or("127.0.0.1"), self.connection.get("port").unwrap_or("6379")),
        };
        format!("Redis at {place}")
    }

    fn connect(&self, cancel: &Cancel) -> Result<Wire, DatabaseError> {
        Wire::connect(&self.connection, &self.describe_server(), cancel)
    }
}

impl Engine for Redis {
    fn describe(&self) -> String {
        self.describe_server()
    }

    fn preflight(&self, cancel: &Cancel) -> Result<Preflight, DatabaseError> {
        let mut wire = self.connect(cancel)?;
        let found = Keyspace::take(&mut wire)?;
        wire.may_replicate()?;
        Ok(Preflight {
            server_version: found.version.clone(),
            client_version: "the replication protocol".to_owned(),
            tables: found.keys.keys().cloned().collect(),
            warnings: found.warnings(),
        })
    }

    fn begin_dump<'a>(&'a self, _options: &DumpOptions, cancel: &Cancel) -> Result<Box<dyn Dump + 'a>, DatabaseError> {
        self.preflight(cancel)?;
        Ok(Box::new(RedisDump { engine: self, cancel: cancel.clone(), record: DatabaseRecord::default() }))
    }

    fn look(&self, target: &RestoreTarget, cancel: &Cancel) -> Result<Present, DatabaseError> {
        restore::check_name(self, target)?;
        let found = Keyspace::take(&mut self.connect(cancel)?)?;
        Ok(Present {
            database: self.describe(),
            content: found.content(),
            fate: format!("is kept in other database numbers of the same server, or in a file in {}", target.safety_dir.display()),
            notes: Vec::new(),
        })
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

    fn open_scratch(&self, _database: Option<&str>) -> Result<Box<dyn ScratchDatabase>, DatabaseError> {
        Ok(Box::new(RedisScratch { wire: self.connect(&Cancel::default())? }))
    }

    fn load_scratch(
        &self,
        name: &str,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<RestoreOutcome, DatabaseError> {
        scratch::load(self, name, dump, record, target, cancel)
    }

    fn server_identity(&self) -> Option<String> {
        let found = Keyspace::take(&mut self.connect(&Cancel::default()).ok()?).ok()?;
        Some(found.run_id).filter(|id| !id.is_empty())
    }

    fn drop_scratch(&self, name: &str) -> Result<(), DatabaseError> {
        scratch::drop(self, name)
    }
}

/// What a dump of this server does not hold, or another server may not take.
fn not_in_the_dump(wire: &mut Wire) -> Vec<String> {
    let names = |reply: Reply| match reply {
        Reply::List(list) => list.into_iter().filter_map(module_name).collect(),
        _ => Vec::new(),
    };
    let mut said = Vec::new();
    // Whoever may not ask is told nothing: neither is needed for the dump.
    let modules: Vec<String> = wire.ask(&[b"MODULE", b"LIST"]).map(names).unwrap_or_default();
    if !modules.is_empty() {
        said.push(format!("the server has modules ({}): what is theirs loads only into a server that has them too", modules.join(", ")));
    }
    let users = wire.ask(&[b"ACL", b"USERS"]).map(|reply| if let Reply::List(list) = reply { list.len() } else { 0 }).unwrap_or_default();
    if users > 1 {
        said.push(format!("the server has {users} users (ACL): they stand in its configuration or ACL file, never in a dump"));
    }
    said
}

/// Of `["name", "ReJSON", "ver", 20008, …]`.
fn module_name(reply: Reply) -> Option<String> {
    let Reply::List(fields) = reply else { return None };
    let mut fields = fields.into_iter();
    fields.find(|field| field.clone().text() == "name")?;
    fields.next().map(Reply::text)
}

struct RedisDump<'a> {
    engine: &'a Redis,
    cancel: Cancel,
    record: DatabaseRecord,
}

impl Dump for RedisDump<'_> {
    fn forms(&self) -> &[DumpForm] {
        &FORMS
    }

    fn write(&mut self, _form: DumpForm, out: &mut (dyn Write + Send)) -> Result<(), DatabaseError> {
        let mut asking = self.engine.connect(&self.cancel)?;
        let before = Keyspace::take(&mut asking)?;
        let mut check = rdb::Check::new(out);
        self.engine.connect(&self.cancel)?.replicate(&mut |piece| check.write(piece))?;
        let version = check.finish()?;
        let after = Keyspace::take(&mut asking)?;
        let mut warnings = before.warnings();
        warnings.extend(not_in_the_dump(&mut asking));
        let same = before.keys == after.keys;
        if !same {
            warnings.push("keys came and went during the dump, so their number in it is not recorded".to_owned());
        }
        self.record = DatabaseRecord {
            engine: "redis".to_owned(),
            database: "all".to_owned(),
            connection: Some(self.engine.connection.recorded()),
            server_version: before.version.clone(),
            client_version: format!("RDB version {version}"),
            rows: if same { before.keys.clone() } else { BTreeMap::new() },
            objects: BTreeMap::from([("expiring keys".to_owned(), before.expiring.values().sum())]),
            position: format!("{} (about)", before.position),
            warnings,
            ..DatabaseRecord::default()
        };
        Ok(())
    }

    fn finish(self: Box<Self>) -> DumpReport {
        DumpReport { record: self.record, problems: Vec::new() }
    }
}

/// A restored server that a strategy may ask how many keys there are.
struct RedisScratch {
    wire: Wire,
}

impl ScratchDatabase for RedisScratch {
    fn tables(&mut self) -> Result<Vec<String>, String> {
        let found = Keyspace::take(&mut self.wire).map_err(|error| error.to_string())?;
        Ok(found.keys.into_keys().collect())
    }

    fn count_rows(&mut self, table: &str) -> Result<u64, String> {
        let found = Keyspace::take(&mut self.wire).map_err(|error| error.to_string())?;
        found.keys.get(table).copied().ok_or_else(|| format!("there is nothing in {table}"))
    }

    fn sample(&mut self, _table: &str, _column: &str, _limit: u32) -> Result<Vec<Option<String>>, String> {
        Err("Redis has keys, no columns".to_owned())
    }
}

#[cfg(test)]
mod tests;
