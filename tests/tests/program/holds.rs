//! Holds, as an operator places, sees and ends them.

use havun_tests::Machine;
use std::fs;

fn machine() -> Machine {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "[projects.shop.retention]\nhot = \"1d\"\n");
    fs::write(root.join("a"), "1").unwrap();
    machine.call(&["run"]).ended(0);
    machine
}

#[test]
fn a_hold_stands_in_every_store_until_it_is_ended() {
    let machine = machine();
    let placed = machine.json(&["hold", "add", "--project", "shop", "--all", "--reason", "tax audit 2026/17"]).ended(0).json();
    assert_eq!(placed["snapshots"], 1, "{placed}");
    let id = placed["hold"]["id"].as_str().unwrap().to_owned();
    let list = machine.json(&["hold", "list"]).ended(0).json();
    let hold = &list["projects"][0]["active"][0];
    assert_eq!(hold["stores"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(hold["reason"], "tax audit 2026/17");
    machine.call(&["hold", "remove", &id[..6], "--reason", "closed"]).ended(0);
    let list = machine.json(&["hold", "list"]).ended(0).json();
    assert!(list["projects"][0]["active"].as_array().unwrap().is_empty(), "{list}");
    assert_eq!(list["projects"][0]["released"][0][1]["reason"], "closed", "{list}");
    let logs = machine.call(&["logs"]).ended(0).text();
    assert!(logs.contains("hold-release") && logs.contains("hold "), "{logs}");
}

#[test]
fn a_store_that_is_away_gets_the_hold_with_the_next_copy() {
    let machine = machine();
    fs::rename(machine.at("archive"), machine.at("away")).unwrap();
    machine.call(&["hold", "add", "--project", "shop", "--epoch", "2026", "--reason", "lawsuit"]).ended(3);
    fs::rename(machine.at("away"), machine.at("archive")).unwrap();
    machine.call(&["archive", "push"]).ended(0);
    let list = machine.json(&["hold", "list"]).ended(0).json();
    assert_eq!(list["projects"][0]["active"][0]["stores"].as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn a_hold_on_nothing_that_can_be_meant_is_refused() {
    let machine = machine();
    for wrong in [
        ["--epoch", "26"].as_slice(),
        &["--snapshot", "ffffffff"],
        &["--from", "2026-02-30", "--until", "2026-03-01"],
        &["--from", "2026-03-02", "--until", "2026-03-01"],
        &[],
    ] {
        let mut arguments = vec!["hold", "add", "--project", "shop", "--reason", "x"];
        arguments.extend(wrong);
        let called = machine.call(&arguments);
        assert!(matches!(called.status, 1 | 2), "{wrong:?}: {called:?}");
    }
    machine.call(&["hold", "add", "--project", "shop", "--all", "--reason", " "]).ended(2);
    machine.call(&["hold", "remove", "ab", "--reason", "x"]).ended(2);
    machine.call(&["hold", "list"]).ended(0);
}
