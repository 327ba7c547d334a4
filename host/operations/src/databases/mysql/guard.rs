//! What may be in a dump on its way into a server.
//!
//! A dump is executed with the rights of whoever restores it, so a changed or hostile one could reach other databases.
//! Our dumps hold few kinds of statements, which all name what is in the database at hand; whatever else stands in
//! one is refused before its line reaches the client. The text is taken apart as the client does it: where the two
//! could see different statements (a quote that stays open, a comment, a delimiter, a second statement on a line),
//! the dump is refused too. Bodies of routines cannot be judged by their text; `rewrite` has the server parse each as
//! one statement before it is sent.

use super::{
    super::DatabaseError,
    session::{Session, conditional},
};

/// What a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A comment, or nothing.
    Note,
    /// A variable of the session, or the delimiter.
    Session,
    /// Tables, sequences and rows.
    Table,
    /// Views, triggers, routines, events.
    Definition,
    /// A body: one statement up to `;;`.
    Body,
    /// `ALTER DATABASE`: means the database at hand, whatever it names.
    Database,
    /// A vendor's probe, of no use here: left out.
    Probe,
}

/// Checks a dump line by line.
pub(super) struct Guard {
    class: Class,
    quote: Option<u8>,
    line: u64,
    /// Within a conditional comment that not every server executes.
    skippable: bool,
    session: Session,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self { class: Class::Note, quote: None, line: 0, skippable: false, session: Session::default() }
    }

    /// The next line that is not rows; `begins` when it begins a statement.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`].
    pub(super) fn line(&mut self, text: &[u8], in_body: bool, begins: bool) -> Result<Class, DatabaseError> {
        self.line += 1;
        let line = text.trim_ascii_end();
        if begins {
            if self.quote.is_some() || self.skippable {
                return Err(self.refuse(line));
            }
            self.class = classify(line, in_body).ok_or_else(|| self.refuse(line))?;
            if self.class == Class::Session && !line.starts_with(b"DELIMITER ") {
                self.session.set(line, in_body).ok_or_else(|| self.refuse(line))?;
            }
        }
        match self.class {
            // The server judges them.
            Class::Body => {}
            Class::Note | Class::Probe => {}
            Class::Session if line.starts_with(b"DELIMITER ") => {}
            class => {
                // In such a mode only bodies are made, which the server takes apart.
                let odd = self.session.odd_mode && class != Class::Session;
                let line = if in_body { line.strip_suffix(b";;").unwrap_or(line) } else { line };
                let bare = self.bare_text(line).filter(|bare| class != Class::Table || !queries(bare, begins));
                let own = class != Class::Definition || begins || is_own_view(line);
                if bare.is_none() || odd || !own {
                    return Err(self.refuse(line));
                }
            }
        }
        Ok(self.class)
    }

    /// What is refused, by its first words.
    pub(super) fn refuse(&self, line: &[u8]) -> DatabaseError {
        let text: String = String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(60).collect();
        DatabaseError::Refused { what: format!("`{text}` (line {} beside its rows) is nothing that our dumps hold", self.line) }
    }

    /// What of the line is outside of quotes; `None` unless it is words and at most one `;`, at its end.
    fn bare_text(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let (mut rest, mut bare) = (line, Vec::new());
        while let [byte, after @ ..] = rest {
            rest = after;
            if let Some(quote) = self.quote {
                if *byte == b'\\' && quote != b'`' {
                    rest = after.get(1..).unwrap_or_default();
                } else if *byte == quote {
                    self.quote = None;
                } else if self.skippable && *byte == b'*' && after.starts_with(b"/") {
                    // A server that skips the comment does not know of the quote: it goes on here.
                    return None;
                }
                continue;
            }
            match (byte, after) {
                (b'\'' | b'"' | b'`', _) => self.quote = Some(*byte),
                (b';', _) if !after.is_empty() => return None,
                (b'#' | b'\\', _) | (b'-', [b'-', ..]) => return None,
                (b'/', [b'*', ..]) => match conditional(&[b"/", after].concat()) {
                    Some((_, surely)) if !self.skippable => self.skippable = !surely,
                    _ => return None,
                },
                (b'*', [b'/', ..]) => self.skippable = false,
                _ => bare.push(*byte),
            }
        }
        // What looks like the end of a statement must be one.
        (self.quote.is_none() || !line.ends_with(b";")).then_some(bare)
    }
}

