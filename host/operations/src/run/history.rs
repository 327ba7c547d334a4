//! The history of a Git repository into a session: a bundle, and what a bundle loses.

use super::items::{Items, Stop, empty_record};
use crate::{
    error::{OperationError, one_line},
    git::{GitError, Repository},
};
use havun_model::{GitItem, ItemName, ItemRecord, Outcome};
use havun_vault::{BackupSession, StreamProfile};

/// So many of its files are named in an item's record; the manifest has all of them.
const NAMED: usize = 32;

impl Items<'_> {
    pub(super) fn git(&self, session: &mut BackupSession<'_>, name: &ItemName, item: &GitItem) -> Result<ItemRecord, OperationError> {
        let mut record = empty_record("git");
        match self.history(session, name, item, &mut record) {
            Ok(()) => {}
            Err(Stop::Run(error)) => return Err(error),
            Err(Stop::Item(why)) => {
                record.outcome = Outcome::Failed;
                record.problems.push(why);
            }
        }
        self.cx.check_cancelled()?;
        Ok(record)
    }

    fn history(&self, session: &mut BackupSession<'_>, name: &ItemName, item: &GitItem, record: &mut ItemRecord) -> Result<(), Stop> {
        let cancel = &self.cx.cancel;
        let mut repository = Repository::open(&self.root, item)?;
        let listed = repository.parts(cancel)?;
        for part in &listed.parts {
            let path = format!("git/{name}/{}", part.path);
            let modified = part.modified.unwrap_or_else(|| self.cx.now());
            let stored = session
                .add_stream(&path, name.as_str(), part.mode, modified, StreamProfile::File, |out| repository.write(part, out, cancel))
                .map_err(|e| self.stop(e))?;
            record.bytes += stored.bytes;
            record.files += 1;
            if record.paths.len() < NAMED {
                record.paths.push(path);
            }
        }
        record.notes = listed.notes;
        if !listed.problems.is_empty() {
            record.outcome = Outcome::Partial;
            record.problems = listed.problems;
        }
        Ok(())
    }
}

impl From<GitError> for Stop {
    fn from(error: GitError) -> Self {
        Self::Item(one_line(&error))
    }
}
