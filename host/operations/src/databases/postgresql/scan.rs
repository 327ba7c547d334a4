//! What is in a dump, and whether it is whole: counted from its text while it streams.

use super::{
    lexer::{Lexer, Piece},
    names::{decode, key},
};
use crate::databases::DatabaseError;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Objects of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Objects {
    pub tables: BTreeSet<String>,
    counts: BTreeMap<String, u64>,
}

impl Objects {
    pub(super) fn add(&mut self, kind: &str) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }

    pub(super) fn set(&mut self, kind: &str, count: u64) {
        if count > 0 {
            self.counts.insert(kind.to_owned(), count);
        }
    }

    /// For a record.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<String, u64> = KINDS.iter().map(|kind| ((*kind).to_owned(), 0)).collect();
        counts.extend(self.counts.clone());
        counts.insert("tables".to_owned(), self.tables.len() as u64);
        counts
    }

    /// What this lacks of `other`, or has beyond it, in words; `None` when they are alike.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if let Some(table) = other.tables.difference(&self.tables).next() {
            return Some(format!("table {table} is missing"));
        }
        if let Some(table) = self.tables.difference(&other.tables).next() {
            return Some(format!("table {table} is not in the database"));
        }
        let theirs = other.counts();
        let differs = |(kind, count): (&String, &u64)| {
            let expected = theirs.get(kind).copied().unwrap_or_default();
            (*count != expected).then(|| format!("{count} {kind} of {expected}"))
        };
        self.counts().iter().find_map(differs)
    }
}

/// What is counted beside tables.
const KINDS: [&str; 10] = [
    "views",
    "materialized views",
    "sequences",
    "routines",
    "types",
    "triggers",
    "event triggers",
    "policies",
    "extensions",
    "large objects",
];

/// What was in a dump.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub objects: Objects,
    pub rows: BTreeMap<String, u64>,
    /// SHA-256 of a table's rows as they stand in the dump.
    pub checksums: BTreeMap<String, String>,
    /// The arguments of `setval`, by sequence.
    pub sequences: BTreeMap<String, String>,
}

/// The last comment of a whole dump.
pub(super) const DATABASE_COMPLETE: &[u8] = b"-- PostgreSQL database dump complete";
/// The last comment of a whole dump of the roles.
pub(super) const CLUSTER_COMPLETE: &[u8] = b"-- PostgreSQL database cluster dump complete";

/// Reads a dump while it passes.
pub(super) struct Scan {
    lexer: Lexer,
    tally: Tally,
}

impl Scan {
    pub(super) fn new(trailer: &'static [u8]) -> Self {
        Self { lexer: Lexer::new(), tally: Tally::new(trailer) }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        let tally = &mut self.tally;
        self.lexer.feed(bytes, &mut |piece| {
            tally.piece(&piece);
            Ok(())
        })
    }

    /// # Errors
    /// [`DatabaseError::Truncated`] without the trailer.
    pub(super) fn finish(mut self) -> Result<Seen, DatabaseError> {
        let tally = &mut self.tally;
        self.lexer.finish(&mut |piece| {
            tally.piece(&piece);
            Ok::<(), DatabaseError>(())
        })?;
        self.tally.finish()
    }
}

/// Counts pieces.
pub(super) struct Tally {
    seen: Seen,
    trailer: &'static [u8],
    complete: bool,
    table: Option<String>,
    hash: Sha256,
}

impl Tally {
    pub(super) fn new(trailer: &'static [u8]) -> Self {
        Self { seen: Seen::default(), trailer, complete: false, table: None, hash: Sha256::new() }
    }

