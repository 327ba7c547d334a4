use super::*;
use crate::{
    bases::{Depths, broken},
    chunk::chunk_id,
    frame::{DeltaEncoder, EncodedFrame, FrameBuilder, FrameEncoder, MAX_BASES},
    open::NewVault,
    pack::{PackWriter, Toc},
    store::{MemoryStore, Store},
};
use havun_model::ProjectName;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

pub(crate) const EPOCH: &str = "2026";

pub(crate) fn vault() -> Vault {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new("hot"));
    let project = ProjectName::new("sample").unwrap();
    let new = NewVault { project, encryption: false, recipients: Vec::new(), created: jiff::Timestamp::UNIX_EPOCH };
    Vault::create(Arc::clone(&store), &new).unwrap();
    Vault::open(store, &[]).unwrap()
}

/// Chunk `n` of a family in which each resembles the others.
pub(crate) fn content(n: usize) -> Vec<u8> {
    let mut bytes = crate::testing::stream(20_000);
    bytes.extend(format!("chunk {n}").bytes());
    bytes
}

pub(crate) fn id(n: usize) -> ChunkId {
    chunk_id(&content(n))
}

pub(crate) fn plain(n: usize) -> EncodedFrame {
    let mut builder = FrameBuilder::new();
    builder.push(id(n), &content(n));
    FrameEncoder::new(3).unwrap().encode(&builder.take()).unwrap()
}

/// A frame that needs `bases`, encoded as if they were what `prefix` says.
pub(crate) fn delta(n: usize, bases: &[usize], prefix: &[u8]) -> EncodedFrame {
    let mut builder = FrameBuilder::new();
    builder.push(id(n), &content(n));
    let bases: Vec<ChunkId> = bases.iter().map(|n| id(*n)).collect();
    DeltaEncoder::new(3).unwrap().encode(&builder.take(), &bases, prefix, usize::MAX).unwrap().unwrap()
}

fn whole(bases: &[usize]) -> Vec<u8> {
    bases.iter().flat_map(|n| content(*n)).collect()
}

pub(crate) fn write(vault: &Vault, kind: PackKind, frames: Vec<EncodedFrame>, index: &mut Index) -> PackId {
    let mut writer = PackWriter::new(vault.store.begin().unwrap(), kind, None).unwrap();
    frames.into_iter().for_each(|frame| writer.push(frame).unwrap());
    let finished = writer.finish().unwrap();
    let (id, size, toc) = (finished.id, finished.stored_size, finished.toc);
    finished.upload.publish(&layout::pack(EPOCH, &id)).unwrap();
    assert_eq!(Toc::decode(&toc.encode()).unwrap(), toc, "it reads back as any other does");
    index.insert_pack(id, size, &toc);
    id
}

/// Plain chunks, then one pack of deltas; each says which it needs.
fn vault_of(plains: &[usize], deltas: &[(usize, Vec<usize>)]) -> (Vault, Arc<Index>) {
    let (vault, mut index) = (vault(), Index::empty());
    write(&vault, PackKind::Data, plains.iter().map(|n| plain(*n)).collect(), &mut index);
    let frames = deltas.iter().map(|(n, bases)| delta(*n, bases, &whole(bases))).collect();
    write(&vault, PackKind::Delta, frames, &mut index);
    (vault, Arc::new(index))
}

fn read(vault: &Vault, index: &Arc<Index>, n: usize) -> Result<Vec<u8>, VaultError> {
    ChunkReader::new(vault, EPOCH, Arc::clone(index)).unwrap().chunk(&id(n))
}

#[test]
fn a_chain_is_read_down_to_its_plain_chunk_and_no_deeper_than_any_that_is_written() {
    let chain: Vec<(usize, Vec<usize>)> = (1..30).map(|n| (n, vec![n - 1])).collect();
    let (vault, index) = vault_of(&[0], &chain);
    for n in 0..=MAX_DEPTH as usize {
        assert_eq!(read(&vault, &index, n).unwrap(), content(n), "{n}");
    }
    let error = read(&vault, &index, 29).unwrap_err();
    assert!(error.is_integrity() && error.to_string().contains("further than any"), "{error}");
    assert_eq!(Depths::default().of(&index, &id(16)), Some(16));
    assert_eq!(Depths::default().of(&index, &id(17)), None);
}

