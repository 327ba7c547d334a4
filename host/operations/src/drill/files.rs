//! Every restored file as it lies on the disk, against the manifest: kind, size, SHA-256 of the whole content, link text.
//!
//! The chunks were verified on their way; this is about what arrived. On several threads, in bounded memory.

use super::{
    certificate::CertifiedFiles,
    endings::{HEAD, TAIL, cut_off},
};
use crate::{
    context::Context,
    error::OperationError,
    project::vault_error,
    restore::{FailedPath, PreparedRestore},
};
use globset::GlobSet;
use havun_vault::{Entry, EntryKind};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, mpsc::sync_channel},
};

/// Files that wait for a thread.
const QUEUE: usize = 256;
/// How many failures a certificate names.
pub(super) const NAMED: usize = 50;
/// Folders whose files nobody uploaded: packages bring broken files on purpose, for their own tests.
const NOT_UPLOADED: [&str; 9] = ["vendor", "node_modules", ".git", "tests", "test", "fixtures", "testdata", "__fixtures__", "__tests__"];

/// What is compared.
pub(super) struct Comparison<'a> {
    pub cx: &'a Context,
    pub prepared: &'a PreparedRestore<'a>,
    /// Files that may end early.
    pub known_bad: Option<GlobSet>,
}

/// An entry and where it should be.
struct Job {
    entry: Entry,
    path: PathBuf,
}

#[derive(Default)]
struct Found {
    counted: CertifiedFiles,
    failed: Vec<FailedPath>,
    cut_off: Vec<FailedPath>,
}

/// The comparison's result: what there is, what is not as it should be, and what ends early.
pub(super) struct Compared {
    pub files: CertifiedFiles,
    pub failed: Vec<FailedPath>,
    pub cut_off: Vec<FailedPath>,
}

