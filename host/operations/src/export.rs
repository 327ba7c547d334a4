//! One standard archive of a snapshot: `.tar.zst`, readable by any `tar` and `zstd`, with the project's tree, the
//! plain SQL of its databases, generated files and the Git bundle under the names that the manifest gives them.
//!
//! Written to `FILE.part`, made durable, then renamed: a file of the final name is whole. What cannot be read is left
//! out and listed. Shape of `havun-backup export --json`: one [`ExportReport`].

mod archive;

use crate::{
    audit::LogEnd,
    context::{Context, new_run_id},
    error::{OperationError, exit, one_line},
    project::{self, vault_error},
    report::SCHEMA_VERSION,
    restore::FailedPath,
    selection::SnapshotChoice,
};
use archive::{Append, Archive};
use havun_model::{Outcome, ProjectName, SnapshotId};
use havun_vault::{Contents, Entry, EntryKind, StoredSnapshot, Vault};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// zstd level of an archive.
const LEVEL: i32 = 3;

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The project.
    pub project: String,
    /// Which snapshot.
    pub choice: SnapshotChoice,
    /// Read from this store; otherwise from the first that opens.
    pub store: Option<String>,
    /// The archive; must not exist yet.
    pub output: PathBuf,
}

/// What was exported.
#[derive(Debug, Clone, Serialize)]
pub struct ExportReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit row carries it.
    pub run_id: String,
    /// The project.
    pub project: ProjectName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The store that it was read from.
    pub store: String,
    /// The archive.
    pub output: PathBuf,
    /// Entries in it.
    pub entries: u64,
    /// Logical bytes of the files in it.
    pub bytes: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// What could not be read and is not in it.
    pub failed: Vec<FailedPath>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl ExportReport {
    /// 0, or 3 when something is missing.
    pub fn exit_status(&self) -> u8 {
        if self.failed.is_empty() { exit::OK } else { exit::PARTIAL }
    }
}

/// Writes the archive. Nothing is left of it when it fails.
///
/// # Errors
/// Of choosing and opening; [`OperationError::Exists`]; [`OperationError::Io`]; [`OperationError::NothingRestorable`].
pub fn export(cx: &Context, options: &ExportOptions) -> Result<ExportReport, OperationError> {
    let project = project::find(cx, &options.project)?;
    let order = project::store_order(cx, project, options.store.as_deref())?;
    let (store, vault, stored, notes) = project::find_snapshot(cx, project, &order, &options.choice)?;
    if fs::symlink_metadata(&options.output).is_ok() {
        return Err(OperationError::Exists { path: options.output.clone() });
    }
    let started_at = cx.now();
    let mut report = ExportReport {
        schema_version: SCHEMA_VERSION,
        run_id: new_run_id(started_at)?,
        project: project.name.clone(),
        snapshot: stored.id,
        taken_at: stored.snapshot.started_at,
        store: store.name.to_string(),
        output: options.output.clone(),
        entries: 0,
        bytes: 0,
        archive_bytes: 0,
        failed: Vec::new(),
        notes,
    };
    let audit = cx.audit()?;
    let mut start = cx.log_start(&report.run_id, project.name.as_str(), "export", started_at);
    start.snapshot = Some(stored.id.to_hex());
    start.stores = vec![store.name.to_string()];
    start.target = options.output.display().to_string();
    let row = audit.begin_restore(&start).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let part = part_of(&options.output);
    let result = write(cx, &vault, &stored, &part, &mut report).map_err(|stop| match stop {
        Stop::Operation(error) => error,
        Stop::Vault(error) => vault_error(&project.name, &store.name, error),
    });
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    audit.end(row, &log_end(cx, &report, result.as_ref().err())).map_err(|e| OperationError::Audit(Box::new(e)))?;
    result.map(|()| report)
}

fn part_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

enum Stop {
    Operation(OperationError),
    Vault(havun_vault::VaultError),
}

