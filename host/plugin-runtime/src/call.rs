//! One call in its sandbox: a thread, a store and an instance of its own, all gone when it returns.

use crate::{
    api::GuestError,
    engine::{TICK, Ticker},
    limits::{Budget, Limits, Meter},
    text,
};
use havun_model::{Blame, Cancel, StrategyError, StrategyLog};
use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::{Duration, Instant},
};
use wasmtime::{
    Engine, Store, Trap, UpdateDeadline,
    component::{Instance, InstancePre, ResourceTable, ResourceTableError},
};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, I32Exit, WasiCtx, WasiCtxView, WasiView, p2::pipe::MemoryOutputPipe};

/// Bytes kept of what a guest writes to its standard output and error.
const MAX_SAID: usize = 64 << 10;
/// Bytes of it that an error message shows.
const SHOWN: usize = 1000;
/// Most random bytes in one question.
const MAX_RANDOM: u64 = 64 << 10;

/// Why the host ends a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The operator or the host said so.
    #[error("the run is being stopped")]
    Cancelled,
    /// Too much computing.
    #[error("it used more than its {} ms of processor time", .0.as_millis())]
    Cpu(Duration),
    /// Too much time on the clock.
    #[error("it took longer than {} ms", .0.as_millis())]
    Wall(Duration),
    /// Too many log lines.
    #[error("it wrote more than {0} log lines")]
    LogFlood(u32),
}

impl Stop {
    fn blame_and_code(&self) -> (Blame, &'static str) {
        match self {
            Self::Cancelled => (Blame::Operator, "cancelled"),
            Self::Cpu(_) | Self::LogFlood(_) => (Blame::Strategy, "limit"),
            Self::Wall(_) => (Blame::Strategy, "timeout"),
        }
    }
}

/// What the host holds for one call.
pub struct Guest {
    /// The guest's handles.
    pub table: ResourceTable,
    /// Stops the call.
    pub cancel: Cancel,
    /// Takes its log lines.
    pub log: Arc<dyn StrategyLog>,
    /// Log lines so far.
    pub lines: u32,
    /// When progress was last passed on.
    pub last_progress: Option<Instant>,
    /// What it may use.
    pub limits: Arc<Limits>,
    wasi: WasiCtx,
    meter: Meter,
    said: MemoryOutputPipe,
    budget: Budget,
    started: Instant,
    started_cpu: Duration,
    ticks: u32,
}

impl Guest {
    /// Why a long piece of the host's work must end now, if it must.
    pub fn must_stop(&self) -> Option<Stop> {
        if self.cancel.is_cancelled() {
            return Some(Stop::Cancelled);
        }
        (self.started.elapsed() > self.budget.wall).then_some(Stop::Wall(self.budget.wall))
    }

    /// Asked each tick while the guest computes. Ticks alone would charge it for a busy machine, processor time
    /// alone for the host's work on this thread.
    fn tick(&mut self) -> Result<(), Stop> {
        self.ticks += 1;
        if let Some(stop) = self.must_stop() {
            return Err(stop);
        }
        let over = TICK * self.ticks > self.budget.cpu && thread_cpu().saturating_sub(self.started_cpu) > self.budget.cpu;
        if over { Err(Stop::Cpu(self.budget.cpu)) } else { Ok(()) }
    }

