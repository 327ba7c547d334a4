//! The stores themselves: which there are, and what each really does.
//!
//! A check runs the conformance suite against the operator's real store, tries to harm objects as a thief of its
//! credentials would, and measures; all in a folder of its own ([`CHECK_VAULT`]) beside the projects' vaults, and it
//! cleans up. Shapes of `havun-backup store … --json`: [`StoreList`], [`StoreCheckReport`].

use crate::{
    config::StoreKind,
    context::Context,
    error::{OperationError, exit, nearest},
    project,
    report::SCHEMA_VERSION,
};
use havun_model::{ProjectName, StoreName};
pub use havun_vault::store::probe::{Enforcement, StoreCheckOptions};
use havun_vault::store::{
    probe::{CheckStep, StoreCheck, store_check},
    steady_clock,
};
use serde::Serialize;

/// The folder of a store that a check works in.
pub const CHECK_VAULT: &str = "havun-store-check";

/// Every store of the configuration.
#[derive(Debug, Clone, Serialize)]
pub struct StoreList {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// By name.
    pub stores: Vec<StoreLine>,
}

/// One store.
#[derive(Debug, Clone, Serialize)]
pub struct StoreLine {
    /// Its name.
    pub store: StoreName,
    /// `hot`, `archive` or `test`.
    pub tier: String,
    /// `local`, `sftp` or `s3`.
    pub kind: String,
    /// Where it is.
    pub place: String,
    /// Projects that use it.
    pub projects: Vec<ProjectName>,
    /// Not faster than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<String>,
    /// Percent of each pack that PAR2 files can mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub par2: Option<u8>,
    /// Every stored byte is read once in this time.
    pub scrub: String,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct StoreCheckReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The store.
    pub store: StoreName,
    /// `local`, `sftp` or `s3`.
    pub kind: String,
    /// Whether it does everything that it promises.
    pub passed: bool,
    /// What was found.
    #[serde(flatten)]
    pub check: StoreCheck,
}

impl StoreCheckReport {
    /// 0 or 5.
    pub fn exit_status(&self) -> u8 {
        if self.passed { exit::OK } else { exit::INTEGRITY }
    }
}

/// Names the stores. Asks none of them.
pub fn list(cx: &Context) -> StoreList {
    let line = |store: &crate::config::StoreConfig| StoreLine {
        store: store.name.clone(),
        tier: store.tier.word().to_owned(),
        kind: store.kind.word().to_owned(),
        place: store.kind.place(),
        projects: cx.config.projects.values().filter(|p| p.stores.contains(&store.name)).map(|p| p.name.clone()).collect(),
        bandwidth: store.bandwidth.map(|rate| rate.to_string()),
        par2: store.par2,
        scrub: store.scrub.to_string(),
    };
    StoreList { schema_version: SCHEMA_VERSION, stores: cx.config.stores.values().map(line).collect() }
}

/// Checks one store.
///
/// # Errors
/// [`OperationError::UnknownStore`]; [`OperationError::Store`] where it does not answer at all.
pub fn check(cx: &Context, name: &str, options: StoreCheckOptions) -> Result<StoreCheckReport, OperationError> {
    let config = cx.config.stores.values().find(|store| store.name.as_str() == name);
    let config = config.ok_or_else(|| OperationError::UnknownStore {
        name: name.to_owned(),
        nearest: nearest(name, cx.config.stores.keys().map(StoreName::as_str)),
    })?;
    let scratch = ProjectName::new(CHECK_VAULT)?;
    let opened = project::open_store(cx, &scratch, &config.name)?;
    let clock = steady_clock();
    let step = |step| cx.observer.step(told(step));
    let failed = |source| OperationError::Store { store: config.name.clone(), source };
    let mut found = store_check(&*opened.store, options, &*clock, &step).map_err(failed)?;
    drop(opened);
    if let StoreKind::Local { path } = &config.kind
        && let Err(error) = std::fs::remove_dir_all(path.join(CHECK_VAULT))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        found.problems.push(format!("cleaning up: {error}"));
    }
    Ok(StoreCheckReport {
        schema_version: SCHEMA_VERSION,
        store: config.name.clone(),
        kind: config.kind.word().to_owned(),
        passed: found.passed(),
        check: found,
    })
}

fn told(step: CheckStep) -> &'static str {
    match step {
        CheckStep::Conformance => "trying everything that a store has to do",
        CheckStep::Enforcement => "trying to harm objects",
        CheckStep::Measure => "measuring",
        CheckStep::CleanUp => "cleaning up",
    }
}
