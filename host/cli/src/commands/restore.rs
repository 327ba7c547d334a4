//! `restore`.

use crate::{
    app::App,
    error::CliError,
    ui::{Ui, format, table::Table},
};
use clap::Args;
use havun_model::Outcome;
use havun_operations::{
    restore::{RestoreOptions, RestoreOutcome, RestoreView, prepare},
    selection::SnapshotChoice,
};
use jiff::tz::TimeZone;
use std::path::PathBuf;

/// Bring back a project, or parts of it, in place or into a folder
///
/// The plan is shown first and nothing is written until you agree. Every byte is checked against its id on the way; what
/// cannot be restored is listed, and ends with 3. In place, files go to the project's root and databases to where they
/// came from. A database that holds something is refused, before anything is written, unless --replace is given; then
/// the restored one is swapped in once it has proved whole, and the old one is kept under another name until you drop it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  Everything into a folder:
    havun-backup restore --project blog --target /tmp/blog
  Some files, in place:
    havun-backup restore --project blog --path 'storage/app/*.pdf'
  The database of a day, in place:
    havun-backup restore --project blog --item database --date 2026-03-01 --replace
  The same beside it, to look into:
    havun-backup restore --project blog --item database --database-as database=blog_look")]
pub struct RestoreArgs {
    /// The project
    #[arg(long, short, value_name = "NAME")]
    pub project: String,
    /// The newest good snapshot; this is also the default
    #[arg(long, group = "which")]
    pub latest: bool,
    /// The newest good snapshot of a day
    #[arg(long, value_name = "YYYY-MM-DD", group = "which")]
    pub date: Option<String>,
    /// The snapshot whose id begins so
    #[arg(long, value_name = "ID", group = "which")]
    pub snapshot: Option<String>,
    /// An empty or new folder to restore into; in place otherwise
    #[arg(long, short, value_name = "DIR")]
    pub target: Option<PathBuf>,
    /// Only this item, as `list` names it; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub item: Vec<String>,
    /// Only files whose path beneath the project's root matches; can be repeated
    #[arg(long, value_name = "GLOB")]
    pub path: Vec<String>,
    /// Load a database item into this database; can be repeated
    #[arg(long, alias = "database", value_name = "ITEM=NAME|URL")]
    pub database_as: Vec<String>,
    /// Replace databases that hold something; what they hold is kept under another name
    #[arg(long)]
    pub replace: bool,
    /// Read from this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
    /// Show the plan and write nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

pub fn execute(app: &App, args: &RestoreArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let prepared = prepare(&cx, &options(args))?;
    app.screen.pause();
    app.ui.lines(plan_lines(prepared.view(), &cx.zone()));
    if args.dry_run || !args.yes {
        app.ui.lines(numbered("Afterwards:", &prepared.view().after));
    }
    if args.dry_run {
        app.ui.line("Nothing was written: this is a dry run.");
        app.ui.document(prepared.view())?;
        return Ok(0);
    }
    prepared.check()?;
    agree(app, args)?;
    app.screen.resume();
    let outcome = prepared.execute()?;
    app.screen.clear();
    print_outcome(app.ui, &outcome);
    app.ui.document(&outcome)?;
    Ok(outcome.exit_status())
}

fn options(args: &RestoreArgs) -> RestoreOptions {
    let choice = match (&args.date, &args.snapshot) {
        (Some(date), _) => SnapshotChoice::Date(date.clone()),
        (None, Some(id)) => SnapshotChoice::Id(id.clone()),
        (None, None) => SnapshotChoice::Latest,
    };
    RestoreOptions {
        project: args.project.clone(),
        choice,
        target: args.target.clone(),
        items: args.item.clone(),
        paths: args.path.clone(),
        store: args.store.clone(),
        databases: args.database_as.clone(),
        replace: args.replace,
    }
}

fn agree(app: &App, args: &RestoreArgs) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    match app.ui.ask("Restore this? Type yes:")?.as_deref() {
        Some("yes") => Ok(()),
        Some(_) => Err(CliError::Declined { expected: "yes" }),
        None => Err(CliError::Usage {
            message: "nobody is there to agree to the restore".to_owned(),
            hint: "look at the plan with --dry-run, then call it with --yes; nothing was written".to_owned(),
        }),
    }
}

