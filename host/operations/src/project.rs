//! A project's stores and vaults: choosing, opening and making them.
//!
//! The *primary* is the store that a run writes to: the first hot store, else the first on this machine. Every other
//! store is a replica. Where all stores of a project are on other machines, the primary is the *spool*: a store in the
//! state folder, from which the others are filled and which keeps the newest snapshot only. A vault is only ever made in
//! the primary, by a run; nothing else here writes.

use crate::{
    config::{ProjectConfig, SPOOL, StoreConfig, StoreKind, Tier},
    context::Context,
    error::{OperationError, exit, nearest, one_line},
    remote,
    selection::{self, SnapshotChoice},
};
use havun_model::{ProjectName, StoreName};
use havun_vault::{
    NewVault, StoredSnapshot, Vault, VaultError,
    store::{LocalRoot, RetryPolicy, Store, StoreError},
};
use std::sync::Arc;

/// One store of a project, rooted at the project's vault folder.
pub struct OpenStore {
    /// Its name.
    pub name: StoreName,
    /// What it is for.
    pub tier: Tier,
    /// The store.
    pub store: Arc<dyn Store>,
}

/// The project of this name.
///
/// # Errors
/// [`OperationError::UnknownProject`] with the nearest names.
pub fn find<'a>(cx: &'a Context, name: &str) -> Result<&'a ProjectConfig, OperationError> {
    let found = cx.config.projects.values().find(|p| p.name.as_str() == name);
    found.ok_or_else(|| OperationError::UnknownProject {
        name: name.to_owned(),
        nearest: nearest(name, cx.config.projects.keys().map(ProjectName::as_str)),
    })
}

/// The named projects, or all, the most important first. Every name is checked before anything starts.
///
/// # Errors
/// [`OperationError::UnknownProject`].
pub fn select<'a>(cx: &'a Context, names: &[String]) -> Result<Vec<&'a ProjectConfig>, OperationError> {
    let mut projects = match names {
        [] => cx.config.projects.values().collect::<Vec<_>>(),
        names => names.iter().map(|name| find(cx, name)).collect::<Result<_, _>>()?,
    };
    projects.sort_by(|a, b| a.priority.cmp(&b.priority).then(a.name.cmp(&b.name)));
    projects.dedup_by(|a, b| a.name == b.name);
    Ok(projects)
}

/// The store that a run writes to: the first hot one, else the first on this machine, else the spool.
pub fn primary(cx: &Context, project: &ProjectConfig) -> Option<StoreName> {
    let first = |wanted: &dyn Fn(&StoreConfig) -> bool| project.stores.iter().find(|name| cx.config.stores.get(*name).is_some_and(wanted));
    let hot = first(&|store| store.tier == Tier::Hot && !store.kind.is_remote());
    let local = || first(&|store| !store.kind.is_remote());
    hot.or_else(local).cloned().or_else(|| StoreName::new(SPOOL).ok())
}

/// `hot`, `archive` or `test`; `spool` for the spool.
pub(crate) fn tier_word<'a>(cx: &'a Context, name: &StoreName) -> &'a str {
    cx.config.stores.get(name).map_or(SPOOL, |store| store.tier.word())
}

/// Whether the project's stores are all on other machines, so that its runs write to the spool.
pub fn is_spooled(cx: &Context, project: &ProjectConfig) -> bool {
    primary(cx, project).is_some_and(|name| name.as_str() == SPOOL)
}

/// Whether `store` names the spool, and the project's runs write to it.
pub(crate) fn is_in_spool(cx: &Context, project: &ProjectConfig, store: Option<&str>) -> bool {
    store == Some(SPOOL) && is_spooled(cx, project)
}

/// The stores that a run copies to, in the order of the configuration.
pub fn replicas(cx: &Context, project: &ProjectConfig) -> Vec<StoreName> {
    let first = primary(cx, project);
    project.stores.iter().filter(|name| Some(*name) != first.as_ref()).cloned().collect()
}

/// The project's stores in the order in which a reader tries them: the primary first; with `only`, that one alone.
///
/// # Errors
/// [`OperationError::UnknownStore`], [`OperationError::StoreNotUsed`].
pub fn store_order(cx: &Context, project: &ProjectConfig, only: Option<&str>) -> Result<Vec<StoreName>, OperationError> {
    if let Some(text) = only {
        if text == SPOOL && is_spooled(cx, project) {
            return Ok(primary(cx, project).into_iter().collect());
        }
        if !cx.config.stores.keys().any(|name| name.as_str() == text) {
            let nearest = nearest(text, cx.config.stores.keys().map(StoreName::as_str));
            return Err(OperationError::UnknownStore { name: text.to_owned(), nearest });
        }
        let used = project.stores.iter().find(|name| name.as_str() == text).cloned();
        return used
            .map(|name| vec![name])
            .ok_or_else(|| OperationError::StoreNotUsed { project: project.name.clone(), store: text.to_owned() });
    }
    Ok(primary(cx, project).into_iter().chain(replicas(cx, project)).collect())
}

