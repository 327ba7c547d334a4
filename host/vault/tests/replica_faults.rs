//! Replication to stores that fail, lie, lose or die, with the catalogue in play: a copy that says that all is well is
//! whole, and the next one completes what is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_vault::{
    NoProgress, ReplicateError, ReplicateOptions, ReplicationReport, Vault, VerifyOptions, audit_replica, replicate,
    store::{Fault, FaultPlan, FaultStore, MemoryStore, Operation, RetryPolicy, RetryStore, Store},
};
use kit::{Bench, Weak, noise, replicate_options};
use std::{fs, path::Path, sync::Arc, time::Duration};

/// A vault with three snapshots, and a replica that has the first of them.
struct Scene {
    bench: Bench,
    vault: Vault,
    base: MemoryStore,
    catalogue: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new(true);
        let (root, catalogue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (source, base) = (Arc::new(MemoryStore::new("source")) as Arc<dyn Store>, MemoryStore::new("replica"));
        bench.create(&source).unwrap();
        let vault = bench.open(&source).unwrap();
        for hour in 0..3 {
            fs::write(root.path().join(format!("{hour}")), noise(hour, 30_000)).unwrap();
            bench.backup(&vault, root.path(), &noise(100 + hour, 80_000), hour as i64).unwrap();
            if hour == 0 {
                let to: Arc<dyn Store> = Arc::new(Weak(base.clone()));
                replicate(&vault, &to, &replicate_options(Some(catalogue.path())), &NoProgress).unwrap();
                replicate(&vault, &to, &replicate_options(Some(catalogue.path())), &NoProgress).unwrap();
            }
        }
        Self { bench, vault, base, catalogue }
    }

    /// The replica and its catalogue as they were, behind `plan`.
    fn attempt(&self, plan: FaultPlan) -> Attempt<'_> {
        let catalogue = tempfile::tempdir().unwrap();
        for file in fs::read_dir(self.catalogue.path()).unwrap() {
            let file = file.unwrap().path();
            fs::copy(&file, catalogue.path().join(file.file_name().unwrap())).unwrap();
        }
        Attempt { scene: self, far: Arc::new(FaultStore::new(self.base.after_power_cut(false), plan)), catalogue }
    }

    fn copy(&self, to: &Arc<dyn Store>, catalogue: &Path, threads: usize) -> Result<ReplicationReport, ReplicateError> {
        replicate(&self.vault, to, &ReplicateOptions { threads, ..replicate_options(Some(catalogue)) }, &NoProgress)
    }

    /// What claims to be a snapshot is whole; returns how many there are.
    fn whole(&self, store: &MemoryStore, what: &str) -> usize {
        let store: Arc<dyn Store> = Arc::new(store.clone());
        let replica = self.bench.open(&store).unwrap();
        let report = replica.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 1 }, &NoProgress).unwrap();
        assert_eq!(report.damage, [], "{what}");
        replica.snapshots().unwrap().snapshots.len()
    }
}

struct Attempt<'s> {
    scene: &'s Scene,
    far: Arc<FaultStore<MemoryStore>>,
    catalogue: tempfile::TempDir,
}

impl Attempt<'_> {
    fn copy(&self, threads: usize) -> Result<ReplicationReport, ReplicateError> {
        let store: Arc<dyn Store> = Arc::new(Weak(Arc::clone(&self.far)));
        self.scene.copy(&store, self.catalogue.path(), threads)
    }

    /// The next copy, to what is left, with the catalogue that is left.
    fn next(&self, left: &MemoryStore, what: &str) -> ReplicationReport {
        let store: Arc<dyn Store> = Arc::new(Weak(left.clone()));
        let report = self.scene.copy(&store, self.catalogue.path(), 1).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_eq!(self.scene.whole(left, what), 3, "{what}");
        report
    }
}

fn calls(scene: &Scene) -> u64 {
    let clean = scene.attempt(FaultPlan::none());
    clean.copy(1).unwrap();
    assert!(clean.far.calls() > 30);
    clean.far.calls()
}

#[test]
fn a_copy_that_dies_at_any_call_is_taken_up_where_it_was() {
    let scene = Scene::new();
    let total = scene.attempt(FaultPlan::none()).copy(1).unwrap().objects;
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for call in 0..calls(&scene) {
            let what = format!("{fault:?} at call {call}");
            let attempt = scene.attempt(FaultPlan::at(call, fault));
            let Err(error) = attempt.copy(1) else { panic!("{what} was not noticed") };
            let left = attempt.far.inner().after_power_cut(call % 2 == 0);
            scene.whole(&left, &what);
            let audit = audit_replica(attempt.catalogue.path(), &scene.vault.info().vault_id, &left).unwrap();
            assert!(audit.is_whole() && audit.undone.is_empty(), "{what}: the catalogue claims what is not there");
            assert!(audit.unknown <= 1, "{what}: what was copied is in the catalogue");
            let next = attempt.next(&left, &what);
            assert!(!next.listed, "{what}");
            assert_eq!(error.report.objects + next.objects, total, "{what}: nothing is sent twice but what was under way");
        }
    }
}

