//! Scrub and repair: every kind of object, flipped, cut off or deleted, is found and brought back byte for byte; what
//! nobody has whole is stored anew by the next run; and a repair that is stopped anywhere loses nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{Cancel, StoreName};
use havun_vault::{
    Damage, NoProgress, RepairOptions, RepairOutcome, RepairReport, ScrubOptions, ScrubReport, Vault, VaultError, VerifyOptions, par2,
    repair, repair_store, scrub, scrub_status,
    store::{Fault, FaultPlan, FaultStore, Listed, LocalRoot, MemoryStore, ObjectName, Store},
};
use kit::{Bench, a_day_later, contents, make_tree, noise, now};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// The second dump.
fn dump() -> Vec<u8> {
    a_day_later(&noise(7, 400_000), 1)
}

type Objects = BTreeMap<String, Vec<u8>>;

/// A vault with two snapshots in one store and the same bytes in another. The second dump is a delta of the first.
struct Scene {
    bench: Bench,
    root: tempfile::TempDir,
    hot: Arc<dyn Store>,
    archive: Arc<dyn Store>,
    folder: tempfile::TempDir,
    objects: Objects,
}

impl Scene {
    fn new(hot: Arc<dyn Store>, archive: Arc<dyn Store>) -> Self {
        let (bench, root, folder) = (Bench::new(true), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make_tree(root.path());
        bench.create(&hot).unwrap();
        let vault = bench.open(&hot).unwrap();
        bench.backup(&vault, root.path(), &noise(7, 400_000), 0).unwrap();
        std::fs::write(root.path().join("a.txt"), "changed").unwrap();
        let (second, _) = bench.backup(&vault, root.path(), &dump(), 1).unwrap();
        assert!(second.stats.chunks_delta > 0);
        let mark = br#"{"marked_at":"2026-11-23T00:00:00Z","packs":[]}"#;
        put(&*hot, &format!("epochs/2091/marks/{}", sha(mark)), mark);
        put(&*hot, "audit/checkpoint.json", b"{\"signed\":true}");
        let scene = Self { bench, root, objects: objects(&*hot), hot, archive, folder };
        for (name, bytes) in &scene.objects {
            put(&*scene.archive, name, bytes);
        }
        scene
    }

    /// The first snapshot leaves waste behind when it goes.
    fn wasteful() -> Self {
        let (bench, root, folder) = (Bench::new(true), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hot: Arc<dyn Store> = Arc::new(MemoryStore::new("hot"));
        let archive: Arc<dyn Store> = Arc::new(MemoryStore::new("archive"));
        bench.create(&hot).unwrap();
        let vault = bench.open(&hot).unwrap();
        for n in 0..20 {
            std::fs::write(root.path().join(n.to_string()), noise(n, 5000)).unwrap();
        }
        for hour in 0..2 {
            std::fs::write(root.path().join("3"), noise(500 + hour, 6000)).unwrap();
            bench.backup(&vault, root.path(), &noise(1000 + hour * 50, 300_000), hour as i64).unwrap();
        }
        copied(&*hot, &*archive);
        Self { bench, root, objects: objects(&*hot), hot, archive, folder }
    }

    fn memory() -> Self {
        Self::new(Arc::new(MemoryStore::new("hot")), Arc::new(MemoryStore::new("archive")))
    }

    fn state(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("state").join(name)
    }

    fn options(&self, name: &str) -> ScrubOptions {
        ScrubOptions {
            state: self.state(name),
            budget_bytes: None,
            read: false,
            expected: self.listing(),
            structure: true,
            threads: 2,
            now: now(10),
            cancel: Cancel::default(),
        }
    }

    fn listing(&self) -> Vec<Listed> {
        self.objects.iter().map(|(name, bytes)| Listed { name: ObjectName::new(name.clone()).unwrap(), size: bytes.len() as u64 }).collect()
    }

    fn mending(&self, name: &str) -> RepairOptions {
        RepairOptions {
            objects: vec![],
            state: Some(self.state(name)),
            check: false,
            expected: vec![],
            parity_percent: 10,
            identities: vec![],
            spool: self.folder.path().join("spool"),
            threads: 2,
            now: now(11),
            holder: "test".to_owned(),
            force_lease: false,
            cancel: Cancel::default(),
        }
    }

    /// Another replica's vault is what tells how to read a store whose own description may be damaged.
    fn replica(&self, store: &Arc<dyn Store>) -> Vault {
        let other = if Arc::ptr_eq(store, &self.hot) { &self.archive } else { &self.hot };
        self.bench.open(other).unwrap().replica_in(Arc::clone(store))
    }

    fn scrub(&self, store: &Arc<dyn Store>, state: &str) -> ScrubReport {
        self.replica(store).scrub(&self.options(state), &NoProgress).unwrap()
    }

    /// One name of each kind of object.
    fn one_of_each(&self) -> Vec<String> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut packs = 0;
        for name in self.objects.keys() {
            let kind = name.split('/').take(3).collect::<Vec<_>>().join("/");
            let kind = match name.rsplit_once('.') {
                Some((_, ending)) if name.starts_with("keys/") => format!("keys {ending}"),
                // Data and manifest packs.
                _ if kind.ends_with("/packs") => {
                    packs += 1;
                    format!("pack {packs}")
                }
                _ => kind,
            };
            found.entry(kind).or_insert_with(|| name.clone());
        }
        let names: Vec<String> = found.into_values().collect();
        for kind in
            ["README.txt", "vault.json", "vault.sha256", ".age", ".sha256", "/packs/", "/index/", "/snapshots/", "/marks/", "audit/"]
        {
            assert!(names.iter().any(|name| name.contains(kind)), "{kind}");
        }
        names
    }
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn put(store: &dyn Store, text: &str, bytes: &[u8]) {
    let mut upload = store.begin().unwrap();
    upload.write(bytes).unwrap();
    upload.publish(&name(text)).unwrap();
}

fn objects(store: &dyn Store) -> Objects {
    let listed = store.list("").unwrap().into_iter().filter(|l| !l.name.is_beneath("quarantine"));
    listed.map(|l| (l.name.as_str().to_owned(), store.read(&l.name, 1 << 30).unwrap())).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Flip,
    Truncate,
    Delete,
}

fn harm(store: &dyn Store, text: &str, harm: Harm) -> Vec<u8> {
    let mut bytes = store.read(&name(text), 1 << 30).unwrap();
    store.remove(&name(text)).unwrap();
    match harm {
        Harm::Flip => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Harm::Truncate => bytes.truncate(bytes.len() / 2),
        Harm::Delete => return bytes,
    }
    put(store, text, &bytes);
    bytes
}

fn named(damage: &[Damage]) -> Vec<&str> {
    damage.iter().map(|d| d.object.as_str()).collect()
}

/// Damages one object of every kind in every way, in one of the two stores; finds it, mends it from the other.
fn every_kind(scene: &Scene, damaged: &Arc<dyn Store>, other: &Arc<dyn Store>) {
    for object in scene.one_of_each() {
        for way in [Harm::Flip, Harm::Truncate, Harm::Delete] {
            for seen_before in [true, false] {
                let what = format!("{object}, {way:?}, seen before: {seen_before}");
                let state = format!("{}-{way:?}-{seen_before}", object.replace('/', "_"));
                if seen_before {
                    assert_eq!(scene.scrub(damaged, &state).damage, [], "{what}");
                }
                let bytes = harm(&**damaged, &object, way);
                let report = scene.scrub(damaged, &state);
                // A file of which nothing is known but itself cannot be found to have changed in place.
                if seen_before || way != Harm::Flip || !object.starts_with("audit/") {
                    assert!(named(&report.damage).contains(&object.as_str()), "{what}: {:?}", report.damage);
                }
                if object.contains("/packs/") || object.contains("/snapshots/") && way != Harm::Delete {
                    let hit = &report.damage.iter().find(|d| d.object == object).unwrap().snapshots;
                    assert!(!hit.is_empty(), "{what}: says which snapshots it hits");
                }
                let source = scene.bench.open(other).unwrap();
                let mut options = scene.mending(&state);
                options.objects = vec![object.clone()];
                let mended = repair_store(damaged, &source, &[&source], &options, &NoProgress).unwrap();
                let row = mended.rows.iter().find(|row| row.object == object).unwrap();
                assert_eq!(row.outcome, RepairOutcome::Repaired { from: from_where(row, other) }, "{what}");
                assert_eq!(mended.left, 0, "{what}: {mended:?}");
                assert_eq!(row.kept.is_some(), way != Harm::Delete, "{what}");
                if let Some(kept) = &row.kept {
                    assert_eq!(damaged.read(&name(kept), 1 << 30).unwrap(), bytes, "{what}: the damaged bytes are kept");
                }
                assert_eq!(objects(&**damaged), scene.objects, "{what}: byte for byte");
                let again = scene.scrub(damaged, &state);
                assert_eq!(again.damage, [], "{what}");
            }
        }
    }
    let vault = scene.bench.open(damaged).unwrap();
    assert_eq!(vault.verify(&VerifyOptions { read_data: true, threads: 2, snapshot: None }, &NoProgress).unwrap().damage, []);
}

fn from_where(row: &havun_vault::RepairRow, other: &Arc<dyn Store>) -> String {
    match row.object.as_str() {
        "vault.sha256" => "README.txt and vault.json".to_owned(),
        _ => other.describe(),
    }
}

#[test]
fn every_kind_of_object_in_memory_is_found_and_comes_back() {
    let scene = Scene::memory();
    every_kind(&scene, &scene.archive, &scene.hot);
    every_kind(&scene, &scene.hot, &scene.archive);
}

#[test]
fn every_kind_of_object_in_a_folder_is_found_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = |text: &str| -> Arc<dyn Store> {
        let root = LocalRoot::create(&folder.path().join(text), &StoreName::new(text).unwrap()).unwrap();
        Arc::new(root.vault(&havun_model::ProjectName::new("sample").unwrap()))
    };
    let scene = Scene::new(store("hot"), store("archive"));
    every_kind(&scene, &scene.archive, &scene.hot);
}

#[test]
fn a_machine_without_a_key_finds_and_mends_what_it_can_name() {
    let scene = Scene::memory();
    let info = scene.bench.open(&scene.hot).unwrap().info().clone();
    for object in scene.one_of_each().iter().filter(|name| !name.starts_with("audit/")) {
        harm(&*scene.archive, object, Harm::Flip);
        let report = scrub(&scene.archive, &info, &ScrubOptions { structure: false, ..scene.options("keyless") }, &NoProgress).unwrap();
        assert!(named(&report.damage).contains(&object.as_str()), "{object}: {:?}", report.damage);
        let source = Vault::open_keyless(Arc::clone(&scene.hot)).unwrap();
        let mended = repair_store(&scene.archive, &source, &[&source], &scene.mending("keyless"), &NoProgress).unwrap();
        assert_eq!(mended.left, 0, "{mended:?}");
        assert_eq!(objects(&*scene.archive), scene.objects);
    }
}

#[test]
fn without_another_store_what_the_vault_can_say_itself_is_made_anew() {
    let scene = Scene::memory();
    let alone = |vault: &Vault, object: &str| -> RepairReport {
        let options = RepairOptions { objects: vec![object.to_owned()], ..scene.mending("alone") };
        repair(vault, &[], &options, &NoProgress).unwrap()
    };
    for object in scene.one_of_each() {
        let vault = scene.bench.open(&scene.hot).unwrap();
        harm(&*scene.hot, &object, Harm::Flip);
        let report = alone(&vault, &object);
        let outcome = &report.rows[0].outcome;
        let lost = matches!(outcome, RepairOutcome::Lost { .. });
        match object.as_str() {
            "README.txt" | "vault.json" | "vault.sha256" => {
                assert!(matches!(outcome, RepairOutcome::Repaired { .. }), "{object}: {outcome:?}");
                assert_eq!(scene.hot.read(&name(&object), 1 << 20).unwrap(), scene.objects[&object]);
            }
            _ if object.ends_with(".sha256") => assert!(matches!(outcome, RepairOutcome::Repaired { .. }), "{object}: {outcome:?}"),
            _ if object.contains("/index/") => {
                assert!(matches!(outcome, RepairOutcome::Repaired { .. }), "{object}: {outcome:?}");
                assert_eq!(vault.verify(&VerifyOptions::default(), &NoProgress).unwrap().damage, [], "another index lists the same packs");
            }
            _ if object.contains("/packs/") => assert!(matches!(outcome, RepairOutcome::Noted { .. }), "{object}: {outcome:?}"),
            _ if object.contains("/marks/") => assert_eq!(*outcome, RepairOutcome::Unneeded),
            _ => assert!(lost, "{object}: {outcome:?}"),
        }
        assert_eq!(report.rows.len(), 1);
        // Whole again for the next kind; a note of a bad pack goes with the repair of the pack.
        for (text, bytes) in &scene.objects {
            if scene.hot.read(&name(text), 1 << 30).ok().as_ref() != Some(bytes) {
                scene.hot.remove(&name(text)).unwrap();
                put(&*scene.hot, text, bytes);
            }
        }
        alone(&vault, &object);
        assert!(scene.hot.list("epochs/2091/bad").unwrap().is_empty(), "{object}");
    }
}

#[test]
fn what_nobody_has_whole_is_stored_anew_by_the_next_run_and_old_snapshots_read_it_there() {
    let scene = Scene::memory();
    let vault = scene.bench.open(&scene.hot).unwrap();
    let before: Vec<_> = vault.snapshots().unwrap().snapshots;
    let files = contents(&vault, &before[1].snapshot);
    let packs: Vec<String> = before[1].snapshot.packs.iter().map(|id| format!("epochs/2091/packs/{}/{id}", &id.to_hex()[..2])).collect();
    for (n, pack) in packs.iter().enumerate() {
        // Right size, wrong bytes, differently in both stores: nothing but reading tells.
        for (store, place) in [(&scene.hot, 5), (&scene.archive, 3)] {
            let mut bytes = store.read(&name(pack), 1 << 30).unwrap();
            let at = bytes.len() * place / 8;
            bytes[at..at + 40].fill(n as u8);
            store.remove(&name(pack)).unwrap();
            put(&**store, pack, &bytes);
        }
    }
    let report = vault.scrub(&scene.options("hot"), &NoProgress).unwrap();
    assert_eq!(named(&report.damage).len(), packs.len());
    // The sources hold the same packs damaged: without a key nothing can be combined.
    let source = Vault::open_keyless(Arc::clone(&scene.archive)).unwrap();
    let keyless = source.replica_in(Arc::clone(&scene.hot));
    let mended = repair(&keyless, &[&source], &scene.mending("hot"), &NoProgress).unwrap();
    assert_eq!((mended.repaired, mended.left), (0, packs.len() as u64));
    assert!(mended.rows.iter().all(|row| matches!(row.outcome, RepairOutcome::Noted { .. })), "{mended:?}");
    assert_eq!(scrub_status(&scene.state("hot"), &vault.info().vault_id).unwrap().damage.len(), packs.len(), "it still stands");

    let vault = scene.bench.open(&scene.hot).unwrap();
    let (next, _) = scene.bench.backup(&vault, scene.root.path(), &dump(), 2).unwrap();
    assert!(next.stats.chunks_new > 0);
    assert!(next.stored.snapshot.packs.iter().all(|id| !before[1].snapshot.packs.contains(id)), "the new snapshot needs none of them");
    assert_eq!(contents(&vault, &next.stored.snapshot), files);
    assert_eq!(contents(&vault, &before[1].snapshot), files, "the old one reads what the new run stored");
    let (third, _) = scene.bench.backup(&vault, scene.root.path(), &dump(), 3).unwrap();
    assert_eq!(third.stats.chunks_new, 0, "once is enough");
}

#[test]
fn ten_slices_read_everything_once() {
    let scene = Scene::memory();
    let info = scene.bench.open(&scene.hot).unwrap().info().clone();
    let total: u64 = scene.objects.values().map(|b| b.len() as u64).sum();
    let counted = Arc::new(FaultStore::new(MemoryStore::clone(&copy(&scene.objects)), FaultPlan::none()));
    let store: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&counted);
    let mut reads: BTreeMap<String, u64> = BTreeMap::new();
    let mut completed = 0;
    for day in 0..10 {
        counted.reset(FaultPlan::none());
        let budget =
            havun_vault::slice_budget(total, std::time::Duration::from_secs(864_000), Some(std::time::Duration::from_secs(86_400)));
        let options = ScrubOptions {
            budget_bytes: Some(budget),
            structure: false,
            now: now(24 * day),
            expected: vec![],
            threads: 1,
            ..scene.options("sliced")
        };
        let report = scrub(&store, &info, &options, &NoProgress).unwrap();
        let packs: std::collections::BTreeSet<String> =
            counted.log().into_iter().filter(|c| c.operation == havun_vault::store::Operation::ReadRange).map(|c| c.name).collect();
        if completed == 0 {
            packs.into_iter().for_each(|name| *reads.entry(name).or_default() += 1);
        }
        completed += u64::from(report.completed);
        assert_eq!(report.damage, []);
        assert_eq!(report.status.bytes, total);
        assert!(report.status.bytes_read > total * (day as u64 % 10) / 10 || completed > 0);
    }
    assert!(completed >= 1, "ten slices of a tenth end a round");
    let hashed = scene.objects.keys().filter(|name| name.contains("epochs/") || name.contains("audit/")).count();
    assert_eq!(reads.len(), hashed);
    assert!(reads.values().all(|n| *n == 1), "each was read once: {reads:?}");
    let status = scrub_status(&scene.state("sliced"), &info.vault_id).unwrap();
    assert_eq!(status.bytes_never_read, 0);
    assert!(status.oldest >= Some(now(0)) && status.completed.is_some());

