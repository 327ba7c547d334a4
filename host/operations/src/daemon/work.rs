//! Carrying one piece of work out. Whatever goes wrong in it, a panic included, ends it and nothing else.

use super::{plan::Job, tasks};
use crate::{
    cleanup::{self, CleanupOptions},
    context::Context,
    error::{OperationError, exit},
    report::Failure,
    run::{self, ProjectRun},
};
use havun_model::ProjectName;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Says that nothing can begin, through whatever `cx` still names; it may come of a configuration that is wrong elsewhere.
pub fn could_not_start(cx: &Context, failure: &Failure) {
    cx.alert("", "", "start", Some(failure), "");
    crate::notify::after_command(cx);
}

/// How a piece of work ended.
#[derive(Debug, Clone)]
pub struct Done {
    /// What it was.
    pub job: Job,
    /// What became of a run, where it was one that began.
    pub run: Option<Box<ProjectRun>>,
    /// Why it did not do what it should.
    pub failure: Option<Failure>,
    /// What it found, as Prometheus reads it.
    pub exposed: Option<String>,
}

impl Done {
    /// The exit status that it alone would cause.
    pub fn exit_status(&self) -> u8 {
        let of_run = self.run.as_ref().map_or(exit::OK, |run| run.exit_status());
        self.failure.as_ref().map_or(of_run, |failure| failure.exit_status)
    }
}

/// Does it.
pub(super) fn carry_out(cx: &Context, job: &Job) -> Done {
    match job {
        Job::Run(project) => back_up(cx, project),
        Job::Task(name) => {
            let (exposed, failure) = match tasks::find(name).map_or(Ok(None), |task| task.carry_out(cx)) {
                Ok(exposed) => (exposed, None),
                Err(error) => (None, Some(error.to_failure())),
            };
            // Messages have alerts of their own.
            if *name != tasks::MESSAGES && failure.as_ref().is_none_or(|failure| failure.exit_status != exit::INTERRUPTED) {
                cx.alert("", name, "task", failure.as_ref(), "");
            }
            Done { job: job.clone(), run: None, failure, exposed }
        }
    }
}

/// A run, and when something was stored the clean-up after it.
fn back_up(cx: &Context, project: &ProjectName) -> Done {
    let job = Job::Run(project.clone());
    match guarded(format!("the run of project `{project}`"), || run::run_one(cx, project)) {
        Err(error) => {
            let failure = error.to_failure();
            cx.alert(project.as_str(), "", "run", Some(&failure), "");
            Done { job, run: None, failure: Some(failure), exposed: None }
        }
        Ok(run) => {
            if run.snapshot.is_some() && !cx.cancel.is_cancelled() {
                clean_up(cx, project);
            }
            Done { job, run: Some(Box::new(run)), failure: None, exposed: None }
        }
    }
}

/// That a store could not be cleaned up is an alert of its own: the backup is good all the same.
fn clean_up(cx: &Context, project: &ProjectName) {
    let options = CleanupOptions { projects: vec![project.to_string()], ..CleanupOptions::default() };
    let cleaned = guarded(format!("the clean-up of project `{project}`"), || cleanup::prepare(cx, &options)?.execute());
    let failure = match cleaned {
        Ok(outcome) => {
            let hot = outcome.stores.into_iter().filter_map(|store| store.failure);
            hot.chain(outcome.archives.into_iter().filter_map(|store| store.failure)).next()
        }
        Err(error) => Some(error.to_failure()),
    };
    if failure.as_ref().is_none_or(|failure| failure.exit_status != exit::INTERRUPTED) {
        cx.alert(project.as_str(), "", "cleanup", failure.as_ref(), "");
    }
}

/// A mistake in this program is an error like any other.
pub(super) fn guarded<T>(doing: String, work: impl FnOnce() -> Result<T, OperationError>) -> Result<T, OperationError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(OperationError::Panicked { doing, what: panic_text(&*panic) }))
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason was given".to_owned())
}
