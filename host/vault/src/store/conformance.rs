//! What every store has to hold to, as checks that run against any of them.
//!
//! The checks write to a folder of their own (`conformance-<random>`) and remove it afterwards, unless the store promises
//! that nothing is ever removed. They take the vault's lease, so they belong into a vault folder that no run uses.

use super::{Listed, ObjectName, Published, Store, StoreError, Upload};
use std::{fmt::Debug, time::Duration};

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What the store has to do.
    pub check: &'static str,
    /// What it did instead; `None` where it passed.
    pub problem: Option<String>,
}

type Check = fn(&Ground<'_>) -> Result<(), String>;

const CHECKS: [(&str, Check); 16] = [
    ("what is published reads back the same, whole and in parts", reads_back),
    ("an upload reads back what was written before it is published", upload_reads_back),
    ("an empty object is an object", empty_object),
    ("an object of several megabytes survives", large_object),
    ("a missing object is missing, and no error to remove or list", missing_object),
    ("a range beyond the end is an error, never a short answer", range_beyond_end),
    ("an object above the reader's bound is refused", bounded_read),
    ("the same object published again is already there", same_object_again),
    ("an object is never replaced by another", never_replaced),
    ("an abandoned upload leaves nothing", abandoned_upload),
    ("of several racing publishers of one name exactly one wins", racing_publishers),
    ("a listing shows every object beneath a folder, and no other", listing),
    ("folders are listed", folders),
    ("a removed object is gone, and its name is free", removal),
    ("live uploads survive the removal of stale ones", live_uploads),
    ("one writer at a time, and a later lease fences the earlier", leases),
];

/// Runs every check.
pub fn check(store: &dyn Store) -> Vec<Finding> {
    let ground = match Ground::new(store) {
        Ok(ground) => ground,
        Err(problem) => return vec![Finding { check: "random bytes for a name", problem: Some(problem) }],
    };
    let mut findings: Vec<Finding> = CHECKS.iter().map(|(check, run)| Finding { check, problem: run(&ground).err() }).collect();
    findings.push(Finding { check: "the checks can be cleaned up", problem: ground.clean().err() });
    findings
}

/// The checks that failed, as text.
pub fn problems(store: &dyn Store) -> Vec<String> {
    let failed = check(store).into_iter().filter_map(|finding| Some(format!("{}: {}", finding.check, finding.problem?)));
    failed.collect()
}

/// A folder of a store for ourselves.
struct Ground<'s> {
    store: &'s dyn Store,
    folder: String,
}

impl<'s> Ground<'s> {
    fn new(store: &'s dyn Store) -> Result<Self, String> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
        Ok(Self { store, folder: format!("conformance-{}", hex::encode(bytes)) })
    }

    fn name(&self, rest: &str) -> Result<ObjectName, String> {
        said(ObjectName::new(format!("{}/{rest}", self.folder)))
    }

    fn upload(&self, bytes: &[u8]) -> Result<Box<dyn Upload + 's>, String> {
        let mut upload = said(self.store.begin())?;
        for part in bytes.chunks(700_001) {
            said(upload.write(part))?;
        }
        Ok(upload)
    }

    fn put(&self, rest: &str, bytes: &[u8]) -> Result<ObjectName, String> {
        let name = self.name(rest)?;
        same("publish", said(self.upload(bytes)?.publish(&name))?, Published::New)?;
        Ok(name)
    }

    fn holds(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), String> {
        same("size", said(self.store.size(name))?, Some(bytes.len() as u64))?;
        let found = said(self.store.read(name, bytes.len() as u64))?;
        if found == bytes { Ok(()) } else { Err(format!("{name} holds other bytes than were written")) }
    }

    fn list(&self, rest: &str) -> Result<Vec<Listed>, String> {
        said(self.store.list(&format!("{}{rest}", self.folder)))
    }

    fn clean(&self) -> Result<(), String> {
        if !self.store.promises().removes {
            return Ok(());
        }
        for object in self.list("")? {
            said(self.store.remove(&object.name))?;
        }
        if self.list("")?.is_empty() { Ok(()) } else { Err("objects are still listed after their removal".to_owned()) }
    }
}

fn said<T>(result: Result<T, StoreError>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, expected {expected:?}")) }
}

fn refused<T>(what: &str, result: Result<T, StoreError>, right: impl Fn(&StoreError) -> bool) -> Result<(), String> {
    match result {
        Err(error) if right(&error) => Ok(()),
        Err(error) => Err(format!("{what} fails in another way: {error}")),
        Ok(_) => Err(format!("{what} succeeds")),
    }
}

/// Bytes that repeat late, so that swapped parts show.
fn pattern(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
}

fn reads_back(ground: &Ground<'_>) -> Result<(), String> {
    let bytes = pattern(70_000);
    let name = ground.put("reads-back/object", &bytes)?;
    ground.holds(&name, &bytes)?;
    for (offset, len) in [(0, 1), (0, 70_000), (69_999, 1), (4095, 4098), (70_000, 0)] {
        let mut part = vec![0; len];
        said(ground.store.read_range(&name, offset as u64, &mut part))?;
        same("range", Some(part.as_slice()), bytes.get(offset..offset + len))?;
    }
    Ok(())
}

fn upload_reads_back(ground: &Ground<'_>) -> Result<(), String> {
    let mut upload = ground.upload(b"first ")?;
    let mut part = [0; 4];
    said(upload.read_back(2, &mut part))?;
    same("part", &part, b"rst ")?;
    said(upload.write(b"second"))?;
    said(upload.read_back(4, &mut part))?;
    same("part after more was written", &part, b"t se")?;
    refused("reading beyond what was written", upload.read_back(9, &mut part), |e| matches!(e, StoreError::Short { .. }))?;
    let name = ground.name("upload-reads-back")?;
    same("publish", said(upload.publish(&name))?, Published::New)?;
    ground.holds(&name, b"first second")
}

