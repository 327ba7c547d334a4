//! The daemon: everything by itself, at its time.
//!
//! One thread, the loop in `serve`, decides what to begin; it waits for nothing but its own events, so that it can prove to
//! systemd that it lives. Looking into the audit database, every run and every task have threads of their own, and an error
//! or a panic in one of them stops none of the others. What has been done stands in the audit database, so that a restart
//! neither repeats nor forgets anything; what is due follows from that, the configuration and the clock, by `plan`.
//!
//! Read `plan` (what is due), `view` (what it is shown), `tasks` (all but the runs), `work` (carrying it out), `serve` (the
//! loop), `once` (all that is due, for cron), then `clock`, `lock`, `state`, `supervisor`, `metrics`.

mod clock;
mod lock;
mod metrics;
mod once;
pub mod plan;
mod serve;
mod state;
mod status;
mod supervisor;
mod tasks;
mod view;
mod work;

pub use clock::{Leap, Steady, SteadyClock, machine_steady};
pub use once::{JobReport, OnceReport, once, once_with};
pub use serve::{Event, Service, Signals, channel, serve};
pub use state::{DaemonLife, DaemonState};
pub use status::{DaemonStatus, daemon_status, next_runs};
pub use view::due_at;
pub use work::could_not_start;
pub(crate) use work::panic_text;