fn classify(line: &[u8], in_body: bool) -> Option<Class> {
    if line.is_empty() || line == b"--" || line.starts_with(b"-- ") || is_sandbox_line(line) {
        return Some(Class::Note);
    }
    if line == b"DELIMITER ;;" || line == b"DELIMITER ;" {
        return Some(Class::Session);
    }
    if is_probe(line) {
        return Some(Class::Probe);
    }
    let text = unwrapped(line);
    if in_body { classify_body(text) } else { classify_statement(text) }
}

/// The first line of a dump that asks a MariaDB client for its sandbox.
pub(super) fn is_sandbox_line(line: &[u8]) -> bool {
    let whole = [b"/*!999999\\- enable the sandbox mode */".as_slice(), b"/*M!999999\\- enable the sandbox mode */"];
    whole.contains(&line.trim_ascii_end())
}

/// Percona's dumps ask whether a storage engine is there, to load faster.
fn is_probe(line: &[u8]) -> bool {
    let asks = line.starts_with(b"/*!50112 ") || line.starts_with(b"/*!50717 ");
    asks && memchr::memmem::find(line, b"rocksdb").is_some()
        || [b"/*!50112 ".as_slice(), b"/*!50717 "].iter().any(|head| {
            line.strip_prefix(*head)
                .is_some_and(|rest| [b"PREPARE ".as_slice(), b"EXECUTE ", b"DEALLOCATE "].iter().any(|word| rest.starts_with(word)))
        })
}

/// Without `/*!40101 ` and the like.
fn unwrapped(line: &[u8]) -> &[u8] {
    let Some(rest) = line.strip_prefix(b"/*!").or_else(|| line.strip_prefix(b"/*M!")) else { return line };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    rest.get(digits..).unwrap_or_default().trim_ascii_start()
}

fn classify_statement(text: &[u8]) -> Option<Class> {
    let starts = |word: &str| text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()));
    // Each with a name of this database, and how the line goes on behind it.
    let own = |word: &str, ends: &[&str]| starts(word) && names_own(text.get(word.len()..).unwrap_or_default(), ends);
    let any = |words: &[&str], ends: &[&str]| words.iter().any(|word| own(word, ends));
    if starts("SET ") {
        return Some(Class::Session);
    }
    if starts("ALTER DATABASE ") {
        return text.ends_with(b";").then_some(Class::Database);
    }
    let whole = ["UNLOCK TABLES;", "COMMIT;"].iter().any(|whole| text.eq_ignore_ascii_case(whole.as_bytes()));
    let table = any(&["DROP TABLE IF EXISTS ", "DROP SEQUENCE IF EXISTS "], &[";", "*/;"])
        || any(&["CREATE TABLE IF NOT EXISTS ", "CREATE TABLE "], &["("])
        || any(&["CREATE SEQUENCE "], &["start with "])
        || any(&["LOCK TABLES "], &["WRITE;"])
        || any(&["ALTER TABLE "], &["DISABLE KEYS */;", "ENABLE KEYS */;"])
        || any(&["DO SETVAL(", "SELECT SETVAL("], &[", "])
        || super::lexer::insert_head(text).is_some_and(|(_, length)| length == text.len());
    if whole || table {
        return Some(Class::Table);
    }
    let drops = ["DROP VIEW IF EXISTS ", "DROP TRIGGER IF EXISTS ", "DROP PROCEDURE IF EXISTS ", "DROP FUNCTION IF EXISTS "];
    let more = ["DROP PACKAGE IF EXISTS ", "DROP PACKAGE BODY IF EXISTS ", "DROP EVENT IF EXISTS "];
    let drops = any(&drops, &[";", "*/;", "*/ ;"]) || any(&more, &[";", "*/;", "*/ ;"]);
    (drops || own("CREATE VIEW ", &["AS SELECT"]) || text.starts_with(b"CREATE ALGORITHM=")).then_some(Class::Definition)
}

