//! From an address to a connection that may be used: host key, login, SFTP, what the server can do.

use super::{
    HostKeyPin, SftpOptions, SshAuth,
    link::{self, Abilities, Link, Socket, lock},
};
use havun_vault::store::StoreError;
use russh::{
    Names, Preferred, cipher,
    client::{self, AuthResult, Session},
    keys::{
        Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, agent::AgentIdentity, agent::client::AgentClient,
        decode_secret_key,
    },
};
use russh_sftp::client::{Config as SftpConfig, RawSftpSession};
use std::{
    borrow::Cow,
    net::TcpStream,
    path::Path,
    sync::{Arc, Mutex},
};

/// Longest packet that OpenSSH takes.
const PACKET_BYTES: u32 = 256 << 10;
/// Of which this much may be payload, where the server does not say.
const PAYLOAD_BYTES: u64 = 255 << 10;

/// Receives what the server says of itself.
pub(super) struct Greeter {
    pin: HostKeyPin,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    banner: String,
    /// Fingerprint that was not allowed.
    refused: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct SshError(#[from] russh::Error);

impl client::Handler for Greeter {
    type Error = SshError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        let (allowed, found) = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                (self.pin.allows(key), format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)))
            }
            PublicKeyOrCertificate::Certificate(_) => (false, "a certificate".to_owned()),
        };
        lock(&self.heard).refused = (!allowed).then_some(found);
        Ok(allowed)
    }

    async fn kex_done(&mut self, _secret: Option<&[u8]>, _names: &Names, session: &mut Session) -> Result<(), SshError> {
        lock(&self.heard).banner = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        Ok(())
    }
}

/// Connects once.
///
/// # Errors
/// [`StoreError::Unreachable`], [`StoreError::HostKey`], [`StoreError::Refused`].
pub(super) async fn connect(options: &SftpOptions) -> Result<Arc<Link>, StoreError> {
    let mut refused = None;
    for algorithms in options.host_key.offers() {
        let attempt = tokio::time::timeout(options.timeouts.connect, connect_with(options, algorithms)).await;
        match attempt
            .unwrap_or_else(|_| Err(unreachable(options, &format!("no answer within {} s", options.timeouts.connect.as_secs_f32()))))
        {
            Err(error @ StoreError::HostKey { .. }) => refused = refused.or(Some(error)),
            other => return other,
        }
    }
    Err(refused.unwrap_or_else(|| unreachable(options, "no key type to ask for")))
}

async fn connect_with(options: &SftpOptions, algorithms: Vec<Algorithm>) -> Result<Arc<Link>, StoreError> {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let greeter = Greeter { pin: options.host_key.clone(), heard: Arc::clone(&heard) };
    let socket = tokio::net::TcpStream::connect((options.host.as_str(), options.port)).await;
    let socket = socket.and_then(|socket| socket.set_nodelay(true).map(|()| socket)).map_err(|e| unreachable(options, &e.to_string()))?;
    let (socket, handle) = keep_handle(socket).map_err(|e| unreachable(options, &e.to_string()))?;
    let config = Arc::new(ssh_config(options, algorithms));
    // A packet is read in two pieces, its length first.
    let socket = tokio::io::BufReader::with_capacity(PACKET_BYTES as usize, socket);
    let mut ssh = client::connect_stream(config, socket, greeter).await.map_err(|error| handshake_error(options, &heard, &error.0))?;
    log_in(options, &mut ssh).await?;
    let mut sftp = open_sftp(&ssh).await.map_err(|e| unreachable(options, &e.to_string()))?;
    let banner = lock(&heard).banner.clone();
    let abilities = greet(&mut sftp, &banner).await.map_err(|error| no_sftp(options, &error.to_string()))?;
    Ok(Link::new(sftp, Arc::new(ssh), Arc::new(Socket(handle)), abilities, options.timeouts.stall, true))
}

/// A channel with SFTP on it, which has not been greeted yet.
pub(super) async fn open_sftp(ssh: &client::Handle<Greeter>) -> Result<RawSftpSession, russh::Error> {
    let channel = ssh.channel_open_session().await?;
    channel.request_subsystem(true, "sftp").await?;
    Ok(RawSftpSession::new_with_config(channel.into_stream(), sftp_config()))
}

/// The socket, and another handle to it that can shut it down whatever the session does.
fn keep_handle(socket: tokio::net::TcpStream) -> std::io::Result<(tokio::net::TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let handle = socket.try_clone()?;
    Ok((tokio::net::TcpStream::from_std(socket)?, handle))
}

fn ssh_config(options: &SftpOptions, algorithms: Vec<Algorithm>) -> client::Config {
    let ciphers = [cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];
    client::Config {
        // The window bounds how fast we are sent to: 32 MiB are 640 MB/s at 50 ms.
        window_size: 32 << 20,
        maximum_packet_size: 65_535,
        // The session waits for a full channel, and everything else on the connection with it.
        channel_buffer_size: 4096,
        keepalive_interval: Some(options.timeouts.keepalive),
        keepalive_max: 2,
        nodelay: true,
        preferred: Preferred { key: Cow::Owned(algorithms), cipher: Cow::Owned(ciphers.to_vec()), ..Preferred::DEFAULT },
        ..client::Config::default()
    }
}

