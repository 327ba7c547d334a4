//! Servers that let us create and read, and nothing else: everything lies flat in one folder, `/` written as `+`.
//!
//! A file is made under its final name, so a cut upload leaves a short one that nobody can remove. The next attempt writes
//! `<name>+again-1`, and so on; the highest attempt is the object, and the earlier ones are not shown.

use super::{
    failure::Said,
    link::{Link, Seen},
    put::{Begun, Job, SMALL_BYTES},
    read::{Whole, regular},
    shared::Shared,
};
use havun_vault::store::{Listed, ObjectName, Published, Source, StoreError};
use russh_sftp::protocol::OpenFlags;
use std::{collections::BTreeMap, sync::Arc};

/// Attempts after the first.
const ATTEMPTS: u32 = 99;
/// Looked at in one turn, once there is more than one.
const BATCH: u32 = 16;

/// What tells an attempt from the first.
const AGAIN: &str = "+again-";

/// The highest attempt at an object.
pub(super) struct Attempt {
    pub number: u32,
    pub path: String,
    pub seen: Seen,
}

fn attempt_path(base: &str, number: u32) -> String {
    if number == 0 { base.to_owned() } else { format!("{base}{AGAIN}{number}") }
}

/// The file of an object, in the store's folder.
pub(super) fn file_of(project: &str, name: &ObjectName) -> Result<String, StoreError> {
    if name.file_name().starts_with("again-") {
        return Err(StoreError::BadName { name: name.to_string() });
    }
    Ok(format!("{project}+{}", name.as_str().replace('/', "+")))
}

/// The object and the attempt that a file stands for.
fn object_of(project: &str, file: &str) -> Option<(ObjectName, u32)> {
    let rest = file.strip_prefix(project)?.strip_prefix('+')?;
    let (base, number) = match rest.rsplit_once(AGAIN) {
        Some((base, number)) => (base, number.parse().ok()?),
        None => (rest, 0),
    };
    Some((ObjectName::new(base.replace('+', "/")).ok()?, number))
}

/// The projects whose vaults have begun, told from the files of a folder.
pub(super) fn projects(files: &[(String, Seen)]) -> Vec<String> {
    let mut names: Vec<String> = files.iter().filter_map(|(file, _)| file.strip_suffix("+vault.json")).map(str::to_owned).collect();
    names.retain(|name| !name.contains('+'));
    names.sort_unstable();
    names
}

/// The objects of a project, told from the files of a folder.
pub(super) fn objects(project: &str, files: Vec<(String, Seen)>, folder: &str) -> Vec<Listed> {
    let mut found: BTreeMap<ObjectName, (u32, u64)> = BTreeMap::new();
    for (file, seen) in files {
        let Some((name, number)) = object_of(project, &file).filter(|(name, _)| name.is_beneath(folder)) else { continue };
        let highest = found.entry(name).or_insert((number, seen.size));
        if number >= highest.0 {
            *highest = (number, seen.size);
        }
    }
    found.into_iter().map(|(name, (_, size))| Listed { name, size }).collect()
}

impl Shared {
    /// The highest attempt at the file `base`; one turn where there is at most the first.
    pub async fn highest(&self, link: &Arc<Link>, base: &str) -> Result<Option<Attempt>, StoreError> {
        let (mut highest, mut next, mut batch) = (None, 0, 2);
        while next <= ATTEMPTS {
            self.turn();
            let numbers: Vec<u32> = (next..(next + batch).min(ATTEMPTS + 1)).collect();
            let looks: Vec<_> = numbers.iter().map(|number| (*number, link.lstat(&attempt_path(base, *number)))).collect();
            for (number, look) in looks {
                let path = attempt_path(base, number);
                let Some(seen) = look.await.said(|| format!("looking at {path}"))? else { return Ok(highest) };
                highest = Some(Attempt { number, seen: regular(&path, seen)?, path });
            }
            next += batch;
            batch = BATCH;
        }
        Ok(highest)
    }
}

impl Job {
    /// Stores an object under its final name at once. Its bytes are compared with their hash before the first is sent.
    pub fn put_once(&self, source: &dyn Source) -> Result<Published, StoreError> {
        let _ours = self.shared.occupy(&self.target);
        let mut job = self.clone();
        if self.size <= SMALL_BYTES {
            job.small = Some(Arc::new(self.small_bytes(source)?));
        } else {
            self.check_source(source)?;
        }
        let Some((job, begun)) = self.shared.run(job.create())? else { return Ok(Published::AlreadyThere) };
        if job.small.is_none() {
            let sent = job.feed(source, &begun, 0, None);
            let shared = Arc::clone(&job.shared);
            shared.run(async move {
                let verified = match sent {
                    Ok(()) => job.finish(&begun.ticket, &begun.handle, &job.target).await,
                    Err(error) => Err(error),
                };
                drop(begun.ticket.close(&begun.handle));
                verified
            })?;
        }
        Ok(Published::New)
    }

