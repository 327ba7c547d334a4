//! No password is to be found anywhere while a dump or a restore runs, nor after `kill -9` in the middle of one.

use super::{Shop, wait_for};
use havun_tests::{MariaDb, PostgreSql, RedisServer};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

/// Every character that some quoting trips over, and a part by which it is found.
fn password(mark: &str) -> String {
    format!("# ' \" \\ : $ é {mark}{}", std::process::id())
}

/// A shop whose database's password stands in a file, the one place where it may be found.
fn shop(engine: &str, port: u16, database: &str, password: &str) -> Shop {
    let parameters = format!(
        "engine = \"{engine}\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{database}\"\ndatabase = \"{database}\"\npassword = {{ file = \"password\" }}"
    );
    with_password(Shop::new(&parameters, ""), password)
}

fn with_password(shop: Shop, password: &str) -> Shop {
    let path = shop.machine.at("password");
    havun_vault::keys::write_private_file(&path, password.as_bytes()).unwrap();
    let pipe = shop.at("go-on");
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    shop
}

const RESTORE: [&str; 8] = ["restore", "--project", "shop", "--latest", "--item", "database", "--yes", "--replace"];

/// A script that lets the client stand still once it is `under_way`, until the pipe `go-on` is opened.
const STAND_STILL: &str = "touch HERE/under-way; read -r line < HERE/go-on";

/// Starts the program, waits until its client stands still, and kills it; looks for `secret` before and after.
fn killed(shop: &Shop, mut command: Command, secret: &str) {
    let (begun, mark) = (SystemTime::now() - Duration::from_secs(2), shop.machine.at("under-way"));
    let arguments = format!("{command:?}");
    let _ = fs::remove_file(&mark);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the client is not under way", || {
        assert!(running.try_wait().unwrap().is_none(), "{arguments} ended before its client was under way");
        mark.exists()
    });
    assert_eq!(processes_that_show(secret), Vec::<String>::new(), "{arguments} while it runs");
    assert_eq!(files_with(shop, secret, begun), Vec::<PathBuf>::new(), "{arguments} while it runs");
    kill(&mut running);
    assert_eq!(processes_that_show(secret), Vec::<String>::new(), "{arguments} after the kill");
    assert_eq!(files_with(shop, secret, begun), Vec::<PathBuf>::new(), "{arguments} after the kill");
    // The client that stands still goes on, finds nobody who reads it, and ends.
    // Opened for both, so that nobody need be there any more.
    fs::File::options().read(true).write(true).open(shop.machine.at("go-on")).unwrap().write_all(b"\n").unwrap();
}

fn kill(running: &mut Child) {
    running.kill().unwrap();
    running.wait().unwrap();
}

/// Processes that have `secret` in their arguments or their environment.
fn processes_that_show(secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            if contains(&bytes, secret) {
                found.push(format!("{}/{file}: {}", entry.path().display(), String::from_utf8_lossy(&bytes)));
            }
        }
    }
    found
}

/// Files with `secret` among all that were written since `begun` where temporary files go, and in the machine's own folder.
fn files_with(shop: &Shop, secret: &str, begun: SystemTime) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["/tmp", "/var/tmp", "/dev/shm", "/run"].iter().map(PathBuf::from).collect();
    folders.push(shop.machine.path().to_owned());
    folders.push(std::env::temp_dir());
    let (mut found, allowed) = (Vec::new(), shop.machine.at("password"));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let young = meta.modified().is_ok_and(|at| at >= begun);
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file() && young && meta.len() < 1 << 20 && entry.path() != allowed && holds(&entry.path(), secret) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn holds(path: &Path, secret: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| contains(&bytes, secret))
}

fn contains(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
}

