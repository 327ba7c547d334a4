//! What health remembers of the snapshots of a primary store: a line for each in `<state folder>/health/`, so that an hourly
//! call reads only those that are new, and sees which are gone. The files are a memory and no authority: without them
//! everything is read anew, some of it with each call.

use crate::{
    config::{ProjectConfig, Tier},
    context::Context,
    error::OperationError,
    losses,
    project::vault_error,
};
use havun_model::{Outcome, SnapshotId, StoreName};
use havun_vault::{Vault, VaultError, layout, store::Listed};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    path::PathBuf,
};

/// So many snapshots that are not known yet are read by one call, the newest first.
const READ: usize = 40;

/// What is known of the snapshots of a store.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How each ended, where it was read.
    pub outcomes: HashMap<SnapshotId, Outcome>,
    /// Those that do not open, with what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Those that were there and are not any more, though nothing of this program deleted them.
    pub vanished: Vec<(String, u64)>,
}

/// Compares what lies there with what did.
///
/// # Errors
/// The store's.
pub(super) fn look(
    cx: &Context,
    project: &ProjectConfig,
    store: &StoreName,
    vault: &Vault,
    objects: &[Listed],
) -> Result<Known, OperationError> {
    let file = file(cx, project, store);
    let before = read(&file, &vault.info().vault_id);
    let mut lines = BTreeMap::new();
    let mut known = Known::default();
    let mut unread = READ;
    for (place, object) in objects.iter().rev().enumerate() {
        let name = object.name.as_str();
        let remembered = before.get(name).filter(|(size, _)| *size == object.size).map(|(_, outcome)| *outcome);
        let outcome = match remembered {
            // The newest is what a restore takes: it is read each time.
            Some(outcome) if place > 0 => outcome,
            _ if unread == 0 => continue,
            _ => {
                unread -= 1;
                match vault.read_snapshot(object) {
                    Ok(stored) => stored.snapshot.outcome,
                    Err(VaultError::Damaged { object, what }) => {
                        known.damaged.push((object, what));
                        continue;
                    }
                    Err(error) => return Err(vault_error(&project.name, store, error)),
                }
            }
        };
        if let Some(id) = layout::parse(name).and_then(|(_, _, hash)| hash.parse().ok()) {
            known.outcomes.insert(id, outcome);
        }
        lines.insert(name.to_owned(), (object.size, outcome));
    }
    let there: std::collections::HashSet<&str> = objects.iter().map(|object| object.name.as_str()).collect();
    for (name, (size, _)) in before.iter().filter(|(name, _)| !there.contains(name.as_str())) {
        let taken = layout::taken_at(name);
        // What retention would have let go by now is nobody's loss.
        if taken.is_some_and(|taken| project.retention.hot.keep_until(taken, &cx.zone()) >= cx.now()) {
            known.vanished.push((name.clone(), *size));
        }
    }
    if lines != before {
        note(cx, project, store, vault, &known.vanished)?;
    }
    if lines != before
        && let Err(error) = write(cx, &file, &vault.info().vault_id, &lines)
    {
        tracing::warn!(%error, "what health knows of the snapshots could not be kept; the next call reads them again");
    }
    Ok(known)
}

/// What is gone stands as a loss before it is forgotten here: until it is there again, or a person has accepted it. Only
/// `cleanup` thins a hot store, and says what it deletes there; other stores have catalogues of their own.
fn note(cx: &Context, project: &ProjectConfig, store: &StoreName, vault: &Vault, vanished: &[(String, u64)]) -> Result<(), OperationError> {
    let is_hot = cx.config.stores.get(store).is_some_and(|store| store.tier == Tier::Hot);
    if vanished.is_empty() || !is_hot {
        return Ok(());
    }
    (losses::noted(cx, &project.name, store, &vault.info().vault_id).0)(vanished).map_err(|error| vault_error(&project.name, store, error))
}

/// What a clean-up deletes is not missed.
pub(crate) fn forget(cx: &Context, project: &ProjectConfig, store: &StoreName, vault_id: &str, ids: &[SnapshotId]) {
    let file = file(cx, project, store);
    let mut lines = read(&file, vault_id);
    let before = lines.len();
    lines.retain(|name, _| !layout::parse(name).and_then(|(_, _, hash)| hash.parse().ok()).is_some_and(|id| ids.contains(&id)));
    if lines.len() < before
        && let Err(error) = write(cx, &file, vault_id, &lines)
    {
        tracing::warn!(%error, "what health knows of the snapshots could not be kept; it will miss what was cleaned up");
    }
}

type Lines = BTreeMap<String, (u64, Outcome)>;

fn file(cx: &Context, project: &ProjectConfig, store: &StoreName) -> PathBuf {
    cx.config.host.state_dir.join("health").join(format!("{}@{store}", project.name))
}

/// The first line is the vault's id: what is known of another vault says nothing.
fn read(file: &PathBuf, vault_id: &str) -> Lines {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    if lines.next() != Some(vault_id) {
        return Lines::new();
    }
    lines.filter_map(line).collect()
}

fn line(text: &str) -> Option<(String, (u64, Outcome))> {
    let mut words = text.split(' ');
    let (size, outcome, name) = (words.next()?, words.next()?, words.next()?);
    let outcome = match outcome {
        "ok" => Outcome::Ok,
        "partial" => Outcome::Partial,
        _ => return None,
    };
    Some((name.to_owned(), (size.parse().ok()?, outcome)))
}

fn write(cx: &Context, file: &PathBuf, vault_id: &str, lines: &Lines) -> Result<(), OperationError> {
    let folder = cx.private_dir("health")?;
    let failed = |source| OperationError::Io { doing: "cannot write", path: file.clone(), source };
    let mut text = format!("{vault_id}\n");
    for (name, (size, outcome)) in lines {
        text.push_str(&format!("{size} {} {name}\n", outcome.word()));
    }
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    temporary.write_all(text.as_bytes()).map_err(failed)?;
    temporary.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back_and_nonsense_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop@local");
        fs::write(&file, "abc\n12 ok epochs/2026/snapshots/a\nx ok b\n5 torn c\n7 partial epochs/2026/snapshots/d\n").unwrap();
        let lines = read(&file, "abc");
        let told: Vec<_> = lines.iter().map(|(name, (size, outcome))| (name.as_str(), *size, outcome.word())).collect();
        assert_eq!(told, [("epochs/2026/snapshots/a", 12, "ok"), ("epochs/2026/snapshots/d", 7, "partial")]);
        assert!(read(&file, "abd").is_empty(), "another vault");
    }
}
