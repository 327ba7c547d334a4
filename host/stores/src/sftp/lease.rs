//! The writer lease of a vault, by convention: a file `lease` that is made whole and never over another one.
//!
//! Whoever finds it taken over sees that at one look, because each holder's file has another size than the one before it.
//! A holder that is a dead process of this machine, or one of this process that could not give it back during an outage,
//! keeps nobody out.

use super::{
    failure::{FORBIDDEN, Failure, Said},
    link::{Link, Seen, lock},
    put::Job,
    read::Whole,
};
use havun_vault::store::{Lease, Life, Session, StoreError};
use russh_sftp::protocol::OpenFlags;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// Longest lease file that is read.
const LONGEST: u64 = 64 << 10;
/// Races that are lost to others before we give up.
const ATTEMPTS: u32 = 8;

/// Leases of this process that are held.
static HELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Content of the lease file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    fencing: u64,
    holder: String,
    host: String,
    /// Names the process, as an upload's name does.
    session: String,
    /// Seconds since 1970, for people.
    since: u64,
    /// Random: two leases never have the same record.
    token: String,
}

/// A held lease.
pub(super) struct SftpLease {
    job: Job,
    record: Record,
    seen: Mutex<Seen>,
}

impl SftpLease {
    /// Takes the lease at the job's target.
    pub fn take(job: Job, holder: &str, force: bool) -> Result<Self, StoreError> {
        let (shared, holder) = (Arc::clone(&job.shared), format!("{holder} ({})", job.shared.options.lease_name));
        shared.run(async move {
            let link = job.shared.ticket().await?;
            job.take_lease(&link, &holder, force).await
        })
    }
}

impl Lease for SftpLease {
    fn fencing(&self) -> u64 {
        self.record.fencing
    }

    fn check(&self) -> Result<(), StoreError> {
        let (job, ours, token) = (self.job.clone(), *lock(&self.seen), self.record.token.clone());
        let seen = self.job.shared.run(async move {
            let link = job.shared.ticket().await?;
            job.check_lease(&link, ours, &token).await
        })?;
        *lock(&self.seen) = seen;
        Ok(())
    }
}

impl Drop for SftpLease {
    fn drop(&mut self) {
        let (job, ours) = (self.job.clone(), *lock(&self.seen));
        let given_back = self.job.shared.run(async move {
            let link = job.shared.ticket().await?;
            if job.shared.seen(&link, &job.target).await? == Some(ours) {
                job.shared.turn();
                link.remove(&job.target).await.said(|| format!("removing {}", job.target))?;
            }
            Ok(())
        });
        lock(&HELD).remove(&self.record.token);
        if let Err(error) = given_back {
            // The next lease of this machine takes it over by itself.
            tracing::warn!(lease = self.job.target, %error, "the lease could not be given back");
        }
    }
}

impl Job {
    async fn take_lease(self, link: &Arc<Link>, holder: &str, force: bool) -> Result<SftpLease, StoreError> {
        let mut old: Option<(Record, Seen)> = None;
        for _ in 0..ATTEMPTS {
            let record = new_record(holder, old.as_ref().map_or(0, |(record, _)| record.fencing))?;
            let seen = self.write_record(link, &record, old.as_ref().map(|(_, seen)| seen.size)).await?;
            let named = self.name_record(link, old.is_some()).await?;
            let (failure, there) = match named {
                Named::Ours(there) if there == seen => {
                    lock(&HELD).insert(record.token.clone());
                    return Ok(SftpLease { job: self, record, seen: Mutex::new(seen) });
                }
                Named::Ours(there) => (None, Some(there)),
                Named::Taken(failure, there) => (Some(failure), there),
            };
            let Some(there) = there else {
                // Given back this moment, unless the server forbids what we did.
                if let Some(failure) = failure.filter(|failure| !failure.is_plain() && !failure.is_missing()) {
                    return Err(failure.at(&format!("publishing {}", self.target)));
                }
                old = None;
                continue;
            };
            let found = self.read_record(link).await?;
            if let Some(record) = found.as_ref().filter(|record| !force && !is_free(record)) {
                drop(link.remove(&self.temp));
                return Err(StoreError::Locked { holder: describe(record) });
            }
            // A power cut may leave an empty file: it is nobody's.
            old = Some((found.unwrap_or_else(nobody), there));
        }
        drop(link.remove(&self.temp));
        Err(StoreError::Locked { holder: "others, who take it in turn".to_owned() })
    }

    /// Writes a lease file under a temporary name, of another size than the one that it may replace.
    async fn write_record(&self, link: &Arc<Link>, record: &Record, other_than: Option<u64>) -> Result<Seen, StoreError> {
        let mut text = serde_json::to_vec(record).map_err(|e| StoreError::Io { path: self.target.clone().into(), source: e.into() })?;
        let spaces = usize::try_from(record.fencing % 509).unwrap_or(0);
        text.extend(std::iter::repeat_n(b' ', spaces));
        if other_than == Some(text.len() as u64 + 1) {
            text.push(b' ');
        }
        text.push(b'\n');
        let handle = self.open_record(link).await?;
        self.shared.turn();
        let (write, seen, close) = (link.write(&handle, 0, text), link.fstat(&handle), link.close(&handle));
        if let Err(failure) = write.await {
            return Err(self.classify(link, failure, "writing").await);
        }
        close.await.said(|| format!("closing {}", self.temp))?;
        seen.await.said(|| format!("looking at {}", self.temp))
    }

