//! SQLite, compared by its own program.

use super::Shop;
use rusqlite::Connection;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// A hash of the whole content, by SQLite's own program.
fn sha3sum(database: &Path) -> String {
    let output = Command::new("sqlite3").arg(database).args([".sha3sum --schema"]).output().unwrap();
    let (sum, said) = (String::from_utf8(output.stdout).unwrap().trim().to_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && sum.len() == 56, "{sum} {said}");
    sum
}

fn shop() -> (Shop, Connection) {
    let shop = Shop::new("engine = \"sqlite\"\npath = \"data.sqlite\"", "");
    let database = Connection::open(shop.root.join("data.sqlite")).unwrap();
    (shop, database)
}

#[test]
fn both_forms_of_a_dump_are_equal_by_sha3sum() {
    let (shop, database) = shop();
    database
        .execute_batch(
            "PRAGMA page_size = 8192; PRAGMA user_version = 42; PRAGMA application_id = 7; PRAGMA journal_mode = WAL;
             CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b BLOB, c REAL, d); CREATE INDEX i ON t(a); CREATE VIEW v AS SELECT a FROM t;
             CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET d = 1 WHERE id = -1; END;
             CREATE TABLE plain(x); CREATE TABLE strict_one(a INT, b TEXT) STRICT; CREATE TABLE narrow(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
             INSERT INTO t(a, b, c, d) VALUES ('NUL' || char(0) || 'after it', x'00ff5c', 0.1, NULL), ('it''s; -- é 🍕' || char(10), zeroblob(9), 1e300, 9223372036854775807);
             INSERT INTO plain(rowid, x) VALUES (5, 'a'), (9, 'b'); INSERT INTO strict_one VALUES (1, 'x'); INSERT INTO narrow VALUES ('k', x'61')",
        )
        .unwrap();
    let sum = sha3sum(&shop.root.join("data.sqlite"));
    shop.run(0);
    // The form that is restored.
    let target = shop.machine.at("target");
    shop.call(&["restore", "--project", "shop", "--target", target.to_str().unwrap(), "--yes"]).ended(0);
    let restored = target.join("data.sqlite");
    assert_eq!(sha3sum(&restored), sum);
    let back = Connection::open(&restored).unwrap();
    let pragma = |name: &str| back.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((pragma("page_size"), pragma("user_version"), pragma("application_id")), (8192, 42, 7), "what `.dump` loses");
    let length = |sql: &str| back.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(length("SELECT length(CAST(a AS BLOB)) FROM t WHERE id = 1"), 12, "a text is not cut at its NUL");
    assert_eq!(length("SELECT max(rowid) FROM plain"), 9, "implicit row numbers");
    // The form for people, loaded by SQLite's own program.
    let loaded = shop.machine.at("loaded.sqlite");
    let mut command = Command::new("sqlite3");
    let mut child = command.arg("-bail").arg(&loaded).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &shop.dump("databases/database.sql")).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(sha3sum(&loaded), sum);
}

/// A plain copy of the file would not even have the table.
#[test]
fn a_wal_database_whose_rows_stand_in_its_log_alone_comes_back_whole() {
    let (shop, database) = shop();
    database
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(x); INSERT INTO t VALUES (1), (2), (3)")
        .unwrap();
    let copy = shop.machine.at("copy.sqlite");
    fs::copy(shop.root.join("data.sqlite"), &copy).unwrap();
    assert!(
        Connection::open(&copy).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).is_err(),
        "what `cp` takes"
    );
    shop.run(0);
    let target = shop.machine.at("target");
    shop.call(&["restore", "--project", "shop", "--target", target.to_str().unwrap(), "--yes"]).ended(0);
    let back = Connection::open(target.join("data.sqlite")).unwrap();
    assert_eq!(back.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)), Ok(3));
}

/// Copied as a file it may be no database, and a restore would find it in the way.
#[test]
fn a_database_that_is_dumped_is_no_file_of_a_tree() {
    let (shop, database) = shop();
    database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
    fs::write(shop.root.join("data.sqlite.txt"), "about it").unwrap();
    shop.run(0);
    let paths = shop.paths_in_newest();
    let tree: Vec<&String> = paths.iter().filter(|path| path.starts_with("tree/")).collect();
    assert_eq!(tree, ["tree/data.sqlite.txt", "tree/file"], "{paths:?}");
}

#[test]
fn a_missing_sqlite_file_fails_and_nothing_is_created() {
    let (shop, database) = shop();
    drop(database);
    fs::remove_file(shop.root.join("data.sqlite")).unwrap();
    let said = shop.failed_dump();
    assert!(said.contains("data.sqlite") && said.contains("there is no database"), "{said}");
    let names: Vec<_> = fs::read_dir(&shop.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
}

#[test]
fn the_copy_that_a_killed_run_left_goes_with_the_next_one() {
    let (shop, database) = shop();
    database.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
    // As `kill -9` leaves it: a folder whose owner is gone.
    let left = shop.machine.at("state/scratch/havun-sqlite-left");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("copy.sqlite"), "a whole database of customers").unwrap();
    shop.run(0);
    assert!(!left.exists());
    assert_eq!(fs::read_dir(shop.machine.at("state/scratch")).unwrap().count(), 0);
}
