//! The configuration as values: checked, with defaults filled in and paths made absolute.

use super::{Objective, Price, Rate, Secret, Span, notify::Notify};
use crate::schedule::Schedule;
use havun_model::{Digest, ProjectName, StoreName, retention::Term};
use jiff::tz::TimeZone;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from, absolute.
    pub path: PathBuf,
    /// `[host]`.
    pub host: Host,
    /// `[audit]`.
    pub audit: Audit,
    /// `[keys]`.
    pub keys: Keys,
    /// `[stores.NAME]`.
    pub stores: BTreeMap<StoreName, StoreConfig>,
    /// `[notify]`.
    pub notify: Notify,
    /// `[health]`.
    pub health: Health,
    /// `[drill]`.
    pub drill: Drill,
    /// `[daemon]`.
    pub daemon: DaemonConfig,
    /// `[plugins.NAME]`: strategies that are not built in.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// `[projects.NAME]`.
    pub projects: BTreeMap<ProjectName, ProjectConfig>,
    /// What is allowed but unwise, one line each, with its place in the file.
    pub warnings: Vec<String>,
}

/// `[host]`.
#[derive(Debug, Clone)]
pub struct Host {
    /// As in "[HavunCore] Daily Backup Report".
    pub name: String,
    /// Caches, the audit database, compiled strategies.
    pub state_dir: PathBuf,
    /// In which schedules and terms are reckoned.
    pub timezone: TimeZone,
}

/// `[audit]`.
#[derive(Debug, Clone)]
pub struct Audit {
    /// `sqlite:///…`, `mysql://…`, `mariadb://…` or `postgres://…`.
    pub url: Secret,
    /// Of a server, where the URL has none.
    pub password: Option<Secret>,
    /// A run that does not renew its lease for so long has ended.
    pub lease: Span,
}

/// `[keys]`.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// The host's service key (age X25519 identity).
    pub identity: Option<Secret>,
    /// Offline recipients (`age1…`).
    pub escrow: Vec<String>,
}

/// The program's own store, for projects whose stores are all on other machines; no configured store has its name.
pub const SPOOL: &str = "spool";

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Fast and near, thinned by `retention.hot`.
    Hot,
    /// Kept for `retention.archive`.
    Archive,
    /// For drills.
    Test,
}

impl Tier {
    /// `hot`, `archive` or `test`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Archive => "archive",
            Self::Test => "test",
        }
    }
}

/// `[stores.NAME]`.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Its name.
    pub name: StoreName,
    /// What it is for.
    pub tier: Tier,
    /// Where it is.
    pub kind: StoreKind,
    /// At most so fast, up and down together; as fast as it goes where there is none.
    pub bandwidth: Option<Rate>,
    /// Percent of each pack that PAR2 can mend; no PAR2 files where there is none.
    pub par2: Option<u8>,
    /// Every stored byte is read once in this time.
    pub scrub: Term,
    /// What a terabyte costs in a month, for reports.
    pub cost: Option<Price>,
}

/// Where a store is.
#[derive(Debug, Clone)]
pub enum StoreKind {
    /// A folder on this machine.
    Local {
        /// The folder, absolute.
        path: PathBuf,
    },
    /// A folder on an SFTP server.
    Sftp(SftpStore),
    /// A bucket.
    S3(S3Store),
}

impl StoreKind {
    /// Whether it is on another machine.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Local { .. })
    }

    /// Where it is, for people; without secrets.
    pub fn place(&self) -> String {
        match self {
            Self::Local { path } => path.display().to_string(),
            Self::Sftp(s) => format!("sftp://{}@{}:{}/{}", s.user, s.host, s.port, s.path.trim_start_matches('/')),
            Self::S3(s) => {
                let endpoint = if s.endpoint.is_empty() { "AWS" } else { &s.endpoint };
                format!("s3://{}/{} at {endpoint}", s.bucket, s.prefix)
            }
        }
    }

    /// `local`, `sftp` or `s3`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Local { .. } => "local",
            Self::Sftp(_) => "sftp",
            Self::S3(_) => "s3",
        }
    }
}

/// A folder on an SFTP server.
#[derive(Debug, Clone)]
pub struct SftpStore {
    /// Name or address.
    pub host: String,
    /// 22 unless said.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Folder, absolute or relative to the login folder.
    pub path: String,
    /// Private key.
    pub identity: Option<Secret>,
    /// Of the private key, where it has one.
    pub passphrase: Option<Secret>,
    /// Where keys are not possible.
    pub password: Option<Secret>,
    /// Ask the SSH agent at `$SSH_AUTH_SOCK`.
    pub agent: bool,
    /// Preset `hetzner`, `SHA256:…`, or `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// Connections at once, 1 to 8.
    pub connections: usize,
    /// The server allows neither rename nor delete nor overwrite.
    pub put_once: bool,
    /// How an upload is compared with what was sent.
    pub verify: UploadCheck,
}

