//! Tries transient failures again after a pause that grows.
//!
//! A failed upload is void (nobody knows what arrived), so it is never continued: a small one is begun anew
//! from the bytes kept here, a large one is the business of whoever has its bytes.

use super::{Lease, Listed, ObjectName, Promises, Published, Source, Store, StoreError, Tamper, Upload};
use std::{sync::Arc, time::Duration};

/// Pauses. An argument, so that tests do not wait.
pub trait Sleeper: Send + Sync {
    /// Returns after `time`.
    fn sleep(&self, time: Duration);
}

/// Really waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadSleeper;

impl Sleeper for ThreadSleeper {
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl<F: Fn(Duration) + Send + Sync> Sleeper for F {
    fn sleep(&self, time: Duration) {
        self(time);
    }
}

/// How often and after which pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// Before the second try; doubles for each further one.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// Uploads of up to this many bytes are kept in memory and begun anew.
    pub replay_bytes: usize,
}

impl Default for RetryPolicy {
    /// Eight tries within about a minute; uploads up to 1 MiB.
    fn default() -> Self {
        Self { attempts: 8, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(30), replay_bytes: 1 << 20 }
    }
}

impl RetryPolicy {
    /// The pause after the failure of try `attempt` (from 1).
    fn pause(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_pause.saturating_mul(factor).min(self.longest_pause)
    }
}

/// A store whose transient failures are tried again.
pub struct RetryStore<S> {
    inner: S,
    retry: Retry,
}

#[derive(Clone)]
struct Retry {
    policy: RetryPolicy,
    sleeper: Arc<dyn Sleeper>,
}

impl<S: Store> RetryStore<S> {
    /// Around `inner`.
    pub fn new(inner: S, policy: RetryPolicy, sleeper: impl Sleeper + 'static) -> Self {
        Self { inner, retry: Retry { policy, sleeper: Arc::new(sleeper) } }
    }
}

impl Retry {
    fn again<T>(&self, mut call: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut attempt = 1;
        loop {
            match call() {
                Err(error) if error.is_transient() && attempt < self.policy.attempts => self.wait(attempt, &error),
                other => return other,
            }
            attempt += 1;
        }
    }

    fn wait(&self, attempt: u32, error: &StoreError) {
        let pause = self.policy.pause(attempt);
        tracing::warn!(%error, attempt, ?pause, "the store failed; trying again");
        self.sleeper.sleep(pause);
    }
}

impl<S: Store> Store for RetryStore<S> {
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
        self.retry.again(|| self.inner.put(name, source, sha256))
    }

    fn server_sha256(&self, names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        self.retry.again(|| self.inner.server_sha256(names))
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        let inner = self.retry.again(|| self.inner.begin())?;
        Ok(Box::new(RetryUpload { store: self, inner: Some(inner), kept: Some(Vec::new()) }))
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        self.retry.again(|| self.inner.size(name))
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        self.retry.again(|| self.inner.read(name, max))
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.retry.again(|| self.inner.read_range(name, offset, buf))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.retry.again(|| self.inner.list(folder))
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.retry.again(|| self.inner.folders(folder))
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.retry.again(|| self.inner.remove(name))
    }

    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.retry.again(|| self.inner.remove_stale_uploads(older_than))
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        let inner = self.retry.again(|| self.inner.lease(holder, force))?;
        Ok(Box::new(RetryLease { inner, retry: self.retry.clone() }))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.retry.again(|| self.inner.free_bytes())
    }

    /// Not tried again: the second deletion would meet another object than the first.
    fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
        self.inner.tamper(name, attempt)
    }
}

struct RetryUpload<'s, S> {
    store: &'s RetryStore<S>,
    /// `None` only after a failure.
    inner: Option<Box<dyn Upload + 's>>,
    /// Everything written, as long as it is little.
    kept: Option<Vec<u8>>,
}

