//! A store's folder on the server: its marker, and the vaults in it.

use super::{
    SftpOptions, SftpStore,
    connect::address,
    failure::Said,
    link::{Kind, Link},
    put_once,
    read::Whole,
    shared::Shared,
};
use havun_model::{ProjectName, StoreName};
use havun_vault::store::StoreError;
use russh_sftp::protocol::OpenFlags;
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

/// A folder on an SSH server that holds the vaults of a store. Clones share its connections, which are made when they are
/// needed.
#[derive(Clone)]
pub struct SftpRoot {
    pub(super) shared: Arc<Shared>,
}

/// Content of the marker file, as in a local store.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    store: String,
    /// Random, 32 hex digits.
    id: String,
}

impl SftpRoot {
    /// A store as configured. Nothing is connected yet.
    ///
    /// # Errors
    /// The spool folder cannot be made.
    pub fn new(options: SftpOptions) -> Result<Self, StoreError> {
        Ok(Self { shared: Arc::new(Shared::new(options)?) })
    }

    /// For people: `sftp://user@host:23/path`.
    pub fn describe(&self) -> String {
        let options = &self.shared.options;
        format!("sftp://{}@{}/{}", options.user, address(options), options.path.trim_start_matches('/'))
    }

    /// The store of one project's vault.
    pub fn vault(&self, project: &ProjectName) -> SftpStore {
        SftpStore::new(self.clone(), project.clone())
    }

    /// Names of the projects whose vaults lie here.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn vault_names(&self) -> Result<Vec<String>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.shared.run(async move {
            let link = shared.ticket().await?;
            let entries = shared.entries(&link, &shared.path("")).await?;
            if shared.options.put_once {
                return Ok(put_once::projects(&entries));
            }
            shared.turn();
            let folders = entries.into_iter().filter(|(_, seen)| seen.kind == Kind::Folder);
            let looks: Vec<_> = folders.map(|(name, _)| (link.lstat(&shared.path(&format!("{name}/vault.json"))), name)).collect();
            let mut names = Vec::new();
            for (look, name) in looks {
                if look.await.said(|| format!("looking at {name}"))?.is_some() {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        })
    }

    /// Makes the folder (what is above it must be there) and the marker of the store `store`, where they are missing.
    ///
    /// # Errors
    /// [`StoreError::WrongMarker`] where the folder is another store.
    pub fn prepare(&self, store: &StoreName) -> Result<(), StoreError> {
        match self.check(store) {
            Err(StoreError::NoMarker { .. }) => {}
            other => return other,
        }
        let (shared, marker) = (Arc::clone(&self.shared), new_marker(store)?);
        self.shared.run(async move {
            let link = shared.ticket().await?;
            make_root(&shared, &link).await?;
            write_marker(&shared, &link, marker).await
        })?;
        self.check(store)
    }

    /// Whether the folder is the store `store`.
    ///
    /// # Errors
    /// [`StoreError::NoMarker`], [`StoreError::WrongMarker`].
    pub fn check(&self, store: &StoreName) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let marker = self.shared.run(async move {
            let link = shared.ticket().await?;
            read_marker(&shared, &link).await
        })?;
        if marker.store != store.as_str() {
            let path = PathBuf::from(self.describe());
            return Err(StoreError::WrongMarker { path, expected: store.to_string(), found: marker.store });
        }
        self.shared.marked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// How often somebody has waited for the server since the start: requests that are under way together count once. Making
    /// a connection is not counted.
    pub fn round_trips(&self) -> u64 {
        self.shared.turns()
    }
}

impl Shared {
    /// Whether the folder is a store at all: asked once, before the first write, so that nothing is written beneath a mount
    /// point whose disk is missing.
    pub async fn check_marked(&self, link: &Arc<Link>) -> Result<(), StoreError> {
        if self.marked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let marker = self.marker();
        if self.seen(link, &marker).await?.is_none() {
            return Err(StoreError::NoMarker { path: self.path("").into() });
        }
        self.marked.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn new_marker(store: &StoreName) -> Result<Vec<u8>, StoreError> {
    let failed = |e: std::io::Error| StoreError::Io { path: "marker".into(), source: e };
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| failed(std::io::Error::other(e)))?;
    let mut text = serde_json::to_vec(&Marker { store: store.to_string(), id: hex::encode(id) }).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    Ok(text)
}

async fn read_marker(shared: &Shared, link: &Arc<Link>) -> Result<Marker, StoreError> {
    let path = shared.marker();
    let Some(Whole::Bytes(bytes)) = shared.read_file(link, &path, 1 << 16).await? else {
        return Err(StoreError::NoMarker { path: shared.path("").into() });
    };
    serde_json::from_slice(&bytes).map_err(|e| StoreError::Io { path: path.into(), source: e.into() })
}

async fn make_root(shared: &Shared, link: &Arc<Link>) -> Result<(), StoreError> {
    let root = shared.path("");
    shared.turn();
    if link.lstat(&root).await.said(|| format!("looking at {root}"))?.is_some() {
        return Ok(());
    }
    shared.turn();
    link.mkdir(&root).await.said(|| format!("making the folder {root}"))
}

/// Written whole under another name first, where the server lets us rename; a file that is made over nothing else where not.
async fn write_marker(shared: &Shared, link: &Arc<Link>, text: Vec<u8>) -> Result<(), StoreError> {
    let path = shared.marker();
    let (new, flags) = if shared.options.put_once {
        (path.clone(), OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE)
    } else {
        (format!("{path}.new"), OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE)
    };
    shared.turn();
    let handle = link.open(&new, flags).await.said(|| format!("creating {new}"))?;
    shared.turn();
    let (write, fsync, close) = (link.write(&handle, 0, text), link.fsync(&handle), link.close(&handle));
    for step in [write, fsync, close] {
        step.await.said(|| format!("writing {new}"))?;
    }
    if new == path {
        return Ok(());
    }
    shared.turn();
    link.rename(&new, &path).await.said(|| format!("publishing {path}"))
}
