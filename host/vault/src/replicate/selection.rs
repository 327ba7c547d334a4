//! Which snapshots a replica is to have, where it is not to have all of them.
//!
//! Only what a replica lacks is asked about: nothing is ever taken away from one here.

use crate::{
    error::VaultError,
    holds::Holds,
    open::Vault,
    snapshots::StoredSnapshot,
    store::{Listed, StoreError},
};
use havun_model::retention::Term;
use jiff::{Timestamp, tz::TimeZone};
use std::sync::OnceLock;

/// A term that leaves older snapshots out.
#[derive(Debug, Clone)]
pub struct Selection {
    /// What is younger is copied.
    pub term: Term,
    /// Where calendar years begin and end.
    pub zone: TimeZone,
    /// Now.
    pub now: Timestamp,
    /// So many of the newest snapshots of the source are copied whatever their age.
    pub floor: usize,
    /// A snapshot is also copied when it was promised, as it was made, to be in an archive for longer; likewise one that a
    /// hold of the source keeps.
    pub promised: bool,
    holds: OnceLock<Holds>,
}

impl Selection {
    /// See the fields.
    pub fn new(term: Term, zone: TimeZone, now: Timestamp, floor: usize, promised: bool) -> Self {
        Self { term, zone, now, floor, promised, holds: OnceLock::new() }
    }

    pub(super) fn is_within(&self, taken_at: Timestamp) -> bool {
        self.term.keep_until(taken_at, &self.zone) >= self.now
    }

    /// Whether a snapshot whose term has passed is copied all the same. One that cannot be read is: the copy finds out.
    pub(super) fn wants(&self, from: &Vault, object: &Listed) -> Result<bool, VaultError> {
        if !self.promised {
            return Ok(false);
        }
        let stored = match from.read_snapshot_object(object) {
            Ok(stored) => stored,
            Err(VaultError::Damaged { .. }) => return Ok(true),
            // A clean-up took it away since it was listed.
            Err(VaultError::Store { source: StoreError::NotFound { .. }, .. }) => return Ok(false),
            Err(other) => return Err(other),
        };
        self.keeps(from, &stored)
    }

    /// Whether a snapshot of `from` is left out, but for the floor.
    ///
    /// # Errors
    /// When the holds of `from` cannot be read.
    pub fn leaves_out(&self, from: &Vault, stored: &StoredSnapshot) -> Result<bool, VaultError> {
        Ok(!self.is_within(stored.snapshot.started_at) && !(self.promised && self.keeps(from, stored)?))
    }

    fn keeps(&self, from: &Vault, stored: &StoredSnapshot) -> Result<bool, VaultError> {
        if stored.snapshot.retention.retain_until >= self.now {
            return Ok(true);
        }
        let holds = match self.holds.get() {
            Some(holds) => holds,
            None => {
                let holds = from.holds()?;
                self.holds.get_or_init(|| holds)
            }
        };
        Ok(holds.covers(stored).is_some())
    }

    /// What was left out stays so while this, the snapshots and the holds are the same. It holds the year, so that a clock that
    /// was wrong does no lasting harm.
    pub(super) fn fingerprint(&self) -> String {
        let year = self.now.to_zoned_datetime(self.zone.clone()).year();
        format!("{} {} {} {year}", self.term, self.floor, self.promised)
    }
}