impl<'s, S: Store> RetryUpload<'s, S> {
    /// The upload under way, or a new one that holds what was kept.
    fn ready(&mut self) -> Result<Box<dyn Upload + 's>, StoreError> {
        if let Some(inner) = self.inner.take() {
            return Ok(inner);
        }
        let kept = self.kept.as_ref().ok_or(StoreError::Void)?;
        let mut upload = self.store.inner.begin()?;
        upload.write(kept)?;
        Ok(upload)
    }

    /// Calls `step` on the upload, and on a new one after a transient failure while its bytes are kept. What
    /// `step` hands back stays the upload under way.
    fn step<T>(
        &mut self,
        mut step: impl FnMut(Box<dyn Upload + 's>) -> (Option<Box<dyn Upload + 's>>, Result<T, StoreError>),
    ) -> Result<T, StoreError> {
        let mut attempt = 1;
        loop {
            let error = match self.ready().map(&mut step) {
                Ok((inner, Ok(value))) => {
                    self.inner = inner;
                    return Ok(value);
                }
                Ok((_, Err(error))) | Err(error) => error,
            };
            if !error.is_transient() || attempt >= self.store.retry.policy.attempts || self.kept.is_none() {
                return Err(error);
            }
            self.store.retry.wait(attempt, &error);
            attempt += 1;
        }
    }
}

impl<S: Store> Upload for RetryUpload<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let limit = self.store.retry.policy.replay_bytes;
        self.kept.take_if(|kept| kept.len().saturating_add(bytes.len()) > limit);
        self.step(|mut inner| {
            let result = inner.write(bytes);
            (Some(inner), result)
        })?;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.step(|mut inner| {
            let result = inner.read_back(offset, buf);
            (Some(inner), result)
        })
    }

    fn publish(mut self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        self.step(|inner| (None, inner.publish(name)))
    }
}

struct RetryLease {
    inner: Box<dyn Lease>,
    retry: Retry,
}

impl Lease for RetryLease {
    fn fencing(&self) -> u64 {
        self.inner.fencing()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.retry.again(|| self.inner.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, FaultPlan, FaultStore, MemoryStore, conformance};
    use std::sync::Mutex;

    fn policy(attempts: u32) -> RetryPolicy {
        RetryPolicy { attempts, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(5), replay_bytes: 1 << 24 }
    }

    #[test]
    fn every_seventh_call_may_hang_and_the_suite_still_passes() {
        let faulty = FaultStore::new(MemoryStore::new("test"), FaultPlan::every(7, Fault::Hang));
        let problems = conformance::problems(&RetryStore::new(&faulty, policy(4), |_| ()));
        assert!(problems.is_empty(), "{problems:#?}");
        assert!(faulty.hits() > 10);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_then_the_error_comes_through() {
        let pauses = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&pauses);
        let faulty = FaultStore::new(MemoryStore::new("test"), FaultPlan::from(0, Fault::Hang));
        let store = RetryStore::new(faulty, policy(6), move |time: Duration| seen.lock().unwrap().push(time.as_secs()));
        assert!(store.list("").unwrap_err().is_transient());
        assert_eq!(*pauses.lock().unwrap(), [1, 2, 4, 5, 5]);
    }

    #[test]
    fn what_will_not_mend_itself_is_not_tried_again() {
        let faulty = FaultStore::new(MemoryStore::new("test"), FaultPlan::from(0, Fault::NoSpace));
        let store = RetryStore::new(&faulty, policy(6), |_| panic!("no pause"));
        assert!(store.begin().is_err());
        assert_eq!(faulty.calls(), 1);
    }

    #[test]
    fn an_upload_too_large_to_keep_fails_on_the_first_hang() {
        let faulty = FaultStore::new(MemoryStore::new("test"), FaultPlan::at(2, Fault::Hang));
        let store = RetryStore::new(&faulty, RetryPolicy { replay_bytes: 3, ..policy(6) }, |_| ());
        let mut upload = store.begin().unwrap();
        upload.write(b"abc").unwrap();
        assert!(upload.write(b"d").unwrap_err().is_transient());
        assert!(matches!(upload.write(b"d"), Err(StoreError::Void)), "it is void");
    }
}
