//! `export`.

use crate::{app::App, error::CliError, ui::format};
use clap::Args;
use havun_operations::{
    export::{ExportOptions, export},
    selection::SnapshotChoice,
};
use std::path::PathBuf;

/// Write a snapshot to one standard archive, for a reader without this program
///
/// The archive holds the project's files, its databases as plain SQL, and what the snapshot says of itself; it is not
/// encrypted. `tar -I zstd -xf FILE` unpacks it. It is complete when it has its name.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The project
    #[arg(long, short, value_name = "NAME")]
    pub project: String,
    /// The snapshot whose id begins so; the newest good one otherwise
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<String>,
    /// The newest good snapshot of a day
    #[arg(long, value_name = "YYYY-MM-DD", conflicts_with = "snapshot")]
    pub date: Option<String>,
    /// The new archive
    #[arg(long, short, value_name = "FILE.tar.zst")]
    pub output: PathBuf,
    /// Read from this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
}

pub fn execute(app: &App, args: &ExportArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let choice = match (&args.date, &args.snapshot) {
        (Some(date), _) => SnapshotChoice::Date(date.clone()),
        (None, Some(id)) => SnapshotChoice::Id(id.clone()),
        (None, None) => SnapshotChoice::Latest,
    };
    let options = ExportOptions { project: args.project.clone(), choice, store: args.store.clone(), output: args.output.clone() };
    let report = export(&cx, &options)?;
    app.screen.clear();
    app.ui.line(format!(
        "{} of {} ({}) is in {}: {}, {}, {} on disk; not encrypted",
        report.snapshot.short(),
        report.project,
        format::time(report.taken_at, &cx.zone()),
        report.output.display(),
        format::counted(report.entries, "entry", "entries"),
        format::size(report.bytes),
        format::size(report.archive_bytes)
    ));
    report.failed.iter().for_each(|failed| app.ui.trouble(format!("  not in it: {}: {}", failed.path, failed.why)));
    report.notes.iter().for_each(|note| app.ui.line(format!("  note: {note}")));
    app.ui.document(&report)?;
    Ok(report.exit_status())
}
