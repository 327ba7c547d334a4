//! Finding the file, reading it, and the errors of both.

use super::{
    Config, Problem,
    build::build,
    check::{Checker, line_column},
    shape::ROOT,
};
use std::{
    fmt, io,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use toml::de::DeTable;

/// The longest configuration that is read, in bytes.
const LONGEST: u64 = 8 << 20;
/// Names a configuration when `--config` does not.
pub const CONFIG_VARIABLE: &str = "HAVUN_BACKUP_CONFIG";
/// In the working folder.
pub const LOCAL_CONFIG: &str = "havun-backup.toml";
/// Where it is looked for last, and where `init` puts one.
pub const SYSTEM_CONFIG: &str = "/etc/havun-backup/config.toml";

/// Why there is no configuration to work with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None of the places has one.
    #[error("there is no configuration: looked at {}", list(searched))]
    NotFound {
        /// In order.
        searched: Vec<PathBuf>,
    },
    /// It cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read the secrets in it.
    #[error("{} holds secrets in plain text ({}) and can be read by others (mode {mode:04o})", path.display(), keys.join(", "))]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// `line 12: password`.
        keys: Vec<String>,
    },
    /// It has errors; all of them.
    #[error("the configuration {} has {}{}", path.display(), count(problems.len()), Problems(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// In the order of the file.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => {
                "`havun-backup init PATH…` proposes one for the projects that it finds; or name one with --config".to_owned()
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root, or as the owner of the file".to_owned()
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "`havun-backup init PATH…` proposes one".to_owned()
            }
            Self::Unreadable { .. } => return None,
            Self::Exposed { path, .. } => format!("run `chmod 600 {}`, or move the secrets to files: {{ file = \"…\" }}", path.display()),
            Self::Invalid { .. } => "`havun-backup config --schema` prints every key; nothing was done".to_owned(),
        })
    }
}

/// The configuration to use: `explicit`, else `$HAVUN_BACKUP_CONFIG`, `./havun-backup.toml`, `/etc/havun-backup/config.toml`.
/// The first two are taken whether the file exists or not.
///
/// # Errors
/// [`ConfigError::NotFound`] when no place has one.
pub fn locate(explicit: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let named = explicit.map(Path::to_owned).or_else(|| std::env::var_os(CONFIG_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from));
    if let Some(path) = named {
        return Ok(path);
    }
    let searched = vec![PathBuf::from(LOCAL_CONFIG), PathBuf::from(SYSTEM_CONFIG)];
    match searched.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => Err(ConfigError::NotFound { searched }),
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]; every error of the file at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() || meta.len() > LONGEST {
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file of at most 8 MiB")));
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text, &absolute, meta.mode() & 0o7777)
    }

    /// As much of a wrong file as can be understood, to say through whatever it names that it is wrong; for nothing else.
    pub fn salvage(path: &Path) -> Option<Self> {
        let absolute = std::path::absolute(path).ok()?;
        let mut text = String::new();
        std::fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        let (document, _) = DeTable::parse_recoverable(&text);
        let mut checker = Checker::new(&text);
        checker.document(&document, &ROOT);
        Some(build(document.get_ref(), &absolute, &mut checker))
    }

    /// Checks `text`, which was read from `path` (absolute) with permission bits `mode`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every error at once, or [`ConfigError::Exposed`].
    pub fn parse(text: &str, path: &Path, mode: u32) -> Result<Self, ConfigError> {
        let (document, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            let mut problems: Vec<Problem> = syntax.iter().map(|e| syntax_problem(text, e)).collect();
            problems.sort();
            return Err(ConfigError::Invalid { path: path.to_owned(), problems });
        }
        let mut checker = Checker::new(text);
        checker.document(&document, &ROOT);
        let mut config = build(document.get_ref(), path, &mut checker);
        let problems = checker.problems();
        if !problems.is_empty() {
            return Err(ConfigError::Invalid { path: path.to_owned(), problems });
        }
        let plain = checker.plain_secrets();
        if !plain.is_empty() && mode & 0o077 != 0 {
            let keys = plain.iter().map(|(line, _, key)| format!("line {line}: {key}")).collect();
            return Err(ConfigError::Exposed { path: path.to_owned(), mode, keys });
        }
        config.warnings = warnings(&config, &plain);
        Ok(config)
    }
}

fn warnings(config: &Config, plain: &[(usize, usize, String)]) -> Vec<String> {
    let secret = |(line, column, key): &(usize, usize, String)| {
        format!("{}:{line}:{column}: `{key}` stands there in plain text; better {{ file = \"…\" }}", config.path.display())
    };
    let mut warnings: Vec<String> = plain.iter().map(secret).collect();
    if let Some(at) = config.daemon.metrics.filter(|at| !at.ip().is_loopback()) {
        warnings.push(format!("[daemon] answers at {at}, where other machines may ask: /metrics names projects and stores"));
    }
    for project in config.projects.values() {
        warnings.extend(seven_years(project).map(|why| format!("project `{}`: {why}", project.name)));
    }
    warnings
}

/// The Dutch tax authority asks for seven years (art. 52 AWR).
fn seven_years(project: &super::ProjectConfig) -> Option<String> {
    let asked = project.compliance.iter().any(|rule| rule == "belastingdienst");
    let made = jiff::Timestamp::UNIX_EPOCH;
    let until = |term: havun_model::retention::Term| term.keep_until(made, &jiff::tz::TimeZone::UTC);
    let seven = "7y".parse().map(until).ok()?;
    let term = project.retention.archive;
    (asked && until(term) < seven).then(|| format!("`belastingdienst` asks for seven years, `retention.archive` is {term}"))
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let (line, column) = line_column(text, error.span().map_or(0, |span| span.start));
    Problem { line, column, message: error.message().lines().collect::<Vec<_>>().join(", ") }
}

struct Problems<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.1 {
            write!(f, "\n  {}:{}:{}: {}", self.0.display(), problem.line, problem.column, problem.message)?;
        }
        Ok(())
    }
}

fn count(problems: usize) -> String {
    if problems == 1 { "an error:".to_owned() } else { format!("{problems} errors:") }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}