/// How an upload is compared with what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadCheck {
    /// By the server's own `openssl` or `sha256sum` where it has one, else by its size.
    Auto,
    /// By reading all of it back.
    ReadBack,
    /// By its size.
    Size,
}

impl UploadCheck {
    /// `auto`, `read-back` or `size`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ReadBack => "read-back",
            Self::Size => "size",
        }
    }
}

/// A bucket of an S3-compatible service.
#[derive(Debug, Clone)]
pub struct S3Store {
    /// `https://…`; empty for AWS itself.
    pub endpoint: String,
    /// `eu-central-1`.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Folder in the bucket.
    pub prefix: String,
    /// Access key id.
    pub access_key_id: Option<Secret>,
    /// Secret access key.
    pub secret_access_key: Option<Secret>,
    /// Of temporary credentials.
    pub session_token: Option<Secret>,
    /// Objects are locked until the end of their term.
    pub object_lock: Option<LockMode>,
    /// `https://host/bucket/…` instead of `https://bucket.host/…`.
    pub path_style: bool,
    /// Connections at once, 1 to 8.
    pub connections: usize,
}

/// Who can take an object lock away before its date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has a permission of its own for that.
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    /// `governance` or `compliance`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// `[daemon]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// A project begins up to so long after each moment of its schedule.
    pub jitter: Span,
    /// So many projects at once, at least one.
    pub parallel: usize,
    /// Where metrics can be read; nowhere when there is none.
    pub metrics: Option<SocketAddr>,
}

/// Which snapshot a drill restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrillChoice {
    /// The newest.
    Newest,
    /// The oldest that is still there.
    Oldest,
    /// Any other one.
    Random,
}

impl DrillChoice {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Newest, Self::Oldest, Self::Random];

    /// `newest`, `oldest` or `random`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
            Self::Random => "random",
        }
    }
}

/// `[health]`.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// A file for node_exporter's textfile collector, written by each `health`.
    pub textfile: Option<PathBuf>,
    /// `[health.ping]`.
    pub ping: Option<Ping>,
}

/// `[health.ping]`: a dead man's switch. Whoever has its addresses can keep it quiet.
#[derive(Debug, Clone)]
pub struct Ping {
    /// What is told of success; start and failure are told beneath it.
    pub url: Secret,
    /// What is told of a start, where it is another address.
    pub start: Option<Secret>,
    /// What is told of a failure, where it is another address.
    pub failure: Option<Secret>,
}

/// `[drill]`.
#[derive(Debug, Clone)]
pub struct Drill {
    /// A project that was not drilled within this time is overdue.
    pub every: Term,
    /// Which snapshots, in this order.
    pub choose: Vec<DrillChoice>,
    /// From this store; from one after the other where there is none.
    pub store: Option<StoreName>,
    /// Where scratch servers keep their data: a folder that their user can reach.
    pub scratch_dir: PathBuf,
    /// As whom scratch servers run where this program runs as root.
    pub user: String,
    /// Engines whose dumps, and names of checks which, may stay unproven on this host.
    pub accept_unproven: Vec<String>,
    /// `[drill.databases.ENGINE]`: servers for scratch databases, in place of those that a drill starts itself.
    pub databases: BTreeMap<String, DatabaseConfig>,
}

/// `[projects.NAME.drill]`: what is given here stands in for `[drill]`.
#[derive(Debug, Clone, Default)]
pub struct ProjectDrill {
    /// As [`Drill::every`].
    pub every: Option<Term>,
    /// As [`Drill::choose`]; empty where nothing is said.
    pub choose: Vec<DrillChoice>,
    /// As [`Drill::store`].
    pub store: Option<StoreName>,
    /// As [`Drill::accept_unproven`], in addition to it.
    pub accept_unproven: Vec<String>,
    /// Globs of files that may end early: they did so when they were uploaded.
    pub known_bad: Vec<String>,
}

/// `[plugins.NAME]`: a strategy that is not built in.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// The name that `strategy = "…"` uses.
    pub name: String,
    /// The component.
    pub path: PathBuf,
    /// SHA-256 of the component; a component with another one is refused.
    pub digest: Option<Digest>,
    /// Capabilities granted to exactly this digest.
    pub grant: Vec<String>,
}

/// How much a project matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Backed up first.
    Critical,
    /// Second.
    High,
    /// Third; the default.
    Medium,
    /// Last.
    Low,
}

