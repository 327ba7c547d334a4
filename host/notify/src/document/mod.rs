//! A report or message as a value, and its two forms: plain text of 76 columns, and HTML that a phone can read.
//!
//! Whoever writes a message says what stands in it; how it looks is said here alone. The HTML is one column with tables,
//! styles inline, nothing from elsewhere; every text in it is escaped. Read `text` and `html` after this.

mod html;
mod text;

use crate::language::Language;
use serde::Serialize;

/// How good or bad something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Neither.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Somebody should look.
    Warning,
    /// Something is wrong.
    Bad,
}

/// A report or message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Document {
    /// Of its words.
    pub language: Language,
    /// The first line: whose report of when.
    pub title: String,
    /// The one sentence that matters, in capitals where it is the specification's.
    pub headline: String,
    /// Of the headline.
    pub tone: Tone,
    /// In order.
    pub blocks: Vec<Block>,
    /// Who made it, and when.
    pub footer: String,
}

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "block", content = "content", rename_all = "lowercase")]
pub enum Block {
    /// Begins a section.
    Heading(String),
    /// Sentences.
    Paragraph(String),
    /// Lines with marks.
    List(Vec<String>),
    /// Numbered steps; each with its text and the commands that belong to it.
    Steps(Vec<Step>),
    /// Names with values.
    Facts(Vec<(String, String)>),
    /// Rows in columns.
    Table(Table),
}

/// One step of a procedure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What to do.
    pub text: String,
    /// Commands to type, one a line; empty where there are none.
    pub commands: String,
}

/// Rows in columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its heading.
    pub title: String,
    /// Aligned to the right: numbers.
    pub right: bool,
}

/// A row of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Of its mark.
    pub tone: Tone,
    /// One for each column.
    pub cells: Vec<String>,
    /// Lines beneath it, over all columns: what matters less, or is too long for a cell.
    pub notes: Vec<String>,
}

impl Table {
    /// With columns; a title that begins with `>` makes a right-aligned one.
    pub fn new(titles: &[&str]) -> Self {
        let column = |title: &&str| Column { title: title.trim_start_matches('>').to_owned(), right: title.starts_with('>') };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, tone: Tone, cells: impl IntoIterator<Item = String>, notes: Vec<String>) {
        self.rows.push(Row { tone, cells: cells.into_iter().collect(), notes });
    }
}

impl Document {
    /// Plain text, lines of 76 columns at most but for what cannot be broken. Control characters are replaced.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// One page of HTML.
    ///
    /// # Errors
    /// When the page's template does not render, which would be a mistake of this program.
    pub fn html(&self) -> Result<String, minijinja::Error> {
        html::html(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let mut table = Table::new(&["", "Project", ">Size"]);
        table.row(Tone::Good, ["✓".to_owned(), "HavunAdmin".to_owned(), "1.2 GB".to_owned()], vec!["03:00, 2 min 05 s".to_owned()]);
        table.row(Tone::Bad, ["✗".to_owned(), "<script>alert(1)</script>".to_owned(), "9 B".to_owned()], Vec::new());
        Document {
            language: Language::English,
            title: "[Host] Report".to_owned(),
            headline: "1 OF 2 BACKUPS FAILED".to_owned(),
            tone: Tone::Bad,
            blocks: vec![
                Block::Table(table),
                Block::Heading("Warnings & more".to_owned()),
                Block::List(vec![
                    "a line that is so long that it has to be broken somewhere before it ends, or a terminal would do so".to_owned(),
                ]),
                Block::Steps(vec![Step { text: "Look.".to_owned(), commands: "havun-backup logs\nhavun-backup health".to_owned() }]),
                Block::Facts(vec![("Status".to_owned(), "failed".to_owned()), ("Error in full".to_owned(), "a \u{1b}[2Jb".to_owned())]),
                Block::Paragraph("The end.".to_owned()),
            ],
            footer: "havun-backup 0.1.0".to_owned(),
        }
    }

    #[test]
    fn the_text_lines_up_and_is_broken_where_it_is_long() {
        let expected = "\
[Host] Report

1 OF 2 BACKUPS FAILED

   Project                      Size
✓  HavunAdmin                 1.2 GB
     03:00, 2 min 05 s
✗  <script>alert(1)</script>     9 B

Warnings & more
---------------
- a line that is so long that it has to be broken somewhere before it ends,
  or a terminal would do so

1. Look.

     havun-backup logs
     havun-backup health

Status         failed
Error in full  a \u{fffd}[2Jb

The end.

--
havun-backup 0.1.0
";
        assert_eq!(document().text(), expected);
    }

    #[test]
    fn whatever_stands_in_the_html_is_escaped_and_nothing_is_fetched() {
        let page = document().html().unwrap();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
        assert!(page.contains("Warnings &amp; more"));
        assert!(!page.contains('\u{1b}'));
        for fetching in ["http:", "https:", "<img", "<link", "url(", "@import", "src="] {
            assert!(!page.contains(fetching), "{fetching}");
        }
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<html lang=\"en\">") && page.contains("width=device-width"));
    }

    #[test]
    fn an_empty_document_is_still_one() {
        let empty = Document::default();
        assert_eq!(empty.text(), "\n");
        assert!(empty.html().unwrap().contains("</html>"));
    }
}
