//! What a guest may ask of the host: one module per interface of `wit/`.

mod databases;
mod host;
mod output;
mod project;

pub use databases::Database;
pub use output::{Port, Writer, channel};
pub use project::{TargetHandle, TreeHandle};

use crate::{call::Guest, globs::GlobError, tree::TreeError};

/// Generated from `wit/`.
#[allow(clippy::all, clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::todo)]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "strategy",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "havun:backup/project.tree": super::TreeHandle,
            "havun:backup/project.target": super::TargetHandle,
            "havun:backup/output.writer": super::Writer,
            "havun:backup/databases.database": super::Database,
        },
        trappable_error_type: { "havun:backup/types.error" => super::HostError },
    });
}

/// Generated from `wit/erasure.wit`: an interface that a component may lack.
#[allow(clippy::all, clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::todo)]
pub mod erase_step {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "erase-step",
        exports: { default: async },
        with: { "havun:backup/types": super::bindings::havun::backup::types },
    });
}

pub use bindings::havun::backup::types::Error as GuestError;

/// What a host function answers when it fails: an error that the guest sees, or the end of the call.
#[derive(Debug)]
pub enum HostError {
    /// Told to the guest.
    Guest(GuestError),
    /// Ends the call.
    End(wasmtime::Error),
}

impl From<GuestError> for HostError {
    fn from(error: GuestError) -> Self {
        Self::Guest(error)
    }
}

impl<E: Into<wasmtime::Error>> From<Fatal<E>> for HostError {
    fn from(fatal: Fatal<E>) -> Self {
        Self::End(fatal.0.into())
    }
}

/// Marks an error that ends the call.
pub struct Fatal<E>(pub E);

impl From<TreeError> for HostError {
    fn from(error: TreeError) -> Self {
        let text = error.to_string();
        Self::Guest(match error {
            TreeError::Path(_) | TreeError::Escapes(_) | TreeError::Kind { .. } | TreeError::Exists(_) => GuestError::Invalid(text),
            TreeError::NotFound(_) => GuestError::NotFound(text),
            TreeError::Limit { .. } => GuestError::Limit(text),
            TreeError::Io { .. } => GuestError::Io(text),
        })
    }
}

impl From<GlobError> for HostError {
    fn from(error: GlobError) -> Self {
        Self::Guest(GuestError::Invalid(error.to_string()))
    }
}

impl bindings::havun::backup::types::Host for Guest {
    fn convert_error(&mut self, error: HostError) -> wasmtime::Result<GuestError> {
        match error {
            HostError::Guest(error) => Ok(error),
            HostError::End(error) => Err(error),
        }
    }
}
