use super::*;
use crate::paths::compare_paths;
use havun_model::TreeItem;
use proptest::{collection as some, prelude::*};
use rustix::fs::{Gid, Uid};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    process::Command,
};

fn everything() -> TreeItem {
    TreeItem { path: String::new(), include: Vec::new(), exclude: Vec::new(), json: false }
}

fn start(root: &Path, items: &[TreeItem], threads: usize) -> Walk {
    Walk::new(root, Arc::new(PathMatcher::new(items).unwrap()), b"tree", threads).unwrap()
}

type Met = Vec<(Vec<u8>, usize)>;

/// Paths with their items, and problems.
fn walk(root: &Path, items: &[TreeItem], threads: usize) -> (Met, Vec<String>) {
    let mut walk = start(root, items, threads);
    let (mut met, mut problems) = (Met::new(), Vec::new());
    while let Some(step) = walk.next_step() {
        match step {
            Step::Found(found) => {
                assert_eq!(
                    found.path.strip_prefix(b"tree".as_slice()).unwrap(),
                    [b"/".as_slice(), found.rel].concat().get(usize::from(found.rel.is_empty())..).unwrap()
                );
                met.push((found.rel.to_vec(), found.item));
            }
            Step::Problem { rel, error, .. } => problems.push(format!("{}: {error}", String::from_utf8_lossy(rel))),
        }
    }
    (met, problems)
}

fn rels(met: &Met) -> Vec<String> {
    met.iter().map(|(rel, _)| String::from_utf8_lossy(rel).into_owned()).collect()
}

fn make(root: &Path, paths: &[&str]) {
    for path in paths {
        let full = root.join(path.trim_end_matches('/'));
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, path).unwrap();
        }
    }
}

#[test]
fn steps_come_in_path_order_folders_first() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a/b", "a-b", "a/sub/deep/x", "a.txt", "B", "empty/", "z/1", "z/10", "z/2"]);
    let (met, problems) = walk(root.path(), &[everything()], 2);
    let expected = ["", "B", "a", "a/b", "a/sub", "a/sub/deep", "a/sub/deep/x", "a-b", "a.txt", "empty", "z", "z/1", "z/10", "z/2"];
    assert_eq!(rels(&met), expected);
    assert!(problems.is_empty());
}

#[test]
fn folders_on_the_way_are_reported_only_with_something_in_them() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a/b/c/x.jpg", "a/b/none/y.txt", "a/y.txt", "q/r/y.txt", "data/store.json", "data/other"]);
    let jpg = TreeItem { include: vec!["**/*.jpg".to_owned()], ..everything() };
    let data = TreeItem { path: "data".to_owned(), exclude: vec!["data/other".to_owned()], ..everything() };
    let (met, _) = walk(root.path(), &[jpg, data], 2);
    let expected = [("", 0), ("a", 0), ("a/b", 0), ("a/b/c", 0), ("a/b/c/x.jpg", 0), ("data", 1), ("data/store.json", 1)];
    assert_eq!(met, expected.map(|(rel, item)| (rel.as_bytes().to_vec(), item)));
}

#[test]
fn links_are_reported_and_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    make(outside.path(), &["secret/x"]);
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a/x"]);
    symlink(outside.path(), root.path().join("out")).unwrap();
    symlink("a", root.path().join("in")).unwrap();
    symlink("..", root.path().join("a/up")).unwrap();
    assert_eq!(rels(&walk(root.path(), &[everything()], 2).0), ["", "a", "a/up", "a/x", "in", "out"]);
}

#[test]
fn a_link_in_the_items_path_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["real/x"]);
    symlink("real", root.path().join("link")).unwrap();
    let item = TreeItem { path: "link".to_owned(), ..everything() };
    assert_eq!(rels(&walk(root.path(), &[item], 1).0), ["", "link"]);
}

