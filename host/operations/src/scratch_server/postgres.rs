//! PostgreSQL.

use super::{Family, OsUser, ScratchError, ScratchServer, USER, launch, new_password, socket_path};
use crate::process::{self, find_program};
use havun_model::Cancel;
use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// The socket's name is the port's.
const PORT: u16 = 5432;
/// Who owns the server; nobody logs in as this user.
const ADMIN: &str = "havun_admin";
/// Folders that hold a folder for each version.
const VERSIONED: [&str; 2] = ["/usr/lib/postgresql", "/usr"];

pub(super) fn start(folder: &Path, user: &OsUser, cancel: &Cancel) -> Result<ScratchServer, ScratchError> {
    let programs = find()?;
    user.make_folder(folder)?;
    let socket = socket_path(folder.join(format!(".s.PGSQL.{PORT}")))?;
    let (data, log) = (folder.join("data"), folder.join("log"));
    user.make_folder(&data)?;
    let version = version(&programs.join("postgres"), cancel)?;
    install(&programs, folder, user, cancel)?;
    let password = new_password()?;
    make_role(&programs, folder, user, &password, cancel)?;
    let mut command = user.command(&programs.join("postgres"), folder, "QUIT");
    command.arg("-D").arg(&data).args(options(folder));
    let child = launch::spawn(&mut command, &log)?;
    let mut server =
        ScratchServer { family: Family::PostgreSql, folder: folder.to_owned(), socket: folder.to_owned(), password, version, child };
    // The line is the last that it writes, when it is ready.
    let ready = data.join("postmaster.pid");
    server.wait_until(&log, cancel, |_| {
        UnixStream::connect(&socket).is_ok() && fs::read_to_string(&ready).is_ok_and(|text| text.contains("ready"))
    })?;
    Ok(server)
}

/// The folder of the newest version's programs: Debian and Red Hat keep them off the PATH.
fn find() -> Result<PathBuf, ScratchError> {
    let versions = VERSIONED.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let number = |path: &Path| -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("pgsql-").unwrap_or(name).parse().ok()
    };
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").is_file() && path.join("bin/postgres").is_file())
        .filter_map(|path| Some((number(&path)?, path.join("bin"))))
        .max();
    let on_path = || Some(find_program(&["initdb"], &[])?.canonicalize().ok()?.parent()?.to_owned());
    newest.map(|(_, folder)| folder).or_else(on_path).ok_or_else(|| ScratchError::NotInstalled {
        title: "PostgreSQL",
        engine: "postgresql",
        package: "postgresql",
        tried: vec!["initdb".to_owned(), "/usr/lib/postgresql/*/bin/initdb".to_owned()],
    })
}

fn version(server: &Path, cancel: &Cancel) -> Result<String, ScratchError> {
    let mut command = process::bare_command(&server.to_string_lossy());
    let (_, text) = process::capture(command.arg("--version"), cancel, 64 * 1024)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

fn failed(program: &Path, ended: &process::Ended, said: &[u8]) -> ScratchError {
    let said = format!("{} {}", String::from_utf8_lossy(said).trim(), ended.complaint);
    let short: String = said.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect();
    ScratchError::Prepare { title: "PostgreSQL", program: program.display().to_string(), status: ended.status_text(), said: short }
}

fn install(programs: &Path, folder: &Path, user: &OsUser, cancel: &Cancel) -> Result<(), ScratchError> {
    let program = programs.join("initdb");
    let mut command = user.command(&program, folder, "KILL");
    command.arg("-D").arg(folder.join("data")).args(["-U", ADMIN, "--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]);
    // It refuses password logins without a password for the administrator, who never logs in.
    let secret = folder.join("admin");
    user.make_file(&secret, new_password()?.as_bytes())?;
    command.arg(format!("--pwfile={}", secret.display()));
    let (ended, said) = process::capture(&mut command, cancel, 4 << 20)?;
    let _ = fs::remove_file(&secret);
    if ended.status.success() { Ok(()) } else { Err(failed(&program, &ended, &said)) }
}

/// Makes the user that loads dumps before anybody can log in. He may make databases and is nobody's superuser, so that
/// a dump can run no program and read no file.
fn make_role(programs: &Path, folder: &Path, user: &OsUser, password: &str, cancel: &Cancel) -> Result<(), ScratchError> {
    let program = programs.join("postgres");
    let mut command = user.command(&program, folder, "KILL");
    command.arg("--single").arg("-D").arg(folder.join("data")).args(["-F", "postgres"]);
    let sql = format!("CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{password}';\n");
    let fed = process::feed(&mut command, cancel, |stdin| stdin.write_all(sql.as_bytes()))?;
    let refused = fed.ended.complaint.contains("ERROR") || fed.ended.complaint.contains("FATAL");
    if fed.ended.status.success() && !refused { Ok(()) } else { Err(failed(&program, &fed.ended, b"")) }
}

/// Closed to the network, and careless of a power cut.
fn options(folder: &Path) -> Vec<String> {
    let settings = [
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={}", folder.display()),
        format!("port={PORT}"),
        "fsync=off".to_owned(),
        "synchronous_commit=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "wal_level=minimal".to_owned(),
        "max_wal_senders=0".to_owned(),
        "max_connections=20".to_owned(),
        "autovacuum=off".to_owned(),
        "logging_collector=off".to_owned(),
    ];
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
}