    // A damaged state starts anew and harms nothing.
    let mut text = std::fs::read(scene.state("sliced")).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 1;
    std::fs::write(scene.state("sliced"), text).unwrap();
    assert!(scrub_status(&scene.state("sliced"), &info.vault_id).is_none());
    let options = ScrubOptions { budget_bytes: Some(1), structure: false, expected: vec![], ..scene.options("sliced") };
    let report = scrub(&store, &info, &options, &NoProgress).unwrap();
    assert_eq!((report.status.cycle, report.damage.len()), (1, 0));
}

fn copy(objects: &Objects) -> MemoryStore {
    let store = MemoryStore::new("copy");
    objects.iter().for_each(|(name, bytes)| put(&store, name, bytes));
    store
}

/// Every object that was whole in `before` is whole, or its bytes lie in the other store and the scrub state says so.
#[test]
fn a_repair_stopped_at_any_call_loses_nothing_that_was_whole() {
    let scene = Scene::memory();
    let source = scene.bench.open(&scene.hot).unwrap();
    let pack = scene.objects.keys().find(|name| name.contains("/packs/")).unwrap().clone();
    let snapshot = scene.objects.keys().find(|name| name.contains("/snapshots/")).unwrap().clone();
    let broken = copy(&scene.objects);
    let kept: Vec<Vec<u8>> = [&pack, &snapshot].map(|object| harm(&broken, object, Harm::Flip)).to_vec();
    let attempt = |plan: FaultPlan, state: &str| -> (Arc<FaultStore<MemoryStore>>, Result<RepairReport, VaultError>) {
        let faulty = Arc::new(FaultStore::new(broken.after_power_cut(false), plan));
        let store: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&faulty);
        let options = RepairOptions { check: true, ..scene.mending(state) };
        let outcome = repair(&source.replica_in(store), &[&source], &options, &NoProgress);
        (faulty, outcome)
    };
    let (clean, outcome) = attempt(FaultPlan::none(), "clean");
    assert_eq!(outcome.unwrap().repaired, 2);
    assert_eq!(objects(clean.inner()), scene.objects);
    for fault in [Fault::Crash, Fault::CrashAfter] {
        for call in 0..clean.calls() {
            let state = format!("{fault:?}-{call}");
            let (faulty, _) = attempt(FaultPlan::at(call, fault), &state);
            let left = faulty.inner().after_power_cut(false);
            let what = format!("{fault:?} at call {call} ({:?})", clean.log().get(call as usize));
            let there = objects(&left);
            for (text, bytes) in &scene.objects {
                let touched = *text == pack || *text == snapshot;
                assert!(touched || there.get(text) == Some(bytes), "{what}: {text}");
            }
            for (object, damaged) in [&pack, &snapshot].into_iter().zip(&kept) {
                let aside = format!("quarantine/{}-{}", object.replace('/', "_"), sha(damaged));
                let bytes = there.get(object).cloned().or_else(|| left.read(&name(&aside), 1 << 30).ok());
                assert!(bytes.is_some_and(|b| b == *damaged || b == scene.objects[object]), "{what}: {object} left nothing behind");
            }
            // The next repair finishes the work, from what the scrub state says and a check of its own.
            let store: Arc<dyn Store> = Arc::new(left.clone());
            let options = RepairOptions { check: true, ..scene.mending(&state) };
            repair(&source.replica_in(store), &[&source], &options, &NoProgress).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(objects(&left), scene.objects, "{what}");
        }
    }
}

