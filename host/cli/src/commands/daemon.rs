//! `daemon`.

use crate::{app::App, error::CliError, interrupt, ui::failure_text};
use clap::Args;
use havun_model::{Cancel, ProjectName};
use havun_operations::{
    config::Config,
    context::{Context, Observer},
    daemon::{self, OnceReport},
    drill::{DrillOutcome, ProjectDrill},
    report::Failure,
    run::{ProjectRun, RunOutcome},
};
use std::{path::Path, sync::Arc};

/// Do everything by itself at its time: backups, copies, checks, drills, messages
///
/// Each project is backed up at the moments of its `schedule`; what was missed is caught up once, what failed and may pass
/// is tried again. SIGHUP reads the configuration anew (a wrong one is refused, and the old one kept); SIGTERM stops in
/// order, in the middle of a run too, and the next start catches up. One daemon works with a state folder; a second one
/// ends with 11. `init --systemd` writes units for it.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Do what is due now, and end: for cron and timers, every five minutes or so
    #[arg(long)]
    pub once: bool,
}

pub fn execute(app: &App, args: &DaemonArgs) -> Result<u8, CliError> {
    if args.once { once(app) } else { serve(app) }
}

fn once(app: &App) -> Result<u8, CliError> {
    let mut cx = app.context_of(load(app)?);
    app.warn(&cx.config);
    "schedule".clone_into(&mut cx.started_by);
    let report = daemon::once(&cx)?;
    app.screen.clear();
    report.jobs.iter().for_each(|job| {
        if let Some(failure) = &job.failure {
            app.ui.trouble(failure_text(failure, &format!("failed   {}: ", job.name)));
        }
    });
    tell(app, &report);
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn tell(app: &App, report: &OnceReport) {
    if report.interrupted {
        app.ui.trouble("Interrupted: the next call catches up.");
    } else if report.jobs.is_empty() {
        app.ui.line("Nothing is due.");
    }
}

fn serve(app: &App) -> Result<u8, CliError> {
    let (path, config) = (app.config_path()?, load(app)?);
    app.warn(&config);
    let cancel = app.cancel.clone();
    let (signals, service) = {
        let cancel = cancel.clone();
        daemon::channel(Box::new(move || again(&path, &cancel)))
    };
    interrupt::serve(&signals);
    daemon::serve(context(config, &cancel), service)?;
    Ok(0)
}

/// The configuration. That it is wrong is told through whatever it still names: nobody watches a daemon that does not begin.
fn load(app: &App) -> Result<Config, CliError> {
    let path = app.config_path()?;
    Config::load(&path).map_err(|error| {
        let error = CliError::from(error);
        if let Some(salvaged) = Config::salvage(&path) {
            daemon::could_not_start(&context(salvaged, &app.cancel), &error.to_failure());
        }
        error
    })
}

fn again(path: &Path, cancel: &Cancel) -> Result<Context, Failure> {
    let config = Config::load(path).map_err(|error| CliError::from(error).to_failure())?;
    Ok(context(config, cancel))
}

fn context(config: Config, cancel: &Cancel) -> Context {
    let mut cx = Context::new(config, cancel.clone(), Arc::new(Journal));
    "schedule".clone_into(&mut cx.started_by);
    cx
}

/// What is done, as lines of the log.
struct Journal;

impl Observer for Journal {
    fn project_begins(&self, project: &ProjectName, _place: usize, _of: usize) {
        tracing::info!(%project, "begins");
    }

    fn project_ends(&self, run: &ProjectRun) {
        let (project, outcome) = (&run.project, run.outcome.word());
        let took = crate::ui::format::duration(run.started_at, run.ended_at);
        let snapshot = run.snapshot.map(|id| id.short().to_string()).unwrap_or_default();
        match (run.outcome, &run.failure) {
            (RunOutcome::Ok, _) => tracing::info!(%project, outcome, snapshot, took, "backed up"),
            (_, Some(failure)) => tracing::error!(%project, outcome, snapshot, took, "{}", failure.one_line()),
            (_, None) => tracing::warn!(%project, outcome, snapshot, took, "{}", run.problems.join("; ")),
        }
        run.warnings.iter().for_each(|warning| tracing::info!(%project, "{warning}"));
    }

    fn drill_ends(&self, drill: &ProjectDrill) {
        let (project, outcome) = (&drill.project, drill.outcome.word());
        match drill.outcome {
            DrillOutcome::NotDue => {}
            DrillOutcome::Passed => tracing::info!(%project, outcome, "drilled"),
            _ => tracing::error!(%project, outcome, "drilled; the certificate says why"),
        }
    }

    fn strategy_says(&self, project: &str, level: &str, message: &str) {
        match level {
            "error" => tracing::error!(project, "{message}"),
            "warn" => tracing::warn!(project, "{message}"),
            "info" => tracing::info!(project, "{message}"),
            _ => tracing::debug!(project, "{message}"),
        }
    }
}

/// Whether the log should say what is done: a daemon has no other voice.
pub fn is_talkative(args: &DaemonArgs) -> bool {
    !args.once
}
