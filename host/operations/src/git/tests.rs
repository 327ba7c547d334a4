//! Against the real `git`.

use super::*;
use havun_model::GitItem;
use std::{fs, os::unix::fs::PermissionsExt};

struct Place {
    folder: tempfile::TempDir,
}

fn place() -> Place {
    let place = Place { folder: tempfile::tempdir().unwrap() };
    fs::create_dir(place.work()).unwrap();
    place
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "A")
            .env(format!("GIT_{who}_EMAIL"), "a@example.org")
            .env(format!("GIT_{who}_DATE"), "1700000000 +0100");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn lines(folder: &Path, script: &str) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        run(folder, &line.split(' ').collect::<Vec<_>>());
    }
}

impl Place {
    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn work(&self) -> PathBuf {
        self.root().join("project")
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.work().join(path), text).unwrap();
    }

    fn open(&self) -> Result<Repository, GitError> {
        Repository::open(&self.work(), &GitItem { path: String::new() })
    }

    /// Stores the repository into the folder `name`, as a restore would find it.
    fn store(&self, name: &str) -> (PathBuf, GitParts) {
        let (stored, cancel) = (self.root().join(name), Cancel::default());
        let mut repository = self.open().unwrap();
        let parts = repository.parts(&cancel).unwrap();
        assert!(parts.parts.is_sorted_by(|a, b| a.path.split('/').lt(b.path.split('/'))));
        for part in &parts.parts {
            let path = stored.join(&part.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            repository.write(part, &mut fs::File::create(&path).unwrap(), &cancel).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(part.mode)).unwrap();
        }
        (stored, parts)
    }

    /// The work tree's files without its `.git`, elsewhere.
    fn other_work_tree(&self) -> PathBuf {
        let other = self.root().join("other");
        let copied = Command::new("cp").arg("-a").arg(self.work()).arg(&other).status().unwrap();
        assert!(copied.success());
        fs::remove_dir_all(other.join(".git")).unwrap();
        other
    }
}

/// Everything that a person sees of a repository.
fn state(folder: &Path) -> String {
    let questions: [&[&str]; 9] = [
        &["status", "--porcelain=v1", "--branch"],
        &["for-each-ref"],
        &["log", "--all", "--graph", "--format=%H %D %s"],
        &["reflog", "--all"],
        &["stash", "list"],
        &["stash", "show", "-p", "stash@{1}"],
        &["ls-files", "--stage"],
        &["config", "--local", "--list"],
        &["fsck", "--full", "--strict", "--no-dangling"],
    ];
    questions.map(|question| run(folder, question)).join("\n---\n")
}

