//! `hold`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format, table::Table},
};
use clap::{Args, Subcommand};
use havun_model::holds::{Hold, HoldScope};
use havun_operations::holds::{self, HoldReport, HoldWhat, ProjectHolds};
use jiff::tz::TimeZone;

/// Keep snapshots whatever their term says, until a person ends the hold
#[derive(Debug, Args)]
pub struct HoldArgs {
    #[command(subcommand)]
    pub command: HoldCommand,
}

#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    Add(AddArgs),
    List(ListArgs),
    Remove(RemoveArgs),
}

/// Place a hold on snapshots of a project, in every store of it
///
/// A store that is away gets it with the next copy; the command ends with 3 then.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The project
    #[arg(long, short, value_name = "NAME")]
    pub project: String,
    /// All snapshots, those still to be made included
    #[arg(long, group = "what", required_unless_present_any = ["epoch", "snapshot", "from"])]
    pub all: bool,
    /// Those of a year
    #[arg(long, value_name = "YYYY", group = "what")]
    pub epoch: Option<String>,
    /// The one whose id begins so; can be repeated
    #[arg(long, value_name = "ID", group = "what")]
    pub snapshot: Vec<String>,
    /// Those from this day on
    #[arg(long, value_name = "YYYY-MM-DD", group = "what", requires = "until")]
    pub from: Option<String>,
    /// Those until this day, which is included
    #[arg(long, value_name = "YYYY-MM-DD", requires = "from")]
    pub until: Option<String>,
    /// Why; for whoever finds the hold in some years
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Show the holds that stand, and with -v those that were ended
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
}

/// End a hold: from then on the terms count again
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The hold whose id begins so
    #[arg(value_name = "ID")]
    pub id: String,
    /// The project that it is of
    #[arg(long, short, value_name = "NAME")]
    pub project: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

pub fn execute(app: &App, args: &HoldArgs) -> Result<u8, CliError> {
    match &args.command {
        HoldCommand::Add(args) => add(app, args),
        HoldCommand::List(args) => list(app, args),
        HoldCommand::Remove(args) => remove(app, args),
    }
}

fn add(app: &App, args: &AddArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let what = match (&args.epoch, &args.from, &args.until) {
        (Some(epoch), ..) => HoldWhat::Epoch(epoch.clone()),
        (None, Some(from), Some(until)) => HoldWhat::Days { from: from.clone(), until: until.clone() },
        _ if args.all => HoldWhat::All,
        _ => HoldWhat::Snapshots(args.snapshot.clone()),
    };
    let report = holds::add(&cx, &args.project, &what, reason(&args.reason)?)?;
    app.screen.clear();
    let now = format::counted(report.snapshots, "snapshot", "snapshots");
    app.ui.line(format!("Hold {} on {} of {}: {now} now", report.hold.id, scope(&report.hold, &cx.zone()), report.project));
    end(app, &report)
}

fn remove(app: &App, args: &RemoveArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = holds::remove(&cx, args.project.as_deref(), &args.id, reason(&args.reason)?)?;
    app.screen.clear();
    app.ui.line(format!("Hold {} on {} of {} is ended", report.hold.id, scope(&report.hold, &cx.zone()), report.project));
    end(app, &report)
}

fn end(app: &App, report: &HoldReport) -> Result<u8, CliError> {
    report.notes.iter().for_each(|note| app.ui.line(format!("note: {note}")));
    for copied in &report.copied {
        if let Some(failure) = &copied.state.failure {
            app.ui.trouble(failure_text(failure, &format!("{} does not have it yet: ", copied.state.store)));
        }
    }
    app.ui.document(report)?;
    Ok(report.exit_status())
}

/// Who finds a hold in some years has nothing else to go by.
fn reason(text: &str) -> Result<&str, CliError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(CliError::Usage { message: "the reason is empty".to_owned(), hint: "say who asks for it, and why".to_owned() });
    }
    Ok(text)
}

fn list(app: &App, args: &ListArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let list = holds::list(&cx, &args.project)?;
    app.screen.clear();
    for project in &list.projects {
        print_project(app, project, &cx.zone());
    }
    if list.projects.iter().all(|project| project.active.is_empty() && project.damaged.is_empty()) {
        app.ui.line("No hold stands.");
    }
    app.ui.document(&list)?;
    Ok(list.exit_status())
}

fn print_project(app: &App, project: &ProjectHolds, zone: &TimeZone) {
    let mut table = Table::new(&["hold", "on", "since", "by", "in", "why"]);
    for line in &project.active {
        let stores = line.stores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        table.row(row(&line.hold, zone, stores, line.hold.reason.clone()));
    }
    let released = project.released.iter().filter(|_| app.ui.verbose > 0);
    for (hold, release) in released {
        let why = format!("{}; ended {} by {}: {}", hold.reason, format::date(release.at, zone), release.by, release.reason);
        table.row(row(hold, zone, "-".to_owned(), why));
    }
    let lines = table.lines(2);
    if lines.len() > 1 {
        app.ui.line(format!("{}:", project.project));
        app.ui.lines(lines);
    }
    for damaged in &project.damaged {
        app.ui.trouble(format!("{}: a hold cannot be read, so everything stays: {damaged}", project.project));
    }
    for (store, failure) in &project.failures {
        app.ui.trouble(failure_text(failure, &format!("{} in {store} could not be asked: ", project.project)));
    }
}

fn row(hold: &Hold, zone: &TimeZone, stores: String, why: String) -> [String; 6] {
    [hold.id.clone(), scope(hold, zone), format::date(hold.created, zone), hold.by.clone(), stores, why]
}

fn scope(hold: &Hold, zone: &TimeZone) -> String {
    match &hold.scope {
        HoldScope::All => "everything".to_owned(),
        HoldScope::Epoch { epoch } => format!("the year {epoch}"),
        HoldScope::Snapshots { ids } => ids.iter().map(|id| id.short()).collect::<Vec<_>>().join(", "),
        HoldScope::Period { from, until } => format!("{} to {}", format::date(*from, zone), format::date(*until, zone)),
    }
}
