//! Which snapshot is meant: the newest good one, the one of a day, or a prefix of an id. Pure functions over a list.

use crate::error::OperationError;
use havun_model::{Outcome, ProjectName, SnapshotId};
use havun_vault::{StoredSnapshot, VaultError};
use jiff::{civil, tz::TimeZone};

/// Which snapshot to restore or export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SnapshotChoice {
    /// The newest whose outcome is `ok`.
    #[default]
    Latest,
    /// The newest of a day (`2026-01-31`) in the configured time zone, an `ok` one before a partial one.
    Date(String),
    /// The one whose id begins so.
    Id(String),
}

/// How many snapshots an error names.
const NAMED: usize = 8;

/// The snapshot that is meant, and what the operator should know of the choice. `snapshots` come oldest first.
///
/// # Errors
/// [`OperationError::NoSnapshot`], [`OperationError::AmbiguousSnapshot`], [`OperationError::BadDate`].
pub fn choose<'a>(
    project: &ProjectName,
    snapshots: &'a [StoredSnapshot],
    choice: &SnapshotChoice,
    zone: &TimeZone,
) -> Result<(&'a StoredSnapshot, Vec<String>), OperationError> {
    match choice {
        SnapshotChoice::Latest => latest(project, snapshots),
        SnapshotChoice::Date(text) => of_day(project, snapshots, text, zone),
        SnapshotChoice::Id(prefix) => {
            let id = by_prefix(project, snapshots, std::iter::empty(), prefix)?;
            let found =
                snapshots.iter().find(|s| s.id == id).ok_or_else(|| none(project, snapshots, format!("that begins with `{prefix}`")))?;
            Ok((found, partial_note(found)))
        }
    }
}

fn latest<'a>(project: &ProjectName, snapshots: &'a [StoredSnapshot]) -> Result<(&'a StoredSnapshot, Vec<String>), OperationError> {
    let good = snapshots.iter().rposition(|s| s.snapshot.outcome == Outcome::Ok);
    let newest = good.or_else(|| snapshots.len().checked_sub(1)).and_then(|place| Some((place, snapshots.get(place)?)));
    let (place, found) = newest.ok_or_else(|| none(project, snapshots, "yet".to_owned()))?;
    let mut notes = partial_note(found);
    let newer = snapshots.get(place + 1..).unwrap_or_default();
    notes.extend(newer.iter().rev().map(|s| format!("there is a newer, partial snapshot: {}", line(s))));
    Ok((found, notes))
}

fn of_day<'a>(
    project: &ProjectName,
    snapshots: &'a [StoredSnapshot],
    text: &str,
    zone: &TimeZone,
) -> Result<(&'a StoredSnapshot, Vec<String>), OperationError> {
    let day: civil::Date = text.parse().map_err(|_| OperationError::BadDate { text: text.to_owned() })?;
    let same_day = |s: &&StoredSnapshot| s.snapshot.started_at.to_zoned_datetime(zone.clone()).date() == day;
    let of_day: Vec<&StoredSnapshot> = snapshots.iter().filter(same_day).collect();
    let good = of_day.iter().rev().find(|s| s.snapshot.outcome == Outcome::Ok);
    let found = good.or_else(|| of_day.last()).copied().ok_or_else(|| none(project, snapshots, format!("of {day}")))?;
    let mut notes = partial_note(found);
    if of_day.len() > 1 {
        notes.push(format!("{} snapshots are of {day}; this is the newest good one", of_day.len()));
    }
    Ok((found, notes))
}

/// The one id that begins with `prefix`, of readable and of damaged snapshots.
///
/// # Errors
/// [`OperationError::NoSnapshot`], [`OperationError::AmbiguousSnapshot`].
pub fn by_prefix(
    project: &ProjectName,
    snapshots: &[StoredSnapshot],
    damaged: impl Iterator<Item = SnapshotId>,
    prefix: &str,
) -> Result<SnapshotId, OperationError> {
    let prefix = prefix.to_ascii_lowercase();
    let readable = snapshots.iter().map(|s| (s.id, line(s)));
    let all = readable.chain(damaged.map(|id| (id, format!("{} (damaged)", id.short()))));
    let mut matches: Vec<(SnapshotId, String)> = all.filter(|(id, _)| !prefix.is_empty() && id.to_hex().starts_with(&prefix)).collect();
    matches.dedup_by(|a, b| a.0 == b.0);
    match matches.as_slice() {
        [] => Err(none(project, snapshots, format!("that begins with `{prefix}`"))),
        [(id, _)] => Ok(*id),
        _ => {
            let longer = |(id, text): &(SnapshotId, String)| format!("{} ({text})", id.to_hex().get(..16).unwrap_or_default());
            let matches = matches.iter().map(longer).collect();
            Err(OperationError::AmbiguousSnapshot { project: project.clone(), prefix, matches })
        }
    }
}

/// One snapshot on one line.
pub fn line(stored: &StoredSnapshot) -> String {
    format!("{} {} {}", stored.id.short(), stored.snapshot.started_at.strftime("%Y-%m-%d %H:%M:%S UTC"), stored.snapshot.outcome.word())
}

fn partial_note(found: &StoredSnapshot) -> Vec<String> {
    if found.snapshot.outcome == Outcome::Ok {
        return Vec::new();
    }
    let problems = found.snapshot.items.iter().flat_map(|(name, item)| item.problems.iter().map(move |p| format!("{name}: {p}")));
    let mut notes = vec![format!("snapshot {} is {}:", found.id.short(), found.snapshot.outcome.word())];
    notes.extend(problems.take(20));
    notes
}

fn none(project: &ProjectName, snapshots: &[StoredSnapshot], wanted: String) -> OperationError {
    OperationError::NoSnapshot { project: project.clone(), wanted, there_are: snapshots.iter().rev().take(NAMED).map(line).collect() }
}

/// A choice that needs a vault may fail for either reason.
pub(crate) enum SelectError {
    Operation(OperationError),
    Vault(VaultError),
}

impl From<OperationError> for SelectError {
    fn from(error: OperationError) -> Self {
        Self::Operation(error)
    }
}

impl From<VaultError> for SelectError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl SelectError {
    /// As an operation's error.
    pub(crate) fn unwrap_or_vault(self, wrap: &impl Fn(VaultError) -> OperationError) -> OperationError {
        match self {
            Self::Operation(error) => error,
            Self::Vault(error) => wrap(error),
        }
    }
}