#[test]
fn a_mariadb_password_is_nowhere_after_a_kill_in_a_dump_and_in_a_restore() {
    let server = MariaDb::shared();
    let password = password("mdb");
    // By its mark alone: however it is quoted, this part of it stays as it is.
    let secret = format!("mdb{}", std::process::id());
    let literal = password.replace('\\', "\\\\").replace('\'', "\\'");
    server.sql(&format!(
        "CREATE DATABASE trap_secret; USE trap_secret; CREATE TABLE t(a INT PRIMARY KEY, b TEXT); INSERT INTO t SELECT seq, REPEAT('x', 500) FROM seq_1_to_20000;
         CREATE USER trap_secret@'%' IDENTIFIED BY '{literal}'; GRANT ALL ON `trap\\_secret%`.* TO trap_secret@'%'; GRANT SELECT ON mysql.proc TO trap_secret@'%'"
    ));
    let shop = shop("mariadb", server.port(), "trap_secret", &password);
    shop.run(0);
    // In the middle of the rows: the login is read, the dump is under way.
    shop.wrap("mariadb-dump", &format!("REAL \"$@\" | {{ head -c 2000000; {STAND_STILL}; cat; }}"));
    killed(&shop, shop.command(&["run"]), &secret);
    // While the login waits in its pipe, unread.
    shop.wrap("mariadb-dump", &format!("{STAND_STILL}; exec REAL \"$@\""));
    killed(&shop, shop.command(&["run"]), &secret);
    shop.unwrap_all();
    shop.wrap("mariadb", &format!("case \"$*\" in *--database=*) {STAND_STILL} ;; esac; exec REAL \"$@\""));
    killed(&shop, shop.command(&RESTORE), &secret);
    shop.unwrap_all();
    shop.run(0);
    let left = server.sql("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'trap\\_secret%'");
    left.lines().for_each(|name| drop(server.sql(&format!("DROP DATABASE {name}"))));
    server.sql("DROP USER trap_secret@'%'");
}

/// Our program, for which PostgreSQL's `pg_dump` and `psql` have a script before them.
fn with_scripts(shop: &Shop, arguments: &[&str], dump: &str, load: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let real = versions.max_by_key(|version| version.parse::<u32>().unwrap_or(0)).unwrap();
    for (program, script) in [("pg_dump", dump), ("psql", load)] {
        let real = format!("{}/{real}/bin/{program}", shop.at("real"));
        let text = format!("#!/bin/bash\ncase \"$*\" in *--version*) exec {real} \"$@\" ;; esac\n{script}\n");
        shop.install(&format!("../fake/bin/{program}"), &text.replace("REAL", &real).replace("HERE", &shop.at("")));
    }
    let _ = fs::create_dir(shop.machine.at("real"));
    // The other programs stay where they are.
    let hide = format!(
        "mount --bind /usr/lib/postgresql real && mkdir -p over/{real}/bin && cp -sf \"$PWD\"/real/{real}/bin/* over/{real}/bin/ && \
         rm over/{real}/bin/pg_dump over/{real}/bin/psql && cp fake/bin/* over/{real}/bin/ && mount --bind over /usr/lib/postgresql && exec \"$@\""
    );
    let inner = shop.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", &hide, "bash"]).arg(inner.get_program()).args(inner.get_args()).current_dir(shop.machine.path());
    command
}

#[test]
fn a_postgresql_password_is_nowhere_after_a_kill_in_a_dump_and_in_a_restore() {
    let server = PostgreSql::shared();
    let password = password("pgs");
    let secret = format!("pgs{}", std::process::id());
    server.sql("postgres", &format!("CREATE ROLE trap_secret LOGIN CREATEDB PASSWORD '{}'", password.replace('\'', "''")));
    server.sql("postgres", "CREATE DATABASE trap_secret TEMPLATE template0 OWNER trap_secret");
    server.sql("trap_secret", "SET ROLE trap_secret; CREATE TABLE t AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n");
    let shop = shop("postgresql", server.port(), "trap_secret", &password);
    shop.run(0);
    let dump = format!("REAL \"$@\" | {{ head -c 2000000; {STAND_STILL}; cat; }}");
    let load = format!("case \"$*\" in *--output=/dev/null*) {STAND_STILL} ;; esac; exec REAL \"$@\"");
    for arguments in [&["run"][..], &RESTORE] {
        killed(&shop, with_scripts(&shop, arguments, &dump, &load), &secret);
    }
    shop.run(0);
    let left = server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'trap_secret%'");
    left.lines().for_each(|name| drop(server.try_sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"))));
}

#[test]
fn a_redis_password_is_nowhere_while_it_is_used_and_after_a_kill() {
    let password = password("rds");
    let secret = format!("rds{}", std::process::id());
    let server = RedisServer::start(&password, &[]);
    server.ask(&["SET", "a", "1"]);
    let parameters = format!("engine = \"redis\"\nhost = \"127.0.0.1\"\nport = {}\npassword = {{ file = \"password\" }}", server.port());
    let shop = with_password(Shop::new(&parameters, ""), &password);
    shop.run(0);
    // The private server that proves the dump stands still before it starts.
    shop.wrap("redis-server", &format!("{STAND_STILL}; exec REAL \"$@\""));
    killed(&shop, shop.command(&RESTORE), &secret);
    shop.unwrap_all();
    shop.call(&RESTORE).ended(0);
    let dumps = Command::new("find").arg(shop.at("state")).args(["-name", "dump.rdb"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&dumps.stdout), "", "the copy that the kill left is gone with the next restore");
}
