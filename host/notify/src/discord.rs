//! Discord's webhooks: one embed with the facts and the text.
//!
//! `allowed_mentions` allows none, so `@everyone` calls nobody; marks of Discord's Markdown are escaped all the same, and
//! an `@` is followed by a zero-width space. A title holds 256 characters, a description 4,096, 25 facts of 256 and 1,024, all
//! together 6,000.

use crate::{
    Message, Severity,
    chat::{cut, escaped, in_block},
};
use serde_json::{Value, json};

const TITLE: usize = 256;
const DESCRIPTION: usize = 3000;
const FACTS: usize = 8;
const FACT_NAME: usize = 60;
const FACT: usize = 240;

pub(crate) fn body(message: &Message) -> Value {
    let colour = match message.severity {
        Severity::Critical => 0x00c6_2828,
        Severity::Warning => 0x00ef_8f00,
        Severity::Info => 0x002e_7d32,
    };
    let fact =
        |field: &crate::Field| json!({ "name": escape(&field.name, FACT_NAME), "value": escape(&field.value, FACT), "inline": true });
    let facts: Vec<Value> = message.fields.iter().filter(|field| !field.value.is_empty()).take(FACTS).map(fact).collect();
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
    cut(&in_block(text), limit)
}

fn escape(text: &str, limit: usize) -> String {
    escaped(text, limit, |c| match c {
        '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '#' | '[' | ']' => Some(format!("\\{c}")),
        '@' => Some("@\u{200b}".to_owned()),
        _ => None,
    })
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
