//! Which database: a plan's connection, the operator's overrides and the project's dotenv files, put together at the
//! moment of use.
//!
//! A parameter is looked for in this order: the operator's own entry, the operator's URL, the plan's URL, the plan's
//! parameter. A strategy may point at variables of files beneath the root, but not choose a server's database or a
//! file outside the root by itself: with the host's rights it could reach another project's.

use super::{DatabaseError, url};
use havun_dotenv::{Syntax, laravel};
use havun_model::{Connection, Parameter, ParameterSource};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The operator's parameters for a connection, by the names of [`Connection::parameters`] and `engine`, `tls` and
/// `tls_ca`.
pub type Overrides = BTreeMap<&'static str, Zeroizing<String>>;

/// The longest dotenv file that is read, in bytes.
const LONGEST_ENV: u64 = 1 << 20;

/// How the traffic with a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tls {
    /// Never.
    Off,
    /// Where the server can.
    #[default]
    Preferred,
    /// Or fail; whoever the server is.
    Required,
    /// Or fail; and the server's certificate must name it.
    Verified,
}

/// A connection with its parameters, secrets among them; so it has no `Debug`.
pub struct ResolvedConnection {
    name: String,
    engine: String,
    root: PathBuf,
    values: BTreeMap<&'static str, Value>,
    planned: Connection,
}

struct Value {
    text: Zeroizing<String>,
    /// Literal in the plan: chosen by the strategy, not by a person.
    by_strategy: bool,
}

impl ResolvedConnection {
    /// Puts `connection` together: reads the dotenv files beneath `root` that it names, takes URLs apart, and lets
    /// `overrides` win.
    ///
    /// # Errors
    /// When a file is unreadable or outside the root, a URL is none, or the strategy names what only the operator may.
    pub fn resolve(connection: &Connection, overrides: &Overrides, root: &Path) -> Result<Self, DatabaseError> {
        let root = root.canonicalize().map_err(DatabaseError::io("resolve", root))?;
        Self::put_together(connection, overrides, &root, &|file| read_beneath(&root, file))
    }

