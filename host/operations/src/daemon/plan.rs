//! What is due, and when to look again: pure functions of the configuration, of what the audit database says of earlier
//! runs, and of the present moment.
//!
//! A project is due when a moment of its schedule has come and no run that began since has served it. However many
//! moments were missed, the latest asks for one run. A run that failed by something that can pass is tried again with
//! growing pauses, until the next moment begins anew; one that needs a person is not, until the configuration changes.
//! Nothing is remembered between two calls, so a restart neither repeats nor forgets anything.

use crate::{config::Priority, schedule::Schedule};
use havun_model::ProjectName;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Before the second try; doubles for each further one.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// No pause is longer.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);
/// A run that stored something but lacks an item is tried so often in all.
const PARTIAL_TRIES: u32 = 4;
/// What began later than this from now was written by a clock that was wrong, and has served nothing.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It has not ended, and its process lives.
    Running,
    /// It has served its moment.
    Served,
    /// Something is stored, but an item is missing whose cause can pass.
    Partial,
    /// It failed by something that can pass.
    Passing,
    /// It failed, and a person has to do something.
    Failed,
    /// The operator stopped it.
    Stopped,
    /// Its process was killed.
    Died,
}

/// One run of a project, as the audit database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub began: Timestamp,
    /// When it ended, where that is known.
    pub ended: Option<Timestamp>,
    /// How.
    pub ending: Ending,
}

/// What the planner knows of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectView {
    /// Its name.
    pub name: ProjectName,
    /// The most important is backed up first.
    pub priority: Priority,
    /// Never by itself when there is none.
    pub schedule: Option<Schedule>,
    /// Never by itself when it is.
    pub paused: bool,
    /// So long after each moment of its schedule: always the same for a project on a host.
    pub jitter: SignedDuration,
    /// Its runs since the latest moment of its schedule, in any order.
    pub attempts: Vec<Attempt>,
    /// Not before: another host was at it a moment ago.
    pub not_before: Option<Timestamp>,
}

/// A line of work of the daemon: tasks of one lane follow each other, those of two do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Messages: always quick.
    Messages,
    /// Looking at everything.
    Health,
    /// Replicas that lag behind: may take hours.
    Copies,
    /// Scrubs, drills and other work that may take hours.
    Upkeep,
}

/// What the planner knows of a periodic task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// Its name.
    pub name: &'static str,
    /// Where it runs.
    pub lane: Lane,
    /// When it is due; none while there is nothing to do.
    pub due_at: Option<Timestamp>,
}

/// Everything that the planner looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// In which schedules are reckoned.
    pub zone: TimeZone,
    /// When the configuration was last written: what failed before that by a mistake in it is tried again.
    pub configured_at: Option<Timestamp>,
    /// So many runs at once.
    pub parallel: usize,
    /// All projects.
    pub projects: Vec<ProjectView>,
    /// All tasks.
    pub tasks: Vec<TaskView>,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Back this project up.
    Run(ProjectName),
    /// Do this task.
    Task(&'static str),
}

/// When a project is next due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRun {
    /// The project.
    pub project: ProjectName,
    /// When; the past when it is due now.
    pub at: Timestamp,
}

/// What to do now, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To begin now, the most important first: what fits beside what runs already.
    pub start: Vec<Job>,
    /// The next moment at which anything is due by itself; none when nothing ever is.
    pub wake: Option<Timestamp>,
    /// Every project that has a schedule and rests not, the next first.
    pub next: Vec<NextRun>,
}

/// Plans. `running` is what has been begun and has not ended.
pub fn plan(view: &View, running: &BTreeSet<Job>, now: Timestamp) -> Plan {
    let mut next: Vec<(Priority, NextRun)> = view
        .projects
        .iter()
        .filter(|project| !running.contains(&Job::Run(project.name.clone())))
        .filter_map(|project| Some((project.priority, NextRun { project: project.name.clone(), at: due_at(project, view, now)? })))
        .collect();
    next.sort_by(|(_, a), (_, b)| a.at.cmp(&b.at).then(a.project.cmp(&b.project)));
    let start = runs_to_start(&next, view.parallel, running, now).chain(tasks_to_start(&view.tasks, running, now)).collect();
    let tasks = view.tasks.iter().filter(|task| !running.contains(&Job::Task(task.name))).filter_map(|task| task.due_at);
    let wake = next.iter().map(|(_, run)| run.at).chain(tasks).filter(|at| *at > now).min();
    Plan { start, wake, next: next.into_iter().map(|(_, run)| run).collect() }
}

fn runs_to_start(
    next: &[(Priority, NextRun)],
    parallel: usize,
    running: &BTreeSet<Job>,
    now: Timestamp,
) -> impl Iterator<Item = Job> + use<> {
    let mut due: Vec<(Priority, NextRun)> = next.iter().filter(|(_, run)| run.at <= now).cloned().collect();
    due.sort_by(|(a, x), (b, y)| a.cmp(b).then(x.at.cmp(&y.at)).then(x.project.cmp(&y.project)));
    let busy = running.iter().filter(|job| matches!(job, Job::Run(_))).count();
    due.into_iter().take(parallel.saturating_sub(busy)).map(|(_, run)| Job::Run(run.project))
}

