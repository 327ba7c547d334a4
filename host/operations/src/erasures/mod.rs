//! The erasure register (GDPR, article 17): whose data was erased from an application. A backup that was taken before
//! still holds it, so whoever restores one erases it again.
//!
//! An erasure lies in every store of the project, beside the backups, and in the audit database. Each makes up for what the
//! other has lost: an audit database that is restored from an old copy forgets nothing, and neither does a bare machine that
//! has nothing but an archive. What stands in any of them counts, and so does a withdrawal.
//!
//! Read this file (the register), then `apply` (what a restore or a drill does with it) and `files`.
//!
//! Shapes of `--json`: [`ErasureReport`] for `erasure add` and `erasure remove`, [`ErasureList`] for `erasure list`.

mod apply;
mod files;

pub(crate) use apply::{Applied, Erase, Job, ahead, carry_out};
pub use apply::{ErasedByRule, ErasureOutcome};

use crate::{
    config::ProjectConfig,
    context::Context,
    error::{OperationError, exit},
    holds::{copy, open_all, recorded, who},
    project::{self, vault_error},
    replication::Pushed,
    report::{Failure, SCHEMA_VERSION, combined_status},
};
use havun_model::{
    Digest, ProjectName, StoreName,
    erasures::{Erasure, NORMAL_FORM, Withdrawal},
};
use havun_vault::Vault;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// An erasure that was registered or withdrawn. Shape of `havun-backup erasure add --json` and `erasure remove --json`.
#[derive(Debug, Clone, Serialize)]
pub struct ErasureReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The project.
    pub project: ProjectName,
    /// The erasure.
    pub erasure: Erasure,
    /// How it was withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<Withdrawal>,
    /// The store that it was written to first.
    pub store: StoreName,
    /// Snapshots in that store that were taken before it, and so may hold the data.
    pub snapshots_before: u64,
    /// How it went to the other stores.
    pub copied: Vec<Pushed>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl ErasureReport {
    /// 0; 3 when a store does not have it yet.
    pub fn exit_status(&self) -> u8 {
        let copies = self.copied.iter().map(Pushed::exit_status);
        combined_status(&std::iter::once(exit::OK).chain(copies).collect::<Vec<_>>())
    }
}

/// The register. Shape of `havun-backup erasure list --json`.
#[derive(Debug, Clone, Serialize)]
pub struct ErasureList {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The projects.
    pub projects: Vec<ProjectErasures>,
}

/// The register of one project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectErasures {
    /// The project.
    pub project: ProjectName,
    /// Those that are carried out again, oldest first.
    pub standing: Vec<ErasureLine>,
    /// Those that were withdrawn.
    pub withdrawn: Vec<(Erasure, Withdrawal)>,
    /// Records that cannot be read, each with its store.
    pub damaged: Vec<String>,
    /// Stores that could not be asked.
    pub failures: BTreeMap<String, Failure>,
}

/// An erasure and where it stands.
#[derive(Debug, Clone, Serialize)]
pub struct ErasureLine {
    /// The erasure.
    #[serde(flatten)]
    pub erasure: Erasure,
    /// Stores that have it.
    pub stores: Vec<StoreName>,
}

impl ErasureList {
    /// 0; 5 when a record cannot be read; else what the stores that could not be asked say.
    pub fn exit_status(&self) -> u8 {
        if self.projects.iter().any(|project| !project.damaged.is_empty()) {
            return exit::INTEGRITY;
        }
        let statuses = |p: &ProjectErasures| p.failures.values().map(|f| f.exit_status).max().unwrap_or(exit::OK);
        combined_status(&self.projects.iter().map(statuses).collect::<Vec<_>>())
    }
}

/// SHA-256 of an identifier as the register has it; as it is where `exact`.
///
/// # Errors
/// [`OperationError::BadSubject`] where nothing is left of it.
pub fn hash(identifier: &str, exact: bool) -> Result<Digest, OperationError> {
    let steps = if exact { [].as_slice() } else { &NORMAL_FORM };
    let identifier = identifier.strip_suffix('\n').unwrap_or(identifier);
    let identifier = identifier.strip_suffix('\r').unwrap_or(identifier);
    if havun_model::erasures::normal_form(identifier, steps).is_empty() {
        return Err(OperationError::BadSubject { why: "the identifier is empty".to_owned() });
    }
    Ok(crate::databases::subject_hash(identifier, steps))
}

