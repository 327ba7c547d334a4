//! Opening what lies beneath a folder, and nothing else: no symbolic link, no `..`, whatever changes meanwhile.

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The kernel takes paths of 4,095 bytes; longer ones are opened in parts of at most this many.
const PART_BYTES: usize = 4000;

/// Opens `path` beneath `root`; the empty path is `root` itself. No component may be a symbolic link, unless it is
/// the last and `flags` hold `PATH` and `NOFOLLOW`: then the link itself is opened.
///
/// # Errors
/// As the kernel says: `ELOOP` for a symbolic link on the way, `EXDEV` for a path that leads out.
pub(crate) fn open_beneath(root: impl AsFd, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut folder: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > PART_BYTES {
        let head = rest.get(..PART_BYTES).unwrap_or_default();
        let cut = head.iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let (part, behind) = rest.split_at_checked(cut).ok_or(Errno::NAMETOOLONG)?;
        let from = folder.as_ref().map_or(root.as_fd(), AsFd::as_fd);
        let opened = open_part(from, part, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        folder = Some(opened);
        rest = behind.get(1..).unwrap_or_default();
    }
    open_part(folder.as_ref().map_or(root.as_fd(), AsFd::as_fd), rest, flags, mode)
}

fn open_part(from: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(from, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode, resolve) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
