//! Objects whose bytes can be had from any place, and the plain way to store one.

use super::{ObjectName, Published, Store, StoreError};
use sha2::{Digest as _, Sha256};

/// Bytes read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The bytes of one object, readable at any offset, as often as needed, from several threads.
pub trait Source: Send + Sync {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// The origin's; [`StoreError::Short`] where it ends before `buf` is full.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError>;
}

impl Source for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(buf.len() as u64);
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let part = range.and_then(|(start, end)| self.get(start..end));
        buf.copy_from_slice(part.ok_or_else(|| StoreError::Short { name: "bytes in memory".to_owned(), end })?);
        Ok(())
    }
}

/// An object of another store.
pub struct StoredSource<'s> {
    store: &'s dyn Store,
    name: ObjectName,
    size: u64,
}

impl<'s> StoredSource<'s> {
    /// Object `name` of `store`, which has `size` bytes.
    pub fn new(store: &'s dyn Store, name: ObjectName, size: u64) -> Self {
        Self { store, name, size }
    }
}

impl Source for StoredSource<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.store.read_range(&self.name, offset, buf)
    }
}

/// Stores `source` by way of an upload, each piece read back, its SHA-256 compared before it is published and its size
/// asked for afterwards: the way of every store that has no better one.
///
/// # Errors
/// As [`Store::put`].
pub fn put_by_upload(store: &dyn Store, name: &ObjectName, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
    let mut upload = store.begin()?;
    let mut hasher = Sha256::new();
    let longest = usize::try_from(source.size()).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
    let (mut piece, mut back) = (vec![0; longest], vec![0; longest]);
    let mut offset = 0;
    while offset < source.size() {
        let len = usize::try_from(source.size() - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let (piece, back) = (piece.get_mut(..len).unwrap_or_default(), back.get_mut(..len).unwrap_or_default());
        source.read_at(offset, piece).map_err(|e| StoreError::source(name, e))?;
        hasher.update(&*piece);
        upload.write(piece)?;
        upload.read_back(offset, back)?;
        if piece != back {
            return Err(StoreError::ReadBack { name: name.clone() });
        }
        offset += len as u64;
    }
    StoreError::check_source(name, &hasher.finalize().into(), sha256)?;
    let published = upload.publish(name)?;
    match store.size(name)? {
        Some(size) if size == source.size() => Ok(published),
        _ => Err(StoreError::ReadBack { name: name.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, FaultPlan, FaultStore, MemoryStore};

    fn sha(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    #[test]
    fn what_is_put_is_there_and_a_wrong_hash_is_refused() {
        let store = MemoryStore::new("test");
        let (name, bytes) = (ObjectName::new("a/b").unwrap(), vec![7_u8; 3_000_000]);
        assert!(matches!(store.put(&name, &bytes.as_slice(), &sha(b"other")), Err(StoreError::Source { .. })));
        assert_eq!(store.size(&name).unwrap(), None);
        assert_eq!(store.put(&name, &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::New);
        assert_eq!(store.put(&name, &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::AlreadyThere);
    }

    #[test]
    fn a_short_write_and_a_lying_rename_are_found_out() {
        for fault in [Fault::ShortWrite, Fault::LyingRename] {
            let name = ObjectName::new("a").unwrap();
            let count = 5;
            let found = (0..count).any(|call| {
                let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::at(call, fault));
                let put = store.put(&name, &b"0123456789".as_slice(), &sha(b"0123456789"));
                put.is_err()
            });
            assert!(found, "{fault:?}");
        }
    }
}
