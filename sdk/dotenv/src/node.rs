//! Node's `dotenv` 16 and 17, which are one regular expression and a few replacements. The expression backtracks,
//! and what it makes of odd quotes depends on it, so it is followed step by step instead of being approximated:
//!
//! ```text
//! ^\s*(?:export\s+)?([\w.-]+)(?:\s*=\s*?|:\s+?)
//!   (\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|\s*`(?:\\`|[^`])*`|[^#\r\n]+)?\s*(?:#.*)?$      with flags m and g
//! ```

use crate::{DotenvError, Fault, Variables};

/// Steps that a whole file may take: a thousand times what a real one does.
const MAX_STEPS: u64 = 20_000_000;

pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, DotenvError> {
    let text: Vec<char> = text.replace("\r\n", "\n").replace('\r', "\n").chars().collect();
    let mut matcher = Matcher { text: &text, steps: 0 };
    let line_of = |at: usize| 1 + text.iter().take(at).filter(|c| **c == '\n').count();
    let mut variables = Variables::default();
    let mut from = 0;
    while from <= text.len() {
        let found = matcher.entry_at(from);
        if matcher.steps > MAX_STEPS {
            return Err(DotenvError { line: line_of(from), fault: Fault::TooComplex });
        }
        let Some(found) = found else {
            from += 1;
            continue;
        };
        let value = found.value.map_or(&[][..], |(start, end)| text.get(start..end).unwrap_or_default());
        let name: String = text.get(found.name.0..found.name.1).unwrap_or_default().iter().collect();
        variables.set(name, Some(unquote(value))).map_err(|fault| DotenvError { line: line_of(from), fault })?;
        from = found.end;
    }
    Ok(variables.into_entries())
}

type Span = (usize, usize);

struct Entry {
    name: Span,
    value: Option<Span>,
    end: usize,
}

/// The expression as nested choices, each tried in the order in which a backtracking engine tries it.
struct Matcher<'t> {
    text: &'t [char],
    steps: u64,
}

impl Matcher<'_> {
    fn at(&mut self, position: usize) -> Option<char> {
        self.steps += 1;
        self.text.get(position).copied()
    }

    /// The end of the longest run from `start` of characters that are `wanted`.
    fn run(&mut self, start: usize, wanted: impl Fn(char) -> bool) -> usize {
        let mut end = start;
        while self.at(end).is_some_and(&wanted) {
            end += 1;
        }
        end
    }

    fn entry_at(&mut self, start: usize) -> Option<Entry> {
        let line_start = start == 0 || self.at(start - 1).is_some_and(is_line_end);
        if !line_start {
            return None;
        }
        // `\s*` gives back what it took in vain only before a name, and a name begins with no blank.
        let start = self.run(start, is_space);
        let after_export = self.after_export(start);
        after_export.and_then(|start| self.name_at(start)).or_else(|| self.name_at(start))
    }

    fn after_export(&mut self, start: usize) -> Option<usize> {
        let word = self.text.get(start..start + 6)?;
        let blank = word.iter().copied().eq("export".chars()) && self.at(start + 6).is_some_and(is_space);
        blank.then(|| self.run(start + 6, is_space))
    }

    /// A shorter name would have to be followed by `=`, `:` or a blank, which no character of a name is.
    fn name_at(&mut self, start: usize) -> Option<Entry> {
        let end = self.run(start, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if end == start {
            return None;
        }
        let equals = self.run(end, is_space);
        let found = match self.at(equals) {
            Some('=') => self.value_from(equals + 1, 0),
            _ => None,
        };
        let found = found.or_else(|| (self.at(end) == Some(':')).then(|| self.value_from(end + 1, 1)).flatten());
        found.map(|(value, stop)| Entry { name: (start, end), value, end: stop })
    }

    /// `\s*?` or `\s+?`: as few blanks as will do, then the value and the rest of the line.
    fn value_from(&mut self, start: usize, at_least: usize) -> Option<(Option<Span>, usize)> {
        let longest = self.run(start, is_space);
        let mut blanks = start + at_least;
        while blanks <= longest && self.steps <= MAX_STEPS {
            if let Some(found) = self.value_at(blanks) {
                return Some(found);
            }
            blanks += 1;
        }
        None
    }

    fn value_at(&mut self, start: usize) -> Option<(Option<Span>, usize)> {
        let quoted = ['\'', '"', '`'].into_iter().find_map(|quote| self.quoted_at(start, quote));
        if let Some((end, stop)) = quoted {
            return Some((Some((start, end)), stop));
        }
        let longest = self.run(start, |c| !matches!(c, '#' | '\r' | '\n'));
        let mut end = longest;
        while end > start && self.steps <= MAX_STEPS {
            if let Some(stop) = self.rest_of_line(end) {
                return Some((Some((start, end)), stop));
            }
            end -= 1;
        }
        self.rest_of_line(start).map(|stop| (None, stop))
    }

    /// `\s*'(?:\\'|[^'])*'` and what follows: the end of the value and of the match. As a backslash may also be
    /// taken alone, a quote behind one can close when no later quote does.
    fn quoted_at(&mut self, start: usize, quote: char) -> Option<(usize, usize)> {
        let open = self.run(start, is_space);
        if self.at(open) != Some(quote) {
            return None;
        }
        let mut closing = Vec::new();
        let mut position = open + 1;
        while let Some(c) = self.at(position) {
            if c == quote {
                closing.push(position + 1);
                // Only `\'` lets the run go on over a quote.
                if position == open + 1 || self.at(position - 1) != Some('\\') {
                    break;
                }
            }
            position += 1;
        }
        closing.into_iter().rev().find_map(|end| self.rest_of_line(end).map(|stop| (end, stop)))
    }

    /// `\s*(?:#.*)?$`.
    fn rest_of_line(&mut self, start: usize) -> Option<usize> {
        let mut position = self.run(start, is_space);
        loop {
            if self.at(position) == Some('#') {
                return Some(self.run(position, |c| !is_line_end(c)));
            }
            if self.at(position).is_none_or(is_line_end) {
                return Some(position);
            }
            if position == start || self.steps > MAX_STEPS {
                return None;
            }
            position -= 1;
        }
    }
}

/// `trim`, the outer quotes off (`/^(['"`])([\s\S]*)\1$/mg`), and in double quotes `\n` and `\r`.
fn unquote(value: &[char]) -> String {
    let value: String = value.iter().collect();
    let value = value.trim_matches(is_space);
    let first = value.chars().next();
    let text = match first.filter(|c| matches!(c, '\'' | '"' | '`')).and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote)) {
        Some(inner) => inner,
        None => value,
    };
    if first == Some('"') { text.replace("\\n", "\n").replace("\\r", "\r") } else { text.to_owned() }
}

/// JavaScript's `\s`.
fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}')
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}
