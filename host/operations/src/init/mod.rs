//! `init`: from a folder to a working configuration, and from a configuration to keys, folders and tables.
//!
//! Nothing that exists is ever replaced. Read `propose` (a configuration with a reason at each line), `escrow` (the
//! key that leaves the host), `edit` (writing configurations), `prepare` (making what is missing, testing the rest).

mod edit;
mod escrow;
mod prepare;
mod propose;
mod systemd;
#[cfg(test)]
mod tests;

pub use edit::{append, set_escrow, write_new};
pub use escrow::{EscrowKit, check_recipients, needs_escrow};
pub use prepare::{InitReport, InitStep, StepState, check, prepare};
pub(crate) use prepare::{Parts, check_parts};
pub use propose::{Proposal, ProposeRequest, ProposedProject, propose};
pub use systemd::{UNIT_DIR, Unit, UnitState, units, write_units};

use crate::{
    config::ConfigError,
    error::{OperationError, exit},
};
use std::{io, path::PathBuf};

/// Whether this process may write where the system keeps its configuration.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Why `init` could not go on.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A folder that cannot be a project.
    #[error("`{}` cannot be backed up as a project", path.display())]
    Root {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A name that cannot be a project's.
    #[error(transparent)]
    Name(#[from] havun_model::NameError),
    /// One name for several folders.
    #[error("--name names one project, and {count} folders were given")]
    OneName {
        /// How many.
        count: usize,
    },
    /// An `--escrow` that is none.
    #[error("`{text}` is not an age recipient (age1…)")]
    Recipient {
        /// As given.
        text: String,
    },
    /// A key file could not be written.
    #[error("the key file cannot be made")]
    Key(#[source] havun_vault::keys::KeyError),
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file has a form that cannot be added to without risk.
    #[error("`{}` cannot be changed: {why}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// What would be written is no configuration.
    #[error("the proposal is not a configuration")]
    Proposal(#[source] ConfigError),
    /// The strategies.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl InitError {
    /// The documented exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Name(_) | Self::OneName { .. } | Self::Recipient { .. } | Self::Root { .. } => exit::USAGE,
            Self::Edit { .. } | Self::Key(_) => exit::CONFIG,
            Self::Operation(error) => error.exit_status(),
            Self::Write { .. } | Self::Proposal(_) => exit::FAILED,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Root { .. } => "name the folder of a project that this user can read".to_owned(),
            Self::Recipient { .. } => "`age-keygen -y FILE` prints the recipient of a key file".to_owned(),
            Self::OneName { .. } => "call init once for each folder".to_owned(),
            Self::Key(_) => "name another file at `identity` in [keys]: in a folder that only its owner can use, outside of Git".to_owned(),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root, or write the configuration elsewhere with --config".to_owned()
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                "nothing was replaced; choose another file".to_owned()
            }
            Self::Operation(error) => return error.hint(),
            _ => return None,
        })
    }
}
