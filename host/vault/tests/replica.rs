//! Replicas: what a copy asks of the store, what it remembers, and what it finds out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::holds::{Hold, HoldScope};
use havun_vault::{
    MovedRecord, NoProgress, OnLost, Progress, ReplicateOptions, ReplicationReport, Selection, Vault, VaultError, VerifyOptions,
    audit_replica, replica_lag, replicate,
    store::{FaultPlan, FaultStore, Lease, Listed, MemoryStore, ObjectName, Operation, Promises, Store, StoreError, Upload},
};
use kit::{Bench, Weak, noise, replicate_options};
use sha2::Digest as _;
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Barrier, Mutex},
    time::Duration,
};

/// A vault with two snapshots, and the state folder of its replicas.
struct Scene {
    bench: Bench,
    source: MemoryStore,
    vault: Vault,
    root: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (bench, source) = (Bench::new(true), MemoryStore::new("source"));
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store: Arc<dyn Store> = Arc::new(source.clone());
        bench.create(&store).unwrap();
        let vault = bench.open(&store).unwrap();
        let scene = Self { bench, source, vault, root, state };
        scene.run(0);
        scene.run(1);
        scene
    }

    /// A backup of something new.
    fn run(&self, hour: i64) {
        fs::write(self.root.path().join(format!("file {hour}")), noise(hour as u64, 30_000)).unwrap();
        self.bench.backup(&self.vault, self.root.path(), &noise(100 + hour as u64, 80_000), hour).unwrap();
    }

    /// A backup in which nothing changed.
    fn idle_run(&self, of: i64, hour: i64) {
        self.bench.backup(&self.vault, self.root.path(), &noise(100 + of as u64, 80_000), hour).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.state.path().join("replicas/far")
    }

    fn options(&self) -> ReplicateOptions {
        replicate_options(Some(&self.folder()))
    }

    fn copy(&self, to: &Arc<dyn Store>) -> ReplicationReport {
        replicate(&self.vault, to, &self.options(), &NoProgress).unwrap()
    }

    fn full_copy(&self, to: &Arc<dyn Store>) -> ReplicationReport {
        replicate(&self.vault, to, &ReplicateOptions { full: true, ..self.options() }, &NoProgress).unwrap()
    }

    fn vault_id(&self) -> &str {
        &self.vault.info().vault_id
    }

    /// Nothing is damaged at the replica, and it has as many snapshots as it should.
    fn assert_whole(&self, store: &Arc<dyn Store>, snapshots: usize) {
        let replica = self.bench.open(store).unwrap();
        let report = replica.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 1 }, &NoProgress).unwrap();
        assert_eq!(report.damage, []);
        assert_eq!(replica.snapshots().unwrap().snapshots.len(), snapshots);
    }
}

fn replica() -> (MemoryStore, Arc<dyn Store>) {
    let store = MemoryStore::new("replica");
    (store.clone(), Arc::new(store))
}

fn names(store: &dyn Store, part: &str) -> Vec<ObjectName> {
    store.list("").unwrap().into_iter().map(|l| l.name).filter(|n| n.as_str().contains(part)).collect()
}

#[test]
fn a_run_in_which_nothing_changed_takes_few_calls_and_lists_nothing() {
    let scene = Scene::new();
    let far = Arc::new(FaultStore::new(MemoryStore::new("replica"), FaultPlan::none()));
    let store: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&far);
    let first = scene.copy(&store);
    assert!(first.listed && first.objects > 8, "{first:?}");
    scene.idle_run(1, 2);
    far.reset(FaultPlan::none());
    let report = scene.copy(&store);
    assert_eq!((report.objects, report.listed, report.pending_objects, report.unsettled), (1, false, 0, 0), "{:?}", far.log());
    assert!(far.calls() <= 8, "{:?}", far.log());
    assert!(!far.log().iter().any(|c| matches!(c.operation, Operation::List | Operation::Folders)), "{:?}", far.log());
    scene.assert_whole(&store, 3);
    far.reset(FaultPlan::none());
    assert_eq!(scene.copy(&store).objects, 0);
    assert_eq!(far.calls(), 2, "the description and the lease: {:?}", far.log());
}

