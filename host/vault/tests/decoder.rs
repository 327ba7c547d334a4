//! The golden vaults, read by a decoder that shares nothing with the program (`tests/decoder/havun_decode.py`).
//! Needs `python3` with the package `cryptography`, `zstd`, `tar` and `age`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use common::{
    Run,
    golden::{self, Golden, VAULTS},
    listing, local, new_vault, tree,
};
use havun_model::{
    holds::{Hold, HoldScope},
    retention::Verdict,
};
use havun_vault::{keys::Identity, store::Store as _};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

fn decode(golden: &Golden, arguments: &[&str]) -> Output {
    decode_folder(&golden.folder(), golden.identity_file().as_deref(), arguments)
}

fn decode_folder(vault: &Path, identity: Option<&Path>, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/decoder/havun_decode.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(script);
    if let Some(identity) = identity {
        command.arg("-i").arg(identity);
    }
    command.arg(vault).args(arguments).output().expect("`python3` is needed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_restores_what_was_backed_up() {
    for name in VAULTS {
        let golden = Golden::copy(name);
        let snapshots = text(&decode(&golden, &["snapshots"]).stdout);
        assert_eq!(snapshots.lines().count(), 2, "{snapshots}");
        for (number, line) in (1..).zip(snapshots.lines()) {
            let target = tempfile::tempdir().unwrap();
            let restored = decode(&golden, &["restore", "-s", &line[..12], target.path().to_str().unwrap()]);
            assert!(restored.status.success(), "{}", text(&restored.stderr));
            listing::assert_same(&listing::scan(target.path(), ""), &golden::expected(number), tree::is_privileged());
        }
    }
}

/// `tests/decoder/havun_restore.sh`: no Python, no library, only what every Linux machine has or can install.
fn restore_by_shell(golden: &Golden, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/decoder/havun_restore.sh");
    let mut command = Command::new("bash");
    if let Some(identity) = golden.identity_file() {
        command.env("IDENTITY", identity);
    }
    command.arg(script).arg(golden.folder()).args(arguments).output().expect("`bash` is needed")
}

#[test]
fn a_shell_with_openssl_restores_what_was_backed_up() {
    for name in VAULTS {
        let golden = Golden::copy(name);
        let listed = restore_by_shell(&golden, &[]);
        assert!(listed.status.success(), "{}", text(&listed.stderr));
        let first = text(&listed.stdout).lines().next().unwrap()[..12].to_owned();
        for (number, id) in [(1, first.as_str()), (2, "")] {
            let target = tempfile::tempdir().unwrap();
            let restored = restore_by_shell(&golden, &[target.path().to_str().unwrap(), id]);
            assert!(restored.status.success(), "{}", text(&restored.stderr));
            listing::assert_same(&listing::scan(target.path(), ""), &golden::expected(number), tree::is_privileged());
        }
    }
}

#[test]
fn a_shell_with_openssl_says_what_is_damaged() {
    let golden = Golden::copy(VAULTS[0]);
    let store = golden.store();
    let packs = store.list("epochs").unwrap().into_iter().filter(|object| object.name.as_str().contains("/packs/"));
    for pack in packs {
        let path = golden.folder().join(pack.name.as_str());
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let target = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &[target.path().to_str().unwrap()]] {
        let ended = restore_by_shell(&golden, arguments);
        assert_eq!(ended.status.code(), Some(5), "{}", text(&ended.stderr));
        assert!(text(&ended.stderr).contains("is not what its name says"), "{}", text(&ended.stderr));
    }
}

/// `tests/decoder/hostile_vaults.py` makes them: texts that bash would run, paths and packs that lead out of the target.
#[test]
fn a_shell_with_openssl_runs_nothing_and_writes_nothing_elsewhere_whatever_a_vault_says() {
    let decoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/decoder");
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3").arg("-B").arg(decoder.join("hostile_vaults.py")).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let vaults: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let outside = folder.path().join("outside");
    for vault in vaults.iter().filter(|path| path.join("vault.json").exists()) {
        let target = folder.path().join("target");
        let ended = Command::new("bash").arg(decoder.join("havun_restore.sh")).args([vault, &target]).output().unwrap();
        let said = format!("{}: {}", vault.display(), text(&ended.stderr));
        assert_eq!(ended.status.success() && vault.ends_with("good"), vault.ends_with("good"), "{said}");
        assert!(!folder.path().join("RAN").exists(), "{said}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{said}");
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o700, "{said}");
        let _ = fs::remove_dir_all(&target);
    }
    assert_eq!(vaults.len(), 13, "outside, and twelve vaults");
}

