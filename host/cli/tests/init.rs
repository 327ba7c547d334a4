//! `init` with folders: what is proposed, where it goes, and that nothing is replaced.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod common;

use common::{ESCROW, Machine};
use std::fs;

fn node(machine: &Machine, name: &str) -> String {
    let root = machine.at(name);
    fs::create_dir_all(root.join("data")).unwrap();
    fs::write(root.join("package.json"), "{ \"name\": \"shop\", \"dependencies\": { \"express\": \"^4\" } }").unwrap();
    fs::write(root.join("package-lock.json"), "{ \"name\": \"shop\", \"lockfileVersion\": 3, \"packages\": {} }").unwrap();
    fs::write(root.join("data/orders.json"), "[]").unwrap();
    root.to_str().unwrap().to_owned()
}

#[test]
fn a_proposal_has_a_reason_at_each_line_and_works() {
    let machine = Machine::empty();
    let root = node(&machine, "My Shop");
    let shown = machine.call(&["init", &root, "--dry-run", "--state-dir", "state", "--store", "store"]).ended(0).stdout;
    assert!(!machine.config().exists() && !machine.at("store").exists());
    assert!(shown.contains("strategy = \"nodejs\"") && shown.contains("[projects.my-shop]"), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    for pair in lines.windows(2) {
        assert!(!pair[1].contains(" = ") || pair[1].starts_with('#') || pair[0].starts_with('#'), "{pair:?}");
    }
    let written =
        machine.call(&["init", &root, "--yes", "--escrow", ESCROW, "--state-dir", "state", "--store", "store", "--archive", "old"]);
    let written = written.ended(0).stdout;
    assert!(written.contains("Ready."), "{written}");
    machine.call(&["run"]).ended(0);
    let list = machine.call(&["list", "--json"]).ended(0).json();
    assert_eq!(list["projects"][0]["stores"].as_array().unwrap().len(), 2);
}

#[test]
fn nobody_agreed_and_nothing_is_written() {
    let machine = Machine::empty();
    let root = node(&machine, "shop");
    let arguments = ["init", &root, "--escrow", ESCROW, "--state-dir", "state", "--store", "store"];
    machine.call(&arguments).ended(2).says("nobody is there to agree").says("--yes");
    assert!(!machine.config().exists() && !machine.at("store").exists() && !machine.at("keys").exists());
}

#[test]
fn an_existing_configuration_is_only_added_to_when_asked() {
    let machine = Machine::prepared();
    let before = fs::read_to_string(machine.config()).unwrap();
    let root = node(&machine, "shop");
    let shown = machine.call(&["init", &root]).ended(0).stdout;
    assert!(shown.contains("[projects.shop]") && !shown.contains("[host]") && shown.contains("Nothing was written"), "{shown}");
    assert_eq!(fs::read_to_string(machine.config()).unwrap(), before);
    machine.call(&["init", &root, "--write"]).ended(0);
    let after = fs::read_to_string(machine.config()).unwrap();
    assert!(after.starts_with(&before) && after.contains("[projects.shop]"), "{after}");
    let known = machine.call(&["init", &root, "--write"]).ended(0).stdout;
    assert!(known.contains("is configured already, as project shop"), "{known}");
    assert_eq!(fs::read_to_string(machine.config()).unwrap(), after);
    machine.call(&["run"]).ended(0);
}

#[test]
fn two_folders_of_one_name_get_names_of_their_own() {
    let machine = Machine::empty();
    let (a, b) = (node(&machine, "a/shop"), node(&machine, "b/shop"));
    let shown = machine.call(&["init", &a, &b, "--dry-run", "--state-dir", "state"]).ended(0).stdout;
    assert!(shown.contains("[projects.shop]") && shown.contains("[projects.shop-2]"), "{shown}");
    machine.call(&["init", &a, &b, "--name", "x", "--dry-run", "--state-dir", "state"]).ended(2).says("--name names one project");
    machine.call(&["init", "/nowhere/at/all", "--dry-run", "--state-dir", "state"]).ended(2).says("/nowhere/at/all").says("Hint: ");
}

#[test]
fn what_detection_reports_cannot_break_out_of_its_comment() {
    let machine = Machine::empty();
    let root = node(&machine, "shop\n[keys]\nescrow = []\n#");
    machine.call(&["init", &root, "--yes", "--escrow", ESCROW, "--state-dir", "state", "--store", "store"]).ended(0);
    let config = machine.call(&["config", "--json"]).ended(0).json()["config"].clone();
    assert_eq!(config["keys"]["escrow"], serde_json::json!([ESCROW]));
    let projects = config["projects"].as_object().unwrap();
    assert_eq!(projects.values().next().unwrap()["root"], *root);
}

#[test]
fn everything_that_fails_is_told_at_once() {
    let machine = Machine::configured();
    machine.change("path = \"store\"", "path = \"missing/store\"");
    fs::remove_dir_all(machine.at("blog")).unwrap();
    let called = machine.call(&["init"]);
    assert_ne!(called.status, 0);
    let all = called.stdout + &called.stderr;
    assert!(all.contains("Not ready: ") && all.contains("failed   store local") && all.contains("failed   project blog"), "{all}");
}
