//! Database and files of one moment: the operator's commands that let the application rest, and a snapshot of the file
//! system as the source of the files.
//!
//! Databases are dumped first, then files are read, so that a file that a row names is there. Where that is not enough, the
//! operator lets the application rest meanwhile (`before`, `after`), or has files read from a snapshot that is made when the
//! databases have been dumped; the application goes on as soon as there is one.
//!
//! What has been done is undone in every case: at the end, after an error or a panic, and where the process was killed, by
//! the next run: a [`Marker`] says what. Read this file, then `command`, `source`, `marker`.

mod command;
mod marker;
mod source;

use crate::{config::ProjectConfig, context::Context, error::OperationError};
use command::OwnCommand;
use havun_model::{Cancel, ConsistencyRecord, ProjectName};
use jiff::Timestamp;
use marker::Marker;
use source::{SnapshotPlan, Step};
use std::path::PathBuf;

/// Folder in the state folder beneath which snapshots are seen.
const SEEN: &str = "snapshots";

/// The application rests, or files are read from a snapshot, or neither: as configured.
pub(super) struct Pause<'a> {
    cx: &'a Context,
    project: &'a ProjectConfig,
    marker: Marker,
    began: Option<Timestamp>,
    record: ConsistencyRecord,
    ended: Ended,
}

/// What is to be said of it.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
}

impl<'a> Pause<'a> {
    /// Runs `before`.
    ///
    /// # Errors
    /// [`OperationError::Quiesce`] where it failed and the run is to fail with it: `after` has been run then.
    pub fn begin(cx: &'a Context, project: &'a ProjectConfig, run_id: &str) -> Result<Self, OperationError> {
        let marker = Marker::new(&project.name, run_id);
        let (record, ended) = Default::default();
        let mut pause = Self { cx, project, marker, began: None, record, ended };
        match pause.rest() {
            Ok(()) => Ok(pause),
            Err(error) => Err(pause.given_up(error)),
        }
    }

    /// Undoes what has been done, and says in the error what could not be.
    fn given_up(mut self, error: OperationError) -> OperationError {
        self.finish();
        let problems = std::mem::take(&mut self.ended.problems);
        for problem in &problems {
            tracing::error!(project = %self.project.name, "{problem}");
        }
        match error {
            OperationError::Quiesce { project, why } if !problems.is_empty() => {
                OperationError::Quiesce { project, why: format!("{why}; and {}", problems.join("; ")) }
            }
            other => other,
        }
    }

    fn rest(&mut self) -> Result<(), OperationError> {
        let Some(quiesce) = &self.project.quiesce else { return Ok(()) };
        self.marker.after = commands(self.project).1;
        self.marker.save(self.cx)?;
        self.began = Some(self.cx.now());
        let Some(before) = commands(self.project).0 else { return Ok(()) };
        self.cx.observer.step(&format!("before: {}", before.shown()));
        match before.run(&self.cx.cancel) {
            Ok(()) => Ok(()),
            Err(_) if self.cx.cancel.is_cancelled() => Err(OperationError::Interrupted),
            Err(why) if quiesce.goes_on => {
                self.ended.warnings.push(format!("the application was not made to rest, and the backup went on: {why}"));
                Ok(())
            }
            Err(why) => Err(OperationError::Quiesce { project: self.project.name.clone(), why }),
        }
    }

    /// The databases have been dumped. Makes the snapshot, where one is configured, and lets the application go on then.
    /// Returns the folder from which the project's files are read.
    ///
    /// # Errors
    /// [`OperationError::SourceSnapshot`].
    pub fn databases_are_dumped(&mut self) -> Result<PathBuf, OperationError> {
        let Some(source) = &self.project.snapshot else { return Ok(self.project.root.clone()) };
        let failed = |why| OperationError::SourceSnapshot { project: self.project.name.clone(), kind: source.word(), why };
        self.cx.observer.step(&format!("{} snapshot", source.word()));
        let plan = self.plan_snapshot().map_err(failed)?;
        for step in &plan.steps {
            // One of a killed run, whose marker was lost.
            step.undo().map_err(failed)?;
        }
        self.marker.steps = plan.steps.clone();
        self.marker.save(self.cx)?;
        for step in &plan.steps {
            step.make(&self.cx.cancel).map_err(failed).or_else(|error| self.cx.check_cancelled().and(Err(error)))?;
        }
        self.record.source = source.word().to_owned();
        self.record.snapshot_at = Some(self.cx.now());
        self.go_on();
        Ok(plan.root)
    }

    fn plan_snapshot(&self) -> Result<SnapshotPlan, String> {
        let Some(source) = &self.project.snapshot else { return Err("none is configured".to_owned()) };
        let root = &self.project.root;
        let root = root.canonicalize().map_err(|error| format!("cannot resolve {}: {error}", root.display()))?;
        let seen = self.cx.private_dir(&format!("{SEEN}/{}", self.project.name)).map_err(|e| crate::error::one_line(&e))?;
        let seen = seen.canonicalize().map_err(|error| format!("cannot resolve {}: {error}", seen.display()))?;
        let plan = source::plan_snapshot(source, &self.project.name, &root, &without(&seen, source::mounts()?), &seen)?;
        source::check_nested(source, &root)?;
        Ok(plan)
    }

    /// Runs `after`, unless it has been run.
    fn go_on(&mut self) {
        if let Some(after) = self.marker.after.clone() {
            self.cx.observer.step(&format!("after: {}", after.shown()));
            match let_go_on(&after) {
                Ok(()) => self.forget(|marker| marker.after = None),
                Err(why) => {
                    // Not again in this run, but in the next: the file keeps it.
                    self.marker.after = None;
                    self.ended.problems.push(format!("the application may still be resting: {why}"));
                }
            }
        }
        if let Some(began) = self.began.take() {
            let rested = self.cx.now().as_millisecond() - began.as_millisecond();
            self.record.paused_ms = Some(u64::try_from(rested).unwrap_or(0));
        }
    }

