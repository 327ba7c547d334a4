//! Webhooks of chats: a body of their own form over [`Poster`], and texts that fit into it.

use crate::{Channel, Message, Patience, SendError, http::Poster};
use serde_json::Value;

/// A chat's webhook: [`Self::slack`] or [`Self::discord`].
pub struct ChatChannel {
    poster: Poster,
    body: fn(&Message) -> Value,
}

impl ChatChannel {
    /// Slack's incoming webhook at `url`, which is a secret.
    ///
    /// # Errors
    /// [`SendError::Setting`].
    pub fn slack(url: &str, patience: Patience) -> Result<Self, SendError> {
        Self::new(url, patience, crate::slack::body)
    }

    /// Discord's webhook at `url`, which is a secret.
    ///
    /// # Errors
    /// [`SendError::Setting`].
    pub fn discord(url: &str, patience: Patience) -> Result<Self, SendError> {
        Self::new(url, patience, crate::discord::body)
    }

    fn new(url: &str, patience: Patience, body: fn(&Message) -> Value) -> Result<Self, SendError> {
        Ok(Self { poster: Poster::new(url, None, patience)?, body })
    }
}

impl Channel for ChatChannel {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        self.poster.post(&(self.body)(message).to_string(), &[])
    }

    fn probe(&self) -> Result<String, SendError> {
        self.poster.reach()
    }
}

/// `text` with every character as `escape` has it (`None`: as it is), and not longer than `limit` characters after that; no
/// escape is cut in two.
pub(crate) fn escaped(text: &str, limit: usize, escape: impl Fn(char) -> Option<String>) -> String {
    let (mut out, mut length) = (String::new(), 0);
    for c in text.chars() {
        let piece = escape(c).unwrap_or_else(|| c.to_string());
        length += piece.chars().count();
        if length >= limit {
            out.push('…');
            break;
        }
        out.push_str(&piece);
    }
    out
}

/// The first `limit` characters, the last of them `…` where there are more.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit { text.to_owned() } else { text.chars().take(limit.saturating_sub(1)).chain(['…']).collect() }
}

/// What would end a block of text.
pub(crate) fn in_block(text: &str) -> String {
    text.trim_end().replace("```", "'''")
}
