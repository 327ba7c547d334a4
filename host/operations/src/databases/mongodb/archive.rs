//! What `mongodump --archive` writes, checked while it passes, in bounded memory.
//!
//! A magic number; the prelude: one document about the archive, one for each collection; then blocks. A block is a document that
//! names a collection, that collection's documents, and the terminator. A collection ends with a block without documents whose
//! head says `EOF` and has the CRC-64 of all its documents. The archive itself has no end mark: it is whole when every
//! collection of the prelude has ended, and it ends between two blocks.

use super::{bson, bson::Value, crc};
use std::collections::BTreeMap;

const MAGIC: u32 = 0x8199_e26d;
const TERMINATOR: u32 = 0xffff_ffff;
/// All documents of a prelude, in bytes: tens of thousands of collections with a page of metadata each.
const LONGEST_PRELUDE: u64 = 64 << 20;

/// One collection, view or time series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Collection {
    pub kind: Kind,
    pub rows: u64,
    pub indexes: u64,
    crc: u64,
    ended: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Plain,
    View,
    TimeSeries,
}

/// What an archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub server: String,
    pub tool: String,
    pub collections: BTreeMap<String, Collection>,
}

impl Summary {
    /// Documents of each collection.
    pub(super) fn rows(&self) -> BTreeMap<String, u64> {
        self.collections.iter().filter(|(_, one)| one.kind != Kind::View).map(|(name, one)| (name.clone(), one.rows)).collect()
    }

    /// Collections, views and indexes.
    pub(super) fn objects(&self) -> BTreeMap<String, u64> {
        let views = self.collections.values().filter(|one| one.kind == Kind::View).count() as u64;
        let indexes = self.collections.values().map(|one| one.indexes).sum();
        let all = [("collections", self.collections.len() as u64 - views), ("indexes", indexes), ("views", views)];
        all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }

    /// "3 collections, 1 views"; `None` when there is nothing.
    pub(super) fn content(&self) -> Option<String> {
        let objects = self.objects();
        let parts = ["collections", "views"].map(|name| (name, objects.get(name).copied().unwrap_or_default()));
        let parts: Vec<String> = parts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Magic,
    /// At the length of a document, or at a terminator.
    Length,
    /// Within a document of the archive itself, which is kept until it is whole.
    Own(usize),
    /// Within a document of a collection: bytes still to come.
    Passing(usize),
}

/// Where a document of the archive itself stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    /// In the prelude; whether its first document was there.
    Prelude(bool),
    /// Between two blocks.
    Between,
    /// Documents of this collection.
    Of(String),
    /// After the head that ends a collection: only the terminator may come.
    Ended,
}

/// Takes an archive piece by piece.
pub(super) struct Parser {
    database: String,
    state: State,
    block: Block,
    held: Vec<u8>,
    prelude: u64,
    summary: Summary,
}

impl Parser {
    /// For an archive of one database.
    pub(super) fn new(database: &str) -> Self {
        Self {
            database: database.to_owned(),
            state: State::Magic,
            block: Block::Prelude(false),
            held: Vec::new(),
            prelude: 0,
            summary: Summary::default(),
        }
    }

