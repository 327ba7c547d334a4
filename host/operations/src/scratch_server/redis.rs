//! Redis: a server that is started on the dump, which is how Redis itself restores one.
//!
//! The dump is whatever lies in the store. So the server has no port, writes nothing, checks each value before it takes it
//! (`sanitize-dump-payload`), and knows none of the commands that reach beyond its data.

use super::{Family, OsUser, ScratchError, ScratchServer, launch, new_password, socket_path};
use crate::{
    databases::{self, DatabaseError, DumpSource, RedisAnswer},
    process::{self, ProcessError, find_program},
};
use havun_model::{Cancel, DatabaseRecord};
use std::os::unix::process::ExitStatusExt as _;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

/// Valkey is what distributions ship in its place.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
const CHECKERS: [&str; 2] = ["redis-check-rdb", "valkey-check-rdb"];
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// The dump, as the server looks for it.
const DUMP: &str = "dump.rdb";
/// Commands that reach beyond the data: files, other servers, programs, the configuration.
const UNKNOWN: [&str; 12] =
    ["CONFIG", "DEBUG", "MODULE", "SLAVEOF", "REPLICAOF", "MIGRATE", "SAVE", "BGSAVE", "BGREWRITEAOF", "SHUTDOWN", "EVAL", "EVALSHA"];
/// How many databases a server has at least.
const DATABASES: u64 = 1024;
/// The most that Redis takes.
const MOST_DATABASES: u64 = 100_000;

pub(super) fn start(
    folder: &Path,
    dump: DumpSource<'_>,
    record: &DatabaseRecord,
    user: &OsUser,
    cancel: &Cancel,
) -> Result<ScratchServer, ScratchError> {
    let program = find_program(&SERVERS, &FOLDERS).ok_or_else(|| ScratchError::NotInstalled {
        title: Family::Redis.title(),
        engine: "redis",
        package: "redis-server",
        tried: SERVERS.map(str::to_owned).to_vec(),
    })?;
    user.make_folder(folder)?;
    let (socket, log) = (socket_path(folder.join("s"))?, folder.join("log"));
    write_dump(&folder.join(DUMP), dump, user)?;
    let version = version(&program, cancel)?;
    let password = new_password()?;
    let conf = folder.join("conf");
    user.make_file(&conf, settings(folder, &password, &version, record).as_bytes())?;
    let mut command = user.command(&program, folder, "KILL");
    command.arg(&conf);
    let child = launch::spawn(&mut command, &log)?;
    let mut server =
        ScratchServer { family: Family::Redis, folder: folder.to_owned(), socket, password, version: format!("Redis {version}"), child };
    wait(&mut server, &log, cancel)?;
    second_opinion(folder, user, cancel)?;
    Ok(server)
}

/// Writes the dump to its place, and looks whether it is whole.
fn write_dump(path: &Path, dump: DumpSource<'_>, user: &OsUser) -> Result<(), ScratchError> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(ScratchError::io("make", path))?;
    dump(&mut file).map_err(|source| ScratchError::Database(DatabaseError::Source(source)))?;
    file.flush().map_err(ScratchError::io("write", path))?;
    drop(file);
    databases::check_redis_dump(path)?;
    user.give(path)
}

/// `7.0.15`.
fn version(server: &Path, cancel: &Cancel) -> Result<String, ScratchError> {
    let mut command = process::bare_command(&server.to_string_lossy());
    let (_, text) = process::capture(command.arg("--version"), cancel, 64 * 1024)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let number = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Ok(number.unwrap_or_else(|| text.trim()).to_owned())
}

