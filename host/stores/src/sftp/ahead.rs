//! Reading ahead, for callers that go through a large object piece by piece: a scrub, a repair, a copy to another store.
//!
//! A piece of a MiB costs two round trips, which on a long link is more than its bytes. The second piece in a row of an object
//! brings the next [`AHEAD_BYTES`] with it, over all connections.

use super::link::lock;
use havun_vault::store::{ObjectName, StoreError};
use std::{collections::VecDeque, sync::Mutex};

/// Read at a time, at most, and kept until it is asked for.
const AHEAD_BYTES: u64 = 16 << 20;
/// Objects that are gone through at the same time.
const OBJECTS: usize = 4;

/// What was read and not yet asked for.
#[derive(Default)]
pub(super) struct Ahead(Mutex<VecDeque<Window>>);

/// A place in an object that somebody goes through.
struct Window {
    name: ObjectName,
    /// Where the last piece ended.
    next: u64,
    /// Of the object; `None` until it was asked for.
    size: Option<u64>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn copy(&mut self, offset: u64, buf: &mut [u8]) -> bool {
        let start = offset.checked_sub(self.start).and_then(|start| usize::try_from(start).ok());
        let part = start.and_then(|start| self.bytes.get(start..start.checked_add(buf.len())?));
        let Some(part) = part else { return false };
        buf.copy_from_slice(part);
        self.next = offset + buf.len() as u64;
        true
    }

    fn is_used_up(&self) -> bool {
        self.size.is_some_and(|size| self.next >= size)
    }
}

impl Ahead {
    /// Reads a piece: from what is there, together with what comes after it where pieces follow each other, or by itself.
    /// An error of what nobody has asked for is nobody's error.
    pub fn read(
        &self,
        name: &ObjectName,
        offset: u64,
        buf: &mut [u8],
        size: impl FnOnce() -> Result<Option<u64>, StoreError>,
        read: impl Fn(u64, &mut [u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let end = offset.saturating_add(buf.len() as u64);
        let mut window = self.take(name).unwrap_or(Window { name: name.clone(), next: u64::MAX, size: None, start: 0, bytes: Vec::new() });
        if !window.copy(offset, buf) {
            window.bytes = Vec::new();
            if window.next == offset {
                window.size = window.size.or(size()?);
                let len = window.size.unwrap_or(0).saturating_sub(offset).min(AHEAD_BYTES);
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                if bytes.len() > buf.len() && read(offset, &mut bytes).is_ok() {
                    (window.start, window.bytes) = (offset, bytes);
                }
            }
            if !window.copy(offset, buf) {
                read(offset, buf)?;
                window.next = end;
            }
        }
        if !window.is_used_up() {
            self.keep(window);
        }
        Ok(())
    }

    fn take(&self, name: &ObjectName) -> Option<Window> {
        let mut windows = lock(&self.0);
        let at = windows.iter().position(|window| window.name == *name)?;
        windows.remove(at)
    }

    fn keep(&self, window: Window) {
        let mut windows = lock(&self.0);
        windows.push_back(window);
        while windows.len() > OBJECTS {
            windows.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn through(object: &[u8], pieces: &[(u64, usize)], bad_from: u64) -> Vec<(u64, usize)> {
        let (ahead, asked, name) = (Ahead::default(), RefCell::new(Vec::new()), ObjectName::new("a").unwrap());
        for (offset, len) in pieces {
            let mut buf = vec![0; *len];
            let read = |at: u64, buf: &mut [u8]| {
                asked.borrow_mut().push((at, buf.len()));
                let range = at as usize..at as usize + buf.len();
                if range.end as u64 > bad_from {
                    return Err(StoreError::Void);
                }
                buf.copy_from_slice(&object[range]);
                Ok(())
            };
            ahead.read(&name, *offset, &mut buf, || Ok(Some(object.len() as u64)), read).unwrap();
            assert_eq!(buf, object[*offset as usize..*offset as usize + len]);
        }
        assert!(ahead.0.lock().unwrap().iter().all(|window| window.bytes.is_empty() || window.next < object.len() as u64));
        asked.into_inner()
    }

    #[test]
    fn pieces_in_a_row_are_read_together_and_others_are_not() {
        let object: Vec<u8> = (0..100).collect();
        assert_eq!(through(&object, &[(0, 10), (10, 10), (20, 30), (50, 50)], 100), [(0, 10), (10, 90)]);
        assert_eq!(through(&object, &[(50, 10), (10, 10), (90, 10)], 100), [(50, 10), (10, 10), (90, 10)]);
        assert_eq!(through(&object, &[(0, 10), (10, 10), (5, 10)], 100), [(0, 10), (10, 90), (5, 10)]);
    }

    #[test]
    fn damage_further_on_is_no_error_of_the_piece_before_it() {
        let object: Vec<u8> = (0..100).collect();
        assert_eq!(through(&object, &[(0, 10), (10, 10), (20, 10)], 50), [(0, 10), (10, 90), (10, 10), (20, 80), (20, 10)]);
    }
}
