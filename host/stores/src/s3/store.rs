//! The store of one vault.

use super::{
    Root,
    client::{Request, Verb},
    error::Situation,
    exists::checksum,
    lease::{self, S3Lease},
    list, multipart, put, spool, tamper,
    versions::{list_versions, unreadable},
    xml,
};
use havun_vault::store::{Lease, Listed, ObjectName, Promises, Published, Source, Store, StoreError, Tamper, Upload};
use jiff::Timestamp;
use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// One vault in a bucket.
pub struct S3Store {
    root: Arc<Root>,
    /// Key of the vault's folder, without a slash at its end.
    base: String,
}

impl S3Store {
    pub(super) fn new(root: Arc<Root>, base: String) -> Self {
        Self { root, base }
    }

    /// Removes what is left of leases: for a vault that is given up, such as that of a `store check`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where nothing can be removed.
    pub fn forget_leases(&self) -> Result<(), StoreError> {
        lease::forget_all(&self.root, &self.base)
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}/{name}", self.base)
    }

    /// In a locked bucket, the version that is ours and its size; without a lock `None` is any.
    fn version(&self, name: &ObjectName) -> Result<Option<String>, StoreError> {
        if !self.root.is_locked() {
            return Ok(None);
        }
        let place = self.root.client.place(&self.key(name));
        match self.root.versions.get(&place) {
            Some(known) => Ok(Some(known)),
            None => self.find(name)?.map(|(id, _)| Some(id)).ok_or_else(|| StoreError::NotFound { name: name.clone() }),
        }
    }

    /// The oldest version of an object, and its size.
    fn find(&self, name: &ObjectName) -> Result<Option<(String, u64)>, StoreError> {
        let key = self.key(name);
        let listing = list_versions(&self.root.client, &key, None)?;
        let Some(version) = listing.oldest().get(key.as_str()).copied() else { return Ok(None) };
        self.root.versions.learn(&self.root.client.place(&key), &version.id);
        Ok(Some((version.id.clone(), version.size)))
    }

    /// Every version of an object, by its id: a plain deletion would only hide it, and hide a refusal as well.
    fn remove_versions(&self, name: &ObjectName) -> Result<(), StoreError> {
        let key = self.key(name);
        let mut versions = list_versions(&self.root.client, &key, None)?.versions;
        versions.retain(|version| version.key == key);
        // The oldest first, markers last: where that is refused, nothing has changed.
        versions.reverse();
        versions.sort_by_key(|version| version.is_marker);
        for version in versions {
            self.root.client.ask(&Request::new(Verb::Delete, &key).version(Some(&version.id)), None)?;
        }
        self.root.versions.forget(&self.root.client.place(&key));
        Ok(())
    }

    fn remove_plain(&self, name: &ObjectName) -> Result<(), StoreError> {
        let key = self.key(name);
        let answer = self.root.client.send(&Request::new(Verb::Delete, &key))?;
        if answer.header("x-amz-delete-marker") == Some("true") {
            self.root.keeps_versions.store(true, Ordering::Relaxed);
        }
        if answer.is_ok() {
            return Ok(());
        }
        match answer.error(&Situation { place: &self.root.client.place(&key), name: Some(name) }) {
            StoreError::NotFound { .. } => Ok(()),
            error => Err(error),
        }
    }
}

impl Store for S3Store {
    fn describe(&self) -> String {
        format!("S3 bucket {} at {}, {}", self.root.client.bucket(), self.root.client.host(), self.base)
    }

    /// Asks the server once whether it knows conditions; a server that cannot be asked promises nothing.
    fn promises(&self) -> Promises {
        let conditional = self.root.is_conditional().unwrap_or(false);
        Promises { no_overwrite: conditional, exclusive: conditional, removes: !self.root.is_locked(), ..Promises::ALL }
    }