#[test]
fn what_may_not_survive_a_power_cut_is_looked_at_once_more_and_no_further() {
    let scene = Scene::new();
    let far = Arc::new(FaultStore::new(MemoryStore::new("replica"), FaultPlan::none()));
    let store: Arc<dyn Store> = Arc::new(Weak(Arc::clone(&far)));
    let first = scene.copy(&store);
    assert_eq!(first.unsettled, first.objects);
    assert_eq!(first.notes.len(), 1);
    assert_eq!(scene.copy(&store).unsettled, 0);
    for hour in [2, 3] {
        scene.idle_run(1, hour);
        far.reset(FaultPlan::none());
        let report = scene.copy(&store);
        assert_eq!((report.objects, report.listed, report.unsettled), (1, false, 1));
        let asked = far.log().iter().filter(|c| matches!(c.operation, Operation::Size | Operation::Read)).count();
        // Hour 2: the description is read. Hour 3: the last snapshot is looked at. Then what `put` asks.
        assert_eq!(asked, 2, "{:?}", far.log());
        assert!(far.calls() <= 8, "{:?}", far.log());
        assert!(!far.log().iter().any(|c| matches!(c.operation, Operation::List | Operation::Folders)));
    }
    scene.assert_whole(&store, 4);
}

#[test]
fn a_catalogue_that_is_lost_damaged_or_about_another_place_is_made_anew() {
    let scene = Scene::new();
    let (_, store) = replica();
    scene.copy(&store);
    let file = fs::read_dir(scene.folder()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    let spoil: [&dyn Fn(); 3] = [&|| fs::remove_file(&file).unwrap(), &|| fs::write(&file, &whole[..40]).unwrap(), &|| {
        fs::write(&file, [&whole[..], b"s 12 some/object 00000000\n"].concat()).unwrap()
    }];
    for spoil in spoil {
        spoil();
        let report = scene.copy(&store);
        assert_eq!((report.listed, report.objects), (true, 0));
        assert_eq!(report.vanished, Vec::<String>::new());
        assert!(!scene.copy(&store).listed);
        let sorted = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&fs::read(&file).unwrap()), sorted(&whole));
    }
    let elsewhere: Arc<dyn Store> = Arc::new(MemoryStore::new("another disk"));
    let report = scene.copy(&elsewhere);
    assert!(report.listed && report.objects > 8, "a store that was moved is not believed to hold what the old one held");
    scene.assert_whole(&elsewhere, 2);
    assert!(scene.copy(&store).listed);
}

#[test]
fn what_vanished_behind_our_back_is_found_by_an_audit_and_by_a_full_copy() {
    let scene = Scene::new();
    let (far, store) = replica();
    scene.copy(&store);
    let (pack, snapshot) = (names(&far, "/packs/")[0].clone(), names(&far, "/snapshots/")[0].clone());
    let (index, stray) = (names(&far, "/index/")[0].clone(), names(&far, "/snapshots/")[1].clone());
    for name in [&pack, &snapshot] {
        far.remove(name).unwrap();
    }
    far.damage(&index, |bytes| bytes.truncate(10));
    let audit = audit_replica(&scene.folder(), scene.vault_id(), &*store).unwrap();
    let mut missing: Vec<String> = audit.missing.iter().map(|(name, _)| name.clone()).collect();
    missing.sort();
    let mut gone = vec![pack.as_str().to_owned(), snapshot.as_str().to_owned()];
    gone.sort();
    assert_eq!(missing, gone);
    assert_eq!(audit.wrong_size.len(), 1);
    assert!(audit.known && !audit.is_whole() && audit.unknown == 0);
    assert_eq!(scene.copy(&store).objects, 0, "the catalogue is believed until somebody looks");
    let report = scene.full_copy(&store);
    assert_eq!((report.vanished.clone(), report.objects, report.listed), (gone, 2, true));
    assert_eq!(report.lost, Vec::<String>::new());
    assert_eq!(report.wrong, vec![index.as_str().to_owned()], "what was cut is left for a repair, and said");
    far.remove(&index).unwrap();
    // What the source has lost as well is said to be lost.
    scene.source.remove(&stray).unwrap();
    far.remove(&stray).unwrap();
    let report = scene.full_copy(&store);
    assert_eq!(report.lost, vec![stray.as_str().to_owned()]);
    assert!(audit_replica(&scene.folder(), scene.vault_id(), &*store).unwrap().is_whole());
    scene.assert_whole(&store, 1);
}

