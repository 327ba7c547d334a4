//! Drills of Redis, and servers that the configuration names for drills: what is loaded there, what is taken away again, and
//! which servers are nobody's scratch.

use crate::drills::{left, machine, only, reasons, servers, wait_for};
use havun_tests::{Called, Machine, MariaDb, PostgreSql, RedisServer};
use serde_json::Value;
use std::{fs, path::Path, process::Stdio};

/// A project whose only database is a Redis server, reached by its port.
fn cached(machine: &mut Machine, name: &str, server: &RedisServer, more: &str) {
    let table = format!("[projects.{name}.databases.main]\nengine = \"redis\"\nhost = \"127.0.0.1\"\nport = {}\n{more}", server.port());
    let root = machine.project(name, "files", &table);
    fs::write(root.join("readme"), "x").unwrap();
}

fn filled() -> RedisServer {
    let server = RedisServer::start("", &[]);
    let fill = "for i = 1, 500 do redis.call('SET', 'key' .. i, string.rep(i .. 'x', 20)) end redis.call('HSET', 'hash', 'a', 1, 'b', 2)
                redis.call('SELECT', 3) redis.call('RPUSH', 'list', 'a', 'b')";
    assert_eq!(server.ask(&["EVAL", fill, "0"]), "");
    server
}

fn change_config(machine: &Machine, from: &str, to: &str) {
    let text = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(machine.at("havun-backup.toml"), text.replace(from, to)).unwrap();
}

#[test]
fn a_redis_dump_is_loaded_into_a_server_of_its_own() {
    let (mut machine, server) = (machine(""), filled());
    cached(&mut machine, "cache", &server, "");
    machine.call(&["run"]).ended(0);
    let before = server.ask(&["DEBUG", "DIGEST"]);
    let report = machine.json(&["test"]).ended(0).json();
    let (project, certificates) = only(&report);
    assert_eq!(project["outcome"], "passed", "{report}");
    let database = &certificates[0]["databases"][0];
    assert_eq!((&database["tables_found"], &database["rows_found"]), (&Value::from(2), &Value::from(502)), "{database:#}");
    assert!(database["scratch_server"].as_str().unwrap().starts_with("Redis "), "{database:#}");
    assert_eq!(server.ask(&["DEBUG", "DIGEST"]), before);
    assert_eq!((left(&machine), servers(&machine)), (Vec::new(), Vec::new()));
}

/// The server dies with the drill where the system can see to that; where it cannot, the next start ends it.
#[test]
fn a_killed_redis_drill_leaves_no_server_and_no_folder_after_the_next_start() {
    let (mut machine, server) = (machine(""), filled());
    // Enough to load for a while.
    let large = "for i = 1, 60000 do redis.call('SET', 'more' .. i, string.rep(i .. 'y', 200)) end";
    assert_eq!(server.ask(&["EVAL", large, "0"]), "");
    cached(&mut machine, "cache", &server, "");
    machine.call(&["run"]).ended(0);
    let bin = machine.at("bin");
    let script = format!("mkdir {bin}; ln -s /usr/bin/* {bin}/; rm -f {bin}/setpriv", bin = bin.display());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    for path in [None, Some(format!("{}:/usr/sbin", bin.display()))] {
        let mut command = machine.command(&["test", "-q"]);
        if let Some(path) = &path {
            command.env("PATH", path);
        }
        let mut drill = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("a server", || !servers(&machine).is_empty());
        drill.kill().unwrap();
        drill.wait().unwrap();
        assert!(!left(&machine).is_empty());
        machine.call(&["run", "-q"]).ended(0);
        assert_eq!((left(&machine), servers(&machine)), (Vec::new(), Vec::new()), "{path:?}");
    }
}

#[test]
fn a_configured_redis_server_is_used_and_emptied_and_never_any_projects_own() {
    let (production, scratch) = (filled(), RedisServer::start("", &[]));
    let named = |server: &RedisServer| format!("[drill.databases.redis]\nsocket = \"{}\"\n", server.socket().display());
    let mut machine = machine(&named(&scratch));
    cached(&mut machine, "cache", &production, "");
    machine.call(&["run"]).ended(0);
    let report = machine.json(&["test"]).ended(0).json();
    let database = &only(&report).1[0]["databases"][0];
    assert_eq!(database["rows_found"], 502, "{database:#}");
    assert_eq!(scratch.ask(&["INFO", "keyspace"]).trim(), "# Keyspace");
    // By its socket, though the project goes by its port: one server all the same.
    change_config(&machine, &scratch.socket().display().to_string(), &production.socket().display().to_string());
    let before = production.ask(&["DEBUG", "DIGEST"]);
    let said = reasons(&machine, "cache");
    assert!(said.contains("never goes to a production server"), "{said}");
    assert_eq!(production.ask(&["DEBUG", "DIGEST"]), before);
}

