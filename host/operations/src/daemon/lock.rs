//! One daemon for each state folder.

use crate::{context::Context, error::OperationError};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
};

const FILE: &str = "daemon.lock";

/// Held as long as it lives; the kernel lets it go when the process ends, however it ends.
#[must_use]
pub(super) struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes it.
    ///
    /// # Errors
    /// [`OperationError::DaemonRuns`] when another process has it; [`OperationError::Io`].
    pub fn take(cx: &Context) -> Result<Self, OperationError> {
        let path = cx.private_dir("")?.join(FILE);
        let failed = |doing, source| OperationError::Io { doing, path: path.clone(), source };
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(|e| failed("cannot open", e))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = (&mut file).take(200).read_to_string(&mut holder);
            return Err(OperationError::DaemonRuns { state_dir: cx.config.host.state_dir.clone(), holder: holder.trim().to_owned() });
        }
        let holder = format!("process {}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(|e| failed("cannot write", e))?;
        Ok(Self { _file: file })
    }
}
