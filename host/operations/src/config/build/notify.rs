//! `[notify]`: its channels as one list.

use super::{Section, priority, whole};
use crate::config::{
    check::Checker,
    notify::{ChannelConfig, ChannelKind, EmailConfig, Notify, ToldEvent},
    secret::Secret,
};
use havun_notify::Language;

const COMMAND_TIMEOUT: u16 = 30;

pub(super) fn notify(section: &Section<'_>, checker: &mut Checker<'_>) -> Notify {
    let default = Notify::default();
    let mut channels = Vec::new();
    for kind in ["email", "slack", "discord", "webhook", "command"] {
        if let Some(value) = section.get(kind) {
            channels.extend(channel(kind, kind, value.span().start, &section.section(kind), checker));
        }
    }
    for (name, at, table) in section.named("channels") {
        if channels.iter().any(|known: &ChannelConfig| known.name == name) {
            checker.report(at, format!("[notify.channels.{name}]: [notify.{name}] has this name already"));
        }
        channels.extend(table.str("kind").and_then(|kind| channel(name, kind, at, &table, checker)));
    }
    Notify {
        language: section.str("language").and_then(Language::of).unwrap_or_default(),
        digest: section.str("digest").and_then(crate::config::notify::time_of_day).unwrap_or(default.digest),
        remind: section.str("remind").and_then(|text| text.parse().ok()).unwrap_or(default.remind),
        templates: section.path("templates"),
        channels,
    }
}

fn channel(name: &str, kind: &str, at: usize, section: &Section<'_>, checker: &mut Checker<'_>) -> Option<ChannelConfig> {
    let kind = match kind {
        "email" => ChannelKind::Email(email(at, section, checker)?),
        "slack" => ChannelKind::Slack { webhook: section.secret("webhook")? },
        "discord" => ChannelKind::Discord { webhook: section.secret("webhook")? },
        "webhook" => {
            if section.get("secret").is_some() && section.get("bearer").is_some() {
                checker.report(at, "a webhook has `secret` or `bearer`, not both".to_owned());
            }
            let (secret, bearer) = (section.secret("secret"), section.secret("bearer"));
            ChannelKind::Webhook { url: section.secret("url")?, secret, bearer, ca_file: section.path("ca_file") }
        }
        "command" => {
            let argv = section.texts("argv");
            if argv.first().is_some_and(String::is_empty) {
                checker.report(at, "`argv` names no program".to_owned());
            }
            ChannelKind::Command { argv, timeout_secs: section.value("timeout").and_then(whole).unwrap_or(COMMAND_TIMEOUT) }
        }
        _ => return None,
    };
    let events: Vec<ToldEvent> = section.texts("events").iter().filter_map(|word| ToldEvent::of_word(word)).collect();
    let events = if section.get("events").is_some() { events } else { ToldEvent::ALL.to_vec() };
    let min_priority = section.get("min_priority").map_or(crate::config::Priority::Low, |_| priority(section.str("min_priority")));
    Some(ChannelConfig { name: name.to_owned(), kind, events, min_priority })
}

fn email(at: usize, section: &Section<'_>, checker: &mut Checker<'_>) -> Option<EmailConfig> {
    let (user, password) = (section.secret("user"), section.secret("password"));
    if user.is_some() != password.is_some() {
        checker.report(at, "`user` and `password` belong together".to_owned());
    }
    let smtp = section.secret("smtp")?;
    if let (Secret::Plain(url), Some(_)) = (&smtp, &password)
        && let Some(host) = url.strip_prefix("smtp://").map(host_of)
        && !matches!(host, "localhost" | "127.0.0.1" | "[::1]")
    {
        let why = "`smtp` would carry the password to another machine for everybody to read: use smtp+starttls:// or smtps://";
        checker.report(at, why.to_owned());
    }
    let to = section.texts("to");
    if section.get("to").is_some_and(|value| value.get_ref().as_array().is_some_and(|list| list.is_empty())) {
        checker.report(at, "`to` is empty: a mail needs somebody to go to".to_owned());
    }
    Some(EmailConfig { smtp, user, password, from: section.text("from")?, to, ca_file: section.path("ca_file") })
}

/// The host of what stands behind a scheme.
fn host_of(rest: &str) -> &str {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}
