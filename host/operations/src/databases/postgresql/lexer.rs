//! Where the statements, the rows and the commands of a plain dump begin and end, as psql sees it.
//!
//! Streams: of rows only the beginning of a line is looked at, of the rest one statement is held. The rules are those
//! of psql's own scanner (`psqlscan.l`): nested comments, dollar quotes, `E''`, quotes that go on in the next line,
//! parentheses, and `BEGIN ATOMIC … END` bodies, in all of which a semicolon ends nothing. What psql's versions, or psql
//! and the server, might read in two ways is reported as [`Piece::Odd`]: `pg_dump` writes none of it.

/// The longest statement that is held, in bytes. `pg_dump` writes large objects in pieces of 16 KiB.
const LONGEST: usize = 64 << 20;
/// White space is handed on after so many bytes.
const BETWEEN: usize = 64 * 1024;

/// A part of a dump.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// White space or one comment between statements.
    Between(&'a [u8]),
    /// A statement with its semicolon.
    Statement(&'a [u8]),
    /// A backslash outside of strings and rows, to the end of its line: a command to psql.
    Command(&'a [u8]),
    /// Some of the rows that follow a `COPY … FROM stdin;`.
    Rows(&'a [u8]),
    /// The line `\.` after the rows.
    RowsEnd {
        /// How many there were.
        rows: u64,
    },
    /// What no `pg_dump` writes.
    Odd(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Plain,
    LineComment,
    BlockComment { depth: u32, last: u8 },
    Quote { escapes: bool, escaped: bool },
    QuoteEnd { escapes: bool, blank: bool, newline: bool },
    Name,
    DollarTag,
    Dollar { matched: usize },
    Command,
    AfterCopy,
    Rows,
}

/// Takes a dump apart, piece by piece.
pub(super) struct Lexer {
    state: State,
    /// The statement, comment or command under way.
    text: Vec<u8>,
    /// Where the statement under way begins in `text`.
    begun: Option<usize>,
    last: u8,
    word: Vec<u8>,
    word_after_digit: bool,
    /// First letters of `create`, `or`, `replace`, `function`, `procedure` among the first four words.
    heads: Vec<u8>,
    tag: Vec<u8>,
    parentheses: u32,
    bodies: u32,
    after_begin: bool,
    /// `standard_conforming_strings = off` was said.
    backslashes: bool,
    odd: Option<&'static str>,
    /// The first bytes of a line of rows, while they could be `\.`.
    head: Vec<u8>,
    at_line_start: bool,
    rows: u64,
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Plain,
            text: Vec::new(),
            begun: None,
            last: 0,
            word: Vec::new(),
            word_after_digit: false,
            heads: Vec::new(),
            tag: Vec::new(),
            parentheses: 0,
            bodies: 0,
            after_begin: false,
            backslashes: false,
            odd: None,
            head: Vec::new(),
            at_line_start: true,
            rows: 0,
        }
    }

    pub(super) fn feed<E>(&mut self, bytes: &[u8], take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        // psql drops the rest of the line behind one, wherever it stands.
        if memchr::memchr(0, bytes).is_some() {
            take(Piece::Odd("a NUL byte"))?;
        }
        let mut rest = bytes;
        while let [byte, tail @ ..] = rest {
            if self.state == State::Rows {
                rest = self.rows(rest, take)?;
            } else {
                self.byte(*byte, take)?;
                rest = tail;
            }
        }
        Ok(())
    }

    /// After the last byte.
    pub(super) fn finish<E>(&mut self, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        match self.state {
            State::Rows => return take(Piece::Odd("it ends within the rows of a table")),
            State::LineComment if self.begun.is_none() => return self.between(take),
            State::Command => return self.command(take),
            State::BlockComment { .. } => return take(Piece::Odd("it ends within a comment")),
            _ => {}
        }
        if self.begun.is_some() { take(Piece::Odd("it ends within a statement")) } else { self.between(take) }
    }

    fn byte<E>(&mut self, byte: u8, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        match self.state.clone() {
            State::Plain => return self.plain(byte, take),
            State::LineComment => {
                self.text.push(byte);
                // psql and the server end it at either.
                if matches!(byte, b'\n' | b'\r') {
                    self.state = State::Plain;
                    self.last = byte;
                    if self.begun.is_none() {
                        self.between(take)?;
                    }
                }
            }
            State::BlockComment { depth, last } => {
                self.text.push(byte);
                self.block_comment(depth, last, byte, take)?;
            }
            State::Quote { escapes, escaped } => {
                self.text.push(byte);
                self.state = match byte {
                    _ if escaped => State::Quote { escapes, escaped: false },
                    b'\\' if escapes => State::Quote { escapes, escaped: true },
                    b'\'' => State::QuoteEnd { escapes, blank: false, newline: false },
                    _ => State::Quote { escapes, escaped: false },
                };
            }
            State::QuoteEnd { escapes, blank, newline } => match byte {
                b'\'' if !blank || newline => {
                    self.text.push(byte);
                    self.state = State::Quote { escapes, escaped: false };
                }
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                    self.text.push(byte);
                    self.state = State::QuoteEnd { escapes, blank: true, newline: newline || matches!(byte, b'\n' | b'\r') };
                }
                _ => {
                    self.state = State::Plain;
                    self.last = b'\'';
                    if newline && escapes && byte == b'-' {
                        self.odd = Some("a string that goes on after a comment");
                    }
                    return self.plain(byte, take);
                }
            },
            State::Name => {
                self.text.push(byte);
                if byte == b'"' {
                    self.state = State::Plain;
                    self.last = 0;
                }
            }
            State::DollarTag => return self.dollar_tag(byte, take),
            State::Dollar { matched } => {
                self.text.push(byte);
                self.dollar(matched, byte);
            }
            State::Command => {
                self.text.push(byte);
                if byte == b'\n' {
                    self.command(take)?;
                }
            }
            State::AfterCopy => {
                if byte != b'\n' {
                    take(Piece::Odd("something follows a COPY in its line"))?;
                }
                (self.state, self.at_line_start, self.rows) = (State::Rows, true, 0);
                return take(Piece::Between(b"\n"));
            }
            State::Rows => {}
        }
        self.check_length(take)
    }

    fn plain<E>(&mut self, byte: u8, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
        if self.begun.is_none() && !blank {
            self.between(take)?;
            self.begun = Some(0);
        }
        if is_word(byte) && (!self.word.is_empty() || !byte.is_ascii_digit() && byte != b'$') {
            if self.word.is_empty() {
                self.word_after_digit = self.last.is_ascii_digit();
            }
            self.word.push(byte.to_ascii_lowercase());
            self.text.push(byte);
            self.last = byte;
            return self.check_length(take);
        }
        let word = std::mem::take(&mut self.word);
        if !word.is_empty() {
            self.end_of_word(&word);
        }
        let last = std::mem::replace(&mut self.last, byte);
        self.text.push(byte);
        match byte {
            b'\'' => self.open_quote(&word),
            b'"' => self.state = State::Name,
            b'$' => {
                self.tag.clear();
                self.tag.push(b'$');
                self.state = State::DollarTag;
                if last.is_ascii_digit() {
                    self.odd = Some("a dollar sign after a digit");
                }
            }
            b'-' if last == b'-' => self.open_comment(State::LineComment),
            b'*' if last == b'/' => self.open_comment(State::BlockComment { depth: 1, last: 0 }),
            b'\\' => {
                self.state = State::Command;
            }
            b'(' => self.parentheses += 1,
            b')' => self.parentheses = self.parentheses.saturating_sub(1),
            b';' if self.parentheses == 0 && self.bodies == 0 => return self.statement(take),
            _ => {}
        }
        if self.begun.is_none() && self.text.len() >= BETWEEN { self.between(take) } else { self.check_length(take) }
    }

    fn open_quote(&mut self, word: &[u8]) {
        let prefix = word == b"e";
        if prefix && self.word_after_digit || !(prefix || word.is_empty() || matches!(word, b"b" | b"x" | b"n")) {
            self.odd = Some("a string right after a word");
        }
        self.state = State::Quote { escapes: prefix || self.backslashes, escaped: false };
    }

    /// A comment that stands where a statement would begin belongs to none.
    fn open_comment(&mut self, state: State) {
        if self.begun.is_some_and(|begun| self.text.len() == begun + 2) {
            self.begun = None;
        }
        self.state = state;
        self.last = 0;
    }

    fn block_comment<E>(&mut self, depth: u32, last: u8, byte: u8, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        self.state = match (last, byte) {
            (b'*', b'/') if depth == 1 => State::Plain,
            (b'*', b'/') => State::BlockComment { depth: depth - 1, last: 0 },
            (b'/', b'*') => State::BlockComment { depth: depth + 1, last: 0 },
            _ => State::BlockComment { depth, last: byte },
        };
        self.last = 0;
        if self.state == State::Plain && self.begun.is_none() { self.between(take) } else { Ok(()) }
    }

    fn dollar_tag<E>(&mut self, byte: u8, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let first = self.tag.len() == 1;
        if byte == b'$' {
            self.text.push(byte);
            self.tag.push(byte);
            self.state = State::Dollar { matched: 0 };
        } else if is_word(byte) && !(first && byte.is_ascii_digit()) {
            self.text.push(byte);
            self.tag.push(byte);
        } else {
            self.state = State::Plain;
            return self.plain(byte, take);
        }
        self.check_length(take)
    }

    fn dollar(&mut self, matched: usize, byte: u8) {
        let matched = match self.tag.get(matched) {
            Some(expected) if *expected == byte => matched + 1,
            _ => usize::from(byte == b'$'),
        };
        self.state = if matched == self.tag.len() { State::Plain } else { State::Dollar { matched } };
        self.last = 0;
    }

    /// What psql counts to find the end of a `BEGIN ATOMIC` body.
    fn end_of_word(&mut self, word: &[u8]) {
        if std::mem::take(&mut self.after_begin) && word != b"atomic" {
            self.odd = Some("a BEGIN that is not BEGIN ATOMIC");
        }
        if self.heads.len() < 4 {
            let counts = [&b"create"[..], b"or", b"replace", b"function", b"procedure"].contains(&word);
            self.heads.push(if counts { word.first().copied().unwrap_or_default() } else { 0 });
        }
        let creates = matches!(self.heads.as_slice(), [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']);
        if !creates || self.parentheses > 0 {
            return;
        }
        match word {
            b"begin" => (self.bodies, self.after_begin) = (self.bodies + 1, true),
            b"case" if self.bodies > 0 => self.bodies += 1,
            b"end" => self.bodies = self.bodies.saturating_sub(1),
            _ => {}
        }
    }

    fn statement<E>(&mut self, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        if let Some(odd) = self.odd.take() {
            take(Piece::Odd(odd))?;
        }
        let text = std::mem::take(&mut self.text);
        self.begun = None;
        self.heads.clear();
        self.last = 0;
        if text.starts_with(b"SET standard_conforming_strings") {
            self.backslashes = text.ends_with(b"= off;");
        }
        if text.starts_with(b"COPY ") && text.ends_with(b" FROM stdin;") {
            self.state = State::AfterCopy;
        }
        let taken = take(Piece::Statement(&text));
        self.text = text;
        self.text.clear();
        taken
    }

    fn command<E>(&mut self, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        self.state = State::Plain;
        self.begun = None;
        self.last = 0;
        let text = std::mem::take(&mut self.text);
        take(Piece::Command(&text))
    }

    fn between<E>(&mut self, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.text.is_empty() {
            return Ok(());
        }
        let taken = take(Piece::Between(&self.text));
        self.text.clear();
        taken
    }

    fn check_length<E>(&mut self, take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.text.len() <= LONGEST {
            return Ok(());
        }
        self.text.clear();
        take(Piece::Odd("a statement of more than 64 MiB"))
    }

    /// Takes rows up to the end of them or of `bytes`; returns what comes after.
    fn rows<'b, E>(&mut self, bytes: &'b [u8], take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<&'b [u8], E> {
        let (mut from, mut at) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if !self.at_line_start {
                let Some(newline) = memchr::memchr(b'\n', rest) else { break };
                at += newline + 1;
                self.rows += 1;
                self.at_line_start = true;
                continue;
            }
            // The line may be `\.`: held back until that is known.
            let Some(byte) = rest.first().copied() else { break };
            match (self.head.as_slice(), byte) {
                (b"", b'\\') | (b"\\", b'.') => {
                    if self.head.is_empty() {
                        take(Piece::Rows(bytes.get(from..at).unwrap_or_default()))?;
                    }
                    self.head.push(byte);
                    at += 1;
                    from = at;
                }
                (b"\\.", b'\n') => {
                    self.head.clear();
                    self.state = State::Plain;
                    take(Piece::RowsEnd { rows: self.rows })?;
                    return Ok(bytes.get(at + 1..).unwrap_or_default());
                }
                (head, _) => {
                    if head == b"\\." && byte == b'\r' {
                        take(Piece::Odd("a carriage return after the end of rows"))?;
                    }
                    if !head.is_empty() {
                        let held = std::mem::take(&mut self.head);
                        take(Piece::Rows(&held))?;
                    }
                    self.at_line_start = false;
                }
            }
        }
        if from < bytes.len() {
            take(Piece::Rows(bytes.get(from..).unwrap_or_default()))?;
        }
        Ok(&[])
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, step: usize) -> Vec<String> {
        let mut lexer = Lexer::new();
        let mut all: Vec<String> = Vec::new();
        let mut take = |piece: Piece<'_>| {
            let (kind, text) = match &piece {
                Piece::Between(text) => ("", *text),
                Piece::Statement(text) => ("S", *text),
                Piece::Command(text) => ("C", *text),
                Piece::Rows(text) => ("R", *text),
                Piece::RowsEnd { rows } => return Ok::<(), ()>(all.push(format!("E{rows}"))),
                Piece::Odd(why) => ("O", why.as_bytes()),
            };
            let text = String::from_utf8_lossy(text);
            match all.last_mut() {
                Some(last) if kind == "R" && last.starts_with('R') => last.push_str(&text),
                _ if kind.is_empty() && text.trim().is_empty() || kind == "R" && text.is_empty() => {}
                _ => all.push(format!("{kind}{text}")),
            }
            Ok(())
        };
        for part in text.as_bytes().chunks(step) {
            lexer.feed(part, &mut take).unwrap();
        }
        lexer.finish(&mut take).unwrap();
        all
    }

    #[test]
    fn statements_end_where_psql_ends_them() {
        for (text, expected) in [
            ("SELECT 1; SELECT ';';", vec!["SSELECT 1;", "SSELECT ';';"]),
            ("-- a; \\! b\nSELECT 1;", vec!["-- a; \\! b\n", "SSELECT 1;"]),
            ("-- a\rDROP DATABASE b;", vec!["-- a\r", "SDROP DATABASE b;"]),
            ("SELECT 1 -- a\r; DROP DATABASE b;", vec!["SSELECT 1 -- a\r;", "SDROP DATABASE b;"]),
            ("/* a /* ; */ ; */SELECT 1 -- ;\n;", vec!["/* a /* ; */ ; */", "SSELECT 1 -- ;\n;"]),
            ("SELECT $a$;$b$;$a;$a$;", vec!["SSELECT $a$;$b$;$a;$a$;"]),
            ("SELECT $$;\\! x$$;", vec!["SSELECT $$;\\! x$$;"]),
            ("SELECT $1; SELECT a$b$c;", vec!["SSELECT $1;", "SSELECT a$b$c;"]),
            ("SELECT E'\\';', '\\', \"a;\"\"\";", vec!["SSELECT E'\\';', '\\', \"a;\"\"\";"]),
            ("SELECT E'a'\n 'b\\';' ;", vec!["SSELECT E'a'\n 'b\\';' ;"]),
            ("SET standard_conforming_strings = off;SELECT '\\';';", vec!["SSET standard_conforming_strings = off;", "SSELECT '\\';';"]),
            (
                "CREATE RULE r AS ON INSERT TO t DO ( SELECT 1;\nSELECT 2; );x;",
                vec!["SCREATE RULE r AS ON INSERT TO t DO ( SELECT 1;\nSELECT 2; );", "Sx;"],
            ),
            (
                "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END;x;",
                vec!["SCREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END;", "Sx;"],
            ),
            ("BEGIN;\nCOMMIT;", vec!["SBEGIN;", "SCOMMIT;"]),
            ("\\restrict a\nSELECT 1 \\g x\n", vec!["C\\restrict a\n", "CSELECT 1 \\g x\n"]),
            ("SELECT 1", vec!["Oit ends within a statement"]),
            ("/* a", vec!["Oit ends within a comment"]),
        ] {
            for step in [1, 3, 1000] {
                assert_eq!(pieces(text, step), expected, "{text} by {step}");
            }
        }
    }

    #[test]
    fn rows_are_counted_and_end_only_at_their_mark() {
        let text = "COPY a (b) FROM stdin;\n\\\\.\n\\.x\n\n\\N\t\\! y\n;\n\\.\nSELECT 1;COPY b  FROM stdin;\n\\.\n\n-- end";
        for step in [1, 2, 5, 1000] {
            let expected =
                ["SCOPY a (b) FROM stdin;", "R\\\\.\n\\.x\n\n\\N\t\\! y\n;\n", "E5", "SSELECT 1;", "SCOPY b  FROM stdin;", "E0", "-- end"];
            assert_eq!(pieces(text, step), expected, "by {step}");
        }
        assert_eq!(pieces("COPY a FROM stdin;\nx\n", 4).pop().unwrap(), "Oit ends within the rows of a table");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_odd() {
        for text in [
            "COPY a FROM stdin; \\! x\n\\.\n",
            "COPY a FROM stdin;\n\\.\r\n\\! x\n\\.\n",
            "SELECT 1e'\\'; \\! x",
            "SELECT date'2020-01-01';",
            "CREATE FUNCTION begin() RETURNS int AS 'x'; DO $$ $$; END;",
            "SELECT 1$a$;$a$;",
            "SELECT E'a'\n--\n'\\';",
            "-- a\0b\nSELECT 1;",
            "/* \0 */",
            "SELECT '\0';",
            "SELECT \"\0\";",
            "SELECT $$\0$$;",
            "COPY a FROM stdin;\n\0\n\\.\n",
        ] {
            assert!(pieces(text, 1).iter().any(|piece| piece.starts_with('O')), "{text}: {:?}", pieces(text, 1));
        }
    }
}
