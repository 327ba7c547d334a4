//! `erasure`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format, table::Table},
};
use clap::{Args, Subcommand};
use havun_model::erasures::Erasure;
use havun_operations::erasures::{self, ErasureReport, ProjectErasures};
use jiff::tz::TimeZone;
use std::io::Read;

/// Longest identifier, in bytes.
const LONGEST: u64 = 4096;

/// Remember whose data was erased, so that a restore of an older backup erases it again
#[derive(Debug, Args)]
pub struct ErasureArgs {
    #[command(subcommand)]
    pub command: ErasureCommand,
}

#[derive(Debug, Subcommand)]
pub enum ErasureCommand {
    Add(AddArgs),
    List(ListArgs),
    Remove(RemoveArgs),
    Hash(HashArgs),
}

/// Register an erasure that has been carried out in the application
///
/// It goes to every store of the project and into the audit database. A restore of a snapshot that was taken before erases
/// the subject again, where the strategy has rules for it, and lists it in any case.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  havun-backup erasure hash < identifier.txt
  havun-backup erasure add --project shop --subject-hash 9f86d0… --note 'request 2026-17'")]
pub struct AddArgs {
    /// The project
    #[arg(long, short, value_name = "NAME")]
    pub project: String,
    /// SHA-256 of the identifier, as `erasure hash` prints it
    #[arg(long, value_name = "HASH")]
    pub subject_hash: String,
    /// For whoever finds it in some years: a case number, never a name
    #[arg(long, value_name = "TEXT")]
    pub note: String,
}

/// Show the register, and with -v what was withdrawn
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
}

/// Withdraw an erasure that was registered by mistake; its record stays
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The erasure whose id begins so
    #[arg(value_name = "ID")]
    pub id: String,
    /// The project that it is of
    #[arg(long, short, value_name = "NAME")]
    pub project: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Print the hash of an identifier that is read from standard input
///
/// It is hashed without white space at both ends and in small letters, as rules compare it unless they say `exact`. Neither
/// the identifier nor anything of it is kept.
#[derive(Debug, Args)]
pub struct HashArgs {
    /// As it is, but for the end of the line
    #[arg(long)]
    pub exact: bool,
}

pub fn execute(app: &App, args: &ErasureArgs) -> Result<u8, CliError> {
    match &args.command {
        ErasureCommand::Add(args) => add(app, args),
        ErasureCommand::List(args) => list(app, args),
        ErasureCommand::Remove(args) => remove(app, args),
        ErasureCommand::Hash(args) => hash(app, args),
    }
}

fn add(app: &App, args: &AddArgs) -> Result<u8, CliError> {
    let note = said(&args.note, "the note", "give a case number, by which the request is found again")?;
    if note.contains('@') {
        let hint = "the register must hold no personal data: give a case number".to_owned();
        return Err(CliError::Usage { message: "the note holds what looks like an address".to_owned(), hint });
    }
    let cx = app.context()?;
    let report = erasures::add(&cx, &args.project, &args.subject_hash, note)?;
    app.screen.clear();
    let before = format::counted(report.snapshots_before, "snapshot was", "snapshots were");
    app.ui.line(format!("Erasure {} of {} is registered; {before} taken before it", report.erasure.id, report.project));
    end(app, &report)
}

fn remove(app: &App, args: &RemoveArgs) -> Result<u8, CliError> {
    let reason = said(&args.reason, "the reason", "say why it was a mistake")?;
    let cx = app.context()?;
    let report = erasures::remove(&cx, args.project.as_deref(), &args.id, reason)?;
    app.screen.clear();
    app.ui.line(format!("Erasure {} of {} is withdrawn", report.erasure.id, report.project));
    end(app, &report)
}

