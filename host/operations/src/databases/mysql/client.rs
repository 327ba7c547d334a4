//! The client programs of the machine: which there are, how they are told where to go, and how they are asked.
//!
//! Everything about the login goes through a pipe that only the child holds, as an option file: nothing of it is in
//! an argument, in the environment or on a disk. No other option file is read, so that no `[mysqldump]` section of
//! the machine changes what a dump holds.

use super::super::{DatabaseError, ResolvedConnection, connection::Tls};
use crate::process::{self, Ended, bare_command};
use command_fds::{CommandFdExt, FdMapping};
use havun_model::Cancel;
use rustix::pipe::{PipeFlags, pipe_with};
use std::{
    fs::File,
    io::{self, Write},
    process::Command,
};
use zeroize::Zeroizing;

/// Where the child finds its option file.
const OPTIONS_FD: i32 = 3;

/// How long a statement waits for a lock on a table, in seconds.
pub(super) const LOCK_WAIT: u32 = 60;

/// Whose program or server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }
}

/// Three numbers of a version.
pub(super) type Version = (u32, u32, u32);

/// A client program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub name: String,
    pub flavour: Flavour,
    pub version: Version,
    /// As it says it.
    pub text: String,
}

impl Program {
    /// The first of `names` that is on the PATH.
    fn find(engine: &str, names: &[&str], cancel: &Cancel) -> Result<Self, DatabaseError> {
        for name in names {
            let mut command = bare_command(name);
            command.args(["--no-defaults", "--version"]);
            match process::capture(&mut command, cancel, 64 * 1024) {
                Ok((ended, text)) if ended.status.success() => return Ok(Self::named(name, String::from_utf8_lossy(&text).trim())),
                Ok((ended, _)) => return Err(failed(name, &ended)),
                Err(process::ProcessError::Spawn { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DatabaseError::NoClient { engine: engine.to_owned(), tried: names.iter().map(|name| (*name).to_owned()).collect() })
    }

    fn named(name: &str, text: &str) -> Self {
        let flavour = if text.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
        Self { name: name.to_owned(), flavour, version: version_in(text), text: text.to_owned() }
    }

    /// Whether it understands the sandbox line at the head of newer dumps.
    pub(super) fn has_sandbox(&self) -> bool {
        let since = match (self.version.0, self.version.1) {
            (10, 5) => 25,
            (10, 6) => 18,
            (10, 11) => 8,
            (11, 0) => 6,
            (11, 1) => 5,
            (11, 2) => 4,
            (11, 4) => 2,
            (major, _) if major <= 10 => return false,
            _ => 0,
        };
        self.flavour == Flavour::MariaDb && self.version.2 >= since
    }
}

/// The version in what a client or a server says of itself: the number before `-MariaDB`, else the one after
/// `Distrib`, else after `Ver`, else the first.
pub(super) fn version_in(text: &str) -> Version {
    let numbers = |text: &str| {
        let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        (next(), next(), next())
    };
    let before_mark = text.split("-MariaDB").next().filter(|before| before.len() < text.len());
    if let Some(number) = before_mark.and_then(|before| before.rsplit([' ', '-']).next()) {
        return numbers(number);
    }
    let after = |word: &str| text.split(word).nth(1).map(str::trim_start);
    numbers(after("Distrib ").or_else(|| after("Ver ")).or_else(|| after(" from ")).unwrap_or(text))
}

/// Both programs and the login that they are given.
pub(super) struct Clients {
    pub shell: Program,
    pub dumper: Program,
    login: Zeroizing<String>,
    tls: Tls,
    tls_ca: Option<String>,
}

impl Clients {
    pub(super) fn find(connection: &ResolvedConnection, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let engine = connection.engine();
        let (shells, dumpers): ([&str; 2], [&str; 2]) = match engine {
            "mysql" => (["mysql", "mariadb"], ["mysqldump", "mariadb-dump"]),
            _ => (["mariadb", "mysql"], ["mariadb-dump", "mysqldump"]),
        };
        let clients = Self {
            shell: Program::find(engine, &shells, cancel)?,
            dumper: Program::find(engine, &dumpers, cancel)?,
            login: login(connection)?,
            tls: connection.tls()?,
            tls_ca: connection.get("tls_ca").map(str::to_owned),
        };
        if connection.get("socket").is_none() {
            clients.check_tls(connection.name(), cancel)?;
        }
        Ok(clients)
    }

    /// MariaDB's clients take `ssl` for a wish: where the server has no TLS, they go on without a word.
    fn check_tls(&self, connection: &str, cancel: &Cancel) -> Result<(), DatabaseError> {
        let wishes = [&self.shell, &self.dumper].iter().any(|program| program.flavour == Flavour::MariaDb);
        if self.tls != Tls::Required || !wishes {
            return Ok(());
        }
        let database = format!("the server of connection `{connection}`");
        match self.query("SHOW SESSION STATUS LIKE 'Ssl_version';", &database, cancel)?.as_slice() {
            [row] if row.get(1).is_some_and(|version| !version.is_empty()) => Ok(()),
            _ => Err(DatabaseError::Connect { database, message: "TLS is required, and the server does not offer it".to_owned() }),
        }
    }

    /// A command for `program` that logs in; further arguments may follow.
    pub(super) fn command(&self, program: &Program) -> Result<Command, DatabaseError> {
        let broken = |source| DatabaseError::Process(process::ProcessError::Pipe { program: program.name.clone(), source });
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| broken(errno.into()))?;
        let mut options = self.login.clone();
        options.push_str(&tls_options(program, self.tls, self.tls_ca.as_deref()));
        // A pipe holds 64 KiB: far more than this, so nobody need be reading yet.
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK).map_err(|errno| broken(errno.into()))?;
        File::from(write).write_all(options.as_bytes()).map_err(broken)?;
        let mut command = bare_command(&program.name);
        command.arg(format!("--defaults-file=/dev/fd/{OPTIONS_FD}"));
        command.fd_mappings(vec![FdMapping { parent_fd: read, child_fd: OPTIONS_FD }]).map_err(|error| broken(io::Error::other(error)))?;
        Ok(command)
    }

    /// Runs statements in one session and returns what they answer: rows of fields, NULL as the text `NULL`.
    pub(super) fn query(&self, sql: &str, describe: &str, cancel: &Cancel) -> Result<Vec<Vec<String>>, DatabaseError> {
        let mut command = self.command(&self.shell)?;
        command.args(["--batch", "--skip-column-names", "--connect-timeout=15", "--default-character-set=utf8mb4"]);
        // Nobody waits for a lock for ever, as the server would.
        let script = format!("SET SESSION sql_mode = '';\nSET SESSION lock_wait_timeout = {LOCK_WAIT};\n{sql}\n");
        // All of it fits into the pipe, or the client reads while we write.
        let mut fed = process::feed(&mut command, cancel, |stdin| stdin.write_all(script.as_bytes()))?;
        fed.ended.complaint = without_echo(&fed.ended.complaint);
        if cancel.is_cancelled() {
            return Err(DatabaseError::Cancelled);
        }
        if !fed.ended.status.success() {
            return Err(classify(&self.shell.name, &fed.ended, describe));
        }
        Ok(String::from_utf8_lossy(&fed.stdout).lines().map(|line| line.split('\t').map(unescape).collect()).collect())
    }
}

/// What a failed client means.
pub(super) fn classify(program: &str, ended: &Ended, describe: &str) -> DatabaseError {
    let message = ended.complaint.clone();
    match error_number(&message) {
        Some(1045 | 1130 | 1044 | 1698 | 2002 | 2003 | 2005 | 2026 | 2059 | 2061) => {
            DatabaseError::Connect { database: describe.to_owned(), message }
        }
        Some(1049) => DatabaseError::NoDatabase { database: describe.to_owned() },
        _ => failed(program, ended),
    }
}

pub(super) fn failed(program: &str, ended: &Ended) -> DatabaseError {
    DatabaseError::Client { program: program.to_owned(), status: ended.status_text(), message: ended.complaint.clone() }
}

/// The client repeats the statement that failed before it says why. Rows of a database belong into no message.
pub(super) fn without_echo(complaint: &str) -> String {
    let echoes = complaint.lines().any(|line| line.starts_with("--------------"));
    let begins = complaint.rfind("\nERROR ").map_or(0, |at| at + 1);
    if !echoes {
        complaint.to_owned()
    } else if begins > 0 {
        complaint.get(begins..).unwrap_or_default().to_owned()
    } else {
        "it did not say why".to_owned()
    }
}

/// The number in `ERROR 1045 (28000): …`, `mysqldump: Got error: 1045: …` or `mysqldump: Couldn't execute …: … (1146)`.
pub(super) fn error_number(message: &str) -> Option<u32> {
    number_after_error(message).or_else(|| {
        let line = message.lines().rev().find(|line| line.contains(": Couldn't execute '"))?;
        line.trim_end().strip_suffix(')')?.rsplit_once('(')?.1.parse().ok()
    })
}

fn number_after_error(message: &str) -> Option<u32> {
    let lower = message.to_ascii_lowercase();
    let rest = lower.split("error").find_map(|rest| {
        let rest = rest.trim_start_matches([':', ' ']);
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some(rest)
    })?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The option file without its options for TLS.
fn login(connection: &ResolvedConnection) -> Result<Zeroizing<String>, DatabaseError> {
    let mut text = Zeroizing::new(String::with_capacity(512));
    text.push_str("[client]\n");
    let mut option = |name: &str, value: &str| {
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                c => text.push(c),
            }
        }
        text.push_str("\"\n");
    };
    for name in ["user", "password"] {
        if let Some(value) = connection.get(name) {
            option(name, value);
        }
    }
    match (connection.get("socket"), connection.get("host")) {
        (Some(socket), _) => option("socket", socket),
        (None, Some(host)) => {
            option("host", host);
            if host != "localhost" {
                option("protocol", "tcp");
            }
            if let Some(port) = connection.port()? {
                option("port", &port.to_string());
            }
        }
        (None, None) => {}
    }
    Ok(text)
}

