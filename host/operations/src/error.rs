//! Why an operation could not be done, its exit status and what to do next.
//!
//! Owns the mapping from every lower error to the documented exit statuses. Text of the lower errors is chained
//! by `source`, never repeated.

use crate::{audit::AuditError, report::Failure};
use havun_model::{ItemName, NameError, ProjectName, StoreName, StrategyError};
use havun_vault::{VaultError, store::StoreError};
use std::{io, path::PathBuf};

/// Exit statuses of the program.
pub mod exit {
    /// Everything asked for was done.
    pub const OK: u8 = 0;
    /// Nothing, or not the thing asked for, was done.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// Some of it was done; the report says what was not.
    pub const PARTIAL: u8 = 3;
    /// Something needs attention.
    pub const UNHEALTHY: u8 = 4;
    /// Something stored is damaged.
    pub const INTEGRITY: u8 = 5;
    /// A drill did not pass.
    pub const DRILL: u8 = 6;
    /// A store, or the server of the audit database, cannot be reached.
    pub const UNREACHABLE: u8 = 10;
    /// Another run holds the vault.
    pub const LOCKED: u8 = 11;
    /// None of the given keys opens the vault.
    pub const WRONG_KEY: u8 = 12;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
    /// Stopped by the operator.
    pub const INTERRUPTED: u8 = 130;
}

