//! Walking a tree in path order, as fast as the kernel answers.
//!
//! Threads list folders and stat their entries ahead of the consumer, in batches of about a thousand entries, and
//! match them against the plan while they are at it. The consumer works too whenever the batch that it needs is not
//! ready, so nothing waits for a thread that waits for memory: what is ready and not yet consumed is bounded.
//!
//! A walk never leaves its root: folders are opened beneath it without following symbolic links. Other file systems
//! mounted beneath it belong to it; a folder that is its own ancestor (a bind mount) is reported and not entered.

mod listing;
mod pool;

use crate::{
    matcher::{Decision, PathMatcher},
    metadata::{FileStat, stat_of},
};
use listing::{Child, Folder, Lister, Listing, Verdict};
use pool::Pool;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

/// Something that a walk met.
#[derive(Debug)]
pub enum Step<'w> {
    /// A file or folder that an item claims, or a folder with such a file beneath it.
    Found(WalkItem<'w>),
    /// A file or folder that cannot be looked at.
    Problem {
        /// With the prefix.
        path: &'w [u8],
        /// Relative to the root.
        rel: &'w [u8],
        /// The item that would have had it, as far as it is known.
        item: usize,
        /// Why not.
        error: io::Error,
    },
}

/// A file, folder, link or device of the tree.
#[derive(Debug, Clone, Copy)]
pub struct WalkItem<'w> {
    /// With the prefix.
    pub path: &'w [u8],
    /// Relative to the root; empty for the root itself.
    pub rel: &'w [u8],
    /// What it looked like.
    pub stat: &'w FileStat,
    /// Number of the item that it belongs to; for a folder that is only on the way, of the item that the way is for.
    pub item: usize,
}

/// A walk under way. Steps come in path order, folders before what is in them.
pub struct Walk {
    root: Arc<OwnedFd>,
    pool: Pool,
    frames: Vec<Frame>,
    path: Vec<u8>,
    /// Where paths relative to the root begin.
    rel_from: usize,
    /// Frames whose folder has not been reported, because nothing in it has been claimed so far.
    held: usize,
    /// The root, until it has been entered.
    start: Option<Start>,
    /// The folder that was reported last, until it is entered.
    entering: Option<Entering>,
    /// Lent to the caller.
    reported: FileStat,
}

struct Start {
    stat: FileStat,
    decision: Decision,
    child: Option<Child>,
}

struct Entering {
    child: Child,
    stat: FileStat,
    item: usize,
    reported: bool,
}

/// A folder that is being gone through.
struct Frame {
    listing: Listing,
    at: usize,
    /// Length of the folder's path in `Walk::path`.
    path_len: usize,
    stat: FileStat,
    item: usize,
    reported: bool,
}

/// What to report, found before anything is borrowed.
enum Found {
    Row { path_len: usize, stat: FileStat, item: usize },
    Problem { path_len: usize, item: usize, error: io::Error },
}

