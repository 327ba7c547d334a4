//! A Node.js application: JSON databases, and a SQLite database in WAL mode under a writer.

use havun_tests::{Machine, copy_tree, tree_difference};
use rusqlite::Connection;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

fn application(machine: &mut Machine) -> PathBuf {
    let root = machine.project("orders", "nodejs", "");
    for folder in ["src", "data", "uploads", "node_modules/express", "public"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("package.json"), r#"{"name":"orders","dependencies":{"express":"^5.0.0","better-sqlite3":"^12.0.0"}}"#).unwrap();
    fs::write(root.join("package-lock.json"), r#"{"name":"orders","lockfileVersion":3,"packages":{}}"#).unwrap();
    fs::write(root.join("src/index.js"), "require('express')\n").unwrap();
    fs::write(root.join("data/users.json"), r#"[{"id":1,"name":"Zoë"},{"id":2,"name":"Ömer"}]"#).unwrap();
    fs::write(root.join("data/settings.json"), r#"{"theme":"dark"}"#).unwrap();
    fs::write(root.join("uploads/photo.jpg"), vec![7; 400_000]).unwrap();
    fs::write(root.join("node_modules/express/index.js"), "made anew by npm").unwrap();
    fs::write(root.join(".env"), "DATABASE_URL=\"file:./data/app.sqlite\"\nSECRET='a b'\n").unwrap();
    root
}

/// Inserts numbered rows until it is stopped; every transaction holds ten.
struct Writer {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(database: &Path) -> Self {
        let connection = Connection::open(database).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT, raw BLOB)").unwrap();
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ask, count) = (Arc::clone(&stop), Arc::clone(&committed));
        let thread = thread::spawn(move || {
            connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
            while !ask.load(Ordering::Relaxed) {
                let insert = "INSERT INTO orders (note, raw) VALUES ('emoji 🍕', randomblob(300));".repeat(10);
                connection.execute_batch(&format!("BEGIN;{insert}COMMIT")).unwrap();
                count.fetch_add(10, Ordering::Relaxed);
            }
        });
        let writer = Self { stop, committed, thread };
        while writer.committed.load(Ordering::Relaxed) < 1000 {
            thread::yield_now();
        }
        writer
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.committed.load(Ordering::Relaxed)
    }
}

fn rows(database: &Path) -> (i64, i64, String) {
    let connection = Connection::open(database).unwrap();
    let whole = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    connection.query_row("SELECT count(*), max(id) FROM orders", [], |row| Ok((row.get(0)?, row.get(1)?, whole))).unwrap()
}

#[test]
fn it_comes_back_with_a_database_that_was_written_all_the_while() {
    let mut machine = Machine::new();
    let root = application(&mut machine);
    let writer = Writer::start(&root.join("data/app.sqlite"));
    let before_run = writer.committed.load(Ordering::Relaxed);
    let report = machine.json(&["run"]).ended(0).json();
    let after_run = writer.stop();
    assert_eq!(report["projects"][0]["outcome"], "ok", "{report}");
    let before = machine.at("before");
    copy_tree(&root, &before);
    fs::remove_dir_all(&root).unwrap();
    machine.call(&["restore", "--project", "orders", "--yes"]).ended(0);
    // The database has its own proof; the folder that holds it has a younger time, because the database was put into it.
    let different = tree_difference(&before, &root, &["/node_modules", "/data/app.sqlite*", "/data/"]);
    assert_eq!(different, "");
    for name in ["users.json", "settings.json"] {
        assert_eq!(fs::read(before.join("data").join(name)).unwrap(), fs::read(root.join("data").join(name)).unwrap());
    }
    assert!(!root.join("node_modules/express").exists());
    let (count, last, whole) = rows(&root.join("data/app.sqlite"));
    assert_eq!((count, whole.as_str()), (last, "ok"));
    assert_eq!(count % 10, 0, "transactions are whole");
    assert!((before_run..=after_run).contains(&count.unsigned_abs()), "{before_run} {count} {after_run}");
}

#[test]
fn a_json_database_that_is_cut_short_makes_the_run_partial_and_is_stored_all_the_same() {
    let mut machine = Machine::new();
    let root = application(&mut machine);
    fs::write(root.join("data/users.json"), r#"[{"id":1,"name":"Zo"#).unwrap();
    let report = machine.json(&["run"]).ended(3).json();
    let project = &report["projects"][0];
    assert_eq!(project["outcome"], "partial");
    let problems = project["problems"].to_string();
    assert!(problems.contains("users.json") && problems.contains("JSON"), "{problems}");
    let target = machine.at("target");
    machine.call(&["restore", "--project", "orders", "--path", "data/users.json", "--target", &target.to_string_lossy(), "--yes"]).ended(3);
    assert_eq!(fs::read_to_string(target.join("data/users.json")).unwrap(), r#"[{"id":1,"name":"Zo"#);
}

#[test]
fn a_database_that_holds_something_is_replaced_only_when_that_is_said() {
    let mut machine = Machine::new();
    let root = application(&mut machine);
    let database = root.join("data/app.sqlite");
    let sql = |text: &str| Connection::open(&database).unwrap().execute_batch(text).unwrap();
    sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO orders (note) VALUES ('a'), ('b')");
    machine.json(&["run"]).ended(0);
    sql("INSERT INTO orders (note) VALUES ('newer')");
    fs::write(root.join("data/settings.json"), r#"{"theme":"newer"}"#).unwrap();
    let untouched = || {
        assert_eq!(rows(&database).0, 3);
        assert_eq!(fs::read_to_string(root.join("data/settings.json")).unwrap(), r#"{"theme":"newer"}"#);
    };
    let refused = machine.call(&["restore", "--project", "orders", "--yes"]).ended(1).text();
    assert!(refused.contains("app.sqlite (1 tables)") && refused.contains("--replace"), "{refused}");
    untouched();
    // A recovery says so too, and restores nothing of that project.
    let archive = format!("file://{}", machine.at("archive").display());
    let recover = |name: &str, more: &[&str]| {
        let at = |path: &str| machine.at(&format!("{name}/{path}")).to_string_lossy().into_owned();
        let (config, state, hot) = (at("config.toml"), at("state"), at("hot"));
        let key = machine.at("escrow.agekey").to_string_lossy().into_owned();
        let places = ["recover", "--store", &archive, "--identity", &key, "--config-out", &config, "--state-dir", &state, "--hot", &hot];
        machine.call(&[&places[..], &["--restore", "--yes"], more].concat())
    };
    let refused = recover("new", &[]);
    assert!(refused.status != 0 && refused.text().contains("--replace"), "{refused:?}");
    untouched();
    recover("newer", &["--replace"]).ended(0);
    assert_eq!(rows(&database).0, 2);
    assert_eq!(fs::read_to_string(root.join("data/settings.json")).unwrap(), r#"{"theme":"dark"}"#);
}
