//! Bytes of the cache: a magic number, then blocks of a length (u32 LE), the SHA-256 of the payload and the payload.
//! The first payload is the key; an empty one ends the file.
//!
//! A row: bytes shared with the path before (in the same block), suffix length, suffix, flags, then what the flags
//! leave to say. Integers are LEB128, seconds zigzag; nanoseconds and the link hash have fixed widths.

use super::{StateKey, StateRow};
use crate::{entry::Time, manifest::Position};
use sha2::{Digest as _, Sha256};

pub(super) const MAGIC: &[u8; 8] = b"HBSTATE1";
/// A block is closed when it holds this many bytes.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// No reader accepts a longer block: a path may be long, but not that long.
pub(super) const MAX_BLOCK_BYTES: usize = 1 << 20;
/// Length and SHA-256.
pub(super) const BLOCK_HEAD: usize = 36;

const LINKED: u8 = 1;
const CTIME_IS_MTIME: u8 = 2;
const NEXT_LINE: u8 = 4;

pub(super) fn encode_key(key: &StateKey) -> Vec<u8> {
    let mut out = key.manifest.as_bytes().to_vec();
    out.extend_from_slice(&key.plan);
    out.extend_from_slice(key.vault_id.as_bytes());
    out
}

pub(super) fn block(payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&Sha256::digest(payload));
    out.extend_from_slice(payload);
}

/// What a row is written against: the one before it in the block.
#[derive(Default)]
pub(super) struct Before {
    pub path: Vec<u8>,
    next: Option<Position>,
}

impl Before {
    pub fn reset(&mut self) {
        self.path.clear();
        self.next = None;
    }

    fn follow(&mut self, position: Position) {
        self.next = position.index.checked_add(1).map(|index| Position { index, ..position });
    }

    pub fn encode(&mut self, path: &[u8], row: &StateRow, out: &mut Vec<u8>) {
        let shared = self.path.iter().zip(path).take_while(|(a, b)| a == b).count();
        let suffix = path.get(shared..).unwrap_or_default();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let next = self.next == Some(row.position);
        varint(out, shared as u64);
        varint(out, suffix.len() as u64);
        out.extend_from_slice(suffix);
        out.push(flag(row.link != 0, LINKED) | flag(row.ctime == row.mtime, CTIME_IS_MTIME) | flag(next, NEXT_LINE));
        if !next {
            varint(out, u64::from(row.position.leaf));
            varint(out, u64::from(row.position.index));
        }
        varint(out, row.size);
        varint(out, row.ino);
        time(out, row.mtime);
        if row.ctime != row.mtime {
            time(out, row.ctime);
        }
        if row.link != 0 {
            out.extend_from_slice(&row.link.to_le_bytes());
        }
        self.follow(row.position);
        self.path.truncate(shared);
        self.path.extend_from_slice(suffix);
    }

    /// The next row; its path is then in `self.path`. `None` when the bytes are no row.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<StateRow> {
        let shared = usize::try_from(read_varint(input)?).ok().filter(|n| *n <= self.path.len())?;
        let suffix = usize::try_from(read_varint(input)?).ok()?;
        let (suffix, rest) = input.split_at_checked(suffix)?;
        *input = rest;
        self.path.truncate(shared);
        self.path.extend_from_slice(suffix);
        let [flags] = read_array(input)?;
        let position = if flags & NEXT_LINE != 0 { self.next? } else { read_position(input)? };
        let (size, ino, mtime) = (read_varint(input)?, read_varint(input)?, read_time(input)?);
        let ctime = if flags & CTIME_IS_MTIME != 0 { mtime } else { read_time(input)? };
        let link = if flags & LINKED != 0 { u64::from_le_bytes(read_array(input)?) } else { 0 };
        self.follow(position);
        Some(StateRow { size, mtime, ctime, ino, link, position })
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = read_array(input)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*array)
}

fn read_position(input: &mut &[u8]) -> Option<Position> {
    let leaf = u32::try_from(read_varint(input)?).ok()?;
    let index = u32::try_from(read_varint(input)?).ok()?;
    Some(Position { leaf, index })
}

fn time(out: &mut Vec<u8>, time: Time) {
    varint(out, ((time.secs << 1) ^ (time.secs >> 63)) as u64);
    out.extend_from_slice(&time.nanos.to_le_bytes());
}

fn read_time(input: &mut &[u8]) -> Option<Time> {
    let zigzag = read_varint(input)?;
    let secs = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    Some(Time { secs, nanos: u32::from_le_bytes(read_array(input)?) })
}
