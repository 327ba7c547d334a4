//! Whether a process that wrote a row still lives: its number may have been given to another one since.

use std::fs;

/// Names the life of process `pid`: the machine's boot and the process's start. `None` when there is no such process.
pub(crate) fn of(pid: u32) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything; the start time is the 20th field after it.
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
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
}