    async fn open_record(&self, link: &Arc<Link>) -> Result<String, StoreError> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        self.shared.turn();
        match link.open(&self.temp, flags).await {
            Err(failure) if failure.is_missing() => self.make_folders(link, &self.temp).await?,
            Err(failure) => return Err(self.classify(link, failure, "opening a temporary file for").await),
            Ok(handle) => return Ok(handle),
        }
        self.shared.turn();
        link.open(&self.temp, flags).await.said(|| format!("creating {}", self.temp))
    }

    async fn name_record(&self, link: &Arc<Link>, replace: bool) -> Result<Named, StoreError> {
        self.shared.turn();
        let renamed = match (replace, link.abilities.posix_rename, link.abilities.careful_rename || !link.abilities.hardlink) {
            (true, true, _) => link.posix_rename(&self.temp, &self.target),
            (true, false, _) => {
                drop(link.remove(&self.target));
                link.rename(&self.temp, &self.target)
            }
            (false, _, true) => link.rename(&self.temp, &self.target),
            (false, _, false) => {
                let linked = link.hardlink(&self.temp, &self.target);
                drop(link.remove(&self.temp));
                linked
            }
        };
        let there = link.lstat(&self.target);
        let (renamed, there) = (renamed.await, there.await.said(|| format!("looking at {}", self.target))?);
        match (renamed, there) {
            (Ok(()), Some(there)) => Ok(Named::Ours(there)),
            (Ok(()), None) => Ok(Named::Taken(Failure::Status(russh_sftp::protocol::StatusCode::Failure, "it vanished".to_owned()), None)),
            (Err(failure @ Failure::Broken(_)), _) => Err(failure.at(&format!("publishing {}", self.target))),
            (
                Err(Failure::Status(
                    russh_sftp::protocol::StatusCode::PermissionDenied | russh_sftp::protocol::StatusCode::OpUnsupported,
                    why,
                )),
                _,
            ) => {
                drop(link.remove(&self.temp));
                Err(StoreError::Refused {
                    what: format!("renaming to {}", self.target),
                    why: format!("the server says “{why}”"),
                    hint: FORBIDDEN,
                })
            }
            (Err(failure), there) => Ok(Named::Taken(failure, there)),
        }
    }

    async fn read_record(&self, link: &Arc<Link>) -> Result<Option<Record>, StoreError> {
        match self.shared.read_file(link, &self.target, LONGEST).await? {
            Some(Whole::Bytes(bytes)) => Ok(serde_json::from_slice(&bytes).ok()),
            _ => Ok(None),
        }
    }

    async fn check_lease(&self, link: &Arc<Link>, ours: Seen, token: &str) -> Result<Seen, StoreError> {
        let fenced = |holder: &str| StoreError::Fenced { holder: holder.to_owned() };
        let there = self.shared.seen(link, &self.target).await?.ok_or_else(|| fenced("someone who removed the lease file"))?;
        if there == ours {
            return Ok(there);
        }
        match self.read_record(link).await? {
            Some(record) if record.token == token => Ok(there),
            Some(record) => Err(fenced(&describe(&record))),
            None => Err(fenced("someone who wrote no name")),
        }
    }
}

/// What came of giving a lease file its name.
enum Named {
    /// The name is given; this is what lies there now.
    Ours(Seen),
    Taken(Failure, Option<Seen>),
}

/// A dead process of this machine, or a lease of this process that nobody holds any more.
fn is_free(record: &Record) -> bool {
    let Some(session) = Session::of_upload(&record.session) else { return false };
    session.life() == Life::Dead || session == Session::current() && !lock(&HELD).contains(&record.token)
}

fn nobody() -> Record {
    Record { fencing: 0, holder: String::new(), host: String::new(), session: String::new(), since: 0, token: String::new() }
}

fn new_record(holder: &str, after: u64) -> Result<Record, StoreError> {
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|e| StoreError::Io { path: "random bytes".into(), source: std::io::Error::other(e) })?;
    let host = fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Ok(Record {
        fencing: next_fencing(after, u64::try_from(now.as_micros()).unwrap_or(0)),
        holder: holder.to_owned(),
        host,
        session: Session::current().upload_name(),
        since: now.as_secs(),
        token: hex::encode(token),
    })
}

/// Microseconds since 1970, because a lease that is given back leaves no number behind; more than the number that is taken
/// over, and than any of this process, whatever the clock does.
fn next_fencing(after: u64, now: u64) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let next = |last: u64| now.max(last.saturating_add(1)).max(after.saturating_add(1));
    let last = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
    next(last.unwrap_or(0))
}

fn describe(record: &Record) -> String {
    let since = i64::try_from(record.since).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    let since = since.map_or_else(String::new, |time| format!(", since {}", time.strftime("%Y-%m-%d %H:%M:%S UTC")));
    format!("{} on {}{since}", record.holder, record.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_whatever_the_clock_does() {
        let first = next_fencing(0, 1000);
        let second = next_fencing(0, 10);
        assert!(second > first);
        assert!(next_fencing(u64::MAX >> 1, 20) > u64::MAX >> 1);
    }

    #[test]
    fn only_the_dead_and_the_forgotten_are_free() {
        let mut record = new_record("me", 0).unwrap();
        assert!(is_free(&record), "nobody of this process holds it");
        lock(&HELD).insert(record.token.clone());
        assert!(!is_free(&record));
        record.session = "upload-ffffffffffff-1-1-1-1".to_owned();
        assert!(!is_free(&record), "nothing is known of another machine");
        record.session = String::new();
        assert!(!is_free(&record));
    }
}
