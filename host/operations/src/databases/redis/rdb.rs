//! An RDB file on its way by: its head, its end mark and its CRC-64.
//!
//! The head names the moment and the server's memory, which differ in two dumps of the same data. Those fields are of
//! no use to a restore and are left out, with the checksum made anew, so that an unchanged data set gives the same bytes.
//! (Format: `rdb.h` and `rdb.c` of Redis. Checksum: CRC-64/Jones, as `crc64.c` there.)

use super::super::DatabaseError;
use std::io::Write;

/// The polynomial 0xad93d23594c935a9, its bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
const TABLE: [u64; 256] = table();
/// Begins a field of the head.
const AUX: u8 = 0xfa;
/// Ends the file, before its checksum.
const EOF: u8 = 0xff;
/// The longest head, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// Fields of the head that say nothing of the data.
const MOMENT: [&[u8]; 6] = [b"ctime", b"used-mem", b"repl-stream-db", b"repl-id", b"repl-offset", b"aof-base"];

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

fn crc64(mut crc: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        let index = usize::from((crc as u8) ^ byte);
        crc = TABLE.get(index).copied().unwrap_or_default() ^ (crc >> 8);
    }
    crc
}

/// Passes an RDB file on, and says at its end whether it was whole.
pub(super) struct Check<'a> {
    out: &'a mut (dyn Write + Send),
    /// The head while it is not complete; `None` afterwards.
    head: Option<Vec<u8>>,
    /// The last nine bytes: they may be the end mark and the checksum.
    tail: Vec<u8>,
    came: u64,
    goes: u64,
    version: String,
}

impl<'a> Check<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self { out, head: Some(Vec::new()), tail: Vec::new(), came: 0, goes: 0, version: String::new() }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        let Some(mut head) = self.head.take() else { return self.body(bytes) };
        head.extend_from_slice(bytes);
        match Head::read(&head)? {
            Some(read) => {
                self.version = read.version;
                let (own, rest) = head.split_at_checked(read.length).unwrap_or((head.as_slice(), &[]));
                self.came = crc64(self.came, own);
                self.put(&read.kept)?;
                self.body(rest)
            }
            None if head.len() > LONGEST_HEAD => Err(broken("its head does not end")),
            None => {
                self.head = Some(head);
                Ok(())
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        self.goes = crc64(self.goes, bytes);
        self.out.write_all(bytes).map_err(DatabaseError::Sink)
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        self.tail.extend_from_slice(bytes);
        let ready = self.tail.len().saturating_sub(9);
        let passed: Vec<u8> = self.tail.drain(..ready).collect();
        self.came = crc64(self.came, &passed);
        self.put(&passed)
    }

    /// The version of the format, when all of it has passed.
    ///
    /// # Errors
    /// [`DatabaseError::Truncated`] when the end mark is missing or the checksum is another.
    pub(super) fn finish(mut self) -> Result<String, DatabaseError> {
        let tail: [u8; 9] = std::mem::take(&mut self.tail).try_into().map_err(|_| broken("it ends within its head"))?;
        let [EOF, checksum @ ..] = tail else { return Err(broken("its end mark is missing")) };
        let (stored, found) = (u64::from_le_bytes(checksum), crc64(self.came, &[EOF]));
        if stored != 0 && stored != found {
            return Err(broken("its checksum is another than it says"));
        }
        self.put(&[EOF])?;
        let own = if stored == 0 { 0 } else { self.goes };
        self.out.write_all(&own.to_le_bytes()).map_err(DatabaseError::Sink)?;
        Ok(self.version)
    }
}

fn broken(what: &str) -> DatabaseError {
    DatabaseError::Truncated { what: format!("{what} (RDB)") }
}

struct Head {
    version: String,
    length: usize,
    kept: Vec<u8>,
}

impl Head {
    /// `None` while more bytes are needed.
    fn read(bytes: &[u8]) -> Result<Option<Self>, DatabaseError> {
        let Some(magic) = bytes.get(..9) else { return Ok(None) };
        let version = magic.strip_prefix(b"REDIS").and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
        if version.parse::<u32>().is_err() {
            return Err(broken("it begins with other bytes"));
        }
        let (mut at, mut kept) = (9, magic.to_vec());
        loop {
            match bytes.get(at) {
                None => return Ok(None),
                Some(&AUX) => {}
                Some(_) => return Ok(Some(Self { version: version.trim_start_matches('0').to_owned(), length: at, kept })),
            }
            let Some((name, value_at)) = string(bytes, at + 1) else { return Ok(None) };
            let Some((_, next)) = string(bytes, value_at) else { return Ok(None) };
            if !MOMENT.contains(&name) {
                kept.extend_from_slice(bytes.get(at..next).unwrap_or_default());
            }
            at = next;
        }
    }
}

/// The string at `at` (empty for a number) and where the next thing begins.
fn string(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let first = *bytes.get(at)?;
    let big = |from: usize, length: usize| bytes.get(from..from + length).map(|b| b.iter().fold(0usize, |n, b| n << 8 | usize::from(*b)));
    let (begin, length) = match first >> 6 {
        0 => (at + 1, usize::from(first & 0x3f)),
        1 => (at + 2, usize::from(first & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?)),
        2 if first == 0x80 => (at + 5, big(at + 1, 4)?),
        2 => (at + 9, big(at + 1, 8)?),
        // A number of one, two or four bytes.
        _ => {
            let end = at + 1 + (1usize << (first & 0x3f).min(2));
            return bytes.get(end - 1).map(|_| (&[][..], end));
        }
    };
    let end = begin.checked_add(length).filter(|end| *end <= at + LONGEST_HEAD)?;
    Some((bytes.get(begin..end)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(moment: &str, checked: bool) -> Vec<u8> {
        let mut file = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x05ctime".to_vec();
        file.push(u8::try_from(moment.len()).unwrap());
        file.extend_from_slice(moment.as_bytes());
        file.extend_from_slice(b"\xfa\x08used-mem\xc2\x01\x02\x03\x04\xfe\x00\xfb\x01\x00\x00\x01k\x01v\xff");
        let crc = if checked { crc64(0, &file) } else { 0 };
        file.extend_from_slice(&crc.to_le_bytes());
        file
    }

    fn pass(file: &[u8], size: usize) -> Result<Vec<u8>, DatabaseError> {
        let mut out = Vec::new();
        let mut check = Check::new(&mut out);
        for piece in file.chunks(size) {
            check.write(piece)?;
        }
        assert_eq!(check.finish()?, "10");
        Ok(out)
    }

    #[test]
    fn the_checksum_is_that_of_redis() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn what_differs_with_the_moment_is_left_out() {
        for checked in [true, false] {
            let first = pass(&file("1700000000", checked), 1000).unwrap();
            for size in [1, 2, 7, 1000] {
                assert_eq!(pass(&file("1800000001", checked), size).unwrap(), first, "{size}");
            }
            // What is left is whole by its own rules, and stays as it is.
            assert_eq!(pass(&first, 3).unwrap(), first);
            assert!(memchr::memmem::find(&first, b"redis-ver").is_some() && memchr::memmem::find(&first, b"ctime").is_none());
        }
    }

    #[test]
    fn a_file_that_is_cut_or_altered_is_not_whole() {
        let whole = file("1", true);
        for cut in 0..whole.len() {
            assert!(pass(&whole[..cut], 1000).is_err(), "{cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = std::panic::catch_unwind(|| pass(&bad, 1000));
            assert!(read.is_err() || read.is_ok_and(|read| read.is_err()), "bit {bit}");
        }
    }
}
