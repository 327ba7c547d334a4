//! What lies beneath a folder, as lines of JSON: an account of a tree that owes nothing to the manifest.

use havun_vault::paths::{compare_paths, escape};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

/// Path in text form → everything that a restore has to bring back.
pub type Listing = BTreeMap<String, Value>;

/// Lists what is beneath `root`, with `prefix` before each path; the root itself as `prefix` unless that is empty.
pub fn scan(root: &Path, prefix: &str) -> Listing {
    let mut found = Vec::new();
    if !prefix.is_empty() {
        found.push((prefix.as_bytes().to_vec(), root.to_owned()));
    }
    collect(root, prefix.as_bytes(), &mut found);
    found.sort_by(|a, b| compare_paths(&a.0, &b.0));
    let mut first_names = HashMap::new();
    found.iter().map(|(path, place)| (escape(path).into_owned(), describe(path, place, &mut first_names))).collect()
}

fn collect(folder: &Path, prefix: &[u8], found: &mut Vec<(Vec<u8>, std::path::PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.file_name().as_bytes());
        found.push((path.clone(), entry.path()));
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &path, found);
        }
    }
}

fn describe(path: &[u8], place: &Path, first_names: &mut HashMap<(u64, u64), String>) -> Value {
    let status = fs::symlink_metadata(place).unwrap();
    let kind = status.file_type();
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
    put("uid", json!(status.uid()));
    put("gid", json!(status.gid()));
    put("mtime", json!([status.mtime(), status.mtime_nsec()]));
    if kind.is_symlink() {
        put("type", json!("symlink"));
        put("target", json!(escape(fs::read_link(place).unwrap().as_os_str().as_bytes())));
        return Value::Object(line);
    }
    put("mode", json!(format!("{:04o}", status.mode() & 0o7777)));
    let xattrs = xattrs(place);
    if !xattrs.is_empty() {
        put("xattrs", json!(xattrs));
    }
    if kind.is_dir() {
        put("type", json!("dir"));
    } else if kind.is_fifo() {
        put("type", json!("fifo"));
    } else if kind.is_char_device() {
        put("type", json!("char"));
        put("rdev", json!([rustix::fs::major(status.rdev()), rustix::fs::minor(status.rdev())]));
    } else {
        put("type", json!("file"));
        put("size", json!(status.len()));
        put("sha256", json!(hex::encode(Sha256::digest(fs::read(place).unwrap()))));
        put("sparse", json!(status.blocks() * 512 + 65_536 < status.len()));
    }
    if status.nlink() > 1 && !kind.is_dir() {
        let first = first_names.entry((status.dev(), status.ino())).or_insert_with(|| escape(path).into_owned());
        put("first_name", json!(first));
    }
    Value::Object(line)
}

/// Attributes of users and ACLs; others may be the system's own.
fn xattrs(place: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0; 65_536];
    let len = rustix::fs::llistxattr(place, &mut names).unwrap();
    let names = names[..len].split(|b| *b == 0).filter(|name| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_"));
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(place, name, &mut value).unwrap();
        hex::encode(&value[..len])
    };
    names.map(|name| (escape(name).into_owned(), value(name))).collect()
}

/// A file that came from no file: only what a stream has.
pub fn stream(bytes: &[u8], mode: &str, secs: i64) -> Value {
    let sha256 = hex::encode(Sha256::digest(bytes));
    json!({"type": "file", "mode": mode, "uid": 0, "gid": 0, "mtime": [secs, 0], "size": bytes.len(), "sha256": sha256, "sparse": false})
}

/// One line for each entry.
pub fn to_text(listing: &Listing) -> String {
    listing.iter().map(|(path, what)| format!("{}\n", json!([path, what]))).collect()
}

/// Reads what [`to_text`] wrote.
pub fn from_text(text: &str) -> Listing {
    text.lines().map(|line| serde_json::from_str::<(String, Value)>(line).unwrap()).collect()
}

/// Asserts that `found` is what `expected` says. Folders that only hold streams stand in no manifest and are passed
/// over; owners and devices are not compared where this process cannot make them.
pub fn assert_same(found: &Listing, expected: &Listing, privileged: bool) {
    let comparable = |listing: &Listing| -> Listing {
        let devices = |what: &Value| what["type"] == "char" && !privileged;
        let lines = listing.iter().filter(|(path, what)| (expected.contains_key(*path) || what["type"] != "dir") && !devices(what));
        lines.map(|(path, what)| (path.clone(), if privileged { what.clone() } else { without_owner(what) })).collect()
    };
    let (found, expected) = (comparable(found), comparable(expected));
    for (path, what) in &expected {
        assert_eq!(found.get(path), Some(what), "{path}");
    }
    let extra: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(extra.is_empty(), "restored and never backed up: {extra:?}");
}

fn without_owner(what: &Value) -> Value {
    let mut what = what.clone();
    if let Some(line) = what.as_object_mut() {
        line.remove("uid");
        line.remove("gid");
    }
    what
}
