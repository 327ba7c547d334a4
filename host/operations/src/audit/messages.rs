//! Messages to people and their deliveries: what was told, what waits to be, and what was given up.
//!
//! A delivery is claimed before it is sent, by counting the attempt: of two processes one gets it. Whoever dies with a claim
//! leaves the row waiting, so a message is sent at least once.

use super::{AuditError, AuditLog, Row, alerts::AlertRow, args};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A message that is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// No second one of this key is made.
    pub key: &'a str,
    /// The alert that it tells of; empty where it tells of none.
    pub alert_id: &'a str,
    /// `failure`, `digest`, …
    pub event: &'a str,
    /// For lists.
    pub subject: &'a str,
    /// All of it.
    pub content: &'a str,
    /// Who it goes to.
    pub channels: &'a [String],
}

/// What was told of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldRow {
    /// The alert.
    pub alert_id: String,
    /// `failure`, `recovery`, …
    pub event: String,
    /// When.
    pub at: Timestamp,
}

/// A message on its way to a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryRow {
    /// Its message.
    pub message_id: String,
    /// The message's key.
    pub key: String,
    /// The alert that it tells of; empty where it tells of none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alert_id: String,
    /// `failure`, `digest`, …
    pub event: String,
    /// The message's subject.
    pub subject: String,
    /// Where it goes.
    pub channel: String,
    /// `waiting`, `sent`, `given-up` or `dropped`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u64,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// Not tried before.
    pub next_try: Timestamp,
    /// What the last try failed with; empty where none did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
}

const INSERT: &str =
    "INSERT INTO messages (id, host, message_key, alert_id, event, subject, content, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
const INSERT_DELIVERY: &str = "INSERT INTO deliveries (message_id, channel, host, state, attempts, created_at, next_try, last_error) \
                               VALUES (?, ?, ?, 'waiting', 0, ?, ?, '')";
const HISTORY: &str = "SELECT id, project, store, kind, message, hint, exit_status, run_id, raised_at, last_seen, times, resolved_at \
                       FROM alerts WHERE host = ? AND (resolved_at IS NULL OR resolved_at >= ?) ORDER BY raised_at, id";
const TOLD: &str = "SELECT alert_id, event, created_at FROM messages WHERE host = ? AND alert_id <> '' \
                    AND (created_at >= ? OR alert_id IN \
                    (SELECT id FROM alerts WHERE host = ? AND (resolved_at IS NULL OR resolved_at >= ?))) ORDER BY created_at";
const WAITING: &str = "SELECT d.message_id, m.message_key, m.alert_id, m.event, m.subject, d.channel, d.state, d.attempts, d.created_at, d.next_try, \
                       d.last_error FROM deliveries d JOIN messages m ON m.id = d.message_id \
                       WHERE d.host = ? AND d.state = 'waiting' ORDER BY d.created_at, m.message_key, d.channel";
const GIVEN_UP: &str = "SELECT d.message_id, m.message_key, m.alert_id, m.event, m.subject, d.channel, d.state, d.attempts, d.created_at, d.next_try, \
                        d.last_error FROM deliveries d JOIN messages m ON m.id = d.message_id \
                        WHERE d.host = ? AND d.state = 'given-up' AND d.ended_at >= ? ORDER BY d.created_at, m.message_key, d.channel";
const CONTENT: &str = "SELECT content FROM messages WHERE id = ?";
const CLAIM: &str = "UPDATE deliveries SET attempts = attempts + 1, next_try = ? \
                     WHERE message_id = ? AND channel = ? AND state = 'waiting' AND attempts = ? AND next_try = ?";
const FAILED: &str = "UPDATE deliveries SET next_try = ?, last_error = ? WHERE message_id = ? AND channel = ? AND state = 'waiting'";
const END: &str =
    "UPDATE deliveries SET state = ?, last_error = ?, ended_at = ? WHERE message_id = ? AND channel = ? AND state = 'waiting'";
const POSTPONE: &str = "UPDATE deliveries SET next_try = ? WHERE host = ? AND channel = ? AND state = 'waiting' AND next_try < ?";
const FORGET_MESSAGES: &str = "DELETE FROM messages WHERE host = ? AND created_at < ? \
                               AND alert_id NOT IN (SELECT id FROM alerts WHERE host = ? AND resolved_at IS NULL) \
                               AND id NOT IN (SELECT message_id FROM deliveries WHERE host = ? AND state = 'waiting')";
const FORGET_DELIVERIES: &str =
    "DELETE FROM deliveries WHERE host = ? AND created_at < ? AND message_id NOT IN (SELECT id FROM messages WHERE host = ?)";

