//! What was done: the newest rows of the audit database.
//!
//! Shape of `havun-backup logs --json`: one [`LogsReport`].

use crate::{audit::LogRow, context::Context, error::OperationError, project, report::SCHEMA_VERSION};
use serde::Serialize;

/// Which rows.
#[derive(Debug, Clone)]
pub struct LogsOptions {
    /// Of this project only.
    pub project: Option<String>,
    /// How many at most.
    pub limit: u32,
}

/// Rows of `backup_logs`, `restore_logs` and `test_logs`, newest first.
#[derive(Debug, Clone, Serialize)]
pub struct LogsReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The rows.
    pub rows: Vec<LogRow>,
}

/// The newest rows.
///
/// # Errors
/// [`OperationError::UnknownProject`] for a project that is neither configured nor logged; [`OperationError::Audit`].
pub fn logs(cx: &Context, options: &LogsOptions) -> Result<LogsReport, OperationError> {
    let rows = cx.audit()?.logs(options.project.as_deref(), options.limit).map_err(|e| OperationError::Audit(Box::new(e)))?;
    if let (true, Some(name)) = (rows.is_empty(), &options.project) {
        project::find(cx, name)?;
    }
    Ok(LogsReport { schema_version: SCHEMA_VERSION, rows })
}
