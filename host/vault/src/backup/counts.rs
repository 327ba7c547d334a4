//! What became of a tree since the snapshot before, by kind of file, counted on the way: one look-up for a run of files of
//! one kind, and 2 KiB of each file that has new content. What it counts is an estimate for people and detectors; no
//! decision of a backup rests on it.

use crate::state::StateRow;
use havun_model::anomalies::{KindCounts, TreeCounts};
use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

/// Longer endings are none.
const MAX_ENDING: usize = 8;
/// Kinds that are told apart; names can be made up without end.
const MAX_KINDS: usize = 256;
/// Files that are compared to find moved ones; bounds the memory of a tree that was replaced as a whole.
const MAX_MOVED: usize = 200_000;
/// So many bytes from the start of a file, or of a chunk, are looked at.
const HEAD: usize = 2048;
/// With fewer, nothing can be told.
const LEAST_HEAD: usize = 512;
/// Chi-squared of 256 byte values: random bytes have 255 and hardly ever more than this; text, code and the headers of
/// pictures, archives and documents have thousands.
const RANDOM_BELOW: f64 = 370.0;

/// Of 256 random bytes about 162 are different, and hardly ever fewer than this.
const FEW_VALUES: u32 = 130;

/// The ending of a file's name in small letters, padded with zeros.
type Kind = [u8; MAX_ENDING];

/// All kinds that came after the first [`MAX_KINDS`].
const OTHERS: Kind = *b"*\0\0\0\0\0\0\0";

/// Whether content looks like random bytes, as encrypted content does; `None` where there is too little of it.
pub(super) fn looks_random(content: &[u8]) -> Option<bool> {
    let head = content.get(..content.len().min(HEAD)).filter(|head| head.len() >= LEAST_HEAD)?;
    let mut seen = [0u64; 4];
    for byte in head.iter().take(256) {
        if let Some(word) = seen.get_mut(usize::from(*byte >> 6)) {
            *word |= 1 << (*byte & 63);
        }
    }
    // Most files are told by this alone, which costs a small part of what follows.
    if seen.iter().map(|word| word.count_ones()).sum::<u32>() < FEW_VALUES {
        return Some(false);
    }
    let mut counts = [0u32; 256];
    for byte in head {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let length = head.len() as f64;
    let squares: f64 = counts.iter().map(|count| f64::from(*count) * f64::from(*count)).sum();
    Some(squares * 256.0 / length - length < RANDOM_BELOW)
}

/// A file that was read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Content {
    /// Bytes that the vault does not have.
    pub fresh: u64,
    /// Those that look random.
    pub opaque: u64,
    /// Whether the file's beginning does.
    pub head: Option<bool>,
}

/// Counts the files of a tree by kind.
#[derive(Default)]
pub(super) struct Counter {
    kinds: BTreeMap<Kind, KindCounts>,
    last: Kind,
    /// Unchanged files of the last kind that are not in `kinds` yet.
    pending: u64,
}

impl Counter {
    pub fn unchanged(&mut self, path: &[u8]) {
        let kind = kind_of(path);
        if kind != self.last {
            self.settle();
            self.last = kind;
        }
        self.pending += 1;
    }

    /// A file that was read; `before` says that the snapshot before had one of its name.
    pub fn read(&mut self, path: &[u8], before: bool, compared: bool, content: Content) {
        let counts = self.kind(kind_of(path));
        counts.files += 1;
        counts.bytes_new += content.fresh;
        counts.bytes_opaque += content.opaque;
        if before && content.fresh > 0 {
            counts.changed += 1;
        } else if !before && (compared || content.fresh > 0) {
            counts.new += 1;
        }
        if let Some(opaque) = content.head.filter(|_| content.fresh > 0) {
            counts.judged += 1;
            counts.opaque += u64::from(opaque);
        }
    }

    pub fn end(mut self, found: Compared) -> TreeCounts {
        self.settle();
        let renamed = found.renamed();
        for (kind, gone) in found.deleted {
            self.kind(kind).deleted += gone;
        }
        let named = self.kinds.into_iter().filter(|(_, counts)| *counts != KindCounts::default());
        let kinds = named.map(|(kind, counts)| (String::from_utf8_lossy(&kind).trim_end_matches('\0').to_owned(), counts)).collect();
        TreeCounts { compared: found.compared, renamed, kinds }.bounded()
    }

    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.kind(self.last).files += pending;
    }

    fn kind(&mut self, kind: Kind) -> &mut KindCounts {
        let known = self.kinds.len() < MAX_KINDS || self.kinds.contains_key(&kind);
        self.kinds.entry(if known { kind } else { OTHERS }).or_default()
    }
}

/// What the walk did not meet any more, and what it met for the first time.
#[derive(Default)]
pub(super) struct Compared {
    /// Whether there was anything to compare with.
    pub compared: bool,
    deleted: BTreeMap<Kind, u64>,
    gone: HashSet<u64, BuildHasherDefault<DefaultHasher>>,
    gone_inodes: HashSet<u64, BuildHasherDefault<DefaultHasher>>,
    came: Vec<(u64, u64)>,
}

impl Compared {
    /// Nothing yet; `compared` says whether there is something to compare with.
    pub fn with(compared: bool) -> Self {
        Self { compared, ..Self::default() }
    }

    /// A row that the walk passed over. Rows do not say of what kind a file is: one without content counts as none, so
    /// that folders and links do not count.
    pub fn passed(&mut self, path: &[u8], row: &StateRow) {
        if row.size == 0 {
            return;
        }
        let room = self.deleted.len() < MAX_KINDS;
        let kind = kind_of(path);
        let kind = if room || self.deleted.contains_key(&kind) { kind } else { OTHERS };
        *self.deleted.entry(kind).or_default() += 1;
        if self.gone.len() < MAX_MOVED {
            self.gone.insert(hash(path));
            self.gone_inodes.insert(row.ino);
        }
    }