/// Opens one store of a project. Nothing is written; a missing mount is an error.
///
/// # Errors
/// [`OperationError::Store`], [`OperationError::UnknownStore`], [`OperationError::StoreSecret`].
pub fn open_store(cx: &Context, project: &ProjectName, name: &StoreName) -> Result<OpenStore, OperationError> {
    if name.as_str() == SPOOL {
        return open_spool(cx, project, name);
    }
    let config = cx.config.stores.get(name).ok_or_else(|| OperationError::UnknownStore {
        name: name.to_string(),
        nearest: nearest(name.as_str(), cx.config.stores.keys().map(StoreName::as_str)),
    })?;
    Ok(OpenStore { name: name.clone(), tier: config.tier, store: cx.seen(name, connect(cx, config, project)?) })
}

/// The spool is a folder of the program's own: it is made when it is missing, and holds nothing that is nowhere else for
/// longer than a store is away.
fn open_spool(cx: &Context, project: &ProjectName, name: &StoreName) -> Result<OpenStore, OperationError> {
    cx.private_dir("")?;
    let root = LocalRoot::create(&cx.config.host.state_dir.join("spool-vaults"), name);
    let root = root.map_err(|source| OperationError::Store { store: name.clone(), source })?;
    Ok(OpenStore { name: name.clone(), tier: Tier::Hot, store: Arc::new(root.vault(project)) })
}

fn connect(cx: &Context, config: &StoreConfig, project: &ProjectName) -> Result<Arc<dyn Store>, OperationError> {
    if let StoreKind::Local { path } = &config.kind {
        let root = LocalRoot::open(path).and_then(|root| root.named(&config.name));
        let root = root.map_err(|source| OperationError::Store { store: config.name.clone(), source })?;
        return Ok(remote::wrapped(cx, config, root.vault(project), RetryPolicy::default()));
    }
    let store = remote::vault(cx, config, project)?;
    store.ok_or_else(|| OperationError::UnknownStore { name: config.name.to_string(), nearest: Vec::new() })
}

/// Opens the vault of `project` in one store.
///
/// # Errors
/// [`OperationError::Vault`]; [`OperationError::NoKey`] when it is encrypted and no key is configured.
pub fn open_vault(cx: &Context, project: &ProjectName, store: &OpenStore) -> Result<Vault, OperationError> {
    let failed = |source| OperationError::Vault { project: project.clone(), store: store.name.clone(), source: Box::new(source) };
    let identities = cx.identities()?;
    let vault = match Vault::open(Arc::clone(&store.store), &identities) {
        Err(VaultError::WrongKey { .. }) if identities.is_empty() => return Err(OperationError::NoKey { project: project.clone() }),
        other => other.map_err(failed)?,
    };
    if vault.info().project != *project {
        let (place, found) = (store.store.describe(), vault.info().project.to_string());
        return Err(failed(VaultError::OtherVault { place, found, expected: project.to_string() }));
    }
    Ok(vault)
}

/// Whether an error says that the store holds no vault of the project yet.
pub fn is_no_vault(error: &OperationError) -> bool {
    matches!(error, OperationError::Vault { source, .. } if matches!(**source, VaultError::NoVault { .. }))
}

/// Opens the vault of `project` in its primary store; makes it where none of the project's stores holds one. Where
/// only a replica does (the primary's disk was replaced), the primary is filled from it first, so that history and
/// vault id stay. Returns what the operator should know of that.
///
/// # Errors
/// As [`open_vault`]; [`OperationError::NoKey`] for an encrypted vault without recipients;
/// [`OperationError::VaultAway`] when there was a vault and the store that may hold it cannot be asked: a second vault
/// beside it would be a second history.
pub fn open_or_create(
    cx: &Context,
    project: &ProjectConfig,
    primary: &OpenStore,
    replicas: &[StoreName],
) -> Result<(Vault, Vec<String>), OperationError> {
    match open_vault(cx, &project.name, primary) {
        Err(error) if is_no_vault(&error) => {}
        other => return Ok((other?, Vec::new())),
    }
    let mut away = Vec::new();
    for name in replicas {
        match open_store(cx, &project.name, name).and_then(|store| Ok((open_vault(cx, &project.name, &store)?, store))) {
            Ok((source, replica)) => return fill(cx, project, primary, &source, &replica),
            Err(error) if is_no_vault(&error) => {}
            Err(error) if error.exit_status() == exit::UNREACHABLE => away.push(one_line(&error)),
            Err(error) => return Err(error),
        }
    }
    let trace = trace_of_vault(cx, project);
    match trace {
        Some(trace) if !away.is_empty() => {
            Err(OperationError::VaultAway { project: project.name.clone(), store: primary.name.clone(), trace, reasons: away })
        }
        trace => create(cx, project, primary, trace),
    }
}