/// A name in backticks, of this database, and behind it one of `ends`.
fn names_own(text: &[u8], ends: &[&str]) -> bool {
    let Some((_, rest)) = super::lexer::identifier_at(text) else { return false };
    let rest = rest.trim_ascii_start();
    // What ends a statement is the end of the line.
    ends.iter().any(|end| if end.ends_with(';') { rest == end.as_bytes() } else { rest.starts_with(end.as_bytes()) })
}

/// A table made from a query could read another database.
fn queries(bare: &[u8], begins: bool) -> bool {
    let words = || bare.split(|b| !b.is_ascii_alphanumeric() && *b != b'_').map(<[u8]>::to_ascii_uppercase);
    // `SELECT SETVAL(` is known already.
    words().filter(|word| !word.is_empty()).skip(usize::from(begins)).any(|word| word == b"SELECT")
        || !begins && words().any(|word| word == b"TABLE")
}

/// The later lines of a view: its own name, its placeholder's columns.
fn is_own_view(line: &[u8]) -> bool {
    match unwrapped(line).strip_prefix(b"VIEW ") {
        Some(name) => names_own(name, &["AS "]),
        None => true,
    }
}

fn classify_body(text: &[u8]) -> Option<Class> {
    if text.starts_with(b"SET ") {
        return Some(Class::Session);
    }
    if text.starts_with(b"ALTER DATABASE ") {
        return Some(Class::Database);
    }
    let drops: [&[u8]; 6] = [
        b"DROP TRIGGER IF EXISTS `",
        b"DROP PROCEDURE IF EXISTS `",
        b"DROP FUNCTION IF EXISTS `",
        b"DROP EVENT IF EXISTS `",
        b"DROP PACKAGE IF EXISTS `",
        b"DROP PACKAGE BODY IF EXISTS `",
    ];
    if drops.iter().any(|head| text.starts_with(head)) {
        return Some(Class::Body);
    }
    (text.starts_with(b"CREATE*/ ") || text.starts_with(b"CREATE ")).then_some(Class::Body)
}

