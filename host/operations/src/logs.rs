//! What was done: the newest rows of the audit database.
//!
//! Shape of `havun-backup logs --json`: one [`LogsReport`].

use crate::{
    audit::{AlertRow, LogRow},
    context::Context,
    error::OperationError,
    project,
    report::SCHEMA_VERSION,
};
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

/// Alerts, newest first. Shape of `havun-backup logs --alerts --json`.
#[derive(Debug, Clone, Serialize)]
pub struct AlertsReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The alerts; those without `resolved_at` are open.
    pub alerts: Vec<AlertRow>,
}

/// The newest alerts of this host, open and resolved.
///
/// # Errors
/// [`OperationError::UnknownProject`]; [`OperationError::Audit`].
pub fn alerts(cx: &Context, options: &LogsOptions) -> Result<AlertsReport, OperationError> {
    if let Some(name) = &options.project {
        project::find(cx, name)?;
    }
    let mut alerts = cx.audit()?.alerts(false, options.limit).map_err(|e| OperationError::Audit(Box::new(e)))?;
    alerts.retain(|alert| options.project.as_ref().is_none_or(|name| *name == alert.project));
    Ok(AlertsReport { schema_version: SCHEMA_VERSION, alerts })
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
