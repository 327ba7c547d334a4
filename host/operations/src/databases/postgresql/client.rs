//! The client programs of the machine: which there are, how they are told where to go, and how they are asked.
//!
//! Where to go stands in the environment of the child, the password in a file that exists in memory only: libpq takes
//! nothing but a regular file of mode 0600 for a password file, and a sealed-off memory file that the child holds is one.
//! Nothing of it is in an argument or on a disk, and a kill leaves nothing behind.

use super::super::{DatabaseError, ResolvedConnection, connection::Tls};
use super::names::{decode, literal};
use crate::process::{self, Ended, bare_command};
use command_fds::{CommandFdExt, FdMapping};
use havun_model::Cancel;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    process::Command,
};
use zeroize::Zeroizing;

/// Where the child finds its password file.
const PASSWORD_FD: i32 = 3;
/// The longest answer that is taken, in bytes.
const LONGEST_ANSWER: usize = 512 << 20;
/// The certificates that a machine trusts, where distributions put them.
const SYSTEM_CERTIFICATES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Major and minor number.
pub(super) type Version = (u32, u32);

/// The programs of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    folder: PathBuf,
    pub version: Version,
    /// As `pg_dump` says it.
    pub text: String,
}

impl Programs {
    fn at(folder: &Path, cancel: &Cancel) -> Option<Self> {
        let pg_dump = folder.join("pg_dump");
        if !pg_dump.is_file() || !folder.join("psql").is_file() {
            return None;
        }
        let mut command = bare_command(&pg_dump.to_string_lossy());
        let (ended, text) = process::capture(command.arg("--version"), cancel, 64 * 1024).ok()?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let version = ended.status.success().then(|| version_in(&text)).filter(|version| version.0 > 0)?;
        Some(Self { folder: folder.to_owned(), version, text })
    }

    /// Every installation of the machine: where Debian and Red Hat keep one for each major version, then the PATH.
    fn all(cancel: &Cancel) -> Vec<Self> {
        let beneath = |parent: &str, tail: &str| {
            let folders = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path().join(tail));
            folders.collect::<BTreeSet<_>>()
        };
        let mut folders = beneath("/usr/lib/postgresql", "bin");
        folders.extend(beneath("/usr", "bin").into_iter().filter(|folder| folder.to_string_lossy().starts_with("/usr/pgsql-")));
        let mut programs: Vec<Self> = folders.iter().filter_map(|folder| Self::at(folder, cancel)).collect();
        if programs.is_empty() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            programs.extend(std::env::split_paths(&path).filter_map(|folder| Self::at(&folder, cancel)));
        }
        programs.sort_by_key(|programs| programs.version);
        programs
    }

    /// Whether its psql knows `\restrict`.
    pub(super) fn restricts(&self) -> bool {
        let since = match self.version.0 {
            13 => 22,
            14 => 19,
            15 => 14,
            16 => 10,
            17 => 6,
            major if major < 13 => return false,
            _ => 0,
        };
        self.version.1 >= since
    }

    pub(super) fn program(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }
}

