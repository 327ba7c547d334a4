//! Packets of PAR 2.0 (Parity Volume Set Specification 2.0, 2003-05-11).

use md5::{Digest as _, Md5};

const MAGIC: &[u8; 8] = b"PAR2\0PKT";
const HEADER_BYTES: usize = 64;

pub(super) const MAIN: &[u8; 16] = b"PAR 2.0\0Main\0\0\0\0";
pub(super) const FILE: &[u8; 16] = b"PAR 2.0\0FileDesc";
pub(super) const SLICES: &[u8; 16] = b"PAR 2.0\0IFSC\0\0\0\0";
pub(super) const RECOVERY: &[u8; 16] = b"PAR 2.0\0RecvSlic";
pub(super) const CREATOR: &[u8; 16] = b"PAR 2.0\0Creator\0";

pub(super) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// A packet whose own MD5 is right.
pub(super) struct Packet<'b> {
    pub set: &'b [u8],
    pub kind: &'b [u8],
    pub body: &'b [u8],
}

/// Appends a packet; `body` has a multiple of 4 bytes.
pub(super) fn write(out: &mut Vec<u8>, set: &[u8; 16], kind: &[u8; 16], body: &[&[u8]]) {
    let len = HEADER_BYTES + body.iter().map(|part| part.len()).sum::<usize>();
    let mut hash = Md5::new();
    hash.update(set);
    hash.update(kind);
    body.iter().for_each(|part| hash.update(part));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(len as u64).to_le_bytes());
    out.extend_from_slice(&<[u8; 16]>::from(hash.finalize()));
    out.extend_from_slice(set);
    out.extend_from_slice(kind);
    body.iter().for_each(|part| out.extend_from_slice(part));
}

/// Every whole packet, and whether there was nothing but whole packets.
pub(super) fn read(bytes: &[u8]) -> (Vec<Packet<'_>>, bool) {
    let (mut packets, mut clean, mut at) = (Vec::new(), true, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match first(rest) {
            Some((packet, len)) => {
                packets.push(packet);
                at += len;
            }
            None => {
                clean = false;
                let next = rest.get(1..).and_then(|rest| rest.windows(MAGIC.len()).position(|part| part == MAGIC));
                at = next.map_or(bytes.len(), |next| at + 1 + next);
            }
        }
    }
    (packets, clean)
}

fn first(bytes: &[u8]) -> Option<(Packet<'_>, usize)> {
    let len = usize::try_from(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?)).ok()?;
    let packet = bytes.get(..len).filter(|p| p.starts_with(MAGIC) && len >= HEADER_BYTES && len % 4 == 0)?;
    if md5(packet.get(32..)?).as_slice() != packet.get(16..32)? {
        return None;
    }
    Some((Packet { set: packet.get(32..48)?, kind: packet.get(48..64)?, body: packet.get(64..)? }, len))
}

/// CRC-32 of ISO-HDLC, of `bytes` and then `zeros` zeros.
pub(super) fn crc32(table: &[u32; 256], bytes: &[u8], zeros: usize) -> u32 {
    let step = |crc: u32, byte: u8| table.get(usize::from(crc as u8 ^ byte)).copied().unwrap_or_default() ^ (crc >> 8);
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| step(crc, *byte));
    !(0..zeros).fold(crc, |crc, _| step(crc, 0))
}

pub(super) fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    for (n, slot) in (0_u32..).zip(&mut table) {
        *slot = (0..8).fold(n, |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 });
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(crc32(&crc_table(), b"123456789", 0), 0xCBF4_3926);
        assert_eq!(crc32(&crc_table(), b"1234", 2), crc32(&crc_table(), b"1234\0\0", 0));
    }
}