impl Comparison<'_> {
    /// Compares everything that the restore was to bring back.
    ///
    /// # Errors
    /// The vault's, and [`OperationError::Interrupted`].
    pub fn run(&self) -> Result<Compared, OperationError> {
        self.cx.observer.step("comparing files");
        let found = Mutex::new(Found::default());
        let (send, receive) = sync_channel::<Job>(QUEUE);
        let receive = Mutex::new(receive);
        std::thread::scope(|scope| {
            for _ in 0..self.cx.threads().max(1) {
                scope.spawn(|| {
                    loop {
                        let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(job) = next else { return };
                        self.one(&job, &found);
                    }
                });
            }
            let listed = self.list(|job| send.send(job).is_ok());
            drop(send);
            listed
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.failed.sort_by(|a, b| a.path.cmp(&b.path));
        found.cut_off.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Compared { files: found.counted, failed: found.failed, cut_off: found.cut_off })
    }

    fn list(&self, give: impl Fn(Job) -> bool) -> Result<(), OperationError> {
        let prepared = self.prepared;
        let failed = |e| vault_error(prepared.project_name(), prepared.store_name(), e);
        for entry in prepared.vault().entries(prepared.snapshot()).map_err(failed)? {
            self.cx.check_cancelled()?;
            // A damaged part of the manifest is in the restore's own report.
            let entry = match entry {
                Err(error) if error.is_integrity() => continue,
                entry => entry.map_err(failed)?,
            };
            let Some(path) = prepared.place_of(&entry) else { continue };
            if !give(Job { entry, path }) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn one(&self, job: &Job, found: &Mutex<Found>) {
        let entry = &job.entry;
        let compared = compare(entry, &job.path);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.kind != EntryKind::Socket {
            found.counted.expected += 1;
            found.counted.bytes_expected += entry.size;
            found.counted.to_compare += u64::from(entry.kind == EntryKind::File && expected(entry).is_some());
        }
        match compared {
            Ok(seen) => {
                found.counted.found += u64::from(entry.kind != EntryKind::Socket);
                found.counted.bytes_found += seen.bytes;
                found.counted.compared += u64::from(seen.hashed);
                if let Some(why) = seen.cut_off.filter(|_| self.is_upload(entry)) {
                    found.cut_off.push(FailedPath { path: entry.display_path(), why: why.to_owned() });
                }
            }
            Err(why) => found.failed.push(FailedPath { path: entry.display_path(), why }),
        }
        drop(found);
        self.cx.observer.advance("comparing files", 1, entry.size);
    }

    /// Somebody's data, and not known to be as it is.
    fn is_upload(&self, entry: &Entry) -> bool {
        let Some(rel) = entry.path.strip_prefix(b"tree/") else { return false };
        let is_packaged = rel.split(|b| *b == b'/').any(|part| NOT_UPLOADED.iter().any(|name| part == name.as_bytes()));
        let path = Path::new(std::ffi::OsStr::from_bytes(rel));
        !is_packaged && !self.known_bad.as_ref().is_some_and(|globs| globs.is_match(path))
    }
}

/// What one entry turned out to be.
#[derive(Default)]
struct Seen {
    bytes: u64,
    hashed: bool,
    cut_off: Option<&'static str>,
}

fn compare(entry: &Entry, path: &Path) -> Result<Seen, String> {
    if entry.kind == EntryKind::Socket {
        return Ok(Seen::default());
    }
    let meta = fs::symlink_metadata(path).map_err(|e| told("is not there", &e))?;
    let kind = meta.file_type();
    let same_kind = match entry.kind {
        EntryKind::File => kind.is_file(),
        EntryKind::Dir => kind.is_dir(),
        EntryKind::Symlink => kind.is_symlink(),
        _ => !kind.is_file() && !kind.is_dir() && !kind.is_symlink(),
    };
    if !same_kind {
        return Err(format!("is no {} any more", entry.kind.word()));
    }
    match entry.kind {
        EntryKind::File => content(entry, path, meta.len()),
        EntryKind::Symlink => {
            let text = fs::read_link(path).map_err(|e| told("cannot be read", &e))?;
            let same = entry.target.as_deref() == Some(text.as_os_str().as_bytes());
            if same { Ok(Seen::default()) } else { Err("leads elsewhere".to_owned()) }
        }
        _ => Ok(Seen::default()),
    }
}

fn told(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}

fn content(entry: &Entry, path: &Path, size: u64) -> Result<Seen, String> {
    if size != entry.size {
        return Err(format!("has {size} bytes, the manifest says {}", entry.size));
    }
    let Some(expected) = expected(entry) else { return Ok(Seen { bytes: size, ..Seen::default() }) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| told("cannot be read", &e.into()))?;
    let mut file = File::from(file);
    let found = digest(entry, &mut file).map_err(|e| told("cannot be read", &e))?;
    if found != expected {
        return Err(format!("has SHA-256 {}, the manifest says {}", hex::encode(found), hex::encode(expected)));
    }
    let cut_off = ends(&file, size).map_err(|e| told("cannot be read", &e))?;
    Ok(Seen { bytes: size, hashed: true, cut_off })
}

/// The SHA-256 of the stored content: of the only chunk, or what the manifest has for several. A further name of a file
/// has neither.
fn expected(entry: &Entry) -> Option<[u8; 32]> {
    match (&entry.sha256, entry.chunks.as_slice()) {
        (Some(sum), _) => Some(*sum.as_bytes()),
        (None, [only]) => Some(*only.as_bytes()),
        (None, []) if entry.stored_size() == 0 => Some(Sha256::digest(b"").into()),
        _ => None,
    }
}

/// Over the ranges that hold data, one after the other; what lies between them must be zeros.
fn digest(entry: &Entry, file: &mut File) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let Some(ranges) = &entry.sparse else {
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize().into()),
                count => hasher.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    };
    let mut at = 0;
    for (offset, len) in ranges.iter().copied().chain([(entry.size, 0)]) {
        pieces(file, at, offset.saturating_sub(at), &mut buffer, |piece| {
            let zeros = piece.iter().all(|b| *b == 0);
            if zeros { Ok(()) } else { Err(io::Error::other("there is something in a hole")) }
        })?;
        pieces(file, offset, len, &mut buffer, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        at = offset.saturating_add(len);
    }
    Ok(hasher.finalize().into())
}

fn pieces(file: &File, mut at: u64, mut len: u64, buffer: &mut [u8], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    while len > 0 {
        let want = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..want).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        take(piece)?;
        at += want as u64;
        len -= want as u64;
    }
    Ok(())
}

fn ends(file: &File, size: u64) -> io::Result<Option<&'static str>> {
    let at_most = |count: usize| usize::try_from(size).unwrap_or(usize::MAX).min(count);
    let mut head = [0; HEAD];
    let head = head.get_mut(..at_most(HEAD)).unwrap_or_default();
    file.read_exact_at(head, 0)?;
    // Nearly no file begins like one that is looked into.
    if cut_off(head, &[], size).is_none() {
        return Ok(None);
    }
    let mut tail = vec![0; at_most(TAIL)];
    let from = size - tail.len() as u64;
    file.read_exact_at(&mut tail, from)?;
    Ok(cut_off(head, &tail, size))
}