fn busy_repository(place: &Place) {
    let work = place.work();
    place.write("a", "one");
    lines(&work, "init -q -b main\nadd a\ncommit -q -m first\ntag -a v1 -m release\nbranch side");
    place.write("a", "two");
    lines(&work, "commit -q -a -m second\npack-refs --all");
    place.write("a", "three");
    lines(&work, "commit -q --amend -a -m amended");
    place.write("a", "stashed first");
    lines(&work, "stash");
    place.write("a", "stashed second");
    lines(&work, "stash\nupdate-ref refs/remotes/origin/main HEAD\nsymbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/main");
    place.write("a", "dirty");
    place.write("staged", "only in the index");
    lines(&work, "add staged\nconfig core.logAllRefUpdates true\nconfig remote.origin.url ../upstream.git");
    place.write("staged", "changed since");
    place.write("untracked", "u");
    let hook = work.join(".git/hooks/pre-commit");
    fs::write(&hook, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("../../scripts/push", work.join(".git/hooks/pre-push")).unwrap();
}

#[test]
fn a_restored_repository_is_the_same_in_every_respect() {
    let place = place();
    busy_repository(&place);
    let before = state(&place.work());
    let (stored, parts) = place.store("stored");
    assert_eq!((parts.notes, parts.problems), (Vec::<String>::new(), Vec::<String>::new()));
    let other = place.other_work_tree();
    let restored = restore(&stored, &other, &Cancel::default()).unwrap();
    assert_eq!(restored.problems, Vec::<String>::new());
    assert_eq!(state(&other), before);
    let hook = other.join(".git/hooks/pre-commit");
    assert_eq!(fs::metadata(hook).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_link(other.join(".git/hooks/pre-push")).unwrap(), Path::new("../../scripts/push"));
    assert!(run(&other, &["show", ":staged"]) == "only in the index");

    let clone = place.root().join("clone");
    run(place.root(), &["clone", "-q", &stored.join(BUNDLE).display().to_string(), &clone.display().to_string()]);
    assert_eq!(run(&clone, &["log", "-1", "--format=%s"]), "amended\n");
}

#[test]
fn the_same_repository_gives_the_same_bytes() {
    let place = place();
    busy_repository(&place);
    let (first, parts) = place.store("first");
    let (second, _) = place.store("second");
    for part in &parts.parts {
        assert!(fs::read(first.join(&part.path)).unwrap() == fs::read(second.join(&part.path)).unwrap(), "{}", part.path);
    }
}

#[test]
fn a_repository_without_a_commit_keeps_its_index() {
    let place = place();
    place.write("a", "staged");
    lines(&place.work(), "init -q -b trunk\nadd a");
    let (stored, parts) = place.store("stored");
    assert!(!stored.join(BUNDLE).exists() && parts.notes[0].contains("no commit"));
    let other = place.other_work_tree();
    restore(&stored, &other, &Cancel::default()).unwrap();
    assert_eq!(run(&other, &["status", "--porcelain", "--branch"]), "## No commits yet on trunk\nA  a\n");
}

#[test]
fn a_detached_head_and_a_bare_repository_come_back() {
    let place = place();
    place.write("a", "one");
    lines(&place.work(), "init -q -b main\nadd a\ncommit -q -m first\ncheckout -q --detach");
    place.write("a", "two");
    lines(&place.work(), "commit -q -a -m loose");
    let before = run(&place.work(), &["log", "--oneline", "--decorate"]);
    let (stored, _) = place.store("stored");
    let other = place.other_work_tree();
    restore(&stored, &other, &Cancel::default()).unwrap();
    assert_eq!(run(&other, &["log", "--oneline", "--decorate"]), before);

    let (upstream, back) = (place.root().join("project/upstream.git"), place.root().join("back.git"));
    run(&place.work(), &["clone", "-q", "--bare", ".", &upstream.display().to_string()]);
    let cancel = Cancel::default();
    let mut repository = Repository::open(&place.work(), &GitItem { path: "upstream.git".to_owned() }).unwrap();
    let stored = place.root().join("stored-bare");
    for part in &repository.parts(&cancel).unwrap().parts {
        let path = stored.join(&part.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        repository.write(part, &mut fs::File::create(&path).unwrap(), &cancel).unwrap();
    }
    restore(&stored, &back, &cancel).unwrap();
    assert_eq!(run(&back, &["for-each-ref"]), run(&upstream, &["for-each-ref"]));
    assert!(back.join("HEAD").is_file() && !back.join(".git").exists());
}

#[test]
fn an_unfinished_merge_is_still_unfinished() {
    let place = place();
    place.write("a", "base");
    lines(&place.work(), "init -q -b main\nadd a\ncommit -q -m base\ncheckout -q -b other");
    place.write("a", "theirs");
    lines(&place.work(), "commit -q -a -m theirs\ncheckout -q main");
    place.write("a", "ours");
    lines(&place.work(), "commit -q -a -m ours");
    let merge = Command::new("git")
        .current_dir(place.work())
        .args(["-c", "user.name=A", "-c", "user.email=a@b", "merge", "other"])
        .output()
        .unwrap();
    assert!(!merge.status.success());
    lines(&place.work(), "branch -D other");
    fs::remove_dir_all(place.work().join(".git/logs")).unwrap();
    let (stored, _) = place.store("stored");
    let other = place.other_work_tree();
    let restored = restore(&stored, &other, &Cancel::default()).unwrap();
    assert_eq!(restored.problems, Vec::<String>::new());
    assert_eq!(run(&other, &["status", "--porcelain"]), "UU a\n");
    assert_eq!(run(&other, &["log", "-1", "--format=%s", "MERGE_HEAD"]), "theirs\n");
}

#[test]
fn nothing_of_the_repositorys_choice_is_run() {
    let place = place();
    busy_repository(&place);
    let trap = place.root().join("sprung");
    let script = place.root().join("trap");
    fs::write(&script, format!("#!/bin/sh\ntouch {}\n", trap.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for hook in ["reference-transaction", "post-index-change", "post-checkout"] {
        fs::copy(&script, place.work().join(".git/hooks").join(hook)).unwrap();
    }
    let script = script.display().to_string();
    for setting in ["core.fsmonitor", "core.sshCommand", "core.pager", "core.alternateRefsCommand", "uploadpack.packObjectsHook"] {
        run(&place.work(), &["config", setting, &script]);
    }
    let _ = fs::remove_file(&trap);
    let (stored, _) = place.store("stored");
    restore(&stored, &place.other_work_tree(), &Cancel::default()).unwrap();
    assert!(!trap.exists());
}

#[test]
fn what_is_no_repository_of_the_project_is_refused() {
    let place = place();
    assert!(matches!(place.open().err().unwrap(), GitError::NotARepository { .. }));
    let elsewhere = place.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    run(&elsewhere, &["init", "-q"]);
    std::os::unix::fs::symlink(elsewhere.join(".git"), place.work().join(".git")).unwrap();
    assert!(matches!(place.open().err().unwrap(), GitError::Outside { .. }));
    let climbing = GitItem { path: "../elsewhere".to_owned() };
    assert!(matches!(Repository::open(&place.work(), &climbing).err().unwrap(), GitError::Outside { .. }));
}

#[test]
fn a_present_repository_is_kept_and_damaged_parts_leave_nothing() {
    let place = place();
    busy_repository(&place);
    let (stored, _) = place.store("stored");
    assert!(matches!(restore(&stored, &place.work(), &Cancel::default()).unwrap_err(), GitError::Exists { .. }));
    let bundle = fs::read(stored.join(BUNDLE)).unwrap();
    fs::write(stored.join(BUNDLE), &bundle[..bundle.len() - 30]).unwrap();
    let other = place.other_work_tree();
    let before = fs::read_dir(&other).unwrap().count();
    assert!(matches!(restore(&stored, &other, &Cancel::default()).unwrap_err(), GitError::Failed { .. }));
    assert_eq!(fs::read_dir(&other).unwrap().count(), before);
}

#[test]
fn a_missing_git_is_said_in_these_words() {
    let error = GitError::from(ProcessError::Spawn { program: "git".to_owned(), source: io::ErrorKind::NotFound.into() });
    assert!(matches!(error, GitError::NoGit), "{error}");
}
