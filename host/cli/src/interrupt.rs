//! Ctrl-C: the first one stops in order, the second one at once.

use havun_model::Cancel;
use std::sync::{
    Once,
    atomic::{AtomicU8, Ordering},
};

static SEEN: AtomicU8 = AtomicU8::new(0);
static WATCHING: Once = Once::new();

/// From now on Ctrl-C, SIGTERM and SIGHUP cancel `cancel`, of which a process has one; the second one ends the process.
pub fn watch(cancel: &Cancel) {
    WATCHING.call_once(|| install(cancel.clone()));
}

fn install(cancel: Cancel) {
    let installed = ctrlc::set_handler(move || {
        if SEEN.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(i32::from(havun_operations::error::exit::INTERRUPTED));
        }
        cancel.cancel();
        crate::ui::progress::interrupted();
    });
    if let Err(error) = installed {
        tracing::warn!(%error, "Ctrl-C will end the program at once");
    }
}
