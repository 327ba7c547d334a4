//! Deltas of dumps: what they save, that they stay shallow, that a snapshot names all that it needs, what damage costs, and
//! that a clean-up follows the bases.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{Cancel, ChunkId, PackId, Snapshot, retention::Verdict};
use havun_vault::{
    Committed, NoProgress, RestoreRequest, StoredSnapshot, StreamProfile, Vault, VerifyOptions, layout,
    pack::{PackKind, PackReader, Toc},
    store::{MemoryStore, ObjectName, Store},
};
use kit::{Bench, a_day_later, contents, draft, noise, now, prune_options};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    sync::Arc,
};

const DAYS: usize = 14;

/// A vault of dumps and one small file.
struct Scene {
    bench: Bench,
    memory: MemoryStore,
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (bench, memory, root) = (Bench::new(false), MemoryStore::new("hot"), tempfile::tempdir().unwrap());
        let scene = Self { bench, memory, root };
        std::fs::write(scene.root.path().join("file"), "a file").unwrap();
        scene.bench.create(&scene.store()).unwrap();
        scene
    }

    /// So many daily dumps of noise, each an edited copy of the one before.
    fn of_days(days: usize) -> (Self, Vec<Vec<u8>>) {
        let scene = Self::new();
        let mut dumps = vec![noise(1, 900_000)];
        (1..days).for_each(|day| dumps.push(a_day_later(&dumps[day - 1], day)));
        for (day, dump) in dumps.iter().enumerate() {
            scene.backup(dump, day);
        }
        (scene, dumps)
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.memory.clone())
    }

    fn vault(&self) -> Vault {
        self.bench.open(&self.store()).unwrap()
    }

    fn backup(&self, dump: &[u8], day: usize) -> Committed {
        self.bench.backup(&self.vault(), self.root.path(), dump, 24 * day as i64).unwrap().0
    }

    fn snapshots(&self) -> Vec<StoredSnapshot> {
        self.vault().snapshots().unwrap().snapshots
    }

    fn packs(&self) -> BTreeMap<PackId, u64> {
        let listed = self.memory.list("epochs").unwrap().into_iter();
        let packs = listed.filter(|l| l.name.as_str().contains("/packs/"));
        packs.map(|l| (l.name.file_name().parse().unwrap(), l.size)).collect()
    }

    fn toc(&self, pack: &PackId) -> Toc {
        PackReader::open(&self.memory, &name(pack), None).unwrap().toc().unwrap()
    }

    fn stored(&self) -> u64 {
        self.memory.list("").unwrap().iter().map(|l| l.size).sum()
    }

    /// The dump of a snapshot, read back.
    fn dump(&self, snapshot: &Snapshot) -> Vec<u8> {
        contents(&self.vault(), snapshot).into_iter().find(|(path, _)| path.starts_with("databases")).unwrap().1
    }

    fn damage(&self) -> Vec<havun_vault::Damage> {
        self.vault().verify(&VerifyOptions { snapshot: None, read_data: true, threads: 2 }, &NoProgress).unwrap().damage
    }
}

fn name(pack: &PackId) -> ObjectName {
    layout::pack("2091", pack)
}

/// A table of salaries, in the order of its key.
struct Table {
    rows: Vec<(u32, u32)>,
    state: u64,
}

impl Table {
    fn new(rows: u32) -> Self {
        let mut table = Self { rows: Vec::new(), state: 7 };
        for n in 0..rows {
            let salary = 40_000 + table.random(60_000);
            table.rows.push((10_000 + n / 9, salary));
        }
        table
    }

    fn random(&mut self, below: u32) -> u32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) % u64::from(below)) as u32
    }

    /// A day's work on the rows from `from` on: one in `every` gets a rise; and a few rows are new.
    fn work(&mut self, from: usize, every: u32) {
        for at in from..self.rows.len() {
            if self.random(every) == 0 {
                self.rows[at].1 += 1 + self.random(500);
            }
        }
        let next = self.rows.last().map_or(0, |row| row.0) + 1;
        (0..60).for_each(|n| self.rows.push((next + n / 9, 40_000 + n)));
    }

    fn dump(&self) -> Vec<u8> {
        let mut text = String::from("CREATE TABLE `salaries` (emp_no int, salary int, from_date date, to_date date);\n");
        for (n, (person, salary)) in self.rows.iter().enumerate() {
            let (year, day) = (1985 + n % 9 * 2, person % 28 + 1);
            let start = if n % 20_000 == 0 { "INSERT INTO `salaries` VALUES\n" } else { "" };
            writeln!(text, "{start}({person},{salary},'{year}-07-{day:02}','{}-07-{day:02}'),", year + 1).unwrap();
        }
        text.into_bytes()
    }
}