/// The other project's server stands in its own `.env`, which only its strategy knows, and in no part of the configuration.
#[test]
fn a_server_that_another_projects_strategy_knows_is_no_scratch_server() {
    let (own, other) = (MariaDb::start(), MariaDb::shared());
    let mut machine = machine(&format!("[drill.databases.mariadb]\nsocket = \"{}\"\nuser = \"root\"\n", other.socket().display()));
    crate::drills::laravel(&mut machine, &own, "lonely", "");
    crate::drills::laravel(&mut machine, &other, "neighbour", "");
    machine.call(&["run", "--project", "lonely"]).ended(0);
    let said = reasons(&machine, "lonely");
    assert!(said.contains("of project neighbour") && said.contains("never goes to a production server"), "{said}");
    // Its tree is gone; its newest snapshot still says it, as far as its connection needs no file of the tree.
    assert_eq!(other.sql("SHOW DATABASES LIKE 'havun%'"), "");
}

/// Databases that cannot be dropped now stay on the drill's record until they can; what another made stays.
#[test]
fn what_is_left_on_a_configured_server_is_removed_exactly_and_as_soon_as_it_can_be() {
    let (production, scratch) = (MariaDb::shared(), MariaDb::start());
    let databases = || scratch.sql("SHOW DATABASES LIKE 'havun%'").trim().to_owned();
    let named = format!("[drill.databases.mariadb]\nsocket = \"{}\"\nuser = \"root\"\n", scratch.socket().display());
    let mut machine = machine(&named);
    crate::drills::laravel(&mut machine, &production, "leftover", "");
    machine.call(&["run"]).ended(0);
    let foreign = "havun_drill_ffffffffffffffff_1";
    scratch.sql(&format!("CREATE DATABASE {foreign}; CREATE TABLE {foreign}.t (id INT); CREATE DATABASE shop"));
    let mut drill = machine.command(&["test", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("a scratch database", || databases() != foreign);
    drill.kill().unwrap();
    drill.wait().unwrap();
    // Nobody knows the server any more.
    change_config(&machine, &named, "");
    let said = machine.call(&["test", "--project", "leftover"]).text();
    assert!(said.contains("could not remove the scratch database havun_drill_"), "{said}");
    assert!(databases() != foreign && !left(&machine).is_empty(), "the record stays");
    change_config(&machine, "[drill]", &format!("{named}[drill]"));
    machine.call(&["run", "-q"]).ended(0);
    assert_eq!((databases(), left(&machine)), (foreign.to_owned(), Vec::new()));
    assert_eq!(scratch.sql("SHOW DATABASES LIKE 'shop'").trim(), "shop");
}

/// Roles that a dump names and the configured server lacks are made for the drill, and go with it: those and no others.
#[test]
fn roles_that_a_drill_made_on_a_configured_server_go_with_it() {
    let (production, scratch) = (PostgreSql::shared(), PostgreSql::start());
    production.sql("postgres", "CREATE ROLE tenant_a; CREATE ROLE tenant_b; CREATE DATABASE tenants");
    production.sql(
        "tenants",
        "CREATE TABLE a (id INT); ALTER TABLE a OWNER TO tenant_a; CREATE TABLE b (id INT); ALTER TABLE b OWNER TO tenant_b;
         INSERT INTO a VALUES (1), (2); GRANT SELECT ON a TO tenant_b;",
    );
    // One of them is there already, and is somebody's.
    scratch.sql("postgres", "CREATE ROLE tenant_b");
    let socket = |server: &PostgreSql| server.socket().display().to_string();
    let mut machine = machine(&format!(
        "[drill.databases.postgresql]\nsocket = \"{}\"\nport = {}\nuser = \"postgres\"\n",
        socket(&scratch),
        scratch.port()
    ));
    let table = format!(
        "[projects.tenants.databases.main]\nengine = \"postgresql\"\nsocket = \"{}\"\nport = {}\nuser = \"postgres\"\ndatabase = \"tenants\"\n",
        socket(&production),
        production.port()
    );
    let root = machine.project("tenants", "files", &table);
    fs::write(root.join("readme"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    let report = machine.json(&["test"]).json();
    let database = &only(&report).1[0]["databases"][0];
    assert_eq!(database["result"], "passed", "{database:#}");
    assert!(database["notes"].to_string().contains("tenant_a"), "{database:#}");
    let roles = scratch.sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenant%' ORDER BY 1");
    assert_eq!(roles.trim(), "tenant_b");
    assert_eq!(scratch.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'havun%'"), "");
}

fn notes(certificate: &Value) -> String {
    certificate["notes"].to_string()
}

/// What the plan of the restore says stands in the certificate; so does what the drill's own choice says.
#[test]
fn what_the_plan_of_the_restore_says_stands_in_the_certificate() {
    let mut machine = machine("store = \"local\"\n");
    crate::drills::files(&mut machine, "papers", "");
    machine.call(&["run"]).ended(0);
    // A snapshot object that is none.
    let snapshots = snapshot_folder(&machine.at("local/papers"));
    let whole = fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let odd: String = whole
        .chars()
        .map(|c| {
            if c == 'a' {
                'b'
            } else if c == 'b' {
                'a'
            } else {
                c
            }
        })
        .collect();
    fs::write(snapshots.join(&odd), "not a snapshot").unwrap();
    let report = machine.json(&["test"]).json();
    let (_, certificates) = only(&report);
    assert!(notes(certificates[0]).contains("damaged and passed over"), "{report:#}");
}

fn snapshot_folder(vault: &Path) -> std::path::PathBuf {
    let found = std::process::Command::new("find").arg(vault).args(["-type", "d", "-name", "snapshots"]).output().unwrap();
    std::path::PathBuf::from(String::from_utf8(found.stdout).unwrap().lines().next().unwrap())
}

/// A database that was damaged when it was backed up is restored as it was, and is no proof.
#[test]
fn a_database_that_the_snapshot_holds_partly_fails_a_drill_by_what_the_run_said() {
    let mut machine = machine("");
    let root = crate::drills::nodejs(&mut machine, "");
    let path = root.join("data/app.sqlite");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("PRAGMA journal_mode = DELETE; CREATE INDEX by_text ON notes (text); VACUUM").unwrap();
    let page: i64 = database.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'by_text'", [], |row| row.get(0)).unwrap();
    // The index loses its entries: the rows are all there, and the file is not sound.
    drop(database);
    let mut bytes = fs::read(&path).unwrap();
    let at = usize::try_from(page - 1).unwrap() * 4096;
    let (count, zero) = (at + 3, [0u8, 0]);
    bytes[count..count + 2].copy_from_slice(&zero);
    fs::write(&path, bytes).unwrap();
    machine.call(&["run"]).ended(3);
    let listed = machine.json(&["list"]).ended(0).json();
    let id = listed.to_string().split("\"id\":\"").nth(1).unwrap()[..16].to_owned();
    let report = machine.json(&["test", "--snapshot", &id]).ended(6).json();
    let (project, certificates) = only(&report);
    assert_eq!(project["outcome"], "failed", "{report}");
    let said = certificates[0]["reasons"].to_string();
    assert!(said.contains("the snapshot holds it partial"), "{said}");
}

/// One place that keeps it is enough, and the others are said; a certificate that nobody keeps is no drill.
#[test]
fn a_certificate_that_cannot_be_kept_here_is_kept_in_the_stores_and_one_that_nobody_keeps_is_an_error() {
    let mut machine = machine("");
    crate::drills::files(&mut machine, "papers", "");
    machine.call(&["run"]).ended(0);
    fs::write(machine.at("state/certificates"), "in the way").unwrap();
    let called = machine.call(&["test"]).ended(0);
    assert!(called.text().contains("the certificate is not in the state folder of this host"), "{}", called.text());
    let report = machine.json(&["test"]).ended(0).json();
    let drill = &report["projects"][0]["drills"][0];
    assert_eq!((drill["files"].as_array().unwrap().len(), drill["stored_in"].as_array().unwrap().len()), (0, 2), "{drill:#}");
    // Nor do the stores take it.
    for store in ["local", "archive"] {
        let folder = machine.at(store).join("papers/audit");
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "in the way").unwrap();
    }
    let report = machine.json(&["test"]).ended(6).json();
    assert_eq!(report["projects"][0]["outcome"], "failed", "{report}");
    assert!(report["projects"][0]["failure"]["message"].as_str().unwrap().contains("cannot make"), "{report}");
    let health = machine.json(&["health"]).ended(4).text();
    assert!(health.contains("certificates"), "{health}");
}

/// Drills as a host would that has no server program.
fn without_servers(machine: &Machine) -> Called {
    let mut command = std::process::Command::new("unshare");
    let hide = "mkdir -p empty && mount --bind empty /usr/sbin && exec \"$@\"";
    let inner = machine.command(&["--json", "test"]);
    command.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program()).args(inner.get_args());
    Called::of(command.current_dir(machine.path()).env("PATH", "/usr/bin:/bin").output().unwrap())
}

/// Where checks are named, only those are accepted; the certificate names each, and whose word it is.
#[test]
fn checks_are_accepted_by_name_and_the_certificate_says_by_whom() {
    let server = MariaDb::shared();
    let mut machine = machine("accept_unproven = [\"mariadb\", \"database: *\"]\n");
    crate::drills::laravel(&mut machine, &server, "named", "");
    machine.call(&["run"]).ended(0);
    let report = without_servers(&machine).ended(6).json();
    let certificate = only(&report).1[0].clone();
    // The engine alone would have accepted what its database was needed for.
    let reasons = certificate["reasons"].as_array().unwrap();
    assert!(reasons.len() == 1 && reasons[0].as_str().unwrap().contains("check `APP_KEY decrypts`"), "{reasons:?}");
    let accepted = certificate["accepted"].to_string();
    assert!(accepted.contains("`mariadb` at accept_unproven of [drill] in ") && accepted.contains("havun-backup.toml"), "{accepted}");
    // By the project's own word.
    change_config(&machine, "strategy = \"laravel\"", "strategy = \"laravel\"\ndrill = { accept_unproven = [\"APP_KEY *\"] }");
    let report = without_servers(&machine).ended(0).json();
    let accepted = only(&report).1[0]["accepted"].to_string();
    assert!(accepted.contains("[projects.named.drill] in "), "{accepted}");
}
