//! `verify`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format},
};
use clap::Args;
use havun_operations::verify::{VerifiedStore, VerifyRequest, verify};

/// Compare everything that is stored with its checksums
///
/// Without options every object is read and its SHA-256 compared with its name, and every snapshot's list of files is
/// followed. Damage is told by object, snapshots and files, and ends with 5.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only what this snapshot needs: the beginning of its id
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<String>,
    /// Only this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
    /// Also open, decrypt and re-hash every chunk
    #[arg(long)]
    pub read_data: bool,
}

/// How many damaged files are named without `-v`.
const NAMED_FILES: usize = 10;

pub fn execute(app: &App, args: &VerifyArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let request = VerifyRequest {
        projects: args.project.clone(),
        store: args.store.clone(),
        snapshot: args.snapshot.clone(),
        read_data: args.read_data,
    };
    let outcome = verify(&cx, &request)?;
    app.screen.clear();
    for store in &outcome.stores {
        let lines = lines(store, app.ui.verbose > 0);
        if store.damage.is_empty() && store.failure.is_none() {
            app.ui.lines(lines);
        } else {
            lines.iter().for_each(|line| app.ui.trouble(line));
        }
    }
    if outcome.interrupted {
        app.ui.trouble("Interrupted: not everything was checked.");
    }
    app.ui.document(&outcome)?;
    Ok(outcome.exit_status())
}

fn lines(store: &VerifiedStore, all_files: bool) -> Vec<String> {
    let place = format!("{} in {}", store.project, store.store);
    if let Some(failure) = &store.failure {
        return vec![failure_text(failure, &format!("failed   {place}: "))];
    }
    if store.empty {
        return vec![format!("empty    {place}: nothing is stored yet")];
    }
    let read = if store.chunks > 0 { format!(", {} re-hashed", format::counted(store.chunks, "chunk", "chunks")) } else { String::new() };
    let checked = format!(
        "{}, {}, {}{read} in {}",
        format::counted(store.objects, "object", "objects"),
        format::size(store.bytes),
        format::counted(store.snapshots, "snapshot", "snapshots"),
        format::duration(store.started_at, store.ended_at)
    );
    let state = if store.damage.is_empty() { "ok" } else { "DAMAGED" };
    let mut lines = vec![format!("{state:<8} {place}: {checked}")];
    for damage in &store.damage {
        lines.push(format!("  {}: {}", damage.object, damage.what));
        if !damage.snapshots.is_empty() {
            lines.push(format!("    snapshots hit: {}", damage.snapshots.iter().map(|id| id.short()).collect::<Vec<_>>().join(", ")));
        }
        let shown = if all_files { damage.files.len() } else { NAMED_FILES };
        if damage.file_count > 0 {
            lines.push(format!("    files hit: {}", format::count(damage.file_count)));
        }
        lines.extend(damage.files.iter().take(shown).map(|file| format!("      {file}")));
        let more = damage.file_count.saturating_sub(damage.files.len().min(shown) as u64);
        if more > 0 && damage.file_count > 0 {
            lines.push(format!("      and {} more", format::count(more)));
        }
    }
    if !store.damage.is_empty() {
        lines.push("  Hint: `havun-backup restore` still restores what is whole; another store may hold a whole copy (--store)".to_owned());
    }
    lines
}
