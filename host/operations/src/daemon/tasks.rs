//! Everything that the daemon does besides backing up: one row for each.
//!
//! When a task was last begun stands in the audit database, so that a restart neither repeats nor forgets it. One that
//! fails is tried again with growing pauses, and is an alert until it has gone well.

use super::{
    plan::{Lane, pause},
    view::audit_error,
};
use crate::{
    audit::TaskRow,
    config::Config,
    context::Context,
    drill::{DrillOptions, drill},
    error::OperationError,
    health::{HealthOptions, health, prometheus},
    notify::Outbox,
    replication, reporting, run,
    schedule::Schedule,
    scrub::{ScrubRequest, scrub_stores},
};
use jiff::{SignedDuration, Timestamp};

/// What a task found, as Prometheus reads it; most have nothing to show.
pub(super) type Exposed = Option<String>;

/// One task.
pub(super) struct Task {
    pub name: &'static str,
    pub lane: Lane,
    pub when: When,
    pub work: fn(&Context) -> Result<Exposed, OperationError>,
}

/// When a task is due.
pub(super) enum When {
    /// So long after it was last begun.
    Every(SignedDuration),
    /// At the moments of a schedule; once, however many were missed.
    At(fn(&Config) -> Option<Schedule>),
    /// After everything else: every minute in a daemon, at the end of what is done once.
    AfterAll,
    /// When what waits is to be tried; none while nothing waits.
    Waiting(fn(&Context) -> Result<Option<Timestamp>, OperationError>),
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The task that tells people.
pub(super) const MESSAGES: &str = "messages";

/// All of them.
pub(super) const TASKS: &[Task] = &[
    Task { name: MESSAGES, lane: Lane::Messages, when: When::AfterAll, work: deliver },
    Task { name: "digest", lane: Lane::Messages, when: When::At(digest_time), work: send_digest },
    Task { name: "health", lane: Lane::Health, when: When::Every(HOUR), work: look_at_health },
    Task { name: "copies", lane: Lane::Copies, when: When::Waiting(next_copy), work: copy_again },
    Task { name: "leftovers", lane: Lane::Upkeep, when: When::Every(HOUR), work: undo_left_behind },
    Task { name: "scrub", lane: Lane::Upkeep, when: When::At(|_| "daily 05:45".parse().ok()), work: scrub_slice },
    Task { name: "drills", lane: Lane::Upkeep, when: When::At(|_| "daily 06:15".parse().ok()), work: drill_what_is_due },
];

/// The task of this name.
pub(super) fn find(name: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| task.name == name)
}

impl Task {
    /// When it is due, `row` being what is remembered of it. A task that was never heard of begins to count now.
    ///
    /// # Errors
    /// [`OperationError::Audit`].
    pub fn due_at(&self, cx: &Context, row: Option<&TaskRow>) -> Result<Option<Timestamp>, OperationError> {
        if let Some(next_try) = row.and_then(|row| row.next_try) {
            return Ok(Some(next_try));
        }
        if matches!(self.when, When::AfterAll) {
            return Ok(None);
        }
        if let When::Waiting(next) = self.when {
            return next(cx);
        }
        // A clock that was ahead once must not keep it waiting until then.
        let last = row.map(|row| row.last_begun.min(cx.now()));
        let Some(last) = last else {
            let begins = TaskRow { status: "new".to_owned(), ..self.row(cx.now()) };
            cx.audit()?.put_task(&begins).map_err(audit_error)?;
            return Ok(None);
        };
        Ok(match &self.when {
            When::Every(time) => last.checked_add(*time).ok(),
            When::At(schedule) => schedule(&cx.config).and_then(|schedule| schedule.next_after(last, &cx.zone())),
            When::AfterAll | When::Waiting(_) => None,
        })
    }

    fn row(&self, now: Timestamp) -> TaskRow {
        TaskRow {
            task: self.name.to_owned(),
            last_begun: now,
            last_ended: None,
            status: "running".to_owned(),
            failures: 0,
            next_try: None,
            message: String::new(),
        }
    }

