//! What is told.

use crate::visible::{visible, visible_line};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of the shape of a message as webhooks and commands are given it.
pub const SCHEMA_VERSION: u32 = 1;

/// Why it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Something went wrong.
    Failure,
    /// It is still wrong.
    Reminder,
    /// It goes wrong and right so often that the rest is not told.
    Flapping,
    /// It is right again.
    Recovery,
    /// What happened on a day.
    Digest,
    /// What happened in a longer time.
    Report,
    /// Somebody wants to know whether messages arrive.
    Test,
}

impl Event {
    /// As in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Reminder => "reminder",
            Self::Flapping => "flapping",
            Self::Recovery => "recovery",
            Self::Digest => "digest",
            Self::Report => "report",
            Self::Test => "test",
        }
    }

    /// The event of this [`Self::word`].
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Failure, Self::Reminder, Self::Flapping, Self::Recovery, Self::Digest, Self::Report, Self::Test];
        all.into_iter().find(|event| event.word() == word)
    }
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    Warning,
    /// To be acted upon now.
    Critical,
}

impl Severity {
    /// As in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One fact of a message, for channels that show facts apart from the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// "Status".
    pub name: String,
    /// "failed".
    pub value: String,
}

/// What is told. Its JSON is what webhooks and commands are given, with `schema_version` added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for every delivery of the same message, whichever the channel and the try; receivers know repeats by it.
    pub key: String,
    /// Why it is told.
    pub event: Event,
    /// How much it matters.
    pub severity: Severity,
    /// `[host] name`.
    pub host: String,
    /// Name of the project; empty where it is about none.
    pub project: String,
    /// The project's title; empty where it is about none.
    pub title: String,
    /// The project's priority; empty where it is about none.
    pub priority: String,
    /// When it was made.
    pub at: Timestamp,
    /// One line.
    pub subject: String,
    /// For readers of text.
    pub text: String,
    /// For everybody else; empty for none.
    pub html: String,
    /// Facts.
    pub fields: Vec<Field>,
}

impl Message {
    /// With every control character made visible, so that nothing that came out of a file name, an error or a title can
    /// move a terminal's cursor, end a header or turn text around.
    #[must_use]
    pub fn made_visible(mut self) -> Self {
        for line in [&mut self.key, &mut self.host, &mut self.project, &mut self.title, &mut self.priority, &mut self.subject] {
            *line = visible_line(line);
        }
        for text in [&mut self.text, &mut self.html] {
            *text = visible(text);
        }
        for field in &mut self.fields {
            (field.name, field.value) = (visible_line(&field.name), visible(&field.value));
        }
        self
    }

    /// As webhooks and commands are given it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({ "schema_version": SCHEMA_VERSION });
        if let (Some(all), Ok(serde_json::Value::Object(own))) = (json.as_object_mut(), serde_json::to_value(self)) {
            all.extend(own);
        }
        json
    }
}
