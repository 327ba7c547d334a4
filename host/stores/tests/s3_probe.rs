//! `store check` on S3: honest about a server that enforces less than it says, and about one that enforces everything.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kit;

use havun_stores::s3::LockMode;
use havun_vault::store::{
    Tamper,
    probe::{Enforcement, Level, StoreCheck, StoreCheckOptions, store_check},
};
use kit::{FakeRules, FakeS3, S3Server, fake_store, locked, options, prepared};
use std::time::Instant;

fn check(store: &dyn havun_vault::store::Store) -> StoreCheck {
    let begun = Instant::now();
    let options = StoreCheckOptions { measure_bytes: 1 << 20, ..StoreCheckOptions::default() };
    store_check(store, options, &|| begun.elapsed(), &|_| ()).unwrap()
}

fn outcome(check: &StoreCheck, tamper: Tamper) -> Enforcement {
    check.enforcement.iter().find(|attempt| attempt.attempt == tamper).unwrap().outcome
}

#[test]
fn a_plain_bucket_protects_by_convention_and_is_clean_afterwards() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("check-plain", false);
    let (_root, store) = prepared(options(&server.endpoint(), "check-plain", spool.path()));
    let found = check(&store);
    assert!(found.passed() && found.leftovers.is_empty(), "{found:#?}");
    assert_eq!(found.level, Level::ByConvention);
    assert_eq!(outcome(&found, Tamper::Delete), Enforcement::Convention);
    assert_eq!(outcome(&found, Tamper::Rename), Enforcement::NotTried);
    assert!(found.measured.unwrap().up_bytes_per_sec > 0 && found.measured.unwrap().latency_millis > 0.0);
    store.forget_leases().unwrap();
    let answer = server.ask("GET", "/check-plain?list-type=2", "", "").unwrap();
    assert_eq!(answer.matches("<Key>").count(), 1, "the marker alone is left: {answer}");
}

#[test]
fn a_server_that_lets_a_lock_be_shortened_is_not_called_enforcing() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("check-moto", true);
    let (_root, store) = prepared(locked(LockMode::Compliance, options(&server.endpoint(), "check-moto", spool.path())));
    let found = check(&store);
    assert!(found.passed(), "{found:#?}");
    assert_eq!(outcome(&found, Tamper::Delete), Enforcement::Enforced);
    assert_eq!(outcome(&found, Tamper::Overwrite), Enforcement::Enforced, "the older version is read");
    assert_eq!(outcome(&found, Tamper::ShortenLock), Enforcement::Convention, "moto allows it");
    assert_eq!(found.level, Level::ByConvention);
    assert!(found.leftovers.len() > 20, "what is locked stays, and is said");
    assert!(found.leftovers.iter().all(|name| name.starts_with("conformance-") || name.starts_with("probe-")));
}

#[test]
fn a_server_that_refuses_everything_is_enforcing() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let (_root, store) = prepared(locked(LockMode::Compliance, options(&fake.endpoint(), "bucket", spool.path())));
    let found = check(&store);
    assert!(found.passed(), "{found:#?}");
    assert_eq!(found.level, Level::EnforcedByServer, "{found:#?}");
    let shortened = found.enforcement.iter().find(|attempt| attempt.attempt == Tamper::ShortenLock).unwrap();
    assert!(shortened.outcome == Enforcement::Enforced && shortened.said.contains("object lock"), "{shortened:?}");
}

#[test]
fn a_policy_that_refuses_is_enforcing_without_a_lock() {
    let rules = FakeRules { write_once: Some("backups/blog/probe-".to_owned()), ..FakeRules::default() };
    let (fake, spool) = (FakeS3::start(rules), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    let found = check(&store);
    assert_eq!((found.level, outcome(&found, Tamper::Overwrite)), (Level::EnforcedByServer, Enforcement::Enforced), "{found:#?}");
    assert!(!found.leftovers.is_empty() && found.leftovers.iter().all(|name| name.starts_with("probe-")));
}

#[test]
fn a_server_without_conditions_protects_nothing() {
    let (fake, spool) = (FakeS3::start(FakeRules { conditions: false, ..FakeRules::default() }), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    assert_eq!(check(&store).level, Level::None);
}
