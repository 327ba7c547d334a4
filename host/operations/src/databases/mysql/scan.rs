//! What is in a dump, and whether it is whole: counted from its text while it streams to the store.

use super::super::DatabaseError;
use super::lexer::{Lexer, Piece, identifier};
use std::collections::{BTreeMap, BTreeSet};

/// The last line of a dump (`--skip-dump-date`).
const COMPLETED: &[u8] = b"-- Dump completed";

/// Objects of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Objects {
    pub tables: BTreeSet<String>,
    pub sequences: u64,
    pub views: u64,
    pub routines: u64,
    pub triggers: u64,
    pub events: u64,
}

impl Objects {
    /// For a record.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = [
            ("tables", self.tables.len() as u64),
            ("sequences", self.sequences),
            ("views", self.views),
            ("routines", self.routines),
            ("triggers", self.triggers),
            ("events", self.events),
        ];
        counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }

    /// What this lacks of `other`, or has beyond it, in words; `None` when they are alike.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if let Some(table) = other.tables.difference(&self.tables).next() {
            return Some(format!("table {table} is missing"));
        }
        if let Some(table) = self.tables.difference(&other.tables).next() {
            return Some(format!("table {table} is not in the database"));
        }
        let (own, theirs) = (self.counts(), other.counts());
        let differs = |(kind, count): (&String, &u64)| {
            let expected = theirs.get(kind).copied().unwrap_or_default();
            (*count != expected).then(|| format!("{count} {kind} of {expected}"))
        };
        own.iter().find_map(differs)
    }
}

/// Reads a dump, in one or several passes each with a trailer of its own.
pub(super) struct Scan {
    lexer: Lexer,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    objects: Objects,
    last: Vec<u8>,
}

impl Scan {
    pub(super) fn new() -> Self {
        Self { lexer: Lexer::new(), seen: Seen::default() }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        let seen = &mut self.seen;
        self.lexer.feed(bytes, &mut |piece| {
            seen.piece(&piece);
            Ok(())
        })
    }

    /// Whether a pass has ended with its trailer.
    pub(super) fn check_trailer(&mut self) -> Result<(), DatabaseError> {
        let seen = &mut self.seen;
        self.lexer.finish(&mut |piece| {
            seen.piece(&piece);
            Ok(())
        })?;
        let whole = std::mem::take(&mut seen.last) == COMPLETED;
        if whole { Ok(()) } else { Err(DatabaseError::Truncated { what: "the line `-- Dump completed` is missing at its end".to_owned() }) }
    }

    /// What was in it, and the rows by table.
    pub(super) fn finish(mut self) -> (Objects, BTreeMap<String, u64>) {
        let mut rows = std::mem::take(&mut self.lexer.rows);
        for table in &self.seen.objects.tables {
            rows.entry(table.clone()).or_default();
        }
        (self.seen.objects, rows)
    }
}

impl Seen {
    fn piece(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Rows(_) => self.last.clear(),
            Piece::Line { text, in_body, begins } => {
                let text = text.trim_ascii_end();
                if *begins {
                    self.statement(text, *in_body);
                }
                if !text.is_empty() {
                    self.last.clear();
                    self.last.extend_from_slice(text.get(..64).unwrap_or(text));
                }
            }
        }
    }

    fn statement(&mut self, text: &[u8], in_body: bool) {
        let objects = &mut self.objects;
        if in_body {
            if text.starts_with(b"/*!50003 CREATE*/") {
                objects.triggers += 1;
            } else if text.starts_with(b"/*!50106 CREATE*/") {
                objects.events += 1;
            } else if text.starts_with(b"CREATE ") {
                objects.routines += 1;
            }
        } else if let Some(rest) = text.strip_prefix(b"CREATE TABLE ") {
            let rest = rest.strip_prefix(b"IF NOT EXISTS ").unwrap_or(rest);
            objects.tables.extend(identifier(rest).map(|(name, _)| name));
        } else if text.starts_with(b"CREATE SEQUENCE ") {
            objects.sequences += 1;
        } else if text.starts_with(b"/*!50001 CREATE ALGORITHM=") {
            objects.views += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_without_its_last_line_is_cut_short() {
        let whole = b"CREATE TABLE `a` (\n);\nINSERT INTO `a` VALUES\n(1);\n\n-- Dump completed\n";
        for cut in 0..whole.len() - 1 {
            let mut scan = Scan::new();
            scan.feed(&whole[..cut]).unwrap();
            assert!(scan.check_trailer().is_err(), "{cut}");
        }
        let mut scan = Scan::new();
        scan.feed(whole).unwrap();
        scan.check_trailer().unwrap();
        let (objects, rows) = scan.finish();
        assert_eq!((objects.tables.len(), rows["a"]), (1, 1));
    }

    #[test]
    fn the_trailer_within_a_value_or_a_body_is_none() {
        for text in ["INSERT INTO `a` VALUES\n('\n-- Dump completed\n", "INSERT INTO `a` VALUES\n('x\n-- Dump completed"] {
            let mut scan = Scan::new();
            scan.feed(text.as_bytes()).unwrap();
            assert!(scan.check_trailer().is_err());
        }
    }
}
