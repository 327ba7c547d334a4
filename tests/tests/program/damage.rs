//! Bits that flip, packs that vanish or change places, disks that are full, files that nobody may read.

use havun_tests::{Machine, copy_tree, tree_difference};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A small sequence that is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() >> 33).unwrap() % limit
    }

    /// Bytes that do not compress.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(4)).flat_map(|_| u32::try_from(self.roll() >> 32).unwrap().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    found
}

/// Every object of the project's vault in the hot store; the lease is none.
fn objects(machine: &Machine) -> Vec<PathBuf> {
    let vault = machine.at("local/shop");
    let is_object = |path: &PathBuf| path.strip_prefix(&vault).is_ok_and(|rel| !rel.starts_with("tmp") && rel != Path::new("lease"));
    files_in(&vault).into_iter().filter(is_object).collect()
}

fn rewrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn stored(machine: &mut Machine) -> PathBuf {
    let root = machine.project("shop", "files", "stores = [\"local\"]\n");
    let mut dice = Dice(7);
    for n in 0..40 {
        let size = dice.below(60_000);
        fs::write(root.join(format!("file{n}")), dice.bytes(size)).unwrap();
    }
    machine.call(&["run"]).ended(0);
    fs::write(root.join("file3"), "changed").unwrap();
    machine.call(&["run"]).ended(0);
    root
}

#[test]
fn a_flipped_bit_in_any_object_is_named() {
    let mut machine = Machine::new();
    stored(&mut machine);
    machine.call(&["verify"]).ended(0);
    let objects = objects(&machine);
    let mut dice = Dice(1);
    let mut kinds = BTreeSet::new();
    for turn in 0..200 {
        let object = &objects[turn % objects.len()];
        let whole = fs::read(object).unwrap();
        let mut flipped = whole.clone();
        let (byte, bit) = (dice.below(whole.len()), dice.below(8));
        flipped[byte] ^= 1 << bit;
        rewrite(object, &flipped);
        let name = object.strip_prefix(machine.at("local/shop")).unwrap().to_string_lossy().into_owned();
        let verified = machine.json(&["verify"]);
        assert_eq!(verified.status, 5, "{name}, byte {byte}, bit {bit}: {}", verified.text());
        let damage = verified.json()["stores"][0]["damage"].to_string();
        // Of a file and its sum beside it nobody can say which of the two is damaged.
        let named = damage.contains(&name) || (name.ends_with(".sha256") && damage.contains("one of the two is damaged"));
        assert!(named, "{name}, byte {byte}, bit {bit}: {damage}");
        kinds.insert(name.split('/').nth_back(1).unwrap_or("").chars().take(4).collect::<String>() + &name.len().to_string());
        rewrite(object, &whole);
    }
    assert!(kinds.len() >= 5, "{kinds:?}");
    machine.call(&["verify", "--read-data"]).ended(0);
}

#[test]
fn missing_truncated_and_swapped_packs_are_named_and_the_rest_comes_back() {
    let mut machine = Machine::new();
    let root = stored(&mut machine);
    let packs: Vec<PathBuf> = objects(&machine).into_iter().filter(|path| path.to_string_lossy().contains("/packs/")).collect();
    assert!(packs.len() >= 3);
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let other = packs.iter().find(|path| *path != largest).unwrap();
    let (whole, foreign) = (fs::read(largest).unwrap(), fs::read(other).unwrap());
    for (n, bytes) in [None, Some(&whole[..whole.len() / 2]), Some(foreign.as_slice())].into_iter().enumerate() {
        fs::remove_file(largest).unwrap();
        if let Some(bytes) = bytes {
            fs::write(largest, bytes).unwrap();
        }
        let verified = machine.json(&["verify", "--read-data"]).ended(5).json();
        let name = largest.file_name().unwrap().to_str().unwrap();
        let damages = verified["stores"][0]["damage"].as_array().unwrap();
        let damage = damages.iter().find(|d| d["object"].as_str().unwrap().ends_with(name)).unwrap_or_else(|| panic!("{verified}"));
        assert!(!damage["snapshots"].as_array().unwrap().is_empty() && !damage["files"].as_array().unwrap().is_empty(), "{damage}");
        let target = machine.at(&format!("target{n}"));
        let restored = machine.json(&["restore", "--project", "shop", "--target", target.to_str().unwrap(), "--yes"]).ended(3).json();
        assert!(!restored["failed"].as_array().unwrap().is_empty());
        assert_eq!(fs::read(target.join("file3")).unwrap(), b"changed");
        let _ = fs::remove_file(largest);
        fs::write(largest, &whole).unwrap();
    }
    let target = machine.at("whole");
    machine.call(&["restore", "--project", "shop", "--target", target.to_str().unwrap(), "--yes"]).ended(0);
    assert_eq!(tree_difference(&root, &target, &[]), "");
}