#[test]
fn a_loss_is_told_before_the_catalogue_forgets_it() {
    let scene = Scene::new();
    for (full, unsettled) in [(true, false), (false, true)] {
        let (far, store) = replica();
        let store: Arc<dyn Store> =
            if unsettled { Arc::new(Weak(Arc::new(FaultStore::new(far.clone(), FaultPlan::none())))) } else { store };
        scene.run(10 + i64::from(!full));
        scene.copy(&store);
        let stray = names(&scene.source, "/snapshots/")[0].clone();
        scene.source.remove(&stray).unwrap();
        far.remove(&stray).unwrap();
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let options = |fails: bool| {
            let told = Arc::clone(&told);
            let on_lost = OnLost(Arc::new(move |lost: &[(String, u64)]| {
                told.lock().unwrap().extend(lost.iter().map(|(name, _)| name.clone()));
                if fails { Err(VaultError::Cancelled) } else { Ok(()) }
            }));
            ReplicateOptions { full, on_lost: Some(on_lost), ..scene.options() }
        };
        let missed = || {
            let audit = audit_replica(&scene.folder(), scene.vault_id(), &*store).unwrap();
            audit.missing.len() + audit.undone.len()
        };
        replicate(&scene.vault, &store, &options(true), &NoProgress).unwrap_err();
        assert_eq!(missed(), 1, "a loss that nobody keeps in mind stays in the catalogue");
        let report = replicate(&scene.vault, &store, &options(false), &NoProgress).unwrap();
        assert_eq!(report.lost, vec![stray.as_str().to_owned()]);
        assert_eq!(*told.lock().unwrap(), vec![stray.as_str().to_owned(); 2]);
        assert_eq!(missed(), 0);
    }
}

#[test]
fn damage_of_one_year_of_the_catalogue_forgets_that_year_only_and_is_said() {
    let (scene, far, store) = three_years();
    let all = epochs(&far);
    let snapshot = |epoch: &str| names(&far, &format!("{epoch}/snapshots/"))[0].clone();
    let gone = snapshot(&all[1]);
    for store in [&far, &scene.source] {
        store.remove(&gone).unwrap();
    }
    let head = scene.folder().join(format!("{}.objects", scene.vault_id()));
    let whole: Vec<(PathBuf, Vec<u8>)> =
        fs::read_dir(scene.folder()).unwrap().map(|e| e.unwrap().path()).map(|p| (p.clone(), fs::read(p).unwrap())).collect();
    for (spoiled, named) in [(part(&scene, &all[2]), all[2].as_str()), (part(&scene, &all[0]), all[0].as_str()), (head, "keys")] {
        whole.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        fs::write(&spoiled, "damaged").unwrap();
        let audit = audit_replica(&scene.folder(), scene.vault_id(), &*store).unwrap();
        assert!(audit.known && audit.forgotten.len() == 1 && audit.forgotten[0].starts_with(named), "{audit:?}");
        assert_eq!(audit.missing.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [gone.as_str()]);
        let report = scene.full_copy(&store);
        assert_eq!(report.lost, [gone.as_str()], "{named}");
        assert!(report.notes.iter().any(|note| note.contains("memory") && note.contains(named)), "{report:?}");
        let audit = audit_replica(&scene.folder(), scene.vault_id(), &*store).unwrap();
        assert!(audit.is_whole() && audit.forgotten.is_empty(), "{audit:?}");
    }
    fs::remove_dir_all(scene.folder()).unwrap();
    let audit = audit_replica(&scene.folder(), scene.vault_id(), &*store).unwrap();
    assert!(!audit.known && audit.forgotten.is_empty());
}

#[test]
fn a_snapshot_that_a_clean_up_takes_away_during_a_copy_is_not_waited_for() {
    let now = jiff::Timestamp::from_second(year(20 * 366 * 24)).unwrap();
    // The old one that the replica lacks, and the one beside it, which is asked what it needs.
    for (promised, doomed) in [(true, 0), (false, 1)] {
        let (scene, far, store) = three_years();
        let all = names(&scene.source, "/snapshots/");
        let (lacking, doomed, lost) = (&all[0], all[doomed].clone(), &all[2]);
        far.remove(lacking).unwrap();
        far.remove(lost).unwrap();
        scene.source.remove(lost).unwrap();
        // It is told after the source was listed and before anything is planned.
        let source = scene.source.clone();
        let on_lost = OnLost(Arc::new(move |_: &[(String, u64)]| {
            source.remove(&doomed).unwrap();
            Ok(())
        }));
        let selection = Selection::new("1y".parse().unwrap(), jiff::tz::TimeZone::UTC, now, 1, promised);
        let options = ReplicateOptions { full: true, selection: Some(selection), on_lost: Some(on_lost), ..scene.options() };
        let report = replicate(&scene.vault, &store, &options, &NoProgress).unwrap();
        assert_eq!((report.objects, report.lost.len(), report.held_back.len()), (0, 1, 0), "{report:?}");
    }
}

