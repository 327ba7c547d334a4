//! The clock of the machine against one that nobody sets: a leap of the former would skip runs, or repeat them.

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::{fs, sync::Arc};

/// A clock that is set right by a minute in a few seconds has leapt; one that is slewed has not.
const LEAP: SignedDuration = SignedDuration::from_secs(60);
/// After so long without another leap, the matter is settled.
pub(super) const SETTLED: SignedDuration = SignedDuration::from_mins(55);

/// Time since something that does not change while the machine runs; it goes on while the machine sleeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steady {
    /// Since when: another one after each start of the machine.
    pub epoch: String,
    /// Seconds since then.
    pub seconds: i64,
}

/// Gives the steady time.
pub type SteadyClock = Arc<dyn Fn() -> Steady + Send + Sync>;

/// The machine's own.
pub fn machine_steady() -> Steady {
    let epoch = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    Steady { epoch, seconds: clock_gettime(ClockId::Boottime).tv_sec }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    pub wall: Timestamp,
    pub steady: Steady,
}

/// A leap that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leap {
    /// What the clock says that the time was.
    pub from: Timestamp,
    /// And what it said a moment later.
    pub to: Timestamp,
    /// By how many seconds it leapt; negative when it went back.
    pub seconds: i64,
}

impl Reading {
    /// Whether the clock has leapt between `self` and `later`. Over a restart of the machine only that it went back shows.
    pub fn leap(&self, later: &Self) -> Option<Leap> {
        let moved = later.wall.duration_since(self.wall);
        let passed = match self.steady.epoch == later.steady.epoch {
            true => SignedDuration::from_secs(later.steady.seconds.saturating_sub(self.steady.seconds)),
            false => moved.max(SignedDuration::ZERO),
        };
        let leapt = moved.saturating_sub(passed);
        (leapt.abs() > LEAP).then(|| Leap { from: self.wall, to: later.wall, seconds: leapt.as_secs() })
    }
}

impl Leap {
    /// For people.
    pub fn text(&self) -> String {
        let (way, by) = if self.seconds < 0 { ("back", -self.seconds) } else { ("forward", self.seconds) };
        format!("the clock leapt {way} by {} min {} s, from {} to {}", by / 60, by % 60, self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(epoch: &str, wall: i64, seconds: i64) -> Reading {
        Reading { wall: Timestamp::from_second(wall).unwrap(), steady: Steady { epoch: epoch.to_owned(), seconds } }
    }

    #[test]
    fn a_leap_is_what_no_time_explains() {
        let before = reading("a", 1_000_000, 500);
        let seconds = |later| before.leap(&later).map(|leap: Leap| leap.seconds);
        assert_eq!(seconds(reading("a", 1_003_600, 4100)), None);
        assert_eq!(seconds(reading("a", 1_003_650, 4100)), None, "slewed");
        assert_eq!(seconds(reading("a", 1_007_200, 4100)), Some(3600));
        assert_eq!(seconds(reading("a", 996_400, 500)), Some(-3600));
    }

    #[test]
    fn a_restart_of_the_machine_is_no_leap_but_going_back_is() {
        let before = reading("a", 1_000_000, 500);
        assert_eq!(before.leap(&reading("b", 2_000_000, 10)), None);
        assert_eq!(before.leap(&reading("b", 900_000, 10)).map(|leap| leap.seconds), Some(-100_000));
    }

    #[test]
    fn the_machine_has_a_steady_clock() {
        let first = machine_steady();
        let second = machine_steady();
        assert_eq!(first.epoch, second.epoch);
        assert!(first.seconds > 0 && second.seconds >= first.seconds);
    }
}
