//! What all vaults of a store share: the runtime of its connections, and what is known of the server.

use super::{
    SftpOptions,
    checksum::{SumDesk, Summer},
    link::{Link, lock},
    pool::{ChannelAt, Pool, Ticket},
};
use havun_vault::store::{MARKER, StoreError};
use std::{
    collections::HashSet,
    future::Future,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::OnceCell,
};

pub(super) struct Shared {
    pub options: SftpOptions,
    /// The store's folder, without a slash at its end.
    root: String,
    pool: Pool,
    handle: Handle,
    runtime: Option<Runtime>,
    turns: AtomicU64,
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
    /// The store's folder has a marker.
    pub marked: AtomicBool,
    /// What reckons checksums on the server, over the files that we see.
    pub sums: OnceCell<Option<Summer>>,
    pub desk: SumDesk,
}

impl Shared {
    pub fn new(options: SftpOptions) -> Result<Self, StoreError> {
        let failed = |e: std::io::Error| StoreError::Io { path: options.spool_dir.clone(), source: e };
        std::fs::create_dir_all(&options.spool_dir).map_err(failed)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("sftp").enable_all().build().map_err(failed)?;
        let root = match options.path.trim_end_matches('/') {
            "" if options.path.starts_with('/') => String::new(),
            "" => ".".to_owned(),
            path => path.to_owned(),
        };
        Ok(Self {
            root,
            pool: Pool::new(options.connections),
            options,
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            turns: AtomicU64::new(0),
            busy: Mutex::default(),
            freed: Condvar::new(),
            marked: AtomicBool::new(false),
            sums: OnceCell::new(),
            desk: SumDesk::default(),
        })
    }

    /// Does `work` on the runtime while the calling thread waits: right from any thread, those of other runtimes included.
    pub fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Result<T, StoreError> {
        let (done, outcome) = std::sync::mpsc::sync_channel(1);
        self.handle.spawn(async move {
            let _caller_waits = done.send(work.await);
        });
        outcome.recv().unwrap_or_else(|_| Err(StoreError::Unreachable { what: "a task of the connection ended early".to_owned() }))
    }

    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    pub async fn ticket(&self) -> Result<Ticket, StoreError> {
        self.pool.ticket(&self.options).await
    }

    pub fn channels_besides(&self, ticket: &Ticket) -> Vec<ChannelAt> {
        self.pool.channels_besides(ticket)
    }

    pub async fn ticket_at(&self, channel: ChannelAt) -> Result<Ticket, StoreError> {
        self.pool.ticket_at(&self.options, channel).await
    }

    /// A connection that is there already.
    pub fn peek(&self) -> Option<std::sync::Arc<Link>> {
        self.pool.peek()
    }

    /// Counts one wait for the server.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// `path` in the store's folder; the folder itself for an empty one.
    pub fn path(&self, path: &str) -> String {
        match (self.root.as_str(), path) {
            ("", "") => "/".to_owned(),
            (root, "") => root.to_owned(),
            (root, path) => format!("{root}/{path}"),
        }
    }

    pub fn marker(&self) -> String {
        self.path(MARKER)
    }

    /// Waits until no other thread of this process works on `path`, and keeps it for the caller.
    pub fn occupy(&self, path: &str) -> Occupied<'_> {
        let mut busy = lock(&self.busy);
        while !busy.insert(path.to_owned()) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Occupied { shared: self, path: path.to_owned() }
    }

    pub fn is_busy(&self, path: &str) -> bool {
        lock(&self.busy).contains(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last owner may be a task of this or another runtime, where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A path that this thread has to itself.
pub(super) struct Occupied<'s> {
    shared: &'s Shared,
    path: String,
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        lock(&self.shared.busy).remove(&self.path);
        self.shared.freed.notify_all();
    }
}
