//! `vlucas/phpdotenv` 5, followed function by function (`Parser\Lines`, `Parser\EntryParser`, `Parser\Lexer`,
//! `Loader\Resolver`), its oddities included: an application sees what that library sees, not what was meant.
//! Known difference: of `\p{M}` in names only the common combining marks are known.

use crate::{DotenvError, Fault, MAX_BYTES, MAX_MOVED, Variables};

pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Variables::default();
    for (line, entry) in join_lines(text) {
        load(&entry, &mut variables).map_err(|fault| DotenvError { line, fault })?;
    }
    Ok(variables.into_entries())
}

/// One entry; a name without `=` unsets it.
fn load(entry: &str, variables: &mut Variables) -> Result<(), Fault> {
    let (name, value) = parse_entry(entry)?;
    let mut moved = variables.moved;
    let value = value.map(|value| value.resolve(variables, &mut moved)).transpose()?;
    variables.moved = moved;
    variables.set(name, value)
}

/// Entries with the line where they begin; comments and blank lines are gone. An entry whose double quote is never
/// closed is dropped with all that follows, as the library does.
fn join_lines(text: &str) -> Vec<(usize, String)> {
    let mut entries = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in split_lines(text).enumerate().map(|(index, line)| (index + 1, line)) {
        let entry = match open.take() {
            Some((start, mut buffer)) => {
                buffer.push('\n');
                buffer.push_str(line);
                if !stops_multiline(line, false) {
                    open = Some((start, buffer));
                    continue;
                }
                (start, buffer)
            }
            None if line.contains("=\"") && !stops_multiline(line, true) => {
                open = Some((number, line.to_owned()));
                continue;
            }
            None => (number, line.to_owned()),
        };
        if !is_comment_or_blank(&entry.1) {
            entries.push(entry);
        }
    }
    entries
}

/// Splits at `\r\n`, `\n` and `\r`.
fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at(end);
        rest = tail.strip_prefix("\r\n").or_else(|| tail.get(1..));
        Some(line)
    })
}

/// Counts the quotes that some character other than a backslash precedes.
fn stops_multiline(line: &str, started: bool) -> bool {
    if line == "\"" {
        return true;
    }
    let line = line.replace("\\\\", "");
    let closing = line.as_bytes().windows(2).filter(|pair| matches!(pair, [before, b'"'] if *before != b'\\')).count();
    if started { closing > 1 } else { closing >= 1 }
}

fn is_comment_or_blank(entry: &str) -> bool {
    let entry = php_trim(entry);
    entry.is_empty() || entry.starts_with('#')
}

fn php_trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\0', '\u{b}'])
}

fn is_php_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn parse_entry(entry: &str) -> Result<(String, Option<Value>), Fault> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (php_trim(name), Some(php_trim(value))),
        None => (entry, None),
    };
    if name.is_empty() {
        return Err(Fault::MissingName);
    }
    let name = parse_name(name)?;
    Ok((name, value.map(parse_value).transpose()?))
}

fn parse_name(name: &str) -> Result<String, Fault> {
    let name = without_export(name);
    let name = ['"', '\''].iter().find_map(|q| name.strip_prefix(*q)?.strip_suffix(*q).filter(|inner| !inner.is_empty())).unwrap_or(name);
    if !name.is_empty() && name.chars().all(is_name_char) { Ok(name.to_owned()) } else { Err(Fault::InvalidName) }
}

fn without_export(name: &str) -> &str {
    match name.strip_prefix("export") {
        Some(rest) if name.chars().count() > 8 && rest.starts_with(is_php_space) => {
            rest.trim_start_matches([' ', '\t', '\n', '\r', '\0', '\u{b}'])
        }
        _ => name,
    }
}

/// `[\p{Ll}\p{Lu}\p{M}\p{N}_.]`.
fn is_name_char(c: char) -> bool {
    let letter = (c.is_lowercase() || c.is_uppercase()) && !is_other_letter(c);
    letter || c.is_numeric() || matches!(c, '_' | '.') || is_mark(c)
}