impl Walk {
    /// Begins a walk of `root`. Reported paths begin with `prefix` (`tree` makes `tree/a/b`; the root itself is
    /// `tree`). The caller's thread is one of `threads`; one alone makes no other.
    ///
    /// # Errors
    /// When the root is no folder that can be opened.
    pub fn new(root: &Path, matcher: Arc<PathMatcher>, prefix: &[u8], threads: usize) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(openat(CWD, root, flags, Mode::empty())?);
        let stat = stat_of(&*root)?;
        let (decision, scope) = (matcher.decide_root(), matcher.root_scope());
        let lister = Arc::new(Lister::new(Arc::clone(&root), matcher));
        let pool = Pool::new(lister, threads.saturating_sub(1))?;
        let child = (!scope.is_empty()).then(|| pool.submit_root(Folder::root(scope, &stat)));
        let start = Some(Start { stat, decision, child });
        let rel_from = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
        Ok(Self {
            root,
            pool,
            frames: Vec::new(),
            path: prefix.to_vec(),
            rel_from,
            held: 0,
            start,
            entering: None,
            reported: FileStat::default(),
        })
    }

    /// The root, for opening what the walk reports: [`crate::metadata::open_file`].
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A handle on the root that other threads can keep.
    pub fn root_handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    /// The next step; `None` at the end.
    pub fn next_step(&mut self) -> Option<Step<'_>> {
        match self.find()? {
            Found::Row { path_len, stat, item } => {
                let path = self.path.get(..path_len).unwrap_or_default();
                self.reported = stat;
                Some(Step::Found(WalkItem { path, rel: path.get(self.rel_from..).unwrap_or_default(), stat: &self.reported, item }))
            }
            Found::Problem { path_len, item, error } => {
                let path = self.path.get(..path_len).unwrap_or_default();
                Some(Step::Problem { path, rel: path.get(self.rel_from..).unwrap_or_default(), item, error })
            }
        }
    }

    fn find(&mut self) -> Option<Found> {
        if let Some(start) = self.start.take()
            && let Some(found) = self.begin(start)
        {
            return Some(found);
        }
        loop {
            if let Some(entering) = self.entering.take() {
                self.enter(entering);
            }
            let frame = self.frames.last_mut()?;
            let Some(row) = frame.listing.rows.get_mut(frame.at) else {
                if let Some(found) = self.leave() {
                    return Some(found);
                }
                continue;
            };
            let wanted = !matches!(row.verdict, Verdict::Descend(_));
            if wanted && self.held > 0 {
                return self.report_held();
            }
            if let Some(found) = self.step_row() {
                return Some(found);
            }
        }
    }

    /// The root: reported at once when it is claimed, else held like every folder on the way.
    fn begin(&mut self, start: Start) -> Option<Found> {
        let (item, reported) = match start.decision {
            Decision::Claimed(item) => (item, true),
            Decision::Descend(item) => (item, false),
            Decision::Skip => return None,
        };
        let stat = start.stat;
        self.entering = start.child.map(|child| Entering { child, stat, item, reported });
        reported.then_some(Found::Row { path_len: self.path.len(), stat, item })
    }

    /// Goes on with the next row of the top frame; reports it unless it is a folder on the way.
    fn step_row(&mut self) -> Option<Found> {
        let frame = self.frames.last_mut()?;
        let row = frame.listing.rows.get_mut(frame.at)?;
        frame.at += 1;
        self.path.truncate(frame.path_len);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(frame.listing.names.get(row.name));
        let (path_len, stat) = (self.path.len(), row.stat);
        let (item, reported) = match row.verdict {
            Verdict::Claimed(item) => (item, true),
            Verdict::Descend(item) => (item, false),
            Verdict::Failed(item, errno) => {
                return Some(Found::Problem { path_len, item, error: io::Error::from_raw_os_error(errno) });
            }
        };
        self.entering = row.child.take().map(|child| Entering { child, stat, item, reported });
        reported.then_some(Found::Row { path_len, stat, item })
    }

    fn enter(&mut self, entering: Entering) {
        let Entering { child, stat, item, reported } = entering;
        let listing = self.pool.take(child);
        self.held += usize::from(!reported);
        self.frames.push(Frame { listing, at: 0, path_len: self.path.len(), stat, item, reported });
    }

    /// The outermost folder that has not been reported; what comes next needs it.
    fn report_held(&mut self) -> Option<Found> {
        let frame = self.frames.iter_mut().find(|frame| !frame.reported)?;
        frame.reported = true;
        self.held -= 1;
        Some(Found::Row { path_len: frame.path_len, stat: frame.stat, item: frame.item })
    }

    /// At the end of a batch: the next one of the same folder, or back to the folder above.
    fn leave(&mut self) -> Option<Found> {
        let frame = self.frames.last_mut()?;
        let (item, path_len) = (frame.item, frame.path_len);
        if let Some(error) = frame.listing.error.take() {
            self.path.truncate(path_len);
            return Some(Found::Problem { path_len, item, error });
        }
        if let Some(next) = frame.listing.next.take() {
            frame.listing = self.pool.take(Child::Later(next));
            frame.at = 0;
            return None;
        }
        self.held -= usize::from(!frame.reported);
        self.frames.pop();
        None
    }
}

#[cfg(test)]
mod tests;