#[test]
fn another_vault_is_no_source() {
    let (a, b) = (Scene::memory(), Scene::memory());
    let (vault, other) = (a.bench.open(&a.hot).unwrap(), b.bench.open(&b.hot).unwrap());
    let outcome = repair(&vault, &[&other], &a.mending("x"), &NoProgress);
    assert!(matches!(outcome, Err(VaultError::OtherVault { .. })));
    let _: &Path = a.root.path();
}

/// Both stores have the pack damaged, in different places; what is whole in each makes it whole again.
#[test]
fn two_damaged_copies_and_a_key_make_a_whole_pack() {
    let scene = Scene::memory();
    let vault = scene.bench.open(&scene.hot).unwrap();
    let source = scene.bench.open(&scene.archive).unwrap();
    let packs: Vec<&String> = scene.objects.iter().filter(|(n, b)| n.contains("/packs/") && b.len() > 200_000).map(|(n, _)| n).collect();
    assert!(!packs.is_empty());
    for pack in &packs {
        for (store, place) in [(&scene.hot, 5), (&scene.archive, 2)] {
            let mut bytes = store.read(&name(pack), 1 << 30).unwrap();
            let at = bytes.len() * place / 8;
            bytes[at..at + 40].fill(0);
            store.remove(&name(pack)).unwrap();
            put(&**store, pack, &bytes);
        }
    }
    let options = RepairOptions { check: true, ..scene.mending("combined") };
    let mended = repair(&vault, &[&source], &options, &NoProgress).unwrap();
    assert_eq!((mended.repaired, mended.left), (packs.len() as u64, 0), "{mended:?}");
    assert_eq!(objects(&*scene.hot), scene.objects);
}

