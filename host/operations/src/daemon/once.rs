//! Everything that is due now, and then no more: for hosts where cron or a timer calls, and for simulations.
//!
//! Shape of `havun-backup daemon --once --json`: one [`OnceReport`].

use super::{
    clock::{Reading, SteadyClock, machine_steady},
    lock::InstanceLock,
    plan::{Job, Plan, plan},
    state::{DaemonLife, DaemonState, job_name},
    tasks, view,
    work::{self, Done},
};
use crate::{
    context::Context,
    error::{OperationError, exit},
    report::{Failure, SCHEMA_VERSION, combined_status},
    run::{self, ProjectRun},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{collections::BTreeSet, sync::Arc, thread};

/// What was due, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct OnceReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// The operator stopped it.
    pub interrupted: bool,
    /// In the order in which it ended.
    pub jobs: Vec<JobReport>,
    /// The next moment at which anything is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake: Option<Timestamp>,
}

/// One piece of work.
#[derive(Debug, Clone, Serialize)]
pub struct JobReport {
    /// `run of shop`, `health`, …
    pub name: String,
    /// What became of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<ProjectRun>>,
    /// Why it did not do what it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The exit status that it alone would cause.
    pub exit_status: u8,
}

impl OnceReport {
    /// 0 when everything went well or nothing was due; 3 when some did not, or what all of it failed with; 130 when stopped.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        let runs: Vec<u8> = self.jobs.iter().filter(|job| job.run.is_some()).map(|job| job.exit_status).collect();
        let all: Vec<u8> = self.jobs.iter().map(|job| job.exit_status).collect();
        match combined_status(&runs) {
            exit::OK => combined_status(&all),
            status => status,
        }
    }
}

/// Does everything that is due: runs first, then the tasks, each once. Also what became due meanwhile.
///
/// # Errors
/// [`OperationError::DaemonRuns`], [`OperationError::Audit`]. What goes wrong with a piece of work is in the report.
pub fn once(cx: &Context) -> Result<OnceReport, OperationError> {
    once_with(cx, &(Arc::new(machine_steady) as SteadyClock))
}

/// With another steady clock.
///
/// # Errors
/// As [`once`].
pub fn once_with(cx: &Context, steady: &SteadyClock) -> Result<OnceReport, OperationError> {
    let _lock = InstanceLock::take(cx)?;
    let reading = Reading { wall: cx.now(), steady: steady() };
    let mut state = begin(cx, "once", reading);
    let done = all_that_is_due(cx, &mut state);
    // Last, so that whatever happened is told; also that there is no audit database.
    let told = work::carry_out(cx, &Job::Task(tasks::MESSAGES));
    let mut report = done?;
    if told.failure.is_some() {
        report.jobs.push(JobReport::of(told));
    }
    state.running.clear();
    state.stopped_at = Some(cx.now());
    keep(cx, &mut state);
    Ok(report)
}

fn all_that_is_due(cx: &Context, state: &mut DaemonState) -> Result<OnceReport, OperationError> {
    let mut report = OnceReport { schema_version: SCHEMA_VERSION, started_at: cx.now(), interrupted: false, jobs: Vec::new(), wake: None };
    run::clear_left_behind(cx);
    for kind in ["config", "start"] {
        cx.alert("", "", kind, None, "");
    }
    tasks::recover(cx)?;
    let mut done = BTreeSet::new();
    loop {
        let planned = look(cx, &done)?;
        let Some(jobs) = next_jobs(&planned).filter(|_| !cx.cancel.is_cancelled()) else {
            (report.wake, state.next) = (planned.wake, planned.next);
            break;
        };
        state.running = jobs.iter().map(job_name).collect();
        keep(cx, state);
        for ended in together(cx, &jobs) {
            report.jobs.push(JobReport::of(ended));
        }
        done.extend(jobs);
    }
    report.interrupted = cx.cancel.is_cancelled();
    Ok(report)
}

/// What was done is not done again now, whatever became of it.
fn look(cx: &Context, done: &BTreeSet<Job>) -> Result<Plan, OperationError> {
    let mut view = view::look(cx)?;
    let mut planned = plan(&view, &BTreeSet::new(), cx.now());
    if planned.start.iter().any(|job| done.contains(job)) {
        view.projects.retain(|project| !done.contains(&Job::Run(project.name.clone())));
        view.tasks.retain(|task| !done.contains(&Job::Task(task.name)));
        let fresh = plan(&view, &BTreeSet::new(), cx.now());
        (planned.start, planned.wake) = (fresh.start, planned.wake.into_iter().chain(fresh.wake).min());
    }
    Ok(planned)
}

/// Runs before anything else: health should see what they have caught up.
fn next_jobs(planned: &Plan) -> Option<Vec<Job>> {
    let (runs, tasks): (Vec<Job>, Vec<Job>) = planned.start.iter().cloned().partition(|job| matches!(job, Job::Run(_)));
    let jobs = if runs.is_empty() { tasks } else { runs };
    (!jobs.is_empty()).then_some(jobs)
}

fn together(cx: &Context, jobs: &[Job]) -> Vec<Done> {
    thread::scope(|scope| {
        let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(move || work::carry_out(cx, job))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

impl JobReport {
    fn of(done: Done) -> Self {
        let exit_status = done.exit_status();
        Self { name: job_name(&done.job), run: done.run, failure: done.failure, exit_status }
    }
}

/// A new state, which goes on where the last one stopped watching the clock.
pub(super) fn begin(cx: &Context, mode: &str, reading: Reading) -> DaemonState {
    let mut state = DaemonState::begin(mode, reading.clone());
    if let Some(before) = DaemonState::read(cx) {
        if before.life(cx.now()) == DaemonLife::Died {
            let failure = before.obituary();
            tracing::warn!("{}", failure.one_line());
            cx.alert("", "", "daemon", Some(&failure), "");
            state.death_reading = Some(reading.clone());
        } else {
            state.death_reading = before.death_reading;
        }
        (state.leap, state.leap_reading) = (before.leap, before.leap_reading);
        if let Some((leap, failure)) = state.watch(&before.reading, reading) {
            tracing::warn!("{}", leap.text());
            cx.alert("", "", "clock", Some(&failure), "");
        } else if state.settle() {
            cx.alert("", "", "clock", None, "");
        }
        if state.mourned() {
            cx.alert("", "", "daemon", None, "");
        }
    }
    state
}

fn keep(cx: &Context, state: &mut DaemonState) {
    state.beat_at = cx.now();
    if let Err(error) = state.write(cx) {
        tracing::warn!("{}", crate::error::one_line(&error));
    }
}
