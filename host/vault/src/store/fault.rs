//! A store that fails on purpose, at a call of one's choice.
//!
//! Every call is numbered from 0 in the order in which it arrives: those of the store, of its uploads (`write`,
//! `read_back`, `publish`) and of its lease (`check`). A crash test runs once without faults to count the
//! calls, then once for each number with [`Fault::Crash`] and with [`Fault::CrashAfter`].

use super::{Lease, Listed, ObjectName, Promises, Published, Store, StoreError, Tamper, Upload};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What goes wrong. A fault that makes no sense for the call that it meets does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails, nothing happens.
    Error,
    /// Likewise, for want of space.
    NoSpace,
    /// Likewise, after a time-out: worth trying again.
    Hang,
    /// The process dies before the call takes effect. Every later call fails, uploads stay where they are.
    Crash,
    /// The process dies when the call has taken effect, without having heard of it.
    CrashAfter,
    /// `write`: half of the bytes arrive, and the call says that all did.
    ShortWrite,
    /// `publish`: the call says that all is well, and there is no object.
    LyingRename,
    /// `publish`, `remove`: all is well until [`FaultStore::power_cut`], which undoes it.
    DroppedFsync,
    /// `list`: the object that was published last is not shown yet.
    StaleList,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    at: BTreeMap<u64, Fault>,
    from: Option<(u64, Fault)>,
    every: Option<(u64, Fault)>,
}

impl FaultPlan {
    /// Nothing fails; calls are counted.
    pub fn none() -> Self {
        Self::default()
    }

    /// The call of that number fails.
    pub fn at(call: u64, fault: Fault) -> Self {
        Self::none().and(call, fault)
    }

    /// That call fails, too.
    #[must_use]
    pub fn and(mut self, call: u64, fault: Fault) -> Self {
        self.at.insert(call, fault);
        self
    }

    /// Every call from that number on.
    pub fn from(call: u64, fault: Fault) -> Self {
        Self { from: Some((call, fault)), ..Self::default() }
    }

    /// Every `nth` call (`nth` ≥ 1), the first being number `nth` − 1.
    pub fn every(nth: u64, fault: Fault) -> Self {
        Self { every: Some((nth.max(1), fault)), ..Self::default() }
    }

    fn fault(&self, call: u64) -> Option<Fault> {
        let from = self.from.filter(|(first, _)| call >= *first).map(|(_, fault)| fault);
        let every = self.every.filter(|(nth, _)| call % nth == nth - 1).map(|(_, fault)| fault);
        self.at.get(&call).copied().or(from).or(every)
    }
}

/// Kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Operation {
    Begin,
    Write,
    ReadBack,
    Publish,
    Size,
    Read,
    ReadRange,
    List,
    Folders,
    Remove,
    RemoveStaleUploads,
    Lease,
    CheckLease,
    FreeBytes,
    ServerSha256,
}

/// A call as it arrived; its number is its place in [`FaultStore::log`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which method.
    pub operation: Operation,
    /// Object or folder; empty where there is none.
    pub name: String,
}

/// A store whose calls fail as planned.
#[derive(Debug)]
pub struct FaultStore<S> {
    inner: S,
    control: Arc<Control>,
}

#[derive(Debug, Default)]
struct Control {
    plan: Mutex<FaultPlan>,
    log: Mutex<Vec<Call>>,
    hits: AtomicU64,
    crashed: AtomicBool,
    published_last: Mutex<Option<ObjectName>>,
    undo: Mutex<Vec<Undo>>,
}

/// What a power cut takes back.
#[derive(Debug)]
enum Undo {
    Publish(ObjectName),
    Remove(ObjectName, Vec<u8>),
}

impl<S: Store> FaultStore<S> {
    /// Around `inner`.
    pub fn new(inner: S, plan: FaultPlan) -> Self {
        let control = Control { plan: Mutex::new(plan), ..Control::default() };
        Self { inner, control: Arc::new(control) }
    }

    /// Starts anew: counts from 0, follows `plan`, and is alive.
    pub fn reset(&self, plan: FaultPlan) {
        *lock(&self.control.plan) = plan;
        lock(&self.control.log).clear();
        self.control.hits.store(0, Ordering::SeqCst);
        self.control.crashed.store(false, Ordering::SeqCst);
    }

    /// How many calls arrived; those after a crash are not counted.
    pub fn calls(&self) -> u64 {
        lock(&self.control.log).len() as u64
    }

    /// The calls in their order.
    pub fn log(&self) -> Vec<Call> {
        lock(&self.control.log).clone()
    }

    /// How many calls met a fault.
    pub fn hits(&self) -> u64 {
        self.control.hits.load(Ordering::SeqCst)
    }

    /// Whether the process has died.
    pub fn has_crashed(&self) -> bool {
        self.control.crashed.load(Ordering::SeqCst)
    }

    /// The store inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Undoes what was published or removed with a dropped fsync, the latest first.
    ///
    /// # Errors
    /// Those of the store inside.
    pub fn power_cut(&self) -> Result<(), StoreError> {
        for undo in lock(&self.control.undo).drain(..).rev() {
            match undo {
                Undo::Publish(name) => self.inner.remove(&name)?,
                Undo::Remove(name, bytes) => {
                    let mut upload = self.inner.begin()?;
                    upload.write(&bytes)?;
                    let _either: Published = upload.publish(&name)?;
                }
            }
        }
        Ok(())
    }

