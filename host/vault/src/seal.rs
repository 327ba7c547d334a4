//! Cobblestone-256: how an object is encrypted (C2SP `chunked-encryption`, AES-256-GCM over 16 KiB chunks).
//!
//! ```text
//! object     = salt[24] || commitment[32] || chunk 0 || chunk 1 || …
//! okm[76]    = HKDF-Expand-SHA-512(prk = key[32], info = LABEL || 00 || salt || context)
//! K          = okm[0..32]    base nonce = okm[32..44]    commitment = okm[44..76]
//! chunk k    = AES-256-GCM(K, base nonce XOR u96be(k), no associated data), 16384 bytes of plaintext
//! last chunk = always shorter than 16384 bytes of plaintext, maybe empty
//! ```
//!
//! The commitment is compared in constant time before anything is decrypted, so a ciphertext opens under one key
//! only. What does not authenticate is never handed out. Keys clear themselves; nothing here prints them.

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut, aead::inout::InOutBuf};
use hmac::{Hmac, Mac};
use sha2::Sha512;
use std::ops::Range;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Bytes before the first chunk: salt and commitment.
pub const HEADER_BYTES: usize = 56;
/// Bytes of salt in the header.
pub const SALT_BYTES: usize = 24;
/// Bytes of plaintext in every chunk but the last.
pub const PLAIN_CHUNK: usize = 16384;
/// Stored bytes of every chunk but the last.
pub const SEALED_CHUNK: usize = PLAIN_CHUNK + TAG_BYTES;

const TAG_BYTES: usize = 16;
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM";
/// The specification's limit: chunk numbers stay below this.
const MAX_CHUNKS: u64 = 1 << 38;

/// Why an object does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The commitment in the header is of another key, salt or context.
    #[error("the key does not belong to it")]
    WrongKey,
    /// A chunk does not authenticate.
    #[error("encrypted chunk {chunk} is damaged")]
    Damaged {
        /// Its number, from 0.
        chunk: u64,
    },
    /// The length is none that an encrypted object can have: it was cut off or added to.
    #[error("{bytes} bytes cannot be an encrypted object: it was cut off or added to")]
    Length {
        /// Its length.
        bytes: u64,
    },
}

/// A key that objects are sealed with: 32 random bytes, cleared when dropped, never printed.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; 32]>);

