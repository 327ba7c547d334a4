//! What this program can do about what is wrong. None of it deletes a backup.

use crate::{
    context::Context,
    drill,
    error::{OperationError, exit},
    project,
    replication::{PushOptions, push},
    run,
    scrub::{RepairRequest, repair_stores},
};
use serde::Serialize;
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

/// A repair, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "repair", rename_all = "kebab-case")]
pub enum Repair {
    /// Copy to a store what it lacks.
    Push {
        /// The project.
        project: String,
        /// The store.
        store: String,
        /// List it, and send again what vanished from it.
        full: bool,
    },
    /// Mend damaged objects from another store.
    Mend {
        /// The project.
        project: String,
        /// The store.
        store: String,
    },
    /// Run the commands that let applications go on, and remove snapshots of file systems, that killed runs have left.
    UndoLeftBehind,
    /// Remove folders, servers and databases of killed drills.
    RemoveDrillLeftovers,
    /// Take a file's rights from others.
    Permissions {
        /// The file or folder.
        path: PathBuf,
        /// Its mode from then on.
        mode: u32,
    },
    /// Take a lease from a holder that is gone, and give it back.
    TakeLease {
        /// The project.
        project: String,
        /// The store.
        store: String,
        /// Who holds it.
        holder: String,
    },
}

impl Repair {
    /// What would be done, as a sentence.
    pub fn describe(&self) -> String {
        match self {
            Self::Push { project, store, full: false } => format!("copy to {store} what it lacks of {project}"),
            Self::Push { project, store, full: true } => format!("list {store} and send again what vanished from it of {project}"),
            Self::Mend { project, store } => format!("mend what is damaged of {project} in {store} from its other stores"),
            Self::UndoLeftBehind => "let the applications go on that killed runs have left at rest, and remove their snapshots".to_owned(),
            Self::RemoveDrillLeftovers => "remove the folders, servers and databases that killed drills have left".to_owned(),
            Self::Permissions { path, mode } => format!("set the mode of {} to {mode:o}", path.display()),
            Self::TakeLease { project, store, holder } => {
                format!(
                    "take the vault of {project} in {store} from {holder}; if that process still lives, its run ends without a snapshot"
                )
            }
        }
    }

    /// Whether it could harm work that is under way, and is done only when it was asked for by name.
    pub fn needs_care(&self) -> bool {
        matches!(self, Self::TakeLease { .. })
    }
}

/// Carries a repair out. What was done, on one line.
///
/// # Errors
/// Of the operation that it is; [`OperationError::NotMended`] where it went through and something is still wrong.
pub fn mend(cx: &Context, repair: &Repair) -> Result<String, OperationError> {
    let still = |why: String| OperationError::NotMended { what: repair.describe(), why };
    match repair {
        Repair::Push { project, store, full } => {
            let done = push(cx, &PushOptions { projects: vec![project.clone()], store: Some(store.clone()), full: *full })?;
            let failed = done.pushed.iter().find_map(|pushed| pushed.state.failure.as_ref());
            failed.map_or_else(|| Ok(format!("{store} is whole again")), |failure| Err(still(failure.one_line())))
        }
        Repair::Mend { project, store } => {
            let request = RepairRequest { projects: vec![project.clone()], store: Some(store.clone()), check: false, dry_run: false };
            match repair_stores(cx, &request)?.exit_status() {
                exit::OK => Ok(format!("{store} is whole again")),
                _ => Err(still("not everything could be mended; `havun-backup repair` says what".to_owned())),
            }
        }
        Repair::UndoLeftBehind => {
            let said: Vec<String> = run::undo_left_behind(cx).into_iter().map(|(_, text)| text).collect();
            let left = run::left_behind(cx);
            if left.is_empty() { Ok(said.join("; ")) } else { Err(still(said.join("; "))) }
        }
        Repair::RemoveDrillLeftovers => {
            let said = drill::sweep(cx).join("; ");
            if drill::left_behind(cx).is_empty() { Ok(said) } else { Err(still(said)) }
        }
        Repair::Permissions { path, mode } => {
            let set = fs::set_permissions(path, fs::Permissions::from_mode(*mode));
            set.map_err(|source| OperationError::Io { doing: "cannot change the mode of", path: path.clone(), source })?;
            Ok(format!("{} has mode {mode:o}", path.display()))
        }
        Repair::TakeLease { project, store, .. } => {
            let (project, name) = (project::find(cx, project)?, store.parse()?);
            let open = project::open_store(cx, &project.name, &name)?;
            let taken = open.store.lease(&cx.holder("doctor"), true);
            drop(taken.map_err(|source| OperationError::Store { store: name, source })?);
            Ok("the vault is free".to_owned())
        }
    }
}
