//! Listing one folder: names, stat, and what the plan says of each.

use super::pool::Slot;
use crate::{
    beneath::open_beneath,
    entry::EntryKind,
    matcher::{Decision, PathMatcher, Scope},
    metadata::{FileStat, stat_at},
};
use rustix::{
    fs::{FileType, Mode, OFlags, RawDir},
    io::Errno,
};
use std::{cmp::Ordering, ffi::CStr, io, mem::MaybeUninit, os::fd::OwnedFd, sync::Arc};

/// Entries of one batch; a larger folder comes in several.
const BATCH: usize = 1024;
/// Folders within folders that one batch follows.
const NESTING: usize = 16;
/// What `getdents` fills at once.
const DIRENT_BYTES: usize = 64 << 10;

/// A folder to list.
pub(super) struct Folder {
    path: Vec<u8>,
    scope: Scope,
    /// Inode and device, to notice a folder that is its own ancestor.
    id: (u64, (u32, u32)),
    parent: Option<Arc<Folder>>,
}

/// A batch of work: a folder from its first entry on, or the rest of a large one.
pub(super) enum Work {
    Open(Arc<Folder>),
    Rest { folder: Arc<Folder>, names: Arc<Names>, from: usize },
}

/// What is known of a folder below: listed already, or to be listed by whoever comes first.
pub(super) enum Child {
    Listed(Box<Listing>),
    Later(Arc<Slot>),
}

/// Some entries of a folder in order, without those that nobody wants.
#[derive(Default)]
pub(super) struct Listing {
    pub names: Arc<Names>,
    pub rows: Vec<Row>,
    /// The folder's next batch.
    pub next: Option<Arc<Slot>>,
    /// Why there are no more entries.
    pub error: Option<io::Error>,
    /// Memory of this batch and of those nested in it, roughly.
    pub bytes: usize,
}

pub(super) struct Row {
    pub name: NameRef,
    pub stat: FileStat,
    pub verdict: Verdict,
    pub child: Option<Child>,
}

#[derive(Clone, Copy)]
pub(super) enum Verdict {
    Claimed(usize),
    Descend(usize),
    /// Would have been the item's; the number of the error.
    Failed(usize, i32),
}

/// The names of a folder in one piece of memory, sorted by bytes.
#[derive(Default)]
pub(super) struct Names {
    arena: Vec<u8>,
    sorted: Vec<NameRef>,
}

#[derive(Clone, Copy)]
pub(super) struct NameRef {
    /// The first eight bytes, so that most comparisons need no look into the arena.
    head: u64,
    start: u32,
    len: u16,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Other,
    Unknown,
}

impl Folder {
    pub fn root(scope: Scope, stat: &FileStat) -> Self {
        Self { path: Vec::new(), scope, id: (stat.ino, stat.dev), parent: None }
    }

    fn is_or_has_ancestor(&self, id: (u64, (u32, u32))) -> bool {
        self.id == id || self.parent.as_ref().is_some_and(|parent| parent.is_or_has_ancestor(id))
    }
}

impl Names {
    pub fn get(&self, name: NameRef) -> &[u8] {
        let start = name.start as usize;
        self.arena.get(start..start + usize::from(name.len)).unwrap_or_default()
    }

    fn c_str(&self, name: NameRef) -> &CStr {
        let start = name.start as usize;
        let bytes = self.arena.get(start..=start + usize::from(name.len)).unwrap_or_default();
        CStr::from_bytes_with_nul(bytes).unwrap_or(c"")
    }

    fn push(&mut self, name: &CStr, kind: FileType) -> io::Result<()> {
        let bytes = name.to_bytes();
        if bytes == b"." || bytes == b".." {
            return Ok(());
        }
        let start = u32::try_from(self.arena.len()).map_err(|_| Errno::OVERFLOW)?;
        let len = u16::try_from(bytes.len()).map_err(|_| Errno::NAMETOOLONG)?;
        let kind = match kind {
            FileType::Directory => Kind::Folder,
            FileType::Unknown => Kind::Unknown,
            _ => Kind::Other,
        };
        let mut head = [0; 8];
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.arena.extend_from_slice(name.to_bytes_with_nul());
        self.sorted.push(NameRef { head: u64::from_be_bytes(head), start, len, kind });
        Ok(())
    }

    fn sort(&mut self) {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.sort_unstable_by(|a, b| match a.head.cmp(&b.head) {
            Ordering::Equal => self.get(*a).cmp(self.get(*b)),
            unequal => unequal,
        });
        self.sorted = sorted;
    }
}

/// Lists folders; shared by all threads.
pub(super) struct Lister {
    root: Arc<OwnedFd>,
    matcher: Arc<PathMatcher>,
}

/// What a thread keeps between folders, and the folders that it leaves to others.
pub(super) struct Scratch {
    dirents: Box<[MaybeUninit<u8>]>,
    path: Vec<u8>,
    /// Work found, in reverse: the last is the first in path order.
    pub found: Vec<Arc<Slot>>,
    budget: usize,
}

impl Scratch {
    pub fn new() -> Self {
        Self { dirents: vec![MaybeUninit::uninit(); DIRENT_BYTES].into_boxed_slice(), path: Vec::new(), found: Vec::new(), budget: 0 }
    }
}

impl Lister {
    pub fn new(root: Arc<OwnedFd>, matcher: Arc<PathMatcher>) -> Self {
        Self { root, matcher }
    }