#[test]
fn a_full_disk_fails_with_its_reason_and_leaves_the_vault_whole() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "stores = [\"local\"]\n");
    fs::write(root.join("small"), "small").unwrap();
    let store = machine.at("local");
    let kept = machine.at("kept");
    fs::rename(&store, &kept).unwrap();
    fs::create_dir(&store).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&store).status().unwrap().success();
    if !mounted {
        // Only root may mount; a container may forbid it even then.
        return;
    }
    let unmount = Unmount(store.clone());
    copy_tree(&kept, &store);
    machine.call(&["run"]).ended(0);
    let mut dice = Dice(3);
    fs::write(root.join("large"), dice.bytes(6_000_000)).unwrap();
    let failed = machine.call(&["run"]).ended(10);
    assert!(failed.text().contains("no space left"), "{failed:?}");
    machine.call(&["verify", "--read-data"]).ended(0);
    let row = &machine.json(&["logs", "--limit", "2"]).json()["rows"][1];
    assert!(row["status"] == "failed" && row["message"].as_str().unwrap().contains("no space left"), "{row}");
    fs::remove_file(root.join("large")).unwrap();
    machine.call(&["run"]).ended(0);
    assert_eq!(machine.json(&["list"]).json()["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), 2);
    drop(unmount);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Root reads everything, so the program runs as somebody else where the test is root.
#[test]
fn an_unreadable_file_makes_the_run_partial() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "stores = [\"local\"]\n");
    fs::write(root.join("public"), "x").unwrap();
    fs::write(root.join("secret"), "x").unwrap();
    let shell =
        |script: &str| assert!(Command::new("sh").args(["-c", script]).current_dir(machine.path()).status().unwrap().success(), "{script}");
    shell(
        "id -u | grep -qx 0 && chown -R 65534:65534 . && chown 0 projects/shop/secret || true; chmod 0 projects/shop/secret; chmod 755 .",
    );
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let inner = machine.command(&["--json", "run"]);
    let mut command = if is_root { Command::new("setpriv") } else { Command::new("env") };
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    let program = machine.at("havun-backup");
    fs::copy(inner.get_program(), &program).unwrap();
    command.arg(&program).args(inner.get_args()).current_dir(machine.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["projects"][0]["outcome"], "partial");
    assert!(report["projects"][0]["problems"].to_string().contains("secret"), "{report}");
}

/// A part of what this host remembers of an archive is damaged: nobody can say then what may be missing there. It is said,
/// nothing is expired, and one full copy lists it anew.
#[test]
fn a_damaged_memory_of_an_archive_is_said_and_lets_nothing_be_expired_until_it_is_made_anew() {
    let mut machine = Machine::new();
    let root = machine.project("papers", "files", "[projects.papers.retention]\nhot = \"30d\"\narchive = \"7y\"\n");
    fs::write(root.join("a"), "1").unwrap();
    machine.call(&["run"]).ended(0);
    let found =
        std::process::Command::new("find").arg(machine.at("state/replicas/archive")).args(["-name", "*.[0-9]*.objects"]).output().unwrap();
    let part = std::path::PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    let whole = fs::read(&part).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&part, damaged).unwrap();
    let said = "what is known of it is damaged";
    assert!(machine.json(&["health"]).ended(4).stdout.contains(said));
    let expiry = machine.json(&["archive", "expire", "--store", "archive", "--dry-run"]);
    assert!(expiry.stdout.contains(said) && expiry.stdout.contains("nobody can say what is missing"), "{expiry:?}");
    machine.call(&["archive", "push", "--full", "--store", "archive"]).ended(0);
    assert!(!machine.json(&["health"]).text().contains(said));
    assert!(!machine.json(&["archive", "expire", "--store", "archive", "--dry-run"]).text().contains(said));
}