    /// A file that the snapshot before did not have.
    pub fn appeared(&mut self, path: &[u8], ino: u64) {
        if self.compared && self.came.len() < MAX_MOVED {
            let stem = path.iter().rposition(|byte| *byte == b'.').and_then(|dot| path.get(..dot)).unwrap_or(path);
            self.came.push((hash(stem), ino));
        }
    }

    /// Files that came under a new name: the inode of one that is gone, or its name with an ending more.
    fn renamed(&self) -> u64 {
        let known = |(stem, ino): &&(u64, u64)| self.gone_inodes.contains(ino) || self.gone.contains(stem);
        let count = self.came.iter().filter(known).count() as u64;
        count.min(self.deleted.values().sum())
    }
}

fn hash(path: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(path)
}

/// A number is no ending: `log.1`, `backup.20261128`.
fn kind_of(path: &[u8]) -> Kind {
    let mut kind = Kind::default();
    let name = path.iter().rposition(|byte| *byte == b'/').and_then(|slash| path.get(slash + 1..)).unwrap_or(path);
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0) else { return kind };
    let ending = name.get(dot + 1..).unwrap_or_default();
    let fits = (1..=MAX_ENDING).contains(&ending.len()) && ending.iter().all(u8::is_ascii_alphanumeric);
    if fits && !ending.iter().all(u8::is_ascii_digit) {
        kind.iter_mut().zip(ending).for_each(|(to, from)| *to = from.to_ascii_lowercase());
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn random_bytes_look_random_and_text_and_documents_do_not() {
        let random = (0..2000).filter(|seed| looks_random(&noise(*seed, 4096)) == Some(true)).count();
        assert!(random >= 1998, "{random}");
        let small = (0..2000).filter(|seed| looks_random(&noise(*seed, 600)) == Some(true)).count();
        assert!(small >= 1995, "{small}");
        let text = "Herewith the invoice of last month. ".repeat(100);
        assert_eq!(looks_random(text.as_bytes()), Some(false));
        let mut document = b"%PDF-1.7\n1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj\n".repeat(10);
        document.extend(noise(5, 4096));
        assert_eq!(looks_random(&document), Some(false));
        assert_eq!(looks_random(&noise(1, 511)), None);
    }

    #[test]
    fn what_openssl_writes_looks_random_in_spite_of_its_salt() {
        let caught = (0..500).filter(|seed| {
            let mut file = b"Salted__".to_vec();
            file.extend(noise(*seed, 3000));
            looks_random(&file) == Some(true)
        });
        assert!(caught.count() >= 498);
    }

    #[test]
    fn an_ending_is_what_people_call_one() {
        let kind = |path: &str| String::from_utf8_lossy(&kind_of(path.as_bytes())).trim_end_matches('\0').to_owned();
        assert_eq!(kind("tree/a.b/Scan.PDF"), "pdf");
        assert_eq!(kind("tree/scan.pdf.locked"), "locked");
        for none in ["tree/.env", "tree/a.b/file", "tree/log.1", "tree/x.", "tree/a.verylongending", "tree/a.b~"] {
            assert_eq!(kind(none), "", "{none}");
        }
    }

    #[test]
    fn files_are_counted_by_kind_and_by_what_became_of_them() {
        let mut compared = Compared { compared: true, ..Compared::default() };
        let row = |ino, size| StateRow { ino, size, ..StateRow::default() };
        compared.passed(b"tree/a.pdf", &row(7, 10));
        compared.passed(b"tree/b.pdf", &row(8, 10));
        compared.passed(b"tree/c.pdf", &row(9, 10));
        compared.passed(b"tree/folder", &row(10, 0));
        compared.appeared(b"tree/a.pdf.locked", 100);
        compared.appeared(b"tree/other.txt", 8);
        compared.appeared(b"tree/new.txt", 101);
        let mut counter = Counter::default();
        (0..3).for_each(|_| counter.unchanged(b"tree/x.php"));
        counter.unchanged(b"tree/y.txt");
        counter.unchanged(b"tree/z.php");
        let fresh = |fresh, head| Content { fresh, opaque: fresh, head };
        counter.read(b"tree/w.php", true, true, fresh(600, Some(true)));
        counter.read(b"tree/v.php", true, true, fresh(0, Some(true)));
        counter.read(b"tree/a.pdf.locked", false, true, fresh(700, Some(true)));
        let counts = counter.end(compared);
        assert_eq!(counts.renamed, 2);
        assert!(counts.compared);
        let php = counts.kinds["php"];
        assert_eq!((php.files, php.changed, php.new, php.judged, php.opaque, php.bytes_new), (6, 1, 0, 1, 1, 600));
        assert_eq!((counts.kinds["pdf"].deleted, counts.kinds["locked"].new, counts.kinds["txt"].files), (3, 1, 1));
        assert!(!counts.kinds.contains_key(""), "a folder that is gone is no file");
    }

    #[test]
    fn without_a_snapshot_before_only_new_content_is_new() {
        let mut counter = Counter::default();
        counter.read(b"tree/a.pdf", false, false, Content { fresh: 600, opaque: 0, head: Some(false) });
        counter.read(b"tree/b.pdf", false, false, Content::default());
        let counts = counter.end(Compared::default());
        assert_eq!((counts.compared, counts.kinds["pdf"].files, counts.kinds["pdf"].new), (false, 2, 1));
    }
}