/// Registers an erasure.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::BadSubject`]; the vault's. That a store is away is in the report.
pub fn add(cx: &Context, project: &str, subject: &str, note: &str) -> Result<ErasureReport, OperationError> {
    let project = project::find(cx, project)?;
    let bad = |_| OperationError::BadSubject { why: "it is not 64 hexadecimal digits".to_owned() };
    let subject: Digest = subject.trim().parse().map_err(bad)?;
    let order = project::store_order(cx, project, None)?;
    let (store, vault, mut notes) = project::first_open(cx, project, &order)?;
    if let Some(again) = Register::of(cx, project).standing.iter().find(|known| known.subject == subject) {
        notes.push(format!("the same subject is in the register already ({}, of {}): both stand", again.id, again.created));
    }
    let erasure = Erasure { id: String::new(), created: cx.now(), by: who(cx, project), subject, note: note.to_owned() };
    let failed = |e| vault_error(&project.name, &store.name, e);
    let erasure = recorded(cx, project, &store.name, "erasure", note, || {
        let stored = vault.add_erasure(erasure, &cx.holder("erasure")).map_err(failed)?;
        Ok((stored.erasure.clone(), serde_json::json!({ "erasure": stored.erasure })))
    })?;
    let snapshots = vault.snapshots().map_err(failed)?.snapshots;
    let snapshots_before = snapshots.iter().filter(|stored| is_due(&erasure, stored.snapshot.started_at)).count() as u64;
    let copied = copy(cx, project)?;
    level(cx, project)?;
    Ok(report(project, erasure, None, store.name, snapshots_before, copied, notes))
}

/// Withdraws the erasure whose id begins with `id`: it was registered by mistake.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::NoErasure`], [`OperationError::AmbiguousErasure`]; the vault's.
pub fn remove(cx: &Context, project: Option<&str>, id: &str, reason: &str) -> Result<ErasureReport, OperationError> {
    let names: Vec<String> = project.iter().map(|name| (*name).to_owned()).collect();
    let mut found = Vec::new();
    for project in project::select(cx, &names)? {
        let standing = Register::of(cx, project).standing;
        found.extend(standing.into_iter().filter(|erasure| erasure.id.starts_with(id)).map(|erasure| (project, erasure)));
    }
    let (project, erasure) = match found.as_slice() {
        [] => return Err(OperationError::NoErasure { id: id.to_owned() }),
        [(project, erasure)] => (*project, erasure.clone()),
        several => {
            let matches = several.iter().map(|(project, erasure)| format!("{} of {}", erasure.id, project.name)).collect();
            return Err(OperationError::AmbiguousErasure { prefix: id.to_owned(), matches });
        }
    };
    // What only the audit database knows must stand in a vault before it can be withdrawn there.
    level(cx, project)?;
    let order = project::store_order(cx, project, None)?;
    let (store, vault, notes) = project::first_open(cx, project, &order)?;
    let withdrawal = Withdrawal { erasure: erasure.id.clone(), at: cx.now(), by: who(cx, project), reason: reason.to_owned() };
    recorded(cx, project, &store.name, "erasure-remove", reason, || {
        let failed = |e| vault_error(&project.name, &store.name, e);
        vault.withdraw_erasure(withdrawal.clone(), &cx.holder("erasure")).map_err(failed)?;
        Ok(((), serde_json::json!({ "erasure": erasure, "withdrawal": withdrawal })))
    })?;
    let copied = copy(cx, project)?;
    level(cx, project)?;
    Ok(report(project, erasure, Some(withdrawal), store.name, 0, copied, notes))
}

fn report(
    project: &ProjectConfig,
    erasure: Erasure,
    withdrawal: Option<Withdrawal>,
    store: StoreName,
    snapshots_before: u64,
    copied: Vec<Pushed>,
    notes: Vec<String>,
) -> ErasureReport {
    let project = project.name.clone();
    ErasureReport { schema_version: SCHEMA_VERSION, project, erasure, withdrawal, store, snapshots_before, copied, notes }
}

