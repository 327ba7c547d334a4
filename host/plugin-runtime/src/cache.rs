//! The cache of compiled components, authenticated: an artefact is machine code, and a corrupted one crashes
//! the process that loads it.
//!
//! A folder of mode 0700 holds `key` (32 random bytes, mode 0600) and one file per component and engine:
//! HMAC-SHA256 (32 bytes) over its name and all that follows; length of the description (`u32`, little-endian);
//! the description as JSON; the artefact. What does not fit in any way is as good as absent.

use havun_model::StrategyInfo;
use hmac::{Hmac, KeyInit, Mac};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use sha2::Sha256;
use std::{
    fs::{DirBuilder, File},
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::Path,
};

/// What is stored for one component.
pub struct Cached {
    /// What the component said of itself.
    pub info: StrategyInfo,
    bytes: Vec<u8>,
    artefact_at: usize,
}

impl Cached {
    /// The compiled code: the very bytes that were authenticated.
    pub fn artefact(&self) -> &[u8] {
        self.bytes.get(self.artefact_at..).unwrap_or_default()
    }
}

/// An open cache folder.
pub struct Cache {
    folder: OwnedFd,
    key: [u8; KEY_LEN],
}

const KEY_LEN: usize = 32;
const MAC_LEN: usize = 32;
const DOMAIN: &[u8] = b"havun-backup strategy cache 1\0";
const MAX_FILE: u64 = 512 << 20;

impl Cache {
    /// Opens the folder, making it and its key where they are missing. `None` when it cannot be made, belongs
    /// to somebody else or is open to others: then nothing is cached.
    pub fn open(path: &Path) -> Option<Self> {
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        if !is_ours_alone(&folder, FileType::Directory) {
            return None;
        }
        let key = read_key(&folder).or_else(|| make_key(&folder))?;
        Some(Self { folder, key })
    }

    /// What is stored under `name`, if it is whole and ours.
    pub fn load(&self, name: &str) -> Option<Cached> {
        let bytes = read(&self.folder, name, MAX_FILE)?;
        let (mac, rest) = bytes.split_at_checked(MAC_LEN)?;
        self.mac(name, rest)?.verify_slice(mac).ok()?;
        let (len, rest) = rest.split_at_checked(4)?;
        let len = usize::try_from(u32::from_le_bytes(len.try_into().ok()?)).ok()?;
        let info = serde_json::from_slice(rest.get(..len)?).ok()?;
        Some(Cached { info, artefact_at: MAC_LEN + 4 + len, bytes })
    }

    /// Stores an artefact; what was stored for the same component under another engine goes.
    pub fn store(&self, name: &str, info: &StrategyInfo, artefact: &[u8]) -> Option<()> {
        let description = serde_json::to_vec(info).ok()?;
        let mut body = Vec::with_capacity(4 + description.len() + artefact.len());
        body.extend_from_slice(&u32::try_from(description.len()).ok()?.to_le_bytes());
        body.extend_from_slice(&description);
        body.extend_from_slice(artefact);
        let mac = self.mac(name, &body)?.finalize().into_bytes();
        write(&self.folder, name, &[&mac, &body])?;
        self.remove_others(name);
        Some(())
    }

    fn mac(&self, name: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(DOMAIN);
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(body);
        Some(mac)
    }

    fn remove_others(&self, name: &str) {
        let Some((digest, _)) = name.split_once('-') else { return };
        let Ok(entries) = Dir::read_from(&self.folder) else { return };
        for entry in entries.flatten() {
            let other = entry.file_name();
            if other.to_bytes().starts_with(digest.as_bytes()) && other.to_bytes() != name.as_bytes() {
                let _ = rustix::fs::unlinkat(&self.folder, other, AtFlags::empty());
            }
        }
    }
}

/// Whether an open file or folder is of this kind, belongs to us, and others can do nothing with it.
fn is_ours_alone(fd: &OwnedFd, kind: FileType) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == kind && stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0
    })
}

fn read(folder: &OwnedFd, name: &str, max: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
    if !is_ours_alone(&fd, FileType::RegularFile) {
        return None;
    }
    let file = File::from(fd);
    let size = file.metadata().ok()?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(max)).ok()?);
    file.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Under a temporary name first, so that a file under its own name is whole.
fn write(folder: &OwnedFd, name: &str, parts: &[&[u8]]) -> Option<()> {
    let temporary = format!("tmp-{}", hex::encode(random::<8>()?));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, &temporary, flags, Mode::from_raw_mode(0o600)).ok()?;
    let mut file = File::from(fd);
    let written = parts.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
    let published = written.ok().and_then(|()| rustix::fs::renameat(folder, &temporary, folder, name).ok());
    if published.is_none() {
        let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
    }
    published
}

fn read_key(folder: &OwnedFd) -> Option<[u8; KEY_LEN]> {
    read(folder, "key", 1 + KEY_LEN as u64)?.try_into().ok()
}

/// A new key replaces one that cannot be used; what the old one vouched for is compiled anew. Read back,
/// because another process may make one in the same moment.
fn make_key(folder: &OwnedFd) -> Option<[u8; KEY_LEN]> {
    write(folder, "key", &[&random::<KEY_LEN>()?])?;
    read_key(folder)
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NAME: &str = "abc-1";

    fn info() -> StrategyInfo {
        StrategyInfo { id: "x".into(), version: "1.0.0".into(), title: String::new(), requests: vec![], settings_schema: String::new() }
    }

    fn filled() -> (tempfile::TempDir, std::path::PathBuf, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let cache = Cache::open(&path).unwrap();
        cache.store(NAME, &info(), b"machine code").unwrap();
        (folder, path, cache)
    }

    #[test]
    fn what_is_stored_comes_back() {
        let (_folder, path, _) = filled();
        let cached = Cache::open(&path).unwrap().load(NAME).unwrap();
        assert_eq!((cached.artefact(), cached.info.clone()), (&b"machine code"[..], info()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (_folder, path, cache) = filled();
        let good = std::fs::read(path.join(NAME)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(path.join(NAME), &bad).unwrap();
            assert!(cache.load(NAME).is_none(), "byte {at}");
            std::fs::write(path.join(NAME), &good[..at]).unwrap();
            assert!(cache.load(NAME).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_file_under_a_foreign_name_or_key_is_refused() {
        let (_folder, path, cache) = filled();
        std::fs::copy(path.join(NAME), path.join("def-1")).unwrap();
        assert!(cache.load("def-1").is_none());
        std::fs::remove_file(path.join("key")).unwrap();
        assert!(Cache::open(&path).unwrap().load(NAME).is_none());
    }

    #[test]
    fn a_folder_open_to_others_is_not_used() {
        let (_folder, path, _) = filled();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(path.join("key")).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(Cache::open(&path).is_none());
    }

    #[test]
    fn an_artefact_of_another_engine_goes() {
        let (_folder, path, cache) = filled();
        cache.store("abc-2", &info(), b"newer").unwrap();
        assert!(!path.join(NAME).exists());
        assert!(cache.load("abc-2").is_some());
    }
}
