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
use std::{collections::HashSet, fs, io::Write as _, path::PathBuf};

/// So many snapshots that are not known yet are read by one call, the newest first.
const READ: usize = 40;

/// What is known of the snapshots of a store.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that are not whole.
    pub partial: HashSet<SnapshotId>,
    /// Those that do not open, with what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Those that were there and are not any more, though nothing of this program deleted them.
    pub vanished: Vec<(String, u64)>,
}

/// One snapshot as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<'a> {
    name: &'a str,
    size: u64,
    outcome: Outcome,
}

/// Compares what lies there, sorted by name, with what did.
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
    let text = fs::read_to_string(&file).unwrap_or_default();
    let before = lines(&text, &vault.info().vault_id);
    let mut known = Known::default();
    let (mut found, gone) = compare(&before, objects);
    for line in gone {
        // What retention would have let go by now is nobody's loss.
        if layout::taken_at(line.name).is_some_and(|taken| project.retention.hot.keep_until(taken, &cx.zone()) >= cx.now()) {
            known.vanished.push((line.name.to_owned(), line.size));
        }
    }
    // The newest is what a restore takes: it is read each time.
    let unread: Vec<usize> =
        (0..objects.len()).rev().filter(|at| *at + 1 == objects.len() || found.get(*at).is_some_and(Option::is_none)).collect();
    for at in unread.into_iter().take(READ) {
        let (Some(object), Some(slot)) = (objects.get(at), found.get_mut(at)) else { continue };
        *slot = match vault.read_snapshot(object) {
            Ok(stored) => Some(stored.snapshot.outcome),
            Err(VaultError::Damaged { object, what }) => {
                known.damaged.push((object, what));
                None
            }
            Err(error) => return Err(vault_error(&project.name, store, error)),
        };
    }
    let after: Vec<Line<'_>> = objects.iter().zip(found).filter_map(|(object, outcome)| Some(Line::of(object, outcome?))).collect();
    known.partial = after.iter().filter(|line| line.outcome != Outcome::Ok).filter_map(|line| id_of(line.name)).collect();
    if after != before {
        note(cx, project, store, vault, &known.vanished)?;
        if let Err(error) = write(cx, &file, &vault.info().vault_id, &after) {
            tracing::warn!(%error, "what health knows of the snapshots could not be kept; the next call reads them again");
        }
    }
    Ok(known)
}

impl<'a> Line<'a> {
    fn of(object: &'a Listed, outcome: Outcome) -> Self {
        Self { name: object.name.as_str(), size: object.size, outcome }
    }
}

/// The remembered outcome of each of `objects`, and the lines of which none is there. Both are sorted by name.
fn compare<'a>(before: &[Line<'a>], objects: &[Listed]) -> (Vec<Option<Outcome>>, Vec<Line<'a>>) {
    let (mut lines, mut gone) = (before.iter().peekable(), Vec::new());
    let mut outcome_of = |object: &Listed| {
        while let Some(line) = lines.next_if(|line| line.name < object.name.as_str()) {
            gone.push(*line);
        }
        let line = lines.next_if(|line| line.name == object.name.as_str())?;
        (line.size == object.size).then_some(line.outcome)
    };
    let found = objects.iter().map(&mut outcome_of).collect();
    gone.extend(lines);
    (found, gone)
}

fn id_of(name: &str) -> Option<SnapshotId> {
    layout::parse(name).and_then(|(_, _, hash)| hash.parse().ok())
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
    let text = fs::read_to_string(&file).unwrap_or_default();
    let before = lines(&text, vault_id);
    let is_gone = |line: &Line<'_>| id_of(line.name).is_some_and(|id| ids.contains(&id));
    let after: Vec<Line<'_>> = before.iter().filter(|line| !is_gone(line)).copied().collect();
    if after.len() < before.len()
        && let Err(error) = write(cx, &file, vault_id, &after)
    {
        tracing::warn!(%error, "what health knows of the snapshots could not be kept; it will miss what was cleaned up");
    }
}

fn file(cx: &Context, project: &ProjectConfig, store: &StoreName) -> PathBuf {
    cx.config.host.state_dir.join("health").join(format!("{}@{store}", project.name))
}

/// The first line is the vault's id: what is known of another vault says nothing. Lines that are not in order are none of ours.
fn lines<'a>(text: &'a str, vault_id: &str) -> Vec<Line<'a>> {
    let mut lines = text.lines();
    if lines.next() != Some(vault_id) {
        return Vec::new();
    }
    let mut found: Vec<Line<'a>> = Vec::new();
    for line in lines.filter_map(line) {
        if found.last().is_none_or(|last| last.name < line.name) {
            found.push(line);
        }
    }
    found
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut words = text.split(' ');
    let (size, outcome, name) = (words.next()?, words.next()?, words.next()?);
    let outcome = match outcome {
        "ok" => Outcome::Ok,
        "partial" => Outcome::Partial,
        _ => return None,
    };
    Some(Line { name, size: size.parse().ok()?, outcome })
}

fn write(cx: &Context, file: &PathBuf, vault_id: &str, lines: &[Line<'_>]) -> Result<(), OperationError> {
    let folder = cx.private_dir("health")?;
    let failed = |source| OperationError::Io { doing: "cannot write", path: file.clone(), source };
    let mut text = format!("{vault_id}\n");
    for Line { name, size, outcome } in lines {
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
    use havun_vault::store::ObjectName;

    #[test]
    fn lines_read_back_and_nonsense_is_left_out() {
        let text =
            "abc\n12 ok epochs/2026/snapshots/a\nx ok b\n5 torn c\n7 partial epochs/2026/snapshots/d\n1 ok epochs/2025/snapshots/e\n";
        let told: Vec<_> = lines(text, "abc").iter().map(|line| (line.name, line.size, line.outcome.word())).collect();
        assert_eq!(told, [("epochs/2026/snapshots/a", 12, "ok"), ("epochs/2026/snapshots/d", 7, "partial")]);
        assert!(lines(text, "abd").is_empty(), "another vault");
    }

    #[test]
    fn what_is_gone_new_or_of_another_size_is_told_apart() {
        let text = "v\n1 ok a\n2 partial b\n3 ok c\n4 ok e\n";
        let listed = |name: &str, size| Listed { name: ObjectName::new(name).unwrap(), size };
        let (found, gone) = compare(&lines(text, "v"), &[listed("b", 2), listed("c", 9), listed("d", 1)]);
        assert_eq!(found, [Some(Outcome::Partial), None, None]);
        assert_eq!(gone.iter().map(|line| line.name).collect::<Vec<_>>(), ["a", "e"]);
    }
}
