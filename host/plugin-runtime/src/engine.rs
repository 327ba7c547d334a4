//! The wasmtime engine: one configuration for the host and for the compiling child, and the clock that
//! interrupts guests.

use crate::{api::bindings, call::Guest};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};
use wasmtime::{
    Config, Engine,
    component::{HasSelf, Linker},
};

/// Length of a tick.
pub const TICK: Duration = Duration::from_millis(10);

/// A new engine.
pub fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Host functions run on the same fiber: overflowing it would end the process.
        .max_wasm_stack(1 << 20)
        .async_stack_size(4 << 20)
        .async_stack_zeroing(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false);
    Engine::new(&config)
}

/// Differs whenever an artefact of another engine would not fit this one.
pub fn compatibility(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// All that a guest can import: our interfaces, and WASI, which leads nowhere.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    bindings::Strategy::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// Advances the engine's epoch while calls are under way. An operating system thread, because a guest that
/// never yields would starve a task; it ends with the last call.
pub struct Ticker {
    engine: Engine,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: usize,
    clock: Option<Clock>,
}

struct Clock {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Ticker {
    /// A ticker at rest.
    pub fn new(engine: Engine) -> Self {
        Self { engine, state: Mutex::default() }
    }

    /// Ticks until the guard is dropped.
    pub fn start(&self) -> std::io::Result<Ticking<'_>> {
        let mut state = lock(&self.state);
        if state.clock.is_none() {
            state.clock = Some(Clock::start(self.engine.clone())?);
        }
        state.calls += 1;
        Ok(Ticking(self))
    }
}

/// A call under way.
pub struct Ticking<'a>(&'a Ticker);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.calls = state.calls.saturating_sub(1);
        if state.calls == 0
            && let Some(clock) = state.clock.take()
        {
            clock.end();
        }
    }
}

impl Clock {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&stop);
        let tick = move || {
            let mut stopped = lock(&told.0);
            while !*stopped {
                stopped = told.1.wait_timeout(stopped, TICK).unwrap_or_else(PoisonError::into_inner).0;
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new().name("strategy-clock".to_owned()).spawn(tick)?;
        Ok(Self { stop, thread })
    }

    fn end(self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        let _ = self.thread.join();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
