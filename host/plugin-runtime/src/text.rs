//! Text from a guest, made fit for a terminal and a log: bounded, one line, no control characters.

/// What stands in for a character that could move a cursor or turn text around.
const STAND_IN: char = '\u{fffd}';

/// `text` as one line of at most `max_bytes`: line breaks and tabs become blanks, other control characters and
/// the invisible ones that change direction become U+FFFD.
pub fn line(text: &str, max_bytes: usize) -> String {
    clean(text, max_bytes, |c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { STAND_IN })
}

fn clean(text: &str, max_bytes: usize, replace: impl Fn(char) -> char) -> String {
    let cut = cut_at(text, max_bytes);
    let mut line: String = cut.trim_end().chars().map(|c| if is_harmful(c) { replace(c) } else { c }).collect();
    if cut.len() < text.len() {
        line.push('…');
    }
    line
}

/// The longest prefix of at most `max_bytes` that ends between characters.
pub fn cut_at(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Control characters, line and paragraph separators, and direction marks.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether `text` holds a character that [`line`] would replace.
pub fn has_control(text: &str) -> bool {
    text.chars().any(is_harmful)
}

/// Whether `text` is a word of 1 to 64 of `a-z 0-9 -`.
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_move_the_cursor() {
        assert_eq!(line("a\x1b[2Jb\r\nc\u{202e}d", 100), "a\u{fffd}[2Jb  c\u{fffd}d");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(line("ééé", 3), "é…");
        assert_eq!(line("ééé", 6), "ééé");
    }
}
