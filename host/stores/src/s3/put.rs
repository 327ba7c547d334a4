//! One object by one request: its bytes are hashed before the first of them is sent, and the name is given only where it
//! is free.

use super::{
    PART_BYTES, Root,
    client::{Request, Verb},
    error::Situation,
    exists::Expected,
    lock::Lock,
    multipart,
};
use havun_vault::store::{ObjectName, Published, Source, StoreError};
use sha2::{Digest as _, Sha256};

/// Stores `source` under `key`.
pub(super) fn put(root: &Root, name: &ObjectName, key: &str, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
    let conditional = root.is_conditional()?;
    let lock = Lock::of(root.options.object_lock.as_ref(), name);
    let expected = Expected { name, key, size: source.size(), sha256, lock };
    if !conditional && root.head(key, None)?.is_some() {
        return expected.compare(root);
    }
    if source.size() <= PART_BYTES.min(root.options.part_bytes) {
        whole(root, &expected, source, conditional)
    } else {
        multipart::put(root, &expected, source, conditional)
    }
}

fn whole(root: &Root, expected: &Expected<'_>, source: &dyn Source, conditional: bool) -> Result<Published, StoreError> {
    let mut bytes = vec![0; usize::try_from(expected.size).unwrap_or(0)];
    source.read_at(0, &mut bytes).map_err(|e| StoreError::source(expected.name, e))?;
    StoreError::check_source(expected.name, &Sha256::digest(&bytes).into(), expected.sha256)?;
    let request = Request::new(Verb::Put, expected.key).header("content-type", "application/octet-stream");
    let request = Lock::ask(expected.lock.as_ref(), request.body(&bytes, expected.sha256));
    let answer = root.client.send(&if_free(request, conditional))?;
    if answer.status == 412 {
        return expected.compare(root);
    }
    if !answer.is_ok() {
        return Err(answer.error(&Situation { place: &root.client.place(expected.key), name: None }));
    }
    expected.verify(root, answer.version_id())?;
    Ok(Published::New)
}

/// Under the condition that nothing has the name, where the server knows conditions.
pub(super) fn if_free(request: Request<'_>, conditional: bool) -> Request<'_> {
    if conditional { request.header("if-none-match", "*") } else { request }
}
