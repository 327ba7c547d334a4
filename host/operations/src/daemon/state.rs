//! What the daemon says of itself in the state folder (`daemon.json`): whether it lives, what it is at, what comes next. A
//! hint for people and for `health`, and the last reading of the clocks; nothing is lost with it.

use super::{
    clock::{Leap, Reading, SETTLED},
    plan::{Job, NextRun},
};
use crate::{
    audit::process_key,
    context::Context,
    error::{OperationError, exit},
    report::Failure,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{fs, io::Write};

const FILE: &str = "daemon.json";

/// The daemon as it last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonState {
    /// Its process.
    pub pid: u32,
    /// The life of that process.
    process_key: String,
    /// `daemon`, or `once` where cron or a timer calls it.
    pub mode: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last showed that it lives.
    pub beat_at: Timestamp,
    /// When it ended in order; none while it works, and when it was killed.
    pub stopped_at: Option<Timestamp>,
    /// The last leap of the clock, until it is settled.
    pub leap: Option<Leap>,
    /// What is under way.
    pub running: Vec<String>,
    /// Each project that has a schedule, the next first.
    pub next: Vec<NextRun>,
    pub(super) reading: Reading,
    pub(super) leap_reading: Option<Reading>,
    /// When this one found that the one before had died, until that is settled.
    #[serde(default)]
    pub(super) death_reading: Option<Reading>,
}

/// Whether a daemon is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonLife {
    /// It works, and has shown that lately.
    Alive,
    /// Its process is there, but it has not shown that it works for minutes.
    Stuck,
    /// It ended in order.
    Stopped,
    /// Its process is gone without having ended in order.
    Died,
}

/// Longer than this without a sign is too long.
const SILENCE: SignedDuration = SignedDuration::from_mins(5);
/// That the daemon died is told until the next one has worked for so long.
const MOURNING: SignedDuration = SignedDuration::from_mins(10);

impl DaemonState {
    pub(super) fn begin(mode: &str, reading: Reading) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            process_key: process_key::of(pid).unwrap_or_default(),
            mode: mode.to_owned(),
            started_at: reading.wall,
            beat_at: reading.wall,
            stopped_at: None,
            leap: None,
            running: Vec::new(),
            next: Vec::new(),
            reading,
            leap_reading: None,
            death_reading: None,
        }
    }

    /// What the last daemon of this state folder told; none when there was none, or when it cannot be read.
    pub fn read(cx: &Context) -> Option<Self> {
        serde_json::from_slice(&fs::read(cx.config.host.state_dir.join(FILE)).ok()?).ok()
    }

    /// Whether it lives at `now`. One that cron calls is alive while it is called often enough.
    pub fn life(&self, now: Timestamp) -> DaemonLife {
        let is_there = process_key::of(self.pid).is_some_and(|key| key == self.process_key);
        let is_silent = now.duration_since(self.beat_at) > SILENCE;
        match (self.stopped_at.is_some(), is_there) {
            (true, _) => DaemonLife::Stopped,
            (false, false) => DaemonLife::Died,
            (false, true) if is_silent => DaemonLife::Stuck,
            (false, true) => DaemonLife::Alive,
        }
    }

    pub(super) fn write(&self, cx: &Context) -> Result<(), OperationError> {
        let folder = cx.private_dir("")?;
        let path = folder.join(FILE);
        let written = || {
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.persist(&path).map(drop).map_err(|error| error.error)
        };
        written().map_err(|source| OperationError::Io { doing: "cannot write", path: path.clone(), source })
    }
}

/// The name of a piece of work for people.
pub(super) fn job_name(job: &Job) -> String {
    match job {
        Job::Run(project) => format!("run of {project}"),
        Job::Task(name) => (*name).to_owned(),
    }
}

impl DaemonState {
    /// Compares the clocks with how they stood `before`; a leap is an alert.
    pub(super) fn watch(&mut self, before: &Reading, now: Reading) -> Option<(Leap, Failure)> {
        let leap = before.leap(&now);
        self.reading = now.clone();
        let leap = leap?;
        self.leap = Some(leap.clone());
        self.leap_reading = Some(now);
        let hint = "`timedatectl` shows whether the clock is kept right by a time server; what was due is done by the clock as it is now";
        let failure = Failure { message: leap.text(), causes: Vec::new(), hint: Some(hint.to_owned()), exit_status: exit::UNHEALTHY };
        Some((leap, failure))
    }

    /// What is to be said of the one before, which has died.
    pub(super) fn obituary(&self) -> Failure {
        let at_work = if self.running.is_empty() { String::new() } else { format!(", while at work: {}", self.running.join(", ")) };
        let message = format!("the daemon (process {}) ended after {} without stopping in order{at_work}", self.pid, self.beat_at);
        let hint = "it is at work again, and what was cut off is caught up; `journalctl -u havun-backup` and `dmesg` say what ended it";
        Failure { message, causes: Vec::new(), hint: Some(hint.to_owned()), exit_status: exit::UNHEALTHY }
    }

    /// Whether enough time has passed since the death of the one before; then it is forgotten.
    pub(super) fn mourned(&mut self) -> bool {
        let is_over = self.death_reading.as_ref().is_some_and(|since| self.has_passed(since, MOURNING));
        if is_over {
            self.death_reading = None;
        }
        is_over
    }

    fn has_passed(&self, since: &Reading, time: SignedDuration) -> bool {
        let passed = self.reading.steady.seconds.saturating_sub(since.steady.seconds);
        self.reading.steady.epoch != since.steady.epoch || SignedDuration::from_secs(passed) >= time
    }

    /// Whether a leap has been seen and no other one since for long enough; then it is forgotten.
    pub(super) fn settle(&mut self) -> bool {
        let is_settled = self.leap_reading.as_ref().is_some_and(|since| self.has_passed(since, SETTLED));
        if is_settled {
            (self.leap, self.leap_reading) = (None, None);
        }
        is_settled
    }
}
