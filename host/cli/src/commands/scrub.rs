//! `scrub` and `repair`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format},
};
use clap::Args;
use havun_operations::{
    notify::after_command,
    scrub::{RepairOutcome, RepairRequest, RepairRow, RepairRun, RepairedStore, ScrubRequest, ScrubbedStore, repair_stores, scrub_stores},
};

/// Read stored bytes again, a slice at a time, and say what is damaged
///
/// Call it daily from cron: each call reads what is due, so that everything is read once in the time that `scrub` of the
/// store says (90 days). Ends with 5 while damage is known. Nothing is changed; `repair` makes whole what it finds.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
    /// Read everything now
    #[arg(long, conflicts_with = "slice")]
    pub all: bool,
    /// Read what is due; this is also the default
    #[arg(long)]
    pub slice: bool,
}

/// Make whole from another store what a scrub has found damaged
///
/// The damaged bytes are kept aside in the store. What no store has whole is stored anew by the next run where the project
/// still has it. Each object leaves a row in the audit database. Ends with 5 when something stays damaged.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
    /// Read everything first, to find all damage there is
    #[arg(long)]
    pub check: bool,
    /// Show what is damaged, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

pub fn execute(app: &App, args: &ScrubArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let request = ScrubRequest { projects: args.project.clone(), store: args.store.clone(), all: args.all };
    let ended = scrub_stores(&cx, &request);
    after_command(&cx);
    let outcome = ended?;
    app.screen.clear();
    outcome.stores.iter().for_each(|store| print_scrub(app, store));
    if outcome.interrupted {
        app.ui.trouble("Interrupted: what was read so far counts, and the next scrub goes on from there.");
    }
    app.ui.document(&outcome)?;
    Ok(outcome.exit_status())
}

fn print_scrub(app: &App, store: &ScrubbedStore) {
    let place = format!("{} in {}", store.project, store.store);
    if let Some(failure) = &store.failure {
        return app.ui.trouble(failure_text(failure, &format!("failed   {place}: ")));
    }
    let Some(report) = &store.report else { return app.ui.line(format!("empty    {place}")) };
    let read = format!(
        "{}, {} read in {}",
        format::counted(report.objects, "object", "objects"),
        format::size(report.bytes),
        format::duration(store.started_at, store.ended_at)
    );
    let status = &report.status;
    let round = format!("round {}: {} of {}", status.cycle, format::size(status.bytes_read), format::size(status.bytes));
    if report.damage.is_empty() {
        app.ui.line(format!("whole    {place}: {read}; {round}"));
    } else {
        app.ui.trouble(format!("damaged  {place}: {read}; {round}"));
    }
    for damage in &report.damage {
        let hits = match damage.snapshots.len() as u64 {
            0 => String::new(),
            n => format!(" (hits {})", format::counted(n, "snapshot", "snapshots")),
        };
        app.ui.trouble(format!("  {}: {}{hits}", damage.object, damage.what));
    }
    if app.ui.verbose > 0 {
        store.notes.iter().for_each(|note| app.ui.line(format!("  note: {note}")));
    }
}

pub fn execute_repair(app: &App, args: &RepairArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let (projects, store) = (args.project.clone(), args.store.clone());
    let run = repair_stores(&cx, &RepairRequest { projects, store, check: args.check, dry_run: args.dry_run })?;
    app.screen.clear();
    run.stores.iter().for_each(|store| print_repair(app, &run, store));
    if run.interrupted {
        app.ui.trouble("Interrupted: what was repaired stays so.");
    }
    if run.dry_run {
        app.ui.line("Nothing was changed: this is a dry run.");
    }
    app.ui.document(&run)?;
    Ok(run.exit_status())
}

fn print_repair(app: &App, run: &RepairRun, store: &RepairedStore) {
    let place = format!("{} in {}", store.project, store.store);
    if let Some(failure) = &store.failure {
        return app.ui.trouble(failure_text(failure, &format!("failed   {place}: ")));
    }
    let known = format::counted(store.damage.len() as u64, "damaged object", "damaged objects");
    let Some(report) = &store.report else {
        app.ui.line(format!("{place}: {known}"));
        let lines = store.damage.iter().filter(|_| run.dry_run);
        return lines.for_each(|damage| app.ui.trouble(format!("  {}: {}", damage.object, damage.what)));
    };
    let repaired = format::counted(report.repaired, "object", "objects");
    if report.left > 0 {
        let left = format::count(report.left);
        app.ui.trouble(format!("damaged  {place}: {repaired} made whole, {left} could not be"));
    } else {
        app.ui.line(format!("whole    {place}: {repaired} made whole"));
    }
    for row in &report.rows {
        let text = format!("  {}: {}", row.object, row_text(row));
        if matches!(row.outcome, RepairOutcome::Lost { .. } | RepairOutcome::Noted { .. }) {
            app.ui.trouble(text);
        } else {
            app.ui.line(text);
        }
    }
}

fn row_text(row: &RepairRow) -> String {
    let done = match &row.outcome {
        RepairOutcome::Repaired { from } => format!("made whole from {from}"),
        RepairOutcome::Whole => "whole again already".to_owned(),
        RepairOutcome::Unneeded => "nothing needs it".to_owned(),
        RepairOutcome::Noted { why } => format!("the next run stores anew what it held ({why})"),
        RepairOutcome::Lost { why } => format!("stays damaged: {why}"),
    };
    let kept = row.kept.as_ref().map_or_else(String::new, |kept| format!("; what was there is kept as {kept}"));
    format!("{}: {done}{kept}", row.what)
}
