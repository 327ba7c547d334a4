//! What is changed in a dump on its way back: as little as the server at hand asks for, and never within rows or the
//! body of a routine. The archive keeps the original. What no dump holds is refused (`guard`).

use super::super::DatabaseError;
use super::{
    guard::{self, Class, Guard, is_sandbox_line},
    lexer::{Lexer, Piece, identifier_at},
};
use std::io::Write;

/// The changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The database that was dumped: where the text names it, the database at hand is meant.
    pub database: String,
    /// Which statements go through.
    pub only: Only,
    /// The server is to parse each body, as one statement, before it is executed.
    pub parse_bodies: bool,
    /// Keeps the statements that define views, triggers, routines and events.
    pub keep_definitions: bool,
    /// `user`@`host` in backticks: who restores. Its own name as definer is no change.
    pub own_account: String,
    /// The first line asks a MariaDB client for its sandbox; other clients stumble over it.
    pub drop_sandbox_line: bool,
    /// `DEFINER=…` becomes `DEFINER=CURRENT_USER`, for a user who may not act for others.
    pub current_definer: bool,
    /// No events: in a scratch database they would run.
    pub drop_events: bool,
}

/// Which statements of a dump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Only {
    /// All.
    #[default]
    Everything,
    /// Views, triggers, routines and events.
    Definitions,
    /// Triggers.
    Triggers,
}

/// What a dump held.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Definers replaced.
    pub definers: u64,
    /// What defines views, triggers, routines and events, as the dump has it.
    pub definitions: Vec<u8>,
}

/// The most definitions that are kept, in bytes.
const MOST_DEFINITIONS: usize = 256 << 20;

/// Where events begin and what follows them; our dumps always have both lines.
const EVENTS: &[u8] = b"-- Dumping events for database ";
const AFTER_EVENTS: &[u8] = b"-- Dumping routines for database ";

/// Writes a dump with its changes to `out`.
pub(super) struct Rewriter<'a> {
    lexer: Lexer,
    changer: Changer<'a>,
    failed: Option<DatabaseError>,
}

struct Changer<'a> {
    changes: Changes,
    guard: Guard,
    out: &'a mut (dyn Write + Send),
    first: bool,
    in_events: bool,
    after_algorithm: bool,
    /// A body as far as it has been seen.
    body: Vec<u8>,
    passed: Passed,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(changes: Changes, out: &'a mut (dyn Write + Send)) -> Self {
        let guard = Guard::new();
        let (body, passed) = (Vec::new(), Passed::default());
        let changer = Changer { changes, guard, out, first: true, in_events: false, after_algorithm: false, body, passed };
        Self { lexer: Lexer::strict(), changer, failed: None }
    }

    /// Why a write failed, when it was not for its output.
    pub(super) fn failure(&mut self) -> Option<DatabaseError> {
        self.failed.take()
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Result<Passed, DatabaseError> {
        let changer = &mut self.changer;
        self.lexer.finish(&mut |piece| changer.piece(&piece))?;
        if changer.body.is_empty() {
            Ok(self.changer.passed)
        } else {
            Err(DatabaseError::Truncated { what: "it ends within a trigger, event or routine".to_owned() })
        }
    }
}

impl Write for Rewriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let changer = &mut self.changer;
        match self.lexer.feed(bytes, &mut |piece| changer.piece(&piece)) {
            Ok(()) => Ok(bytes.len()),
            Err(DatabaseError::Sink(error)) => Err(error),
            Err(error) => {
                let text = error.to_string();
                self.failed = Some(error);
                Err(std::io::Error::other(text))
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.changer.out.flush()
    }
}

