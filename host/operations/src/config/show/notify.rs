//! `[notify]` as it is understood.

use super::{add, clean, secret, url};
use crate::config::{
    Config,
    notify::{ChannelConfig, ChannelKind, ToldEvent},
};
use havun_notify::Language;
use serde_json::{Map, Value, json};

/// Nothing where nobody is told.
pub(super) fn notify(config: &Config) -> Value {
    let notify = &config.notify;
    if notify.channels.is_empty() && notify.language == Language::default() {
        return json!({});
    }
    let mut shown = json!({
        "language": notify.language.word(), "digest": notify.digest.strftime("%H:%M").to_string(), "remind": notify.remind.to_string(),
        "templates": notify.templates,
    });
    let mut named = Map::new();
    for channel in &notify.channels {
        if channel.name == channel.kind.word() {
            add(&mut shown, &channel.name, one(channel));
        } else {
            let mut entry = one(channel);
            add(&mut entry, "kind", channel.kind.word().into());
            named.insert(channel.name.clone(), entry);
        }
    }
    add(&mut shown, "channels", named.into());
    clean(shown)
}

fn one(channel: &ChannelConfig) -> Value {
    let mut shown = match &channel.kind {
        ChannelKind::Email(e) => json!({
            "smtp": url(&e.smtp), "user": e.user.as_ref().map(secret), "password": e.password.as_ref().map(secret),
            "from": e.from, "to": e.to, "ca_file": e.ca_file,
        }),
        ChannelKind::Slack { webhook } | ChannelKind::Discord { webhook } => json!({ "webhook": secret(webhook) }),
        ChannelKind::Webhook { url, secret: signing, bearer, ca_file } => json!({
            "url": secret(url), "secret": signing.as_ref().map(secret), "bearer": bearer.as_ref().map(secret), "ca_file": ca_file,
        }),
        ChannelKind::Command { argv, timeout_secs } => json!({ "argv": argv, "timeout": timeout_secs }),
    };
    let events: Vec<&str> = channel.events.iter().map(|event| event.word()).collect();
    if events.len() < ToldEvent::ALL.len() {
        add(&mut shown, "events", json!(events));
    }
    if channel.min_priority != crate::config::Priority::Low {
        add(&mut shown, "min_priority", channel.min_priority.word().into());
    }
    clean(shown)
}
