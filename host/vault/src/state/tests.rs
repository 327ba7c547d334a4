use super::*;
use crate::paths::{check_path, compare_paths};
use proptest::{collection as some, prelude::*};
use std::{collections::BTreeMap, fs, path::Path};

fn key() -> StateKey {
    StateKey { vault_id: "0123456789abcdef0123456789abcdef".to_owned(), manifest: ChunkId::from_bytes([7; 32]), plan: [9; 32] }
}

const START: Time = Time { secs: 2_000_000_000, nanos: 0 };

fn row(number: u32) -> StateRow {
    let mtime = Time { secs: i64::from(number) * 1000 - 50_000, nanos: number };
    let ctime = if number % 3 == 0 { mtime } else { Time { secs: 1_700_000_000, nanos: 5 } };
    let link = if number % 7 == 0 { u64::MAX - u64::from(number) } else { 0 };
    StateRow {
        size: u64::from(number) << 20,
        mtime,
        ctime,
        ino: u64::from(number),
        link,
        position: Position { leaf: number / 50, index: number % 50 },
    }
}

fn path_of(number: u32) -> Vec<u8> {
    format!("tree/folder-{:03}/file-{number:06}", number / 100).into_bytes()
}

fn write(path: &Path, numbers: impl IntoIterator<Item = u32>) {
    let mut writer = StateWriter::new(path, &key(), false).unwrap();
    for number in numbers {
        writer.push(&path_of(number), &row(number), START).unwrap();
    }
    writer.finish(key().manifest, false).unwrap();
}

#[test]
fn rows_are_found_in_one_merge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    write(&path, (0..20_000).step_by(2));
    let mut reader = StateReader::open(&path, &key()).unwrap();
    for number in 0..20_001 {
        let expected = (number % 2 == 0 && number < 20_000).then(|| row(number));
        assert_eq!(reader.find(&path_of(number)), expected, "{number}");
    }
    assert!(reader.found_all());
}

#[test]
fn what_was_deleted_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    write(&path, 0..5000);
    for gone in [0, 77, 4999] {
        let mut reader = StateReader::open(&path, &key()).unwrap();
        for number in (0..5000).filter(|n| *n != gone) {
            assert!(reader.find(&path_of(number)).is_some());
        }
        assert!(!reader.found_all(), "{gone}");
    }
}

#[test]
fn another_key_means_no_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    assert!(StateReader::open(&path, &key()).is_none());
    write(&path, 0..10);
    assert!(StateReader::open(&path, &key()).is_some());
    for other in [
        StateKey { vault_id: "fedcba9876543210fedcba9876543210".to_owned(), ..key() },
        StateKey { manifest: ChunkId::from_bytes([8; 32]), ..key() },
        StateKey { plan: [8; 32], ..key() },
    ] {
        assert!(StateReader::open(&path, &other).is_none());
    }
}

#[test]
fn a_file_that_may_still_change_gets_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut writer = StateWriter::new(&path, &key(), false).unwrap();
    let at = |secs| StateRow { ctime: Time { secs, nanos: 999_999_999 }, ..row(1) };
    for (number, secs) in [(1, START.secs - RACY_SECS), (2, START.secs - RACY_SECS + 1), (3, START.secs), (4, START.secs + 1000)] {
        writer.push(&path_of(number), &at(secs), START).unwrap();
    }
    writer.finish(key().manifest, false).unwrap();
    let mut reader = StateReader::open(&path, &key()).unwrap();
    let found: Vec<bool> = (1..5).map(|number| reader.find(&path_of(number)).is_some()).collect();
    assert_eq!(found, [true, false, false, false]);
}

