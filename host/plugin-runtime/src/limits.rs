//! What one strategy may use. The defaults suit an interpreter (Python, JavaScript) as well as compiled code.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use wasmtime::ResourceLimiter;

const MIB: u64 = 1 << 20;

/// Time of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Processor time in the guest.
    pub cpu: Duration,
    /// Time on the clock, work of the host on the guest's behalf included.
    pub wall: Duration,
}

impl Budget {
    const fn secs(cpu: u64, wall: u64) -> Self {
        Self { cpu: Duration::from_secs(cpu), wall: Duration::from_secs(wall) }
    }
}

/// Bounds of the child that compiles a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space, bytes (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// Processor time (`RLIMIT_CPU`), whole seconds.
    pub cpu: Duration,
    /// Time on the clock.
    pub wall: Duration,
}

/// What one call into a strategy may use; nothing carries over to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `describe`.
    pub describe: Budget,
    /// `detect`, `plan-backup` and `plan-restore`.
    pub plan: Budget,
    /// `generate`, `after-restore` and `verify`.
    pub work: Budget,
    /// Bytes of all linear memories of a call together.
    pub memory_bytes: u64,
    /// Bytes of the linear memories of all calls of a [`crate::Runtime`] at one moment.
    pub total_memory_bytes: u64,
    /// Linear memories.
    pub memories: usize,
    /// Tables.
    pub tables: usize,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// Core instances.
    pub instances: usize,
    /// Handles (trees, writers, …) open at one moment.
    pub handles: usize,
    /// Bytes that one crossing of the boundary may carry out of the guest.
    pub crossing_bytes: usize,
    /// Log lines kept.
    pub log_lines: u32,
    /// Bytes kept of a log line.
    pub log_line_bytes: usize,
    /// Log lines after which the call is ended.
    pub log_flood: u32,
    /// Bytes that one `generate` may write.
    pub output_bytes: u64,
    /// Largest component.
    pub component_bytes: u64,
    /// The compiling child.
    pub compile: CompileLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            describe: Budget::secs(1, 10),
            plan: Budget::secs(5, 30),
            work: Budget::secs(60, 3600),
            memory_bytes: 256 * MIB,
            total_memory_bytes: 1024 * MIB,
            memories: 16,
            tables: 64,
            table_elements: 1_000_000,
            instances: 200,
            handles: 1000,
            crossing_bytes: 2 << 20,
            log_lines: 2000,
            log_line_bytes: 8 << 10,
            log_flood: 100_000,
            output_bytes: 1024 * MIB,
            component_bytes: 64 * MIB,
            compile: CompileLimits { memory_bytes: 1024 * MIB, cpu: Duration::from_secs(60), wall: Duration::from_secs(180) },
        }
    }
}

/// Sums what a store holds (wasmtime's own `StoreLimits` caps each memory alone).
pub struct Meter {
    limits: Arc<Limits>,
    shared: Arc<AtomicU64>,
    memory: u64,
    elements: usize,
    last_growth: u64,
    refused: Option<String>,
}

impl Meter {
    /// A meter at zero; `shared` sums over all stores of a runtime.
    pub fn new(limits: Arc<Limits>, shared: Arc<AtomicU64>) -> Self {
        Self { limits, shared, memory: 0, elements: 0, last_growth: 0, refused: None }
    }

    /// What was refused last: the likely reason of a trap that follows.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    fn refuse(&mut self, what: String) -> wasmtime::Result<bool> {
        self.refused = Some(what);
        Ok(false)
    }

    fn take_shared(&self, bytes: u64) -> bool {
        let room = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.limits.total_memory_bytes);
        self.shared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn give_back(&mut self, bytes: u64) {
        self.memory = self.memory.saturating_sub(bytes);
        self.shared.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.fetch_sub(self.memory, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let growth = desired.saturating_sub(current) as u64;
        let sum = self.memory.saturating_add(growth);
        if sum > self.limits.memory_bytes {
            return self.refuse(format!("memory limit of {} MiB (it asked for {} MiB)", self.limits.memory_bytes / MIB, sum / MIB));
        }
        if !self.take_shared(growth) {
            let limit = self.limits.total_memory_bytes / MIB;
            return self.refuse(format!("memory limit of {limit} MiB for all strategies that run at one moment"));
        }
        (self.memory, self.last_growth) = (sum, growth);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let growth = std::mem::take(&mut self.last_growth);
        self.give_back(growth);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let sum = self.elements.saturating_add(desired.saturating_sub(current));
        if sum > self.limits.table_elements {
            return self.refuse(format!("limit of {} table elements", self.limits.table_elements));
        }
        self.elements = sum;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed_and_given_back() {
        let limits = Arc::new(Limits { memory_bytes: 3 * MIB, total_memory_bytes: 4 * MIB, ..Limits::default() });
        let shared = Arc::new(AtomicU64::new(0));
        let mut one = Meter::new(Arc::clone(&limits), Arc::clone(&shared));
        assert!(one.memory_growing(0, 2 << 20, None).unwrap());
        assert!(!one.memory_growing(0, 2 << 20, None).unwrap());
        assert!(one.refused().is_some());
        let mut two = Meter::new(limits, Arc::clone(&shared));
        assert!(!two.memory_growing(0, 3 << 20, None).unwrap());
        assert!(two.memory_growing(0, 1 << 20, None).unwrap());
        drop((one, two));
        assert_eq!(shared.load(Ordering::Relaxed), 0);
    }
}
