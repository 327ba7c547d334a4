//! The erasure register, as this machine knows it. The vaults of a project have it too, and each makes up for what the
//! other has lost: a row is only ever added, or marked as withdrawn.

use super::{AuditError, AuditLog, failed};
use havun_model::erasures::{Erasure, Withdrawal};
use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

const LIST: &str = "SELECT id, created, created_by, subject, note, withdrawn_at, withdrawn_by, withdrawn_reason FROM erasures \
                    WHERE project = ? ORDER BY created, id";
const KNOWN: &str = "SELECT COUNT(*) FROM erasures WHERE id = ?";
const INSERT: &str = "INSERT INTO erasures (id, project, created, created_by, subject, note) VALUES (?, ?, ?, ?, ?, ?)";
const WITHDRAW: &str = "UPDATE erasures SET withdrawn_at = ?, withdrawn_by = ?, withdrawn_reason = ? \
                        WHERE id = ? AND project = ? AND withdrawn_at IS NULL";

impl AuditLog {
    /// Every erasure of a project, oldest first, with how it was withdrawn.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn erasures(&self, project: &str) -> Result<Vec<(Erasure, Option<Withdrawal>)>, AuditError> {
        let statement = sqlx::query(LIST).bind(project);
        let rows = self.with(|runtime, connection| runtime.block_on(statement.fetch_all(connection))).map_err(failed("read"))?;
        rows.iter().map(read_row).collect::<Result<_, _>>().map_err(failed("read"))
    }

    /// Adds an erasure, unless it is there.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn add_erasure(&self, project: &str, erasure: &Erasure) -> Result<(), AuditError> {
        if self.knows_erasure(&erasure.id)? {
            return Ok(());
        }
        let statement = sqlx::query(INSERT)
            .bind(&erasure.id)
            .bind(project)
            .bind(erasure.created.to_string())
            .bind(&erasure.by)
            .bind(erasure.subject.to_hex())
            .bind(&erasure.note);
        match self.with(|runtime, connection| runtime.block_on(statement.execute(connection))) {
            // Another process may have added it meanwhile.
            Err(_) if self.knows_erasure(&erasure.id)? => Ok(()),
            done => done.map(|_| ()).map_err(failed("write")),
        }
    }

    /// Marks an erasure as withdrawn, where it stands.
    ///
    /// # Errors
    /// [`AuditError::Database`].
    pub fn withdraw_erasure(&self, project: &str, withdrawal: &Withdrawal) -> Result<(), AuditError> {
        let statement = sqlx::query(WITHDRAW)
            .bind(withdrawal.at.to_string())
            .bind(&withdrawal.by)
            .bind(&withdrawal.reason)
            .bind(&withdrawal.erasure)
            .bind(project);
        self.with(|runtime, connection| runtime.block_on(statement.execute(connection))).map_err(failed("write"))?;
        Ok(())
    }

    fn knows_erasure(&self, id: &str) -> Result<bool, AuditError> {
        let statement = sqlx::query_scalar::<_, i64>(KNOWN).bind(id);
        let count = self.with(|runtime, connection| runtime.block_on(statement.fetch_one(connection))).map_err(failed("read"))?;
        Ok(count > 0)
    }
}

fn read_row(row: &SqliteRow) -> Result<(Erasure, Option<Withdrawal>), sqlx::Error> {
    let odd = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let time = |text: String| text.parse::<Timestamp>().map_err(|error| odd(Box::new(error)));
    let subject: String = row.try_get("subject")?;
    let erasure = Erasure {
        id: row.try_get("id")?,
        created: time(row.try_get("created")?)?,
        by: row.try_get("created_by")?,
        subject: subject.parse().map_err(|error| odd(Box::new(error)))?,
        note: row.try_get("note")?,
    };
    let withdrawal = match row.try_get::<Option<String>, _>("withdrawn_at")? {
        None => None,
        Some(at) => Some(Withdrawal {
            erasure: erasure.id.clone(),
            at: time(at)?,
            by: row.try_get::<Option<String>, _>("withdrawn_by")?.unwrap_or_default(),
            reason: row.try_get::<Option<String>, _>("withdrawn_reason")?.unwrap_or_default(),
        }),
    };
    Ok((erasure, withdrawal))
}
