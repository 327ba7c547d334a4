//! Tries to harm objects the way somebody who has stolen the store's credentials would, and looks whether they are still
//! the same afterwards.

use super::{probe_folder, probe_name};
use crate::store::{ObjectName, Promises, Store, StoreError, Tamper};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Who stopped an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// The server: it refused, or what is read under the name is unharmed.
    Enforced,
    /// Nobody: it worked, and only this program's manners protect.
    Convention,
    /// It could not be tried.
    NotTried,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// What was tried.
    pub attempt: Tamper,
    /// Who stopped it.
    pub outcome: Enforcement,
    /// The server's word, or why it was not tried.
    pub said: String,
}

/// Who protects the objects of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Level {
    /// Every attempt was stopped, deletion and overwriting among them.
    #[serde(rename = "enforced by server")]
    EnforcedByServer,
    /// This program never harms an object; the server would not stop somebody else.
    #[serde(rename = "by convention")]
    ByConvention,
    /// Not even that: two writers of this program at once could replace each other's objects.
    #[serde(rename = "none")]
    None,
}

impl Level {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnforcedByServer => "enforced by server",
            Self::ByConvention => "by convention",
            Self::None => "none",
        }
    }

    /// Out of what was tried.
    pub fn of(attempts: &[Attempt], promises: Promises) -> Self {
        let stopped = |tamper| attempts.iter().any(|a| a.attempt == tamper && a.outcome == Enforcement::Enforced);
        let worked = attempts.iter().any(|a| a.outcome == Enforcement::Convention && a.attempt != Tamper::ChangeMode);
        if !worked && stopped(Tamper::Delete) && stopped(Tamper::Overwrite) {
            Self::EnforcedByServer
        } else if promises.no_overwrite {
            Self::ByConvention
        } else {
            Self::None
        }
    }
}

/// Tries everything, each on an object of its own. The objects stay: their removal is the caller's.
///
/// # Errors
/// Where not even the objects for it can be stored.
pub fn enforcement(store: &dyn Store) -> Result<Vec<Attempt>, StoreError> {
    let folder = probe_folder()?;
    Tamper::ALL.into_iter().map(|tamper| attempt(store, &folder, tamper)).collect()
}

fn attempt(store: &dyn Store, folder: &str, tamper: Tamper) -> Result<Attempt, StoreError> {
    let name = probe_name(folder, &tamper.as_str().replace(' ', "-"))?;
    let bytes = format!("this object stands against: {}\n", tamper.as_str()).into_bytes();
    store.put(&name, &bytes.as_slice(), &Sha256::digest(&bytes).into())?;
    let (outcome, said) = match store.tamper(&name, tamper) {
        None => (Enforcement::NotTried, "the store has no such operation".to_owned()),
        Some(Err(error)) if error.is_transient() => (Enforcement::NotTried, error.to_string()),
        Some(result) => judge(tamper, result, is_intact(store, &name, &bytes)?),
    };
    Ok(Attempt { attempt: tamper, outcome, said })
}

fn judge(tamper: Tamper, result: Result<(), StoreError>, intact: bool) -> (Enforcement, String) {
    match result {
        Err(error) if intact => (Enforcement::Enforced, error.to_string()),
        Err(error) => (Enforcement::Convention, format!("it was refused and still did harm: {error}")),
        Ok(()) if intact && tamper.harms_content() => (Enforcement::Enforced, "it was accepted, and the object is unharmed".to_owned()),
        Ok(()) => (Enforcement::Convention, "it worked".to_owned()),
    }
}

/// Whether the name reads as the same bytes and is listed.
fn is_intact(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<bool, StoreError> {
    let read = match store.read(name, 1 << 20) {
        Err(error) if error.is_transient() => return Err(error),
        read => read.is_ok_and(|found| found == bytes),
    };
    Ok(read && store.list(name.folder())?.iter().any(|object| object.name == *name && object.size == bytes.len() as u64))
}
