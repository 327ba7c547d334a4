//! The committed guest was built from the source beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a failing test may panic")]

use sha2::{Digest, Sha256};
use std::{fs, path::Path};

#[test]
fn the_committed_guest_is_not_older_than_its_source() {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let lock = fs::read_to_string(guests.join("unruly.lock")).unwrap();
    for line in lock.lines() {
        let (sum, path) = line.split_once(' ').unwrap();
        let now = hex::encode(Sha256::digest(fs::read(guests.join("unruly").join(path)).unwrap()));
        assert_eq!(now, sum, "{path} has changed: run tests/guests/build.sh");
    }
}
