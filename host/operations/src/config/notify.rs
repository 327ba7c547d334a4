//! `[notify]` as values: who is told what, by which way.

use super::{Objective, Priority, Secret};
use havun_notify::{Event, Language};
use jiff::civil::Time;
use std::path::PathBuf;

/// `[notify]`.
#[derive(Debug, Clone)]
pub struct Notify {
    /// Of messages and reports.
    pub language: Language,
    /// When the daily digest is sent, in the host's time zone.
    pub digest: Time,
    /// What is critical and still wrong is told again after this time.
    pub remind: Objective,
    /// Folder of the operator's own templates.
    pub templates: Option<PathBuf>,
    /// `[notify.email]` and so on, then `[notify.channels.NAME]`.
    pub channels: Vec<ChannelConfig>,
}

impl Default for Notify {
    fn default() -> Self {
        let (language, channels) = (Language::English, Vec::new());
        Self { language, digest: Time::constant(7, 0, 0, 0), remind: Objective::hours(24), templates: None, channels }
    }
}

/// What a channel can be asked to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldEvent {
    /// Failures and reminders of them.
    Failure,
    /// What is right again.
    Recovery,
    /// The daily digest.
    Digest,
    /// Reports of a week, a month, a year.
    Report,
}

impl ToldEvent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Failure, Self::Recovery, Self::Digest, Self::Report];

    /// As in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Digest => "digest",
            Self::Report => "report",
        }
    }

    /// The event of this [`Self::word`].
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.word() == word)
    }

    /// What a message of this event counts as; nothing where every channel takes it.
    pub fn of(event: Event) -> Option<Self> {
        match event {
            Event::Failure | Event::Reminder | Event::Flapping => Some(Self::Failure),
            Event::Recovery => Some(Self::Recovery),
            Event::Digest => Some(Self::Digest),
            Event::Report => Some(Self::Report),
            Event::Test => None,
        }
    }
}

/// A way to people.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// `email`, …, or its name in `[notify.channels]`.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// What goes there.
    pub events: Vec<ToldEvent>,
    /// Failures and recoveries of less important projects do not.
    pub min_priority: Priority,
}

/// What a channel is.
#[derive(Debug, Clone)]
pub enum ChannelKind {
    /// Mail.
    Email(EmailConfig),
    /// Slack.
    Slack {
        /// `https://hooks.slack.com/…`.
        webhook: Secret,
    },
    /// Discord.
    Discord {
        /// `https://discord.com/api/webhooks/…`.
        webhook: Secret,
    },
    /// A webhook of the operator's own.
    Webhook {
        /// Its address.
        url: Secret,
        /// Signs the body.
        secret: Option<Secret>,
        /// A token.
        bearer: Option<Secret>,
        /// Authorities to trust in place of the system's.
        ca_file: Option<PathBuf>,
    },
    /// A program of the operator's own.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Seconds that it may take.
        timeout_secs: u16,
    },
}

impl ChannelKind {
    /// `email`, `slack`, `discord`, `webhook` or `command`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Slack { .. } => "slack",
            Self::Discord { .. } => "discord",
            Self::Webhook { .. } => "webhook",
            Self::Command { .. } => "command",
        }
    }
}

/// `[notify.email]`.
#[derive(Debug, Clone)]
pub struct EmailConfig {
    /// `smtp://`, `smtps://` or `smtp+starttls://`.
    pub smtp: Secret,
    /// Login name.
    pub user: Option<Secret>,
    /// Password.
    pub password: Option<Secret>,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Authorities to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// `07:00`.
pub(super) fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| (text.len() == 2).then(|| text.parse().ok()).flatten();
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}
