//! Vaults on an SSH server, over SFTP version 3 with OpenSSH's extensions.
//!
//! In reading order: `options` and `pin` are what the operator says; `connect` makes a connection, `link` is one (requests
//! that are sent at once and awaited later, and the watch over them), `pool` holds up to eight; `failure` sorts what a
//! server answers. `root` is a store's folder, `store` one vault in it; `put` (a large object's
//! bytes: `lanes`), `put_once`, `read` (and `ahead`), `list`, `lease` and
//! `checksum` are its methods by subject.
//!
//! Never: a name for bytes that are not all there, a server whose key is not pinned, a write to an object that has a name.

mod ahead;
mod checksum;
mod connect;
mod failure;
mod lanes;
mod lease;
mod link;
mod list;
mod options;
mod pin;
mod pool;
mod put;
mod put_once;
mod read;
mod root;
mod shared;
mod spool;
mod store;
mod tamper;

pub use options::{SftpOptions, SshAuth, Timeouts, VerifyUploads};
pub use pin::{HostKeyPin, PinError};
pub use root::SftpRoot;
pub use store::SftpStore;