#[test]
fn parity_mends_a_pack_alone_and_is_itself_mended_from_the_pack() {
    let scene = Scene::memory();
    let store = &*scene.archive;
    let options = par2::ParityOptions { percent: 10, threads: 2 };
    let packs = par2::packs_without_parity(store).unwrap();
    assert!(packs.len() >= 3);
    let report = par2::write_parity(&*scene.hot, store, &packs, &options, &NoProgress).unwrap();
    assert_eq!((report.objects, report.damaged.len()), (packs.len() as u64, 0));
    assert!(par2::packs_without_parity(store).unwrap().is_empty());
    let with_parity = objects(store);

    let source = scene.bench.open(&scene.hot).unwrap();
    let info = source.info().clone();
    let keyless = Vault::open_keyless(Arc::clone(&scene.archive)).unwrap();
    let slice = |state: &str| {
        let options = ScrubOptions { structure: false, expected: vec![], ..scene.options(state) };
        scrub(&scene.archive, &info, &options, &NoProgress).unwrap()
    };
    for pack in &packs {
        let sidecar = havun_vault::layout::parity_of(pack.as_str()).unwrap();
        for (object, way) in [(pack, Harm::Flip), (&sidecar, Harm::Flip), (&sidecar, Harm::Truncate)] {
            for seen_before in [false, true] {
                let state = format!("parity-{}-{way:?}-{seen_before}", object.as_str().replace('/', "_"));
                if seen_before {
                    assert_eq!(slice(&state).damage, []);
                }
                harm(store, object.as_str(), way);
                assert_eq!(named(&slice(&state).damage), [object.as_str()]);
                let mended = repair(&keyless, &[], &scene.mending(&state), &NoProgress).unwrap();
                assert_eq!((mended.repaired, mended.left), (1, 0), "{object}, {way:?}: {mended:?}");
                assert_eq!(objects(store), with_parity);
                assert_eq!(slice(&state).damage, []);
            }
        }
    }
    // With its pack gone, a PAR2 file goes too.
    store.remove(&packs[0]).unwrap();
    assert_eq!(par2::remove_orphaned_parity(&source.replica_in(Arc::clone(&scene.archive)), "test").unwrap(), 1);
    let missing = par2::write_parity(store, store, &packs, &options, &NoProgress).unwrap();
    assert_eq!(missing.damaged.len(), 1);
}