impl Changer<'_> {
    fn piece(&mut self, piece: &Piece<'_>) -> Result<(), DatabaseError> {
        match piece {
            Piece::Rows(bytes) if self.changes.only == Only::Everything => self.put(bytes),
            Piece::Rows(_) => Ok(()),
            Piece::Line { text, in_body, begins } => self.line(text, *in_body, *begins),
        }
    }

    fn line(&mut self, text: &[u8], in_body: bool, begins: bool) -> Result<(), DatabaseError> {
        let class = self.guard.line(text, in_body, begins)?;
        if std::mem::take(&mut self.first) && self.changes.drop_sandbox_line && is_sandbox_line(text) {
            return Ok(());
        }
        if begins && !in_body {
            self.in_events = text.starts_with(EVENTS) || self.in_events && !text.starts_with(AFTER_EVENTS);
        }
        self.keep(class, text)?;
        if !self.goes_through(class) {
            return Ok(());
        }
        match class {
            Class::Body => self.body(text, begins),
            Class::Table => self.table(text),
            Class::Database => self.alter_database(text),
            _ => self.definition(text, in_body, begins),
        }
    }

    fn goes_through(&self, class: Class) -> bool {
        let wanted = match self.changes.only {
            Only::Everything => true,
            Only::Definitions => class != Class::Table,
            Only::Triggers => matches!(class, Class::Session | Class::Body | Class::Database),
        };
        // What the guard knows of the session must be so: what sets it is never left out.
        class == Class::Session || wanted && class != Class::Probe && !(self.in_events && self.changes.drop_events)
    }

    fn keep(&mut self, class: Class, text: &[u8]) -> Result<(), DatabaseError> {
        if self.changes.keep_definitions && !matches!(class, Class::Table | Class::Probe) {
            self.passed.definitions.extend_from_slice(text);
        }
        if self.passed.definitions.len() > MOST_DEFINITIONS {
            let what = "its views, triggers and routines are larger than 256 MiB".to_owned();
            return Err(DatabaseError::BadDump { database: self.changes.database.clone(), what });
        }
        Ok(())
    }

    /// A sequence that a default names is this database's own, wherever the table goes.
    fn table(&mut self, text: &[u8]) -> Result<(), DatabaseError> {
        // Nobody else is there, and a table that takes its numbers from a sequence cannot be filled while it alone is locked.
        if text.starts_with(b"LOCK TABLES ") || text.starts_with(b"UNLOCK TABLES;") {
            return Ok(());
        }
        let own = format!("val({}.", super::client::quoted(&self.changes.database));
        let Some(at) = memchr::memmem::find(text, own.as_bytes()) else { return self.put(text) };
        let (before, rest) = text.split_at_checked(at + b"val(".len()).unwrap_or((text, &[]));
        self.put(before)?;
        self.table(rest.get(own.len() - b"val(".len()..).unwrap_or_default())
    }

    fn alter_database(&mut self, text: &[u8]) -> Result<(), DatabaseError> {
        let name = text.get(b"ALTER DATABASE ".len()..).unwrap_or_default();
        match identifier_at(name) {
            Some((_, rest)) if rest.starts_with(b" CHARACTER SET ") => {
                self.put(b"ALTER DATABASE")?;
                self.put(rest)
            }
            _ => Err(self.guard.refuse(text)),
        }
    }

    fn definition(&mut self, text: &[u8], in_body: bool, begins: bool) -> Result<(), DatabaseError> {
        let after_algorithm = std::mem::replace(&mut self.after_algorithm, begins && text.starts_with(b"/*!50001 CREATE ALGORITHM="));
        if !in_body && after_algorithm && text.starts_with(b"/*!50013 DEFINER=") {
            let changed = self.other_definer(text);
            return self.put(&changed);
        }
        self.put(text)
    }

    /// With `DEFINER=CURRENT_USER` where that is asked for.
    fn other_definer(&mut self, text: &[u8]) -> Vec<u8> {
        let around = if self.changes.current_definer { around_definer(text) } else { None };
        let Some((before, definer, after)) = around else { return text.to_vec() };
        self.passed.definers += u64::from(definer != self.changes.own_account.as_bytes());
        [before, b"DEFINER=CURRENT_USER", after].concat()
    }

    /// A body goes out in one piece, once it has been looked at.
    fn body(&mut self, text: &[u8], begins: bool) -> Result<(), DatabaseError> {
        let line = if begins && is_definition(text) { self.other_definer(text) } else { text.to_vec() };
        self.body.extend_from_slice(&line);
        let ends = text.trim_ascii_end().ends_with(b";;");
        if !ends {
            let small = self.body.len() < MOST_DEFINITIONS;
            return if small { Ok(()) } else { Err(self.guard.refuse(text)) };
        }
        let body = without_own_name(std::mem::take(&mut self.body), &self.changes.database);
        if !guard::is_own_body(&body) {
            return Err(self.guard.refuse(&body));
        }
        if self.changes.only == Only::Triggers && !body.starts_with(TRIGGER) {
            return Ok(());
        }
        self.parse(&body)?;
        self.put(&body)
    }

    /// The client would send two statements with one `;` between them as one, and the server would run both; what is
    /// prepared is one statement or an error, and an error ends the client.
    fn parse(&mut self, body: &[u8]) -> Result<(), DatabaseError> {
        if !self.changes.parse_bodies {
            return Ok(());
        }
        let text = body.trim_ascii_end();
        let text = text.strip_suffix(b";;").unwrap_or(text);
        self.put(format!("PREPARE havun_body FROM X'{}';;\nDEALLOCATE PREPARE havun_body;;\n", hex::encode(text)).as_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        self.out.write_all(bytes).map_err(DatabaseError::Sink)
    }
}

