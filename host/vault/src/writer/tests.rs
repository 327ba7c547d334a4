use super::*;
use crate::{
    entry::Time,
    matcher::PathMatcher,
    metadata::{LinkGroups, describe, open_file},
    walk::{Step, Walk},
};
use havun_model::TreeItem;
use rustix::fs::{Gid, Uid};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    process::Command,
};
use tempfile::{TempDir, tempdir};

const OPTIONS: WriteOptions = WriteOptions { overwrite: true, owner: true, sync: false };

fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-eu", "-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What rsync would have to change in `to` to make it `from`; empty when they are equal. Contents are compared too.
fn differences(from: &Path, to: &Path) -> String {
    assert_eq!(sums(from), sums(to));
    rsync(&["-aHAXni", "--delete"], from, to)
}

fn rsync(arguments: &[&str], from: &Path, to: &Path) -> String {
    let output = Command::new("rsync").args(arguments).arg(from.join("")).arg(to.join("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// SHA-256 of every file; of the largest, which is mostly hole, of the part with data.
fn sums(tree: &Path) -> String {
    let all = "find . -type f -size -100M -print0 | sort -z | xargs -0 sha256sum";
    let large = "find . -type f -size +100M -exec dd if={} bs=1M skip=4768 count=1 status=none ';' | sha256sum";
    sh(tree, all) + &sh(tree, large)
}

/// The entries of a tree with their stored content.
fn read_tree(root: &Path) -> Vec<(Entry, Vec<u8>)> {
    let everything = TreeItem { path: String::new(), include: Vec::new(), exclude: Vec::new(), json: false };
    let mut walk = Walk::new(root, Arc::new(PathMatcher::new([&everything]).unwrap()), b"", 1).unwrap();
    let handle = walk.root_handle();
    let (mut links, mut entries) = (LinkGroups::default(), Vec::new());
    while let Some(step) = walk.next_step() {
        let Step::Found(found) = step else { panic!("{step:?}") };
        let opened = (found.stat.kind == EntryKind::File).then(|| open_file(&*handle, found.rel).unwrap());
        let mut entry = describe(&*handle, found.rel, found.stat, opened.as_ref().map(|o| &o.file), Owners::of_host()).unwrap();
        entry.link_group = links.group(found.rel, found.stat).map(|(first, _)| first.to_vec());
        let content = opened.map(|o| stored(&o.file, &entry)).unwrap_or_default();
        entries.push((entry, content));
    }
    entries
}

fn stored(mut file: &File, entry: &Entry) -> Vec<u8> {
    let mut content = Vec::new();
    match &entry.sparse {
        None => drop(file.read_to_end(&mut content).unwrap()),
        Some(ranges) => {
            for (at, len) in ranges {
                let start = content.len();
                content.resize(start + *len as usize, 0);
                file.read_exact_at(&mut content[start..], *at).unwrap();
            }
        }
    }
    content
}

fn restore(entries: &[(Entry, Vec<u8>)], target: &Path, options: WriteOptions) -> WriteReport {
    let writer = TreeWriter::new(target, options).unwrap();
    let mut failed = Vec::new();
    for (entry, content) in entries {
        let placed = writer.place(&entry.path, entry);
        let done = match placed {
            Ok(Placed::File(file)) => file.write_at(0, content).and_then(|()| file.finish()),
            other => other.map(drop),
        };
        failed.extend(done.err().map(|error| (entry.path.clone(), error)));
    }
    let mut report = writer.finish();
    report.failed.splice(..0, failed);
    report
}

fn clean(report: &WriteReport) {
    assert!(report.failed.is_empty() && report.notes.is_empty(), "{report:?}");
}

fn file(path: &str, size: u64) -> Entry {
    Entry { path: path.as_bytes().to_vec(), size, mode: 0o644, ..Entry::default() }
}

fn dir(path: &str, mode: u32) -> Entry {
    Entry { path: path.as_bytes().to_vec(), kind: EntryKind::Dir, mode, ..Entry::default() }
}

/// A tree with one of everything.
fn zoo() -> TempDir {
    let zoo = tempdir().unwrap();
    sh(
        zoo.path(),
        r#"
        mkdir -p app/deep/er read-only sticky setgid acl
        printf one > app/one; printf two > app/deep/two; : > app/empty; head -c 3000000 /dev/urandom > app/large
        ln app/one app/deep/one-again; ln app/one z-one; ln -s ../one app/deep/link; ln -s /nowhere dangling; ln dangling dangling-too
        mkfifo pipe; ln pipe pipe-too; mknod null c 1 3; mknod disk b 7 200
        printf x > read-only/file; chmod 0400 read-only/file; chmod 0500 read-only
        chmod 1777 sticky; chmod 2775 setgid; chgrp 33 setgid; printf y > setgid/file
        cp /bin/true suid; chown 33:33 suid; chmod 6755 suid
        cp /bin/true capable; setcap cap_net_bind_service+ep capable
        setfattr -n user.comment -v 'with value' app/one; setfattr -n trusted.secret -v t app/deep; setfattr -h -n trusted.link -v l dangling
        setfattr -n user.empty app/empty
        setfacl -m u:1234:rwx,g:33:r acl; setfacl -d -m u:1234:rw,g::r acl; printf z > acl/inherits; setfacl -m u:4321:r app/large
        setfacl -m u:7:rw pipe
        chown -h 33:33 dangling; chown 12345:54321 app/empty; chmod 0000 app/empty
        touch -d '1953-01-02 03:04:05.000000006 UTC' app/one; touch -d '2106-02-07 06:28:17.999999999 UTC' app/deep/two
        touch -h -d '2001-01-01 00:00:00.5 UTC' dangling; touch -d '2002-02-02 02:02:02.25 UTC' pipe
        truncate -s 9G sparse; printf data | dd of=sparse bs=1 seek=5000000000 conv=notrunc status=none
        truncate -s 1M hole; printf tail > tail-data; truncate -s 300000 tail-data
        mkdir empty-folder; touch -d '1999-09-09 09:09:09.9 UTC' empty-folder app/deep/er
        "#,
    );
    for name in [b"caf\xe9".as_slice(), b"new\nline", b"\\back\\slash", b" ", b"\xff\xfe\x01"] {
        fs::write(zoo.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(zoo.path().join("n".repeat(255)), "long").unwrap();
    sh(zoo.path(), "touch -d '2020-02-02 20:20:20.202020202 UTC' . app read-only");
    zoo
}

#[test]
fn one_of_everything_comes_back_the_same() {
    let zoo = zoo();
    let target = tempdir().unwrap();
    let new = target.path().join("new/folder");
    let entries = read_tree(zoo.path());
    clean(&restore(&entries, &new, OPTIONS));
    assert_eq!(differences(zoo.path(), &new), "");
    assert_eq!(sh(&new, "getcap capable"), sh(zoo.path(), "getcap capable"));
    assert!(fs::metadata(new.join("sparse")).unwrap().blocks() * 512 < 1 << 20);
    assert_eq!(fs::metadata(new.join("app/one")).unwrap().nlink(), 3);
}

#[test]
fn restoring_over_a_changed_tree_mends_it() {
    let zoo = zoo();
    let target = tempdir().unwrap();
    let entries = read_tree(zoo.path());
    clean(&restore(&entries, target.path(), OPTIONS));
    assert_eq!(differences(zoo.path(), target.path()), "");
    sh(
        target.path(),
        r#"
        printf changed > app/one; rm app/deep/two; mkdir app/deep/two; rm app/deep/link; printf file > app/deep/link
        chmod 0777 read-only acl; setfacl -b acl; setfattr -n user.foreign -v x app; setfattr -n user.foreign -v x app/large
        rm pipe null; ln -s /etc/passwd null; rm -r sticky; ln -s /tmp sticky; touch app empty-folder
        truncate -s 100 sparse; chown 1:1 suid; rm -r empty-folder; printf not-a-folder > empty-folder
        "#,
    );
    clean(&restore(&entries, target.path(), OPTIONS));
    assert_eq!(differences(zoo.path(), target.path()), "");
    assert_eq!(sh(target.path(), "ls -A | grep havun-restore || true"), "");
}

#[test]
fn nothing_is_inherited_from_the_target() {
    let zoo = zoo();
    let target = tempdir().unwrap();
    sh(target.path(), "chgrp 33 .; chmod 2777 .; setfacl -d -m u:99:rwx,g:98:rwx .");
    let entries = read_tree(zoo.path());
    clean(&restore(&entries, &target.path().join("new"), OPTIONS));
    assert_eq!(differences(zoo.path(), &target.path().join("new")), "");
    // In the folder itself, where what is made does inherit.
    let alone: Vec<_> = entries.into_iter().filter(|(entry, _)| !entry.path.is_empty()).collect();
    fs::remove_dir_all(target.path().join("new")).unwrap();
    clean(&restore(&alone, target.path(), OPTIONS));
    let difference = differences(zoo.path(), target.path());
    assert!(difference.lines().all(|line| line.ends_with(" ./")), "{difference}");
}

#[test]
fn a_target_made_here_is_private_and_folders_on_the_way_are_not() {
    let folder = tempdir().unwrap();
    let target = folder.path().join("t");
    clean(&restore(&[(file("a/b/c", 1), b"x".to_vec())], &target, OPTIONS));
    let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("a"), mode("a/b"), mode("a/b/c")), (0o700, 0o755, 0o755, 0o644));
}

#[test]
fn a_symbolic_link_in_the_target_is_never_followed() {
    let folder = tempdir().unwrap();
    let (outside, target) = (folder.path().join("outside"), folder.path().join("target"));
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    symlink(&outside, target.join("out")).unwrap();
    symlink("../outside/file", target.join("file")).unwrap();
    symlink(&outside, target.join("folder")).unwrap();
    let pipe = Entry { path: b"out/pipe".to_vec(), kind: EntryKind::Fifo, ..Entry::default() };
    let link = Entry { path: b"out/hard".to_vec(), link_group: Some(b"g".to_vec()), ..Entry::default() };
    let first = Entry { path: b"real".to_vec(), link_group: Some(b"g".to_vec()), ..Entry::default() };
    let entries = [
        (file("out/new", 1), b"x".to_vec()),
        (file("out/sub/new", 1), b"x".to_vec()),
        (pipe, Vec::new()),
        (file("file", 3), b"new".to_vec()),
        (dir("folder", 0o755), Vec::new()),
        (file("folder/file", 2), b"in".to_vec()),
        (first, Vec::new()),
        (link, Vec::new()),
    ];
    let report = restore(&entries, &target, OPTIONS);
    let failed: Vec<&[u8]> = report.failed.iter().map(|(path, _)| path.as_slice()).collect();
    assert_eq!(failed, [b"out/new".as_slice(), b"out/sub/new", b"out/pipe", b"out/hard"]);
    assert!(report.failed.iter().all(|(_, e)| matches!(e, WriteError::NoFolder { .. })), "{report:?}");
    assert_eq!(sh(&outside, "find . | sort | tr '\\n' ' '"), ". ./file ./sub ");
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"precious");
    assert_eq!(fs::read(target.join("file")).unwrap(), b"new");
    assert_eq!(fs::read(target.join("folder/file")).unwrap(), b"in");
}

#[test]
fn a_symbolic_link_of_the_archive_is_never_followed() {
    let folder = tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let evil = |path: &str, target: &Path| Entry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::Symlink,
        target: Some(target.as_os_str().as_bytes().to_vec()),
        ..Entry::default()
    };
    let entries = [
        (evil("a", &outside), Vec::new()),
        (file("a/x", 1), b"x".to_vec()),
        (evil("b", Path::new(".")), Vec::new()),
        (file("b/x", 1), b"x".to_vec()),
    ];
    let report = restore(&entries, &folder.path().join("target"), OPTIONS);
    assert_eq!(report.failed.len(), 2, "{report:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn paths_that_lead_out_are_refused() {
    let folder = tempdir().unwrap();
    for path in ["../x", "/etc/x", "a/../../x", "a//x", "a/.", "a\0b", ""] {
        let report = restore(&[(file(path, 0), Vec::new())], &folder.path().join("target"), OPTIONS);
        assert!(matches!(report.failed.as_slice(), [(_, WriteError::Outside)]), "{path:?}: {report:?}");
    }
    let report = restore(&[(dir("../x", 0o755), Vec::new())], &folder.path().join("target"), OPTIONS);
    assert!(matches!(report.failed.as_slice(), [(_, WriteError::Outside)]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn without_overwrite_what_lies_there_stays() {
    let folder = tempdir().unwrap();
    sh(folder.path(), "mkdir d; printf old > file; printf old > d/file; ln -s old link; mkdir folder; printf x > folder/x");
    let link = Entry { path: b"link".to_vec(), kind: EntryKind::Symlink, target: Some(b"new".to_vec()), ..Entry::default() };
    let entries = [
        (dir("d", 0o711), Vec::new()),
        (file("d/file", 3), b"new".to_vec()),
        (file("d/other", 3), b"new".to_vec()),
        (file("file", 3), b"new".to_vec()),
        (file("folder", 3), b"new".to_vec()),
        (link, Vec::new()),
    ];
    let report = restore(&entries, folder.path(), WriteOptions { overwrite: false, ..OPTIONS });
    assert_eq!(report.failed.len(), 4);
    assert!(report.failed.iter().all(|(_, e)| matches!(e, WriteError::Exists)), "{report:?}");
    assert_eq!(sh(folder.path(), "cat file d/file d/other; readlink link; find . -name '.havun*'"), "oldoldnewold\n");
}

#[test]
fn a_full_folder_is_not_removed_for_a_file() {
    let folder = tempdir().unwrap();
    sh(folder.path(), "mkdir folder; printf x > folder/x");
    let report = restore(&[(file("folder", 3), b"new".to_vec())], folder.path(), OPTIONS);
    assert!(matches!(report.failed.as_slice(), [(_, WriteError::Io { .. })]), "{report:?}");
    assert_eq!(sh(folder.path(), "find . -type f"), "./folder/x\n");
}

#[test]
fn a_file_that_is_not_whole_never_appears() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("old"), "old content").unwrap();
    let writer = TreeWriter::new(folder.path(), OPTIONS).unwrap();
    let begin = |path: &str| match writer.place(path.as_bytes(), &file(path, 10)).unwrap() {
        Placed::File(file) => file,
        other => panic!("{other:?}"),
    };
    let half = begin("old");
    half.write_at(0, b"12345").unwrap();
    assert!(matches!(half.finish(), Err(WriteError::Incomplete { written: 5, expected: 10 })));
    let dropped = begin("dropped");
    dropped.write_at(0, b"1234567890").unwrap();
    drop(dropped);
    let beyond = begin("beyond");
    assert!(matches!(beyond.write_at(5, b"123456"), Err(WriteError::Incomplete { .. })));
    assert!(matches!(beyond.write_at(u64::MAX, b"1"), Err(WriteError::Incomplete { .. })));
    drop(beyond);
    clean(&writer.finish());
    assert_eq!(sh(folder.path(), "ls -A; cat old"), "old\nold content");
}

#[test]
fn content_may_come_in_any_order_from_several_threads() {
    let folder = tempdir().unwrap();
    let writer = TreeWriter::new(folder.path(), OPTIONS).unwrap();
    let content: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
    let sparse =
        Entry { size: 1 << 20, sparse: Some(vec![(10, 40_000), (100_000, 0), (200_000, 1), (300_000, 59_999)]), ..file("sparse", 0) };
    for entry in [file("plain", 100_000), sparse.clone()] {
        let Placed::File(new) = writer.place(&entry.path, &entry).unwrap() else { panic!() };
        std::thread::scope(|scope| {
            for part in 0..4 {
                let (new, content) = (&new, &content);
                scope.spawn(move || {
                    for at in (0..100).rev().filter(|at| at % 4 == part) {
                        new.write_at(at * 1000, &content[at as usize * 1000..][..1000]).unwrap();
                    }
                });
            }
        });
        new.finish().unwrap();
    }
    clean(&writer.finish());
    assert_eq!(fs::read(folder.path().join("plain")).unwrap(), content);
    let mut expected = vec![0; 1 << 20];
    let mut from = 0;
    for (at, len) in sparse.sparse.unwrap() {
        expected[at as usize..][..len as usize].copy_from_slice(&content[from..][..len as usize]);
        from += len as usize;
    }
    assert!(fs::read(folder.path().join("sparse")).unwrap() == expected);
}

/// Runs `act` on a thread that is another user, without any right of root.
fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(65534));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            act()
        });
        thread.join().unwrap()
    })
}

