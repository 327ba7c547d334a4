//! A certificate as Markdown.

use super::{Certificate, accepted_lines, comparisons, database_lines, facts};

/// As Markdown (CommonMark with tables). `sha256` and `signature` are of the JSON form.
pub fn markdown(c: &Certificate, sha256: &str, signature: &str) -> String {
    let mut text = format!("# Certificate of a test restore: {}\n\n**Result: {}**\n\n", escape(&c.title), c.result.word().to_uppercase());
    list(&mut text, "Why it did not pass", &c.reasons);
    text.push_str("| | |\n|---|---|\n");
    for (name, value) in facts(c) {
        text.push_str(&format!("| {name} | {} |\n", escape(&value)));
    }
    text.push_str("\n## Expected and found\n\n| | expected | found | |\n|---|---|---|---|\n");
    for row in comparisons(c) {
        text.push_str(&format!("| {} |\n", row.map(|cell| escape(&cell)).join(" | ")));
    }
    text.push('\n');
    list(&mut text, "Databases", &database_lines(c));
    let mut failed: Vec<String> = c.files.failed.iter().map(|f| format!("{}: {}", f.path, f.why)).collect();
    let more = c.files.failed_count.saturating_sub(c.files.failed.len() as u64);
    failed.extend((more > 0).then(|| format!("and {more} more")));
    list(&mut text, "Files that are not as they should be", &failed);
    checks(&mut text, c);
    list(
        &mut text,
        "Steps in the restored tree",
        &c.steps.iter().map(|s| format!("{}: {} ({})", s.title, s.outcome, s.detail)).collect::<Vec<_>>(),
    );
    list(&mut text, "Erasures to apply again", &c.erasures);
    list(&mut text, "Not proven, and accepted to be so", &accepted_lines(c));
    list(&mut text, "Notes", &c.notes);
    text.push_str(&format!(
        "## Signature\n\nThis page is made from the certificate's JSON form, whose SHA-256 is `{sha256}`. The JSON form is signed \
         (Ed25519, as a C2SP signed note) with the key\n\n    {}\n\nby\n\n    {}\n\n`havun-backup test --verify FILE --key KEY` checks the \
         note, and this page against it.\n",
        c.signer,
        signature.trim_end()
    ));
    text
}

fn checks(text: &mut String, c: &Certificate) {
    if c.checks.is_empty() {
        return;
    }
    text.push_str("## Checks\n\n| check | result | |\n|---|---|---|\n");
    for check in &c.checks {
        text.push_str(&format!("| {} | {} | {} |\n", escape(&check.name), check.outcome, escape(&check.detail)));
    }
    text.push('\n');
}

fn list(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("## {title}\n\n"));
    lines.iter().for_each(|line| text.push_str(&format!("- {}\n", escape(line))));
    text.push('\n');
}

/// Names of files and tables are anybody's: they must not become markup.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