    /// Makes the file of the next attempt, and writes a small object to it; `None` where the object is there.
    async fn create(mut self) -> Result<Option<(Self, Begun)>, StoreError> {
        let ticket = self.shared.ticket().await?;
        let base = self.target.clone();
        for _ in 0..=ATTEMPTS {
            self.shared.turn();
            let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
            let failure = match ticket.open(&self.target, flags).await {
                Ok(handle) => {
                    self.temp = self.target.clone();
                    if let Some(bytes) = self.small.clone() {
                        self.write_small(&ticket, &handle, &bytes).await?;
                    }
                    return Ok(Some((self, Begun { ticket, handle, resumed: None })));
                }
                Err(failure) => failure,
            };
            let Some(highest) = self.shared.highest(&ticket, &base).await?.filter(|_| failure.is_plain()) else {
                return Err(self.classify(&ticket, failure, "creating").await);
            };
            if self.is_there(&ticket, &highest).await? {
                return Ok(None);
            }
            self.target = attempt_path(&base, highest.number + 1);
        }
        Err(StoreError::Conflict { name: self.name })
    }

    /// Whether the highest attempt is this object. An error where it is another; `false` where it is a part of this one, cut
    /// off, or of what should be this one.
    async fn is_there(&self, link: &Arc<Link>, highest: &Attempt) -> Result<bool, StoreError> {
        let conflict = || StoreError::Conflict { name: self.name.clone() };
        let by_hash = self.is_named_by_hash();
        if highest.seen.size == self.size {
            // Nobody knows what an earlier session left: it is summed by the server or read again.
            let same = self.holds(link, &highest.path).await?;
            if same {
                self.make_durable(link, &highest.path).await?;
            }
            return if same || by_hash { Ok(same) } else { Err(conflict()) };
        }
        if by_hash || highest.seen.size < self.size && self.begins_with(link, highest).await? { Ok(false) } else { Err(conflict()) }
    }

    /// What is there may be the work of a process that died before its fsync.
    async fn make_durable(&self, link: &Arc<Link>, path: &str) -> Result<(), StoreError> {
        if !link.abilities.fsync {
            return Ok(());
        }
        self.shared.turn();
        let handle = link.open(path, OpenFlags::READ).await.said(|| format!("opening {path}"))?;
        self.shared.turn();
        let (fsync, close) = (link.fsync(&handle), link.close(&handle));
        fsync.await.said(|| format!("making {path} durable"))?;
        close.await.said(|| format!("closing {path}"))
    }

    /// Whether a shorter file can be the beginning of this object. Of large ones the length has to do.
    async fn begins_with(&self, link: &Arc<Link>, there: &Attempt) -> Result<bool, StoreError> {
        let Some(bytes) = &self.small else { return Ok(true) };
        let found = self.shared.read_file(link, &there.path, self.size).await?;
        Ok(matches!(found, Some(Whole::Bytes(found)) if bytes.starts_with(&found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sftp::link::Kind;

    fn file(name: &str, size: u64) -> (String, Seen) {
        (name.to_owned(), Seen { size, mtime: 0, kind: Kind::File })
    }

    #[test]
    fn a_name_becomes_a_file_and_back() {
        let name = ObjectName::new("epochs/2026/packs/ab/abcd").unwrap();
        let file = file_of("shop", &name).unwrap();
        assert_eq!(file, "shop+epochs+2026+packs+ab+abcd");
        assert_eq!(object_of("shop", &file), Some((name.clone(), 0)));
        assert_eq!(object_of("shop", &format!("{file}+again-12")), Some((name, 12)));
        assert_eq!(object_of("shop", "shopping+x"), None);
        assert!(file_of("shop", &ObjectName::new("a/again-1").unwrap()).is_err(), "it would be an attempt at `a`");
    }

    #[test]
    fn of_several_attempts_the_highest_is_listed() {
        let files = vec![
            file("p+a+b+again-2", 3),
            file("p+a+b", 1),
            file("p+a+b+again-10", 9),
            file("q+a", 7),
            file("p+c", 4),
            file("p+vault.json", 2),
        ];
        let listed: Vec<(String, u64)> = objects("p", files.clone(), "").into_iter().map(|l| (l.name.to_string(), l.size)).collect();
        assert_eq!(listed, [("a/b".to_owned(), 9), ("c".to_owned(), 4), ("vault.json".to_owned(), 2)]);
        assert_eq!(objects("p", files.clone(), "a").len(), 1);
        assert_eq!(projects(&files), ["p"]);
    }
}
