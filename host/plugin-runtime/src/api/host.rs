//! `host`: log, progress, cancellation.

use super::{GuestError, HostError, bindings::havun::backup::host};
use crate::{call::Guest, call::Stop, text};
use std::time::{Duration, Instant};

/// Least time between two reports of progress that are passed on.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

impl host::Host for Guest {
    fn log(&mut self, level: String, message: String) -> wasmtime::Result<()> {
        self.lines += 1;
        if self.lines > self.limits.log_flood {
            return Err(Stop::LogFlood(self.limits.log_flood).into());
        }
        if self.lines <= self.limits.log_lines {
            let level = LEVELS.into_iter().find(|known| *known == level).unwrap_or("info");
            self.log.log(level, &text::line(&message, self.limits.log_line_bytes));
        }
        if self.lines == self.limits.log_lines {
            self.log.log("warn", "further log lines of this call are dropped");
        }
        Ok(())
    }

    fn progress(&mut self, done: f64, total: Option<f64>, note: String) -> wasmtime::Result<()> {
        let now = Instant::now();
        if done.is_finite() && self.last_progress.is_none_or(|last| now.duration_since(last) >= PROGRESS_EVERY) {
            self.last_progress = Some(now);
            self.log.progress(done, total.filter(|total| total.is_finite()), &text::line(&note, 200));
        }
        Ok(())
    }

    fn check_cancelled(&mut self) -> Result<(), HostError> {
        if self.cancel.is_cancelled() { Err(GuestError::Cancelled.into()) } else { Ok(()) }
    }
}
