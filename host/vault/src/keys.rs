//! Keys: identities that open a vault, recipients that it is wrapped for, and the ring of its epochs' keys.
//!
//! A vault key lies in the store as an age v1 file of exactly 32 bytes, wrapped for several X25519 recipients; any
//! `age` opens it. Secrets clear themselves when dropped and have no `Debug`.

use crate::seal::{HEADER_BYTES, Opener, SealKey};
use age::secrecy::ExposeSecret as _;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};
use zeroize::Zeroizing;

/// No key file of ours or an administrator's is larger, in bytes.
const MAX_KEY_FILE: u64 = 64 << 10;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// None of the identities is a recipient.
    #[error("none of the given identities opens the key")]
    WrongKey,
    /// It is no wrapped vault key.
    #[error("not a wrapped vault key: {why}")]
    NotWrapped {
        /// What is wrong.
        why: String,
    },
    /// A key must be wrapped for someone.
    #[error("a vault key needs a recipient")]
    NoRecipient,
    /// Wrapping failed.
    #[error("cannot wrap the vault key: {why}")]
    Wrap {
        /// age's words.
        why: String,
    },
    /// A text that is not a recipient.
    #[error("`{text}` is not an age recipient: {why}")]
    Recipient {
        /// What was given.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A line of a key file that is neither an identity nor a comment. The line itself is not shown: it may be secret.
    #[error("line {line} is not an age identity: {why}")]
    Identity {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A key file without an identity.
    #[error("there is no age identity (AGE-SECRET-KEY-1…) in it")]
    Empty,
    /// A key file that others could read, change or publish.
    #[error("key file {} is not safe: {why}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A key file that is not what it should be.
    #[error("key file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<KeyError>,
    },
    /// The file system.
    #[error("cannot use key file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Names a vault key without telling it: the first 8 bytes of `SHA-256("havun-backup/v1/kid" || key)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Of a key.
    pub fn of(key: &SealKey) -> Self {
        let digest: [u8; 32] = Sha256::new().chain_update(b"havun-backup/v1/kid").chain_update(key.expose()).finalize().into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

/// 16 lowercase hex digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Who a vault key is wrapped for: the public half of an [`Identity`], `age1…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.trim().parse().map(Self).map_err(|why| KeyError::Recipient { text: text.to_owned(), why })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An age X25519 secret; clears itself when dropped.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// A new one.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    /// `AGE-SECRET-KEY-1…`, to be stored or shown once.
    pub fn secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// The text of a key file as `age-keygen` writes it; `note` is one line for people.
    pub fn file_text(&self, note: &str) -> Zeroizing<String> {
        let note: String = note.chars().filter(|c| !c.is_control()).collect();
        let head = format!("# {note}\n# public key: {}\n", self.recipient());
        let secret = self.secret_text();
        // Room for the whole, so that the secret is not copied about by a growing buffer.
        let mut text = Zeroizing::new(String::with_capacity(head.len() + secret.len() + 1));
        text.push_str(&head);
        text.push_str(&secret);
        text.push('\n');
        text
    }

    /// Every identity in the text of a key file: one a line, `#` begins a comment.
    ///
    /// # Errors
    /// [`KeyError::Identity`], [`KeyError::Empty`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>, KeyError> {
        let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let found = lines
            .map(|(line, text)| text.parse().map(Self).map_err(|why| KeyError::Identity { line, why }))
            .collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() { Err(KeyError::Empty) } else { Ok(found) }
    }

    /// Every identity in a key file, which must be safe as [`read_private_file`] has it.
    ///
    /// # Errors
    /// [`KeyError::Unsafe`], [`KeyError::Io`], [`KeyError::File`].
    pub fn read_file(path: &Path) -> Result<Vec<Self>, KeyError> {
        let bytes = read_private_file(path)?;
        let wrong = |source| KeyError::File { path: path.to_owned(), source: Box::new(source) };
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong(KeyError::Empty))?;
        Self::parse_all(text).map_err(wrong)
    }
}

/// The age file of a vault key, for one recipient at least.
///
/// # Errors
/// [`KeyError::NoRecipient`], [`KeyError::Wrap`].
pub fn wrap(key: &SealKey, recipients: &[Recipient]) -> Result<Vec<u8>, KeyError> {
    encrypt_for(key.expose(), recipients)
}