/// How the dumping program begins a trigger.
const TRIGGER: &[u8] = b"/*!50003 CREATE*/";

/// A trigger's text names its database where its author did; the database at hand is meant.
fn without_own_name(body: Vec<u8>, database: &str) -> Vec<u8> {
    let upper = body.to_ascii_uppercase();
    let Some(head) = memchr::memmem::find(&upper, b"FOR EACH").filter(|_| body.starts_with(TRIGGER)) else { return body };
    let names = [format!("{}.", super::client::quoted(database)), format!("{database}.")];
    let mut kept = Vec::with_capacity(body.len());
    let mut rest = body.as_slice();
    while let [first, after @ ..] = rest {
        let within = body.len() - rest.len() < head;
        let named = |name: &&String| rest.starts_with(name.as_bytes()) && kept.last().is_some_and(u8::is_ascii_whitespace);
        match names.iter().find(named).filter(|_| within) {
            Some(name) => rest = rest.get(name.len()..).unwrap_or_default(),
            None => {
                kept.push(*first);
                rest = after;
            }
        }
    }
    kept
}

/// Whether the first line of a body is one of those on which the dumping program writes a definer.
fn is_definition(text: &[u8]) -> bool {
    let heads: [&[u8]; 4] = [
        b"/*!50003 CREATE*/ /*!50017 DEFINER=",
        b"/*!50106 CREATE*/ /*!50117 DEFINER=",
        b"/*!50020 CREATE*/ /*!50017 DEFINER=",
        b"CREATE ",
    ];
    heads.iter().any(|head| text.starts_with(head))
}

/// What stands before the line's first ``DEFINER=`user`@`host` ``, the account, and what stands after it.
fn around_definer(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let at = memchr::memmem::find(text, b"DEFINER=`")?;
    let (before, rest) = text.split_at_checked(at)?;
    let account = rest.strip_prefix(b"DEFINER=")?;
    let (_, rest) = super::lexer::identifier(account)?;
    let rest = match rest.strip_prefix(b"@") {
        Some(host) => super::lexer::identifier(host)?.1,
        // A role has no host.
        None => rest,
    };
    Some((before, account.get(..account.len() - rest.len())?, rest))
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
        let definers = rewriter.finish().unwrap().definers;
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
