//! What systemd is told, where it has started us. Whatever cannot be told is no reason to do less, or to wait: a service
//! manager that does not listen must not stop the loop.

use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// The service manager.
pub(super) struct Supervisor {
    watchdog: Option<Duration>,
    status: String,
}

impl Supervisor {
    pub fn new() -> Self {
        Self { watchdog: watchdog_enabled(), status: String::new() }
    }

    /// How often [`Self::alive`] must be called at least.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 3)
    }

    /// The daemon is at work, and has the configuration that it was told to take.
    pub fn ready(&self) {
        // The one thing that must be heard; there is nothing else to do yet.
        if let Err(error) = notify(&[NotifyState::Ready]) {
            tracing::debug!(%error, "systemd could not be told");
        }
    }

    /// A configuration is being read.
    pub fn reloading(&self) {
        let now = NotifyState::monotonic_usec_now().map(|now| format!("\n{now}")).unwrap_or_default();
        tell(&format!("{}{now}", NotifyState::Reloading));
    }

    /// It stops in order.
    pub fn stopping(&self) {
        tell(&NotifyState::Stopping.to_string());
    }

    /// Called by the loop that starts everything, and by nothing else: when that hangs, nothing is backed up any more.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            tell(&NotifyState::Watchdog.to_string());
        }
    }

    /// One line for `systemctl status`.
    pub fn status(&mut self, status: String) {
        if status != self.status && tell(&NotifyState::Status(&status).to_string()) {
            self.status = status;
        }
    }
}

/// Whether it was heard, or nobody is there to hear it.
fn tell(state: &str) -> bool {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return true };
    let sent = address(&socket.to_string_lossy()).and_then(|address| {
        let ear = UnixDatagram::unbound()?;
        ear.set_nonblocking(true)?;
        ear.send_to_addr(state.as_bytes(), &address)
    });
    sent.inspect_err(|error| tracing::debug!(%error, "systemd could not be told")).is_ok()
}

/// A path, or a name that begins with `@`.
fn address(socket: &str) -> io::Result<SocketAddr> {
    match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}
