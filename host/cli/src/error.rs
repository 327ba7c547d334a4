//! Errors as an operator sees them: what happened, why, what to do next, and the exit status.

use havun_operations::{
    config::ConfigError,
    drill::CheckError,
    error::{OperationError, causes, exit},
    init::InitError,
    recover::RecoverError,
    report::Failure,
};

/// Why a command ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An operation.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// `init`.
    #[error(transparent)]
    Init(#[from] InitError),
    /// `recover`.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A certificate that does not hold.
    #[error(transparent)]
    Certificate(#[from] CheckError),
    /// What was asked for needs something that was not given.
    #[error("{message}")]
    Usage {
        /// What is missing.
        message: String,
        /// How to give it.
        hint: String,
    },
    /// The operator said no.
    #[error("nothing was done: you did not answer `{expected}`")]
    Declined {
        /// The answer that would have gone on.
        expected: &'static str,
    },
    /// A file or stream.
    #[error("{doing}")]
    Io {
        /// "cannot write to standard output".
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The demonstration found a difference.
    #[error("the demonstration failed: {0}")]
    Demo(String),
}

impl CliError {
    /// The documented exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) => exit::CONFIG,
            Self::Operation(error) => error.exit_status(),
            Self::Init(error) => error.exit_status(),
            Self::Recover(error) => error.exit_status(),
            Self::Certificate(CheckError::Io { .. }) => exit::FAILED,
            Self::Certificate(_) => exit::INTEGRITY,
            Self::Usage { .. } => exit::USAGE,
            Self::Declined { .. } | Self::Io { .. } | Self::Demo(_) => exit::FAILED,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Operation(error) => error.hint(),
            Self::Init(error) => error.hint(),
            Self::Recover(error) => error.hint(),
            Self::Certificate(_) => Some("do not rely on it; the original is in the archive, beneath `audit/drills`".to_owned()),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Declined { .. } | Self::Io { .. } | Self::Demo(_) => None,
        }
    }

    /// Message, causes, hint and exit status.
    pub fn to_failure(&self) -> Failure {
        Failure { message: self.to_string(), causes: causes(self), hint: self.hint(), exit_status: self.exit_status() }
    }
}
