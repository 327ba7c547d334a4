//! Reading a repository.

use super::{BUNDLE, FILES, GitError, LINKS, Link, UNBUNDLED, ask, git};
use crate::process;
use havun_model::{Cancel, GitItem};
use jiff::Timestamp;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};
use tempfile::NamedTempFile;

/// A bundle's list of refs is no longer than this, in bytes.
const LONGEST_HEADER: usize = 256 << 20;

/// One file of the snapshot beneath `git/<item>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitPart {
    /// Relative to `git/<item>/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Of a verbatim file; others are made anew each time.
    pub modified: Option<Timestamp>,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Text(String),
    Bundle,
    Unbundled,
}

/// What a repository is stored as.
#[derive(Debug, Default)]
pub struct GitParts {
    /// In path order; to be written in this order.
    pub parts: Vec<GitPart>,
    /// For the operator: there is no commit yet, and the like.
    pub notes: Vec<String>,
    /// What could not be stored; the item is `partial`.
    pub problems: Vec<String>,
}

/// A repository to be backed up.
pub struct Repository {
    git_dir: PathBuf,
    /// The index as it was when the parts were listed: what it names is packed, though it may move on.
    index: Option<NamedTempFile>,
    /// Object names of the bundle's refs, once it has been written.
    bundled: Vec<String>,
}

impl Repository {
    /// Finds the repository of `item` beneath `root`: a work tree with `.git`, or a bare one.
    ///
    /// # Errors
    /// When there is none, or when it lies outside of the root.
    pub fn open(root: &Path, item: &GitItem) -> Result<Self, GitError> {
        let folder = root.join(&item.path);
        let outside = || GitError::Outside { path: folder.clone() };
        if Path::new(&item.path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(outside());
        }
        let root = root.canonicalize().map_err(GitError::io("resolve", root))?;
        let found = find_git_dir(&folder)?;
        let git_dir = found.canonicalize().map_err(GitError::io("resolve", &found))?;
        if !git_dir.starts_with(&root) {
            return Err(outside());
        }
        let missing = |why| GitError::NotARepository { path: folder.clone(), why };
        if git_dir.join("commondir").exists() {
            return Err(missing("it is a linked work tree; name the folder of the repository itself"));
        }
        if !git_dir.join("HEAD").is_file() || !git_dir.join("objects").is_dir() {
            return Err(missing("HEAD or the objects are missing"));
        }
        Ok(Self { git_dir, index: None, bundled: Vec::new() })
    }

