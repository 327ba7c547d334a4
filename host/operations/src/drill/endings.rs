//! Whether a file of a well-known format ends where it should: an upload that was cut off is whole as far as its backup
//! can tell, and useless all the same. Pure, and sure of what it says: a file that only might be cut off is not accused.

/// How many bytes from the start are looked at.
pub(super) const HEAD: usize = 64;
/// How many bytes from the end are looked at: the longest comment of a ZIP file, and its end record.
pub(super) const TAIL: usize = 65_536 + 22;

/// Why a file is cut off, if it is. `tail` is its last [`TAIL`] bytes, or all of it.
pub(super) fn cut_off(head: &[u8], tail: &[u8], size: u64) -> Option<&'static str> {
    match head {
        [b'%', b'P', b'D', b'F', b'-', ..] => absent(last(tail, 4096), b"%%EOF").then_some("a PDF without its end (%%EOF)"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => {
            absent(tail, b"IEND").then_some("a PNG image without its last chunk (IEND)")
        }
        [0xff, 0xd8, 0xff, ..] => absent(tail, &[0xff, 0xd9]).then_some("a JPEG image without its end marker"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => absent(last(tail, 1024), &[0x3b]).then_some("a GIF image without its trailer"),
        [b'P', b'K', 3, 4, ..] => absent(tail, b"PK\x05\x06").then_some("a ZIP archive (or office document) without its directory"),
        [b'R', b'I', b'F', b'F', a, b, c, d, ..] => {
            (size < 8 + u64::from(u32::from_le_bytes([*a, *b, *c, *d]))).then_some("a RIFF file (WebP, WAV, AVI) shorter than it says")
        }
        [b'S', b'Q', b'L', b'i', b't', b'e', b' ', b'f', b'o', b'r', b'm', b'a', b't', b' ', b'3', 0, ..] => sqlite(head, size),
        [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c, _, _, _, _, _, _, rest @ ..] => seven_zip(rest, size),
        _ => None,
    }
}

fn last(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(count)..).unwrap_or(bytes)
}

fn absent(bytes: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::rfind(bytes, mark).is_none()
}

/// Page size at 16, number of pages at 28, valid where the change counters at 24 and 92 agree (SQLite file format, 1.3);
/// the second is beyond the head, so only a file of fewer bytes than half of what it says is accused.
fn sqlite(head: &[u8], size: u64) -> Option<&'static str> {
    let number = |at: usize, len: usize| head.get(at..at + len).map(|bytes| bytes.iter().fold(0u64, |sum, b| (sum << 8) | u64::from(*b)));
    let page = match number(16, 2)? {
        1 => 65_536,
        page => page,
    };
    let pages = number(28, 4)?;
    (pages > 0 && size.saturating_mul(2) < page.saturating_mul(pages)).then_some("a SQLite database shorter than it says")
}

/// Offset and size of the last header follow the start header's checksum.
fn seven_zip(rest: &[u8], size: u64) -> Option<&'static str> {
    let number = |at: usize| rest.get(at..at + 8).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let end = 32u64.saturating_add(number(0)?).saturating_add(number(8)?);
    (size < end).then_some("a 7z archive shorter than it says")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(bytes: &[u8]) -> Option<&'static str> {
        cut_off(bytes.get(..HEAD).unwrap_or(bytes), last(bytes, TAIL), bytes.len() as u64)
    }

    fn whole() -> Vec<(&'static str, Vec<u8>)> {
        let filler = |head: &[u8], tail: &[u8]| [head, &[b'x'; 5000], tail].concat();
        let riff = [b"RIFF".as_slice(), &5004u32.to_le_bytes(), b"WEBP", &[b'x'; 5000]].concat();
        let seven =
            [b"7z\xbc\xaf\x27\x1c\x00\x04crc.".as_slice(), &5000u64.to_le_bytes(), &4u64.to_le_bytes(), b"crc.", &[b'x'; 5004]].concat();
        vec![
            ("PDF", filler(b"%PDF-1.7\n", b"startxref\n9\n%%EOF\n")),
            ("PNG", filler(b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82")),
            ("JPEG", filler(b"\xff\xd8\xff\xe0", b"\xff\xd9")),
            ("GIF", filler(b"GIF89a", b"\x3b")),
            ("ZIP", filler(b"PK\x03\x04", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")),
            ("RIFF", riff),
            ("7z", seven),
        ]
    }

    #[test]
    fn whole_files_pass_and_halves_of_them_do_not() {
        for (name, bytes) in whole() {
            assert_eq!(judge(&bytes), None, "{name}");
            assert!(judge(&bytes[..bytes.len() / 2]).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_accused() {
        for bytes in [b"".as_slice(), b"P", b"plain text", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"\xff\xd8", b"%PDX-"] {
            assert_eq!(judge(bytes), None);
        }
    }
}
