use super::*;
use proptest::prelude::*;

fn pack(n: u8) -> PackId {
    PackId::from_bytes([n; 32])
}

fn snapshot(n: u8) -> SnapshotId {
    SnapshotId::from_bytes([n; 32])
}

fn record(from: &[u8], to: &[u8], snapshots: &[u8]) -> MovedRecord {
    MovedRecord {
        to: to.iter().map(|n| pack(*n)).collect(),
        from: from.iter().map(|n| pack(*n)).collect(),
        snapshots: snapshots.iter().map(|n| snapshot(*n)).collect(),
    }
}

fn satisfied(moved: &Moved, who: u8, what: u8, present: &[u8]) -> bool {
    moved.satisfied(&snapshot(who), &pack(what), &|id| present.iter().any(|n| pack(*n) == *id))
}

fn newest(moved: &Moved, who: u8, named: &[u8], present: &[u8]) -> Vec<u8> {
    let named: Vec<PackId> = named.iter().map(|n| pack(*n)).collect();
    let needed = moved.newest(&snapshot(who), &named, &|id| present.iter().any(|n| pack(*n) == *id));
    needed.iter().map(|id| id.as_bytes()[0]).collect()
}

#[test]
fn without_records_a_pack_stands_for_itself() {
    let none = Moved::default();
    assert!(satisfied(&none, 1, 10, &[10]));
    assert!(!satisfied(&none, 1, 10, &[11]));
    assert_eq!(newest(&none, 1, &[10], &[]), [10]);
}

#[test]
fn new_packs_do_instead_of_old_ones_for_the_snapshots_of_the_record() {
    let moved = Moved::new([record(&[10, 11], &[20, 21], &[1])]);
    assert!(satisfied(&moved, 1, 10, &[20, 21]));
    assert!(!satisfied(&moved, 1, 10, &[20]), "both are needed");
    assert!(!satisfied(&moved, 2, 10, &[20, 21]), "a snapshot that was not there may need more");
    assert!(satisfied(&moved, 2, 10, &[10]));
    assert_eq!(newest(&moved, 1, &[10, 12], &[10, 11, 12, 20, 21]), [12, 20, 21]);
    assert_eq!(newest(&moved, 1, &[10], &[10, 11, 20]), [10], "a new pack is lost: the old one is needed again");
    assert_eq!(newest(&moved, 2, &[10], &[10, 11, 20, 21]), [10]);
}

#[test]
fn old_packs_do_instead_of_new_ones_for_everybody() {
    let moved = Moved::new([record(&[10, 11], &[20, 21], &[1])]);
    assert!(satisfied(&moved, 7, 20, &[10, 11]));
    assert!(!satisfied(&moved, 7, 20, &[10]));
    let all = |id: &PackId| [pack(10), pack(11)].contains(id);
    assert!(moved.needless(&pack(20), &all));
    assert!(!moved.needless(&pack(10), &all), "it is there");
    assert!(!moved.needless(&pack(30), &all));
    assert_eq!(newest(&moved, 7, &[20], &[10, 11]), [10, 11]);
}

#[test]
fn chains_are_followed_both_ways() {
    let moved = Moved::new([record(&[20, 12], &[30], &[1, 2]), record(&[10, 11], &[20], &[1])]);
    assert!(satisfied(&moved, 1, 10, &[30]));
    assert!(!satisfied(&moved, 2, 10, &[30]), "snapshot 2 was not there when 10 was moved");
    assert!(satisfied(&moved, 2, 20, &[30]));
    assert!(satisfied(&moved, 9, 30, &[10, 11, 12]), "an archive that has the first ones needs neither");
    assert!(!satisfied(&moved, 9, 30, &[10, 11]));
    assert_eq!(newest(&moved, 1, &[10, 11, 12], &[10, 11, 12, 20, 30]), [30]);
    assert_eq!(newest(&moved, 1, &[10, 11, 12], &[10, 11, 12, 20]), [12, 20]);
}