/// Fourteen dumps of 20 MB: what they take beside the first, and that each comes back.
fn fourteen_days(work: impl Fn(&mut Table)) {
    let scene = Scene::new();
    let mut table = Table::new(500_000);
    let (mut first, mut hashes) = (0, Vec::new());
    for day in 0..DAYS {
        if day > 0 {
            work(&mut table);
        }
        let dump = table.dump();
        assert!(dump.len() > 19_000_000, "{}", dump.len());
        scene.backup(&dump, day);
        hashes.push(havun_vault::chunk::chunk_id(&dump));
        if day == 0 {
            first = scene.stored();
        }
    }
    assert!(first > 2_000_000, "the rows do not repeat: {first}");
    let all = scene.stored();
    assert!(all * 100 <= first * 135, "{all} bytes after {DAYS} days, {first} after the first");
    let vault = scene.vault();
    for (stored, hash) in vault.snapshots().unwrap().snapshots.iter().zip(hashes) {
        assert_eq!(havun_vault::chunk::chunk_id(&restored(&vault, &stored.snapshot)), hash);
    }
}

fn restored(vault: &Vault, snapshot: &Snapshot) -> Vec<u8> {
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
    let report = vault.restore(snapshot, &request, &NoProgress).unwrap();
    assert_eq!(report.failed, []);
    std::fs::read(target.path().join("databases/main.sql")).unwrap()
}

#[test]
fn fourteen_dumps_with_changes_everywhere_take_a_third_more_than_one() {
    fourteen_days(|table| table.work(0, 200));
}

#[test]
fn fourteen_dumps_with_changes_in_the_newest_rows_take_a_third_more_than_one() {
    fourteen_days(|table| table.work(table.rows.len() - table.rows.len() / 40, 5));
}

/// How many deltas away from a plain frame each chunk lies, by the packs' own tables.
fn depths(scene: &Scene) -> BTreeMap<ChunkId, usize> {
    let mut bases: BTreeMap<ChunkId, Vec<ChunkId>> = BTreeMap::new();
    let mut depths = BTreeMap::new();
    for pack in scene.packs().keys() {
        let toc = scene.toc(pack);
        assert!(toc.frames.iter().all(|frame| frame.bases.is_empty() == (toc.kind != PackKind::Delta)));
        for frame in toc.frames {
            for entry in frame.entries {
                match toc.kind {
                    PackKind::Delta => drop(bases.insert(entry.id, frame.bases.clone())),
                    PackKind::Data | PackKind::Manifest => drop(depths.insert(entry.id, 0)),
                }
            }
        }
    }
    while let Some(id) = bases.keys().find(|id| bases[*id].iter().all(|base| depths.contains_key(base))).copied() {
        let depth = bases.remove(&id).unwrap().iter().map(|base| depths[base]).max().unwrap();
        depths.insert(id, depth + 1);
    }
    assert!(bases.is_empty(), "every delta rests on chunks that are there");
    depths
}

#[test]
fn deltas_of_deltas_stay_shallow_however_many_days_there_are() {
    let (scene, dumps) = Scene::of_days(20);
    let deepest = *depths(&scene).values().max().unwrap();
    assert_eq!(deepest, 8);
    assert!(scene.stored() < 2_000_000, "the chain starts over from the first dump, not with a copy: {}", scene.stored());
    for (stored, dump) in scene.snapshots().iter().zip(&dumps) {
        assert!(scene.dump(&stored.snapshot) == *dump);
    }
}

#[test]
fn a_snapshot_names_every_pack_that_its_deltas_rest_on() {
    let (scene, dumps) = Scene::of_days(5);
    let last = scene.snapshots().pop().unwrap();
    for listed in scene.memory.list("epochs").unwrap() {
        let name = listed.name.as_str();
        let needed = name.contains("/snapshots/") || last.snapshot.packs.iter().any(|id| name.ends_with(&id.to_hex()));
        if !needed {
            scene.memory.remove(&listed.name).unwrap();
        }
    }
    assert!(scene.packs().keys().eq(&last.snapshot.packs), "it needs nothing that it does not name");
    assert!(scene.dump(&last.snapshot) == dumps[4], "with no index and no other pack");
}

