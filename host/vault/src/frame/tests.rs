use super::*;
use crate::{chunk::chunk_id, testing::stream};
use proptest::prelude::*;

fn raw_frame(chunks: &[Vec<u8>]) -> RawFrame {
    let mut builder = FrameBuilder::new();
    chunks.iter().for_each(|chunk| builder.push(chunk_id(chunk), chunk));
    builder.take()
}

fn encode(frame: &RawFrame) -> EncodedFrame {
    FrameEncoder::new(3).unwrap().encode(frame).unwrap()
}

fn text(len: usize) -> Vec<u8> {
    b"insert into users values (1, 'alice', 'alice@example.org');\n".iter().copied().cycle().take(len).collect()
}

#[test]
fn entries_are_the_ustar_that_gnu_tar_reads() {
    let chunks = [text(1000), Vec::new(), stream(512), stream(70_000)];
    let frame = raw_frame(&chunks);
    let mut archive = tar::Archive::new(frame.raw.as_slice());
    let mut seen = 0;
    for (entry, chunk) in archive.entries().unwrap().zip(&chunks) {
        let entry = entry.unwrap();
        assert_eq!(entry.path().unwrap().to_str().unwrap(), format!("c/{}", chunk_id(chunk)));
        let header = entry.header();
        assert_eq!((header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0o600, 0, 0, 0));
        assert_eq!(entry.size(), chunk.len() as u64);
        seen += 1;
    }
    assert_eq!(seen, chunks.len());
    assert_eq!(frame.raw.len() % 512, 0);
}

#[test]
fn entries_lie_where_they_say() {
    let chunks = [text(1000), Vec::new(), stream(512), stream(70_000)];
    let frame = raw_frame(&chunks);
    for (entry, chunk) in frame.entries.iter().zip(&chunks) {
        assert_eq!(entry.slice(&frame.raw), Some(chunk.as_slice()));
        assert_eq!(entry.slice(&frame.raw[..entry.offset as usize]), (entry.len == 0).then_some(&[][..]));
    }
}

#[test]
fn a_taken_builder_is_empty() {
    let mut builder = FrameBuilder::new();
    builder.push(chunk_id(b"a"), b"a");
    assert_eq!(builder.raw_len(), 1024);
    assert_eq!(builder.take().entries.len(), 1);
    assert!(builder.is_empty());
}

#[test]
fn text_shrinks_and_noise_is_stored_as_it_is() {
    let shrunk = encode(&raw_frame(&[text(1 << 20)]));
    assert!(shrunk.bytes.len() < 10_000);
    let noise = raw_frame(&[stream(1 << 20)]);
    let stored = encode(&noise);
    assert_eq!(stored.bytes.len(), 9 + noise.raw.len() + 3 * noise.raw.len().div_ceil(ZSTD_BLOCK));
    assert_eq!(FrameDecoder::new().unwrap().decode(&stored.bytes, stored.raw_len).unwrap(), noise.raw);
}

/// Encoded text of random bytes looks even to a count of bytes only where it is: base64 must be compressed.
#[test]
fn base64_of_noise_is_compressed() {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(stream(1 << 20)).into_bytes();
    let frame = encode(&raw_frame(&[encoded]));
    assert!(frame.bytes.len() < 80 * frame.raw_len as usize / 100);
}

#[test]
fn noise_with_a_compressible_part_is_compressed() {
    let mut mixed = stream(3 << 19);
    mixed.extend(text(1 << 19));
    let frame = encode(&raw_frame(&[mixed]));
    assert!(frame.bytes.len() < 85 * frame.raw_len as usize / 100);
}

#[test]
fn an_encoder_can_be_used_again_and_gives_the_same_bytes() {
    let mut encoder = FrameEncoder::new(3).unwrap();
    for frame in [raw_frame(&[text(5000)]), raw_frame(&[stream(300_000)]), raw_frame(&[]), raw_frame(&[text(5000)])] {
        assert_eq!(encoder.encode(&frame).unwrap(), encode(&frame));
    }
}

#[test]
fn every_frame_states_its_content_size() {
    for frame in [raw_frame(&[]), raw_frame(&[text(1)]), raw_frame(&[stream(70_000)]), raw_frame(&[text(2 << 20)])] {
        let encoded = encode(&frame);
        assert_eq!(zstd_safe::get_frame_content_size(&encoded.bytes).unwrap(), Some(frame.raw.len() as u64));
    }
}

#[test]
fn the_end_of_the_archive_is_1024_zeros() {
    assert_eq!(FrameDecoder::new().unwrap().decode(&END_OF_ARCHIVE, 1024).unwrap(), [0; 1024]);
}

#[test]
fn another_length_two_frames_and_skippable_frames_are_refused() {
    let encoded = encode(&raw_frame(&[text(5000)]));
    let mut decoder = FrameDecoder::new().unwrap();
    for raw in [0, encoded.raw_len - 1, encoded.raw_len + 1, u32::MAX] {
        assert!(decoder.decode(&encoded.bytes, raw).is_err(), "{raw}");
    }
    let twice = [encoded.bytes.as_slice(), &encoded.bytes].concat();
    assert!(decoder.decode(&twice, encoded.raw_len).is_err());
    assert!(decoder.decode(&[0x5d, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], 0).is_err());
    assert!(decoder.decode(&[], 0).is_err());
}

