//! Replicas on a real OpenSSH server: what a copy costs, and that it is whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod sftp_kit;
#[path = "../../vault/tests/kit/mod.rs"]
mod vault_kit;

use havun_stores::sftp::SftpRoot;
use havun_vault::{
    NoProgress, ReplicateOptions, ReplicationReport, Vault, VerifyOptions, audit_replica, replicate,
    store::{MemoryStore, Store},
};
use sftp_kit::Place;
use std::{fs, sync::Arc};
use vault_kit::{Bench, noise, replicate_options};

/// A vault with one snapshot.
struct Scene {
    bench: Bench,
    vault: Vault,
    root: tempfile::TempDir,
    catalogue: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (bench, root, catalogue) = (Bench::new(true), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let source: Arc<dyn Store> = Arc::new(MemoryStore::new("source"));
        bench.create(&source).unwrap();
        let vault = bench.open(&source).unwrap();
        fs::write(root.path().join("file"), noise(1, 3_000_000)).unwrap();
        let scene = Self { bench, vault, root, catalogue };
        scene.run(0);
        scene
    }

    /// A backup in which nothing changed, but for the first.
    fn run(&self, hour: i64) {
        self.bench.backup(&self.vault, self.root.path(), &noise(2, 100_000), hour).unwrap();
    }

    fn copy(&self, root: &SftpRoot) -> ReplicationReport {
        let options = ReplicateOptions { threads: 4, ..replicate_options(Some(self.catalogue.path())) };
        replicate(&self.vault, &store(root), &options, &NoProgress).unwrap()
    }

    fn assert_whole(&self, root: &SftpRoot, snapshots: usize) {
        let replica = self.bench.open(&store(root)).unwrap();
        let report = replica.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap();
        assert_eq!(report.damage, []);
        assert_eq!(replica.snapshots().unwrap().snapshots.len(), snapshots);
        let audit = audit_replica(self.catalogue.path(), &self.vault.info().vault_id, &*store(root)).unwrap();
        assert!(audit.known && audit.is_whole() && audit.undone.is_empty() && audit.unknown == 0, "{audit:?}");
    }
}

fn store(root: &SftpRoot) -> Arc<dyn Store> {
    Arc::new(sftp_kit::vault(root))
}

#[test]
fn a_run_in_which_nothing_changed_takes_at_most_ten_round_trips() {
    let (place, scene) = (Place::start(&[]), Scene::new());
    let root = place.root();
    let first = scene.copy(&root);
    assert!(first.listed && first.objects > 6 && first.unsettled == first.objects, "{first:?}");
    assert_eq!(scene.copy(&root).unsettled, 0);
    for hour in 1..4 {
        scene.run(hour);
        let before = root.round_trips();
        let report = scene.copy(&root);
        let trips = root.round_trips() - before;
        assert_eq!((report.objects, report.listed, report.vanished.len()), (1, false, 0));
        assert!(trips <= 10, "{trips} round trips in hour {hour}");
    }
    scene.assert_whole(&root, 4);
}

#[test]
fn a_server_that_only_creates_and_reads_gets_a_whole_replica() {
    let (place, scene) = (Place::locked(), Scene::new());
    let root = place.root_with(|options| options.put_once = true);
    for hour in 1..4 {
        assert!(scene.copy(&root).objects >= 1);
        scene.run(hour);
    }
    assert!(!scene.copy(&root).listed);
    scene.assert_whole(&root, 4);
}
