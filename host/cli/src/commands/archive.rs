//! `archive`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format},
};
use clap::{Args, Subcommand};
use havun_operations::replication::{PushOptions, Pushed, push};

/// Bring the archives up to date
#[derive(Debug, Args)]
pub struct ArchiveArgs {
    #[command(subcommand)]
    pub command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    Push(PushArgs),
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

pub fn execute(app: &App, args: &ArchiveArgs) -> Result<u8, CliError> {
    match &args.command {
        ArchiveCommand::Push(args) => execute_push(app, args),
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