    /// Lists what is to be stored.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn parts(&mut self, cancel: &Cancel) -> Result<GitParts, GitError> {
        let mut listing = Listing { git_dir: &self.git_dir, found: GitParts::default(), links: Vec::new() };
        listing.folder(Path::new(""))?;
        let Listing { mut found, mut links, .. } = listing;
        self.index = copy_index(&self.git_dir)?;
        if let (Some(index), Some(part)) = (&self.index, found.parts.iter_mut().find(|part| part.path == format!("{FILES}/index"))) {
            part.source = Source::File(index.path().to_owned());
        }
        links.extend(self.symbolic_refs(cancel)?);
        let made = |path: &str, source| GitPart { path: path.to_owned(), mode: 0o600, modified: None, source };
        found.parts.push(made(LINKS, Source::Text(to_lines(&links))));
        if self.has_commits(cancel)? {
            found.parts.push(made(BUNDLE, Source::Bundle));
        } else {
            found.notes.push("the repository has no commit yet, so there is no bundle".to_owned());
        }
        found.parts.push(made(UNBUNDLED, Source::Unbundled));
        found.parts.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        Ok(found)
    }

    /// Writes one part; the bundle before `unbundled.pack`, as the order of the parts has it.
    ///
    /// # Errors
    /// Whatever keeps it from being whole; what was written is void then.
    pub fn write(&mut self, part: &GitPart, out: &mut (dyn Write + Send), cancel: &Cancel) -> Result<(), GitError> {
        match &part.source {
            Source::File(path) => write_file(path, out),
            Source::Text(text) => out.write_all(text.as_bytes()).map_err(GitError::Sink),
            Source::Bundle => self.bundle(out, cancel),
            Source::Unbundled => self.unbundled(out, cancel),
        }
    }

    fn symbolic_refs(&self, cancel: &Cancel) -> Result<Vec<Link>, GitError> {
        let answer = ask(git(&self.git_dir).args(["for-each-ref", "--format=%(refname) %(symref)"]), "for-each-ref", cancel)?;
        let link = |line: &str| match line.split_once(' ') {
            Some((name, target)) if !target.is_empty() => Some(Link::Ref { symbolic_ref: name.to_owned(), target: target.to_owned() }),
            _ => None,
        };
        Ok(answer.lines().filter_map(link).collect())
    }

    fn has_commits(&self, cancel: &Cancel) -> Result<bool, GitError> {
        let refs = ask(git(&self.git_dir).args(["for-each-ref", "--count=1"]), "for-each-ref", cancel)?;
        let (head, _) = process::capture(git(&self.git_dir).args(["rev-parse", "--verify", "--quiet", "HEAD"]), cancel, 4096)?;
        Ok(!refs.is_empty() || head.status.success())
    }

    fn bundle(&mut self, out: &mut (dyn Write + Send), cancel: &Cancel) -> Result<(), GitError> {
        let mut header = Header::default();
        let ended = process::read(git(&self.git_dir).args(["bundle", "create", "--quiet", "-", "--all"]), cancel, |piece| {
            header.feed(piece)?;
            out.write_all(piece).map_err(GitError::Sink)
        })?;
        if !ended.status.success() {
            return Err(GitError::failed("bundle create", &ended));
        }
        self.bundled = header.finish()?;
        Ok(())
    }

    /// Everything that reflogs, the index and unfinished work reach, and the bundle's refs do not.
    fn unbundled(&self, out: &mut (dyn Write + Send), cancel: &Cancel) -> Result<(), GitError> {
        let mut revisions: String = self.bundled.iter().map(|id| format!("^{id}\n")).collect();
        revisions.push_str(&self.pseudo_refs(cancel)?);
        let mut list = NamedTempFile::new().map_err(GitError::io("make a file in", &std::env::temp_dir()))?;
        list.write_all(revisions.as_bytes()).map_err(GitError::io("write", list.path()))?;
        let input = File::open(list.path()).map_err(GitError::io("read", list.path()))?;
        let mut command = git(&self.git_dir);
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index.path());
        }
        command.args(["pack-objects", "--revs", "--reflog", "--indexed-objects", "--stdout", "--quiet"]).stdin(input);
        let mut written = 0;
        let ended = process::read(&mut command, cancel, |piece| {
            written += piece.len();
            out.write_all(piece).map_err(GitError::Sink)
        })?;
        if !ended.status.success() {
            return Err(GitError::failed("pack-objects", &ended));
        }
        if written == 0 { Err(GitError::Strange { command: "pack-objects", what: "no pack" }) } else { Ok(()) }
    }

    /// The objects that ORIG_HEAD, MERGE_HEAD and their like name and that are there.
    fn pseudo_refs(&self, cancel: &Cancel) -> Result<String, GitError> {
        let mut names = String::new();
        for entry in fs::read_dir(&self.git_dir).map_err(GitError::io("list", &self.git_dir))?.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().ends_with("_HEAD") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let ids = text.lines().filter_map(|line| line.split_whitespace().next()).filter(|id| is_object_id(id));
                ids.for_each(|id| names.extend([id, "\n"]));
            }
        }
        if names.is_empty() {
            return Ok(names);
        }
        let mut command = git(&self.git_dir);
        let fed =
            process::feed(command.args(["cat-file", "--batch-check=%(objectname)"]), cancel, |stdin| stdin.write_all(names.as_bytes()))?;
        let answer = String::from_utf8_lossy(&fed.stdout).into_owned();
        Ok(answer.lines().filter(|line| is_object_id(line)).map(|id| format!("{id}\n")).collect())
    }
}

fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn find_git_dir(folder: &Path) -> Result<PathBuf, GitError> {
    let inner = folder.join(".git");
    let missing = |why| GitError::NotARepository { path: folder.to_owned(), why };
    match fs::metadata(&inner) {
        Ok(metadata) if metadata.is_dir() => Ok(inner),
        Ok(_) => {
            let text = fs::read_to_string(&inner).map_err(GitError::io("read", &inner))?;
            let target = text.strip_prefix("gitdir: ").ok_or_else(|| missing("its .git is a strange file"))?;
            Ok(folder.join(target.trim_end()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.join("HEAD").is_file() => Ok(folder.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing("there is no .git")),
        Err(error) => Err(GitError::io("look at", &inner)(error)),
    }
}

fn copy_index(git_dir: &Path) -> Result<Option<NamedTempFile>, GitError> {
    let path = git_dir.join("index");
    let mut from = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        from => from.map_err(GitError::io("read", &path))?,
    };
    let mut copy = NamedTempFile::new().map_err(GitError::io("make a file in", &std::env::temp_dir()))?;
    io::copy(&mut from, &mut copy).map_err(GitError::io("copy", &path))?;
    Ok(Some(copy))
}

fn write_file(path: &Path, out: &mut dyn Write) -> Result<(), GitError> {
    let mut file = File::open(path).map_err(GitError::io("open", path))?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer).map_err(GitError::io("read", path))? {
            0 => return Ok(()),
            count => out.write_all(buffer.get(..count).unwrap_or_default()).map_err(GitError::Sink)?,
        }
    }
}

fn to_lines(links: &[Link]) -> String {
    links.iter().filter_map(|link| serde_json::to_string(link).ok()).map(|line| line + "\n").collect()
}

/// The walk through `.git`.
struct Listing<'a> {
    git_dir: &'a Path,
    found: GitParts,
    links: Vec<Link>,
}

impl Listing<'_> {
    fn folder(&mut self, relative: &Path) -> Result<(), GitError> {
        let folder = self.git_dir.join(relative);
        for entry in fs::read_dir(&folder).map_err(GitError::io("list", &folder))? {
            let entry = entry.map_err(GitError::io("list", &folder))?;
            let relative = relative.join(entry.file_name());
            if !is_left_out(&relative) {
                self.entry(&relative, &entry)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, relative: &Path, entry: &fs::DirEntry) -> Result<(), GitError> {
        let path = entry.path();
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata.map_err(GitError::io("look at", &path))?,
        };
        let Some(text) = relative.to_str() else {
            self.found.problems.push(format!("{} has a name that is not UTF-8", path.display()));
            return Ok(());
        };
        if metadata.is_dir() {
            return self.folder(relative);
        }
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(GitError::io("read", &path))?;
            self.links.push(Link::File { path: text.to_owned(), link: target.to_string_lossy().into_owned() });
        } else if metadata.is_file() {
            let modified = Timestamp::new(metadata.mtime(), i32::try_from(metadata.mtime_nsec()).unwrap_or_default()).ok();
            let (path, mode) = (format!("{FILES}/{text}"), metadata.mode() & 0o7777);
            self.found.parts.push(GitPart { path, mode, modified, source: Source::File(entry.path()) });
        }
        Ok(())
    }
}

/// Objects and refs are in the bundle; locks belong to whoever works there now.
fn is_left_out(relative: &Path) -> bool {
    let top = relative.components().count() == 1;
    let name = relative.file_name().unwrap_or_default().to_string_lossy();
    top && matches!(name.as_ref(), "objects" | "refs" | "packed-refs" | "gc.pid") || name.ends_with(".lock")
}

/// The head of a bundle, read while it streams by: which objects its refs name.
#[derive(Default)]
struct Header {
    text: Vec<u8>,
    /// Length of the text up to and with the empty line.
    length: Option<usize>,
}

impl Header {
    fn feed(&mut self, piece: &[u8]) -> Result<(), GitError> {
        // Four bytes more than the head are wanted: the magic of the pack.
        if self.length.is_some_and(|length| self.text.len() >= length + 4) {
            return Ok(());
        }
        self.text.extend_from_slice(piece);
        self.length = memchr::memmem::find(&self.text, b"\n\n").map(|at| at + 2);
        if self.length.is_none() && self.text.len() > LONGEST_HEADER {
            return Err(GitError::Strange { command: "bundle create", what: "no end of the list of refs" });
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<String>, GitError> {
        let strange = |what| GitError::Strange { command: "bundle create", what };
        let length = self.length.ok_or_else(|| strange("no list of refs"))?;
        let (head, rest) = self.text.split_at_checked(length).ok_or_else(|| strange("no list of refs"))?;
        if !head.starts_with(b"# v") || !rest.starts_with(b"PACK") {
            return Err(strange("no bundle"));
        }
        let head = String::from_utf8_lossy(head);
        let ids = head.lines().filter_map(|line| line.split_once(' ')).map(|(id, _)| id).filter(|id| is_object_id(id));
        Ok(ids.map(str::to_owned).collect())
    }
}
