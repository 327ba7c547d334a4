//! A server whose disk is really full.

use crate::kit::{Place, Sshd, name, pack, pattern, sha, vault};
use havun_vault::store::{Published, Store, StoreError};
use std::fs;

#[test]
fn a_full_disk_is_told_with_what_is_free_and_leaves_nothing_of_the_object() {
    let place = Place::of(Sshd::start_on_a_disk_of("12m", &[]));
    let store = vault(&place.root());
    let kept = pattern(1, 3 << 20);
    store.put(&pack(&kept), &kept.as_slice(), &sha(&kept)).unwrap();
    // Larger than what is left: sent over one connection, and over several.
    for size in [14 << 20, 24 << 20] {
        let bytes = pattern(2, size);
        let error = store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap_err();
        assert!(matches!(error, StoreError::NoSpace { free: Some(_), .. }), "{error:?}");
        assert!(error.to_string().contains("the store is full (") && error.hint().is_some(), "{error}");
        assert_eq!(store.size(&pack(&bytes)).unwrap(), None);
        let left = place.sshd.inside(&place.sshd.store().join("shop/tmp"));
        assert_eq!(fs::read_dir(left).unwrap().count(), 0, "the space is given back");
    }
    let small = pattern(3, 5_000);
    assert_eq!(store.put(&name("index/a"), &small.as_slice(), &sha(&small)).unwrap(), Published::New);
    let mut found = vec![0; kept.len()];
    store.read_range(&pack(&kept), 0, &mut found).unwrap();
    assert!(found == kept);
}