    /// The last of what the guest wrote to its standard output and error.
    fn last_words(&self) -> Option<String> {
        let said = self.said.contents();
        let tail = said.get(said.len().saturating_sub(SHOWN)..).unwrap_or_default();
        let line = text::line(String::from_utf8_lossy(tail).trim(), SHOWN);
        (!line.is_empty()).then_some(line)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Clocks of 10 ms, too coarse to measure the host with.
struct CoarseClock(Instant);

impl HostWallClock for CoarseClock {
    fn resolution(&self) -> Duration {
        TICK
    }

    fn now(&self) -> Duration {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let tick = i64::try_from(TICK.as_nanos()).unwrap_or(1);
        Duration::new(now.tv_sec.try_into().unwrap_or(0), (now.tv_nsec / tick * tick).try_into().unwrap_or(0))
    }
}

impl HostMonotonicClock for CoarseClock {
    fn resolution(&self) -> u64 {
        u64::try_from(TICK.as_nanos()).unwrap_or(1)
    }

    fn now(&self) -> u64 {
        let tick = HostMonotonicClock::resolution(self);
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX) / tick * tick
    }
}

/// What is called, and on whose behalf.
pub struct Order<'a> {
    /// The strategy's id, or its file before it could be asked.
    pub strategy: &'a str,
    /// `detect`, `plan-backup`, …
    pub call: &'static str,
    /// Its time.
    pub budget: Budget,
    /// Stops it.
    pub cancel: &'a Cancel,
    /// Takes its log lines.
    pub log: Arc<dyn StrategyLog>,
}

impl Order<'_> {
    /// An error of this call.
    pub fn error(&self, blame: Blame, code: &str, message: &str) -> StrategyError {
        StrategyError {
            strategy: self.strategy.to_owned(),
            call: self.call,
            blame,
            code: code.to_owned(),
            message: text::line(message, 4096),
        }
    }

    /// The guest answered with an error.
    fn refused(&self, error: GuestError) -> StrategyError {
        match error {
            GuestError::Denied(what) => self.error(Blame::Operator, "denied", &format!("not granted: {what}")),
            GuestError::NotFound(what) => self.error(Blame::Strategy, "not-found", &what),
            GuestError::Invalid(what) => self.error(Blame::Strategy, "invalid", &what),
            GuestError::Limit(what) => self.error(Blame::Strategy, "limit", &what),
            GuestError::Io(what) => self.error(Blame::Host, "io", &what),
            GuestError::Cancelled => self.stopped(&Stop::Cancelled),
            GuestError::Other(fault) => {
                let own = text::is_word(&fault.code) && !RESERVED.contains(&fault.code.as_str());
                self.error(Blame::Strategy, if own { &fault.code } else { "other" }, &fault.message)
            }
        }
    }

    fn stopped(&self, stop: &Stop) -> StrategyError {
        let (blame, code) = stop.blame_and_code();
        self.error(blame, code, &stop.to_string())
    }

    /// The call ended without an answer.
    fn ended(&self, error: &wasmtime::Error, guest: &Guest) -> StrategyError {
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return self.stopped(stop);
        }
        if let Some(what) = guest.meter.refused() {
            return self.error(Blame::Strategy, "limit", what);
        }
        let (code, mut message) = reason(error);
        if let Some(words) = guest.last_words() {
            message = format!("{message}; its last words: {words}");
        }
        self.error(Blame::Strategy, code, &message)
    }
}

/// Codes that only the host gives.
const RESERVED: [&str; 7] = ["limit", "trap", "timeout", "denied", "invalid", "cancelled", "io"];

fn reason(error: &wasmtime::Error) -> (&'static str, String) {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return ("trap", format!("it called exit({})", exit.0));
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return (if *trap == Trap::StackOverflow { "limit" } else { "trap" }, trap.to_string());
    }
    let text = error.root_cause().to_string();
    let too_many = matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full));
    // wasmtime has no types for these.
    let limits = ["fuel allocated for hostcalls", "count too high", "minimum size", "handle"];
    let is_limit = too_many || limits.iter().any(|part| text.contains(part));
    (if is_limit { "limit" } else { "trap" }, text)
}

/// What calls need of the runtime that they belong to.
pub struct Sandbox<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Its clock.
    pub ticker: &'a Ticker,
    /// What a call may use.
    pub limits: &'a Arc<Limits>,
    /// Memory of all calls.
    pub memory: &'a Arc<AtomicU64>,
    /// The component, linked.
    pub component: &'a InstancePre<Guest>,
}

