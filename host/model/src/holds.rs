//! Holds: a person's word that snapshots stay, whatever their term says. A hold is an object of the vault, so that it goes
//! wherever the vault goes, and it is ended by another object and never by deleting it.

use crate::SnapshotId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a hold object says. Fields are only ever added; readers ignore unknown ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldObject {
    /// 1.
    pub format: u32,
    /// The vault it belongs to, 32 hex digits.
    pub vault_id: String,
    /// Its matter.
    #[serde(flatten)]
    pub record: HoldRecord,
}

/// A hold, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum HoldRecord {
    /// From now on these snapshots stay.
    Hold(Hold),
    /// An earlier hold stands no more.
    Release(Release),
}

/// Snapshots stay until the hold is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// 16 hex digits, random.
    pub id: String,
    /// When it was placed.
    pub created: Timestamp,
    /// Who placed it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Which snapshots.
    pub scope: HoldScope,
    /// The program placed it, because a snapshot is suspicious, and a person has to say that it is explained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
}

/// The end of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// [`Hold::id`].
    pub hold: String,
    /// When.
    pub at: Timestamp,
    /// Who released it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Which snapshots a hold keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "kebab-case")]
pub enum HoldScope {
    /// All of the project, those still to be made included.
    All,
    /// Those of one epoch.
    Epoch {
        /// `2026`.
        epoch: String,
    },
    /// These.
    Snapshots {
        /// Their ids.
        ids: Vec<SnapshotId>,
    },
    /// Those taken in this time, both ends included.
    Period {
        /// From then on.
        from: Timestamp,
        /// Until then.
        until: Timestamp,
    },
}

impl HoldScope {
    /// Whether it keeps this snapshot.
    pub fn covers(&self, id: &SnapshotId, epoch: &str, taken_at: Timestamp) -> bool {
        match self {
            Self::All => true,
            Self::Epoch { epoch: held } => held == epoch,
            Self::Snapshots { ids } => ids.contains(id),
            Self::Period { from, until } => (*from..=*until).contains(&taken_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_covers_what_it_says() {
        let (id, other) = (SnapshotId::from_bytes([1; 32]), SnapshotId::from_bytes([2; 32]));
        let day = at("2026-05-05T03:00:00Z");
        assert!(HoldScope::All.covers(&id, "2026", day));
        let epoch = HoldScope::Epoch { epoch: "2026".to_owned() };
        assert!(epoch.covers(&id, "2026", day) && !epoch.covers(&id, "2027", day));
        let ids = HoldScope::Snapshots { ids: vec![id] };
        assert!(ids.covers(&id, "2026", day) && !ids.covers(&other, "2026", day));
        let period = HoldScope::Period { from: day, until: at("2026-06-01T00:00:00Z") };
        assert!(period.covers(&id, "2026", day) && period.covers(&id, "2026", at("2026-06-01T00:00:00Z")));
        assert!(!period.covers(&id, "2026", at("2026-05-05T02:59:59Z")));
    }

    #[test]
    fn records_read_back_and_unknown_keys_are_ignored() {
        let hold = Hold {
            id: "00".repeat(8),
            created: at("2026-05-05T03:00:00Z"),
            by: "jan".to_owned(),
            reason: "audit".to_owned(),
            scope: HoldScope::Epoch { epoch: "2026".to_owned() },
            automatic: false,
        };
        let object = HoldObject { format: 1, vault_id: "ab".to_owned(), record: HoldRecord::Hold(hold) };
        let mut json = serde_json::to_value(&object).unwrap();
        assert_eq!(json["record"], "hold");
        json["later"] = 1.into();
        assert_eq!(serde_json::from_value::<HoldObject>(json).unwrap(), object);
    }
}
