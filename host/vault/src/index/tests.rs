use super::*;
use crate::{chunk::chunk_id, frame::FrameEntry, pack::TocFrame, testing::stream};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn chunk(n: u32) -> ChunkId {
    chunk_id(&n.to_le_bytes())
}

fn pack_id(n: u8) -> PackId {
    PackId::from_bytes([n; 32])
}

/// A pack of these chunks, three to a frame.
fn toc(chunks: &[u32]) -> Toc {
    let mut toc = Toc::new(PackKind::Data);
    for group in chunks.chunks(3) {
        let place = FrameRef { offset: toc.frames_end(), stored: 70, raw: 3 * 1024 };
        let entry = |(at, n): (u32, &u32)| FrameEntry { id: chunk(*n), offset: at * 1024 + 512, len: 1 + n % 512 };
        toc.frames.push(TocFrame { place, entries: (0..).zip(group).map(entry).collect(), bases: Vec::new() });
    }
    toc
}

#[test]
fn a_chunk_is_found_where_its_pack_has_it() {
    let mut index = Index::empty();
    index.insert_pack(pack_id(1), 500, &toc(&[1, 2, 3, 4, 5]));
    index.insert_pack(pack_id(2), 600, &toc(&[6, 7]));
    assert_eq!(index.get(&chunk(5)), Some(Location { pack: 0, frame: 1, offset: 1536, len: 6 }));
    assert_eq!(index.get(&chunk(6)), Some(Location { pack: 1, frame: 0, offset: 512, len: 7 }));
    assert_eq!(index.get(&chunk(8)), None);
    let record = index.pack(1).unwrap();
    assert_eq!((record.id, record.size, record.frames.len()), (pack_id(2), 600, 1));
    assert_eq!(index.pack(2), None);
    assert_eq!(Index::empty().get(&chunk(1)), None);
}

#[test]
fn the_first_pack_of_a_chunk_counts_until_it_is_removed() {
    let mut index = Index::empty();
    index.insert_pack(pack_id(1), 500, &toc(&[1, 2]));
    index.insert_pack(pack_id(2), 600, &toc(&[9, 2, 3]));
    index.insert_pack(pack_id(2), 600, &toc(&[9, 2, 3]));
    assert_eq!(index.len(), 5);
    assert_eq!(index.get(&chunk(2)).unwrap().pack, 0);
    index.remove_pack(&pack_id(1));
    index.remove_pack(&pack_id(7));
    assert_eq!(index.get(&chunk(1)), None);
    let found = index.get(&chunk(2)).unwrap();
    assert_eq!((index.pack(found.pack).unwrap().id, found.offset), (pack_id(2), 1536));
    assert_eq!(index.find_pack(&pack_id(2)).unwrap().size, 600);
    assert!(index.find_pack(&pack_id(1)).is_none());
}

#[test]
fn a_pack_gives_its_table_of_contents_back() {
    let mut index = Index::empty();
    let tables = [toc(&[1, 2, 3, 4]), toc(&[]), toc(&[4, 1, 8])];
    for (n, toc) in (0..).zip(&tables) {
        index.insert_pack(pack_id(n), 9, toc);
    }
    for (n, toc) in (0..).zip(&tables) {
        assert_eq!(index.toc(&pack_id(n)).as_ref(), Some(toc));
    }
    index.remove_pack(&pack_id(0));
    assert_eq!(index.toc(&pack_id(2)).as_ref(), Some(&tables[2]));
}

#[test]
fn an_index_object_comes_back() {
    let packs = vec![(pack_id(1), 500, toc(&[1, 2, 3, 4])), (pack_id(2), 1 << 40, toc(&[]))];
    assert_eq!(decode(&encode(&packs).unwrap()).unwrap(), packs);
    assert_eq!(decode(&encode(&[]).unwrap()).unwrap(), []);
}