impl From<havun_vault::VaultError> for Stop {
    fn from(error: havun_vault::VaultError) -> Self {
        Self::Vault(error)
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Stop {
    let path = path.to_owned();
    move |source| Stop::Operation(OperationError::Io { doing, path: path.clone(), source })
}

fn write(cx: &Context, vault: &Vault, stored: &StoredSnapshot, part: &Path, report: &mut ExportReport) -> Result<(), Stop> {
    let failed = io_error("cannot write", part);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part).map_err(&failed)?;
    let mut encoder = zstd::stream::write::Encoder::new(file, LEVEL).map_err(&failed)?;
    encoder.include_checksum(true).map_err(&failed)?;
    let mut archive = Archive::new(encoder);
    let json = serde_json::to_vec_pretty(&stored.snapshot).map_err(|e| failed(e.into()))?;
    archive.file("snapshot.json", &json, stored.snapshot.ended_at).map_err(&failed)?;
    let mut contents = vault.contents(&stored.snapshot)?;
    for entry in vault.entries(&stored.snapshot)? {
        cx.check_cancelled().map_err(Stop::Operation)?;
        match entry {
            Ok(entry) => add(cx, &mut archive, &mut contents, &entry, report, &failed)?,
            Err(error) if error.is_integrity() => {
                report.failed.push(FailedPath { path: "(a part of the manifest)".to_owned(), why: one_line(&error) });
            }
            Err(error) => return Err(error.into()),
        }
    }
    if report.entries == 0 {
        let reasons = report.failed.iter().take(20).map(|f| format!("{}: {}", f.path, f.why)).collect();
        return Err(Stop::Operation(OperationError::NothingRestorable { snapshot: stored.id.short(), reasons }));
    }
    let file = archive.finish().and_then(zstd::stream::write::Encoder::finish).map_err(&failed)?;
    report.archive_bytes = settle(&file, part, &report.output).map_err(&failed)?;
    Ok(())
}

/// Makes the archive durable and gives it its name, which nobody must have taken meanwhile.
fn settle(file: &File, part: &Path, output: &Path) -> io::Result<u64> {
    file.sync_all()?;
    let size = file.metadata()?.len();
    fs::hard_link(part, output).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::rename(part, output),
    })?;
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(size)
}

fn add(
    cx: &Context,
    archive: &mut Archive<impl Write>,
    contents: &mut Contents<'_>,
    entry: &Entry,
    report: &mut ExportReport,
    failed: &impl Fn(io::Error) -> Stop,
) -> Result<(), Stop> {
    let appended = match archive.begin(entry).map_err(failed)? {
        Append::Nothing => return Ok(()),
        Append::Whole => Ok(()),
        Append::Content => content(archive, contents, entry, failed),
    };
    match appended {
        Ok(()) => {
            report.entries += 1;
            if entry.kind == EntryKind::File {
                report.bytes += entry.size;
                cx.observer.advance("export", 1, entry.size);
            }
            Ok(())
        }
        Err(Stop::Vault(error)) if error.is_integrity() => {
            report.failed.push(FailedPath { path: entry.display_path(), why: one_line(&error) });
            Ok(())
        }
        Err(stop) => Err(stop),
    }
}

/// The header says how long the content is, so nothing is written before all of it has proved readable: a file of one
/// chunk waits in memory, a longer one is read twice.
fn content(
    archive: &mut Archive<impl Write>,
    contents: &mut Contents<'_>,
    entry: &Entry,
    failed: &impl Fn(io::Error) -> Stop,
) -> Result<(), Stop> {
    if entry.chunks.len() <= 1 && entry.sparse.is_none() {
        let mut bytes = Vec::new();
        contents.write(entry, &mut bytes)?;
        archive.header(entry).map_err(failed)?;
        archive.write_all(&bytes).map_err(failed)?;
    } else {
        contents.write(entry, &mut io::sink())?;
        archive.header(entry).map_err(failed)?;
        contents.write(entry, archive)?;
    }
    archive.pad().map_err(failed)
}

fn log_end(cx: &Context, report: &ExportReport, error: Option<&OperationError>) -> LogEnd {
    let status = match error {
        None if report.failed.is_empty() => Outcome::Ok.word(),
        None => Outcome::Partial.word(),
        Some(OperationError::Interrupted) => "cancelled",
        Some(_) => Outcome::Failed.word(),
    };
    let message = error.map_or_else(
        || report.failed.iter().take(20).map(|f| format!("{}: {}", f.path, f.why)).collect::<Vec<_>>().join("\n"),
        |error| error.to_failure().one_line(),
    );
    LogEnd {
        status: status.to_owned(),
        ended_at: cx.now(),
        snapshot: Some(report.snapshot.to_hex()),
        files: report.entries,
        bytes: report.bytes,
        bytes_added: report.archive_bytes,
        problems: report.failed.len() as u64,
        message,
        details: serde_json::Value::Null,
    }
}
