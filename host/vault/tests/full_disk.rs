//! A local store on a disk that is really full: a small tmpfs in a mount namespace of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use havun_model::{ProjectName, StoreName};
use havun_vault::store::{LocalRoot, LocalStore, ObjectName, Store, StoreError};
use std::{fs, path::Path, process::Command, time::Duration};

const INSIDE: &str = "HAVUN_TEST_INSIDE_NAMESPACE";

/// Runs the test of that name again where it may mount; true inside.
fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.expect("`unshare` (package util-linux) is needed").success(), "the test failed in its namespace");
    false
}

fn mount(folder: &Path, size: &str) {
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(folder).status();
    assert!(status.unwrap().success(), "cannot mount a tmpfs");
}

fn store(folder: &Path) -> LocalStore {
    LocalRoot::create(folder, &StoreName::new("hot").unwrap()).unwrap().vault(&ProjectName::new("shop").unwrap())
}

fn fill(store: &LocalStore, at: &str, bytes: usize) -> Result<(), StoreError> {
    let mut upload = store.begin()?;
    for _ in 0..bytes.div_ceil(4096) {
        upload.write(&[7; 4096])?;
    }
    upload.publish(&ObjectName::new(at)?).map(|_| ())
}

#[test]
fn a_full_disk_is_named_as_such_and_an_abandoned_upload_gives_its_space_back() {
    if !in_namespace("a_full_disk_is_named_as_such_and_an_abandoned_upload_gives_its_space_back") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "size=256k");
    let store = store(folder.path());
    fill(&store, "small", 4096).unwrap();
    let error = fill(&store, "large", 1 << 20).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert!(error.hint().is_some() && !error.is_transient());
    assert_eq!(store.list("").unwrap().len(), 1);
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0);
    assert!(store.free_bytes().unwrap().unwrap() > 128 << 10);
    fill(&store, "fits", 64 << 10).unwrap();
}

#[test]
fn a_disk_without_inodes_is_full_too_and_leaves_the_lease_free() {
    if !in_namespace("a_disk_without_inodes_is_full_too_and_leaves_the_lease_free") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "size=1m,nr_inodes=5");
    let store = store(folder.path());
    let error = store.lease("me", false).map(|_| ()).and_then(|()| fill(&store, "epochs/2026/index/x", 10)).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert!(store.list("").unwrap().is_empty());
    assert_eq!(store.remove_stale_uploads(Duration::ZERO).unwrap(), 0, "nothing is left in tmp/");
}

#[test]
fn a_read_only_disk_denies_writing_and_still_reads() {
    if !in_namespace("a_read_only_disk_denies_writing_and_still_reads") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "size=1m");
    let store = store(folder.path());
    fill(&store, "a", 10).unwrap();
    mount_again(folder.path());
    assert!(matches!(fill(&store, "b", 10), Err(StoreError::Denied { .. })));
    assert!(matches!(store.lease("me", false).map(|_| ()), Err(StoreError::Denied { .. })));
    assert!(matches!(store.remove(&ObjectName::new("a").unwrap()), Err(StoreError::Denied { .. })));
    assert_eq!(store.read(&ObjectName::new("a").unwrap(), 1 << 20).unwrap().len(), 4096);
}

fn mount_again(folder: &Path) {
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(folder).status();
    assert!(status.unwrap().success(), "cannot remount");
}