fn fill(
    cx: &Context,
    project: &ProjectConfig,
    primary: &OpenStore,
    source: &Vault,
    replica: &OpenStore,
) -> Result<(Vault, Vec<String>), OperationError> {
    cx.observer.step(&format!("filling `{}` from `{}`", primary.name, replica.name));
    let damage = crate::replication::fill(cx, project, source, primary)?;
    let note = format!("store `{}` had no vault of this project: it was filled from `{}`", primary.name, replica.name);
    Ok((open_vault(cx, &project.name, primary)?, std::iter::once(note).chain(damage).collect()))
}

fn create(
    cx: &Context,
    project: &ProjectConfig,
    primary: &OpenStore,
    trace: Option<String>,
) -> Result<(Vault, Vec<String>), OperationError> {
    let recipients = cx.recipients()?;
    if project.encryption && (cx.config.keys.identity.is_none() || recipients.is_empty()) {
        return Err(OperationError::NoKey { project: project.name.clone() });
    }
    let new = NewVault { project: project.name.clone(), encryption: project.encryption, recipients, created: cx.now() };
    let failed = |source| OperationError::Vault { project: project.name.clone(), store: primary.name.clone(), source: Box::new(source) };
    Vault::create(Arc::clone(&primary.store), &new).map_err(failed)?;
    let mut notes = vec![format!("a new vault was made in store `{}`", primary.name)];
    notes
        .extend(trace.map(|trace| format!("there was a vault of this project before ({trace}), and none of its stores holds it any more")));
    Ok((open_vault(cx, &project.name, primary)?, notes))
}

