//! Disaster recovery: from an archive's address and a key alone to a configuration, a history and restored projects.
//!
//! Nothing of the lost host is needed: every vault says which project it is of, every snapshot how it was made and how
//! its project was configured. What exists on this machine is never replaced, and nothing stored is changed; each
//! vault gets its keys wrapped once more, for the new key of this host.
//!
//! Read `address` (where the archive is), `survey` (what lies there), `propose` (the configuration), `establish` (writing
//! it, the key, the hot store), `half` (going on after it was killed), `history` (rows of the audit database).

mod address;
mod establish;
mod half;
mod history;
mod propose;
mod survey;

pub use address::{AddressError, SshLogin, StoreAddress};
pub use establish::{Established, establish};
pub use half::finish;
pub use history::rebuild_history;
pub use propose::{Place, archive_config};
pub use survey::{FoundProject, FoundVault, Survey, own_name, survey};

use crate::{
    config::ConfigError,
    error::{OperationError, exit},
    init::InitError,
    report::{Failure, SCHEMA_VERSION, combined_status},
};
use serde::Serialize;
use std::path::PathBuf;

/// What was found and made. Shape of `havun-backup recover --json`.
#[derive(Debug, Clone, Serialize)]
pub struct Recovery {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Nothing was written.
    pub dry_run: bool,
    /// The archive's name in the configuration.
    pub store: String,
    /// Where it is, for people.
    pub place: String,
    /// What lies there.
    pub projects: Vec<FoundProject>,
    /// The configuration: proposed, or as it was written.
    pub config: PathBuf,
    /// Its text where a new one is proposed or was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_text: Option<String>,
    /// The new key of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_key: Option<PathBuf>,
    /// Rows that were written to the audit database.
    pub history_rows: u64,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// What to call next, in order.
    pub next: Vec<String>,
    /// Restores that were made.
    pub restored: Vec<RestoredProject>,
}

/// A project that was restored at once.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredProject {
    /// The project.
    pub project: String,
    /// What was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<crate::restore::RestoreOutcome>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Recovery {
    /// Of what was found.
    pub fn new(survey: &Survey, config: PathBuf) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            dry_run: true,
            store: survey.store.to_string(),
            place: survey.place.clone(),
            projects: survey.projects(),
            config,
            config_text: None,
            service_key: None,
            history_rows: 0,
            notes: Vec::new(),
            next: Vec::new(),
            restored: Vec::new(),
        }
    }

    /// 0; what all failed with, or 3 when some did.
    pub fn exit_status(&self) -> u8 {
        let found = self.projects.iter().map(|p| p.failure.as_ref().map_or(exit::OK, |f| f.exit_status));
        let restored = self.restored.iter().map(|r| match (&r.outcome, &r.failure) {
            (_, Some(failure)) => failure.exit_status,
            (Some(outcome), None) => outcome.exit_status(),
            (None, None) => exit::OK,
        });
        combined_status(&found.chain(restored).collect::<Vec<_>>())
    }
}

/// Why a recovery could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The folder is no store.
    #[error("there is no archive at `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: havun_vault::store::StoreError,
    },
    /// There is nothing to recover.
    #[error("there is no vault in {place}")]
    Empty {
        /// Where.
        place: String,
    },
    /// A project that is not there.
    #[error("there is no vault of project `{name}` in {place}")]
    NoSuchProject {
        /// As given.
        name: String,
        /// Where.
        place: String,
        /// What is there.
        there_are: Vec<String>,
    },
    /// What would be written is no configuration.
    #[error("the recovered configuration is not one")]
    Config(#[source] ConfigError),
    /// A file could not be written.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Anything else.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl RecoverError {
    /// The documented exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Address(_) | Self::NoSuchProject { .. } => exit::USAGE,
            Self::Folder { source, .. } => crate::project::store_status(source),
            Self::Empty { .. } => exit::FAILED,
            Self::Config(_) => exit::CONFIG,
            Self::Init(error) => error.exit_status(),
            Self::Operation(error) => error.exit_status(),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address(error) => error.hint(),
            Self::Folder { source, .. } => return crate::project::store_hint(source),
            Self::Empty { .. } => "name the folder that holds one folder for each project; nothing was written".to_owned(),
            Self::NoSuchProject { there_are, .. } => format!("there are: {}", there_are.join(", ")),
            Self::Config(_) => return None,
            Self::Init(error) => return error.hint(),
            Self::Operation(error) => return error.hint(),
        })
    }
}
