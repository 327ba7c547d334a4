//! What could not be written because the server went away in the middle of a run: kept in files of the state folder, and
//! written as soon as the server answers again. No run is lost from the log.

use super::{AuditError, AuditLog, Lease, LogEnd, LogId, ended, statements};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Late {
    /// How work ended.
    End(LogId, Box<LogEnd>),
    /// A moment of a schedule was served.
    Served(Lease, Timestamp),
}

impl AuditLog {
    /// Keeps an end of work for later; `away` is why it cannot be written now.
    pub(super) fn keep_for_later(&self, id: &LogId, end: &LogEnd, away: AuditError) -> Result<(), AuditError> {
        self.keep(&id.id, &Late::End(id.clone(), Box::new(end.clone())), away)
    }

    /// Keeps for later that a moment of a schedule was served.
    pub(super) fn keep_served(&self, lease: &Lease, at: Timestamp, away: AuditError) -> Result<(), AuditError> {
        self.keep(&super::new_id(at)?, &Late::Served(lease.clone(), at), away)
    }

    fn keep(&self, name: &str, late: &Late, away: AuditError) -> Result<(), AuditError> {
        let Some(folder) = &self.spool else { return Err(away) };
        keep(folder, name, late).map_err(|source| AuditError::Create { path: folder.clone(), source })?;
        tracing::warn!(error = %away, folder = %folder.display(), "how a run ended is kept in a file until the audit database answers again");
        Ok(())
    }

    /// Writes what was kept. A file that cannot be read is set aside, and said; one that the database refuses waits on.
    pub(crate) fn write_late(&self) -> Result<(), AuditError> {
        let Some(folder) = &self.spool else { return Ok(()) };
        for path in kept(folder) {
            match self.write_one(&path) {
                Err(error) if error.is_gone() => return Err(error),
                Ok(()) => remove(&path),
                Err(error) if !matches!(error, AuditError::Spool { .. }) => {
                    tracing::warn!(%error, file = %path.display(), "how a run ended cannot be written to the audit database yet");
                }
                Err(error) => {
                    tracing::error!(%error, file = %path.display(), "how a run ended cannot be written to the audit database");
                    set_aside(&path);
                }
            }
        }
        Ok(())
    }

    fn write_one(&self, path: &Path) -> Result<(), AuditError> {
        let unreadable = |source| AuditError::Spool { path: path.to_owned(), source };
        let text = fs::read(path).map_err(unreadable)?;
        let late: Late = serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?;
        match late {
            Late::End(id, end) => self.execute(statements::complete(id.kind), &ended(&id, &end)).map(drop),
            Late::Served(lease, at) => self.release_done(&lease, at),
        }
    }
}

/// Whole or not at all, and there after a power cut.
fn keep(folder: &Path, name: &str, late: &Late) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&file, late)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(format!("{name}.json")))?;
    fs::File::open(folder)?.sync_all()
}

/// The oldest first.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    paths
}

/// Written twice, a row is completed once: a file that cannot be removed does no harm.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, file = %path.display(), "cannot be removed, though it was written to the audit database");
    }
}

fn set_aside(path: &Path) {
    if let Err(error) = fs::rename(path, path.with_extension("refused")) {
        tracing::warn!(%error, file = %path.display(), "cannot be set aside");
    }
}
