//! The `files` strategy: every kind of file, every store, every way to choose.

use havun_tests::{Machine, copy_tree, tree_difference};
use std::{fs, os::unix::fs::symlink, process::Command};

fn shell(folder: &std::path::Path, script: &str) {
    let status = Command::new("sh").args(["-euc", script]).current_dir(folder).status().unwrap();
    assert!(status.success(), "{script}");
}

/// A folder with whatever a folder can hold.
fn curious(machine: &mut Machine) -> std::path::PathBuf {
    let root = machine.project("shop", "files", "");
    fs::write(root.join("plain.txt"), "plain").unwrap();
    symlink("plain.txt", root.join("link")).unwrap();
    shell(
        &root,
        "mkdir -p deep/er empty; head -c 3000000 /dev/urandom > deep/big; ln deep/big deep/er/same; mkfifo pipe; \
         truncate -s 5M sparse; printf end >> sparse; chmod 4751 plain.txt; touch -d '1969-12-31 23:00:00.123456789' deep/er; \
         printf x > \"$(printf 'caf\\351')\"; printf y > \"$(printf 'n%.0s' $(seq 255))\"; setfacl -m u:65534:r plain.txt; \
         setfattr -n user.note -v hello deep/big 2>/dev/null || true",
    );
    root
}

#[test]
fn a_wiped_project_comes_back_in_place_from_each_store() {
    let mut machine = Machine::new();
    let root = curious(&mut machine);
    let before = machine.at("before");
    copy_tree(&root, &before);
    machine.call(&["run"]).ended(0);
    for store in ["local", "archive"] {
        fs::remove_dir_all(&root).unwrap();
        machine.call(&["restore", "--project", "shop", "--store", store, "--yes"]).ended(0);
        assert_eq!(tree_difference(&before, &root, &[]), "", "{store}");
    }
}

#[test]
fn a_second_run_stores_next_to_nothing_and_a_dry_run_nothing() {
    let mut machine = Machine::new();
    curious(&mut machine);
    let dry = machine.json(&["run", "--dry-run"]).ended(0).json();
    assert_eq!(dry["projects"][0]["outcome"], "planned");
    assert!(dry["projects"][0]["expected"]["files_new"].as_u64().unwrap() >= 5, "{dry}");
    assert!(!machine.at("local/shop").exists() && !machine.at("state/audit.db").exists());
    machine.call(&["run"]).ended(0);
    fs::write(machine.at("projects/shop/plain.txt"), "changed").unwrap();
    let dry = machine.json(&["run", "--dry-run"]).ended(0).json();
    let expected = &dry["projects"][0]["expected"];
    assert_eq!((expected["files_changed"].as_u64(), expected["files_new"].as_u64()), (Some(1), Some(0)), "{dry}");
    let second = machine.json(&["run"]).ended(0).json();
    assert!(second["projects"][0]["stats"]["bytes_added"].as_u64().unwrap() < 100_000, "{second}");
}

#[test]
fn parts_come_back_into_a_folder_of_their_own() {
    let mut machine = Machine::new();
    let root = curious(&mut machine);
    machine.call(&["run"]).ended(0);
    let target = machine.at("target");
    let target_text = target.to_str().unwrap().to_owned();
    machine.call(&["restore", "--project", "shop", "--target", &target_text, "--path", "deep/er", "--yes"]).ended(0);
    let found: Vec<_> = fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(found, ["deep"]);
    assert_eq!(tree_difference(&root.join("deep/er"), &target.join("deep/er"), &[]), "");
    let again = machine.call(&["restore", "--project", "shop", "--target", &target_text, "--yes"]).ended(1);
    assert!(again.text().contains("is not empty"), "{again:?}");
    machine
        .call(&["restore", "--project", "shop", "--target", &machine.at("t2").to_string_lossy(), "--path", "nothing*", "--yes"])
        .ended(1);
}

#[test]
fn an_export_is_unpacked_by_standard_tools() {
    let mut machine = Machine::new();
    let root = curious(&mut machine);
    machine.call(&["run"]).ended(0);
    let archive = machine.at("shop.tar.zst");
    let archive_text = archive.to_str().unwrap().to_owned();
    let id = machine.json(&["list"]).json()["projects"][0]["stores"][0]["snapshots"][0]["id"].as_str().unwrap().to_owned();
    machine.call(&["export", "--project", "shop", "--snapshot", &id[..8], "-o", &archive_text]).ended(0);
    let unpacked = machine.at("unpacked");
    fs::create_dir(&unpacked).unwrap();
    shell(&unpacked, &format!("zstd -qt {archive_text}; zstd -dc {archive_text} | tar --xattrs --xattrs-include='*' -xpf -"));
    assert_eq!(tree_difference(&root, &unpacked.join("tree"), &["/sparse"]), "");
    assert_eq!(fs::read(root.join("sparse")).unwrap(), fs::read(unpacked.join("tree/sparse")).unwrap());
    assert!(unpacked.join("snapshot.json").is_file() && !machine.at("shop.tar.zst.part").exists());
    machine.call(&["export", "--project", "shop", "--snapshot", &id, "-o", &archive_text]).ended(1);
}

#[test]
fn one_flipped_bit_is_named_and_the_rest_comes_back() {
    let mut machine = Machine::new();
    let root = curious(&mut machine);
    machine.call(&["run"]).ended(0);
    machine.call(&["verify", "--read-data"]).ended(0);
    let pack = largest_file(&machine.at("local/shop/epochs"));
    let mut bytes = fs::read(&pack).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let verified = machine.json(&["verify", "--store", "local"]).ended(5).json();
    let damage = &verified["stores"][0]["damage"][0];
    assert!(pack.to_string_lossy().ends_with(damage["object"].as_str().unwrap()), "{verified}");
    assert!(damage["files"].as_array().unwrap().iter().any(|f| f == "tree/deep/big"), "{verified}");
    let target = machine.at("target");
    let restored =
        machine.json(&["restore", "--project", "shop", "--store", "local", "--target", target.to_str().unwrap(), "--yes"]).ended(3);
    assert!(restored.json()["failed"].as_array().unwrap().iter().any(|f| f["path"] == "tree/deep/big"), "{restored:?}");
    assert_eq!(fs::read(target.join("plain.txt")).unwrap(), fs::read(root.join("plain.txt")).unwrap());
    machine.call(&["verify", "--store", "archive", "--read-data"]).ended(0);
    let rows = machine.json(&["logs", "--limit", "50"]).ended(0).json();
    let failed = |action: &str| rows["rows"].as_array().unwrap().iter().any(|r| r["action"] == action && r["status"] != "ok");
    assert!(failed("verify") && failed("restore"), "{rows}");
}

fn largest_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut largest = (0, std::path::PathBuf::new());
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.len() > largest.0 {
                largest = (meta.len(), entry.path());
            }
        }
    }
    largest.1
}

#[test]
fn cleanup_shows_what_it_would_do_and_keeps_three_good_snapshots() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "[projects.shop.retention]\nhot = \"1d\"\n");
    for n in 0..2 {
        fs::write(root.join("a"), n.to_string()).unwrap();
        machine.call(&["run"]).ended(0);
    }
    let plan = machine.json(&["cleanup", "--dry-run"]).ended(0).json();
    assert!(plan["stores"].as_array().unwrap().iter().all(|s| s["store"] == "local"), "{plan}");
    assert!(plan["stores"][0]["snapshots"].as_array().unwrap().iter().all(|s| s["keep"] == true), "{plan}");
    machine.call(&["cleanup"]).ended(0);
    assert_eq!(machine.json(&["list"]).json()["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), 2);
}
