use super::*;
use crate::entry::{EntryKind, Time};
use rustix::fs::{CWD, Mode, OFlags, XattrFlags, fsetxattr, openat};
use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, symlink},
    },
    path::Path,
    process::Command,
};

fn open(folder: &Path) -> OwnedFd {
    openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let output = Command::new(program).args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn names_come_from_the_first_line_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let (passwd, group) = (folder.path().join("passwd"), folder.path().join("group"));
    fs::write(
        &passwd,
        b"root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:\nalias:x:33:33::/:\n#old:x:1:1\n+nis:x:2:2\nbroken\nbad:x:no:1\n\xff\xfe:x:9:9\n",
    )
    .unwrap();
    fs::write(&group, "www-data:x:33:\n").unwrap();
    let owners = Owners::read(&passwd, &group);
    assert_eq!((owners.user(33), owners.group(33), owners.user(1), owners.user(2), owners.user(77)), ("www-data", "www-data", "", "", ""));
    assert_eq!((owners.uid("alias"), owners.uid("nobody-here"), owners.gid("www-data")), (Some(33), None, Some(33)));
    assert_eq!(Owners::read(Path::new("/missing"), Path::new("/missing")).user(0), "");
    assert_eq!(Owners::of_host().user(0), "root");
}

#[test]
fn everything_about_a_file_is_in_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "content").unwrap();
    run("chown", &["33:33"], &path);
    run("chmod", &["6751"], &path);
    run("setfattr", &["-n", "user.note", "-v", "hello"], &path);
    run("setfattr", &["-n", "trusted.note", "-v", "t"], &path);
    run("setfacl", &["-m", "u:1234:rw"], &path);
    run("touch", &["-d", "1961-02-03 04:05:06.123456789 UTC"], &path);
    let root = open(folder.path());
    let opened = open_file(&root, b"file").unwrap();
    let entry = describe(&root, b"file", &opened.stat, Some(&opened.file), Owners::of_host()).unwrap();
    assert_eq!((entry.kind, entry.size, entry.uid, entry.gid), (EntryKind::File, 7, 33, 33));
    assert_eq!((entry.user.as_str(), entry.group.as_str()), ("www-data", "www-data"));
    assert_eq!(entry.mode & 0o7707, 0o6701);
    assert_eq!(entry.mtime, Time { secs: -281_130_894, nanos: 123_456_789 });
    assert_eq!(entry.xattrs.get(b"user.note".as_slice()).unwrap(), b"hello");
    assert_eq!(entry.xattrs.get(b"trusted.note".as_slice()).unwrap(), b"t");
    assert!(entry.xattrs.contains_key(b"system.posix_acl_access".as_slice()));
    assert_eq!(entry.sparse, None);
}

#[test]
fn large_and_many_attributes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = File::create(&path).unwrap();
    let large = vec![7; 1500];
    fsetxattr(&file, "user.large", &large, XattrFlags::empty()).unwrap();
    for n in 0..20 {
        fsetxattr(&file, format!("user.{n:060}"), b"", XattrFlags::empty()).unwrap();
    }
    let root = open(folder.path());
    let opened = open_file(&root, b"file").unwrap();
    let entry = describe(&root, b"file", &opened.stat, Some(&opened.file), Owners::of_host()).unwrap();
    assert_eq!(entry.xattrs.len(), 21);
    assert_eq!(entry.xattrs[b"user.large".as_slice()], large);
}

#[test]
fn links_pipes_sockets_and_devices_are_described_without_being_opened() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("no/such/place", at("link")).unwrap();
    run("touch", &["-h", "-d", "2001-02-03 04:05:06.7 UTC"], &at("link"));
    run("mkfifo", &[], &at("pipe"));
    run("setfacl", &["-m", "u:1234:r"], &at("pipe"));
    Command::new("mknod").arg(at("device")).args(["c", "1", "3"]).status().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    run("setfacl", &["-d", "-m", "u:1234:r"], &at("folder"));
    let root = open(folder.path());
    let entry = |name: &std::ffi::CStr| {
        let stat = stat_at(&root, name).unwrap();
        describe(&root, name.to_bytes(), &stat, None, Owners::of_host()).unwrap()
    };
    let link = entry(c"link");
    assert_eq!((link.kind, link.target.as_deref(), link.size), (EntryKind::Symlink, Some(b"no/such/place".as_slice()), 0));
    assert_eq!(link.mtime, Time { secs: 981_173_106, nanos: 700_000_000 });
    let pipe = entry(c"pipe");
    assert_eq!(pipe.kind, EntryKind::Fifo);
    assert!(pipe.xattrs.contains_key(b"system.posix_acl_access".as_slice()));
    let device = entry(c"device");
    assert_eq!((device.kind, device.rdev), (EntryKind::Char, Some((1, 3))));
    assert_eq!(entry(c"socket").kind, EntryKind::Socket);
    let folder = entry(c"folder");
    assert!(folder.kind == EntryKind::Dir && folder.xattrs.contains_key(b"system.posix_acl_default".as_slice()));
}