    /// Does a batch of work. Work found goes to `scratch.found` and must be passed on at once.
    pub fn run(&self, work: Work, scratch: &mut Scratch) -> Listing {
        scratch.budget = BATCH;
        match work {
            Work::Open(folder) => self.open(&folder, scratch, 0),
            Work::Rest { folder, names, from } => match self.open_folder(&folder) {
                Ok(dir) => self.batch(&folder, &dir, names, from, scratch, 0),
                Err(error) => Listing { error: Some(error), ..Listing::default() },
            },
        }
    }

    fn open_folder(&self, folder: &Folder) -> io::Result<OwnedFd> {
        open_beneath(&*self.root, &folder.path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn open(&self, folder: &Arc<Folder>, scratch: &mut Scratch, nesting: usize) -> Listing {
        let dir = match self.open_folder(folder) {
            Ok(dir) => dir,
            // Deleted since it was met: there is nothing in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Listing::default(),
            Err(error) => return Listing { error: Some(error), ..Listing::default() },
        };
        let mut names = Names::default();
        let read = read_names(&dir, &mut names, &mut scratch.dirents);
        names.sort();
        let mut listing = self.batch(folder, &dir, Arc::new(names), 0, scratch, nesting);
        listing.error = read.err();
        listing
    }

    fn batch(&self, folder: &Arc<Folder>, dir: &OwnedFd, names: Arc<Names>, from: usize, scratch: &mut Scratch, nesting: usize) -> Listing {
        let wanted = names.sorted.get(from..).unwrap_or_default();
        let here = wanted.get(..BATCH.min(wanted.len())).unwrap_or_default();
        let next = (here.len() < wanted.len())
            .then(|| Slot::new(Work::Rest { folder: Arc::clone(folder), names: Arc::clone(&names), from: from + here.len() }));
        let mut rows = Vec::with_capacity(here.len());
        for name in here {
            rows.extend(self.row(folder, dir, &names, *name, scratch));
        }
        scratch.budget = scratch.budget.saturating_sub(here.len());
        let mut listing =
            Listing { bytes: rows.len() * size_of::<Row>() + names.arena.len(), names: Arc::clone(&names), rows, next, error: None };
        let first_found = scratch.found.len();
        for row in &mut listing.rows {
            if let Some(child) = self.child(folder, &names, row) {
                row.child = Some(self.follow(child, scratch, nesting, &mut listing.bytes));
            }
        }
        // Path order, reversed, with the folder's own rest behind everything that is in this batch.
        scratch.found.extend(listing.next.clone());
        if let Some(found) = scratch.found.get_mut(first_found..) {
            found.reverse();
        }
        listing
    }

    /// One entry; `None` when nobody wants it, or it is gone.
    fn row(&self, folder: &Folder, dir: &OwnedFd, names: &Names, name: NameRef, scratch: &mut Scratch) -> Option<Row> {
        let certain = folder.scope.certain();
        if certain.is_none() {
            scratch.path.clear();
            join(&mut scratch.path, &folder.path, names.get(name));
        }
        let decide = |is_dir: bool| match certain {
            Some(item) => Decision::Claimed(item),
            None => self.matcher.decide(&folder.scope, &scratch.path, is_dir),
        };
        let guess = name.kind == Kind::Folder;
        let mut decision = decide(guess);
        if decision == Decision::Skip && name.kind != Kind::Unknown {
            return None;
        }
        let stat = match stat_at(dir, names.c_str(name)) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let (Decision::Claimed(item) | Decision::Descend(item)) = decision else { return None };
                let verdict = Verdict::Failed(item, error.raw_os_error().unwrap_or_default());
                return Some(Row { name, stat: FileStat::default(), verdict, child: None });
            }
        };
        if (stat.kind == EntryKind::Dir) != guess {
            decision = decide(!guess);
        }
        let verdict = match decision {
            Decision::Claimed(item) => Verdict::Claimed(item),
            Decision::Descend(item) => Verdict::Descend(item),
            Decision::Skip => return None,
        };
        Some(Row { name, stat, verdict, child: None })
    }

    /// The folder that a row is, if it is one and something in it is wanted.
    fn child(&self, folder: &Arc<Folder>, names: &Names, row: &mut Row) -> Option<Folder> {
        if row.stat.kind != EntryKind::Dir {
            return None;
        }
        let (Verdict::Claimed(item) | Verdict::Descend(item)) = row.verdict else { return None };
        let id = (row.stat.ino, row.stat.dev);
        if folder.is_or_has_ancestor(id) {
            row.verdict = Verdict::Failed(item, Errno::LOOP.raw_os_error());
            return None;
        }
        let mut path = Vec::with_capacity(folder.path.len() + 1 + usize::from(row.name.len));
        join(&mut path, &folder.path, names.get(row.name));
        let scope = self.matcher.enter(&folder.scope, &path);
        (!scope.is_empty()).then(|| Folder { path, scope, id, parent: Some(Arc::clone(folder)) })
    }

    /// Lists a folder below at once while the batch is small, or leaves it to whoever comes first.
    fn follow(&self, child: Folder, scratch: &mut Scratch, nesting: usize, bytes: &mut usize) -> Child {
        let child = Arc::new(child);
        if scratch.budget == 0 || nesting >= NESTING {
            let slot = Slot::new(Work::Open(child));
            scratch.found.push(Arc::clone(&slot));
            return Child::Later(slot);
        }
        scratch.budget -= 1;
        let listing = self.open(&child, scratch, nesting + 1);
        *bytes += listing.bytes;
        Child::Listed(Box::new(listing))
    }
}

fn join(path: &mut Vec<u8>, folder: &[u8], name: &[u8]) {
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn read_names(dir: &OwnedFd, names: &mut Names, buffer: &mut [MaybeUninit<u8>]) -> io::Result<()> {
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        names.push(entry.file_name(), entry.file_type())?;
    }
    Ok(())
}
