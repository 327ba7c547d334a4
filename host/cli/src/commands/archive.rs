//! `archive`.

use crate::{
    app::App,
    error::CliError,
    ui::{Ui, failure_text, format, table::Table},
};
use clap::{Args, Subcommand};
use havun_operations::expire::{ExpireOptions, PreparedExpiry, StoreExpiry, prepare};
use havun_operations::replication::{PushOptions, Pushed, push};
use havun_operations::{losses, project};
use jiff::tz::TimeZone;

/// Bring the archives up to date, and delete from them what is past its term
#[derive(Debug, Args)]
pub struct ArchiveArgs {
    #[command(subcommand)]
    pub command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    Push(PushArgs),
    Expire(ExpireArgs),
    AcceptLoss(AcceptLossArgs),
}

/// Copy to the other stores now what they lack
///
/// Every run does so by itself, and tries a store that was away again later; this does not wait for the next try, and
/// makes no new backup. Ends with 3 when a store still lacks something, or with what all of them failed with.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
    /// List each store, and send again what was deleted from it
    #[arg(long)]
    pub full: bool,
}

/// Delete from archives what is past its term: after a reason and a typed confirmation, never by itself
///
/// Lists what is past its term first. Held snapshots stay, and so does everything while the clock is in doubt or the term
/// is not set. The reason and every snapshot go into the audit database before anything is deleted.
#[derive(Debug, Args)]
pub struct ExpireArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
    /// Why; asked for otherwise
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The confirmation, for scripts: exactly the text that would have to be typed
    #[arg(long, value_name = "TEXT", requires = "reason")]
    pub confirm: Option<String>,
    /// Delete although the times of the snapshots say that the clock may be wrong: you have looked at it
    #[arg(long)]
    pub clock_is_right: bool,
    /// Show what is past its term, and delete nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

