use super::*;
use crate::testing::{sha, stream};
use proptest::prelude::*;

const CONTEXT: &str = "havun-backup/v1/00112233445566778899aabbccddeeff/pack";

fn key() -> SealKey {
    SealKey::from_bytes(std::array::from_fn(|i| i as u8))
}

fn salt() -> [u8; SALT_BYTES] {
    std::array::from_fn(|i| 100 + i as u8)
}

/// Made with a Python implementation that shares nothing with this one and that pyca/cryptography 50 opens.
#[test]
fn golden_vectors() {
    let empty = "6465666768696a6b6c6d6e6f707172737475767778797a7bec745ed381c1930ecdcce825f92b568021370726119cf3548f526b055e8a72902c10ad474765b8ab255c664414eca512";
    assert_eq!(hex::encode(seal_all(&key(), CONTEXT, salt(), b"")), empty);
    for (len, expected) in [
        (0, "1d38dbe975a86eba45b81770a8913e4518635e5a14de25fdf1a0a92fd3a52557"),
        (1, "95cc758fdbb194e3d54211d675591bc28cdbe89970866117747e4cec2f4f090a"),
        (16383, "019839b475362e84db4e4d493293c0c17d0eb99668dc73a1bf37c7b17157c385"),
        (16384, "c7b1974283e1d17b0941c2662d7965920746e6bc746c29b3bd3701b0eb163835"),
        (16385, "4f2514ce9dc8e4902f16e3b3e0b23838149b6844632a52af740ace3957c8a0bf"),
        (32767, "030300f0cef1dbfe059a2b24a233f726ca58f6249d1e2faf13d9af62da08d868"),
        (32768, "1898cc9588b5a37f12825540b3e871224f7981fd222e07eb856dd6280da842e3"),
        (70000, "f14ce0b465329f459dcd99f0e53bc8915cb5d0354d723c4a87d2f005537f617e"),
    ] {
        let sealed = seal_all(&key(), CONTEXT, salt(), &stream(len));
        assert_eq!(sha(&sealed), expected, "{len} bytes");
        assert_eq!(open_all(&key(), CONTEXT, &sealed).unwrap(), stream(len));
    }
}

/// RFC 5869 has no vectors for SHA-512; this one is from Python's `hmac`.
#[test]
fn expansion_is_that_of_hkdf() {
    let mut out = [0; 2048];
    hkdf_expand(key().expose(), &[b"havun-backup/", b"v1/gear"], &mut out);
    assert_eq!(sha(&out), "6ff8a5bcd2cc768d907a87fa71329954422e0b8c5a99408d6d9329b4685eb6cc");
}

#[test]
fn another_key_context_or_salt_is_refused_before_anything_is_decrypted() {
    let sealed = seal_all(&key(), CONTEXT, salt(), b"secret");
    assert_eq!(open_all(&SealKey::from_bytes([7; 32]), CONTEXT, &sealed), Err(SealError::WrongKey));
    assert_eq!(open_all(&key(), "havun-backup/v1/00112233445566778899aabbccddeeff/index", &sealed), Err(SealError::WrongKey));
    for at in 0..HEADER_BYTES {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(open_all(&key(), CONTEXT, &changed), Err(SealError::WrongKey), "header byte {at}");
    }
}

#[test]
fn every_truncation_and_every_added_byte_is_refused() {
    let sealed = seal_all(&key(), CONTEXT, salt(), &stream(2 * PLAIN_CHUNK + 5));
    let edges = [0, 1, 55, 56, 57, 71, 72, 73, HEADER_BYTES + SEALED_CHUNK, HEADER_BYTES + 2 * SEALED_CHUNK];
    let around = edges.iter().flat_map(|edge| edge.saturating_sub(17)..edge + 18).chain(sealed.len() - 40..sealed.len());
    for len in around {
        assert!(open_all(&key(), CONTEXT, &sealed[..len]).is_err(), "cut to {len}");
    }
    for extra in [1, 16, 17, SEALED_CHUNK] {
        let mut longer = sealed.clone();
        longer.extend(vec![0; extra]);
        assert!(open_all(&key(), CONTEXT, &longer).is_err(), "{extra} more");
    }
}

#[test]
fn an_object_of_whole_chunks_does_not_open_without_its_empty_last_one() {
    let sealed = seal_all(&key(), CONTEXT, salt(), &stream(PLAIN_CHUNK));
    assert_eq!(sealed.len(), HEADER_BYTES + SEALED_CHUNK + 16);
    assert!(open_all(&key(), CONTEXT, &sealed[..HEADER_BYTES + SEALED_CHUNK]).is_err());
}

#[test]
fn chunks_open_only_in_their_own_place() {
    let mut sealed = seal_all(&key(), CONTEXT, salt(), &stream(3 * PLAIN_CHUNK));
    let body = &mut sealed[HEADER_BYTES..];
    let (first, rest) = body.split_at_mut(SEALED_CHUNK);
    first.swap_with_slice(&mut rest[..SEALED_CHUNK]);
    assert_eq!(open_all(&key(), CONTEXT, &sealed), Err(SealError::Damaged { chunk: 0 }));
}

#[test]
fn damage_names_the_chunk_and_leaves_the_output_as_it_was() {
    let sealed = seal_all(&key(), CONTEXT, salt(), &stream(2 * PLAIN_CHUNK));
    let opener = Opener::new(&key(), CONTEXT, sealed.first_chunk().unwrap()).unwrap();
    let mut chunk = sealed[HEADER_BYTES + SEALED_CHUNK..][..SEALED_CHUNK].to_vec();
    chunk[9] ^= 0x80;
    let mut out = b"before".to_vec();
    assert_eq!(opener.open_chunk(1, &chunk, false, &mut out), Err(SealError::Damaged { chunk: 1 }));
    assert_eq!(out, b"before");
}

#[test]
fn lengths_agree_both_ways() {
    for plain in (0..100).chain(PLAIN_CHUNK as u64 - 2..PLAIN_CHUNK as u64 + 3).chain([1 << 30, (1 << 30) + 1]) {
        assert_eq!(plain_len(sealed_len(plain)), Some(plain));
    }
    assert_eq!(plain_len(HEADER_BYTES as u64 + SEALED_CHUNK as u64), None);
    assert_eq!(plain_len(71), None);
    assert_eq!(plain_len(u64::MAX), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_bit_is_refused(len in 0..40_000_usize, at: prop::sample::Index, bit in 0..8_u32) {
        let mut sealed = seal_all(&key(), CONTEXT, salt(), &stream(len));
        let at = at.index(sealed.len());
        sealed[at] ^= 1_u8 << bit;
        prop_assert!(open_all(&key(), CONTEXT, &sealed).is_err());
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open_all(&key(), CONTEXT, &bytes).is_err());
    }

    #[test]
    fn any_range_opens_from_the_span_that_holds_it(len in 0..70_000_u64, a: u64, b: u64) {
        let plain = stream(len as usize);
        let (a, b) = (a % (len + 1), b % (len + 1));
        let range = a.min(b)..a.max(b);
        let sealed = seal_all(&key(), CONTEXT, salt(), &plain);
        let opener = Opener::new(&key(), CONTEXT, sealed.first_chunk().unwrap()).unwrap();
        let span = chunk_span(range.clone(), len).unwrap();
        let mut out = Vec::new();
        opener.open_run(span.first, &sealed[span.stored.start as usize..span.stored.end as usize], span.last, &mut out).unwrap();
        let wanted = &out[span.skip..][..(range.end - range.start) as usize];
        prop_assert_eq!(wanted, &plain[range.start as usize..range.end as usize]);
    }
}
