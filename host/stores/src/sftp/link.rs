//! One connection: its requests, and the watch over it.
//!
//! A request is sent when it is made and awaited later, so that many are under way at once; a server handles those of one
//! channel in their order. The time-out of a request counts from the last answer of any kind, not from the moment it was
//! queued: a slow link is not a dead one.

use super::{
    connect::{Greeter, open_sftp},
    failure::Failure,
};
use russh::{ChannelMsg, client};
use russh_sftp::{
    client::{RawSftpSession, rawsession::SftpResult},
    extensions::{HardlinkExtension, Statvfs},
    protocol::{FileAttributes, OpenFlags, Packet, StatusCode},
};
use std::{
    collections::HashMap,
    future::Future,
    net::{Shutdown, TcpStream},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, watch};

/// Bytes sent and not yet acknowledged, at most.
const FLIGHT_BYTES: usize = 8 << 20;

/// Operations at a time. Each opens two handles at most, and OpenSSH's handles above 127 are bytes that the SFTP crate
/// cannot give back unchanged.
const OPERATIONS: usize = 60;

/// What a server can do beyond version 3.
#[derive(Debug, Clone, Default)]
pub(super) struct Abilities {
    pub fsync: bool,
    pub posix_rename: bool,
    pub hardlink: bool,
    pub statvfs: bool,
    /// Its plain rename fails where the target exists.
    pub careful_rename: bool,
    pub read_bytes: u32,
    pub write_bytes: u32,
}

/// Ends the connection when the last of its channels is given up.
pub(super) struct Socket(pub TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        let _closed = self.0.shutdown(Shutdown::Both);
    }
}

/// An SFTP channel of a connection, which has one, or a second for the bytes of large objects.
pub(super) struct Link {
    pub abilities: Abilities,
    sftp: RawSftpSession,
    ssh: Arc<client::Handle<Greeter>>,
    socket: Arc<Socket>,
    stall: Duration,
    /// Whether it is the first channel of its connection.
    first: bool,
    /// Why the connection is dead.
    dead: watch::Sender<Option<String>>,
    answered: Mutex<Instant>,
    pending: AtomicUsize,
    flight: Mutex<usize>,
    landed: Condvar,
    pub operations: Arc<Semaphore>,
}

/// A request that was sent.
pub(super) enum Request<T> {
    Waiting(Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>),
    Answered(Option<Result<T, Failure>>),
}

impl<T: Unpin> Future for Request<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Waiting(future) => future.as_mut().poll(context),
            Self::Answered(answer) => Poll::Ready(answer.take().unwrap_or_else(|| Err(Failure::Broken("asked twice".to_owned())))),
        }
    }
}

/// A file as `lstat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub size: u64,
    pub mtime: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Other,
}

impl Seen {
    pub fn of(attrs: &FileAttributes) -> Self {
        let kind = match attrs.permissions.map(|mode| mode & 0o170_000) {
            Some(0o100_000) => Kind::File,
            Some(0o040_000) => Kind::Folder,
            _ => Kind::Other,
        };
        Self { size: attrs.size.unwrap_or(0), mtime: attrs.mtime.unwrap_or(0), kind }
    }
}

