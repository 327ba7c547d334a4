//! Pieces that several reports share. Every report is `serde::Serialize`; what `--json` prints is exactly that.
//!
//! Shapes: field names are stable within `schema_version` 1, fields are only ever added; times are RFC 3339 in
//! UTC, sizes are bytes, ids are 64 hex digits.

use serde::Serialize;

/// Version of the shape of every `--json` report.
pub const SCHEMA_VERSION: u32 = 1;

/// An error as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What happened, to what.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The exit status that it alone would cause.
    pub exit_status: u8,
}

impl Failure {
    /// Message and causes on one line, as it goes into the audit database.
    pub fn one_line(&self) -> String {
        let mut parts = vec![self.message.as_str()];
        parts.extend(self.causes.iter().map(String::as_str));
        parts.dedup();
        parts.join(": ")
    }
}

/// A damaged object of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageReport {
    /// Its name in the store.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots that need it.
    pub snapshots: Vec<String>,
    /// Files hit, bounded; the last line says how many more.
    pub files: Vec<String>,
}

/// How one command over several things ended: all well, some, or none.
pub(crate) fn combined_status(statuses: &[u8]) -> u8 {
    let worst = statuses.iter().copied().filter(|s| *s != 0).collect::<Vec<_>>();
    match worst.as_slice() {
        [] => crate::error::exit::OK,
        [first, rest @ ..] if worst.len() == statuses.len() => {
            if rest.iter().all(|s| s == first) {
                *first
            } else if worst.contains(&crate::error::exit::PARTIAL) {
                crate::error::exit::PARTIAL
            } else {
                crate::error::exit::FAILED
            }
        }
        _ => crate::error::exit::PARTIAL,
    }
}

#[cfg(test)]
mod tests {
    use super::combined_status;

    #[test]
    fn one_failure_of_five_is_partial_and_a_common_reason_keeps_its_status() {
        assert_eq!(combined_status(&[0, 0, 1, 0, 0]), 3);
        assert_eq!(combined_status(&[11]), 11);
        assert_eq!(combined_status(&[12, 12]), 12);
        assert_eq!(combined_status(&[12, 1]), 1);
        assert_eq!(combined_status(&[0, 0]), 0);
        assert_eq!(combined_status(&[]), 0);
    }
}
