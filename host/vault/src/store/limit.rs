//! Limits how many bytes a second go up and down, over all threads and all stores that share a [`Bandwidth`].

use super::{Lease, Listed, ObjectName, Promises, Published, Sleeper, Source, Store, StoreError, Tamper, Upload};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time that was not used is kept for this long: what may go at once after a rest.
const BURST: Duration = Duration::from_secs(1);

/// Time since some fixed moment; never runs backwards.
pub type SteadyClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A clock that starts at zero now.
pub fn steady_clock() -> SteadyClock {
    let start = Instant::now();
    Arc::new(move || start.elapsed())
}

/// So many bytes a second, whoever sends or receives them.
pub struct Bandwidth {
    bytes_per_second: u64,
    clock: SteadyClock,
    sleeper: Arc<dyn Sleeper>,
    /// When everything that was let through so far is paid for.
    paid_at: Mutex<Duration>,
}

impl Bandwidth {
    /// `bytes_per_second` of 0 counts as 1.
    pub fn new(bytes_per_second: u64, clock: SteadyClock, sleeper: impl Sleeper + 'static) -> Self {
        let paid_at = Mutex::new(clock());
        Self { bytes_per_second: bytes_per_second.max(1), clock, sleeper: Arc::new(sleeper), paid_at }
    }

    /// Waits until `bytes` more may go. Those who ask later wait longer.
    pub fn take(&self, bytes: usize) {
        let wait = self.reserve(bytes as u64);
        if !wait.is_zero() {
            self.sleeper.sleep(wait);
        }
    }

    fn reserve(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.clock)();
        *paid_at = (*paid_at).max(now.saturating_sub(BURST)).saturating_add(cost);
        paid_at.saturating_sub(now)
    }
}

/// A store whose bytes wait for their turn.
pub struct LimitedStore<S> {
    inner: S,
    bandwidth: Arc<Bandwidth>,
}

impl<S: Store> LimitedStore<S> {
    /// Around `inner`.
    pub fn new(inner: S, bandwidth: Arc<Bandwidth>) -> Self {
        Self { inner, bandwidth }
    }
}

impl<S: Store> Store for LimitedStore<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn put(&self, name: &ObjectName, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
        self.inner.put(name, &LimitedSource { inner: source, bandwidth: &self.bandwidth }, sha256)
    }

    fn server_sha256(&self, names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        self.inner.server_sha256(names)
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        Ok(Box::new(LimitedUpload { inner: self.inner.begin()?, bandwidth: &self.bandwidth }))
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        self.inner.size(name)
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        // How many there are is known only then; whoever comes next waits for them.
        let bytes = self.inner.read(name, max)?;
        self.bandwidth.take(bytes.len());
        Ok(bytes)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.bandwidth.take(buf.len());
        self.inner.read_range(name, offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.inner.folders(folder)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.remove(name)
    }

    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.inner.remove_stale_uploads(older_than)
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        self.inner.lease(holder, force)
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes()
    }

    fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
        self.inner.tamper(name, attempt)
    }
}

struct LimitedSource<'s> {
    inner: &'s dyn Source,
    bandwidth: &'s Bandwidth,
}

impl Source for LimitedSource<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.bandwidth.take(buf.len());
        self.inner.read_at(offset, buf)
    }
}

struct LimitedUpload<'s> {
    inner: Box<dyn Upload + 's>,
    bandwidth: &'s Bandwidth,
}

impl Upload for LimitedUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bandwidth.take(bytes.len());
        self.inner.write(bytes)
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_back(offset, buf)
    }

    fn publish(self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        self.inner.publish(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, conformance};
    use sha2::{Digest as _, Sha256};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock that moves only while somebody sleeps.
    fn bandwidth(bytes_per_second: u64) -> (Arc<Bandwidth>, Arc<AtomicU64>) {
        let nanos = Arc::new(AtomicU64::new(0));
        let (clock, hand) = (Arc::clone(&nanos), Arc::clone(&nanos));
        let clock: SteadyClock = Arc::new(move || Duration::from_nanos(clock.load(Ordering::SeqCst)));
        let sleep = move |time: Duration| {
            hand.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
        };
        (Arc::new(Bandwidth::new(bytes_per_second, clock, sleep)), nanos)
    }

    fn seconds(nanos: &AtomicU64) -> f64 {
        nanos.load(Ordering::SeqCst) as f64 / 1e9
    }

    #[test]
    fn it_passes_the_conformance_suite_and_waits_for_every_byte() {
        let (bandwidth, clock) = bandwidth(1_000_000);
        let store = LimitedStore::new(MemoryStore::new("limited"), bandwidth);
        assert_eq!(conformance::problems(&store), Vec::<String>::new());
        // The suite writes and reads an object of five megabytes, among others.
        assert!((8.0..60.0).contains(&seconds(&clock)), "{}", seconds(&clock));
    }

    #[test]
    fn up_and_down_share_the_rate_and_a_rest_is_worth_one_second() {
        let (bandwidth, clock) = bandwidth(1000);
        let store = LimitedStore::new(MemoryStore::new("limited"), Arc::clone(&bandwidth));
        let (name, bytes) = (ObjectName::new("a").unwrap(), vec![7_u8; 4000]);
        store.put(&name, &bytes.as_slice(), &Sha256::digest(&bytes).into()).unwrap();
        assert!((seconds(&clock) - 4.0).abs() < 0.01, "{}", seconds(&clock));
        store.read_range(&name, 0, &mut [0; 2000]).unwrap();
        store.read(&name, 4000).unwrap();
        assert!((seconds(&clock) - 10.0).abs() < 0.01, "{}", seconds(&clock));
        clock.fetch_add(3_600_000_000_000, Ordering::SeqCst);
        bandwidth.take(1000);
        assert!((seconds(&clock) - 3610.0).abs() < 0.01, "what a second is worth goes at once");
        bandwidth.take(1000);
        assert!((seconds(&clock) - 3611.0).abs() < 0.01, "and no more");
    }

    #[test]
    fn threads_and_stores_share_it() {
        let (bandwidth, clock) = bandwidth(1000);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let store = LimitedStore::new(MemoryStore::new("limited"), Arc::clone(&bandwidth));
                scope.spawn(move || {
                    let bytes = vec![n; 5000];
                    store.put(&ObjectName::new("a").unwrap(), &bytes.as_slice(), &Sha256::digest(&bytes).into()).unwrap();
                });
            }
        });
        assert!(seconds(&clock) >= 20.0 - 0.01, "{}", seconds(&clock));
    }

    #[test]
    fn a_steady_clock_starts_at_zero_and_runs() {
        let clock = steady_clock();
        let first = clock();
        assert!(clock() >= first && first < Duration::from_secs(60));
    }
}
