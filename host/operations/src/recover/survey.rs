//! What lies in an archive: its vaults, opened with the key at hand, and their snapshots.

use super::RecoverError;
use crate::{
    config::{StoreConfig, StoreKind},
    context::Context,
    error::OperationError,
    list::SnapshotLine,
    project::{self, vault_error},
    remote,
    report::Failure,
};
use havun_model::{ProjectName, StoreName};
use havun_vault::{
    Damage, StoredSnapshot, Vault, layout,
    store::{LocalRoot, StoreError},
};
use jiff::Timestamp;
use serde::Serialize;

/// A vault that opened.
pub struct FoundVault {
    /// Its project.
    pub project: ProjectName,
    /// The vault.
    pub vault: Vault,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<StoredSnapshot>,
    /// Snapshot objects that do not open.
    pub damaged: Vec<Damage>,
    /// Bytes of everything that lies in it.
    pub stored_bytes: u64,
}

/// Everything that was found in a store.
pub struct Survey {
    /// The store.
    pub store: StoreName,
    /// Where it is, for people.
    pub place: String,
    /// Vaults that opened.
    pub vaults: Vec<FoundVault>,
    /// Vaults that did not, and why.
    pub closed: Vec<(ProjectName, Failure)>,
}

/// One project of an archive, as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct FoundProject {
    /// The project.
    pub project: ProjectName,
    /// Its title.
    pub title: String,
    /// The strategy of its newest snapshot.
    pub strategy: String,
    /// Where it was.
    pub root: String,
    /// Whether its vault is encrypted.
    pub encrypted: bool,
    /// How many snapshots there are.
    pub snapshots: u64,
    /// Snapshot objects that do not open.
    pub damaged: u64,
    /// When the oldest was taken.
    pub oldest: Option<Timestamp>,
    /// The newest.
    pub newest: Option<SnapshotLine>,
    /// Bytes of everything that lies in the vault.
    pub stored_bytes: u64,
    /// Why it could not be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The name that a store on another machine gives itself, where it is not `name`.
///
/// # Errors
/// The store's.
pub fn own_name(cx: &Context, name: &StoreName) -> Result<Option<StoreName>, OperationError> {
    let Some(config) = cx.config.stores.get(name) else { return Ok(None) };
    let Some(root) = remote::root(cx, config, None)? else { return Ok(None) };
    match root.check(name) {
        Err(StoreError::WrongMarker { found, .. }) => Ok(found.split_whitespace().next().and_then(|found| StoreName::new(found).ok())),
        Err(source) => Err(OperationError::Store { store: name.clone(), source }),
        Ok(()) => Ok(None),
    }
}

/// Opens every vault of `store`, or those of `projects`. Writes nothing.
///
/// # Errors
/// [`RecoverError::Empty`], [`RecoverError::NoSuchProject`]; the store's; the vault's where none opens.
pub fn survey(cx: &Context, store: &StoreName, projects: &[String]) -> Result<Survey, RecoverError> {
    let config =
        cx.config.stores.get(store).ok_or_else(|| OperationError::UnknownStore { name: store.to_string(), nearest: Vec::new() })?;
    let names = vault_names(cx, config)?;
    let place = place(config);
    if let Some(name) = projects.iter().find(|name| !names.iter().any(|known| known.as_str() == **name)) {
        let there_are = names.iter().map(ToString::to_string).collect();
        return Err(RecoverError::NoSuchProject { name: name.clone(), place, there_are });
    }
    let mut found = Survey { store: store.clone(), place, vaults: Vec::new(), closed: Vec::new() };
    let mut first = None;
    for name in names.into_iter().filter(|name| projects.is_empty() || projects.iter().any(|wanted| wanted == name.as_str())) {
        cx.check_cancelled()?;
        cx.observer.step(&format!("looking at {name}"));
        match open(cx, &name, store) {
            Ok(vault) => found.vaults.push(vault),
            Err(error) => {
                found.closed.push((name, error.to_failure()));
                first.get_or_insert(error);
            }
        }
    }
    match (found.vaults.is_empty(), first) {
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err(RecoverError::Empty { place: found.place }),
        (false, _) => Ok(found),
    }
}

