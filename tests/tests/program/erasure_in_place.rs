//! In-place restores: whoever was erased is erased before the restored database takes the place of the live one.

use havun_tests::{Called, Machine, MariaDb, PostgreSql};
use rusqlite::Connection;
use std::{fs, io::Write as _, path::Path, process::Stdio};

const RULE: &str = "[projects.shop.settings]\nexclude = [\"*.db*\"]\nerasure = [{ table = \"users\", column = \"email\" }]\n";
/// A rule of a table that no dump has: nothing can be erased.
const BROKEN: &str = "[projects.shop.settings]\nexclude = [\"*.db*\"]\nerasure = [{ table = \"gone\", column = \"email\" }]\n";
const FILL: &str = "CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(99), name VARCHAR(99)); \
                    INSERT INTO users VALUES (1, 'jan@example.org', 'Jan'), (2, 'piet@example.org', 'Piet');";

/// A shop with one database, backed up; Jan is erased afterwards, and the live database is another one by then.
fn shop(database: &str, live: &dyn Fn(&str)) -> Machine {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", &format!("[projects.shop.databases.main]\n{database}\n{RULE}"));
    fs::write(root.join("readme"), "x").unwrap();
    live(FILL);
    machine.call(&["run"]).ended(0);
    let mut child = machine.command(&["erasure", "hash"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"jan@example.org").unwrap();
    let hash = Called::of(child.wait_with_output().unwrap()).ended(0).stdout;
    machine.call(&["erasure", "add", "--project", "shop", "--subject-hash", hash.trim(), "--note", "request 17"]).ended(0);
    live("DELETE FROM users; INSERT INTO users VALUES (3, 'new@example.org', 'New');");
    machine
}

fn restore(machine: &Machine) -> Called {
    machine.json(&["restore", "--project", "shop", "--yes", "--replace"])
}

/// With a rule that cannot be carried out the live database stays; with one that can, Jan never is in it.
fn erased_before_it_is_put_in_place(machine: &Machine, names: &dyn Fn() -> String) {
    let config = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
    fs::write(machine.at("havun-backup.toml"), config.replace(RULE, BROKEN)).unwrap();
    let refused = restore(machine);
    assert_ne!(refused.status, 0, "{refused:?}");
    assert!(refused.text().contains("could not be erased from the dump first"), "{refused:?}");
    assert_eq!(names(), "New", "production is as it was: {refused:?}");
    fs::write(machine.at("havun-backup.toml"), config).unwrap();
    let restored = restore(machine).ended(0).json();
    assert_eq!(names(), "Piet", "{restored}");
    let rules = restored["erasures"]["rules"].as_array().unwrap();
    assert_eq!((rules.len(), &rules[0]["erased"]), (1, &serde_json::Value::from(1)), "{restored}");
    assert!(restored["erasures"]["failures"].as_array().unwrap().is_empty(), "{restored}");
}

#[test]
fn in_a_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.db");
    let live = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let machine = shop(&format!("engine = \"sqlite\"\npath = \"{}\"", path.display()), &live);
    erased_before_it_is_put_in_place(&machine, &|| {
        Connection::open(&path).unwrap().query_row("SELECT group_concat(name) FROM users", [], |row| row.get(0)).unwrap()
    });
    assert_eq!(beside(&path), ["live.db"]);
}

fn beside(path: &Path) -> Vec<String> {
    fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn in_mariadb() {
    let server = MariaDb::shared();
    server.sql("CREATE DATABASE in_place CHARACTER SET utf8mb4");
    let database = format!("engine = \"mariadb\"\nsocket = \"{}\"\nuser = \"root\"\ndatabase = \"in_place\"", server.socket().display());
    // A trigger that names its database would write whoever is erased in the scratch database into the live one.
    let trigger = "CREATE TABLE leavers (email VARCHAR(99)); \
                   CREATE TRIGGER leaving AFTER DELETE ON users FOR EACH ROW INSERT INTO in_place.leavers VALUES (OLD.email);";
    let live = |sql: &str| {
        let more = if sql == FILL { trigger } else { "" };
        server.sql(&format!("USE in_place; {} {more}", sql.replace("DELETE FROM users", "TRUNCATE users")));
    };
    let machine = shop(&database, &live);
    erased_before_it_is_put_in_place(&machine, &|| server.sql("SELECT GROUP_CONCAT(name) FROM in_place.users").trim().to_owned());
    assert_eq!(server.sql("SHOW DATABASES LIKE 'in\\_place\\_havun%'"), "");
    assert_eq!(server.sql("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'in_place'").trim(), "leaving");
    for name in server.sql("SHOW DATABASES LIKE 'in\\_place%'").lines() {
        assert_eq!(server.sql(&format!("SELECT COUNT(*) FROM `{name}`.leavers")).trim(), "0", "{name}");
    }
}

#[test]
fn in_postgresql() {
    let server = PostgreSql::shared();
    server.sql("postgres", "CREATE DATABASE in_place");
    let database = format!(
        "engine = \"postgresql\"\nsocket = \"{}\"\nport = {}\nuser = \"postgres\"\ndatabase = \"in_place\"",
        server.socket().display(),
        server.port()
    );
    let machine = shop(&database, &|sql| drop(server.sql("in_place", sql)));
    erased_before_it_is_put_in_place(&machine, &|| server.sql("in_place", "SELECT string_agg(name, ',') FROM users").trim().to_owned());
    assert_eq!(server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'in_place_havun%'"), "");
}
