//! What a finding is about. Each kind is an alert of its own, so that it is told when this cause is right again although
//! others are not.

use serde::Serialize;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $whose:ident;)*) => {
        /// What a finding is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum FindingKind {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl FindingKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As alerts and `--json` name it; never changes.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// Who raises its alert.
            pub(super) fn whose(self) -> Whose {
                match self {
                    $(Self::$name => Whose::$whose,)*
                }
            }
        }
    };
}

/// Who raises and closes an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Health, and it closes what it does not find any more.
    Health,
    /// Another command, which closes it too; health raises it only where it is not open, as after a loss of the audit
    /// database.
    Another,
    /// Nobody: it is told in the report only.
    Nobody,
}

kinds! {
    /// The last run is not good.
    Run = "run", Another;
    /// A replica is behind, and why is in the queue.
    Replication = "replication", Another;
    /// Scrubs found damage that stands.
    Scrub = "scrub", Another;
    /// The last drill was not passed.
    Drill = "drill", Another;
    /// The newest good snapshot is too old.
    Age = "age", Health;
    /// No run began although one was due.
    Missed = "missed", Health;
    /// A store cannot be asked.
    Store = "store", Health;
    /// Objects are gone.
    Missing = "missing", Health;
    /// Objects are not what they were.
    Changed = "changed", Health;
    /// Snapshots cannot be read.
    Damage = "damage", Health;
    /// A store was not read back within its term.
    ScrubOverdue = "scrub-overdue", Health;
    /// No restore was proven within the term.
    DrillOverdue = "drill-overdue", Health;
    /// A store is or will be full.
    Space = "space", Health;
    /// A killed run has left something behind.
    LeftBehind = "left-behind", Health;
    /// A killed restore has.
    Restore = "restore", Health;
    /// A replica lacks snapshots, and nothing waits in the queue.
    Lag = "lag", Health;
    /// Paused for a long time.
    Paused = "paused", Health;
    /// Keys are missing, or others can read them.
    Key = "key", Health;
    /// The clock is or was wrong.
    Clock = "clock-skew", Health;
    /// The daemon shows no life.
    Heartbeat = "heartbeat", Health;
    /// The file for Prometheus cannot be written.
    Textfile = "textfile", Health;
    /// Messages are not delivered.
    Notify = "notify", Nobody;
    /// The audit database cannot be used.
    Audit = "audit", Nobody;
    /// Something to know.
    Note = "note", Nobody;
}
