//! MongoDB. Built from `mongod`'s documented options.

use super::{Family, OsUser, ScratchError, ScratchServer, launch, new_password, socket_path};
use crate::process::{self, find_program};
use havun_model::Cancel;
use std::{os::unix::net::UnixStream, path::Path};

const FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/opt/mongodb/bin"];

pub(super) fn start(folder: &Path, user: &OsUser, cancel: &Cancel) -> Result<ScratchServer, ScratchError> {
    let program = find_program(&["mongod"], &FOLDERS).ok_or_else(|| ScratchError::NotInstalled {
        title: Family::MongoDb.title(),
        engine: "mongodb",
        package: "mongodb-org-server (of MongoDB's own repository)",
        tried: vec!["mongod".to_owned()],
    })?;
    user.make_folder(folder)?;
    user.make_folder(&folder.join("data"))?;
    // Drivers tell a socket from a name by its ending.
    let (socket, log) = (socket_path(folder.join("s.sock"))?, folder.join("log"));
    let version = version(&program, cancel)?;
    let mut command = user.command(&program, folder, "KILL");
    command.args(options(folder, &socket));
    let child = launch::spawn(&mut command, &log)?;
    let password = new_password()?;
    let mut server = ScratchServer { family: Family::MongoDb, folder: folder.to_owned(), socket, password, version, child };
    server.wait_until(&log, cancel, |server| UnixStream::connect(&server.socket).is_ok())?;
    Ok(server)
}

/// `MongoDB 7.0.14`, of `db version v7.0.14`.
fn version(server: &Path, cancel: &Cancel) -> Result<String, ScratchError> {
    let mut command = process::bare_command(&server.to_string_lossy());
    let (_, text) = process::capture(command.arg("--version"), cancel, 64 * 1024)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let first = text.lines().next().unwrap_or_default().trim();
    Ok(format!("MongoDB {}", first.trim_start_matches("db version v")))
}

/// A socket that only its user and root can open stands for accounts, which a new server has none of; code that a dump may
/// hold is never run.
fn options(folder: &Path, socket: &Path) -> Vec<String> {
    let mut options = vec!["--dbpath".to_owned(), folder.join("data").display().to_string()];
    options.extend(["--bind_ip".to_owned(), socket.display().to_string()]);
    let fixed = ["--nounixsocket", "--filePermissions", "0700", "--noscripting", "--wiredTigerCacheSizeGB", "0.25"];
    options.extend(fixed.map(str::to_owned));
    options
}