    fn notes(&self) -> Vec<String> {
        let root = &self.root;
        let conditional = root.is_conditional().unwrap_or(false);
        let notes = [
            (!conditional, "the server does not know If-None-Match: two writers at once could replace each other's objects"),
            (!root.is_locked(), "objects are not locked: whoever has the access key can delete them"),
            (
                root.keeps_versions.load(Ordering::Relaxed),
                "the bucket keeps versions: what is removed takes space until a rule of the bucket ends it",
            ),
            (!root.client.is_encrypted(), "the connection is not encrypted: who listens sees names and sizes, and packs that are sealed"),
        ];
        notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note.to_owned()).collect()
    }

    fn put(&self, name: &ObjectName, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
        put::put(&self.root, name, &self.key(name), source, sha256)
    }

    /// Only where the server keeps a SHA-256 of every one of them: of an object that was sent in parts it has none.
    fn server_sha256(&self, names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        let mut answers = Vec::with_capacity(names.len());
        for name in names {
            let version = match self.version(name) {
                Err(StoreError::NotFound { .. }) => {
                    answers.push(None);
                    continue;
                }
                other => other?,
            };
            match self.root.head(&self.key(name), version.as_deref())? {
                None => answers.push(None),
                Some(head) => match checksum(&head) {
                    Some(sha256) => answers.push(Some(sha256)),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(answers))
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        Ok(Box::new(spool::SpooledUpload::begin(&self.root, &self.base)?))
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        let key = self.key(name);
        let known = self.root.versions.get(&self.root.client.place(&key)).filter(|_| self.root.is_locked());
        if self.root.is_locked() && known.is_none() {
            return Ok(self.find(name)?.map(|(_, size)| size));
        }
        let Some(head) = self.root.head(&key, known.as_deref())? else { return Ok(None) };
        head.length().map(Some).ok_or_else(|| unreadable(&self.root.client, &key))
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        let (key, version) = (self.key(name), self.version(name)?);
        let answer = self.root.client.ask(&Request::new(Verb::Get, &key).version(version.as_deref()), Some(name))?;
        let size = answer.length().ok_or_else(|| unreadable(&self.root.client, &key))?;
        if size > max {
            return Err(StoreError::TooLarge { name: name.clone(), size, max });
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        if answer.fill(&mut bytes)? {
            Ok(bytes)
        } else {
            Err(StoreError::Unreachable { what: format!("the answer for {name} ends early") })
        }
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        if buf.is_empty() {
            let size = self.size(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
            let short = || StoreError::Short { name: name.to_string(), end: offset };
            return (offset <= size).then_some(()).ok_or_else(short);
        }
        let version = self.version(name)?;
        self.root.read_into(name, &self.key(name), version.as_deref(), offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        check_folder(folder)?;
        list::objects(&self.root, &self.base, folder)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        check_folder(folder)?;
        let prefix = if folder.is_empty() { format!("{}/", self.base) } else { format!("{}/{folder}/", self.base) };
        let mut names = list::folders(&self.root, &prefix)?;
        names.retain(|name| ObjectName::new(if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") }).is_ok());
        Ok(names)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        if self.root.is_locked() { self.remove_versions(name) } else { self.remove_plain(name) }
    }

    /// Those of this vault that were begun that long ago, whoever began them: a younger one may be resumed. A thousand at a
    /// time.
    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut removed = spool::remove_stale(&self.root.options.spool_dir, older_than);
        let prefix = format!("{}/", self.base);
        let text = self.root.client.ask(&Request::new(Verb::Get, "").query("uploads", "").query("prefix", &*prefix), None)?.text()?;
        let page = xml::parse(&text).ok_or_else(|| unreadable(&self.root.client, &prefix))?;
        let now = Timestamp::now();
        for upload in page.all("Upload") {
            let text = |name| upload.text_of(name).unwrap_or_default();
            let (key, id) = (text("Key"), text("UploadId"));
            let under_way = self.root.under_way.lock().is_ok_and(|keys| keys.contains(key));
            let age = text("Initiated").parse::<Timestamp>().ok().and_then(|begun| Duration::try_from(now.duration_since(begun)).ok());
            if !under_way && key.starts_with(&prefix) && age.is_some_and(|age| age >= older_than) {
                multipart::abort(&self.root, key, id)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        Ok(Box::new(S3Lease::take(&self.root, &self.base, holder, force)?))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
        tamper::tamper(&self.root, name, &self.key(name), attempt)
    }
}

fn check_folder(folder: &str) -> Result<(), StoreError> {
    if folder.is_empty() { Ok(()) } else { ObjectName::new(folder).map(|_| ()) }
}

/// 128 random bits in hex.
pub(super) fn random_hex() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::at(Path::new("random bytes"), io::Error::other(e)))?;
    Ok(hex::encode(bytes))
}