#[test]
fn names_that_are_no_text_and_long_names_are_met() {
    let root = tempfile::tempdir().unwrap();
    let long = [b'n'; 255];
    for name in [b"caf\xe9".as_slice(), b"new\nline", b"\xff\xfe", &long] {
        fs::write(root.path().join(OsStr::from_bytes(name)), "").unwrap();
    }
    let (met, _) = walk(root.path(), &[everything()], 2);
    let names: Vec<&[u8]> = met.iter().map(|(rel, _)| rel.as_slice()).collect();
    assert_eq!(names, [b"".as_slice(), b"caf\xe9", b"new\nline", &long, b"\xff\xfe"]);
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_walked() {
    let root = tempfile::tempdir().unwrap();
    let name = "d".repeat(200);
    let mut dir = rustix::fs::open(root.path(), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..30 {
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = openat(&dir, &name, OFlags::PATH, Mode::empty()).unwrap();
    }
    let (met, problems) = walk(root.path(), &[everything()], 2);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(met.len(), 31);
    assert_eq!(met.last().unwrap().0.len(), 30 * 201 - 1);
}

#[test]
fn a_large_folder_comes_whole_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    for n in 0..5000 {
        fs::write(root.path().join(format!("{n}")), "").unwrap();
    }
    for n in [17, 1023, 1024, 1025, 4999] {
        make(root.path(), &[&format!("d{n}/x")]);
    }
    for threads in [1, 2, 4] {
        let (met, _) = walk(root.path(), &[everything()], threads);
        assert_eq!(met.len(), 5011);
        assert!(met.windows(2).all(|w| compare_paths(&w[0].0, &w[1].0).is_lt()));
    }
}

#[test]
fn what_cannot_be_entered_is_a_problem_and_the_rest_is_met() {
    // As root every folder can be entered: the walk is done by a child that gives up root.
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    make(root.path(), &["a/x", "locked/x", "z"]);
    fs::set_permissions(root.path().join("locked"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let (met, problems) = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // Only this thread (and those that it starts) changes its user.
                if rustix::process::geteuid().is_root() {
                    rustix::thread::set_thread_res_gid(Gid::from_raw(65534), Gid::from_raw(65534), Gid::from_raw(65534)).unwrap();
                    rustix::thread::set_thread_res_uid(Uid::from_raw(65534), Uid::from_raw(65534), Uid::from_raw(65534)).unwrap();
                }
                walk(root.path(), &[everything()], 2)
            })
            .join()
            .unwrap()
    });
    assert_eq!(rels(&met), ["", "a", "a/x", "locked", "z"]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("locked: "), "{problems:?}");
}

#[test]
fn a_walk_given_up_half_way_ends_its_threads() {
    let root = tempfile::tempdir().unwrap();
    for n in 0..300 {
        make(root.path(), &[&format!("d{n}/e/x"), &format!("d{n}/f/x")]);
    }
    let mut walk = start(root.path(), &[everything()], 3);
    for _ in 0..10 {
        assert!(walk.next_step().is_some());
    }
}

#[test]
fn a_missing_root_and_a_file_are_refused() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["file"]);
    let matcher = Arc::new(PathMatcher::new(&[everything()]).unwrap());
    for path in ["missing", "file"] {
        assert!(Walk::new(&root.path().join(path), Arc::clone(&matcher), b"tree", 2).is_err());
    }
}

#[test]
fn a_folder_mounted_in_itself_is_reported_and_not_entered() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a/b/x"]);
    let script = "mount --bind \"$1\" \"$1/a/b\" && \"$2\" --exact walk::tests::inside_a_mount_loop --nocapture";
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(root.path())
        .arg(program)
        .env("HAVUN_TEST_MOUNT_LOOP", root.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("loop was noticed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// The inner half of the test above: does nothing unless that one calls it.
#[test]
fn inside_a_mount_loop() {
    let Some(root) = std::env::var_os("HAVUN_TEST_MOUNT_LOOP") else { return };
    let (met, problems) = walk(Path::new(&root), &[everything()], 2);
    assert_eq!(rels(&met), ["", "a"]);
    assert_eq!(problems.len(), 1);
    println!("loop was noticed");
}

fn some_paths() -> impl Strategy<Value = BTreeSet<String>> {
    some::btree_set("[a-c](/[a-c\u{1}.-]{1,2}x){0,4}", 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn threads_and_find_agree(paths in some_paths(), exclude in some::vec("[a-c](/\\*\\*|/\\*x)?", 0..3)) {
        let root = tempfile::tempdir().unwrap();
        for path in &paths {
            // A path may be another's folder: then it stays one.
            let full = root.path().join(path);
            let _either = fs::create_dir_all(full.parent().unwrap()).and_then(|()| fs::write(full, ""));
        }
        let item = TreeItem { exclude, ..everything() };
        let one = walk(root.path(), std::slice::from_ref(&item), 1);
        prop_assert_eq!(&one, &walk(root.path(), &[item], 3));
        prop_assert!(one.0.windows(2).all(|w| compare_paths(&w[0].0, &w[1].0).is_lt()));
        let all: BTreeSet<Vec<u8>> = walk(root.path(), &[everything()], 2).0.into_iter().map(|(rel, _)| rel).collect();
        let find = Command::new("find").arg(root.path()).args(["-printf", "%P\\0"]).output().unwrap().stdout;
        let found: BTreeSet<Vec<u8>> = find.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(all, found);
    }
}
