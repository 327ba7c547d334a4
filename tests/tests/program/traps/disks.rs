//! A disk that is full where something is copied, proved or saved: one clear error, production untouched, nothing left behind.

use super::Shop;
use havun_tests::{MariaDb, RedisServer};
use rusqlite::Connection;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A small disk, gone when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where nobody may mount.
    fn mount(path: PathBuf, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let mut command = Command::new("mount");
        let mounted =
            command.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=711"), "tmpfs"]).arg(&path).status().unwrap().success();
        mounted.then_some(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn fill(path: &Path) -> Connection {
    let database = Connection::open(path).unwrap();
    database
        .execute_batch("CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 6000) INSERT INTO t SELECT randomblob(1000) FROM n")
        .unwrap();
    database
}

fn count(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_under_the_copy_of_a_sqlite_database_fails_its_dump() {
    let shop = Shop::new("engine = \"sqlite\"\npath = \"data.sqlite\"", "");
    let database = fill(&shop.root.join("data.sqlite"));
    let Some(disk) = Disk::mount(shop.machine.at("state"), 3) else { return };
    let said = shop.failed_dump();
    assert!(said.contains("copy.sqlite") && said.contains("no storage space"), "{said}");
    assert_eq!(names(&shop.machine.at("state/scratch")), Vec::<String>::new());
    assert_eq!((count(&shop.root.join("data.sqlite")), names(&shop.root)), (6000, vec!["data.sqlite".to_owned(), "file".to_owned()]));
    drop((disk, database));
    shop.run(0);
}

#[test]
fn a_full_disk_under_a_sqlite_restore_leaves_the_database_that_is_there() {
    let mut shop = Shop::new("engine = \"sqlite\"\npath = \"data.sqlite\"", "");
    let Some(disk) = Disk::mount(shop.root.clone(), 10) else { return };
    shop.root = disk.0.clone();
    let path = shop.root.join("data.sqlite");
    drop(fill(&path));
    shop.run(0);
    // Ten hold one of six, not two.
    Connection::open(&path).unwrap().execute_batch("INSERT INTO t VALUES ('newer')").unwrap();
    let failed = shop.call(&["restore", "--project", "shop", "--item", "database", "--yes", "--replace"]).ended(1);
    assert!(failed.text().to_lowercase().contains("no space") || failed.text().contains("no storage space"), "{failed:?}");
    assert_eq!((count(&path), names(&shop.root)), (6001, vec!["data.sqlite".to_owned()]));
}

#[test]
fn a_full_disk_under_the_proof_of_a_redis_dump_leaves_the_keys_that_are_there() {
    let server = RedisServer::start("", &[]);
    server.ask(&["EVAL", "for i = 1, 200 do redis.call('SET', i, string.rep(redis.sha1hex(i), 1000)) end", "0"]);
    server.ask(&["CONFIG", "SET", "rdbcompression", "no"]);
    let shop = Shop::new(&format!("engine = \"redis\"\nhost = \"127.0.0.1\"\nport = {}", server.port()), "");
    shop.run(0);
    server.ask(&["SET", "newer", "1"]);
    let before = server.ask(&["DEBUG", "DIGEST"]);
    let Some(_disk) = Disk::mount(shop.machine.at("state/replaced"), 2) else { return };
    let failed = shop.call(&["restore", "--project", "shop", "--item", "database", "--yes", "--replace"]).ended(1);
    assert!(failed.text().to_lowercase().contains("no space"), "{failed:?}");
    assert_eq!(server.ask(&["DEBUG", "DIGEST"]), before);
}

#[test]
fn a_full_disk_under_the_scratch_folder_of_a_drill_is_its_reason_and_nothing_is_left() {
    let server = MariaDb::shared();
    server.sql("CREATE DATABASE trap_full; CREATE TABLE trap_full.t(a INT); INSERT INTO trap_full.t VALUES (1)");
    let mut shop = Shop::mariadb(&server, "trap_full");
    shop.machine.section("[drill]\nscratch_dir = \"scratch\"\nchoose = [\"newest\"]\n");
    fs::set_permissions(shop.machine.path(), fs::Permissions::from_mode(0o711)).unwrap();
    shop.run(0);
    let Some(disk) = Disk::mount(shop.machine.at("scratch"), 4) else { return };
    let report = shop.json(&["test"]).ended(6).json();
    let text = report.to_string().to_lowercase();
    assert_ne!(report["projects"][0]["outcome"], "passed", "{report}");
    assert!(text.contains("bytes are needed for a drill in") && text.contains("are free"), "{report}");
    assert_eq!(names(&shop.machine.at("scratch")), Vec::<String>::new());
    assert_eq!(server.sql("SELECT a FROM trap_full.t"), "1\n");
    drop(disk);
    shop.json(&["test"]).ended(0);
    server.sql("DROP DATABASE trap_full");
}
