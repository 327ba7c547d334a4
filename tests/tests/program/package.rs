//! A Laravel package: source, vault files, and a Git history with a remote, a stash and uncommitted work.

use havun_tests::{Machine, copy_tree, tree_difference};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Test", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main", "-c", "safe.directory=*"]);
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn package(machine: &mut Machine) -> PathBuf {
    let root = machine.project("vaults", "laravel-package", "");
    fs::create_dir_all(root.join("src")).unwrap();
    fs::create_dir_all(root.join("vendor/acme")).unwrap();
    fs::write(root.join("composer.json"), r#"{"name":"acme/vaults","type":"library","require":{"illuminate/support":"^12.0"}}"#).unwrap();
    fs::write(root.join("src/Vaults.php"), "<?php // one\n").unwrap();
    fs::write(root.join(".gitignore"), "/vendor\n").unwrap();
    fs::write(root.join("vendor/acme/x.php"), "<?php // made anew by composer\n").unwrap();
    git(&root, &["init", "--quiet"]);
    git(&root, &["add", "-A"]);
    git(&root, &["commit", "--quiet", "-m", "first"]);
    git(&root, &["tag", "v1.0"]);
    git(&root, &["branch", "feature"]);
    git(&root, &["remote", "add", "origin", "https://example.org/acme/vaults.git"]);
    fs::write(root.join("src/Vaults.php"), "<?php // stashed\n").unwrap();
    git(&root, &["stash", "--quiet"]);
    fs::write(root.join("src/Vaults.php"), "<?php // two\n").unwrap();
    git(&root, &["commit", "--quiet", "-am", "second"]);
    fs::write(root.join("src/New.php"), "<?php // never committed\n").unwrap();
    root
}

fn state(root: &Path) -> [String; 4] {
    let ask = |arguments: &[&str]| git(root, arguments);
    [ask(&["log", "--all", "--format=%H %s"]), ask(&["show-ref"]), ask(&["status", "--porcelain", "--branch"]), ask(&["remote", "-v"])]
}

#[test]
fn it_comes_back_with_its_history() {
    let mut machine = Machine::new();
    let root = package(&mut machine);
    let (before, state_before) = (machine.at("before"), state(&root));
    copy_tree(&root, &before);
    let report = machine.json(&["run"]).ended(0).json();
    assert_eq!(report["projects"][0]["outcome"], "ok", "{report}");
    fs::remove_dir_all(&root).unwrap();
    machine.call(&["restore", "--project", "vaults", "--yes"]).ended(0);
    // The root's time is that of the moment when `.git` was put into it.
    assert_eq!(tree_difference(&before, &root, &["/vendor", "/.git"]).replace(".d..t...... ./\n", ""), "");
    git(&root, &["fsck", "--strict"]);
    assert_eq!(state(&root), state_before);
    assert_eq!(git(&root, &["stash", "list"]).lines().count(), 1);
}

#[test]
fn into_a_folder_of_its_own_it_is_a_repository_too() {
    let mut machine = Machine::new();
    let root = package(&mut machine);
    machine.call(&["run"]).ended(0);
    let target = machine.at("target");
    machine.call(&["restore", "--project", "vaults", "--target", &target.to_string_lossy(), "--yes"]).ended(0);
    assert_eq!(state(&target), state(&root));
}
