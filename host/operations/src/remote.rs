//! Stores on other machines, from their configuration: secrets are read here, at the moment of use, and one root for
//! each store is shared by all of its vaults, with its connections and its bandwidth.

use crate::{
    config::{LockMode, ProjectConfig, S3Store, Secret, SftpStore, StoreConfig, StoreKind, UploadCheck},
    context::Context,
    error::OperationError,
};
use havun_model::{ProjectName, StoreName};
use havun_stores::{
    s3::{self, ObjectLock, S3Options, S3Root},
    sftp::{SftpOptions, SftpRoot, SshAuth, Timeouts, VerifyUploads},
};
use havun_vault::store::{
    Bandwidth, LimitedStore, ObjectName, RetryPolicy, RetryStore, Sleeper, Store, StoreError, probe::CHECK_FOLDERS, steady_clock,
};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use zeroize::Zeroizing;

/// Bytes of one part of a multipart upload.
const PART_BYTES: u64 = 16 << 20;

/// What a check of the store writes is locked for so long only.
const CHECK_LOCK: SignedDuration = SignedDuration::from_hours(24);

/// Folder in the state folder for uploads under way.
const SPOOL_DIR: &str = "spool";

/// A store on another machine.
#[derive(Clone)]
pub(crate) enum Remote {
    Sftp(SftpRoot),
    S3(S3Root),
}

/// The roots that this process has opened, and the bandwidths that they share.
#[derive(Default)]
pub(crate) struct Remotes {
    /// By store; by project too where objects are locked, because the term is the project's.
    roots: Mutex<BTreeMap<(StoreName, Option<ProjectName>), Remote>>,
    bandwidths: Mutex<BTreeMap<StoreName, Arc<Bandwidth>>>,
}

impl Remote {
    /// Makes the folder and the marker where they are missing.
    ///
    /// # Errors
    /// [`StoreError::WrongMarker`] where it is another store.
    pub fn prepare(&self, name: &StoreName) -> Result<(), StoreError> {
        match self {
            Self::Sftp(root) => root.prepare(name),
            Self::S3(root) => root.prepare(name),
        }
    }

    /// Whether it can be reached and is the store `name`. Writes nothing.
    ///
    /// # Errors
    /// As the store says.
    pub fn check(&self, name: &StoreName) -> Result<(), StoreError> {
        match self {
            Self::Sftp(root) => root.check(name),
            Self::S3(root) => root.vault_names().map(drop),
        }
    }

    /// Names of the projects that have a vault there.
    ///
    /// # Errors
    /// As the store says.
    pub fn vault_names(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sftp(root) => root.vault_names(),
            Self::S3(root) => root.vault_names(),
        }
    }
}

/// The root of a store on another machine; `None` for one on this machine.
///
/// # Errors
/// [`OperationError::StoreSecret`], [`OperationError::Store`].
pub(crate) fn root(cx: &Context, config: &StoreConfig, project: Option<&ProjectName>) -> Result<Option<Remote>, OperationError> {
    let locked = matches!(&config.kind, StoreKind::S3(s3) if s3.object_lock.is_some());
    let key = (config.name.clone(), project.filter(|_| locked).cloned());
    let mut roots = cx.remotes.roots.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(root) = roots.get(&key) {
        return Ok(Some(root.clone()));
    }
    let failed = |source| OperationError::Store { store: config.name.clone(), source };
    let root = match &config.kind {
        StoreKind::Local { .. } => return Ok(None),
        StoreKind::Sftp(sftp) => Remote::Sftp(SftpRoot::new(sftp_options(cx, config, sftp)?).map_err(failed)?),
        StoreKind::S3(s3) => Remote::S3(S3Root::new(s3_options(cx, config, s3, project)?).map_err(failed)?),
    };
    roots.insert(key, root.clone());
    Ok(Some(root))
}

/// One vault of a store on another machine, with its limits; `None` for a store on this machine.
///
/// # Errors
/// As [`root`].
pub(crate) fn vault(cx: &Context, config: &StoreConfig, project: &ProjectName) -> Result<Option<Arc<dyn Store>>, OperationError> {
    let policy =
        RetryPolicy { attempts: 4, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(8), ..RetryPolicy::default() };
    Ok(root(cx, config, Some(project))?.map(|root| match root {
        Remote::Sftp(root) => wrapped(cx, config, root.vault(project), policy),
        Remote::S3(root) => wrapped(cx, config, root.vault(project), policy),
    }))
}

/// A store that tries again what may well succeed a moment later, within the bandwidth of its configuration.
pub(crate) fn wrapped(cx: &Context, config: &StoreConfig, store: impl Store + 'static, policy: RetryPolicy) -> Arc<dyn Store> {
    let sleeper = || ContextSleeper(Arc::clone(&cx.sleeper));
    match bandwidth(cx, config) {
        None => Arc::new(RetryStore::new(store, policy, sleeper())),
        Some(bandwidth) => Arc::new(RetryStore::new(LimitedStore::new(store, bandwidth), policy, sleeper())),
    }
}

/// One for each store, so that several projects and threads share it.
fn bandwidth(cx: &Context, config: &StoreConfig) -> Option<Arc<Bandwidth>> {
    let rate = config.bandwidth?.bytes_per_second().get();
    let mut all = cx.remotes.bandwidths.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Arc::new(Bandwidth::new(rate, steady_clock(), ContextSleeper(Arc::clone(&cx.sleeper))));
    Some(Arc::clone(all.entry(config.name.clone()).or_insert_with(new)))
}

