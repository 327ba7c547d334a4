//! What anybody with our user's rights can do to a file.

use super::LocalStore;
use crate::store::{ObjectName, StoreError, Tamper};
use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

pub(super) fn tamper(store: &LocalStore, name: &ObjectName, attempt: Tamper) -> Option<Result<(), StoreError>> {
    let path = store.path_of(name);
    let done = match attempt {
        Tamper::Delete => fs::remove_file(&path),
        Tamper::Overwrite => write(&path, OpenOptions::new().write(true)),
        Tamper::Append => write(&path, OpenOptions::new().append(true)),
        Tamper::Truncate => OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0)),
        Tamper::Rename => fs::rename(&path, path.with_extension("renamed")),
        Tamper::ChangeMode => fs::set_permissions(&path, Permissions::from_mode(0o644)),
        Tamper::ShortenLock => return None,
    };
    Some(done.map_err(|e| StoreError::at(&path, e)))
}

fn write(path: &Path, options: &OpenOptions) -> io::Result<()> {
    options.open(path)?.write_all(b"not ours")
}
