//! The keys of `[notify]`. The one channel of a kind has a table of its own; further ones have a name and say their kind.

use super::{Key, Kind, Rule, Shape, optional, required};

const SMTP_SCHEMES: &[&str] = &["smtp", "smtps", "smtp+starttls"];
const CHANNEL_KIND: Key = required("kind", Kind::Word(&["email", "slack", "discord", "webhook", "command"]), "What it is.");
const EVENTS: Key = optional(
    "events",
    Kind::CheckedList(Rule::Event),
    "What goes there: `failure` (with reminders), `recovery`, `digest`, `report`; all of them unless said.",
);
const MIN_PRIORITY: Key = optional(
    "min_priority",
    Kind::Word(&["critical", "high", "medium", "low"]),
    "Failures and recoveries of less important projects do not go there; low unless said.",
);
const CA_FILE: Key = optional("ca_file", Kind::Path, "PEM file of the authorities to trust in place of the system's.");

pub(super) static NOTIFY: Shape = Shape {
    doc: "Who is told.",
    keys: &[
        optional("language", Kind::Word(&["en", "nl"]), "Of messages and reports: en unless said."),
        optional("digest", Kind::Checked(Rule::TimeOfDay), "When the daily digest is sent, in the host's time zone; 07:00 unless said."),
        optional(
            "remind",
            Kind::Checked(Rule::Objective),
            "What is critical and still wrong is told again after this time: 24h unless said.",
        ),
        optional("templates", Kind::Path, "Folder of templates that stand in for built-in words: failure.txt, failure.html, …"),
        optional("email", Kind::Section(&EMAIL), "Mail."),
        optional("slack", Kind::Section(&SLACK), "Slack."),
        optional("discord", Kind::Section(&DISCORD), "Discord."),
        optional("webhook", Kind::Section(&WEBHOOK), "A webhook of your own, which is given JSON."),
        optional("command", Kind::Section(&COMMAND), "A program of your own, which is given JSON."),
        optional("channels", Kind::Kinds(CHANNEL_KINDS), "Further channels, by name."),
    ],
};

/// The kinds of a named channel.
const CHANNEL_KINDS: &[(&str, &Shape)] = &[
    ("email", &NAMED_EMAIL),
    ("slack", &NAMED_SLACK),
    ("discord", &NAMED_DISCORD),
    ("webhook", &NAMED_WEBHOOK),
    ("command", &NAMED_COMMAND),
];

macro_rules! channel {
    ($own:ident, $named:ident, $doc:literal, $($key:expr),* $(,)?) => {
        static $own: Shape = Shape { doc: $doc, keys: &[$($key,)* EVENTS, MIN_PRIORITY] };
        static $named: Shape = Shape { doc: $doc, keys: &[CHANNEL_KIND, $($key,)* EVENTS, MIN_PRIORITY] };
    };
}

channel!(
    EMAIL,
    NAMED_EMAIL,
    "Mail.",
    required("smtp", Kind::SecretUrl(SMTP_SCHEMES), "smtp://, smtp+starttls:// or smtps:// server."),
    optional("user", Kind::Secret, "Login name; not over smtp:// to another machine."),
    optional("password", Kind::Secret, "Password."),
    required("from", Kind::Checked(Rule::Address), "Sender."),
    required("to", Kind::CheckedList(Rule::Address), "Recipients."),
    CA_FILE,
);
channel!(SLACK, NAMED_SLACK, "Slack.", required("webhook", Kind::Secret, "URL of an incoming webhook: whoever has it can post."),);
channel!(DISCORD, NAMED_DISCORD, "Discord.", required("webhook", Kind::Secret, "URL of a webhook: whoever has it can post."));
channel!(
    WEBHOOK,
    NAMED_WEBHOOK,
    "A webhook of your own, which is given JSON. Redirects are not followed.",
    required("url", Kind::Secret, "https:// or http:// address."),
    optional("secret", Kind::Secret, "Signs the body: X-Havun-Signature: sha256=HMAC."),
    optional("bearer", Kind::Secret, "Sent as Authorization: Bearer; not together with `secret`."),
    CA_FILE,
);
channel!(
    COMMAND,
    NAMED_COMMAND,
    "A program of your own, which is given JSON on its standard input; run without a shell.",
    required("argv", Kind::Command, "Program and arguments."),
    optional("timeout", Kind::Count(1, 300), "Seconds that it may take; 30 unless said."),
);
