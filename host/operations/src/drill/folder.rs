//! What a drill makes on the disk: a private folder in the state folder for the restored tree, and a folder that the
//! servers' user can reach for their data. Both are written down before they are made, with who made them, so that the
//! next drill can remove what a killed one leaves.

use crate::{audit::process_key, context::Context, error::OperationError};
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Folder of all drills in the state folder.
pub(super) const DRILLS: &str = "drills";
/// The record of who made a drill's folder.
pub(super) const OWNER: &str = "owner.json";
/// Prefix of the servers' folder; 16 hex digits follow.
pub(super) const SERVERS: &str = "hbd-";
/// Prefix of a folder that is not written down yet.
pub(super) const UNFINISHED: &str = ".new-";
/// In the servers' folder: names the drill that it belongs to.
pub(super) const BELONGS: &str = "drill";
/// Free space that stays, in bytes.
const MARGIN: u64 = 256 << 20;

/// Who made a drill's folder, and what else belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub pid: u32,
    /// The life of that process.
    pub process: String,
    /// The servers' folder.
    pub servers: PathBuf,
    /// Scratch databases on servers of the configuration.
    #[serde(default)]
    pub foreign: Vec<ForeignDatabase>,
}

/// A scratch database on a server of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ForeignDatabase {
    /// Of `[drill.databases]`.
    pub engine: String,
    pub database: String,
    /// Which database on which server, as the engine describes it; empty in old records.
    #[serde(default)]
    pub server: String,
}

impl Owner {
    /// Whether its process still works.
    pub fn is_alive(&self) -> bool {
        process_key::of(self.pid).is_some_and(|now| now == self.process)
    }
}

/// A drill's folders; removed when this is dropped.
pub(super) struct DrillFolder {
    path: PathBuf,
    owner: Owner,
    /// Unique to the drill; names databases and the servers' folder.
    id: String,
    made: u32,
}