/// One at a time in each lane, what waits longest first.
fn tasks_to_start(tasks: &[TaskView], running: &BTreeSet<Job>, now: Timestamp) -> impl Iterator<Item = Job> + use<> {
    let is_busy = |lane: Lane| tasks.iter().any(|task| task.lane == lane && running.contains(&Job::Task(task.name)));
    let mut start = Vec::new();
    for lane in [Lane::Messages, Lane::Health, Lane::Copies, Lane::Upkeep] {
        let due = tasks.iter().filter(|task| task.lane == lane && task.due_at.is_some_and(|at| at <= now));
        if !is_busy(lane) {
            start.extend(due.min_by_key(|task| task.due_at).map(|task| Job::Task(task.name)));
        }
    }
    start.into_iter()
}

/// When a project is due: a moment that has passed when it is due now. None when it never is by itself, and while it runs.
pub fn due_at(project: &ProjectView, view: &View, now: Timestamp) -> Option<Timestamp> {
    let schedule = project.schedule.as_ref().filter(|_| !project.paused)?;
    let following = || schedule.next_after(now.checked_sub(project.jitter).ok()?, &view.zone)?.checked_add(project.jitter).ok();
    let Some(slot) = latest_slot(schedule, project.jitter, &view.zone, now) else { return following() };
    let mut attempts: Vec<Attempt> = project.attempts.iter().copied().filter(|attempt| counts(attempt, slot, now)).collect();
    attempts.sort_by_key(|attempt| attempt.began);
    if attempts.iter().any(|attempt| attempt.ending == Ending::Running) {
        return None;
    }
    let moment = slot.checked_add(project.jitter).ok()?;
    match again_at(&attempts, view.configured_at, now) {
        Again::AtOnce => Some(moment.max(project.not_before.unwrap_or(moment))),
        Again::At(at) => Some(at.max(moment).max(project.not_before.unwrap_or(moment))),
        Again::Never => following(),
    }
}

/// The latest moment of a schedule whose jitter has passed.
pub fn latest_slot(schedule: &Schedule, jitter: SignedDuration, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    schedule.latest_before(now.checked_sub(jitter).ok()?, zone)
}

/// A run by hand between the moment and its jitter serves it too.
fn counts(attempt: &Attempt, slot: Timestamp, now: Timestamp) -> bool {
    attempt.began >= slot && now.checked_add(TOLERANCE).is_ok_and(|latest| attempt.began <= latest)
}

enum Again {
    AtOnce,
    At(Timestamp),
    Never,
}

/// `attempts` are those since the moment, the oldest first.
fn again_at(attempts: &[Attempt], configured_at: Option<Timestamp>, now: Timestamp) -> Again {
    let counted: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.ending != Ending::Stopped).collect();
    let Some(last) = counted.last() else { return Again::AtOnce };
    let tries = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    let reconfigured = configured_at.is_some_and(|at| at > last.began && at <= now);
    if counted.iter().any(|attempt| attempt.ending == Ending::Served) {
        return Again::Never;
    }
    let partial = counted.iter().any(|attempt| attempt.ending == Ending::Partial);
    match last.ending {
        _ if partial && tries >= PARTIAL_TRIES => Again::Never,
        Ending::Failed if !reconfigured => Again::Never,
        // Who was killed did nothing wrong, as long as it does not kill the next one too.
        Ending::Died => after(last, pause(tries - 1), now),
        _ => after(last, pause(tries), now),
    }
}

fn after(last: &Attempt, pause: SignedDuration, now: Timestamp) -> Again {
    let ended = last.ended.unwrap_or(last.began).min(now);
    ended.checked_add(pause).map_or(Again::Never, Again::At)
}

/// The pause after so many failures in a row; none after none.
pub fn pause(failures: u32) -> SignedDuration {
    if failures == 0 {
        return SignedDuration::ZERO;
    }
    let factor = 1_i32.checked_shl(failures - 1).filter(|factor| *factor > 0).unwrap_or(i32::MAX);
    FIRST_PAUSE.checked_mul(factor).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

/// How long after each moment of its schedule a project runs: from 0 to `most`, always the same for the same host and
/// project, so that many projects and hosts do not all begin at once.
pub fn jitter(host: &str, project: &ProjectName, most: SignedDuration) -> SignedDuration {
    let digest = Sha256::new().chain_update(host).chain_update([0]).chain_update(project.as_str()).finalize();
    let number = digest.iter().take(7).fold(0_i64, |number, byte| (number << 8) | i64::from(*byte));
    SignedDuration::from_secs(number % most.as_secs().max(0).saturating_add(1))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
