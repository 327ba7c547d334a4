//! `logs`.

use crate::{
    app::App,
    error::CliError,
    ui::{format, table::Table},
};
use clap::Args;
use havun_operations::{
    audit::LogRow,
    logs::{AlertsReport, LogsOptions, alerts, logs},
};
use jiff::{Timestamp, tz::TimeZone};

/// Show the newest runs, restores and checks, the failed ones too
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Only this project
    #[arg(long, short, value_name = "NAME")]
    pub project: Option<String>,
    /// How many at most
    #[arg(long, short = 'l', value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// Show alerts instead: what needs a person, since when, and when it was right again
    #[arg(long)]
    pub alerts: bool,
}

pub fn execute(app: &App, args: &LogsArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let options = LogsOptions { project: args.project.clone(), limit: args.limit };
    if args.alerts {
        return show_alerts(app, &alerts(&cx, &options)?, &cx.zone());
    }
    let report = logs(&cx, &options)?;
    if report.rows.is_empty() {
        app.ui.line("Nothing has been logged yet.");
    } else {
        app.ui.lines(lines(&report.rows, &cx.zone()));
    }
    app.ui.document(&report)?;
    Ok(0)
}

fn show_alerts(app: &App, report: &AlertsReport, zone: &TimeZone) -> Result<u8, CliError> {
    if report.alerts.is_empty() {
        app.ui.line("There has been no alert.");
    }
    let time = |text: &str| text.parse::<Timestamp>().map_or_else(|_| text.to_owned(), |at| format::time(at, zone));
    for alert in &report.alerts {
        let place = if alert.store.is_empty() { alert.project.clone() } else { format!("{} in {}", alert.project, alert.store) };
        let state = alert.resolved_at.as_deref().map_or_else(|| "open".to_owned(), |at| format!("resolved {}", time(at)));
        let times = if alert.times > 1 { format!(", {} times until {}", alert.times, time(&alert.last_seen)) } else { String::new() };
        app.ui.line(format!("{}  {} ({}): {state}{times}", time(&alert.raised_at), place, alert.kind));
        app.ui.lines(alert.message.lines().map(|line| format!("    {line}")).collect::<Vec<_>>());
        if !alert.hint.is_empty() && alert.resolved_at.is_none() {
            app.ui.line(format!("    Hint: {}", alert.hint));
        }
    }
    app.ui.document(report)?;
    Ok(0)
}

fn lines(rows: &[LogRow], zone: &TimeZone) -> Vec<String> {
    let mut table = Table::new(&["started", "action", "project", "status", "snapshot", ">files", ">size", ">stored", ">took"]);
    for row in rows {
        let taken = row.started_at.parse::<Timestamp>().map_or_else(|_| row.started_at.clone(), |at| format::time(at, zone));
        let snapshot: String = row.snapshot.as_deref().unwrap_or("-").chars().take(8).collect();
        let size = |bytes: i64| format::size(u64::try_from(bytes).unwrap_or(0));
        table.row([
            taken,
            row.action.clone(),
            row.project.clone(),
            row.status.clone(),
            snapshot,
            format::count(u64::try_from(row.files).unwrap_or(0)),
            size(row.bytes),
            size(row.bytes_added),
            row.duration_ms.map_or_else(|| "-".to_owned(), took),
        ]);
    }
    let lines = table.lines(0);
    let mut all = lines.iter().take(1).cloned().collect::<Vec<_>>();
    for (line, row) in lines.into_iter().skip(1).zip(rows) {
        all.push(line);
        if row.status != "ok" {
            all.extend(row.message.lines().map(|message| format!("    {message}")));
        }
    }
    all
}

fn took(millis: i64) -> String {
    let end = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    format::duration(Timestamp::UNIX_EPOCH, end)
}