fn empty_object(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.put("empty", b"")?;
    ground.holds(&name, b"")
}

fn large_object(ground: &Ground<'_>) -> Result<(), String> {
    let bytes = pattern(5_000_003);
    let name = ground.put("large", &bytes)?;
    ground.holds(&name, &bytes)
}

fn missing_object(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.name("missing/object")?;
    same("size", said(ground.store.size(&name))?, None)?;
    refused("reading it", ground.store.read(&name, 10), |e| matches!(e, StoreError::NotFound { .. }))?;
    refused("reading a part of it", ground.store.read_range(&name, 0, &mut [0]), |e| matches!(e, StoreError::NotFound { .. }))?;
    said(ground.store.remove(&name))?;
    same("listing", ground.list("/missing")?, Vec::new())?;
    same("folders", said(ground.store.folders(&format!("{}/missing", ground.folder)))?, Vec::new())
}

fn range_beyond_end(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.put("range", b"0123456789")?;
    for (offset, len) in [(0, 11), (9, 2), (10, 1), (11, 1), (u64::MAX - 1, 4)] {
        let mut part = vec![0; len];
        let read = ground.store.read_range(&name, offset, &mut part);
        refused(&format!("reading {len} bytes at {offset} of 10"), read, |e| matches!(e, StoreError::Short { .. }))?;
    }
    Ok(())
}

fn bounded_read(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.put("bounded", b"0123456789")?;
    refused("reading 10 bytes with a bound of 9", ground.store.read(&name, 9), |e| matches!(e, StoreError::TooLarge { .. }))
}

fn same_object_again(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.put("again", b"content")?;
    same("publish", said(ground.upload(b"content")?.publish(&name))?, Published::AlreadyThere)?;
    ground.holds(&name, b"content")
}

fn never_replaced(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.put("kept", b"content")?;
    refused("publishing over it", ground.upload(b"other")?.publish(&name), |e| matches!(e, StoreError::Conflict { .. }))?;
    ground.holds(&name, b"content")
}

fn abandoned_upload(ground: &Ground<'_>) -> Result<(), String> {
    let before = said(ground.store.list(""))?.len();
    drop(ground.upload(b"content")?);
    same("number of objects", said(ground.store.list(""))?.len(), before)
}

fn racing_publishers(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.name("race")?;
    let publish = |n: u8| said(ground.upload(&[n; 1000])?.publish(&name)).map(|_| n);
    let results: Vec<Result<u8, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || publish(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))).collect()
    });
    let winners: Vec<u8> = results.into_iter().filter_map(Result::ok).collect();
    match winners.as_slice() {
        [winner] => ground.holds(&name, &[*winner; 1000]),
        _ if !ground.store.promises().no_overwrite => Ok(()),
        _ => Err(format!("{} publishers won", winners.len())),
    }
}

fn listing(ground: &Ground<'_>) -> Result<(), String> {
    ground.put("list-not/a", b"x")?;
    let mut expected = Vec::new();
    for (rest, size) in [("list/a", 1), ("list/a.b", 2), ("list/ab/c/d", 3), ("list/ab/c-d", 4)] {
        expected.push(Listed { name: ground.put(rest, &pattern(size))?, size: size as u64 });
    }
    expected.sort_unstable();
    same("listing", ground.list("/list")?, expected.clone())?;
    expected.retain(|object| object.size >= 3);
    same("listing of a folder in it", ground.list("/list/ab")?, expected)
}

fn folders(ground: &Ground<'_>) -> Result<(), String> {
    for rest in ["folders/x/1", "folders/y/2/3", "folders/z"] {
        ground.put(rest, b"x")?;
    }
    same("folders", said(ground.store.folders(&format!("{}/folders", ground.folder)))?, vec!["x".to_owned(), "y".to_owned()])
}

fn removal(ground: &Ground<'_>) -> Result<(), String> {
    let name = ground.put("removed", b"content")?;
    if !ground.store.promises().removes {
        refused("removing it from a store that removes nothing", ground.store.remove(&name), |e| !e.is_transient())?;
        return ground.holds(&name, b"content");
    }
    said(ground.store.remove(&name))?;
    same("size", said(ground.store.size(&name))?, None)?;
    let again = ground.put("removed", b"other content")?;
    ground.holds(&again, b"other content")
}

fn live_uploads(ground: &Ground<'_>) -> Result<(), String> {
    let upload = ground.upload(b"content")?;
    said(ground.store.remove_stale_uploads(Duration::from_secs(24 * 3600)))?;
    let name = ground.name("live")?;
    same("publish", said(upload.publish(&name))?, Published::New)?;
    ground.holds(&name, b"content")
}

fn leases(ground: &Ground<'_>) -> Result<(), String> {
    let first = said(ground.store.lease("first checker", false))?;
    said(first.check())?;
    let named = |e: &StoreError| matches!(e, StoreError::Locked { holder } if holder.contains("first checker"));
    refused("a second lease", ground.store.lease("second checker", false), named)?;
    let forced = said(ground.store.lease("third checker", true))?;
    if forced.fencing() <= first.fencing() {
        return Err("the fencing number does not grow".to_owned());
    }
    refused("the check of a lease that was taken over", first.check(), |e| matches!(e, StoreError::Fenced { .. }))?;
    drop(first);
    said(forced.check())?;
    let number = forced.fencing();
    drop(forced);
    let later = said(ground.store.lease("fourth checker", false))?;
    if later.fencing() > number { said(later.check()) } else { Err("the fencing number does not grow".to_owned()) }
}
