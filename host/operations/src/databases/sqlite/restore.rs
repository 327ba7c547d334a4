//! Putting a stored database file in place: written beside its place, checked there, renamed over.

use super::{DAMAGE, DatabaseError, copy, count_rows, erase, is_busy, open_private, sqlite_error, table_names};
use crate::databases::{DumpSource, FileOwner, RestoreOutcome, RestoreTarget, private};
use havun_model::{Cancel, DatabaseRecord};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::NamedTempFile;

/// Files that SQLite keeps beside a database; those of the replaced one would be taken for the new one's.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(super) fn restore(
    path: &Path,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    target: &RestoreTarget,
    cancel: &Cancel,
) -> Result<RestoreOutcome, DatabaseError> {
    let content = content(path)?;
    if let (Some(content), false) = (&content, target.replace) {
        return Err(DatabaseError::NotEmpty { database: format!("SQLite database {}", path.display()), content: content.clone() });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(DatabaseError::io("make", folder))?;
    let file = write_beside(folder, dump)?;
    let mut outcome = check(file.path(), record)?;
    outcome.database = path.display().to_string();
    if let Some(first) = &target.erase {
        let done = erase::erase(file.path(), &first.rules, &first.subjects, cancel);
        outcome.erased = Some(first.settle(done)?);
    }
    if cancel.is_cancelled() {
        return Err(DatabaseError::Cancelled);
    }
    if content.is_some() {
        outcome.safety_dump = Some(save(path, target, cancel)?);
        shut(path, target.lock_wait)?;
    }
    give_owner(&file, target.owner.map_or_else(|| present_owner(path, folder), Ok)?)?;
    put_in_place(file, path, folder)?;
    Ok(outcome)
}

/// What is at `path`, in words; `None` for nothing or a database without tables.
pub(super) fn content(path: &Path) -> Result<Option<String>, DatabaseError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DatabaseError::io("look at", path)(error)),
        Ok(metadata) if metadata.len() == 0 => return Ok(None),
        Ok(_) => {}
    }
    let tables =
        super::open_existing(path, Duration::ZERO).and_then(|old| old.get().and_then(table_names).map_err(sqlite_error("read", path)));
    Ok(match tables {
        Ok(tables) if tables.is_empty() => None,
        Ok(tables) => Some(format!("{} tables", tables.len())),
        Err(_) => Some("a file that cannot be read as a database".to_owned()),
    })
}

fn write_beside(folder: &Path, dump: DumpSource<'_>) -> Result<NamedTempFile, DatabaseError> {
    let mut file = private::file(folder, ".havun-database-")?;
    dump(&mut file).map_err(DatabaseError::Source)?;
    file.flush().and_then(|()| file.as_file().sync_all()).map_err(DatabaseError::io("write", file.path()))?;
    Ok(file)
}

/// Compares the new file with its record before anything that exists is touched.
fn check(path: &Path, record: &DatabaseRecord) -> Result<RestoreOutcome, DatabaseError> {
    let bad = |what: String| DatabaseError::BadDump { database: record.database.clone(), what };
    super::check_is_database(path).map_err(|error| bad(error.to_string()))?;
    let database = open_private(path).map_err(|error| bad(error.to_string()))?;
    let damage = copy::damage(&database, path);
    let known = record.warnings.iter().any(|warning| warning.starts_with(DAMAGE));
    if let (Some(first), false) = (damage.first(), known) {
        return Err(bad(first.clone()));
    }
    let rows = count_rows(&database).map_err(|error| bad(error.to_string()))?;
    if let Some(difference) = first_difference(&record.rows, &rows) {
        return Err(bad(difference));
    }
    database.close().map_err(|(_, error)| sqlite_error("close", path)(error))?;
    let problems = damage.into_iter().map(|line| format!("the database was damaged when it was backed up: {line}")).collect();
    Ok(RestoreOutcome { tables_verified: rows.len() as u64, rows_verified: rows.values().sum(), problems, ..RestoreOutcome::default() })
}

