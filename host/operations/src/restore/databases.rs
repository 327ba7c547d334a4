//! Databases of a snapshot into a live target. The engine proves the dump before it replaces anything.

use super::{FailedPath, PreparedRestore, RestoreOutcome, RestoredItem, erase::ErasedFirst, plan::DatabaseTarget};
use crate::{
    databases::{self, DumpSource, FileOwner, Overrides, ResolvedConnection, RestoreTarget},
    error::one_line,
    run::overrides,
};
use havun_model::{Connection, DatabaseRecord, ItemRecord, Outcome};
use havun_vault::Entry;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    io::{self, Write},
    path::Path,
};

/// Restores one item; what goes wrong is in `outcome`. Whoever is to be erased is erased before anybody can see the database,
/// where the engine can do that, and `first` knows then what came of it.
pub(super) fn restore(
    prepared: &PreparedRestore<'_>,
    item: &str,
    to: &DatabaseTarget,
    first: &mut ErasedFirst,
    outcome: &mut RestoreOutcome,
) {
    let step = prepared.view.steps.iter().find(|step| step.item == item);
    let mut restored = RestoredItem {
        item: item.to_owned(),
        kind: "database".to_owned(),
        outcome: Outcome::Ok,
        destination: step.map(|step| step.destination.clone()).unwrap_or_default(),
        notes: Vec::new(),
    };
    match load(prepared, item, to, first, &mut restored) {
        Ok(bytes) => {
            outcome.files += 1;
            outcome.bytes += bytes;
        }
        Err(why) => {
            restored.outcome = Outcome::Failed;
            restored.notes.push(why.clone());
            outcome.failed.push(FailedPath { path: item.to_owned(), why });
        }
    }
    // The files of a dump beside a target have a line already.
    match outcome.items.iter_mut().find(|line| line.item == item) {
        Some(line) => {
            line.outcome = line.outcome.max(restored.outcome);
            line.notes.extend(restored.notes);
        }
        None => outcome.items.push(restored),
    }
}

fn load(
    prepared: &PreparedRestore<'_>,
    item: &str,
    to: &DatabaseTarget,
    first: &mut ErasedFirst,
    restored: &mut RestoredItem,
) -> Result<u64, String> {
    let record = prepared.stored.snapshot.items.get(item).ok_or("the snapshot does not know it")?;
    let database =
        record.database.as_ref().ok_or_else(|| format!("the snapshot holds no whole dump of it: {}", record.problems.join("; ")))?;
    let entry = dump_entry(prepared, record)?;
    let connection = connection(prepared, database, to)?;
    let engine = databases::engine(connection).map_err(|e| one_line(&e))?;
    // What may replace something may be any database, also the live one by another name.
    let in_use =
        prepared.replace || matches!(to, DatabaseTarget::Original) || matches!(to, DatabaseTarget::Relative(_)) && prepared.view.in_place;
    let target = RestoreTarget { erase: first.of(item, in_use)?, ..target(prepared, record, to) };
    prepared.cx.private_dir(&replaced(prepared)).map_err(|e| one_line(&e))?;
    if let DatabaseTarget::Relative(path) = to {
        std::fs::create_dir_all(&prepared.target).map_err(|e| format!("cannot make {}: {e}", prepared.target.display()))?;
        make_place(&prepared.target, path)
            .map_err(|why| format!("{why}; nothing was written there: name another place with --database-as"))?;
    }
    let source = |out: &mut (dyn Write + Send)| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut contents = prepared.vault.contents(&prepared.stored.snapshot)?;
        Ok(contents.write(&entry, out)?)
    };
    let source: DumpSource<'_> = &source;
    let done = engine.restore(source, database, &target, &prepared.cx.cancel);
    // Goes only when nothing had to be saved.
    let _ = std::fs::remove_dir(&target.safety_dir);
    let done = done.map_err(|e| one_line(&e))?;
    first.done(item, done.erased);
    restored.notes.push(format!("{}: {} rows in {} tables compared", done.database, done.rows_verified, done.tables_verified));
    if let Some(saved) = &done.safety_dump {
        restored.notes.push(format!("what was there before is in {}", saved.display()));
    }
    if let Some(kept) = &done.kept {
        restored.notes.push(format!("what was there before is kept as database `{kept}`; drop it when you no longer need it"));
    }
    restored.notes.extend(done.warnings);
    if !done.problems.is_empty() || record.outcome != Outcome::Ok {
        restored.outcome = Outcome::Partial;
        restored.notes.extend(done.problems);
    }
    Ok(entry.size)
}

