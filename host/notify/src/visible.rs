//! Characters that are not seen, made visible.
//!
//! A file name may hold anything but `/` and NUL: terminal escapes, line breaks that would begin a header, marks that turn
//! the reading direction around. Each becomes `\u{1b}`, as Rust writes it.

use std::fmt::Write as _;

/// `text` with all that is not seen made visible, but for line feeds and tabs. Carriage returns before line feeds are
/// taken away.
#[must_use]
pub fn visible(text: &str) -> String {
    shown(&text.replace("\r\n", "\n"), |c| matches!(c, '\n' | '\t'))
}

/// `text` on one line, with all that is not seen made visible.
#[must_use]
pub fn visible_line(text: &str) -> String {
    shown(text, |_| false)
}

fn shown(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) && !kept(c) {
            let _ = write!(seen, "{}", c.escape_unicode());
        } else {
            seen.push(c);
        }
    }
    seen
}

/// Control characters, line and paragraph separators, and what changes the direction of reading or is nothing at all.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_escape_in_a_file_name_is_shown_and_not_obeyed() {
        assert_eq!(visible_line("a\u{1b}[2J\u{7}b"), r"a\u{1b}[2J\u{7}b");
        assert_eq!(visible_line("naïve €.txt"), "naïve €.txt");
    }

    #[test]
    fn a_line_break_cannot_begin_a_header_and_no_mark_turns_text_around() {
        assert_eq!(visible_line("x\r\nBcc: y"), r"x\u{d}\u{a}Bcc: y");
        assert_eq!(visible_line("cod\u{202e}fdp.exe"), r"cod\u{202e}fdp.exe");
        assert_eq!(visible_line("\u{9b}31m"), r"\u{9b}31m", "C1 control sequences too");
    }

    #[test]
    fn a_text_keeps_its_lines() {
        assert_eq!(visible("one\r\n\ttwo\u{0}\n"), "one\n\ttwo\\u{0}\n");
    }
}
