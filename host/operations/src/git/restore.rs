//! Putting a repository back from its parts: built beside its place, then renamed.

use super::{BUNDLE, FILES, GitError, LINKS, Link, UNBUNDLED, ask, git};
use crate::process;
use havun_model::Cancel;
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

/// What was put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitRestored {
    /// The repository's own folder.
    pub git_dir: PathBuf,
    /// Branches, tags and other refs.
    pub refs: u64,
    /// What `git fsck` says; empty when it is content.
    pub problems: Vec<String>,
}

/// Makes the repository of `work_tree` from `stored`, a folder with the files that were beneath `git/<item>/`. The
/// files of the work tree are none of its business.
///
/// # Errors
/// When there is a repository already, or the parts do not make one; nothing is left behind then.
pub fn restore(stored: &Path, work_tree: &Path, cancel: &Cancel) -> Result<GitRestored, GitError> {
    fs::create_dir_all(work_tree).map_err(GitError::io("make", work_tree))?;
    let bare = is_bare(stored, cancel)?;
    let place = if bare { work_tree.to_owned() } else { work_tree.join(".git") };
    if place.join("HEAD").exists() || fs::symlink_metadata(&place).is_ok() && !bare {
        return Err(GitError::Exists { path: place });
    }
    let built =
        tempfile::Builder::new().prefix(".havun-git-").tempdir_in(work_tree).map_err(GitError::io("make a folder in", work_tree))?;
    let building = Building { stored, git_dir: built.path(), cancel };
    let mut restored = building.build()?;
    give_owner(built.path(), work_tree)?;
    put_in_place(built.path(), &place, bare)?;
    restored.git_dir = place;
    Ok(restored)
}

fn is_bare(stored: &Path, cancel: &Cancel) -> Result<bool, GitError> {
    let config = stored.join(FILES).join("config");
    if !config.is_file() {
        return Ok(false);
    }
    let mut command = git(stored);
    command.args(["config", "--file"]).arg(&config).args(["--type=bool", "--get", "core.bare"]);
    let (_, answer) = process::capture(&mut command, cancel, 4096)?;
    Ok(answer.trim_ascii() == b"true")
}

struct Building<'a> {
    stored: &'a Path,
    git_dir: &'a Path,
    cancel: &'a Cancel,
}

