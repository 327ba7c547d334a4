//! A store in memory, with the promises of the local one and a power cut on demand.

use super::{Lease, Listed, ObjectName, Promises, Published, RESERVED, Store, StoreError, Tamper, Upload};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A vault in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    name: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    objects: BTreeMap<ObjectName, Arc<Vec<u8>>>,
    uploads: BTreeMap<u64, TempFile>,
    next_upload: u64,
    fencing: u64,
    /// Fencing number and name of who holds the lease.
    holder: Option<(u64, String)>,
    capacity: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct TempFile {
    bytes: Vec<u8>,
    /// Its process is gone.
    dead: bool,
}

impl MemoryStore {
    /// An empty vault; `name` is for people.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), state: Arc::default() }
    }

    /// An empty vault that holds at most `bytes`, uploads under way included.
    pub fn with_capacity(name: &str, bytes: u64) -> Self {
        let store = Self::new(name);
        store.lock().capacity = Some(bytes);
        store
    }

    /// What is left after a power cut, as a store of its own: everything that was published and no lease. Of
    /// uploads under way, which nobody has fsynced, what was written (`keep_unsynced`) or nothing.
    #[must_use]
    pub fn after_power_cut(&self, keep_unsynced: bool) -> Self {
        let mut state = self.lock().clone();
        state.holder = None;
        if keep_unsynced {
            state.uploads.values_mut().for_each(|upload| upload.dead = true);
        } else {
            state.uploads.clear();
        }
        Self { name: self.name.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// Changes the stored bytes of an object behind everyone's back: decay, for tests. False where there is no
    /// such object.
    pub fn damage(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        let Some(bytes) = state.objects.get_mut(name) else { return false };
        change(Arc::make_mut(bytes));
        true
    }

    /// How many uploads are under way or were left behind.
    pub fn upload_count(&self) -> usize {
        self.lock().uploads.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &ObjectName) -> Result<Arc<Vec<u8>>, StoreError> {
        self.lock().objects.get(name).cloned().ok_or_else(|| StoreError::NotFound { name: name.clone() })
    }
}

impl State {
    fn used(&self) -> u64 {
        let objects = self.objects.values().map(|bytes| bytes.len() as u64);
        objects.chain(self.uploads.values().map(|upload| upload.bytes.len() as u64)).sum()
    }

    fn free(&self) -> Option<u64> {
        self.capacity.map(|capacity| capacity.saturating_sub(self.used()))
    }
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        format!("memory {}", self.name)
    }

    fn promises(&self) -> Promises {
        Promises::ALL
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        let mut state = self.lock();
        let number = state.next_upload;
        state.next_upload += 1;
        state.uploads.insert(number, TempFile::default());
        Ok(Box::new(MemoryUpload { store: self, number }))
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().objects.get(name).map(|bytes| bytes.len() as u64))
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.object(name)?;
        let size = bytes.len() as u64;
        if size > max { Err(StoreError::TooLarge { name: name.clone(), size, max }) } else { Ok(bytes.to_vec()) }
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        copy_range(&self.object(name)?, name.as_str(), offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        check_folder(folder)?;
        let state = self.lock();
        let beneath = state.objects.iter().filter(|(name, _)| name.is_beneath(folder));
        Ok(beneath.map(|(name, bytes)| Listed { name: name.clone(), size: bytes.len() as u64 }).collect())
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        check_folder(folder)?;
        let state = self.lock();
        let beneath = state.objects.keys().filter(|name| name.is_beneath(folder));
        let rest = |name: &ObjectName| name.as_str().get(folder.len()..).map(|rest| rest.trim_start_matches('/').to_owned());
        let names = beneath.filter_map(rest).filter_map(|rest| rest.split_once('/').map(|(first, _)| first.to_owned()));
        let names: BTreeSet<String> = names.filter(|name| !(folder.is_empty() && RESERVED.contains(&name.as_str()))).collect();
        Ok(names.into_iter().collect())
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.lock().objects.remove(name);
        Ok(())
    }

    fn remove_stale_uploads(&self, _older_than: Duration) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let before = state.uploads.len();
        state.uploads.retain(|_, upload| !upload.dead);
        Ok((before - state.uploads.len()) as u64)
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        let mut state = self.lock();
        if let Some((_, other)) = state.holder.as_ref().filter(|_| !force) {
            return Err(StoreError::Locked { holder: other.clone() });
        }
        state.fencing += 1;
        state.holder = Some((state.fencing, holder.to_owned()));
        Ok(Box::new(MemoryLease { store: self.clone(), fencing: state.fencing }))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().free())
    }

    fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
        match attempt {
            Tamper::Delete => self.lock().objects.remove(name).map(drop),
            Tamper::Overwrite => self.damage(name, |bytes| bytes.fill(0)).then_some(()),
            Tamper::Truncate => self.damage(name, Vec::clear).then_some(()),
            Tamper::Append => self.damage(name, |bytes| bytes.push(0)).then_some(()),
            Tamper::Rename | Tamper::ChangeMode | Tamper::ShortenLock => return None,
        };
        Some(Ok(()))
    }
}

