//! The connections of a store: made when they are needed, dropped when they break, shared by everybody.

use super::{
    SftpOptions,
    connect::connect,
    failure::Failure,
    link::{Link, lock},
};
use havun_vault::store::StoreError;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit};

/// After the last of three attempts has failed, others that want the same connection are told so for this long.
const QUIET: Duration = Duration::from_secs(1);

pub(super) struct Pool {
    places: Vec<Arc<Place>>,
}

/// Where a connection is or can be.
#[derive(Default)]
struct Place {
    link: AsyncMutex<Option<Arc<Link>>>,
    /// A copy that can be looked at without waiting.
    seen: Mutex<Option<Arc<Link>>>,
    /// Its second channel.
    second: AsyncMutex<Option<Arc<Link>>>,
    users: AtomicUsize,
    failed: Mutex<Option<(Instant, String)>>,
}

/// The use of a connection for one operation.
pub(super) struct Ticket {
    pub link: Arc<Link>,
    place: Arc<Place>,
    _operation: OwnedSemaphorePermit,
}

impl std::ops::Deref for Ticket {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.place.users.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Where a channel is or can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelAt {
    place: usize,
    /// The second of its connection.
    second: bool,
}

/// Counts a user from the choice of a place on, so that those who choose next see it.
struct Claim(Option<Arc<Place>>);

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            place.users.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Claim {
    fn of(place: &Arc<Place>) -> Self {
        place.users.fetch_add(1, Ordering::SeqCst);
        Self(Some(Arc::clone(place)))
    }

    /// Waits until the connection has room for another operation.
    async fn use_for_one(mut self, link: Arc<Link>) -> Result<Ticket, StoreError> {
        let operation = Arc::clone(&link.operations).acquire_owned().await;
        let operation = operation.map_err(|e| Failure::Broken(e.to_string()).at("waiting for a connection"))?;
        let place = self.0.take().ok_or_else(none_allowed)?;
        Ok(Ticket { link, place, _operation: operation })
    }
}

fn none_allowed() -> StoreError {
    StoreError::Unreachable { what: "no connection is allowed".to_owned() }
}

impl Pool {
    pub fn new(connections: usize) -> Self {
        Self { places: (0..connections.clamp(1, 8)).map(|_| Arc::default()).collect() }
    }

    /// The connection with the least to do; a new one where all that there are have something to do.
    pub async fn ticket(&self, options: &SftpOptions) -> Result<Ticket, StoreError> {
        let mut claim = self.claim();
        let Some(place) = claim.0.clone() else { return Err(none_allowed()) };
        let link = match place.link(options).await {
            Ok(link) => link,
            Err(error) => {
                drop(claim);
                let Some((other, link)) = self.any_alive() else { return Err(error) };
                // Fewer connections than allowed are slower and nothing worse: many servers take only a few.
                tracing::debug!(%error, "one connection less");
                claim = other;
                link
            }
        };
        claim.use_for_one(link).await
    }

    /// One channel, made where it is not there.
    pub async fn ticket_at(&self, options: &SftpOptions, channel: ChannelAt) -> Result<Ticket, StoreError> {
        let Some(place) = self.places.get(channel.place) else { return Err(none_allowed()) };
        let claim = Claim::of(place);
        let link = if channel.second { place.second(options).await? } else { place.link(options).await? };
        claim.use_for_one(link).await
    }

    /// Every channel that there is or could be, but the one of `ticket`: first one of each connection.
    pub fn channels_besides(&self, ticket: &Ticket) -> Vec<ChannelAt> {
        let of = |second| (0..self.places.len()).map(move |place| ChannelAt { place, second });
        let is_it = |at: &ChannelAt| !at.second && self.places.get(at.place).is_some_and(|place| Arc::ptr_eq(place, &ticket.place));
        of(false).chain(of(true)).filter(|at| !is_it(at)).collect()
    }

    fn claim(&self) -> Claim {
        let place = self.places.iter().min_by_key(|place| place.load());
        place.map_or(Claim(None), Claim::of)
    }

    fn any_alive(&self) -> Option<(Claim, Arc<Link>)> {
        let place = self.places.iter().filter(|place| place.alive().is_some()).min_by_key(|place| place.load())?;
        let link = place.alive()?;
        Some((Claim::of(place), link))
    }

    /// Any connection, without one being made or waited for.
    pub fn peek(&self) -> Option<Arc<Link>> {
        self.places.iter().find_map(|place| place.alive())
    }
}

impl Place {
    /// Users, bytes in flight, and last whether a connection has to be made.
    fn load(&self) -> (usize, usize, bool) {
        let link = self.alive();
        (self.users.load(Ordering::SeqCst), link.as_ref().map_or(0, |link| link.bytes_in_flight()), link.is_none())
    }

    fn alive(&self) -> Option<Arc<Link>> {
        lock(&self.seen).as_ref().filter(|link| !link.is_dead()).cloned()
    }

    async fn link(&self, options: &SftpOptions) -> Result<Arc<Link>, StoreError> {
        let mut link = self.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| !link.is_dead()) {
            return Ok(Arc::clone(link));
        }
        *link = None;
        if let Some((_, what)) = lock(&self.failed).as_ref().filter(|(at, _)| at.elapsed() < QUIET) {
            return Err(StoreError::Unreachable { what: what.clone() });
        }
        let made = connect_again(options).await;
        *lock(&self.failed) = match &made {
            Err(StoreError::Unreachable { what }) => Some((Instant::now(), what.clone())),
            _ => None,
        };
        let made = made?;
        *lock(&self.seen) = Some(Arc::clone(&made));
        *link = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl Place {
    async fn second(&self, options: &SftpOptions) -> Result<Arc<Link>, StoreError> {
        let mut second = self.second.lock().await;
        if let Some(link) = second.as_ref().filter(|link| !link.is_dead()) {
            return Ok(Arc::clone(link));
        }
        *second = None;
        let made = self.link(options).await?.second().await.map_err(|failure| failure.at("opening a second channel"))?;
        *second = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// Three attempts; only silence is worth another.
async fn connect_again(options: &SftpOptions) -> Result<Arc<Link>, StoreError> {
    let pause = options.timeouts.reconnect_pause;
    for pause in [pause, pause * 4] {
        match connect(options).await {
            Err(StoreError::Unreachable { what }) => tracing::debug!(what, ?pause, "connecting again"),
            other => return other,
        }
        tokio::time::sleep(pause).await;
    }
    connect(options).await
}