impl AuditLog {
    /// Keeps a message with a waiting delivery for each channel; whether it is new.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn put_message(&self, message: &NewMessage<'_>, now: Timestamp) -> Result<bool, AuditError> {
        let id = message_id(&self.host, message.key);
        let kept = self.transaction(|transaction| {
            let NewMessage { key, alert_id, event, subject, content, .. } = *message;
            transaction.execute(INSERT, args![&id, &self.host, key, alert_id, event, subject, content, now])?;
            for channel in message.channels {
                transaction.execute(INSERT_DELIVERY, args![&id, channel, &self.host, now, now])?;
            }
            Ok(())
        });
        match kept {
            Err(error) if error.is_duplicate() => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Alerts of this host that are open, or were until `since`, in the order in which they were raised.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn alert_history(&self, since: Timestamp) -> Result<Vec<AlertRow>, AuditError> {
        self.fetch(HISTORY, args![&self.host, since])?.iter().map(super::alerts::read_row).collect()
    }

    /// What was told since then, and of alerts that are open or were until then all that was, in the order of time.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn told(&self, since: Timestamp) -> Result<Vec<ToldRow>, AuditError> {
        let read = |row: &Row| Ok(ToldRow { alert_id: row.text("alert_id")?, event: row.text("event")?, at: row.time("created_at")? });
        self.fetch(TOLD, args![&self.host, since, &self.host, since])?.iter().map(read).collect()
    }

    /// Deliveries that wait, the oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn waiting_deliveries(&self) -> Result<Vec<DeliveryRow>, AuditError> {
        self.fetch(WAITING, args![&self.host])?.iter().map(read_delivery).collect()
    }

    /// Deliveries that were given up since then, the oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn given_up_deliveries(&self, since: Timestamp) -> Result<Vec<DeliveryRow>, AuditError> {
        self.fetch(GIVEN_UP, args![&self.host, since])?.iter().map(read_delivery).collect()
    }

    /// A message as it was kept.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn message_content(&self, message_id: &str) -> Result<Option<String>, AuditError> {
        self.fetch(CONTENT, args![message_id])?.first().map(|row| row.text("content")).transpose()
    }

    /// Takes a delivery for oneself until then; whether nobody else had it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn claim_delivery(&self, row: &DeliveryRow, until: Timestamp) -> Result<bool, AuditError> {
        Ok(self.execute(CLAIM, args![until, &row.message_id, &row.channel, row.attempts, row.next_try])? > 0)
    }

    /// A delivery did not succeed and is tried again.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn retry_delivery(&self, row: &DeliveryRow, next_try: Timestamp, error: &str) -> Result<(), AuditError> {
        self.execute(FAILED, args![next_try, error, &row.message_id, &row.channel]).map(drop)
    }

    /// A delivery is over: `sent`, `given-up` or `dropped`.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn end_delivery(&self, row: &DeliveryRow, state: &str, error: &str, now: Timestamp) -> Result<(), AuditError> {
        self.execute(END, args![state, error, now, &row.message_id, &row.channel]).map(drop)
    }

    /// Nothing of a channel is tried before then.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn postpone_deliveries(&self, channel: &str, until: Timestamp) -> Result<(), AuditError> {
        self.execute(POSTPONE, args![until, &self.host, channel, until]).map(drop)
    }

    /// Forgets what was told before then, but not what waits and not what was told of an alert that is open.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn forget_messages(&self, before: Timestamp) -> Result<(), AuditError> {
        self.execute(FORGET_MESSAGES, args![&self.host, before, &self.host, &self.host])?;
        self.execute(FORGET_DELIVERIES, args![&self.host, before, &self.host]).map(drop)
    }
}

/// The same for the same key of the same host.
fn message_id(host: &str, key: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(host.as_bytes());
    digest.update([0]);
    digest.update(key.as_bytes());
    hex::encode(digest.finalize())
}

fn read_delivery(row: &Row) -> Result<DeliveryRow, AuditError> {
    Ok(DeliveryRow {
        message_id: row.text("message_id")?,
        key: row.text("message_key")?,
        alert_id: row.text("alert_id")?,
        event: row.text("event")?,
        subject: row.text("subject")?,
        channel: row.text("channel")?,
        state: row.text("state")?,
        attempts: u64::try_from(row.int("attempts")?).unwrap_or(0),
        created_at: row.time("created_at")?,
        next_try: row.time("next_try")?,
        last_error: row.text("last_error")?,
    })
}