fn end(app: &App, report: &ErasureReport) -> Result<u8, CliError> {
    report.notes.iter().for_each(|note| app.ui.line(format!("note: {note}")));
    for copied in &report.copied {
        if let Some(failure) = &copied.state.failure {
            app.ui.trouble(failure_text(failure, &format!("{} does not have it yet: ", copied.state.store)));
        }
    }
    app.ui.document(report)?;
    Ok(report.exit_status())
}

fn said<'a>(text: &'a str, what: &str, hint: &str) -> Result<&'a str, CliError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(CliError::Usage { message: format!("{what} is empty"), hint: hint.to_owned() });
    }
    Ok(text)
}

/// Shape of `--json`.
#[derive(serde::Serialize)]
struct Hashed {
    schema_version: u32,
    subject_hash: String,
    exact: bool,
}

fn hash(app: &App, args: &HashArgs) -> Result<u8, CliError> {
    let usage = |message: &str| CliError::Usage {
        message: message.to_owned(),
        hint: "one identifier goes to the standard input: havun-backup erasure hash < FILE".to_owned(),
    };
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST + 1).read_to_string(&mut text);
    read.map_err(|_| usage("the identifier cannot be read, or is not UTF-8"))?;
    if text.len() as u64 > LONGEST || text.trim_end_matches(['\n', '\r']).contains('\n') {
        return Err(usage("that is more than one identifier"));
    }
    let hash = erasures::hash(&text, args.exact)?.to_hex();
    app.screen.clear();
    app.ui.line(&hash);
    let schema_version = havun_operations::report::SCHEMA_VERSION;
    app.ui.document(&Hashed { schema_version, subject_hash: hash, exact: args.exact })?;
    Ok(0)
}

fn list(app: &App, args: &ListArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let list = erasures::list(&cx, &args.project)?;
    app.screen.clear();
    for project in &list.projects {
        print_project(app, project, &cx.zone());
    }
    if list.projects.iter().all(|project| project.standing.is_empty() && project.damaged.is_empty()) {
        app.ui.line("No erasure is registered.");
    }
    app.ui.document(&list)?;
    Ok(list.exit_status())
}

fn print_project(app: &App, project: &ProjectErasures, zone: &TimeZone) {
    let mut table = Table::new(&["erasure", "subject", "since", "by", "in", "note"]);
    for line in &project.standing {
        let stores = line.stores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        table.row(row(&line.erasure, zone, if stores.is_empty() { "the audit database".to_owned() } else { stores }, String::new()));
    }
    for (erasure, withdrawal) in project.withdrawn.iter().filter(|_| app.ui.verbose > 0) {
        let why = format!("; withdrawn {} by {}: {}", format::date(withdrawal.at, zone), withdrawal.by, withdrawal.reason);
        table.row(row(erasure, zone, "-".to_owned(), why));
    }
    let lines = table.lines(2);
    if lines.len() > 1 {
        app.ui.line(format!("{}:", project.project));
        app.ui.lines(lines);
    }
    for damaged in &project.damaged {
        app.ui.trouble(format!("{}: a record of the register cannot be read: {damaged}", project.project));
    }
    for (store, failure) in &project.failures {
        app.ui.trouble(failure_text(failure, &format!("{} in {store} could not be asked: ", project.project)));
    }
}

fn row(erasure: &Erasure, zone: &TimeZone, stores: String, more: String) -> [String; 6] {
    let subject: String = erasure.subject.to_hex().chars().take(16).collect();
    [erasure.id.clone(), subject, format::date(erasure.created, zone), erasure.by.clone(), stores, format!("{}{more}", erasure.note)]
}

/// What a restore will erase again.
pub fn due_lines(due: &[Erasure], zone: &TimeZone) -> Vec<String> {
    if due.is_empty() {
        return Vec::new();
    }
    let line = |erasure: &Erasure| format!("  erasure {} of {}: {}", erasure.id, format::date(erasure.created, zone), erasure.note);
    std::iter::once("Erased since, and to be erased again in what is restored:".to_owned()).chain(due.iter().map(line)).collect()
}