#[test]
fn a_source_that_was_thinned_out_leaves_the_replica_as_it_is() {
    let scene = Scene::new();
    let (far, store) = replica();
    scene.copy(&store);
    let before = far.list("").unwrap();
    let old = names(&scene.source, "/snapshots/")[0].clone();
    let only_old = names(&scene.source, "/packs/")[0].clone();
    scene.source.remove(&old).unwrap();
    scene.source.remove(&only_old).unwrap();
    let report = scene.copy(&store);
    assert_eq!((report.objects, report.held_back.len(), report.vanished.len()), (0, 0, 0));
    assert!(scene.full_copy(&store).vanished.is_empty());
    assert_eq!(far.list("").unwrap(), before);
    scene.assert_whole(&store, 2);
    // A snapshot whose pack is at the replica and no longer at the source follows it.
    let newest = names(&far, "/snapshots/")[1].clone();
    far.remove(&newest).unwrap();
    for pack in names(&scene.source, "/packs/") {
        scene.source.remove(&pack).unwrap();
    }
    let report = scene.full_copy(&store);
    assert_eq!((report.held_back.len(), report.objects), (0, 1), "{report:?}");
    scene.assert_whole(&store, 2);
}

#[test]
fn a_damaged_pack_holds_its_snapshots_back_and_nothing_else() {
    for cut in [true, false] {
        let scene = Scene::new();
        let (_, store) = replica();
        scene.copy(&store);
        let known = names(&scene.source, "/packs/");
        scene.run(2);
        let new: Vec<_> = names(&scene.source, "/packs/").into_iter().filter(|n| !known.contains(n)).collect();
        scene.source.damage(&new[0], |bytes| if cut { bytes.truncate(bytes.len() / 2) } else { bytes[50] ^= 1 });
        let report = scene.copy(&store);
        assert_eq!((report.held_back.len(), report.unreadable.len()), (1, 1), "cut {cut}: {report:?}");
        assert_eq!(report.unreadable[0].0, new[0].as_str());
        assert!(report.held_back[0].1.contains("is damaged in memory source"), "{:?}", report.held_back);
        assert!(report.objects >= 1 && report.pending_objects == 2, "{report:?}");
        scene.assert_whole(&store, 2);
        let lag = replica_lag(&scene.vault, &scene.folder(), None).unwrap();
        assert_eq!((lag.objects, lag.snapshots, lag.known), (2, 1, true));
    }
}

#[test]
fn a_pack_that_lies_at_the_replica_with_other_bytes_is_left_and_holds_its_snapshots_back() {
    let scene = Scene::new();
    let (far, store) = replica();
    let pack = names(&scene.source, "/packs/")[0].clone();
    let mut upload = far.begin().unwrap();
    upload.write(b"something else").unwrap();
    upload.publish(&pack).unwrap();
    let report = scene.copy(&store);
    assert_eq!(report.wrong, vec![pack.as_str().to_owned()]);
    assert!(!report.held_back.is_empty());
    assert_eq!(far.read(&pack, 100).unwrap(), b"something else");
    far.remove(&pack).unwrap();
    assert!(scene.full_copy(&store).held_back.is_empty());
    scene.assert_whole(&store, 2);
}

#[test]
fn the_lag_is_what_the_catalogue_lacks_and_the_replica_is_not_asked() {
    let scene = Scene::new();
    let everything = replica_lag(&scene.vault, &scene.folder(), None).unwrap();
    assert_eq!((everything.known, everything.snapshots), (false, 2));
    let (_, store) = replica();
    scene.copy(&store);
    let none = replica_lag(&scene.vault, &scene.folder(), None).unwrap();
    assert_eq!((none.known, none.objects, none.bytes, none.oldest), (true, 0, 0, None));
    scene.run(2);
    scene.run(3);
    let lag = replica_lag(&scene.vault, &scene.folder(), None).unwrap();
    assert_eq!((lag.snapshots, lag.oldest), (2, Some(kit::now(2))));
    assert!(lag.objects >= 6 && lag.bytes > 200_000, "{lag:?}");
}