impl Sandbox<'_> {
    /// Calls the guest on a thread of its own, while `serve` runs on this one.
    ///
    /// The thread makes the call independent of whatever the caller's thread is: in a runtime, short of stack.
    ///
    /// # Errors
    /// Whatever goes wrong, as an error that names the strategy.
    pub fn call<R, S>(
        &self,
        order: &Order<'_>,
        serve: impl FnOnce() -> S,
        body: impl AsyncFnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<Result<R, GuestError>> + Send,
    ) -> (Result<R, StrategyError>, S)
    where
        R: Send,
    {
        thread::scope(|scope| {
            let named = thread::Builder::new().name(format!("strategy-{}", order.call));
            let guest = named.spawn_scoped(scope, || self.block(order, body));
            let served = serve();
            let host = |what: &str| Err(order.error(Blame::Host, "io", what));
            let result = match guest.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(result)) => result,
                Ok(Err(_panic)) => host("a function of the host panicked"),
                Err(source) => host(&format!("no thread for it: {source}")),
            };
            (result, served)
        })
    }

    fn block<R>(
        &self,
        order: &Order<'_>,
        body: impl AsyncFnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<Result<R, GuestError>>,
    ) -> Result<R, StrategyError> {
        let io = |source: std::io::Error| order.error(Blame::Host, "io", &source.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
        let _ticking = self.ticker.start().map_err(io)?;
        let mut store = self.store(order).map_err(|source| order.error(Blame::Host, "io", &source.to_string()))?;
        let guest = async {
            let instance = self.component.instantiate_async(&mut store).await?;
            body(&mut store, &instance).await
        };
        let answer = runtime.block_on(async {
            tokio::select! {
                answer = guest => answer,
                stop = outside_stop(order) => Err(stop.into()),
            }
        });
        match answer {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(refusal)) => Err(order.refused(refusal)),
            Err(error) => Err(order.ended(&error, store.data())),
        }
    }

    fn store(&self, order: &Order<'_>) -> wasmtime::Result<Store<Guest>> {
        let mut store = Store::try_new(self.engine, self.guest(order))?;
        store.limiter(|guest| &mut guest.meter);
        store.set_hostcall_fuel(self.limits.crossing_bytes);
        store.set_max_component_handles(self.limits.handles);
        store.set_epoch_deadline(1);
        // Yielding is what lets the time-out act.
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().tick()?;
            Ok(UpdateDeadline::Yield(1))
        });
        Ok(store)
    }

    fn guest(&self, order: &Order<'_>) -> Guest {
        let said = MemoryOutputPipe::new(MAX_SAID);
        let mut table = ResourceTable::new();
        table.set_max_capacity(self.limits.handles);
        Guest {
            table,
            cancel: order.cancel.clone(),
            log: Arc::clone(&order.log),
            lines: 0,
            last_progress: None,
            limits: Arc::clone(self.limits),
            wasi: empty_wasi(&said),
            meter: Meter::new(Arc::clone(self.limits), Arc::clone(self.memory)),
            said,
            budget: order.budget,
            started: Instant::now(),
            started_cpu: thread_cpu(),
            ticks: 0,
        }
    }
}

/// Ends when the call must, also while the guest waits.
async fn outside_stop(order: &Order<'_>) -> Stop {
    let end = tokio::time::Instant::now() + order.budget.wall;
    while tokio::time::Instant::now() < end {
        if order.cancel.is_cancelled() {
            return Stop::Cancelled;
        }
        tokio::time::sleep_until(end.min(tokio::time::Instant::now() + TICK * 5)).await;
    }
    Stop::Wall(order.budget.wall)
}

/// No environment, no arguments, no folder, no network; standard output and error into `said`.
fn empty_wasi(said: &MemoryOutputPipe) -> WasiCtx {
    let start = Instant::now();
    WasiCtx::builder()
        .stdout(said.clone())
        .stderr(said.clone())
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(MAX_RANDOM)
        .wall_clock(CoarseClock(start))
        .monotonic_clock(CoarseClock(start))
        .build()
}