/// The register of the named projects, or of all. Writes nothing.
///
/// # Errors
/// [`OperationError::UnknownProject`].
pub fn list(cx: &Context, projects: &[String]) -> Result<ErasureList, OperationError> {
    let one = |project: &ProjectConfig| {
        let register = Register::of(cx, project);
        let line = |erasure: Erasure| {
            let stores = register.places.get(&erasure.id).cloned().unwrap_or_default();
            ErasureLine { erasure, stores }
        };
        ProjectErasures {
            project: project.name.clone(),
            standing: register.standing.iter().cloned().map(line).collect(),
            withdrawn: register.withdrawn,
            damaged: register.damaged,
            failures: register.failures.iter().map(|(store, error)| (store.clone(), error.to_failure())).collect(),
        }
    };
    let projects = project::select(cx, projects)?.into_iter().map(one).collect();
    Ok(ErasureList { schema_version: SCHEMA_VERSION, projects })
}

/// An erasure is carried out again on what was backed up before it was registered.
pub(crate) fn is_due(erasure: &Erasure, taken_at: Timestamp) -> bool {
    erasure.created >= taken_at
}

/// What every store and the audit database say, taken together.
#[derive(Default)]
pub(crate) struct Register {
    /// Those that stand, oldest first.
    pub standing: Vec<Erasure>,
    /// Those that were withdrawn anywhere.
    pub withdrawn: Vec<(Erasure, Withdrawal)>,
    /// Records that cannot be read: nobody knows whose data they are about.
    pub damaged: Vec<String>,
    /// What could not be asked, by store; `audit` for the database.
    pub failures: BTreeMap<String, OperationError>,
    /// Which stores have an erasure, by its id.
    places: BTreeMap<String, Vec<StoreName>>,
}

impl Register {
    /// Asks everyone. A store that is away is passed over: what it has, the others have too, but for what was registered
    /// while they were away.
    pub(crate) fn of(cx: &Context, project: &ProjectConfig) -> Self {
        let (open, failures) = open_all(cx, project);
        let mut register = Self { failures: failures.into_iter().map(|(name, e)| (name.to_string(), e)).collect(), ..Self::default() };
        let mut found = Found::default();
        for (store, vault) in &open {
            if let Err(error) = register.ask(project, store, vault, &mut found) {
                register.failures.insert(store.to_string(), error);
            }
        }
        match cx.audit().and_then(|audit| audit.erasures(project.name.as_str()).map_err(|e| OperationError::Audit(Box::new(e)))) {
            Ok(rows) => rows.into_iter().for_each(|(erasure, withdrawal)| found.take(erasure, withdrawal)),
            Err(error) => drop(register.failures.insert("audit".to_owned(), error)),
        }
        (register.standing, register.withdrawn) = found.settle();
        register
    }

    fn ask(&mut self, project: &ProjectConfig, store: &StoreName, vault: &Vault, found: &mut Found) -> Result<(), OperationError> {
        let there = vault.erasures().map_err(|e| vault_error(&project.name, store, e))?;
        self.damaged.extend(there.damaged.into_iter().map(|d| format!("{} in {store}: {}", d.object, d.what)));
        let standing = there.standing.into_iter().map(|stored| (stored.erasure, None));
        let withdrawn = there.withdrawn.into_iter().map(|(stored, withdrawal)| (stored.erasure, Some(withdrawal)));
        for (erasure, withdrawal) in standing.chain(withdrawn) {
            self.places.entry(erasure.id.clone()).or_default().push(store.clone());
            found.take(erasure, withdrawal);
        }
        Ok(())
    }

    /// Those that must be carried out again on a snapshot that was begun at `taken_at`.
    pub(crate) fn due(&self, taken_at: Timestamp) -> Vec<Erasure> {
        self.standing.iter().filter(|erasure| is_due(erasure, taken_at)).cloned().collect()
    }

    /// What may be missing from it, one line each.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let damaged = self.damaged.iter().map(|what| format!("the erasure register has a record that cannot be read: {what}"));
        let away = self
            .failures
            .iter()
            .map(|(name, error)| format!("the erasure register of {name} could not be asked: {}", crate::error::one_line(error)));
        damaged.chain(away).collect()
    }
}

/// By id, from wherever it was read.
#[derive(Default)]
struct Found(BTreeMap<String, (Erasure, Option<Withdrawal>)>);