#[test]
fn several_bases_are_one_prefix_in_their_order() {
    let (vault, index) = vault_of(&[0, 1, 2], &[(3, vec![2, 0]), (4, vec![3, 1])]);
    assert_eq!(read(&vault, &index, 4).unwrap(), content(4));
}

#[test]
fn circles_and_chunks_that_are_nowhere_end_in_one_error() {
    let deltas = [(1, vec![1]), (2, vec![3]), (3, vec![2]), (4, vec![99]), (5, vec![0, 4])];
    let (vault, index) = vault_of(&[0], &deltas);
    for n in 1..=5 {
        let error = read(&vault, &index, n).unwrap_err();
        assert!(error.is_integrity(), "{n}: {error}");
        assert_eq!(Depths::default().of(&index, &id(n)), None, "{n}");
    }
    assert!(read(&vault, &index, 4).unwrap_err().to_string().contains(&id(99).to_hex()), "it says which");
    let causes = broken(&index, &HashSet::new());
    assert_eq!((causes.get(&id(4)), causes.get(&id(5))), (Some(&id(99)), Some(&id(99))));
    let mut index = Arc::try_unwrap(index).ok().unwrap();
    index.forget_baseless();
    let left: Vec<usize> = (0..=5).filter(|n| index.get(&id(*n)).is_some()).collect();
    assert_eq!(left, [0], "whoever stores chunks stores the others anew");
}

#[test]
fn a_tree_of_bases_that_never_ends_costs_a_bounded_number_of_frames() {
    // Each of a level needs all of the level below: 16 to the power of 8 frames for one chunk, if one went along with it.
    let level = |depth: usize| (depth * MAX_BASES..(depth + 1) * MAX_BASES).collect::<Vec<usize>>();
    let mut deltas = Vec::new();
    for depth in 1..9 {
        deltas.extend(level(depth).into_iter().map(|n| (n, level(depth - 1))));
    }
    let (vault, index) = vault_of(&level(0), &deltas);
    // What was decoded is kept, so it is read after all; were it larger, the number of frames would end it.
    let mut reader = ChunkReader::new(&vault, EPOCH, Arc::clone(&index)).unwrap();
    let outcome = reader.chunk(&id(8 * MAX_BASES));
    assert!(outcome.is_err() || outcome.unwrap() == content(8 * MAX_BASES));
    assert!(reader.work <= MAX_WORK + 1, "{}", reader.work);
}

/// A chunk whose reading decodes 273 and `more` deltas, each needed once and none more than 3 deep.
fn wide(more: usize) -> (Vault, Arc<Index>) {
    let level = |from: usize, n: usize| (from + n * MAX_BASES..from + (n + 1) * MAX_BASES).collect::<Vec<usize>>();
    let mut deltas = vec![(1, level(2, 0))];
    deltas.extend((0..16).map(|n| (2 + n, level(18, n))));
    deltas.extend((0..256).map(|n| (18 + n, if n < more { vec![274 + n] } else { vec![0] })));
    deltas.extend((0..more).map(|n| (274 + n, vec![0])));
    vault_of(&[0], &deltas)
}

#[test]
fn a_chunk_that_takes_as_many_frames_as_the_limit_is_read_and_one_more_is_refused() {
    let (vault, index) = wide(MAX_WORK as usize - 273);
    assert_eq!(read(&vault, &index, 1).unwrap(), content(1));
    let (vault, index) = wide(MAX_WORK as usize - 272);
    let error = read(&vault, &index, 1).unwrap_err();
    assert!(error.is_integrity() && error.to_string().contains("further than any"), "{error}");
    assert_eq!(read(&vault, &index, 2).unwrap(), content(2), "each chunk has the whole limit");
}

