//! Whether a project's drills are recent enough: as the audit database has them.

use crate::{audit::LogRow, config::ProjectConfig, context::Context, error::OperationError};
use havun_model::retention::Term;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

/// The action of a drill's row.
pub(super) const ACTION: &str = "drill";
/// How many drills are looked at.
const LOOKED_AT: u32 = 500;

/// What is known of a project's drills.
#[derive(Debug, Clone)]
pub(crate) struct DrillState {
    /// How often.
    pub every: Term,
    /// The newest that ended, whatever it found.
    pub last: Option<LogRow>,
    /// When the newest that passed began.
    pub passed_at: Option<Timestamp>,
    /// Since when it is overdue; none while it is not, and while there is nothing to drill.
    pub overdue_since: Option<Timestamp>,
}

impl DrillState {
    /// A drill is due when it is overdue, or when none has ever passed.
    pub fn is_due(&self) -> bool {
        self.overdue_since.is_some() || self.passed_at.is_none()
    }
}

/// A project's drills in few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillSummary {
    /// When the newest began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
    /// `passed`, `incomplete` or `failed`; empty when there was none.
    pub last_result: String,
    /// When the newest that passed began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_at: Option<Timestamp>,
    /// Since when the next one is overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue_since: Option<Timestamp>,
}

/// A project's drills in few words.
///
/// # Errors
/// [`OperationError::Audit`].
pub(crate) fn summary(cx: &Context, project: &ProjectConfig) -> Result<DrillSummary, OperationError> {
    let state = state(cx, project)?;
    let word = |row: &LogRow| match row.status.as_str() {
        "ok" => "passed",
        "partial" => "incomplete",
        _ => "failed",
    };
    Ok(DrillSummary {
        last_result: state.last.as_ref().map(word).unwrap_or_default().to_owned(),
        last_at: state.last.map(|row| row.started_at),
        passed_at: state.passed_at,
        overdue_since: state.overdue_since,
    })
}

/// Drills of a project that have ended, newest first.
pub(super) fn past(cx: &Context, project: &ProjectConfig) -> Result<Vec<LogRow>, OperationError> {
    let rows = cx.audit()?.tests(project.name.as_str(), ACTION, LOOKED_AT).map_err(|e| OperationError::Audit(Box::new(e)))?;
    Ok(rows.into_iter().filter(|row| matches!(row.status.as_str(), "ok" | "partial" | "failed")).collect())
}

/// What is known of a project's drills now.
///
/// # Errors
/// [`OperationError::Audit`].
pub(crate) fn state(cx: &Context, project: &ProjectConfig) -> Result<DrillState, OperationError> {
    let rows = past(cx, project)?;
    let first_backup = cx.audit()?.first_commit(project.name.as_str()).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let every = project.drill.every.unwrap_or(cx.config.drill.every);
    let passed_at = rows.iter().find(|row| row.status == "ok").and_then(|row| row.started_at.parse().ok());
    let first_backup = first_backup.and_then(|text| text.parse().ok());
    let overdue_since = overdue_since(every, passed_at, first_backup, cx.now(), &cx.zone());
    Ok(DrillState { every, last: rows.into_iter().next(), passed_at, overdue_since })
}

/// A project is overdue when neither a passed drill nor its first backup is recent enough.
fn overdue_since(
    every: Term,
    passed: Option<Timestamp>,
    first_backup: Option<Timestamp>,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    passed.or(first_backup).map(|at| every.keep_until(at, zone)).filter(|until| *until < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_overdue_after_its_term_and_never_before_its_first_backup() {
        let at = |day: i64| Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        let every = Term::days(90);
        let overdue = |passed, first, now| overdue_since(every, passed, first, now, &TimeZone::UTC).is_some();
        assert!(!overdue(None, None, at(1000)));
        assert!(!overdue(None, Some(at(0)), at(89)));
        assert!(overdue(None, Some(at(0)), at(91)));
        assert!(!overdue(Some(at(60)), Some(at(0)), at(149)));
        assert!(overdue(Some(at(60)), Some(at(0)), at(151)));
    }
}