impl SealKey {
    /// Takes the key's bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes the key without another copy of it.
    pub(crate) fn from_secret(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A new random key.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// The secret itself, for deriving and wrapping.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// HKDF-Expand with HMAC-SHA-512 (RFC 5869 §2.3). By hand, because the `hkdf` crate refuses a 32-byte PRK here.
///
/// `out` may hold up to 255·64 bytes; what lies beyond stays as it was.
pub fn hkdf_expand(key: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    // HMAC pads a short key with zeros to its block of 128 bytes, so this is the same key.
    let mut padded = Zeroizing::new([0_u8; 128]);
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    let base = <Hmac<Sha512> as KeyInit>::new((&*padded).into());
    let mut previous = Zeroizing::new([0_u8; 64]);
    for (number, block) in (1..=255_u8).zip(out.chunks_mut(64)) {
        let mut mac = base.clone();
        if number > 1 {
            mac.update(previous.as_slice());
        }
        info.iter().for_each(|part| mac.update(part));
        mac.update(&[number]);
        let mut digest = mac.finalize().into_bytes();
        previous.copy_from_slice(&digest);
        for (to, from) in block.iter_mut().zip(&digest) {
            *to = *from;
        }
        digest.as_mut_slice().zeroize();
    }
}

/// What one object's key, salt and context give: the cipher, the base nonce and the commitment.
#[derive(Clone)]
struct Derived {
    cipher: Aes256Gcm,
    nonce: [u8; 12],
    commitment: [u8; 32],
}

impl Derived {
    fn new(key: &SealKey, context: &str, salt: &[u8; SALT_BYTES]) -> Self {
        let mut okm = Zeroizing::new([0; 76]);
        hkdf_expand(key.expose(), &[LABEL, &[0], salt, context.as_bytes()], okm.as_mut_slice());
        let (secret, rest) = split::<32, 44>(okm.as_slice());
        let (nonce, commitment) = split::<12, 32>(rest.as_slice());
        Self { cipher: Aes256Gcm::new((&*secret).into()), nonce: *nonce, commitment: *commitment }
    }

    /// The nonce of chunk `k`: the base nonce XOR `k` as 96 bits, big endian.
    fn nonce(&self, k: u64) -> [u8; 12] {
        let mut nonce = self.nonce;
        for (to, from) in nonce.iter_mut().skip(4).zip(k.to_be_bytes()) {
            *to ^= from;
        }
        nonce
    }

    fn seal(&self, k: u64, plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(plain);
        let buffer = InOutBuf::from(out.get_mut(start..).unwrap_or_default());
        #[expect(clippy::expect_used, reason = "GCM refuses messages of 64 GiB and more, and callers pass 16 KiB at most")]
        let tag = self.cipher.encrypt_inout_detached((&self.nonce(k)).into(), &[], buffer).expect("a chunk of 16 KiB at most");
        out.extend_from_slice(&tag);
    }

    fn open(&self, k: u64, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let damaged = SealError::Damaged { chunk: k };
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(damaged)?;
        let start = out.len();
        out.extend_from_slice(body);
        let buffer = InOutBuf::from(out.get_mut(start..).unwrap_or_default());
        let opened = self.cipher.decrypt_inout_detached((&self.nonce(k)).into(), &[], buffer, tag.into());
        if opened.is_err() {
            out.truncate(start);
        }
        opened.map_err(|_| damaged)
    }
}

/// Two arrays out of one; `A + B` is the length of what comes in.
fn split<const A: usize, const B: usize>(bytes: &[u8]) -> (Zeroizing<[u8; A]>, Zeroizing<[u8; B]>) {
    let (mut first, mut second) = (Zeroizing::new([0; A]), Zeroizing::new([0; B]));
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    second.iter_mut().zip(bytes.iter().skip(A)).for_each(|(to, from)| *to = *from);
    (first, second)
}

/// Seals one object, chunk by chunk.
pub struct Sealer {
    derived: Derived,
    salt: [u8; SALT_BYTES],
    next: u64,
}

impl Sealer {
    /// For one object. `salt` must be random and never used twice with `key`.
    pub fn new(key: &SealKey, context: &str, salt: [u8; SALT_BYTES]) -> Self {
        Self { derived: Derived::new(key, context, &salt), salt, next: 0 }
    }

    /// What the object begins with.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header.iter_mut().zip(self.salt.iter().chain(&self.derived.commitment)).for_each(|(to, from)| *to = *from);
        header
    }

    /// Appends the next whole chunk to `out`: 16400 bytes.
    pub fn seal_chunk(&mut self, plain: &[u8; PLAIN_CHUNK], out: &mut Vec<u8>) {
        debug_assert!(self.next < MAX_CHUNKS, "4 PiB");
        self.derived.seal(self.next, plain, out);
        self.next += 1;
    }

    /// Appends what is left, of any length, and the end: the last chunk is always a short one.
    pub fn finish(mut self, last: &[u8], out: &mut Vec<u8>) {
        let (whole, rest) = last.as_chunks::<PLAIN_CHUNK>();
        whole.iter().for_each(|chunk| self.seal_chunk(chunk, out));
        self.derived.seal(self.next, rest, out);
    }

    /// Opens what this sealer seals, for reading it back.
    pub fn opener(&self) -> Opener {
        Opener { derived: self.derived.clone() }
    }
}

/// Opens chunks of one object, in any order.
pub struct Opener {
    derived: Derived,
}

impl Opener {
    /// Checks the commitment in `header`, before anything is decrypted.
    ///
    /// # Errors
    /// [`SealError::WrongKey`]: another key, another context, or a damaged header.
    pub fn new(key: &SealKey, context: &str, header: &[u8; HEADER_BYTES]) -> Result<Self, SealError> {
        let (salt, commitment) = split::<SALT_BYTES, 32>(header);
        let derived = Derived::new(key, context, &salt);
        match bool::from(derived.commitment.ct_eq(&*commitment)) {
            true => Ok(Self { derived }),
            false => Err(SealError::WrongKey),
        }
    }