#[test]
fn every_cut_and_every_addition_is_an_error() {
    let object = encode(&[(pack_id(1), 500, toc(&[1, 2, 3, 4]))]).unwrap();
    for len in 0..object.len() {
        assert!(decode(&object[..len]).is_err(), "cut to {len}");
    }
    let plain = zstd::decode_all(object.as_slice()).unwrap();
    for len in 0..plain.len() {
        assert!(decode(&zstd::bulk::compress(&plain[..len], 1).unwrap()).is_err(), "plaintext cut to {len}");
    }
    let longer = [plain.as_slice(), b"x"].concat();
    assert!(matches!(decode(&zstd::bulk::compress(&longer, 1).unwrap()), Err(IndexError::Trailing)));
    let twice = [object.as_slice(), &object].concat();
    assert!(decode(&twice).is_err());
}

#[test]
fn a_bomb_is_refused_long_before_it_is_unpacked() {
    let mut plain = b"HBIDX1\0\0".to_vec();
    plain.extend([0xff; 4]);
    plain.extend([0; 40]);
    plain.extend((64_u32 << 20).to_le_bytes());
    plain.resize(64 << 20, 0);
    let bomb = zstd::bulk::compress(&plain, 3).unwrap();
    assert!(bomb.len() < 10_000);
    assert!(decode(&bomb).is_err());
}

#[test]
fn a_million_chunks_are_indexed_in_a_moment() {
    let mut toc = Toc::new(PackKind::Data);
    // Ids only have to look like hashes; hashing a million for it would take longer than what is measured.
    let noise = stream(1 << 16);
    let id = |n: u64| {
        let at = (n % 2000) as usize * 32;
        let mut id = [0; 32];
        id.copy_from_slice(&noise[at..at + 32]);
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        ChunkId::from_bytes(id)
    };
    for frame in 0..10_000 {
        let place = FrameRef { offset: toc.frames_end(), stored: 1, raw: 1 << 20 };
        let entries = (0..100).map(|n| FrameEntry { id: id(frame * 100 + n), offset: 0, len: 1 }).collect();
        toc.frames.push(TocFrame { place, entries, bases: Vec::new() });
    }
    let mut index = Index::empty();
    let begun = std::time::Instant::now();
    index.insert_pack(pack_id(1), 1, &toc);
    let spent = begun.elapsed();
    assert_eq!(index.len(), 1_000_000);
    assert!((0..1_000_000).step_by(999).all(|n| index.get(&id(n)).is_some()));
    // Several times what it takes on an idle machine, so that a busy one does not fail for that.
    assert!(spent.as_secs() < 2, "{spent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_behaves_as_a_map(packs in prop::collection::vec(prop::collection::vec(0..60_u32, 0..30), 0..8), gone in prop::collection::vec(0..8_u8, 0..4), at_once: bool) {
        let mut index = Index::empty();
        for (n, chunks) in (0..).zip(&packs) {
            index.insert_pack(pack_id(n), 1, &toc(chunks));
        }
        let ids: Vec<_> = gone.iter().map(|n| pack_id(*n)).collect();
        match at_once {
            true => index.remove_packs(&ids),
            false => ids.iter().for_each(|id| index.remove_pack(id)),
        }
        let known = |n: &u8| usize::from(*n) < packs.len() && !gone.contains(n);
        prop_assert!((0..8).all(|n| index.find_pack(&pack_id(n)).is_some() == known(&n)));
        prop_assert_eq!(index.packs().len(), (0..8).filter(known).count());
        let mut model = BTreeMap::new();
        for (n, chunks) in (0..).zip(&packs).filter(|(n, _)| !gone.contains(n)) {
            chunks.iter().for_each(|chunk| { model.entry(*chunk).or_insert(pack_id(n)); });
        }
        for n in 0..60 {
            let found = index.get(&chunk(n)).map(|at| index.pack(at.pack).unwrap().id);
            prop_assert_eq!(found, model.get(&n).copied());
        }
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut framed = MAGIC.to_vec();
        framed.extend(&bytes);
        let _either = (decode(&bytes).is_ok(), decode(&zstd::bulk::compress(&framed, 1).unwrap()).is_ok());
    }

    #[test]
    fn mutated_objects_do_not_panic(at: prop::sample::Index, change: u8) {
        let mut plain = zstd::decode_all(encode(&[(pack_id(1), 5, toc(&[1, 2, 3, 4, 5, 6]))]).unwrap().as_slice()).unwrap();
        let at = at.index(plain.len());
        plain[at] ^= change;
        let _either = decode(&zstd::bulk::compress(&plain, 1).unwrap()).is_ok();
    }
}
