//! Stores that fail, lie or lose: at every call of a run, a first run and a restore, whatever goes wrong either shows
//! as an error or does no harm. Never a false green.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{Cancel, SnapshotId};
use havun_vault::{
    Committed, NoProgress, RestoreRequest, Vault, VaultError, VerifyOptions,
    keys::Identity,
    store::{Fault, FaultPlan, FaultStore, MemoryStore, Operation, RetryPolicy, RetryStore, Store},
};
use kit::{Bench, a_day_later, noise};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A vault with one snapshot, and a tree that has changed since.
struct Scene {
    bench: Bench,
    base: MemoryStore,
    root: tempfile::TempDir,
    first: SnapshotId,
}

impl Scene {
    fn new() -> Self {
        let (bench, base, root) = (Bench::new(true), MemoryStore::new("memory"), tempfile::tempdir().unwrap());
        for n in 0..12 {
            fs::write(root.path().join(format!("{n}")), noise(n, 4000)).unwrap();
        }
        let store: Arc<dyn Store> = Arc::new(base.clone());
        bench.create(&store).unwrap();
        let (first, _) = bench.backup(&bench.open(&store).unwrap(), root.path(), &noise(50, 90_000), 0).unwrap();
        fs::write(root.path().join("3"), noise(60, 600_000)).unwrap();
        Self { bench, base, root, first: first.stored.id }
    }

    /// A copy of the vault, behind `plan`.
    fn store(&self, plan: FaultPlan) -> Arc<FaultStore<MemoryStore>> {
        Arc::new(FaultStore::new(self.base.after_power_cut(false), plan))
    }

    /// The second run, without any cache of the first.
    fn backup(&self, store: &Arc<dyn Store>, hour: i64) -> Result<Committed, VaultError> {
        let bench = Bench { state: tempfile::tempdir().unwrap(), ..same_keys(&self.bench) };
        let vault = bench.open(store)?;
        Ok(bench.backup(&vault, self.root.path(), &a_day_later(&noise(50, 90_000), 1), hour)?.0)
    }

    fn open(&self, store: &MemoryStore) -> Vault {
        self.bench.open(&(Arc::new(store.clone()) as Arc<dyn Store>)).unwrap()
    }
}

fn same_keys(bench: &Bench) -> Bench {
    let again = |identity: &Identity| Identity::parse_all(&identity.secret_text()).unwrap().remove(0);
    let state = tempfile::tempdir().unwrap();
    Bench { identity: again(&bench.identity), escrow: again(&bench.escrow), state, encryption: bench.encryption }
}

fn dynamic(store: &Arc<FaultStore<MemoryStore>>) -> Arc<dyn Store> {
    Arc::<FaultStore<MemoryStore>>::clone(store)
}

fn assert_whole(vault: &Vault, expected: &[SnapshotId], what: &str) {
    let report = vault.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 1 }, &NoProgress).unwrap();
    assert_eq!(report.damage, [], "{what}");
    let there: Vec<SnapshotId> = vault.snapshots().unwrap().snapshots.iter().map(|s| s.id).collect();
    assert!(expected.iter().all(|id| there.contains(id)), "{what}: {there:?}");
}

#[test]
fn a_run_that_says_ok_is_whole_whatever_the_store_did() {
    let scene = Scene::new();
    let clean = scene.store(FaultPlan::none());
    scene.backup(&dynamic(&clean), 1).unwrap();
    let calls = clean.calls();
    for fault in [Fault::Error, Fault::NoSpace, Fault::Hang, Fault::ShortWrite, Fault::LyingRename, Fault::StaleList] {
        let (mut hits, mut failures) = (0, 0);
        for call in 0..calls {
            let store = scene.store(FaultPlan::at(call, fault));
            let outcome = scene.backup(&dynamic(&store), 1);
            hits += store.hits();
            failures += u64::from(outcome.is_err());
            let what = format!("{fault:?} at call {call} ({:?})", store.log().get(call as usize));
            let left = store.inner().after_power_cut(true);
            let mut expected = vec![scene.first];
            expected.extend(outcome.ok().map(|committed| committed.stored.id));
            assert_whole(&scene.open(&left), &expected, &what);
            let next = scene.backup(&(Arc::new(left.clone()) as Arc<dyn Store>), 2).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_whole(&scene.open(&left), &[scene.first, next.stored.id], &what);
        }
        assert!(hits * 10 >= calls * 9, "{fault:?}: {hits} of {calls}");
        assert!(failures > 0 || fault == Fault::StaleList, "{fault:?} was never noticed");
    }
}

