//! The history of a Git repository into a session.

use super::items::{Items, empty_record};
use crate::error::OperationError;
use havun_model::{GitItem, ItemName, ItemRecord, Outcome};
use havun_vault::BackupSession;

impl Items<'_> {
    pub(super) fn git(&self, _session: &mut BackupSession<'_>, _name: &ItemName, _item: &GitItem) -> Result<ItemRecord, OperationError> {
        Ok(ItemRecord { outcome: Outcome::Failed, problems: vec!["git".to_owned()], ..empty_record("git") })
    }
}