/// An age file of `bytes`, for one recipient at least: `age -d -i KEY` opens it.
///
/// # Errors
/// [`KeyError::NoRecipient`], [`KeyError::Wrap`].
pub fn encrypt_for(bytes: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, KeyError> {
    if recipients.is_empty() {
        return Err(KeyError::NoRecipient);
    }
    let failed = |why: String| KeyError::Wrap { why };
    let recipients = recipients.iter().map(|r| &r.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|e| failed(e.to_string()))?;
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).map_err(|e| failed(e.to_string()))?;
    writer.write_all(bytes).and_then(|()| writer.finish().map(drop)).map_err(|e| failed(e.to_string()))?;
    Ok(out)
}

/// The vault key in an age file.
///
/// # Errors
/// [`KeyError::WrongKey`]: it is wrapped for others. [`KeyError::NotWrapped`]: it is damaged or something else.
pub fn unwrap(wrapped: &[u8], identities: &[Identity]) -> Result<SealKey, KeyError> {
    let not = |why: String| KeyError::NotWrapped { why };
    let decryptor = age::Decryptor::new_buffered(wrapped).map_err(|e| not(e.to_string()))?;
    let mut reader = decryptor.decrypt(identities.iter().map(|i| &i.0 as &dyn age::Identity)).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => KeyError::WrongKey,
        other => not(other.to_string()),
    })?;
    let mut key = Zeroizing::new([0; 32]);
    reader.read_exact(key.as_mut_slice()).map_err(|e| not(e.to_string()))?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(SealKey::from_secret(key)),
        Ok(_) => Err(not("more than 32 bytes".to_owned())),
        Err(e) => Err(not(e.to_string())),
    }
}

/// The vault keys at hand. The commitment in an object's header finds the right one. Shared by everything that reads
/// or writes the vault, so that a key made for a new epoch opens at once what it sealed.
///
/// A vault has a key file for each of its years, and most runs need one of them: a file is unwrapped when no key that is
/// open already fits.
#[derive(Default)]
pub struct KeyRing {
    keys: RwLock<Keys>,
}

#[derive(Clone, Default)]
struct Keys {
    open: Vec<Arc<SealKey>>,
    /// age files that were not needed yet.
    wrapped: Vec<Vec<u8>>,
    identities: Vec<Identity>,
}

impl Keys {
    /// Adds a key; one that is there already is not added again.
    fn add(&mut self, key: Arc<SealKey>) {
        if !self.open.iter().any(|known| KeyId::of(known) == KeyId::of(&key)) {
            self.open.push(key);
        }
    }

    /// Unwraps files until one of their keys is what is `wanted`. Files of others, and damaged ones, are passed over.
    fn unwrap_until(&mut self, wanted: impl Fn(&SealKey) -> bool) -> Option<Arc<SealKey>> {
        while let Some(file) = self.wrapped.pop() {
            let Ok(key) = unwrap_shared(&file, &self.identities) else { continue };
            self.add(Arc::clone(&key));
            if wanted(&key) {
                return Some(key);
            }
        }
        None
    }
}

impl Clone for KeyRing {
    fn clone(&self) -> Self {
        Self { keys: RwLock::new(self.read().clone()) }
    }
}

impl KeyRing {
    /// Of the key files of a vault; they are unwrapped when they are needed.
    pub(crate) fn of_files(wrapped: Vec<Vec<u8>>, identities: &[Identity]) -> Self {
        Self { keys: RwLock::new(Keys { open: Vec::new(), wrapped, identities: identities.to_vec() }) }
    }

    /// Adds a key; one that is there already is not added again.
    pub fn add(&self, key: Arc<SealKey>) {
        self.write().add(key);
    }

    /// Ids of all keys.
    pub fn ids(&self) -> Vec<KeyId> {
        self.all().iter().map(|key| KeyId::of(key)).collect()
    }