/// Everything of one store in another.
fn copied(from: &dyn Store, to: &dyn Store) {
    objects(from).iter().for_each(|(name, bytes)| put(to, name, bytes));
}

/// A clean-up that repacks.
fn keep_newest(vault: &Vault, hour: i64) {
    vault.execute_cleanup(plan_to_keep_newest(vault, hour), "test", false).unwrap();
}

fn plan_to_keep_newest(vault: &Vault, hour: i64) -> havun_vault::CleanupPlan {
    let all = vault.snapshots().unwrap().snapshots;
    let newest = all.last().unwrap().id;
    let verdict = |id| havun_model::retention::Verdict { id, keep: id == newest, reason: "old".to_owned() };
    let verdicts: Vec<_> = all.iter().map(|s| verdict(s.id)).collect();
    vault.plan_cleanup(&verdicts, now(hour), &kit::prune_options()).unwrap()
}

#[test]
fn a_cleanup_planned_before_a_repair_leaves_the_packs_that_it_brought_back() {
    let scene = Scene::wasteful();
    let hot = scene.bench.open(&scene.hot).unwrap();
    let before = objects(&*scene.hot);
    keep_newest(&hot, 2);
    let made: Vec<String> =
        objects(&*scene.hot).keys().filter(|name| name.contains("/packs/") && !before.contains_key(*name)).cloned().collect();
    let plan = plan_to_keep_newest(&hot, 40);
    assert!(!plan.delete.is_empty(), "the test tests nothing");
    made.iter().for_each(|pack| drop(harm(&*scene.hot, pack, Harm::Delete)));
    let report = repair(&hot, &[], &RepairOptions { objects: made, state: None, ..scene.mending("a") }, &NoProgress).unwrap();
    assert_eq!(report.left, 0, "the old ones still lie there: {report:?}");
    hot.execute_cleanup(plan, "test", false).unwrap();
    let damage = hot.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap().damage;
    assert_eq!(damage, []);
}