    /// Appends the plaintext of chunk `k` to `out`. `last` says whether the object ends with it: a last chunk must be
    /// short and every other one whole, so that a cut at a chunk's edge does not go unseen.
    ///
    /// # Errors
    /// [`SealError::Damaged`]; `out` is then as it was.
    pub fn open_chunk(&self, k: u64, sealed: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        let shape = if last { sealed.len() < SEALED_CHUNK } else { sealed.len() == SEALED_CHUNK };
        if !shape || k >= MAX_CHUNKS {
            return Err(SealError::Damaged { chunk: k });
        }
        self.derived.open(k, sealed, out)
    }

    /// Appends the plaintext of consecutive chunks to `out`: `sealed` begins with chunk `first`, and ends with the
    /// object when `last`, else with a whole chunk.
    ///
    /// # Errors
    /// [`SealError::Damaged`] names the first bad chunk.
    pub fn open_run(&self, first: u64, sealed: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        let (whole, rest) = sealed.as_chunks::<SEALED_CHUNK>();
        out.reserve(sealed.len());
        let mut k = first;
        for chunk in whole {
            self.open_chunk(k, chunk, false, out)?;
            k += 1;
        }
        match last {
            true => self.open_chunk(k, rest, true, out),
            false if rest.is_empty() => Ok(()),
            false => Err(SealError::Damaged { chunk: k }),
        }
    }
}

/// A whole object at once.
pub fn seal_all(key: &SealKey, context: &str, salt: [u8; SALT_BYTES], plain: &[u8]) -> Vec<u8> {
    let sealer = Sealer::new(key, context, salt);
    let mut out = Vec::with_capacity(usize::try_from(sealed_len(plain.len() as u64)).unwrap_or(0));
    out.extend_from_slice(&sealer.header());
    sealer.finish(plain, &mut out);
    out
}

/// The plaintext of a whole object.
///
/// # Errors
/// See [`SealError`].
pub fn open_all(key: &SealKey, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let bytes = sealed.len() as u64;
    let (header, body) = sealed.split_first_chunk::<HEADER_BYTES>().ok_or(SealError::Length { bytes })?;
    let opener = Opener::new(key, context, header)?;
    plain_len(bytes).ok_or(SealError::Length { bytes })?;
    let mut out = Vec::new();
    opener.open_run(0, body, true, &mut out)?;
    Ok(out)
}

/// Stored bytes of an object with `plain` bytes of plaintext.
pub fn sealed_len(plain: u64) -> u64 {
    let chunks = plain / PLAIN_CHUNK as u64 + 1;
    plain.saturating_add(HEADER_BYTES as u64).saturating_add(chunks * TAG_BYTES as u64)
}

/// Bytes of plaintext in an object of `sealed` stored bytes; `None` where no object has that length.
pub fn plain_len(sealed: u64) -> Option<u64> {
    let body = sealed.checked_sub(HEADER_BYTES as u64)?;
    let (whole, rest) = (body / SEALED_CHUNK as u64, body % SEALED_CHUNK as u64);
    let last = rest.checked_sub(TAG_BYTES as u64)?;
    (whole < MAX_CHUNKS).then_some(whole * PLAIN_CHUNK as u64 + last)
}

/// Which stored bytes hold a range of the plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSpan {
    /// The first chunk's number.
    pub first: u64,
    /// Stored bytes of whole chunks, within the object.
    pub stored: Range<u64>,
    /// Whether the object's last chunk is among them.
    pub last: bool,
    /// Where the wanted range begins in the plaintext of these chunks.
    pub skip: usize,
}

/// Which stored bytes of an object with `plain_total` bytes of plaintext hold `plain`; `None` where `plain` does
/// not lie within it.
pub fn chunk_span(plain: Range<u64>, plain_total: u64) -> Option<ChunkSpan> {
    if plain.start > plain.end || plain.end > plain_total {
        return None;
    }
    let size = PLAIN_CHUNK as u64;
    let first = plain.start / size;
    let final_chunk = plain_total / size;
    let end = plain.end.div_ceil(size).max(first + 1).min(final_chunk + 1);
    let last = end == final_chunk + 1;
    let start_at = HEADER_BYTES as u64 + first * SEALED_CHUNK as u64;
    let end_at = if last { sealed_len(plain_total) } else { HEADER_BYTES as u64 + end * SEALED_CHUNK as u64 };
    Some(ChunkSpan { first, stored: start_at..end_at, last, skip: usize::try_from(plain.start % size).unwrap_or(0) })
}

#[cfg(test)]
mod tests;
