//! What runs have counted, for the next ones to be compared with.

use super::{AuditError, AuditLog, args, new_id};
use havun_model::anomalies::Observation;

const INSERT: &str = "INSERT INTO observations (id, host, project, run_id, taken_at, flagged, observed) VALUES (?, ?, ?, ?, ?, ?, ?)";
const LIST: &str = "SELECT observed FROM observations WHERE host = ? AND project = ? ORDER BY taken_at DESC, id DESC LIMIT ?";

impl AuditLog {
    /// Keeps what a run of a project counted.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn keep_observation(&self, project: &str, run_id: &str, observation: &Observation) -> Result<(), AuditError> {
        let text = serde_json::to_string(observation).unwrap_or_default();
        let values = args![new_id(observation.at)?, &self.host, project, run_id, observation.at, observation.flagged, text];
        self.execute(INSERT, values).map(drop)
    }

    /// What the newest runs of a project counted, the oldest first. A row that cannot be understood is left out.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn observations(&self, project: &str, limit: u32) -> Result<Vec<Observation>, AuditError> {
        let mut found = Vec::new();
        for row in self.fetch(LIST, args![&self.host, project, limit])? {
            found.extend(serde_json::from_str(&row.text("observed")?).ok());
        }
        found.reverse();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use havun_model::anomalies::TreeCounts;
    use jiff::Timestamp;
    use std::collections::BTreeMap;

    #[test]
    fn observations_come_back_oldest_first_and_by_project() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::open(&format!("sqlite://{}", folder.path().join("audit.db").display()), "here").unwrap();
        let run = |day: i64| Observation {
            at: Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap(),
            duration_ms: 1,
            bytes: u64::try_from(day).unwrap(),
            bytes_new: 0,
            tree: TreeCounts::default(),
            databases: BTreeMap::new(),
            flagged: day == 2,
        };
        for day in [3, 1, 2] {
            log.keep_observation("shop", "r", &run(day)).unwrap();
        }
        log.keep_observation("other", "r", &run(9)).unwrap();
        assert_eq!(log.observations("shop", 10).unwrap(), [run(1), run(2), run(3)]);
        assert_eq!(log.observations("shop", 2).unwrap(), [run(2), run(3)], "the newest count");
    }
}
