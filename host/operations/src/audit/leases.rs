//! Leases: at most one host runs a project at a time, and one moment of its schedule is served once, whichever hosts share
//! the database.
//!
//! A lease is a row with a token. It is taken by an update that names the token and the expiry that were read, so that of
//! two hosts one finds the row changed; it is renewed while the run goes on, and free again when it was not renewed in time
//! or its process has died on this host. Whoever takes it over increases the token: a host that was only asleep finds
//! another one than its own, and stops. Expiry is reckoned by the clock of the server, so the clocks of the hosts do not
//! matter; a file has no other hosts, and goes by the clock of its caller.

use super::{AuditError, AuditLog, Row, args, process_key, time_text};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So often another host may be in the way before we give up: each time it was its turn.
const ATTEMPTS: usize = 16;

/// What a lease is wanted for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    /// The project.
    pub project: &'a str,
    /// The run; its row in `backup_logs` has it too.
    pub run_id: &'a str,
    /// The moment of the schedule that is to be served; none for a run that somebody asked for.
    pub slot: Option<Timestamp>,
    /// How long it lasts without being renewed.
    pub ttl: Duration,
    /// Take it from whoever holds it.
    pub force: bool,
}

/// A lease that we hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    project: String,
    token: i64,
    ttl_ms: i64,
    slot: Option<Timestamp>,
    /// The host whose run ended without giving it back, when there was one.
    pub taken_over_from: Option<String>,
}

/// What became of the wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// We hold it.
    Mine(Lease),
    /// Somebody else does.
    Held {
        /// Whose.
        host: String,
        /// The process on that host.
        pid: i64,
        /// When it ends, if it is not renewed.
        until: Timestamp,
    },
    /// The moment has been served.
    Done {
        /// By which host.
        host: String,
        /// When.
        at: String,
    },
}

struct LeaseRow {
    token: i64,
    held: bool,
    host: String,
    pid: i64,
    process_key: String,
    run_id: String,
    expires_ms: i64,
    done_slot: String,
    done_host: String,
    done_at: String,
}

const READ: &str = "SELECT token, held, host, pid, process_key, run_id, expires_ms, done_slot, done_host, done_at FROM run_leases \
                    WHERE project = ?";
const INSERT: &str = "INSERT INTO run_leases (project, token, held, host, pid, process_key, run_id, expires_ms, done_slot, done_host, done_at) \
                      VALUES (?, 0, 0, '', 0, '', '', 0, '', '', '')";
/// Only as it was read: whoever was quicker has changed the token, and who renewed it the expiry.
const TAKE: &str = "UPDATE run_leases SET token = token + 1, held = 1, host = ?, pid = ?, process_key = ?, run_id = ?, expires_ms = ? \
                    WHERE project = ? AND token = ? AND held = ? AND expires_ms = ?";
const RENEW: &str = "UPDATE run_leases SET expires_ms = ? WHERE project = ? AND token = ? AND held = 1";
const RELEASE: &str = "UPDATE run_leases SET held = 0 WHERE project = ? AND token = ?";
const RELEASE_DONE: &str = "UPDATE run_leases SET held = 0, done_slot = ?, done_host = ?, done_at = ? WHERE project = ? AND token = ?";
const EXPIRED: &str = "SELECT project, host, run_id FROM run_leases WHERE held = 1 AND expires_ms < ? AND host <> ?";
const INTERRUPT: &str = "UPDATE backup_logs SET status = 'interrupted', message = ? \
                         WHERE status = 'running' AND action = 'run' AND project = ? AND host = ? AND run_id = ?";