/// The engine of a database that has been restored, and the name that it was restored under.
pub(super) fn restored(
    prepared: &PreparedRestore<'_>,
    item: &str,
    to: &DatabaseTarget,
) -> Result<(Box<dyn databases::Engine>, Option<String>), String> {
    let record = prepared.stored.snapshot.items.get(item).and_then(|record| record.database.as_ref());
    let record = record.ok_or("the snapshot holds no whole dump of it")?;
    let engine = databases::engine(connection(prepared, record, to)?).map_err(|e| one_line(&e))?;
    Ok((engine, if let DatabaseTarget::Name(name) = to { Some(name.clone()) } else { None }))
}

/// The manifest entry of the form that a restore reads.
pub(super) fn dump_entry(prepared: &PreparedRestore<'_>, record: &ItemRecord) -> Result<Entry, String> {
    let path = record
        .paths
        .iter()
        .find(|path| path.ends_with(".sqlite"))
        .or_else(|| record.paths.iter().find(|path| !path.ends_with(".globals.sql")))
        .or_else(|| record.paths.first())
        .ok_or("the snapshot has no dump of it")?;
    entry(prepared, path)
}

/// The manifest entry of one form of a dump.
pub(super) fn entry(prepared: &PreparedRestore<'_>, path: &str) -> Result<Entry, String> {
    let entries = prepared.vault.entries(&prepared.stored.snapshot).map_err(|e| one_line(&e))?;
    for entry in entries {
        match entry {
            Ok(entry) if entry.path == path.as_bytes() => return Ok(entry),
            Ok(entry) if !entry.path.starts_with(b"databases") => break,
            Ok(_) => {}
            Err(error) => return Err(one_line(&error)),
        }
    }
    Err(format!("{path} is not in the manifest"))
}

/// The connection of the plan, as the snapshot has it.
pub(super) fn recorded(record: &DatabaseRecord) -> Connection {
    record.connection.clone().unwrap_or_else(|| Connection {
        name: "main".to_owned(),
        engine: record.engine.clone(),
        parameters: Vec::new(),
    })
}

pub(super) fn connection(
    prepared: &PreparedRestore<'_>,
    record: &DatabaseRecord,
    to: &DatabaseTarget,
) -> Result<ResolvedConnection, String> {
    let recorded = recorded(record);
    let bare = Connection { parameters: Vec::new(), ..recorded.clone() };
    match to {
        DatabaseTarget::Url(url) => {
            let overrides = Overrides::from([("url", url.clone().into())]);
            let bare = Connection { engine: if record.engine == "mariadb" { "mariadb".to_owned() } else { String::new() }, ..bare };
            ResolvedConnection::resolve(&bare, &overrides, existing_root(prepared)).map_err(|e| one_line(&e))
        }
        DatabaseTarget::Relative(path) => {
            let path = prepared.target.join(path).to_string_lossy().into_owned();
            ResolvedConnection::resolve(&bare, &Overrides::from([("path", path.into())]), &prepared.target).map_err(|e| one_line(&e))
        }
        DatabaseTarget::Original | DatabaseTarget::Name(_) => {
            let overrides = overrides(prepared.project, &recorded.name).map_err(|e| one_line(&e))?;
            let restored = ResolvedConnection::resolve(&recorded, &overrides, &prepared.target);
            // Without the tree in the target its `.env` is still the project's own.
            match restored {
                Err(_) if !prepared.view.in_place => {
                    ResolvedConnection::resolve(&recorded, &overrides, &prepared.project.root).map_err(|e| one_line(&e))
                }
                other => other.map_err(|e| one_line(&e)),
            }
        }
    }
}

