//! Telling people: alerts become messages, messages wait in the audit database, and each goes out by every channel that
//! wants it.
//!
//! Alerts say what is wrong; nothing here decides that. A message is made once, under a key; a delivery is tried until it
//! succeeds or is three days old, and is made at least once: receivers know a repeat by its key. A channel that fails raises an
//! alert of kind `notify`, which the others tell. Nothing waits here: whoever calls [`Outbox::tick`] (the daemon each minute,
//! commands at their end) does what is due at that moment.
//!
//! Read `decide` (what is told), `words` (how), `deliver` (how it gets there), `away` (when there is no database).

mod away;
mod channels;
mod decide;
mod deliver;
mod words;

pub use channels::{ChannelProbe, ChannelTest, probe_channels, test_channels};
pub use decide::{FLAPS, STABLE, WINDOW};

use crate::{
    audit::{AlertRow, DeliveryRow, NewMessage},
    config::{ChannelConfig, Priority, ToldEvent},
    context::Context,
    error::{OperationError, one_line},
    report::{Failure, SCHEMA_VERSION},
};
use havun_notify::Message;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use words::Words;

/// The kind of alerts about messages themselves.
pub const NOTIFY: &str = "notify";
/// What happened before this is told no more.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(30 * 24);
/// What was told is kept for this long.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// At most so many messages wait for a channel; the oldest make room.
const LONGEST_QUEUE: usize = 500;

/// Messages that wait, and who gets them.
pub struct Outbox<'a> {
    cx: &'a Context,
}

/// What a tick did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TickReport {
    /// Messages that are new.
    pub queued: usize,
    /// Deliveries that succeeded.
    pub sent: usize,
    /// Deliveries that did not, each with the channel and the reason.
    pub failed: Vec<String>,
    /// Deliveries that are tried no more.
    pub given_up: usize,
}

/// What waits. Shape of `havun-backup notify queue --json`.
#[derive(Debug, Clone, Serialize)]
pub struct QueueReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The oldest first.
    pub waiting: Vec<DeliveryRow>,
    /// Given up within the last week.
    pub given_up: Vec<DeliveryRow>,
}

impl<'a> Outbox<'a> {
    /// Of this host.
    pub fn new(cx: &'a Context) -> Self {
        Self { cx }
    }

    /// Puts a message into the queue of every channel that wants it; whether its key is new.
    ///
    /// # Errors
    /// [`OperationError::Audit`].
    pub fn put(&self, message: Message, now: Timestamp) -> Result<bool, OperationError> {
        self.put_about(None, message, now)
    }

    /// Turns what changed into messages and delivers what is due. Where the audit database cannot be used, that is told
    /// directly, once a day.
    ///
    /// # Errors
    /// [`OperationError::Audit`].
    pub fn tick(&self, now: Timestamp) -> Result<TickReport, OperationError> {
        if self.cx.config.notify.channels.is_empty() {
            return Ok(TickReport::default());
        }
        let done = self.round(now);
        match &done {
            Err(error @ OperationError::Audit(_)) => away::tell(self.cx, error, now),
            _ => away::back(self, now),
        }
        done
    }

    /// What waits, and what was given up of late.
    ///
    /// # Errors
    /// [`OperationError::Audit`].
    pub fn queue(&self, now: Timestamp) -> Result<QueueReport, OperationError> {
        let audit = self.cx.audit()?;
        let week = now.checked_sub(SignedDuration::from_hours(7 * 24)).unwrap_or(Timestamp::MIN);
        let given_up = audit.given_up_deliveries(week).map_err(audit_error)?;
        Ok(QueueReport { schema_version: SCHEMA_VERSION, waiting: audit.waiting_deliveries().map_err(audit_error)?, given_up })
    }

    /// Until nothing is new: that a channel fails, or works again, is told by the others at once.
    fn round(&self, now: Timestamp) -> Result<TickReport, OperationError> {
        let mut report = TickReport::default();
        for _ in 0..3 {
            let before = report.clone();
            report.queued += self.tell(now)?;
            deliver::deliver(self, now, &mut report)?;
            if report == before {
                break;
            }
        }
        let before = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        self.cx.audit()?.forget_messages(before).map_err(audit_error)?;
        Ok(report)
    }

