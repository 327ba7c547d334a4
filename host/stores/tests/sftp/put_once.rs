//! A server that lets us create and read, and nothing else.

use crate::kit::{Place, Relay, name, pack, pattern, sha, vault};
use havun_vault::store::{MARKER, Published, Source, Store, StoreError};
use std::{fs, sync::Arc, time::Duration};

struct Cutting<'b> {
    bytes: &'b [u8],
    relay: Arc<Relay>,
    reads: std::sync::atomic::AtomicU32,
}

impl Source for Cutting<'_> {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        // The first time it is hashed, the second time it is sent.
        let again = offset > 0 && self.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 5;
        if again && offset >= 20 << 20 {
            self.relay.cut();
        }
        self.bytes.read_at(offset, buf)
    }
}

#[test]
fn a_cut_upload_is_followed_by_another_attempt_which_alone_is_shown() {
    let place = Place::locked();
    let relay = Arc::new(Relay::start(place.sshd.port(), Duration::from_millis(2)));
    let root = place.root_with(|options| {
        options.port = relay.port();
        options.put_once = true;
    });
    let store = vault(&root);
    let bytes = pattern(1, 24 << 20);
    let cut = Cutting { bytes: &bytes, relay: Arc::clone(&relay), reads: 0.into() };
    let put = store.put(&pack(&bytes), &cut, &sha(&bytes));
    assert!(matches!(put, Err(StoreError::Unreachable { .. })), "{put:?}");
    relay.mend();
    assert_eq!(store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::New);
    assert_eq!(store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::AlreadyThere);
    let listed = store.list("").unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].name, listed[0].size), (&pack(&bytes), bytes.len() as u64));
    let mut found = vec![0; bytes.len()];
    store.read_range(&pack(&bytes), 0, &mut found).unwrap();
    assert!(found == bytes);
    let mut files: Vec<String> =
        fs::read_dir(place.sshd.store()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files[0] == MARKER && files[1].starts_with("shop+epochs+2026+packs+") && files[2] == format!("{}+again-1", files[1]));
}

#[test]
fn another_object_of_the_same_name_is_a_conflict_and_a_beginning_is_not() {
    let place = Place::locked();
    let store = vault(&place.root_with(|options| options.put_once = true));
    let put = |bytes: &[u8]| store.put(&name("snapshots/a"), &bytes, &sha(bytes));
    assert_eq!(put(b"begin").unwrap(), Published::New);
    for other in [b"other".as_slice(), b"shor", b"something longer"] {
        assert!(matches!(put(other), Err(StoreError::Conflict { .. })), "{other:?}");
    }
    assert_eq!(put(b"beginning").unwrap(), Published::New, "what was cut off is completed beside it");
    assert_eq!(store.read(&name("snapshots/a"), 100).unwrap(), b"beginning");
}

#[test]
fn nothing_is_removed_and_two_writers_of_this_machine_exclude_each_other() {
    let place = Place::locked();
    let root = place.root_with(|options| options.put_once = true);
    let store = vault(&root);
    store.put(&name("vault.json"), &b"{}".as_slice(), &sha(b"{}")).unwrap();
    assert!(matches!(store.remove(&name("vault.json")), Err(StoreError::Refused { .. })));
    store.remove(&name("missing")).unwrap();
    assert_eq!(root.vault_names().unwrap(), ["shop"]);
    let mut options = place.options();
    options.put_once = true;
    let other = vault(&havun_stores::sftp::SftpRoot::new(options).unwrap());
    let _lease = store.lease("first", false).unwrap();
    assert!(matches!(other.lease("second", false).map(drop), Err(StoreError::Locked { .. })));
    assert!(store.notes().iter().any(|note| note.contains("nobody can remove")));
}
