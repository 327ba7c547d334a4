//! What must be undone if this process dies: a small file in the state folder, there before anything is done.

use super::{command::OwnCommand, source::Step};
use crate::{audit::process_key, context::Context, error::OperationError};
use havun_model::ProjectName;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

const FOLDER: &str = "pauses";

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub project: ProjectName,
    pub run_id: String,
    pub pid: u32,
    /// Names the life of that process.
    pub process_key: String,
    /// Lets the application go on.
    pub after: Option<OwnCommand>,
    /// In the order in which they were made.
    pub steps: Vec<Step>,
}

impl Marker {
    pub fn new(project: &ProjectName, run_id: &str) -> Self {
        let pid = std::process::id();
        let process_key = process_key::of(pid).unwrap_or_default();
        Self { project: project.clone(), run_id: run_id.to_owned(), pid, process_key, after: None, steps: Vec::new() }
    }

    /// Nothing is left to be undone.
    pub fn is_empty(&self) -> bool {
        self.after.is_none() && self.steps.is_empty()
    }

    /// Whether the process that wrote it still lives.
    pub fn is_alive(&self) -> bool {
        process_key::of(self.pid).is_some_and(|key| key == self.process_key)
    }

    fn path(cx: &Context, project: &ProjectName) -> Result<PathBuf, OperationError> {
        Ok(cx.private_dir(FOLDER)?.join(format!("{project}.json")))
    }

    /// Writes it, or removes it when it is empty. After return it survives a power cut.
    pub fn save(&self, cx: &Context) -> Result<(), OperationError> {
        let path = Self::path(cx, &self.project)?;
        let failed = |source| OperationError::Io { doing: "cannot write", path: path.clone(), source };
        let done = if self.is_empty() { remove(&path) } else { write(&path, &serde_json::to_vec(self).unwrap_or_default()) };
        done.map_err(failed)
    }

    /// Those that dead processes have left behind; one that cannot be read is named.
    pub fn left_behind(cx: &Context) -> (Vec<Self>, Vec<String>) {
        let (mut markers, mut odd) = (Vec::new(), Vec::new());
        let Ok(entries) = fs::read_dir(cx.config.host.state_dir.join(FOLDER)) else { return (markers, odd) };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json")) {
            match fs::read(&path).map_err(|e| e.to_string()).and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string())) {
                Ok(marker) => markers.push(marker),
                Err(why) => {
                    odd.push(format!("{} cannot be read, so nobody knows whether an application still rests: {why}", path.display()))
                }
            }
        }
        markers.retain(|marker: &Self| !marker.is_alive());
        markers.sort_by(|a, b| a.project.cmp(&b.project));
        (markers, odd)
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
    }
}