/// The first number after the name in `pg_dump (PostgreSQL) 15.18 (Debian …)`.
pub(super) fn version_in(text: &str) -> Version {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default();
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The programs that fit the server, and the login that they are given.
pub(super) struct Clients {
    pub dumper: Programs,
    /// As the server says it.
    pub server: String,
    pub server_version: Version,
    login: Vec<(&'static str, String)>,
    password_file: Option<Zeroizing<String>>,
    describe: String,
}

impl Clients {
    /// Connects once, to learn the server's version. `database` may be missing on the server.
    pub(super) fn find(connection: &ResolvedConnection, database: &str, describe: &str, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let all = Programs::all(cancel);
        let Some(newest) = all.last().cloned() else {
            let tried = ["/usr/lib/postgresql/*/bin/pg_dump", "pg_dump"].map(str::to_owned).to_vec();
            return Err(DatabaseError::NoClient { engine: "PostgreSQL".to_owned(), tried });
        };
        let mut clients = Self {
            dumper: newest,
            server: String::new(),
            server_version: (0, 0),
            login: login(connection)?,
            password_file: connection.get("password").map(password_file),
            describe: describe.to_owned(),
        };
        let place = clients.somewhere(database, cancel)?;
        let rows = clients.query(&place, "SELECT current_setting('server_version_num'), current_setting('server_version');", cancel)?;
        let (number, text) = match rows.first().map(Vec::as_slice) {
            Some([number, text]) => (number.parse::<u32>().unwrap_or(0), text.clone()),
            _ => (0, String::new()),
        };
        clients.server_version = (number / 10_000, number % 10_000);
        clients.server = format!("PostgreSQL {text}");
        clients.choose(all)?;
        Ok(clients)
    }

    /// The oldest major version that is not older than the server: the server's own where it is there, because newer
    /// ones write statements that an old server does not know.
    fn choose(&mut self, all: Vec<Programs>) -> Result<(), DatabaseError> {
        let major = self.server_version.0;
        let fitting = all.into_iter().filter(|programs| programs.version.0 >= major);
        let best = fitting.max_by_key(|programs| (std::cmp::Reverse(programs.version.0), programs.version.1));
        let old = || DatabaseError::OldClient {
            client: self.dumper.text.clone(),
            server: self.server.clone(),
            install: format!("the package postgresql-client-{major}"),
        };
        self.dumper = best.ok_or_else(old)?;
        Ok(())
    }

    pub(super) fn describe(&self) -> &str {
        &self.describe
    }

    /// `database`, or the first of those that every server has when it is not there.
    fn somewhere(&self, database: &str, cancel: &Cancel) -> Result<String, DatabaseError> {
        match self.query(database, "SELECT 1;", cancel) {
            Err(DatabaseError::NoDatabase { .. }) => self.maintenance(cancel),
            Err(error) => Err(error),
            Ok(_) => Ok(database.to_owned()),
        }
    }

    /// A database to be in while others are made and renamed.
    pub(super) fn maintenance(&self, cancel: &Cancel) -> Result<String, DatabaseError> {
        match self.query("postgres", "SELECT 1;", cancel) {
            Ok(_) => Ok("postgres".to_owned()),
            Err(DatabaseError::Cancelled) => Err(DatabaseError::Cancelled),
            Err(error) => self.query("template1", "SELECT 1;", cancel).map(|_| "template1".to_owned()).map_err(|_| error),
        }
    }

    /// A command that logs in to `database`; arguments may follow.
    pub(super) fn command(&self, program: &str, database: &str) -> Result<Command, DatabaseError> {
        let mut command = bare_command(&self.dumper.program(program));
        command.envs(self.login.iter().map(|(name, value)| (*name, value.as_str())));
        command.env("PGDATABASE", database).env("PGCONNECT_TIMEOUT", "15").env("PGAPPNAME", "havun-backup");
        if let Some(text) = &self.password_file {
            let broken = |source| DatabaseError::Process(process::ProcessError::Pipe { program: program.to_owned(), source });
            let file = memory_file(text.as_bytes()).map_err(broken)?;
            command.env("PGPASSFILE", format!("/proc/self/fd/{PASSWORD_FD}"));
            let mapping = FdMapping { parent_fd: file.into(), child_fd: PASSWORD_FD };
            command.fd_mappings(vec![mapping]).map_err(|error| broken(io::Error::other(error)))?;
        }
        command.arg("--no-password");
        Ok(command)
    }

    /// psql that stops at the first error and reads no file of settings.
    pub(super) fn psql(&self, database: &str) -> Result<Command, DatabaseError> {
        let mut command = self.command("psql", database)?;
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]);
        Ok(command)
    }

    /// Runs a script in one session and returns what it answers, byte for byte as the server has it: rows of fields,
    /// NULL as the empty text.
    pub(super) fn query(&self, database: &str, sql: &str, cancel: &Cancel) -> Result<Vec<Vec<String>>, DatabaseError> {
        self.query_as(database, "SQL_ASCII", sql, cancel)
    }

    /// As [`Self::query`], with texts in the encoding that the client asks for.
    pub(super) fn query_as(&self, database: &str, encoding: &str, sql: &str, cancel: &Cancel) -> Result<Vec<Vec<String>>, DatabaseError> {
        let mut command = self.psql(database)?;
        command.env("PGCLIENTENCODING", encoding);
        command.args(["--no-align", "--tuples-only", "--field-separator=\u{1f}", "--record-separator-zero", "--file=-"]);
        let broken = |source| DatabaseError::Process(process::ProcessError::Pipe { program: "psql".to_owned(), source });
        let script = format!("SET client_min_messages = warning;\nSET search_path = pg_catalog;\n{sql}\n");
        command.stdin(memory_file(script.as_bytes()).map_err(broken)?);
        let (ended, answer) = process::capture(&mut command, cancel, LONGEST_ANSWER)?;
        if !ended.status.success() {
            return Err(self.classify("psql", &ended, database));
        }
        let records = answer.split(|byte| *byte == 0).filter(|record| !record.is_empty());
        Ok(records.map(|record| record.split(|byte| *byte == 0x1f).map(decode).collect()).collect())
    }

    /// What a failed client means.
    pub(super) fn classify(&self, program: &str, ended: &Ended, database: &str) -> DatabaseError {
        let message = ended.complaint.clone();
        let unconnected = if program == "psql" { ended.status.code() == Some(2) } else { message.contains("connection to server") };
        if unconnected && message.contains("database \"") && message.contains("does not exist") {
            return DatabaseError::NoDatabase { database: self.describe_other(database) };
        }
        if unconnected {
            return DatabaseError::Connect { database: self.describe_other(database), message };
        }
        failed(program, ended)
    }

    fn describe_other(&self, database: &str) -> String {
        match (self.describe.find('`'), self.describe.rfind('`')) {
            (Some(start), Some(end)) if start < end => {
                format!("{}`{database}{}", self.describe.get(..start).unwrap_or_default(), self.describe.get(end..).unwrap_or_default())
            }
            _ => self.describe.clone(),
        }
    }
}

