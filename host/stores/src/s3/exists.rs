//! Looks at what a name holds: after an upload whether it is what was sent, before one that is not needed whether it is
//! the same.

use super::{
    Root,
    client::{Answer, Request, Verb, sha256_of},
    error::Situation,
    lock::Lock,
    versions::VersionRecord,
};
use havun_vault::store::{ObjectName, Published, StoreError};
use sha2::{Digest as _, Sha256};

/// Bytes compared at a time.
const PIECE_BYTES: usize = 4 << 20;

/// An object as it should be.
pub(super) struct Expected<'e> {
    pub name: &'e ObjectName,
    pub key: &'e str,
    pub size: u64,
    pub sha256: &'e [u8; 32],
    pub lock: Option<Lock>,
}

impl Expected<'_> {
    /// After an upload that succeeded: the object is there as sent, and locked as asked.
    pub fn verify(&self, root: &Root, version: Option<String>) -> Result<(), StoreError> {
        let damaged = || StoreError::ReadBack { name: self.name.clone() };
        let head = root.head(self.key, version.as_deref())?.ok_or_else(damaged)?;
        let sent = head.length() == Some(self.size) && checksum(&head).is_none_or(|found| found == *self.sha256);
        if !sent {
            return Err(damaged());
        }
        let version = version.or_else(|| head.version_id());
        self.lock_holds(root, head, version.as_deref())?;
        self.record(root, version)
    }

    /// After the server has said that the name is taken.
    pub fn compare(&self, root: &Root) -> Result<Published, StoreError> {
        let conflict = || StoreError::Conflict { name: self.name.clone() };
        // Taken, and gone the next moment: somebody removes it at the same time.
        let gone = || StoreError::Unreachable { what: format!("{} is there and is not there", root.client.place(self.key)) };
        let head = root.head(self.key, None)?.ok_or_else(gone)?;
        if head.length() != Some(self.size) {
            return Err(conflict());
        }
        let version = head.version_id();
        let found = match checksum(&head) {
            Some(found) => found,
            None => self.read_through(root, version.as_deref())?,
        };
        if found != *self.sha256 {
            return Err(conflict());
        }
        self.lock_holds(root, head, version.as_deref())?;
        self.record(root, version)?;
        Ok(Published::AlreadyThere)
    }

    /// The lock that was asked for is there; where it is not, it is asked for once more.
    fn lock_holds(&self, root: &Root, head: Answer, version: Option<&str>) -> Result<(), StoreError> {
        let Some(lock) = self.lock else { return Ok(()) };
        let Some(found) = lock.missing(&head) else { return Ok(()) };
        tracing::warn!(object = %self.name, found, "the lock was not set with the object; setting it by itself");
        let not_locked = |found| StoreError::NotLocked { name: self.name.clone(), found };
        match lock.set(&root.client, self.key, version) {
            Err(StoreError::Refused { why, .. }) => return Err(not_locked(format!("{found}; setting it: {why}"))),
            other => other?,
        }
        match root.head(self.key, version)? {
            Some(head) => lock.missing(&head).map_or(Ok(()), |found| Err(not_locked(found))),
            None => Err(StoreError::ReadBack { name: self.name.clone() }),
        }
    }

    fn record(&self, root: &Root, version: Option<String>) -> Result<(), StoreError> {
        let Some(version) = version.filter(|_| root.is_locked()) else { return Ok(()) };
        root.spool_dir()?;
        let until = self.lock.map(|lock| lock.date()).unwrap_or_default();
        root.versions.record(&VersionRecord { place: root.client.place(self.key), version, until })
    }

    fn read_through(&self, root: &Root, version: Option<&str>) -> Result<[u8; 32], StoreError> {
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < self.size {
            let len = usize::try_from(self.size - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let mut piece = vec![0; len];
            root.read_into(self.name, self.key, version, offset, &mut piece)?;
            hasher.update(&piece);
            offset += len as u64;
        }
        Ok(hasher.finalize().into())
    }
}

/// The server's checksum of the whole object, where it keeps one. That of an object that came in parts (its tag has a
/// dash) is one of the checksums of its parts, unless the server says otherwise.
pub(super) fn checksum(head: &Answer) -> Option<[u8; 32]> {
    let in_parts = head.header("etag").is_some_and(|tag| tag.contains('-'));
    if in_parts && head.header("x-amz-checksum-type") != Some("FULL_OBJECT") {
        return None;
    }
    sha256_of(head.header("x-amz-checksum-sha256")?)
}

impl Root {
    /// What the server says of an object; `None` where there is none.
    pub(super) fn head(&self, key: &str, version: Option<&str>) -> Result<Option<Answer>, StoreError> {
        let answer = self.client.send(&Request::new(Verb::Head, key).version(version).header("x-amz-checksum-mode", "ENABLED"))?;
        match answer.status {
            // 405: the version is a delete marker.
            404 | 405 => self.see_bucket().map(|()| None),
            _ if answer.is_ok() => Ok(Some(answer)),
            _ => Err(answer.error(&Situation { place: &self.client.place(key), name: None })),
        }
    }

    /// Fills `buf`, which is not empty, from `offset` of an object.
    pub(super) fn read_into(
        &self,
        name: &ObjectName,
        key: &str,
        version: Option<&str>,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), StoreError> {
        let end = offset.saturating_add(buf.len() as u64);
        let short = || StoreError::Short { name: name.to_string(), end };
        let request = Request::new(Verb::Get, key).version(version).header("range", format!("bytes={offset}-{}", end.saturating_sub(1)));
        let answer = self.client.send(&request)?;
        match answer.status {
            416 => Err(short()),
            206 if answer.length() == Some(buf.len() as u64) => {
                let cut = || StoreError::Unreachable { what: format!("the answer for {} ends early", self.client.place(key)) };
                if answer.fill(buf)? { Ok(()) } else { Err(cut()) }
            }
            206 => Err(short()),
            // The server does not know ranges: the whole object comes.
            200 if offset == 0 => answer.fill(buf)?.then_some(()).ok_or_else(short),
            200 => {
                let what = format!("a part of {}", self.client.place(key));
                let hint = "the server does not answer ranges, which the store needs";
                Err(StoreError::Refused { what, why: "the whole object was sent".to_owned(), hint })
            }
            _ => Err(answer.error(&Situation { place: &self.client.place(key), name: Some(name) })),
        }
    }
}
