//! Why a message was not handed over.

use std::{io, time::Duration};

/// Why a message was not handed over. `place` is the server without path, login or anything else that is secret.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection, or it broke.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// Server and port.
        place: String,
        /// What the system said.
        why: String,
    },
    /// It did not answer.
    #[error("{place} did not answer within {} s", after.as_secs())]
    TimedOut {
        /// Server and port.
        place: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// It asks to come back later.
    #[error("{place} does not take messages now: {why}")]
    Busy {
        /// Server and port.
        place: String,
        /// What it said.
        why: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It knows neither the login nor the secret.
    #[error("{place} refuses the login: {why}")]
    Login {
        /// Server and port.
        place: String,
        /// What it said.
        why: String,
    },
    /// It does not want this message, or no message at all.
    #[error("{place} refuses the message: {why}")]
    Refused {
        /// Server and port.
        place: String,
        /// What it said.
        why: String,
    },
    /// It sends elsewhere.
    #[error("{place} redirects to {to}; a redirect is never followed")]
    Redirected {
        /// Server and port.
        place: String,
        /// Where to, without path and query.
        to: String,
    },
    /// Its certificate is not trusted, or there is no common protection.
    #[error("{place} cannot be trusted: {why}")]
    Tls {
        /// Server and port.
        place: String,
        /// Why.
        why: String,
    },
    /// A setting that nothing can be sent with.
    #[error("`{setting}` {why}")]
    Setting {
        /// Its key.
        setting: &'static str,
        /// What is wrong with it; never its value.
        why: String,
    },
    /// The program is not there, or may not be run.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The program did not end with 0.
    #[error("{program} failed ({status}): {complaint}")]
    Command {
        /// The program.
        program: String,
        /// "exit status 2", "signal 9".
        status: String,
        /// What it said on its standard error, bounded.
        complaint: String,
    },
    /// The message cannot be written in the form that the channel needs.
    #[error("the message cannot be written: {why}")]
    Form {
        /// Why.
        why: String,
    },
}

impl SendError {
    /// Whether the same may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Busy { .. } | Self::Command { .. })
    }

    /// When the server wants to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Busy { retry_after, .. } = self { *retry_after } else { None }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => "check the address, the network and whether the server works",
            Self::Busy { .. } => "nothing, unless it lasts: it is tried again",
            Self::Login { .. } => "correct the login name, the password or the address of the webhook",
            Self::Refused { .. } => "correct what the server complains about: addresses, the webhook, its rights",
            Self::Redirected { .. } => "name the final address in the configuration, after making sure that it is the right one",
            Self::Tls { .. } => "name the server as its certificate does, and its authority at `ca_file` where that is your own",
            Self::Setting { .. } => "correct it in the configuration",
            Self::Spawn { .. } => "correct `argv`: a program with its full path, and who may run it",
            Self::Command { .. } => "run the command by hand with the same message on its standard input",
            Self::Form { .. } => "report this with the message's key",
        }
    }
}