impl Link {
    pub fn new(
        sftp: RawSftpSession,
        ssh: Arc<client::Handle<Greeter>>,
        socket: Arc<Socket>,
        abilities: Abilities,
        stall: Duration,
        first: bool,
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            abilities,
            sftp,
            ssh,
            socket,
            stall,
            first,
            dead: watch::Sender::new(None),
            answered: Mutex::new(Instant::now()),
            pending: AtomicUsize::new(0),
            flight: Mutex::new(0),
            landed: Condvar::new(),
            operations: Arc::new(Semaphore::new(OPERATIONS)),
        });
        tokio::spawn(watch_over(Arc::downgrade(&link), stall));
        link
    }

    /// Another channel of the same connection, which OpenSSH opens and others may not be up to.
    pub async fn second(&self) -> Result<Arc<Self>, Failure> {
        if !self.abilities.careful_rename {
            return Err(Failure::Broken("not an OpenSSH server".to_owned()));
        }
        let open = async {
            let sftp = open_sftp(&self.ssh).await.map_err(|error| error.to_string())?;
            sftp.init().await.map_err(|error| error.to_string())?;
            Ok(sftp)
        };
        let sftp = tokio::select! {
            biased;
            why = self.died() => Err(why),
            sftp = tokio::time::timeout(self.stall, open) => sftp.unwrap_or_else(|_| Err("no answer".to_owned())),
        };
        let sftp = sftp.map_err(Failure::Broken)?;
        Ok(Self::new(sftp, Arc::clone(&self.ssh), Arc::clone(&self.socket), self.abilities.clone(), self.stall, false))
    }

    pub fn is_dead(&self) -> bool {
        self.dead.borrow().is_some() || self.ssh.is_closed()
    }

    /// Ends the connection; whoever waits on it hears of it at once.
    pub fn kill(&self, why: &str) {
        self.dead.send_if_modified(|dead| dead.is_none().then(|| *dead = Some(why.to_owned())).is_some());
        // A hung peer would keep an orderly farewell waiting.
        if self.first {
            let _closed = self.socket.0.shutdown(Shutdown::Both);
        }
        self.landed.notify_all();
    }

    async fn died(&self) -> String {
        let mut dead = self.dead.subscribe();
        let why = dead.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "the connection was dropped".to_owned())
    }

    /// Sends a request. Must be called on the runtime of the connection.
    fn start<T, F>(self: &Arc<Self>, operation: F) -> Request<T>
    where
        T: Send + 'static,
        F: Future<Output = SftpResult<T>> + Send + 'static,
    {
        let link = Arc::clone(self);
        let waiting = Pending::new(self);
        let mut future = Box::pin(async move {
            let _waiting = waiting;
            tokio::select! {
                biased;
                answer = operation => link.heard(answer),
                why = link.died() => Err(Failure::Broken(why)),
            }
        });
        // The first poll puts the packet into the connection's queue, in the order of the calls.
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Request::Answered(Some(answer)),
            Poll::Pending => Request::Waiting(future),
        }
    }

    fn heard<T>(&self, answer: SftpResult<T>) -> Result<T, Failure> {
        *lock(&self.answered) = Instant::now();
        answer.map_err(|error| {
            let failure = Failure::of(error);
            if let Failure::Broken(why) = &failure {
                self.kill(why);
            }
            failure
        })
    }

    /// Waits until `bytes` more may be under way. Blocks the calling thread, which is none of the runtime's.
    pub fn take_off(self: &Arc<Self>, bytes: usize) -> Result<Airborne, Failure> {
        let mut flight = lock(&self.flight);
        while *flight > 0 && *flight + bytes > FLIGHT_BYTES {
            if self.is_dead() {
                return Err(Failure::Broken("the connection was lost".to_owned()));
            }
            let waited = self.landed.wait_timeout(flight, Duration::from_millis(200));
            flight = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *flight += bytes;
        Ok(Airborne { link: Arc::clone(self), bytes })
    }

    pub fn bytes_in_flight(&self) -> usize {
        *lock(&self.flight)
    }
}

/// Requests, one method each. A request that is not awaited is still done.
impl Link {
    pub fn open(self: &Arc<Self>, path: &str, flags: OpenFlags) -> Request<String> {
        let (link, path) = (Arc::clone(self), path.to_owned());
        let attrs = FileAttributes { permissions: flags.contains(OpenFlags::CREATE).then_some(0o600), ..FileAttributes::empty() };
        self.start(async move { Ok(link.sftp.open(path, flags, attrs).await?.handle) })
    }

    pub fn write(self: &Arc<Self>, handle: &str, offset: u64, bytes: Vec<u8>) -> Request<()> {
        let (link, handle) = (Arc::clone(self), handle.to_owned());
        self.start(async move { link.sftp.write(handle, offset, bytes).await.map(drop) })
    }

