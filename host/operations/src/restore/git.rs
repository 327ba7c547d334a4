//! The history of a snapshot back into its work tree.

use super::PreparedRestore;
use crate::error::OperationError;
use std::path::Path;

pub(super) fn restore(_prepared: &PreparedRestore<'_>, _item: &str, _folder: &Path) -> Result<u64, OperationError> {
    Err(OperationError::Random("git".to_owned()))
}