impl DrillFolder {
    /// Makes both.
    ///
    /// # Errors
    /// [`OperationError::Io`].
    pub fn create(cx: &Context) -> Result<Self, OperationError> {
        cx.private_dir("")?;
        let drills = cx.private_dir(DRILLS)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| OperationError::Random(e.to_string()))?;
        let id = hex::encode(random);
        let pid = std::process::id();
        let owner = Owner {
            pid,
            process: process_key::of(pid).unwrap_or_default(),
            servers: cx.config.drill.scratch_dir.join(format!("{SERVERS}{id}")),
            foreign: Vec::new(),
        };
        let (new, path) = (drills.join(format!("{UNFINISHED}{id}")), drills.join(&id));
        make_dir(&new, 0o700)?;
        let folder = Self { path, owner, id, made: 0 };
        folder.write_owner(&new)?;
        fs::rename(&new, &folder.path).map_err(io_error("cannot rename", &new))?;
        make_dir(&folder.owner.servers, 0o711)?;
        // The umask may have taken from the mode what the servers' user needs.
        fs::set_permissions(&folder.owner.servers, Permissions::from_mode(0o711))
            .map_err(io_error("cannot open", &folder.owner.servers))?;
        let belongs = folder.owner.servers.join(BELONGS);
        fs::write(&belongs, &folder.id).map_err(io_error("cannot write", &belongs))?;
        Ok(folder)
    }

    /// A new folder for a restored tree; its parent is private.
    ///
    /// # Errors
    /// [`OperationError::Io`].
    pub fn new_place(&mut self) -> Result<PathBuf, OperationError> {
        self.made += 1;
        let place = self.path.join(self.made.to_string());
        make_dir(&place, 0o700)?;
        Ok(place)
    }

    /// A path for a server's folder, not made yet.
    pub fn server(&self, name: &str) -> PathBuf {
        self.owner.servers.join(name)
    }

    /// A path for the folder of one of several servers of a kind, not made yet.
    pub fn new_server(&mut self, name: &str) -> PathBuf {
        self.made += 1;
        self.server(&format!("{name}-{}", self.made))
    }

    /// A name for a scratch database that nothing else has.
    pub fn database(&mut self) -> String {
        self.made += 1;
        format!("havun_drill_{}_{}", self.id, self.made)
    }

    /// Writes down that a scratch database is about to be made on a server of the configuration.
    ///
    /// # Errors
    /// [`OperationError::Io`]; the database must not be made then.
    pub fn note_foreign(&mut self, engine: &str, database: &str, server: String) -> Result<(), OperationError> {
        self.owner.foreign.push(ForeignDatabase { engine: engine.to_owned(), database: database.to_owned(), server });
        self.write_owner(&self.path)
    }

    /// Writes down that it is gone again.
    pub fn forget_foreign(&mut self, database: &str) -> Result<(), OperationError> {
        self.owner.foreign.retain(|known| known.database != database);
        self.write_owner(&self.path)
    }

    /// Whether `bytes` for the tree and `database_bytes` for the servers fit on the disks. Nothing has been written when
    /// they do not.
    ///
    /// # Errors
    /// [`OperationError::NoScratchSpace`].
    pub fn check_space(&self, bytes: u64, database_bytes: u64) -> Result<(), OperationError> {
        let (tree, servers) = (space(&self.path)?, space(&self.owner.servers)?);
        let same_disk = tree.disk == servers.disk;
        let of_tree = bytes.saturating_add(MARGIN).saturating_add(if same_disk { database_bytes } else { 0 });
        enough(&self.path, tree.free, of_tree)?;
        if same_disk || database_bytes == 0 {
            return Ok(());
        }
        enough(&self.owner.servers, servers.free, database_bytes.saturating_add(MARGIN))
    }

    /// Removes everything. Servers must have ended.
    ///
    /// # Errors
    /// [`OperationError::Io`]; the next drill tries again.
    pub fn remove(self) -> Result<(), OperationError> {
        self.clear()
    }

    fn clear(&self) -> Result<(), OperationError> {
        remove_tree(&self.owner.servers)?;
        if self.owner.foreign.is_empty() {
            return remove_tree(&self.path);
        }
        // What still stands on a server of the configuration is only known from the record; a restored tree holds secrets.
        (1..=self.made).try_for_each(|place| remove_tree(&self.path.join(place.to_string())))
    }

    fn write_owner(&self, folder: &Path) -> Result<(), OperationError> {
        let (part, path) = (folder.join(format!("{OWNER}.part")), folder.join(OWNER));
        let text = serde_json::to_vec(&self.owner).unwrap_or_default();
        let written = File::create(&part).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        let named = written.and_then(|()| fs::rename(&part, &path)).and_then(|()| File::open(folder)?.sync_all());
        named.map_err(io_error("cannot write", &path))
    }
}

impl Drop for DrillFolder {
    fn drop(&mut self) {
        let _ = self.clear();
    }
}

struct Space {
    free: u64,
    disk: u64,
}

fn space(path: &Path) -> Result<Space, OperationError> {
    use std::os::unix::fs::MetadataExt;
    let disk = fs::metadata(path).map_err(io_error("cannot look at", path))?.dev();
    let stat = statvfs(path).map_err(|errno| io_error("cannot look at", path)(errno.into()))?;
    Ok(Space { free: stat.f_bavail.saturating_mul(stat.f_frsize), disk })
}

fn enough(path: &Path, free: u64, needed: u64) -> Result<(), OperationError> {
    if free >= needed { Ok(()) } else { Err(OperationError::NoScratchSpace { path: path.to_owned(), free, needed }) }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), OperationError> {
    DirBuilder::new().mode(mode).create(path).map_err(io_error("cannot make", path))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OperationError {
    let path = path.to_owned();
    move |source| OperationError::Io { doing, path, source }
}

/// Removes a folder and everything in it, folders that forbid it included; a missing one is fine. Links are not followed.
///
/// # Errors
/// [`OperationError::Io`].
pub(super) fn remove_tree(path: &Path) -> Result<(), OperationError> {
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => open_up(path),
    }
    fs::remove_dir_all(path).map_err(io_error("cannot remove", path))
}

/// Gives us back the right to empty folders that were restored without it.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
