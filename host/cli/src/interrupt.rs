//! Ctrl-C and its like: the first one stops in order, the second one at once.

use havun_model::Cancel;
use havun_operations::{daemon::Signals, error::exit::INTERRUPTED};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals as SignalIterator,
};
use std::{
    io, process,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

static WATCHING: Once = Once::new();
static ASKING: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C, SIGTERM and SIGHUP cancel `cancel`, of which a process has one; the second one ends the process.
pub fn watch(cancel: &Cancel) {
    WATCHING.call_once(|| {
        if let Err(error) = install(cancel.clone()) {
            tracing::warn!(%error, "Ctrl-C will end the program at once");
        }
    });
}

/// Runs `ask`, during which the first Ctrl-C ends the process: nothing is under way while the operator is asked.
pub fn while_asking<T>(ask: impl FnOnce() -> T) -> T {
    ASKING.store(true, Ordering::SeqCst);
    let answer = ask();
    ASKING.store(false, Ordering::SeqCst);
    answer
}

/// From now on SIGTERM and Ctrl-C stop the daemon in order, the second one at once; SIGHUP has it read its configuration.
pub fn serve(daemon: &Signals) {
    WATCHING.call_once(|| {
        if let Err(error) = install_daemon(daemon.clone()) {
            tracing::warn!(%error, "signals will end the daemon at once");
        }
    });
}

fn install_daemon(daemon: Signals) -> io::Result<()> {
    let mut signals = SignalIterator::new([SIGINT, SIGTERM, SIGHUP])?;
    let listen = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => daemon.reload(),
                _ if stopping => process::exit(i32::from(INTERRUPTED)),
                _ => {
                    stopping = true;
                    daemon.stop();
                }
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop)
}

fn install(cancel: Cancel) -> io::Result<()> {
    let ignored = ignored_signals();
    // What `nohup` or a shell's `&` has us ignore stays ignored.
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = SignalIterator::new(wanted)?;
    let listen = move || {
        for _ in signals.forever() {
            if ASKING.load(Ordering::SeqCst) || cancel.is_cancelled() {
                process::exit(i32::from(INTERRUPTED));
            }
            cancel.cancel();
            crate::ui::progress::interrupted();
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop)
}

/// One bit for each signal that this process was started to ignore, the first signal lowest.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}