    /// Any key.
    pub(crate) fn first(&self) -> Option<Arc<SealKey>> {
        let open = self.read().open.first().cloned();
        open.or_else(|| self.write().unwrap_until(|_| true))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<SealKey>> {
        let mut keys = self.write();
        keys.unwrap_until(|_| false);
        keys.open.clone()
    }

    /// Whether there is no key that opens.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// The key that sealed the object with this header under `context`.
    pub fn find_by_header(&self, context: &str, header: &[u8; HEADER_BYTES]) -> Option<Arc<SealKey>> {
        let fits = |key: &SealKey| Opener::new(key, context, header).is_ok();
        let open = self.read().open.iter().find(|key| fits(key)).cloned();
        open.or_else(|| {
            let mut keys = self.write();
            // Another thread may have unwrapped it meanwhile.
            let meanwhile = keys.open.iter().find(|key| fits(key)).cloned();
            meanwhile.or_else(|| keys.unwrap_until(fits))
        })
    }

    /// Opens the object with this header with whichever key sealed it.
    pub fn opener(&self, context: &str, header: &[u8; HEADER_BYTES]) -> Option<Opener> {
        self.find_by_header(context, header).and_then(|key| Opener::new(&key, context, header).ok())
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys that some vault of this process holds open, by what they were unwrapped from and with: the replicas of a vault
/// have the same key files. Nothing is kept alive by it.
static UNWRAPPED: Mutex<BTreeMap<[u8; 32], Weak<SealKey>>> = Mutex::new(BTreeMap::new());

/// As [`unwrap`], or what another open vault has unwrapped from the same file with the same identities.
fn unwrap_shared(wrapped: &[u8], identities: &[Identity]) -> Result<Arc<SealKey>, KeyError> {
    let mut hash = Sha256::new_with_prefix(wrapped);
    identities.iter().for_each(|identity| hash.update(identity.secret_text().as_bytes()));
    let from: [u8; 32] = hash.finalize().into();
    if let Some(key) = unwrapped().get(&from).and_then(Weak::upgrade) {
        return Ok(key);
    }
    let key = Arc::new(unwrap(wrapped, identities)?);
    let mut shared = unwrapped();
    shared.retain(|_, key| key.strong_count() > 0);
    shared.insert(from, Arc::downgrade(&key));
    Ok(key)
}

fn unwrapped() -> MutexGuard<'static, BTreeMap<[u8; 32], Weak<SealKey>>> {
    UNWRAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of a secret file: a regular file, no link, of root or ourselves, readable by its owner only, in no folder
/// that anyone may write to, beneath no folder that holds `.git`, of 64 KiB at most.
///
/// # Errors
/// [`KeyError::Unsafe`] says which rule; [`KeyError::Io`].
pub fn read_private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let io = |source: io::Error| KeyError::Io { path: path.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(not_safe(path, "it is a symbolic link".to_owned())),
        opened => fs::File::from(opened.map_err(|e| io(e.into()))?),
    };
    check_file(path, &file.metadata().map_err(io)?)?;
    check_folders(path)?;
    // Room for the whole, so that a secret is not copied about by a growing buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE as usize + 1));
    file.take(MAX_KEY_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 > MAX_KEY_FILE {
        true => Err(not_safe(path, format!("it is larger than {MAX_KEY_FILE} bytes"))),
        false => Ok(bytes),
    }
}

/// Writes a new secret file of mode 0600, durably. An existing file is never replaced.
///
/// # Errors
/// [`KeyError::Unsafe`] about its folder; [`KeyError::Io`].
pub fn write_private_file(path: &Path, secret: &[u8]) -> Result<(), KeyError> {
    let io = |source: io::Error| KeyError::Io { path: path.to_owned(), source };
    check_folders(path)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(secret).and_then(|()| file.sync_all()).map_err(io)?;
    fs::File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(io)
}

fn not_safe(path: &Path, why: String) -> KeyError {
    KeyError::Unsafe { path: path.to_owned(), why }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_file(path: &Path, meta: &fs::Metadata) -> Result<(), KeyError> {
    let (mode, owner) = (meta.mode() & 0o7777, meta.uid());
    if !meta.is_file() {
        return Err(not_safe(path, "it is not a regular file".to_owned()));
    }
    if mode & 0o077 != 0 {
        return Err(not_safe(path, format!("its mode is {mode:04o}: others can use it; `chmod 600` it")));
    }
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(not_safe(path, format!("it belongs to user {owner}")));
    }
    Ok(())
}

fn check_folders(path: &Path) -> Result<(), KeyError> {
    let folder = fs::canonicalize(folder_of(path)).map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
    for ancestor in folder.ancestors() {
        if fs::symlink_metadata(ancestor.join(".git")).is_ok() {
            return Err(not_safe(path, format!("{} is a Git repository, where a secret does not belong", ancestor.display())));
        }
        let mode = fs::metadata(ancestor).map_or(0, |meta| meta.mode());
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            return Err(not_safe(path, format!("anyone may write to {}", ancestor.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
