//! What a server refuses, cuts or lies about, and what the operator hears of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kit;

use havun_model::{ProjectName, StoreName};
use havun_stores::s3::{LockMode, S3Root};
use havun_vault::store::{Published, RetryPolicy, RetryStore, Store, StoreError};
use kit::{BASE, FakeRules, FakeS3, S3Server, fake_store, locked, name, options, pattern, prepared, put};
use std::time::Duration;

fn refusal(error: &StoreError, hint: &str) {
    let text = error.to_string();
    assert!(matches!(error, StoreError::Refused { .. }) && error.hint().unwrap().contains(hint), "{text}");
    assert!(!text.contains("the-very-secret") && !text.contains("X-Amz-Signature"), "{text}");
    assert!(!error.is_transient());
}

#[test]
fn a_wrong_bucket_is_named_and_never_an_empty_store() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    let root = S3Root::new(options(&server.endpoint(), "no-such-bucket", spool.path())).unwrap();
    refusal(&root.prepare(&StoreName::new("offsite").unwrap()).unwrap_err(), "bucket");
    let store = root.vault(&ProjectName::new("blog").unwrap());
    refusal(&store.size(&name("vault.json")).unwrap_err(), "bucket");
    refusal(&store.list("").unwrap_err(), "bucket");
    refusal(&put(&store, "a", b"x").unwrap_err(), "bucket");
    refusal(&store.lease("me", false).map(|_| ()).unwrap_err(), "bucket");
}

#[test]
fn a_prefix_of_another_store_is_refused_and_one_without_a_marker_is_no_store() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let root = S3Root::new(options(&fake.endpoint(), "bucket", spool.path())).unwrap();
    let store = root.vault(&ProjectName::new("blog").unwrap());
    assert!(matches!(put(&store, "a", b"x"), Err(StoreError::NoMarker { .. })));
    assert!(matches!(store.begin().map(|_| ()), Err(StoreError::NoMarker { .. })));
    root.prepare(&StoreName::new("offsite").unwrap()).unwrap();
    root.prepare(&StoreName::new("offsite").unwrap()).unwrap();
    let other = root.prepare(&StoreName::new("archive").unwrap()).unwrap_err();
    assert!(matches!(other, StoreError::WrongMarker { ref found, .. } if found == "offsite"), "{other}");
    assert_eq!(put(&store, "a", b"x").unwrap(), Published::New);
}

#[test]
fn a_wrong_secret_and_a_wrong_clock_say_what_to_do() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    fake.set(|rules| rules.refuses_signature = true);
    refusal(&store.read(&name("a"), 9).unwrap_err(), "secret");
    fake.set(|rules| rules.date = Some("Thu, 01 Jan 2015 10:00:00 GMT".to_owned()));
    let skewed = store.read(&name("a"), 9).unwrap_err();
    refusal(&skewed, "clock");
    assert!(skewed.to_string().contains("2015-01-01 10:00:00 UTC on the server"), "{skewed}");
    refusal(&store.size(&name("a")).unwrap_err(), "clock");
}

#[test]
fn a_busy_server_is_asked_again() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    fake.set(|rules| rules.slow_down = 1);
    assert!(put(&store, "a", b"x").unwrap_err().is_transient());
    fake.set(|rules| rules.slow_down = 3);
    let patient = RetryStore::new(store, RetryPolicy::default(), |_: Duration| ());
    assert_eq!(put(&patient, "a", b"x").unwrap(), Published::New);
}

#[test]
fn nobody_listens_or_the_host_is_unknown() {
    let spool = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for endpoint in [format!("http://127.0.0.1:{port}"), "http://no-such-host.invalid".to_owned()] {
        let root = S3Root::new(options(&endpoint, "bucket", spool.path())).unwrap();
        let error = root.prepare(&StoreName::new("offsite").unwrap()).unwrap_err();
        assert!(error.is_transient() && !error.to_string().contains("X-Amz"), "{error}");
    }
}

#[test]
fn a_quota_reached_in_the_middle_leaves_no_short_object() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    fake.set(|rules| rules.quota = Some(6 << 20));
    assert_eq!(put(&store, "small", &pattern(1000)).unwrap(), Published::New);
    assert!(matches!(put(&store, "in-parts", &pattern(7 << 20)), Err(StoreError::NoSpace { .. })));
    assert_eq!(put(&store, "fits", &pattern(4 << 20)).unwrap(), Published::New);
    assert!(matches!(put(&store, "whole", &pattern(3 << 20)), Err(StoreError::NoSpace { .. })));
    assert_eq!(fake.unfinished(), 0, "what was sent in parts is given back");
    let names: Vec<_> = store.list("").unwrap().into_iter().map(|object| object.name).collect();
    assert_eq!(names, [name("fits"), name("small")]);
}

