//! `health`.

use crate::{app::App, error::CliError, ui::format};
use clap::Args;
use havun_operations::{
    health::{Finding, HealthOptions, HostHealth, ProjectHealth, health, prometheus},
    notify::after_command,
};
use jiff::tz::TimeZone;

/// Say whether everything is as it should be: ages, missed runs, archives that lag behind or were changed, space, keys
///
/// Asks every store, the ones on other machines too, and changes nothing. Ends with 4 when something needs attention.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Print the metrics in the text format of Prometheus instead
    #[arg(long)]
    pub prometheus: bool,
}

pub fn execute(app: &App, args: &HealthArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let ended = health(&cx, &HealthOptions { projects: args.project.clone() });
    after_command(&cx);
    let report = ended?;
    app.screen.clear();
    if args.prometheus {
        app.ui.lines(prometheus(&report).lines().map(str::to_owned));
        return Ok(report.exit_status());
    }
    print_host(app, &report.host);
    let (well, ill): (Vec<_>, Vec<_>) = report.projects.iter().partition(|project| project.problems.is_empty());
    ill.iter().for_each(|project| print_problems(app, project));
    for project in well {
        app.ui.line(format!("ok       {}: {}", project.project, stores(project, &cx.zone())));
        // What there is something to do about is told without being asked for.
        app.ui.lines(project.notes.iter().filter(|note| app.ui.verbose > 0 || !note.hint.is_empty()).map(note));
    }
    if report.projects.is_empty() && report.host.problems.is_empty() {
        app.ui.line("The configuration has no projects; `havun-backup init PATH…` proposes some.");
    }
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn print_host(app: &App, host: &HostHealth) {
    if !host.problems.is_empty() {
        app.ui.trouble(format!("PROBLEM  this host: {}", format::counted(host.problems.len() as u64, "problem", "problems")));
        host.problems.iter().for_each(|finding| print_problem(app, finding));
    }
    app.ui.lines(host.notes.iter().map(note));
}

fn print_problem(app: &App, finding: &Finding) {
    app.ui.trouble(format!("  {}", told(finding)));
    finding.objects.iter().for_each(|object| app.ui.trouble(format!("    {object}")));
    if !finding.hint.is_empty() {
        app.ui.trouble(format!("    Hint: {}", finding.hint));
    }
}

fn print_problems(app: &App, project: &ProjectHealth) {
    app.ui.trouble(format!("PROBLEM  {}: {}", project.project, format::counted(project.problems.len() as u64, "problem", "problems")));
    project.problems.iter().for_each(|finding| print_problem(app, finding));
    app.ui.lines(project.notes.iter().map(note));
}

fn note(finding: &Finding) -> String {
    let hint = if finding.hint.is_empty() { String::new() } else { format!(": {}", finding.hint) };
    format!("  note: {}{hint}", told(finding))
}

fn told(finding: &Finding) -> String {
    finding.store.as_ref().map_or_else(|| finding.what.clone(), |store| format!("{store}: {}", finding.what))
}

/// Each store with its newest good snapshot.
fn stores(project: &ProjectHealth, zone: &TimeZone) -> String {
    let newest = |at: Option<jiff::Timestamp>| at.map_or_else(|| "nothing yet".to_owned(), |at| format::time(at, zone));
    let lines = project.stores.iter().map(|store| format!("{} {}", store.store, newest(store.newest_good)));
    lines.collect::<Vec<_>>().join(", ")
}
