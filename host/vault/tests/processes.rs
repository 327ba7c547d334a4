//! Two processes at one vault: the lease of a killed one is free at once, and what it was uploading is removed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test stops at the first surprise")]

use havun_model::{ProjectName, StoreName};
use havun_vault::store::{LocalRoot, LocalStore, ObjectName, Store, StoreError};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Set in the other process: the store's folder.
const FOLDER: &str = "HAVUN_TEST_STORE";
const A_DAY: Duration = Duration::from_secs(24 * 3600);

fn store(folder: &Path) -> LocalStore {
    LocalRoot::create(folder, &StoreName::new("hot").unwrap()).unwrap().vault(&ProjectName::new("shop").unwrap())
}

/// Runs `test` in another process, up to the line `ready`.
fn start(test: &str, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("ready")), "the other process ended early");
    child
}

/// In the other process: says that it is ready, and waits to be killed.
fn wait() {
    println!("ready");
    std::io::stdout().flush().unwrap();
    let _ended = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_process_frees_its_lease_and_its_upload_is_removed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let store = store(Path::new(&folder));
        let _lease = store.lease("the other process", false).unwrap();
        let mut upload = store.begin().unwrap();
        upload.write(b"half of an object").unwrap();
        return wait();
    }
    let folder = tempfile::tempdir().unwrap();
    let ours = store(folder.path());
    let mut other = start("a_killed_process_frees_its_lease_and_its_upload_is_removed", folder.path());
    let Err(StoreError::Locked { holder }) = ours.lease("us", false) else { panic!("two leases") };
    assert!(holder.contains("the other process") && holder.contains(&other.id().to_string()), "{holder}");
    assert_eq!(ours.remove_stale_uploads(Duration::ZERO).unwrap(), 0, "the other process lives");
    other.kill().unwrap();
    other.wait().unwrap();
    let lease = ours.lease("us", false).unwrap();
    assert_eq!(lease.fencing(), 2);
    assert_eq!(ours.remove_stale_uploads(A_DAY).unwrap(), 1, "it is dead for sure, however young its upload");
    assert_eq!(fs::read_dir(ours.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_lease_taken_by_force_stops_the_process_that_had_it() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let store = store(Path::new(&folder));
        let lease = store.lease("the other process", false).unwrap();
        wait();
        let outcome = lease.check();
        fs::write(Path::new(&folder).join("outcome"), format!("{outcome:?}")).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ours = store(folder.path());
    let mut other = start("a_lease_taken_by_force_stops_the_process_that_had_it", folder.path());
    let lease = ours.lease("us, by force", true).unwrap();
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    let outcome = fs::read_to_string(folder.path().join("outcome")).unwrap();
    assert!(outcome.contains("Fenced") && outcome.contains("us, by force"), "{outcome}");
    lease.check().unwrap();
    assert!(ours.list("").unwrap().is_empty() && ours.size(&ObjectName::new("a").unwrap()).unwrap().is_none());
}