/// Whether a whole body makes a routine, trigger or event of this database.
pub(super) fn is_own_body(text: &[u8]) -> bool {
    let text = unwrapped(text);
    if text.starts_with(b"DROP ") {
        return memchr::memchr(b'`', text)
            .and_then(|at| super::lexer::identifier_at(text.get(at..)?))
            .is_some_and(|(_, rest)| [b";;".as_slice(), b"*/;;"].contains(&rest.trim_ascii()) || rest.trim_ascii() == b"*/ ;;");
    }
    let upper = text.to_ascii_uppercase();
    let kinds: [&[u8]; 6] = [b" PROCEDURE ", b" FUNCTION ", b" TRIGGER ", b" EVENT ", b" PACKAGE BODY ", b" PACKAGE "];
    let found = kinds.iter().filter_map(|kind| Some((memchr::memmem::find(&upper, kind)?, kind.len())));
    // The longer of two that begin at the same place: PACKAGE BODY.
    let Some((at, length)) = found.min_by_key(|(at, length)| (*at, usize::MAX - *length)) else { return false };
    let rest = text.get(at + length..).unwrap_or_default().trim_ascii_start();
    let rest = if rest.get(..14).is_some_and(|head| head.eq_ignore_ascii_case(b"IF NOT EXISTS ")) {
        rest.get(14..).unwrap_or_default()
    } else {
        rest
    };
    let bare = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
    let after = match super::lexer::identifier_at(rest) {
        Some((_, after)) => after,
        None => rest.get(rest.iter().take_while(bare).count()..).unwrap_or_default(),
    };
    !after.trim_ascii_start().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Class, DatabaseError> {
        Guard::new().line(line.as_bytes(), false, true)
    }

    #[test]
    fn what_reaches_beyond_the_database_is_refused() {
        for line in [
            "USE mysql;",
            "use `mysql`;",
            "\\! rm -rf /",
            "\\. /etc/passwd",
            "SOURCE /etc/passwd",
            "system id",
            "DROP DATABASE shop;",
            "CREATE DATABASE x;",
            "SET GLOBAL general_log = 1;",
            "/*!50001 SET GLOBAL general_log = 1 */;",
            "SET @@global.general_log = 1;",
            "SET PERSIST max_connections = 1;",
            "SET PASSWORD = 'x';",
            "SET STATEMENT max_statement_time = 1 FOR DROP DATABASE shop;",
            "SET @a = (SELECT 1);",
            "LOAD DATA INFILE '/etc/passwd' INTO TABLE `t`;",
            "SELECT * FROM `t` INTO OUTFILE '/tmp/x';",
            "GRANT ALL ON *.* TO x;",
            "/*!50001 GRANT ALL ON *.* TO x */;",
            "CREATE USER x;",
            "CREATE TABLE `mysql`.`x` (",
            "CREATE TABLE mysql.x (",
            "CREATE TABLE `x` SELECT * FROM mysql.user;",
            "CREATE TABLE `x` LIKE mysql.user;",
            "CREATE TABLE `x` (`a` int) SELECT * FROM mysql.user;",
            "INSERT INTO `x`(`a`) VALUES ((SELECT 1));",
            "DROP TABLE IF EXISTS `mysql`.`user`;",
            "DROP TABLE IF EXISTS `a`; DROP DATABASE shop;",
            "DROP TABLE IF EXISTS `a`, `mysql`.`user`;",
            "/*!50001 DROP VIEW IF EXISTS `mysql`.`v`*/;",
            "INSERT INTO `mysql`.`user` VALUES (1);",
            "INSERT INTO `t` SELECT 1;",
            "DELETE FROM `t`;",
            "DELIMITER //",
            "delimiter //",
            "--DROP DATABASE shop;",
            "/* ' */ ; DROP DATABASE shop; -- '",
            "ALTER TABLE `t` RENAME `mysql`.`t`;",
            "LOCK TABLES `a` WRITE, `mysql`.`user` WRITE;",
            "FLUSH PRIVILEGES;",
            "INSTALL SONAME 'x';",
        ] {
            let refused = check(line);
            assert!(matches!(refused, Err(DatabaseError::Refused { .. })), "{line}: {refused:?}");
        }
    }

    #[test]
    fn what_dumps_hold_is_let_through() {
        for (line, class) in [
            ("", Class::Note),
            ("-- MySQL dump 10.13  Distrib 8.0.36", Class::Note),
            ("/*M!999999\\- enable the sandbox mode */ ", Class::Note),
            ("/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;", Class::Session),
            ("SET @saved_cs_client     = @@character_set_client;", Class::Session),
            ("/*!50503 SET NAMES utf8mb4 */;", Class::Session),
            ("DROP TABLE IF EXISTS `odd ``name`;", Class::Table),
            ("CREATE TABLE `a` (", Class::Table),
            ("LOCK TABLES `a` WRITE;", Class::Table),
            ("/*!40000 ALTER TABLE `a` DISABLE KEYS */;", Class::Table),
            ("INSERT INTO `a` (`b`) VALUES", Class::Table),
            ("UNLOCK TABLES;", Class::Table),
            ("commit;", Class::Table),
            ("DO SETVAL(`nums`, 2001, 0);", Class::Table),
            ("/*!50001 DROP VIEW IF EXISTS `v`*/;", Class::Definition),
            ("/*!50001 CREATE VIEW `v` AS SELECT", Class::Definition),
            ("/*!50001 CREATE ALGORITHM=UNDEFINED */", Class::Definition),
            ("/*!50003 DROP PROCEDURE IF EXISTS `p` */;", Class::Definition),
            ("ALTER DATABASE `shop` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;", Class::Database),
            (
                "/*!50112 SELECT COUNT(*) INTO @is_rocksdb_supported FROM INFORMATION_SCHEMA.SESSION_VARIABLES WHERE VARIABLE_NAME='rocksdb_bulk_load' */;",
                Class::Probe,
            ),
            ("/*!50112 PREPARE s FROM @enable_bulk_load */;", Class::Probe),
        ] {
            assert_eq!(check(line).unwrap(), class, "{line}");
        }
    }

    #[test]
    fn a_statement_in_a_later_line_and_an_open_quote_are_found() {
        let lines = |lines: &[&str]| {
            let mut guard = Guard::new();
            let mut begins = true;
            lines.iter().try_for_each(|line| {
                let checked = guard.line(line.as_bytes(), false, begins).map(drop);
                begins = line.ends_with(';');
                checked
            })
        };
        lines(&["CREATE TABLE `a` (", "  `b` text DEFAULT 'it''s; \\' DROP'", ");", "UNLOCK TABLES;"]).unwrap();
        lines(&["CREATE TABLE `a` (", "  `b` int); DROP DATABASE shop;"]).unwrap_err();
        lines(&["CREATE TABLE `a` (`b` text DEFAULT 'x;", "'); DROP DATABASE shop; -- ';"]).unwrap_err();
        lines(&["CREATE TABLE `a` (", "  `b` int COMMENT 'SELECT'", ") ENGINE=InnoDB", "select * from mysql.user;"]).unwrap_err();
        lines(&["CREATE TABLE `a` (", "  `b` int COMMENT 'SELECT'", ") ENGINE=InnoDB", "TABLE mysql.user;"]).unwrap_err();
        lines(&["CREATE TABLE `a` (", "  `b` int COMMENT 'SELECT; TABLE'", ") ENGINE=InnoDB;"]).unwrap();
        lines(&["/*!50001 CREATE ALGORITHM=UNDEFINED */", "/*!50001 VIEW `mysql`.`v` AS select 1 */;"]).unwrap_err();
        lines(&["/*!50003 SET sql_mode = 'NO_BACKSLASH_ESCAPES' */ ;", "INSERT INTO `a` VALUES"]).unwrap_err();
        lines(&["SET sql_mode = 'ANSI_QUOTES';", "/*!50001 DROP VIEW IF EXISTS `v`*/;"]).unwrap_err();
        lines(&["/*!99999 DROP VIEW IF EXISTS `a*/; DROP DATABASE v1; -- ` */;"]).unwrap_err();
        lines(&["/*M!50001 DROP VIEW IF EXISTS `a*/; DROP DATABASE v1; -- ` */;"]).unwrap_err();
        lines(&["CREATE TABLE `a` (", " `b` int /*!99999 COMMENT '", "*/); DROP DATABASE v1; -- ' */", ");"]).unwrap_err();
        lines(&["CREATE TABLE `a` (", " `b` int /*!80023 INVISIBLE */ COMMENT '*/'", ") /*!80016 ENCRYPTION='Y' */;"]).unwrap();
    }

    #[test]
    fn a_body_of_another_database_is_refused() {
        let own = |text: &str| {
            let class = Guard::new().line(text.as_bytes(), true, true);
            class.is_ok_and(|class| class == Class::Body) && is_own_body(text.as_bytes())
        };
        for text in [
            "CREATE DEFINER=`r`@`%` PROCEDURE `mysql`.`p`()\nselect 1;;",
            "CREATE PROCEDURE mysql.p() select 1;;",
            "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 trigger mysql.t AFTER INSERT ON x FOR EACH ROW SET @a = 1 */;;",
            "DROP DATABASE shop;;",
            "/*!50003 DROP PROCEDURE IF EXISTS `mysql`.`p` */;;",
            "GRANT ALL ON *.* TO x;;",
        ] {
            assert!(!own(text), "{text}");
        }
        for text in [
            "CREATE DEFINER=`r`@`%` FUNCTION `f`() RETURNS int(11)\nreturn 5;;",
            "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 trigger t AFTER INSERT ON x FOR EACH ROW SET @a = x.y */;;",
            "/*!50106 CREATE*/ /*!50117 DEFINER=`r`@`%`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO SELECT 1 */ ;;",
            "CREATE DEFINER=`r`@`%` PACKAGE BODY `p` AS END;;",
        ] {
            assert!(own(text), "{text}");
        }
    }
}
