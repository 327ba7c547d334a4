//! Which snapshots are drilled, and from which store.
//!
//! The stores of a project take turns: the choices of one drill begin at different ones, and the next drill begins one
//! further, so that the archive is proven as often as the hot store. A store that cannot be asked is passed over, and
//! the certificate says so; one that was named is not.

use super::{
    due::{ACTION, NAMED},
    one::Job,
};
use crate::{
    config::DrillChoice,
    error::{OperationError, one_line},
    project, selection,
};
use havun_model::{Outcome, SnapshotId, StoreName};
use havun_vault::StoredSnapshot;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A snapshot to drill.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub store: StoreName,
    pub id: SnapshotId,
    /// `newest`, `oldest`, `random` or `named`.
    pub word: &'static str,
    /// When the newest good snapshot of the project was begun, in whatever store it is.
    pub newest: Option<Timestamp>,
    /// How many the drill has chosen.
    pub of: usize,
    /// Stores that were passed over, and the like.
    pub notes: Vec<String>,
}

/// What is to be done.
pub(super) struct Choices {
    pub snapshots: Vec<Chosen>,
    pub notes: Vec<String>,
}

/// Snapshots by store, listed when they are asked for.
struct Lists<'j, 'a> {
    job: &'j Job<'a>,
    known: BTreeMap<StoreName, Result<Vec<StoredSnapshot>, String>>,
}

impl Lists<'_, '_> {
    fn of(&mut self, name: &StoreName) -> Result<&[StoredSnapshot], OperationError> {
        if !self.known.contains_key(name) {
            let listed = list(self.job, name);
            if self.job.options.store.is_some() || matches!(listed, Err(OperationError::Interrupted)) {
                self.known.insert(name.clone(), Ok(listed?));
            } else {
                self.known.insert(name.clone(), listed.map_err(|e| one_line(&e)));
            }
        }
        Ok(self.known.get(name).and_then(|list| list.as_deref().ok()).unwrap_or_default())
    }

    fn newest(&self) -> Option<Timestamp> {
        let all = self.known.values().filter_map(|list| list.as_ref().ok()).flatten();
        all.filter(|s| s.snapshot.outcome == Outcome::Ok).map(|s| s.snapshot.started_at).max()
    }

    fn notes(&self) -> Vec<String> {
        self.known.iter().filter_map(|(name, list)| Some(format!("store `{name}` was passed over: {}", list.as_ref().err()?))).collect()
    }
}

fn list(job: &Job<'_>, name: &StoreName) -> Result<Vec<StoredSnapshot>, OperationError> {
    let (cx, project) = (job.cx, &job.project.name);
    cx.observer.step(&format!("snapshots in `{name}`"));
    let store = project::open_store(cx, project, name)?;
    let vault = match project::open_vault(cx, project, &store) {
        Err(error) if project::is_no_vault(&error) => return Ok(Vec::new()),
        vault => vault?,
    };
    Ok(vault.snapshots().map_err(|e| project::vault_error(project, name, e))?.snapshots)
}

/// The snapshots of one project's drill.
///
/// # Errors
/// [`OperationError::NoSnapshot`] when there is none in any store that could be asked; that of a store that was named.
pub(super) fn choose(job: &Job<'_>) -> Result<Choices, OperationError> {
    let (cx, project) = (job.cx, job.project);
    let wanted = job.options.store.clone().or_else(|| store_of(job).map(|name| name.to_string()));
    let order = project::store_order(cx, project, wanted.as_deref())?;
    let mut lists = Lists { job, known: BTreeMap::new() };
    // The newest snapshot is in the primary, whichever store is drilled; that the archive lags is for `health` to say.
    if let Some(name) = project::primary(cx, project) {
        lists.of(&name)?;
    }
    let turns = cx.audit()?.count_tests(project.name.as_str(), ACTION, NAMED).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let turns = usize::try_from(turns).unwrap_or(0);
    let mut chosen = Vec::new();
    match &job.options.snapshot {
        Some(prefix) => chosen.push(named(&mut lists, &order, prefix)?),
        None => {
            let words = if project.drill.choose.is_empty() { &cx.config.drill.choose } else { &project.drill.choose };
            for (place, choice) in words.iter().enumerate() {
                let taken: Vec<SnapshotId> = chosen.iter().map(|(_, id, _)| *id).collect();
                chosen.extend(one_choice(&mut lists, &order, turns + place, *choice, &taken, job.options.seed)?);
            }
        }
    }
    if chosen.is_empty() {
        let nothing: &[StoredSnapshot] = &[];
        let missing = selection::choose(&project.name, nothing, &selection::SnapshotChoice::Latest, &cx.zone());
        let notes = lists.notes();
        return match (missing, notes.is_empty()) {
            (Err(error), true) => Err(error),
            _ => Err(OperationError::NoUsableStore { project: project.name.clone(), reasons: notes }),
        };
    }
    let (newest, notes) = (lists.newest(), lists.notes());
    let of = chosen.len();
    let whole = |(store, id, word)| Chosen { store, id, word, newest, of, notes: notes.clone() };
    Ok(Choices { snapshots: chosen.into_iter().map(whole).collect(), notes })
}