    /// The next bytes. The error says what is wrong with the archive.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Passing(left) => self.pass(left, bytes)?,
                State::Magic | State::Length => self.hold(4, bytes)?,
                State::Own(length) => self.hold(length, bytes)?,
            };
        }
        Ok(())
    }

    /// The prelude, once it is whole.
    pub(super) fn prelude(&self) -> Option<&Summary> {
        (!matches!(self.block, Block::Prelude(_))).then_some(&self.summary)
    }

    /// What the archive holds, when it is whole.
    pub(super) fn finish(self) -> Result<Summary, String> {
        if !(self.block == Block::Between && self.state == State::Length && self.held.is_empty()) {
            return Err(match self.state {
                State::Magic => "it ends before its magic number".to_owned(),
                _ => "it ends within a block".to_owned(),
            });
        }
        // A view too: its empty block is what makes mongorestore create it.
        match self.summary.collections.iter().find(|(_, one)| !one.ended) {
            Some((name, _)) => Err(format!("it ends before collection `{name}` does")),
            None => Ok(self.summary),
        }
    }

    /// Keeps bytes until there are `wanted`, and then looks at them.
    fn hold<'a>(&mut self, wanted: usize, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let missing = wanted.saturating_sub(self.held.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        self.held.extend_from_slice(taken);
        if self.held.len() == wanted {
            let held = std::mem::take(&mut self.held);
            match self.state {
                State::Own(_) => self.own(&held)?,
                _ => self.word(&held)?,
            }
        }
        Ok(rest)
    }

    fn word(&mut self, held: &[u8]) -> Result<(), String> {
        let word = u32::from_le_bytes(held.first_chunk().copied().unwrap_or_default());
        match (self.state, word) {
            (State::Magic, MAGIC) => self.state = State::Length,
            (State::Magic, _) => return Err("it is no archive of mongodump".to_owned()),
            (_, TERMINATOR) => self.end_block()?,
            (_, bson::SHORTEST..=bson::LONGEST) => self.begin(word, held)?,
            _ => return Err(format!("a document in it claims {word} bytes")),
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), String> {
        match self.block {
            Block::Prelude(false) | Block::Between => Err("a block in it is empty".to_owned()),
            _ => {
                self.block = Block::Between;
                Ok(())
            }
        }
    }

    fn begin(&mut self, length: u32, head: &[u8]) -> Result<(), String> {
        let whole = length as usize;
        match &self.block {
            Block::Ended => return Err("a collection in it goes on after its end".to_owned()),
            Block::Of(name) => {
                let one = self.summary.collections.get_mut(name).ok_or("a collection in it has no name")?;
                one.crc = crc::add(one.crc, head);
                one.rows += 1;
                self.state = State::Passing(whole.saturating_sub(4));
            }
            Block::Prelude(_) | Block::Between => {
                self.prelude += if self.block == Block::Between { 0 } else { u64::from(length) };
                if self.prelude > LONGEST_PRELUDE {
                    return Err("its prelude is longer than 64 MiB".to_owned());
                }
                self.held = head.to_vec();
                self.state = State::Own(whole);
            }
        }
        Ok(())
    }

    fn pass<'a>(&mut self, left: usize, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let (taken, rest) = bytes.split_at(left.min(bytes.len()));
        if let Block::Of(name) = &self.block
            && let Some(one) = self.summary.collections.get_mut(name)
        {
            one.crc = crc::add(one.crc, taken);
        }
        let left = left - taken.len();
        self.state = if left == 0 { State::Length } else { State::Passing(left) };
        if left == 0 && taken.last() != Some(&0) {
            return Err("a document in it does not end where it should".to_owned());
        }
        Ok(rest)
    }

    fn own(&mut self, document: &[u8]) -> Result<(), String> {
        self.state = State::Length;
        let fields = Fields(bson::fields(document).ok_or("a head in it is no document")?);
        match self.block {
            Block::Prelude(false) => {
                fields.text("server_version").clone_into(&mut self.summary.server);
                fields.text("tool_version").clone_into(&mut self.summary.tool);
                self.block = Block::Prelude(true);
                Ok(())
            }
            Block::Prelude(true) => self.announce(&fields),
            _ => self.open(&fields),
        }
    }

    fn announce(&mut self, fields: &Fields<'_>) -> Result<(), String> {
        let name = self.name(fields)?;
        let metadata: Metadata = serde_json::from_str(fields.text("metadata")).unwrap_or_default();
        let kind = match fields.text("type") {
            "view" => Kind::View,
            "timeseries" => Kind::TimeSeries,
            _ if metadata.options.contains_key("viewOn") => Kind::View,
            _ => Kind::Plain,
        };
        let one = Collection { kind, indexes: metadata.indexes.len() as u64, ..Collection::default() };
        match self.summary.collections.insert(name.clone(), one) {
            None => Ok(()),
            Some(_) => Err(format!("it announces collection `{name}` twice")),
        }
    }

    fn name(&self, fields: &Fields<'_>) -> Result<String, String> {
        let (database, name) = (fields.text("db"), fields.text("collection"));
        if database != self.database {
            return Err(format!("it holds something of database `{database}`, not only of `{}`", self.database));
        }
        if name.is_empty() { Err("a collection in it has no name".to_owned()) } else { Ok(name.to_owned()) }
    }

    fn open(&mut self, fields: &Fields<'_>) -> Result<(), String> {
        let mut name = self.name(fields)?;
        // The data of a time series stand under the name of its buckets, before MongoDB 8.3.
        if let Some(series) = name.strip_prefix("system.buckets.")
            && self.summary.collections.get(series).is_some_and(|one| one.kind == Kind::TimeSeries)
        {
            name = series.to_owned();
        }
        let one = self.summary.collections.get_mut(&name).ok_or_else(|| format!("its prelude does not know collection `{name}`"))?;
        if one.ended {
            return Err(format!("collection `{name}` goes on after its end"));
        }
        if !fields.is("EOF") {
            self.block = Block::Of(name);
            return Ok(());
        }
        if fields.number("CRC") != Some(one.crc.cast_signed()) {
            return Err(format!("the checksum of collection `{name}` is wrong"));
        }
        one.ended = true;
        self.block = Block::Ended;
        Ok(())
    }
}

/// Of a collection, as JSON in the prelude.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Metadata {
    indexes: Vec<serde::de::IgnoredAny>,
    options: BTreeMap<String, serde::de::IgnoredAny>,
}

struct Fields<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<Value<'a>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> &'a str {
        if let Some(Value::Text(text)) = self.get(name) { text } else { "" }
    }

    fn is(&self, name: &str) -> bool {
        self.get(name) == Some(Value::Bool(true))
    }

    fn number(&self, name: &str) -> Option<i64> {
        if let Some(Value::Number(number)) = self.get(name) { Some(number) } else { None }
    }
}
