//! What an operation costs in round trips, which is what it costs in time on a long link.

use crate::kit::{Place, name, pack, pattern, sha, vault};
use havun_vault::store::Store;

#[test]
fn a_small_durable_object_takes_three_round_trips() {
    let place = Place::start(&[]);
    let root = place.root();
    let store = vault(&root);
    store.put(&name("index/first"), &b"x".as_slice(), &sha(b"x")).unwrap();
    let before = root.round_trips();
    let bytes = pattern(1, 40_000);
    store.put(&name("index/second"), &bytes.as_slice(), &sha(&bytes)).unwrap();
    assert_eq!(root.round_trips() - before, 3);
}

#[test]
fn a_large_object_takes_one_for_all_its_bytes() {
    let place = Place::start(&["ForceCommand internal-sftp"]);
    let root = place.root();
    let store = vault(&root);
    // Open, bytes, fsync and name; of the first object the vault's folders, of each the folder of its own.
    for (seed, most) in [(1, 12), (2, 6)] {
        let before = root.round_trips();
        let bytes = pattern(seed, 5_000_000);
        store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap();
        let took = root.round_trips() - before;
        assert!(took <= most, "{took}");
    }
}

#[test]
fn a_lease_takes_two_to_have_one_to_check_and_two_to_give_back() {
    let place = Place::start(&[]);
    let root = place.root();
    let store = vault(&root);
    drop(store.lease("first", false).unwrap());
    let before = root.round_trips();
    let lease = store.lease("second", false).unwrap();
    let taken = root.round_trips();
    lease.check().unwrap();
    let checked = root.round_trips();
    drop(lease);
    assert!(taken - before <= 3, "{}", taken - before);
    assert_eq!((checked - taken, root.round_trips() - checked), (1, 2));
}

#[test]
fn reading_takes_two() {
    let place = Place::start(&[]);
    let root = place.root();
    let store = vault(&root);
    let bytes = pattern(3, 2_000_000);
    store.put(&name("a"), &bytes.as_slice(), &sha(&bytes)).unwrap();
    let before = root.round_trips();
    assert!(store.read(&name("a"), 2_000_000).unwrap() == bytes);
    let mut part = vec![0; 1_500_000];
    store.read_range(&name("a"), 100_000, &mut part).unwrap();
    assert_eq!(root.round_trips() - before, 4);
}

#[test]
fn going_through_a_large_object_in_pieces_brings_many_of_them_at_once() {
    let place = Place::start(&[]);
    let root = place.root();
    let bytes = pattern(4, 30 << 20);
    vault(&root).put(&name("a"), &bytes.as_slice(), &sha(&bytes)).unwrap();
    let (store, before) = (vault(&root), root.round_trips());
    let mut piece = vec![0; 1 << 20];
    for (at, expected) in (0_u64..).step_by(1 << 20).zip(bytes.chunks(1 << 20)) {
        store.read_range(&name("a"), at, &mut piece).unwrap();
        assert!(piece == expected, "{at}");
    }
    let took = root.round_trips() - before;
    // Sixty for pieces that are fetched one by one.
    assert!(took < 30, "{took}");
}
