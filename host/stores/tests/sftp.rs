//! The SFTP store against a real OpenSSH server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod sftp_kit;

use havun_vault::store::{Fault, FaultPlan, FaultStore, RetryPolicy, RetryStore, Store, conformance};
use sftp_kit::{Place, vault};
use std::time::Duration;

fn retried(store: &dyn Store) -> Vec<String> {
    let faulty = FaultStore::new(store, FaultPlan::every(7, Fault::Hang));
    let policy = RetryPolicy { attempts: 4, first_pause: Duration::ZERO, longest_pause: Duration::ZERO, replay_bytes: 1 << 24 };
    let problems = conformance::problems(&RetryStore::new(&faulty, policy, |_| ()));
    assert!(faulty.hits() > 10);
    problems
}

fn assert_conforms(store: &dyn Store) {
    let problems = conformance::problems(store);
    assert!(problems.is_empty(), "{problems:#?}");
    let problems = retried(store);
    assert!(problems.is_empty(), "with faults: {problems:#?}");
}

#[test]
fn it_passes_the_conformance_suite() {
    let place = Place::start(&[]);
    assert_conforms(&vault(&place.root()));
}

#[test]
fn it_passes_on_a_server_that_is_locked_to_create_and_read() {
    let place = Place::locked();
    let root = place.root_with(|options| options.put_once = true);
    let store = vault(&root);
    assert!(!store.promises().removes && !store.promises().exclusive);
    assert_conforms(&store);
}
