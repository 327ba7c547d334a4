//! Paths of the manifest: raw bytes with `/` between components, their order, and their reversible text form.

use sha2::{Digest as _, Sha256};
use std::{borrow::Cow, cmp::Ordering};

/// A text or byte string that is no manifest path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `\` is followed by neither `\` nor `x` and two hex digits.
    #[error("a backslash in it begins no escape")]
    Escape,
    /// Empty, absolute, with an empty component, `.`, `..` or a zero byte.
    #[error("it is empty, absolute, or has a component that is empty, `.`, `..` or holds a zero byte")]
    Component,
}

/// Path order: component by component, by bytes; `/` sorts before every other byte, so that what is in a folder
/// follows it at once.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    match a.iter().zip(b).find(|(x, y)| x != y) {
        Some((x, y)) => rank(x).cmp(&rank(y)),
        None => a.len().cmp(&b.len()),
    }
}

/// Whether `path` is `folder` or lies beneath it; every path lies beneath the empty one.
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
}

/// Checks that `path` stays beneath the folder that it is resolved in.
///
/// # Errors
/// [`PathError::Component`].
pub fn check_path(path: &[u8]) -> Result<(), PathError> {
    let bad = |c: &[u8]| matches!(c, b"" | b"." | b"..") || c.contains(&0);
    if path.split(|b| *b == b'/').any(bad) { Err(PathError::Component) } else { Ok(()) }
}

/// The text form: UTF-8 stays, a backslash doubles, any other byte becomes `\xNN`.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\\') => Cow::Borrowed(text),
        _ => Cow::Owned(escape_slowly(bytes)),
    }
}

fn escape_slowly(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            if c == '\\' {
                text.push('\\');
            }
            text.push(c);
        }
        for byte in part.invalid() {
            text.push_str("\\x");
            text.push_str(&hex::encode([*byte]));
        }
    }
    text
}

/// The bytes of a text form.
///
/// # Errors
/// [`PathError::Escape`].
pub fn unescape(text: &str) -> Result<Vec<u8>, PathError> {
    if !text.contains('\\') {
        return Ok(text.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('\\');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    while let Some(part) = parts.next() {
        if part.is_empty() {
            // Two backslashes: the second one ends this empty part and begins the next.
            bytes.push(b'\\');
            bytes.extend_from_slice(parts.next().ok_or(PathError::Escape)?.as_bytes());
            continue;
        }
        let (digits, rest) = part.strip_prefix('x').and_then(|p| p.split_at_checked(2)).ok_or(PathError::Escape)?;
        bytes.extend(hex::decode(digits).map_err(|_| PathError::Escape)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Ok(bytes)
}

/// First eight bytes (little-endian) of the SHA-256 of a path's text form: cuts the manifest into leaves.
pub fn path_hash(text: &str) -> u64 {
    first_word(text.as_bytes())
}

/// Names a group of hard links in the file-state cache: like [`path_hash`], but over the raw bytes and never 0.
pub fn link_hash(path: &[u8]) -> u64 {
    first_word(path).max(1)
}

fn first_word(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let mut word = [0; 8];
    word.iter_mut().zip(digest.as_slice()).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_folder_is_followed_by_what_is_in_it() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/b", b"a", b"a/b/c", b"a\x01", b"B", b"a/a"];
        paths.sort_by(|a, b| compare_paths(a, b));
        assert_eq!(paths, [b"B".as_slice(), b"a", b"a/a", b"a/b", b"a/b/c", b"a\x01", b"a-b"]);
    }

    #[test]
    fn only_paths_that_stay_beneath_pass() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert!(check_path(bad.as_bytes()).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "...", "a/..b", ".a", " "] {
            assert!(check_path(good.as_bytes()).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn escapes_are_the_documented_ones() {
        assert_eq!(escape(b"caf\xc3\xa9"), "café");
        assert_eq!(escape(b"caf\xe9\\n"), r"caf\xe9\\n");
        assert_eq!(unescape(r"caf\xe9\\n"), Ok(b"caf\xe9\\n".to_vec()));
        for bad in ["\\", "a\\", "\\n", "\\x", "\\x1", "\\xzz", "\\\\\\", "\\x€"] {
            assert_eq!(unescape(bad), Err(PathError::Escape), "{bad:?}");
        }
    }

    #[test]
    fn within_asks_for_whole_components() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"x", b""));
        assert!(!is_within(b"ab", b"a") && !is_within(b"a", b"a/b"));
    }

    proptest! {
        #[test]
        fn any_bytes_survive_their_text(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(unescape(&escape(&bytes)), Ok(bytes));
        }

        #[test]
        fn biased_bytes_survive_their_text(bytes in proptest::collection::vec(prop_oneof![Just(b'\\'), Just(b'x'), Just(b'4'), Just(0xe9), Just(0xc3), Just(0xa9)], 0..24)) {
            prop_assert_eq!(unescape(&escape(&bytes)), Ok(bytes));
        }

        #[test]
        fn unescape_never_panics(text in any::<String>()) {
            let _either = unescape(&text);
        }

        #[test]
        fn path_order_is_the_order_of_components(a in "[-ab./]{0,8}", b in "[-ab./]{0,8}") {
            let parts = |p: &str| p.split('/').map(|c| c.as_bytes().to_vec()).collect::<Vec<_>>();
            if check_path(a.as_bytes()).is_ok() && check_path(b.as_bytes()).is_ok() {
                prop_assert_eq!(compare_paths(a.as_bytes(), b.as_bytes()), parts(&a).cmp(&parts(&b)));
            }
        }
    }
}
