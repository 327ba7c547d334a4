//! Slack's incoming webhooks: blocks of a header, facts and the text.
//!
//! Slack reads `&`, `<` and `>` as its own marks (a `<!channel>` would call everybody), so they are escaped; a header holds
//! 150 characters, a section 3,000, ten facts at most stand in a section. `text` beside the blocks is what
//! a phone's notification shows.

use crate::{Channel, Message, Patience, SendError, Severity, http::Poster};
use serde_json::{Value, json};

const HEADER: usize = 150;
const SECTION: usize = 2900;
const FACT: usize = 400;
const FACTS: usize = 10;

/// An incoming webhook.
pub struct SlackChannel {
    poster: Poster,
}

impl SlackChannel {
    /// # Errors
    /// [`SendError::Setting`].
    pub fn new(url: &str, patience: Patience) -> Result<Self, SendError> {
        Ok(Self { poster: Poster::new(url, None, patience)? })
    }
}

impl Channel for SlackChannel {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        self.poster.post(&body(message).to_string(), &[])
    }

    fn probe(&self) -> Result<String, SendError> {
        self.poster.reach()
    }
}

fn body(message: &Message) -> Value {
    let colour = match message.severity {
        Severity::Critical => "#c62828",
        Severity::Warning => "#ef8f00",
        Severity::Info => "#2e7d32",
    };
    let mut blocks =
        vec![json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&message.subject, HEADER), "emoji": false } })];
    let facts: Vec<Value> = message.fields.iter().take(FACTS).map(fact).collect();
    if !facts.is_empty() {
        blocks.push(json!({ "type": "section", "fields": facts }));
    }
    blocks.push(json!({ "type": "section", "text": { "type": "mrkdwn", "text": format!("```{}```", escape(&message.text, SECTION)) } }));
    json!({ "text": escape(&message.subject, SECTION), "attachments": [{ "color": colour, "blocks": blocks }] })
}

fn fact(field: &crate::Field) -> Value {
    json!({ "type": "mrkdwn", "text": format!("*{}*\n{}", escape(&field.name, HEADER), escape(&field.value, FACT)) })
}

/// Escaped, and not longer than `limit` characters after that. Three backquotes would end a block of text.
fn escape(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for c in text.trim_end().replace("```", "'''").chars() {
        let piece = match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            other => other.to_string(),
        };
        length += piece.chars().count();
        if length >= limit {
            out.push('…');
            break;
        }
        out.push_str(&piece);
    }
    out
}

fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit { text.to_owned() } else { text.chars().take(limit - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_called_and_no_block_is_left_by_what_a_file_is_named() {
        assert_eq!(escape("<!channel> & ```x", 100), "&lt;!channel&gt; &amp; '''x");
    }

    #[test]
    fn an_escape_is_never_cut_in_two() {
        let text = escape(&"<".repeat(3000), SECTION);
        assert!(text.chars().count() <= SECTION);
        assert_eq!(text.replace("&lt;", ""), "…");
    }
}