#[test]
fn without_root_all_but_owners_and_devices_comes_back() {
    let zoo = zoo();
    let entries = read_tree(zoo.path());
    let target = tempdir().unwrap();
    sh(target.path(), "chmod 777 .");
    let new = target.path().join("new");
    // A second time over the first: read-only folders are in the way.
    for _ in 0..2 {
        let report = as_nobody(|| restore(&entries, &new, OPTIONS));
        assert!(report.failed.is_empty(), "{report:?}");
        let notes = report.notes.join("; ");
        for what in ["owner or group", "setuid", "extended attributes", "2 devices"] {
            assert!(notes.contains(what), "{what}: {notes}");
        }
        let arguments = ["-rlptHni", "--specials", "--exclude=/null", "--exclude=/disk", "--delete"];
        assert_eq!(sums(zoo.path()), sums(&new));
        let difference = rsync(&arguments, zoo.path(), &new);
        // The two setuid bits went with the owner; files with capabilities keep their mode.
        let mut expected: Vec<&str> = difference.lines().collect();
        expected.retain(|line| !line.ends_with(" suid"));
        assert!(expected.is_empty(), "{difference}");
        assert_eq!(fs::metadata(new.join("suid")).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}

#[test]
fn owners_that_are_not_wanted_take_their_setuid_bits_with_them() {
    let folder = tempdir().unwrap();
    let suid = Entry { uid: 33, gid: 33, mode: 0o6755, ..file("suid", 0) };
    let report = restore(&[(suid, Vec::new())], folder.path(), WriteOptions { owner: false, ..OPTIONS });
    assert!(report.failed.is_empty() && report.notes.len() == 1, "{report:?}");
    let found = fs::metadata(folder.path().join("suid")).unwrap();
    assert_eq!((found.uid(), found.permissions().mode() & 0o7777), (0, 0o755));
}

#[test]
fn owners_go_by_name_where_the_host_knows_it() {
    let folder = tempdir().unwrap();
    let named = Entry { uid: 4444, gid: 4444, user: "www-data".to_owned(), group: "www-data".to_owned(), ..file("named", 0) };
    let unknown = Entry { uid: 4444, gid: 5555, user: "no-such-user".to_owned(), ..file("unknown", 0) };
    clean(&restore(&[(named, Vec::new()), (unknown, Vec::new())], folder.path(), OPTIONS));
    assert_eq!(sh(folder.path(), "stat -c '%u %g' named unknown"), "33 33\n4444 5555\n");
}

#[test]
fn a_socket_is_skipped_with_a_note() {
    let folder = tempdir().unwrap();
    let socket = Entry { path: b"socket".to_vec(), kind: EntryKind::Socket, ..Entry::default() };
    let report = restore(&[(socket, Vec::new())], folder.path(), OPTIONS);
    assert!(report.failed.is_empty() && report.notes[0].contains("1 socket"), "{report:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn links_whose_first_member_was_not_chosen_link_to_each_other() {
    let folder = tempdir().unwrap();
    let member = |path: &str| Entry { link_group: Some(b"tree/not-chosen".to_vec()), ..file(path, 1) };
    let entries = [(member("b"), b"x".to_vec()), (member("d/c"), b"x".to_vec())];
    for _ in 0..2 {
        clean(&restore(&entries, folder.path(), OPTIONS));
        assert_eq!(sh(folder.path(), "stat -c %h b d/c; find . -name '.havun*'"), "2\n2\n");
    }
}

#[test]
fn incomplete_entries_and_impossible_targets_are_errors() {
    let folder = tempdir().unwrap();
    let of = |kind| Entry { path: b"x".to_vec(), kind, ..Entry::default() };
    for kind in [EntryKind::Symlink, EntryKind::Char, EntryKind::Block] {
        let report = restore(&[(of(kind), Vec::new())], folder.path(), OPTIONS);
        assert!(matches!(report.failed.as_slice(), [(_, WriteError::Lacks { .. })]), "{report:?}");
    }
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(TreeWriter::new(&folder.path().join("file"), OPTIONS).is_err());
    assert!(TreeWriter::new(&folder.path().join("file/below"), OPTIONS).is_err());
}

#[test]
fn a_restore_onto_the_disk_can_be_asked_for() {
    let folder = tempdir().unwrap();
    let entry = Entry { mtime: Time { secs: 5, nanos: 6 }, ..file("x", 1) };
    clean(&restore(&[(entry, b"x".to_vec())], folder.path(), WriteOptions { sync: true, ..OPTIONS }));
    assert_eq!(fs::metadata(folder.path().join("x")).unwrap().mtime_nsec(), 6);
}

#[test]
fn a_full_disk_fails_the_file_and_leaves_no_piece_of_it() {
    let folder = tempdir().unwrap();
    let script = "mount -t tmpfs -o size=200k none \"$1\" && HAVUN_TEST_FULL_DISK=\"$1\" \"$2\" --exact writer::tests::inside_a_full_disk --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("disk was full"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// The inner half of the test above: does nothing unless that one calls it.
#[test]
fn inside_a_full_disk() {
    let Some(folder) = std::env::var_os("HAVUN_TEST_FULL_DISK") else { return };
    let folder = Path::new(&folder);
    fs::write(folder.join("big"), "old").unwrap();
    let entries =
        [(file("big", 300_000), vec![1; 300_000]), (file("new/big", 300_000), vec![1; 300_000]), (file("small", 5), b"small".to_vec())];
    let report = restore(&entries, folder, OPTIONS);
    assert_eq!(report.failed.len(), 2, "{report:?}");
    assert_eq!(sh(folder, "find . -type f | sort | xargs cat"), "oldsmall");
    println!("disk was full");
}
