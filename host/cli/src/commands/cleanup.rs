//! `cleanup`.

use crate::{
    app::App,
    commands::archive,
    error::CliError,
    ui::{Ui, failure_text, format, table::Table},
};
use clap::Args;
use havun_operations::cleanup::{CleanupOptions, CleanupOutcome, StoreCleanup, prepare};
use jiff::tz::TimeZone;

/// Thin the hot stores by `retention.hot`; archives only where `archive_auto_delete` is true
///
/// The newest good snapshots always stay. Space is freed in two steps: what nothing needs any more is marked, and deleted
/// by a later clean-up when every run that could still need it has ended.
#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// Every project; this is also the default
    #[arg(long, conflicts_with = "project")]
    pub all: bool,
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Delete although the times of the snapshots say that the clock may be wrong: you have looked at it
    #[arg(long)]
    pub clock_is_right: bool,
    /// Show what would go and why, and delete nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

pub fn execute(app: &App, args: &CleanupArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let prepared = prepare(&cx, &CleanupOptions { projects: args.project.clone(), clock_is_right: args.clock_is_right })?;
    let outcome = if args.dry_run { prepared.outcome().clone() } else { prepared.execute()? };
    app.screen.clear();
    print(app.ui, &outcome, &cx.zone());
    app.ui.document(&outcome)?;
    Ok(outcome.exit_status())
}

fn print(ui: Ui, outcome: &CleanupOutcome, zone: &TimeZone) {
    for store in &outcome.stores {
        print_store(ui, store, outcome.dry_run, zone);
    }
    outcome.archives.iter().for_each(|store| archive::print_expiry(ui, store, outcome.dry_run, zone));
    if outcome.stores.is_empty() && outcome.archives.is_empty() {
        ui.line("No project has a hot store: there is nothing to clean up.");
    }
    if outcome.interrupted {
        ui.trouble("Interrupted: not every store was cleaned up.");
    } else if outcome.dry_run {
        ui.line("Nothing was deleted: this is a dry run.");
    }
}

fn print_store(ui: Ui, store: &StoreCleanup, dry_run: bool, zone: &TimeZone) {
    let place = format!("{} in {}", store.project, store.store);
    if let Some(failure) = &store.failure {
        return ui.trouble(failure_text(failure, &format!("failed   {place}: ")));
    }
    if let Some(why) = &store.skipped {
        return ui.line(format!("skipped  {place}: {why}"));
    }
    let going = store.snapshots.iter().filter(|snapshot| !snapshot.keep).count();
    let would = if dry_run { "would go" } else { "went" };
    ui.line(format!(
        "{place}: {} of {} {would}; {} freed now, {} marked for later",
        going,
        format::counted(store.snapshots.len() as u64, "snapshot", "snapshots"),
        format::size(store.bytes_freed),
        format::size(store.bytes_marked)
    ));
    let mut table = Table::new(&["snapshot", "taken", "", "why"]);
    for snapshot in store.snapshots.iter().filter(|snapshot| dry_run || ui.verbose > 0 || !snapshot.keep) {
        let verdict = if snapshot.keep { "stays" } else { "goes" };
        table.row([snapshot.id.short(), format::time(snapshot.taken_at, zone), verdict.to_owned(), snapshot.reason.clone()]);
    }
    ui.lines(table.lines(2).into_iter().skip(usize::from(store.snapshots.is_empty() || (going == 0 && !dry_run && ui.verbose == 0))));
}
