//! The writer lease: numbered objects beneath `lease/`, of which the newest counts. A new one is made under the condition
//! that its name is free, so that of two sessions that want the same number exactly one gets it, be it a free lease, one of a
//! dead process or one taken by force; and numbers only ever grow.
//!
//! Names count down, so that the newest comes first in a listing of one key. Giving a lease back puts a second object
//! beside it instead of removing it: a bucket that refuses deletions needs no other way.

use super::{
    Root,
    client::{Request, Verb},
    error::Situation,
    list,
};
use havun_vault::store::{Lease, Life, Session, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Lost races, each of them another session's success.
const ATTEMPTS: u32 = 8;
/// Of old leases as many are kept: a listing stays short.
const KEPT: usize = 20;
const FREE: &str = ".free";

/// Tokens of the leases that this process holds: a record of ours with another one was lost in an outage.
static HELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<String>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Content of a lease object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseRecord {
    fencing: u64,
    holder: String,
    host: String,
    pid: u32,
    /// The holder's process, as in the name of an upload.
    session: String,
    /// Seconds since 1970, for people.
    since: i64,
    /// Random: two sessions never hold the same record.
    token: String,
}

impl LeaseRecord {
    fn describe(&self) -> String {
        let since = Timestamp::from_second(self.since).map(|time| time.strftime("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
        format!("{} (process {} on {}, since {since})", self.holder, self.pid, self.host)
    }

    /// Nobody holds it: its process is known to be gone (same boot, same process ids, no such process), or it is this one
    /// and has given it back or never heard that it was taken.
    fn is_dead(&self) -> bool {
        let ours = |session: &Session| *session == Session::current() && !held().contains(&self.token);
        Session::of_upload(&self.session).is_some_and(|session| session.life() == Life::Dead || ours(&session))
    }
}

/// A held lease.
pub(super) struct S3Lease {
    root: Arc<Root>,
    base: String,
    record: LeaseRecord,
}

impl S3Lease {
    pub fn take(root: &Arc<Root>, base: &str, holder: &str, force: bool) -> Result<Self, StoreError> {
        let conditional = root.is_conditional()?;
        for _ in 0..ATTEMPTS {
            let keys = list::first_keys(root, &folder(base), 100)?;
            let newest = keys.first().and_then(|key| number_of(base, key));
            if let Some(number) = newest.filter(|number| !force && !keys.contains(&free(base, *number))) {
                let record = read(root, base, number)?;
                if let Some(other) = record.filter(|record| !record.is_dead()) {
                    return Err(StoreError::Locked { holder: other.describe() });
                }
            }
            let record = new_record(root, newest.unwrap_or(0).saturating_add(1), holder)?;
            held().insert(record.token.clone());
            let written = write(root, &key(base, record.fencing), &record, conditional);
            if !matches!(written, Ok(true)) {
                held().remove(&record.token);
            }
            if written? {
                let lease = Self { root: Arc::clone(root), base: base.to_owned(), record };
                // Without conditions two sessions may have written the same number: the later one has it.
                if !conditional {
                    lease.check()?;
                }
                lease.forget_old(&keys);
                return Ok(lease);
            }
        }
        Err(StoreError::Locked { holder: "sessions that take it in turns".to_owned() })
    }

    fn forget_old(&self, keys: &[String]) {
        for key in keys.iter().skip(KEPT) {
            let _ = self.root.client.send(&Request::new(Verb::Delete, key));
        }
    }
}

impl Lease for S3Lease {
    fn fencing(&self) -> u64 {
        self.record.fencing
    }

    fn check(&self) -> Result<(), StoreError> {
        let newest = list::first_keys(&self.root, &folder(&self.base), 1)?;
        let number = newest.first().and_then(|key| number_of(&self.base, key));
        if number == Some(self.record.fencing) && self.root.is_conditional()? {
            return Ok(());
        }
        match number.map(|number| read(&self.root, &self.base, number)).transpose()?.flatten() {
            Some(record) if record == self.record => Ok(()),
            Some(record) => Err(StoreError::Fenced { holder: record.describe() }),
            None => Err(StoreError::Fenced { holder: "someone who removed the lease".to_owned() }),
        }
    }
}

impl Drop for S3Lease {
    fn drop(&mut self) {
        held().remove(&self.record.token);
        let given_back = write(&self.root, &free(&self.base, self.record.fencing), &self.record, false);
        if let Err(error) = given_back {
            tracing::warn!(%error, "the lease could not be given back; a later run on this machine takes it over");
        }
    }
}

/// Removes every lease object.
pub(super) fn forget_all(root: &Root, base: &str) -> Result<(), StoreError> {
    loop {
        let keys = list::first_keys(root, &folder(base), 100)?;
        if keys.is_empty() {
            return Ok(());
        }
        for key in keys {
            root.client.ask(&Request::new(Verb::Delete, &key), None)?;
        }
    }
}

fn folder(base: &str) -> String {
    format!("{base}/lease/")
}

fn key(base: &str, number: u64) -> String {
    format!("{}{:020}", folder(base), u64::MAX - number)
}

/// Comes right after the lease that it frees.
fn free(base: &str, number: u64) -> String {
    format!("{}{FREE}", key(base, number))
}

fn number_of(base: &str, key: &str) -> Option<u64> {
    let name = key.strip_prefix(&folder(base))?;
    let down: u64 = name.strip_suffix(FREE).unwrap_or(name).parse().ok()?;
    Some(u64::MAX - down)
}

fn new_record(root: &Root, fencing: u64, holder: &str) -> Result<LeaseRecord, StoreError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let named = if root.options.lease_name.is_empty() { host } else { root.options.lease_name.clone() };
    Ok(LeaseRecord {
        fencing,
        holder: holder.to_owned(),
        host: named,
        pid: std::process::id(),
        session: root.session.upload_name(),
        since: Timestamp::now().as_second(),
        token: super::store::random_hex()?,
    })
}

fn read(root: &Root, base: &str, number: u64) -> Result<Option<LeaseRecord>, StoreError> {
    let key = key(base, number);
    let answer = root.client.send(&Request::new(Verb::Get, &key))?;
    if answer.status == 404 {
        return Ok(None);
    }
    if !answer.is_ok() {
        return Err(answer.error(&Situation { place: &root.client.place(&key), name: None }));
    }
    let text = answer.text()?;
    let path = PathBuf::from(root.client.place(&key));
    serde_json::from_str(&text).map(Some).map_err(|e| StoreError::at(&path, e.into()))
}

/// False where the name is taken.
fn write(root: &Root, key: &str, record: &LeaseRecord, if_free: bool) -> Result<bool, StoreError> {
    let text = serde_json::to_vec(record).map_err(|e| StoreError::at(&PathBuf::from(key), e.into()))?;
    let request = Request::new(Verb::Put, key).body(&text, &Sha256::digest(&text).into());
    let request = super::put::if_free(request, if_free);
    let answer = root.client.send(&request)?;
    match answer.status {
        412 => Ok(false),
        _ if answer.is_ok() => Ok(true),
        _ => Err(answer.error(&Situation { place: &root.client.place(key), name: None })),
    }
}