fn is_at_least(version: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

fn settings(folder: &Path, password: &str, version: &str, record: &DatabaseRecord) -> String {
    let folder = folder.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    let highest = record.rows.keys().filter_map(|name| name.strip_prefix("db")?.parse::<u64>().ok()).max().unwrap_or_default();
    let databases = highest.saturating_add(1).clamp(DATABASES, MOST_DATABASES);
    let mut text = format!(
        "port 0\nprotected-mode yes\nunixsocket \"{folder}/s\"\nunixsocketperm 700\nrequirepass {password}\ndir \"{folder}\"\n\
         dbfilename {DUMP}\nsave \"\"\nappendonly no\ndaemonize no\nsupervised no\npidfile \"\"\nlogfile \"\"\n\
         databases {databases}\nrdbchecksum yes\n",
    );
    if is_at_least(version, (6, 2)) {
        text.push_str("sanitize-dump-payload yes\n");
    }
    let known = |command: &&&str| match **command {
        "MODULE" => is_at_least(version, (4, 0)),
        "REPLICAOF" => is_at_least(version, (5, 0)),
        _ => true,
    };
    UNKNOWN.iter().filter(known).for_each(|command| text.push_str(&format!("rename-command {command} \"\"\n")));
    text
}

/// A large dump takes as long as it takes, as long as the server says that it loads.
fn wait(server: &mut ScratchServer, log: &Path, cancel: &Cancel) -> Result<(), ScratchError> {
    let mut deadline = Instant::now() + super::PATIENCE;
    loop {
        if let Ok(Some(status)) = server.child.try_wait() {
            // Nobody here kills it while it loads: the kernel does, for want of memory.
            if status.signal() == Some(9) {
                let (title, version) = (Family::Redis.title(), server.version.clone());
                return Err(ScratchError::Lacks {
                    title,
                    version,
                    what: "it was killed while it loaded, probably for want of memory".to_owned(),
                });
            }
            return Err(judge(&server.version, &format!("it ended ({status})"), log));
        }
        if cancel.is_cancelled() {
            return Err(ScratchError::Process(ProcessError::Cancelled { program: Family::Redis.title().to_owned() }));
        }
        match databases::redis_answer(server.connection("redis", "all")?, cancel)? {
            RedisAnswer::Ready => return Ok(()),
            RedisAnswer::Loading => deadline = Instant::now() + super::PATIENCE,
            RedisAnswer::Silent if Instant::now() > deadline => return Err(judge(&server.version, "it does not answer", log)),
            RedisAnswer::Silent => {}
        }
        std::thread::sleep(super::TICK);
    }
}

/// What the server's last words mean.
fn judge(version: &str, what: &str, log: &Path) -> ScratchError {
    let said = last_words(log);
    let title = Family::Redis.title();
    let lacks = |what: String| ScratchError::Lacks { title, version: version.to_owned(), what };
    if said.contains("Can't handle RDB format version") {
        return lacks(format!(
            "it is in a newer format than this server knows ({said}); install the version of Redis that made it, or a newer one"
        ));
    }
    if said.contains("module") && said.contains("can't load") {
        return lacks(format!("it holds data of a module that this server does not have ({said})"));
    }
    ScratchError::DoesNotLoad { title, said: if said.is_empty() { what.to_owned() } else { format!("{said}; {what}") } }
}

/// What follows the mark of a warning, without time and number of the process.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let noise = ["oO0Oo", "Redis version=", "Configuration loaded", "Server initialized", "WARNING", "checksum disabled"];
    let told: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(" # ").map(|(_, words)| words.trim()))
        .filter(|words| !words.is_empty() && !noise.iter().any(|part| words.contains(part)))
        .collect();
    let chosen: Vec<&str> = told.iter().copied().take(3).collect();
    chosen.join("; ")
}

/// Redis's own checker reads the dump once more, where it is installed.
fn second_opinion(folder: &Path, user: &OsUser, cancel: &Cancel) -> Result<(), ScratchError> {
    let Some(checker) = find_program(&CHECKERS, &FOLDERS) else { return Ok(()) };
    let mut command = user.command(&checker, folder, "KILL");
    let (ended, said) = process::capture(command.arg(folder.join(DUMP)), cancel, 4 << 20)?;
    if ended.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&said).into_owned();
    // A checker older than the server, which has loaded the dump.
    if text.contains("Can't handle RDB format version") {
        return Ok(());
    }
    let wrong = text.lines().skip_while(|line| !line.contains("ERROR")).nth(1).unwrap_or_else(|| text.lines().last().unwrap_or_default());
    let name = checker.file_name().map_or_else(|| PathBuf::from(&checker), PathBuf::from);
    Err(ScratchError::DoesNotLoad { title: Family::Redis.title(), said: format!("{} says: {}", name.display(), wrong.trim()) })
}