#[test]
fn a_prefix_longer_than_any_is_not_read() {
    let (vault, mut index) = (vault(), Index::empty());
    let large = vec![7; (MAX_PREFIX / 2) + 10];
    let mut builder = FrameBuilder::new();
    builder.push(chunk_id(&large), &large);
    let frame = FrameEncoder::new(3).unwrap().encode(&builder.take()).unwrap();
    write(&vault, PackKind::Data, vec![frame], &mut index);
    let mut greedy = delta(1, &[0], &content(0));
    greedy.bases = vec![chunk_id(&large); 2];
    write(&vault, PackKind::Delta, vec![greedy], &mut index);
    let error = read(&vault, &Arc::new(index), 1).unwrap_err();
    assert!(error.is_integrity() && error.to_string().contains("prefix"), "{error}");
}

#[test]
fn a_chunk_is_read_from_another_pack_when_its_delta_cannot_be() {
    let (vault, mut index) = (vault(), Index::empty());
    write(&vault, PackKind::Delta, vec![delta(1, &[0], &content(0))], &mut index);
    write(&vault, PackKind::Data, vec![plain(0)], &mut index);
    // A second delta of the same chunk, of something that is nowhere.
    write(&vault, PackKind::Delta, vec![delta(2, &[98], &content(98))], &mut index);
    write(&vault, PackKind::Delta, vec![delta(2, &[1], &content(1))], &mut index);
    let index = Arc::new(index);
    assert_eq!(read(&vault, &index, 1).unwrap(), content(1));
    assert_eq!(read(&vault, &index, 2).unwrap(), content(2), "the pack that came first cannot give it");
    assert_eq!(broken(&index, &HashSet::new()), HashMap::new(), "nor is it called broken");
    let options = crate::VerifyOptions { snapshot: None, read_data: true, threads: 1 };
    assert_eq!(vault.verify(&options, &crate::NoProgress).unwrap().damage, [], "a pack is not to blame for bases that are gone");
    let causes = broken(&index, &HashSet::from([id(1)]));
    assert!(causes.contains_key(&id(2)), "once no place is left it is: {causes:?}");
}

#[test]
fn a_plain_place_is_preferred_to_a_delta_whichever_came_first() {
    for plain_first in [false, true] {
        let (vault, mut index) = (vault(), Index::empty());
        let mut add = |is_plain: bool| match is_plain {
            true => write(&vault, PackKind::Data, vec![plain(0), plain(1)], &mut index),
            false => write(&vault, PackKind::Delta, vec![delta(1, &[0], &content(0))], &mut index),
        };
        let (first, second) = (add(plain_first), add(!plain_first));
        let expected = if plain_first { first } else { second };
        let at = index.get(&id(1)).unwrap();
        assert_eq!(index.pack(at.pack).unwrap().id, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever a table of contents says of bases: every chunk is read or refused, nothing panics, nothing goes on for ever,
    /// and those who ask before they read (writers, verify, clean-ups) come to the same answer.
    #[test]
    fn any_graph_of_bases_is_read_or_refused(graph in prop::collection::vec(prop::collection::vec(0_usize..18, 1..5), 1..13)) {
        let deltas: Vec<(usize, Vec<usize>)> = graph.into_iter().enumerate().map(|(n, bases)| (n + 4, bases)).collect();
        let (vault, index) = vault_of(&[0, 1, 2, 3], &deltas);
        let causes = broken(&index, &HashSet::new());
        let mut depths = Depths::default();
        for n in 0..18 {
            let outcome = read(&vault, &index, n);
            let depth = depths.of(&index, &id(n));
            if let Ok(bytes) = &outcome {
                prop_assert_eq!(bytes, &content(n));
                prop_assert!(!causes.contains_key(&id(n)));
            }
            prop_assert_eq!(outcome.is_ok(), depth.is_some(), "chunk {}: {:?}", n, outcome.err());
        }
        let mut needed = HashSet::from([id(4)]);
        index.deltas().complete(&mut needed);
        prop_assert!(needed.len() <= 18);
    }
}
