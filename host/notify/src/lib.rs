//! Messages to people: what is told, in which words, by which way.
//!
//! A [`Message`] is made once and sent by every [`Channel`] that wants it. A channel sends or fails, within a bounded
//! time; it neither waits nor tries again, and keeps nothing: the queue above does. What a channel says of a failure
//! never holds a secret, a webhook's address being one.
//!
//! Read `message` and `visible` (what is told), `templates` and `language` (in which words), `document` (reports), `error`, then the channels: `email`, `http`
//! with `chat` (`slack`, `discord`) and `webhook` over it, `command`.
#![forbid(unsafe_code)]

mod chat;
mod command;
mod discord;
pub mod document;
mod email;
mod error;
mod http;
pub mod language;
mod message;
mod ping;
mod slack;
mod templates;
mod veil;
mod visible;
mod webhook;

pub use chat::ChatChannel;
pub use command::{CommandChannel, CommandSettings};
pub use email::{EmailChannel, EmailSettings};
pub use error::SendError;
pub use language::Language;
pub use message::{Event, Field, Message, SCHEMA_VERSION, Severity};
pub use ping::ping;
pub use templates::{Rendered, TemplateError, Templates};
pub use visible::{visible, visible_line};
pub use webhook::{WebhookAuthentication, WebhookChannel};

use std::time::Duration;

/// How long one step of a delivery may take: a connection, one answer of the server.
pub const STEP: Duration = Duration::from_secs(20);
/// How long a whole delivery may take.
pub const WHOLE: Duration = Duration::from_secs(60);

/// How long a channel waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, and for each answer.
    pub step: Duration,
    /// For everything together.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { step: STEP, whole: WHOLE }
    }
}

/// A way to people.
pub trait Channel: Send + Sync {
    /// Hands a message over. After return the other side has taken it; it may have it twice when this fails.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::is_passing`] says whether the same may succeed later.
    fn send(&self, message: &Message) -> Result<(), SendError>;

    /// Finds out whether it would work, so far as that can be known without sending; what was found, for people.
    ///
    /// # Errors
    /// As [`Self::send`].
    fn probe(&self) -> Result<String, SendError>;
}