/// Say that what a store has lost is known, so that `health` no longer fails for it
///
/// For objects that are gone from a store and that no other store has: look for them with `repair` first. They stay in the
/// audit database with the reason, and `verify` goes on naming the snapshots that are hit. Ends with 1 when nothing is
/// lost there.
#[derive(Debug, Args)]
pub struct AcceptLossArgs {
    /// The project
    #[arg(long, short, value_name = "NAME")]
    pub project: String,
    /// The store
    #[arg(long, short, value_name = "NAME")]
    pub store: String,
    /// Why nothing more can be done
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

pub fn execute(app: &App, args: &ArchiveArgs) -> Result<u8, CliError> {
    match &args.command {
        ArchiveCommand::Push(args) => execute_push(app, args),
        ArchiveCommand::Expire(args) => execute_expire(app, args),
        ArchiveCommand::AcceptLoss(args) => execute_accept_loss(app, args),
    }
}

fn execute_push(app: &App, args: &PushArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = push(&cx, &PushOptions { projects: args.project.clone(), store: args.store.clone(), full: args.full })?;
    app.screen.clear();
    for pushed in &report.pushed {
        print(app, pushed);
    }
    if report.pushed.is_empty() {
        app.ui.line("No project has another store that it is copied to.");
    }
    if report.interrupted {
        app.ui.trouble("Interrupted: what was copied stays, and the next copy goes on from there.");
    }
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn execute_accept_loss(app: &App, args: &AcceptLossArgs) -> Result<u8, CliError> {
    if args.reason.trim().is_empty() {
        return Err(CliError::Usage { message: "the reason is empty".to_owned(), hint: "say what was done to find it again".to_owned() });
    }
    let cx = app.context()?;
    let project = project::find(&cx, &args.project)?;
    let stores = project::store_order(&cx, project, Some(&args.store))?;
    let store = stores.first().ok_or_else(|| CliError::Usage {
        message: format!("{} does not use the store {}", args.project, args.store),
        hint: "`havun-backup config` lists the stores of each project".to_owned(),
    })?;
    let accepted = losses::accept(&cx, project, store, args.reason.trim())?;
    app.screen.clear();
    let place = format!("{} in {}", accepted.project, accepted.store);
    if accepted.objects.is_empty() {
        app.ui.line(format!("Nothing is lost from {place}."));
    } else {
        app.ui.line(format!("{place}: {} accepted as lost", format::counted(accepted.objects.len() as u64, "object", "objects")));
        accepted.objects.keys().for_each(|object| app.ui.line(format!("  {object}")));
    }
    app.ui.document(&accepted)?;
    Ok(accepted.exit_status())
}

/// What is said of one replica.
pub fn print(app: &App, pushed: &Pushed) {
    let place = format!("{} in {}", pushed.project, pushed.state.store);
    let copied = format!(
        "{}, {} copied in {}",
        format::counted(pushed.state.objects_copied, "object", "objects"),
        format::size(pushed.state.bytes_copied),
        format::duration(pushed.started_at, pushed.ended_at)
    );
    match &pushed.state.failure {
        None => app.ui.line(format!("whole    {place}: {copied}")),
        Some(failure) => {
            let lacks = format::counted(pushed.state.pending_objects, "object", "objects");
            app.ui.trouble(failure_text(failure, &format!("behind   {place}: ")));
            app.ui.trouble(format!("  {copied}; it lacks {lacks}, {}", format::size(pushed.state.pending_bytes)));
        }
    }
    if app.ui.verbose > 0 {
        app.ui.lines(pushed.state.notes.iter().map(|note| format!("  note: {note}")));
    }
}

fn execute_expire(app: &App, args: &ExpireArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let options = ExpireOptions { projects: args.project.clone(), store: args.store.clone(), clock_is_right: args.clock_is_right };
    let prepared = prepare(&cx, &options)?;
    app.screen.pause();
    let zone = cx.zone();
    prepared.outcome().stores.iter().for_each(|store| print_expiry(app.ui, store, true, &zone));
    let nothing = prepared.outcome().stores.iter().all(|store| store.remove.is_empty());
    let asked = prepared.outcome().stores.iter().all(|store| store.skipped.is_none() && store.failure.is_none());
    if args.dry_run || nothing {
        let why = if nothing && asked {
            "Nothing is past its term."
        } else if nothing {
            "Nothing was deleted."
        } else {
            "Nothing was deleted: this is a dry run."
        };
        app.ui.line(why);
        app.ui.document(prepared.outcome())?;
        return Ok(prepared.outcome().exit_status());
    }
    let (reason, typed) = confirmed(app, args, &prepared)?;
    app.screen.resume();
    let outcome = prepared.execute(&reason, &typed)?;
    app.screen.clear();
    outcome.stores.iter().for_each(|store| print_expiry(app.ui, store, false, &zone));
    if outcome.interrupted {
        app.ui.trouble("Interrupted: not every archive was gone through.");
    }
    app.ui.document(&outcome)?;
    Ok(outcome.exit_status())
}

/// The reason and what was typed.
fn confirmed(app: &App, args: &ExpireArgs, prepared: &PreparedExpiry<'_>) -> Result<(String, String), CliError> {
    let Some(expected) = &prepared.outcome().confirmation else {
        return Err(CliError::Usage {
            message: "several projects have snapshots that are past their term".to_owned(),
            hint: "name one with --project; nothing was deleted".to_owned(),
        });
    };
    let nobody = || CliError::Usage {
        message: "nobody is there to confirm what would be deleted".to_owned(),
        hint: format!("call it with --reason TEXT --confirm '{expected}'; nothing was deleted"),
    };
    let reason = match &args.reason {
        Some(reason) => reason.clone(),
        None => app.ui.ask("Why?")?.ok_or_else(nobody)?,
    };
    if reason.trim().is_empty() {
        return Err(CliError::Usage { message: "the reason is empty".to_owned(), hint: "say who asks for it, and why".to_owned() });
    }
    let typed = match &args.confirm {
        Some(text) => text.clone(),
        None => app.ui.ask(&format!("This cannot be undone. Type: {expected}\n>"))?.ok_or_else(nobody)?,
    };
    Ok((reason.trim().to_owned(), typed))
}

/// What goes or went from one archive.
pub fn print_expiry(ui: Ui, store: &StoreExpiry, dry_run: bool, zone: &TimeZone) {
    let place = format!("{} in {}", store.project, store.store);
    if let Some(failure) = &store.failure {
        return ui.trouble(failure_text(failure, &format!("failed   {place}: ")));
    }
    if let Some(why) = &store.skipped {
        return ui.line(format!("skipped  {place}: {why}"));
    }
    let verb = if dry_run { "past its term" } else { "deleted" };
    let held = if store.held > 0 { format!(", {} held", format::count(store.held)) } else { String::new() };
    let all = format::counted(store.snapshots, "snapshot", "snapshots");
    ui.line(format!("{place}: {} of {all} {verb}{held}; {}", store.remove.len(), format::size(store.bytes)));
    for epoch in &store.epochs {
        ui.line(format!("  the whole year {}: {}", epoch.epoch, format::size(epoch.bytes)));
    }
    let mut table = Table::new(&["snapshot", "taken", "why"]);
    store.remove.iter().for_each(|gone| table.row([gone.id.short(), format::time(gone.taken_at, zone), gone.reason.clone()]));
    ui.lines(table.lines(2).into_iter().skip(usize::from(store.remove.is_empty())));
    store.notes.iter().for_each(|note| ui.line(format!("  note: {note}")));
}
