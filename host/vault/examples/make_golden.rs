//! Makes the golden vaults of `tests/fixtures/golden`: two snapshots each, encrypted and plain, with the identity
//! and what a restore has to bring back. Salts are random, so this is run once for each version of the format and
//! its output committed; never run it to make a failing test pass. `v1-encrypted` and `v1-plain` are of the first version;
//! what the first version that wrote deltas of dumps made of the same project is called `v1-deltas-…`.
//!
//! ```text
//! cargo run -p havun-vault --example make_golden -- NEW-FOLDER       (as root: the project has a device in it)
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a generator stops at the first surprise")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{
    Run,
    listing::{self, Listing},
    local, new_vault, tree,
};
use havun_vault::keys::Identity;
use std::{fs, path::Path, sync::Arc};

fn main() {
    let folder = std::env::args_os().nth(1).expect("a folder to make");
    assert!(tree::is_privileged(), "run it as root: the project has a device in it");
    let identity = Identity::generate();
    let folder = Path::new(&folder);
    let expected = make(&folder.join("v1-deltas-encrypted"), &[identity]);
    assert_eq!(expected, make(&folder.join("v1-deltas-plain"), &[]), "both hold the same");
    for (number, listing) in (1..).zip(expected) {
        fs::write(folder.join(format!("expected-{number}.jsonl")), listing::to_text(&listing)).unwrap();
    }
}

/// Two runs into a new vault; what restores of them have to bring back.
fn make(folder: &Path, identities: &[Identity]) -> [Listing; 2] {
    let scratch = tempfile::tempdir().unwrap();
    let (root, state_dir, store) = (scratch.path().join("project"), scratch.path().join("state"), folder.join("store"));
    for new in [&root, &state_dir, &store] {
        fs::create_dir_all(new).unwrap();
    }
    if let [identity] = identities {
        fs::write(folder.join("identity.txt"), identity.file_text("golden vault, protects nothing").as_bytes()).unwrap();
    }
    let vault = new_vault(Arc::new(local(&store)), identities).unwrap();
    tree::build(&root);
    let run = |number| {
        let run = Run { root: &root, state_dir: &state_dir, identities, number };
        let committed = run.backup(&vault).unwrap();
        let snapshot = &committed.stored.snapshot;
        assert!(snapshot.manifest.depth > 0, "the manifest must have a list");
        let entries = vault.entries(snapshot).unwrap().map(Result::unwrap);
        let cut = entries.filter(|entry| entry.path.ends_with(b".log") || entry.path.ends_with(b".sql"));
        cut.for_each(|entry| assert!(entry.chunks.len() > 1, "where files are cut is random here: run it again"));
        run.expected()
    };
    let first = run(1);
    tree::change(&root);
    let second = run(2);
    let vault_folder = store.join(common::project().as_str());
    fs::remove_dir(vault_folder.join("tmp")).unwrap();
    fs::remove_file(vault_folder.join("lease")).unwrap();
    [first, second]
}