fn sftp_config() -> SftpConfig {
    // Time-outs are ours: the crate's count from the moment a request is queued.
    SftpConfig {
        max_packet_len: PACKET_BYTES * 2,
        max_write_packet_len: PACKET_BYTES,
        request_timeout_secs: 24 * 3600,
        ..SftpConfig::default()
    }
}

async fn greet(sftp: &mut RawSftpSession, banner: &str) -> Result<Abilities, russh_sftp::client::error::Error> {
    let version = sftp.init().await?;
    let mut abilities = link::abilities(&version.extensions, banner);
    if version.extensions.contains_key("limits@openssh.com")
        && let Ok(limits) = sftp.limits().await
    {
        abilities.read_bytes = clamp(limits.max_read_len);
        abilities.write_bytes = clamp(limits.max_write_len);
    }
    Ok(abilities)
}

/// 0 stands for no limit.
fn clamp(limit: u64) -> u32 {
    let limit = if limit == 0 { PAYLOAD_BYTES } else { limit.min(PAYLOAD_BYTES) };
    u32::try_from(limit.max(4096)).unwrap_or(32 << 10)
}

async fn log_in(options: &SftpOptions, ssh: &mut client::Handle<Greeter>) -> Result<(), StoreError> {
    let mut problems = Vec::new();
    for auth in &options.auth {
        let done = match auth {
            SshAuth::Key { text, passphrase } => with_key(options, ssh, text, passphrase.as_ref().map(|p| p.as_str())).await,
            SshAuth::Agent { socket } => with_agent(options, ssh, socket).await,
            SshAuth::Password(password) => {
                answer(ssh.authenticate_password(&options.user, password.as_str()).await, "the password is refused")
            }
        };
        match done {
            Ok(()) => return Ok(()),
            Err(problem) => problems.push(problem),
        }
        if ssh.is_closed() {
            break;
        }
    }
    if problems.is_empty() {
        problems.push("no key, agent or password is configured".to_owned());
    }
    Err(StoreError::Refused {
        what: format!("login as {} on {}", options.user, address(options)),
        why: problems.join("; "),
        hint: "is the public key in the account's authorized_keys, and the user name right?",
    })
}

fn answer(answer: Result<AuthResult, russh::Error>, refused: &str) -> Result<(), String> {
    match answer {
        Ok(AuthResult::Success) => Ok(()),
        Ok(AuthResult::Failure { .. }) => Err(refused.to_owned()),
        Err(error) => Err(format!("{refused}: {error}")),
    }
}

async fn with_key(options: &SftpOptions, ssh: &mut client::Handle<Greeter>, text: &str, passphrase: Option<&str>) -> Result<(), String> {
    let key = decode_secret_key(text, passphrase).map_err(|error| format!("the private key cannot be read: {error}"))?;
    let name = format!("the key {}", key.public_key().fingerprint(HashAlg::Sha256));
    let hash = if key.algorithm().is_rsa() { rsa_hash(ssh).await } else { None };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    answer(ssh.authenticate_publickey(&options.user, key).await, &format!("{name} is refused"))
}

/// Never SHA-1, which is what `None` would mean.
async fn rsa_hash(ssh: &client::Handle<Greeter>) -> Option<HashAlg> {
    let best = ssh.best_supported_rsa_hash().await.ok().flatten().flatten();
    Some(best.unwrap_or(HashAlg::Sha512))
}

async fn with_agent(options: &SftpOptions, ssh: &mut client::Handle<Greeter>, socket: &Path) -> Result<(), String> {
    if socket.as_os_str().is_empty() {
        return Err("there is no agent: $SSH_AUTH_SOCK is not set".to_owned());
    }
    let agent = AgentClient::connect_uds(socket).await;
    let mut agent = agent.map_err(|error| format!("the agent at {} does not answer: {error}", socket.display()))?;
    let identities = agent.request_identities().await.map_err(|error| format!("the agent lists no keys: {error}"))?;
    let mut problem = "the agent has no key".to_owned();
    for identity in identities {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = if key.algorithm().is_rsa() { rsa_hash(ssh).await } else { None };
        match ssh.authenticate_publickey_with(&options.user, key, hash, &mut agent).await {
            Ok(AuthResult::Success) => return Ok(()),
            Ok(AuthResult::Failure { .. }) => problem = "the agent's keys are refused".to_owned(),
            Err(error) => problem = format!("the agent does not sign: {error}"),
        }
    }
    Err(problem)
}

fn handshake_error(options: &SftpOptions, heard: &Mutex<Heard>, error: &russh::Error) -> StoreError {
    let host_key = |found: String| StoreError::HostKey { host: address(options), found, expected: options.host_key.to_string() };
    if let Some(found) = lock(heard).refused.take() {
        return host_key(found);
    }
    match error {
        russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, theirs, .. } => {
            host_key(format!("of another type ({})", theirs.join(", ")))
        }
        error => unreachable(options, &error.to_string()),
    }
}

fn no_sftp(options: &SftpOptions, why: &str) -> StoreError {
    StoreError::Refused {
        what: format!("SFTP on {}", address(options)),
        why: why.to_owned(),
        hint: "does the server have `Subsystem sftp internal-sftp`, and may this login use it?",
    }
}

fn unreachable(options: &SftpOptions, why: &str) -> StoreError {
    StoreError::Unreachable { what: format!("{}: {why}", address(options)) }
}

pub(super) fn address(options: &SftpOptions) -> String {
    format!("{}:{}", options.host, options.port)
}
