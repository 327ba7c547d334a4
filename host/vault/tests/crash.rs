//! The engine stopped at every store call of a backup, a clean-up and a replication, with and without un-fsynced
//! writes kept: every committed snapshot is whole, the next run succeeds, and whole packs left behind are adopted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{SnapshotId, retention::Verdict};
use havun_vault::{
    NoProgress, Vault, VaultError, VerifyOptions, replicate,
    store::{Fault, FaultPlan, FaultStore, MemoryStore, Store},
};
use kit::{Bench, a_day_later, noise, now, prune_options};
use std::{fs, path::Path, sync::Arc};

/// A vault with two snapshots and a tree that has changed since. Each dump is the one before, edited: deltas are written.
struct Scene {
    bench: Bench,
    base: MemoryStore,
    root: tempfile::TempDir,
    committed: Vec<SnapshotId>,
}

/// The dump of a day.
fn dump(day: usize) -> Vec<u8> {
    (0..day).fold(noise(5, 300_000), |dump, day| a_day_later(&dump, day))
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new(true);
        let base = MemoryStore::new("memory");
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sub")).unwrap();
        for n in 0..20 {
            fs::write(root.path().join(format!("sub/{n}")), noise(n, 5000)).unwrap();
        }
        let store: Arc<dyn Store> = Arc::new(base.clone());
        bench.create(&store).unwrap();
        let vault = bench.open(&store).unwrap();
        for hour in [0, 1] {
            fs::write(root.path().join("changing"), noise(100 + hour, 150_000)).unwrap();
            bench.backup(&vault, root.path(), &dump(hour as usize), hour as i64).unwrap();
        }
        fs::write(root.path().join("changing"), noise(102, 9000)).unwrap();
        fs::write(root.path().join("sub/3"), noise(103, 400_000)).unwrap();
        let committed = ids(&vault);
        Self { bench, base, root, committed }
    }

    /// The same state for every attempt: a copy of the store and of the cache.
    fn attempt(&self, plan: FaultPlan) -> Attempt {
        let bench = Bench { state: copy(self.bench.state.path()), ..clone(&self.bench) };
        let store = Arc::new(FaultStore::new(self.base.after_power_cut(false), plan));
        Attempt { bench, store }
    }

    fn backup(&self, bench: &Bench, vault: &Vault, hour: i64) -> Result<havun_vault::Committed, VaultError> {
        Ok(bench.backup(vault, self.root.path(), &dump(2), hour)?.0)
    }
}

struct Attempt {
    bench: Bench,
    store: Arc<FaultStore<MemoryStore>>,
}

impl Attempt {
    fn open(&self) -> Result<Vault, VaultError> {
        let store: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&self.store);
        self.bench.open(&store)
    }

    fn after(&self, keep_unsynced: bool) -> (MemoryStore, Arc<dyn Store>) {
        let left = self.store.inner().after_power_cut(keep_unsynced);
        (left.clone(), Arc::new(left))
    }
}