#[test]
fn only_regular_files_beneath_the_root_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let root_path = folder.path().join("root");
    fs::create_dir(&root_path).unwrap();
    fs::write(folder.path().join("secret"), "s").unwrap();
    fs::write(root_path.join("file"), "f").unwrap();
    symlink("../secret", root_path.join("link")).unwrap();
    symlink("..", root_path.join("up")).unwrap();
    run("mkfifo", &[], &root_path.join("pipe"));
    let root = open(&root_path);
    for path in [b"link".as_slice(), b"up/secret", b"../secret", b"/etc/passwd", b"pipe", b"missing", b""] {
        assert!(open_file(&root, path).is_err(), "{path:?}");
    }
    assert!(open_file(&root, b"file").is_ok());
}

#[test]
fn holes_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let file = File::create(&path).unwrap();
    file.set_len(12 << 30).unwrap();
    file.write_all_at(&[1; 4096], 1 << 20).unwrap();
    file.write_all_at(&[2; 8192], 9 << 30).unwrap();
    let stat = stat_of(&file).unwrap();
    assert!(stat.may_have_holes() && stat.size == 12 << 30);
    assert_eq!(data_ranges(&file, stat.size).unwrap(), Some(vec![(1 << 20, 4096), (9 << 30, 8192)]));
    let empty = File::create(folder.path().join("hole")).unwrap();
    empty.set_len(1 << 20).unwrap();
    assert_eq!(data_ranges(&empty, 1 << 20).unwrap(), Some(Vec::new()));
    let mut whole = File::create(folder.path().join("whole")).unwrap();
    whole.write_all(&[1; 10_000]).unwrap();
    whole.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(data_ranges(&whole, 10_000).unwrap(), None);
    assert_eq!(data_ranges(&whole, 0).unwrap(), None);
}

#[test]
fn a_file_of_very_many_holes_keeps_the_largest() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("sparse")).unwrap();
    for n in 0..6000u64 {
        file.write_all_at(&[1; 4096], n * 12_288 + if n >= 3000 { 1 << 30 } else { 0 }).unwrap();
    }
    let size = stat_of(&file).unwrap().size;
    let ranges = data_ranges(&file, size).unwrap().unwrap();
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[1].0, (1 << 30) + 3000 * 12_288);
}

#[test]
fn hard_links_are_grouped_by_the_first_path() {
    let stat = |ino, nlink| FileStat { ino, nlink, ..FileStat::default() };
    let mut links = LinkGroups::default();
    assert_eq!(links.group(b"tree/a", &stat(1, 1)), None);
    let (first, hash) = links.group(b"tree/b", &stat(2, 3)).unwrap();
    assert_eq!((&*first, hash), (b"tree/b".as_slice(), crate::paths::link_hash(b"tree/b")));
    assert_eq!(links.group(b"tree/c", &stat(2, 3)).unwrap().1, hash);
    assert_eq!(links.group(b"tree/d", &stat(2, 3)).unwrap().1, hash);
    // All three names were seen: the number is free for another file.
    assert_eq!(&*links.group(b"tree/e", &stat(2, 2)).unwrap().0, b"tree/e");
    assert_eq!(links.group(b"tree/f", &FileStat { kind: EntryKind::Dir, ..stat(3, 2) }), None);
}

#[test]
fn a_file_is_still_only_when_nothing_moved() {
    let stat = FileStat { size: 1, ino: 2, ..FileStat::default() };
    assert!(stat.is_still(&stat));
    for other in [
        FileStat { size: 2, ..stat },
        FileStat { ino: 3, ..stat },
        FileStat { ctime: Time { secs: 0, nanos: 1 }, ..stat },
        FileStat { mtime: Time { secs: 1, nanos: 0 }, ..stat },
    ] {
        assert!(!stat.is_still(&other));
    }
}
