//! GF(2^16) as PAR2 has it: words of 16 bits, little endian, modulo 0x1100B.

const POLYNOMIAL: u32 = 0x1_100B;
const ORDER: usize = 65_535;

/// Logarithms to the base 2 and powers of 2.
pub(super) struct Field {
    log: Vec<u16>,
    power: Vec<u16>,
}

/// What every byte of a word becomes when the word is multiplied by one number.
pub(super) struct Factor {
    low: [u16; 256],
    high: [u16; 256],
}

impl Field {
    pub fn new() -> Self {
        let (mut log, mut power) = (vec![0; ORDER + 1], Vec::with_capacity(ORDER));
        let mut value = 1_u32;
        for exponent in 0..ORDER {
            power.push(value as u16);
            if let Some(slot) = log.get_mut(value as usize) {
                *slot = exponent as u16;
            }
            value <<= 1;
            if value > 0xFFFF {
                value ^= POLYNOMIAL;
            }
        }
        Self { log, power }
    }

    fn log(&self, value: u16) -> usize {
        self.log.get(usize::from(value)).copied().unwrap_or_default().into()
    }

    fn exp(&self, exponent: usize) -> u16 {
        self.power.get(exponent % ORDER).copied().unwrap_or_default()
    }

    pub fn mul(&self, a: u16, b: u16) -> u16 {
        if a == 0 || b == 0 { 0 } else { self.exp(self.log(a) + self.log(b)) }
    }

    /// Of a number that is not 0.
    pub fn inverse(&self, a: u16) -> u16 {
        self.exp(ORDER - self.log(a))
    }

    pub fn pow(&self, a: u16, exponent: u32) -> u16 {
        if a == 0 { u16::from(exponent == 0) } else { self.exp((self.log(a) as u64 * u64::from(exponent) % ORDER as u64) as usize) }
    }

    /// The bases of the first `count` slices: powers of 2 whose exponent shares no factor with 65535.
    pub fn bases(&self, count: usize) -> Vec<u16> {
        let fit = |n: &usize| n % 3 != 0 && n % 5 != 0 && n % 17 != 0 && n % 257 != 0;
        (1..ORDER).filter(fit).take(count).map(|n| self.exp(n)).collect()
    }

    pub fn factor(&self, by: u16) -> Factor {
        let mut factor = Factor { low: [0; 256], high: [0; 256] };
        for (byte, (low, high)) in (0_u16..).zip(factor.low.iter_mut().zip(&mut factor.high)) {
            (*low, *high) = (self.mul(byte, by), self.mul(byte << 8, by));
        }
        factor
    }

    /// Solves `matrix · x = right` where `right` is the unit matrix: the inverse; `None` where there is none.
    pub fn invert(&self, mut matrix: Vec<Vec<u16>>) -> Option<Vec<Vec<u16>>> {
        let size = matrix.len();
        for (n, row) in matrix.iter_mut().enumerate() {
            row.extend((0..size).map(|m| u16::from(m == n)));
        }
        for column in 0..size {
            let pivot = (column..size).find(|n| matrix.get(*n).and_then(|row| row.get(column)).is_some_and(|v| *v != 0))?;
            matrix.swap(column, pivot);
            let scale = self.inverse(*matrix.get(column)?.get(column)?);
            matrix.get_mut(column)?.iter_mut().for_each(|v| *v = self.mul(*v, scale));
            let pivot_row = matrix.get(column)?.clone();
            for (n, row) in matrix.iter_mut().enumerate() {
                let by = row.get(column).copied().unwrap_or_default();
                if n != column && by != 0 {
                    row.iter_mut().zip(&pivot_row).for_each(|(v, p)| *v ^= self.mul(*p, by));
                }
            }
        }
        Some(matrix.into_iter().map(|row| row.get(size..).unwrap_or_default().to_vec()).collect())
    }
}

impl Factor {
    /// `out += self · input`, word by word. A last odd byte of `input` counts as a word with a zero behind it.
    pub fn add_to(&self, out: &mut [u8], input: &[u8]) {
        let at = |table: &[u16; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
        // The last slice of a file may be shorter than what it is added to.
        let eights = out.len().min(input.len()) / 8 * 8;
        let (out, out_rest) = out.split_at_mut(eights);
        let (input, rest) = input.split_at(eights);
        for (out, input) in out.chunks_exact_mut(8).zip(input.chunks_exact(8)) {
            if let (&mut [a, b, c, d, e, f, g, h], &[i, j, k, l, m, n, o, p]) = (&mut *out, input) {
                let now = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                let words = [at(&self.low, i) ^ at(&self.high, j), at(&self.low, k) ^ at(&self.high, l)];
                let more = [at(&self.low, m) ^ at(&self.high, n), at(&self.low, o) ^ at(&self.high, p)];
                let [w0, w1] = words.map(u64::from);
                let [w2, w3] = more.map(u64::from);
                out.copy_from_slice(&(now ^ (w0 | w1 << 16 | w2 << 32 | w3 << 48)).to_le_bytes());
            }
        }
        for (out, input) in out_rest.chunks_mut(2).zip(rest.chunks(2)) {
            let low = input.first().copied().unwrap_or_default();
            let high = input.get(1).copied().unwrap_or_default();
            let word = (at(&self.low, low) ^ at(&self.high, high)).to_le_bytes();
            out.iter_mut().zip(word).for_each(|(out, byte)| *out ^= byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_field() {
        let field = Field::new();
        for a in [1, 2, 3, 0x100B, 0x8000, 0xFFFF] {
            assert_eq!(field.mul(a, field.inverse(a)), 1);
            assert_eq!(field.mul(a, field.mul(a, a)), field.pow(a, 3));
            let mut out = [0; 10];
            let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
            field.factor(a).add_to(&mut out, &bytes);
            assert_eq!(u16::from_le_bytes([out[0], out[1]]), field.mul(a, 0x0201));
            assert_eq!(u16::from_le_bytes([out[8], out[9]]), field.mul(a, 9));
            let mut longer = [0; 32];
            field.factor(a).add_to(&mut longer, &bytes);
            assert_eq!(longer[..10], out);
            assert_eq!(longer[10..], [0; 22]);
        }
        assert_eq!(field.mul(0x8000, 2), 0x100B);
        assert_eq!(field.bases(4), [2, 4, 16, 128]);
    }
}