#[test]
fn what_does_not_resemble_the_dump_before_is_stored_plainly() {
    let scene = Scene::new();
    scene.backup(&noise(1, 900_000), 0);
    let next = scene.backup(&noise(2, 900_000), 1);
    assert_eq!(next.stats.chunks_delta, 0);
    assert!(scene.packs().keys().all(|pack| scene.toc(pack).kind != PackKind::Delta));
}

#[test]
fn rows_that_come_in_the_middle_and_a_dump_that_grew_are_found_again() {
    let scene = Scene::new();
    let first = noise(1, 4_000_000);
    scene.backup(&first, 0);
    let mut second = a_day_later(&first, 1);
    second.splice(1_000_000..1_000_000, noise(3, 700_000));
    second.splice(300_000..300_000, noise(4, 9_000));
    second.extend(noise(5, 300_000));
    let before = scene.stored();
    let run = scene.backup(&second, 1);
    let added = scene.stored() - before;
    assert!(run.stats.chunks_delta >= 5, "{:?}", run.stats);
    assert!(added < 4_000_000, "{added} bytes for 1 MB that is new, and a few chunks to find the place again; without that it is 5 MB");
    assert!(scene.dump(&run.stored.snapshot) == second);
}

#[test]
fn another_epoch_begins_with_a_whole_dump() {
    let (scene, dumps) = Scene::of_days(2);
    let next = scene.backup(&a_day_later(&dumps[1], 2), 400);
    assert_eq!((next.stored.snapshot.epoch.as_str(), next.stats.chunks_delta), ("2092", 0));
}

#[test]
fn each_dump_has_its_own_past() {
    let scene = Scene::new();
    let (a, b) = (noise(1, 500_000), noise(2, 500_000));
    let run = |hour: i64, dumps: [(&str, &[u8]); 2]| {
        let vault = scene.vault();
        let mut session = vault.begin_backup(scene.bench.options(hour)).unwrap();
        for (path, dump) in dumps {
            session.add_stream(path, "main", 0o600, now(0), StreamProfile::Dump, |out| out.write_all(dump)).unwrap();
        }
        session.finish(draft(hour)).unwrap().stats
    };
    run(0, [("databases/a.sql", &a), ("databases/b.sql", &b)]);
    let later = run(1, [("databases/a.sql", &a_day_later(&a, 1)), ("databases/b.sql", &a_day_later(&b, 1))]);
    assert_eq!(later.chunks_delta, later.chunks_new);
    // One came and one went: what is left of the other is found all the same.
    let later = run(2, [("databases/aa.sql", &noise(3, 200_000)), ("databases/b.sql", &a_day_later(&b, 2))]);
    assert!(later.chunks_delta > 0 && later.chunks_delta < later.chunks_new, "{later:?}");
}

/// The pack of the first dump: the largest.
fn first_pack(scene: &Scene) -> PackId {
    *scene.packs().iter().max_by_key(|(_, size)| **size).unwrap().0
}

#[test]
fn damage_to_a_base_is_booked_to_its_pack_with_every_dump_that_it_costs() {
    for gone in [false, true] {
        let (scene, _) = Scene::of_days(4);
        let first = first_pack(&scene);
        if gone {
            scene.memory.remove(&name(&first)).unwrap();
        } else {
            assert!(scene.memory.damage(&name(&first), |bytes| bytes[300_000] ^= 1));
        }
        let damage = scene.damage();
        let named: Vec<&str> = damage.iter().map(|d| d.object.as_str()).collect();
        assert_eq!(named, [name(&first).as_str()], "not the packs of the deltas: {damage:?}");
        assert_eq!(damage[0].snapshots.len(), 4);
        assert!(damage[0].files.contains(&"databases/main.sql".to_owned()), "{damage:?}");
        let last = scene.snapshots().pop().unwrap();
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
        let report = scene.vault().restore(&last.snapshot, &request, &NoProgress).unwrap();
        let failed: Vec<&str> = report.failed.iter().map(|(path, _)| path.as_str()).collect();
        assert!(failed.contains(&"databases/main.sql"), "{failed:?}");
        let (_, why) = &report.failed[0];
        assert!(why.contains("needs a chunk of an earlier dump"), "{why}");
        assert!(gone || why.contains(&format!("{first} is damaged")), "{why}");
        assert!(!target.path().join("databases/main.sql").exists(), "nothing half-restored");
    }
}

