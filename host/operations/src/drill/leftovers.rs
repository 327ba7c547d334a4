//! What dead drills have left: servers, folders, scratch databases. Removed when the next drill or run begins.
//!
//! A server is ours only if its command line names a folder that a dead drill has written down, and it is a server. It is
//! held by a descriptor while that is checked, so that its number cannot have been given to another process meanwhile.

use super::{
    folder::{BELONGS, DRILLS, ForeignDatabase, OWNER, Owner, SERVERS, UNFINISHED, remove_tree},
    foreign,
};
use crate::{context::Context, error::one_line};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// What a drill starts, directly or by an installer's script.
const PROGRAMS: [&str; 15] = [
    "mariadbd",
    "mysqld",
    "mariadb-install-db",
    "mysql_install_db",
    "sh",
    "bash",
    "initdb",
    "postgres",
    "setpriv",
    "redis-server",
    "redis-check-rdb",
    "valkey-server",
    "valkey-check-rdb",
    "mongod",
    "my_print_defaults",
];
/// Programs that write something else over their command line; they work in their own folder.
const RETITLED: [&str; 2] = ["redis-server", "valkey-server"];
/// A folder that nobody has written down may be one that is being made.
const UNFINISHED_FOR: Duration = Duration::from_secs(3600);
/// How long a killed server may take to be gone.
const DYING: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(20);

/// Removes what dead drills have left; says what it was, and what could not be removed.
pub(crate) fn sweep(cx: &Context) -> Vec<String> {
    let folder = cx.config.host.state_dir.join(DRILLS);
    let mut said = Vec::new();
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_unfinished = entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes());
        match read_owner(&path) {
            Some(owner) if owner.is_alive() => {}
            Some(owner) => said.extend(remove(cx, &path, &owner)),
            None if is_unfinished && !is_old(&path) => {}
            None => said.extend(removed(remove_tree(&path).map_err(|e| one_line(&e)), format!("the folder {}", path.display()))),
        }
    }
    said.iter().for_each(|line| tracing::info!("{line}"));
    said
}

/// What dead drills have left, and the next one would remove. Removes nothing.
pub(crate) fn left_behind(cx: &Context) -> Vec<String> {
    let folder = cx.config.host.state_dir.join(DRILLS);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let dead = entries.filter(|path| match read_owner(path) {
        Some(owner) => !owner.is_alive(),
        None => !path.file_name().is_some_and(|name| name.as_bytes().starts_with(UNFINISHED.as_bytes())) || is_old(path),
    });
    dead.map(|path| format!("a drill that was killed left {} and what belongs to it", path.display())).collect()
}

fn read_owner(folder: &Path) -> Option<Owner> {
    serde_json::from_slice(&fs::read(folder.join(OWNER)).ok()?).ok()
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok();
    modified.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > UNFINISHED_FOR)
}

fn removed(result: Result<(), String>, what: String) -> Option<String> {
    Some(match result {
        Ok(()) => format!("removed {what}, which a drill that was killed had left"),
        Err(why) => format!("could not remove {what}, which a drill that was killed had left: {why}"),
    })
}

/// The drill's record goes last, so that whatever could not be removed is tried again.
fn remove(cx: &Context, path: &Path, owner: &Owner) -> Vec<String> {
    let mut said = Vec::new();
    let id = path.file_name().unwrap_or_default().to_string_lossy().trim_start_matches(UNFINISHED).to_owned();
    let mut whole = true;
    // A dump may have been loaded by a server in the drill's own folder.
    let stopped = stop_servers(path);
    if stopped > 0 {
        said.push(format!("stopped {stopped} processes of scratch servers, which a drill that was killed had left"));
    }
    if is_servers_folder(&owner.servers, &id) {
        let stopped = stop_servers(&owner.servers);
        if stopped > 0 {
            said.push(format!("stopped {stopped} processes of scratch servers, which a drill that was killed had left"));
        }
        let gone = remove_tree(&owner.servers).map_err(|e| one_line(&e));
        whole &= gone.is_ok();
        said.extend(removed(gone, format!("the servers' folder {}", owner.servers.display())));
    }
    for ForeignDatabase { engine, database, server } in owner.foreign.iter().rev() {
        let dropped = foreign::drop_database(cx, engine, database, server);
        whole &= dropped.is_ok();
        said.extend(removed(dropped, format!("the scratch database {database} of [drill.databases.{engine}]")));
    }
    if whole {
        said.extend(removed(remove_tree(path).map_err(|e| one_line(&e)), format!("the folder {}", path.display())));
    }
    said
}

/// Whether a path is what [`super::folder::DrillFolder`] makes for this drill: by its name, its owner, and what it says itself.
/// It may not have said it yet, then it is empty.
fn is_servers_folder(path: &Path, id: &str) -> bool {
    let named = path.file_name().is_some_and(|name| name.as_bytes() == format!("{SERVERS}{id}").as_bytes());
    let ours = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
    let says = fs::read_to_string(path.join(BELONGS))
        .map_or_else(|_| fs::read_dir(path).is_ok_and(|mut all| all.next().is_none()), |text| text == id);
    named && ours && says
}

/// Ends every server process whose command line names `folder`; how many.
fn stop_servers(folder: &Path) -> usize {
    let mut stopped = 0;
    let deadline = Instant::now() + DYING;
    // An installer's script may start another program while we look.
    loop {
        let found = servers(folder);
        if found.is_empty() || Instant::now() > deadline {
            return stopped;
        }
        let first = Instant::now();
        for pid in &found {
            stopped += usize::from(end(*pid, folder));
        }
        while first.elapsed() < Duration::from_secs(2) && !servers(folder).is_empty() {
            std::thread::sleep(TICK);
        }
    }
}

fn servers(folder: &Path) -> Vec<Pid> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Pid::from_raw).filter(|pid| is_server(*pid, folder)).collect()
}

fn end(pid: Pid, folder: &Path) -> bool {
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    is_server(pid, folder) && pidfd_send_signal(&held, Signal::KILL).is_ok()
}

/// Whether one of its arguments is `folder`, a path in it, or an option with such a value; or it is a Redis that works there.
fn is_server(pid: Pid, folder: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    // The kernel keeps 15 bytes of a name.
    let known = |program: &&str| name.trim_end() == program.get(..15).unwrap_or(program);
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let wanted = folder.as_os_str().as_bytes();
    let names_folder = |argument: &[u8]| {
        let value = argument.iter().position(|b| *b == b'=').map_or(argument, |at| argument.get(at + 1..).unwrap_or_default());
        value.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    };
    let works_there =
        || RETITLED.iter().any(|program| known(&program)) && fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    PROGRAMS.iter().any(|program| known(&program)) && (line.split(|b| *b == 0).any(names_folder) || works_there())
}
