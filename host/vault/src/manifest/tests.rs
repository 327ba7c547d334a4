use super::*;
use crate::{
    entry::{Entry, EntryKind, Time},
    paths::is_within,
    state::StateRow,
};
use havun_model::{Digest, ManifestRoot};
use proptest::{collection as some, prelude::*};
use sha2::{Digest as _, Sha256};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("no chunk {0}")]
    Missing(ChunkId),
}

/// Chunks in memory, which remembers what was read and kept.
#[derive(Default)]
struct Chunks {
    stored: RefCell<HashMap<ChunkId, Vec<u8>>>,
    read: RefCell<Vec<ChunkId>>,
    kept: Vec<ChunkId>,
}

struct Sink<'c>(&'c Chunks, &'c mut Vec<ChunkId>);

impl ChunkSink for Sink<'_> {
    type Error = Trouble;

    fn put(&mut self, plain: &[u8]) -> Result<ChunkId, Trouble> {
        let id = ChunkId::from_bytes(Sha256::digest(plain).into());
        self.0.stored.borrow_mut().insert(id, plain.to_vec());
        Ok(id)
    }

    fn keep(&mut self, id: &ChunkId) -> Result<(), Trouble> {
        self.1.push(*id);
        Ok(())
    }
}

impl ChunkSource for Chunks {
    type Error = Trouble;

    fn get(&self, id: &ChunkId) -> Result<Vec<u8>, Trouble> {
        self.read.borrow_mut().push(*id);
        self.stored.borrow().get(id).cloned().ok_or(Trouble::Missing(*id))
    }
}

fn path_of(number: u32) -> Vec<u8> {
    // Folders of 40, so that paths nest and order by components matters.
    format!("tree/d{:03}/file-{:05}.php", number / 40, number).into_bytes()
}

fn entry(number: u32, version: u8) -> Entry {
    Entry {
        path: path_of(number),
        kind: EntryKind::File,
        item: "files".to_owned(),
        size: u64::from(version) + 100,
        mode: 0o644,
        mtime: Time { secs: 1_700_000_000, nanos: u32::from(version) },
        chunks: vec![ChunkId::from_bytes(Sha256::digest([version, number as u8]).into())],
        sha256: (version > 3).then(|| Digest::from_bytes([version; 32])),
        ..Entry::default()
    }
}

type Tree = BTreeMap<u32, u8>;
type Places = BTreeMap<u32, Position>;

fn write(chunks: &Chunks, tree: &Tree) -> (ManifestRoot, Places) {
    let mut kept = Vec::new();
    let mut writer = ManifestWriter::new(Sink(chunks, &mut kept), None::<(&ManifestRoot, &Chunks)>).unwrap();
    let places = tree.iter().map(|(number, version)| (*number, writer.entry(&entry(*number, *version)).unwrap())).collect();
    (writer.finish().unwrap(), places)
}

/// As a backup does: what the old tree has alike is taken over, unless `reread` says that its row is missing.
fn rewrite(chunks: &mut Chunks, old: (&Tree, &ManifestRoot, &Places), tree: &Tree, reread: impl Fn(u32) -> bool) -> (ManifestRoot, Places) {
    let mut kept = Vec::new();
    let mut writer = ManifestWriter::new(Sink(chunks, &mut kept), Some((old.1, &*chunks))).unwrap();
    let mut places = Places::new();
    for (number, version) in tree {
        let place = if old.0.get(number) == Some(version) && !reread(*number) {
            let row = StateRow { size: u64::from(*version) + 100, position: old.2[number], ..StateRow::default() };
            writer.unchanged(&path_of(*number), &row).unwrap()
        } else {
            writer.entry(&entry(*number, *version)).unwrap()
        };
        places.insert(*number, place);
    }
    let root = writer.finish().unwrap();
    chunks.kept = kept;
    (root, places)
}

fn read(chunks: &Chunks, root: &ManifestRoot) -> Vec<Entry> {
    ManifestReader::new(root, chunks).unwrap().collect::<Result<_, _>>().unwrap()
}

fn leaves_read(chunks: &Chunks, root: &ManifestRoot) -> usize {
    let read = std::mem::take(&mut *chunks.read.borrow_mut());
    let leaves: Vec<ChunkId> = ManifestReader::new(root, chunks).unwrap().leaves().map(|l| l.unwrap().chunk).collect();
    read.iter().filter(|id| leaves.contains(id)).count()
}

fn tree(count: u32) -> Tree {
    (0..count).map(|n| (n * 2, (n % 5) as u8)).collect()
}