impl AuditLog {
    /// Takes the lease of a project, if nobody else holds it and its moment has not been served.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(crate) fn claim(&self, wanted: &Wanted<'_>, now: Timestamp) -> Result<Claim, AuditError> {
        let mut seen = self.read_lease(wanted.project)?;
        for _ in 0..ATTEMPTS {
            let clock = self.clock_ms(now)?;
            if seen.is_of(&self.host, wanted.run_id) {
                return Ok(Claim::Mine(self.lease(wanted, seen.token, None)));
            }
            if let Some(refused) = self.refusal(wanted, &seen, clock) {
                return Ok(refused);
            }
            if self.take(wanted, &seen, clock)? {
                let dead = seen.held.then(|| seen.host.clone());
                if seen.held {
                    self.interrupt(wanted.project, &seen.host, &seen.run_id)?;
                }
                return Ok(Claim::Mine(self.lease(wanted, seen.token + 1, dead)));
            }
            seen = self.read_lease(wanted.project)?;
        }
        Ok(Claim::Held { host: seen.host, pid: seen.pid, until: from_ms(seen.expires_ms) })
    }

    /// Holds a lease for another term. Whether it is still ours.
    ///
    /// # Errors
    /// As [`Self::execute`]; nothing is known then.
    pub(crate) fn renew(&self, lease: &Lease, now: Timestamp) -> Result<bool, AuditError> {
        let until = self.clock_ms(now)?.saturating_add(lease.ttl_ms);
        Ok(self.execute(RENEW, args![until, &lease.project, lease.token])? > 0)
    }

    /// Who has the lease of a project now, for people: nobody, when it has expired or its process has died here.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(crate) fn lease_holder(&self, project: &str, now: Timestamp) -> Result<Option<String>, AuditError> {
        let row = self.read_lease(project)?;
        let is_held = row.held && row.expires_ms > self.clock_ms(now)? && !self.has_died(&row);
        Ok(is_held.then(|| format!("host `{}` (process {})", row.host, row.pid)))
    }

    /// Gives a lease back; with `done`, its moment has been served: that is kept in the spool while the server is away.
    /// Nothing happens when it was lost.
    ///
    /// # Errors
    /// As [`Self::execute`]; the lease expires by itself then.
    pub(crate) fn release(&self, lease: &Lease, done: bool, now: Timestamp) -> Result<(), AuditError> {
        if !done {
            return self.execute(RELEASE, args![&lease.project, lease.token]).map(drop);
        }
        match self.release_done(lease, now) {
            Err(error) if error.is_gone() => self.keep_served(lease, now, error),
            released => released,
        }
    }

    pub(super) fn release_done(&self, lease: &Lease, at: Timestamp) -> Result<(), AuditError> {
        let released = match lease.slot {
            Some(slot) => self.execute(RELEASE_DONE, args![slot, &self.host, at, &lease.project, lease.token]),
            None => self.execute(RELEASE, args![&lease.project, lease.token]),
        };
        released.map(drop)
    }

    /// Marks runs of other hosts as interrupted whose lease has expired. A file has no other hosts.
    pub(super) fn mark_expired(&self) -> Result<(), AuditError> {
        let Some(clock) = self.database.server_ms()? else { return Ok(()) };
        for row in self.fetch(EXPIRED, args![clock, &self.host])? {
            self.interrupt(&row.text("project")?, &row.text("host")?, &row.text("run_id")?)?;
        }
        Ok(())
    }

    fn refusal(&self, wanted: &Wanted<'_>, seen: &LeaseRow, clock: i64) -> Option<Claim> {
        // A moment of a time to come was served by a clock that was ahead, and says nothing of this one.
        let is_past = seen.done_slot <= time_text(from_ms(clock));
        if is_past && wanted.slot.is_some_and(|slot| seen.done_slot >= time_text(slot)) {
            return Some(Claim::Done { host: seen.done_host.clone(), at: seen.done_at.clone() });
        }
        let is_free = !seen.held || wanted.force || seen.expires_ms <= clock || self.has_died(seen);
        (!is_free).then(|| Claim::Held { host: seen.host.clone(), pid: seen.pid, until: from_ms(seen.expires_ms) })
    }

    /// A process of this host need not be waited for when it is dead.
    fn has_died(&self, seen: &LeaseRow) -> bool {
        seen.host == self.host && !process_key::is_alive(seen.pid, &seen.process_key)
    }

    fn take(&self, wanted: &Wanted<'_>, seen: &LeaseRow, clock: i64) -> Result<bool, AuditError> {
        let (process, until) = (std::process::id(), clock.saturating_add(milliseconds(wanted.ttl)));
        let key = process_key::of(process).unwrap_or_default();
        let seen_as = (seen.token, seen.held, seen.expires_ms);
        let values = args![&self.host, process, key, wanted.run_id, until, wanted.project, seen_as.0, seen_as.1, seen_as.2];
        Ok(self.execute(TAKE, values)? > 0)
    }

    fn lease(&self, wanted: &Wanted<'_>, token: i64, taken_over_from: Option<String>) -> Lease {
        let (project, ttl_ms) = (wanted.project.to_owned(), milliseconds(wanted.ttl));
        Lease { project, token, ttl_ms, slot: wanted.slot, taken_over_from }
    }

    fn read_lease(&self, project: &str) -> Result<LeaseRow, AuditError> {
        if let Some(row) = self.fetch(READ, args![project])?.first() {
            return read_row(row);
        }
        match self.execute(INSERT, args![project]) {
            Err(error) if !error.is_duplicate() => return Err(error),
            _ => {}
        }
        let rows = self.fetch(READ, args![project])?;
        rows.first().map_or_else(|| Ok(LeaseRow::free()), read_row)
    }

    fn interrupt(&self, project: &str, host: &str, run_id: &str) -> Result<(), AuditError> {
        let message = format!("host `{host}` ended without completing this row: its lease expired, or was taken from it");
        self.execute(INTERRUPT, args![message, project, host, run_id]).map(drop)
    }

    fn clock_ms(&self, now: Timestamp) -> Result<i64, AuditError> {
        Ok(self.database.server_ms()?.unwrap_or_else(|| now.as_millisecond()))
    }
}

impl LeaseRow {
    fn free() -> Self {
        let none = String::new;
        Self {
            token: 0,
            held: false,
            host: none(),
            pid: 0,
            process_key: none(),
            run_id: none(),
            expires_ms: 0,
            done_slot: none(),
            done_host: none(),
            done_at: none(),
        }
    }

    /// Whether this run has it: its answer was lost on the way.
    fn is_of(&self, host: &str, run_id: &str) -> bool {
        self.held && self.host == host && self.run_id == run_id && self.pid == i64::from(std::process::id())
    }
}

fn read_row(row: &Row) -> Result<LeaseRow, AuditError> {
    Ok(LeaseRow {
        token: row.int("token")?,
        held: row.int("held")? != 0,
        host: row.text("host")?,
        pid: row.int("pid")?,
        process_key: row.text("process_key")?,
        run_id: row.text("run_id")?,
        expires_ms: row.int("expires_ms")?,
        done_slot: row.text("done_slot")?,
        done_host: row.text("done_host")?,
        done_at: row.text("done_at")?,
    })
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn from_ms(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}
