//! The erasure register, as this machine knows it. The vaults of a project have it too, and each makes up for what the
//! other has lost: a row is only ever added, or marked as withdrawn.

use super::{AuditError, AuditLog, Row, args, parsed};
use havun_model::erasures::{Erasure, Withdrawal};

const LIST: &str = "SELECT id, created, created_by, subject, note, withdrawn_at, withdrawn_by, withdrawn_reason FROM erasures \
                    WHERE project = ? ORDER BY created, id";
const KNOWN: &str = "SELECT COUNT(*) AS counted FROM erasures WHERE id = ?";
const INSERT: &str = "INSERT INTO erasures (id, project, created, created_by, subject, note) VALUES (?, ?, ?, ?, ?, ?)";
const WITHDRAW: &str = "UPDATE erasures SET withdrawn_at = ?, withdrawn_by = ?, withdrawn_reason = ? \
                        WHERE id = ? AND project = ? AND withdrawn_at IS NULL";

impl AuditLog {
    /// Every erasure of a project, oldest first, with how it was withdrawn.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn erasures(&self, project: &str) -> Result<Vec<(Erasure, Option<Withdrawal>)>, AuditError> {
        self.fetch(LIST, args![project])?.iter().map(read_row).collect()
    }

    /// Adds an erasure, unless it is there.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn add_erasure(&self, project: &str, erasure: &Erasure) -> Result<(), AuditError> {
        if self.knows_erasure(&erasure.id)? {
            return Ok(());
        }
        let (created, subject) = (erasure.created.to_string(), erasure.subject.to_hex());
        match self.execute(INSERT, args![&erasure.id, project, created, &erasure.by, subject, &erasure.note]) {
            // Another process may have added it meanwhile.
            Err(error) if error.is_duplicate() => Ok(()),
            written => written.map(drop),
        }
    }

    /// Marks an erasure as withdrawn, where it stands.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn withdraw_erasure(&self, project: &str, withdrawal: &Withdrawal) -> Result<(), AuditError> {
        let withdrawn_at = withdrawal.at.to_string();
        self.execute(WITHDRAW, args![withdrawn_at, &withdrawal.by, &withdrawal.reason, &withdrawal.erasure, project]).map(drop)
    }

    fn knows_erasure(&self, id: &str) -> Result<bool, AuditError> {
        let rows = self.fetch(KNOWN, args![id])?;
        Ok(rows.first().map_or(Ok(0), |row| row.int("counted"))? > 0)
    }
}

fn read_row(row: &Row) -> Result<(Erasure, Option<Withdrawal>), AuditError> {
    let erasure = Erasure {
        id: row.text("id")?,
        created: row.time("created")?,
        by: row.text("created_by")?,
        subject: parsed("subject", row.text("subject")?, "SHA-256")?,
        note: row.text("note")?,
    };
    let withdrawal = match row.opt_time("withdrawn_at")? {
        None => None,
        Some(at) => Some(Withdrawal {
            erasure: erasure.id.clone(),
            at,
            by: row.opt_text("withdrawn_by")?.unwrap_or_default(),
            reason: row.opt_text("withdrawn_reason")?.unwrap_or_default(),
        }),
    };
    Ok((erasure, withdrawal))
}