    /// As [`Self::resolve`] before the root is there: `read` gives the dotenv files as they will be beneath it.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub(crate) fn resolve_ahead(
        connection: &Connection,
        overrides: &Overrides,
        root: &Path,
        read: ReadEnv<'_>,
    ) -> Result<Self, DatabaseError> {
        let root = root.canonicalize().or_else(|_| std::path::absolute(root)).map_err(DatabaseError::io("resolve", root))?;
        Self::put_together(connection, overrides, &root, read)
    }

    fn put_together(connection: &Connection, overrides: &Overrides, root: &Path, read: ReadEnv<'_>) -> Result<Self, DatabaseError> {
        let mut resolving = Resolving { connection, read, files: BTreeMap::new(), values: BTreeMap::new() };
        if !connection.engine.is_empty() {
            resolving.set("engine", Zeroizing::new(connection.engine.clone()), true);
        }
        resolving.plan()?;
        resolving.overrides(overrides)?;
        let mut values = std::mem::take(&mut resolving.values);
        drop(resolving);
        let engine = values.remove("engine").map(|value| url::canonical_engine(&value.text).to_owned()).unwrap_or_default();
        let resolved = Self { name: connection.name.clone(), engine, root: root.to_owned(), values, planned: connection.clone() };
        resolved.check_grants()?;
        Ok(resolved)
    }

    /// The connection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `mariadb`, `mysql`, `sqlite`, …; empty when nothing says it.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    pub(super) fn get(&self, parameter: &str) -> Option<&str> {
        self.values.get(parameter).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    pub(super) fn require(&self, parameter: &str) -> Result<&str, DatabaseError> {
        self.get(parameter).ok_or_else(|| self.fault(parameter, "is missing".to_owned()))
    }

    pub(super) fn port(&self) -> Result<Option<u16>, DatabaseError> {
        let parse = |text: &str| text.parse().map_err(|_| self.fault("port", "is not a port number".to_owned()));
        self.get("port").map(parse).transpose()
    }

    pub(super) fn tls(&self) -> Result<Tls, DatabaseError> {
        Ok(match self.get("tls") {
            None | Some("preferred") => Tls::Preferred,
            Some("disabled" | "disable" | "off") => Tls::Off,
            Some("prefer" | "allow") => Tls::Preferred,
            Some("required" | "require") => Tls::Required,
            // An engine that can tell them apart looks at the word itself.
            Some("verify-ca" | "verify-identity" | "verify-full" | "verified") => Tls::Verified,
            Some(_) => return Err(self.fault("tls", "is none of disabled, preferred, required, verify-ca, verify-identity".to_owned())),
        })
    }

    /// Whether both lead to one server, as far as socket, host and port tell. Where one has a socket and the other a host of
    /// this machine, the same server is assumed unless the port is another one than the engine's usual.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        let local = |c: &Self| matches!(c.get("host"), None | Some("localhost" | "127.0.0.1" | "::1" | "[::1]" | "0.0.0.0"));
        let usual = match other.engine.as_str() {
            "postgresql" => 5432,
            "mongodb" => 27017,
            "redis" => 6379,
            _ => 3306,
        };
        let port = |c: &Self| c.port().ok().flatten().unwrap_or(usual);
        let real = |text: &str| Path::new(text).canonicalize().unwrap_or_else(|_| PathBuf::from(text));
        // One socket may have several names.
        let node = |text: &str| std::fs::metadata(text).ok().map(|meta| (meta.dev(), meta.ino()));
        let same_node = |a: &str, b: &str| node(a).is_some_and(|of_a| node(b) == Some(of_a));
        match (self.get("socket"), other.get("socket")) {
            (Some(a), Some(b)) => real(a) == real(b) || same_node(a, b),
            (Some(_), None) => local(other) && port(other) == usual,
            (None, Some(_)) => local(self) && port(self) == usual,
            (None, None) => port(self) == port(other) && (local(self) && local(other) || self.get("host") == other.get("host")),
        }
    }

    /// The file of a file database: relative paths are relative to the root.
    pub(super) fn file(&self) -> Result<PathBuf, DatabaseError> {
        let text = self.get("path").map_or_else(|| self.require("database"), Ok)?;
        Ok(self.root.join(text))
    }

    /// The file of a SQLite database, relative to the root, where it lies beneath it.
    pub(crate) fn file_beneath_root(&self) -> Option<String> {
        let file = (self.engine == "sqlite").then(|| self.file().ok())??;
        let plain = file.strip_prefix(&self.root).ok()?.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        plain.then(|| file.strip_prefix(&self.root).ok()?.to_str().map(str::to_owned))?
    }

    /// A path as a record keeps it: relative to the root where it is beneath it.
    pub(super) fn recorded_path(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// The connection as planned, without whatever could be a secret.
    pub(super) fn recorded(&self) -> Connection {
        let harmless = |parameter: &&Parameter| match &parameter.source {
            ParameterSource::Variable { .. } => true,
            ParameterSource::Literal { .. } => !matches!(parameter.name.as_str(), "password" | "url"),
        };
        let parameters = self.planned.parameters.iter().filter(harmless).cloned().collect();
        Connection { name: self.name.clone(), engine: self.engine.clone(), parameters }
    }

    pub(super) fn fault(&self, parameter: &str, why: String) -> DatabaseError {
        DatabaseError::Parameter { connection: self.name.clone(), parameter: parameter.to_owned(), why }
    }

    fn check_grants(&self) -> Result<(), DatabaseError> {
        let by_strategy = |parameter: &str| self.values.get(parameter).filter(|value| value.by_strategy);
        if self.engine == "sqlite" {
            for parameter in ["path", "database"] {
                if let Some(value) = by_strategy(parameter) {
                    self.check_beneath_root(Path::new(value.text.as_str()))?;
                }
            }
            return Ok(());
        }
        match by_strategy("database") {
            Some(value) => Err(self.not_granted(format!("the strategy names the database `{}` itself", value.text.as_str()))),
            None => Ok(()),
        }
    }

    fn check_beneath_root(&self, path: &Path) -> Result<(), DatabaseError> {
        let whole = self.root.join(path);
        let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
        // What is there of the path, were it only a dangling link, must lead to a place beneath the root.
        let present = whole.ancestors().find(|part| part.symlink_metadata().is_ok());
        let real = present.and_then(|part| part.canonicalize().ok());
        // Beneath a root that is not there yet, nothing can lead out of it.
        let held = !self.root.exists() || real.is_some_and(|real| real.starts_with(&self.root));
        let inside = !climbs && whole.starts_with(&self.root) && held;
        if inside { Ok(()) } else { Err(self.not_granted(format!("the strategy names {}, which is outside of the root", path.display()))) }
    }

    fn not_granted(&self, what: String) -> DatabaseError {
        DatabaseError::NotGranted { connection: self.name.clone(), what }
    }
}

/// Reads a dotenv file by its path relative to the root.
pub(crate) type ReadEnv<'a> = &'a dyn Fn(&str) -> io::Result<Zeroizing<String>>;

/// The work of [`ResolvedConnection::resolve`].
struct Resolving<'a> {
    connection: &'a Connection,
    read: ReadEnv<'a>,
    /// Variables by file and syntax, so that each is read once.
    files: BTreeMap<(String, String), Vec<(String, String)>>,
    values: BTreeMap<&'static str, Value>,
}

/// Every parameter that means something.
const KNOWN: [&str; 11] = ["url", "host", "port", "socket", "user", "password", "database", "path", "charset", "tls", "tls_ca"];

fn known(name: &str) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| *known == name)
}

