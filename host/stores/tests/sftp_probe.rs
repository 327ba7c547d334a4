//! `store check` on real SSH servers: a plain one that stops nobody, and one that is locked to create and read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod sftp_kit;

use havun_vault::store::{
    Tamper,
    probe::{Enforcement, Level, StoreCheck, StoreCheckOptions, store_check},
};
use sftp_kit::{CREATE_AND_READ, PLAIN_USER, Place, Sshd, vault};
use std::time::Instant;

fn check(store: &dyn havun_vault::store::Store) -> StoreCheck {
    let begun = Instant::now();
    let options = StoreCheckOptions { conformance: false, measure_bytes: 1 << 20, ..StoreCheckOptions::default() };
    store_check(store, options, &|| begun.elapsed(), &|_| ()).unwrap()
}

#[test]
fn a_plain_server_protects_by_convention_and_is_clean_afterwards() {
    let place = Place::start(&[]);
    let found = check(&vault(&place.root()));
    assert!(found.passed() && found.leftovers.is_empty(), "{found:#?}");
    assert_eq!(found.level, Level::ByConvention);
    for attempt in &found.enforcement {
        let expected = if attempt.attempt == Tamper::ShortenLock { Enforcement::NotTried } else { Enforcement::Convention };
        assert_eq!(attempt.outcome, expected, "{attempt:?}");
    }
}

#[test]
fn a_server_that_is_locked_to_create_and_read_is_enforcing() {
    let place = Place::locked();
    let root = place.root_with(|options| options.put_once = true);
    let found = check(&vault(&root));
    assert!(found.passed(), "{found:#?}");
    // File modes stop nobody who logs in as root, as a test that runs as root does: then that is what the check says.
    let writes = [Tamper::Overwrite, Tamper::Truncate, Tamper::Append];
    let is_root = rustix::process::geteuid().is_root();
    for attempt in found.enforcement.iter().filter(|attempt| attempt.attempt != Tamper::ShortenLock) {
        let gets_past = is_root && writes.contains(&attempt.attempt);
        let expected = if gets_past { Enforcement::Convention } else { Enforcement::Enforced };
        assert_eq!(attempt.outcome, expected, "{attempt:?}");
    }
    assert_eq!(found.level, if is_root { Level::ByConvention } else { Level::EnforcedByServer });
    assert!(found.leftovers.len() > 5, "what was put once stays, and is said: {found:#?}");
}

#[test]
fn to_an_ordinary_user_such_a_server_enforces_everything() {
    let place = Place::of(Sshd::start_for_a_plain_user(&[CREATE_AND_READ]));
    let root = place.root_with(|options| {
        options.put_once = true;
        options.user = PLAIN_USER.0.to_owned();
    });
    let found = check(&vault(&root));
    assert!(found.passed(), "{found:#?}");
    for attempt in found.enforcement.iter().filter(|attempt| attempt.attempt != Tamper::ShortenLock) {
        assert_eq!(attempt.outcome, Enforcement::Enforced, "{attempt:?}");
    }
    assert_eq!(found.level, Level::EnforcedByServer);
}
