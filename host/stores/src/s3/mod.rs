//! A vault in a bucket of any S3-compatible service.
//!
//! Objects lie at `<prefix>/<project>/<object name>`. An object is stored by one `PUT` or by a multipart upload, both
//! under the condition that the name is free, and is looked at afterwards: its size, its checksum and its lock.
//!
//! `client` sends signed requests, `error` sorts refusals, `xml` reads answers. `store` is the [`Store`], `put` and
//! `multipart` the way of an object to its name, `exists` what is done when something has it, `lock` and `versions` what
//! object lock adds, `lease` who may write, `tamper` what a thief would try.
//!
//! [`Store`]: havun_vault::store::Store

mod client;
mod error;
mod exists;
mod lease;
mod list;
mod lock;
mod marker;
mod multipart;
mod put;
mod resume;
mod spool;
mod store;
mod tamper;
mod versions;
mod xml;

pub use lock::{LockMode, ObjectLock};
pub use store::S3Store;
pub use versions::VersionRecord;

use client::Client;
use havun_model::{ProjectName, StoreName};
use havun_vault::store::{ObjectName, Session, StoreError};
use marker::Marker;
use rusty_s3::{Bucket, Credentials, UrlStyle};
use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};
use url::Url;
use versions::Versions;
use zeroize::Zeroizing;

/// Up to this, one request; above, several parts.
pub const PART_BYTES: u64 = 16 << 20;

/// Where a bucket is and how to get in.
#[derive(Clone)]
pub struct S3Options {
    /// `https://nbg1.your-objectstorage.com`
    pub endpoint: String,
    /// `us-east-1` where empty.
    pub region: String,
    /// It must exist: a store never makes a bucket.
    pub bucket: String,
    /// Before the project's name; may be empty.
    pub prefix: String,
    /// Half of the key that is no secret.
    pub access_key_id: Zeroizing<String>,
    /// The secret half.
    pub secret_access_key: Zeroizing<String>,
    /// Of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
    /// `endpoint/bucket` instead of `bucket.endpoint`: what everyone but Amazon takes.
    pub path_style: bool,
    /// Requests at a time, 1 to 16.
    pub connections: usize,
    /// Locks every object.
    pub object_lock: Option<ObjectLock>,
    /// Bytes of a part, at least 5 MiB but for the last one.
    pub part_bytes: u64,
    /// A local folder for uploads under way, unfinished multipart uploads and version ids.
    pub spool_dir: PathBuf,
    /// Who we are, for people.
    pub lease_name: String,
}

/// A bucket that holds the vaults of a store. Clones share its connections.
#[derive(Clone)]
pub struct S3Root(Arc<Root>);

/// What all vaults of a store share.
struct Root {
    client: Client,
    options: S3Options,
    versions: Versions,
    session: Session,
    /// The marker, once it was seen.
    marker: OnceLock<Marker>,
    /// Whether `If-None-Match` works, once that was tried.
    conditional: OnceLock<bool>,
    /// A deletion left a marker behind: the bucket keeps versions.
    keeps_versions: AtomicBool,
    /// Some request about the bucket itself was answered: it is there.
    bucket_seen: AtomicBool,
    /// Keys with an upload under way in this process.
    under_way: Mutex<HashSet<String>>,
}

impl S3Root {
    /// Sends nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the endpoint, the bucket's name or the prefix cannot be.
    pub fn new(mut options: S3Options) -> Result<Self, StoreError> {
        options.prefix = checked_prefix(&options.prefix)?;
        options.connections = options.connections.clamp(1, 16);
        options.part_bytes = options.part_bytes.clamp(64 << 10, 1 << 30);
        let bucket = bucket(&options)?;
        let (id, secret) = (options.access_key_id.as_str(), options.secret_access_key.as_str());
        let credentials = match &options.session_token {
            Some(token) => Credentials::new_with_token(id, secret, token.as_str()),
            None => Credentials::new(id, secret),
        };
        let root = Root {
            client: Client::new(bucket, credentials, options.connections),
            versions: Versions::new(options.spool_dir.join("versions.jsonl")),
            session: Session::current(),
            marker: OnceLock::new(),
            conditional: OnceLock::new(),
            keeps_versions: AtomicBool::new(false),
            bucket_seen: AtomicBool::new(false),
            under_way: Mutex::default(),
            options,
        };
        Ok(Self(Arc::new(root)))
    }

    /// The store of one project's vault. Nothing is made before the first write.
    pub fn vault(&self, project: &ProjectName) -> S3Store {
        S3Store::new(Arc::clone(&self.0), self.0.key(project.as_str()))
    }

    /// Names of the projects that have a vault here.
    ///
    /// # Errors
    /// [`StoreError::Refused`], [`StoreError::Unreachable`].
    pub fn vault_names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for folder in list::folders(&self.0, &self.0.key(""))? {
            let Ok(project) = ProjectName::new(&folder) else { continue };
            if havun_vault::store::Store::size(&self.vault(&project), &ObjectName::new("vault.json")?)?.is_some() {
                names.push(folder);
            }
        }
        Ok(names)
    }

    /// Makes the bucket's prefix the store `name`: puts the marker object there. One that is that store already stays as
    /// it is.
    ///
    /// # Errors
    /// [`StoreError::WrongMarker`] where it is another store; [`StoreError::Refused`] where the bucket is not there.
    pub fn prepare(&self, name: &StoreName) -> Result<(), StoreError> {
        marker::prepare(&self.0, name)
    }

    /// Requests so far: each is one round trip, those of a multipart upload overlap.
    pub fn round_trips(&self) -> u64 {
        self.0.client.requests()
    }

    /// Version ids that this machine has recorded: with them an object can be had back whatever lies on top of it.
    pub fn versions(&self) -> Vec<VersionRecord> {
        self.0.versions.read()
    }
}

impl Root {
    /// `rest` beneath the prefix.
    fn key(&self, rest: &str) -> String {
        if self.options.prefix.is_empty() { rest.to_owned() } else { format!("{}/{rest}", self.options.prefix) }
    }

    fn is_locked(&self) -> bool {
        self.options.object_lock.is_some()
    }

    fn spool_dir(&self) -> Result<&std::path::Path, StoreError> {
        let folder = &self.options.spool_dir;
        std::fs::create_dir_all(folder).map_err(|e| StoreError::at(folder, e))?;
        Ok(folder)
    }
}

fn bucket(options: &S3Options) -> Result<Bucket, StoreError> {
    let refused = |why: String| StoreError::Refused {
        what: format!("endpoint {}", options.endpoint),
        why,
        hint: "`endpoint` is an address such as https://nbg1.your-objectstorage.com, without the bucket",
    };
    if options.bucket.is_empty() {
        return Err(refused("the bucket has no name".to_owned()));
    }
    let url: Url = options.endpoint.parse().map_err(|e: url::ParseError| refused(e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StoreError::Refused {
            what: "endpoint".to_owned(),
            why: "it holds a password".to_owned(),
            hint: "put it into a secret",
        });
    }
    let style = if options.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
    let region = if options.region.is_empty() { "us-east-1".to_owned() } else { options.region.clone() };
    Bucket::new(url, style, options.bucket.clone(), region).map_err(|e| refused(format!("{e:?}")))
}

/// A prefix of plain components, without a slash at either end.
fn checked_prefix(prefix: &str) -> Result<String, StoreError> {
    let trimmed = prefix.trim_matches('/');
    if trimmed.is_empty() {
        return Ok(String::new());
    }
    ObjectName::new(trimmed).map(|name| name.to_string())
}