#[test]
fn packs_whose_chunks_the_replica_has_in_others_are_not_sent() {
    let scene = Scene::new();
    let (far, store) = replica();
    scene.copy(&store);
    let old = names(&scene.source, "/packs/");
    scene.run(2);
    let new: Vec<_> = names(&scene.source, "/packs/").into_iter().filter(|n| !old.contains(n)).collect();
    let ids = |names: &[ObjectName]| names.iter().map(|n| n.file_name().parse().unwrap()).collect();
    let record = MovedRecord { to: ids(&new), from: ids(&old), snapshots: vec![] };
    let bytes = serde_json::to_vec(&record).unwrap();
    let hash: [u8; 32] = sha2::Sha256::digest(&bytes).into();
    let epoch = new[0].as_str().split('/').nth(1).unwrap();
    let name = ObjectName::new(format!("epochs/{epoch}/moved/{}", hex::encode(hash))).unwrap();
    scene.source.put(&name, &bytes.as_slice(), &hash).unwrap();
    let lag = replica_lag(&scene.vault, &scene.folder(), None).unwrap();
    assert_eq!((lag.objects, lag.snapshots), (3, 1), "the record, an index object and a snapshot");
    let report = scene.copy(&store);
    assert_eq!((report.objects, report.held_back.len(), report.pending_objects), (3, 0, 0), "{report:?}");
    assert!(new.iter().all(|pack| far.size(pack).unwrap().is_none()));
    assert_eq!(replica_lag(&scene.vault, &scene.folder(), None).unwrap().objects, 0);
    // Once one of the old packs is gone from the replica, the new ones are of use.
    far.remove(&old[0]).unwrap();
    scene.source.remove(&old[0]).unwrap();
    scene.full_copy(&store);
    assert!(new.iter().all(|pack| far.size(pack).unwrap().is_some()));
}

/// Stops everything at the first byte of a certain object size.
struct Stop(havun_model::Cancel, std::sync::atomic::AtomicU64);

impl Progress for Stop {
    fn advance(&self, stage: &str, _files: u64, _bytes: u64) {
        assert_eq!(stage, "replicate");
        if self.1.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1 {
            self.0.cancel();
        }
    }
}

#[test]
fn a_copy_that_is_stopped_says_what_it_did_and_the_next_one_sends_only_the_rest() {
    for after in 1..12 {
        let scene = Scene::new();
        let (far, store) = replica();
        let options = scene.options();
        let stop = Stop(options.cancel.clone(), after.into());
        let error = replicate(&scene.vault, &store, &options, &stop).unwrap_err();
        assert!(matches!(error.source, VaultError::Cancelled), "{error:?}");
        let done = error.report.objects;
        assert_eq!(far.list("").unwrap().len() as u64, done);
        assert!(error.report.pending_objects > 0);
        let described = far.size(&ObjectName::new("vault.json").unwrap()).unwrap().is_some();
        let rest = scene.copy(&store);
        assert_eq!(done + rest.objects, scene.source.list("").unwrap().len() as u64, "after {after}");
        assert_eq!(rest.listed, !described, "what was copied is in the catalogue; without its description it is no replica yet");
        scene.assert_whole(&store, 2);
    }
}

#[test]
fn another_vault_is_left_alone_and_two_replicas_do_not_know_each_other() {
    let (scene, other) = (Scene::new(), Scene::new());
    let (near, far) = (replica().1, replica().1);
    other.copy(&far);
    let error = replicate(&scene.vault, &far, &scene.options(), &NoProgress).unwrap_err();
    assert!(matches!(error.source, VaultError::OtherVault { .. }));
    other.assert_whole(&far, 2);
    scene.copy(&near);
    let apart = tempfile::tempdir().unwrap();
    let third = replica().1;
    let report = replicate(&scene.vault, &third, &replicate_options(Some(apart.path())), &NoProgress).unwrap();
    assert!(report.objects > 8);
    scene.assert_whole(&third, 2);
    assert_eq!(scene.copy(&near).objects, 0);
    // The folder of a store that now holds another vault is not written to, whatever the catalogue says.
    for object in far.list("").unwrap() {
        near.remove(&object.name).unwrap();
    }
    for object in near.list("").unwrap() {
        near.remove(&object.name).unwrap();
    }
    other.copy(&near);
    let error = replicate(&scene.vault, &near, &scene.options(), &NoProgress).unwrap_err();
    assert!(matches!(error.source, VaultError::OtherVault { .. }));
}

