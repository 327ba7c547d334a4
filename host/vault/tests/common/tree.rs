//! A project with everything that a file system can hold, and a change to it. Always the same, whatever the clock.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsStr,
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink},
    path::{Path, PathBuf},
};

/// Bytes that do not compress, the same for the same `seed`.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let blocks = (0..len.div_ceil(32) as u64).flat_map(|n| Sha256::digest([seed.to_le_bytes(), n.to_le_bytes()].concat()));
    blocks.take(len).collect()
}

/// Text that compresses well and does not repeat.
pub fn text(seed: u64, lines: u64) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("{seed:04} {:08} the quick brown fox jumps over the lazy dog\n", n).into_bytes()).collect()
}

/// A dump of about `rows` · 45 bytes; `changed` of the rows, side by side, differ from the dump with 0.
pub fn dump(rows: u64, changed: u64) -> Vec<u8> {
    let total = |n: u64| if (rows / 2..rows / 2 + changed).contains(&n) { n + 1_000_000 } else { n };
    let rows = (0..rows).flat_map(|n| format!("INSERT INTO `orders` VALUES ({n},{},'customer');\n", total(n)).into_bytes());
    b"CREATE TABLE `orders` (id int, total int, name text);\n".iter().copied().chain(rows).chain(*b"-- Dump completed\n").collect()
}

/// Whether this process may make device nodes and give files away.
pub fn is_privileged() -> bool {
    let folder = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(CWD, folder.path().join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).is_ok()
}

/// Makes the project in the empty folder `root`.
pub fn build(root: &Path) {
    let at = |path: &str| root.join(path);
    for folder in ["app/deep/er", "empty", "public", "storage/app", "names", "leaves"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    write(&at(".env"), b"APP_KEY=base64:c2VjcmV0\nDB_PASSWORD=\"# ' \\\" \\\\ : $ \xc3\xa9\"\n", 0o600);
    write(&at("app/empty"), b"", 0o644);
    write(&at("app/small"), b"hello\n", 0o644);
    write(&at("app/program"), b"#!/bin/sh\nexit 0\n", 0o4755);
    write(&at("public/photo.jpg"), &noise(1, 5000), 0o644);
    write(&at("storage/app/large.log"), &text(1, 26_000), 0o640);
    write(&at("storage/app/just-whole"), &vec![b'x'; 256 << 10], 0o644);
    write(&at("storage/app/just-cut"), &vec![b'y'; (256 << 10) + 1], 0o644);
    sparse(&at("storage/app/sparse.img"));
    links(root);
    names(&at("names"));
    attributes(root);
    for n in 0..170 {
        write(&at(&format!("leaves/{n:03}")), if n % 7 == 0 { b"one\n" } else { b"" }, 0o644);
    }
    if is_privileged() {
        rustix::fs::mknodat(CWD, at("app/null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 3)).unwrap();
        std::os::unix::fs::lchown(at("app/small"), Some(1000), Some(33)).unwrap();
        std::os::unix::fs::lchown(at("app/link"), Some(1000), Some(33)).unwrap();
    }
    rustix::fs::mknodat(CWD, at("app/fifo"), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
    mode(&at("storage"), 0o1777);
    mode(&at("empty"), 0o700);
    mode(&at("app/deep/er"), 0o2555);
    set_times(root, 1_700_000_000);
}

/// The same project a day later: something of each kind has changed, most has not.
pub fn change(root: &Path) {
    let at = |path: &str| root.join(path);
    let mut large = text(1, 26_000);
    large.splice(700_000..700_000, *b"a line in the middle\n");
    write(&at("storage/app/large.log"), &large, 0o640);
    write(&at("leaves/100"), b"changed\n", 0o644);
    write(&at("leaves/100-new"), b"new\n", 0o644);
    fs::remove_file(at("leaves/017")).unwrap();
    fs::rename(at("public/photo.jpg"), at("public/renamed.jpg")).unwrap();
    mode(&at("app/empty"), 0o600);
    for path in ["storage/app/large.log", "leaves/100", "leaves/100-new", "leaves", "public", "storage/app"] {
        set_time(&at(path), 1_700_086_400, 987_654_321);
    }
}

fn write(path: &Path, bytes: &[u8], bits: u32) {
    fs::write(path, bytes).unwrap();
    mode(path, bits);
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

/// A hole, data, a longer hole, data, and a hole at the end.
fn sparse(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for (offset, seed) in [(1 << 20, 2), (4 << 20, 3)] {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(&noise(seed, 4096)).unwrap();
    }
    file.set_len(6 << 20).unwrap();
}

fn links(root: &Path) {
    let at = |path: &str| root.join(path);
    write(&at("public/first"), b"three names\n", 0o644);
    fs::hard_link(at("public/first"), at("app/deep/second")).unwrap();
    fs::hard_link(at("public/first"), at("names/third")).unwrap();
    symlink("small", at("app/link")).unwrap();
    symlink("/nowhere/at all", at("public/dangling")).unwrap();
    symlink("../storage/app", at("public/storage")).unwrap();
    symlink(OsStr::from_bytes(b"caf\xe9\\n"), at("public/latin1")).unwrap();
}

fn names(folder: &Path) {
    let long = [b'n'; 255];
    let awkward: [&[u8]; 9] =
        [b"caf\xe9", b"back\\slash", b"new\nline", b"\"quotes\"", "snow ☃ 💾".as_bytes(), b"-rf", b" ", b"a\x7f\x01", &long];
    for (n, name) in awkward.iter().enumerate() {
        write(&folder.join(OsStr::from_bytes(name)), format!("name {n}\n").as_bytes(), 0o644);
    }
    // A folder is followed by what is in it, also where another name sorts between.
    fs::create_dir(folder.join("a")).unwrap();
    write(&folder.join("a/b"), b"in a\n", 0o644);
    write(&folder.join("a-b"), b"beside a\n", 0o644);
}

fn attributes(root: &Path) {
    let set = |path: &str, name: &str, value: &[u8]| rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    set("app/small", "user.comment", b"bytes \x00\xff");
    set("app", "user.folder", b"yes");
    // user::rw- user:1000:r-- group::r-- mask::rw- other::r--
    const ACL: [u8; 44] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255,
        255, 32, 0, 4, 0, 255, 255, 255, 255,
    ];
    set("public/photo.jpg", "system.posix_acl_access", &ACL);
    set("empty", "system.posix_acl_default", &ACL);
}

/// Sets the time of everything beneath `path`, and then its own.
fn set_times(path: &Path, secs: i64) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        let mut inside: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        inside.iter().for_each(|path| set_times(path, secs));
    }
    let name = path.file_name().map_or(0, |name| name.len() as i64);
    // One file of before 1970, and nanoseconds everywhere.
    let secs = if path.ends_with("app/empty") { -86_400 } else { secs + name };
    set_time(path, secs, 123_456_789);
}

fn set_time(path: &Path, secs: i64, nanos: i64) {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos };
    rustix::fs::utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