impl Priority {
    /// `critical`, `high`, `medium` or `low`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// `[projects.NAME]`.
#[derive(Debug, Clone)]
pub struct ProjectConfig {
    /// Its name.
    pub name: ProjectName,
    /// For people; the name unless said.
    pub title: String,
    /// A built-in strategy or a name of `[plugins]`.
    pub strategy: String,
    /// The project's folder, absolute.
    pub root: PathBuf,
    /// How much it matters.
    pub priority: Priority,
    /// Rules that it falls under (`belastingdienst`).
    pub compliance: Vec<String>,
    /// When it is due; never by itself when there is none.
    pub schedule: Option<Schedule>,
    /// At least one, without repeats.
    pub stores: Vec<StoreName>,
    /// Whether the vault is encrypted.
    pub encryption: bool,
    /// Left out of runs unless forced.
    pub paused: bool,
    /// `[projects.NAME.retention]`.
    pub retention: Retention,
    /// How long a restore may take.
    pub rto: Option<Objective>,
    /// How old the newest snapshot may be.
    pub rpo: Option<Objective>,
    /// `[projects.NAME.drill]`.
    pub drill: ProjectDrill,
    /// `[projects.NAME.databases.NAME]`.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// `[projects.NAME.quiesce]`.
    pub quiesce: Option<QuiesceConfig>,
    /// `[projects.NAME.snapshot]`.
    pub snapshot: Option<SnapshotSource>,
    /// `[projects.NAME.settings]` as a JSON object, for the strategy.
    pub settings: serde_json::Value,
}

/// `[projects.NAME.quiesce]`: commands that let the application rest while it is read. The operator's own: a strategy neither
/// names nor sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuiesceConfig {
    /// Program and arguments, before the databases are dumped; empty for none.
    pub before: Vec<String>,
    /// Program and arguments, when all is read; empty for none.
    pub after: Vec<String>,
    /// Login name of who runs them.
    pub user: Option<String>,
    /// Seconds for each.
    pub timeout_secs: u16,
    /// A failed `before` leaves the run going on, with a warning.
    pub goes_on: bool,
}

/// `[projects.NAME.snapshot]`: a snapshot of the file system, from which files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotSource {
    /// Of a Btrfs subvolume.
    Btrfs {
        /// Where it is mounted, absolute.
        subvolume: PathBuf,
    },
    /// Of a ZFS dataset.
    Zfs {
        /// `tank/www`.
        dataset: String,
    },
    /// Of an LVM volume.
    Lvm {
        /// The volume group.
        volume_group: String,
        /// The logical volume.
        logical_volume: String,
        /// As `lvcreate` takes it.
        size: String,
    },
}

impl SnapshotSource {
    /// `btrfs`, `zfs` or `lvm`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Btrfs { .. } => "btrfs",
            Self::Zfs { .. } => "zfs",
            Self::Lvm { .. } => "lvm",
        }
    }
}

/// `[projects.NAME.retention]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long the hot tier keeps a snapshot.
    pub hot: Term,
    /// How long an archive keeps it.
    pub archive: Term,
    /// Whether an archive may delete by itself after the term.
    pub archive_auto_delete: bool,
    /// `hot` was written, and is no default: nothing is thinned by a term that nobody chose.
    pub explicit_hot: bool,
    /// `archive` was written, and is no default.
    pub explicit_archive: bool,
}

/// `[projects.NAME.databases.NAME]`: a connection of the operator's own. What is given here overrides what the
/// strategy found, parameter by parameter; a strategy never sees it.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Its name; `main` overrides the strategy's main connection.
    pub name: String,
    /// `mariadb`, `mysql`, `sqlite`, `postgresql`, `mongodb` or `redis`.
    pub engine: Option<String>,
    /// A whole URL, with or without a password.
    pub url: Option<Secret>,
    /// Server.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Unix socket.
    pub socket: Option<PathBuf>,
    /// Login name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Name of the database.
    pub database: Option<String>,
    /// SQLite: the file, absolute or relative to the project's root.
    pub path: Option<PathBuf>,
    /// Character set of the connection.
    pub charset: Option<String>,
    /// `disabled`, `preferred`, `required`, `verify-ca` or `verify-identity`.
    pub tls: Option<String>,
    /// Certificates that `verify-*` trusts.
    pub tls_ca: Option<PathBuf>,
}

impl DatabaseConfig {
    /// The parameters that are given, by the names of a `Connection`, secrets resolved.
    ///
    /// # Errors
    /// [`super::SecretError`] when a secret cannot be read.
    pub fn parameters(&self) -> Result<BTreeMap<&'static str, zeroize::Zeroizing<String>>, super::SecretError> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let plain = [
            ("host", self.host.clone()),
            ("port", self.port.map(|port| port.to_string())),
            ("socket", self.socket.as_ref().map(text)),
            ("user", self.user.clone()),
            ("database", self.database.clone()),
            ("path", self.path.as_ref().map(text)),
            ("charset", self.charset.clone()),
            ("tls", self.tls.clone()),
            ("tls_ca", self.tls_ca.as_ref().map(text)),
        ];
        let mut all: BTreeMap<_, _> = plain.into_iter().filter_map(|(name, value)| Some((name, value?.into()))).collect();
        for (name, secret) in [("url", &self.url), ("password", &self.password)] {
            if let Some(secret) = secret {
                all.insert(name, secret.resolve()?);
            }
        }
        Ok(all)
    }
}
