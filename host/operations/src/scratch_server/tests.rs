use super::*;
use crate::databases::engine;

fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("hbd-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Real users of the process, by its number.
fn user_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_mariadb_server_starts_unprivileged_answers_and_is_gone() {
    let folder = folder();
    let user = OsUser::resolve("nobody").unwrap();
    let server = ScratchServer::start(Family::MariaDb, &folder.path().join("m"), &user, &Cancel::default()).unwrap();
    let pid = server.child.id();
    if rustix::process::geteuid().is_root() {
        assert_ne!(user_of(pid), "0");
    }
    assert!(server.version().contains("MariaDB"), "{}", server.version());
    let scratch = engine(server.connection("mariadb", "havun_drill_x").unwrap()).unwrap();
    let missing = scratch.preflight(&Cancel::default()).unwrap_err();
    assert!(matches!(missing, DatabaseError::NoDatabase { .. }), "{missing}");
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

/// A dump of two databases, without a checksum, which Redis allows: the hostile ones are whole by our own rules.
const RDB: &[u8] =
    b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfe\x00\xfb\x02\x00\x00\x01k\x01v\x00\x01l\x01w\xfe\x03\x00\x01m\x01x\xff\0\0\0\0\0\0\0\0";

fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(RDB, from).unwrap();
    [&RDB[..at], to, &RDB[at + from.len()..]].concat()
}

fn redis(folder: &Path, dump: &[u8]) -> Result<ScratchServer, ScratchError> {
    let source = |out: &mut (dyn io::Write + Send)| out.write_all(dump).map_err(Into::into);
    let user = OsUser::resolve("nobody").unwrap();
    ScratchServer::on_dump(&folder.join("redis-1"), &source, &DatabaseRecord::default(), &user, &Cancel::default())
}

/// What names the folder, or works in it.
fn processes_of(folder: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))).count()
}

#[test]
fn a_redis_server_starts_on_the_dump_unprivileged_and_knows_no_way_out() {
    let folder = folder();
    let server = redis(folder.path(), RDB).unwrap();
    let pid = server.child.id();
    if rustix::process::geteuid().is_root() {
        assert_ne!(user_of(pid), "0");
    }
    assert!(server.version().starts_with("Redis "), "{}", server.version());
    let record = |text: &str| DatabaseRecord { rows: serde_json::from_str(text).unwrap(), ..DatabaseRecord::default() };
    let compare = |text: &str| {
        crate::databases::compare_redis(server.connection("redis", "all").unwrap(), &record(text), &Cancel::default())
            .map(|done| (done.tables_verified, done.rows_verified))
            .map_err(|error| error.to_string())
    };
    assert_eq!(compare(r#"{"db0":2,"db3":1}"#), Ok((2, 3)));
    for (recorded, what) in
        [(r#"{"db0":3,"db3":1}"#, "db0 has 2 keys, 3 were recorded"), (r#"{"db0":2}"#, "db3 has 1 keys, and none were recorded")]
    {
        let said = compare(recorded).unwrap_err();
        assert!(said.contains(what), "{said}");
    }
    // No port, and none of the commands that reach beyond the data.
    let conf = std::fs::read_to_string(server.folder().join("conf")).unwrap();
    let password = conf.lines().find_map(|line| line.strip_prefix("requirepass ")).unwrap();
    let ask = |words: &[&str]| {
        let mut command = std::process::Command::new("redis-cli");
        command.arg("-s").arg(server.folder().join("s")).env("REDISCLI_AUTH", password).args(words);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    assert_eq!(ask(&["GET", "k"]).trim(), "v");
    for command in ["CONFIG", "MODULE", "REPLICAOF", "SLAVEOF", "MIGRATE", "SAVE", "BGSAVE", "DEBUG", "EVAL", "SHUTDOWN"] {
        assert!(ask(&[command, "x"]).contains("unknown command"), "{command}");
    }
    assert_eq!(ask(&["INFO", "server"]).lines().find(|line| line.starts_with("tcp_port")).unwrap().trim(), "tcp_port:0");
    drop(server);
    assert_eq!(processes_of(folder.path()), 0);
}

#[test]
fn a_hostile_or_damaged_redis_dump_fails_by_its_reason_and_leaves_no_server() {
    let cases: [(Vec<u8>, &str); 6] = [
        (RDB[..40].to_vec(), "its end mark is missing"),
        (b"no RDB at all, but long enough".to_vec(), "begins with other bytes"),
        // A list whose inner structure lies about its length.
        (replaced(b"\x00\x01k\x01v", b"\x0a\x01k\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "integrity check failed"),
        (replaced(b"\x00\x01k\x01v", b"\x1f\x01k\x01v"), "Unknown RDB encoding type 31"),
        // A text that claims to have more bytes than any machine.
        (replaced(b"\x00\x01k\x01v", b"\x00\x01k\x81\x00\x00\xff\xff\xff\xff\xff\xffv"), "does not load"),
        // A library of functions that is no Lua.
        (replaced(b"\xfe\x00\xfb", b"\xf5\x16#!lua name=lib\nos.exe(\xfe\x00\xfb"), "does not load"),
    ];
    for (dump, reason) in cases {
        let folder = folder();
        let error = redis(folder.path(), &dump).map(|_| ()).unwrap_err();
        let said = crate::error::one_line(&error);
        assert!(!error.is_of_this_host() && said.contains(reason), "{reason}: {said}");
        assert_eq!(processes_of(folder.path()), 0, "{reason}");
    }
}

#[test]
fn a_newer_format_and_data_of_a_module_say_nothing_of_the_dump() {
    let module = b"\xfe\x00\x07\x01k\x81\x12\x34\x56\x78\x90\xab\xcd\xef\x00".as_slice();
    let newer = replaced(b"REDIS0010", b"REDIS0099");
    let of_module = replaced(b"\xfe\x00\xfb\x02\x00\x00\x01k\x01v", module);
    for (dump, reason) in [(newer, "newer format than this server knows"), (of_module, "data of a module that this server does not have")] {
        let folder = folder();
        let error = redis(folder.path(), &dump).map(|_| ()).unwrap_err();
        assert!(error.is_of_this_host() && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_user_who_is_not_there_is_named_and_root_is_refused() {
    if rustix::process::geteuid().is_root() {
        for name in ["no-such-user", "root"] {
            assert!(matches!(OsUser::resolve(name), Err(ScratchError::NoUser { user }) if user == name));
        }
    }
}

/// Where MongoDB's server is not installed, the drill is told what to install; where it is, it starts.
#[test]
fn a_mongodb_server_starts_or_it_is_said_what_to_install() {
    let folder = folder();
    let user = OsUser::resolve("nobody").unwrap();
    let started = ScratchServer::start(Family::MongoDb, &folder.path().join("mongo"), &user, &Cancel::default());
    match crate::process::find_program(&["mongod"], &[]) {
        Some(_) => assert!(started.unwrap().version().starts_with("MongoDB ")),
        None => {
            let error = started.map(|_| ()).unwrap_err();
            assert!(error.is_of_this_host(), "{error}");
            let said = error.to_string();
            assert!(said.contains("install mongodb-org-server") && said.contains("[drill.databases.mongodb]"), "{said}");
        }
    }
}
