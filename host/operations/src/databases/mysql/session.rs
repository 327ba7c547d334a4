//! The `SET` statements of a dump: which of them there may be, and what they make of the text that follows.
//!
//! A mode in which `\` does not escape or `"` quotes names, or a character set in which a backslash may be half of a
//! character, has the server see other statements than we do. So modes and character sets are literal words here, or
//! come back from a variable that this dump saved from the same setting; whatever else could change them is refused.

use std::collections::BTreeMap;

/// Up to this version a conditional comment is executed by every server there is.
const EVERYWHERE: u32 = 50_503;
/// Character sets in which a backslash or a quote may be half of a character.
const UNSAFE_CHARSETS: [&str; 5] = ["big5", "cp932", "gb18030", "gbk", "sjis"];
/// Modes that change where text ends, and those that imply one of them.
const ODD_MODES: [&str; 8] = ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI", "DB2", "MAXDB", "MSSQL", "ORACLE", "POSTGRESQL"];

/// What the statements so far have set.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// A mode is, or may be, in force in which text ends elsewhere.
    pub odd_mode: bool,
    /// User variables, the setting whose value they hold, and whether the mode was odd then.
    saved: BTreeMap<String, (String, bool)>,
}

impl Session {
    /// Notes a whole statement in one line; `None` when our dumps hold no such statement.
    pub(super) fn set(&mut self, line: &[u8], in_body: bool) -> Option<()> {
        let text = std::str::from_utf8(line).ok()?;
        let text = text.strip_suffix(if in_body { ";;" } else { ";" })?.trim_end();
        let (text, surely) = match conditional(text.as_bytes()) {
            Some((head, surely)) => (text.get(head..)?.strip_suffix("*/")?, surely),
            None => (text, true),
        };
        let text = text.trim();
        let assignments = text.get(..4).filter(|head| head.eq_ignore_ascii_case("SET ")).and_then(|_| text.get(4..))?.trim();
        if let Some(charset) = assignments.get(..6).filter(|head| head.eq_ignore_ascii_case("NAMES ")).and_then(|_| assignments.get(6..)) {
            return is_safe_charset(charset.trim()).then_some(());
        }
        split(assignments)?.into_iter().try_for_each(|assignment| self.assign(assignment, surely))
    }

    fn assign(&mut self, assignment: &str, surely: bool) -> Option<()> {
        let (name, value) = assignment.split_once('=')?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if !is_plain(value) {
            return None;
        }
        if let Some(variable) = name.strip_prefix('@').filter(|rest| !rest.starts_with('@')) {
            return self.save(variable, value, surely);
        }
        let setting = setting(&name).filter(|setting| is_word(setting) && *setting != "password")?;
        let back = variable_of(value).map(|variable| self.saved.get(&variable).filter(|(of, _)| *of == setting));
        match (setting, back) {
            ("sql_mode", Some(saved)) => self.mode(saved?.1, surely),
            ("sql_mode", None) => self.mode(is_odd_mode(value)?, surely),
            (setting, Some(saved)) if is_of_charset(setting) => drop(saved?),
            (setting, None) if is_of_charset(setting) => return is_safe_charset(value).then_some(()),
            _ => {}
        }
        Some(())
    }

    fn mode(&mut self, odd: bool, surely: bool) {
        self.odd_mode = odd || self.odd_mode && !surely;
    }

    fn save(&mut self, variable: &str, value: &str, surely: bool) -> Option<()> {
        if !is_word(variable) {
            return None;
        }
        self.saved.remove(variable);
        let of = value.strip_prefix("@@").map(str::to_ascii_lowercase);
        if let (Some(of), true) = (of.as_deref().and_then(|of| setting(of)), surely) {
            self.saved.insert(variable.to_owned(), (of.to_owned(), self.odd_mode));
        }
        Some(())
    }
}

/// The length of the beginning of a conditional comment, and whether every server executes what is in it.
pub(super) fn conditional(text: &[u8]) -> Option<(usize, bool)> {
    let (head, vendor) = match text {
        [b'/', b'*', b'!', ..] => (3, false),
        [b'/', b'*', b'M', b'!', ..] => (4, true),
        _ => return None,
    };
    let digits: Vec<u8> = text.iter().skip(head).copied().take_while(u8::is_ascii_digit).collect();
    let version = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse::<u32>().ok());
    let surely = !vendor && digits.len() == 5 && version.is_some_and(|version| version <= EVERYWHERE);
    Some((head + digits.len(), surely))
}

/// The name of a setting of the session, as `@@session.x`, `session x` or `x` say it.
fn setting(name: &str) -> Option<&str> {
    let name = name.strip_prefix("@@").unwrap_or(name);
    let scoped = ["session.", "local.", "session ", "local "].iter().find_map(|scope| name.strip_prefix(scope));
    Some(scoped.unwrap_or(name).trim())
}

fn is_of_charset(setting: &str) -> bool {
    setting.starts_with("character_set") || setting.starts_with("collation") || setting == "charset" || setting == "names"
}

fn variable_of(value: &str) -> Option<String> {
    value.strip_prefix('@').map(str::to_ascii_lowercase)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A word, a number, a text in single quotes without anything that escapes, or a variable.
fn is_plain(value: &str) -> bool {
    let quoted = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let variable = value.trim_start_matches('@').bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'+'));
    match quoted {
        Some(text) => text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\'' | b'\\' | b'*' | b';' | b'"' | b'`') || b == b' '),
        None => !value.is_empty() && variable,
    }
}

