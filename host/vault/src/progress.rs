//! Telling someone how far a long operation is.

/// Takes progress; called from several threads.
pub trait Progress: Send + Sync {
    /// `files` and `bytes` (logical) more are done in `stage` (`tree`, `dump`, `restore`, `verify`, `replicate`).
    fn advance(&self, stage: &str, files: u64, bytes: u64);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn advance(&self, _stage: &str, _files: u64, _bytes: u64) {}
}
