//! A store's folder and the marker that says so.

use super::{LocalStore, sync_folder};
use crate::store::{MARKER, StoreError};
use havun_model::{ProjectName, StoreName};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A folder that holds the vaults of a store, one per project, and a marker file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRoot {
    path: PathBuf,
    marker: Marker,
}

/// Content of the marker file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    /// The store's name in the configuration that made it.
    store: String,
    /// Random, 32 hex digits: tells two stores of one name apart.
    id: String,
}

impl LocalRoot {
    /// Makes `path` (its parent must be there) a store named `name`. A folder that is that store already stays
    /// as it is.
    ///
    /// # Errors
    /// [`StoreError::WrongMarker`] where it is another store.
    pub fn create(path: &Path, name: &StoreName) -> Result<Self, StoreError> {
        match Self::open(path) {
            Err(StoreError::NoMarker { .. }) => {}
            other => return other?.named(name),
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_folder(path.parent().unwrap_or(path))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(StoreError::at(path, e)),
        }
        let marker = Marker { store: name.to_string(), id: random_hex(path)? };
        write_marker(path, &marker)?;
        Ok(Self { path: path.to_owned(), marker })
    }

    /// Reads the marker of a store's folder.
    ///
    /// # Errors
    /// [`StoreError::NoMarker`] where the folder or the marker is missing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let marker = read_marker(path)?;
        Ok(Self { path: path.to_owned(), marker })
    }

    /// Itself, if it is the store of that name.
    ///
    /// # Errors
    /// [`StoreError::WrongMarker`].
    pub fn named(self, name: &StoreName) -> Result<Self, StoreError> {
        if self.marker.store == name.as_str() {
            return Ok(self);
        }
        Err(StoreError::WrongMarker { path: self.path, expected: name.to_string(), found: self.marker.store })
    }

    /// The store's name as its marker has it.
    pub fn name(&self) -> &str {
        &self.marker.store
    }

    /// The store's id, 32 hex digits.
    pub fn id(&self) -> &str {
        &self.marker.id
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store of one project's vault. Nothing is made before the first write.
    pub fn vault(&self, project: &ProjectName) -> LocalStore {
        LocalStore::new(self.clone(), self.path.join(project.as_str()))
    }

    /// Whether the marker is still the one that was opened: a disk may be unmounted meanwhile.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let found = read_marker(&self.path)?;
        if found == self.marker {
            return Ok(());
        }
        let name = |marker: &Marker| format!("{} ({})", marker.store, marker.id);
        Err(StoreError::WrongMarker { path: self.path.clone(), expected: name(&self.marker), found: name(&found) })
    }
}

fn read_marker(path: &Path) -> Result<Marker, StoreError> {
    let file = path.join(MARKER);
    let text = match fs::read(&file) {
        Err(e) if super::is_missing(&e) => return Err(StoreError::NoMarker { path: path.to_owned() }),
        other => other.map_err(|e| StoreError::at(&file, e))?,
    };
    serde_json::from_slice(&text).map_err(|e| StoreError::Io { path: file, source: io::Error::new(io::ErrorKind::InvalidData, e) })
}

fn write_marker(path: &Path, marker: &Marker) -> Result<(), StoreError> {
    let (file, new) = (path.join(MARKER), path.join(format!("{MARKER}.new")));
    let write = || {
        let mut text = serde_json::to_vec(marker)?;
        text.push(b'\n');
        let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        out.write_all(&text)?;
        out.sync_all()?;
        fs::rename(&new, &file)
    };
    write().map_err(|e| StoreError::at(&file, e))?;
    sync_folder(path)
}

/// 128 random bits in hex.
pub(super) fn random_hex(path: &Path) -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::at(path, io::Error::other(e)))?;
    Ok(hex::encode(bytes))
}
