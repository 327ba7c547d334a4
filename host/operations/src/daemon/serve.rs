//! The loop: begins what is due, hears how it ended, and stops in order.
//!
//! It never touches the audit database, a store or the network itself: a server that hangs must not keep other projects
//! from being begun, nor the watchdog from being told that the loop lives.

use super::{
    clock::{Reading, SteadyClock, machine_steady},
    lock::InstanceLock,
    metrics::{Exposition, MetricsServer},
    once,
    plan::{Job, Lane, Plan, View, plan},
    state::{DaemonState, job_name},
    supervisor::Supervisor,
    tasks, view,
    work::{self, Done},
};
use crate::{
    context::Context,
    error::{OperationError, exit, one_line},
    report::Failure,
    run::{self, RunOutcome},
};
use havun_model::ProjectName;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel as new_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// The loop goes round at least so often, to see a clock that was set.
const TICK: Duration = Duration::from_secs(10);
/// What others have done to the audit database is seen after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// People are told so often what is new.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// What has been begun may take so long to stop.
const STOPPING: Duration = Duration::from_secs(60);
/// A project that another host is at is asked for again after so long.
const ELSEWHERE: SignedDuration = SignedDuration::from_mins(5);
/// After a start or a sleep, runs have so long to catch up before health looks.
const CATCHING_UP: SignedDuration = SignedDuration::from_hours(1);
/// A turn of the loop that took so long was a sleep of the machine.
const SLEPT: i64 = 600;

/// What the loop hears.
pub enum Event {
    /// Stop in order.
    Stop,
    /// Read the configuration anew.
    Reload,
    /// The audit database has been looked at.
    #[doc(hidden)]
    Looked(u64, Box<Result<View, OperationError>>),
    /// A piece of work has ended.
    #[doc(hidden)]
    Ended(Box<Done>),
}

/// Tells the loop what the operator wants; for handlers of signals.
#[derive(Clone)]
pub struct Signals(Sender<Event>);

impl Signals {
    /// Stop in order.
    pub fn stop(&self) {
        drop(self.0.send(Event::Stop));
    }

    /// Read the configuration anew.
    pub fn reload(&self) {
        drop(self.0.send(Event::Reload));
    }
}

/// What the loop is given besides its first [`Context`].
pub struct Service {
    events: (Sender<Event>, Receiver<Event>),
    reload: Box<dyn Fn() -> Result<Context, Failure>>,
    steady: SteadyClock,
}

/// The two ends of the loop's ear. `reload` reads the configuration anew and makes a context of it that stops with the same
/// [`havun_model::Cancel`].
pub fn channel(reload: Box<dyn Fn() -> Result<Context, Failure>>) -> (Signals, Service) {
    let (sender, receiver) = new_channel();
    (Signals(sender.clone()), Service { events: (sender, receiver), reload, steady: Arc::new(machine_steady) })
}

/// Serves until it is told to stop.
///
/// # Errors
/// [`OperationError::DaemonRuns`]; [`OperationError::Io`] when the state folder cannot be used. Everything later is an alert
/// and a line in the log.
pub fn serve(cx: Context, service: Service) -> Result<(), OperationError> {
    let _lock = InstanceLock::take(&cx)?;
    let mut daemon = Daemon::new(cx, service);
    daemon.prepare();
    daemon.supervisor.ready();
    while daemon.turn() {}
    daemon.end();
    Ok(())
}

struct Daemon {
    cx: Arc<Context>,
    service: Service,
    supervisor: Supervisor,
    metrics: Option<MetricsServer>,
    exposition: Arc<Exposition>,
    state: DaemonState,
    running: BTreeSet<Job>,
    view: Option<View>,
    planned: Option<Plan>,
    /// Counts what has ended: a view that was looked at before that is not believed.
    generation: u64,
    looking: bool,
    looked_at: Option<Instant>,
    audit_away: bool,
    resumed_at: Timestamp,
    stop_before: Option<Instant>,
    /// Projects that another host was at, or that failed, and when that is asked again.
    elsewhere: BTreeMap<ProjectName, Timestamp>,
    kept_at: Option<Instant>,
    told_at: Option<Instant>,
}

