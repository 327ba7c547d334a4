//! Strategies that loop, allocate, flood, lie and pry: each is stopped with an error that names it, and the other
//! projects of the same run are backed up.

use havun_tests::Machine;
use std::{fs, os::unix::fs::symlink};

const UNRULY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/plugin-runtime/tests/guests/unruly.wasm");

/// What it does, and the file that it asks for.
const DEEDS: [(&str, &str); 10] = [
    ("loop", ""),
    ("allocate", ""),
    ("flood", ""),
    ("huge-list", ""),
    ("recurse", ""),
    ("trap", ""),
    ("exit", ""),
    ("read", "../../etc/passwd"),
    ("read", "/etc/passwd"),
    ("read", "way-out"),
];

#[test]
fn each_is_stopped_and_the_others_are_backed_up() {
    let mut machine = Machine::new();
    for (n, (deed, path)) in DEEDS.iter().enumerate() {
        let settings = format!("[projects.bad{n}.settings]\ndo = \"{deed}\"\npath = \"{path}\"\n");
        let root = machine.project(&format!("bad{n}"), "unruly", &settings);
        symlink("/etc/passwd", root.join("way-out")).unwrap();
    }
    let plugin = format!("[plugins.unruly]\npath = \"{UNRULY}\"\n");
    let good = machine.project("good", "files", &plugin);
    fs::write(good.join("file"), "x").unwrap();
    let report = machine.json(&["run"]).ended(3).json();
    for (n, (deed, path)) in DEEDS.iter().enumerate() {
        let project = report["projects"].as_array().unwrap().iter().find(|p| p["project"] == format!("bad{n}")).unwrap();
        assert_eq!(project["outcome"], "failed", "{deed} {path}: {project}");
        assert!(project["failure"].to_string().contains("unruly"), "{deed} {path}: {project}");
        assert!(!project.to_string().contains("root:x:0"), "{project}");
        assert!(!machine.at(&format!("local/bad{n}")).exists());
    }
    let good = report["projects"].as_array().unwrap().iter().find(|p| p["project"] == "good").unwrap();
    assert_eq!(good["outcome"], "ok", "{good}");
}

#[test]
fn a_component_that_is_none_or_is_another_one_is_refused() {
    let mut machine = Machine::new();
    fs::write(machine.at("text.wasm"), "no component").unwrap();
    let plugins = format!(
        "[plugins.text]\npath = \"text.wasm\"\n[plugins.gone]\npath = \"gone.wasm\"\n[plugins.other]\npath = \"{UNRULY}\"\ndigest = \"{}\"\n",
        "0".repeat(64)
    );
    machine.project("a", "text", "");
    machine.project("b", "gone", "");
    machine.project("c", "other", &plugins);
    let report = machine.json(&["run"]);
    let projects = report.json()["projects"].clone();
    for (n, word) in [(0, "text.wasm"), (1, "gone.wasm"), (2, "SHA-256")] {
        assert_eq!(projects[n]["outcome"], "failed", "{projects}");
        assert!(projects[n]["failure"].to_string().contains(word), "{word}: {projects}");
    }
    assert!(!machine.at("local/a").exists());
}

/// A snapshot says itself what it is.
#[test]
fn what_a_vanished_strategy_planned_comes_back() {
    let mut machine = Machine::new();
    let plugin = machine.at("mine.wasm");
    fs::copy(UNRULY, &plugin).unwrap();
    let root = machine.project("shop", "mine", "[projects.shop.settings]\ndo = \"fine\"\n[plugins.mine]\npath = \"mine.wasm\"\n");
    fs::write(root.join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    fs::remove_file(&plugin).unwrap();
    let target = machine.at("target");
    let restored = machine.json(&["restore", "--project", "shop", "--target", target.to_str().unwrap(), "--yes"]).ended(0).json();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "x");
    assert!(restored["plan"]["notes"].to_string().contains("cannot advise"), "{restored}");
}