/// Why an operation could not be done.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// No such project in the configuration.
    #[error("there is no project `{name}` in the configuration")]
    UnknownProject {
        /// As given.
        name: String,
        /// The nearest configured names.
        nearest: Vec<String>,
    },
    /// No such store in the configuration.
    #[error("there is no store `{name}` in the configuration")]
    UnknownStore {
        /// As given.
        name: String,
        /// The nearest configured names.
        nearest: Vec<String>,
    },
    /// No such channel in the configuration.
    #[error("there is no channel `{name}` in [notify]")]
    UnknownChannel {
        /// As given.
        name: String,
        /// The nearest configured names.
        nearest: Vec<String>,
    },
    /// The project does not use the store.
    #[error("project `{project}` does not use store `{store}`")]
    StoreNotUsed {
        /// The project.
        project: ProjectName,
        /// As given.
        store: String,
    },
    /// No such strategy.
    #[error("project `{project}` names the unknown strategy `{strategy}`")]
    UnknownStrategy {
        /// The project.
        project: ProjectName,
        /// As configured.
        strategy: String,
        /// The nearest known names.
        nearest: Vec<String>,
    },
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The project's root is not a folder that can be read.
    #[error("root `{}` of project `{project}` cannot be read", path.display())]
    RootGone {
        /// The project.
        project: ProjectName,
        /// Its root.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The project is paused.
    #[error("project `{project}` is paused")]
    Paused {
        /// The project.
        project: ProjectName,
    },
    /// No such snapshot.
    #[error("project `{project}` has no snapshot {wanted}")]
    NoSnapshot {
        /// The project.
        project: ProjectName,
        /// What was asked for: "that begins with `ab12`", "of 2026-01-15".
        wanted: String,
        /// What there is instead, newest first, bounded.
        there_are: Vec<String>,
    },
    /// A prefix that several snapshots share.
    #[error("`{prefix}` could be any of {} snapshots of project `{project}`", matches.len())]
    AmbiguousSnapshot {
        /// The project.
        project: ProjectName,
        /// As given.
        prefix: String,
        /// The snapshots, one line each.
        matches: Vec<String>,
    },
    /// No such item in the snapshot.
    #[error("the snapshot has no item `{item}`")]
    UnknownItem {
        /// As given.
        item: String,
        /// The items that it has.
        there_are: Vec<String>,
    },
    /// A path pattern that is none.
    #[error("`{pattern}` is not a path pattern")]
    BadPattern {
        /// As given.
        pattern: String,
        /// Where it goes wrong.
        source: globset::Error,
    },
    /// A date that is none.
    #[error("`{text}` is not a date of the form 2026-01-31")]
    BadDate {
        /// As given.
        text: String,
    },
    /// No such incident procedure.
    #[error("there is no incident procedure `{name}`")]
    UnknownPage {
        /// As given.
        name: String,
        /// The nearest of those that there are.
        nearest: Vec<String>,
    },
    /// A repair that went through, and something is wrong all the same.
    #[error("not mended: {what}: {why}")]
    NotMended {
        /// What was tried.
        what: String,
        /// What is still wrong.
        why: String,
    },
    /// A day whose report nobody can make yet.
    #[error("{day} has not begun yet")]
    NotYet {
        /// As given.
        day: String,
    },
    /// A year that is none.
    #[error("`{text}` is not a year of the form 2026")]
    BadEpoch {
        /// As given.
        text: String,
    },
    /// No such hold stands.
    #[error("no hold stands whose id begins with `{id}`")]
    NoHold {
        /// As given.
        id: String,
    },
    /// A prefix that several holds share.
    #[error("`{prefix}` could be any of several holds")]
    AmbiguousHold {
        /// As given.
        prefix: String,
        /// The holds, one line each.
        matches: Vec<String>,
    },
    /// No such erasure stands.
    #[error("no erasure stands whose id begins with `{id}`")]
    NoErasure {
        /// As given.
        id: String,
    },
    /// A prefix that several erasures share.
    #[error("`{prefix}` could be any of several erasures")]
    AmbiguousErasure {
        /// As given.
        prefix: String,
        /// The erasures, one line each.
        matches: Vec<String>,
    },
    /// Not the hash of a subject.
    #[error("the subject cannot be used: {why}")]
    BadSubject {
        /// What is wrong; never what was given, which may be personal data.
        why: String,
    },
    /// The operator's command that lets the application rest failed.
    #[error("the application of project `{project}` was not made to rest, so nothing was backed up: {why}")]
    Quiesce {
        /// The project.
        project: ProjectName,
        /// Which command, and what became of it.
        why: String,
    },
    /// The snapshot of the file system, from which files were to be read, could not be made.
    #[error("no {kind} snapshot could be made of what project `{project}` lies in: {why}")]
    SourceSnapshot {
        /// The project.
        project: ProjectName,
        /// `btrfs`, `zfs` or `lvm`.
        kind: &'static str,
        /// Which command, and what became of it.
        why: String,
    },
    /// What was typed is not what had to be.
    #[error("nothing was deleted: the confirmation is not `{}`", expected.as_deref().unwrap_or("…"))]
    NotConfirmed {
        /// The text; none where nothing is past its term, or several projects have something.
        expected: Option<String>,
    },
    /// A restore target with something in it.
    #[error("`{}` is not empty", path.display())]
    TargetNotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// A restore would replace what databases hold, and nobody said that it may.
    #[error("the restore would replace what is in {}; nothing was changed", databases.join(" and in "))]
    DatabaseNotEmpty {
        /// Each with what it holds.
        databases: Vec<String>,
    },
    /// Something lies where a new file was to be.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A target database argument without `=`.
    #[error("`{text}` does not say which item goes into which database")]
    BadTargetDatabase {
        /// As given.
        text: String,
    },
    /// A database name or URL that cannot be a target.
    #[error("`{target}` cannot take database item `{item}`: {why}")]
    TargetDatabase {
        /// The item.
        item: String,
        /// As given, without its password.
        target: String,
        /// Why.
        why: String,
    },
    /// Nothing of what was asked for is in the snapshot, or none of it could be restored.
    #[error("nothing could be restored of snapshot {snapshot}")]
    NothingRestorable {
        /// The snapshot.
        snapshot: String,
        /// Why, one line for each file or item, bounded.
        reasons: Vec<String>,
    },
    /// Every item of a run failed.
    #[error("no item of project `{project}` could be backed up")]
    NothingStored {
        /// The project.
        project: ProjectName,
        /// One line for each item.
        reasons: Vec<String>,
    },
    /// A plan with a rule broken.
    #[error("the plan of project `{project}` cannot be carried out: {why}")]
    BadPlan {
        /// The project.
        project: ProjectName,
        /// Which rule.
        why: String,
    },
    /// No store of the project could be opened.
    #[error("none of the stores of project `{project}` can be used")]
    NoUsableStore {
        /// The project.
        project: ProjectName,
        /// One line for each store.
        reasons: Vec<String>,
    },
    /// The primary store has lost its vault, and whoever may hold it cannot be asked.
    #[error("store `{store}` holds no vault of project `{project}`, though there was one ({trace}), and another store cannot be asked")]
    VaultAway {
        /// The project.
        project: ProjectName,
        /// The primary store.
        store: StoreName,
        /// How it is known.
        trace: String,
        /// One line for each store that cannot be asked.
        reasons: Vec<String>,
    },
    /// A store could not be used.
    #[error("store `{store}` cannot be used")]
    Store {
        /// The store.
        store: StoreName,
        /// Why.
        source: havun_vault::store::StoreError,
    },
    /// A vault could not be used.
    #[error("the vault of project `{project}` in store `{store}` cannot be used")]
    Vault {
        /// The project.
        project: ProjectName,
        /// The store.
        store: StoreName,
        /// Why.
        source: Box<havun_vault::VaultError>,
    },
    /// A key file could not be used.
    #[error("the key in `{from}` cannot be used")]
    Key {
        /// The file or variable.
        from: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no key, and the vault needs one.
    #[error("there is no key to open the vault of project `{project}` with")]
    NoKey {
        /// The project.
        project: ProjectName,
    },
    /// A call into a strategy failed.
    #[error("project `{project}` cannot be planned")]
    Strategy {
        /// The project.
        project: ProjectName,
        /// Why.
        source: Box<StrategyError>,
    },
    /// A database would not give a whole dump.
    #[error("database item `{item}` of project `{project}` cannot be backed up")]
    DatabaseTest {
        /// The project.
        project: ProjectName,
        /// The item.
        item: ItemName,
        /// Why.
        source: Box<crate::databases::DatabaseError>,
    },
    /// A secret of a project cannot be read.
    #[error("a secret of project `{project}` cannot be read")]
    Secret {
        /// The project.
        project: ProjectName,
        /// Why.
        source: crate::config::SecretError,
    },
    /// A history could not be put back.
    #[error("history `{item}` cannot be restored")]
    Git {
        /// The item.
        item: String,
        /// Why.
        source: Box<crate::git::GitError>,
    },
    /// A stored file that something else is made from cannot be read.
    #[error("{path} cannot be restored: {why}")]
    Lost {
        /// Its path in the snapshot.
        path: String,
        /// Why.
        why: String,
    },
    /// The audit database could not be used.
    #[error("the audit database cannot be used")]
    Audit(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A strategy's component could not be loaded.
    #[error("strategy `{strategy}` of project `{project}` cannot be loaded")]
    Component {
        /// The project.
        project: ProjectName,
        /// As configured.
        strategy: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(String),
    /// A secret of a store cannot be read.
    #[error("a secret of store `{store}` cannot be read")]
    StoreSecret {
        /// The store.
        store: StoreName,
        /// Why.
        source: crate::config::SecretError,
    },
    /// A `host_key` that pins nothing.
    #[error("`host_key` of store `{store}` cannot be used")]
    HostKeyPin {
        /// The store.
        store: StoreName,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A drill does not fit on a disk.
    #[error("{needed} bytes are needed for a drill in {}, and {free} are free", path.display())]
    NoScratchSpace {
        /// The folder.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes needed, as estimated.
        needed: u64,
    },
    /// The system refused something beside a store.
    #[error("{doing} `{}`", path.display())]
    Io {
        /// "cannot write", …
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another run of the project is under way, here or on a host that shares the audit database.
    #[error("project `{project}` is being backed up by host `{host}` (process {pid})")]
    RunElsewhere {
        /// The project.
        project: ProjectName,
        /// The host.
        host: String,
        /// The process on that host.
        pid: i64,
        /// When its lease ends, if it is not renewed.
        until: jiff::Timestamp,
    },
    /// Another run took the lease of the project over while this one could not renew it.
    #[error("the lease of project `{project}` was taken over meanwhile by {holder}")]
    LeaseLost {
        /// The project.
        project: ProjectName,
        /// Who has it now.
        holder: String,
    },
    /// Another daemon works with this state folder.
    #[error("another daemon works with {}{}", state_dir.display(), if holder.is_empty() { String::new() } else { format!(" ({holder})") })]
    DaemonRuns {
        /// The state folder.
        state_dir: PathBuf,
        /// Who, where that is known.
        holder: String,
    },
    /// A mistake of this program, which ended one piece of work and nothing else.
    #[error("{doing} ended by a mistake in this program: {what}")]
    Panicked {
        /// "the run of project `x`", …
        doing: String,
        /// What it said.
        what: String,
    },
    /// The operator stopped it.
    #[error("stopped by the operator")]
    Interrupted,
}

impl OperationError {
    /// The documented exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::UnknownProject { .. }
            | Self::UnknownStore { .. }
            | Self::UnknownChannel { .. }
            | Self::StoreNotUsed { .. }
            | Self::Name(_)
            | Self::BadPattern { .. }
            | Self::BadDate { .. }
            | Self::BadEpoch { .. }
            | Self::NotYet { .. }
            | Self::UnknownPage { .. }
            | Self::NotConfirmed { .. }
            | Self::NoHold { .. }
            | Self::AmbiguousHold { .. }
            | Self::NoErasure { .. }
            | Self::AmbiguousErasure { .. }
            | Self::BadSubject { .. }
            | Self::BadTargetDatabase { .. }
            | Self::UnknownItem { .. }
            | Self::AmbiguousSnapshot { .. } => exit::USAGE,
            Self::UnknownStrategy { .. }
            | Self::Component { .. }
            | Self::StoreSecret { .. }
            | Self::HostKeyPin { .. }
            | Self::Key { .. }
            | Self::Secret { .. } => exit::CONFIG,
            Self::Store { source, .. } => crate::project::store_status(source),
            Self::Vault { source, .. } => crate::project::vault_status(source),
            Self::NoKey { .. } => exit::WRONG_KEY,
            Self::VaultAway { .. } => exit::UNREACHABLE,
            Self::Audit(source) if is_setting(&**source) => exit::CONFIG,
            Self::Audit(source) if is_away(&**source) => exit::UNREACHABLE,
            Self::Interrupted => exit::INTERRUPTED,
            Self::RunElsewhere { .. } | Self::LeaseLost { .. } => exit::LOCKED,
            Self::DaemonRuns { .. } => exit::LOCKED,
            _ => exit::FAILED,
        }
    }

    /// Whether the same may go well later with nobody's help: a server that is away comes back, a wrong key stays wrong.
    pub fn can_pass(&self) -> bool {
        let is_host_key = |source: &StoreError| matches!(source, StoreError::HostKey { .. });
        match self {
            Self::Store { source, .. } if is_host_key(source) => false,
            Self::Vault { source, .. } if matches!(&**source, VaultError::Store { source, .. } if is_host_key(source)) => false,
            Self::BadPlan { .. } => false,
            _ => !matches!(self.exit_status(), exit::USAGE | exit::CONFIG | exit::WRONG_KEY | exit::INTEGRITY),
        }
    }

    /// What to do next, one sentence, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownProject { nearest, .. } | Self::UnknownStore { nearest, .. } | Self::UnknownStrategy { nearest, .. } => {
                did_you_mean(nearest)
            }
            Self::UnknownPage { nearest, .. } => did_you_mean(nearest),
            Self::UnknownChannel { nearest, .. } if nearest.is_empty() => "[notify] has no channel yet".to_owned(),
            Self::UnknownChannel { nearest, .. } => did_you_mean(nearest),
            Self::StoreNotUsed { project, .. } => format!("the stores of a project are listed at `stores` in [projects.{project}]"),
            Self::RootGone { project, .. } => {
                format!("mount it, or correct `root` in [projects.{project}]; nothing was backed up")
            }
            Self::Paused { .. } => "use --force to run it all the same".to_owned(),
            Self::NoSnapshot { there_are, .. } if there_are.is_empty() => "`havun-backup run` makes the first one".to_owned(),
            Self::NoSnapshot { there_are, .. } => format!("there are: {}", there_are.join("; ")),
            Self::NotConfirmed { expected: None } => "name one project with --project; --dry-run shows what is past its term".to_owned(),
            Self::NoHold { .. } => "`havun-backup hold list` shows those that stand".to_owned(),
            Self::Quiesce { project, .. } => format!(
                "run it by hand; `on_failure = \"continue\"` in [projects.{project}.quiesce] backs up all the same, while the application works"
            ),
            Self::SourceSnapshot { project, .. } => {
                format!("run the command by hand; without [projects.{project}.snapshot] files are read where they are")
            }
            Self::NoErasure { .. } => "`havun-backup erasure list` shows those that stand".to_owned(),
            Self::BadSubject { .. } => {
                "`havun-backup erasure hash` reads an identifier from its standard input and prints its hash".to_owned()
            }
            Self::AmbiguousErasure { matches, .. } => format!("give more digits: {}", matches.join("; ")),
            Self::AmbiguousHold { matches, .. } => format!("give more digits: {}", matches.join("; ")),
            Self::AmbiguousSnapshot { matches, .. } => format!("give more digits: {}", matches.join("; ")),
            Self::UnknownItem { there_are, .. } => format!("it has: {}", there_are.join(", ")),
            Self::TargetNotEmpty { .. } => "name a folder that is empty or does not exist yet".to_owned(),
            Self::DatabaseNotEmpty { .. } => "--replace swaps the restored one in and keeps the old one, as `--dry-run` shows; \
                                              --database-as ITEM=NAME restores into another database"
                .to_owned(),
            Self::Exists { .. } => "name another file, or move this one away".to_owned(),
            Self::BadTargetDatabase { .. } => "write --database-as ITEM=NAME or --database-as ITEM=URL".to_owned(),
            Self::NothingRestorable { reasons, .. } | Self::NothingStored { reasons, .. } | Self::NoUsableStore { reasons, .. }
                if !reasons.is_empty() =>
            {
                reasons.join("; ")
            }
            Self::VaultAway { project, store, reasons, .. } => format!(
                "{}; the run after it is back fills `{store}` from it. To begin anew instead, take the missing store out of `stores` in [projects.{project}]",
                reasons.join("; ")
            ),
            Self::Store { source, .. } => crate::project::store_hint(source)?,
            Self::Vault { source, .. } => crate::project::vault_hint(source)?,
            Self::Audit(source) if is_setting(&**source) => "correct `url` in [audit]; without it no run can be recorded".to_owned(),
            Self::RunElsewhere { until, host, .. } => format!(
                "wait for it; if nobody renews its lease, that ends at {until}; when `{host}` is gone for certain, --force takes it at once"
            ),
            Self::LeaseLost { .. } => {
                "nothing was committed here, and the other run goes on; see whether this machine slept or was cut off".to_owned()
            }
            Self::Audit(source) => audit_hint(&**source)?,
            Self::DatabaseTest { project, .. } => {
                format!(
                    "start the server, or correct the connection: [projects.{project}.databases.NAME] overrides what the strategy found"
                )
            }
            Self::NoScratchSpace { .. } => {
                "free some space, or name a larger place: `state_dir` in [host] for files, `scratch_dir` in [drill] for databases"
                    .to_owned()
            }
            Self::Secret { project, .. } => format!("correct the secret in [projects.{project}.databases.NAME]"),
            Self::StoreSecret { store, .. } => format!("correct the secret in [stores.{store}]"),
            Self::HostKeyPin { store, .. } => {
                format!("correct `host_key` in [stores.{store}]: `ssh-keyscan HOST` prints the keys of a server")
            }
            Self::DaemonRuns { .. } => {
                "`havun-backup status` shows what it is at; stop it first (`systemctl stop havun-backup`), or give this one another `state_dir`"
                    .to_owned()
            }
            Self::Panicked { .. } => "please report it, with what stands before it in the log; the other projects went on".to_owned(),
            Self::NoKey { .. } => "name the identity file at `identity` in [keys]".to_owned(),
            _ => return None,
        })
    }

    /// The error as a report shows it: message, causes, hint, exit status.
    pub fn to_failure(&self) -> Failure {
        Failure { message: self.to_string(), causes: causes(self), hint: self.hint(), exit_status: self.exit_status() }
    }
}

