//! `report`.

use crate::{
    app::App,
    commands::status::{self, StatusArgs},
    error::CliError,
    ui::format,
};
use clap::{ArgGroup, Args, ValueEnum};
use havun_operations::{
    context::Context,
    error::{OperationError, exit},
    reporting::{Report, Span, csv, document, gather, period, send},
};
use jiff::civil::Date;
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Report on a day, week, month or year: what was backed up, what it takes, what was proven, what went wrong
///
/// A report of a year is the evidence that an auditor asks for: every run and every gap, each test restore with its
/// certificate, restores, deletions, holds and erasures with who did it, and how long everything is kept by which rule.
/// Without a period: the storage of every project, year by year, and its drills.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("period").args(["daily", "weekly", "monthly", "audit"]))]
pub struct ReportArgs {
    #[command(flatten)]
    pub status: StatusArgs,
    /// The last 24 hours, as in the mail of each morning; with --date, that day
    #[arg(long)]
    pub daily: bool,
    /// The last whole week, Monday to Sunday; with --date, the week of that day
    #[arg(long)]
    pub weekly: bool,
    /// The last whole month; with --date, the month of that day
    #[arg(long)]
    pub monthly: bool,
    /// A year, with everything that an auditor asks for
    #[arg(long, value_name = "YEAR")]
    pub audit: Option<String>,
    /// A day in the period
    #[arg(long, value_name = "YYYY-MM-DD", requires = "period", conflicts_with = "audit")]
    pub date: Option<String>,
    /// Send it by every channel of [notify] that takes reports, too
    #[arg(long, requires = "period")]
    pub send: bool,
    /// What is printed or written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", requires = "period")]
    pub format: ReportFormat,
    /// Write it to this new file
    #[arg(long, short, value_name = "FILE", requires = "period")]
    pub output: Option<PathBuf>,
}

/// What is printed or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For a terminal
    Text,
    /// One page
    Html,
    /// Everything, for programs
    Json,
    /// One line for each run, gap, drill, other act, incident and store
    Csv,
}

pub fn execute(app: &App, args: &ReportArgs) -> Result<u8, CliError> {
    let Some((span, day)) = asked(args)? else { return status::execute_storage(app, &args.status) };
    let cx = app.context()?;
    let report = gather(&cx, &period(&cx, span, day)?, &args.status.project)?;
    app.screen.clear();
    let text = shown(&cx, &report, args.format)?;
    match &args.output {
        Some(path) => {
            write_new(path, &text)?;
            app.ui.line(format!("Written to {}", path.display()));
        }
        None if !app.ui.json && args.format == ReportFormat::Text => app.ui.line(text.trim_end()),
        None if !app.ui.json && !app.ui.quiet => {
            std::io::stdout().lock().write_all(text.as_bytes()).map_err(crate::ui::output_error)?;
        }
        None => {}
    }
    app.ui.document(&report)?;
    if args.send {
        return sent(app, &cx, &report);
    }
    Ok(report.exit_status())
}

/// What could not be delivered waits in the queue, but whoever asked has to know.
fn sent(app: &App, cx: &Context, report: &Report) -> Result<u8, CliError> {
    let done = send(cx, report)?;
    app.screen.clear();
    for failed in &done.failed {
        app.ui.trouble(format!("not sent yet: {failed}"));
    }
    if done.failed.is_empty() {
        app.ui.line(format!("Sent ({}).", format::counted(done.sent as u64, "delivery", "deliveries")));
    }
    Ok(if done.failed.is_empty() { exit::OK } else { exit::FAILED })
}

/// Which period; `None` where none is asked for.
fn asked(args: &ReportArgs) -> Result<Option<(Span, Option<Date>)>, CliError> {
    let bad_date = |text: &String| OperationError::BadDate { text: text.clone() };
    let day = args.date.as_ref().map(|text| text.parse().map_err(|_| bad_date(text))).transpose()?;
    if let Some(year) = &args.audit {
        let bad = || OperationError::BadEpoch { text: year.clone() };
        let number: i16 = year.parse().ok().filter(|_| year.len() == 4).ok_or_else(bad)?;
        return Ok(Some((Span::Audit, Some(Date::new(number, 1, 1).map_err(|_| bad())?))));
    }
    let spans = [(args.daily, Span::Daily), (args.weekly, Span::Weekly), (args.monthly, Span::Monthly)];
    Ok(spans.into_iter().find(|(asked, _)| *asked).map(|(_, span)| (span, day)))
}

fn shown(cx: &Context, report: &Report, format: ReportFormat) -> Result<String, CliError> {
    let document = document(report, cx.config.notify.language, &cx.zone());
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| CliError::Io {
        doing: "cannot make the page of the report".to_owned(),
        source: std::io::Error::other(error),
    };
    Ok(match format {
        ReportFormat::Text => document.text(),
        ReportFormat::Html => document.html().map_err(|e| failed(e.into()))?,
        ReportFormat::Json => serde_json::to_string_pretty(report).map_err(|e| failed(e.into()))? + "\n",
        ReportFormat::Csv => csv(report),
    })
}

/// A report names what a host has and lacks: nobody else reads it. What is there already is not replaced.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::Operation(OperationError::Exists { path: path.to_owned() }),
        _ => CliError::Operation(OperationError::Io { doing: "cannot write", path: path.to_owned(), source }),
    })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|source| CliError::Operation(OperationError::Io { doing: "cannot write", path: path.to_owned(), source }))
}
