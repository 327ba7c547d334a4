//! Bad luck and bad input: one clear error each, the documented exit status, never `ok`.

use havun_tests::Machine;
use rusqlite::Connection;
use std::fs;

fn last_row(machine: &Machine) -> serde_json::Value {
    machine.json(&["logs", "--limit", "1"]).ended(0).json()["rows"][0].clone()
}

#[test]
fn one_project_of_five_fails_and_four_are_backed_up() {
    let mut machine = Machine::new();
    for name in ["a", "b", "c", "d", "e"] {
        fs::write(machine.project(name, "files", "").join("file"), name).unwrap();
    }
    fs::remove_dir_all(machine.at("projects/c")).unwrap();
    let report = machine.json(&["run"]).ended(3).json();
    let outcomes: Vec<_> = report["projects"].as_array().unwrap().iter().map(|p| p["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ok", "ok", "failed", "ok", "ok"]);
    assert!(!machine.at("local/c").exists());
    let listed = machine.json(&["list"]).ended(0).json();
    assert_eq!(listed["projects"][3]["stores"][1]["snapshots"].as_array().unwrap().len(), 1);
    let rows = machine.json(&["logs"]).json();
    let failed: Vec<_> = rows["rows"].as_array().unwrap().iter().filter(|r| r["status"] == "failed").collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0]["message"].as_str().unwrap().contains("projects/c"), "{rows}");
}

#[test]
fn an_unknown_project_stops_everything_before_it_starts() {
    let mut machine = Machine::new();
    machine.project("shop", "files", "");
    let called = machine.call(&["run", "--project", "shop", "--project", "shpo"]).ended(2);
    assert!(called.text().contains("did you mean `shop`"), "{called:?}");
    assert!(!machine.at("local/shop").exists());
}

#[test]
fn the_wrong_key_ends_with_12_and_writes_nothing() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "");
    fs::write(root.join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    machine.change_key();
    for call in [vec!["run"], vec!["verify"], vec!["list"], vec!["restore", "--project", "shop", "--yes"]] {
        let called = machine.call(&call).ended(12);
        assert!(called.text().contains("none of the given identities"), "{called:?}");
    }
    assert_eq!(last_row(&machine)["status"], "failed");
}

#[test]
fn a_vault_that_another_run_holds_ends_with_11() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "stores = [\"local\"]\n");
    fs::write(root.join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    let name = "shop".parse().unwrap();
    let store = havun_vault::store::LocalRoot::open(&machine.at("local")).unwrap().vault(&name);
    let lease = havun_vault::store::Store::lease(&store, "somebody else", false).unwrap();
    let called = machine.call(&["run"]).ended(11);
    assert!(called.text().contains("somebody else"), "{called:?}");
    drop(lease);
    machine.call(&["run"]).ended(0);
}

#[test]
fn a_store_that_is_not_mounted_ends_with_10() {
    let mut machine = Machine::new();
    machine.project("shop", "files", "");
    fs::remove_file(machine.at("local/.havun-backup-store.json")).unwrap();
    let called = machine.call(&["run"]).ended(10);
    assert!(called.text().contains("marker") && called.text().contains("mounted"), "{called:?}");
    assert!(!machine.at("local/shop").exists());
}

#[test]
fn a_replica_that_is_not_mounted_makes_the_run_partial() {
    let mut machine = Machine::new();
    fs::write(machine.project("shop", "files", "").join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    fs::rename(machine.at("archive"), machine.at("elsewhere")).unwrap();
    let report = machine.json(&["run"]).ended(3).json();
    assert_eq!(report["projects"][0]["outcome"], "partial");
    let stores = report["projects"][0]["stores"].as_array().unwrap();
    assert!(stores.iter().any(|s| s["store"] == "archive" && s["state"] == "failed"), "{report}");
    fs::rename(machine.at("elsewhere"), machine.at("archive")).unwrap();
    machine.call(&["run"]).ended(0);
    let listed = machine.json(&["list", "--store", "archive"]).ended(0).json();
    assert_eq!(listed["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), 3, "what was missed is caught up");
}

#[test]
fn a_locked_database_is_never_ok() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "[projects.shop.databases.main]\nengine = \"sqlite\"\npath = \"data.sqlite\"\n[projects.shop.settings]\nexclude = [\"data.sqlite*\"]\n");
    fs::write(root.join("file"), "x").unwrap();
    let database = Connection::open(root.join("data.sqlite")).unwrap();
    database.execute_batch("CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1); BEGIN EXCLUSIVE").unwrap();
    let report = machine.json(&["run"]).ended(3).json();
    let project = &report["projects"][0];
    assert_eq!((project["outcome"].as_str(), project["items"]["database"]["outcome"].as_str()), (Some("partial"), Some("failed")));
    assert!(project["problems"][0].as_str().unwrap().contains("locked"), "{report}");
    let row = last_row(&machine);
    assert_eq!(row["status"], "partial");
    assert!(row["message"].as_str().unwrap().contains("locked"), "{row}");
    database.execute_batch("ROLLBACK").unwrap();
    drop(database);
    machine.call(&["run"]).ended(0);
    let restored = machine.call(&["restore", "--project", "shop", "--target", &machine.at("t").to_string_lossy(), "--yes"]).ended(0);
    let back = Connection::open(machine.at("t/data.sqlite")).unwrap();
    assert_eq!(back.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)), Ok(1), "{restored:?}");
}

#[test]
fn a_project_whose_every_item_fails_commits_nothing() {
    let mut machine = Machine::new();
    machine.project(
        "shop",
        "files",
        "[projects.shop.databases.main]\nengine = \"sqlite\"\npath = \"gone.sqlite\"\n[projects.shop.settings]\ninclude = [\"gone\"]\n",
    );
    let report = machine.json(&["run"]).json();
    assert_ne!(report["projects"][0]["outcome"], "ok", "{report}");
    assert_eq!(report["projects"][0]["items"]["database"]["outcome"], "failed");
}

#[test]
fn an_unknown_strategy_names_the_nearest() {
    let mut machine = Machine::new();
    machine.project("shop", "fiels", "");
    let called = machine.call(&["run"]).ended(78);
    assert!(called.text().contains("files"), "{called:?}");
}

#[test]
fn a_paused_project_waits_for_force() {
    let mut machine = Machine::new();
    fs::write(machine.project("shop", "files", "paused = true\n").join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    assert!(!machine.at("local/shop").exists());
    machine.call(&["run", "--project", "shop"]).ended(1);
    machine.call(&["run", "--force"]).ended(0);
    assert!(machine.at("local/shop/vault.json").is_file());
}

#[test]
fn a_lost_primary_is_filled_from_its_replica() {
    let mut machine = Machine::new();
    fs::write(machine.project("shop", "files", "").join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    fs::remove_dir_all(machine.at("local/shop")).unwrap();
    machine.call(&["run"]).ended(0);
    let listed = machine.json(&["list", "--store", "local"]).ended(0).json();
    assert_eq!(listed["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), 2);
}
