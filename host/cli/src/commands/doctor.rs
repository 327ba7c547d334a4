//! `doctor`.

use crate::{
    app::App,
    error::CliError,
    ui::{Ui, failure_text, format},
};
use clap::Args;
use havun_operations::{
    context::Context,
    doctor::{DoctorOptions, DoctorReport, FindingState, Procedure, Repair, examine, mend},
    error::exit,
    incidents::{Place, page},
};

/// Find out what is wrong, say what to do about it, and mend what this program can mend
///
/// Tests the configuration, keys and who may read them, the audit database, stores and their host keys, space, the clock,
/// projects with their databases, leases, what killed processes have left, replicas, damage, and what `health` finds; and shows
/// the procedure for each open alert, without a network. Ends with 4 where something is wrong. No repair deletes a backup.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only what belongs to this procedure (`disk-full`) or kind of alert (`replication`)
    #[arg(long, short, value_name = "KIND")]
    pub kind: Option<String>,
    /// Mend what can be mended; asks before each
    #[arg(long)]
    pub fix: bool,
    /// With --fix: do not ask. A lease is taken over only together with `--kind locked`
    #[arg(long, short, requires = "fix")]
    pub yes: bool,
}

pub fn execute(app: &App, args: &DoctorArgs) -> Result<u8, CliError> {
    let config = match app.config() {
        Ok(config) => config,
        Err(error) => return Err(misconfigured(app, error)),
    };
    app.warn(&config);
    let cx = app.context_of(config);
    let options = DoctorOptions { projects: args.project.clone(), kind: args.kind.clone() };
    let mut report = examine(&cx, &options)?;
    app.screen.clear();
    print(app.ui, &report, &cx, args);
    if args.fix {
        if repair_all(app, &cx, args, &report)? {
            report = examine(&cx, &options)?;
            app.screen.clear();
            app.ui.line("");
            app.ui.line("Now:");
            findings(app.ui, &report);
        }
    } else if !report.repairs().is_empty() {
        app.ui.line("");
        app.ui.line("With --fix this program would:");
        app.ui.lines(report.repairs().iter().map(|repair| format!("  {}", repair.describe())));
    }
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

/// What is wrong with the configuration is its own error; the page that belongs to it comes before.
fn misconfigured(app: &App, error: CliError) -> CliError {
    if let Some(page) = page("configuration") {
        app.ui.lines(page.text(Place::default()).lines());
        app.ui.line("");
    }
    error
}

fn print(ui: Ui, report: &DoctorReport, cx: &Context, args: &DoctorArgs) {
    findings(ui, report);
    if !report.alerts.is_empty() {
        ui.line("");
        ui.line("Open alerts:");
    }
    for open in &report.alerts {
        let alert = &open.alert;
        let place =
            [alert.project.as_str(), alert.store.as_str()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" in ");
        let since = alert.raised_at.parse().map_or_else(|_| alert.raised_at.clone(), |at| format::time(at, &cx.zone()));
        ui.trouble(format!(
            "{:<8} {place} since {since}, {}: {}",
            alert.kind,
            format::counted(count(alert.times), "time", "times"),
            alert.message
        ));
    }
    for procedure in &report.procedures {
        ui.line("");
        ui.line("=".repeat(76));
        ui.lines(shown(procedure, args.kind.is_some() || ui.verbose > 0));
    }
}

fn count(times: i64) -> u64 {
    u64::try_from(times).unwrap_or(0)
}

/// All of the page where it was asked for; otherwise what to do now.
fn shown(procedure: &Procedure, whole: bool) -> Vec<String> {
    let lines = procedure.text.lines().map(|line| line.trim_end().to_owned());
    if whole {
        return lines.collect();
    }
    // The third of the four sections that each page has, in either language.
    let sections = lines.scan(0, |section, line| {
        *section += usize::from(line.starts_with("## "));
        Some((*section, line))
    });
    let now: Vec<String> = sections.filter(|(section, _)| *section == 3).map(|(_, line)| line).collect();
    let more = format!("(`havun-backup doctor --kind {}` shows all of this page.)", procedure.page);
    std::iter::once(format!("# {}", procedure.title)).chain([String::new()]).chain(now).chain([more]).collect()
}

fn findings(ui: Ui, report: &DoctorReport) {
    for finding in &report.findings {
        let line = format!("{:<8} {}: {}", finding.state.word(), finding.subject, finding.detail);
        if finding.state == FindingState::Problem {
            ui.trouble(line);
            if !finding.advice.is_empty() {
                ui.trouble(format!("         what to do: {}", finding.advice));
            }
        } else {
            ui.line(line);
        }
    }
}

/// Whether anything was done.
fn repair_all(app: &App, cx: &Context, args: &DoctorArgs, report: &DoctorReport) -> Result<bool, CliError> {
    let mut done = false;
    for repair in report.repairs() {
        if !agreed(app, args, &repair)? {
            continue;
        }
        done = true;
        match mend(cx, &repair) {
            Ok(said) => app.ui.line(format!("mended   {said}")),
            Err(error) if error.exit_status() == exit::INTERRUPTED => return Err(error.into()),
            Err(error) => app.ui.trouble(failure_text(&error.to_failure(), "failed   ")),
        }
        app.screen.clear();
    }
    Ok(done)
}

fn agreed(app: &App, args: &DoctorArgs, repair: &Repair) -> Result<bool, CliError> {
    if repair.needs_care() && args.yes && args.kind.as_deref() != Some("locked") {
        app.ui.line(format!("not done: {} (say --kind locked with --yes, or answer for yourself)", repair.describe()));
        return Ok(false);
    }
    if args.yes {
        return Ok(true);
    }
    match app.ui.ask(&format!("{}? Type yes:", repair.describe()))? {
        Some(answer) => Ok(answer == "yes"),
        None => Err(CliError::Usage {
            message: format!("nobody is there to agree to: {}", repair.describe()),
            hint: "call doctor with --fix --yes, or without --fix to see what it would do".to_owned(),
        }),
    }
}