impl Resolving<'_> {
    fn set(&mut self, name: &'static str, text: Zeroizing<String>, by_strategy: bool) {
        self.values.insert(name, Value { text, by_strategy });
    }

    fn plan(&mut self) -> Result<(), DatabaseError> {
        let mut whole_url = None;
        for parameter in &self.connection.parameters {
            let Some(name) = known(&parameter.name) else { continue };
            let by_strategy = matches!(parameter.source, ParameterSource::Literal { .. });
            let Some(text) = self.value(&parameter.source)? else { continue };
            if name == "url" {
                whole_url = Some((text, by_strategy));
            } else {
                self.set(name, text, by_strategy);
            }
        }
        match whole_url.filter(|(text, _)| !text.is_empty()) {
            Some((text, by_strategy)) => self.url(&text, by_strategy),
            None => Ok(()),
        }
    }

    fn overrides(&mut self, overrides: &Overrides) -> Result<(), DatabaseError> {
        if let Some(text) = overrides.get("url").filter(|text| !text.is_empty()) {
            self.url(text, false)?;
        }
        for (name, text) in overrides {
            match known(name) {
                Some("url") => {}
                Some(name) => self.set(name, text.clone(), false),
                None if *name == "engine" => self.set("engine", text.clone(), false),
                None => {}
            }
        }
        // A socket beats a host wherever both stand; the operator's host beats a socket that the strategy found.
        if overrides.contains_key("host") && !overrides.contains_key("socket") {
            self.values.remove("socket");
            self.values.remove("srv");
        }
        Ok(())
    }

    fn url(&mut self, text: &str, by_strategy: bool) -> Result<(), DatabaseError> {
        let parts = url::parse(text).map_err(|why| DatabaseError::Parameter {
            connection: self.connection.name.clone(),
            parameter: "url".to_owned(),
            why: why.to_owned(),
        })?;
        // One URL's options say nothing of another's server.
        for name in ["srv", "auth_source", "options"] {
            self.values.remove(name);
        }
        for (name, part) in parts {
            // The URL says `mysql` for MariaDB too; what the plan says is closer then.
            let same = name == "engine" && *part == "mysql" && self.values.get("engine").is_some_and(|value| *value.text == "mariadb");
            if !same {
                self.set(name, part, by_strategy);
            }
        }
        Ok(())
    }

    fn value(&mut self, source: &ParameterSource) -> Result<Option<Zeroizing<String>>, DatabaseError> {
        match source {
            ParameterSource::Literal { value } => Ok(Some(Zeroizing::new(value.clone()))),
            ParameterSource::Variable { file, variable, syntax } => {
                let syntax: Syntax = syntax.parse().map_err(|error: havun_dotenv::UnknownSyntax| DatabaseError::Parameter {
                    connection: self.connection.name.clone(),
                    parameter: variable.clone(),
                    why: error.to_string(),
                })?;
                let entries = self.entries(file, syntax)?;
                let text = match syntax {
                    Syntax::Phpdotenv => laravel::env(entries, variable).and_then(|value| value.text().map(str::to_owned)),
                    Syntax::Dotenv => havun_dotenv::get(entries, variable).map(str::to_owned),
                };
                Ok(text.map(Zeroizing::new))
            }
        }
    }

    fn entries(&mut self, file: &str, syntax: Syntax) -> Result<&[(String, String)], DatabaseError> {
        let key = (file.to_owned(), syntax.word().to_owned());
        if !self.files.contains_key(&key) {
            let connection = self.connection.name.clone();
            let unreadable = |source| DatabaseError::EnvFile { connection: connection.clone(), file: file.to_owned(), source };
            let text = (self.read)(file).map_err(unreadable)?;
            let entries = havun_dotenv::parse(&text, syntax).map_err(|source| DatabaseError::EnvSyntax {
                connection: connection.clone(),
                file: file.to_owned(),
                source,
            })?;
            self.files.insert(key.clone(), entries);
        }
        Ok(self.files.get(&key).map(Vec::as_slice).unwrap_or_default())
    }
}

impl Drop for Resolving<'_> {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.files.values_mut().flatten().for_each(|(_, value)| value.zeroize());
    }
}

/// Reads a regular file that is beneath `root` however its links wind, without ever blocking on a fifo.
pub(crate) fn read_beneath(root: &Path, file: &str) -> io::Result<Zeroizing<String>> {
    let folder = File::open(root)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(&folder, file, flags, Mode::empty(), resolve).map_err(|errno| match errno {
        rustix::io::Errno::XDEV => {
            io::Error::new(io::ErrorKind::PermissionDenied, "it is, or links to, a place outside of the project's root")
        }
        errno => errno.into(),
    })?;
    let opened = File::from(opened);
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = Zeroizing::new(String::new());
    opened.take(LONGEST_ENV + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_ENV {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
