//! What the planner is shown: the configuration, and what the audit database says of runs and tasks. Reads only, but for
//! rows of runs whose process has died.

use super::{
    plan::{self, ProjectView, TaskView, View},
    tasks::TASKS,
};
use crate::{
    audit::{AuditError, AuditLog},
    config::ProjectConfig,
    context::Context,
    error::OperationError,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::SystemTime};

/// Looks.
///
/// # Errors
/// [`OperationError::Audit`].
pub(super) fn look(cx: &Context) -> Result<View, OperationError> {
    let audit = cx.audit()?;
    // What ended while the database was away is not running any more.
    audit.write_late().map_err(audit_error)?;
    audit.mark_interrupted().map_err(audit_error)?;
    let rows: BTreeMap<String, _> = audit.tasks().map_err(audit_error)?.into_iter().map(|row| (row.task.clone(), row)).collect();
    let mut tasks = Vec::new();
    for task in TASKS {
        let due_at = task.due_at(cx, rows.get(task.name))?;
        tasks.push(TaskView { name: task.name, lane: task.lane, due_at });
    }
    let projects = cx.config.projects.values().map(|project| project_view(cx, &audit, project)).collect::<Result<_, _>>()?;
    Ok(View { projects, tasks, ..empty(cx) })
}

/// When a project is due; none when it never is by itself, and while it runs.
///
/// # Errors
/// [`OperationError::Audit`].
pub fn due_at(cx: &Context, project: &ProjectConfig) -> Result<Option<Timestamp>, OperationError> {
    let audit = cx.audit()?;
    Ok(plan::due_at(&project_view(cx, &audit, project)?, &empty(cx), cx.now()))
}

fn empty(cx: &Context) -> View {
    View { zone: cx.zone(), configured_at: configured_at(cx), parallel: cx.config.daemon.parallel, projects: Vec::new(), tasks: Vec::new() }
}

fn project_view(cx: &Context, audit: &AuditLog, project: &ProjectConfig) -> Result<ProjectView, OperationError> {
    let jitter = plan::jitter(&cx.config.host.name, &project.name, cx.config.daemon.jitter.duration());
    let slot = project.schedule.as_ref().and_then(|schedule| plan::latest_slot(schedule, jitter, &cx.zone(), cx.now()));
    let attempts = audit.attempts(project.name.as_str(), slot.unwrap_or(Timestamp::MIN)).map_err(audit_error)?;
    Ok(ProjectView {
        name: project.name.clone(),
        priority: project.priority,
        schedule: project.schedule.clone(),
        paused: project.paused,
        jitter,
        attempts,
        not_before: None,
    })
}

fn configured_at(cx: &Context) -> Option<Timestamp> {
    let modified: SystemTime = std::fs::metadata(&cx.config.path).and_then(|meta| meta.modified()).ok()?;
    Timestamp::try_from(modified).ok()
}

pub(super) fn audit_error(error: AuditError) -> OperationError {
    OperationError::Audit(Box::new(error))
}
