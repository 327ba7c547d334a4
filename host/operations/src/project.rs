//! A project's stores and vaults: choosing, opening and making them.
//!
//! The *primary* is the store that a run writes to: the first hot store, else the first. Every other store is a
//! replica. A vault is only ever made in the primary, by a run; nothing else here writes.

use crate::{
    config::{ProjectConfig, StoreConfig, StoreKind, Tier},
    context::Context,
    error::{OperationError, exit, nearest, one_line},
};
use havun_model::{ProjectName, StoreName};
use havun_vault::{
    NewVault, Vault, VaultError,
    store::{LocalRoot, RetryPolicy, RetryStore, Store, StoreError, ThreadSleeper},
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

/// The store that a run writes to: the first hot one, else the first.
pub fn primary<'a>(cx: &Context, project: &'a ProjectConfig) -> Option<&'a StoreName> {
    let hot = project.stores.iter().find(|name| cx.config.stores.get(*name).is_some_and(|s| s.tier == Tier::Hot));
    hot.or_else(|| project.stores.first())
}

/// The project's stores in the order in which a reader tries them: the primary first; with `only`, that one alone.
///
/// # Errors
/// [`OperationError::UnknownStore`], [`OperationError::StoreNotUsed`].
pub fn store_order(cx: &Context, project: &ProjectConfig, only: Option<&str>) -> Result<Vec<StoreName>, OperationError> {
    if let Some(text) = only {
        if !cx.config.stores.keys().any(|name| name.as_str() == text) {
            let nearest = nearest(text, cx.config.stores.keys().map(StoreName::as_str));
            return Err(OperationError::UnknownStore { name: text.to_owned(), nearest });
        }
        let used = project.stores.iter().find(|name| name.as_str() == text).cloned();
        return used
            .map(|name| vec![name])
            .ok_or_else(|| OperationError::StoreNotUsed { project: project.name.clone(), store: text.to_owned() });
    }
    let first = primary(cx, project).cloned();
    let rest = project.stores.iter().filter(|name| Some(*name) != first.as_ref()).cloned();
    Ok(first.clone().into_iter().chain(rest).collect())
}

/// Opens one store of a project. Nothing is written; a missing mount is an error.
///
/// # Errors
/// [`OperationError::Store`], [`OperationError::UnknownStore`], [`OperationError::StoreKind`].
pub fn open_store(cx: &Context, project: &ProjectName, name: &StoreName) -> Result<OpenStore, OperationError> {
    let config = cx.config.stores.get(name).ok_or_else(|| OperationError::UnknownStore {
        name: name.to_string(),
        nearest: nearest(name.as_str(), cx.config.stores.keys().map(StoreName::as_str)),
    })?;
    Ok(OpenStore { name: name.clone(), tier: config.tier, store: connect(config, project)? })
}

fn connect(config: &StoreConfig, project: &ProjectName) -> Result<Arc<dyn Store>, OperationError> {
    let failed = |source| OperationError::Store { store: config.name.clone(), source };
    match &config.kind {
        StoreKind::Local { path } => {
            let root = LocalRoot::open(path).and_then(|root| root.named(&config.name)).map_err(failed)?;
            Ok(Arc::new(RetryStore::new(root.vault(project), RetryPolicy::default(), ThreadSleeper)))
        }
        kind => Err(OperationError::StoreKind { store: config.name.clone(), kind: kind.word() }),
    }
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
/// As [`open_vault`]; [`OperationError::NoKey`] for an encrypted vault without recipients.
pub fn open_or_create(
    cx: &Context,
    project: &ProjectConfig,
    primary: &OpenStore,
    replicas: &[OpenStore],
) -> Result<(Vault, Vec<String>), OperationError> {
    match open_vault(cx, &project.name, primary) {
        Err(error) if is_no_vault(&error) => {}
        other => return Ok((other?, Vec::new())),
    }
    let failed = |source| OperationError::Vault { project: project.name.clone(), store: primary.name.clone(), source: Box::new(source) };
    for replica in replicas {
        match open_vault(cx, &project.name, replica) {
            Ok(source) => {
                cx.observer.step(&format!("filling `{}` from `{}`", primary.name, replica.name));
                let options = cx.replicate_options(None);
                havun_vault::replicate(&source, &primary.store, &options, &*cx.progress()).map_err(|e| failed(e.source))?;
                let note = format!("store `{}` had no vault of this project: it was filled from `{}`", primary.name, replica.name);
                return Ok((open_vault(cx, &project.name, primary)?, vec![note]));
            }
            Err(error) if is_no_vault(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let recipients = cx.recipients()?;
    if project.encryption && (cx.config.keys.identity.is_none() || recipients.is_empty()) {
        return Err(OperationError::NoKey { project: project.name.clone() });
    }
    let new = NewVault { project: project.name.clone(), encryption: project.encryption, recipients, created: cx.now() };
    Vault::create(Arc::clone(&primary.store), &new).map_err(failed)?;
    Ok((open_vault(cx, &project.name, primary)?, vec![format!("a new vault was made in store `{}`", primary.name)]))
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
    let same = errors.first().map(OperationError::exit_status);
    if errors.len() == 1 || (same.is_some() && errors.iter().all(|e| Some(e.exit_status()) == same)) {
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        return Err(OperationError::NoUsableStore { project: project.name.clone(), reasons: Vec::new() });
    }
    Err(OperationError::NoUsableStore { project: project.name.clone(), reasons: errors.iter().map(|e| one_line(e)).collect() })
}

/// Exit status of a store error.
pub(crate) fn store_status(error: &StoreError) -> u8 {
    match error {
        StoreError::Unreachable { .. } | StoreError::NoMarker { .. } | StoreError::WrongMarker { .. } | StoreError::Denied { .. } => {
            exit::UNREACHABLE
        }
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