#[test]
fn old_packs_that_take_the_place_of_a_repacked_one_are_marked_no_more() {
    for how in [Harm::Delete, Harm::Flip] {
        let scene = Scene::wasteful();
        let hot = scene.bench.open(&scene.hot).unwrap();
        let before = objects(&*scene.hot);
        keep_newest(&hot, 2);
        let there = objects(&*scene.hot);
        let made: Vec<String> = there.keys().filter(|name| name.contains("/packs/") && !before.contains_key(*name)).cloned().collect();
        assert!(!made.is_empty() && there.keys().any(|name| name.contains("/marks/")), "the test tests nothing");
        made.iter().for_each(|pack| drop(harm(&*scene.hot, pack, how)));
        let report = repair(&hot, &[], &RepairOptions { objects: made, state: None, ..scene.mending("a") }, &NoProgress).unwrap();
        assert_eq!(report.left, 0, "the old ones still lie there: {report:?}");
        // The same tree and the same dump again: only the snapshot object is new.
        let (again, _) = scene.bench.backup(&hot, scene.root.path(), &noise(1050, 300_000), 12).unwrap();
        assert_eq!((again.stats.packs_new, again.stats.chunks_new), (0, 0));
        for hour in [40, 80] {
            keep_newest(&hot, hour);
            let damage = hot.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap().damage;
            assert_eq!(damage, [], "after {hour} hours");
        }
    }
}

