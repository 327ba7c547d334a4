//! The daemon and what comes next, for `status`.

use super::{DaemonLife, DaemonState, Leap, plan::NextRun, view::due_at};
use crate::{context::Context, error::OperationError, project};
use jiff::Timestamp;
use serde::Serialize;

/// The daemon of this state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DaemonStatus {
    /// Whether it works.
    pub life: DaemonLife,
    /// Its process.
    pub pid: u32,
    /// `daemon`, or `once` where cron or a timer calls it.
    pub mode: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last showed that it lives.
    pub beat_at: Timestamp,
    /// When it ended in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// What is under way.
    pub running: Vec<String>,
    /// A leap of the clock that is not settled yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leap: Option<Leap>,
}

/// The daemon of this state folder; none where there has never been one.
pub fn daemon_status(cx: &Context) -> Option<DaemonStatus> {
    let state = DaemonState::read(cx)?;
    Some(DaemonStatus {
        life: state.life(cx.now()),
        pid: state.pid,
        mode: state.mode,
        started_at: state.started_at,
        beat_at: state.beat_at,
        stopped_at: state.stopped_at,
        running: state.running,
        leap: state.leap,
    })
}

/// When each of the named projects, or of all, is next due; the past when it is due now. Those that never are by themselves
/// are left out, and so are those that run.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::Audit`].
pub fn next_runs(cx: &Context, names: &[String]) -> Result<Vec<NextRun>, OperationError> {
    let mut next = Vec::new();
    for project in project::select(cx, names)? {
        next.extend(due_at(cx, project)?.map(|at| NextRun { project: project.name.clone(), at }));
    }
    next.sort_by(|a, b| a.at.cmp(&b.at).then(a.project.cmp(&b.project)));
    Ok(next)
}