/// Whether a literal list of modes, the only thing a mode is set to, holds one that changes where text ends.
fn is_odd_mode(value: &str) -> Option<bool> {
    let list = value.strip_prefix('\'')?.strip_suffix('\'')?;
    let words: Vec<String> = list.split(',').map(|word| word.trim().to_ascii_uppercase()).collect();
    let word = |word: &String| word.is_empty() || is_word(word) && !word.bytes().all(|b| b.is_ascii_digit());
    words.iter().all(word).then(|| words.iter().any(|word| ODD_MODES.contains(&word.as_str())))
}

/// A character set or collation by its name: not by its number, nor whatever a server's default is.
fn is_safe_charset(value: &str) -> bool {
    let name = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(value).to_ascii_lowercase();
    let unsafe_one = |charset: &str| name.strip_prefix(charset).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    let named = is_word(&name) && name.starts_with(|first: char| first.is_ascii_alphabetic()) && name != "default";
    named && !UNSAFE_CHARSETS.iter().any(|charset| unsafe_one(charset))
}

/// At the commas outside of quotes.
fn split(text: &str) -> Option<Vec<&str>> {
    let mut quoted = false;
    let at_comma = |c: char| {
        quoted ^= c == '\'';
        c == ',' && !quoted
    };
    let parts: Vec<&str> = text.split(at_comma).map(str::trim).collect();
    (text.matches('\'').count() % 2 == 0).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the mode is odd after these; `None` when one is refused.
    fn after(lines: &[&str]) -> Option<bool> {
        let mut session = Session::default();
        lines.iter().try_for_each(|line| session.set(line.as_bytes(), line.ends_with(";;")))?;
        Some(session.odd_mode)
    }

    #[test]
    fn a_mode_is_words_or_comes_back_from_where_it_was_saved() {
        for line in [
            "SET sql_mode=1048576;",
            "SET sql_mode='1048576';",
            "SET sql_mode=0x4e4f;",
            "SET sql_mode=DEFAULT;",
            "SET sql_mode=@a;",
            "SET sql_mode=@@global.sql_mode;",
            "SET @@session.sql_mode=1048576;",
            "SET LOCAL sql_mode=4;",
            "SET `sql_mode`=4;",
            "SET /*!40101 sql_mode=4 */;",
            "SET sql_mode:=4;",
            "SET @a=1,",
            "SET @a='\\', sql_mode=4, @b='';",
            "SET sql_mode='' , @`a`='x';",
            "/*!40101 SET @a=1 */ , sql_mode=4;",
        ] {
            assert_eq!(after(&[line]), None, "{line}");
        }
        assert_eq!(after(&["SET @a='NO_BACKSLASH_ESCAPES';", "SET SQL_MODE=@a;"]), None);
        assert_eq!(after(&["SET @a=@@SQL_MODE;", "SET @a='ANSI_QUOTES';", "SET SQL_MODE=@a;"]), None);
        assert_eq!(after(&["SET @a='ANSI_QUOTES';", "/*!99999 SET @a=@@SQL_MODE */;", "SET SQL_MODE=@a;"]), None);
        assert_eq!(after(&["SET @a=@@SQL_MODE;", "SET sql_mode='STRICT_TRANS_TABLES,ANSI_QUOTES';"]), Some(true));
        assert_eq!(after(&["SET sql_mode='NO_BACKSLASH_ESCAPES';", "/*!99999 SET sql_mode='' */;"]), Some(true));
        assert_eq!(after(&["SET sql_mode='NO_BACKSLASH_ESCAPES';", "/*M!50003 SET sql_mode='' */;"]), Some(true));
        assert_eq!(after(&["SET sql_mode='ANSI';", "SET @a=@@sql_mode;", "SET sql_mode='';", "SET sql_mode=@a;"]), Some(true));
        let dump = [
            "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;",
            "/*!50003 SET @saved_sql_mode       = @@sql_mode */ ;;",
            "/*!50003 SET sql_mode              = 'STRICT_TRANS_TABLES,NO_BACKSLASH_ESCAPES' */ ;;",
            "/*!50003 SET sql_mode              = @saved_sql_mode */ ;;",
            "/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;",
            "/*!40103 SET TIME_ZONE='+00:00' */;",
            "/*M!100616 SET @OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY, NOTE_VERBOSITY=0 */;",
            "SET @@SESSION.SQL_LOG_BIN= 0;",
        ];
        assert_eq!(after(&dump), Some(false));
    }

    #[test]
    fn a_character_set_that_hides_a_backslash_is_refused() {
        for line in [
            "SET NAMES gbk;",
            "/*!50503 SET NAMES 'SJIS' */;",
            "SET NAMES utf8mb4 COLLATE gbk_bin;",
            "SET character_set_client = big5;",
            "SET character_set_client = 28;",
            "SET character_set_client = DEFAULT;",
            "SET @@session.collation_connection = gb18030_bin;",
            "SET character_set_client = @@character_set_server;",
            "SET character_set_client = @a;",
            "SET CHARACTER SET cp932;",
            "SET CHARSET cp932;",
            "SET PASSWORD = 'x';",
        ] {
            assert_eq!(after(&[line]), None, "{line}");
        }
        let dump = [
            "/*!50503 SET NAMES utf8mb4 */;",
            "SET @saved_cs_client     = @@character_set_client;",
            "/*!50003 SET character_set_client  = latin1 */ ;;",
            "/*!50003 SET collation_connection  = utf8mb4_uca1400_ai_ci */ ;;",
            "SET character_set_client = @saved_cs_client;",
        ];
        assert_eq!(after(&dump), Some(false));
    }
}