impl Daemon {
    fn new(cx: Context, service: Service) -> Self {
        let reading = Reading { wall: cx.now(), steady: (service.steady)() };
        let resumed_at = reading.wall;
        let state = once::begin(&cx, "daemon", reading);
        Self {
            cx: Arc::new(cx),
            service,
            supervisor: Supervisor::new(),
            metrics: None,
            exposition: Arc::default(),
            state,
            running: BTreeSet::new(),
            view: None,
            planned: None,
            generation: 0,
            looking: false,
            looked_at: None,
            audit_away: false,
            resumed_at,
            stop_before: None,
            elsewhere: BTreeMap::new(),
            kept_at: None,
            told_at: None,
        }
    }

    /// What killed ones have left behind, before anything else begins.
    fn prepare(&mut self) {
        run::clear_left_behind(&self.cx);
        if let Err(error) = tasks::recover(&self.cx) {
            tracing::error!("{}", one_line(&error));
        }
        // This configuration is a good one, and the daemon begins with it.
        self.alert("config", None);
        self.alert("start", None);
        self.serve_metrics();
        tracing::info!(projects = self.cx.config.projects.len(), state_dir = %self.cx.config.host.state_dir.display(), "the daemon begins");
    }

    /// One turn of the loop; whether there is another.
    fn turn(&mut self) -> bool {
        let now = self.watch_clocks();
        match self.stop_before {
            Some(_) if self.running.is_empty() => return false,
            Some(before) if Instant::now() >= before => {
                let left: Vec<String> = self.running.iter().map(job_name).collect();
                tracing::error!("not stopped within {} s: {}; the next start catches up", STOPPING.as_secs(), left.join(", "));
                return false;
            }
            Some(_) => {}
            None => {
                self.look_when_needed(now);
                self.begin_what_is_due(now);
            }
        }
        self.supervisor.alive();
        self.tell(now);
        match self.service.events.1.recv_timeout(self.wait(now)) {
            Ok(event) => self.hear(event),
            Err(RecvTimeoutError::Timeout) => {}
            // It holds a sender itself; were they gone all the same, nobody could stop it.
            Err(RecvTimeoutError::Disconnected) => self.stop(),
        }
        true
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Stop => self.stop(),
            Event::Reload => self.reload(),
            Event::Looked(generation, looked) => {
                self.looking = false;
                match *looked {
                    _ if generation != self.generation => self.looked_at = None,
                    Ok(view) => {
                        if std::mem::take(&mut self.audit_away) {
                            tracing::info!("the audit database answers again");
                        }
                        self.view = Some(view);
                    }
                    Err(error) => self.audit_is_away(&error),
                }
            }
            Event::Ended(done) => {
                self.running.remove(&done.job);
                self.generation += 1;
                (self.view, self.looked_at) = (None, None);
                log(&done);
                self.note_elsewhere(&done);
                self.exposition.count(&done);
            }
        }
    }

    fn note_elsewhere(&mut self, done: &Done) {
        let Some(run) = &done.run else { return };
        match self.cx.now().checked_add(ELSEWHERE) {
            // One that failed before its row could be written would begin again at once.
            Ok(until) if run.outcome.is_idle() || matches!(run.outcome, RunOutcome::Failed | RunOutcome::Locked) => {
                self.elsewhere.insert(run.project.clone(), until)
            }
            _ => self.elsewhere.remove(&run.project),
        };
    }

    /// The present moment; a leap of the clock is seen, said and slept on.
    fn watch_clocks(&mut self) -> Timestamp {
        let reading = Reading { wall: self.cx.now(), steady: (self.service.steady)() };
        let before = self.state.reading.clone();
        if reading.steady.seconds.saturating_sub(before.steady.seconds) > SLEPT {
            self.resumed_at = reading.wall;
        }
        if let Some((leap, failure)) = self.state.watch(&before, reading.clone()) {
            tracing::warn!("{}", leap.text());
            (self.view, self.looked_at) = (None, None);
            self.resumed_at = reading.wall;
            self.alert("clock", Some(failure));
        } else if self.state.settle() {
            self.alert("clock", None);
        }
        if self.state.mourned() {
            self.alert("daemon", None);
        }
        reading.wall
    }

    fn look_when_needed(&mut self, now: Timestamp) {
        let is_due = self.planned.as_ref().and_then(|planned| planned.wake).is_some_and(|wake| wake <= now);
        let is_old = self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN);
        if self.looking || !(is_old || (is_due && self.view.is_some())) {
            return;
        }
        // What is due by the view that there is begins without another look.
        if is_due && !is_old {
            return;
        }
        (self.looking, self.looked_at) = (true, Some(Instant::now()));
        let (cx, events, generation) = (Arc::clone(&self.cx), self.service.events.0.clone(), self.generation);
        let look = move || {
            let looked = work::guarded("looking at what is due".to_owned(), || view::look(&cx));
            drop(events.send(Event::Looked(generation, Box::new(looked))));
        };
        if let Err(error) = thread::Builder::new().name("look".to_owned()).spawn(look) {
            tracing::error!(%error, "no thread to look with");
            self.looking = false;
        }
    }

    fn begin_what_is_due(&mut self, now: Timestamp) {
        let Some(mut view) = self.view.clone() else { return };
        let catching_up = self.resumed_at.checked_add(CATCHING_UP).unwrap_or(now);
        for task in view.tasks.iter_mut().filter(|task| task.lane == Lane::Health) {
            task.due_at = task.due_at.map(|at| at.max(catching_up));
        }
        for task in view.tasks.iter_mut().filter(|task| task.name == tasks::MESSAGES) {
            let left = self.told_at.and_then(|at| TELL_AGAIN.checked_sub(at.elapsed())).unwrap_or_default();
            task.due_at = SignedDuration::try_from(left).ok().and_then(|left| now.checked_add(left).ok());
        }
        for project in &mut view.projects {
            project.not_before = self.elsewhere.get(&project.name).copied();
        }
        let planned = plan(&view, &self.running, now);
        for job in &planned.start {
            self.begin(job.clone());
        }
        self.planned = Some(planned);
    }

    fn begin(&mut self, job: Job) {
        let (cx, events, name) = (Arc::clone(&self.cx), self.service.events.0.clone(), job_name(&job));
        tracing::debug!(job = name, "begins");
        self.running.insert(job.clone());
        if job == Job::Task(tasks::MESSAGES) {
            self.told_at = Some(Instant::now());
        }
        let again = job.clone();
        let carry_out = move || drop(events.send(Event::Ended(Box::new(work::carry_out(&cx, &job)))));
        if let Err(error) = thread::Builder::new().name(name.chars().take(15).collect()).spawn(carry_out) {
            tracing::error!(%error, job = name, "no thread for it; it is tried again");
            self.running.remove(&again);
            (self.view, self.looked_at) = (None, Some(Instant::now()));
        }
    }

    fn stop(&mut self) {
        if self.stop_before.is_none() {
            tracing::info!("the daemon stops");
            self.supervisor.stopping();
            self.cx.cancel.cancel();
            self.stop_before = Some(Instant::now() + STOPPING);
        }
    }

    /// A configuration that is wrong changes nothing.
    fn reload(&mut self) {
        self.supervisor.reloading();
        let state_dir = self.cx.config.host.state_dir.clone();
        match (self.service.reload)() {
            Ok(cx) if cx.config.host.state_dir != state_dir => {
                let message = format!("the new configuration names another `state_dir` than {}", state_dir.display());
                self.refuse(Failure {
                    message,
                    causes: Vec::new(),
                    hint: Some("restart the daemon for that".to_owned()),
                    exit_status: exit::CONFIG,
                });
            }
            Ok(cx) => {
                self.cx = Arc::new(cx);
                self.generation += 1;
                (self.view, self.looked_at) = (None, None);
                self.cx.config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                tracing::info!(projects = self.cx.config.projects.len(), "the configuration has been read anew");
                self.alert("config", None);
                self.serve_metrics();
            }
            Err(failure) => self.refuse(failure),
        }
        self.supervisor.ready();
    }

    fn refuse(&self, failure: Failure) {
        tracing::error!("the configuration stays as it was: {}", failure.one_line());
        self.alert("config", Some(failure));
    }

    fn serve_metrics(&mut self) {
        let address = self.cx.config.daemon.metrics;
        if self.metrics.as_ref().map(MetricsServer::asked_for) == address {
            return;
        }
        self.metrics = None;
        let Some(address) = address else { return };
        match MetricsServer::start(address, Arc::clone(&self.exposition)) {
            Ok(server) => {
                tracing::info!(address = %server.address(), "metrics are served");
                self.metrics = Some(server);
                self.alert("metrics", None);
            }
            Err(source) => {
                let hint = "correct `metrics` in [daemon], or end what uses the port; backups go on".to_owned();
                let message = format!("nobody can be served at {address}");
                let failure = Failure { message, causes: vec![source.to_string()], hint: Some(hint), exit_status: exit::UNHEALTHY };
                tracing::error!("{}", failure.one_line());
                self.alert("metrics", Some(failure));
            }
        }
    }

    fn audit_is_away(&mut self, error: &OperationError) {
        if !std::mem::replace(&mut self.audit_away, true) {
            tracing::error!("nothing can begin: {}", one_line(error));
        }
        self.view = None;
        let messages = Job::Task(tasks::MESSAGES);
        if !self.running.contains(&messages) && self.told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
            self.begin(messages);
        }
    }

    /// In a thread of its own: the audit database may be away.
    fn alert(&self, kind: &'static str, failure: Option<Failure>) {
        let cx = Arc::clone(&self.cx);
        let raise = move || cx.alert("", "", kind, failure.as_ref(), "");
        if let Err(error) = thread::Builder::new().name("alert".to_owned()).spawn(raise) {
            tracing::error!(%error, kind, "no thread for an alert");
        }
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let longest = self.supervisor.longest_wait().map_or(TICK, |wait| wait.min(TICK));
        let wake = self.planned.as_ref().and_then(|planned| planned.wake).filter(|wake| *wake > now);
        let until = wake.and_then(|wake| Duration::try_from(wake.duration_since(now)).ok());
        until.map_or(longest, |until| until.min(longest))
    }

    /// What it is at: for systemd, for `status` and for whoever reads the metrics.
    fn tell(&mut self, now: Timestamp) {
        let running: Vec<String> = self.running.iter().map(job_name).collect();
        let next = self.planned.as_ref().map(|planned| planned.next.clone()).unwrap_or_default();
        // Between the end of a piece of work and the next look nobody knows what comes next.
        if self.view.is_some() || self.audit_away || self.stop_before.is_some() || !running.is_empty() {
            self.supervisor.status(self.status(&running));
        }
        self.exposition.beat(now, running.len());
        let is_old = self.kept_at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN);
        if is_old || running != self.state.running || next != self.state.next {
            (self.state.beat_at, self.state.running, self.state.next) = (now, running, next);
            self.kept_at = Some(Instant::now());
            self.keep();
        }
    }

    fn status(&self, running: &[String]) -> String {
        if self.stop_before.is_some() {
            return format!("stopping: {}", running.join(", "));
        }
        if self.audit_away {
            return "the audit database does not answer: nothing can begin".to_owned();
        }
        let next = self.planned.as_ref().and_then(|planned| planned.next.first());
        let next = next.map_or_else(
            || "nothing is scheduled".to_owned(),
            |next| format!("next {} at {}", next.project, next.at.to_zoned_datetime(self.cx.zone()).strftime("%a %H:%M")),
        );
        if running.is_empty() { next } else { format!("{}; {next}", running.join(", ")) }
    }

    fn keep(&self) {
        if let Err(error) = self.state.write(&self.cx) {
            tracing::warn!("{}", one_line(&error));
        }
    }

    fn end(&mut self) {
        self.metrics = None;
        self.state.running = self.running.iter().map(job_name).collect();
        self.state.stopped_at = Some(self.cx.now());
        self.keep();
        tracing::info!("the daemon has stopped");
    }
}

fn log(done: &Done) {
    let job = job_name(&done.job);
    match &done.failure {
        Some(failure) if failure.exit_status == exit::INTERRUPTED => tracing::info!(job, "stopped"),
        Some(failure) => tracing::error!(job, status = failure.exit_status, "{}", failure.one_line()),
        None => tracing::debug!(job, "ended"),
    }
}