impl Found {
    fn take(&mut self, erasure: Erasure, withdrawal: Option<Withdrawal>) {
        let entry = self.0.entry(erasure.id.clone()).or_insert((erasure, None));
        entry.1 = entry.1.take().or(withdrawal);
    }

    fn settle(self) -> (Vec<Erasure>, Vec<(Erasure, Withdrawal)>) {
        let (mut standing, mut withdrawn) = (Vec::new(), Vec::new());
        for (erasure, withdrawal) in self.0.into_values() {
            match withdrawal {
                None => standing.push(erasure),
                Some(withdrawal) => withdrawn.push((erasure, withdrawal)),
            }
        }
        standing.sort_by_key(|erasure| erasure.created);
        withdrawn.sort_by_key(|(erasure, _)| erasure.created);
        (standing, withdrawn)
    }
}

/// Writes what one of them lacks into the audit database and every store that opens.
pub(crate) fn level(cx: &Context, project: &ProjectConfig) -> Result<(), OperationError> {
    let register = Register::of(cx, project);
    remember(cx, project, &register)?;
    for (store, vault) in open_all(cx, project).0 {
        let failed = |e| vault_error(&project.name, &store, e);
        let there = vault.erasures().map_err(failed)?;
        let has = |id: &str| there.standing.iter().chain(there.withdrawn.iter().map(|(s, _)| s)).any(|stored| stored.erasure.id == id);
        let stands = |id: &str| there.standing.iter().any(|stored| stored.erasure.id == id);
        let holder = cx.holder("erasure");
        for erasure in register.standing.iter().chain(register.withdrawn.iter().map(|(erasure, _)| erasure)) {
            if !has(&erasure.id) {
                vault.add_erasure(erasure.clone(), &holder).map_err(failed)?;
            }
        }
        for (erasure, withdrawal) in &register.withdrawn {
            if stands(&erasure.id) || !has(&erasure.id) {
                vault.withdraw_erasure(withdrawal.clone(), &holder).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Writes into the audit database what only the stores know.
pub(crate) fn remember(cx: &Context, project: &ProjectConfig, register: &Register) -> Result<(), OperationError> {
    let failed = |e| OperationError::Audit(Box::new(e));
    let (audit, name) = (cx.audit()?, project.name.as_str());
    for erasure in &register.standing {
        audit.add_erasure(name, erasure).map_err(failed)?;
    }
    for (erasure, withdrawal) in &register.withdrawn {
        audit.add_erasure(name, erasure).map_err(failed)?;
        audit.withdraw_erasure(name, withdrawal).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erasure(id: &str, second: i64) -> Erasure {
        let created = Timestamp::from_second(second).unwrap();
        Erasure { id: id.to_owned(), created, by: String::new(), subject: Digest::from_bytes([0; 32]), note: String::new() }
    }

    #[test]
    fn a_withdrawal_counts_wherever_it_stands() {
        let withdrawal = Withdrawal { erasure: "a".to_owned(), at: Timestamp::UNIX_EPOCH, by: String::new(), reason: String::new() };
        let mut found = Found::default();
        found.take(erasure("a", 2), None);
        found.take(erasure("b", 1), None);
        found.take(erasure("a", 2), Some(withdrawal));
        found.take(erasure("a", 2), None);
        let (standing, withdrawn) = found.settle();
        assert_eq!(standing.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(withdrawn.len(), 1);
    }

    #[test]
    fn only_what_was_backed_up_before_is_due() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_due(&erasure("a", 10), at(9)) && is_due(&erasure("a", 10), at(10)) && !is_due(&erasure("a", 10), at(11)));
    }

    #[test]
    fn an_identifier_is_hashed_in_its_normal_form() {
        let known = "a3ff11319b5ef6b1a80a92bc5fe5ee21120a07fb9fe6c901d8a7af3ac128b2d8"; // printf jan@example.org | sha256sum
        let hashed = hash("Jan@Example.org\n", false).unwrap().to_hex();
        assert_eq!(hashed, hash(" jan@example.org\r\n", false).unwrap().to_hex());
        assert_ne!(hashed, hash("Jan@Example.org", true).unwrap().to_hex());
        assert_eq!(hashed, known);
        assert!(hash(" \n", false).is_err());
    }
}