/// Names of the projects that have a vault in a store, sorted.
fn vault_names(cx: &Context, store: &StoreConfig) -> Result<Vec<ProjectName>, OperationError> {
    match &store.kind {
        StoreKind::Local { path } => {
            let failed = |source| OperationError::Store { store: store.name.clone(), source };
            let root = LocalRoot::open(path).and_then(|root| root.named(&store.name)).map_err(failed)?;
            local_vaults(root.path()).map_err(|source| OperationError::Io { doing: "cannot read", path: path.clone(), source })
        }
        StoreKind::Sftp(_) | StoreKind::S3(_) => {
            let failed = |source| OperationError::Store { store: store.name.clone(), source };
            let names = remote::root(cx, store, None)?.map_or_else(|| Ok(Vec::new()), |root| root.vault_names()).map_err(failed)?;
            Ok(names.into_iter().filter_map(|name| ProjectName::new(name).ok()).collect())
        }
    }
}

fn local_vaults(root: &std::path::Path) -> std::io::Result<Vec<ProjectName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(|name| ProjectName::new(name).ok());
        if let Some(name) = name.filter(|_| entry.path().join(layout::VAULT_JSON).is_file()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn place(store: &StoreConfig) -> String {
    match &store.kind {
        StoreKind::Local { path } => format!("local folder {}", path.display()),
        StoreKind::Sftp(s) => format!("sftp://{}@{}:{}/{}", s.user, s.host, s.port, s.path),
        StoreKind::S3(s) => format!("s3://{}/{}", s.bucket, s.prefix),
    }
}

fn open(cx: &Context, project: &ProjectName, store: &StoreName) -> Result<FoundVault, OperationError> {
    let failed = |e| vault_error(project, store, e);
    let opened = project::open_store(cx, project, store)?;
    let vault = project::open_vault(cx, project, &opened)?;
    let list = vault.snapshots().map_err(failed)?;
    let listed = vault.store().list("").map_err(|source| OperationError::Store { store: store.clone(), source })?;
    let stored_bytes = listed.iter().map(|object| object.size).sum();
    Ok(FoundVault { project: project.clone(), snapshots: list.snapshots, damaged: list.damaged, stored_bytes, vault })
}

impl FoundVault {
    /// The snapshot that a configuration is taken from: the newest.
    pub fn newest(&self) -> Option<&StoredSnapshot> {
        self.snapshots.last()
    }

    fn shown(&self) -> FoundProject {
        let newest = self.newest().map(|stored| &stored.snapshot);
        FoundProject {
            project: self.project.clone(),
            title: newest.map_or_else(|| self.project.to_string(), |s| s.title.clone()),
            strategy: newest.map(|s| s.strategy.id.clone()).unwrap_or_default(),
            root: newest.map(|s| s.root.clone()).unwrap_or_default(),
            encrypted: self.vault.is_encrypted(),
            snapshots: self.snapshots.len() as u64,
            damaged: self.damaged.len() as u64,
            oldest: self.snapshots.first().map(|s| s.snapshot.started_at),
            newest: self.newest().map(SnapshotLine::of),
            stored_bytes: self.stored_bytes,
            failure: None,
        }
    }
}

impl Survey {
    /// As they are shown, by name.
    pub fn projects(&self) -> Vec<FoundProject> {
        let closed = self.closed.iter().map(|(project, failure)| FoundProject {
            project: project.clone(),
            title: project.to_string(),
            strategy: String::new(),
            root: String::new(),
            encrypted: true,
            snapshots: 0,
            damaged: 0,
            oldest: None,
            newest: None,
            stored_bytes: 0,
            failure: Some(failure.clone()),
        });
        let mut all: Vec<_> = self.vaults.iter().map(FoundVault::shown).chain(closed).collect();
        all.sort_by(|a, b| a.project.cmp(&b.project));
        all
    }
}