impl Building<'_> {
    fn build(&self) -> Result<GitRestored, GitError> {
        for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            self.make_folder(&self.git_dir.join(folder))?;
        }
        let links = self.links()?;
        // Reflogs and the index come last: making refs would write into the one, and packs are needed for the other.
        self.copy(Path::new(""), &|relative| !is_late(relative))?;
        self.objects()?;
        let refs = self.refs(&links)?;
        self.copy(Path::new(""), &is_late)?;
        self.file_links(&links)?;
        self.forget_work_tree()?;
        Ok(GitRestored { refs, problems: self.fsck()?, ..GitRestored::default() })
    }

    fn make_folder(&self, folder: &Path) -> Result<(), GitError> {
        fs::create_dir_all(folder).map_err(GitError::io("make", folder))
    }

    fn links(&self) -> Result<Vec<Link>, GitError> {
        let path = self.stored.join(LINKS);
        let text = fs::read_to_string(&path).map_err(GitError::io("read", &path))?;
        let parse = |line: &str| serde_json::from_str(line).map_err(|error| GitError::io("read", &path)(io::Error::other(error)));
        text.lines().map(parse).collect()
    }

    fn copy(&self, relative: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), GitError> {
        let from = self.stored.join(FILES).join(relative);
        for entry in fs::read_dir(&from).map_err(GitError::io("list", &from))? {
            let entry = entry.map_err(GitError::io("list", &from))?;
            let kind = entry.file_type().map_err(GitError::io("look at", &from))?;
            let relative = relative.join(entry.file_name());
            let to = self.git_dir.join(&relative);
            if kind.is_dir() {
                self.make_folder(&to)?;
                self.copy(&relative, wanted)?;
            } else if kind.is_file() && wanted(&relative) {
                fs::copy(entry.path(), &to).map_err(GitError::io("write", &to))?;
            }
        }
        Ok(())
    }

    fn objects(&self) -> Result<(), GitError> {
        let bundle = self.stored.join(BUNDLE);
        if bundle.is_file() {
            ask(git(self.git_dir).args(["bundle", "unbundle", "--no-progress"]).arg(&bundle), "bundle unbundle", self.cancel)?;
        }
        let pack = self.stored.join(UNBUNDLED);
        if pack.is_file() && !is_empty_pack(&pack)? {
            let input = File::open(&pack).map_err(GitError::io("read", &pack))?;
            ask(git(self.git_dir).args(["index-pack", "--stdin"]).stdin(input), "index-pack", self.cancel)?;
        }
        Ok(())
    }

    fn refs(&self, links: &[Link]) -> Result<u64, GitError> {
        let bundle = self.stored.join(BUNDLE);
        if !bundle.is_file() {
            return Ok(0);
        }
        let heads = ask(git(self.git_dir).args(["bundle", "list-heads"]).arg(&bundle), "bundle list-heads", self.cancel)?;
        let is_symbolic = |name: &str| links.iter().any(|link| matches!(link, Link::Ref { symbolic_ref, .. } if symbolic_ref == name));
        let real = heads.lines().filter_map(|line| line.split_once(' ')).filter(|(_, name)| *name != "HEAD" && !is_symbolic(name));
        let (mut script, mut count) = (String::from("start\n"), 0);
        for (id, name) in real {
            script.push_str(&format!("create {name} {id}\n"));
            count += 1;
        }
        script.push_str("prepare\ncommit\n");
        self.feed(&["-c", "core.logAllRefUpdates=false", "update-ref", "--no-deref", "--stdin"], "update-ref", &script)?;
        for link in links {
            if let Link::Ref { symbolic_ref, target } = link {
                ask(git(self.git_dir).args(["symbolic-ref", symbolic_ref, target]), "symbolic-ref", self.cancel)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn feed(&self, arguments: &[&str], name: &'static str, input: &str) -> Result<(), GitError> {
        let fed = process::feed(git(self.git_dir).args(arguments), self.cancel, |stdin| stdin.write_all(input.as_bytes()))?;
        if fed.ended.status.success() && fed.given.is_ok() { Ok(()) } else { Err(GitError::failed(name, &fed.ended)) }
    }

    fn file_links(&self, links: &[Link]) -> Result<(), GitError> {
        for link in links {
            let Link::File { path, link } = link else { continue };
            if Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
                let at = self.git_dir.join(path);
                self.make_folder(at.parent().unwrap_or(self.git_dir))?;
                std::os::unix::fs::symlink(link, &at).map_err(GitError::io("make the link", &at))?;
            }
        }
        Ok(())
    }

    /// A submodule's repository says where its work tree was; here it is beside it.
    fn forget_work_tree(&self) -> Result<(), GitError> {
        let mut command = git(self.git_dir);
        let (ended, _) = process::capture(command.args(["config", "--local", "--unset-all", "core.worktree"]), self.cancel, 4096)?;
        // 5: there was none.
        if matches!(ended.status.code(), Some(0 | 5)) { Ok(()) } else { Err(GitError::failed("config", &ended)) }
    }

    fn fsck(&self) -> Result<Vec<String>, GitError> {
        let mut command = git(self.git_dir);
        command.args(["fsck", "--connectivity-only", "--no-dangling", "--no-progress"]);
        let (ended, text) = process::capture(&mut command, self.cancel, super::LONGEST_ANSWER)?;
        if ended.status.success() {
            return Ok(Vec::new());
        }
        let said = format!("{}\n{}", String::from_utf8_lossy(&text), ended.complaint);
        Ok(said.lines().filter(|line| !line.is_empty()).take(20).map(|line| format!("git fsck: {line}")).collect())
    }
}

fn is_late(relative: &Path) -> bool {
    relative == Path::new("index") || relative.starts_with("logs")
}

/// A pack's head is its magic, its version and the number of its objects.
fn is_empty_pack(path: &Path) -> Result<bool, GitError> {
    let mut head = [0; 12];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(GitError::io("read", path))?;
    Ok(head.ends_with(&[0; 4]))
}

/// The repository belongs to whom the work tree belongs: `git` refuses a stranger's.
fn give_owner(folder: &Path, work_tree: &Path) -> Result<(), GitError> {
    let wanted = fs::metadata(work_tree).map_err(GitError::io("look at", work_tree))?;
    let mode = fs::Permissions::from_mode(wanted.mode() & 0o777 | 0o700);
    fs::set_permissions(folder, mode).map_err(GitError::io("set the mode of", folder))?;
    if (wanted.uid(), wanted.gid()) == (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()) {
        return Ok(());
    }
    chown_all(folder, wanted.uid(), wanted.gid())
}

fn chown_all(path: &Path, uid: u32, gid: u32) -> Result<(), GitError> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(GitError::io("give an owner to", path))?;
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        for entry in fs::read_dir(path).map_err(GitError::io("list", path))? {
            chown_all(&entry.map_err(GitError::io("list", path))?.path(), uid, gid)?;
        }
    }
    Ok(())
}

fn put_in_place(built: &Path, place: &Path, bare: bool) -> Result<(), GitError> {
    if !bare {
        return fs::rename(built, place).map_err(GitError::io("rename to", place));
    }
    for entry in fs::read_dir(built).map_err(GitError::io("list", built))? {
        let entry = entry.map_err(GitError::io("list", built))?;
        let to = place.join(entry.file_name());
        fs::rename(entry.path(), &to).map_err(GitError::io("rename to", &to))?;
    }
    Ok(())
}