    /// `None` at the end of the file.
    pub fn read(self: &Arc<Self>, handle: &str, offset: u64, len: u32) -> Request<Option<Vec<u8>>> {
        let (link, handle) = (Arc::clone(self), handle.to_owned());
        self.start(async move { end_is_none(link.sftp.read(handle, offset, len).await.map(|answer| answer.data)) })
    }

    /// Nothing where the server has no fsync.
    pub fn fsync(self: &Arc<Self>, handle: &str) -> Request<()> {
        if !self.abilities.fsync {
            return Request::Answered(Some(Ok(())));
        }
        let (link, handle) = (Arc::clone(self), handle.to_owned());
        self.start(async move { link.sftp.fsync(handle).await.map(drop) })
    }

    pub fn fstat(self: &Arc<Self>, handle: &str) -> Request<Seen> {
        let (link, handle) = (Arc::clone(self), handle.to_owned());
        self.start(async move { Ok(Seen::of(&link.sftp.fstat(handle).await?.attrs)) })
    }

    pub fn close(self: &Arc<Self>, handle: &str) -> Request<()> {
        let (link, handle) = (Arc::clone(self), handle.to_owned());
        self.start(async move { link.sftp.close(handle).await.map(drop) })
    }

    /// `None` where there is nothing.
    pub fn lstat(self: &Arc<Self>, path: &str) -> Request<Option<Seen>> {
        let (link, path) = (Arc::clone(self), path.to_owned());
        self.start(async move { missing_is_none(link.sftp.lstat(path).await.map(|answer| Seen::of(&answer.attrs))) })
    }

    pub fn rename(self: &Arc<Self>, from: &str, to: &str) -> Request<()> {
        let (link, from, to) = (Arc::clone(self), from.to_owned(), to.to_owned());
        self.start(async move { link.sftp.rename(from, to).await.map(drop) })
    }

    pub fn hardlink(self: &Arc<Self>, from: &str, to: &str) -> Request<()> {
        let (link, from, to) = (Arc::clone(self), from.to_owned(), to.to_owned());
        self.start(async move { link.sftp.hardlink(from, to).await.map(drop) })
    }

    /// Replaces `to`.
    pub fn posix_rename(self: &Arc<Self>, from: &str, to: &str) -> Request<()> {
        let link = Arc::clone(self);
        let paths = HardlinkExtension { oldpath: from.to_owned(), newpath: to.to_owned() };
        self.start(async move {
            // The same two strings as a hard link's.
            match link.sftp.extended("posix-rename@openssh.com", paths.try_into()?).await? {
                Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
                Packet::Status(status) => Err(status.into()),
                _ => Err(russh_sftp::client::error::Error::UnexpectedPacket),
            }
        })
    }

    pub fn setstat(self: &Arc<Self>, path: &str, attrs: FileAttributes) -> Request<()> {
        let (link, path) = (Arc::clone(self), path.to_owned());
        self.start(async move { link.sftp.setstat(path, attrs).await.map(drop) })
    }

    /// A missing one is fine.
    pub fn remove(self: &Arc<Self>, path: &str) -> Request<()> {
        let (link, path) = (Arc::clone(self), path.to_owned());
        self.start(async move { missing_is_none(link.sftp.remove(path).await).map(drop) })
    }

    pub fn mkdir(self: &Arc<Self>, path: &str) -> Request<()> {
        let (link, path) = (Arc::clone(self), path.to_owned());
        let attrs = FileAttributes { permissions: Some(0o700), ..FileAttributes::empty() };
        self.start(async move { link.sftp.mkdir(path, attrs).await.map(drop) })
    }

    pub fn opendir(self: &Arc<Self>, path: &str) -> Request<Option<String>> {
        let (link, path) = (Arc::clone(self), path.to_owned());
        self.start(async move { missing_is_none(link.sftp.opendir(path).await.map(|answer| answer.handle)) })
    }