struct ContextSleeper(crate::context::Sleeper);

impl Sleeper for ContextSleeper {
    fn sleep(&self, time: Duration) {
        (self.0)(time);
    }
}

fn secret(config: &StoreConfig, secret: &Secret) -> Result<Zeroizing<String>, OperationError> {
    secret.resolve().map_err(|source| OperationError::StoreSecret { store: config.name.clone(), source })
}

fn optional(config: &StoreConfig, given: Option<&Secret>) -> Result<Option<Zeroizing<String>>, OperationError> {
    given.map(|given| secret(config, given)).transpose()
}

fn sftp_options(cx: &Context, config: &StoreConfig, sftp: &SftpStore) -> Result<SftpOptions, OperationError> {
    let auth = match (&sftp.identity, &sftp.password) {
        (Some(identity), _) => SshAuth::Key { text: secret(config, identity)?, passphrase: optional(config, sftp.passphrase.as_ref())? },
        (None, Some(password)) => SshAuth::Password(secret(config, password)?),
        (None, None) => SshAuth::Agent { socket: std::env::var_os("SSH_AUTH_SOCK").unwrap_or_default().into() },
    };
    let host_key =
        sftp.host_key.parse().map_err(|source| OperationError::HostKeyPin { store: config.name.clone(), source: Box::new(source) })?;
    Ok(SftpOptions {
        host: sftp.host.clone(),
        port: sftp.port,
        user: sftp.user.clone(),
        path: sftp.path.clone(),
        auth: vec![auth],
        host_key,
        connections: sftp.connections,
        put_once: sftp.put_once,
        verify: match sftp.verify {
            UploadCheck::Auto => VerifyUploads::Auto,
            UploadCheck::ReadBack => VerifyUploads::ReadBack,
            UploadCheck::Size => VerifyUploads::Size,
        },
        spool_dir: cx.private_dir(SPOOL_DIR)?.join(config.name.as_str()),
        lease_name: cx.holder("havun-backup"),
        timeouts: Timeouts::default(),
    })
}

fn s3_options(cx: &Context, config: &StoreConfig, s3: &S3Store, project: Option<&ProjectName>) -> Result<S3Options, OperationError> {
    let endpoint = if s3.endpoint.is_empty() { format!("https://s3.{}.amazonaws.com", s3.region) } else { s3.endpoint.clone() };
    let given = |given: Option<&Secret>| optional(config, given).map(Option::unwrap_or_default);
    Ok(S3Options {
        endpoint,
        region: s3.region.clone(),
        bucket: s3.bucket.clone(),
        prefix: s3.prefix.clone(),
        access_key_id: given(s3.access_key_id.as_ref())?,
        secret_access_key: given(s3.secret_access_key.as_ref())?,
        session_token: optional(config, s3.session_token.as_ref())?,
        path_style: s3.path_style,
        connections: s3.connections,
        object_lock: s3.object_lock.map(|mode| object_lock(cx, mode, project.and_then(|name| cx.config.projects.get(name)))),
        part_bytes: PART_BYTES,
        spool_dir: cx.private_dir(SPOOL_DIR)?.join(config.name.as_str()),
        lease_name: cx.holder("havun-backup"),
    })
}

/// Locks until the end of the term. Without a project (the marker of the store) the longest term of all is used.
fn object_lock(cx: &Context, mode: LockMode, project: Option<&ProjectConfig>) -> ObjectLock {
    let terms = match project {
        Some(project) => vec![project.retention.archive],
        None => cx.config.projects.values().map(|project| project.retention.archive).collect(),
    };
    let (zone, clock) = (cx.zone(), cx.clock());
    ObjectLock {
        mode: match mode {
            LockMode::Governance => s3::LockMode::Governance,
            LockMode::Compliance => s3::LockMode::Compliance,
        },
        until: Arc::new(move |name| {
            let (now, from) = (clock(), end_of_epoch(name, &zone));
            if CHECK_FOLDERS.iter().any(|start| name.as_str().starts_with(start)) {
                return now.checked_add(CHECK_LOCK).unwrap_or(now);
            }
            let from = from.unwrap_or_else(&*clock);
            terms.iter().map(|term| term.keep_until(from, &zone)).max().unwrap_or(now).max(now)
        }),
    }
}

/// The last second of the calendar year of an object's epoch; `None` for what is in none.
fn end_of_epoch(name: &ObjectName, zone: &TimeZone) -> Option<Timestamp> {
    let (epoch, _) = name.as_str().strip_prefix("epochs/")?.split_once('/')?;
    let day = Date::new(epoch.parse().ok()?, 12, 31).ok()?;
    zone.to_ambiguous_timestamp(day.at(23, 59, 59, 0)).compatible().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_an_epoch_ends_with_its_term_by_calendar_year() {
        let zone = TimeZone::get("Europe/Amsterdam").unwrap();
        let name = ObjectName::new("epochs/2026/snapshots/x").unwrap();
        let end = end_of_epoch(&name, &zone).unwrap();
        assert_eq!(end.to_string(), "2026-12-31T22:59:59Z");
        assert_eq!("7y".parse::<havun_model::retention::Term>().unwrap().keep_until(end, &zone).to_string(), "2033-12-31T23:00:00Z");
        assert_eq!(end_of_epoch(&ObjectName::new("keys/ab.age").unwrap(), &zone), None);
    }
}