/// Not only what an earlier version wrote: runs, a clean-up that marks and one that deletes, a new epoch.
#[test]
fn it_reads_what_this_version_writes() {
    for identities in [vec![Identity::generate(), Identity::generate()], Vec::new()] {
        let place = tempfile::tempdir().unwrap();
        let (root, state_dir) = (place.path().join("project"), place.path().join("state"));
        fs::create_dir_all(&root).unwrap();
        let store = local(&place.path().join("store"));
        let folder = store.path().to_owned();
        let vault = new_vault(Arc::new(store), &identities).unwrap();
        let mut run = Run { root: &root, state_dir: &state_dir, identities: &identities, number: 1 };
        tree::build(&root);
        run.backup(&vault).unwrap();
        tree::change(&root);
        run.number = 2;
        let second = run.backup(&vault).unwrap();
        for day in [3, 5] {
            let verdicts = vault.snapshots().unwrap().snapshots.into_iter();
            let verdicts: Vec<_> =
                verdicts.map(|s| Verdict { id: s.id, keep: s.id == second.stored.id, reason: "older".to_owned() }).collect();
            let options = havun_vault::PruneOptions { waste_percent: 1, total_percent: 0, min_waste_bytes: 0, ..Default::default() };
            let plan = vault.plan_cleanup(&verdicts, common::day(day), &options).unwrap();
            assert_eq!(plan.repack.is_empty(), day == 5, "{plan:?}");
            vault.execute_cleanup(plan, "the tests", false).unwrap();
        }
        let hold = Hold {
            id: String::new(),
            created: common::day(6),
            by: "a test".to_owned(),
            reason: "to be read".to_owned(),
            scope: HoldScope::All,
            automatic: false,
        };
        vault.add_hold(hold, "the tests").unwrap();
        // What the clean-ups left names packs that are gone; their chunks were moved.
        let (target, listing) = (place.path().join("moved"), run.expected());
        let identity_file = identities.last().map(|identity| {
            let path = place.path().join("early-identity.txt");
            fs::write(&path, identity.file_text("a test").as_bytes()).unwrap();
            path
        });
        let restored = decode_folder(&folder, identity_file.as_deref(), &["restore", target.to_str().unwrap()]);
        assert!(restored.status.success(), "{}", text(&restored.stderr));
        listing::assert_same(&listing::scan(&target, ""), &listing, true);
        run.number = 100;
        let last = run.backup(&vault).unwrap();
        assert_ne!(last.stored.snapshot.epoch, second.stored.snapshot.epoch);
        let identity = identities.last().map(|identity| {
            let path = place.path().join("identity.txt");
            fs::write(&path, identity.file_text("a test").as_bytes()).unwrap();
            path
        });
        let checked = decode_folder(&folder, identity.as_deref(), &["check"]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        let target = place.path().join("target");
        let restored = decode_folder(&folder, identity.as_deref(), &["restore", target.to_str().unwrap()]);
        assert!(restored.status.success(), "{}", text(&restored.stderr));
        listing::assert_same(&listing::scan(&target, ""), &run.expected(), true);
    }
}

#[test]
fn it_finds_the_vaults_whole() {
    for name in VAULTS {
        let checked = decode(&Golden::copy(name), &["check"]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        assert!(text(&checked.stdout).contains(" objects and "), "{}", text(&checked.stdout));
    }
}

#[test]
fn it_lists_the_newest_snapshot_in_path_order() {
    let listed = text(&decode(&Golden::copy("v1-plain"), &["list"]).stdout);
    let paths: Vec<String> =
        listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].to_string()).collect();
    assert_eq!(paths.len(), golden::expected(2).len());
    assert!(paths[0].contains("databases/") && paths[2] == "\"tree\"", "{paths:?}");
}

