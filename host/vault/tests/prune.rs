//! Clean-ups that repack, what becomes of the snapshots meanwhile, and the expiry of an archive.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{
    PackId, SnapshotId,
    holds::{Hold, HoldScope, Release},
    retention::Verdict,
};
use havun_vault::{
    CleanupReport, NoProgress, Vault, VaultError, VerifyOptions, layout,
    store::{Fault, FaultPlan, FaultStore, Lease, Listed, MemoryStore, ObjectName, Promises, Store, StoreError, Upload},
};
use kit::{Bench, contents, noise, now, prune_options};
use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Two snapshots; the first leaves much waste behind when it goes.
struct Scene {
    bench: Bench,
    memory: MemoryStore,
    root: tempfile::TempDir,
}

impl Scene {
    fn new(encryption: bool) -> Self {
        let bench = Bench::new(encryption);
        let memory = MemoryStore::new("hot");
        let store: Arc<dyn Store> = Arc::new(memory.clone());
        bench.create(&store).unwrap();
        let root = tempfile::tempdir().unwrap();
        for n in 0..20 {
            fs::write(root.path().join(n.to_string()), noise(n, 5000)).unwrap();
        }
        let scene = Self { bench, memory, root };
        scene.backup(0).unwrap();
        scene.backup(1).unwrap();
        scene
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.memory.clone())
    }

    fn open(&self) -> Vault {
        self.bench.open(&self.store()).unwrap()
    }

    /// Another dump each time, and one changed file.
    fn backup(&self, hour: i64) -> Result<SnapshotId, VaultError> {
        self.backup_to(&self.open(), hour)
    }

    fn backup_to(&self, vault: &Vault, hour: i64) -> Result<SnapshotId, VaultError> {
        fs::write(self.root.path().join("3"), noise(500 + hour as u64, 6000)).unwrap();
        let dump = noise(1000 + hour as u64 * 50, 300_000);
        Ok(self.bench.backup(vault, self.root.path(), &dump, hour)?.0.stored.id)
    }

    /// Keeps the newest snapshot only.
    fn clean_up(&self, hour: i64) -> CleanupReport {
        clean_up(&self.open(), hour).unwrap()
    }

    fn packs(&self) -> BTreeSet<PackId> {
        packs(&self.memory)
    }
}

fn packs(store: &dyn Store) -> BTreeSet<PackId> {
    let listed = store.list("epochs").unwrap();
    listed
        .iter()
        .filter(|l| l.name.as_str().contains("/packs/"))
        .map(|l| layout::claimed_hash(l.name.as_str()).unwrap().parse().unwrap())
        .collect()
}

fn only_newest(vault: &Vault) -> Vec<Verdict> {
    let list = vault.snapshots().unwrap().snapshots;
    let newest = list.last().unwrap().id;
    list.iter().map(|s| Verdict { id: s.id, keep: s.id == newest, reason: "older than 1d".to_owned() }).collect()
}

fn clean_up(vault: &Vault, hour: i64) -> Result<CleanupReport, VaultError> {
    let plan = vault.plan_cleanup(&only_newest(vault), now(hour), &prune_options())?;
    vault.execute_cleanup(plan, "test", false)
}

fn ids(vault: &Vault) -> Vec<SnapshotId> {
    vault.snapshots().unwrap().snapshots.iter().map(|s| s.id).collect()
}

fn damage(vault: &Vault) -> Vec<String> {
    let report = vault.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap();
    report.damage.into_iter().map(|d| format!("{}: {}", d.object, d.what)).collect()
}

type Files = Vec<(PathBuf, Vec<u8>)>;

fn files(vault: &Vault, id: &SnapshotId) -> Files {
    let list = vault.snapshots().unwrap().snapshots;
    contents(vault, &list.iter().find(|s| s.id == *id).unwrap().snapshot)
}

