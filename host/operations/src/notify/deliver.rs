//! Deliveries that are due, channel by channel, the oldest message first.
//!
//! A passing failure stops its channel until the next try, so that a server that hangs is waited for once; a refusal lets
//! others pass. Messages about one alert never overtake each other.

use super::{LONGEST_QUEUE, Outbox, TickReport, audit_error, channels};
use crate::{
    audit::DeliveryRow,
    config::ChannelConfig,
    error::{OperationError, exit, one_line},
    report::Failure,
};
use havun_notify::{Channel, Message, SendError};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// For this long a delivery belongs to who claimed it: longer than any channel may take.
const CLAIM: SignedDuration = SignedDuration::from_mins(10);
/// A delivery that is older is tried no more.
const GIVE_UP: SignedDuration = SignedDuration::from_hours(72);
/// What passes is no alert before it has lasted this long.
const PASSING: SignedDuration = SignedDuration::from_mins(10);
/// What needs a person is tried again after this.
const AFTER_REFUSAL: SignedDuration = SignedDuration::from_hours(1);
/// At most so many are sent by one channel in one tick.
const AT_ONCE: usize = 50;

/// Delivers what is due.
pub(super) fn deliver(outbox: &Outbox<'_>, now: Timestamp, report: &mut TickReport) -> Result<(), OperationError> {
    let waiting = outbox.cx.audit()?.waiting_deliveries().map_err(audit_error)?;
    for row in waiting.iter().filter(|row| !outbox.cx.config.notify.channels.iter().any(|channel| channel.name == row.channel)) {
        outbox.cx.audit()?.end_delivery(row, "dropped", "the channel is no more in the configuration", now).map_err(audit_error)?;
        outbox.channel_alert(&row.channel, None, now);
    }
    for channel in &outbox.cx.config.notify.channels {
        let rows: Vec<&DeliveryRow> = waiting.iter().filter(|row| row.channel == channel.name).collect();
        if rows.iter().any(|row| row.next_try <= now) {
            Lane { outbox, channel, now, report, problem: None }.run(&rows)?;
        }
    }
    Ok(())
}

/// One channel in one tick.
struct Lane<'a> {
    outbox: &'a Outbox<'a>,
    channel: &'a ChannelConfig,
    now: Timestamp,
    report: &'a mut TickReport,
    /// What needs a person.
    problem: Option<Failure>,
}

