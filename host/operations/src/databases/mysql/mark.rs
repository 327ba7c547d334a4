//! A file in the state folder while a target lacks some of its views, triggers and routines, so that a swap that is
//! killed then is not forgotten: `health` reports it until the restore is repeated.

use super::load::Job;
use crate::databases::{DatabaseError, UNFINISHED, free_path};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// The mark of one swap, and beside it the definitions that the target is to get.
pub(super) struct Mark {
    mark: PathBuf,
    definitions: PathBuf,
}

impl Mark {
    /// On the disk before anything of the target is touched.
    pub(super) fn set(
        job: &Job<'_>,
        scratch: &str,
        kept: Option<&str>,
        saved: Option<&Path>,
        definitions: &[u8],
    ) -> Result<Self, DatabaseError> {
        let folder = &job.target.safety_dir;
        fs::create_dir_all(folder).map_err(DatabaseError::io("make", folder))?;
        let stem = job.database.replace('/', "_");
        let new = free_path(folder, &format!("{stem}.new-definitions"), "sql");
        write(&new, definitions)?;
        let mut text = format!(
            "{}\na restore of it was interrupted, or is under way: it may lack views, triggers, routines and events (those of the dump are in {}",
            job.describe(),
            new.display()
        );
        text.push_str(&saved.map(|saved| format!(", its former ones in {}", saved.display())).unwrap_or_default());
        text.push_str(&format!("); its restored tables are in it or in `{scratch}`"));
        text.push_str(&kept.map(|kept| format!(", its former ones in it or in `{kept}`")).unwrap_or_default());
        let mark = free_path(folder, &stem, UNFINISHED);
        write(&mark, text.as_bytes())?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(DatabaseError::io("write", folder))?;
        Ok(Self { mark, definitions: new })
    }

    /// The target is whole.
    pub(super) fn clear(&self) {
        let _ = fs::remove_file(&self.mark);
        let _ = fs::remove_file(&self.definitions);
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DatabaseError> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(DatabaseError::io("write", path))
}

/// A restore of the same database has succeeded: what earlier ones left unfinished is over.
pub(super) fn clear_earlier(job: &Job<'_>) {
    let Some(project) = job.target.safety_dir.parent() else { return };
    let describe = job.describe();
    for folder in fs::read_dir(project).into_iter().flatten().flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let path = file.path();
            let is_mark = path.extension().is_some_and(|extension| extension == UNFINISHED);
            if is_mark && fs::read_to_string(&path).is_ok_and(|text| text.lines().next() == Some(describe.as_str())) {
                let _ = fs::remove_file(path);
            }
        }
    }
}
