//! Restores from a real store: equal to the source in every respect, whole where the vault is damaged.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{Cancel, ProjectName, Snapshot, StoreName};
use havun_vault::{
    Entry, NoProgress, RestoreReport, RestoreRequest, Vault, VerifyOptions,
    store::{LocalRoot, MemoryStore, ObjectName, Store},
};
use kit::{Bench, make_tree, noise};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

fn under_tree(entry: &Entry) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let rest = entry.path.strip_prefix(b"tree".as_slice())?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest))))
}

fn restore(vault: &Vault, snapshot: &Snapshot, target: &Path) -> RestoreReport {
    let request =
        RestoreRequest { select: &under_tree, target, overwrite: false, owner: true, threads: 2, sync: false, cancel: Cancel::default() };
    vault.restore(snapshot, &request, &NoProgress).unwrap()
}

/// What `rsync` would change, with every kind of metadata compared.
fn difference(a: &Path, b: &Path) -> String {
    let out =
        Command::new("rsync").args(["-aHAXnic", "--delete"]).arg(format!("{}/", a.display())).arg(format!("{}/", b.display())).output();
    let out = out.expect("rsync is installed by tests/run.sh");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn shell(root: &Path, script: &str) {
    let status = Command::new("bash").arg("-ec").arg(script).current_dir(root).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn a_restored_tree_is_equal_in_every_respect() {
    let bench = Bench::new(true);
    let place = tempfile::tempdir().unwrap();
    let root = LocalRoot::create(&place.path().join("store"), &StoreName::new("local").unwrap()).unwrap();
    let store: Arc<dyn Store> = Arc::new(root.vault(&ProjectName::new("sample").unwrap()));
    let source = place.path().join("source");
    std::fs::create_dir(&source).unwrap();
    make_tree(&source);
    shell(
        &source,
        r"
        ln a.txt hard; ln a.txt dir/hard; ln -s a.txt soft; ln -s /nowhere/$'\xff' dangling; mkfifo pipe
        printf x > $'non\xffutf8'; printf y > $(printf 'n%.0s' $(seq 255)); printf z > 'back\slash'; mkdir empty-dir
        truncate -s 40M sparse; printf data | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
        printf s > setuid; mkdir sticky; mkdir locked; printf l > locked/in
        setfattr -n user.colour -v blue a.txt
        setfacl -m u:1234:rw dir/b.txt; setfacl -d -m g:4321:rx dir
        touch -d '1969-12-31 23:59:58.123456789 UTC' empty; touch -h -d '2001-02-03 04:05:06.789 UTC' soft
        ",
    );
    if rustix::process::geteuid().is_root() {
        shell(
            &source,
            "mknod null c 1 3; mknod loop b 7 200; chown 1234:4321 dir/b.txt; chown -h 77:88 soft; setfattr -n trusted.x -v 1 dir",
        );
    }
    shell(&source, "chmod 6755 setuid; chmod 1777 sticky; chmod 555 locked");
    bench.create(&store).unwrap();
    let vault = bench.open(&store).unwrap();
    let (committed, tree) = bench.backup(&vault, &source, b"dump", 0).unwrap();
    assert_eq!(tree.items.values().next().unwrap().problems, [] as [String; 0]);

    let target = place.path().join("target");
    let report = restore(&vault, &committed.stored.snapshot, &target);
    assert_eq!(report.failed, []);
    assert_eq!(difference(&source, &target), "");
    let blocks = |p: &Path| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(p).unwrap());
    assert!(blocks(&target.join("sparse")) < 2048, "holes stay holes");
    // Over itself, in place: everything is replaced by its equal.
    let request = RestoreRequest {
        select: &under_tree,
        target: &target,
        overwrite: true,
        owner: true,
        threads: 2,
        sync: false,
        cancel: Cancel::default(),
    };
    std::fs::write(target.join("a.txt"), "overwritten").unwrap();
    let report = vault.restore(&committed.stored.snapshot, &request, &NoProgress).unwrap();
    assert_eq!(report.failed, []);
    assert_eq!(difference(&source, &target), "");
    shell(place.path(), "chmod -R u+w source target");
}

/// One flipped bit, a cut, a missing and a swapped object, at 200 random places of every kind of object: `verify`
/// names the object and what it hits, `restore` brings back exactly the rest.
#[test]
fn damage_anywhere_is_named_and_costs_what_it_hits() {
    let bench = Bench::new(true);
    let pristine = MemoryStore::new("memory");
    let store: Arc<dyn Store> = Arc::new(pristine.clone());
    let source = tempfile::tempdir().unwrap();
    for n in 0..40 {
        std::fs::write(source.path().join(format!("{n}.txt")), noise(n, 3000)).unwrap();
    }
    std::fs::write(source.path().join("large"), noise(99, 1_500_000)).unwrap();
    bench.create(&store).unwrap();
    bench.backup(&bench.open(&store).unwrap(), source.path(), &noise(8, 200_000), 0).unwrap();
    let objects: Vec<(ObjectName, u64)> = store.list("").unwrap().into_iter().map(|l| (l.name, l.size)).collect();
    let kinds = ["vault.json", "vault.sha256", "README.txt", "keys/", "/packs/", "/index/", "/snapshots/"];
    assert!(kinds.iter().all(|kind| objects.iter().any(|(name, _)| name.as_str().contains(kind))), "{objects:?}");
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..200 {
        let (name, size) = &objects[round % objects.len()];
        let (at, bit) = (random(*size), random(8));
        let damaged = pristine.after_power_cut(false);
        damaged.damage(name, |bytes| bytes[at as usize] ^= 1 << bit);
        check_damage(&bench, damaged, name, source.path(), &format!("bit {bit} of byte {at} of {name}"));
    }
    for (name, size) in &objects {
        let cut = random(*size) as usize;
        let damaged = pristine.after_power_cut(false);
        damaged.damage(name, |bytes| bytes.truncate(cut));
        check_damage(&bench, damaged, name, source.path(), &format!("{name} cut to {cut} bytes"));
    }
    let packs: Vec<&ObjectName> = objects.iter().map(|(name, _)| name).filter(|n| n.as_str().contains("/packs/")).collect();
    for pack in &packs {
        let damaged = pristine.after_power_cut(false);
        damaged.remove(pack).unwrap();
        check_damage(&bench, damaged, pack, source.path(), &format!("{pack} missing"));
    }
    let swapped = pristine.after_power_cut(false);
    let (a, b) = (swapped.read(packs[0], 1 << 30).unwrap(), swapped.read(packs[1], 1 << 30).unwrap());
    swapped.damage(packs[0], |bytes| *bytes = b);
    swapped.damage(packs[1], |bytes| *bytes = a);
    check_damage(&bench, swapped, packs[0], source.path(), "two packs swapped");
}

fn check_damage(bench: &Bench, store: MemoryStore, name: &ObjectName, source: &Path, what: &str) {
    let store: Arc<dyn Store> = Arc::new(store);
    let vault = match bench.open(&store) {
        Ok(vault) => vault,
        Err(error) => {
            // Nothing opens without its head: the error names the object.
            let head = ["vault.json", "vault.sha256", "keys/"].iter().any(|kind| name.as_str().starts_with(kind));
            assert!(head && !matches!(error, havun_vault::VaultError::WrongKey { .. }), "{what}: {error:?}");
            return;
        }
    };
    let report = vault.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap();
    assert!(!report.damage.is_empty(), "{what}: not found");
    let head = !name.as_str().starts_with("epochs/");
    let is_named = report.damage.iter().any(|d| d.object == name.as_str());
    assert!(is_named || head, "{what}: not named in {:?}", report.damage);
    let list = vault.snapshots().unwrap();
    let Some(stored) = list.snapshots.first() else {
        assert!(!list.damaged.is_empty(), "{what}");
        return;
    };
    if name.as_str().contains("/packs/") {
        let hit = report.damage.iter().any(|d| d.object == name.as_str() && d.snapshots.contains(&stored.id));
        assert!(hit, "{what}: the snapshot is not named: {:?}", report.damage);
    }
    let target = tempfile::tempdir().unwrap();
    let restored = restore(&vault, &stored.snapshot, target.path());
    let named: u64 = report.damage.iter().map(|d| d.file_count).sum();
    let mut there = 0;
    for file in walk(source) {
        let rel = file.strip_prefix(source).unwrap();
        let path = target.path().join(rel);
        if path.exists() {
            there += 1;
            assert!(std::fs::read(&path).unwrap() == std::fs::read(&file).unwrap(), "{what}: {} is wrong", rel.display());
        } else {
            assert!(!restored.failed.is_empty(), "{what}: {} is missing without a word", rel.display());
        }
    }
    let missing = walk(source).len() - there;
    let manifest_hit = report.damage.iter().flat_map(|d| &d.files).any(|f| f.starts_with('('));
    assert!(manifest_hit || named >= missing as u64, "{what}: {missing} missing, {named} named");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
