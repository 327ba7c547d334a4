//! A document as plain text.

use super::{Block, Document, Step, Table};

/// Where lines are broken: what mail programs show without breaking it themselves.
const WIDTH: usize = 76;

pub(super) fn text(document: &Document) -> String {
    let mut text = String::new();
    let mut after = "";
    let mut add = |part: &str, next: &'static str| {
        if !part.is_empty() {
            text.push_str(after);
            text.push_str(part);
            after = next;
        }
    };
    add(&document.title, "\n\n");
    add(&document.headline, "\n\n");
    for block in &document.blocks {
        // A heading belongs to what follows it.
        add(&self::block(block), if matches!(block, Block::Heading(_)) { "\n" } else { "\n\n" });
    }
    if !document.footer.is_empty() {
        add(&format!("--\n{}", document.footer), "");
    }
    printable(&text) + "\n"
}

fn block(block: &Block) -> String {
    match block {
        Block::Heading(text) => format!("{text}\n{}", "-".repeat(text.chars().count())),
        Block::Paragraph(text) => wrapped(text, "", ""),
        Block::List(lines) => lines.iter().map(|line| wrapped(line, "- ", "  ")).collect::<Vec<_>>().join("\n"),
        Block::Steps(steps) => (1..).zip(steps).map(step).collect::<Vec<_>>().join("\n\n"),
        Block::Facts(facts) => {
            let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
            let line = |(name, value): &(String, String)| wrapped(value, &pad(name, width, false), &" ".repeat(width));
            facts.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Block::Table(table) => self::table(table),
    }
}

fn step((number, step): (usize, &Step)) -> String {
    let mut text = wrapped(&step.text, &format!("{number}. "), "   ");
    if !step.commands.is_empty() {
        text.push('\n');
        step.commands.lines().for_each(|line| text.push_str(&format!("\n     {line}")));
    }
    text
}

fn table(table: &Table) -> String {
    let width = |column: usize| {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| cell.chars().count());
        cells.chain(table.columns.get(column).map(|c| c.title.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).zip(&table.columns).map(|((cell, width), column)| pad(cell, *width, column.right));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut table.columns.iter().map(|column| column.title.as_str()))];
    lines.retain(|line| !line.is_empty());
    for row in &table.rows {
        lines.push(line(&mut row.cells.iter().map(String::as_str)));
        lines.extend(row.notes.iter().map(|note| wrapped(note, "     ", "     ")));
    }
    lines.join("\n")
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.chars().count()));
    if right { blanks + text } else { text.to_owned() + &blanks }
}

/// Broken between words; each line of `text` begins anew.
fn wrapped(text: &str, first: &str, next: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut current = if lines.is_empty() { first.to_owned() } else { next.to_owned() };
        let mut is_new = true;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            if !is_new && current.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::replace(&mut current, next.to_owned()));
                is_new = true;
            }
            if !is_new {
                current.push(' ');
            }
            current.push_str(word);
            is_new = false;
        }
        lines.push(current);
    }
    lines.join("\n")
}

/// Names of files and messages of servers are foreign, and a terminal obeys.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}