/// Whether the audit database fails by what the configuration says of it.
fn is_setting(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.is::<crate::config::SecretError>() || matches!(error.downcast_ref(), Some(AuditError::Url { .. }))
}

/// Whether the audit database is away, as a store may be.
fn is_away(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref().is_some_and(AuditError::is_gone)
}

fn audit_hint(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<String> {
    Some(match error.downcast_ref()? {
        AuditError::Gone { .. } => {
            "start its server, or correct `url` in [audit]; nothing is backed up before it can be recorded".to_owned()
        }
        AuditError::Migrating => {
            "try again; where nobody is at it, end the connection of `havun-backup` that waits in the server".to_owned()
        }
        AuditError::Migrate(_) => {
            "bring this program to the version of the other hosts that share it; see docs/operations/audit-database.md".to_owned()
        }
        AuditError::Database { what: "open", .. } => {
            "check the login at `url` in [audit], and what it may do: docs/operations/audit-database.md".to_owned()
        }
        _ => return None,
    })
}

/// The chain of causes below `error`, outermost first.
pub fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut list = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        list.push(cause.to_string());
        next = cause.source();
    }
    list
}

/// `error` and its causes on one line.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    parts.extend(causes(error));
    parts.dedup();
    parts.join(": ")
}

/// Up to three of `known` that are near `name`, nearest first; all of them when there are few and none is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known.into_iter().map(|k| (strsim::jaro_winkler(name, k), k)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let near: Vec<String> = scored.iter().filter(|(score, _)| *score > 0.75).take(3).map(|(_, k)| (*k).to_owned()).collect();
    if near.is_empty() { scored.iter().take(8).map(|(_, k)| (*k).to_owned()).collect() } else { near }
}

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => "none is configured yet; `havun-backup init` proposes a configuration".to_owned(),
        [one] => format!("did you mean `{one}`?"),
        many => format!("there are: {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first() {
        assert_eq!(nearest("havunadmn", ["havuncore", "havunadmin", "blog"]).first().map(String::as_str), Some("havunadmin"));
        assert_eq!(nearest("zzz", ["a", "b"]), ["a", "b"]);
    }

    #[test]
    fn a_usage_error_exits_2_and_says_what_there_is() {
        let error = OperationError::UnknownProject { name: "blgo".into(), nearest: vec!["blog".into()] };
        assert_eq!(error.exit_status(), exit::USAGE);
        assert_eq!(error.hint().unwrap(), "did you mean `blog`?");
    }

    #[test]
    fn only_what_may_end_by_itself_is_tried_again() {
        let store = |source| OperationError::Store { store: "archive".parse().unwrap(), source };
        let key = StoreError::HostKey { host: "h".into(), found: "a".into(), expected: "b".into() };
        assert!(!store(key).can_pass());
        assert!(store(StoreError::NoMarker { path: "/mnt".into() }).can_pass());
        assert!(!OperationError::NoKey { project: "blog".parse().unwrap() }.can_pass());
        assert!(!OperationError::UnknownProject { name: "x".into(), nearest: Vec::new() }.can_pass());
        assert!(OperationError::NothingStored { project: "blog".parse().unwrap(), reasons: Vec::new() }.can_pass());
    }

    #[test]
    fn a_delta_whose_base_is_damaged_exits_5_and_names_the_repair() {
        let base = VaultError::Damaged { object: "epochs/2026/packs/a".into(), what: "it is missing".into() };
        let source = VaultError::Base { pack: "epochs/2026/packs/b".into(), base: Box::new(base) };
        let (project, store) = ("blog".parse().unwrap(), "hot".parse().unwrap());
        let error = OperationError::Vault { project, store, source: Box::new(source) };
        assert_eq!(error.exit_status(), exit::INTEGRITY);
        assert!(error.hint().unwrap().contains("`havun-backup repair`"));
    }
}
