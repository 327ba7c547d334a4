//! `test`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format},
};
use clap::Args;
use havun_operations::{
    drill::{Certificate, DrillOptions, DrillOutcome, DrillResult, ProjectDrill, SnapshotDrill, check_certificate, drill},
    notify::after_command,
    signing::{NoteError, NoteSigner, Verifier},
};
use std::path::{Path, PathBuf};

/// Prove that snapshots can be restored: restore them into scratch, compare, load, certify
///
/// Restores snapshots of all or the named projects into a private folder and into scratch database servers that it starts
/// itself, compares every file with its SHA-256, loads every database and counts its rows, and asks the strategy whether
/// the application is whole. Leaves a signed certificate here and in every store of the project. Production is never
/// touched. Ends with 6 when a drill did not pass.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// All projects; the same as naming none
    #[arg(long, conflicts_with = "project")]
    pub all: bool,
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only projects whose last passed drill is older than `every`, or that have none
    #[arg(long)]
    pub due: bool,
    /// Drill this snapshot; a prefix of its id is enough
    #[arg(long, short, value_name = "ID")]
    pub snapshot: Option<String>,
    /// Read from this store
    #[arg(long, value_name = "NAME")]
    pub store: Option<String>,
    /// Check a certificate instead: its note, or a page or JSON form with the note beside it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "project", "due", "snapshot", "store"])]
    pub verify: Option<PathBuf>,
    /// The key that must have signed it, NAME+HASH+KEY; this host's unless given
    #[arg(long, value_name = "KEY", requires = "verify")]
    pub key: Option<String>,
    /// For tests: makes the random choice the same each time
    #[arg(long, value_name = "N", hide = true)]
    pub seed: Option<u64>,
}

pub fn execute(app: &App, args: &TestArgs) -> Result<u8, CliError> {
    if let Some(file) = &args.verify {
        return verify(app, file, args.key.as_deref());
    }
    let cx = app.context()?;
    app.warn(&cx.config);
    let options = DrillOptions {
        projects: args.project.clone(),
        due: args.due,
        snapshot: args.snapshot.clone(),
        store: args.store.clone(),
        seed: args.seed,
    };
    let ended = drill(&cx, &options);
    after_command(&cx);
    let report = ended?;
    app.screen.clear();
    app.ui.lines(report.removed.iter().map(|line| format!("note: {line}")));
    if report.projects.is_empty() && !report.interrupted {
        app.ui.line("The configuration has no projects; `havun-backup init PATH…` proposes some.");
    }
    if report.interrupted {
        app.ui.trouble("Interrupted: the drill under way left nothing behind, and certifies nothing.");
    }
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn verify(app: &App, file: &Path, key: Option<&str>) -> Result<u8, CliError> {
    let key: Verifier = match key {
        Some(text) => text.parse().map_err(|error: NoteError| CliError::Usage {
            message: error.to_string(),
            hint: "the operator of the host that made the certificate has it: any certificate that he vouches for prints it".to_owned(),
        })?,
        None => NoteSigner::of_host(&app.context()?)?.verifier().clone(),
    };
    let checked = check_certificate(file, &key)?;
    let c = &checked.certificate;
    match checked.notes.is_empty() {
        true => app.ui.line(format!("valid    {}: signed by {}, and as it was signed", file.display(), checked.signed_by)),
        false => app.ui.line(format!("valid    the note of {}: signed by {}", file.display(), checked.signed_by)),
    }
    checked.notes.iter().for_each(|note| app.ui.line(format!("  {note}")));
    app.ui.line(format!(
        "  {} of {} on {}: drill of snapshot {}",
        c.result.word(),
        c.project,
        c.started_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        c.snapshot.id.short()
    ));
    app.ui.document(&checked)?;
    Ok(0)
}

/// Whether there is nothing to worry about.
pub fn is_good(drill: &ProjectDrill) -> bool {
    matches!(drill.outcome, DrillOutcome::Passed | DrillOutcome::NotDue)
}

/// What is said of a project when its drills have ended: one line, and what is wrong.
pub fn project_lines(drill: &ProjectDrill) -> Vec<String> {
    let took = format::duration(drill.started_at, drill.ended_at);
    let certificates: Vec<&Certificate> = drill.drills.iter().map(|d| &d.certificate).collect();
    let head = match (drill.outcome, certificates.as_slice()) {
        (DrillOutcome::NotDue, _) => drill.project.to_string(),
        (_, []) => format!("{}  nothing was drilled", drill.project),
        (_, all) => {
            let snapshots: Vec<String> =
                all.iter().map(|c| format!("{} ({}, {})", c.snapshot.id.short(), c.snapshot.chosen_as, c.snapshot.store)).collect();
            format!("{}  {} in {took}", drill.project, snapshots.join(", "))
        }
    };
    let mut lines = vec![format!("{:<10} {head}", drill.outcome.word())];
    drill.drills.iter().for_each(|drill| lines.extend(one(drill)));
    lines.extend(drill.failure.iter().map(|failure| format!("  {}", failure_text(failure, ""))));
    lines.extend(drill.notes.iter().map(|note| format!("  note: {note}")));
    lines
}

fn one(drill: &SnapshotDrill) -> Vec<String> {
    let c = &drill.certificate;
    let mut lines = Vec::new();
    if c.result != DrillResult::Passed {
        lines.push(format!("  {} {}:", c.snapshot.id.short(), c.result.word()));
        lines.extend(c.reasons.iter().map(|reason| format!("    {reason}")));
    }
    lines.extend(
        drill
            .files
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "html"))
            .map(|file| format!("  certificate {}", file.display())),
    );
    lines.extend(c.accepted.iter().map(|accepted| format!("  accepted, though not proven: {} ({})", accepted.what, accepted.by)));
    lines.extend(drill.not_stored.iter().map(|line| format!("  note: the certificate is not in {line}")));
    let copied = !drill.not_stored.is_empty() && !drill.stored_in.is_empty();
    lines.extend(
        copied
            .then(|| format!("  note: it is in {}, from where the next run copies it to stores that lack it", drill.stored_in.join(", "))),
    );
    lines
}