#[test]
fn a_repack_frees_what_is_not_needed_and_changes_no_snapshot() {
    for encryption in [true, false] {
        let scene = Scene::new(encryption);
        let newest = *ids(&scene.open()).last().unwrap();
        let (before, old) = (files(&scene.open(), &newest), scene.packs());
        let report = scene.clean_up(2);
        assert!(report.repacked > 0 && report.new_packs > 0, "{report:?}");
        assert_eq!((report.snapshots, &report.left), (1, &None));
        assert_eq!(files(&scene.open(), &newest), before);
        assert_eq!(damage(&scene.open()), [""; 0]);
        assert!(old.is_subset(&scene.packs()), "nothing goes before the grace");
        // A day later the old packs go, and the snapshot that names them is whole all the same.
        let report = scene.clean_up(30);
        assert!(report.packs > 0 && report.bytes > 300_000, "{report:?}");
        assert!(!old.is_subset(&scene.packs()));
        let vault = scene.open();
        let named: BTreeSet<PackId> = vault.snapshots().unwrap().snapshots[0].snapshot.packs.iter().copied().collect();
        assert!(!named.is_subset(&scene.packs()), "the test tests nothing");
        assert_eq!(damage(&vault), [""; 0]);
        assert_eq!(files(&vault, &newest), before);
        assert_eq!(vault.complete_snapshots().unwrap(), BTreeSet::from([newest]));
        let again = scene.clean_up(31);
        assert_eq!((again.repacked, again.marked, again.packs), (0, 0, 0), "there is nothing left to do");
    }
}

#[test]
fn a_backup_after_a_repack_names_the_new_packs_and_reads_nothing_again() {
    let scene = Scene::new(true);
    scene.clean_up(2);
    // The same tree and the same dump: only the snapshot object is new.
    let vault = scene.open();
    let (committed, tree) = scene.bench.backup(&vault, scene.root.path(), &noise(1000 + 50, 300_000), 3).unwrap();
    assert_eq!((committed.stats.packs_new, committed.stats.chunks_new), (0, 0), "{:?}", tree.items);
    assert!(committed.stored.snapshot.packs.iter().all(|id| scene.packs().contains(id)));
    scene.clean_up(30);
    assert!(committed.stored.snapshot.packs.iter().all(|id| scene.packs().contains(id)));
    assert_eq!(damage(&scene.open()), [""; 0]);
}

#[test]
fn packs_that_were_moved_are_moved_again() {
    for encryption in [true, false] {
        let scene = Scene::new(encryption);
        // Each snapshot needs a part of what the one before it needs, all of it in the first packs.
        for (hour, gone) in [(2, 0..5), (3, 5..10), (4, 10..15)] {
            gone.for_each(|n| fs::remove_file(scene.root.path().join(n.to_string())).unwrap());
            scene.bench.backup(&scene.open(), scene.root.path(), &noise(1000 + 50, 300_000), hour).unwrap();
        }
        let all = ids(&scene.open());
        let last = all[4];
        let expected = files(&scene.open(), &last);
        let named: BTreeSet<PackId> = scene.open().snapshots().unwrap().snapshots[4].snapshot.packs.iter().copied().collect();
        let mut repacked = 0;
        for (round, keep) in (0..).zip([2, 3, 4]) {
            let vault = scene.open();
            let verdicts = verdicts(&all, &all[..keep]);
            let options = havun_vault::PruneOptions { waste_percent: 1, ..prune_options() };
            let plan = vault.plan_cleanup(&verdicts, now(5 + 30 * round), &options).unwrap();
            repacked += u64::from(vault.execute_cleanup(plan, "test", false).unwrap().repacked > 0);
            assert_eq!(damage(&vault), [""; 0], "round {round}");
            assert_eq!(files(&vault, &last), expected, "round {round}");
        }
        assert_eq!(repacked, 3);
        scene.clean_up(200);
        assert!(named.iter().any(|id| !scene.packs().contains(id)));
        let vault = scene.open();
        assert_eq!(damage(&vault), [""; 0]);
        assert_eq!(files(&vault, &last), expected);
        assert_eq!(vault.complete_snapshots().unwrap(), BTreeSet::from([last]));
    }
}

fn copy(from: &dyn Store, to: &dyn Store, wanted: impl Fn(&str) -> bool) {
    for object in from.list("").unwrap().into_iter().filter(|l| wanted(l.name.as_str())) {
        let mut upload = to.begin().unwrap();
        upload.write(&from.read(&object.name, 1 << 30).unwrap()).unwrap();
        upload.publish(&object.name).unwrap();
    }
}

