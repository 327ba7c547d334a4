//! The history of a Git repository: `git bundle` of everything that a ref reaches, and what a bundle loses.
//!
//! In the snapshot, beneath `git/<item>/`:
//!
//! | path | what |
//! |---|---|
//! | `files/…` | `.git` but for `objects`, `refs`, `packed-refs` and locks: HEAD, config, hooks, index, reflogs, … |
//! | `links` | symbolic refs and symbolic links, one JSON object a line |
//! | `repository.bundle` | every ref and all that it reaches; `git clone` takes it |
//! | `unbundled.pack` | what only reflogs, the stash, the index or an unfinished merge reach; a plain pack |
//!
//! A repository is not trusted: no hook, no file-system monitor, no remote helper of its configuration is run, and
//! its folder must be beneath the project's root. Read `backup`, then `restore`.

mod backup;
mod restore;
#[cfg(test)]
mod tests;

pub use backup::{GitPart, GitParts, Repository};
pub use restore::{GitRestored, restore};

use crate::process::{self, Ended, ProcessError, bare_command};
use havun_model::Cancel;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of verbatim files.
const FILES: &str = "files";
/// Symbolic refs and links.
const LINKS: &str = "links";
/// What refs reach.
const BUNDLE: &str = "repository.bundle";
/// What else is reached.
const UNBUNDLED: &str = "unbundled.pack";

/// The longest answer of a short question, in bytes.
const LONGEST_ANSWER: usize = 256 << 20;

/// Why a history could not be read or put back.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// No `git` on the PATH.
    #[error("`git` is not installed on this machine")]
    NoGit,
    /// Nothing there, or something else.
    #[error("{} is not a Git repository: {why}", path.display())]
    NotARepository {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// The repository's own folder is elsewhere.
    #[error("the repository of {} lies outside of the project's root", path.display())]
    Outside {
        /// The folder as planned.
        path: PathBuf,
    },
    /// There is a repository where one should be restored.
    #[error("there is a repository in {} already; nothing was changed", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// `git` failed.
    #[error("git {command} failed ({status}): {message}")]
    Failed {
        /// `bundle create`.
        command: &'static str,
        /// "exit status 128".
        status: String,
        /// What it said, bounded.
        message: String,
    },
    /// What it wrote is not what it should be.
    #[error("git {command} wrote something else: {what}")]
    Strange {
        /// `bundle create`.
        command: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// It could not be run.
    #[error(transparent)]
    Process(ProcessError),
    /// What takes the bytes failed.
    #[error("cannot store the history")]
    Sink(#[source] io::Error),
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// "read", "write", …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Stopped by the operator.
    #[error("stopped before the end")]
    Cancelled,
}

impl From<ProcessError> for GitError {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Cancelled { .. } => Self::Cancelled,
            ProcessError::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => Self::NoGit,
            error => Self::Process(error),
        }
    }
}

impl GitError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    fn failed(command: &'static str, ended: &Ended) -> Self {
        Self::Failed { command, status: ended.status_text(), message: ended.complaint.clone() }
    }
}

/// A line of [`LINKS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Link {
    /// A ref that names another one.
    Ref { symbolic_ref: String, target: String },
    /// A symbolic link beneath [`FILES`].
    File { path: String, link: String },
}

/// `git` on the repository in `git_dir`, with nothing of the user's or the machine's configuration, and with what
/// could run a program of the repository's choice switched off.
fn git(git_dir: &Path) -> Command {
    let mut command = bare_command("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_NO_LAZY_FETCH", "1").env("GIT_NO_REPLACE_OBJECTS", "1");
    command.arg("--git-dir").arg(git_dir);
    // One thread packs the same objects to the same bytes each time.
    for setting in ["safe.directory=*", "core.fsmonitor=false", "core.hooksPath=/dev/null", "protocol.allow=never", "pack.threads=1"] {
        command.args(["-c", setting]);
    }
    command
}

/// Runs a short question and returns its answer.
fn ask(command: &mut Command, name: &'static str, cancel: &Cancel) -> Result<String, GitError> {
    let (ended, text) = process::capture(command, cancel, LONGEST_ANSWER)?;
    if ended.status.success() { Ok(String::from_utf8_lossy(&text).into_owned()) } else { Err(GitError::failed(name, &ended)) }
}
