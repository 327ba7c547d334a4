//! `store`.

use crate::{
    app::App,
    error::CliError,
    ui::{Ui, format, table::Table},
};
use clap::{Args, Subcommand};
use havun_operations::stores::{CHECK_VAULT, Enforcement, StoreCheckOptions, StoreCheckReport, check, list};

/// Show the stores, or find out what one really does
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    List(StoreListArgs),
    Check(StoreCheckArgs),
}

/// List the stores of the configuration
#[derive(Debug, Args)]
pub struct StoreListArgs {}

/// Try everything that a store has to do, and everything that it should not let happen
///
/// Works in a folder of its own beside the projects' vaults, and cleans up: objects are stored, read, deleted, overwritten,
/// cut and renamed, and locks shortened, with the store's own credentials. Ends with 5 when the store breaks a promise, with
/// 10 when it cannot be reached. A store that does not let anything be deleted keeps what was tried: a few small objects.
#[derive(Debug, Args)]
pub struct StoreCheckArgs {
    /// The store
    pub name: String,
    /// Mebibytes to measure with; 0 measures nothing
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub measure: u32,
}

/// Objects that are measured with.
const OBJECTS: u32 = 4;

pub fn execute(app: &App, args: &StoreArgs) -> Result<u8, CliError> {
    match &args.command {
        StoreCommand::List(_) => execute_list(app),
        StoreCommand::Check(args) => execute_check(app, args),
    }
}

fn execute_list(app: &App) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = list(&cx);
    let mut table = Table::new(&["store", "tier", "kind", "place", "projects"]);
    for store in &report.stores {
        let projects: Vec<&str> = store.projects.iter().map(|name| name.as_str()).collect();
        table.row([store.store.to_string(), store.tier.clone(), store.kind.clone(), store.place.clone(), projects.join(",")]);
    }
    app.ui.lines(table.lines(0));
    app.ui.document(&report)?;
    Ok(0)
}

fn execute_check(app: &App, args: &StoreCheckArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let bytes = (args.measure as usize) << 20;
    let options = StoreCheckOptions {
        measure_objects: if bytes == 0 { 0 } else { OBJECTS },
        measure_bytes: bytes / OBJECTS as usize,
        ..StoreCheckOptions::default()
    };
    let report = check(&cx, &args.name, options)?;
    app.screen.clear();
    print(app.ui, &report);
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn print(ui: Ui, report: &StoreCheckReport) {
    let check = &report.check;
    let failed: Vec<_> = check.conformance.iter().filter_map(|finding| Some((&finding.check, finding.problem.as_ref()?))).collect();
    let state = if report.passed { "ok" } else { "FAILED" };
    let head =
        format!("{state:<8} {}: {} of {} checks passed", check.describe, check.conformance.len() - failed.len(), check.conformance.len());
    if report.passed {
        ui.line(head)
    } else {
        ui.trouble(head)
    }
    failed.iter().for_each(|(check, problem)| ui.trouble(format!("  {check}: {problem}")));
    check.problems.iter().for_each(|problem| ui.trouble(format!("  {problem}")));
    ui.line(format!("Objects are protected {}.", protected(check.level.as_str())));
    let mut table = Table::new(&["attempt", "", "what the store said"]);
    for attempt in &check.enforcement {
        let outcome = match attempt.outcome {
            Enforcement::Enforced => "refused by the store",
            Enforcement::Convention => "possible: only convention protects",
            Enforcement::NotTried => "not tried",
        };
        table.row([attempt.attempt.as_str().to_owned(), outcome.to_owned(), attempt.said.clone()]);
    }
    ui.lines(table.lines(2));
    if !check.notes.is_empty() {
        ui.line("What it does not promise:");
        ui.lines(check.notes.iter().map(|note| format!("  {note}")));
    }
    if let Some(measured) = &check.measured {
        ui.line(format!(
            "Measured: up {}/s, down {}/s, {:.1} ms for a question",
            format::size(measured.up_bytes_per_sec),
            format::size(measured.down_bytes_per_sec),
            measured.latency_millis
        ));
    }
    if !check.leftovers.is_empty() {
        ui.line(format!(
            "{} in {CHECK_VAULT} could not be removed and stay.",
            format::counted(check.leftovers.len() as u64, "object", "objects")
        ));
    }
}

fn protected(level: &str) -> String {
    match level {
        "none" => "by nothing".to_owned(),
        other => other.to_owned(),
    }
}