#[test]
fn a_store_that_fails_now_and_then_is_tried_again_until_the_run_is_whole() {
    let scene = Scene::new();
    for nth in [5, 7, 11] {
        let store = scene.store(FaultPlan::every(nth, Fault::Hang));
        let policy = RetryPolicy { attempts: 5, replay_bytes: 1 << 24, ..RetryPolicy::default() };
        let patient: Arc<dyn Store> = Arc::new(RetryStore::new(Arc::clone(&store), policy, |_: Duration| ()));
        let committed = scene.backup(&patient, 1).unwrap();
        assert!(store.hits() > 3);
        assert_whole(&scene.open(store.inner()), &[scene.first, committed.stored.id], "retried");
    }
}

#[test]
fn a_first_run_stopped_at_any_call_leaves_a_vault_or_none() {
    let scene = Scene::new();
    let first_run = |store: &Arc<dyn Store>| -> Result<Committed, VaultError> {
        match scene.bench.create(store) {
            Ok(()) | Err(VaultError::NotAVault { .. }) => scene.backup(store, 0),
            Err(error) => Err(error),
        }
    };
    let clean = Arc::new(FaultStore::new(MemoryStore::new("new"), FaultPlan::none()));
    first_run(&dynamic(&clean)).unwrap();
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for call in 0..clean.calls() {
            let store = Arc::new(FaultStore::new(MemoryStore::new("new"), FaultPlan::at(call, fault)));
            let outcome = first_run(&dynamic(&store));
            assert!(outcome.is_err() || !store.has_crashed(), "{fault:?} at call {call}");
            for keep in [false, true] {
                let what = format!("{fault:?} at call {call} ({:?}), un-fsynced writes kept: {keep}", store.log().get(call as usize));
                let left = store.inner().after_power_cut(keep);
                let next = first_run(&(Arc::new(left.clone()) as Arc<dyn Store>)).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_whole(&scene.open(&left), &[next.stored.id], &what);
                assert_eq!(left.upload_count(), 0, "{what}");
            }
        }
    }
}

#[test]
fn a_restore_that_loses_its_store_fails_and_the_next_one_brings_everything() {
    let scene = Scene::new();
    let clean = scene.store(FaultPlan::none());
    let expected = restore(&scene.bench.open(&dynamic(&clean)).unwrap(), &scene.first).unwrap().1;
    assert_eq!(expected.len(), 13);
    let reads = clean.log().iter().filter(|call| call.operation == Operation::ReadRange).count();
    assert!(reads > 2, "{:?}", clean.log());
    for fault in [Fault::Crash, Fault::CrashAfter, Fault::Error, Fault::Hang] {
        for call in 0..clean.calls() {
            let store = scene.store(FaultPlan::at(call, fault));
            let what = format!("{fault:?} at call {call} ({:?})", clean.log().get(call as usize));
            let outcome = scene.bench.open(&dynamic(&store)).and_then(|vault| restore(&vault, &scene.first));
            if let Ok((failed, files)) = outcome {
                assert!(failed > 0 || files == expected, "{what}: a restore that says that all went well is whole");
                assert!(files.iter().all(|(path, bytes)| expected.get(path) == Some(bytes)), "{what}: nothing half-restored");
                assert!(store.hits() == 0 || failed > 0 || files == expected, "{what}");
            }
            let left = store.inner().after_power_cut(false);
            assert_eq!(restore(&scene.open(&left), &scene.first).unwrap(), (0, expected.clone()), "{what}");
        }
    }
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Restores into an empty folder: how many entries failed, and the files that are there.
fn restore(vault: &Vault, id: &SnapshotId) -> Result<(usize, Files), VaultError> {
    let stored = vault.snapshots()?.snapshots.into_iter().find(|s| s.id == *id).ok_or(VaultError::NoSnapshot { id: *id })?;
    let target = tempfile::tempdir().unwrap();
    let request = RestoreRequest {
        select: &|entry| Some(PathBuf::from(OsStr::from_bytes(&entry.path))),
        target: target.path(),
        overwrite: false,
        owner: false,
        threads: 2,
        sync: false,
        cancel: Cancel::default(),
    };
    let report = vault.restore(&stored.snapshot, &request, &NoProgress)?;
    let mut files = Files::new();
    collect(target.path(), target.path(), &mut files);
    Ok((report.failed.len(), files))
}

fn collect(folder: &Path, top: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, top, files);
        } else {
            files.insert(path.strip_prefix(top).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}
