//! A recovery under way: a note beside the configuration, from before its first write until its end. One that was killed is
//! called again and goes on, because the note says what it made itself.

use super::{Place, RecoverError, StoreAddress};
use crate::error::OperationError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// What it is about, and what it was about to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HalfMade {
    archive: Map<String, Value>,
    service_key: PathBuf,
    /// Empty until it is known.
    config_text: String,
}

impl HalfMade {
    pub fn new(place: &Place, address: &StoreAddress) -> Self {
        Self { archive: address.table().clone(), service_key: place.service_key.clone(), config_text: String::new() }
    }

    /// Knows the configuration from now on.
    pub fn about_to_write(self, config_text: &str) -> Self {
        Self { config_text: config_text.to_owned(), ..self }
    }

    /// The note of an earlier recovery from the same archive to the same place.
    pub fn find(place: &Place, address: &StoreAddress) -> Option<Self> {
        let found: Self = serde_json::from_slice(&fs::read(note(&place.config)).ok()?).ok()?;
        (Self { config_text: String::new(), ..found.clone() } == Self::new(place, address)).then_some(found)
    }

    /// Whether what lies at `config` is what this recovery wrote, or the beginning of it.
    pub fn wrote(&self, config: &Path) -> bool {
        fs::read(config).is_ok_and(|bytes| !self.config_text.is_empty() && self.config_text.as_bytes().starts_with(&bytes))
    }

    pub fn save(&self, place: &Place) -> Result<(), RecoverError> {
        let path = note(&place.config);
        let folder = path.parent().unwrap_or(Path::new("/"));
        let written = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            fs::File::open(folder)?.sync_all()
        });
        written.map_err(|source| OperationError::Io { doing: "cannot write", path: path.clone(), source }.into())
    }
}

fn note(config: &Path) -> PathBuf {
    let mut name = config.file_name().unwrap_or_default().to_owned();
    name.push(".recovering");
    config.with_file_name(name)
}

/// Takes the note away: the recovery has come to its end.
pub fn finish(place: &Place) {
    if let Err(error) = fs::remove_file(note(&place.config)) {
        tracing::warn!(%error, "the note of the recovery cannot be removed");
    }
}