fn clone(bench: &Bench) -> Bench {
    let again = |identity: &havun_vault::keys::Identity| havun_vault::keys::Identity::parse_all(&identity.secret_text()).unwrap().remove(0);
    Bench {
        identity: again(&bench.identity),
        escrow: again(&bench.escrow),
        state: tempfile::tempdir().unwrap(),
        encryption: bench.encryption,
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for folder in fs::read_dir(from).unwrap() {
        let folder = folder.unwrap().path();
        let target = to.path().join(folder.file_name().unwrap());
        fs::create_dir(&target).unwrap();
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
    to
}

fn ids(vault: &Vault) -> Vec<SnapshotId> {
    vault.snapshots().unwrap().snapshots.iter().map(|s| s.id).collect()
}

fn packs(store: &dyn Store) -> usize {
    store.list("epochs").unwrap().iter().filter(|l| l.name.as_str().contains("/packs/")).count()
}

/// Nothing is damaged, and every one of `expected` is there.
fn assert_whole(vault: &Vault, expected: &[SnapshotId], what: &str) {
    let report = vault.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap();
    assert_eq!(report.damage, [], "{what}");
    let there = ids(vault);
    for id in expected {
        assert!(there.contains(id), "{what}: snapshot {id} is gone");
    }
}

#[test]
fn a_backup_stopped_at_any_call_loses_nothing_and_is_taken_up_again() {
    let scene = Scene::new();
    let clean = scene.attempt(FaultPlan::none());
    let run = scene.backup(&clean.bench, &clean.open().unwrap(), 2).unwrap();
    assert!(run.stats.chunks_delta > 0, "deltas are among what is written");
    let (calls, packs_clean) = (clean.store.calls(), packs(clean.store.inner()));
    assert!(calls > 30, "{calls}");
    let mut adopted = 0;
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for call in 0..calls {
            let attempt = scene.attempt(FaultPlan::at(call, fault));
            let outcome = attempt.open().and_then(|vault| scene.backup(&attempt.bench, &vault, 2));
            // Threads make the order of calls vary a little: the call may come later than in the clean run.
            if !attempt.store.has_crashed() {
                outcome.unwrap();
                continue;
            }
            for keep in [false, true] {
                let what = format!("{fault:?} at call {call}, un-fsynced writes kept: {keep}");
                let (left, store) = attempt.after(keep);
                let vault = attempt.bench.open(&store).unwrap();
                assert_whole(&vault, &scene.committed, &what);
                let bench = Bench { state: copy(attempt.bench.state.path()), ..clone(&attempt.bench) };
                let next = scene.backup(&bench, &vault, 3).unwrap_or_else(|e| panic!("{what}: {e}"));
                adopted += next.stats.packs_adopted;
                let mut expected = scene.committed.clone();
                expected.push(next.stored.id);
                assert_whole(&vault, &expected, &what);
                assert_eq!(packs(&*store), packs_clean, "{what}: a pack was uploaded twice, or is missing");
                assert_eq!(left.upload_count(), 0, "{what}: an upload of the dead process is still there");
            }
        }
    }
    assert!(adopted > 0, "no whole pack was ever left behind: the test tests nothing");
}

#[test]
fn a_clean_up_stopped_at_any_call_leaves_every_kept_snapshot_whole() {
    let scene = Scene::new();
    let gone = scene.committed[0];
    let verdicts = |vault: &Vault| -> Result<Vec<Verdict>, VaultError> {
        let list = vault.snapshots()?.snapshots;
        Ok(list.iter().map(|s| Verdict { id: s.id, keep: s.id != gone, reason: "older than 30d".to_owned() }).collect())
    };
    // Two clean-ups, the second after the grace: the first marks, the second deletes.
    let clean_up = |vault: &Vault| -> Result<(), VaultError> {
        for day in [0, 3] {
            let plan = vault.plan_cleanup(&verdicts(vault)?, now(2 + 24 * day), &prune_options())?;
            vault.execute_cleanup(plan, "test", false)?;
        }
        Ok(())
    };
    let clean = scene.attempt(FaultPlan::none());
    let names = |store: &dyn Store| store.list("epochs").unwrap().into_iter().map(|l| l.name).collect::<Vec<_>>();
    let before = names(clean.store.inner());
    clean_up(&clean.open().unwrap()).unwrap();
    let after = names(clean.store.inner());
    let deleted = before.iter().filter(|n| n.as_str().contains("/packs/") && !after.contains(n)).count();
    assert!(deleted > 0, "the clean-up deletes packs");
    assert!(after.iter().any(|n| n.as_str().contains("/moved/")), "and repacks some");
    assert_eq!(ids(&clean.open().unwrap()), scene.committed[1..]);
    let calls = clean.store.calls();
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for call in 0..calls {
            let attempt = scene.attempt(FaultPlan::at(call, fault));
            // A crash in a read that is passed over (an index object) may end a clean-up without an error.
            let outcome = attempt.open().and_then(|vault| clean_up(&vault));
            assert!(outcome.is_ok() || attempt.store.has_crashed());
            for keep in [false, true] {
                let what = format!("{fault:?} at call {call}, un-fsynced writes kept: {keep}");
                let (_, store) = attempt.after(keep);
                let vault = attempt.bench.open(&store).unwrap();
                assert_whole(&vault, &scene.committed[1..], &what);
                let bench = Bench { state: copy(attempt.bench.state.path()), ..clone(&attempt.bench) };
                let next = scene.backup(&bench, &vault, 100).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_whole(&vault, &[scene.committed[1], next.stored.id], &what);
                clean_up(&vault).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_whole(&vault, &[scene.committed[1], next.stored.id], &what);
            }
        }
    }
}

#[test]
fn a_replication_stopped_at_any_call_is_taken_up_again() {
    let scene = Scene::new();
    let source = scene.attempt(FaultPlan::none());
    let vault = source.open().unwrap();
    let run = |plan: FaultPlan| {
        let target = Arc::new(FaultStore::new(MemoryStore::new("replica"), plan));
        let store: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&target);
        let outcome = replicate(&vault, &store, &kit::replicate_options(None), &NoProgress);
        (target, outcome)
    };
    let (clean, outcome) = run(FaultPlan::none());
    outcome.unwrap();
    let same = |a: &dyn Store, b: &dyn Store| {
        let (mut a, mut b) = (a.list("").unwrap(), b.list("").unwrap());
        a.sort();
        b.sort();
        assert_eq!(a, b);
    };
    same(clean.inner(), source.store.inner());
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for call in 0..clean.calls() {
            let (target, _) = run(FaultPlan::at(call, fault));
            for keep in [false, true] {
                let what = format!("{fault:?} at call {call}, un-fsynced writes kept: {keep}");
                let store: Arc<dyn Store> = Arc::new(target.inner().after_power_cut(keep));
                // What claims to be a snapshot is whole, at every moment.
                if let Ok(replica) = scene.bench.open(&store) {
                    assert_whole(&replica, &[], &what);
                }
                replicate(&vault, &store, &kit::replicate_options(None), &NoProgress).unwrap_or_else(|e| panic!("{what}: {e}"));
                let replica = scene.bench.open(&store).unwrap();
                assert_whole(&replica, &scene.committed, &what);
            }
        }
    }
}