#[test]
fn an_archive_with_the_old_packs_needs_none_of_the_new_ones() {
    let scene = Scene::new(true);
    let archive = MemoryStore::new("archive");
    copy(&scene.memory, &archive, |_| true);
    let in_archive = packs(&archive);
    scene.clean_up(2);
    let moved = scene.open().moved("2091").unwrap();
    let new: Vec<PackId> = scene.packs().difference(&in_archive).copied().collect();
    assert!(!new.is_empty());
    assert!(new.iter().all(|id| moved.needless(id, &|id| in_archive.contains(id))));
    // A snapshot made after the repack names the new packs; the archive gets all but these.
    let vault = scene.open();
    let (committed, _) = scene.bench.backup(&vault, scene.root.path(), &noise(1000 + 50, 300_000), 3).unwrap();
    copy(&scene.memory, &archive, |name| !new.iter().any(|id| name.contains(&id.to_hex())));
    let store: Arc<dyn Store> = Arc::new(archive.clone());
    let archive_vault = scene.bench.open(&store).unwrap();
    assert!(archive_vault.complete_snapshots().unwrap().contains(&committed.stored.id));
    assert_eq!(damage(&archive_vault), [""; 0]);
    assert_eq!(files(&archive_vault, &committed.stored.id), files(&vault, &committed.stored.id));
    // Once an old pack is gone from the archive, the new one no longer goes without saying.
    let origin = committed.stored.snapshot.packs.iter().find(|id| new.contains(id)).unwrap();
    for id in &in_archive {
        archive.remove(&layout::pack("2091", id)).unwrap();
    }
    assert!(!moved.needless(origin, &|id| packs(&archive).contains(id)));
    assert!(archive_vault.complete_snapshots().unwrap().is_empty());
}

#[test]
fn a_snapshot_made_meanwhile_keeps_the_packs_that_it_names() {
    let scene = Scene::new(true);
    let vault = scene.open();
    let plan = vault.plan_cleanup(&only_newest(&vault), now(2), &prune_options()).unwrap();
    assert!(!plan.repack.is_empty());
    let new = scene.backup(3).unwrap();
    let report = vault.execute_cleanup(plan, "test", false).unwrap();
    assert_eq!(report.repacked, 0, "{report:?}");
    assert!(report.notes.iter().any(|n| n.contains("another snapshot needs them")), "{:?}", report.notes);
    assert_eq!(damage(&scene.open()), [""; 0]);
    scene.clean_up(30);
    scene.clean_up(60);
    assert_eq!(ids(&scene.open()), [new]);
    assert_eq!(damage(&scene.open()), [""; 0]);
}

#[test]
fn a_damaged_record_of_moved_packs_stops_every_deletion() {
    let scene = Scene::new(true);
    scene.clean_up(2);
    let record = scene.memory.list("epochs/2091/moved").unwrap().remove(0).name;
    assert!(scene.memory.damage(&record, |bytes| bytes[5] ^= 1));
    let before = scene.packs();
    let report = scene.clean_up(30);
    assert!(report.notes.iter().any(|n| n.contains(record.as_str())), "{:?}", report.notes);
    assert_eq!((report.packs, report.marked), (0, 0));
    assert_eq!(scene.packs(), before);
    assert!(damage(&scene.open()).iter().any(|d| d.contains(record.as_str())));
}

#[test]
fn a_lost_new_pack_brings_the_old_ones_back() {
    let scene = Scene::new(true);
    let old = scene.packs();
    scene.clean_up(2);
    let newest = ids(&scene.open());
    for id in scene.packs().difference(&old) {
        scene.memory.remove(&layout::pack("2091", id)).unwrap();
    }
    scene.clean_up(30);
    assert_eq!(damage(&scene.open()), [""; 0]);
    assert_eq!(ids(&scene.open()), newest);
}

#[test]
fn what_comes_under_a_hold_after_the_plan_stays() {
    let scene = Scene::new(true);
    let vault = scene.open();
    let oldest = ids(&vault)[0];
    let plan = vault.plan_cleanup(&only_newest(&vault), now(2), &prune_options()).unwrap();
    let hold =
        |scope| Hold { id: String::new(), created: now(2), by: "jan".to_owned(), reason: "audit".to_owned(), scope, automatic: false };
    let placed = vault.add_hold(hold(HoldScope::Snapshots { ids: vec![oldest] }), "test").unwrap();
    let report = vault.execute_cleanup(plan, "test", false).unwrap();
    assert_eq!((report.snapshots, report.repacked), (0, 0), "{report:?}");
    // A plan made under the hold does not even name it.
    let plan = vault.plan_cleanup(&only_newest(&vault), now(3), &prune_options()).unwrap();
    assert!(plan.remove.is_empty());
    scene.clean_up(30);
    assert_eq!(ids(&scene.open()).len(), 2);
    assert_eq!(damage(&scene.open()), [""; 0]);
    let release = Release { hold: placed.hold.id, at: now(31), by: "jan".to_owned(), reason: "over".to_owned() };
    vault.release_hold(release, "test").unwrap();
    assert_eq!(scene.clean_up(32).snapshots, 1);
}

