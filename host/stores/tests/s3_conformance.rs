//! The S3 store against a real server process: the conformance suite, plain, locked and under faults.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kit;

use havun_stores::s3::LockMode;
use havun_vault::store::{Fault, FaultPlan, FaultStore, RetryPolicy, RetryStore, Store, conformance};
use kit::{S3Server, locked, options, prepared};
use std::time::Duration;

fn retry() -> RetryPolicy {
    RetryPolicy { attempts: 4, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(5), replay_bytes: 1 << 24 }
}

#[test]
fn a_plain_bucket_passes() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("plain", false);
    let (_root, store) = prepared(options(&server.endpoint(), "plain", spool.path()));
    let problems = conformance::problems(&store);
    assert!(problems.is_empty(), "{problems:#?}");
    let promises = store.promises();
    assert!(promises.no_overwrite && promises.exclusive && promises.removes);
    let left: Vec<_> = std::fs::read_dir(spool.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with("conditional-")), "{left:?}");
}

#[test]
fn a_locked_bucket_passes_and_removes_nothing() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("locked", true);
    let (root, store) = prepared(locked(LockMode::Compliance, options(&server.endpoint(), "locked", spool.path())));
    let problems = conformance::problems(&store);
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(!store.promises().removes);
    assert!(root.versions().iter().all(|version| version.until == kit::UNTIL));
    assert!(root.versions().len() > 10);
}

#[test]
fn it_passes_while_every_seventh_call_hangs() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("faulty", false);
    let (_root, store) = prepared(options(&server.endpoint(), "faulty", spool.path()));
    let faulty = FaultStore::new(store, FaultPlan::every(7, Fault::Hang));
    let problems = conformance::problems(&RetryStore::new(&faulty, retry(), |_| ()));
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(faulty.hits() > 10);
}

#[test]
fn a_locked_one_passes_while_every_seventh_call_hangs() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("faulty-locked", true);
    let (_root, store) = prepared(locked(LockMode::Governance, options(&server.endpoint(), "faulty-locked", spool.path())));
    let faulty = FaultStore::new(store, FaultPlan::every(7, Fault::Hang));
    let problems = conformance::problems(&RetryStore::new(&faulty, retry(), |_| ()));
    assert!(problems.is_empty(), "{problems:#?}");
}
