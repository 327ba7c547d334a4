//! What somebody with the store's login would try: the raw requests, without any of our care.

use super::{
    failure::{Failure, Said},
    link::Link,
};
use havun_vault::store::{StoreError, Tamper};
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use std::sync::Arc;

/// Tries it on the file at `path`; `None` where SFTP has no such request.
pub(super) async fn tamper(link: &Arc<Link>, path: &str, attempt: Tamper) -> Option<Result<(), StoreError>> {
    let done = match attempt {
        Tamper::Delete => link.remove(path).await,
        Tamper::Overwrite => write(link, path, OpenFlags::WRITE, 0).await,
        Tamper::Append => write(link, path, OpenFlags::WRITE | OpenFlags::APPEND, 0).await,
        Tamper::Truncate => truncate(link, path).await,
        Tamper::Rename => rename(link, path).await,
        Tamper::ChangeMode => link.setstat(path, FileAttributes { permissions: Some(0o666), ..FileAttributes::empty() }).await,
        Tamper::ShortenLock => return None,
    };
    Some(done.said(|| format!("trying to {} {path}", attempt.as_str())))
}

async fn write(link: &Arc<Link>, path: &str, flags: OpenFlags, offset: u64) -> Result<(), Failure> {
    let handle = link.open(path, flags).await?;
    let written = link.write(&handle, offset, b"not ours".to_vec()).await;
    let closed = link.close(&handle).await;
    written.and(closed)
}

/// Either way that the protocol has.
async fn truncate(link: &Arc<Link>, path: &str) -> Result<(), Failure> {
    let by_size = link.setstat(path, FileAttributes { size: Some(0), ..FileAttributes::empty() }).await;
    if by_size.is_ok() {
        return by_size;
    }
    let handle = link.open(path, OpenFlags::WRITE | OpenFlags::TRUNCATE).await?;
    link.close(&handle).await
}

async fn rename(link: &Arc<Link>, path: &str) -> Result<(), Failure> {
    let to = format!("{path}.renamed");
    let plain = link.rename(path, &to).await;
    if plain.is_ok() {
        return plain;
    }
    link.posix_rename(path, &to).await
}
