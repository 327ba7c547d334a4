//! Making and opening a vault: `vault.json`, the keys, and reading whole objects.

use crate::{
    error::VaultError,
    keys::{Identity, KeyRing, Recipient},
    layout::{self, ObjectKind},
    seal::{self, SealKey},
    store::{ObjectName, Published, Store, StoreError, Upload},
};
use havun_model::ProjectName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, sync::Arc};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Largest object other than a pack that is read whole, in bytes.
const MAX_OBJECT_BYTES: u64 = 1 << 30;

/// Key files read at once.
const KEY_READERS: usize = 4;

/// `vault.json`: what a vault is, in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultInfo {
    /// 1.
    pub format: u32,
    /// 32 hex digits, the same in every replica.
    pub vault_id: String,
    /// The project.
    pub project: ProjectName,
    /// When it was made.
    pub created: Timestamp,
    /// How objects are encrypted.
    pub encryption: Encryption,
    /// How files and dumps are cut into chunks.
    pub chunking: Chunking,
    /// `year`: a new epoch begins with each calendar year (UTC).
    pub epoch: String,
}

/// How a vault's objects are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// C2SP chunked-encryption with AES-256-GCM.
    #[serde(rename = "cobblestone-256")]
    Cobblestone256,
    /// Objects lie as they are.
    #[serde(rename = "none")]
    None,
}

/// How files and dumps are cut into chunks; sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    /// `fastcdc-nc2`.
    pub name: String,
    /// For files.
    pub files: Profile,
    /// For database dumps.
    pub dumps: Profile,
}

/// One cutting profile; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// No chunk but the last of a file is smaller.
    pub min: u32,
    /// About the average.
    pub avg: u32,
    /// No chunk is larger.
    pub max: u32,
    /// Files up to this size are one chunk; 0 where every file is cut.
    #[serde(default)]
    pub whole_below: u32,
}

impl Default for Chunking {
    fn default() -> Self {
        Self {
            name: "fastcdc-nc2".to_owned(),
            files: Profile { min: 256 << 10, avg: 1 << 20, max: 4 << 20, whole_below: 256 << 10 },
            dumps: Profile { min: 64 << 10, avg: 256 << 10, max: 1 << 20, whole_below: 0 },
        }
    }
}

/// What a new vault shall be.
pub struct NewVault {
    /// The project.
    pub project: ProjectName,
    /// Whether objects are encrypted.
    pub encryption: bool,
    /// Who can open its keys; two at least where it is encrypted.
    pub recipients: Vec<Recipient>,
    /// Now.
    pub created: Timestamp,
}

/// An open vault: its store, its description and the keys that the given identities opened.
pub struct Vault {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) info: VaultInfo,
    pub(crate) ring: KeyRing,
}

impl Vault {
    /// Makes an empty vault in `store`. Keys come with the first epoch.
    ///
    /// # Errors
    /// [`VaultError::NotAVault`] when something lies there already.
    pub fn create(store: Arc<dyn Store>, new: &NewVault) -> Result<(), VaultError> {
        let place = store.describe();
        if store.size(&layout::top(layout::VAULT_JSON)).map_err(|e| at(&*store, e))?.is_some() {
            return Err(VaultError::NotAVault { place, why: "there is a vault already".to_owned() });
        }
        // A vault that lost its description is not an empty folder: a new id would make what lies there unreadable.
        for folder in ["epochs", "keys"] {
            if !store.list(folder).map_err(|e| at(&*store, e))?.is_empty() {
                let why = format!(
                    "vault.json is missing, and objects of a vault lie in `{folder}`; `havun-backup repair` brings it back from another store"
                );
                return Err(VaultError::NotAVault { place, why });
            }
        }
        let mut id = [0; 16];
        random(&mut id)?;
        let info = VaultInfo {
            format: FORMAT,
            vault_id: hex::encode(id),
            project: new.project.clone(),
            created: new.created,
            encryption: if new.encryption { Encryption::Cobblestone256 } else { Encryption::None },
            chunking: Chunking::default(),
            epoch: "year".to_owned(),
        };
        write_head(&*store, &info)
    }

    /// Opens the vault in `store` with whichever of `identities` fits.
    ///
    /// # Errors
    /// [`VaultError::NoVault`], [`VaultError::NotAVault`], [`VaultError::NewerFormat`], [`VaultError::WrongKey`].
    pub fn open(store: Arc<dyn Store>, identities: &[Identity]) -> Result<Self, VaultError> {
        let info = read_info(&*store)?;
        let ring = match info.encryption {
            Encryption::None => KeyRing::default(),
            Encryption::Cobblestone256 => read_keys(&*store, identities)?,
        };
        Ok(Self { store, info, ring })
    }