fn existing_root<'a>(prepared: &'a PreparedRestore<'_>) -> &'a Path {
    if prepared.target.is_dir() { &prepared.target } else { Path::new("/") }
}

/// Makes the folder of a file `path` beneath `root`, so that no link on the way, which a snapshot may have brought, leads
/// a database to another place. What is at `path` itself may be a regular file or nothing.
///
/// # Errors
/// One line: where there is a link or something else.
pub(crate) fn make_place(root: &Path, path: &Path) -> Result<(), String> {
    let mut shown = root.to_owned();
    let failed = |shown: &Path, errno: Errno| match errno {
        Errno::LOOP => format!("{} is a link, which is not followed", shown.display()),
        errno => format!("cannot open {}: {}", shown.display(), io::Error::from(errno)),
    };
    let mut folder =
        rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| failed(root, e))?;
    for part in path.parent().unwrap_or(Path::new("")).components() {
        shown.push(part);
        match rustix::fs::mkdirat(&folder, part.as_os_str(), Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(&shown, errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        folder = rustix::fs::openat2(&folder, part.as_os_str(), flags, Mode::empty(), resolve).map_err(|e| failed(&shown, e))?;
    }
    let Some(name) = path.file_name() else { return Err(format!("{} names no file", path.display())) };
    match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => Ok(()),
        Ok(_) => Err(format!("{} is a link or no regular file, which is not followed", shown.join(name).display())),
        Err(errno) => Err(failed(&shown.join(name), errno)),
    }
}

/// Where this restore puts what it replaces, in the state folder.
fn replaced(prepared: &PreparedRestore<'_>) -> String {
    format!("replaced/{}/{}", prepared.project.name, prepared.stamp)
}

/// What the engine is told; nothing of it has been made yet.
pub(super) fn target(prepared: &PreparedRestore<'_>, record: &ItemRecord, to: &DatabaseTarget) -> RestoreTarget {
    RestoreTarget {
        database: if let DatabaseTarget::Name(name) = to { Some(name.clone()) } else { None },
        replace: prepared.replace,
        safety_dir: prepared.cx.config.host.state_dir.join(replaced(prepared)),
        stamp: prepared.stamp.clone(),
        owner: record.owner.map(|owner| FileOwner { mode: owner.mode, uid: owner.uid, gid: owner.gid }),
        lock_wait: prepared.cx.lock_wait,
        erase: None,
    }
}

/// A database URL as it may be shown.
pub(super) fn without_password(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else { return "a database given by URL".to_owned() };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "a database given by URL".to_owned();
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::{make_place, without_password};
    use std::{fs, os::unix::fs::symlink, path::Path};

    #[test]
    fn a_link_in_a_snapshot_leads_no_database_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (root, shared) = (folder.path().join("tree"), folder.path().join("shared"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(shared.join("inner")).unwrap();
        fs::write(shared.join("live.sqlite"), "live").unwrap();
        symlink(&shared, root.join("database")).unwrap();
        symlink("../shared/live.sqlite", root.join("app.sqlite")).unwrap();
        for path in ["database/live.sqlite", "database/inner/new.sqlite", "database/more/new.sqlite", "app.sqlite"] {
            assert!(make_place(&root, Path::new(path)).unwrap_err().contains("not followed"), "{path}");
        }
        assert!(!shared.join("more").exists());
        make_place(&root, Path::new("data/deep/new.sqlite")).unwrap();
        assert!(root.join("data/deep").is_dir());
        fs::write(root.join("data/deep/new.sqlite"), "").unwrap();
        make_place(&root, Path::new("data/deep/new.sqlite")).unwrap();
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(without_password("mysql://u:secret@h/db"), "mysql://u:***@h/db");
        assert!(!without_password("mysql://u:sec ret@:x").contains("sec"));
    }
}
