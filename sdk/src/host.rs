//! Talking to the operator. Natively these do nothing.

use crate::Result;
#[cfg(target_family = "wasm")]
use crate::wit::havun::backup::host as imports;

/// One log line at `level` (`trace`, `debug`, `info`, `warn`, `error`). Floods end the call.
pub fn log(level: &str, message: &str) {
    #[cfg(target_family = "wasm")]
    imports::log(level, message);
    #[cfg(not(target_family = "wasm"))]
    let _ = (level, message);
}

/// How far a long call is, in a unit of the strategy's choice.
pub fn progress(done: f64, total: Option<f64>, note: &str) {
    #[cfg(target_family = "wasm")]
    imports::progress(done, total, note);
    #[cfg(not(target_family = "wasm"))]
    let _ = (done, total, note);
}

/// Call it in long loops.
///
/// # Errors
/// [`crate::Error::Cancelled`] when the run is being stopped.
pub fn check_cancelled() -> Result<()> {
    #[cfg(target_family = "wasm")]
    return imports::check_cancelled();
    #[cfg(not(target_family = "wasm"))]
    Ok(())
}
