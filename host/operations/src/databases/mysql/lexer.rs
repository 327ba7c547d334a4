//! Takes the text of `mysqldump` and `mariadb-dump` apart while it streams by: rows of tables on one side, every
//! other line on the other, with the delimiter that is in force. It counts rows by the text alone, so that quotes,
//! parentheses and line breaks within values do not deceive it. Memory: one line that is not a row.

use super::super::DatabaseError;
use std::collections::BTreeMap;

/// The longest line that is not a row (a view, a routine's line), in bytes.
const LONGEST_LINE: usize = 64 << 20;

/// A part of the dump, in order; all parts together are the dump.
pub(super) enum Piece<'a> {
    /// A whole line with its line break, or the part of an INSERT before its rows.
    Line {
        text: &'a [u8],
        /// `DELIMITER ;;` is in force: the body of a trigger, event or routine.
        in_body: bool,
        /// The line begins a statement.
        begins: bool,
    },
    /// A part of the rows of an INSERT.
    Rows(&'a [u8]),
}

#[derive(Default)]
pub(super) struct Lexer {
    /// Rows hold plain values only; anything else is an error.
    strict: bool,
    odd: bool,
    minus: bool,
    line: Vec<u8>,
    in_rows: bool,
    in_body: bool,
    begins: bool,
    depth: u32,
    quote: Option<u8>,
    escaped: bool,
    table: String,
    /// Rows by table, as far as the text has been seen.
    pub rows: BTreeMap<String, u64>,
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self { begins: true, ..Self::default() }
    }

    /// One that lets no rows pass but plain values: no call, no query, no comment.
    pub(super) fn strict() -> Self {
        Self { strict: true, ..Self::new() }
    }

    /// Takes the next bytes.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(Piece<'_>) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        while !bytes.is_empty() {
            let used = if self.in_rows { self.rows(bytes, take)? } else { self.lines(bytes, take)? };
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Hands on a last line without a line break. What is left open then is for the caller to find.
    pub(super) fn finish(&mut self, take: &mut dyn FnMut(Piece<'_>) -> Result<(), DatabaseError>) -> Result<(), DatabaseError> {
        if self.line.is_empty() { Ok(()) } else { self.end_line(take) }
    }

    fn rows(&mut self, bytes: &[u8], take: &mut dyn FnMut(Piece<'_>) -> Result<(), DatabaseError>) -> Result<usize, DatabaseError> {
        let used = self.skip_rows(bytes);
        if self.strict && self.odd {
            let what = format!("the rows of table {} hold something that is no plain value", self.table);
            return Err(DatabaseError::Refused { what });
        }
        take(Piece::Rows(bytes.get(..used).unwrap_or_default()))?;
        Ok(used)
    }

    /// How many of `bytes` belong to the rows; counts them.
    fn skip_rows(&mut self, bytes: &[u8]) -> usize {
        let mut counted = 0;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            if let Some(quote) = self.quote {
                if self.escaped {
                    self.escaped = false;
                } else if byte == b'\\' {
                    self.escaped = true;
                } else if byte == quote {
                    self.quote = None;
                } else {
                    at += memchr::memchr2(quote, b'\\', bytes.get(at..).unwrap_or_default()).unwrap_or(bytes.len() - at);
                }
                continue;
            }
            match byte {
                b'\'' | b'"' | b'`' => {
                    self.odd |= byte != b'\'' || self.depth == 0;
                    self.quote = Some(byte);
                }
                b'(' => {
                    counted += u64::from(self.depth == 0);
                    self.depth += 1;
                    self.odd |= self.depth > 1;
                }
                b')' => self.depth = self.depth.saturating_sub(1),
                b';' if self.depth == 0 => {
                    self.in_rows = false;
                    self.begins = true;
                    break;
                }
                b',' | b' ' | b'\n' | b'\r' => {}
                b'-' => {
                    self.odd |= self.minus || self.depth == 0;
                    self.minus = true;
                    continue;
                }
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+') => self.odd |= self.depth == 0,
                _ => self.odd = true,
            }
            self.minus = false;
        }
        if let Some(rows) = self.rows.get_mut(&self.table) {
            *rows += counted;
        }
        at
    }

    fn lines(&mut self, bytes: &[u8], take: &mut dyn FnMut(Piece<'_>) -> Result<(), DatabaseError>) -> Result<usize, DatabaseError> {
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let known = self.line.len();
        self.line.extend_from_slice(bytes.get(..end).unwrap_or_default());
        if self.begins
            && !self.in_body
            && let Some((table, length)) = insert_head(&self.line)
        {
            self.begin_rows(table, length, take)?;
            return Ok(length - known.min(length));
        }
        if self.line.ends_with(b"\n") {
            self.end_line(take)?;
        } else if self.line.len() > LONGEST_LINE {
            return Err(DatabaseError::Truncated { what: "a line of the dump does not end".to_owned() });
        }
        Ok(end)
    }

    fn begin_rows(
        &mut self,
        table: String,
        length: usize,
        take: &mut dyn FnMut(Piece<'_>) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        take(Piece::Line { text: self.line.get(..length).unwrap_or_default(), in_body: false, begins: true })?;
        self.line.clear();
        self.rows.entry(table.clone()).or_default();
        self.table = table;
        (self.in_rows, self.depth, self.quote, self.escaped) = (true, 0, None, false);
        Ok(())
    }

    fn end_line(&mut self, take: &mut dyn FnMut(Piece<'_>) -> Result<(), DatabaseError>) -> Result<(), DatabaseError> {
        let line = std::mem::take(&mut self.line);
        take(Piece::Line { text: &line, in_body: self.in_body, begins: self.begins })?;
        let text = line.trim_ascii_end();
        if let Some(delimiter) = text.strip_prefix(b"DELIMITER ") {
            self.in_body = delimiter != b";";
            self.begins = true;
        } else {
            let end: &[u8] = if self.in_body { b";;" } else { b";" };
            let silent = text.is_empty() || text.starts_with(b"--") || super::guard::is_sandbox_line(text);
            self.begins = text.ends_with(end) || silent && self.begins;
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }
}

/// The table of an INSERT and the length of the text before its rows, once that much of it is there.
pub(super) fn insert_head(line: &[u8]) -> Option<(String, usize)> {
    let rest = line.strip_prefix(b"INSERT INTO ")?;
    let (table, mut rest) = identifier(rest)?;
    if let Some(mut list) = rest.strip_prefix(b" (") {
        loop {
            // The columns of a table's history are not quoted.
            let bare = list.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            list = if bare > 0 { list.get(bare..)? } else { identifier(list)?.1 };
            match list {
                [b',', b' ', after @ ..] | [b',', after @ ..] => list = after,
                [b')', after @ ..] => {
                    rest = after;
                    break;
                }
                _ => return None,
            }
        }
    }
    let rest = rest.strip_prefix(b" VALUES")?;
    Some((table, line.len() - rest.len()))
}

/// As [`identifier`], where the text is known to its end.
pub(super) fn identifier_at(text: &[u8]) -> Option<(String, &[u8])> {
    let close = |text: &[u8]| text.ends_with(b"`");
    match identifier(text) {
        None if text.len() > 1 && close(text) => {
            let with_end = [text, b" "].concat();
            identifier(&with_end).map(|(name, _)| (name, text.get(text.len()..).unwrap_or_default()))
        }
        found => found,
    }
}

/// An identifier in backticks, unquoted, and what follows it.
pub(super) fn identifier(text: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = text.strip_prefix(b"`")?;
    let mut name = Vec::new();
    loop {
        let end = memchr::memchr(b'`', rest)?;
        name.extend_from_slice(rest.get(..end)?);
        match rest.get(end + 1..)? {
            [b'`', after @ ..] => {
                name.push(b'`');
                rest = after;
            }
            // Whether a second backtick follows is not known yet.
            [] => return None,
            after => return Some((String::from_utf8_lossy(&name).into_owned(), after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIADB: &str = "CREATE TABLE `a` (\n  `t` text DEFAULT ';'\n);\nINSERT INTO `a` VALUES\n(1,'x\\n(y\\'),(\\\\',0x00),\n(2,'it''s;',NULL);\nUNLOCK TABLES;\n";
    const MYSQL: &str =
        "INSERT INTO `o``dd` (`a`, `b`) VALUES (1,'('),(2,_binary '\\';\n'),(3,')');\nINSERT INTO `o``dd` (`a`, `b`) VALUES (4,'');\n";
    const BODY: &str = "DELIMITER ;;\nCREATE DEFINER=`r`@`%` PROCEDURE `p`()\nbegin\nINSERT INTO `a` VALUES (1);\nend ;;\nDELIMITER ;\n";

    /// All lines that begin a statement, and the rows; fed in pieces of `size`.
    fn run(text: &str, size: usize) -> (String, BTreeMap<String, u64>, Vec<u8>) {
        let (mut lexer, mut begins, mut all) = (Lexer::new(), String::new(), Vec::new());
        let mut take = |piece: Piece<'_>| {
            match piece {
                Piece::Line { text, begins: first, .. } => {
                    all.extend_from_slice(text);
                    if first && !text.trim_ascii().is_empty() {
                        begins.push_str(&format!("[{}]", String::from_utf8_lossy(text.trim_ascii_end())));
                    }
                }
                Piece::Rows(bytes) => all.extend_from_slice(bytes),
            }
            Ok(())
        };
        for piece in text.as_bytes().chunks(size) {
            lexer.feed(piece, &mut take).unwrap();
        }
        lexer.finish(&mut take).unwrap();
        (begins, lexer.rows, all)
    }

    #[test]
    fn rows_are_counted_whatever_is_in_them_and_however_the_text_is_cut() {
        for size in [1, 2, 3, 7, 64, 4096] {
            let (begins, rows, all) = run(MARIADB, size);
            assert_eq!((rows["a"], all.as_slice()), (2, MARIADB.as_bytes()), "{size}");
            assert_eq!(begins, "[CREATE TABLE `a` (][INSERT INTO `a` VALUES][UNLOCK TABLES;]", "{size}");
            let (_, rows, all) = run(MYSQL, size);
            assert_eq!((rows["o`dd"], all.as_slice()), (4, MYSQL.as_bytes()), "{size}");
        }
    }

    #[test]
    fn what_follows_the_line_for_the_sandbox_begins_a_statement() {
        let (begins, ..) = run("/*M!999999\\- enable the sandbox mode */ \nDROP DATABASE a;\n", 5);
        assert!(begins.ends_with("[DROP DATABASE a;]"), "{begins}");
    }

    #[test]
    fn the_body_of_a_routine_is_neither_rows_nor_a_new_statement() {
        for size in [1, 5, 4096] {
            let (begins, rows, all) = run(BODY, size);
            assert!(rows.is_empty());
            assert_eq!(all, BODY.as_bytes());
            assert_eq!(begins, "[DELIMITER ;;][CREATE DEFINER=`r`@`%` PROCEDURE `p`()][DELIMITER ;]");
        }
    }
}
