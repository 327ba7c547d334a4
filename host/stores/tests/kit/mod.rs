//! What the tests of the S3 store share: a real server, a fake one, and stores on them.

#![allow(dead_code, unused_imports, clippy::expect_used, clippy::unwrap_used, reason = "a test kit; each test uses a part of it")]

#[path = "../../../../tests/src/s3_fake.rs"]
mod s3_fake;
#[path = "../../../../tests/src/s3_http.rs"]
mod s3_http;
#[path = "../../../../tests/src/s3_server.rs"]
mod s3_server;

pub use s3_fake::{FakeRules, FakeS3};
pub use s3_server::S3Server;

use havun_model::{ProjectName, StoreName};
use havun_stores::s3::{LockMode, ObjectLock, S3Options, S3Root, S3Store};
use havun_vault::store::{ObjectName, Published, Store, StoreError};
use sha2::{Digest as _, Sha256};
use std::{path::Path, sync::Arc};
use zeroize::Zeroizing;

pub const UNTIL: &str = "2033-12-31T23:59:59Z";
pub const BASE: &str = "backups/blog";

pub fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

pub fn options(endpoint: &str, bucket: &str, spool: &Path) -> S3Options {
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    S3Options {
        endpoint: endpoint.to_owned(),
        region: "us-east-1".to_owned(),
        bucket: bucket.to_owned(),
        prefix: "backups".to_owned(),
        access_key_id: secret("the-key-id"),
        secret_access_key: secret("the-very-secret"),
        session_token: None,
        path_style: true,
        connections: 3,
        object_lock: None,
        part_bytes: 5 << 20,
        spool_dir: spool.to_owned(),
        lease_name: "backup-host".to_owned(),
    }
}

pub fn locked(mode: LockMode, options: S3Options) -> S3Options {
    let until = UNTIL.parse().unwrap();
    S3Options { object_lock: Some(ObjectLock { mode, until: Arc::new(move |_| until) }), ..options }
}

/// The store of the project `blog`, in a prepared root.
pub fn prepared(options: S3Options) -> (S3Root, S3Store) {
    let root = S3Root::new(options).unwrap();
    root.prepare(&StoreName::new("offsite").unwrap()).unwrap();
    let store = root.vault(&ProjectName::new("blog").unwrap());
    (root, store)
}

pub fn fake_store(fake: &FakeS3, spool: &Path) -> (S3Root, S3Store) {
    prepared(options(&fake.endpoint(), "bucket", spool))
}

pub fn put(store: &dyn Store, at: &str, bytes: &[u8]) -> Result<Published, StoreError> {
    store.put(&name(at), &bytes, &Sha256::digest(bytes).into())
}

/// Bytes that repeat late.
pub fn pattern(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
}