#[test]
fn a_bomb_is_refused_before_it_unpacks() {
    let bomb = zstd::bulk::compress(&vec![0; 200 << 20], 1).unwrap();
    assert!(matches!(FrameDecoder::new().unwrap().decode(&bomb, 200 << 20), Err(FrameError::TooLarge { .. })));
    assert!(matches!(FrameDecoder::new().unwrap().decode(&bomb, 1 << 20), Err(FrameError::Shape { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chunks_come_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20), level in -5..12) {
        let frame = raw_frame(&chunks);
        let encoded = FrameEncoder::new(level).unwrap().encode(&frame).unwrap();
        let raw = FrameDecoder::new().unwrap().decode(&encoded.bytes, encoded.raw_len).unwrap();
        for (entry, chunk) in encoded.entries.iter().zip(&chunks) {
            prop_assert_eq!(entry.slice(&raw), Some(chunk.as_slice()));
        }
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..500), raw: u32) {
        let mut decoder = FrameDecoder::new().unwrap();
        let mut framed = MAGIC.to_vec();
        framed.extend(&bytes);
        let _either = (decoder.decode(&bytes, raw), decoder.decode(&framed, raw % 10_000));
    }

    #[test]
    fn mutated_frames_do_not_panic(at: prop::sample::Index, change: u8) {
        let encoded = encode(&raw_frame(&[text(3000), stream(3000)]));
        let mut bytes = encoded.bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(raw) = FrameDecoder::new().unwrap().decode(&bytes, encoded.raw_len) {
            prop_assert_eq!(raw.len(), encoded.raw_len as usize);
        }
    }
}

fn day_later(bytes: &[u8]) -> Vec<u8> {
    let mut later = bytes.to_vec();
    later.iter_mut().step_by(4999).for_each(|byte| *byte ^= 0x55);
    later
}

fn delta(prefix: &[u8], content: &[u8], most: usize) -> Option<EncodedFrame> {
    let frame = raw_frame(&[content.to_vec()]);
    DeltaEncoder::new(3).unwrap().encode(&frame, &[chunk_id(prefix)], prefix, most).unwrap()
}

#[test]
fn a_delta_takes_little_and_decodes_with_its_prefix_only() {
    let before = stream(300_000);
    let after = day_later(&before);
    let encoded = delta(&before, &after, 10_000).unwrap();
    assert!(encoded.bytes.len() < 3_000, "{}", encoded.bytes.len());
    assert_eq!(encoded.bases, [chunk_id(&before)]);
    let mut decoder = FrameDecoder::new().unwrap();
    let raw = decoder.decode_delta(&encoded.bytes, encoded.raw_len, &before).unwrap();
    assert_eq!(encoded.entries[0].slice(&raw).unwrap(), after);
    // Without a checksum in the frame, only the chunk's SHA-256 tells that the prefix was another one.
    let other = decoder.decode_delta(&encoded.bytes, encoded.raw_len, &stream(300_001)[1..]);
    assert!(other.is_err() || encoded.entries[0].slice(&other.unwrap()).unwrap() != after);
    assert!(decoder.decode(&encoded.bytes, encoded.raw_len).is_err());
    assert!(matches!(decoder.decode_delta(&encoded.bytes, encoded.raw_len + 1, &before), Err(FrameError::Shape { .. })));
}

#[test]
fn a_delta_that_gains_too_little_and_a_prefix_that_is_none_are_refused() {
    let (before, other) = (stream(100_000), day_later(&stream(200_000)[100_000..]));
    assert!(delta(&before, &other, 60_000).is_none());
    assert!(delta(&before[..7], &before, usize::MAX).is_none());
    let dictionary = [DICTIONARY_MAGIC.to_vec(), before.clone()].concat();
    assert!(delta(&dictionary, &before, usize::MAX).is_none(), "zstd would take it for a dictionary");
    let encoded = delta(&before, &day_later(&before), usize::MAX).unwrap();
    let refused = FrameDecoder::new().unwrap().decode_delta(&encoded.bytes, encoded.raw_len, &dictionary);
    assert!(matches!(refused, Err(FrameError::Prefix { .. })));
}

#[test]
fn a_delta_is_what_zstd_calls_a_patch() {
    let folder = tempfile::tempdir().unwrap();
    let before = stream(500_000);
    let after = day_later(&before);
    let encoded = delta(&before, &after, usize::MAX).unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("prefix"), &before).unwrap();
    std::fs::write(at("frame"), &encoded.bytes).unwrap();
    let patch = format!("--patch-from={}", at("prefix").display());
    let out = std::process::Command::new("zstd").args(["-d", "-q", "-c", &patch]).arg(at("frame")).output().expect("`zstd` is needed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(encoded.entries[0].slice(&out.stdout).unwrap(), after);
}