/// Letters of other categories that Rust's wider `is_lowercase` takes.
fn is_other_letter(c: char) -> bool {
    matches!(c, 'ª' | 'º' | '\u{2b0}'..='\u{2e4}' | '\u{37a}' | '\u{1d2c}'..='\u{1d6a}' | '\u{1d78}' | '\u{1d9b}'..='\u{1dbf}'
        | '\u{2071}' | '\u{207f}' | '\u{2090}'..='\u{209c}' | '\u{24b6}'..='\u{24e9}')
}

fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}'
        | '\u{900}'..='\u{903}' | '\u{93a}'..='\u{93c}' | '\u{93e}'..='\u{94f}' | '\u{e31}' | '\u{e34}'..='\u{e3a}'
        | '\u{1ab0}'..='\u{1ace}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20f0}' | '\u{302a}'..='\u{302f}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}')
}

/// Characters, and where among them a `$` may begin a `${NAME}`.
#[derive(Default)]
struct Value {
    text: String,
    dollars: Vec<usize>,
}

impl Value {
    fn push(&mut self, c: char) {
        self.text.push(c);
    }

    fn push_dollar(&mut self) {
        self.dollars.push(self.text.len());
        self.text.push('$');
    }

    /// Replaces `${NAME}` by earlier entries, the last dollar first, so that the positions before it stand.
    fn resolve(self, variables: &Variables, moved: &mut usize) -> Result<String, Fault> {
        let mut text = self.text;
        for at in self.dollars.into_iter().rev() {
            if let Some((length, value)) = reference(text.get(at..).unwrap_or_default(), variables) {
                *moved += text.len() - at;
                if text.len() + value.len() > MAX_BYTES || *moved > MAX_MOVED {
                    return Err(Fault::TooComplex);
                }
                text.replace_range(at..at + length, value);
            }
        }
        Ok(text)
    }
}

/// A `${NAME}` of a known name at the beginning: its length and its value. An unknown one stays as it stands.
fn reference<'v>(text: &str, variables: &'v Variables) -> Option<(usize, &'v str)> {
    let rest = text.strip_prefix("${")?;
    let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
    let (name, tail) = rest.split_at(length);
    let value = variables.get(name).filter(|_| length > 0 && tail.starts_with('}'))?;
    Some((length + 3, value))
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Initial,
    Unquoted,
    SingleQuoted,
    DoubleQuoted,
    Escape,
    Whitespace,
    Comment,
}

fn parse_value(text: &str) -> Result<Value, Fault> {
    let mut value = Value::default();
    let mut state = State::Initial;
    for c in text.chars() {
        state = step(state, c, &mut value)?;
    }
    match state {
        State::SingleQuoted | State::DoubleQuoted | State::Escape => Err(Fault::MissingClosingQuote),
        _ => Ok(value),
    }
}

/// `EntryParser::processToken`, a character at a time.
fn step(state: State, c: char, value: &mut Value) -> Result<State, Fault> {
    let next = match (state, c) {
        (State::Comment, _) | (State::Initial | State::Unquoted | State::Whitespace, '#') => State::Comment,
        (State::Initial, '\'') => State::SingleQuoted,
        (State::Initial, '"') => State::DoubleQuoted,
        (State::SingleQuoted, '\'') | (State::DoubleQuoted, '"') => State::Whitespace,
        (State::DoubleQuoted, '\\') => State::Escape,
        (State::Unquoted | State::Whitespace, c) if is_php_space(c) => State::Whitespace,
        (State::Whitespace, _) => return Err(Fault::UnexpectedWhitespace),
        (State::Escape, c) => {
            value.push(unescape(c)?);
            State::DoubleQuoted
        }
        (State::Initial | State::Unquoted, '$') => {
            value.push_dollar();
            State::Unquoted
        }
        (State::DoubleQuoted, '$') => {
            value.push_dollar();
            State::DoubleQuoted
        }
        (State::Initial | State::Unquoted, c) => {
            value.push(c);
            State::Unquoted
        }
        (State::SingleQuoted | State::DoubleQuoted, c) => {
            value.push(c);
            state
        }
    };
    Ok(next)
}

fn unescape(c: char) -> Result<char, Fault> {
    match c {
        '"' | '\\' | '$' => Ok(c),
        'f' => Ok('\u{c}'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\u{b}'),
        _ => Err(Fault::UnexpectedEscape),
    }
}