/// What this host remembers of a vault of the project: a committed run in the audit database, or what it knows of a
/// replica. `None` on a host that never backed it up.
fn trace_of_vault(cx: &Context, project: &ProjectConfig) -> Option<String> {
    let rows = cx.audit().ok().and_then(|audit| audit.logs(Some(project.name.as_str()), 1000).ok()).unwrap_or_default();
    let committed = rows.iter().find(|row| row.kind == "backup" && row.action == "run" && row.snapshot.is_some());
    let known = || {
        let folders = project.stores.iter().map(|store| cx.catalogue(&project.name, store));
        folders.into_iter().find(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
    };
    committed
        .map(|row| format!("the audit database has a run of {}", row.started_at))
        .or_else(|| known().map(|folder| format!("{} knows a replica", folder.display())))
}

/// The first store of `order` whose vault opens, and why those before it did not.
///
/// # Errors
/// The error of the only store, or [`OperationError::NoUsableStore`].
pub fn first_open(cx: &Context, project: &ProjectConfig, order: &[StoreName]) -> Result<(OpenStore, Vault, Vec<String>), OperationError> {
    let mut errors = Vec::new();
    for name in order {
        let opened =
            open_store(cx, &project.name, name).and_then(|store| open_vault(cx, &project.name, &store).map(|vault| (store, vault)));
        match opened {
            Ok((store, vault)) => {
                let notes = errors.iter().map(|e: &OperationError| format!("passed over: {}", one_line(e))).collect();
                return Ok((store, vault, notes));
            }
            Err(error) => errors.push(error),
        }
    }
    Err(no_usable_store(project, errors))
}

/// The only error, or the first of several that mean the same; else [`OperationError::NoUsableStore`] with all of them.
fn no_usable_store(project: &ProjectConfig, errors: Vec<OperationError>) -> OperationError {
    let reasons = errors.iter().map(|error| one_line(error)).collect();
    let same = errors.first().map(OperationError::exit_status);
    let alike = errors.iter().all(|error| Some(error.exit_status()) == same);
    match errors.into_iter().next() {
        Some(first) if alike => first,
        _ => OperationError::NoUsableStore { project: project.name.clone(), reasons },
    }
}

/// The snapshot that is meant, from the first store of `order` that has it: what the hot store has let go is still in an
/// archive. With it, what the operator should know of the choice.
///
/// # Errors
/// As [`selection::choose`] where every store could be asked; else the error of the first that could not.
pub fn find_snapshot(
    cx: &Context,
    project: &ProjectConfig,
    order: &[StoreName],
    choice: &SnapshotChoice,
) -> Result<(OpenStore, Vault, StoredSnapshot, Vec<String>), OperationError> {
    let (mut notes, mut away, mut none) = (Vec::new(), Vec::new(), None);
    for name in order {
        let opened = open_store(cx, &project.name, name).and_then(|store| {
            let vault = open_vault(cx, &project.name, &store)?;
            let list = vault.snapshots().map_err(|e| vault_error(&project.name, name, e))?;
            Ok((store, vault, list))
        });
        let (store, vault, list) = match opened {
            Ok(opened) => opened,
            Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
            Err(error) => {
                notes.push(format!("passed over: {}", one_line(&error)));
                away.push(error);
                continue;
            }
        };
        notes.extend(list.damaged.iter().map(|d| format!("damaged and passed over in `{name}`: {}: {}", d.object, d.what)));
        match selection::choose(&project.name, &list.snapshots, choice, &cx.zone()) {
            Ok((stored, more)) => {
                let stored = stored.clone();
                notes.extend(more);
                return Ok((store, vault, stored, notes));
            }
            Err(error @ OperationError::NoSnapshot { .. }) => none = none.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    // A vault that was never made holds nothing; one that cannot be asked may hold it.
    away.retain(|error| none.is_none() || !is_no_vault(error));
    match (none, away.is_empty()) {
        (Some(none), true) => Err(none),
        _ => Err(no_usable_store(project, away)),
    }
}

/// Exit status of a store error.
pub(crate) fn store_status(error: &StoreError) -> u8 {
    match error {
        StoreError::Unreachable { .. }
        | StoreError::NoMarker { .. }
        | StoreError::WrongMarker { .. }
        | StoreError::Denied { .. }
        | StoreError::NoSpace { .. }
        | StoreError::HostKey { .. }
        | StoreError::Refused { .. } => exit::UNREACHABLE,
        StoreError::ReadBack { .. } | StoreError::NotLocked { .. } | StoreError::Source { .. } => exit::INTEGRITY,
        StoreError::Locked { .. } | StoreError::Fenced { .. } => exit::LOCKED,
        _ => exit::FAILED,
    }
}

/// Exit status of a vault error.
pub(crate) fn vault_status(error: &VaultError) -> u8 {
    match error {
        VaultError::WrongKey { .. } => exit::WRONG_KEY,
        VaultError::Locked { .. } => exit::LOCKED,
        VaultError::Cancelled => exit::INTERRUPTED,
        VaultError::Store { source, .. } => store_status(source),
        error if error.is_integrity() => exit::INTEGRITY,
        _ => exit::FAILED,
    }
}

/// What to do about a store error.
pub(crate) fn store_hint(error: &StoreError) -> Option<String> {
    error.hint().map(str::to_owned)
}

/// What to do about a vault error.
pub(crate) fn vault_hint(error: &VaultError) -> Option<String> {
    Some(match error {
        VaultError::NoVault { .. } => "the first `havun-backup run` makes it".to_owned(),
        VaultError::NotAVault { .. } => "look at the folder; nothing in it was touched".to_owned(),
        VaultError::NewerFormat { .. } => "use the version of havun-backup that wrote it, or a later one".to_owned(),
        VaultError::OtherVault { .. } => "two vaults must not share a folder: correct `path` of the store or move one away".to_owned(),
        VaultError::WrongKey { .. } => "name the right key at `identity` in [keys], or use the escrow key".to_owned(),
        VaultError::Locked { .. } => "wait until it has ended; --force takes over a lease whose holder is gone".to_owned(),
        VaultError::Store { source, .. } => return store_hint(source),
        VaultError::Base { .. } => "`havun-backup repair` brings the earlier dump's pack back from another store; \
                                    `havun-backup verify --read-data` names every snapshot that rests on it"
            .to_owned(),
        error if error.is_integrity() => {
            "`havun-backup verify --read-data` names what is hit; another store may hold a whole copy".to_owned()
        }
        _ => return None,
    })
}

/// Wraps a vault error with project and store.
pub(crate) fn vault_error(project: &ProjectName, store: &StoreName, source: VaultError) -> OperationError {
    match source {
        VaultError::Cancelled => OperationError::Interrupted,
        source => OperationError::Vault { project: project.clone(), store: store.clone(), source: Box::new(source) },
    }
}