#[test]
fn what_was_written_is_read() {
    for count in [0, 1, 2, 30, 3000] {
        let chunks = Chunks::default();
        let tree = tree(count);
        let (root, _) = write(&chunks, &tree);
        let expected: Vec<Entry> = tree.iter().map(|(n, v)| entry(*n, *v)).collect();
        assert_eq!(read(&chunks, &root), expected);
        assert_eq!((root.entries, root.bytes), (u64::from(count), expected.iter().map(|e| e.size).sum()));
        assert_eq!(root.depth > 0, count > 1000);
    }
}

#[test]
fn leaves_are_about_32_kib() {
    let chunks = Chunks::default();
    let (root, _) = write(&chunks, &tree(20_000));
    let leaves: Vec<ListLine> = ManifestReader::new(&root, &chunks).unwrap().leaves().collect::<Result<_, _>>().unwrap();
    let whole: u64 = leaves.iter().map(|l| l.bytes).sum();
    let average = whole / leaves.len() as u64;
    assert!((20 << 10..44 << 10).contains(&average), "{average}");
    assert!(leaves.iter().all(|l| (l.bytes as usize) < MAX_BYTES + 1024));
    assert!(leaves.iter().rev().skip(1).all(|l| l.bytes as usize >= MIN_BYTES));
    assert_eq!(leaves.iter().map(|l| l.entries).sum::<u64>(), root.entries);
}

#[test]
fn nothing_changed_reads_no_leaf_and_gives_the_same_root() {
    let mut chunks = Chunks::default();
    let tree = tree(5000);
    let (root, places) = write(&chunks, &tree);
    let stored = chunks.stored.borrow().len();
    let (again, same_places) = rewrite(&mut chunks, (&tree, &root, &places), &tree, |_| false);
    assert_eq!((&again, &same_places), (&root, &places));
    assert_eq!(leaves_read(&chunks, &root), 0);
    assert_eq!(chunks.stored.borrow().len(), stored);
    let leaves: Vec<ChunkId> = ManifestReader::new(&root, &chunks).unwrap().leaves().map(|l| l.unwrap().chunk).collect();
    assert_eq!(chunks.kept, leaves);
}

#[test]
fn one_change_reads_one_leaf_and_an_insertion_two_at_most() {
    let mut chunks = Chunks::default();
    let tree = tree(5000);
    let (root, places) = write(&chunks, &tree);
    let mut changed = tree.clone();
    changed.insert(5000, 9);
    rewrite(&mut chunks, (&tree, &root, &places), &changed, |_| false);
    assert_eq!(leaves_read(&chunks, &root), 1);
    changed = tree.clone();
    changed.insert(5001, 9);
    rewrite(&mut chunks, (&tree, &root, &places), &changed, |_| false);
    assert!(leaves_read(&chunks, &root) <= 2);
    changed = tree.clone();
    changed.insert(99_999, 9);
    rewrite(&mut chunks, (&tree, &root, &places), &changed, |_| false);
    assert!(leaves_read(&chunks, &root) <= 1, "at the end");
}

#[test]
fn a_prefix_reads_what_it_needs() {
    let chunks = Chunks::default();
    let tree = tree(20_000);
    let (root, _) = write(&chunks, &tree);
    let all = read(&chunks, &root);
    for prefix in ["", "tree", "tree/d000", "tree/d500", "tree/d999", "tree/d5", "nothing", "tree/d250/file-10018.php", "zzz"] {
        chunks.read.borrow_mut().clear();
        let found: Vec<Entry> = ManifestReader::beneath(&root, &chunks, prefix.as_bytes()).unwrap().collect::<Result<_, _>>().unwrap();
        let expected: Vec<Entry> = all.iter().filter(|e| is_within(&e.path, prefix.as_bytes())).cloned().collect();
        assert_eq!(found, expected, "{prefix}");
        assert!(prefix.len() < 9 || chunks.read.borrow().len() <= 4, "{prefix}: {}", chunks.read.borrow().len());
    }
}

#[test]
fn a_missing_leaf_costs_its_entries_and_no_more() {
    let chunks = Chunks::default();
    let (root, _) = write(&chunks, &tree(5000));
    let leaf = ManifestReader::new(&root, &chunks).unwrap().leaves().nth(3).unwrap().unwrap();
    chunks.stored.borrow_mut().remove(&leaf.chunk);
    let results: Vec<_> = ManifestReader::new(&root, &chunks).unwrap().collect();
    assert_eq!(results.iter().filter(|r| r.is_err()).count(), 1);
    assert_eq!(results.iter().filter(|r| r.is_ok()).count() as u64, root.entries - leaf.entries);
}

