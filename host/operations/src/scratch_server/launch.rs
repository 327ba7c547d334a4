//! Starting a child as somebody else, such that it dies with us.

use super::ScratchError;
use crate::process::{bare_command, find_program};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// As whom servers run: ourselves, unless we are root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OsUser {
    /// Numbers of user and group; `None` is ourselves.
    ids: Option<(u32, u32)>,
}

impl OsUser {
    /// The user of this name where we are root, else ourselves.
    ///
    /// # Errors
    /// [`ScratchError::NoUser`].
    pub fn resolve(name: &str) -> Result<Self, ScratchError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { ids: None });
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let found = lines.find(|fields| fields.first() == Some(&name));
        let number = |place: usize| found.as_ref()?.get(place)?.parse().ok();
        match (number(2), number(3)) {
            (Some(0), _) | (None, _) | (_, None) => Err(ScratchError::NoUser { user: name.to_owned() }),
            (Some(uid), Some(gid)) => Ok(Self { ids: Some((uid, gid)) }),
        }
    }

    /// Makes a folder of theirs, of mode 0700.
    pub(super) fn make_folder(&self, path: &Path) -> Result<(), ScratchError> {
        DirBuilder::new().mode(0o700).create(path).map_err(ScratchError::io("make", path))?;
        self.give(path)
    }

    /// Makes a file of theirs, of mode 0600.
    pub(super) fn make_file(&self, path: &Path, content: &[u8]) -> Result<(), ScratchError> {
        use std::io::Write;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(ScratchError::io("make", path))?;
        file.write_all(content).map_err(ScratchError::io("write", path))?;
        self.give(path)
    }

    pub(super) fn give(&self, path: &Path) -> Result<(), ScratchError> {
        match self.ids {
            None => Ok(()),
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(ScratchError::io("give away", path)),
        }
    }

    /// A command that runs `program` as them, in `folder`, and that the kernel ends with `signal` when the thread that
    /// started it dies. Without `setpriv` (util-linux) it outlives us, and the next drill ends it.
    pub(super) fn command(&self, program: &Path, folder: &Path, signal: &str) -> Command {
        let mut command = match find_program(&["setpriv"], &[]) {
            Some(setpriv) => {
                let mut command = bare_command(&setpriv.to_string_lossy());
                if let Some((uid, gid)) = self.ids {
                    command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
                }
                command.args(["--pdeathsig", signal, "--"]).arg(program);
                command
            }
            None => {
                let mut command = bare_command(&program.to_string_lossy());
                if let Some((uid, gid)) = self.ids {
                    command.uid(uid).gid(gid);
                }
                command
            }
        };
        command.current_dir(folder).env("HOME", folder).env("TMPDIR", folder);
        command
    }
}

/// Starts a server whose words go to `log`.
pub(super) fn spawn(command: &mut Command, log: &Path) -> Result<Child, ScratchError> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(log);
    let file: File = open().map_err(ScratchError::io("make", log))?;
    let again = file.try_clone().map_err(ScratchError::io("make", log))?;
    command.stdin(Stdio::null()).stdout(file).stderr(again);
    let program = PathBuf::from(command.get_program()).display().to_string();
    command.spawn().map_err(|source| ScratchError::Process(crate::process::ProcessError::Spawn { program, source }))
}
