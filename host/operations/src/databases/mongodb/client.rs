//! `mongodump` and `mongorestore`: which there are, how they are told where to go, and what they are asked.
//!
//! Everything about the login goes as one URI through a pipe that only the child holds, as its file of settings: nothing of it is
//! in an argument, in the environment or on a disk.

use super::{
    super::{DatabaseError, DumpSource, ResolvedConnection, connection::Tls},
    archive::{Parser, Summary},
};
use crate::process::{self, Ended, ProcessError, bare_command};
use command_fds::{CommandFdExt, FdMapping};
use havun_model::Cancel;
use rustix::pipe::{PipeFlags, pipe_with};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};
use zeroize::Zeroizing;

/// Where the child finds its settings.
const CONFIG_FD: i32 = 3;

/// The URI of a connection, without a database: that is an argument of its own.
pub(super) fn uri(connection: &ResolvedConnection) -> Result<Zeroizing<String>, DatabaseError> {
    let srv = connection.get("srv").is_some();
    let mut uri = Zeroizing::new(if srv { "mongodb+srv://" } else { "mongodb://" }.to_owned());
    if let Some(user) = connection.get("user") {
        encode(user, &mut uri);
        if let Some(password) = connection.get("password") {
            uri.push(':');
            encode(password, &mut uri);
        }
        uri.push('@');
    }
    match (connection.get("socket"), connection.get("host")) {
        (Some(socket), _) => encode(socket, &mut uri),
        (None, host) => uri.push_str(host.unwrap_or("127.0.0.1")),
    }
    if let (None, Some(port), false) = (connection.get("socket"), connection.port()?, srv) {
        uri.push_str(&format!(":{port}"));
    }
    uri.push_str("/?");
    uri.push_str(&options(connection)?);
    Ok(uri)
}