#[test]
fn damage_to_one_delta_costs_the_dumps_that_rest_on_it_and_no_other() {
    let (scene, dumps) = Scene::of_days(4);
    let snapshots = scene.snapshots();
    let is_delta = |pack: &&PackId| scene.toc(pack).kind == PackKind::Delta;
    let of = |day: usize| snapshots[day].snapshot.packs.iter().filter(is_delta).copied().collect::<BTreeSet<_>>();
    let second = *of(2).difference(&of(1)).next().unwrap();
    assert!(scene.memory.damage(&name(&second), |bytes| bytes[20] ^= 4));
    let damage = scene.damage();
    assert_eq!(damage.len(), 1, "{damage:?}");
    let hit: BTreeSet<_> = damage[0].snapshots.iter().copied().collect();
    assert_eq!((damage[0].object.as_str(), hit), (name(&second).as_str(), BTreeSet::from([snapshots[2].id, snapshots[3].id])));
    for day in [0, 1] {
        assert!(scene.dump(&snapshots[day].snapshot) == dumps[day]);
    }
}

#[test]
fn a_run_after_a_base_was_lost_stores_anew_what_rested_on_it() {
    let (scene, dumps) = Scene::of_days(3);
    scene.memory.remove(&name(&first_pack(&scene))).unwrap();
    let run = scene.backup(&dumps[2], 3);
    assert!(run.stats.chunks_new > 0 && run.stats.chunks_delta == 0, "{:?}", run.stats);
    assert!(scene.dump(&run.stored.snapshot) == dumps[2]);
    let options = VerifyOptions { snapshot: Some(run.stored.id), read_data: true, threads: 1 };
    assert_eq!(scene.vault().verify(&options, &NoProgress).unwrap().damage, []);
    let old = scene.snapshots()[2].snapshot.clone();
    assert!(scene.dump(&old) == dumps[2], "an older snapshot of the same dump is whole again by it");
}

#[test]
fn clean_ups_keep_what_deltas_rest_on_and_free_the_rest() {
    let (scene, dumps) = Scene::of_days(13);
    let snapshots = scene.snapshots();
    let kept: Vec<_> = snapshots[11..].to_vec();
    let before = scene.packs();
    for hour in [400, 500, 600] {
        let vault = scene.vault();
        let verdicts = vault.snapshots().unwrap().snapshots.into_iter();
        let verdicts: Vec<Verdict> =
            verdicts.map(|s| Verdict { id: s.id, keep: kept.iter().any(|k| k.id == s.id), reason: "older".to_owned() }).collect();
        let plan = vault.plan_cleanup(&verdicts, now(hour), &prune_options()).unwrap();
        vault.execute_cleanup(plan, "test", false).unwrap();
        assert_eq!(scene.damage(), []);
        for (stored, dump) in kept.iter().zip(&dumps[11..]) {
            assert!(scene.dump(&stored.snapshot) == *dump, "after {hour} hours");
        }
    }
    let after = scene.packs();
    assert!(after.len() * 2 < before.len(), "packs of the chain's other days are gone: {} of {} are left", after.len(), before.len());
    let next = scene.backup(&a_day_later(&dumps[12], 13), 40);
    assert!(next.stats.chunks_delta > 0, "the next dump is a delta of what is left");
    assert!(scene.dump(&next.stored.snapshot) == a_day_later(&dumps[12], 13));
}

