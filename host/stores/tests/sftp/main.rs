//! The SFTP store against a real OpenSSH server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod cost;
mod full;
mod kill;
#[path = "../sftp_kit/mod.rs"]
mod kit;
mod leases;
mod logins;
mod other_server;
mod put_once;
mod refusals;
mod resume;

use havun_stores::sftp::VerifyUploads;
use havun_vault::store::{Fault, FaultPlan, FaultStore, Published, RetryPolicy, RetryStore, Store, StoreError, conformance};
use kit::{Place, name, pack, pattern, sha, vault};
use std::time::Duration;

fn retried(store: &dyn Store) -> Vec<String> {
    let faulty = FaultStore::new(store, FaultPlan::every(7, Fault::Hang));
    let policy = RetryPolicy { attempts: 4, first_pause: Duration::ZERO, longest_pause: Duration::ZERO, replay_bytes: 1 << 24 };
    let problems = conformance::problems(&RetryStore::new(&faulty, policy, |_| ()));
    assert!(faulty.hits() > 10);
    problems
}

pub(crate) fn assert_conforms(store: &dyn Store) {
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

#[test]
fn everything_may_be_read_back_through_one_connection() {
    let place = Place::start(&[]);
    let root = place.root_with(|options| {
        options.connections = 1;
        options.verify = VerifyUploads::ReadBack;
    });
    assert_conforms(&vault(&root));
}

#[test]
fn a_caller_inside_another_runtime_may_wait() {
    let place = Place::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = vault(&place.root());
        let bytes = pattern(1, 300_000);
        assert_eq!(store.put(&name("a/b"), &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::New);
        assert_eq!(store.read(&name("a/b"), 300_000).unwrap(), bytes);
    });
}

#[test]
fn one_object_put_by_many_threads_at_once_is_put_once() {
    let place = Place::start(&[]);
    let store = vault(&place.root());
    let bytes = pattern(2, 3_000_000);
    let put = || store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap();
    let published: Vec<Published> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(put)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(published.iter().filter(|published| **published == Published::New).count(), 1);
    let mut found = vec![0; bytes.len()];
    store.read_range(&pack(&bytes), 0, &mut found).unwrap();
    assert!(found == bytes);
}

#[test]
fn a_large_range_comes_over_several_connections() {
    let place = Place::start(&[]);
    let store = vault(&place.root());
    let bytes = pattern(3, 20_000_003);
    store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap();
    let mut found = vec![0; 19_000_000];
    store.read_range(&pack(&bytes), 1_000_003, &mut found).unwrap();
    assert!(found == bytes[1_000_003..20_000_003]);
}

#[test]
fn bytes_of_another_hash_are_never_published_and_leave_nothing() {
    let place = Place::start(&[]);
    let store = vault(&place.root());
    for len in [100, 1_000_000] {
        let bytes = pattern(4, len);
        let put = store.put(&name("a"), &bytes.as_slice(), &sha(b"other"));
        assert!(matches!(put, Err(StoreError::Source { .. })), "{put:?}");
    }
    assert!(store.list("").unwrap().is_empty());
    let left = std::fs::read_dir(place.sshd.store().join("shop/tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn the_server_reckons_checksums_where_it_may_run_a_program() {
    let bytes = pattern(5, 100_000);
    let ask = |place: &Place| {
        let store = vault(&place.root_with(|options| options.path = format!("{}/it's a store", place.sshd.store().display())));
        store.put(&name("a/b"), &bytes.as_slice(), &sha(&bytes)).unwrap();
        store.server_sha256(&[name("a/b"), name("missing")]).unwrap()
    };
    assert_eq!(ask(&Place::start(&[])), Some(vec![Some(sha(&bytes)), None]));
    // A forced SFTP server answers every command; it must neither be believed nor waited for.
    assert_eq!(ask(&Place::start(&["ForceCommand internal-sftp"])), None);
}

#[test]
fn what_nobody_has_written_to_for_long_is_removed_and_the_rest_stays() {
    let place = Place::start(&[]);
    let store = vault(&place.root());
    store.put(&name("a"), &b"x".as_slice(), &sha(b"x")).unwrap();
    let tmp = place.sshd.store().join("shop/tmp");
    let (old, new) = (tmp.join(format!("put-{}", hex::encode(sha(b"old")))), tmp.join(format!("put-{}", hex::encode(sha(b"new")))));
    for path in [&old, &new] {
        std::fs::write(path, "half").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(48 * 3600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(store.remove_stale_uploads(Duration::from_secs(24 * 3600)).unwrap(), 1);
    assert!(!old.exists() && new.exists());
}

#[test]
fn vaults_are_found_again_and_free_space_is_known() {
    let place = Place::start(&[]);
    let root = place.root();
    assert!(root.vault_names().unwrap().is_empty());
    vault(&root).put(&name("vault.json"), &b"{}".as_slice(), &sha(b"{}")).unwrap();
    let blog = root.vault(&havun_model::ProjectName::new("blog").unwrap());
    blog.put(&name("snapshots/x"), &b"{}".as_slice(), &sha(b"{}")).unwrap();
    assert_eq!(root.vault_names().unwrap(), ["shop"]);
    assert!(blog.free_bytes().unwrap().unwrap() > 0);
}
