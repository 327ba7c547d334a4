//! What the tests of several modules need.

use sha2::{Digest as _, Sha256};

/// Bytes that look random and are always the same: SHA-256 of a counter, 64 bits little endian.
pub fn stream(len: usize) -> Vec<u8> {
    stream_from(0, len)
}

/// Likewise, from another place of the counter.
pub fn stream_from(start: u64, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (start..).take(len.div_ceil(32)).flat_map(|n| Sha256::digest(n.to_le_bytes())).collect();
    bytes.truncate(len);
    bytes
}

/// SHA-256 in hex.
pub fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