    /// A call whose only faults are those before and after it.
    fn plain<T>(&self, operation: Operation, name: &str, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let fault = self.control.enter(operation, name)?;
        let result = call();
        self.control.leave(fault)?;
        result
    }
}

impl Control {
    fn enter(&self, operation: Operation, name: &str) -> Result<Option<Fault>, StoreError> {
        if self.crashed.load(Ordering::SeqCst) {
            return Err(injected("the process is dead"));
        }
        let call = {
            let mut log = lock(&self.log);
            log.push(Call { operation, name: name.to_owned() });
            log.len() as u64 - 1
        };
        let fault = lock(&self.plan).fault(call);
        if fault.is_some() {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        match fault {
            Some(Fault::Error) => Err(injected("a fault")),
            Some(Fault::NoSpace) => Err(StoreError::NoSpace { path: PathBuf::from(name), free: None }),
            Some(Fault::Hang) => Err(StoreError::Unreachable { what: format!("{operation:?} {name} timed out") }),
            Some(Fault::Crash) => Err(self.crash()),
            other => Ok(other),
        }
    }

    fn leave(&self, fault: Option<Fault>) -> Result<(), StoreError> {
        if fault == Some(Fault::CrashAfter) { Err(self.crash()) } else { Ok(()) }
    }

    fn crash(&self) -> StoreError {
        self.crashed.store(true, Ordering::SeqCst);
        injected("a crash")
    }
}

fn injected(what: &str) -> StoreError {
    StoreError::Io { path: PathBuf::from("fault plan"), source: io::Error::other(what.to_owned()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Store> Store for FaultStore<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn server_sha256(&self, names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        self.plain(Operation::ServerSha256, "", || self.inner.server_sha256(names))
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        let fault = self.control.enter(Operation::Begin, "")?;
        let upload = FaultUpload { inner: Some(self.inner.begin()?), control: &self.control };
        self.control.leave(fault)?;
        Ok(Box::new(upload))
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        self.plain(Operation::Size, name.as_str(), || self.inner.size(name))
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        self.plain(Operation::Read, name.as_str(), || self.inner.read(name, max))
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.plain(Operation::ReadRange, name.as_str(), || self.inner.read_range(name, offset, buf))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let fault = self.control.enter(Operation::List, folder)?;
        let mut listed = self.inner.list(folder)?;
        if fault == Some(Fault::StaleList) {
            let hidden = lock(&self.control.published_last);
            listed.retain(|object| Some(&object.name) != hidden.as_ref());
        }
        self.control.leave(fault)?;
        Ok(listed)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.plain(Operation::Folders, folder, || self.inner.folders(folder))
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        let fault = self.control.enter(Operation::Remove, name.as_str())?;
        if fault == Some(Fault::DroppedFsync) && self.inner.size(name)?.is_some() {
            let bytes = self.inner.read(name, u64::MAX)?;
            lock(&self.control.undo).push(Undo::Remove(name.clone(), bytes));
        }
        self.inner.remove(name)?;
        self.control.leave(fault)
    }

    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.plain(Operation::RemoveStaleUploads, "", || self.inner.remove_stale_uploads(older_than))
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        let fault = self.control.enter(Operation::Lease, holder)?;
        let lease = FaultLease { inner: self.inner.lease(holder, force)?, control: Arc::clone(&self.control) };
        self.control.leave(fault)?;
        Ok(Box::new(lease))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.plain(Operation::FreeBytes, "", || self.inner.free_bytes())
    }

    fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
        self.inner.tamper(name, attempt)
    }
}

struct FaultUpload<'s> {
    /// `None` once it is published or lost.
    inner: Option<Box<dyn Upload + 's>>,
    control: &'s Control,
}

impl Upload for FaultUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let fault = self.control.enter(Operation::Write, "")?;
        let arrives = if fault == Some(Fault::ShortWrite) { bytes.len() / 2 } else { bytes.len() };
        let bytes = bytes.get(..arrives).unwrap_or_default();
        self.inner.as_mut().ok_or(StoreError::Void)?.write(bytes)?;
        self.control.leave(fault)
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let fault = self.control.enter(Operation::ReadBack, "")?;
        self.inner.as_mut().ok_or(StoreError::Void)?.read_back(offset, buf)?;
        self.control.leave(fault)
    }

    fn publish(mut self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        let fault = self.control.enter(Operation::Publish, name.as_str())?;
        let inner = self.inner.take().ok_or(StoreError::Void)?;
        if fault == Some(Fault::LyingRename) {
            return Ok(Published::New);
        }
        let published = inner.publish(name)?;
        *lock(&self.control.published_last) = Some(name.clone());
        if fault == Some(Fault::DroppedFsync) && published == Published::New {
            lock(&self.control.undo).push(Undo::Publish(name.clone()));
        }
        self.control.leave(fault)?;
        Ok(published)
    }
}

impl Drop for FaultUpload<'_> {
    fn drop(&mut self) {
        // A dead process removes nothing.
        if self.control.crashed.load(Ordering::SeqCst) {
            std::mem::forget(self.inner.take());
        }
    }
}

/// Given back when it is dropped, as the lock of a dead process is.
struct FaultLease {
    inner: Box<dyn Lease>,
    control: Arc<Control>,
}

impl Lease for FaultLease {
    fn fencing(&self) -> u64 {
        self.inner.fencing()
    }

    fn check(&self) -> Result<(), StoreError> {
        let fault = self.control.enter(Operation::CheckLease, "")?;
        self.inner.check()?;
        self.control.leave(fault)
    }
}

#[cfg(test)]
mod tests;