#[test]
fn a_clean_up_leaves_a_running_backup_alone() {
    let scene = Scene::new(true);
    let (vault, before) = (scene.open(), scene.memory.list("").unwrap());
    let lease = scene.memory.lease("run on host", false).unwrap();
    let report = clean_up(&vault, 2).unwrap();
    assert!(report.left.as_deref().is_some_and(|left| left.contains("run on host")), "{report:?}");
    assert_eq!(scene.memory.list("").unwrap(), before);
    drop(lease);
    assert_eq!(clean_up(&vault, 2).unwrap().left, None);
}

type Hook = Box<dyn FnOnce() + Send>;

/// Calls something before its n-th call, and need not remove anything.
struct HookStore {
    inner: MemoryStore,
    removes: bool,
    calls: AtomicU64,
    hook: Mutex<Option<(u64, Hook)>>,
}

impl HookStore {
    fn new(inner: MemoryStore, hook: Option<(u64, Hook)>) -> Self {
        Self { inner, removes: true, calls: AtomicU64::new(0), hook: Mutex::new(hook) }
    }

    fn call(&self) -> &MemoryStore {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let due = self.hook.lock().unwrap().take_if(|(at, _)| *at == number);
        if let Some((_, hook)) = due {
            hook();
        }
        &self.inner
    }
}

impl Store for HookStore {
    fn describe(&self) -> String {
        "the test's store".to_owned()
    }
    fn promises(&self) -> Promises {
        Promises { removes: self.removes, ..Promises::ALL }
    }
    fn as_dyn(&self) -> &dyn Store {
        self
    }
    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        self.call().begin()
    }
    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        self.call().size(name)
    }
    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        self.call().read(name, max)
    }
    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.call().read_range(name, offset, buf)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.call().list(folder)
    }
    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.call().folders(folder)
    }
    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.call().remove(name)
    }
    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.call().remove_stale_uploads(older_than)
    }
    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        self.call().lease(holder, force)
    }
    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.call().free_bytes()
    }
}

/// A restore and a backup between any two calls of a clean-up: both find everything whole, and so do all after them.
#[test]
fn a_restore_and_a_backup_at_any_moment_of_a_clean_up_find_everything_whole() {
    let scene = Arc::new(Scene::new(true));
    let (oldest, newest) = (ids(&scene.open())[0], *ids(&scene.open()).last().unwrap());
    let expected = Arc::new(files(&scene.open(), &newest));
    let run = |hook: Option<(u64, MemoryStore, Arc<Mutex<Option<bool>>>)>, base: MemoryStore| {
        let hook = hook.map(|(at, inner, outcome)| {
            let (scene, expected) = (Arc::clone(&scene), Arc::clone(&expected));
            let act: Hook = Box::new(move || {
                let store: Arc<dyn Store> = Arc::new(inner);
                let vault = scene.bench.open(&store).unwrap();
                assert_eq!(files(&vault, &newest), *expected, "call {at}");
                let backup = match scene.backup_to(&vault, 3) {
                    Ok(_) => true,
                    Err(VaultError::Locked { .. }) => false,
                    Err(other) => panic!("call {at}: {other}"),
                };
                *outcome.lock().unwrap() = Some(backup);
            });
            (at, act)
        });
        let store = Arc::new(HookStore::new(base, hook));
        let dynamic: Arc<dyn Store> = Arc::<HookStore>::clone(&store);
        let vault = scene.bench.open(&dynamic).unwrap();
        // The oldest goes, whatever comes in between.
        let going = [Verdict { id: oldest, keep: false, reason: "older than 1d".to_owned() }];
        let plan = vault.plan_cleanup(&going, now(2), &prune_options()).unwrap();
        vault.execute_cleanup(plan, "test", false).unwrap();
        store.calls.load(Ordering::SeqCst)
    };
    let calls = run(None, scene.memory.after_power_cut(false));
    let (mut backed_up, mut locked) = (0, 0);
    for at in 0..calls {
        let (base, outcome) = (scene.memory.after_power_cut(false), Arc::default());
        run(Some((at, base.clone(), Arc::clone(&outcome))), base.clone());
        let store: Arc<dyn Store> = Arc::new(base);
        let vault = scene.bench.open(&store).unwrap();
        let made = outcome.lock().unwrap().take();
        backed_up += u32::from(made == Some(true));
        locked += u32::from(made == Some(false));
        assert_eq!(damage(&vault), [""; 0], "call {at}");
        assert_eq!(files(&vault, &newest), *expected, "call {at}");
        // A day later what was marked goes; every snapshot of the first time is kept now.
        let all: Vec<Verdict> = Vec::new();
        for hour in [40, 80] {
            let plan = vault.plan_cleanup(&all, now(hour), &prune_options()).unwrap();
            vault.execute_cleanup(plan, "test", false).unwrap();
            assert_eq!(damage(&vault), [""; 0], "call {at}, hour {hour}");
        }
        assert_eq!(files(&vault, &newest), *expected, "call {at}");
        assert!(ids(&vault).contains(&newest));
    }
    assert!(backed_up > 20 && locked > 10, "{backed_up} backups, {locked} turned away");
}

