//! The erasure register, and what a restore does with it.

use havun_tests::{Called, Machine, MariaDb};
use rusqlite::Connection;
use std::{fs, io::Write as _, path::Path, path::PathBuf, process::Stdio};

const RULES: &str = "[projects.shop.databases.main]\nengine = \"sqlite\"\npath = \"data.sqlite\"\n[projects.shop.settings]\n\
    exclude = [\"data.sqlite*\"]\nerasure = [{ table = \"users\", column = \"email\" }, \
    { table = \"orders\", column = \"email\", clear = [\"name\"], replace = { email = \"erased\" } }, \
    { files = \"avatars/{subject}.png\" }]\n";

struct Shop {
    machine: Machine,
    root: PathBuf,
}

/// A shop whose customers are in a SQLite database and in the names of files, backed up once.
fn shop(settings: &str) -> Shop {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", settings);
    fs::create_dir_all(root.join("avatars")).unwrap();
    for name in ["jan@example.org", "piet@example.org"] {
        fs::write(root.join(format!("avatars/{name}.png")), name).unwrap();
    }
    let database = Connection::open(root.join("data.sqlite")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT COLLATE NOCASE, name TEXT);
             CREATE TABLE sessions (user INTEGER REFERENCES users (id) ON DELETE CASCADE, token TEXT);
             CREATE TABLE orders (id INTEGER PRIMARY KEY, email TEXT NOT NULL, name TEXT, total INTEGER);
             INSERT INTO users VALUES (1, 'Jan@Example.org', 'Jan'), (2, 'piet@example.org', 'Piet');
             INSERT INTO sessions VALUES (1, 'a'), (2, 'b');
             INSERT INTO orders VALUES (1, 'jan@example.org', 'Jan', 10), (2, 'piet@example.org', 'Piet', 20);",
        )
        .unwrap();
    drop(database);
    machine.call(&["run"]).ended(0);
    Shop { machine, root }
}