impl Lane<'_> {
    fn run(mut self, rows: &[&DeliveryRow]) -> Result<(), OperationError> {
        let rows = self.without_old(rows)?;
        let way = channels::open(self.channel);
        let mut tried = Tried::default();
        for row in rows {
            let is_held = !row.alert_id.is_empty() && tried.held.contains(&row.alert_id);
            // Not due: it was refused, or another process has it at this moment.
            if is_held || row.next_try > self.now {
                tried.held.insert(row.alert_id.clone());
            } else if tried.count == AT_ONCE || tried.stopped {
                break;
            } else {
                tried.note(row, self.one(row, &way)?);
            }
        }
        self.report.sent += tried.sent;
        self.settle(tried.sent > 0 && tried.held.is_empty() && !tried.stopped);
        Ok(())
    }

    /// Gives up what is too old, and what is too much.
    fn without_old<'r>(&mut self, rows: &[&'r DeliveryRow]) -> Result<Vec<&'r DeliveryRow>, OperationError> {
        let too_many = rows.len().saturating_sub(LONGEST_QUEUE);
        let mut left = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let is_old = self.now.duration_since(row.created_at) >= GIVE_UP;
            if place >= too_many && !is_old {
                left.push(*row);
                continue;
            }
            let why = if is_old { "three days have passed" } else { "too many messages wait" };
            let last = if row.last_error.is_empty() { String::new() } else { format!("; the last try: {}", row.last_error) };
            self.outbox.cx.audit()?.end_delivery(row, "given-up", &format!("{why}{last}"), self.now).map_err(audit_error)?;
            self.report.given_up += 1;
            self.problem = Some(Failure {
                message: format!("messages by the channel `{}` were given up: {why}{last}", self.channel.name),
                causes: Vec::new(),
                hint: Some(
                    "`havun-backup notify queue` shows them; `havun-backup notify test` says whether the channel works again".to_owned(),
                ),
                exit_status: exit::FAILED,
            });
        }
        Ok(left)
    }

    fn one(&mut self, row: &DeliveryRow, way: &Result<Box<dyn Channel>, SendError>) -> Result<Outcome, OperationError> {
        let audit = self.outbox.cx.audit()?;
        if !audit.claim_delivery(row, plus(self.now, CLAIM)).map_err(audit_error)? {
            return Ok(Outcome::Taken);
        }
        let content = audit.message_content(&row.message_id).map_err(audit_error)?;
        let message: Option<Message> = content.and_then(|content| serde_json::from_str(&content).ok());
        let Some(message) = message else {
            audit.end_delivery(row, "dropped", "its message cannot be read", self.now).map_err(audit_error)?;
            return Ok(Outcome::Taken);
        };
        let error = match way {
            Ok(way) => way.send(&message).err(),
            Err(SendError::Setting { setting, why }) => Some(SendError::Setting { setting, why: why.clone() }),
            Err(other) => Some(SendError::Unreachable { place: self.channel.name.clone(), why: one_line(other) }),
        };
        let Some(error) = error else {
            audit.end_delivery(row, "sent", "", self.now).map_err(audit_error)?;
            return Ok(Outcome::Sent);
        };
        self.failed(row, &error)
    }

    fn failed(&mut self, row: &DeliveryRow, error: &SendError) -> Result<Outcome, OperationError> {
        let audit = self.outbox.cx.audit()?;
        let told = one_line(error);
        let next_try = plus(self.now, pause(row.attempts, error));
        audit.retry_delivery(row, next_try, &told).map_err(audit_error)?;
        self.report.failed.push(format!("{}: {told}", self.channel.name));
        let lasts = row.attempts > 0 && self.now.duration_since(row.created_at) >= PASSING;
        if !error.is_passing() || lasts {
            self.problem = Some(channels::failure(&self.channel.name, error));
        }
        if error.is_passing() {
            audit.postpone_deliveries(&self.channel.name, next_try).map_err(audit_error)?;
            return Ok(Outcome::Passing);
        }
        Ok(Outcome::Refused)
    }

    fn settle(&self, is_well: bool) {
        match &self.problem {
            Some(problem) => self.outbox.channel_alert(&self.channel.name, Some(problem), self.now),
            None if is_well => self.outbox.channel_alert(&self.channel.name, None, self.now),
            None => {}
        }
    }
}

/// What one tick has done so far.
#[derive(Default)]
struct Tried {
    count: usize,
    sent: usize,
    /// Alerts whose later messages have to wait.
    held: BTreeSet<String>,
    stopped: bool,
}

impl Tried {
    fn note(&mut self, row: &DeliveryRow, outcome: Outcome) {
        self.count += 1;
        match outcome {
            Outcome::Sent => self.sent += 1,
            Outcome::Taken => {}
            Outcome::Refused => {
                self.held.insert(row.alert_id.clone());
            }
            Outcome::Passing => self.stopped = true,
        }
    }
}

/// What became of a delivery.
enum Outcome {
    Sent,
    /// By another process, or it is none.
    Taken,
    /// A person has to do something.
    Refused,
    /// The channel has to wait.
    Passing,
}

/// How long to wait after an attempt that failed; `before` it there were so many.
fn pause(before: u64, error: &SendError) -> SignedDuration {
    if !error.is_passing() {
        return AFTER_REFUSAL;
    }
    const MINUTES: [i64; 5] = [1, 2, 5, 10, 20];
    let own = usize::try_from(before).ok().and_then(|before| MINUTES.get(before)).map_or(30, |minutes| *minutes);
    let asked = error.retry_after().and_then(|asked| SignedDuration::try_from(asked).ok()).unwrap_or_default();
    SignedDuration::from_mins(own).max(asked)
}

fn plus(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_ever_more_seldom_and_never_stop_coming() {
        let away = SendError::TimedOut { place: "x".to_owned(), after: std::time::Duration::ZERO };
        let minutes: Vec<i64> = (0..8).map(|before| pause(before, &away).as_mins()).collect();
        assert_eq!(minutes, [1, 2, 5, 10, 20, 30, 30, 30]);
        let busy = SendError::Busy { place: "x".to_owned(), why: String::new(), retry_after: Some(std::time::Duration::from_secs(600)) };
        assert_eq!((pause(0, &busy).as_mins(), pause(5, &busy).as_mins()), (10, 30), "a server's wish is heard");
    }
}
