use super::*;
use crate::reader::tests::{EPOCH, content, delta, id, plain, vault, write};

#[test]
fn a_chunk_that_is_a_delta_of_two_others_in_two_packs_stays_a_delta_of_both() {
    let (vault, mut index) = (vault(), Index::empty());
    write(&vault, PackKind::Data, vec![plain(0)], &mut index);
    write(&vault, PackKind::Data, vec![plain(1)], &mut index);
    let first = write(&vault, PackKind::Delta, vec![delta(2, &[0], &content(0)), delta(3, &[0], &content(0))], &mut index);
    // What rests on a chunk that is gone is nobody's, and no reason to leave the rest.
    let orphan = delta(2, &[99], &content(99));
    let second = write(&vault, PackKind::Delta, vec![orphan, delta(2, &[1], &content(1))], &mut index);
    let live = HashSet::from([id(0), id(1), id(2)]);
    let repack = Repack { index: Arc::new(index), live, groups: Vec::new() };
    let group = RepackGroup { kind: PackKind::Delta, from: vec![first, second], stored_bytes: 0, waste_bytes: 0 };
    let epoch = EpochPlan { epoch: EPOCH.to_owned(), ..EpochPlan::default() };
    let new = vault.copy_group(&epoch, &repack, &group, &PruneOptions::default()).unwrap();
    let frames: Vec<&TocFrame> = new.iter().flat_map(|pack| &pack.toc.frames).collect();
    assert!(frames.iter().all(|frame| frame.entries.iter().all(|entry| entry.id == id(2))));
    let bases: Vec<&[ChunkId]> = frames.iter().map(|frame| frame.bases.as_slice()).collect();
    assert_eq!(bases, [&[id(0)], &[id(1)]], "a snapshot that names the pack of one base may not name that of the other");
}
