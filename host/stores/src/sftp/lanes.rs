//! The way of a large object's bytes: the caller's thread reads them, and each part goes over the channel that has the least
//! under way.
//!
//! An OpenSSH server takes 2 MiB per round trip on one channel, whatever the link could carry. So the temporary file of a
//! large object is opened on two channels of every connection of the store, as they become ready, and its parts are dealt out. They are never
//! further apart than [`REACH_BYTES`]: of a file that was cut off, everything but the last [`REACH_BYTES`] is there, and a later
//! attempt goes on from that place. So at most twice as much is sent again.

use super::{
    failure::Failure,
    link::{Airborne, Link, Request, lock},
    pool::Ticket,
    shared::Shared,
};
use russh_sftp::protocol::OpenFlags;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// From this size on an object goes over several connections, where there are several.
pub(super) const SPREAD_BYTES: u64 = 16 << 20;
/// From the first byte that is not acknowledged to the last that is sent, at most.
pub(super) const REACH_BYTES: u64 = 16 << 20;

/// The connections that have an object's file open.
pub(super) struct Lanes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lanes: Vec<Lane>,
    /// Lanes that have not ended.
    busy: usize,
    /// No more bytes come.
    ended: bool,
    /// Where the parts begin that are not acknowledged.
    under_way: BTreeSet<u64>,
    /// What went wrong first.
    failure: Option<Failure>,
}

struct Lane {
    link: Arc<Link>,
    parts: mpsc::UnboundedSender<Part>,
}

struct Part {
    at: u64,
    bytes: Vec<u8>,
    airborne: Airborne,
}

/// Nothing more can be sent; [`Lanes::end`] says why.
pub(super) struct Stopped;

impl Lanes {
    /// Begins with the connection on which the file is open already.
    pub fn start(shared: &Shared, link: &Arc<Link>, handle: &str) -> Arc<Self> {
        let lanes = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        if let Some(parts) = lanes.join(link) {
            let (lanes, link, handle) = (Arc::clone(&lanes), Arc::clone(link), handle.to_owned());
            shared.spawn(async move {
                lanes.run(&link, &handle, parts).await;
                lanes.leave();
            });
        }
        lanes
    }

    /// Opens the file at `path` on the other channels too, and uses each as soon as it is ready. One that cannot be had
    /// makes it slower and nothing worse.
    pub fn spread(self: &Arc<Self>, shared: &Arc<Shared>, first: &Ticket, path: &str) {
        for channel in shared.channels_besides(first) {
            let (lanes, shared, path) = (Arc::clone(self), Arc::clone(shared), path.to_owned());
            Arc::clone(&shared).spawn(async move {
                if lanes.has_ended() {
                    return;
                }
                let Ok(ticket) = shared.ticket_at(channel).await else { return };
                let Ok(handle) = ticket.open(&path, OpenFlags::WRITE).await else { return };
                if let Some(parts) = lanes.join(&ticket.link) {
                    lanes.run(&ticket.link, &handle, parts).await;
                    if lanes.has_failed() {
                        // The file is removed next, and an open one would keep its space.
                        let _closed_or_broken = ticket.close(&handle).await;
                    } else {
                        drop(ticket.close(&handle));
                    }
                    lanes.leave();
                } else {
                    drop(ticket.close(&handle));
                }
            });
        }
    }

    fn has_ended(&self) -> bool {
        lock(&self.state).ended
    }

    fn has_failed(&self) -> bool {
        lock(&self.state).failure.is_some()
    }

    /// `None` where it is too late.
    fn join(&self, link: &Arc<Link>) -> Option<mpsc::UnboundedReceiver<Part>> {
        let mut state = lock(&self.state);
        if state.ended || state.failure.is_some() {
            return None;
        }
        let (parts, queue) = mpsc::unbounded_channel();
        state.lanes.push(Lane { link: Arc::clone(link), parts });
        state.busy += 1;
        Some(queue)
    }

    /// Sends the parts that come through `queue`, and ends when the last is acknowledged.
    async fn run(&self, link: &Arc<Link>, handle: &str, mut queue: mpsc::UnboundedReceiver<Part>) {
        let mut waiting: VecDeque<(u64, Request<()>, Airborne)> = VecDeque::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            let oldest = async {
                match waiting.front_mut() {
                    Some((_, request, _)) => request.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = oldest => {
                    if let Some((at, _, airborne)) = waiting.pop_front() {
                        drop(airborne);
                        self.landed(at, answer);
                    }
                }
                part = queue.recv(), if open => match part {
                    Some(Part { at, bytes, airborne }) => waiting.push_back((at, link.write(handle, at, bytes), airborne)),
                    None => open = false,
                },
            }
        }
    }

    fn leave(&self) {
        lock(&self.state).busy -= 1;
        self.changed.notify_all();
    }

    fn landed(&self, at: u64, answer: Result<(), Failure>) {
        let mut state = lock(&self.state);
        state.under_way.remove(&at);
        if let Err(failure) = answer {
            state.failure.get_or_insert(failure);
            // No lane waits for parts any more; each still waits for its answers.
            state.lanes.clear();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Sends a part, once it is near enough to what is not acknowledged and a connection can take it. Blocks the calling
    /// thread, which is none of the runtime's.
    pub fn send(&self, at: u64, bytes: Vec<u8>) -> Result<(), Stopped> {
        let link = self.turn_of(at, bytes.len() as u64)?;
        let airborne = link.take_off(bytes.len());
        let mut state = lock(&self.state);
        let airborne = airborne.map_err(|failure| {
            state.failure.get_or_insert(failure);
            Stopped
        })?;
        let lane = state.lanes.iter().find(|lane| Arc::ptr_eq(&lane.link, &link)).ok_or(Stopped)?;
        lane.parts.send(Part { at, bytes, airborne }).map_err(|_| Stopped)
    }

    /// Waits until a part may be sent, notes it as under way, and says where it goes.
    fn turn_of(&self, at: u64, len: u64) -> Result<Arc<Link>, Stopped> {
        let mut state = lock(&self.state);
        loop {
            if state.failure.is_some() {
                return Err(Stopped);
            }
            if state.under_way.first().is_none_or(|first| at + len - first <= REACH_BYTES) {
                break;
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(200));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.under_way.insert(at);
        let lane = state.lanes.iter().min_by_key(|lane| lane.link.bytes_in_flight()).ok_or(Stopped)?;
        Ok(Arc::clone(&lane.link))
    }

    /// Waits until everything that was sent is acknowledged, or can no more be.
    pub fn end(&self) -> Result<(), Failure> {
        let mut state = lock(&self.state);
        state.ended = true;
        state.lanes.clear();
        while state.busy > 0 {
            let waited = self.changed.wait_timeout(state, Duration::from_millis(200));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.failure.take().map_or(Ok(()), Err)
    }
}
