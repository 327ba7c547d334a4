//! Reading the cache in one merge with the walk.

use super::{
    StateKey, StateRow,
    format::{BLOCK_HEAD, Before, MAGIC, MAX_BLOCK_BYTES, encode_key},
};
use crate::paths::compare_paths;
use sha2::{Digest as _, Sha256};
use std::{cmp::Ordering, fs::File, io::Read, path::Path};

/// Reads a cache from its start to its end; asked for paths in ascending path order.
pub struct StateReader {
    file: File,
    block: Vec<u8>,
    at: usize,
    before: Before,
    /// The row whose path is `before.path`.
    row: Option<StateRow>,
    passed_over: u64,
    damaged: bool,
}

impl StateReader {
    /// The cache at `path`, if it is there, whole at its start and belongs to `key`.
    pub fn open(path: &Path, key: &StateKey) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).ok()?;
        let mut reader = Self { file, block: Vec::new(), at: 0, before: Before::default(), row: None, passed_over: 0, damaged: false };
        reader.next_block()?;
        if magic != *MAGIC || reader.block != encode_key(key) {
            return None;
        }
        reader.at = reader.block.len();
        reader.advance();
        Some(reader)
    }

    /// The row of `path`, if there is one. Rows before it are passed over for good.
    pub fn find(&mut self, path: &[u8]) -> Option<StateRow> {
        self.find_telling(path, |_, _| {})
    }

    /// Likewise; `passed` is told each row that is passed over.
    pub fn find_telling(&mut self, path: &[u8], mut passed: impl FnMut(&[u8], &StateRow)) -> Option<StateRow> {
        while let Some(row) = self.row {
            let order = if self.before.path == path { Ordering::Equal } else { compare_paths(&self.before.path, path) };
            match order {
                Ordering::Less => {
                    passed(&self.before.path, &row);
                    self.passed_over += 1;
                }
                Ordering::Equal => {
                    self.advance();
                    return Some(row);
                }
                Ordering::Greater => return None,
            }
            self.advance();
        }
        None
    }

    /// Reads to the end: whether the file is whole and every row of it was found, so that nothing was deleted.
    pub fn found_all(mut self) -> bool {
        self.row.is_none() && self.passed_over == 0 && !std::mem::take(&mut self.damaged)
    }

    /// Passes over all that is left.
    pub fn pass_rest(&mut self, mut passed: impl FnMut(&[u8], &StateRow)) {
        while let Some(row) = self.row {
            passed(&self.before.path, &row);
            self.passed_over += 1;
            self.advance();
        }
    }

    /// The first row that is left and its path.
    pub fn peek(&self) -> Option<(&[u8], &StateRow)> {
        self.row.as_ref().map(|row| (self.before.path.as_slice(), row))
    }

    pub(super) fn advance(&mut self) {
        self.row = None;
        while self.at >= self.block.len() {
            match self.next_block() {
                Some(0) => return,
                Some(_) => self.before.reset(),
                None => {
                    self.damaged = true;
                    return;
                }
            }
        }
        let mut rest = self.block.get(self.at..).unwrap_or_default();
        self.row = self.before.decode(&mut rest);
        self.damaged = self.row.is_none();
        self.at = self.block.len() - rest.len();
    }

    /// Reads a block and checks its sum; returns its length.
    fn next_block(&mut self) -> Option<usize> {
        let mut head = [0; BLOCK_HEAD];
        self.file.read_exact(&mut head).ok()?;
        let (len, sum) = head.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        if len > MAX_BLOCK_BYTES {
            return None;
        }
        self.block.resize(len, 0);
        self.file.read_exact(&mut self.block).ok()?;
        self.at = 0;
        if Sha256::digest(&self.block).as_slice() == sum { Some(len) } else { None }
    }
}