#[test]
fn it_notices_one_flipped_bit_in_any_object() {
    for name in VAULTS {
        let golden = Golden::copy(name);
        for object in golden.store().list("").unwrap() {
            let name = object.name.as_str();
            if name == "README.txt" || name.ends_with(".sha256") || name == "vault.json" || name.starts_with("keys/") {
                continue;
            }
            let path = golden.folder().join(name);
            let whole = fs::read(&path).unwrap();
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 4;
            fs::write(&path, damaged).unwrap();
            let checked = decode(&golden, &["check"]);
            assert_eq!(checked.status.code(), Some(5), "{name}: {}", text(&checked.stderr));
            fs::write(&path, whole).unwrap();
        }
    }
}

#[test]
fn it_restores_what_is_whole_beside_a_pack_that_is_gone() {
    let golden = Golden::copy("v1-plain");
    let packs = golden.store().list("epochs/2026/packs").unwrap();
    let largest = packs.iter().max_by_key(|pack| pack.size).unwrap();
    fs::remove_file(golden.folder().join(largest.name.as_str())).unwrap();
    let target = tempfile::tempdir().unwrap();
    let restored = decode(&golden, &["restore", target.path().to_str().unwrap()]);
    assert_eq!(restored.status.code(), Some(5));
    assert!(text(&restored.stderr).contains("tree/.env"), "{}", text(&restored.stderr));
    assert!(target.path().join("tree/leaves/001").exists() && target.path().join("tree/app/link").is_symlink());
    assert!(!target.path().join("tree/.env").exists(), "nothing half-restored");
}

#[test]
fn the_commands_of_the_format_page_check_a_vault() {
    const CHECK: &str = r"sha256sum -c --quiet vault.sha256 &&
        { [ ! -d keys ] || (cd keys && sha256sum -c --quiet *.sha256); } &&
        find epochs -type f -not -name '*.par2' | sed -E 's|^(.*/)([^/]*)$|\2 \1\2|; s|^[^ ]*-||' | sed 's/ /  /' | sha256sum -c --quiet";
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/FORMAT.md")).unwrap();
    assert!(page.contains(CHECK.lines().last().unwrap().trim()), "the page has the same command");
    for name in VAULTS {
        let golden = Golden::copy(name);
        let check = || Command::new("sh").args(["-c", CHECK]).current_dir(golden.folder()).output().unwrap();
        assert!(check().status.success(), "{}", text(&check().stderr));
        let object = &golden.store().list("epochs").unwrap()[0];
        fs::write(golden.folder().join(object.name.as_str()), "other").unwrap();
        assert!(!check().status.success());
    }
}

#[test]
fn a_plain_pack_is_an_archive_for_standard_tools() {
    let golden = Golden::copy("v1-plain");
    for pack in golden.store().list("epochs/2026/packs").unwrap() {
        let path = golden.folder().join(pack.name.as_str());
        let folder = tempfile::tempdir().unwrap();
        const UNPACK: &str = r#"zstd -q -t < "$0" && tar -I zstd -tf "$0" > /dev/null && zstd -dc < "$0" | tar -x -C "$1" &&
            cd "$1/c" && sha256sum * | awk '$1 != $2 { bad = 1 } END { exit bad }'"#;
        let unpacked = Command::new("sh").args(["-c", UNPACK]).arg(&path).arg(folder.path()).output().unwrap();
        assert!(unpacked.status.success(), "{}", text(&unpacked.stderr));
        assert!(fs::read_dir(folder.path().join("c")).unwrap().count() > 0);
    }
}
