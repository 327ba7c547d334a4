//! One file of a catalogue: a first line that says which vault and which store it is about, then one line for each thing that
//! is known, the last one about the same thing counting.
//!
//! An object is `s` (settled) or `u` (not yet) and its size; `g` is one that is gone; `e` is an epoch with its mark. Each line
//! ends with the first 8 hex digits of the SHA-256 of what stands before them. What a process that died left of its last
//! line is cut off before the next one is appended.

use super::{Known, Mark};
use crate::{layout, store::ObjectName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The first version had one file for everything.
const VERSION: u32 = 2;
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    catalogue: u32,
    pub vault: String,
    store: Option<String>,
}

impl Head {
    pub fn new(vault: &str, store: Option<String>) -> Self {
        Self { catalogue: VERSION, vault: vault.to_owned(), store }
    }

    /// Whether a file with this head answers for `wanted`.
    fn is(&self, wanted: &Self) -> bool {
        self.vault == wanted.vault && (wanted.store.is_none() || self.store == wanted.store)
    }

    fn line(&self) -> io::Result<String> {
        Ok(serde_json::to_string(self).map_err(io::Error::other)? + "\n")
    }
}

/// One thing that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    There(ObjectName, Known),
    Gone(ObjectName),
    Epoch(String, Mark),
}

/// A file that is appended to.
#[derive(Debug)]
pub(super) struct Part(File);

impl Part {
    /// Opens the file at `path`, makes it where there is none, and cuts off a torn end.
    pub fn open(path: &Path, head: &Head) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if whole_bytes(&file, path)? == 0 {
            file.write_all(head.line()?.as_bytes())?;
        }
        Ok(Self(file))
    }

    pub fn append(&mut self, line: &Line) -> io::Result<()> {
        self.0.write_all(line.text().as_bytes())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Bytes of whole lines; the rest is cut off.
fn whole_bytes(file: &File, path: &Path) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last == *b"\n" {
        return Ok(len);
    }
    let whole = fs::read(path)?.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    file.set_len(whole)?;
    Ok(whole)
}

/// Puts a new file in the place of the one at `path`, whole or not at all.
pub(super) fn replace(path: &Path, head: &Head, lines: &[Line]) -> io::Result<()> {
    let mut text = head.line()?;
    lines.iter().for_each(|line| text.push_str(&line.text()));
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// What became of reading a part.
pub(super) enum Found {
    Lines(Vec<Line>),
    Missing,
    /// It is about another vault or store.
    Elsewhere,
    /// Damaged, or of another version.
    Damaged,
}

/// What the file at `path` says, where it answers for `wanted`.
pub(super) fn read(path: &Path, wanted: &Head) -> Found {
    let told = |why: &str| tracing::warn!(path = %path.display(), "the replica catalogue {why}; the replica is listed");
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Missing,
        Err(error) => {
            told(&format!("cannot be read ({error})"));
            return Found::Damaged;
        }
    };
    match parse(&text) {
        Some((head, lines)) if head.is(wanted) => Found::Lines(lines),
        Some(_) => {
            told("is about another place");
            Found::Elsewhere
        }
        None => {
            told("is damaged or of another version");
            Found::Damaged
        }
    }
}

fn parse(text: &str) -> Option<(Head, Vec<Line>)> {
    let (head, rest) = text.split_once('\n')?;
    let head: Head = serde_json::from_str(head).ok().filter(|head: &Head| head.catalogue == VERSION)?;
    // A process that died while it appended leaves a last line without its end.
    let whole = rest.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    Some((head, whole.map(Line::parse).collect::<Option<_>>()?))
}

impl Line {
    fn text(&self) -> String {
        let text = match self {
            Self::There(name, known) => format!("{} {} {name}", if known.settled { 's' } else { 'u' }, known.size),
            Self::Gone(name) => format!("g - {name}"),
            Self::Epoch(epoch, Mark::Open) => format!("e open {epoch}"),
            Self::Epoch(epoch, Mark::Settled) => format!("e settled {epoch}"),
            Self::Epoch(epoch, Mark::Done(digest)) => format!("e {digest} {epoch}"),
        };
        format!("{text} {}\n", sum(&text))
    }

    fn parse(line: &str) -> Option<Self> {
        let (text, found) = line.rsplit_once(' ')?;
        let [kind, value, name] = text.splitn(3, ' ').collect::<Vec<_>>().try_into().ok()?;
        let object = || ObjectName::new(name).ok();
        let there = |settled| Some(Self::There(object()?, Known { size: value.parse().ok()?, settled }));
        let parsed = match (kind, value) {
            ("s", _) => there(true),
            ("u", _) => there(false),
            ("g", "-") => Some(Self::Gone(object()?)),
            ("e", _) => layout::is_epoch(name).then(|| Self::Epoch(name.to_owned(), mark(value))),
            _ => None,
        };
        parsed.filter(|_| sum(text) == found)
    }
}

fn mark(text: &str) -> Mark {
    match text {
        "open" => Mark::Open,
        "settled" => Mark::Settled,
        digest => Mark::Done(digest.to_owned()),
    }
}

fn sum(text: &str) -> String {
    let mut hex = hex::encode(Sha256::digest(text.as_bytes()));
    hex.truncate(8);
    hex
}
