//! Damage of every kind to every kind of object, in each store: `scrub` names it, `repair` makes it whole.

use havun_tests::{Machine, tree_difference};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flipped,
    Cut,
    Deleted,
}

fn damage(path: &Path, how: Damage) {
    let mut bytes = fs::read(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    match how {
        Damage::Flipped => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        Damage::Cut => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        Damage::Deleted => fs::remove_file(path).unwrap(),
    }
}

/// Names of all objects of a vault.
fn objects(vault: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![vault.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(vault).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// One object of each kind that a vault is made of.
fn one_of_each(vault: &Path) -> Vec<String> {
    let all = objects(vault);
    let kinds = ["README.txt", "vault.json", "vault.sha256", ".age", "keys/", "/packs/", "/index/", "/snapshots/", "holds/"];
    let of = |kind: &str| {
        let is = |name: &&String| name.contains(kind) && !(kind == "keys/" && name.ends_with(".age"));
        all.iter().find(is).cloned().unwrap_or_else(|| panic!("nothing of {kind} in {all:?}"))
    };
    kinds.iter().map(|kind| of(kind)).collect()
}

fn shop() -> (Machine, PathBuf) {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "");
    for number in 0..3 {
        fs::write(root.join("changing"), format!("{number}").repeat(5000)).unwrap();
        machine.call(&["run"]).ended(0);
    }
    machine.call(&["hold", "add", "--project", "shop", "--all", "--reason", "a test"]).ended(0);
    machine.call(&["scrub", "--all"]).ended(0);
    (machine, root)
}

fn damage_is_found_and_mended(store: &str, how: Damage) {
    let (machine, root) = shop();
    let vault = machine.at(store).join("shop");
    for object in one_of_each(&vault) {
        let before = fs::read(vault.join(&object)).unwrap();
        damage(&vault.join(&object), how);
        let scrubbed = machine.call(&["scrub", "--all", "--store", store]);
        assert_eq!(scrubbed.status, 5, "{how:?} {object}: {scrubbed:?}");
        // Without one index object, what is missing is the index of the year.
        let named = scrubbed.text().contains(&object) || object.contains("/index/") && scrubbed.text().contains("/index");
        assert!(named, "{how:?} {object}: {scrubbed:?}");
        let repaired = machine.call(&["repair", "--store", store]);
        assert_eq!(repaired.status, 0, "{how:?} {object}: {repaired:?}");
        let scrubbed = machine.call(&["scrub", "--all", "--store", store]);
        assert_eq!(scrubbed.status, 0, "{how:?} {object}: {scrubbed:?}");
        if !object.contains("/index/") {
            assert_eq!(fs::read(vault.join(&object)).unwrap(), before, "{how:?} {object}");
        }
    }
    machine.call(&["verify", "--read-data"]).ended(0);
    let target = machine.at("back");
    machine.call(&["restore", "--project", "shop", "--store", store, "--target", target.to_str().unwrap(), "--yes"]).ended(0);
    assert_eq!(tree_difference(&root, &target, &[]), "");
    let logs = machine.json(&["logs", "--limit", "200"]).ended(0).json().to_string();
    assert!(logs.contains("\"repair\""), "every repair has its row");
}

#[test]
fn flipped_bits_in_the_archive() {
    damage_is_found_and_mended("archive", Damage::Flipped);
}

#[test]
fn cut_objects_in_the_archive() {
    damage_is_found_and_mended("archive", Damage::Cut);
}

#[test]
fn deleted_objects_in_the_archive() {
    damage_is_found_and_mended("archive", Damage::Deleted);
}

#[test]
fn flipped_bits_in_the_hot_store() {
    damage_is_found_and_mended("local", Damage::Flipped);
}

#[test]
fn cut_objects_in_the_hot_store() {
    damage_is_found_and_mended("local", Damage::Cut);
}

#[test]
fn deleted_objects_in_the_hot_store() {
    damage_is_found_and_mended("local", Damage::Deleted);
}

#[test]
fn what_nobody_has_whole_is_stored_anew_by_the_next_run() {
    let (machine, root) = shop();
    let pack = objects(&machine.at("local/shop")).into_iter().find(|name| name.contains("/packs/")).unwrap();
    for store in ["local", "archive"] {
        damage(&machine.at(store).join("shop").join(&pack), Damage::Flipped);
    }
    machine.call(&["scrub", "--all"]).ended(5);
    let repaired = machine.call(&["repair"]).ended(5);
    assert!(repaired.text().contains(&pack), "{repaired:?}");
    machine.call(&["run"]);
    let target = machine.at("back");
    machine.call(&["restore", "--project", "shop", "--latest", "--store", "local", "--target", target.to_str().unwrap(), "--yes"]).ended(0);
    assert_eq!(tree_difference(&root, &target, &[]), "");
}

#[test]
fn a_slice_reads_what_is_due_and_a_dry_run_changes_nothing() {
    let (machine, _) = shop();
    let snapshot = objects(&machine.at("archive/shop")).into_iter().find(|name| name.contains("/snapshots/")).unwrap();
    damage(&machine.at("archive/shop").join(&snapshot), Damage::Deleted);
    machine.call(&["scrub", "--slice"]).ended(5);
    let dry = machine.call(&["repair", "--dry-run"]).ended(5);
    assert!(dry.text().contains(&snapshot), "{dry:?}");
    assert!(!machine.at("archive/shop").join(&snapshot).exists());
    machine.call(&["repair", "--check"]).ended(0);
    assert!(machine.at("archive/shop").join(&snapshot).exists());
    machine.call(&["scrub"]).ended(0);
}