struct MemoryUpload<'s> {
    store: &'s MemoryStore,
    number: u64,
}

impl Upload for MemoryUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.store.lock();
        if state.free().is_some_and(|free| free < bytes.len() as u64) {
            return Err(StoreError::NoSpace { path: PathBuf::from(self.store.describe()), free: None });
        }
        state.uploads.entry(self.number).or_default().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let state = self.store.lock();
        let upload = state.uploads.get(&self.number).ok_or(StoreError::Void)?;
        copy_range(&upload.bytes, "under way", offset, buf)
    }

    fn publish(self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        let mut state = self.store.lock();
        let upload = state.uploads.remove(&self.number).ok_or(StoreError::Void)?;
        match state.objects.get(name) {
            Some(there) if **there == upload.bytes => Ok(Published::AlreadyThere),
            Some(_) => Err(StoreError::Conflict { name: name.clone() }),
            None => {
                state.objects.insert(name.clone(), Arc::new(upload.bytes));
                Ok(Published::New)
            }
        }
    }
}

impl Drop for MemoryUpload<'_> {
    fn drop(&mut self) {
        self.store.lock().uploads.remove(&self.number);
    }
}

struct MemoryLease {
    store: MemoryStore,
    fencing: u64,
}

impl Lease for MemoryLease {
    fn fencing(&self) -> u64 {
        self.fencing
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.store.lock().holder {
            Some((fencing, _)) if *fencing == self.fencing => Ok(()),
            Some((_, holder)) => Err(StoreError::Fenced { holder: holder.clone() }),
            None => Err(StoreError::Fenced { holder: "nobody".to_owned() }),
        }
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        if state.holder.as_ref().is_some_and(|(fencing, _)| *fencing == self.fencing) {
            state.holder = None;
        }
    }
}

fn check_folder(folder: &str) -> Result<(), StoreError> {
    if folder.is_empty() { Ok(()) } else { ObjectName::new(folder).map(|_| ()) }
}

fn copy_range(bytes: &[u8], name: &str, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
    let end = offset.saturating_add(buf.len() as u64);
    let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok()).and_then(|(from, to)| bytes.get(from..to));
    buf.copy_from_slice(range.ok_or_else(|| StoreError::Short { name: name.to_owned(), end })?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_passes_the_conformance_suite() {
        let problems = super::super::conformance::problems(&MemoryStore::new("test"));
        assert!(problems.is_empty(), "{problems:#?}");
    }

    #[test]
    fn a_power_cut_leaves_what_was_published_and_frees_the_lease() {
        let store = MemoryStore::new("test");
        let name = ObjectName::new("a/b").unwrap();
        let mut upload = store.begin().unwrap();
        upload.write(b"whole").unwrap();
        assert_eq!(upload.publish(&name).unwrap(), Published::New);
        let _lease = store.lease("first", false).unwrap();
        let mut open = store.begin().unwrap();
        open.write(b"half").unwrap();
        for (keep, left) in [(true, 1), (false, 0)] {
            let after = store.after_power_cut(keep);
            assert_eq!(after.read(&name, 10).unwrap(), b"whole");
            assert_eq!(after.upload_count(), left);
            assert_eq!(after.remove_stale_uploads(Duration::ZERO).unwrap(), left as u64);
            assert!(after.lease("second", false).is_ok());
        }
        assert!(store.lease("second", false).is_err(), "the original goes on");
    }

    #[test]
    fn a_full_store_says_so_and_an_abandoned_upload_gives_its_space_back() {
        let store = MemoryStore::with_capacity("small", 10);
        let mut upload = store.begin().unwrap();
        upload.write(&[0; 8]).unwrap();
        assert!(matches!(upload.write(&[0; 3]), Err(StoreError::NoSpace { .. })));
        drop(upload);
        assert_eq!(store.free_bytes().unwrap(), Some(10));
    }
}