fn store_of<'a>(job: &'a Job<'_>) -> Option<&'a StoreName> {
    let of_project = job.project.drill.store.as_ref();
    // A store that the project does not use is none of its own.
    of_project.or(job.cx.config.drill.store.as_ref()).filter(|name| of_project.is_some() || job.project.stores.contains(name))
}

type Choice = (StoreName, SnapshotId, &'static str);

fn named(lists: &mut Lists<'_, '_>, order: &[StoreName], prefix: &str) -> Result<Choice, OperationError> {
    let project = &lists.job.project.name;
    let mut missing = None;
    for name in order {
        match selection::by_prefix(project, lists.of(name)?, std::iter::empty(), prefix) {
            Ok(id) => return Ok((name.clone(), id, NAMED)),
            Err(error @ OperationError::NoSnapshot { .. }) => missing = missing.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    let reasons = lists.notes();
    Err(missing.unwrap_or_else(|| OperationError::NoUsableStore { project: project.clone(), reasons }))
}

/// One choice, from the first store of its turn that has something for it.
fn one_choice(
    lists: &mut Lists<'_, '_>,
    order: &[StoreName],
    turn: usize,
    choice: DrillChoice,
    taken: &[SnapshotId],
    seed: Option<u64>,
) -> Result<Option<Choice>, OperationError> {
    let first = turn.checked_rem(order.len()).unwrap_or(0);
    for name in order.iter().cycle().skip(first).take(order.len()) {
        let ids: Vec<SnapshotId> = lists.of(name)?.iter().map(|s| s.id).collect();
        if let Some(id) = pick(&ids, choice, taken, seed)? {
            return Ok(Some((name.clone(), id, choice.word())));
        }
    }
    Ok(None)
}

/// `ids` come oldest first. None when what is meant is taken already.
fn pick(ids: &[SnapshotId], choice: DrillChoice, taken: &[SnapshotId], seed: Option<u64>) -> Result<Option<SnapshotId>, OperationError> {
    let free: Vec<SnapshotId> = ids.iter().copied().filter(|id| !taken.contains(id)).collect();
    Ok(match choice {
        DrillChoice::Newest => ids.last().copied().filter(|id| !taken.contains(id)),
        DrillChoice::Oldest => ids.first().copied().filter(|id| !taken.contains(id)),
        DrillChoice::Random => {
            let number = seed.map_or_else(random, Ok)?;
            let place = usize::try_from(number % free.len().max(1) as u64).unwrap_or(0);
            free.get(place).copied()
        }
    })
}

fn random() -> Result<u64, OperationError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| OperationError::Random(e.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SnapshotId {
        SnapshotId::from_bytes([n; 32])
    }

    #[test]
    fn each_choice_is_another_snapshot() {
        let ids = [id(1), id(2), id(3)];
        assert_eq!(pick(&ids, DrillChoice::Newest, &[], None).unwrap(), Some(id(3)));
        assert_eq!(pick(&ids, DrillChoice::Oldest, &[], None).unwrap(), Some(id(1)));
        assert_eq!(pick(&ids, DrillChoice::Random, &[id(1), id(3)], Some(17)).unwrap(), Some(id(2)));
        for seed in 0..20 {
            let random = pick(&ids, DrillChoice::Random, &[id(3)], Some(seed)).unwrap();
            assert!(random == Some(id(1)) || random == Some(id(2)));
        }
    }

    #[test]
    fn one_snapshot_is_drilled_once() {
        for choice in DrillChoice::ALL {
            assert_eq!(pick(&[id(1)], choice, &[id(1)], None).unwrap(), None);
            assert_eq!(pick(&[], choice, &[], None).unwrap(), None);
        }
    }
}