impl Shop {
    fn hash(&self, identifier: &str) -> String {
        let mut child =
            self.machine.command(&["erasure", "hash"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(identifier.as_bytes()).unwrap();
        Called::of(child.wait_with_output().unwrap()).ended(0).stdout.trim().to_owned()
    }

    fn erase(&self, identifier: &str) -> serde_json::Value {
        let hash = self.hash(identifier);
        self.machine.json(&["erasure", "add", "--project", "shop", "--subject-hash", &hash, "--note", "request 17"]).ended(0).json()
    }

    fn restore(&self, target: &Path, more: &[&str]) -> Called {
        let mut arguments = vec!["restore", "--project", "shop", "--yes", "--target", target.to_str().unwrap()];
        arguments.extend(more);
        self.machine.json(&arguments)
    }

    fn standing(&self) -> Vec<serde_json::Value> {
        self.machine.json(&["erasure", "list"]).ended(0).json()["projects"][0]["standing"].as_array().unwrap().clone()
    }
}

fn texts(database: &Path, sql: &str) -> Vec<String> {
    let database = Connection::open(database).unwrap();
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_restore_erases_who_was_erased_since_and_nobody_else() {
    let shop = shop(RULES);
    let added = shop.erase(" JAN@example.org \n");
    assert_eq!(added["snapshots_before"], 1, "{added}");
    let target = shop.machine.at("target");
    let plan = shop.machine.call(&["restore", "--project", "shop", "--dry-run", "--target", target.to_str().unwrap()]).ended(0);
    assert!(plan.stdout.contains("request 17"), "a dry run lists them: {}", plan.stdout);
    let restored = shop.restore(&target, &[]).ended(0).json();
    let database = target.join("data.sqlite");
    assert_eq!(texts(&database, "SELECT name FROM users"), ["Piet"]);
    assert_eq!(texts(&database, "SELECT token FROM sessions"), ["b"], "what depends on the row goes with it");
    let orders = texts(&database, "SELECT email || '/' || ifnull(name, 'NULL') || '/' || total FROM orders ORDER BY id");
    assert_eq!(orders, ["erased/NULL/10", "piet@example.org/Piet/20"]);
    assert!(!target.join("avatars/jan@example.org.png").exists() && target.join("avatars/piet@example.org.png").exists());
    assert!(!String::from_utf8_lossy(&fs::read(&database).unwrap()).to_lowercase().contains("jan@example"), "overwritten in the file too");
    let erasures = &restored["erasures"];
    assert_eq!(erasures["rules"].as_array().unwrap().iter().map(|r| r["erased"].as_u64().unwrap()).sum::<u64>(), 3, "{erasures}");
    assert_eq!(erasures["not_found"].as_array().unwrap().len(), 0, "{erasures}");
    // The original is as it was, and the row of the restore says what was erased.
    assert_eq!(texts(&shop.root.join("data.sqlite"), "SELECT name FROM users").len(), 2);
    let logs = shop.machine.json(&["logs"]).ended(0).text();
    assert!(logs.contains("\"erasures\"") && !logs.to_lowercase().contains("jan@example"), "{logs}");
}

#[test]
fn what_was_backed_up_after_the_erasure_is_left_alone() {
    let shop = shop(RULES);
    shop.erase("jan@example.org");
    // Jan comes back as a customer.
    shop.machine.call(&["run"]).ended(0);
    let target = shop.machine.at("target");
    let restored = shop.restore(&target, &[]).ended(0).json();
    assert_eq!(texts(&target.join("data.sqlite"), "SELECT name FROM users ORDER BY id"), ["Jan", "Piet"]);
    assert!(restored["erasures"]["due"].as_array().unwrap().is_empty(), "{restored}");
}

#[test]
fn a_rule_that_cannot_be_carried_out_makes_the_restore_partial_and_says_so() {
    let shop = shop(&RULES.replace("table = \"orders\"", "table = \"gone\""));
    shop.erase("jan@example.org");
    let target = shop.machine.at("target");
    let restored = shop.restore(&target, &[]).ended(3).json();
    assert_eq!(restored["outcome"], "partial");
    assert!(restored["erasures"]["failures"].to_string().contains("gone"), "{restored}");
    assert_eq!(texts(&target.join("data.sqlite"), "SELECT name FROM users").len(), 2, "all of a database or nothing");
    let logs = shop.machine.json(&["logs"]).ended(0).json();
    assert!(logs.to_string().contains("erasures: "), "{logs}");
}

#[test]
fn without_rules_the_erasures_are_listed_and_left_to_the_operator() {
    let rules = RULES.split("erasure = ").next().unwrap();
    let shop = shop(rules);
    shop.erase("jan@example.org");
    let restored = shop.restore(&shop.machine.at("target"), &[]).ended(0).json();
    assert_eq!(restored["erasures"]["due"].as_array().unwrap().len(), 1);
    assert!(restored["erasures"]["outstanding"].to_string().contains("no rules"), "{restored}");
}

#[test]
fn an_old_audit_database_forgets_no_erasure() {
    let shop = shop(RULES);
    let before = fs::read(shop.machine.at("state/audit.db")).unwrap();
    shop.erase("jan@example.org");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(shop.machine.at(&format!("state/audit.db{suffix}")));
    }
    fs::write(shop.machine.at("state/audit.db"), before).unwrap();
    assert_eq!(shop.standing().len(), 1);
    let target = shop.machine.at("target");
    shop.restore(&target, &[]).ended(0);
    assert_eq!(texts(&target.join("data.sqlite"), "SELECT name FROM users"), ["Piet"]);
    assert_eq!(texts(&shop.machine.at("state/audit.db"), "SELECT note FROM erasures"), ["request 17"], "and is told again");
}

#[test]
fn an_archive_alone_remembers() {
    let shop = shop(RULES);
    shop.erase("jan@example.org");
    fs::remove_dir_all(shop.machine.at("state")).unwrap();
    fs::remove_dir_all(shop.machine.at("local/shop")).unwrap();
    let target = shop.machine.at("target");
    shop.restore(&target, &["--store", "archive"]).ended(0);
    assert_eq!(texts(&target.join("data.sqlite"), "SELECT name FROM users"), ["Piet"]);
}

#[test]
fn an_erasure_stands_everywhere_until_it_is_withdrawn() {
    let shop = shop(RULES);
    let id = shop.erase("jan@example.org")["erasure"]["id"].as_str().unwrap().to_owned();
    assert_eq!(shop.standing()[0]["stores"].as_array().unwrap().len(), 2);
    shop.machine.call(&["erasure", "remove", &id[..5], "--reason", " "]).ended(2);
    shop.machine.call(&["erasure", "remove", &id[..5], "--reason", "somebody else was meant"]).ended(0);
    assert!(shop.standing().is_empty());
    let list = shop.machine.json(&["erasure", "list"]).ended(0).json();
    assert_eq!(list["projects"][0]["withdrawn"][0][1]["reason"], "somebody else was meant", "{list}");
    let target = shop.machine.at("target");
    shop.restore(&target, &[]).ended(0);
    assert_eq!(texts(&target.join("data.sqlite"), "SELECT name FROM users").len(), 2);
    let logs = shop.machine.call(&["logs"]).ended(0).text();
    assert!(logs.contains("erasure-remove"), "{logs}");
}

#[test]
fn a_damaged_register_makes_a_restore_partial() {
    let shop = shop(RULES);
    shop.erase("jan@example.org");
    for store in ["local", "archive"] {
        let object = fs::read_dir(shop.machine.at(store).join("shop/erasures")).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(&object).unwrap();
        fs::write(&object, "not what it was").unwrap();
    }
    assert_eq!(shop.machine.json(&["erasure", "list"]).status, 5);
    let restored = shop.restore(&shop.machine.at("target"), &[]).ended(3).json();
    assert!(restored["erasures"]["failures"].to_string().contains("erasures/"), "{restored}");
    shop.machine.call(&["verify"]).ended(5);
}

#[test]
fn what_is_no_subject_is_refused() {
    let shop = shop(RULES);
    let add = |hash: &str, note: &str| shop.machine.call(&["erasure", "add", "--project", "shop", "--subject-hash", hash, "--note", note]);
    let refused = add("jan@example.org", "x").ended(2);
    assert!(!refused.text().contains("jan@"), "personal data is not repeated: {}", refused.text());
    let hash = shop.hash("jan@example.org");
    add(&hash, " ").ended(2);
    add(&hash, "jan@example.org").ended(2);
    shop.machine.call(&["erasure", "remove", "ab", "--reason", "x"]).ended(2);
    assert!(shop.standing().is_empty());
}

#[test]
fn a_server_database_is_erased_from_when_it_is_loaded_and_named_when_it_is_not() {
    let server = MariaDb::shared();
    server.sql(
        "CREATE DATABASE erase_shop CHARACTER SET utf8mb4; USE erase_shop;
         CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(99), name VARCHAR(99)) ENGINE=InnoDB;
         INSERT INTO users VALUES (1, 'Jan@Example.org', 'Jan'), (2, 'piet@example.org', 'Piet');",
    );
    let mut machine = Machine::new();
    let settings = format!(
        "[projects.shop.databases.main]\nengine = \"mariadb\"\nsocket = \"{}\"\nuser = \"root\"\ndatabase = \"erase_shop\"\n\
         [projects.shop.settings]\nerasure = [{{ table = \"users\", column = \"email\" }}]\n",
        server.socket().display()
    );
    let root = machine.project("shop", "files", &settings);
    fs::write(root.join("a"), "1").unwrap();
    let run = machine.json(&["run"]).ended(0).json();
    let items = run["projects"][0]["items"].as_object().unwrap();
    let item = items.iter().find(|(_, item)| item["kind"] == "database").unwrap().0.clone();
    let shop = Shop { machine, root };
    shop.erase("jan@example.org");
    let loaded = shop.restore(&shop.machine.at("loaded"), &["--database", &format!("{item}=erase_shop_back")]).ended(0).json();
    assert_eq!(server.sql("SELECT GROUP_CONCAT(name) FROM erase_shop_back.users").trim(), "Piet", "{loaded}");
    assert_eq!(server.sql("SELECT COUNT(*) FROM erase_shop.users").trim(), "2", "the original is nobody's business");
    let laid_down = shop.restore(&shop.machine.at("laid-down"), &[]).ended(0).json();
    let outstanding = laid_down["erasures"]["outstanding"].to_string();
    assert!(outstanding.contains("the dump still holds them") && outstanding.contains("users"), "{laid_down}");
}
