//! What the operator says about a server.

use super::HostKeyPin;
use std::{path::PathBuf, time::Duration};
use zeroize::Zeroizing;

/// A server and how to use it.
pub struct SftpOptions {
    /// Name or address.
    pub host: String,
    /// 22, or 23 on a Storage Box.
    pub port: u16,
    /// Login.
    pub user: String,
    /// The store's folder on the server, absolute or from the login's folder.
    pub path: String,
    /// Tried in this order.
    pub auth: Vec<SshAuth>,
    /// The only keys that the server may show.
    pub host_key: HostKeyPin,
    /// TCP connections at most, 1 to 8. They are made when they are needed.
    pub connections: usize,
    /// The server lets us create and read, and nothing else: no folder, rename or removal is ever asked for.
    pub put_once: bool,
    /// How an object is verified before it has its name.
    pub verify: VerifyUploads,
    /// A private folder of this machine for uploads under way and for leases that the server cannot hold.
    pub spool_dir: PathBuf,
    /// Who we are, for people.
    pub lease_name: String,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// A way to log in.
pub enum SshAuth {
    /// A private key, OpenSSH or PEM.
    Key {
        /// The file's text.
        text: Zeroizing<String>,
        /// Where it is encrypted.
        passphrase: Option<Zeroizing<String>>,
    },
    /// An agent.
    Agent {
        /// Where it listens; what `$SSH_AUTH_SOCK` says.
        socket: PathBuf,
    },
    /// A password.
    Password(Zeroizing<String>),
}

/// How an upload is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyUploads {
    /// Small objects are read back in the round trip that writes them; of larger ones the server reckons the SHA-256 where
    /// it has `sha256sum`, and their size is compared after the fsync where it has not.
    #[default]
    Auto,
    /// Everything is read back through the connection.
    ReadBack,
    /// Only the size is compared, after the fsync.
    Size,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection with its login.
    pub connect: Duration,
    /// Without any answer while one is due; a link that is slow but moves is never cut.
    pub stall: Duration,
    /// Before an idle connection is asked whether it lives; three unanswered questions end it.
    pub keepalive: Duration,
    /// Before the second of three attempts to connect; four times that before the third.
    pub reconnect_pause: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(40),
            keepalive: Duration::from_secs(15),
            reconnect_pause: Duration::from_millis(500),
        }
    }
}
