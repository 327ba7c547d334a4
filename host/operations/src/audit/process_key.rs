//! Whether a process that wrote a row still lives: its number may have been given to another one since.

use std::fs;

/// Names the life of process `pid`: the machine's boot and the process's start. `None` when there is no such process, and when it
/// has ended and only nobody has asked yet how: in a container that may stay so.
pub(crate) fn of(pid: u32) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything; the state is the first field after it, the start time the 20th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
    let started = fields.nth(18).filter(|_| !has_ended)?;
    Some(format!("{}-{started}", boot.trim()))
}

/// Whether the process that wrote `key` as number `pid` still lives on this machine.
pub(crate) fn is_alive(pid: i64, key: &str) -> bool {
    u32::try_from(pid).ok().and_then(of).is_some_and(|now| now == key)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_living_process_has_a_stable_key_and_a_dead_one_none() {
        assert_eq!(of(std::process::id()), of(std::process::id()));
        assert!(of(std::process::id()).is_some());
        assert_eq!(of(u32::MAX), None);
    }

    #[test]
    fn a_process_that_has_ended_is_dead_though_nobody_has_waited_for_it() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        assert!(of(child.id()).is_some());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let still_there = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok();
        while of(child.id()).is_some() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(still_there(), "nobody has waited for it");
        assert_eq!(of(child.id()), None);
        child.wait().unwrap();
    }
}
