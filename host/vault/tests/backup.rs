//! Backups on a memory store: what goes in comes out, and the second run costs nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod kit;

use havun_vault::{
    NoProgress, VerifyOptions,
    store::{MemoryStore, Store},
};
use kit::{Bench, contents, make_tree, noise};
use std::sync::Arc;

fn verify(vault: &havun_vault::Vault) -> havun_vault::VerifyReport {
    vault.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap()
}

#[test]
fn what_goes_in_comes_out_and_a_second_run_writes_one_object() {
    for encryption in [true, false] {
        let bench = Bench::new(encryption);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new("memory"));
        bench.create(&store).unwrap();
        let root = tempfile::tempdir().unwrap();
        make_tree(root.path());
        let dump = noise(9, 2_000_000);

        let vault = bench.open(&store).unwrap();
        let (first, tree) = bench.backup(&vault, root.path(), &dump, 0).unwrap();
        let summary = tree.items.values().next().unwrap();
        assert_eq!((summary.files, summary.problem_count), (306, 0));
        let vault = bench.open(&store).unwrap();
        let files = contents(&vault, &first.stored.snapshot);
        assert_eq!(files.len(), 307);
        for (path, bytes) in &files {
            match path.strip_prefix("tree") {
                Ok(rel) => assert_eq!(bytes, &std::fs::read(root.path().join(rel)).unwrap(), "{path:?}"),
                Err(_) => assert_eq!(bytes, &dump),
            }
        }
        let report = verify(&vault);
        assert_eq!(report.damage, []);
        assert!(report.chunks > 300);

        let before = store.list("").unwrap().len();
        let (second, _) = bench.backup(&vault, root.path(), &dump, 1).unwrap();
        assert_eq!(second.stats.files_unchanged, 306);
        assert_eq!(store.list("").unwrap().len(), before + 1);
        assert_eq!(second.stored.snapshot.manifest, first.stored.snapshot.manifest);
        assert_eq!(second.stored.snapshot.packs, first.stored.snapshot.packs);
        assert_eq!(second.stored.snapshot.parent, Some(first.stored.id));

        std::fs::write(root.path().join("a.txt"), "changed").unwrap();
        std::fs::remove_file(root.path().join("many/17.txt")).unwrap();
        std::fs::write(root.path().join("many/new.txt"), "new").unwrap();
        let (third, _) = bench.backup(&vault, root.path(), &dump, 2).unwrap();
        let files = contents(&vault, &third.stored.snapshot);
        assert_eq!(files.len(), 307);
        assert!(files.iter().any(|(p, b)| p.ends_with("a.txt") && b == b"changed"));
        assert!(!files.iter().any(|(p, _)| p.ends_with("many/17.txt")));
        assert!(third.stats.bytes_added < 60_000, "{:?}", third.stats);
        assert_eq!(third.stats.files_new, 3, "{:?}", third.stats);
        assert_eq!(verify(&vault).damage, []);

        std::fs::remove_dir_all(bench.state.path()).unwrap();
        std::fs::create_dir_all(bench.state.path()).unwrap();
        let (fourth, _) = bench.backup(&vault, root.path(), &dump, 3).unwrap();
        assert_eq!(fourth.stored.snapshot.manifest, third.stored.snapshot.manifest, "a lost cache costs time and nothing else");
        assert_eq!(vault.snapshots().unwrap().snapshots.len(), 4);
    }
}