#[test]
fn nothing_is_repacked_while_a_pack_of_deltas_cannot_be_seen() {
    for cut in [false, true] {
        let (scene, dumps) = Scene::of_days(2);
        let last = scene.snapshots().pop().unwrap();
        let deltas = scene.packs().into_keys().find(|pack| scene.toc(pack).kind == PackKind::Delta).unwrap();
        let whole = scene.memory.read(&name(&deltas), 1 << 30).unwrap();
        match cut {
            true => assert!(scene.memory.damage(&name(&deltas), |bytes| bytes.truncate(100))),
            false => scene.memory.remove(&name(&deltas)).unwrap(),
        }
        let clean_up = |hour: i64| {
            let vault = scene.vault();
            let list = vault.snapshots().unwrap().snapshots;
            let verdicts: Vec<Verdict> =
                list.iter().map(|s| Verdict { id: s.id, keep: s.id == last.id, reason: "older".to_owned() }).collect();
            let plan = vault.plan_cleanup(&verdicts, now(hour), &prune_options()).unwrap();
            vault.execute_cleanup(plan, "test", false).unwrap()
        };
        for hour in [400, 500, 600] {
            let report = clean_up(hour);
            assert_eq!(report.repacked, 0, "{report:?}");
            assert!(report.notes.iter().any(|note| note.contains(&format!("not repacked: pack {deltas}"))), "{report:?}");
        }
        // Another store had it.
        if cut {
            scene.memory.remove(&name(&deltas)).unwrap();
        }
        let mut upload = scene.memory.begin().unwrap();
        upload.write(&whole).unwrap();
        upload.publish(&name(&deltas)).unwrap();
        assert!(scene.dump(&last.snapshot) == dumps[1], "what its deltas rest on is there");
        for hour in [700, 800, 900] {
            assert_eq!(clean_up(hour).notes, [""; 0]);
            assert!(scene.dump(&last.snapshot) == dumps[1], "after {hour} hours");
        }
    }
}

#[test]
fn deltas_in_a_wasteful_pack_move_as_they_are() {
    // Two dumps of which one goes on and one ends: half of each pack of deltas is waste then.
    let scene = Scene::new();
    let (a, b) = (noise(1, 500_000), noise(2, 500_000));
    let run = |day: usize, with_b: bool| {
        let later = |dump: &[u8]| (0..day).fold(dump.to_vec(), |dump, day| a_day_later(&dump, day));
        let vault = scene.vault();
        let mut session = vault.begin_backup(scene.bench.options(24 * day as i64)).unwrap();
        let mut add = |path: &str, dump: Vec<u8>| {
            session.add_stream(path, "main", 0o600, now(0), StreamProfile::Dump, |out| out.write_all(&dump)).unwrap();
        };
        add("databases/main.sql", later(&a));
        if with_b {
            add("databases/other.sql", later(&b));
        }
        (session.finish(draft(day as i64)).unwrap().stored, later(&a))
    };
    run(0, true);
    run(1, true);
    let (last, dump) = run(2, false);
    let mut repacked = 0;
    for hour in [400, 500, 600] {
        let vault = scene.vault();
        let verdicts = vault.snapshots().unwrap().snapshots.into_iter();
        let verdicts: Vec<Verdict> = verdicts.map(|s| Verdict { id: s.id, keep: s.id == last.id, reason: "older".to_owned() }).collect();
        let plan = vault.plan_cleanup(&verdicts, now(hour), &prune_options()).unwrap();
        let from: Vec<PackId> = plan.repack.clone();
        repacked += from.iter().filter(|pack| scene.toc(pack).kind == PackKind::Delta).count();
        vault.execute_cleanup(plan, "test", false).unwrap();
        assert_eq!(scene.damage(), []);
        assert!(scene.dump(&last.snapshot) == dump, "after {hour} hours");
    }
    assert!(repacked > 0, "a pack of deltas was repacked");
}

#[test]
fn a_pack_of_an_unknown_kind_is_named_and_the_others_are_read() {
    let (scene, dumps) = Scene::of_days(2);
    // A whole pack of kind 4, as a later version may write one.
    let any = first_pack(&scene);
    let mut bytes = scene.memory.read(&name(&any), 1 << 30).unwrap();
    let at = bytes.windows(8).rposition(|window| window == b"HBTOC1\0\0").unwrap();
    bytes[at + 8] = 4;
    let id: PackId = havun_vault::chunk::chunk_id(&bytes).to_hex().parse().unwrap();
    let mut upload = scene.memory.begin().unwrap();
    upload.write(&bytes).unwrap();
    upload.publish(&name(&id)).unwrap();
    let damage = scene.damage();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((damage[0].object.as_str(), damage[0].what.contains("unknown kind of pack 4")), (name(&id).as_str(), true), "{damage:?}");
    assert!(scene.dump(&scene.snapshots()[1].snapshot) == dumps[1]);
}
