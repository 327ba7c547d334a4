//! Who made a temporary file, told from its name alone: boot id, process namespace, process id with its start
//! time, and a counter. So what a dead process left is known for sure, and what another machine or container
//! may still be writing is not touched before it is old.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

/// A process of this or another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// First 12 hex digits of the kernel's boot id.
    boot: String,
    /// Inode of the process-id namespace: a process id means nothing outside of it.
    namespace: u64,
    pid: u32,
    /// In clock ticks since boot: a process id that was given anew is another session.
    started: u64,
}

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It has ended.
    Dead,
    /// Another machine, another container, or before a reboot.
    Unknown,
}

impl Session {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self { boot: boot_id(), namespace: pid_namespace(), pid, started: start_time(pid).unwrap_or(0) }
    }

    /// A name that no other upload of any session has.
    pub fn upload_name(&self) -> String {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        format!("upload-{}-{}-{}-{}-{count}", self.boot, self.namespace, self.pid, self.started)
    }

    /// The session that made an upload of this name.
    pub fn of_upload(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("upload-")?.split('-');
        let boot = parts.next()?.to_owned();
        let namespace = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        let started = parts.next()?.parse().ok()?;
        Some(Self { boot, namespace, pid, started })
    }

    /// Whether the process that `self` names still runs, as seen from this process.
    pub fn life(&self) -> Life {
        if self.boot != boot_id() || self.namespace != pid_namespace() {
            return Life::Unknown;
        }
        match start_time(self.pid) {
            Some(started) if started == self.started => Life::Alive,
            _ => Life::Dead,
        }
    }
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    if hex.is_empty() { "0".to_owned() } else { hex }
}

/// `pid:[4026531836]` → 4026531836.
fn pid_namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Field 22 of `/proc/<pid>/stat`, counted after the command's closing bracket, which may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_names_parse_back() {
        let session = Session::current();
        let name = session.upload_name();
        assert_ne!(name, session.upload_name());
        let parsed = Session::of_upload(&name).unwrap();
        assert_eq!(parsed, session);
        assert_eq!(parsed.life(), Life::Alive);
    }

    #[test]
    fn a_process_id_given_anew_is_another_session() {
        let session = Session { started: 1, ..Session::current() };
        assert_eq!(session.life(), Life::Dead);
    }

    #[test]
    fn nothing_is_known_of_another_boot_or_container() {
        let elsewhere = Session { boot: "ffffffffffff".to_owned(), ..Session::current() };
        assert_eq!(elsewhere.life(), Life::Unknown);
        let container = Session { namespace: 1, ..Session::current() };
        assert_eq!(container.life(), Life::Unknown);
    }

    #[test]
    fn foreign_names_are_no_session() {
        for name in ["", "upload-", "upload-x", "upload-a-b-c-d-e", "other"] {
            assert_eq!(Session::of_upload(name), None, "{name}");
        }
    }
}
