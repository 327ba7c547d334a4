//! How long the stages of a backup were busy. Stages run at the same time on several threads, so the times of all of them
//! together are longer than the run, and the longest is what to make faster.

use serde::Serialize;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Milliseconds that the threads of each stage were busy, summed over the threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StageTimes {
    /// From the first folder to the last, on one thread; includes waiting for the readers.
    pub walk_ms: u64,
    /// Opening, describing and reading files.
    pub read_ms: u64,
    /// Cutting, hashing and looking up chunks of files.
    pub hash_ms: u64,
    /// Compressing frames, and decoding them again.
    pub compress_ms: u64,
    /// Sealing, hashing, writing and reading back packs.
    pub write_ms: u64,
    /// Publishing packs under their names.
    pub publish_ms: u64,
    /// Everything after the last byte was read: index, snapshot, what still had to be written.
    pub commit_ms: u64,
}

/// A stage that is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Walk,
    Read,
    Hash,
    Compress,
    Write,
    Publish,
    Commit,
}

/// Of small files one in so many is timed.
const SAMPLED: u32 = 16;

/// Adds up; shared by the threads of a session.
#[derive(Debug, Default)]
pub(crate) struct Timings([AtomicU64; 7]);

impl Timings {
    /// Does `work` and counts its time.
    pub fn of<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.add(stage, began.elapsed());
        done
    }

    /// Likewise one of very many: where a clock is slow, timing each costs more than it tells. One in [`SAMPLED`] counts for
    /// all of them.
    pub fn of_many<T>(&self, place: u32, stage: Stage, work: impl FnOnce() -> T) -> T {
        if place % SAMPLED != SAMPLED / 2 {
            return work();
        }
        let began = Instant::now();
        let done = work();
        self.add(stage, began.elapsed().saturating_mul(SAMPLED));
        done
    }

    pub fn add(&self, stage: Stage, time: Duration) {
        if let Some(sum) = self.0.get(stage as usize) {
            sum.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub fn read(&self) -> StageTimes {
        let ms = |stage: Stage| self.0.get(stage as usize).map_or(0, |sum| sum.load(Ordering::Relaxed) / 1000);
        StageTimes {
            walk_ms: ms(Stage::Walk),
            read_ms: ms(Stage::Read),
            hash_ms: ms(Stage::Hash),
            compress_ms: ms(Stage::Compress),
            write_ms: ms(Stage::Write),
            publish_ms: ms(Stage::Publish),
            commit_ms: ms(Stage::Commit),
        }
    }
}
