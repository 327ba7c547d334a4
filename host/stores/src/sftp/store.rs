//! One vault on the server.

use super::{
    SftpRoot,
    ahead::Ahead,
    failure::Said,
    lease::SftpLease,
    link::{Abilities, Kind, Link},
    put::Job,
    put_once,
    read::{Whole, regular},
    shared::Shared,
    spool::SpooledUpload,
    tamper,
};
use havun_model::{ProjectName, StoreName};
use havun_vault::store::{
    Lease, Life, Listed, LocalRoot, ObjectName, Promises, Published, Session, Source, Store, StoreError, Tamper, Upload,
};
use russh_sftp::protocol::OpenFlags;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

/// Ranges from this length on are read over several connections.
const SPLIT_BYTES: usize = 8 << 20;
/// Ranges from this length on may be pieces of something that is read from end to end.
const PIECE_BYTES: usize = 512 << 10;

/// One vault beneath an [`SftpRoot`].
pub struct SftpStore {
    root: SftpRoot,
    project: ProjectName,
    abilities: OnceLock<Abilities>,
    ahead: Ahead,
}

impl SftpStore {
    pub(super) fn new(root: SftpRoot, project: ProjectName) -> Self {
        Self { root, project, abilities: OnceLock::new(), ahead: Ahead::default() }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.root.shared
    }

    fn is_put_once(&self) -> bool {
        self.shared().options.put_once
    }

    /// What the server can do; `None` while it cannot be reached.
    fn abilities(&self) -> Option<Abilities> {
        if let Some(abilities) = self.abilities.get() {
            return Some(abilities.clone());
        }
        let connect = || {
            let shared = Arc::clone(self.shared());
            self.shared().run(async move { Ok(shared.ticket().await?.abilities.clone()) })
        };
        let abilities = self.shared().peek().map(|link| link.abilities.clone()).or_else(|| connect().ok())?;
        Some(self.abilities.get_or_init(|| abilities).clone())
    }

    /// `<store>/<project>`.
    fn vault(&self) -> String {
        self.shared().path(self.project.as_str())
    }

    /// Where an object lies; on a put-once store its first attempt.
    fn path_of(&self, name: &ObjectName) -> Result<String, StoreError> {
        let file = if self.is_put_once() { put_once::file_of(self.project.as_str(), name)? } else { format!("{}/{name}", self.project) };
        Ok(self.shared().path(&file))
    }

    fn tmp(&self) -> String {
        format!("{}/tmp", self.vault())
    }

    fn job(&self, name: &ObjectName, size: u64, sha256: [u8; 32]) -> Result<Job, StoreError> {
        Ok(Job {
            shared: Arc::clone(self.shared()),
            name: name.clone(),
            vault: self.vault(),
            target: self.path_of(name)?,
            temp: format!("{}/put-{}", self.tmp(), hex::encode(sha256)),
            size,
            sha256,
            small: None,
        })
    }

