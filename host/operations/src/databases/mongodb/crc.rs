//! CRC-64 as an archive has it for each collection: the polynomial of ECMA-182, reflected.

const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;

static TABLE: [u64; 256] = table();

#[expect(clippy::indexing_slicing, reason = "a const table of 256")]
const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut value = n as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
}

/// The sum of what came before and `bytes`; the sum of nothing is 0.
pub(super) fn add(sum: u64, bytes: &[u8]) -> u64 {
    !bytes.iter().fold(!sum, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default() ^ (sum >> 8)
    })
}

#[cfg(test)]
#[test]
fn the_published_check_value_comes_out() {
    assert_eq!(add(add(0, b"12345"), b"6789"), 0x995D_C9BB_DF19_39FA);
    assert_eq!(add(0, b""), 0);
}
