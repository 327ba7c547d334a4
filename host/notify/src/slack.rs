//! Slack's incoming webhooks: blocks of a header, facts and the text.
//!
//! Slack reads `&`, `<` and `>` as its own marks (a `<!channel>` would call everybody), so they are escaped; a header holds
//! 150 characters, a section 3,000, ten facts at most stand in a section. `text` beside the blocks is what
//! a phone's notification shows.

use crate::{
    Message, Severity,
    chat::{cut, escaped, in_block},
};
use serde_json::{Value, json};

const HEADER: usize = 150;
const SECTION: usize = 2900;
const FACT: usize = 400;
const FACTS: usize = 10;

pub(crate) fn body(message: &Message) -> Value {
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

fn escape(text: &str, limit: usize) -> String {
    escaped(&in_block(text), limit, |c| match c {
        '&' => Some("&amp;".to_owned()),
        '<' => Some("&lt;".to_owned()),
        '>' => Some("&gt;".to_owned()),
        _ => None,
    })
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
