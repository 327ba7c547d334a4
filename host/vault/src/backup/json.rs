//! JSON stores: files that a program rewrites in place, and that are worth something only as a whole.
//!
//! Such a file is stored when it parses. One that does not is read again a few times with growing pauses, because it
//! was probably being written; in the end it is stored as it is and marked torn.

use crate::entry::{Entry, EntryKind};
use serde::de::IgnoredAny;
use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _},
    sync::Arc,
    time::Duration,
};

/// A file that does not parse is read this many times.
pub(super) const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Some editors begin a file with it; parsers that programs use skip it.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Waits between two attempts.
pub type Pause = Arc<dyn Fn(Duration) + Send + Sync>;

/// The length of the pause after the `attempt`th attempt (from 1).
pub(super) fn pause_after(attempt: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(8))
}

/// Whether an entry is one whose content can be parsed as it is read: a regular file without holes.
pub(super) fn applies(entry: &Entry) -> bool {
    entry.kind == EntryKind::File && entry.sparse.is_none()
}

/// What is wrong with a text; `None` when it is one JSON value.
pub(super) fn fault(text: &[u8]) -> Option<String> {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    serde_json::from_slice::<IgnoredAny>(text).err().map(|error| describe(&error))
}

/// Likewise for a whole file, which is left at its beginning.
pub(super) fn fault_of(mut file: &File) -> io::Result<Option<String>> {
    file.rewind()?;
    let mut head = [0; 3];
    let got = file.take(3).read(&mut head)?;
    if head.get(..got) != Some(BOM) {
        file.rewind()?;
    }
    let parsed = serde_json::from_reader::<_, IgnoredAny>(BufReader::with_capacity(1 << 16, file));
    file.rewind()?;
    match parsed {
        Ok(_) => Ok(None),
        Err(error) if error.is_io() => Err(error.into()),
        Err(error) => Ok(Some(describe(&error))),
    }
}

fn describe(error: &serde_json::Error) -> String {
    format!("it is no whole JSON text ({error}); stored as it was read last")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_cut_short_is_found_in_memory_and_on_disk() {
        let whole = format!("{{\"list\":[{}1]}}", "1,".repeat(100_000));
        let mut file = tempfile::tempfile().unwrap();
        for (text, good) in
            [(whole.as_str(), true), (&whole[..whole.len() - 1], false), ("", false), ("{}\n", true), ("\u{feff}[]", true), ("{} x", false)]
        {
            assert_eq!(fault(text.as_bytes()).is_none(), good, "{:.20}", text);
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            assert_eq!(fault_of(&file).unwrap().is_none(), good, "{:.20}", text);
            assert_eq!(file.stream_position().unwrap(), 0);
        }
    }

    #[test]
    fn nesting_without_end_is_no_way_to_stop_a_backup() {
        assert!(fault("[".repeat(1_000_000).as_bytes()).is_some());
    }
}
