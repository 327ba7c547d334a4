//! Large objects: sent in parts, resumed, compared; and how many requests everything takes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kit;

use havun_stores::s3::S3Options;
use havun_vault::store::{Published, Store, StoreError};
use kit::{BASE, FakeRules, FakeS3, S3Server, fake_store, name, options, pattern, prepared, put};
use std::time::Duration;

#[test]
fn an_object_in_parts_reads_back_and_is_recognised() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("parts", false);
    let (_root, store) = prepared(options(&server.endpoint(), "parts", spool.path()));
    let bytes = pattern((17 << 20) + 5);
    assert_eq!(put(&store, "large", &bytes).unwrap(), Published::New);
    assert!(store.read(&name("large"), 1 << 30).unwrap() == bytes);
    let mut part = vec![0; 3 << 20];
    store.read_range(&name("large"), (4 << 20) + 1, &mut part).unwrap();
    assert!(part == bytes[(4 << 20) + 1..(7 << 20) + 1]);
    assert_eq!(put(&store, "large", &bytes).unwrap(), Published::AlreadyThere);
    let mut other = bytes;
    other[9_000_000] ^= 1;
    assert!(matches!(put(&store, "large", &other), Err(StoreError::Conflict { .. })));
    assert_eq!(store.remove_stale_uploads(Duration::ZERO).unwrap(), 0, "nothing is left unfinished");
}

#[test]
fn a_cut_upload_is_resumed_by_the_next_process() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let bytes = pattern(51 << 20);
    let (_root, store) = fake_store(&fake, spool.path());
    fake.set(|rules| rules.parts_before_cut = Some(7));
    assert!(put(&store, "large", &bytes).unwrap_err().is_transient());
    assert!(store.size(&name("large")).unwrap().is_none(), "no short object under the name");
    assert_eq!(fake.unfinished(), 1);
    drop(store);
    fake.set(|rules| rules.parts_before_cut = None);
    // Another process: nothing of the first is left but its files.
    let (_root, store) = fake_store(&fake, spool.path());
    let before = fake.log().len();
    assert_eq!(put(&store, "large", &bytes).unwrap(), Published::New);
    let sent = fake.log()[before..].iter().filter(|line| line.contains("partNumber")).count();
    assert!(sent <= 11 - 7 + 3, "{sent} of 11 parts were sent again");
    assert!(fake.versions(&format!("{BASE}/large")) == [bytes] && fake.unfinished() == 0);
}

#[test]
fn parts_of_other_bytes_are_not_taken_for_ours() {
    let (fake, spool) = (FakeS3::start(FakeRules { parts_before_cut: Some(2), ..FakeRules::default() }), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    let bytes = pattern(21 << 20);
    assert!(put(&store, "large", &bytes).is_err());
    fake.set(|rules| rules.parts_before_cut = None);
    let mut other = bytes;
    other[0] ^= 1;
    assert_eq!(put(&store, "large", &other).unwrap(), Published::New);
    assert!(fake.versions(&format!("{BASE}/large")) == [other]);
}

#[test]
fn an_upload_that_nobody_finishes_is_aborted_with_age() {
    let (fake, spool) = (FakeS3::start(FakeRules { parts_before_cut: Some(1), ..FakeRules::default() }), tempfile::tempdir().unwrap());
    let (_root, store) = fake_store(&fake, spool.path());
    assert!(put(&store, "large", &pattern(21 << 20)).is_err());
    assert_eq!(store.remove_stale_uploads(Duration::from_secs(100 * 365 * 86_400)).unwrap(), 0);
    assert_eq!((store.remove_stale_uploads(Duration::from_secs(86_400)).unwrap(), fake.unfinished()), (1, 0));
    fake.set(|rules| rules.parts_before_cut = None);
    assert_eq!(put(&store, "large", &pattern(21 << 20)).unwrap(), Published::New, "the record of it does no harm");
}

#[test]
fn every_step_takes_few_requests() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    drop(fake_store(&fake, spool.path()));
    let (root, store) = fake_store(&fake, spool.path());
    put(&store, "first", b"x").unwrap();
    let requests = |what: &dyn Fn()| {
        let before = root.round_trips();
        what();
        root.round_trips() - before
    };
    assert_eq!(requests(&|| assert_eq!(put(&store, "a", b"y").unwrap(), Published::New)), 2, "PUT and HEAD");
    assert_eq!(requests(&|| drop(store.read(&name("a"), 9).unwrap())), 1);
    assert_eq!(requests(&|| assert_eq!(store.size(&name("a")).unwrap(), Some(1))), 1);
    assert_eq!(requests(&|| drop(store.lease("me", false).unwrap())), 3, "looked at, taken and given back");
    assert_eq!(requests(&|| assert_eq!(put(&store, "large", &pattern(11 << 20)).unwrap(), Published::New)), 1 + 3 + 1 + 1);
}

#[test]
fn a_server_has_checksums_of_what_came_whole_only() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("sums", false);
    let (_root, store) = prepared(options(&server.endpoint(), "sums", spool.path()));
    put(&store, "a", b"abc").unwrap();
    let sums = store.server_sha256(&[name("a"), name("none")]).unwrap();
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    if let Some(sums) = sums {
        assert_eq!((sums[0].map(hex::encode).as_deref(), sums[1]), (Some(expected), None));
    }
    put(&store, "large", &pattern(11 << 20)).unwrap();
    assert_eq!(store.server_sha256(&[name("a"), name("large")]).unwrap(), None);
}

#[test]
fn what_cannot_be_an_address_is_refused_before_anything_is_sent() {
    let spool = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut S3Options)| {
        let mut options = options("http://127.0.0.1:1", "bucket", spool.path());
        change(&mut options);
        havun_stores::s3::S3Root::new(options).err().unwrap().to_string()
    };
    refused(|o| o.endpoint = "nbg1.example.com".to_owned());
    refused(|o| o.endpoint = "ftp://nbg1.example.com".to_owned());
    refused(|o| o.bucket = String::new());
    refused(|o| o.prefix = "../x".to_owned());
    assert!(!refused(|o| o.endpoint = "https://me:hidden@example.com".to_owned()).contains("hidden"));
}
