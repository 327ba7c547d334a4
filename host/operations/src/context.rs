//! What every operation is given: the configuration, the strategies, the audit database, a clock, a way to stop.
//!
//! The audit database and the plugin runtime are opened on first use, so that a command that needs neither works
//! where they are broken. The clock and the sleeper are arguments; nothing below asks the system for the time.

use crate::{
    audit::{Access, Alert, AuditLog, LogStart},
    config::{Config, Secret, StoreConfig, StoreKind},
    error::OperationError,
    remote::Remotes,
    report::Failure,
    run::ProjectRun,
};
use havun_model::{Cancel, ProjectName, StoreName, StrategyLog};
use havun_plugin_runtime::Runtime;
use havun_vault::{
    Progress, PruneOptions, ReplicateOptions,
    keys::{Identity, Recipient},
    store::Store,
};
use jiff::{Timestamp, tz::TimeZone};
use std::{
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// Name and version of this program, as snapshots and audit rows have it.
pub const PROGRAM: &str = concat!("havun-backup ", env!("CARGO_PKG_VERSION"));

/// Takes what an operation does while it does it; called from several threads. Every method may do nothing.
pub trait Observer: Send + Sync {
    /// Project `place` (from 1) of `of` begins.
    fn project_begins(&self, _project: &ProjectName, _place: usize, _of: usize) {}
    /// Work on one item, store or stage begins: "database `main`", "copying to `hetzner`".
    fn step(&self, _text: &str) {}
    /// `files` and `bytes` more are done in `stage`.
    fn advance(&self, _stage: &str, _files: u64, _bytes: u64) {}
    /// A project has ended.
    fn project_ends(&self, _run: &ProjectRun) {}
    /// The drills of a project have ended.
    fn drill_ends(&self, _drill: &crate::drill::ProjectDrill) {}
    /// A strategy says something; `level` is `trace` to `error`.
    fn strategy_says(&self, _project: &str, _level: &str, _message: &str) {}
}

/// An [`Observer`] that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentObserver;

impl Observer for SilentObserver {}

/// Gives the present moment.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// Waits, before something is tried again.
pub type Sleeper = Arc<dyn Fn(Duration) + Send + Sync>;

/// Puts a decorator around a store.
pub type Through = Arc<dyn Fn(&StoreName, Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync>;

/// What every operation is given. One for each process.
pub struct Context {
    /// The configuration, checked.
    pub config: Config,
    /// Stops whatever is under way.
    pub cancel: Cancel,
    /// Takes progress.
    pub observer: Arc<dyn Observer>,
    /// Waits before something is tried again.
    pub sleeper: Sleeper,
    /// How long a dump waits for a lock that somebody else holds: 15 seconds unless said.
    pub lock_wait: Duration,
    /// Who started it, for the audit database: `operator` unless said.
    pub started_by: String,
    through: Option<Through>,
    clock: Clock,
    pub(crate) remotes: Remotes,
    runtime: OnceLock<Runtime>,
    audit: Mutex<Option<Arc<AuditLog>>>,
}

impl Context {
    /// With the system's clock.
    pub fn new(config: Config, cancel: Cancel, observer: Arc<dyn Observer>) -> Self {
        Self {
            config,
            cancel,
            observer,
            sleeper: Arc::new(std::thread::sleep),
            lock_wait: Duration::from_secs(15),
            started_by: "operator".to_owned(),
            through: None,
            clock: Arc::new(Timestamp::now),
            remotes: Remotes::default(),
            runtime: OnceLock::new(),
            audit: Mutex::new(None),
        }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// With every store seen through another one: for tests that count calls or let them fail.
    #[must_use]
    pub fn with_stores_through(mut self, through: Through) -> Self {
        self.through = Some(through);
        self
    }

    /// A store as operations see it.
    pub(crate) fn seen(&self, name: &StoreName, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.through.as_ref().map_or_else(|| Arc::clone(&store), |through| through(name, Arc::clone(&store)))
    }

    /// With another way to wait.
    #[must_use]
    pub fn with_sleeper(mut self, sleeper: Sleeper) -> Self {
        self.sleeper = sleeper;
        self
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The clock itself, for what asks later.
    pub(crate) fn clock(&self) -> Clock {
        Arc::clone(&self.clock)
    }

    /// The time zone of the configuration.
    pub fn zone(&self) -> TimeZone {
        self.config.host.timezone.clone()
    }

    /// As many threads as the machine has processors.
    pub fn threads(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    /// How a vault is cleaned up: stopped as everything else is, with pauses of [`Self::sleeper`].
    pub(crate) fn prune_options(&self) -> PruneOptions {
        let sleeper = Arc::clone(&self.sleeper);
        PruneOptions { cancel: self.cancel.clone(), sleeper: Arc::new(move |time| sleeper(time)), ..PruneOptions::default() }
    }

    /// The operator asked to stop.
    ///
    /// # Errors
    /// [`OperationError::Interrupted`] when that is so.
    pub fn check_cancelled(&self) -> Result<(), OperationError> {
        if self.cancel.is_cancelled() { Err(OperationError::Interrupted) } else { Ok(()) }
    }

    /// The audit database, opened on first use.
    ///
    /// # Errors
    /// [`OperationError::Audit`].
    pub fn audit(&self) -> Result<Arc<AuditLog>, OperationError> {
        let mut slot = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(audit) = &*slot {
            return Ok(Arc::clone(audit));
        }
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| OperationError::Audit(error);
        let url = self.config.audit.url.resolve().map_err(|e| failed(Box::new(e)))?;
        let password = self.config.audit.password.as_ref().map(Secret::resolve).transpose().map_err(|e| failed(Box::new(e)))?;
        let access = Access {
            password: password.as_ref().map(|password| password.as_str()),
            sleeper: Arc::clone(&self.sleeper),
            spool: Some(&self.config.host.state_dir.join("audit-spool")),
            ..Access::new(&url, &self.config.host.name)
        };
        let audit = AuditLog::open_with(&access).map_err(|e| failed(Box::new(e)))?;
        Ok(Arc::clone(slot.insert(Arc::new(audit))))
    }

    /// The plugin runtime; it costs nothing before its first load.
    pub fn runtime(&self) -> &Runtime {
        self.runtime.get_or_init(|| crate::strategies::new_runtime(&self.config))
    }

    /// With another runtime: for tests, whose program is none that compiles components.
    #[must_use]
    pub fn with_runtime(self, runtime: Runtime) -> Self {
        Self { runtime: OnceLock::from(runtime), ..self }
    }

    /// The keys that this host opens vaults with; none where none is configured.
    ///
    /// # Errors
    /// [`OperationError::Key`] names the file or variable.
    pub fn identities(&self) -> Result<Vec<Identity>, OperationError> {
        let Some(secret) = &self.config.keys.identity else { return Ok(Vec::new()) };
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| OperationError::Key { from: secret.to_string(), source };
        if let Secret::File(path) = secret {
            return Identity::read_file(path).map_err(|e| wrong(Box::new(e)));
        }
        let text = secret.resolve().map_err(|e| wrong(Box::new(e)))?;
        Identity::parse_all(&text).map_err(|e| wrong(Box::new(e)))
    }

    /// Who a vault's keys are wrapped for: this host and everyone at `escrow`.
    ///
    /// # Errors
    /// [`OperationError::Key`].
    pub fn recipients(&self) -> Result<Vec<Recipient>, OperationError> {
        let mut recipients: Vec<Recipient> = self.identities()?.iter().map(Identity::recipient).collect();
        for text in &self.config.keys.escrow {
            let recipient = text.parse().map_err(|e| OperationError::Key { from: "escrow".to_owned(), source: Box::new(e) })?;
            if !recipients.contains(&recipient) {
                recipients.push(recipient);
            }
        }
        Ok(recipients)
    }

    /// A private folder for copies that are gone when the work is done; made when missing.
    ///
    /// # Errors
    /// [`OperationError::Io`].
    pub fn scratch_dir(&self) -> Result<PathBuf, OperationError> {
        self.private_dir("scratch")
    }

    /// A folder of mode 0700 in the state folder; made when missing.
    pub(crate) fn private_dir(&self, name: &str) -> Result<PathBuf, OperationError> {
        let path = self.config.host.state_dir.join(name);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| OperationError::Io { doing: "cannot make", path: path.clone(), source })?;
        Ok(path)
    }

    /// An audit row that begins now.
    pub(crate) fn log_start(&self, run_id: &str, project: &str, action: &str, started_at: Timestamp) -> LogStart {
        LogStart {
            run_id: run_id.to_owned(),
            project: project.to_owned(),
            host: self.config.host.name.clone(),
            action: action.to_owned(),
            started_at,
            snapshot: None,
            stores: Vec::new(),
            target: String::new(),
            strategy: String::new(),
            strategy_digest: String::new(),
            started_by: self.started_by.clone(),
            user: login_name(),
            program: PROGRAM.to_owned(),
        }
    }

    /// Opens, counts or closes an alert about `project` (and `store`; may be empty). That it could not be written is logged:
    /// whatever it is about has its own way to the operator.
    pub(crate) fn alert(&self, project: &str, store: &str, kind: &str, failure: Option<&Failure>, run_id: &str) {
        let written = self.audit().and_then(|audit| {
            let done = match failure {
                None => audit.resolve(project, store, kind, self.now()).map(|_| ()),
                Some(failure) => {
                    let (message, hint) = (failure.one_line(), failure.hint.clone().unwrap_or_default());
                    audit.raise(&Alert { project, store, kind, message, hint, exit_status: failure.exit_status, run_id }, self.now())
                }
            };
            done.map_err(|e| OperationError::Audit(Box::new(e)))
        });
        if let Err(error) = written {
            tracing::warn!(%error, project, store, kind, "an alert could not be written");
        }
    }

    /// The vault's view of the observer.
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(ObserverProgress(Arc::clone(&self.observer)))
    }

    /// A strategy's view of the observer.
    pub(crate) fn strategy_log(&self, project: &ProjectName) -> Arc<dyn StrategyLog> {
        Arc::new(ObserverLog { observer: Arc::clone(&self.observer), project: project.to_string() })
    }

    /// The folder that says what the replica of `project` in `store` is known to hold.
    pub(crate) fn catalogue(&self, project: &ProjectName, store: &StoreName) -> PathBuf {
        self.config.host.state_dir.join("replicas").join(store.as_str()).join(project.as_str())
    }

    /// How a vault is copied; to a replica whose store is given, with a catalogue of what it holds.
    pub(crate) fn replicate_options(&self, replica: Option<(&ProjectName, &StoreName)>) -> ReplicateOptions {
        let threads = |config: &StoreConfig| match &config.kind {
            StoreKind::Local { .. } => 0,
            StoreKind::Sftp(sftp) => sftp.connections,
            StoreKind::S3(s3) => s3.connections,
        };
        ReplicateOptions {
            holder: self.holder("run"),
            threads: replica.and_then(|(_, store)| self.config.stores.get(store)).map_or(0, threads),
            catalogue: replica.map(|(project, store)| self.catalogue(project, store)),
            full: false,
            selection: None,
            on_lost: None,
            now: self.now(),
            cancel: self.cancel.clone(),
        }
    }

    /// Who holds a lease, for people.
    pub(crate) fn holder(&self, command: &str) -> String {
        format!("{} on {} (process {})", command, self.config.host.name, std::process::id())
    }
}

/// A new id for a run: its time, then 48 random bits.
pub(crate) fn new_run_id(now: Timestamp) -> Result<String, OperationError> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|e| OperationError::Random(e.to_string()))?;
    Ok(format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), hex::encode(random)))
}

/// Who runs this process, by `/etc/passwd`; the number where it has no name.
fn login_name() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let name = lines.find(|fields| fields.get(2) == Some(&uid.as_str())).and_then(|fields| fields.first().map(|s| (*s).to_owned()));
    name.unwrap_or(uid)
}

struct ObserverProgress(Arc<dyn Observer>);

impl Progress for ObserverProgress {
    fn advance(&self, stage: &str, files: u64, bytes: u64) {
        self.0.advance(stage, files, bytes);
    }
}

struct ObserverLog {
    observer: Arc<dyn Observer>,
    project: String,
}

impl StrategyLog for ObserverLog {
    fn log(&self, level: &str, message: &str) {
        self.observer.strategy_says(&self.project, level, message);
    }

    fn progress(&self, done: f64, total: Option<f64>, note: &str) {
        let of = total.map_or_else(String::new, |total| format!(" of {total}"));
        self.observer.step(&format!("{note} {done}{of}"));
    }
}
