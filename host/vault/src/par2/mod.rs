//! PAR2 files beside packs: a tenth more bytes, say, from which a tenth of a pack can be made anew. They are of stored
//! bytes, so they need no key, and the `par2` of any distribution checks and repairs with them, without this program:
//! copy the pack and its `.par2` into one folder and run `par2 repair <sha256>.par2`.
//!
//! They help against decay of single blocks. They lie in the same store as the pack and help nothing when that is lost.
//!
//! `field` is the arithmetic, `packet` the file format, `sidecar` writes and finds them in a store.

mod field;
mod packet;
mod sidecar;

pub use sidecar::{ParityOptions, ParityReport, packs_without_parity, remove_orphaned_parity, write_parity};

use field::Field;
use packet::{crc_table, crc32, md5};
use std::collections::BTreeMap;

/// Slices are this large, in bytes, unless the pack is small.
const SLICE_BYTES: usize = 256 << 10;
/// A pack is cut into at least about this many slices, so that a small one needs no parity as large as itself.
const LEAST_SLICES: usize = 64;
const SMALLEST_SLICE: usize = 2 << 10;
/// A PAR2 set has no more slices.
const MOST_SLICES: usize = 32_768;

/// The PAR2 file for `bytes`, which a file of the name `name` holds, with parity of `percent` of it. The same bytes give the
/// same file.
pub fn encode(name: &str, bytes: &[u8], percent: u8, threads: usize) -> Vec<u8> {
    let slice = slice_bytes(bytes.len());
    let slices: Vec<&[u8]> = bytes.chunks(slice).collect();
    let count = (slices.len() * usize::from(percent)).div_ceil(100).clamp(1, MOST_SLICES);
    let name = padded(name.as_bytes());
    let (whole, start) = (md5(bytes), md5(bytes.get(..16 << 10).unwrap_or(bytes)));
    let size = (bytes.len() as u64).to_le_bytes();
    let mut id = start.to_vec();
    id.extend_from_slice(&size);
    id.extend(name.iter().take_while(|b| **b != 0));
    let file_id = md5(&id);
    let main: [&[u8]; 3] = [&(slice as u64).to_le_bytes(), &1_u32.to_le_bytes(), &file_id];
    let set = md5(&main.concat());

    let mut out = Vec::new();
    packet::write(&mut out, &set, packet::MAIN, &main);
    packet::write(&mut out, &set, packet::FILE, &[&file_id, &whole, &start, &size, &name]);
    packet::write(&mut out, &set, packet::SLICES, &[&file_id, &checksums(&slices, slice)]);
    packet::write(&mut out, &set, packet::CREATOR, &[&padded(b"havun-backup")]);
    let recovery = parity(&slices, slice, count, threads);
    for (exponent, part) in (0_u32..).zip(&recovery) {
        packet::write(&mut out, &set, packet::RECOVERY, &[&exponent.to_le_bytes(), part]);
    }
    out
}

fn slice_bytes(len: usize) -> usize {
    let small = len.div_ceil(LEAST_SLICES).clamp(SMALLEST_SLICE, SLICE_BYTES);
    small.max(len.div_ceil(MOST_SLICES)).next_multiple_of(4)
}

fn padded(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    text.resize(text.len().next_multiple_of(4), 0);
    text
}

/// MD5 and CRC-32 of each slice, the last one filled up with zeros.
fn checksums(slices: &[&[u8]], slice: usize) -> Vec<u8> {
    let table = crc_table();
    let mut sums = Vec::with_capacity(slices.len() * 20);
    for part in slices {
        let (md5, crc) = checksum(&table, part, slice);
        sums.extend_from_slice(&md5);
        sums.extend_from_slice(&crc.to_le_bytes());
    }
    sums
}

fn checksum(table: &[u32; 256], part: &[u8], slice: usize) -> ([u8; 16], u32) {
    let mut full = part.to_vec();
    full.resize(slice, 0);
    (md5(&full), crc32(table, part, slice - part.len().min(slice)))
}

/// The recovery slices of the exponents 0 to `count` − 1.
fn parity(slices: &[&[u8]], slice: usize, count: usize, threads: usize) -> Vec<Vec<u8>> {
    let field = Field::new();
    let bases = field.bases(slices.len());
    let mut out = vec![vec![0; slice]; count];
    let rows: Vec<Vec<u16>> = (0_u32..).take(count).map(|e| bases.iter().map(|base| field.pow(*base, e)).collect()).collect();
    add(&field, &mut out, &rows, slices, threads);
    out
}

/// `out[j] += Σ rows[j][i] · slices[i]`, the rows shared out among threads. Bytes are gone through in short runs, so that
/// what is added to stays in the cache.
fn add(field: &Field, out: &mut [Vec<u8>], rows: &[Vec<u16>], slices: &[&[u8]], threads: usize) {
    const RUN: usize = 16 << 10;
    let each = out.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (out, rows) in out.chunks_mut(each).zip(rows.chunks(each)) {
            scope.spawn(move || {
                for (out, row) in out.iter_mut().zip(rows) {
                    let factors: Vec<_> = row.iter().map(|by| (*by != 0).then(|| field.factor(*by))).collect();
                    for (run, target) in out.chunks_mut(RUN).enumerate() {
                        for (factor, slice) in factors.iter().zip(slices).filter_map(|(f, s)| Some((f.as_ref()?, s))) {
                            let from = (run * RUN).min(slice.len());
                            factor.add_to(target, slice.get(from..(from + RUN).min(slice.len())).unwrap_or_default());
                        }
                    }
                }
            });
        }
    });
}