    /// `None` at the end of the folder.
    pub fn readdir(self: &Arc<Self>, handle: &str) -> Request<Option<Vec<(String, Seen)>>> {
        let (link, handle) = (Arc::clone(self), handle.to_owned());
        self.start(async move {
            let names = link.sftp.readdir(handle).await;
            end_is_none(names.map(|names| names.files.into_iter().map(|file| (file.filename, Seen::of(&file.attrs))).collect()))
        })
    }

    pub fn statvfs(self: &Arc<Self>, path: &str) -> Request<Statvfs> {
        let (link, path) = (Arc::clone(self), path.to_owned());
        self.start(async move { link.sftp.statvfs(path).await })
    }
}

impl Link {
    /// Runs a command on a channel of its own and gives back its output; `None` where the server does not run it, or
    /// something else answers, or it takes longer than `patience`. Its input is closed at once, so that a forced SFTP
    /// server ends instead of waiting for us.
    pub async fn exec(self: &Arc<Self>, command: &str, patience: Duration) -> Result<Option<String>, Failure> {
        let run = async {
            let mut channel = self.ssh.channel_open_session().await?;
            channel.exec(true, command).await?;
            channel.eof().await?;
            let mut output = Vec::new();
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Data { data } if output.len() < 1 << 20 => output.extend_from_slice(&data),
                    ChannelMsg::Failure | ChannelMsg::Close => break,
                    _ => {}
                }
            }
            Ok::<_, russh::Error>(String::from_utf8_lossy(&output).into_owned())
        };
        tokio::select! {
            biased;
            why = self.died() => Err(Failure::Broken(why)),
            output = tokio::time::timeout(patience, run) => Ok(output.ok().and_then(Result::ok)),
        }
    }
}

fn missing_is_none<T>(answer: SftpResult<T>) -> SftpResult<Option<T>> {
    none_for(StatusCode::NoSuchFile, answer)
}

fn end_is_none<T>(answer: SftpResult<T>) -> SftpResult<Option<T>> {
    none_for(StatusCode::Eof, answer)
}

fn none_for<T>(code: StatusCode, answer: SftpResult<T>) -> SftpResult<Option<T>> {
    match answer {
        Err(russh_sftp::client::error::Error::Status(status)) if status.status_code == code => Ok(None),
        other => other.map(Some),
    }
}

/// Counts a request while it waits.
struct Pending(Weak<Link>);

impl Pending {
    fn new(link: &Arc<Link>) -> Self {
        if link.pending.fetch_add(1, Ordering::SeqCst) == 0 {
            *lock(&link.answered) = Instant::now();
        }
        Self(Arc::downgrade(link))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.pending.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Bytes on their way; they have landed when this is dropped.
pub(super) struct Airborne {
    link: Arc<Link>,
    bytes: usize,
}

impl Drop for Airborne {
    fn drop(&mut self) {
        *lock(&self.link.flight) -= self.bytes;
        self.link.landed.notify_all();
    }
}

/// Ends a connection on which an answer is due and nothing comes for `stall`.
async fn watch_over(link: Weak<Link>, stall: Duration) {
    let tick = (stall / 8).max(Duration::from_millis(20));
    loop {
        tokio::time::sleep(tick).await;
        let Some(link) = link.upgrade() else { return };
        if link.ssh.is_closed() {
            link.kill("the server closed the connection");
        }
        if link.dead.borrow().is_some() {
            return;
        }
        let silent = lock(&link.answered).elapsed();
        if link.pending.load(Ordering::SeqCst) > 0 && silent > stall {
            link.kill(&format!("no answer for {} seconds", silent.as_secs_f32().round()));
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a server's extensions as they were announced.
pub(super) fn abilities(extensions: &HashMap<String, String>, banner: &str) -> Abilities {
    let has = |name: &str| extensions.contains_key(name);
    Abilities {
        fsync: has("fsync@openssh.com"),
        posix_rename: has("posix-rename@openssh.com"),
        hardlink: has("hardlink@openssh.com"),
        statvfs: has("statvfs@openssh.com"),
        careful_rename: banner.contains("OpenSSH"),
        // What every server takes.
        read_bytes: 32 << 10,
        write_bytes: 32 << 10,
    }
}
