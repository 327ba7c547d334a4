//! A Redis server of our own, which proves that a dump loads: on a private socket, with no port, no disk writes and no
//! life beyond ours.

use super::{super::DatabaseError, wire::Wire};
use crate::databases::private::{self, PrivateFolder};
use crate::process::bare_command;
use havun_model::Cancel;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take to answer at all; while it loads, it answers that it loads.
const START: Duration = Duration::from_secs(30);

/// How the names of the folders begin.
const PREFIX: &str = "havun-redis-";

pub(super) struct PrivateServer {
    child: Child,
    folder: PrivateFolder,
}

impl PrivateServer {
    /// Makes the folder in which the dump is to be written, as [`Self::DUMP`]. What killed restores left beside it goes.
    pub(super) fn folder(parent: &Path) -> Result<PrivateFolder, DatabaseError> {
        let earlier = parent.parent().and_then(|above| fs::read_dir(above).ok()).into_iter().flatten().flatten();
        earlier.map(|entry| entry.path()).filter(|path| path != parent).for_each(|path| private::sweep(&path, PREFIX));
        PrivateFolder::make(parent, PREFIX)
    }

    /// The name of the dump in the folder.
    pub(super) const DUMP: &'static str = "dump.rdb";

    /// Starts a server on the dump in `folder` and waits until it has loaded it.
    pub(super) fn start(folder: PrivateFolder, cancel: &Cancel) -> Result<(Self, Wire), DatabaseError> {
        let path = folder.path();
        let settings = format!(
            "port 0\nunixsocket s\nunixsocketperm 700\ndir \"{}\"\ndbfilename {}\nsave \"\"\nappendonly no\ndaemonize no\ndatabases 1024\n\
             rdbchecksum yes\nsanitize-dump-payload yes\nlogfile \"\"\n",
            path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""),
            Self::DUMP
        );
        let log = path.join("log");
        let output = File::create(&log).map_err(DatabaseError::io("make", &log))?;
        let errors = output.try_clone().map_err(DatabaseError::io("make", &log))?;
        let mut command = command();
        command.arg("-").current_dir(path).stdin(Stdio::piped()).stdout(output).stderr(errors);
        let spawned = command.spawn();
        let mut child =
            spawned.map_err(|_| DatabaseError::NoClient { engine: "redis".to_owned(), tried: vec!["redis-server".to_owned()] })?;
        let told = child.stdin.take().map(|mut stdin| stdin.write_all(settings.as_bytes()));
        let mut server = Self { child, folder };
        told.unwrap_or(Err(io::ErrorKind::BrokenPipe.into())).map_err(DatabaseError::io("write", &log))?;
        let wire = server.wait(cancel)?;
        Ok((server, wire))
    }

    fn wait(&mut self, cancel: &Cancel) -> Result<Wire, DatabaseError> {
        let begun = Instant::now();
        loop {
            if cancel.is_cancelled() {
                return Err(DatabaseError::Cancelled);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.refused(&format!("redis-server ended ({status})")));
            }
            if let Ok(mut wire) = Wire::private(&self.folder.path().join("s"), cancel) {
                match wire.ask(&[b"PING"]) {
                    Ok(_) => return Ok(wire),
                    Err(DatabaseError::Client { message, .. }) if message.starts_with("LOADING") => {}
                    Err(_) if begun.elapsed() < START => {}
                    Err(error) => return Err(error),
                }
            } else if begun.elapsed() > START {
                return Err(self.refused("redis-server does not answer"));
            }
            let _ = rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
        }
    }

    fn refused(&self, what: &str) -> DatabaseError {
        let mut log = String::new();
        let read = File::open(self.folder.path().join("log")).and_then(|file| file.take(64 * 1024).read_to_string(&mut log));
        let said = read.ok().and_then(|_| log.lines().rev().find(|line| line.contains('#')).map(str::to_owned)).unwrap_or_default();
        DatabaseError::BadDump { database: "all".to_owned(), what: format!("{what}: {said}") }
    }
}

/// `redis-server`, which dies with us where the system can see to that.
fn command() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("setpriv").is_file()) {
        let mut command = bare_command("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server"]);
        command
    } else {
        bare_command("redis-server")
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
