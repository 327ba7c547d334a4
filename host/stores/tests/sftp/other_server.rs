//! ProFTPD's `mod_sftp`: a server that shares nothing with OpenSSH, and runs no commands.

use crate::{
    assert_conforms,
    kit::{ProFtpd, pack, pattern, sha, store_name, vault},
};
use havun_stores::sftp::SftpRoot;
use havun_vault::store::{Published, Store};

#[test]
fn proftpd_passes_the_conformance_suite() {
    let server = ProFtpd::start();
    let root = SftpRoot::new(server.options()).unwrap();
    root.prepare(&store_name()).unwrap();
    let store = vault(&root);
    assert_conforms(&store);
    assert!(store.promises().no_overwrite && store.free_bytes().unwrap().is_some());
    // Large enough to go over all connections, there and back.
    let bytes = pattern(1, 20 << 20);
    assert_eq!(store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::New);
    let mut found = vec![0; bytes.len()];
    store.read_range(&pack(&bytes), 0, &mut found).unwrap();
    assert!(found == bytes);
    assert_eq!(store.server_sha256(&[pack(&bytes)]).unwrap(), None);
}
