//! Waiting for the lease: a clean-up has it for short steps only, so whoever meets one waits.

use crate::{
    error::VaultError,
    open::at,
    store::{Lease, Sleeper, Store, StoreError, ThreadSleeper},
};
use havun_model::Cancel;
use std::{sync::Arc, time::Duration};

/// Between two looks at the lease.
const LOOK: Duration = Duration::from_millis(50);
/// How the name of a clean-up that holds a lease begins.
const CLEANUPS: [&str; 2] = ["cleanup", "prune"];

/// How long to wait for a lease that a clean-up holds.
#[derive(Clone)]
pub struct LeaseWait {
    /// At most this long in all.
    pub up_to: Duration,
    /// Waits.
    pub sleeper: Arc<dyn Sleeper>,
}

impl Default for LeaseWait {
    fn default() -> Self {
        Self { up_to: Duration::from_secs(30), sleeper: Arc::new(ThreadSleeper) }
    }
}

/// The name under which a clean-up takes the lease.
pub(crate) fn cleanup_holder(holder: &str) -> String {
    if is_cleanup(holder) { holder.to_owned() } else { format!("cleanup: {holder}") }
}

fn is_cleanup(holder: &str) -> bool {
    CLEANUPS.iter().any(|word| holder.starts_with(word))
}

/// Takes the lease; waits while a clean-up holds it.
pub(crate) fn take(store: &dyn Store, holder: &str, force: bool, wait: &LeaseWait, cancel: &Cancel) -> Result<Box<dyn Lease>, VaultError> {
    let mut waited = Duration::ZERO;
    loop {
        match store.lease(holder, force) {
            Err(StoreError::Locked { holder: other }) if is_cleanup(&other) && waited < wait.up_to => {
                if cancel.is_cancelled() {
                    return Err(VaultError::Cancelled);
                }
                wait.sleeper.sleep(LOOK);
                waited += LOOK;
            }
            other => return other.map_err(|e| at(store, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use std::sync::Mutex;

    fn waiting(sleeper: impl Fn(Duration) + Send + Sync + 'static) -> LeaseWait {
        LeaseWait { up_to: Duration::from_secs(1), sleeper: Arc::new(sleeper) }
    }

    #[test]
    fn a_clean_up_is_waited_for_until_it_lets_go() {
        let store = MemoryStore::new("test");
        let held = Mutex::new(vec![store.lease(&cleanup_holder("cli"), false).unwrap()]);
        let looks = Arc::new(Mutex::new((held, 0)));
        let seen = Arc::clone(&looks);
        let wait = waiting(move |_| {
            let mut looks = seen.lock().unwrap();
            looks.1 += 1;
            if looks.1 == 3 {
                looks.0.lock().unwrap().clear();
            }
        });
        assert!(take(&store, "a backup", false, &wait, &Cancel::default()).is_ok());
        assert_eq!(looks.lock().unwrap().1, 3);
    }

    #[test]
    fn the_wait_ends_and_nobody_else_is_waited_for() {
        let store = MemoryStore::new("test");
        let slept = Arc::new(Mutex::new(Duration::ZERO));
        let seen = Arc::clone(&slept);
        let wait = waiting(move |time| *seen.lock().unwrap() += time);
        let cleanup = store.lease("prune on host", false).unwrap();
        assert!(matches!(take(&store, "a backup", false, &wait, &Cancel::default()), Err(VaultError::Locked { .. })));
        assert_eq!(*slept.lock().unwrap(), Duration::from_secs(1));
        drop(cleanup);
        let _backup = store.lease("another backup", false).unwrap();
        assert!(matches!(take(&store, "a backup", false, &wait, &Cancel::default()), Err(VaultError::Locked { .. })));
        assert_eq!(*slept.lock().unwrap(), Duration::from_secs(1));
    }
}
