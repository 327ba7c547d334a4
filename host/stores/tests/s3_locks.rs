//! Object lock and versions: dates read back, refusals shown, delete markers and foreign versions seen through.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kit;

use havun_stores::s3::{LockMode, S3Root};
use havun_vault::store::{Listed, Published, Store, StoreError};
use kit::{BASE, FakeRules, FakeS3, S3Server, UNTIL, locked, name, options, pattern, prepared, put};

#[test]
fn a_lock_is_read_back_with_its_date_and_the_version_is_kept() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("dates", true);
    let (root, store) = prepared(locked(LockMode::Compliance, options(&server.endpoint(), "dates", spool.path())));
    put(&store, "a", b"whole").unwrap();
    // moto ignores the lock of a multipart upload: it is set afterwards by itself.
    put(&store, "large", &pattern(11 << 20)).unwrap();
    for at in ["a", "large"] {
        let answer = server.ask("HEAD", &format!("/dates/{BASE}/{at}"), "", "").unwrap().to_lowercase();
        assert!(answer.contains("x-amz-object-lock-mode: compliance"), "{answer}");
        assert!(answer.contains("x-amz-object-lock-retain-until-date: 2033-12-31t23:59:59"), "{answer}");
    }
    let versions = root.versions();
    assert_eq!(
        versions.iter().map(|version| version.place.as_str()).collect::<Vec<_>>(),
        ["s3://dates/backups/blog/a", "s3://dates/backups/blog/large"]
    );
    assert!(versions.iter().all(|version| version.until == UNTIL && version.version.len() > 8));
}

/// A thief with rights of his own hides objects and puts others in their place.
fn attacked(bucket: &str, server: &S3Server, spool: &std::path::Path) -> S3Root {
    server.make_bucket(bucket, true);
    let (root, store) = prepared(locked(LockMode::Governance, options(&server.endpoint(), bucket, spool)));
    put(&store, "hidden", b"ours").unwrap();
    put(&store, "replaced", b"ours").unwrap();
    let answer = server.ask("DELETE", &format!("/{bucket}/{BASE}/hidden"), "", "").unwrap();
    assert!(answer.contains("HTTP/1.1 204"), "{answer}");
    let answer = server.ask("PUT", &format!("/{bucket}/{BASE}/replaced"), "", "not ours").unwrap();
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    root
}

fn sees_ours(store: &dyn Store) {
    for at in ["hidden", "replaced"] {
        assert_eq!(store.size(&name(at)).unwrap(), Some(4), "{at}");
        assert_eq!(store.read(&name(at), 9).unwrap(), b"ours", "{at}");
        let mut part = [0; 2];
        store.read_range(&name(at), 1, &mut part).unwrap();
        assert_eq!(&part, b"ur", "{at}");
    }
    let expected = ["hidden", "replaced"].map(|at| Listed { name: name(at), size: 4 });
    assert_eq!(store.list("").unwrap(), expected);
}

#[test]
fn delete_markers_and_foreign_versions_are_seen_through() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    let root = attacked("markers", &server, spool.path());
    let project = havun_model::ProjectName::new("blog").unwrap();
    sees_ours(&root.vault(&project));
    // A bare machine knows no version ids.
    let bare = tempfile::tempdir().unwrap();
    let again = S3Root::new(locked(LockMode::Governance, options(&server.endpoint(), "markers", bare.path()))).unwrap();
    sees_ours(&again.vault(&project));
    let listed_first = S3Root::new(locked(LockMode::Governance, options(&server.endpoint(), "markers", bare.path()))).unwrap();
    let store = listed_first.vault(&project);
    store.list("").unwrap();
    sees_ours(&store);
}

#[test]
fn a_removal_shows_the_refusal_and_changes_nothing() {
    let (server, spool) = (S3Server::shared(), tempfile::tempdir().unwrap());
    server.make_bucket("refuses", true);
    let (_root, store) = prepared(locked(LockMode::Compliance, options(&server.endpoint(), "refuses", spool.path())));
    put(&store, "a", b"whole").unwrap();
    let error = store.remove(&name("a")).unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert_eq!(store.read(&name("a"), 9).unwrap(), b"whole");
    store.remove(&name("never-there")).unwrap();
}

#[test]
fn vaults_are_found_by_their_first_object_even_beneath_a_marker() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let (root, store) = prepared(locked(LockMode::Compliance, options(&fake.endpoint(), "bucket", spool.path())));
    assert_eq!(put(&store, "vault.json", b"{}").unwrap(), Published::New);
    put(&root.vault(&havun_model::ProjectName::new("empty").unwrap()), "other", b"x").unwrap();
    assert_eq!(root.vault_names().unwrap(), ["blog"]);
    let (plain, _) = kit::fake_store(&fake, spool.path());
    assert_eq!(plain.vault_names().unwrap(), ["blog"]);
}

#[test]
fn a_lease_of_a_dead_process_is_taken_over_and_numbers_grow() {
    let (fake, spool) = (FakeS3::start(FakeRules::default()), tempfile::tempdir().unwrap());
    let (_root, store) = kit::fake_store(&fake, spool.path());
    let first = store.lease("first", false).unwrap();
    let Err(StoreError::Locked { holder }) = store.lease("second", false) else { panic!("two leases") };
    assert!(holder.contains("first (process ") && holder.contains("on backup-host, since 2"), "{holder}");
    std::mem::forget(first);
    // The process of the record is gone: its start time is another one.
    let record = fake.versions(
        &fake.log().iter().rev().find_map(|line| line.strip_prefix("PUT bucket/").map(|key| key.trim_end_matches('?').to_owned())).unwrap(),
    );
    let mut dead: serde_json::Value = serde_json::from_slice(&record[0]).unwrap();
    let mut parts: Vec<String> = dead["session"].as_str().unwrap().split('-').map(str::to_owned).collect();
    parts[4] = "1".to_owned();
    dead["session"] = parts.join("-").into();
    dead["fencing"] = 2.into();
    put_raw(&fake, &format!("{BASE}/lease/{:020}", u64::MAX - 2), &dead.to_string());
    let next = store.lease("third", false).unwrap();
    assert_eq!(next.fencing(), 3);
    for number in 4..40 {
        drop(store.lease("again", true).unwrap());
        assert!(store.list("").unwrap().is_empty(), "{number}");
    }
    assert!(matches!(next.check(), Err(StoreError::Fenced { .. })));
}

fn put_raw(fake: &FakeS3, key: &str, text: &str) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(fake.endpoint().trim_start_matches("http://")).unwrap();
    write!(stream, "PUT /bucket/{key} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{text}", text.len()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