    fn check_marked(&self) -> Result<(), StoreError> {
        if self.shared().marked.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(());
        }
        let shared = Arc::clone(self.shared());
        self.shared().run(async move {
            let link = shared.ticket().await?;
            shared.check_marked(&link).await
        })
    }

    /// Does `work` with a connection and the path where an object lies now.
    fn at<T, F>(
        &self,
        name: &ObjectName,
        work: impl FnOnce(Arc<Shared>, Arc<Link>, String) -> F + Send + 'static,
    ) -> Result<Option<T>, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Option<T>, StoreError>> + Send,
    {
        let (shared, path, put_once) = (Arc::clone(self.shared()), self.path_of(name)?, self.is_put_once());
        self.shared().run(async move {
            let ticket = shared.ticket().await?;
            let path = match put_once {
                true => match shared.highest(&ticket, &path).await? {
                    Some(highest) => highest.path,
                    None => return Ok(None),
                },
                false => path,
            };
            work(Arc::clone(&shared), Arc::clone(&ticket.link), path).await
        })
    }

    /// Reads one range over one connection.
    fn read_part(&self, path: &str, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let (parts, arrived) = mpsc::channel::<(u64, Vec<u8>)>();
        let (shared, path, name, len) = (Arc::clone(self.shared()), path.to_owned(), name.clone(), buf.len() as u64);
        let (done, outcome) = mpsc::sync_channel(1);
        self.shared().spawn(async move {
            let _caller_waits = done.send(shared.stream_range(path, name, offset, len, parts).await);
        });
        for (at, bytes) in arrived {
            let start = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            if let Some(part) = buf.get_mut(start..start.saturating_add(bytes.len())) {
                part.copy_from_slice(&bytes);
            }
        }
        outcome.recv().unwrap_or_else(|_| Err(StoreError::Unreachable { what: "a task of the connection ended early".to_owned() }))
    }

    fn read_parts(&self, path: &str, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let connections = self.shared().options.connections.clamp(1, 8);
        if buf.len() < SPLIT_BYTES || connections == 1 {
            return self.read_part(path, name, offset, buf);
        }
        let part = buf.len().div_ceil(connections).max(SPLIT_BYTES / 4);
        std::thread::scope(|scope| {
            let starts = (0_u64..).map(|n| offset.saturating_add(n * part as u64));
            let parts: Vec<_> =
                buf.chunks_mut(part).zip(starts).map(|(buf, at)| scope.spawn(move || self.read_part(path, name, at, buf))).collect();
            parts.into_iter().try_for_each(|part| part.join().unwrap_or(Err(StoreError::Void)))
        })
    }

    fn read_now(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let mut path = self.path_of(name)?;
        if self.is_put_once() {
            let found = self.at(name, |_, _, path| async move { Ok(Some(path)) })?;
            path = found.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
        }
        self.read_parts(&path, name, offset, buf)
    }

    /// A store of this machine that holds leases for a server that cannot.
    fn local_leases(&self) -> Result<LocalRoot, StoreError> {
        let place = format!("{}\n{}", self.root.describe(), self.project);
        let folder =
            self.shared().options.spool_dir.join(format!("leases-{}", hex::encode(Sha256::digest(&place)).get(..16).unwrap_or_default()));
        let name = StoreName::new("leases").map_err(|e| StoreError::BadName { name: e.to_string() })?;
        LocalRoot::create(&folder, &name)
    }

    /// The server's files of this project, where all lie in one folder.
    fn flat_objects(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let shared = Arc::clone(self.shared());
        let entries = self.shared().run(async move {
            let link = shared.ticket().await?;
            shared.entries(&link, &shared.path("")).await
        })?;
        let files = entries.into_iter().filter(|(_, seen)| seen.kind == Kind::File).collect();
        Ok(put_once::objects(self.project.as_str(), files, folder))
    }
}

impl Store for SftpStore {
    fn describe(&self) -> String {
        format!("{}/{}", self.root.describe().trim_end_matches('/'), self.project)
    }

