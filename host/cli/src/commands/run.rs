//! `run`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format},
};
use clap::Args;
use havun_model::{BackupPlan, ItemKind};
use havun_operations::{
    notify::after_command,
    run::{ExpectedChange, ProjectRun, RunOptions, RunOutcome, RunStats, run},
};

/// Back up all, the named, or only the due projects
///
/// Ends with 0 when everything was read whole, stored and read back; with 3 when something is missing. What went
/// wrong is on screen, in the snapshot and in `havun-backup logs`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only projects whose schedule asks for it now
    #[arg(long)]
    pub due: bool,
    /// Print the plan and the expected change, and write nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Also a paused project, or one that a stale lease holds
    #[arg(long)]
    pub force: bool,
}

pub fn execute(app: &App, args: &RunArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    app.warn(&cx.config);
    let options = RunOptions { projects: args.project.clone(), due: args.due, dry_run: args.dry_run, force: args.force };
    let ended = run(&cx, &options);
    if !args.dry_run {
        after_command(&cx);
    }
    let report = ended?;
    app.screen.clear();
    report.retried.iter().for_each(|pushed| super::archive::print(app, pushed));
    if report.projects.is_empty() && !report.interrupted {
        app.ui.line("The configuration has no projects; `havun-backup init PATH…` proposes some.");
    }
    if report.interrupted {
        app.ui.trouble("Interrupted: what was committed before is whole, the rest was not stored.");
    }
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

/// What is said of a project when it has ended.
pub fn project_lines(run: &ProjectRun) -> Vec<String> {
    let mut lines = vec![format!("{:<8} {}", run.outcome.word(), head(run))];
    if run.outcome == RunOutcome::Planned {
        lines.extend(run.plan.iter().flat_map(plan_lines));
        lines.extend(run.preparations.iter().map(|line| format!("  {line}")));
        lines.extend(run.expected.iter().flat_map(expected_lines));
    }
    if let Some(paused) = run.consistency.as_ref().and_then(|consistency| consistency.paused_ms) {
        lines.push(format!("  the application rested for {}.{:03} s", paused / 1000, paused % 1000));
    }
    lines.extend(run.problems.iter().map(|problem| format!("  missing: {problem}")));
    for store in &run.stores {
        if let Some(failure) = &store.failure {
            lines.push(indent(&failure_text(failure, &format!("store {}: ", store.store))));
        }
    }
    lines.extend(run.failure.iter().map(|failure| indent(&failure_text(failure, ""))));
    lines.extend(run.warnings.iter().map(|warning| format!("  note: {warning}")));
    lines
}

fn head(run: &ProjectRun) -> String {
    let took = format::duration(run.started_at, run.ended_at);
    match (&run.snapshot, &run.stats, run.outcome) {
        (Some(id), Some(stats), _) => format!("{}  snapshot {}, {} in {took}", run.project, id.short(), stats_text(stats)),
        (_, _, RunOutcome::NotDue | RunOutcome::Paused | RunOutcome::Planned) => run.project.to_string(),
        _ => format!("{}  nothing was committed, after {took}", run.project),
    }
}

fn stats_text(stats: &RunStats) -> String {
    let all = format!("{}, {}", format::counted(stats.entries, "entry", "entries"), format::size(stats.bytes));
    format!("{all} ({} read, {} stored)", format::size(stats.bytes_read), format::size(stats.bytes_added))
}

fn plan_lines(plan: &BackupPlan) -> Vec<String> {
    let mut lines = Vec::new();
    for item in &plan.items {
        lines.push(format!("  {} ({}): {}", item.name, item.kind.word(), item.reason));
        match &item.kind {
            ItemKind::Tree(tree) => {
                lines.extend(listed("only", &tree.include));
                lines.extend(listed("without", &tree.exclude));
            }
            ItemKind::Database(database) => lines.extend(listed("without the rows of", &database.exclude_rows)),
            ItemKind::Git(_) | ItemKind::Generated(_) => {}
        }
    }
    lines.extend(plan.warnings.iter().map(|warning| format!("  note: {warning}")));
    lines
}

fn listed(what: &str, globs: &[String]) -> Option<String> {
    (!globs.is_empty()).then(|| format!("    {what} {}", globs.join(", ")))
}

fn expected_lines(expected: &ExpectedChange) -> Vec<String> {
    let against = expected.against.as_ref().map_or_else(|| "nothing is stored yet".to_owned(), |id| format!("against {}", id.short()));
    let mut lines = vec![format!(
        "  expected: {} new, {} changed, {} gone of {}, {} to read ({against}); databases are dumped whole",
        format::count(expected.files_new),
        format::count(expected.files_changed),
        format::count(expected.files_removed),
        format::counted(expected.files, "file", "files"),
        format::size(expected.bytes_to_read),
    )];
    lines.extend(expected.problems.iter().map(|problem| format!("  missing: {problem}")));
    lines
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
