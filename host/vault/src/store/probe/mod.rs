//! `store check`: what a store really does, tried and not assumed.
//!
//! [`store_check`] runs the conformance suite, tries to harm objects with the store's own credentials (`enforcement`),
//! measures (`measure`), and removes what it made. Everything it writes lies in folders that begin with `conformance-` or
//! `probe-`, so that a lock can be asked for a day only there. It takes the vault's lease: give it a vault folder that no
//! run uses.

mod enforcement;
mod measure;

pub use enforcement::{Attempt, Enforcement, Level, enforcement};
pub use measure::{Measured, measure};

use super::{ObjectName, Promises, Store, StoreError, conformance};
use serde::Serialize;
use std::time::Duration;

/// Beginnings of the names of everything that a check writes.
pub const CHECK_FOLDERS: [&str; 2] = ["conformance-", "probe-"];

/// What a check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreCheckOptions {
    /// Run the conformance suite.
    pub conformance: bool,
    /// Try to harm objects.
    pub enforcement: bool,
    /// Objects to measure with; 0 measures nothing.
    pub measure_objects: u32,
    /// Bytes of each.
    pub measure_bytes: usize,
    /// How many of them at once.
    pub threads: u32,
}

impl Default for StoreCheckOptions {
    /// Everything; 4 objects of 8 MiB at once.
    fn default() -> Self {
        Self { conformance: true, enforcement: true, measure_objects: 4, measure_bytes: 8 << 20, threads: 4 }
    }
}

/// A step of a check, for a progress line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what is done next")]
pub enum CheckStep {
    Conformance,
    Enforcement,
    Measure,
    CleanUp,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct StoreCheck {
    /// The store, for people.
    pub describe: String,
    /// What it says it holds to.
    pub promises: Promises,
    /// What it says it does not.
    pub notes: Vec<String>,
    /// One per check of the suite.
    pub conformance: Vec<CheckFinding>,
    /// One per attempt.
    pub enforcement: Vec<Attempt>,
    /// `None` where nothing was measured, or it failed.
    pub measured: Option<Measured>,
    /// Who protects objects.
    pub level: Level,
    /// Objects that could not be removed: on a put-once or locked store, all of them.
    pub leftovers: Vec<String>,
    /// What went wrong beside the findings: a measurement or a clean-up that failed.
    pub problems: Vec<String>,
}

impl StoreCheck {
    /// Whether the store does everything that it promises.
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.conformance.iter().all(|finding| finding.problem.is_none())
    }
}

/// A finding of the conformance suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    /// What the store has to do.
    pub check: String,
    /// What it did instead; `None` where it passed.
    pub problem: Option<String>,
}

/// Checks `store`. `clock` is a time that only grows, from any beginning; `progress` is told what comes next.
///
/// # Errors
/// Where the store does not answer at all, or refuses us: then nothing was tried.
pub fn store_check(
    store: &dyn Store,
    options: StoreCheckOptions,
    clock: &dyn Fn() -> Duration,
    progress: &dyn Fn(CheckStep),
) -> Result<StoreCheck, StoreError> {
    // A store that cannot be used is one error, not thirty findings.
    store.folders("")?;
    drop(store.begin()?);
    let mut problems = Vec::new();
    let mut findings = Vec::new();
    if options.conformance {
        progress(CheckStep::Conformance);
        let found = conformance::check(store).into_iter();
        findings = found.map(|f| CheckFinding { check: f.check.to_owned(), problem: f.problem }).collect();
    }
    let mut attempts = Vec::new();
    if options.enforcement {
        progress(CheckStep::Enforcement);
        attempts = enforcement(store)?;
    }
    let mut measured = None;
    if options.measure_objects > 0 {
        progress(CheckStep::Measure);
        measured = measure(store, &options, clock).map_err(|e| problems.push(format!("measuring: {e}"))).ok();
    }
    progress(CheckStep::CleanUp);
    let leftovers = clean_up(store).unwrap_or_else(|e| {
        problems.push(format!("cleaning up: {e}"));
        Vec::new()
    });
    let level = Level::of(&attempts, store.promises());
    let (describe, promises, notes) = (store.describe(), store.promises(), store.notes());
    Ok(StoreCheck { describe, promises, notes, conformance: findings, enforcement: attempts, measured, level, leftovers, problems })
}

/// Removes what this and earlier checks wrote; returns what stays.
fn clean_up(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let mut left = Vec::new();
    for folder in store.folders("")?.iter().filter(|folder| CHECK_FOLDERS.iter().any(|start| folder.starts_with(start))) {
        for object in store.list(folder)? {
            let gone = store.remove(&object.name).is_ok() && store.size(&object.name)?.is_none();
            if !gone {
                left.push(object.name.to_string());
            }
        }
    }
    Ok(left)
}

/// A folder that nobody has.
fn probe_folder() -> Result<String, StoreError> {
    let mut bytes = [0; 8];
    let failed = |e| StoreError::Io { path: "random bytes".into(), source: std::io::Error::other(e) };
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(format!("probe-{}", hex::encode(bytes)))
}

fn probe_name(folder: &str, rest: &str) -> Result<ObjectName, StoreError> {
    ObjectName::new(format!("{folder}/{rest}"))
}

#[cfg(test)]
mod tests;
