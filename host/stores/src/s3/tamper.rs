//! What somebody with the store's access key would try. S3 can neither append nor rename nor change a mode.

use super::{
    Root,
    client::{Request, Verb},
    lock::Lock,
};
use havun_vault::store::{ObjectName, StoreError, Tamper};
use sha2::{Digest as _, Sha256};

pub(super) fn tamper(root: &Root, name: &ObjectName, key: &str, attempt: Tamper) -> Option<Result<(), StoreError>> {
    match attempt {
        Tamper::Delete => Some(delete(root, key)),
        Tamper::Overwrite => Some(overwrite(root, key, b"not ours")),
        Tamper::Truncate => Some(overwrite(root, key, b"")),
        Tamper::ShortenLock => Lock::of(root.options.object_lock.as_ref(), name).map(|lock| shorten(root, key, lock)),
        Tamper::Append | Tamper::Rename | Tamper::ChangeMode => None,
    }
}

/// Plainly, and then the version itself. What the last of them says counts.
fn delete(root: &Root, key: &str) -> Result<(), StoreError> {
    let version = version(root, key)?;
    let plain = root.client.ask(&Request::new(Verb::Delete, key), None).map(|_| ());
    match version {
        Some(version) => root.client.ask(&Request::new(Verb::Delete, key).version(Some(&version)), None).map(|_| ()),
        None => plain,
    }
}

fn overwrite(root: &Root, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
    root.client.ask(&Request::new(Verb::Put, key).body(bytes, &Sha256::digest(bytes).into()), None).map(|_| ())
}

/// A server that says yes and keeps the date has refused.
fn shorten(root: &Root, key: &str, lock: Lock) -> Result<(), StoreError> {
    let version = version(root, key)?;
    lock.shortened().set(&root.client, key, version.as_deref())?;
    let still_whole = root.head(key, version.as_deref())?.is_some_and(|head| lock.missing(&head).is_none());
    if !still_whole {
        return Ok(());
    }
    let (what, why) = (format!("shortening the lock of {}", root.client.place(key)), "accepted, and the date stays".to_owned());
    Err(StoreError::Refused { what, why, hint: "nothing has to be done" })
}

fn version(root: &Root, key: &str) -> Result<Option<String>, StoreError> {
    Ok(root.head(key, None)?.and_then(|head| head.version_id()))
}
