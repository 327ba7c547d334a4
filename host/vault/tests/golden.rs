//! What earlier versions wrote, this version reads, and goes on with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use common::{
    Run,
    golden::{self, Golden, VAULTS},
    listing::{self, Listing},
    tree,
};
use havun_model::{Cancel, ChunkId, Snapshot};
use havun_vault::{
    Entry, EntryKind, NoProgress, RestoreRequest, Vault, VaultError, VerifyOptions,
    pack::{PackKind, PackReader},
    paths::escape,
    store::Store as _,
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::PathBuf};

/// A snapshot as a listing, from its entries and contents.
fn listing_of(vault: &Vault, snapshot: &Snapshot) -> Listing {
    let mut contents = vault.contents(snapshot).unwrap();
    let entries = vault.entries(snapshot).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let mut bytes = Vec::new();
            contents.write(&entry, &mut bytes).unwrap();
            (entry.display_path(), describe(&entry, &bytes))
        })
        .collect()
}

fn describe(entry: &Entry, bytes: &[u8]) -> Value {
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
    put("type", json!(entry.kind.word()));
    put("uid", json!(entry.uid));
    put("gid", json!(entry.gid));
    put("mtime", json!([entry.mtime.secs, entry.mtime.nanos]));
    match &entry.target {
        Some(target) => put("target", json!(escape(target))),
        None => put("mode", json!(format!("{:04o}", entry.mode))),
    }
    if let Some((major, minor)) = entry.rdev {
        put("rdev", json!([major, minor]));
    }
    if let Some(first) = &entry.link_group {
        put("first_name", json!(escape(first)));
    }
    if !entry.xattrs.is_empty() {
        let xattrs = entry.xattrs.iter().map(|(name, value)| (escape(name).into_owned(), json!(hex::encode(value))));
        put("xattrs", Value::Object(xattrs.collect()));
    }
    if entry.kind == EntryKind::File {
        assert_eq!(entry.size, bytes.len() as u64);
        put("size", json!(entry.size));
        put("sha256", json!(hex::encode(Sha256::digest(bytes))));
        put("sparse", json!(entry.sparse.is_some()));
    }
    Value::Object(line)
}

/// Asserts that a vault of so many snapshots is whole.
fn verify(vault: &Vault, snapshots: u64) {
    let report = vault.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap();
    assert_eq!((report.damage, report.snapshots), (Vec::new(), snapshots));
    assert!(report.chunks > 20);
}

#[test]
fn every_entry_of_every_golden_snapshot_is_as_it_was() {
    for name in VAULTS {
        let golden = Golden::copy(name);
        let vault = golden.open();
        let list = vault.snapshots().unwrap();
        assert_eq!((list.snapshots.len(), list.damaged.len()), (2, 0), "{name}");
        for (number, stored) in (1..).zip(&list.snapshots) {
            listing::assert_same(&listing_of(&vault, &stored.snapshot), &golden::expected(number), true);
        }
    }
}

#[test]
fn the_second_dump_of_a_golden_vault_with_deltas_is_one() {
    for (name, deltas) in [("v1-plain", 0), ("v1-deltas-plain", 1)] {
        let golden = Golden::copy(name);
        let store = golden.store();
        let kinds = store.list("epochs/2026/packs").unwrap().into_iter().map(|pack| {
            let toc = PackReader::open(&store, &pack.name, None).unwrap().toc().unwrap();
            toc.kind
        });
        assert_eq!(kinds.filter(|kind| *kind == PackKind::Delta).count(), deltas, "{name}");
    }
}

fn chunks(vault: &Vault, snapshot: &Snapshot, path: &str) -> Vec<ChunkId> {
    let mut entries = vault.entries(snapshot).unwrap().map(Result::unwrap);
    entries.find(|entry| entry.path == path.as_bytes()).unwrap().chunks
}

#[test]
fn every_golden_vault_verifies() {
    for name in VAULTS {
        let golden = Golden::copy(name);
        verify(&golden.open(), 2);
    }
}

#[test]
fn a_restore_of_every_golden_snapshot_brings_everything_back() {
    for name in VAULTS {
        let golden = Golden::copy(name);
        let vault = golden.open();
        for (number, stored) in (1..).zip(vault.snapshots().unwrap().snapshots) {
            let target = tempfile::tempdir().unwrap();
            let request = RestoreRequest {
                select: &|entry| Some(PathBuf::from(OsStr::from_bytes(&entry.path))),
                target: target.path(),
                overwrite: false,
                owner: true,
                threads: 2,
                sync: false,
                cancel: Cancel::default(),
            };
            let report = vault.restore(&stored.snapshot, &request, &NoProgress).unwrap();
            let privileged = tree::is_privileged();
            assert!(report.failed.is_empty() || !privileged, "{name}: {:?}", report.failed);
            listing::assert_same(&listing::scan(target.path(), ""), &golden::expected(number), privileged);
        }
    }
}

#[test]
fn a_golden_vault_takes_another_backup_and_cuts_files_where_it_did() {
    for name in VAULTS {
        let golden = Golden::copy(name);
        let (root, state_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree::build(root.path());
        tree::change(root.path());
        let vault = golden.open();
        let before = vault.snapshots().unwrap().snapshots.pop().unwrap();
        let run = Run { root: root.path(), state_dir: state_dir.path(), identities: &golden.identities, number: 3 };
        let committed = run.backup(&vault).unwrap();
        assert_eq!(committed.stored.snapshot.parent, Some(before.id));
        for path in ["tree/storage/app/large.log", "databases/database.sql"] {
            let (old, new) = (chunks(&vault, &before.snapshot, path), chunks(&vault, &committed.stored.snapshot, path));
            assert!(old.len() > 1 && old.len() == new.len(), "{name}: {path} was {} chunks, is {}", old.len(), new.len());
            assert_eq!(old.last(), new.last(), "{name}: {path}");
            assert_eq!(old == new, path.starts_with("tree/"), "{name}: {path}");
        }
        verify(&golden.open(), 3);
        listing::assert_same(&listing_of(&vault, &committed.stored.snapshot), &run.expected(), tree::is_privileged());
    }
}

#[test]
fn a_vault_of_a_later_format_is_left_alone() {
    let golden = Golden::copy("v1-plain");
    let path = golden.folder().join("vault.json");
    let newer = fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(&path, newer).unwrap();
    let opened = Vault::open(std::sync::Arc::new(golden.store()), &[]);
    assert!(matches!(opened, Err(VaultError::NewerFormat { found: 2, known: 1, .. })), "{:?}", opened.err());
}

#[test]
fn a_readme_that_says_other_things_than_ours_is_fine_as_long_as_its_sum_is_right() {
    let golden = Golden::copy("v1-plain");
    fs::write(golden.folder().join("README.txt"), "the text of another version\n").unwrap();
    let damage = |golden: &Golden| {
        let report = golden.open().verify(&VerifyOptions { snapshot: None, read_data: false, threads: 1 }, &NoProgress).unwrap();
        report.damage.into_iter().map(|damage| damage.object).collect::<Vec<_>>()
    };
    assert_eq!(damage(&golden), ["README.txt", "vault.sha256"]);
    let sum = |name: &str| format!("{}  {name}\n", hex::encode(Sha256::digest(fs::read(golden.folder().join(name)).unwrap())));
    fs::write(golden.folder().join("vault.sha256"), sum("README.txt") + &sum("vault.json")).unwrap();
    assert_eq!(damage(&golden), [] as [String; 0]);
}
