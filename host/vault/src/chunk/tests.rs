use super::*;
use crate::testing::{sha, stream, stream_from};
use proptest::prelude::*;

const SMALL: ChunkProfile = ChunkProfile { min: 256, avg: 1024, max: 4096 };

fn gear() -> Gear {
    Gear::derive(&std::array::from_fn(|i| i as u8))
}

fn lengths(bytes: &[u8], profile: ChunkProfile) -> Vec<usize> {
    let chunker = Chunker::new(&gear(), profile);
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some(len) = chunker.cut(rest, true) {
        found.push(len);
        rest = &rest[len..];
    }
    found
}

/// Made with a Python implementation written from the words of `docs/FORMAT.md`.
#[test]
fn golden_cuts() {
    let small = lengths(&stream(200_000), SMALL);
    assert_eq!(small[..8], [1127, 1069, 1214, 1281, 725, 1176, 462, 1344]);
    assert_eq!(sha(format!("{small:?}").as_bytes()), "27f79dcc6a1e55ca291cbc892e72da8d786c6490ced20b17ee7193598b681353");
    let dumps = [
        224152, 270560, 266943, 353450, 309853, 198632, 302453, 447918, 332329, 400880, 326536, 171235, 281561, 289347, 147341, 382396,
        472354, 348476, 300325, 271140, 193575,
    ];
    assert_eq!(lengths(&stream(6 << 20), ChunkProfile::DUMPS), dumps);
    let files = [1314041, 309549, 1252740, 728611, 1330835, 1212598, 1063114, 1319653, 1111694, 351791, 1168046, 1283084, 137156];
    assert_eq!(lengths(&stream(12 << 20), ChunkProfile::FILES), files);
    assert_eq!(lengths(&vec![0; 3 << 20], ChunkProfile::DUMPS), [1 << 20; 3]);
}

#[test]
fn golden_gear() {
    let table = gear().0;
    assert_eq!(table[0], 0x814c_0c6b_5b8f_6878);
    assert_eq!(table[1], 0x4031_b24b_fbf1_866c);
    assert_eq!(table[255], 0x8ea9_be95_3d01_7b68);
}

#[test]
fn an_insertion_changes_the_chunks_around_it_only() {
    let before = stream(400_000);
    let mut after = before.clone();
    after.splice(150_000..150_000, stream_from(1 << 40, 333));
    let pieces = |bytes: &[u8]| {
        let mut rest = bytes;
        lengths(bytes, SMALL).into_iter().map(|len| rest.split_off(..len).map(chunk_id).unwrap()).collect::<Vec<_>>()
    };
    let (old, new) = (pieces(&before), pieces(&after));
    let fresh = new.iter().filter(|id| !old.contains(id)).count();
    assert!(fresh <= 6, "{fresh} of {} chunks are new", new.len());
}

#[test]
fn the_average_is_about_what_the_profile_says() {
    let found = lengths(&stream(8 << 20), SMALL);
    let average = (8 << 20) / found.len();
    assert!((1000..1500).contains(&average), "{average}");
}

#[test]
fn nothing_has_no_chunk_and_a_little_is_one() {
    assert!(lengths(b"", SMALL).is_empty());
    assert_eq!(lengths(&stream(256), SMALL), [256]);
    let chunker = Chunker::new(&gear(), SMALL);
    assert_eq!(chunker.cut(&stream(256), false), None);
    assert_eq!(chunker.cut(&vec![0; 4096], false), Some(4096));
}

#[test]
fn sizes_out_of_order_are_no_panic() {
    for (min, avg, max) in [(0, 0, 0), (9, 1, 2), (u32::MAX, 3, 1), (1, u32::MAX, 1), (5000, 4096, 100)] {
        let found = lengths(&stream(20_000), ChunkProfile { min, avg, max });
        assert_eq!(found.iter().sum::<usize>(), 20_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn chunks_cover_the_stream_within_their_bounds(len in 0..60_000_usize, start: u32) {
        let found = lengths(&stream_from(u64::from(start), len), SMALL);
        prop_assert_eq!(found.iter().sum::<usize>(), len);
        let inner = found.split_last().map_or(&[][..], |(_, inner)| inner);
        prop_assert!(inner.iter().all(|len| (257..=4096).contains(len)));
        prop_assert!(found.iter().all(|len| *len <= 4096));
    }

    /// However the bytes arrive, the cuts are the same.
    #[test]
    fn cuts_do_not_depend_on_the_buffer(len in 0..40_000_usize, step in 1..5000_usize) {
        let bytes = stream(len);
        let chunker = Chunker::new(&gear(), SMALL);
        let (mut begin, mut end, mut found) = (0, 0, Vec::new());
        let mut seen = Seen::default();
        while begin < len {
            let cut = chunker.resume(&mut seen, &bytes[begin..end], end == len);
            prop_assert_eq!(cut, chunker.cut(&bytes[begin..end], end == len));
            match cut {
                Some(cut) => {
                    found.push(cut);
                    begin += cut;
                }
                None => end = (end + step).min(len),
            }
        }
        prop_assert_eq!(found, lengths(&bytes, SMALL));
    }
}