    /// Opens the vault in `store` without any key: for what works on stored bytes alone, scrubbing and as a source of
    /// repairs. Nothing encrypted can be read.
    ///
    /// # Errors
    /// [`VaultError::NoVault`], [`VaultError::NotAVault`], [`VaultError::NewerFormat`].
    pub fn open_keyless(store: Arc<dyn Store>) -> Result<Self, VaultError> {
        let info = read_info(&*store)?;
        Ok(Self { store, info, ring: KeyRing::default() })
    }

    /// The replica of this vault that lies in `store`, with the same description and keys. Nothing is read: the replica
    /// may be damaged, its `vault.json` included.
    #[must_use]
    pub fn replica_in(&self, store: Arc<dyn Store>) -> Self {
        Self { store, info: self.info.clone(), ring: self.ring.clone() }
    }

    /// Whether its objects can be read: it is not encrypted, or a key is at hand.
    pub fn can_read(&self) -> bool {
        !self.is_encrypted() || !self.ring.is_empty()
    }

    /// What the vault says of itself.
    pub fn info(&self) -> &VaultInfo {
        &self.info
    }

    /// The store that it lies in.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Whether objects are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.info.encryption == Encryption::Cobblestone256
    }

    pub(crate) fn context(&self, kind: ObjectKind) -> String {
        layout::context(&self.info.vault_id, kind)
    }

    /// A whole index or snapshot object: read, compared with the SHA-256 in its name, decrypted.
    pub(crate) fn read_object(&self, name: &ObjectName, kind: ObjectKind) -> Result<Vec<u8>, VaultError> {
        let stored = self.store.read(name, MAX_OBJECT_BYTES).map_err(|e| at(&*self.store, e))?;
        check_hash(name, &stored)?;
        self.open_bytes(name, kind, stored)
    }

    fn open_bytes(&self, name: &ObjectName, kind: ObjectKind, stored: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        if !self.is_encrypted() {
            return Ok(stored);
        }
        let damaged = |what: &str| VaultError::Damaged { object: name.as_str().to_owned(), what: what.to_owned() };
        let header: [u8; 56] = stored.get(..56).and_then(|h| h.try_into().ok()).ok_or_else(|| damaged("shorter than its header"))?;
        let context = self.context(kind);
        let key = self.ring.find_by_header(&context, &header).ok_or_else(|| damaged("none of the vault's keys opens it"))?;
        seal::open_all(&key, &context, &stored).map_err(|e| damaged(&e.to_string()))
    }

    /// Seals `plain` (where the vault is encrypted) for publishing.
    pub(crate) fn seal_object(&self, key: Option<&SealKey>, kind: ObjectKind, plain: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        match key {
            None => Ok(plain),
            Some(key) => {
                let mut salt = [0; 24];
                random(&mut salt)?;
                Ok(seal::seal_all(key, &self.context(kind), salt, &plain))
            }
        }
    }
}

/// Wraps a store's error with the store's description.
pub(crate) fn at(store: &dyn Store, source: StoreError) -> VaultError {
    match source {
        StoreError::Locked { holder } => VaultError::Locked { place: store.describe(), holder },
        source => VaultError::Store { place: store.describe(), source },
    }
}

/// Fills `bytes` from the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), VaultError> {
    getrandom::fill(bytes).map_err(|e| VaultError::Internal { what: "the system's random generator", why: e.to_string() })
}

/// SHA-256 of `stored` against the hash in `name`.
pub(crate) fn check_hash(name: &ObjectName, stored: &[u8]) -> Result<(), VaultError> {
    let found = hex::encode(Sha256::digest(stored));
    match layout::claimed_hash(name.as_str()) {
        Some(claimed) if claimed == found => Ok(()),
        _ => Err(VaultError::Damaged { object: name.as_str().to_owned(), what: format!("its SHA-256 is {found}") }),
    }
}

