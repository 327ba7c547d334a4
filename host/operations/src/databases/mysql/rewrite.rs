//! What is changed in a dump on its way back: as little as the server at hand asks for, and never within rows or the
//! body of a routine. The archive keeps the original.

use super::super::DatabaseError;
use super::lexer::{Lexer, Piece};
use std::io::Write;

/// The changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The first line asks a MariaDB client for its sandbox; other clients stumble over it.
    pub drop_sandbox_line: bool,
    /// `DEFINER=…` becomes `DEFINER=CURRENT_USER`, for a user who may not act for others.
    pub current_definer: bool,
    /// No events: in a scratch database they would run.
    pub drop_events: bool,
}

/// Where events begin and what follows them; our dumps always have both lines.
const EVENTS: &[u8] = b"-- Dumping events for database ";
const AFTER_EVENTS: &[u8] = b"-- Dumping routines for database ";

/// Writes a dump with its changes to `out`.
pub(super) struct Rewriter<'a> {
    lexer: Lexer,
    changer: Changer<'a>,
}

struct Changer<'a> {
    changes: Changes,
    out: &'a mut (dyn Write + Send),
    first: bool,
    in_events: bool,
    after_algorithm: bool,
    /// Definers replaced.
    definers: u64,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(changes: Changes, out: &'a mut (dyn Write + Send)) -> Self {
        let changer = Changer { changes, out, first: true, in_events: false, after_algorithm: false, definers: 0 };
        Self { lexer: Lexer::new(), changer }
    }

    /// Writes what is left and says how many definers were replaced.
    pub(super) fn finish(mut self) -> Result<u64, DatabaseError> {
        let changer = &mut self.changer;
        self.lexer.finish(&mut |piece| changer.piece(&piece))?;
        Ok(self.changer.definers)
    }
}

impl Write for Rewriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let changer = &mut self.changer;
        match self.lexer.feed(bytes, &mut |piece| changer.piece(&piece)) {
            Ok(()) => Ok(bytes.len()),
            Err(DatabaseError::Sink(error)) => Err(error),
            Err(error) => Err(std::io::Error::other(error)),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.changer.out.flush()
    }
}

impl Changer<'_> {
    fn piece(&mut self, piece: &Piece<'_>) -> Result<(), DatabaseError> {
        match piece {
            Piece::Rows(bytes) => self.put(bytes),
            Piece::Line { text, in_body, begins } => self.line(text, *in_body, *begins),
        }
    }

    fn line(&mut self, text: &[u8], in_body: bool, begins: bool) -> Result<(), DatabaseError> {
        if std::mem::take(&mut self.first) && self.changes.drop_sandbox_line && is_sandbox_line(text) {
            return Ok(());
        }
        if begins && !in_body {
            self.in_events = text.starts_with(EVENTS) || self.in_events && !text.starts_with(AFTER_EVENTS);
        }
        if self.in_events && self.changes.drop_events {
            return Ok(());
        }
        let after_algorithm = std::mem::replace(&mut self.after_algorithm, begins && text.starts_with(b"/*!50001 CREATE ALGORITHM="));
        if self.changes.current_definer
            && is_definition(text, in_body, begins, after_algorithm)
            && let Some((before, after)) = around_definer(text)
        {
            self.definers += 1;
            self.put(before)?;
            self.put(b"DEFINER=CURRENT_USER")?;
            return self.put(after);
        }
        self.put(text)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        self.out.write_all(bytes).map_err(DatabaseError::Sink)
    }
}

fn is_sandbox_line(text: &[u8]) -> bool {
    text.starts_with(b"/*!999999\\- ") || text.starts_with(b"/*M!999999\\- ")
}

/// Whether the line is one of those on which the dumping program writes a definer.
fn is_definition(text: &[u8], in_body: bool, begins: bool, after_algorithm: bool) -> bool {
    if in_body {
        let heads: [&[u8]; 4] = [
            b"/*!50003 CREATE*/ /*!50017 DEFINER=",
            b"/*!50106 CREATE*/ /*!50117 DEFINER=",
            b"/*!50020 CREATE*/ /*!50017 DEFINER=",
            b"CREATE ",
        ];
        return begins && heads.iter().any(|head| text.starts_with(head));
    }
    after_algorithm && text.starts_with(b"/*!50013 DEFINER=")
}

/// What stands before and after the line's first ``DEFINER=`user`@`host` ``.
fn around_definer(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memmem::find(text, b"DEFINER=`")?;
    let (before, rest) = text.split_at_checked(at)?;
    let (_, rest) = super::lexer::identifier(rest.strip_prefix(b"DEFINER=")?)?;
    match rest.strip_prefix(b"@") {
        Some(rest) => Some((before, super::lexer::identifier(rest)?.1)),
        // A role has no host.
        None => Some((before, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(changes: Changes, text: &str, size: usize) -> (String, u64) {
        let mut out = Vec::new();
        let mut rewriter = Rewriter::new(changes, &mut out);
        for piece in text.as_bytes().chunks(size) {
            rewriter.write_all(piece).unwrap();
        }
        let definers = rewriter.finish().unwrap();
        (String::from_utf8(out).unwrap(), definers)
    }

    const DUMP: &str = "/*M!999999\\- enable the sandbox mode */ \nINSERT INTO `a` VALUES\n('/*!50013 DEFINER=`root`@`localhost` */');\nDELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`ro``ot`@`localhost`*/ /*!50003 trigger t after insert on a for each row begin\nCREATE DEFINER=`root`@`localhost` x;\nend */;;\nDELIMITER ;\n\n--\n-- Dumping events for database 'a'\n--\nDELIMITER ;;\n/*!50106 CREATE*/ /*!50117 DEFINER=`root`@`localhost`*/ /*!50106 EVENT `ev` DO\n-- Dumping routines for database 'x'\nselect 1 */ ;;\nDELIMITER ;\n\n--\n-- Dumping routines for database 'a'\n--\nDELIMITER ;;\nCREATE DEFINER=`u`@`%` FUNCTION `f`() RETURNS int(11)\nreturn 5\n;;\nDELIMITER ;\n/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */;\n-- Dump completed\n";

    #[test]
    fn nothing_is_changed_unless_it_is_asked_for() {
        for size in [1, 3, 1000] {
            assert_eq!(run(Changes::default(), DUMP, size), (DUMP.to_owned(), 0));
        }
    }

    #[test]
    fn definers_are_replaced_on_definition_lines_only() {
        for size in [1, 3, 1000] {
            let (text, definers) = run(Changes { current_definer: true, ..Changes::default() }, DUMP, size);
            assert_eq!(definers, 4);
            assert!(text.contains("('/*!50013 DEFINER=`root`@`localhost` */')"), "rows stay");
            assert!(text.contains("\nCREATE DEFINER=`root`@`localhost` x;\n"), "bodies stay");
            assert_eq!(text.matches("DEFINER=CURRENT_USER").count(), 4);
        }
    }

    #[test]
    fn events_and_the_sandbox_line_can_be_left_out() {
        for size in [1, 3, 1000] {
            let (text, _) = run(Changes { drop_events: true, drop_sandbox_line: true, ..Changes::default() }, DUMP, size);
            assert!(text.starts_with("INSERT INTO `a`"));
            assert!(!text.contains("EVENT") && text.contains("FUNCTION `f`") && text.ends_with("-- Dump completed\n"), "{text}");
        }
    }
}