/// What each client calls it.
fn tls_options(program: &Program, tls: Tls, ca: Option<&str>) -> String {
    let ca = ca.map(|path| format!("ssl-ca=\"{}\"\n", path.replace('\\', "\\\\").replace('"', "\\\""))).unwrap_or_default();
    let verifies_unasked = program.version >= (11, 4, 0);
    let mode = match (program.flavour, tls) {
        (Flavour::MySql, Tls::Off) => "ssl-mode=DISABLED\n",
        (Flavour::MySql, Tls::Preferred) => "ssl-mode=PREFERRED\n",
        (Flavour::MySql, Tls::Required) => "ssl-mode=REQUIRED\n",
        (Flavour::MySql, Tls::Verified) => "ssl-mode=VERIFY_IDENTITY\n",
        (Flavour::MariaDb, Tls::Off) => "skip-ssl\n",
        (Flavour::MariaDb, Tls::Preferred) if verifies_unasked => "skip-ssl-verify-server-cert\n",
        (Flavour::MariaDb, Tls::Preferred) => "",
        (Flavour::MariaDb, Tls::Required) if verifies_unasked => "ssl\nskip-ssl-verify-server-cert\n",
        (Flavour::MariaDb, Tls::Required) => "ssl\n",
        (Flavour::MariaDb, Tls::Verified) => "ssl\nssl-verify-server-cert\n",
    };
    format!("{mode}{ca}")
}

fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            }),
            c => text.push(c),
        }
    }
    text
}

/// `text` as a string literal, where backslashes escape.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\0', "\\0"))
}

/// `name` as an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say_of_themselves() {
        for (text, flavour, version, sandbox) in [
            (
                "mariadb  Ver 15.1 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64) using  EditLine wrapper",
                Flavour::MariaDb,
                (10, 11, 19),
                true,
            ),
            ("mariadb-dump  Ver 10.19 Distrib 10.11.7-MariaDB, for debian-linux-gnu (x86_64)", Flavour::MariaDb, (10, 11, 7), false),
            (
                "mariadb from 11.4.2-MariaDB, client 15.2 for debian-linux-gnu (x86_64) using  EditLine wrapper",
                Flavour::MariaDb,
                (11, 4, 2),
                true,
            ),
            ("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", Flavour::MySql, (8, 0, 36), false),
            ("mysql  Ver 14.14 Distrib 5.7.44, for Linux (x86_64) using  EditLine wrapper", Flavour::MySql, (5, 7, 44), false),
        ] {
            let program = Program::named("x", text);
            assert_eq!((program.flavour, program.version, program.has_sandbox()), (flavour, version, sandbox), "{text}");
        }
        assert_eq!(version_in("10.11.19-MariaDB-0+deb12u1"), (10, 11, 19));
        assert_eq!(version_in("5.5.5-10.6.4-MariaDB-log"), (10, 6, 4));
        assert_eq!(version_in("8.4.0"), (8, 4, 0));
    }

    #[test]
    fn error_numbers_are_found_in_what_both_programs_say() {
        for (text, number) in [
            ("ERROR 1045 (28000): Access denied for user 'x'@'y' (using password: YES)", Some(1045)),
            ("ERROR 1227 (42000) at line 32: Access denied; you need", Some(1227)),
            ("mariadb-dump: Got error: 1049: \"Unknown database 'x'\" when selecting the database", Some(1049)),
            (
                "mariadb-dump: Error 1412: Table definition has changed, please retry transaction when dumping table `a` at row: 0",
                Some(1412),
            ),
            (
                "Error: Couldn't read status information for table v ()\nmariadb-dump: Couldn't execute 'show create table `v`': Table 'd.v' doesn't exist (1146)",
                Some(1146),
            ),
            ("something else", None),
            ("something else (1146)", None),
        ] {
            assert_eq!(error_number(text), number, "{text}");
        }
    }

    #[test]
    fn a_statement_that_failed_is_not_repeated() {
        let echo = "--------------\nINSERT INTO `t` VALUES ('secret\nERROR 1045 (28000)')\n--------------\n\nERROR 1062 (23000) at line 2: Duplicate";
        assert_eq!(without_echo(echo), "ERROR 1062 (23000) at line 2: Duplicate");
        assert_eq!(without_echo("ERROR 1045 (28000): no"), "ERROR 1045 (28000): no");
        assert!(!without_echo("--------------\nsecret").contains("secret"));
    }

    #[test]
    fn tls_is_said_in_each_clients_own_words() {
        let program = |text| Program::named("x", text);
        let (old, new, mysql) = (program("Distrib 10.11.19-MariaDB"), program("x from 11.8.2-MariaDB"), program("x  Ver 8.0.36"));
        assert_eq!(tls_options(&old, Tls::Preferred, None), "");
        assert_eq!(tls_options(&new, Tls::Preferred, None), "skip-ssl-verify-server-cert\n");
        assert_eq!(tls_options(&mysql, Tls::Verified, Some("/ca.pem")), "ssl-mode=VERIFY_IDENTITY\nssl-ca=\"/ca.pem\"\n");
    }
}