    pub(super) fn piece(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Between(text) => self.complete |= text.trim_ascii() == self.trailer,
            Piece::Statement(text) => {
                self.complete = false;
                self.statement(text);
            }
            Piece::Rows(bytes) => self.hash.update(bytes),
            Piece::RowsEnd { rows } => {
                let sum = std::mem::take(&mut self.hash).finalize();
                if let Some(table) = self.table.take() {
                    self.seen.rows.insert(table.clone(), *rows);
                    self.seen.checksums.insert(table, hex::encode(sum));
                }
            }
            Piece::Command(text) => self.complete &= text.starts_with(b"\\unrestrict "),
            Piece::Odd(_) => self.complete = false,
        }
    }

    fn statement(&mut self, text: &[u8]) {
        let objects = &mut self.seen.objects;
        if let Some(rest) = text.strip_prefix(b"COPY ") {
            self.table = table(rest);
        } else if let Some(rest) = text.strip_prefix(b"SELECT pg_catalog.setval(") {
            self.sequence(rest);
        } else if text.starts_with(b"SELECT pg_catalog.lo_create(") {
            objects.add("large objects");
        } else if let Some(rest) = text.strip_prefix(b"CREATE ") {
            self.create(rest);
        } else if text.starts_with(b"ALTER TABLE ") && contains(text, b" AS IDENTITY (") && contains(text, b"SEQUENCE NAME ") {
            objects.add("sequences");
        }
    }

    fn create(&mut self, rest: &[u8]) {
        let objects = &mut self.seen.objects;
        for prefix in [&b"TABLE "[..], b"UNLOGGED TABLE ", b"FOREIGN TABLE "] {
            if let Some(rest) = rest.strip_prefix(prefix) {
                objects.tables.extend(table(rest));
                return;
            }
        }
        let head = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let types = [&b" AS ENUM"[..], b" AS RANGE", b" AS ("].iter().any(|form| contains(head, form));
        let kind = match head {
            [b'V', b'I', b'E', b'W', b' ', ..] => "views",
            [b'R', b'E', b'C', b'U', b'R', b'S', b'I', b'V', b'E', b' ', ..] => "views",
            head if head.starts_with(b"MATERIALIZED VIEW ") => "materialized views",
            head if head.starts_with(b"SEQUENCE ") || head.starts_with(b"UNLOGGED SEQUENCE ") => "sequences",
            head if head.starts_with(b"FUNCTION ") || head.starts_with(b"PROCEDURE ") || head.starts_with(b"AGGREGATE ") => "routines",
            head if head.starts_with(b"TYPE ") && types || head.starts_with(b"DOMAIN ") => "types",
            head if head.starts_with(b"TRIGGER ") || head.starts_with(b"CONSTRAINT TRIGGER ") => "triggers",
            head if head.starts_with(b"EVENT TRIGGER ") => "event triggers",
            head if head.starts_with(b"POLICY ") => "policies",
            head if head.starts_with(b"EXTENSION ") => "extensions",
            _ => return,
        };
        objects.add(kind);
    }

    /// `'public.users_id_seq', 5, true);`
    fn sequence(&mut self, arguments: &[u8]) {
        let text = decode(arguments);
        if let Some((name, value)) = text.trim_end_matches(");").rsplit_once(", ").and_then(|(head, called)| {
            let (name, value) = head.rsplit_once(", ")?;
            Some((name, format!("{value} {called}")))
        }) {
            self.seen.sequences.insert(name.trim_matches('\'').to_owned(), value);
        }
    }

    pub(super) fn finish(self) -> Result<Seen, DatabaseError> {
        if !self.complete {
            let what = format!("the line `{}` is missing at its end", String::from_utf8_lossy(self.trailer));
            return Err(DatabaseError::Truncated { what });
        }
        Ok(self.seen)
    }
}

/// The key of the table whose name begins a text.
fn table(text: &[u8]) -> Option<String> {
    let (schema, rest) = identifier(text)?;
    match rest.strip_prefix(b".") {
        Some(rest) => identifier(rest).map(|(name, _)| key(&schema, &name)),
        None => Some(key("public", &schema)),
    }
}

/// The identifier at the beginning of a text, and the text after it.
pub(super) fn identifier(text: &[u8]) -> Option<(String, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)))?;
        return (end > 0).then(|| (decode(text.get(..end).unwrap_or_default()), text.get(end..).unwrap_or_default()));
    };
    let (mut name, mut rest) = (Vec::new(), quoted);
    loop {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        name.extend_from_slice(rest.get(..end)?);
        rest = rest.get(end + 1..)?;
        match rest.strip_prefix(b"\"") {
            Some(after) => rest = after,
            None => return Some((decode(&name), rest)),
        }
        name.push(b'"');
    }
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x\n\nCREATE TABLE public.a (\n    b text\n);\n\nCOPY public.a (b) FROM stdin;\n-- PostgreSQL database dump complete\n\\.\n\n\nSELECT pg_catalog.setval('public.\"S''x\"', 5, true);\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n\n";

    #[test]
    fn a_dump_without_its_last_line_is_cut_short() {
        let end = WHOLE.rfind("complete").unwrap() + "complete".len();
        for cut in 0..end {
            let mut scan = Scan::new(DATABASE_COMPLETE);
            scan.feed(&WHOLE.as_bytes()[..cut]).unwrap();
            assert!(scan.finish().is_err(), "{cut}");
        }
        let mut scan = Scan::new(DATABASE_COMPLETE);
        scan.feed(WHOLE.as_bytes()).unwrap();
        let seen = scan.finish().unwrap();
        assert_eq!((seen.rows["a"], seen.objects.tables.len(), seen.sequences["public.\"S''x\""].as_str()), (1, 1, "5 true"));
    }

    #[test]
    fn the_trailer_is_the_end_of_a_dump_only_when_nothing_follows_it() {
        for more in ["SELECT 1;", "\\! x\n", "COPY public.a (b) FROM stdin;\n", "CREATE TABLE x ("] {
            let mut scan = Scan::new(DATABASE_COMPLETE);
            scan.feed(format!("{WHOLE}{more}").as_bytes()).unwrap();
            assert!(scan.finish().is_err(), "{more}");
        }
    }
}
