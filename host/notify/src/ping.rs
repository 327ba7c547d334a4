//! A sign of life for a dead man's switch: somebody elsewhere who raises the alarm when it stays away.

use crate::{Patience, error::SendError, http::Poster};

/// Posts `body` to `url`, which is a secret. Answers with 2xx are success; redirects are not followed.
///
/// # Errors
/// [`SendError`].
pub fn ping(url: &str, body: &str, patience: Patience) -> Result<(), SendError> {
    Poster::new(url, None, patience)?.post(body, &[])
}