/// A snapshot in each of two years, and the newest one.
fn archive(encryption: bool) -> (Scene, Vec<SnapshotId>) {
    let scene = Scene::new(encryption);
    for hour in [8000, 8001, 17000] {
        scene.backup(hour).unwrap();
    }
    let ids = ids(&scene.open());
    (scene, ids)
}

fn verdicts(all: &[SnapshotId], gone: &[SnapshotId]) -> Vec<Verdict> {
    all.iter().map(|id| Verdict { id: *id, keep: !gone.contains(id), reason: "past its term".to_owned() }).collect()
}

#[test]
fn an_epoch_past_its_term_goes_as_a_folder_and_its_key_stays() {
    for encryption in [true, false] {
        let (scene, all) = archive(encryption);
        let keys = scene.memory.list("keys").unwrap();
        let plan = scene.open().plan_expiry(&verdicts(&all, &all[..3]), now(17001)).unwrap();
        assert_eq!(plan.remove.len(), 3);
        assert_eq!(plan.epochs.iter().map(|e| (e.epoch.as_str(), e.snapshots)).collect::<Vec<_>>(), [("2091", 2)]);
        assert!(plan.bytes > 600_000, "{plan:?}");
        let report = scene.open().execute_expiry(plan, "archive expire").unwrap();
        assert_eq!((report.snapshots, report.epochs.as_slice()), (3, ["2091".to_owned()].as_slice()));
        assert_eq!(scene.memory.list("epochs/2091").unwrap(), []);
        assert_eq!(scene.memory.list("keys").unwrap(), keys);
        assert_eq!(ids(&scene.open()), all[3..]);
        assert_eq!(damage(&scene.open()), [""; 0]);
        // The packs of the one that went from 2092 follow after the grace.
        let before = packs(&scene.memory).len();
        let plan = scene.open().plan_expiry(&verdicts(&all[3..], &[]), now(17050)).unwrap();
        assert!(!plan.rest.delete.is_empty());
        scene.open().execute_expiry(plan, "archive expire").unwrap();
        assert!(packs(&scene.memory).len() < before);
        assert_eq!(damage(&scene.open()), [""; 0]);
    }
}