    /// Does it, between its two marks in the audit database. What was stopped by the operator is as if it had not begun.
    ///
    /// # Errors
    /// Whatever it failed with.
    pub fn carry_out(&self, cx: &Context) -> Result<Exposed, OperationError> {
        if matches!(self.when, When::AfterAll) {
            return super::work::guarded(format!("task `{}`", self.name), || (self.work)(cx));
        }
        let audit = cx.audit()?;
        let before = audit.tasks().map_err(audit_error)?.into_iter().find(|row| row.task == self.name);
        let failures = before.as_ref().map_or(0, |row| row.failures);
        // What waits says itself when it is due: a row for each try would say nothing.
        let is_remembered = !matches!(self.when, When::Waiting(_)) || failures > 0;
        let begun = TaskRow { failures, ..self.row(cx.now()) };
        if is_remembered {
            audit.put_task(&begun).map_err(audit_error)?;
        }
        let result = super::work::guarded(format!("task `{}`", self.name), || (self.work)(cx));
        let ended = match (&result, before) {
            (Err(OperationError::Interrupted), Some(before)) => before,
            (Err(OperationError::Interrupted), None) => return result,
            (Ok(_), _) if !is_remembered => return result,
            (Ok(_), _) => TaskRow { status: "ok".to_owned(), last_ended: Some(cx.now()), failures: 0, ..begun },
            (Err(error), _) => failed(begun, cx.now(), crate::error::one_line(error)),
        };
        audit.put_task(&ended).map_err(audit_error)?;
        result
    }
}

/// After a failure it is tried again, later each time.
fn failed(row: TaskRow, now: Timestamp, message: String) -> TaskRow {
    let failures = row.failures.saturating_add(1);
    TaskRow {
        status: "failed".to_owned(),
        last_ended: Some(now),
        failures,
        next_try: now.checked_add(pause(failures)).ok(),
        message,
        ..row
    }
}

/// Tasks that a killed daemon was at count as failed, once: nobody else is at work when this is called.
///
/// # Errors
/// [`OperationError::Audit`].
pub(super) fn recover(cx: &Context) -> Result<(), OperationError> {
    let audit = cx.audit()?;
    for row in audit.tasks().map_err(audit_error)?.into_iter().filter(|row| row.status == "running") {
        let row = failed(row, cx.now(), "the program was killed meanwhile".to_owned());
        audit.put_task(&row).map_err(audit_error)?;
    }
    Ok(())
}

/// Alerts become messages, and go out; without an audit database that is told directly.
fn deliver(cx: &Context) -> Result<Exposed, OperationError> {
    let report = Outbox::new(cx).tick(cx.now())?;
    report.failed.iter().for_each(|failed| tracing::warn!("a message was not delivered: {failed}"));
    Ok(None)
}

fn digest_time(config: &Config) -> Option<Schedule> {
    config.notify.digest.strftime("daily %H:%M").to_string().parse().ok()
}

/// Of today. It is put once, whatever happens: its key is that of the day.
fn send_digest(cx: &Context) -> Result<Exposed, OperationError> {
    let today = cx.now().to_zoned_datetime(cx.zone()).date();
    Outbox::new(cx).put(reporting::digest(cx, today)?, cx.now()).map(|_| None)
}

fn look_at_health(cx: &Context) -> Result<Exposed, OperationError> {
    health(cx, &HealthOptions::default()).map(|report| Some(prometheus(&report)))
}

fn next_copy(cx: &Context) -> Result<Option<Timestamp>, OperationError> {
    let queue = cx.audit()?.queue().map_err(audit_error)?;
    Ok(queue.into_iter().map(|row| row.next_try).min())
}

fn copy_again(cx: &Context) -> Result<Exposed, OperationError> {
    let run_id = crate::context::new_run_id(cx.now())?;
    replication::retry_due(cx, &Default::default(), &run_id)?;
    cx.check_cancelled().map(|()| None)
}

fn undo_left_behind(cx: &Context) -> Result<Exposed, OperationError> {
    run::clear_left_behind(cx);
    Ok(None)
}

/// Each store's own failures are alerts already.
fn scrub_slice(cx: &Context) -> Result<Exposed, OperationError> {
    let outcome = scrub_stores(cx, &ScrubRequest::default())?;
    if outcome.interrupted { Err(OperationError::Interrupted) } else { Ok(None) }
}

/// What was never backed up has nothing to drill.
fn drill_what_is_due(cx: &Context) -> Result<Exposed, OperationError> {
    let audit = cx.audit()?;
    let mut projects = Vec::new();
    for project in cx.config.projects.keys() {
        if audit.first_commit(project.as_str()).map_err(audit_error)?.is_some() {
            projects.push(project.to_string());
        }
    }
    if projects.is_empty() {
        return Ok(None);
    }
    let report = drill(cx, &DrillOptions { projects, due: true, ..DrillOptions::default() })?;
    if report.interrupted { Err(OperationError::Interrupted) } else { Ok(None) }
}