#[test]
fn a_catalogue_that_cannot_be_kept_costs_a_listing_and_no_more() {
    let scene = Scene::new();
    let (_, store) = replica();
    fs::write(scene.state.path().join("replicas"), b"a file where the folder should be").unwrap();
    for objects in [true, false] {
        let report = scene.copy(&store);
        assert_eq!((report.objects > 0, report.listed), (objects, true));
        assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    }
    scene.assert_whole(&store, 2);
}

fn year(hours: i64) -> i64 {
    kit::now(0).as_second() + hours * 3600
}

/// A vault of three years, with a snapshot in each; the replica has all of it.
fn three_years() -> (Scene, MemoryStore, Arc<dyn Store>) {
    let scene = Scene::new();
    scene.run(370 * 24);
    scene.run(740 * 24);
    let (far, store) = replica();
    scene.copy(&store);
    (scene, far, store)
}

fn part(scene: &Scene, epoch: &str) -> PathBuf {
    scene.folder().join(format!("{}.{epoch}.objects", scene.vault_id()))
}

fn epochs(store: &dyn Store) -> Vec<String> {
    store.folders("epochs").unwrap()
}

#[test]
fn a_copy_does_not_read_what_it_knows_of_years_that_are_done() {
    let (scene, far, store) = three_years();
    let all = epochs(&far);
    assert_eq!(all.len(), 3);
    let whole = fs::read(part(&scene, &all[0])).unwrap();
    for old in &all[..2] {
        fs::write(part(&scene, old), "nobody reads this").unwrap();
    }
    scene.run(741 * 24);
    let report = scene.copy(&store);
    assert!(report.objects > 3 && !report.listed, "{report:?}");
    assert_eq!(replica_lag(&scene.vault, &scene.folder(), None).unwrap().objects, 0);
    // A change of an old year at the source is looked at, and then the damage shows: the replica is listed.
    scene.source.remove(&names(&scene.source, &format!("{}/snapshots/", all[0]))[0]).unwrap();
    let report = scene.copy(&store);
    assert_eq!((report.objects, report.listed), (0, true));
    assert_ne!(fs::read(part(&scene, &all[0])).unwrap(), b"nobody reads this");
    assert!(whole.len() > 100);
    scene.assert_whole(&store, 5);
}

#[test]
fn what_was_expired_at_a_replica_does_not_come_back_from_a_source_that_keeps_it() {
    let (scene, far, store) = three_years();
    let all = epochs(&far);
    let expire = |epoch: &str| far.list(&format!("epochs/{epoch}")).unwrap().iter().for_each(|l| far.remove(&l.name).unwrap());
    expire(&all[0]);
    fs::remove_dir_all(scene.folder()).unwrap();
    // The promise of each snapshot is what the kit gives it; the clock stands far behind all of them.
    let now = jiff::Timestamp::from_second(year(20 * 366 * 24)).unwrap();
    let selection = Selection::new("1y".parse().unwrap(), jiff::tz::TimeZone::UTC, now, 1, true);
    let options = ReplicateOptions { selection: Some(selection.clone()), ..scene.options() };
    for _ in 0..2 {
        let report = replicate(&scene.vault, &store, &options, &NoProgress).unwrap();
        assert_eq!((report.objects, report.pending_objects, report.held_back.len()), (0, 0, 0), "{report:?}");
        assert_eq!(replica_lag(&scene.vault, &scene.folder(), Some(&selection)).unwrap().snapshots, 0);
    }
    assert_eq!(epochs(&far), all[1..]);
    // What is held goes there all the same, and so does everything where nobody set a term.
    let list = scene.vault.snapshots().unwrap().snapshots;
    let scope = HoldScope::Snapshots { ids: vec![list[0].id] };
    let hold =
        Hold { id: String::new(), created: kit::now(1), by: "test".to_owned(), reason: "a lawsuit".to_owned(), scope, automatic: false };
    scene.vault.add_hold(hold, "test").unwrap();
    let options = ReplicateOptions {
        selection: Some(Selection::new("1y".parse().unwrap(), jiff::tz::TimeZone::UTC, now, 1, true)),
        ..scene.options()
    };
    replicate(&scene.vault, &store, &options, &NoProgress).unwrap();
    let snapshots = names(&far, "/snapshots/");
    assert_eq!(snapshots.len(), 3, "the held one, and the two that were never expired");
    scene.assert_whole(&store, 3);
    scene.copy(&store);
    scene.assert_whole(&store, 4);
}