#[test]
fn an_unchanged_cache_stays_and_a_changed_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    write(&path, 0..1000);
    let before = fs::read(&path).unwrap();
    let inode = |p: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(p).unwrap());
    let first = inode(&path);
    let run = |manifest: ChunkId, move_one: bool| {
        let mut reader = StateReader::open(&path, &key()).unwrap();
        let mut writer = StateWriter::new(&path, &key(), true).unwrap();
        for number in 0..1000 {
            let found = reader.find(&path_of(number)).unwrap();
            let leaf = found.position.leaf + u32::from(move_one && number == 500);
            writer.keep(&path_of(number), &found, Position { leaf, ..found.position }).unwrap();
        }
        writer.finish(manifest, reader.found_all()).unwrap();
    };
    run(key().manifest, false);
    assert_eq!((inode(&path), fs::read(&path).unwrap()), (first, before));
    run(key().manifest, true);
    assert_ne!(inode(&path), first);
    run(ChunkId::from_bytes([1; 32]), false);
    assert!(StateReader::open(&path, &key()).is_none());
    assert!(StateReader::open(&path, &StateKey { manifest: ChunkId::from_bytes([1; 32]), ..key() }).is_some());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_row_takes_few_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    write(&path, 0..10_000);
    let each = fs::metadata(&path).unwrap().len() / 10_000;
    assert!(each < 45, "{each}");
}

fn rows() -> impl Strategy<Value = BTreeMap<Vec<u8>, StateRow>> {
    let time = || (any::<i64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Time { secs: secs.min(START.secs - 10), nanos });
    let row = (any::<u64>(), time(), time(), any::<u64>(), any::<u64>(), any::<(u32, u32)>(), any::<bool>()).prop_map(
        |(size, mtime, ctime, ino, link, at, same)| StateRow {
            size,
            mtime,
            ctime: if same { mtime.min(ctime) } else { ctime },
            ino,
            link,
            position: Position { leaf: at.0, index: at.1 },
        },
    );
    some::btree_map("[a-c/\u{1}-]{1,12}".prop_map(String::into_bytes).prop_filter("path", |p| check_path(p).is_ok()), row, 0..40)
}

fn in_order(rows: &BTreeMap<Vec<u8>, StateRow>) -> Vec<(&Vec<u8>, &StateRow)> {
    let mut list: Vec<_> = rows.iter().collect();
    list.sort_by(|a, b| compare_paths(a.0, b.0));
    list
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_rows_survive(rows in rows()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut writer = StateWriter::new(&path, &key(), false).unwrap();
        for (path, row) in in_order(&rows) {
            writer.push(path, row, START).unwrap();
        }
        writer.finish(key().manifest, false).unwrap();
        let mut reader = StateReader::open(&path, &key()).unwrap();
        for (path, row) in in_order(&rows) {
            prop_assert_eq!(reader.find(path), Some(*row));
        }
        prop_assert!(reader.found_all());
    }

    #[test]
    fn a_damaged_cache_loses_rows_and_invents_none(at in any::<prop::sample::Index>(), byte in 1u8..=255, cut in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write(&path, 0..3000);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= byte }
        fs::write(&path, bytes).unwrap();
        if let Some(mut reader) = StateReader::open(&path, &key()) {
            for number in 0..3000 {
                let found = reader.find(&path_of(number));
                prop_assert!(found.is_none() || found == Some(row(number)));
            }
            prop_assert!(!reader.found_all());
        }
    }
}

#[test]
fn rows_kept_before_the_first_difference_are_in_the_new_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    write(&path, 0..5000);
    for (gone, new) in [(None, 0), (Some(0), 1), (Some(2500), 4000), (Some(4999), 5000), (None, 6000)] {
        let mut reader = StateReader::open(&path, &key()).unwrap();
        let mut writer = StateWriter::new(&path, &key(), true).unwrap();
        for number in (0..5000).filter(|n| Some(*n) != gone) {
            let found = reader.find(&path_of(number)).unwrap();
            if number == new {
                writer.push(&path_of(number), &StateRow { size: 1, ..found }, START).unwrap();
            } else {
                // As the manifest does: what comes behind a removed or new entry stands elsewhere.
                let moved = u32::from(gone.is_some_and(|gone| number > gone));
                writer.keep(&path_of(number), &found, Position { leaf: found.position.leaf + moved, ..found.position }).unwrap();
            }
        }
        let copy = folder.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        writer.finish(key().manifest, reader.found_all()).unwrap();
        let mut reader = StateReader::open(&path, &key()).unwrap();
        for number in 0..5000 {
            let found = reader.find(&path_of(number));
            assert_eq!(found.is_some(), Some(number) != gone, "{number}");
            assert_eq!(found.is_some_and(|f| f.size == 1), Some(number) != gone && number == new);
        }
        fs::rename(&copy, &path).unwrap();
    }
}
