//! How fast a store takes and gives.

use super::{StoreCheckOptions, probe_folder, probe_name};
use crate::store::{ObjectName, Store, StoreError};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// Small questions asked for the latency; the one in the middle counts.
const QUESTIONS: usize = 5;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Stored, each object looked at afterwards as always.
    pub up_bytes_per_sec: u64,
    /// Read.
    pub down_bytes_per_sec: u64,
    /// Of one small question.
    pub latency_millis: f64,
}

/// Stores objects of random bytes, reads them, and asks small questions. The objects stay: their removal is the caller's.
///
/// # Errors
/// Those of the store; [`StoreError::ReadBack`] where what is read is not what was stored.
pub fn measure(store: &dyn Store, options: &StoreCheckOptions, clock: &dyn Fn() -> Duration) -> Result<Measured, StoreError> {
    let folder = probe_folder()?;
    let names: Vec<ObjectName> =
        (0..options.measure_objects).map(|n| probe_name(&folder, &format!("speed-{n}"))).collect::<Result<_, _>>()?;
    let mut bytes = vec![0; options.measure_bytes];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::Io { path: "random bytes".into(), source: std::io::Error::other(e) })?;
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    let total = (bytes.len() as u64).saturating_mul(names.len() as u64);
    let (_, up) = timed(clock, || each(&names, options.threads, |name| store.put(name, &bytes.as_slice(), &sha256).map(|_| ())))?;
    let (_, down) = timed(clock, || each(&names, options.threads, |name| reads_back(store, name, &bytes)))?;
    let mut waits = Vec::with_capacity(QUESTIONS);
    for name in names.iter().cycle().take(QUESTIONS) {
        waits.push(timed(clock, || store.size(name))?.1);
    }
    waits.sort_unstable();
    let latency = waits.get(waits.len() / 2).copied().unwrap_or_default();
    let per_sec = |time: Duration| u64::try_from(u128::from(total) * 1_000_000 / time.as_micros().max(1)).unwrap_or(u64::MAX);
    Ok(Measured { up_bytes_per_sec: per_sec(up), down_bytes_per_sec: per_sec(down), latency_millis: latency.as_secs_f64() * 1000.0 })
}

fn reads_back(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
    let found = store.read(name, bytes.len() as u64)?;
    if found == bytes { Ok(()) } else { Err(StoreError::ReadBack { name: name.clone() }) }
}

fn timed<T>(clock: &dyn Fn() -> Duration, step: impl FnOnce() -> Result<T, StoreError>) -> Result<(T, Duration), StoreError> {
    let begun = clock();
    let value = step()?;
    Ok((value, clock().saturating_sub(begun)))
}

/// Does `step` for every name, several at once; the first error of each thread ends it.
fn each(names: &[ObjectName], threads: u32, step: impl Fn(&ObjectName) -> Result<(), StoreError> + Sync) -> Result<(), StoreError> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            step(name)?;
        }
        Ok(())
    };
    let panicked = || StoreError::Io { path: "measuring".into(), source: std::io::Error::other("a thread panicked") };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
    })
}
