//! The servers and links of the whole-program tests, and stores on them.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

mod proftpd;
#[path = "../../../../tests/src/relay.rs"]
mod relay;
#[path = "../../../../tests/src/sshd.rs"]
mod sshd;

#[allow(unused_imports, reason = "nor every user")]
pub use sshd::{CREATE_AND_READ, PLAIN_USER, Sshd};
#[allow(unused_imports, reason = "not every test has a relay")]
pub use {proftpd::ProFtpd, relay::Relay};

use havun_model::{ProjectName, StoreName};
use havun_stores::sftp::{HostKeyPin, SftpOptions, SftpRoot, SftpStore, SshAuth, Timeouts, VerifyUploads};
use havun_vault::store::ObjectName;
use sha2::{Digest, Sha256};
use std::{path::Path, time::Duration};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// A server, and a folder of this machine for what is under way.
pub struct Place {
    pub sshd: Sshd,
    pub spool: TempDir,
}

impl Place {
    pub fn start(lines: &[&str]) -> Self {
        Self::of(Sshd::start(lines))
    }

    pub fn of(sshd: Sshd) -> Self {
        Self { sshd, spool: tempfile::tempdir().unwrap() }
    }

    pub fn options(&self) -> SftpOptions {
        options(&self.sshd, self.sshd.port(), self.spool.path())
    }

    /// A store that was begun, behind `port`.
    pub fn root_with(&self, change: impl FnOnce(&mut SftpOptions)) -> SftpRoot {
        let mut options = self.options();
        change(&mut options);
        let root = SftpRoot::new(options).unwrap();
        root.prepare(&store_name()).unwrap();
        root
    }

    pub fn root(&self) -> SftpRoot {
        self.root_with(|_| ())
    }

    pub fn locked() -> Self {
        Self::start(&[CREATE_AND_READ])
    }
}

pub fn options(sshd: &Sshd, port: u16, spool: &Path) -> SftpOptions {
    with_defaults(port, &sshd.user(), &sshd.store(), key(&sshd.client_key()), pin(&sshd.host_key()), spool)
}

fn with_defaults(port: u16, user: &str, path: &Path, auth: SshAuth, host_key: HostKeyPin, spool: &Path) -> SftpOptions {
    SftpOptions {
        host: "127.0.0.1".to_owned(),
        port,
        user: user.to_owned(),
        path: path.display().to_string(),
        auth: vec![auth],
        host_key,
        connections: 4,
        put_once: false,
        verify: VerifyUploads::Auto,
        spool_dir: spool.to_owned(),
        lease_name: "test".to_owned(),
        timeouts: Timeouts { reconnect_pause: Duration::from_millis(50), ..Timeouts::default() },
    }
}

pub fn key(text: &str) -> SshAuth {
    SshAuth::Key { text: Zeroizing::new(text.to_owned()), passphrase: None }
}

pub fn pin(text: &str) -> HostKeyPin {
    text.parse().unwrap()
}

pub fn store_name() -> StoreName {
    StoreName::new("offsite").unwrap()
}

pub fn vault(root: &SftpRoot) -> SftpStore {
    root.vault(&ProjectName::new("shop").unwrap())
}

pub fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

pub fn sha(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Bytes that repeat late and differ by `seed`.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).flat_map(u64::to_le_bytes).take(len).collect()
}

/// A pack as a vault names it.
pub fn pack(bytes: &[u8]) -> ObjectName {
    let hex = hex::encode(sha(bytes));
    name(&format!("epochs/2026/packs/{}/{hex}", &hex[..2]))
}