/// Publishes `bytes` under `name`, read back before it counts.
pub(crate) fn publish(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<Published, VaultError> {
    let mut upload = store.begin().map_err(|e| at(store, e))?;
    upload.write(bytes).map_err(|e| at(store, e))?;
    let mut back = vec![0; bytes.len()];
    upload.read_back(0, &mut back).map_err(|e| at(store, e))?;
    if back != bytes {
        return Err(VaultError::ReadBack { object: name.as_str().to_owned() });
    }
    publish_upload(store, upload, name, bytes.len() as u64)
}

/// Publishes an upload of `size` bytes, and counts it as there only when the store then finds it by its name: a rename
/// that was never made must not end in a snapshot that needs it.
pub(crate) fn publish_upload(
    store: &dyn Store,
    upload: Box<dyn Upload + '_>,
    name: &ObjectName,
    size: u64,
) -> Result<Published, VaultError> {
    let published = upload.publish(name).map_err(|e| at(store, e))?;
    match store.size(name).map_err(|e| at(store, e))? {
        Some(found) if found == size => Ok(published),
        _ => Err(VaultError::ReadBack { object: name.as_str().to_owned() }),
    }
}

/// The text of a new vault's `README.txt`.
pub(crate) fn readme(info: &VaultInfo) -> String {
    include_str!("readme.txt").replace("{project}", info.project.as_str()).replace("{vault}", &info.vault_id)
}

/// `README.txt`, the sums and `vault.json`, which comes last: a folder that has it is complete.
fn write_head(store: &dyn Store, info: &VaultInfo) -> Result<(), VaultError> {
    let readme = readme(info);
    let json = serde_json::to_vec_pretty(info).map_err(|e| VaultError::Internal { what: "writing vault.json", why: e.to_string() })?;
    let sums = sum_line(readme.as_bytes(), layout::README) + &sum_line(&json, layout::VAULT_JSON);
    for (name, bytes) in [(layout::README, readme.as_bytes()), (layout::HEAD_SUMS, sums.as_bytes()), (layout::VAULT_JSON, &json)] {
        // What an interrupted creation left was of another vault id; without its vault.json it means nothing.
        let name = layout::top(name);
        store.remove(&name).map_err(|e| at(store, e))?;
        publish(store, &name, bytes)?;
    }
    Ok(())
}

/// One line as `sha256sum` writes it.
pub(crate) fn sum_line(bytes: &[u8], name: &str) -> String {
    format!("{}  {name}\n", hex::encode(Sha256::digest(bytes)))
}

/// Reads and checks `vault.json`.
pub(crate) fn read_info(store: &dyn Store) -> Result<VaultInfo, VaultError> {
    let place = store.describe();
    let bytes = match store.read(&layout::top(layout::VAULT_JSON), 1 << 16) {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Err(VaultError::NoVault { place }),
        Err(e) => return Err(at(store, e)),
    };
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| VaultError::NotAVault { place: place.clone(), why: format!("vault.json: {e}") })?;
    let format = json.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(FORMAT) {
        return Err(VaultError::NewerFormat { place, found: u32::try_from(format).unwrap_or(u32::MAX), known: FORMAT });
    }
    let info: VaultInfo =
        serde_json::from_value(json).map_err(|e| VaultError::NotAVault { place: place.clone(), why: format!("vault.json: {e}") })?;
    match unusable(&info) {
        Some(why) => Err(VaultError::NotAVault { place, why }),
        None => Ok(info),
    }
}

/// Why this program cannot use a vault that describes itself so.
fn unusable(info: &VaultInfo) -> Option<String> {
    let c = &info.chunking;
    let sane = |p: &Profile| p.min >= 4096 && p.min <= p.avg && p.avg <= p.max && p.max <= 64 << 20 && p.whole_below <= p.max;
    if info.format != FORMAT {
        Some(format!("vault.json: format {}", info.format))
    } else if info.vault_id.len() != 32 || hex::decode(&info.vault_id).is_err() {
        Some("vault.json: the vault id is not 32 hex digits".to_owned())
    } else if c.name != "fastcdc-nc2" || !sane(&c.files) || !sane(&c.dumps) {
        Some(format!("vault.json: chunking `{}` with these sizes is unknown", c.name))
    } else if info.epoch != "year" {
        Some(format!("vault.json: epoch length `{}` is unknown", info.epoch))
    } else {
        None
    }
}

/// The keys that `identities` open, one at least. A vault without a key yet (no run so far) has an empty ring.
fn read_keys(store: &dyn Store, identities: &[Identity]) -> Result<KeyRing, VaultError> {
    let listed = list_keys(store)?;
    let files = key_files(store, &listed)?;
    let ring = KeyRing::of_files(files.iter().map(|(_, wrapped)| wrapped.clone()).collect(), identities);
    if files.is_empty() || !ring.is_empty() {
        return Ok(ring);
    }
    match damaged_among(store, &listed, &files)?.into_iter().next() {
        Some((object, what)) => Err(VaultError::Damaged { object, what }),
        None => Err(VaultError::WrongKey { place: store.describe() }),
    }
}

fn list_keys(store: &dyn Store) -> Result<Vec<ObjectName>, VaultError> {
    let listed = store.list("keys").map_err(|e| at(store, e))?;
    Ok(listed.into_iter().map(|l| l.name).collect())
}