#[test]
fn a_copy_that_says_ok_is_whole_whatever_the_store_did() {
    let scene = Scene::new();
    for fault in [Fault::Error, Fault::NoSpace, Fault::Hang, Fault::ShortWrite, Fault::LyingRename, Fault::StaleList] {
        let mut failures = 0;
        for call in 0..calls(&scene) {
            let attempt = scene.attempt(FaultPlan::at(call, fault));
            let outcome = attempt.copy(1);
            failures += u64::from(outcome.is_err());
            let what = format!("{fault:?} at call {call} ({:?})", attempt.far.log().get(call as usize));
            let left = attempt.far.inner().after_power_cut(true);
            let there = scene.whole(&left, &what);
            assert!(outcome.is_err() || there == 3, "{what}: a false green");
            attempt.next(&left, &what);
        }
        assert!(failures > 0 || fault == Fault::StaleList, "{fault:?} was never noticed");
    }
}

#[test]
fn a_stale_listing_is_no_loss() {
    let scene = Scene::new();
    let attempt = scene.attempt(FaultPlan::none());
    attempt.copy(1).unwrap();
    attempt.far.reset(FaultPlan::every(1, Fault::StaleList));
    let store: Arc<dyn Store> = Arc::new(Weak(Arc::clone(&attempt.far)));
    let full = ReplicateOptions { full: true, ..replicate_options(Some(attempt.catalogue.path())) };
    let report = replicate(&scene.vault, &store, &full, &NoProgress).unwrap();
    assert_eq!((report.objects, report.vanished.len(), report.listed), (0, 0, true));
    assert!(audit_replica(attempt.catalogue.path(), &scene.vault.info().vault_id, &*store).unwrap().is_whole());
}

#[test]
fn what_a_power_cut_undid_is_noticed_by_the_next_copy_and_sent_again() {
    let scene = Scene::new();
    let clean = scene.attempt(FaultPlan::none());
    clean.copy(1).unwrap();
    let log = clean.far.log();
    let publishes = log.iter().enumerate().filter(|(_, c)| c.operation == Operation::Publish);
    let mut undone = 0;
    for (call, at) in publishes {
        let what = format!("{at:?} undone");
        let attempt = scene.attempt(FaultPlan::at(call as u64, Fault::DroppedFsync));
        assert!(attempt.copy(1).unwrap().unsettled > 0, "{what}");
        attempt.far.power_cut().unwrap();
        attempt.far.reset(FaultPlan::none());
        let left = attempt.far.inner().after_power_cut(false);
        let audit = audit_replica(attempt.catalogue.path(), &scene.vault.info().vault_id, &left).unwrap();
        assert!(audit.is_whole(), "{what}: nobody deleted it");
        assert_eq!(audit.undone.len(), 1, "{what}");
        let report = attempt.next(&left, &what);
        assert_eq!((report.vanished.clone(), report.objects, report.listed), (vec![at.name.clone()], 1, false), "{what}");
        undone += 1;
    }
    assert!(undone > 5);
    // All of them at once.
    let attempt = scene.attempt(FaultPlan::every(1, Fault::DroppedFsync));
    let sent = attempt.copy(1).unwrap().objects;
    attempt.far.power_cut().unwrap();
    let left = attempt.far.inner().after_power_cut(false);
    assert_eq!(attempt.next(&left, "all undone").vanished.len() as u64, sent);
}

#[test]
fn several_threads_that_meet_failures_end_whole_in_the_end() {
    let scene = Scene::new();
    for call in (0..calls(&scene)).step_by(3) {
        for fault in [Fault::Crash, Fault::Error, Fault::LyingRename] {
            let what = format!("{fault:?} at call {call}, 4 threads");
            let attempt = scene.attempt(FaultPlan::at(call, fault));
            let outcome = attempt.copy(4);
            let left = attempt.far.inner().after_power_cut(false);
            let there = scene.whole(&left, &what);
            assert!(outcome.is_err() || there == 3, "{what}: a false green");
            attempt.next(&left, &what);
        }
    }
    let attempt = scene.attempt(FaultPlan::every(6, Fault::Hang));
    let policy = RetryPolicy { attempts: 8, replay_bytes: 1 << 24, ..RetryPolicy::default() };
    let patient = RetryStore::new(Weak(Arc::clone(&attempt.far)), policy, |_: Duration| ());
    let store: Arc<dyn Store> = Arc::new(patient);
    scene.copy(&store, attempt.catalogue.path(), 4).unwrap();
    assert!(attempt.far.hits() > 3);
    assert_eq!(scene.whole(attempt.far.inner(), "retried"), 3);
}

#[test]
fn two_copies_of_the_same_vault_at_once_do_no_harm() {
    let scene = Scene::new();
    for _ in 0..10 {
        let attempt = scene.attempt(FaultPlan::none());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| attempt.copy(2).unwrap());
            }
        });
        let left = attempt.far.inner().after_power_cut(false);
        assert_eq!(scene.whole(&left, "two at once"), 3);
        assert!(audit_replica(attempt.catalogue.path(), &scene.vault.info().vault_id, &left).unwrap().is_whole());
        attempt.next(&left, "after two at once");
    }
    // Where a lease keeps others out, the second is told so.
    let attempt = scene.attempt(FaultPlan::none());
    let store: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&attempt.far);
    let _lease = store.lease("somebody", false).unwrap();
    let error = scene.copy(&store, attempt.catalogue.path(), 1).unwrap_err();
    assert!(matches!(error.source, havun_vault::VaultError::Locked { .. }));
}