pub(super) fn failed(program: &str, ended: &Ended) -> DatabaseError {
    DatabaseError::Client { program: program.to_owned(), status: ended.status_text(), message: ended.complaint.clone() }
}

/// A file in memory, of mode 0600, read from its beginning.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let fd = memfd_create("havun-backup", MemfdFlags::CLOEXEC)?;
    fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// One line that fits every server: a child connects to one only.
fn password_file(password: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * password.len() + 16));
    text.push_str("*:*:*:*:");
    for c in password.chars() {
        if matches!(c, ':' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('\n');
    text
}

/// The folder and the port of a socket: `/run/postgresql`, or the socket itself, `/run/postgresql/.s.PGSQL.5433`.
fn socket(text: &str) -> (String, Option<String>) {
    let path = Path::new(text);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match (name.strip_prefix(".s.PGSQL."), path.parent()) {
        (Some(port), Some(folder)) => (folder.to_string_lossy().into_owned(), Some(port.to_owned())),
        _ => (text.to_owned(), None),
    }
}

/// Host (or folder of the socket) and port.
fn address(connection: &ResolvedConnection) -> (Option<String>, Option<String>) {
    let (host, port) = match (connection.get("socket"), connection.get("host")) {
        (Some(path), _) => socket(path),
        (None, Some(path)) if path.starts_with('/') => socket(path),
        (None, Some(host)) => (host.to_owned(), None),
        (None, None) => return (None, connection.get("port").map(str::to_owned)),
    };
    (Some(host), port.or_else(|| connection.get("port").map(str::to_owned)))
}

/// For people.
pub(super) fn place(connection: &ResolvedConnection) -> String {
    let (host, port) = address(connection);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", host.as_deref().unwrap_or("the local socket"))
}

fn login(connection: &ResolvedConnection) -> Result<Vec<(&'static str, String)>, DatabaseError> {
    let (host, port) = address(connection);
    let mode = match connection.tls()? {
        Tls::Off => "disable",
        Tls::Preferred => "prefer",
        Tls::Required => "require",
        Tls::Verified if connection.get("tls") == Some("verify-ca") => "verify-ca",
        Tls::Verified => "verify-full",
    };
    let system = || SYSTEM_CERTIFICATES.into_iter().find(|path| Path::new(path).is_file()).map(str::to_owned);
    let authority = match connection.get("tls_ca") {
        Some(path) => Some(path.to_owned()),
        None if mode.starts_with("verify-") => system(),
        None => None,
    };
    let user = connection.get("user").map(str::to_owned);
    let all = [("PGHOST", host), ("PGPORT", port), ("PGUSER", user), ("PGSSLMODE", Some(mode.to_owned())), ("PGSSLROOTCERT", authority)];
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// `name` for an option that also takes a connection string.
pub(super) fn database_option(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `SELECT` of a setting that an older server may not know.
pub(super) fn setting(name: &str) -> String {
    format!("coalesce(current_setting({}, true), '')", literal(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say_of_themselves() {
        for (text, version) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
            ("pg_dump (PostgreSQL) 17beta2", (17, 0)),
            ("pg_dump (PostgreSQL) 9.6.24", (9, 6)),
            ("nothing", (0, 0)),
        ] {
            assert_eq!(version_in(text), version);
        }
    }

    #[test]
    fn only_patched_clients_know_restrict() {
        for (version, known) in [((15, 13), false), ((15, 14), true), ((16, 9), false), ((17, 6), true), ((18, 0), true), ((12, 30), false)]
        {
            let programs = Programs { folder: PathBuf::new(), version, text: String::new() };
            assert_eq!(programs.restricts(), known, "{version:?}");
        }
    }

    #[test]
    fn the_client_is_the_servers_own_or_the_next_newer_one() {
        let at = |major, minor| Programs { folder: PathBuf::new(), version: (major, minor), text: format!("pg_dump {major}.{minor}") };
        let mut clients = Clients {
            dumper: at(17, 1),
            server: "PostgreSQL 15.2".to_owned(),
            server_version: (15, 2),
            login: Vec::new(),
            password_file: None,
            describe: String::new(),
        };
        clients.choose(vec![at(13, 9), at(15, 1), at(15, 3), at(17, 1)]).unwrap();
        assert_eq!(clients.dumper.version, (15, 3));
        clients.choose(vec![at(13, 9), at(16, 1), at(17, 1)]).unwrap();
        assert_eq!(clients.dumper.version, (16, 1));
        let error = clients.choose(vec![at(13, 9), at(14, 1)]).unwrap_err().to_string();
        assert!(error.contains("postgresql-client-15"), "{error}");
    }

    #[test]
    fn a_password_file_escapes_what_separates() {
        assert_eq!(password_file(r"a:b\c é").as_str(), "*:*:*:*:a\\:b\\\\c é\n");
        assert_eq!(socket("/run/x/.s.PGSQL.5433"), ("/run/x".to_owned(), Some("5433".to_owned())));
    }
}