#[test]
fn a_server_that_lies_about_what_it_wrote_is_found_out() {
    let (fake, spool) = (FakeS3::start(FakeRules { lies_about_size: true, ..FakeRules::default() }), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    assert!(matches!(put(&store, "a", b"0123456789"), Err(StoreError::ReadBack { .. })));
    assert!(matches!(put(&store, "b", &pattern(6 << 20)), Err(StoreError::ReadBack { .. })));
}

#[test]
fn wrong_bytes_never_get_the_name() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    for size in [10, 11 << 20] {
        let result = store.put(&name("a"), &pattern(size).as_slice(), &[1; 32]);
        assert!(matches!(result, Err(StoreError::Source { .. })), "{result:?}");
        assert!(fake.versions(&format!("{BASE}/a")).is_empty() && fake.unfinished() == 0);
    }
}

#[test]
fn without_conditions_it_looks_first_and_promises_less() {
    let (fake, spool) = (FakeS3::start(FakeRules { conditions: false, ..FakeRules::default() }), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    assert_eq!(put(&store, "a", b"one").unwrap(), Published::New);
    assert_eq!(put(&store, "a", b"one").unwrap(), Published::AlreadyThere);
    assert!(matches!(put(&store, "a", b"two"), Err(StoreError::Conflict { .. })));
    assert_eq!(fake.versions(&format!("{BASE}/a")), [b"one"]);
    assert!(!store.promises().no_overwrite && !store.promises().exclusive);
    assert!(store.notes().iter().any(|note| note.contains("If-None-Match")));
    let lease = store.lease("first", false).unwrap();
    assert!(matches!(store.lease("second", false).map(|_| ()), Err(StoreError::Locked { .. })));
    let forced = store.lease("third", true).unwrap();
    assert!(matches!(lease.check(), Err(StoreError::Fenced { .. })) && forced.check().is_ok());
}

#[test]
fn a_lock_that_the_server_forgets_or_shortens_is_an_error() {
    let forgets = FakeRules { forgets_locks: true, ..FakeRules::default() };
    let shortens = FakeRules { longest_lock: Some("2027-01-01T00:00:00Z".to_owned()), ..FakeRules::default() };
    for (rules, found) in [(forgets, "no lock"), (shortens, "2027-01-01")] {
        let (fake, spool) = (FakeS3::start(rules), tempfile::tempdir().unwrap());
        let (_root, store) = prepared(locked(LockMode::Compliance, options(&fake.endpoint(), "bucket", spool.path())));
        let error = put(&store, "a", b"x").unwrap_err();
        assert!(matches!(error, StoreError::NotLocked { .. }) && error.to_string().contains(found), "{error}");
    }
}

#[test]
fn a_lock_that_did_not_come_with_the_object_is_set_by_itself() {
    let (fake, spool) = (FakeS3::start(FakeRules { forgets_first_lock: true, ..FakeRules::default() }), tempfile::tempdir().unwrap());
    let (_root, store) = prepared(locked(LockMode::Compliance, options(&fake.endpoint(), "bucket", spool.path())));
    assert_eq!(put(&store, "a", b"x").unwrap(), Published::New);
    assert_eq!(fake.log().iter().filter(|line| line.contains("retention")).count(), 1);
}

#[test]
fn a_late_error_is_tried_again_and_its_parts_are_kept() {
    let (fake, spool) = (FakeS3::start(FakeRules { late_error: true, ..FakeRules::default() }), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    let bytes = pattern(11 << 20);
    assert!(put(&store, "a", &bytes).unwrap_err().is_transient());
    assert!(fake.versions(&format!("{BASE}/a")).is_empty());
    fake.set(|rules| rules.late_error = false);
    let before = fake.log().len();
    assert_eq!(put(&store, "a", &bytes).unwrap(), Published::New);
    let sent = fake.log()[before..].iter().filter(|line| line.contains("partNumber")).count();
    assert_eq!((sent, fake.versions(&format!("{BASE}/a"))), (0, vec![bytes]));
}