/// What the URL says, and what the connection's own parameters say where it says nothing.
fn options(connection: &ResolvedConnection) -> Result<Zeroizing<String>, DatabaseError> {
    let written = connection.get("options").unwrap_or_default();
    let has = |names: &[&str]| {
        written.split('&').filter_map(|pair| pair.split_once('=')).any(|(key, _)| names.iter().any(|name| key.eq_ignore_ascii_case(name)))
    };
    let mut all = Zeroizing::new(written.to_owned());
    let mut push = |name: &str, value: &str| {
        if !all.is_empty() {
            all.push('&');
        }
        all.push_str(name);
        all.push('=');
        encode(value, &mut all);
    };
    // Said even where it is the drivers' own: the tools would take the database that they dump. Only the DNS record of a `+srv` name
    // and a mechanism that asks nobody at the server know better.
    let knows_better = connection.get("srv").is_some() || has(&["authMechanism"]);
    let source = connection.get("auth_source").or((!knows_better).then_some("admin"));
    if let (Some(source), Some(_), false) = (source, connection.get("user"), has(&["authSource"])) {
        push("authSource", source);
    }
    if !has(&["tls", "ssl"]) {
        match connection.tls()? {
            Tls::Preferred => {}
            Tls::Off => push("tls", "false"),
            Tls::Required | Tls::Verified => push("tls", "true"),
        }
        // Encrypted, whoever the server is: but never less than what a `+srv` name or a given authority asks for.
        let asks = connection.get("srv").is_some() || connection.get("tls_ca").is_some();
        if connection.tls()? == Tls::Required && !asks && !has(&["tlsInsecure"]) {
            push("tlsInsecure", "true");
        }
    }
    if let (Some(authority), false) = (connection.get("tls_ca"), has(&["tlsCAFile"])) {
        push("tlsCAFile", authority);
    }
    if !has(&["connectTimeoutMS"]) {
        push("connectTimeoutMS", "15000");
    }
    if !has(&["serverSelectionTimeoutMS"]) {
        push("serverSelectionTimeoutMS", "15000");
    }
    Ok(all)
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The file of settings: YAML, of which a string of JSON is one.
pub(super) fn config(uri: &str) -> Zeroizing<String> {
    let quoted = Zeroizing::new(serde_json::Value::from(uri).to_string());
    Zeroizing::new(format!("uri: {}\n", quoted.as_str()))
}

/// How a dump is called.
pub(super) fn dump_arguments(database: &str, prefers_secondary: bool) -> Vec<String> {
    let mut all = vec!["--archive".to_owned(), format!("--config=/dev/fd/{CONFIG_FD}"), "--numParallelCollections=1".to_owned()];
    all.extend(prefers_secondary.then(|| "--readPreference=secondaryPreferred".to_owned()));
    all.push(format!("--db={database}"));
    all
}

/// How a dump of `from` is loaded into `to`.
pub(super) fn restore_arguments(from: &str, to: &str, drop: bool) -> Vec<String> {
    let mut all = vec!["--archive".to_owned(), format!("--config=/dev/fd/{CONFIG_FD}"), "--stopOnError".to_owned()];
    all.extend([format!("--nsInclude={from}.*"), format!("--nsFrom={from}.*"), format!("--nsTo={to}.*")]);
    all.extend(drop.then(|| "--drop".to_owned()));
    all
}

/// The programs, and the login that they are given.
pub(super) struct Clients {
    dumper: PathBuf,
    restorer: PathBuf,
    uri: Zeroizing<String>,
    secret: Option<Zeroizing<String>>,
    prefers_secondary: bool,
    describe: String,
}

/// Why a dump was not read to its end.
enum Stop {
    Enough,
    Failed(DatabaseError),
}

impl From<ProcessError> for Stop {
    fn from(error: ProcessError) -> Self {
        Self::Failed(error.into())
    }
}

impl Clients {
    /// Looks for the programs in `folders`.
    pub(super) fn find(connection: &ResolvedConnection, folders: &[PathBuf], describe: &str) -> Result<Self, DatabaseError> {
        let find = |name: &str| {
            let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| DatabaseError::NoClient { engine: "MongoDB".to_owned(), tried: vec![name.to_owned()] })
        };
        let says = connection.get("options").is_some_and(|text| text.to_ascii_lowercase().contains("readpreference="));
        let secret = connection.get("password").map(|text| Zeroizing::new(text.to_owned()));
        Ok(Self {
            dumper: find("mongodump")?,
            restorer: find("mongorestore")?,
            uri: uri(connection)?,
            secret,
            prefers_secondary: !says,
            describe: describe.to_owned(),
        })
    }

    fn command(&self, program: &Path, arguments: &[String]) -> Result<Command, DatabaseError> {
        let broken = |source| DatabaseError::Process(ProcessError::Pipe { program: program.display().to_string(), source });
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| broken(errno.into()))?;
        // A pipe holds 64 KiB: far more than this, so nobody need be reading yet.
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK).map_err(|errno| broken(errno.into()))?;
        File::from(write).write_all(config(&self.uri).as_bytes()).map_err(broken)?;
        let mut command = bare_command(&program.to_string_lossy());
        command.args(arguments);
        command.fd_mappings(vec![FdMapping { parent_fd: read, child_fd: CONFIG_FD }]).map_err(|error| broken(io::Error::other(error)))?;
        Ok(command)
    }

    /// As `mongodump` says it.
    pub(super) fn version(&self, cancel: &Cancel) -> Result<String, DatabaseError> {
        let (ended, text) = process::capture(bare_command(&self.dumper.to_string_lossy()).arg("--version"), cancel, 64 * 1024)?;
        if !ended.status.success() {
            return Err(self.failed("mongodump", &ended));
        }
        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
    }

    /// What a dump is told, but for where to go.
    pub(super) fn dump_flags(&self) -> Vec<String> {
        let place = |flag: &String| flag.starts_with("--config=") || flag.starts_with("--db=");
        dump_arguments("", self.prefers_secondary).into_iter().filter(|flag| !place(flag)).collect()
    }

    /// What the server has in `database`, from the prelude of a dump that goes no further.
    pub(super) fn look(&self, database: &str, cancel: &Cancel) -> Result<Summary, DatabaseError> {
        let mut command = self.command(&self.dumper, &dump_arguments(database, false))?;
        let mut parser = Parser::new(database);
        let read = process::read(&mut command, cancel, |piece| {
            parser.take(piece).map_err(|what| Stop::Failed(DatabaseError::Truncated { what }))?;
            if parser.prelude().is_some() { Err(Stop::Enough) } else { Ok(()) }
        });
        match (read, parser.prelude()) {
            (Err(Stop::Failed(error)), _) => Err(error),
            (_, Some(found)) => Ok(found.clone()),
            (Ok(ended), None) if !ended.status.success() => Err(self.failed("mongodump", &ended)),
            (_, None) => Err(DatabaseError::Truncated { what: "mongodump wrote no prelude".to_owned() }),
        }
    }

    /// Dumps `database` and checks what passes.
    pub(super) fn dump(&self, database: &str, out: &mut (dyn Write + Send), cancel: &Cancel) -> Result<Summary, DatabaseError> {
        let mut command = self.command(&self.dumper, &dump_arguments(database, self.prefers_secondary))?;
        let mut parser = Parser::new(database);
        // What the program says of its failure is worth more than what its archive then lacks.
        let mut wrong = None;
        let ended = process::read(&mut command, cancel, |piece| {
            wrong = wrong.take().or_else(|| parser.take(piece).err());
            out.write_all(piece).map_err(DatabaseError::Sink)
        })?;
        if !ended.status.success() {
            return Err(self.failed("mongodump", &ended));
        }
        let whole = wrong.map_or_else(|| parser.finish(), Err);
        whole.map_err(|what| DatabaseError::Truncated { what })
    }

    /// Loads a dump of `from` into `to`; returns how many documents the program says are there.
    pub(super) fn load(&self, from: &str, to: &str, drop: bool, dump: DumpSource<'_>, cancel: &Cancel) -> Result<u64, DatabaseError> {
        let mut command = self.command(&self.restorer, &restore_arguments(from, to, drop))?;
        let fed = process::feed(&mut command, cancel, |stdin| dump(stdin))?;
        if cancel.is_cancelled() {
            return Err(DatabaseError::Cancelled);
        }
        if !fed.ended.status.success() && fed.ended.status.code().is_some() {
            return Err(self.failed("mongorestore", &fed.ended));
        }
        fed.given.map_err(DatabaseError::Source)?;
        let (restored, failed) = counts(&fed.ended.complaint).ok_or_else(|| self.failed("mongorestore", &fed.ended))?;
        match failed {
            0 => Ok(restored),
            _ => Err(DatabaseError::Counts { what: format!("mongorestore loaded {restored} documents and failed to load {failed}") }),
        }
    }

    /// What a failed program means. It may repeat the URI that it was given, so the password is taken out.
    fn failed(&self, program: &str, ended: &Ended) -> DatabaseError {
        let message = self.without_secret(&ended.complaint);
        let unconnected = ["can't create session", "error connecting", "could not connect", "server selection error", "auth error"];
        if unconnected.iter().any(|words| message.contains(words)) {
            return DatabaseError::Connect { database: self.describe.clone(), message };
        }
        DatabaseError::Client { program: program.to_owned(), status: ended.status_text(), message }
    }

    fn without_secret(&self, text: &str) -> String {
        let Some(secret) = &self.secret else { return text.to_owned() };
        let mut encoded = Zeroizing::new(String::new());
        encode(secret, &mut encoded);
        text.replace(self.uri.as_str(), "***").replace(encoded.as_str(), "***").replace(secret.as_str(), "***")
    }
}

/// Of `12 document(s) restored successfully. 0 document(s) failed to restore.`
pub(super) fn counts(complaint: &str) -> Option<(u64, u64)> {
    let line = complaint.lines().rev().find(|line| line.contains("document(s) restored successfully"))?;
    let mut numbers = line.split(" document(s)").filter_map(|before| before.split_whitespace().last()?.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}
