//! Packs from parts: from parity, and from what is whole in each of several damaged copies.

use super::{Found, Repair, RepairOutcome, spool::Spooled};
use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    open::at,
    par2,
    scrub::{Reading, sha_hex, tells_of},
    seal::{HEADER_BYTES, SEALED_CHUNK},
    store::{ObjectName, Store, StoreError},
};

/// No pack is larger, nor any parity.
const MAX_BYTES: u64 = 3 << 30;

impl Repair<'_> {
    /// A pack that no store has whole.
    pub(super) fn from_parts(&self, name: &ObjectName, expected: &str) -> Result<Option<Found>, VaultError> {
        let Some(parity) = layout::parity_of(name.as_str()) else { return Ok(None) };
        let copies = self.copies(name)?;
        for file in self.copies(&parity)? {
            if let Some(bytes) = par2::restore(&file, &copies, self.options.threads).filter(|bytes| sha_hex(bytes) == expected) {
                return Ok(Some(Found { bytes: Spooled::of(&self.options.spool, &bytes)?, from: format!("{parity}") }));
            }
        }
        if let Some(bytes) = self.combined(&copies).filter(|bytes| sha_hex(bytes) == expected) {
            return Ok(Some(Found {
                bytes: Spooled::of(&self.options.spool, &bytes)?,
                from: "what is whole in each of several damaged copies".to_owned(),
            }));
        }
        Ok(None)
    }

    /// What lies under `name` in the target and in every source, whole or not.
    fn copies(&self, name: &ObjectName) -> Result<Vec<Vec<u8>>, VaultError> {
        let mut copies: Vec<Vec<u8>> = readable(&*self.target.store, name)?.into_iter().collect();
        for source in self.sources {
            match readable(&*source.store, name) {
                Ok(copy) => copies.extend(copy),
                Err(error) => tracing::warn!(%error, "a source of repairs was passed over"),
            }
        }
        Ok(copies)
    }

    /// Each sealed chunk of an encrypted pack says itself whether it is whole: of each, the copy that opens.
    fn combined(&self, copies: &[Vec<u8>]) -> Option<Vec<u8>> {
        let context = self.target.context(ObjectKind::Pack);
        let header = |copy: &Vec<u8>| copy.get(..HEADER_BYTES).and_then(|h| <[u8; HEADER_BYTES]>::try_from(h).ok());
        let (header, opener) = copies.iter().filter_map(header).find_map(|h| Some((h, self.target.ring.opener(&context, &h)?)))?;
        let len = copies.iter().map(Vec::len).max()?;
        let mut whole = header.to_vec();
        let mut plain = Vec::new();
        while whole.len() < len {
            let from = whole.len();
            let end = (from + SEALED_CHUNK).min(len);
            let number = ((from - HEADER_BYTES) / SEALED_CHUNK) as u64;
            let parts = copies.iter().filter_map(|copy| copy.get(from..end));
            let part = parts.into_iter().find(|part| {
                plain.clear();
                opener.open_chunk(number, part, end == len, &mut plain).is_ok()
            })?;
            whole.extend_from_slice(part);
        }
        Some(whole)
    }

    /// A PAR2 file is made anew from its pack.
    pub(super) fn parity(&self, name: &ObjectName, pack: &ObjectName) -> Result<(RepairOutcome, Option<String>), VaultError> {
        let expected = layout::claimed_hash(pack.as_str()).unwrap_or_default();
        if !matches!(self.reading(pack)?, Reading::Sha256(found) if found == expected) {
            return Ok((RepairOutcome::Lost { why: "its pack is not whole".to_owned() }, None));
        }
        let store = &self.target.store;
        let there = readable(&**store, name)?;
        let bytes = store.read(pack, MAX_BYTES).map_err(|e| at(&**store, e))?;
        let file = par2::encode(pack.file_name(), &bytes, self.options.parity_percent.clamp(1, 100), self.options.threads);
        if there.is_some_and(|there| there == file) {
            return Ok((RepairOutcome::Whole, None));
        }
        self.replace(name, &Found { bytes: Spooled::of(&self.options.spool, &file)?, from: "its pack".to_owned() })
    }
}

fn readable(store: &dyn Store, name: &ObjectName) -> Result<Option<Vec<u8>>, VaultError> {
    match store.read(name, MAX_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) if tells_of(store, name, &error) => Ok(None),
        Err(error) => Err(at(store, error)),
    }
}