    fn promises(&self) -> Promises {
        let abilities = self.abilities().unwrap_or_default();
        Promises {
            durable_file: abilities.fsync,
            durable_name: false,
            no_overwrite: self.is_put_once() || abilities.careful_rename || abilities.hardlink,
            removes: !self.is_put_once(),
            exclusive: !self.is_put_once(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let Some(abilities) = self.abilities() else {
            return vec!["what the server can do is not known: it could not be reached".to_owned()];
        };
        let mut notes = vec![
            "a new name is sure to survive a power cut of the server only once it is seen later: SFTP has no fsync of folders".to_owned(),
        ];
        let mut note = |missing: bool, text: &str| {
            if missing {
                notes.push(text.to_owned());
            }
        };
        note(!abilities.fsync, "bytes are not sure to survive a power cut of the server: it has no fsync@openssh.com");
        note(!abilities.statvfs, "free space is not known: the server has no statvfs@openssh.com");
        if self.is_put_once() {
            note(true, "an upload that is cut off leaves a short file that nobody can remove; the next attempt writes another beside it");
            note(true, "writers on other machines are not kept out: the server cannot hold a lease");
        } else {
            note(
                !abilities.careful_rename && !abilities.hardlink,
                "whether a rename replaces an object is not known: the server is not OpenSSH and makes no hard links",
            );
            note(true, "writers are kept apart by convention (a lease file), not by the server");
        }
        notes
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn put(&self, name: &ObjectName, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
        self.check_marked()?;
        let job = self.job(name, source.size(), *sha256)?;
        if self.is_put_once() { job.put_once(source) } else { job.put(source) }
    }

    fn server_sha256(&self, names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        let paths = names.iter().map(|name| self.path_of(name)).collect::<Result<Vec<_>, _>>()?;
        let (shared, put_once) = (Arc::clone(self.shared()), self.is_put_once());
        self.shared().run(async move {
            let link = shared.ticket().await?;
            if !shared.can_sum(&link).await? {
                return Ok(None);
            }
            let mut now = Vec::with_capacity(paths.len());
            for path in paths {
                let highest = if put_once { shared.highest(&link, &path).await?.map(|highest| highest.path) } else { None };
                now.push(highest.unwrap_or(path));
            }
            // Sizes are not known here: an hour for a command is longer than any takes.
            shared.sums_of(&link, &now, 3600 * (4 << 20)).await
        })
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        self.check_marked()?;
        Ok(Box::new(SpooledUpload::begin(self, &self.shared().options.spool_dir)?))
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        if self.is_put_once() {
            let (shared, path) = (Arc::clone(self.shared()), self.path_of(name)?);
            return self.shared().run(async move {
                let link = shared.ticket().await?;
                Ok(shared.highest(&link, &path).await?.map(|highest| highest.seen.size))
            });
        }
        self.at(name, |shared, link, path| async move { Ok(shared.seen(&link, &path).await?.map(|seen| seen.size)) })
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        let found = self.at(name, move |shared, link, path| async move { shared.read_file(&link, &path, max).await })?;
        match found {
            Some(Whole::Bytes(bytes)) => Ok(bytes),
            Some(Whole::TooLarge(size)) => Err(StoreError::TooLarge { name: name.clone(), size, max }),
            None => Err(StoreError::NotFound { name: name.clone() }),
        }
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        if buf.len() < PIECE_BYTES || buf.len() >= SPLIT_BYTES {
            return self.read_now(name, offset, buf);
        }
        self.ahead.read(name, offset, buf, || self.size(name), |offset, buf| self.read_now(name, offset, buf))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let start = if folder.is_empty() { String::new() } else { ObjectName::new(folder)?.to_string() };
        if self.is_put_once() {
            return self.flat_objects(&start);
        }
        let (shared, path) = (Arc::clone(self.shared()), join(&self.vault(), &start));
        let above = start.clone();
        let files = self.shared().run(async move { shared.walk(path, move |name| ObjectName::new(join(&above, name)).is_ok()).await })?;
        let objects =
            files.into_iter().filter_map(|(name, seen)| Some(Listed { name: ObjectName::new(join(&start, &name)).ok()?, size: seen.size }));
        let mut objects: Vec<Listed> = objects.collect();
        objects.sort_unstable();
        Ok(objects)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let start = if folder.is_empty() { String::new() } else { ObjectName::new(folder)?.to_string() };
        if self.is_put_once() {
            let rest = |object: &Listed| object.name.as_str().get(start.len()..).map(|rest| rest.trim_start_matches('/').to_owned());
            let names = self
                .flat_objects(&start)?
                .iter()
                .filter_map(rest)
                .filter_map(|rest| Some(rest.split_once('/')?.0.to_owned()))
                .collect::<BTreeSet<_>>();
            return Ok(names.into_iter().collect());
        }
        let (shared, path) = (Arc::clone(self.shared()), join(&self.vault(), &start));
        let entries = self.shared().run(async move {
            let link = shared.ticket().await?;
            shared.entries(&link, &path).await
        })?;
        let folders = entries.into_iter().filter(|(name, seen)| seen.kind == Kind::Folder && ObjectName::new(join(&start, name)).is_ok());
        let mut names: Vec<String> = folders.map(|(name, _)| name).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        if self.is_put_once() {
            if self.size(name)?.is_none() {
                return Ok(());
            }
            return Err(StoreError::Refused {
                what: format!("removing {name}"),
                why: "the store is put-once: nothing is ever removed from it".to_owned(),
                hint: "objects of a put-once store are removed by its server's owner",
            });
        }
        self.at(name, |shared, link, path| async move {
            shared.turn();
            link.remove(&path).await.said(|| format!("removing {path}")).map(Some)
        })
        .map(drop)
    }

    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        if self.is_put_once() {
            return Ok(0);
        }
        let (shared, tmp) = (Arc::clone(self.shared()), self.tmp());
        self.shared().run(async move { shared.remove_stale(&tmp, older_than).await })
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        self.check_marked()?;
        if self.is_put_once() {
            return self.local_leases()?.vault(&self.project).lease(holder, force);
        }
        let session = Session::current().upload_name();
        let name = ObjectName::new("lease-file")?;
        let job =
            Job { target: format!("{}/lease", self.vault()), temp: format!("{}/{session}", self.tmp()), ..self.job(&name, 0, [0; 32])? };
        Ok(Box::new(SftpLease::take(job, holder, force)?))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let shared = Arc::clone(self.shared());
        self.shared().run(async move {
            let link = shared.ticket().await?;
            shared.free_bytes_on(&link).await
        })
    }

    fn tamper(&self, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
        let tried = self.at(name, move |shared, link, path| async move {
            shared.turn();
            tamper::tamper(&link, &path, attempt).await.transpose()
        });
        tried.transpose()
    }
}

impl Shared {
    /// Removes what dead sessions left in `tmp`, and what nobody has written to for `older_than` by the server's own clock.
    async fn remove_stale(&self, tmp: &str, older_than: Duration) -> Result<u64, StoreError> {
        let link = self.ticket().await?;
        let files = self.entries(&link, tmp).await?.into_iter().filter(|(_, seen)| seen.kind == Kind::File);
        let files: Vec<_> = files.filter(|(name, _)| !self.is_busy(&format!("{tmp}/{name}"))).collect();
        if files.is_empty() {
            return Ok(0);
        }
        let now = self.server_time(&link, tmp).await?;
        let stale = |name: &str, mtime: u32| match Session::of_upload(name).map_or(Life::Unknown, |session| session.life()) {
            Life::Alive => false,
            Life::Dead => true,
            Life::Unknown => u64::from(now.saturating_sub(mtime)) >= older_than.as_secs(),
        };
        self.turn();
        let stale = files.iter().filter(|(name, seen)| stale(name, seen.mtime));
        let removals: Vec<_> = stale.map(|(name, _)| link.remove(&format!("{tmp}/{name}"))).collect();
        let count = removals.len() as u64;
        for removal in removals {
            removal.await.said(|| format!("removing from {tmp}"))?;
        }
        Ok(count)
    }

    /// Seconds since 1970 as the server sees it: the time of a file made now.
    async fn server_time(&self, link: &Arc<Link>, tmp: &str) -> Result<u32, StoreError> {
        let path = format!("{tmp}/{}", Session::current().upload_name());
        self.turn();
        let handle =
            link.open(&path, OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE).await.said(|| format!("creating {path}"))?;
        self.turn();
        let (seen, close, removed) = (link.fstat(&handle), link.close(&handle), link.remove(&path));
        let seen = seen.await.said(|| format!("looking at {path}"))?;
        for step in [close, removed] {
            step.await.said(|| format!("removing {path}"))?;
        }
        regular(&path, seen).map(|seen| seen.mtime)
    }
}

fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}