/// What a PAR2 file of one file says.
struct Parity<'b> {
    slice: usize,
    len: usize,
    sums: Vec<(&'b [u8], u32)>,
    recovery: BTreeMap<u32, &'b [u8]>,
}

/// Whether a PAR2 file is whole and is of a file named `name`.
pub(crate) fn is_whole(bytes: &[u8], name: &str) -> bool {
    let (packets, clean) = packet::read(bytes);
    let named =
        |packet: &packet::Packet<'_>| packet.kind == packet::FILE && packet.body.get(56..) == Some(padded(name.as_bytes()).as_slice());
    clean && packets.iter().any(named) && Parity::read(bytes).is_some_and(|parity| !parity.recovery.is_empty())
}

impl<'b> Parity<'b> {
    fn read(bytes: &'b [u8]) -> Option<Self> {
        let (packets, _) = packet::read(bytes);
        let of = |kind: &[u8; 16]| packets.iter().find(|p| p.kind == kind);
        let (main, file, sums) = (of(packet::MAIN)?, of(packet::FILE)?, of(packet::SLICES)?);
        let slice = usize::try_from(u64::from_le_bytes(main.body.get(..8)?.try_into().ok()?)).ok()?;
        let len = usize::try_from(u64::from_le_bytes(file.body.get(48..56)?.try_into().ok()?)).ok()?;
        let one_file = u32::from_le_bytes(main.body.get(8..12)?.try_into().ok()?) == 1;
        if !one_file || slice == 0 || slice % 4 != 0 || slice > 64 << 20 || len.div_ceil(slice) > MOST_SLICES {
            return None;
        }
        let sum = |part: &'b [u8]| Some((part.get(..16)?, u32::from_le_bytes(part.get(16..20)?.try_into().ok()?)));
        let sums: Vec<_> = sums.body.get(16..)?.chunks_exact(20).filter_map(sum).collect();
        let recovery = packets.iter().filter(|p| p.kind == packet::RECOVERY && p.set == main.set);
        let recovery = recovery.filter_map(|p| Some((u32::from_le_bytes(p.body.get(..4)?.try_into().ok()?), p.body.get(4..)?)));
        let recovery = recovery.filter(|(_, part)| part.len() == slice).collect();
        (sums.len() == len.div_ceil(slice)).then_some(Self { slice, len, sums, recovery })
    }
}

/// Makes the whole bytes from damaged copies of them: of each slice the copy whose checksums are right, and the missing
/// ones by parity. `None` where too much is missing. The caller compares the SHA-256 of what comes.
pub fn restore(parity_file: &[u8], copies: &[Vec<u8>], threads: usize) -> Option<Vec<u8>> {
    let parity = Parity::read(parity_file)?;
    let table = crc_table();
    let mut whole = vec![0; parity.len];
    let mut lost = Vec::new();
    for (number, (part, (md5, crc))) in whole.chunks_mut(parity.slice).zip(&parity.sums).enumerate() {
        let from = number * parity.slice;
        let good = copies.iter().filter_map(|copy| copy.get(from..from + part.len())).find(|found| {
            let (found_md5, found_crc) = checksum(&table, found, parity.slice);
            found_crc == *crc && found_md5.as_slice() == *md5
        });
        match good {
            Some(found) => part.copy_from_slice(found),
            None => lost.push(number),
        }
    }
    solve(&parity, &mut whole, &lost, threads).then_some(whole)
}

/// Fills in the slices `lost`, which are zeros in `whole`.
fn solve(parity: &Parity<'_>, whole: &mut [u8], lost: &[usize], threads: usize) -> bool {
    if lost.is_empty() {
        return true;
    }
    let field = Field::new();
    let bases = field.bases(parity.sums.len());
    let exponents: Vec<u32> = parity.recovery.keys().copied().collect();
    // Powers of some bases can depend on each other: another window of exponents then does.
    for window in exponents.windows(lost.len()) {
        let row =
            |e: &u32, of: &[usize]| of.iter().map(|n| field.pow(bases.get(*n).copied().unwrap_or_default(), *e)).collect::<Vec<u16>>();
        let Some(inverse) = field.invert(window.iter().map(|e| row(e, lost)).collect()) else { continue };
        let mut rest: Vec<Vec<u8>> = window.iter().filter_map(|e| parity.recovery.get(e).map(|part| part.to_vec())).collect();
        // What is lost is zero in `whole` and adds nothing.
        let all: Vec<usize> = (0..parity.sums.len()).collect();
        let slices: Vec<&[u8]> = whole.chunks(parity.slice).collect();
        add(&field, &mut rest, &window.iter().map(|e| row(e, &all)).collect::<Vec<_>>(), &slices, threads);
        let mut found = vec![vec![0; parity.slice]; lost.len()];
        add(&field, &mut found, &inverse, &rest.iter().map(Vec::as_slice).collect::<Vec<_>>(), threads);
        for (number, bytes) in lost.iter().zip(found) {
            if let Some(part) = whole.chunks_mut(parity.slice).nth(*number) {
                part.copy_from_slice(bytes.get(..part.len()).unwrap_or_default());
            }
        }
        return true;
    }
    false
}

#[cfg(test)]
mod tests;
