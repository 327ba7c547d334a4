//! What the databases hold that a restore would go to: looked at before anything is written, the tree too.
//!
//! Where a database is may stand in a dotenv file that this restore brings back; then the file is read from the
//! snapshot. What cannot be looked at is said in the plan, and its engine looks again before it loads anything.

use super::{
    PreparedRestore,
    databases::{connection, recorded, target},
    plan::{DatabaseTarget, Work},
};
use crate::{
    databases::{self, Present, ResolvedConnection, read_beneath},
    error::{OperationError, one_line},
    run::overrides,
};
use havun_vault::Entry;
use std::{
    io,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The longest dotenv file that is read from a snapshot, in bytes.
const LONGEST_ENV: u64 = 1 << 20;

/// Looks at every target and writes into the plan what it holds and what will become of it.
pub(super) fn survey(prepared: &mut PreparedRestore<'_>) -> Result<(), OperationError> {
    for (item, looked) in look_at_all(prepared)? {
        match looked {
            Ok(present) => note(prepared, &item, present),
            Err(why) => prepared.view.notes.push(format!("what is in the database for `{item}` cannot be told yet: {why}")),
        }
    }
    Ok(())
}

fn note(prepared: &mut PreparedRestore<'_>, item: &str, present: Present) {
    prepared.view.notes.extend(present.notes);
    let Some(content) = present.content else { return };
    let text = if prepared.replace {
        format!("{content}; the old one {}", present.fate)
    } else {
        prepared.view.refused.push(format!("{} ({content})", present.database));
        format!("{content}: refused without --replace, with which the old one {}", present.fate)
    };
    if let Some(step) = prepared.view.steps.iter_mut().find(|step| step.item == item) {
        step.overwrites = text;
    }
}

/// Looks once more, at the last moment before the restore begins.
///
/// # Errors
/// [`OperationError::DatabaseNotEmpty`] when one holds something and may not be replaced.
pub(super) fn check(prepared: &PreparedRestore<'_>) -> Result<(), OperationError> {
    if prepared.replace {
        return Ok(());
    }
    let occupied = |(_, looked): (String, Result<Present, String>)| {
        let present = looked.ok()?;
        present.content.map(|content| format!("{} ({content})", present.database))
    };
    let databases: Vec<String> = look_at_all(prepared)?.into_iter().filter_map(occupied).collect();
    if databases.is_empty() { Ok(()) } else { Err(OperationError::DatabaseNotEmpty { databases }) }
}

type Looked = Vec<(String, Result<Present, String>)>;

fn look_at_all(prepared: &PreparedRestore<'_>) -> Result<Looked, OperationError> {
    let mut all = Looked::new();
    for work in &prepared.work {
        prepared.cx.check_cancelled()?;
        if let Work::Database { item, to } = work {
            all.push((item.clone(), look(prepared, item, to)));
        }
    }
    Ok(all)
}

fn look(prepared: &PreparedRestore<'_>, item: &str, to: &DatabaseTarget) -> Result<Present, String> {
    let record = prepared.stored.snapshot.items.get(item).ok_or("the snapshot does not know it")?;
    let database = record.database.as_ref().ok_or("the snapshot holds no whole dump of it")?;
    if let DatabaseTarget::Relative(_) = to {
        // In a folder that was empty when it was planned.
        return Ok(Present::default());
    }
    let connection = match to {
        DatabaseTarget::Original | DatabaseTarget::Name(_) => {
            let recorded = recorded(database);
            let overrides = overrides(prepared.project, &recorded.name).map_err(|e| one_line(&e))?;
            let read = |file: &str| read_env(prepared, file);
            ResolvedConnection::resolve_ahead(&recorded, &overrides, &prepared.target, &read).map_err(|e| one_line(&e))?
        }
        DatabaseTarget::Url(_) | DatabaseTarget::Relative(_) => connection(prepared, database, to)?,
    };
    let engine = databases::engine(connection).map_err(|e| one_line(&e))?;
    engine.look(&target(prepared, record, to), &prepared.cx.cancel).map_err(|e| one_line(&e))
}

/// A dotenv file as it will be when the files are restored.
fn read_env(prepared: &PreparedRestore<'_>, file: &str) -> io::Result<Zeroizing<String>> {
    match env_entry(prepared, file)? {
        Some(entry) => {
            let mut bytes = Zeroizing::new(Vec::new());
            let mut contents = prepared.vault.contents(&prepared.stored.snapshot).map_err(io::Error::other)?;
            contents.write(&entry, &mut *bytes).map_err(io::Error::other)?;
            let text = std::str::from_utf8(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Ok(Zeroizing::new(text.to_owned()))
        }
        None => match read_beneath(&prepared.target, file) {
            Err(_) if !prepared.view.in_place => read_beneath(&prepared.project.root, file),
            read => read,
        },
    }
}

/// The entry of a regular file that this restore will put at `file` beneath its target.
fn env_entry(prepared: &PreparedRestore<'_>, file: &str) -> io::Result<Option<Entry>> {
    let clean: PathBuf = Path::new(file).components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect();
    let wanted = [b"tree/", clean.as_os_str().as_encoded_bytes()].concat();
    for entry in prepared.vault.entries(&prepared.stored.snapshot).map_err(io::Error::other)? {
        // What cannot be read will not be restored either.
        let Ok(entry) = entry else { continue };
        if entry.path == wanted {
            let small = entry.kind == havun_vault::EntryKind::File && entry.size <= LONGEST_ENV;
            return Ok((small && prepared.selector.destination(&entry).as_deref() == Some(&*clean)).then_some(entry));
        }
        if entry.path.split(|b| *b == b'/').gt(wanted.split(|b| *b == b'/')) {
            break;
        }
    }
    Ok(None)
}