#[test]
fn a_repacked_pack_is_mended_by_the_packs_that_it_was_made_of() {
    let scene = Scene::wasteful();
    let hot = scene.bench.open(&scene.hot).unwrap();
    let newest = hot.snapshots().unwrap().snapshots.last().unwrap().clone();
    let files = contents(&hot, &newest.snapshot);
    let before = objects(&*scene.hot);
    for hour in [2, 30] {
        keep_newest(&hot, hour);
    }
    let now_there = objects(&*scene.hot);
    let made: Vec<&String> = now_there.keys().filter(|name| name.contains("/packs/") && !before.contains_key(*name)).collect();
    let gone = before.keys().filter(|name| name.contains("/packs/") && !now_there.contains_key(*name)).count();
    assert!(!made.is_empty() && gone > 0, "the test tests nothing: {made:?} {gone}");
    for pack in &made {
        harm(&*scene.hot, pack, Harm::Flip);
    }
    let alone = repair(
        &hot,
        &[],
        &RepairOptions { objects: made.iter().map(|m| (*m).clone()).collect(), state: None, ..scene.mending("a") },
        &NoProgress,
    );
    assert_eq!(alone.unwrap().left, made.len() as u64, "without the archive they are noted");
    let archive = scene.bench.open(&scene.archive).unwrap();
    let report = repair(&hot, &[&archive], &RepairOptions { state: None, ..scene.mending("a") }, &NoProgress).unwrap();
    let told = |row: &havun_vault::RepairRow| matches!(&row.outcome, RepairOutcome::Repaired { from } if from.contains("was made of"));
    assert_eq!((report.repaired, report.left), (made.len() as u64, 0), "{report:?}");
    assert!(
        report.rows.iter().all(|row| told(row) && row.kept.is_some()),
        "what is noted as bad is mended without being named: {report:?}"
    );
    assert!(hot.bad_packs("2091").unwrap().is_empty(), "the note does not outlive its repair");
    let damage = hot.verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap().damage;
    assert_eq!(damage, []);
    assert_eq!(contents(&hot, &newest.snapshot), files);
    let structure = ScrubOptions { expected: vec![], ..scene.options("b") };
    assert_eq!(hot.scrub(&structure, &NoProgress).unwrap().damage, []);
}

