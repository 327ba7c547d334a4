//! Removing files and folders whose name is of somebody in the register. No symbolic link is followed: each folder is opened
//! beneath the one before it.

use crate::databases::Subjects;
use globset::{GlobBuilder, GlobMatcher};
use havun_model::{Cancel, Digest, erasures::Normalise};
use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, open, openat, statat, unlinkat},
    io::Errno,
};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Deeper than any folder that is meant to be removed.
const DEEPEST: usize = 200;

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// Files and folders, each folder counted once.
    pub removed: u64,
    pub subjects: BTreeSet<Digest>,
}

/// Removes what `pattern` finds of `subjects` beneath `root`.
///
/// # Errors
/// What could not be looked at or removed, in words.
pub(super) fn erase(root: &Path, pattern: &str, steps: &[Normalise], subjects: &Subjects, cancel: &Cancel) -> Result<Removed, String> {
    let (folders, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let name = Name::parse(last).ok_or_else(|| format!("`{pattern}` names no subject"))?;
    let folders: Vec<GlobMatcher> = folders.split('/').filter(|part| !part.is_empty()).map(matcher).collect::<Result<_, _>>()?;
    let top = match open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Removed::default()),
        top => top.map_err(|errno| format!("cannot open {}: {errno}", root.display()))?,
    };
    let mut work = Work { name, steps, subjects, cancel, done: Removed::default() };
    work.descend(top, &folders)?;
    Ok(work.done)
}

fn matcher(part: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(part).literal_separator(true).backslash_escape(false).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.to_string())
}

/// The last component of a pattern.
struct Name {
    before: String,
    after: String,
    is_hash: bool,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let split = |mark: &str| text.split_once(mark).map(|(before, after)| (before.to_owned(), after.to_owned()));
        let (parts, is_hash) = split("{subject}").map(|parts| (parts, false)).or_else(|| Some((split("{hash}")?, true)))?;
        Some(Self { before: parts.0, after: parts.1, is_hash })
    }

    fn subject(&self, name: &str, steps: &[Normalise], subjects: &Subjects) -> Option<Digest> {
        let middle = name.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str()).filter(|middle| !middle.is_empty())?;
        if !self.is_hash {
            return subjects.find(middle, steps);
        }
        middle.to_lowercase().parse().ok().filter(|hash| subjects.holds(hash))
    }
}

struct Work<'a> {
    name: Name,
    steps: &'a [Normalise],
    subjects: &'a Subjects,
    cancel: &'a Cancel,
    done: Removed,
}

impl Work<'_> {
    fn descend(&mut self, folder: OwnedFd, rest: &[GlobMatcher]) -> Result<(), String> {
        if self.cancel.is_cancelled() {
            return Err("stopped before the end".to_owned());
        }
        let names = names(&folder)?;
        let Some((next, rest)) = rest.split_first() else { return self.remove_found(&folder, &names) };
        for name in names.iter().filter(|name| next.is_match(Path::new(name))) {
            match openat(&folder, name.as_os_str(), FOLDER, Mode::empty()) {
                // A file or a link: nothing is beneath it.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                Err(errno) => return Err(format!("cannot open the folder {}: {errno}", shown(name))),
                Ok(inner) => self.descend(inner, rest)?,
            }
        }
        Ok(())
    }

    fn remove_found(&mut self, folder: &OwnedFd, names: &[OsString]) -> Result<(), String> {
        for name in names {
            let subject = name.to_str().and_then(|text| self.name.subject(text, self.steps, self.subjects));
            if let Some(subject) = subject {
                remove(folder, name, 0)?;
                self.done.removed += 1;
                self.done.subjects.insert(subject);
            }
        }
        Ok(())
    }
}

/// The error must not say the name: it may be an identifier.
fn remove(folder: &OwnedFd, name: &OsStr, depth: usize) -> Result<(), String> {
    let failed = |errno: Errno| format!("what belongs to a subject cannot be removed: {errno}");
    let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat.map_err(failed)?,
    };
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
        return unlinkat(folder, name, AtFlags::empty()).map_err(failed);
    }
    if depth > DEEPEST {
        return Err("what belongs to a subject cannot be removed: it is nested too deep".to_owned());
    }
    let inner = openat(folder, name, FOLDER, Mode::empty()).map_err(failed)?;
    for name in names(&inner)? {
        remove(&inner, &name, depth + 1)?;
    }
    unlinkat(folder, name, AtFlags::REMOVEDIR).map_err(failed)
}

fn names(folder: &OwnedFd) -> Result<Vec<OsString>, String> {
    let failed = |errno: Errno| format!("cannot list a folder: {errno}");
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::subject_hash;
    use havun_model::erasures::NORMAL_FORM;
    use std::fs;

    fn erase_in(root: &Path, pattern: &str, who: &str) -> Result<Removed, String> {
        let subjects = Subjects::of([subject_hash(who, &NORMAL_FORM)]);
        erase(root, pattern, &NORMAL_FORM, &subjects, &Cancel::default())
    }

    #[test]
    fn what_is_named_after_a_subject_goes_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for path in ["avatars/a/Jan@x.org.png", "avatars/b/jan@x.org.png", "avatars/b/piet@x.org.png", "docs/jan@x.org/deep/er/file"] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), "x").unwrap();
        }
        let removed = erase_in(root.path(), "avatars/*/{subject}.png", "jan@x.org").unwrap();
        assert_eq!((removed.removed, removed.subjects.len()), (2, 1));
        assert!(at("avatars/b/piet@x.org.png").exists() && !at("avatars/a/Jan@x.org.png").exists());
        assert_eq!(erase_in(root.path(), "docs/{subject}", "jan@x.org").unwrap().removed, 1);
        assert!(at("docs").exists() && !at("docs/jan@x.org").exists());
        let hash = subject_hash("jan@x.org", &NORMAL_FORM).to_hex();
        fs::write(at(&format!("docs/{hash}.pdf")), "x").unwrap();
        assert_eq!(erase_in(root.path(), "docs/{hash}.pdf", "jan@x.org").unwrap().removed, 1);
        assert_eq!(erase_in(root.path(), "gone/{subject}", "jan@x.org").unwrap(), Removed::default());
    }

    #[test]
    fn no_link_leads_out_of_the_tree() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("jan"), "x").unwrap();
        fs::create_dir(outside.path().join("kept")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("avatars")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("jan")).unwrap();
        assert_eq!(erase_in(root.path(), "avatars/{subject}", "jan").unwrap().removed, 0);
        assert!(outside.path().join("jan").exists());
        assert_eq!(erase_in(root.path(), "{subject}", "jan").unwrap().removed, 1, "the link itself");
        assert!(outside.path().join("kept").exists() && !root.path().join("jan").exists());
    }
}