/// The key files among `listed`, read at once: over a network each read is a round trip or two, and there is one for each year.
fn key_files(store: &dyn Store, listed: &[ObjectName]) -> Result<Vec<(ObjectName, Vec<u8>)>, VaultError> {
    let names: Vec<&ObjectName> = listed.iter().filter(|name| name.as_str().ends_with(".age")).collect();
    let share = names.len().div_ceil(KEY_READERS).max(1);
    let read = |names: &[&ObjectName]| -> Result<Vec<_>, StoreError> {
        names.iter().map(|name| Ok(((*name).clone(), store.read(name, 1 << 16)?))).collect()
    };
    let parts: Vec<Result<Vec<_>, StoreError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = names.chunks(share).map(|names| scope.spawn(move || read(names))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(StoreError::Void))).collect()
    });
    let mut files = Vec::new();
    for part in parts {
        files.extend(part.map_err(|e| at(store, e))?);
    }
    Ok(files)
}

/// Key files that are not what the sum beside them says, with what is wrong.
fn damaged_keys(store: &dyn Store) -> Result<Vec<(String, String)>, VaultError> {
    let listed = list_keys(store)?;
    let files = key_files(store, &listed)?;
    damaged_among(store, &listed, &files)
}

fn damaged_among(store: &dyn Store, listed: &[ObjectName], files: &[(ObjectName, Vec<u8>)]) -> Result<Vec<(String, String)>, VaultError> {
    let mut damaged = Vec::new();
    let mut sums = BTreeSet::new();
    for (name, wrapped) in files {
        let name = name.as_str();
        let id = name.trim_start_matches("keys/").trim_end_matches(".age");
        let sum_name = layout::key_sum(id);
        let sum = match store.read(&sum_name, 1 << 12) {
            Ok(sum) => sum,
            // A crash between the two files leaves a key that nothing was sealed with yet.
            Err(StoreError::NotFound { .. }) => continue,
            Err(e) => return Err(at(store, e)),
        };
        sums.insert(sum_name.as_str().to_owned());
        if sum != sum_line(wrapped, &format!("{id}.age")).as_bytes() {
            damaged.push((name.to_owned(), "its SHA-256 is not the one in the file beside it (one of the two is damaged)".to_owned()));
        }
    }
    for name in listed.iter().map(ObjectName::as_str) {
        if name.ends_with(".sha256") && !sums.contains(name) {
            damaged.push((name.replace(".sha256", ".age"), "it is missing".to_owned()));
        }
    }
    Ok(damaged)
}

impl Vault {
    pub(crate) fn damaged_keys(&self) -> Result<Vec<(String, String)>, VaultError> {
        damaged_keys(&*self.store)
    }

    /// The key that an epoch's objects are sealed with: the one that opens its newest snapshot, else any other of its
    /// objects. `None` when the epoch has no object yet, or the vault is not encrypted.
    pub(crate) fn epoch_key(&self, epoch: &str) -> Result<Option<Arc<SealKey>>, VaultError> {
        if !self.is_encrypted() {
            return Ok(None);
        }
        for kind in [ObjectKind::Snapshot, ObjectKind::Index, ObjectKind::Pack] {
            let mut objects = self.list_kind(epoch, kind)?;
            objects.sort_by(|a, b| b.name.as_str().cmp(a.name.as_str()));
            for object in objects.iter().filter(|o| o.size >= 56) {
                let mut header = [0; 56];
                self.store.read_range(&object.name, 0, &mut header).map_err(|e| at(&*self.store, e))?;
                if let Some(key) = self.ring.find_by_header(&self.context(kind), &header) {
                    return Ok(Some(key));
                }
            }
        }
        Ok(None)
    }

    /// Makes a key for a new epoch, wraps it for `recipients` and publishes it before anything is sealed with it.
    pub(crate) fn new_epoch_key(&self, recipients: &[Recipient]) -> Result<Arc<SealKey>, VaultError> {
        let internal = |e: String| VaultError::Internal { what: "making a key", why: e };
        if recipients.is_empty() {
            return Err(internal("no recipients are given".to_owned()));
        }
        let key = SealKey::generate().map_err(|e| internal(e.to_string()))?;
        let wrapped = crate::keys::wrap(&key, recipients).map_err(|e| internal(e.to_string()))?;
        let id = crate::keys::KeyId::of(&key).to_string();
        publish(&*self.store, &layout::key(&id), &wrapped)?;
        publish(&*self.store, &layout::key_sum(&id), sum_line(&wrapped, &format!("{id}.age")).as_bytes())?;
        let key = Arc::new(key);
        self.ring.add(Arc::clone(&key));
        Ok(key)
    }
}