#[test]
fn a_note_about_a_pack_that_is_whole_again_is_taken_back() {
    let scene = Scene::memory();
    let hot = scene.bench.open(&scene.hot).unwrap();
    let pack = scene.objects.keys().find(|name| name.contains("/packs/")).unwrap();
    harm(&*scene.hot, pack, Harm::Flip);
    let named = RepairOptions { objects: vec![pack.clone()], state: None, ..scene.mending("a") };
    assert_eq!(repair(&hot, &[], &named, &NoProgress).unwrap().left, 1);
    assert_eq!(hot.bad_packs("2091").unwrap().len(), 1);
    // Somebody brings it back by hand, or a repair was killed between the pack and the note.
    scene.hot.remove(&name(pack)).unwrap();
    put(&*scene.hot, pack, &scene.objects[pack]);
    let report = repair(&hot, &[], &RepairOptions { state: None, ..scene.mending("a") }, &NoProgress).unwrap();
    assert!(matches!(report.rows[..], [havun_vault::RepairRow { outcome: RepairOutcome::Whole, .. }]), "{report:?}");
    assert!(hot.bad_packs("2091").unwrap().is_empty());
}

#[test]
fn an_object_whose_reading_fails_is_noted_and_the_slice_goes_on() {
    let scene = Scene::memory();
    let sick = MemoryStore::new("sick");
    copied(&*scene.hot, &sick);
    let options = |state: &str| ScrubOptions { threads: 1, structure: false, read: true, ..scene.options(state) };
    let faulty = |plan: FaultPlan| {
        let store = Arc::new(FaultStore::new(sick.clone(), plan));
        let seen: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&store);
        (store, scene.bench.open(&seen))
    };
    let (store, vault) = faulty(FaultPlan::none());
    let info = vault.unwrap().info().clone();
    let seen: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&store);
    store.reset(FaultPlan::none());
    scrub(&seen, &info, &options("count"), &NoProgress).unwrap();
    let log = store.log();
    let at =
        log.iter().position(|call| call.operation == havun_vault::store::Operation::ReadRange && call.name.contains("/packs/")).unwrap();
    let object = log[at].name.clone();
    store.reset(FaultPlan::at(at as u64, Fault::Error));
    assert_eq!(scrub(&seen, &info, &options("once"), &NoProgress).unwrap().damage, [], "one failure is tried again");
    store.reset(FaultPlan::at(at as u64, Fault::Error).and(at as u64 + 1, Fault::Error));
    let report = scrub(&seen, &info, &options("twice"), &NoProgress).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert!(object.contains(&report.damage[0].object) && report.damage[0].what.starts_with("it cannot be read"), "{report:?}");
    assert!(report.completed, "everything else was read");
    store.reset(FaultPlan::from(at as u64, Fault::Error));
    assert!(scrub(&seen, &info, &options("away"), &NoProgress).is_err(), "a store that does not answer is away, not damaged");
    assert!(scrub_status(&scene.state("away"), &info.vault_id).unwrap().damage.is_empty());
}

#[test]
fn the_sum_of_a_key_that_was_wrapped_again_is_made_anew() {
    let scene = Scene::memory();
    let hot = scene.bench.open(&scene.hot).unwrap();
    let newcomer = havun_vault::keys::Identity::generate();
    hot.wrap_keys_for(&[newcomer.recipient()], "test").unwrap();
    let sum = objects(&*scene.hot).into_keys().find(|name| name.ends_with(".sha256") && name.contains('-')).unwrap();
    let bytes = scene.hot.read(&name(&sum), 1000).unwrap();
    let key = sum.replace(".sha256", ".age");
    // Only who it was wrapped for can say that it is whole, or a store with the same bytes.
    for (identities, elsewhere, mended) in [(vec![], false, false), (vec![newcomer.clone()], false, true), (vec![], true, true)] {
        if scene.hot.size(&name(&sum)).unwrap().is_some() {
            scene.hot.remove(&name(&sum)).unwrap();
        }
        if elsewhere {
            put(&*scene.archive, &key, &scene.hot.read(&name(&key), 10_000).unwrap());
        }
        let archive = scene.bench.open(&scene.archive).unwrap();
        let options = RepairOptions { check: true, identities, ..scene.mending("keys") };
        let report = repair(&hot, &[&archive], &options, &NoProgress).unwrap();
        assert_eq!(scene.hot.read(&name(&sum), 1000).is_ok_and(|made| made == bytes), mended, "{report:?}");
    }
}
