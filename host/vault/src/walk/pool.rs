//! Threads that list folders ahead of the consumer.

use super::listing::{Child, Folder, Lister, Listing, Scratch, Work};
use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{Builder, JoinHandle},
};

/// Memory of batches that are ready and not yet consumed; then the threads pause.
const LOOK_AHEAD_BYTES: usize = 8 << 20;

/// A batch of work that is done once, by whoever comes first.
pub(super) struct Slot {
    state: Mutex<State>,
    done: Condvar,
}

enum State {
    Waiting(Work),
    Running,
    Done(Listing),
    Taken,
}

impl Slot {
    pub fn new(work: Work) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting(work)), done: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work, if nobody has begun it.
    fn claim(&self) -> Option<Work> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Running) {
            State::Waiting(work) => Some(work),
            other => {
                *state = other;
                None
            }
        }
    }

    /// The result, if it is there.
    fn take(&self) -> Option<Listing> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(listing) => Some(listing),
            other => {
                *state = other;
                None
            }
        }
    }

    fn finish(&self, listing: Listing) {
        *self.lock() = State::Done(listing);
        self.done.notify_all();
    }

    fn wait(&self) -> Listing {
        let mut state = self.lock();
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Done(listing) => return listing,
                State::Taken => return Listing::default(),
                other => *state = other,
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Finishes a slot even when listing it panics, so that the consumer does not wait for ever.
struct Promise<'s> {
    slot: &'s Slot,
    listing: Option<Listing>,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let broken = || Listing { error: Some(io::Error::other("listing the folder failed inside the program")), ..Listing::default() };
        self.slot.finish(self.listing.take().unwrap_or_else(broken));
    }
}

struct Shared {
    lister: Arc<Lister>,
    queue: Mutex<Queue>,
    wake: Condvar,
    ahead: AtomicUsize,
}

/// Work that nobody has begun (some of it may have been by now); the last is the first in path order.
#[derive(Default)]
struct Queue {
    slots: Vec<Arc<Slot>>,
    idle: usize,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_far_ahead(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) >= LOOK_AHEAD_BYTES
    }

    fn push(&self, found: &mut Vec<Arc<Slot>>) {
        if found.is_empty() {
            return;
        }
        let mut queue = self.lock();
        queue.slots.append(found);
        if queue.idle > 0 {
            self.wake.notify_all();
        }
    }

    /// Takes a slot that has been claimed from the end of the queue, where it mostly is.
    fn forget(&self, slot: &Arc<Slot>) {
        let mut queue = self.lock();
        queue.slots.pop_if(|last| Arc::ptr_eq(last, slot));
    }

    fn run(&self, slot: &Slot, work: Work, scratch: &mut Scratch) {
        let mut promise = Promise { slot, listing: None };
        let listing = self.lister.run(work, scratch);
        self.push(&mut scratch.found);
        self.ahead.fetch_add(listing.bytes, Ordering::Relaxed);
        promise.listing = Some(listing);
    }

    fn work(&self) {
        let mut scratch = Scratch::new();
        while let Some(slot) = self.next_slot() {
            if let Some(work) = slot.claim() {
                self.run(&slot, work, &mut scratch);
            }
        }
    }

    fn next_slot(&self) -> Option<Arc<Slot>> {
        let mut queue = self.lock();
        loop {
            if queue.stop {
                return None;
            }
            if !self.is_far_ahead()
                && let Some(slot) = queue.slots.pop()
            {
                return Some(slot);
            }
            queue.idle += 1;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

/// The threads and the consumer's own part in their work.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    scratch: Scratch,
}

impl Pool {
    pub fn new(lister: Arc<Lister>, threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { lister, queue: Mutex::default(), wake: Condvar::new(), ahead: AtomicUsize::new(0) });
        let mut pool = Self { shared, threads: Vec::new(), scratch: Scratch::new() };
        for _ in 0..threads {
            let shared = Arc::clone(&pool.shared);
            pool.threads.push(Builder::new().name("walk".to_owned()).spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    pub fn submit_root(&self, folder: Folder) -> Child {
        let slot = Slot::new(Work::Open(Arc::new(folder)));
        self.shared.push(&mut vec![Arc::clone(&slot)]);
        Child::Later(slot)
    }

    /// The listing of a folder: as it is, or made here when nobody has begun it. While another thread makes it, this
    /// one does what comes next.
    pub fn take(&mut self, child: Child) -> Listing {
        let slot = match child {
            Child::Listed(listing) => return *listing,
            Child::Later(slot) => slot,
        };
        if let Some(work) = slot.claim() {
            self.shared.forget(&slot);
            self.shared.run(&slot, work, &mut self.scratch);
        }
        let listing = loop {
            if let Some(listing) = slot.take() {
                break listing;
            }
            if !self.do_other_work() {
                break slot.wait();
            }
        };
        self.consumed(listing.bytes);
        listing
    }

    fn do_other_work(&mut self) -> bool {
        if self.shared.is_far_ahead() {
            return false;
        }
        let Some(other) = self.shared.lock().slots.pop() else { return false };
        if let Some(work) = other.claim() {
            self.shared.run(&other, work, &mut self.scratch);
        }
        true
    }

    fn consumed(&self, bytes: usize) {
        let before = self.shared.ahead.fetch_sub(bytes, Ordering::Relaxed);
        if before >= LOOK_AHEAD_BYTES && before - bytes < LOOK_AHEAD_BYTES {
            // Under the lock: a thread that has just looked must be asleep before it is woken.
            let _queue = self.shared.lock();
            self.shared.wake.notify_all();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            let _its_panic_was_reported = thread.join();
        }
    }
}