    fn forget(&mut self, change: impl FnOnce(&mut Marker)) {
        change(&mut self.marker);
        if let Err(error) = self.marker.save(self.cx) {
            self.ended.problems.push(crate::error::one_line(&error));
        }
    }

    fn finish(&mut self) {
        self.go_on();
        if self.marker.steps.is_empty() {
            return;
        }
        let steps = std::mem::take(&mut self.marker.steps);
        match undo(&steps) {
            Ok(()) if self.ended.problems.is_empty() => self.forget(|marker| marker.steps.clear()),
            // `after` failed, and the file still says so.
            Ok(()) => {}
            Err(why) => self.ended.problems.push(format!("the snapshot of the file system could not be removed: {why}")),
        }
    }

    /// Undoes what has been done. Call it whatever came of the run.
    pub fn end(mut self) -> (Option<ConsistencyRecord>, Ended) {
        self.finish();
        let record = (self.record != ConsistencyRecord::default()).then(|| self.record.clone());
        (record, std::mem::take(&mut self.ended))
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.finish();
        for problem in std::mem::take(&mut self.ended.problems) {
            tracing::error!(project = %self.project.name, "{problem}");
        }
    }
}

/// What stops the run must not stop this.
fn let_go_on(after: &OwnCommand) -> Result<(), String> {
    after.run(&Cancel::default())
}

fn undo(steps: &[Step]) -> Result<(), String> {
    let failed: Vec<String> = steps.iter().rev().filter_map(|step| step.undo().err()).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// The place where a snapshot is seen is no file system inside of the project.
fn without(seen: &std::path::Path, mounts: Vec<source::Mount>) -> Vec<source::Mount> {
    mounts.into_iter().filter(|mount| mount.point != *seen).collect()
}

/// `before` and `after`.
fn commands(project: &ProjectConfig) -> (Option<OwnCommand>, Option<OwnCommand>) {
    let Some(quiesce) = &project.quiesce else { return (None, None) };
    let command = |argv: &Vec<String>| {
        (!argv.is_empty()).then(|| OwnCommand {
            argv: argv.clone(),
            user: quiesce.user.clone(),
            folder: project.root.clone(),
            timeout_secs: quiesce.timeout_secs,
        })
    };
    (command(&quiesce.before), command(&quiesce.after))
}

/// What a run would do of this, for a dry run.
pub(super) fn forecast(project: &ProjectConfig) -> Vec<String> {
    let (before, after) = commands(project);
    let mut lines = Vec::new();
    let mut hook = |when: &str, command: Option<OwnCommand>| {
        if let Some(command) = command {
            lines.push(format!("{when}: {} (at most {} s)", command.shown(), command.timeout_secs));
        }
    };
    hook("before the databases", before);
    if project.snapshot.is_none() {
        hook("after the files", after.clone());
    }
    if let Some(source) = &project.snapshot {
        lines.push(format!("files are read from a {} snapshot, made when the databases have been dumped", source.word()));
        if let Some(after) = after {
            lines.push(format!("after the snapshot was made: {} (at most {} s)", after.shown(), after.timeout_secs));
        }
    }
    lines
}

/// What killed runs have left behind and no run has undone yet, by project; none is everybody's.
pub(crate) fn left_behind(cx: &Context) -> Vec<(Option<ProjectName>, String)> {
    let (markers, odd) = Marker::left_behind(cx);
    let resting = markers.iter().filter_map(|marker| {
        let after = marker.after.as_ref()?;
        let text = format!("run {} has not let the application go on: `{}` has not ended well since", marker.run_id, after.shown());
        Some((Some(marker.project.clone()), text))
    });
    let snapshots = markers
        .iter()
        .filter(|marker| !marker.steps.is_empty())
        .map(|marker| (Some(marker.project.clone()), format!("the snapshot of the file system of run {} is still there", marker.run_id)));
    odd.into_iter().map(|odd| (None, odd)).chain(resting).chain(snapshots).collect()
}

/// What killed runs have left behind is undone. Returns what was done, by project, as warnings; empty projects are nobody's.
pub(crate) fn undo_left_behind(cx: &Context) -> Vec<(Option<ProjectName>, String)> {
    let (markers, odd) = Marker::left_behind(cx);
    let mut said: Vec<(Option<ProjectName>, String)> = odd.into_iter().map(|odd| (None, odd)).collect();
    for mut marker in markers {
        let project = Some(marker.project.clone());
        if let Some(after) = marker.after.clone() {
            let text = match let_go_on(&after) {
                Ok(()) => {
                    marker.after = None;
                    format!("run {} was killed while the application rested; `{}` has been run now", marker.run_id, after.shown())
                }
                Err(why) => format!("run {} was killed while the application rested, and it may rest still: {why}", marker.run_id),
            };
            said.push((project.clone(), text));
        }
        if !marker.steps.is_empty() {
            let text = match undo(&marker.steps) {
                Ok(()) => {
                    marker.steps.clear();
                    format!("run {} was killed; its snapshot of the file system has been removed", marker.run_id)
                }
                Err(why) => format!("the snapshot of the file system of run {} could not be removed: {why}", marker.run_id),
            };
            said.push((project.clone(), text));
        }
        if let Err(error) = marker.save(cx) {
            said.push((project, crate::error::one_line(&error)));
        }
    }
    said
}
