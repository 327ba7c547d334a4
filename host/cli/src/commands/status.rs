//! `status`, and `report` without a period.

use crate::{
    app::App,
    error::CliError,
    ui::{Ui, failure_text, format, table::Table},
};
use clap::Args;
use havun_operations::daemon::{DaemonLife, DaemonStatus};
use havun_operations::storage::{ProjectStatus, StatusOptions, StatusReport, StoreSpace, status};
use jiff::tz::TimeZone;

/// Show how much lies where, how fast it grows, and when a store is full
///
/// Stores on other machines are told as this host knows them, and not asked.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Also ask the stores on other machines
    #[arg(long)]
    pub online: bool,
}

pub fn execute(app: &App, args: &StatusArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = look(app, args)?;
    print(app.ui, &report, &cx.zone());
    app.ui.lines(schedule(&report, &cx.zone()));
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

/// What comes next, and whether anybody is there to do it.
fn schedule(report: &StatusReport, zone: &TimeZone) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(report.daemon.as_ref().map(|daemon| daemon_line(daemon, zone)));
    if report.daemon.is_none() && !report.next_runs.is_empty() {
        lines.push("daemon   there has been none: `havun-backup init --systemd` writes units for it".to_owned());
    }
    let mut table = Table::new(&["project", "next run"]);
    for next in &report.next_runs {
        let at = if next.at <= report.at { "now".to_owned() } else { format::time(next.at, zone) };
        table.row([next.project.to_string(), at]);
    }
    if !report.next_runs.is_empty() {
        lines.extend(table.lines(0));
    }
    lines
}

fn daemon_line(daemon: &DaemonStatus, zone: &TimeZone) -> String {
    let time = |at| format::time(at, zone);
    let state = match (daemon.life, daemon.mode.as_str()) {
        (_, "once") => format!("was last called {}, by cron or a timer", time(daemon.beat_at)),
        (DaemonLife::Alive, _) => format!("works since {}, process {}", time(daemon.started_at), daemon.pid),
        (DaemonLife::Stuck, _) => format!("has shown no life since {}, process {}", time(daemon.beat_at), daemon.pid),
        (DaemonLife::Stopped, _) => format!("stopped {}", time(daemon.stopped_at.unwrap_or(daemon.beat_at))),
        (DaemonLife::Died, _) => format!("died after {}, without stopping in order", time(daemon.beat_at)),
    };
    let running = if daemon.running.is_empty() { String::new() } else { format!("; under way: {}", daemon.running.join(", ")) };
    let leap = daemon.leap.as_ref().map(|leap| format!("; {}", leap.text())).unwrap_or_default();
    format!("daemon   {state}{running}{leap}")
}

/// `report` without a period.
pub fn execute_storage(app: &App, args: &StatusArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = look(app, args)?;
    app.ui.line(format!("[{}] Storage of {}", cx.config.host.name, format::time(report.at, &cx.zone())));
    print(app.ui, &report, &cx.zone());
    app.ui.lines(years(&report));
    app.ui.lines(drills(&report, &cx.zone()));
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn look(app: &App, args: &StatusArgs) -> Result<StatusReport, CliError> {
    let cx = app.context()?;
    let report = status(&cx, &StatusOptions { projects: args.project.clone(), online: args.online })?;
    app.screen.clear();
    Ok(report)
}

fn print(ui: Ui, report: &StatusReport, zone: &TimeZone) {
    if report.projects.is_empty() {
        ui.line("The configuration has no projects; `havun-backup init PATH…` proposes some.");
        return;
    }
    let titles = ["project", "store", "tier", ">snapshots", "newest", ">raw", ">all raw", ">stored", ">ratio", ">a day", ""];
    let mut table = Table::new(&titles);
    report.projects.iter().for_each(|project| rows(&mut table, project, zone));
    ui.lines(table.lines(0));
    ui.line("");
    let mut table = Table::new(&["store", "kind", "tier", ">stored", ">a day", ">free", "full at"]);
    report.stores.iter().for_each(|store| table.row(space(store, zone)));
    ui.lines(table.lines(0));
    for (project, store) in report.projects.iter().flat_map(|project| project.stores.iter().map(move |store| (project, store))) {
        if let Some(failure) = &store.failure {
            ui.trouble(failure_text(failure, &format!("failed   {} in {}: ", project.project, store.store)));
        }
    }
}

/// What is proven, project by project.
fn drills(report: &StatusReport, zone: &TimeZone) -> Vec<String> {
    let mut table = Table::new(&["project", "last drill", "result", "last passed", ""]);
    let dash = || "-".to_owned();
    for project in &report.projects {
        let last = project.drills.last_at.as_deref().and_then(|at| at.parse().ok());
        table.row([
            project.project.to_string(),
            last.map_or_else(|| "never".to_owned(), |at| format::time(at, zone)),
            if project.drills.last_result.is_empty() { dash() } else { project.drills.last_result.clone() },
            project.drills.passed_at.map_or_else(dash, |at| format::time(at, zone)),
            project.drills.overdue_since.map_or_else(String::new, |since| format!("overdue since {}", format::date(since, zone))),
        ]);
    }
    std::iter::once(String::new()).chain(table.lines(0)).collect()
}

fn rows(table: &mut Table, project: &ProjectStatus, zone: &TimeZone) {
    let dash = || "-".to_owned();
    for store in &project.stores {
        let all = if store.snapshots_unknown == 0 {
            format::size(store.raw_bytes_all)
        } else {
            format!("> {}", format::size(store.raw_bytes_all))
        };
        table.row([
            project.project.to_string(),
            store.store.to_string(),
            store.tier.clone(),
            format::count(store.snapshots),
            store.newest.map_or_else(dash, |at| format::time(at, zone)),
            store.raw_bytes.map_or_else(dash, format::size),
            all,
            format::size(store.stored_bytes),
            store.ratio.map_or_else(dash, |ratio| format!("{ratio:.1}x")),
            project.growth_per_day.map_or_else(dash, format::size),
            if store.source == "listed" { String::new() } else { store.source.clone() },
        ]);
    }
}

fn space(store: &StoreSpace, zone: &TimeZone) -> [String; 7] {
    [
        store.store.to_string(),
        store.kind.clone(),
        store.tier.clone(),
        format::size(store.stored_bytes),
        format::size(store.growth_per_day),
        store.free_bytes.map_or_else(|| "-".to_owned(), format::size),
        store.full_at.map_or_else(|| "-".to_owned(), |at| format::date(at, zone)),
    ]
}

fn years(report: &StatusReport) -> Vec<String> {
    let mut table = Table::new(&["project", "store", "year", ">stored"]);
    let mut any = false;
    for (project, store) in report.projects.iter().flat_map(|project| project.stores.iter().map(move |store| (project, store))) {
        for (year, bytes) in &store.by_year {
            any = true;
            table.row([project.project.to_string(), store.store.to_string(), year.clone(), format::size(*bytes)]);
        }
    }
    if any { std::iter::once(String::new()).chain(table.lines(0)).collect() } else { Vec::new() }
}