#[test]
fn a_store_that_is_filled_gets_what_is_young_and_the_newest() {
    let (scene, _, _) = three_years();
    let now = jiff::Timestamp::from_second(year(741 * 24)).unwrap();
    for (term, floor, expected) in [("30d", 1, 1), ("30d", 2, 2), ("400d", 1, 2), ("9y", 1, 4)] {
        let (near, store) = replica();
        let selection = Selection::new(term.parse().unwrap(), jiff::tz::TimeZone::UTC, now, floor, false);
        let options = ReplicateOptions { selection: Some(selection), ..replicate_options(None) };
        replicate(&scene.vault, &store, &options, &NoProgress).unwrap();
        assert_eq!(names(&near, "/snapshots/").len(), expected, "{term} {floor}");
        scene.assert_whole(&store, expected);
    }
}

/// Lets index objects be asked for only in groups: a copy that sends them one by one never ends.
struct Together {
    inner: MemoryStore,
    barrier: Barrier,
}

impl Store for Together {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn promises(&self) -> Promises {
        self.inner.promises()
    }
    fn as_dyn(&self) -> &dyn Store {
        self
    }
    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        self.inner.begin()
    }
    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        if name.as_str().contains("/index/") {
            self.barrier.wait();
        }
        self.inner.size(name)
    }
    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        self.inner.read(name, max)
    }
    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_range(name, offset, buf)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder)
    }
    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.inner.folders(folder)
    }
    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.remove(name)
    }
    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.inner.remove_stale_uploads(older_than)
    }
    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        self.inner.lease(holder, force)
    }
    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes()
    }
}

#[test]
fn objects_go_in_parallel() {
    let scene = Scene::new();
    scene.run(2);
    scene.run(3);
    assert_eq!(names(&scene.source, "/index/").len(), 4);
    let inner = MemoryStore::new("replica");
    let store: Arc<dyn Store> = Arc::new(Together { inner: inner.clone(), barrier: Barrier::new(4) });
    replicate(&scene.vault, &store, &ReplicateOptions { threads: 4, ..scene.options() }, &NoProgress).unwrap();
    scene.assert_whole(&(Arc::new(inner) as Arc<dyn Store>), 4);
}

/// A store at which somebody else has just ended a copy when the lease is asked for.
struct JustBefore {
    inner: MemoryStore,
    copy: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Store for JustBefore {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn promises(&self) -> Promises {
        self.inner.promises()
    }
    fn as_dyn(&self) -> &dyn Store {
        self
    }
    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        self.inner.begin()
    }
    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        self.inner.size(name)
    }
    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        self.inner.read(name, max)
    }
    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_range(name, offset, buf)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder)
    }
    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.inner.folders(folder)
    }
    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.remove(name)
    }
    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.inner.remove_stale_uploads(older_than)
    }
    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        let copy = self.copy.lock().unwrap().take();
        copy.into_iter().for_each(|copy| copy());
        self.inner.lease(holder, force)
    }
    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes()
    }
}

/// What is remembered is read when the lease is held: what another copy has written down until then is known, and stays.
#[test]
fn a_copy_that_waited_for_another_knows_what_that_one_did() {
    let scene = Arc::new(Scene::new());
    let inner = MemoryStore::new("replica");
    let plain: Arc<dyn Store> = Arc::new(inner.clone());
    scene.copy(&plain);
    scene.run(2);
    let other = (Arc::clone(&scene), Arc::clone(&plain));
    let copy = Mutex::new(Some(Box::new(move || assert!(other.0.copy(&other.1).objects > 0)) as Box<dyn FnOnce() + Send>));
    let waited: Arc<dyn Store> = Arc::new(JustBefore { inner, copy });
    let report = scene.copy(&waited);
    assert_eq!((report.objects, report.pending_objects, report.listed), (0, 0, false), "{report:?}");
    let audit = audit_replica(&scene.folder(), scene.vault_id(), &*plain).unwrap();
    assert!(audit.is_whole() && audit.unknown == 0, "{audit:?}");
    scene.assert_whole(&plain, 3);
}