    /// Makes messages of what changed; how many.
    fn tell(&self, now: Timestamp) -> Result<usize, OperationError> {
        let cx = self.cx;
        let since = now.checked_sub(LOOK_BACK).unwrap_or(Timestamp::MIN);
        let history = cx.audit()?.alert_history(since).map_err(audit_error)?;
        let told = cx.audit()?.told(since).map_err(audit_error)?;
        let tells = decide::decide(&history, &told, |alert| words::severity(cx, alert), cx.config.notify.remind.duration(), now);
        if tells.is_empty() {
            return Ok(0);
        }
        let words = Words::new(cx);
        let mut queued = 0;
        for tell in &tells {
            let message = words.alert(cx, tell, &history, now);
            queued += usize::from(self.put_about(Some(tell.alert), message, now)?);
        }
        self.complain(words.complaint(), now);
        Ok(queued)
    }

    /// A template of the operator's own that cannot be used needs a person, but keeps nobody from being told.
    fn complain(&self, complaint: Option<String>, now: Timestamp) {
        let failure = complaint.map(|message| Failure {
            message,
            causes: Vec::new(),
            hint: Some(
                "correct it or take it out of the folder at `templates` in [notify]; until then the built-in words are sent".to_owned(),
            ),
            exit_status: crate::error::exit::CONFIG,
        });
        self.channel_alert("templates", failure.as_ref(), now);
    }

    /// Opens or closes the alert about a channel.
    fn channel_alert(&self, channel: &str, failure: Option<&Failure>, now: Timestamp) {
        let written = self.cx.audit().and_then(|audit| {
            let done = match failure {
                None => audit.resolve("", channel, NOTIFY, now).map(drop),
                Some(failure) => {
                    let (message, hint) = (failure.one_line(), failure.hint.clone().unwrap_or_default());
                    let alert = crate::audit::Alert {
                        project: "",
                        store: channel,
                        kind: NOTIFY,
                        message,
                        hint,
                        exit_status: failure.exit_status,
                        run_id: "",
                    };
                    audit.raise(&alert, now)
                }
            };
            done.map_err(audit_error)
        });
        if let Err(error) = written {
            tracing::warn!(error = one_line(&error), channel, "an alert about messages could not be written");
        }
    }

    fn put_about(&self, alert: Option<&AlertRow>, message: Message, now: Timestamp) -> Result<bool, OperationError> {
        let message = message.made_visible();
        let channels = self.cx.config.notify.channels.iter();
        let wanted = channels.filter(|channel| wants(self.cx, channel, &message) && !alert.is_some_and(|alert| is_about(channel, alert)));
        let channels: Vec<String> = wanted.map(|channel| channel.name.clone()).collect();
        let content = serde_json::to_string(&message).unwrap_or_default();
        let row = NewMessage {
            key: &message.key,
            alert_id: alert.map_or("", |alert| &alert.id),
            event: message.event.word(),
            subject: &message.subject,
            content: &content,
            channels: &channels,
        };
        self.cx.audit()?.put_message(&row, now).map_err(audit_error)
    }
}

/// What every command does at its end: whoever calls by cron is told without a daemon. That it failed is logged: the command has
/// an outcome of its own.
pub fn after_command(cx: &Context) {
    match Outbox::new(cx).tick(cx.now()) {
        Ok(report) => report.failed.iter().for_each(|failed| tracing::warn!("a message was not delivered: {failed}")),
        Err(error) => tracing::warn!(error = one_line(&error), "messages could not be delivered"),
    }
}

/// Whether a channel takes this message.
fn wants(cx: &Context, channel: &ChannelConfig, message: &Message) -> bool {
    let event = ToldEvent::of(message.event);
    let is_about_one = matches!(event, Some(ToldEvent::Failure | ToldEvent::Recovery));
    let project = cx.config.projects.values().find(|project| project.name.as_str() == message.project);
    let priority = project.map_or(Priority::Critical, |project| project.priority);
    event.is_none_or(|event| channel.events.contains(&event)) && (!is_about_one || priority <= channel.min_priority)
}

/// A channel is not told that it fails: it would only be told when it does not.
fn is_about(channel: &ChannelConfig, alert: &AlertRow) -> bool {
    alert.kind == NOTIFY && alert.store == channel.name
}

fn audit_error(error: crate::audit::AuditError) -> OperationError {
    OperationError::Audit(Box::new(error))
}