#[test]
fn a_hold_a_new_snapshot_or_a_store_that_removes_nothing_stop_an_expiry() {
    let (scene, all) = archive(true);
    let going = verdicts(&all, &all[..2]);
    let vault = scene.open();
    let hold =
        |scope| Hold { id: String::new(), created: now(2), by: "jan".to_owned(), reason: "audit".to_owned(), scope, automatic: false };
    let before = |scene: &Scene| scene.memory.list("epochs").unwrap();
    let there = before(&scene);
    // Placed after the plan was made.
    let plan = vault.plan_expiry(&going, now(17001)).unwrap();
    let placed = vault.add_hold(hold(HoldScope::Epoch { epoch: "2091".to_owned() }), "test").unwrap();
    let report = vault.execute_expiry(plan, "expire").unwrap();
    assert!(report.epochs.is_empty() && report.notes[0].contains("audit"), "{report:?}");
    assert_eq!(before(&scene), there);
    // Standing when it is made.
    let plan = vault.plan_expiry(&going, now(17001)).unwrap();
    assert!(plan.remove.is_empty() && plan.epochs.is_empty());
    let release = Release { hold: placed.hold.id, at: now(3), by: "jan".to_owned(), reason: "over".to_owned() };
    vault.release_hold(release, "test").unwrap();
    // One snapshot of the epoch held: the other goes, the epoch stays.
    let placed = vault.add_hold(hold(HoldScope::Snapshots { ids: vec![all[1]] }), "test").unwrap();
    let plan = vault.plan_expiry(&going, now(17001)).unwrap();
    assert_eq!((plan.remove.len(), plan.epochs.len()), (1, 0));
    let release = Release { hold: placed.hold.id, at: now(4), by: "jan".to_owned(), reason: "over".to_owned() };
    vault.release_hold(release, "test").unwrap();
    // A snapshot that came in between.
    let plan = vault.plan_expiry(&going, now(17001)).unwrap();
    scene.backup(5).unwrap();
    let report = vault.execute_expiry(plan, "expire").unwrap();
    assert!(report.epochs.is_empty() && report.notes[0].contains("is new"), "{report:?}");
    assert_eq!(ids(&vault).len(), 6);
    // A store that removes nothing.
    let locked: Arc<dyn Store> = Arc::new(HookStore { removes: false, ..HookStore::new(scene.memory.clone(), None) });
    let vault = scene.bench.open(&locked).unwrap();
    let Err(error) = vault.plan_expiry(&going, now(17001)) else { panic!("planned") };
    assert!(matches!(&error, VaultError::CannotRemove { place } if place == "the test's store"), "{error}");
    let plan = scene.open().plan_expiry(&going, now(17001)).unwrap();
    assert!(matches!(vault.execute_expiry(plan, "expire"), Err(VaultError::CannotRemove { .. })));
    assert_eq!(damage(&scene.open()), [""; 0]);
}

#[test]
fn packs_that_wait_for_their_snapshots_are_not_taken_for_expired() {
    let (scene, all) = archive(true);
    for object in scene.memory.list("epochs/2091/snapshots").unwrap() {
        scene.memory.remove(&object.name).unwrap();
    }
    let plan = scene.open().plan_expiry(&verdicts(&all[2..], &[]), now(17001)).unwrap();
    assert!(plan.epochs.is_empty() && plan.rest.mark.is_empty(), "{plan:?}");
}

#[test]
fn an_expiry_stopped_at_any_call_keeps_the_others_whole_and_is_taken_up_again() {
    let (scene, all) = archive(true);
    let expire = |store: Arc<dyn Store>| -> Result<(), VaultError> {
        let vault = scene.bench.open(&store)?;
        let there = vault.snapshots()?.snapshots;
        let there: Vec<SnapshotId> = there.iter().map(|s| s.id).collect();
        let plan = vault.plan_expiry(&verdicts(&there, &all[..2]), now(17001))?;
        vault.execute_expiry(plan, "expire").map(drop)
    };
    let clean = Arc::new(FaultStore::new(scene.memory.after_power_cut(false), FaultPlan::none()));
    expire(Arc::<FaultStore<MemoryStore>>::clone(&clean)).unwrap();
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for call in 0..clean.calls() {
            let broken = Arc::new(FaultStore::new(scene.memory.after_power_cut(false), FaultPlan::at(call, fault)));
            assert!(expire(Arc::<FaultStore<MemoryStore>>::clone(&broken)).is_err() || !broken.has_crashed());
            let left = broken.inner().after_power_cut(false);
            let store: Arc<dyn Store> = Arc::new(left.clone());
            let vault = scene.bench.open(&store).unwrap();
            assert!(all[2..].iter().all(|id| ids(&vault).contains(id)));
            assert_eq!(vault.complete_among(&all[2..].iter().copied().collect()).unwrap().len(), 3, "{fault:?} at call {call}");
            expire(store).unwrap();
            assert_eq!(left.list("epochs/2091").unwrap(), [], "{fault:?} at call {call}");
        }
    }
}