#[test]
fn disorder_and_stale_rows_are_refused() {
    let chunks = Chunks::default();
    let (root, places) = write(&chunks, &tree(1000));
    let mut kept = Vec::new();
    let mut writer = ManifestWriter::new(Sink(&chunks, &mut kept), Some((&root, &chunks))).unwrap();
    writer.entry(&entry(7, 1)).unwrap();
    assert!(matches!(writer.entry(&entry(7, 1)), Err(Trouble::Manifest(ManifestError::Order { .. }))));
    assert!(matches!(writer.entry(&entry(3, 1)), Err(Trouble::Manifest(ManifestError::Order { .. }))));
    let row = |position| StateRow { position, ..StateRow::default() };
    let elsewhere = Position { leaf: 1, index: 1 };
    assert!(matches!(writer.unchanged(&path_of(8), &row(elsewhere)), Err(Trouble::Manifest(ManifestError::Stale { .. }))));
    let nowhere = Position { leaf: 999, index: 1 };
    assert!(matches!(writer.unchanged(&path_of(8), &row(nowhere)), Err(Trouble::Manifest(ManifestError::Stale { .. }))));
    let beyond = Position { leaf: 0, index: 99_999 };
    assert!(matches!(writer.unchanged(&path_of(8), &row(beyond)), Err(Trouble::Manifest(ManifestError::Stale { .. }))));
    assert!(writer.unchanged(&path_of(8), &row(places[&8])).is_ok());
}

#[test]
fn a_list_with_a_long_first_path_still_ends() {
    // A line longer than a list may be: lists take two lines at least, or levels would never become fewer.
    let chunks = Chunks::default();
    let mut kept = Vec::new();
    let mut writer = ManifestWriter::new(Sink(&chunks, &mut kept), None::<(&ManifestRoot, &Chunks)>).unwrap();
    let long = |n: u32| format!("{:01000}/{}", n, "x/".repeat(70_000) + "x").into_bytes();
    for n in 0..20 {
        writer.entry(&Entry { path: long(n), ..Entry::default() }).unwrap();
    }
    let root = writer.finish().unwrap();
    assert!(root.depth < 10);
    assert_eq!(read(&chunks, &root).len(), 20);
}

fn edits() -> impl Strategy<Value = Vec<(u32, Option<u8>)>> {
    let one = some::vec((0u32..3200, prop::option::weighted(0.7, 0u8..6)), 0..12);
    let run =
        (0u32..3200, 1u32..200, prop::option::of(0u8..6)).prop_map(|(at, len, to)| (at..at + len).map(|n| (n, to)).collect::<Vec<_>>());
    (one, some::vec(run, 0..3)).prop_map(|(one, runs)| one.into_iter().chain(runs.into_iter().flatten()).collect())
}

fn apply(tree: &Tree, edits: &[(u32, Option<u8>)]) -> Tree {
    let mut tree = tree.clone();
    for (number, to) in edits {
        match to {
            Some(version) => drop(tree.insert(*number, *version)),
            None => drop(tree.remove(number)),
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reuse_gives_what_writing_anew_gives(count in 0u32..1600, rounds in some::vec(edits(), 1..4), missing in some::hash_set(0u32..3200, 0..5)) {
        let mut chunks = Chunks::default();
        let mut old_tree = tree(count);
        let (mut root, mut places) = write(&chunks, &old_tree);
        for edits in rounds {
            let new_tree = apply(&old_tree, &edits);
            let (reused, reused_places) = rewrite(&mut chunks, (&old_tree, &root, &places), &new_tree, |n| missing.contains(&n));
            let anew = write(&chunks, &new_tree);
            prop_assert_eq!((&reused, &reused_places), (&anew.0, &anew.1));
            (old_tree, root, places) = (new_tree, reused, reused_places);
        }
    }

    #[test]
    fn reading_arbitrary_chunks_ends_without_panic(count in 0u32..1500, at in any::<prop::sample::Index>(), noise in some::vec(any::<u8>(), 0..50), which in any::<prop::sample::Index>()) {
        let mut chunks = Chunks::default();
        let tree = tree(count);
        let (root, places) = write(&chunks, &tree);
        {
            let mut stored = chunks.stored.borrow_mut();
            let mut ids: Vec<ChunkId> = stored.keys().copied().collect();
            ids.sort();
            let text = stored.get_mut(which.get(&ids)).unwrap();
            let at = at.index(text.len() + 1);
            text.splice(at..(at + noise.len() / 2).min(text.len()), noise);
        }
        if let Ok(reader) = ManifestReader::new(&root, &chunks) {
            prop_assert!(reader.count() < 4000);
        }
        let mut kept = Vec::new();
        if let Ok(mut writer) = ManifestWriter::new(Sink(&chunks, &mut kept), Some((&root, &chunks))) {
            for number in tree.keys() {
                let row = StateRow { position: places[number], ..StateRow::default() };
                let _either = writer.unchanged(&path_of(*number), &row);
            }
        }
        chunks.kept = kept;
    }
}