#[test]
fn circles_end() {
    let moved = Moved::new([record(&[10], &[20], &[1]), record(&[20], &[10], &[1])]);
    assert!(!satisfied(&moved, 1, 10, &[]));
    assert!(satisfied(&moved, 1, 10, &[20]));
    assert!(!Moved::new([record(&[10], &[], &[1])]).satisfied(&snapshot(1), &pack(10), &|_| false), "moved to nothing is lost");
}

#[test]
fn a_long_ladder_of_repacks_is_answered_at_once() {
    // Two packs into two packs, 200 times: 2^200 ways without a memory.
    let at = |n: u16, k: u8| PackId::from_bytes(std::array::from_fn(|i| if i == 0 { k } else { (n >> (8 * (i % 2))) as u8 }));
    let records = (0..200u16).map(|n| MovedRecord {
        from: vec![at(n, 0), at(n, 1)],
        to: vec![at(n + 1, 0), at(n + 1, 1)],
        snapshots: vec![snapshot(1)],
    });
    let moved = Moved::new(records);
    let last = [at(200, 0), at(200, 1)];
    assert!(moved.satisfied(&snapshot(1), &at(0, 0), &|id| last.contains(id)));
    assert!(!moved.satisfied(&snapshot(1), &at(0, 0), &|id| *id == last[0]));
    let first = [at(0, 0), at(0, 1)];
    assert!(moved.satisfied(&snapshot(2), &at(200, 1), &|id| first.contains(id)));
}

proptest! {
    /// Against a model in which every pack is a set of chunks: a repack copies what the living snapshots need. Whatever
    /// packs a store then has, what counts as satisfied is really there.
    #[test]
    fn what_counts_as_there_is_there(
        chunks in prop::collection::vec((0u8..6, any::<u8>()), 1..40),
        needs in prop::collection::vec(prop::collection::btree_set(0usize..40, 0..12), 1..5),
        steps in prop::collection::vec((prop::collection::btree_set(0usize..20, 1..4), prop::collection::btree_set(0usize..5, 0..4)), 0..8),
        present in prop::collection::btree_set(0usize..20, 0..20),
    ) {
        // packs[n]: ids of chunks. The first six are written by backups.
        let mut packs: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); 6];
        for (chunk, (pack, _)) in chunks.iter().enumerate() {
            packs[usize::from(*pack)].insert(chunk);
        }
        let needs: Vec<BTreeSet<usize>> = needs.iter().map(|all| all.iter().copied().filter(|c| *c < chunks.len()).collect()).collect();
        let mut records = Vec::new();
        for (from, kept) in steps {
            let from: Vec<usize> = from.into_iter().filter(|n| *n < packs.len()).collect();
            let kept: Vec<usize> = kept.into_iter().filter(|n| *n < needs.len()).collect();
            let live: BTreeSet<usize> = kept.iter().flat_map(|k| needs[*k].iter().copied()).collect();
            let new: BTreeSet<usize> = from.iter().flat_map(|n| packs[*n].intersection(&live).copied()).collect();
            if from.is_empty() || new.is_empty() {
                continue;
            }
            let to = packs.len();
            packs.push(new);
            records.push(MovedRecord {
                from: from.iter().map(|n| pack(*n as u8)).collect(),
                to: vec![pack(to as u8)],
                snapshots: kept.iter().map(|k| snapshot(*k as u8)).collect(),
            });
        }
        let moved = Moved::new(records);
        let there = |id: &PackId| present.contains(&usize::from(id.as_bytes()[0]));
        let readable: BTreeSet<usize> = present.iter().filter_map(|n| packs.get(*n)).flatten().copied().collect();
        for (who, need) in needs.iter().enumerate() {
            for (number, content) in packs.iter().enumerate() {
                if moved.satisfied(&snapshot(who as u8), &pack(number as u8), &there) {
                    let wanted: BTreeSet<usize> = content.intersection(need).copied().collect();
                    prop_assert!(wanted.is_subset(&readable), "snapshot {who}, pack {number}");
                }
                if moved.needless(&pack(number as u8), &there) {
                    prop_assert!(content.is_subset(&readable));
                }
            }
        }
    }
}
