//! Channels as the configuration describes them, ready to send.

use super::words::Words;
use crate::{
    config::{ChannelConfig, ChannelKind, EmailConfig, Secret},
    context::Context,
    error::{OperationError, exit, nearest},
    report::{Failure, SCHEMA_VERSION},
};
use havun_notify::{
    Channel, ChatChannel, CommandChannel, CommandSettings, EmailChannel, EmailSettings, Patience, SendError,
    WebhookAuthentication, WebhookChannel,
};
use serde::Serialize;
use std::time::Duration;
use zeroize::Zeroizing;

/// Whether a channel would work.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelProbe {
    /// Its name.
    pub channel: String,
    /// What was found, or that a test message was sent.
    pub found: String,
    /// Why it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What became of test messages. Shape of `havun-backup notify test --json`.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelTest {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// In the order of the configuration.
    pub channels: Vec<ChannelProbe>,
}

impl ChannelTest {
    /// 0, or 1 when a message was not taken.
    pub fn exit_status(&self) -> u8 {
        let failed = self.channels.iter().find_map(|channel| channel.failure.as_ref());
        failed.map_or(exit::OK, |failure| failure.exit_status)
    }
}

/// A channel that can send, or why it cannot.
pub(super) fn open(config: &ChannelConfig) -> Result<Box<dyn Channel>, SendError> {
    let patience = Patience::default();
    Ok(match &config.kind {
        ChannelKind::Email(email) => Box::new(EmailChannel::new(mail(email)?)?),
        ChannelKind::Slack { webhook } => Box::new(ChatChannel::slack(&secret("webhook", webhook)?, patience)?),
        ChannelKind::Discord { webhook } => Box::new(ChatChannel::discord(&secret("webhook", webhook)?, patience)?),
        ChannelKind::Webhook { url, secret: signing, bearer, ca_file } => {
            let authentication = match (signing, bearer) {
                (Some(signing), _) => WebhookAuthentication::Signature(secret("secret", signing)?),
                (None, Some(bearer)) => WebhookAuthentication::Bearer(secret("bearer", bearer)?),
                (None, None) => WebhookAuthentication::None,
            };
            Box::new(WebhookChannel::new(&secret("url", url)?, authentication, ca_file.as_deref(), patience)?)
        }
        ChannelKind::Command { argv, timeout_secs } => {
            let timeout = Duration::from_secs(u64::from(*timeout_secs));
            Box::new(CommandChannel::new(CommandSettings { argv: argv.clone(), timeout })?)
        }
    })
}

fn mail(email: &EmailConfig) -> Result<EmailSettings, SendError> {
    let optional = |setting, value: &Option<Secret>| value.as_ref().map(|value| secret(setting, value)).transpose();
    Ok(EmailSettings {
        server: secret("smtp", &email.smtp)?,
        user: optional("user", &email.user)?,
        password: optional("password", &email.password)?,
        from: email.from.clone(),
        to: email.to.clone(),
        ca_file: email.ca_file.clone(),
        patience: Patience::default(),
    })
}

/// What cannot be read is told by where it stands; an environment variable may be set the next time.
fn secret(setting: &'static str, secret: &Secret) -> Result<Zeroizing<String>, SendError> {
    secret.resolve().map_err(|error| SendError::Setting { setting, why: format!("cannot be read: {}", crate::error::one_line(&error)) })
}

/// A failed delivery as reports show it.
pub(super) fn failure(channel: &str, error: &SendError) -> Failure {
    let exit_status = match error {
        SendError::Setting { .. } => exit::CONFIG,
        SendError::Unreachable { .. } | SendError::TimedOut { .. } => exit::UNREACHABLE,
        _ => exit::FAILED,
    };
    Failure {
        message: format!("no message can be sent by the channel `{channel}`"),
        causes: vec![crate::error::one_line(error)],
        hint: Some(error.hint().to_owned()),
        exit_status,
    }
}

/// Finds out of every channel whether it would work, and sends nothing.
pub fn probe_channels(cx: &Context) -> Vec<ChannelProbe> {
    let probe = |channel: &ChannelConfig| outcome(channel, open(channel).and_then(|channel| channel.probe()));
    cx.config.notify.channels.iter().map(probe).collect()
}

/// Sends a test message by every channel, or the named one.
///
/// # Errors
/// [`OperationError::UnknownChannel`].
pub fn test_channels(cx: &Context, only: Option<&str>) -> Result<ChannelTest, OperationError> {
    let all = &cx.config.notify.channels;
    if let Some(name) = only.filter(|name| !all.iter().any(|channel| channel.name == *name)) {
        let nearest = nearest(name, all.iter().map(|channel| channel.name.as_str()));
        return Err(OperationError::UnknownChannel { name: name.to_owned(), nearest });
    }
    let words = Words::new(cx);
    let now = cx.now();
    let send = |channel: &ChannelConfig| {
        cx.observer.step(&format!("sending a test message by `{}`", channel.name));
        let message = words.test(cx, &channel.name, now);
        outcome(channel, open(channel).and_then(|way| way.send(&message)).map(|()| "a test message was sent".to_owned()))
    };
    let channels = all.iter().filter(|channel| only.is_none_or(|name| channel.name == name)).map(send).collect();
    Ok(ChannelTest { schema_version: SCHEMA_VERSION, channels })
}

fn outcome(channel: &ChannelConfig, found: Result<String, SendError>) -> ChannelProbe {
    let (found, failure) = match found {
        Ok(found) => (found, None),
        Err(error) => (String::new(), Some(failure(&channel.name, &error))),
    };
    ChannelProbe { channel: channel.name.clone(), found, failure }
}