fn plan_lines(view: &RestoreView, zone: &TimeZone) -> Vec<String> {
    let mut lines = vec![format!(
        "Restore of {}: snapshot {} of {} ({}), from store {}",
        view.project,
        view.snapshot.short(),
        format::time(view.taken_at, zone),
        view.outcome.word(),
        view.store
    )];
    let place = if view.in_place { "in place: " } else { "into " };
    let holds = match view.existing_entries {
        0 => String::new(),
        n => format!(" (holds {} now)", format::counted(n, "entry", "entries")),
    };
    lines.push(format!("  {place}{}{holds}", view.target));
    if !view.paths.is_empty() {
        lines.push(format!("  only {}", view.paths.join(", ")));
    }
    let mut table = Table::new(&["item", "kind", ">files", ">size", "goes to", ""]);
    for step in &view.steps {
        let verb = if step.kind == "database" { "holds" } else { "replaces" };
        let overwrites = if step.overwrites.is_empty() { String::new() } else { format!("{verb} {}", step.overwrites) };
        let incomplete = if step.complete { "" } else { " (the snapshot has only a part of it)" };
        let size = format::size(step.bytes);
        table.row([
            step.item.clone(),
            step.kind.clone(),
            format::count(step.files),
            size,
            step.destination.clone(),
            overwrites + incomplete,
        ]);
    }
    lines.extend(table.lines(2));
    lines.extend(view.notes.iter().map(|note| format!("  note: {note}")));
    lines.extend(super::erasure::due_lines(&view.erasures, zone));
    lines.extend(numbered("Before:", &view.before));
    lines
}

fn numbered(title: &str, steps: &[String]) -> Vec<String> {
    let numbered = steps.iter().enumerate().map(|(place, step)| format!("  {}. {step}", place + 1));
    if steps.is_empty() { Vec::new() } else { std::iter::once(title.to_owned()).chain(numbered).collect() }
}

pub fn print_outcome(ui: Ui, outcome: &RestoreOutcome) {
    let say = |line: String| if outcome.outcome == Outcome::Ok { ui.line(line) } else { ui.trouble(line) };
    say(format!(
        "{:<8} {}  {}, {} restored to {} in {}",
        outcome.outcome.word(),
        outcome.plan.project,
        format::counted(outcome.files, "entry", "entries"),
        format::size(outcome.bytes),
        outcome.plan.target,
        format::duration(outcome.started_at, outcome.ended_at)
    ));
    for item in &outcome.items {
        ui.line(format!("  {} ({}) {}: {}", item.item, item.kind, item.outcome.word(), item.destination));
        item.notes.iter().for_each(|note| ui.line(format!("    {note}")));
    }
    outcome.failed.iter().for_each(|failed| ui.trouble(format!("  not restored: {}: {}", failed.path, failed.why)));
    for step in &outcome.steps {
        let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
        ui.line(format!("  {} {}{detail}", step.outcome, step.title));
    }
    outcome.erasures.lines().into_iter().for_each(|line| ui.line(format!("  {line}")));
    outcome.erasures.outstanding.iter().for_each(|what| ui.trouble(format!("  still to be erased: {what}")));
    outcome.erasures.failures.iter().for_each(|why| ui.trouble(format!("  not erased: {why}")));
    outcome.checks.iter().for_each(|check| ui.line(format!("  check {} {}: {}", check.outcome, check.name, check.detail)));
    outcome.notes.iter().for_each(|note| ui.line(format!("  note: {note}")));
    if outcome.interrupted {
        ui.trouble("Interrupted: the restore is not complete.");
    }
    ui.lines(numbered("Now:", &outcome.plan.after));
}