fn first_difference(expected: &std::collections::BTreeMap<String, u64>, found: &std::collections::BTreeMap<String, u64>) -> Option<String> {
    let differs = |(table, rows): (&String, &u64)| match found.get(table) {
        Some(now) if now == rows => None,
        Some(now) => Some(format!("table {table} has {now} rows, {rows} were recorded")),
        None => Some(format!("table {table} is missing")),
    };
    expected.iter().find_map(differs)
}

/// Copies what is there to the safety folder, under a name that is still free.
fn save(path: &Path, target: &RestoreTarget, cancel: &Cancel) -> Result<PathBuf, DatabaseError> {
    let folder = &target.safety_dir;
    fs::create_dir_all(folder).map_err(DatabaseError::io("make", folder))?;
    let stem = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let safe = crate::databases::free_path(folder, &format!("{stem}.before-restore"), "sqlite");
    let copied = copy::online(path, &safe, target.lock_wait, cancel);
    if let Err(error) = copied {
        let _ = fs::remove_file(&safe);
        if matches!(error, DatabaseError::Locked { .. } | DatabaseError::Cancelled) {
            return Err(error);
        }
        copy_as_it_is(path, &safe)?;
    }
    let kept = File::open(&safe).and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600)).and_then(|()| file.sync_all()));
    kept.map_err(DatabaseError::io("write", &safe))?;
    Ok(safe)
}

/// For what SQLite cannot read: the bytes, with the files beside it.
fn copy_as_it_is(path: &Path, safe: &Path) -> Result<(), DatabaseError> {
    fs::copy(path, safe).map_err(DatabaseError::io("copy", path))?;
    for suffix in COMPANIONS {
        let from = companion(path, suffix);
        if from.exists() {
            fs::copy(&from, companion(safe, suffix)).map_err(DatabaseError::io("copy", &from))?;
        }
    }
    Ok(())
}

/// Makes sure that nobody has the old database open: a program that went on writing would write into a deleted file.
fn shut(path: &Path, wait: Duration) -> Result<(), DatabaseError> {
    let close = || {
        let old = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        old.busy_timeout(wait)?;
        old.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        old.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        old.execute_batch("BEGIN EXCLUSIVE; ROLLBACK")
    };
    match close() {
        Err(error) if is_busy(&error) => {
            Err(DatabaseError::Locked { database: format!("SQLite database {}", path.display()), waited: wait })
        }
        // Damaged, or no database: it is replaced all the same.
        _ => Ok(()),
    }
}

fn present_owner(path: &Path, folder: &Path) -> Result<FileOwner, DatabaseError> {
    if let Ok(present) = fs::metadata(path) {
        return Ok(FileOwner { mode: present.mode() & 0o7777, uid: present.uid(), gid: present.gid() });
    }
    let folder = fs::metadata(folder).map_err(DatabaseError::io("look at", folder))?;
    Ok(FileOwner { mode: 0o640, uid: folder.uid(), gid: folder.gid() })
}

fn give_owner(file: &NamedTempFile, owner: FileOwner) -> Result<(), DatabaseError> {
    let now = file.as_file().metadata().map_err(DatabaseError::io("look at", file.path()))?;
    if (now.uid(), now.gid()) != (owner.uid, owner.gid) {
        std::os::unix::fs::fchown(file, Some(owner.uid), Some(owner.gid)).map_err(DatabaseError::io("give an owner to", file.path()))?;
    }
    file.as_file().set_permissions(fs::Permissions::from_mode(owner.mode)).map_err(DatabaseError::io("set the mode of", file.path()))
}

fn put_in_place(file: NamedTempFile, path: &Path, folder: &Path) -> Result<(), DatabaseError> {
    file.as_file().sync_all().map_err(DatabaseError::io("write", file.path()))?;
    for suffix in COMPANIONS {
        let beside = [companion(path, suffix), companion(file.path(), suffix)];
        beside.iter().try_for_each(|stale| remove(stale))?;
    }
    file.persist(path).map_err(|error| DatabaseError::io("rename to", path)(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(DatabaseError::io("write", folder))
}

fn remove(stale: &Path) -> Result<(), DatabaseError> {
    match fs::remove_file(stale) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DatabaseError::io("remove", stale)(error)),
        _ => Ok(()),
    }
}

pub(super) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
