//! Discord's webhooks: one embed with the facts and the text.
//!
//! `allowed_mentions` allows none, so `@everyone` calls nobody; marks of Discord's Markdown are escaped all the same, and
//! an `@` is followed by a zero-width space. A title holds 256 characters, a description 4,096, 25 facts of 256 and 1,024, all
//! together 6,000.

use crate::{Channel, Message, Patience, SendError, Severity, http::Poster};
use serde_json::{Value, json};

const TITLE: usize = 256;
const DESCRIPTION: usize = 3000;
const FACTS: usize = 8;
const FACT_NAME: usize = 60;
const FACT: usize = 240;

/// A webhook.
pub struct DiscordChannel {
    poster: Poster,
}

impl DiscordChannel {
    /// # Errors
    /// [`SendError::Setting`].
    pub fn new(url: &str, patience: Patience) -> Result<Self, SendError> {
        Ok(Self { poster: Poster::new(url, None, patience)? })
    }
}

impl Channel for DiscordChannel {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        self.poster.post(&body(message).to_string(), &[])
    }

    fn probe(&self) -> Result<String, SendError> {
        self.poster.reach()
    }
}

fn body(message: &Message) -> Value {
    let colour = match message.severity {
        Severity::Critical => 0x00c6_2828,
        Severity::Warning => 0x00ef_8f00,
        Severity::Info => 0x002e_7d32,
    };
    let fact =
        |field: &crate::Field| json!({ "name": escape(&field.name, FACT_NAME), "value": escape(&field.value, FACT), "inline": true });
    let facts: Vec<Value> = message.fields.iter().take(FACTS).filter(|field| !field.value.is_empty()).map(fact).collect();
    json!({
        "allowed_mentions": { "parse": [] },
        "embeds": [{
            "title": escape(&message.subject, TITLE),
            "description": format!("```\n{}\n```", block(&message.text, DESCRIPTION)),
            "color": colour,
            "timestamp": message.at.to_string(),
            "fields": facts,
        }],
    })
}

/// Inside a block nothing is a mark but its end; nobody is called from there.
fn block(text: &str, limit: usize) -> String {
    cut(&text.trim_end().replace("```", "'''"), limit)
}

/// Escaped, and not longer than `limit` characters after that.
fn escape(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for c in text.chars() {
        let piece = match c {
            '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '#' | '[' | ']' => format!("\\{c}"),
            '@' => "@\u{200b}".to_owned(),
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
    fn everyone_is_not_called_and_marks_are_shown() {
        assert_eq!(escape("@everyone **x** <@1>", 100), "@\u{200b}everyone \\*\\*x\\*\\* \\<@\u{200b}1\\>");
        assert_eq!(block("a ``` b", 100), "a ''' b");
    }
}
