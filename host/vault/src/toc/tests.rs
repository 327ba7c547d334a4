use super::*;
use crate::{chunk::chunk_id, testing::stream};
use proptest::prelude::*;

pub(crate) fn toc(frames: usize, entries: usize) -> Toc {
    let mut toc = Toc::new(PackKind::Data);
    for number in 0..frames {
        let place = FrameRef { offset: toc.frames_end(), stored: 100 + number as u32, raw: 1024 * entries as u32 };
        let entry = |n: usize| FrameEntry { id: chunk_id(&[number as u8, n as u8]), offset: 1024 * n as u32 + 512, len: 512 };
        toc.frames.push(TocFrame { place, entries: (0..entries).map(entry).collect(), bases: Vec::new() });
    }
    toc
}

#[test]
fn golden_payload() {
    let mut payload = b"HBTOC1\0\0\x01\0\0\0\x01\0\0\0".to_vec();
    payload.extend([0; 8]);
    payload.extend([100, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0]);
    payload.extend(chunk_id(&[0, 0]).as_bytes());
    payload.extend([0, 2, 0, 0, 0, 2, 0, 0]);
    payload.extend(111_u64.to_le_bytes());
    assert_eq!(toc(1, 1).encode(), payload);
}

#[test]
fn a_tail_is_found_from_its_end() {
    for toc in [toc(0, 0), toc(1, 1), toc(300, 7)] {
        let tail = toc.encode_tail();
        assert_eq!(tail_len(&tail[tail.len() - 17..]), Ok(tail.len() as u64));
        assert_eq!(read_tail(&tail, toc.frames_end() + tail.len() as u64), Ok(toc));
    }
}

#[test]
fn a_tail_of_another_pack_is_refused() {
    let tail = toc(2, 2).encode_tail();
    assert_eq!(read_tail(&tail, 5000), Err(TocError::Tail));
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_tail_is_noticed() {
    let toc = toc(3, 2);
    let tail = toc.encode_tail();
    let plain_len = toc.frames_end() + tail.len() as u64;
    for bit in 0..tail.len() * 8 {
        let mut changed = tail.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        match tail_len(&changed) {
            Ok(len) if len == tail.len() as u64 => {
                // A chunk's id and place are for its own hash to check; everything else is checked here.
                if let Ok(other) = read_tail(&changed, plain_len) {
                    let places = |toc: &Toc| toc.frames.iter().map(|f| (f.place.offset, f.place.stored)).collect::<Vec<_>>();
                    assert_ne!(other, toc);
                    assert_eq!(places(&other), places(&toc));
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
    for len in 0..tail.len() {
        assert!(read_tail(&tail[..len], plain_len).is_err());
        assert!(read_tail(&tail[..len], plain_len - (tail.len() - len) as u64).is_err());
        assert!(Toc::decode(&toc.encode()[..len.min(toc.encode().len() - 1)]).is_err());
    }
}

#[test]
fn counts_beyond_the_bytes_are_no_reason_to_allocate() {
    let mut payload = toc(1, 1).encode();
    payload[12..16].fill(0xff);
    assert!(Toc::decode(&payload).is_err());
    let mut payload = toc(1, 1).encode();
    payload[32..36].fill(0xff);
    assert_eq!(Toc::decode(&payload), Err(TocError::CutOff));
}

#[test]
fn a_kind_of_tomorrow_is_named() {
    let mut payload = toc(1, 1).encode();
    payload[8] = 9;
    assert_eq!(Toc::decode(&payload), Err(TocError::Kind { kind: 9 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        frames in 0..5_usize,
        entries in 0..5_usize,
        bases in 0..4_u8,
        at: prop::sample::Index,
        change: u8,
    ) {
        let mut payload = if bases > 0 { deltas(bases).encode() } else { toc(frames, entries).encode() };
        let at = at.index(payload.len());
        payload[at] ^= change;
        if let Ok(read) = Toc::decode(&payload) {
            prop_assert_eq!(read.encode(), payload);
        }
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0..4_u8, plain_len: u64) {
        let mut framed = TOC_MAGIC.to_vec();
        framed.extend([kind, 0, 0, 0]);
        framed.extend(&bytes);
        let mut ended = bytes.clone();
        ended.push(0);
        ended.extend(SEEKABLE_MAGIC.to_le_bytes());
        let _any = (Toc::decode(&bytes), Toc::decode(&framed), tail_len(&ended), read_tail(&bytes, plain_len));
    }

    #[test]
    fn any_end_of_a_tail_is_bounded(end in prop::collection::vec(any::<u8>(), 17..=17)) {
        if let Ok(len) = tail_len(&end) {
            prop_assert!(len <= MAX_TAIL);
        }
    }
}

#[test]
fn noise_is_no_tail() {
    assert_eq!(tail_len(&stream(4096)), Err(TocError::NoSeekTable));
    assert_eq!(tail_len(b""), Err(TocError::NoSeekTable));
}

/// One frame of 100 bytes that names so many bases.
fn deltas(bases: u8) -> Toc {
    let mut toc = Toc { kind: PackKind::Delta, ..toc(1, 1) };
    toc.frames[0].bases = (0..bases).map(|n| chunk_id(&[n])).collect();
    toc
}

#[test]
fn golden_payload_of_deltas() {
    let mut payload = toc(1, 1).encode();
    payload[8] = 3;
    let end = payload.split_off(payload.len() - 8);
    payload.extend([2, 0, 0, 0]);
    payload.extend(chunk_id(&[0]).as_bytes());
    payload.extend(chunk_id(&[1]).as_bytes());
    payload.extend(end);
    assert_eq!(deltas(2).encode(), payload);
    assert_eq!(Toc::decode(&payload), Ok(deltas(2)));
}

#[test]
fn a_delta_names_one_to_sixteen_bases_and_a_plain_frame_none() {
    for (bases, whole) in [(0, false), (1, true), (16, true), (17, false)] {
        assert_eq!(Toc::decode(&deltas(bases).encode()).is_ok(), whole, "{bases}");
    }
    let mut greedy = deltas(1).encode();
    let at = greedy.len() - 8 - 32 - 4;
    greedy[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Toc::decode(&greedy), Err(TocError::Contradiction { frame: 0 }));
    let mut plain = deltas(2).encode();
    plain[8] = 1;
    assert!(Toc::decode(&plain).is_err(), "bases of a pack that is not of deltas are bytes too many");
    plain[8] = 9;
    assert_eq!(Toc::decode(&plain), Err(TocError::Kind { kind: 9 }));
}
