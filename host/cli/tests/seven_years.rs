//! Seven years of daily backups in a few minutes, with a clock that the test sets.
//!
//! What holds after 2,557 runs: the archive has every snapshot of its term, a term that was shortened half-way takes nothing
//! back, the hot store stays small, any day restores exactly, and a run costs in the last year what it cost in the
//! first, counted in calls, objects listed and bytes read at the stores.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr, reason = "a test stops at the first surprise")]

use havun_model::{Cancel, SnapshotId, StoreName};
use havun_operations::{
    cleanup::{self, CleanupOptions},
    config::Config,
    context::{Context, SilentObserver},
    holds::{self, HoldWhat},
    list::{ListOptions, StoreListing, list},
    restore::{self, RestoreOptions},
    run::{RunOptions, RunOutcome, run},
    selection::SnapshotChoice,
};
use havun_plugin_runtime::{Limits, Runtime, RuntimeConfig};
use havun_vault::{
    keys::{Identity, write_private_file},
    store::{Lease, Listed, LocalRoot, ObjectName, Promises, Published, Source, Store, StoreError, Upload},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// 2026 to 2032: seven years, two of them leap years.
const DAYS: usize = 2557;
const FIRST: &str = "2026-01-01T02:00:00Z";
const FILES: usize = 20;
/// The archive's term is shortened in the configuration on this day.
const SHORTENED: usize = DAYS / 2;
const HOT_DAYS: usize = 30;
const CLEANUP_EVERY: usize = 7;

/// What was asked of the stores.
#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    listed: AtomicU64,
    read: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    calls: u64,
    listed: u64,
    read: u64,
    time: Duration,
}

impl Counts {
    fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    fn so_far(&self) -> Cost {
        Cost { calls: self.calls.load(Relaxed), listed: self.listed.load(Relaxed), read: self.read.load(Relaxed), time: Duration::ZERO }
    }
}

/// A store that counts.
struct Counted {
    inner: Arc<dyn Store>,
    counts: Arc<Counts>,
}

impl Store for Counted {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn put(&self, name: &ObjectName, source: &dyn Source, sha256: &[u8; 32]) -> Result<Published, StoreError> {
        self.counts.call();
        self.inner.put(name, source, sha256)
    }

    fn server_sha256(&self, names: &[ObjectName]) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        self.counts.call();
        self.inner.server_sha256(names)
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        self.counts.call();
        self.inner.begin()
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        self.counts.call();
        self.inner.size(name)
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        self.counts.call();
        let bytes = self.inner.read(name, max)?;
        self.counts.read.fetch_add(bytes.len() as u64, Relaxed);
        Ok(bytes)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.counts.call();
        self.counts.read.fetch_add(buf.len() as u64, Relaxed);
        self.inner.read_range(name, offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.counts.call();
        let listed = self.inner.list(folder)?;
        self.counts.listed.fetch_add(listed.len() as u64, Relaxed);
        Ok(listed)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.counts.call();
        self.inner.folders(folder)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.counts.call();
        self.inner.remove(name)
    }

    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.counts.call();
        self.inner.remove_stale_uploads(older_than)
    }

    fn lease(&self, holder: &str, force: bool) -> Result<Box<dyn Lease>, StoreError> {
        self.counts.call();
        self.inner.lease(holder, force)
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes()
    }
}

/// The project: small files of which a few change every day. What a file holds follows from its number and its version.
struct Project {
    root: PathBuf,
    versions: [u16; FILES],
    seed: u64,
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn name(file: usize) -> String {
    format!("folder{}/file{file}.txt", file % 3)
}

fn content(file: usize, version: u16) -> Vec<u8> {
    let mut seed = (file as u64 + 1) * 0x9e37_79b9 + u64::from(version);
    let words = (0..40 + file * 5).map(|_| format!("{:x} ", random(&mut seed)));
    words.collect::<String>().into_bytes()
}

impl Project {
    fn new(root: PathBuf) -> Self {
        for folder in 0..3 {
            fs::create_dir_all(root.join(format!("folder{folder}"))).unwrap();
        }
        let project = Self { root, versions: [0; FILES], seed: 0x5eed };
        (0..FILES).for_each(|file| project.write(file));
        project
    }

    fn write(&self, file: usize) {
        fs::write(self.root.join(name(file)), content(file, self.versions[file])).unwrap();
    }

    fn change(&mut self) {
        for _ in 0..2 {
            let file = (random(&mut self.seed) % FILES as u64) as usize;
            self.versions[file] += 1;
            self.write(file);
        }
    }
}

struct Machine {
    folder: tempfile::TempDir,
    clock: Arc<AtomicI64>,
    counts: Arc<Counts>,
}

impl Machine {
    /// In memory where there is such a folder: 2,557 runs wait for the disk a few hundred thousand times otherwise.
    fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("havun-seven-years-");
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { builder.tempdir_in(memory).or_else(|_| builder.tempdir()) } else { builder.tempdir() }.unwrap();
        let key = Identity::generate();
        write_private_file(&folder.path().join("service.agekey"), key.file_text("service key").as_bytes()).unwrap();
        for store in ["local", "archive"] {
            LocalRoot::create(&folder.path().join(store), &StoreName::new(store).unwrap()).unwrap();
        }
        Self { folder, clock: Arc::default(), counts: Arc::default() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn context(&self, archive_term: &str) -> Context {
        let escrow = Identity::generate().recipient();
        let text = format!(
            "[host]\nname = \"SevenYears\"\nstate_dir = \"state\"\ntimezone = \"Europe/Amsterdam\"\n\
             [keys]\nidentity = {{ file = \"service.agekey\" }}\nescrow = [\"{escrow}\"]\n\
             [stores.local]\ntier = \"hot\"\nkind = \"local\"\npath = \"local\"\n\
             [stores.archive]\ntier = \"archive\"\nkind = \"local\"\npath = \"archive\"\n\
             [projects.shop]\nstrategy = \"files\"\nroot = \"{}\"\nstores = [\"local\", \"archive\"]\ncompliance = [\"belastingdienst\"]\n\
             [projects.shop.retention]\nhot = \"{HOT_DAYS}d\"\narchive = \"{archive_term}\"\n",
            self.at("shop").display()
        );
        let config = Config::parse(&text, &self.at("havun-backup.toml"), 0o600).unwrap();
        let runtime = RuntimeConfig { cache_dir: self.at("strategies"), compiler: PathBuf::new(), limits: Limits::default() };
        let (clock, counts) = (Arc::clone(&self.clock), Arc::clone(&self.counts));
        Context::new(config, Cancel::default(), Arc::new(SilentObserver))
            .with_clock(Arc::new(move || Timestamp::from_second(clock.load(Relaxed)).unwrap()))
            .with_runtime(Runtime::compiling_in_process(runtime))
            .with_stores_through(Arc::new(move |_, inner| Arc::new(Counted { inner, counts: Arc::clone(&counts) })))
    }

    fn set_day(&self, day: usize) -> Timestamp {
        let moment = FIRST.parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * day as i64);
        self.clock.store(moment.as_second(), Relaxed);
        moment
    }
}

fn back_up(cx: &Context) -> SnapshotId {
    let report = run(cx, &RunOptions::default()).unwrap();
    let project = &report.projects[0];
    assert_eq!(project.outcome, RunOutcome::Ok, "{project:?}");
    project.snapshot.unwrap()
}

fn clean_up(cx: &Context) {
    let outcome = cleanup::prepare(cx, &CleanupOptions::default()).unwrap().execute().unwrap();
    assert_eq!(outcome.exit_status(), 0, "{outcome:?}");
    assert!(outcome.stores.iter().all(|store| store.skipped.is_none()), "{outcome:?}");
}

fn listing(cx: &Context, store: &str) -> StoreListing {
    let options = ListOptions { store: Some(store.to_owned()), ..ListOptions::default() };
    let mut report = list(cx, &options).unwrap();
    report.projects.remove(0).stores.remove(0)
}

fn bytes_in(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        bytes += if meta.is_dir() { bytes_in(&entry.path()) } else { meta.len() };
    }
    bytes
}

fn total(costs: &[Cost], days: Range<usize>) -> Cost {
    costs[days].iter().fold(Cost::default(), |sum, cost| Cost {
        calls: sum.calls + cost.calls,
        listed: sum.listed + cost.listed,
        read: sum.read + cost.read,
        time: sum.time + cost.time,
    })
}

#[test]
fn seven_years_of_daily_backups() {
    let machine = Machine::new();
    let mut project = Project::new(machine.at("shop"));
    let mut cx = machine.context("7y");
    let (mut costs, mut days) = (Vec::new(), Vec::new());
    let (mut hold, mut held) = (None, None);
    for day in 0..DAYS {
        let taken_at = machine.set_day(day);
        if day == SHORTENED {
            cx = machine.context("1y");
        }
        project.change();
        let (before, started) = (machine.counts.so_far(), Instant::now());
        let id = back_up(&cx);
        let after = machine.counts.so_far();
        costs.push(Cost {
            calls: after.calls - before.calls,
            listed: after.listed - before.listed,
            read: after.read - before.read,
            time: started.elapsed(),
        });
        days.push((id, taken_at, project.versions));
        match day {
            100 => {
                let what = HoldWhat::Snapshots(vec![id.to_hex()]);
                hold = Some(holds::add(&cx, "shop", &what, "a question of the tax office").unwrap().hold.id);
            }
            1500 => {
                holds::remove(&cx, Some("shop"), hold.as_deref().unwrap(), "answered").unwrap();
            }
            2000 => {
                holds::add(&cx, "shop", &HoldWhat::Snapshots(vec![id.to_hex()]), "a lawsuit").unwrap();
                held = Some(id);
            }
            _ => {}
        }
        if day % CLEANUP_EVERY == CLEANUP_EVERY - 1 {
            clean_up(&cx);
        }
        if day % 500 == 499 {
            let hot = listing(&cx, "local").snapshots;
            assert!(hot.len() <= HOT_DAYS + CLEANUP_EVERY + 2, "{} snapshots in the hot store on day {day}", hot.len());
            eprintln!(
                "day {day}: {:?} a run, hot {} snapshots, {} bytes",
                started.elapsed(),
                hot.len(),
                bytes_in(&machine.at("local/shop"))
            );
        }
    }
    every_snapshot_of_the_term_is_there(&cx, &days);
    the_hot_store_is_small(&machine, &cx, &days, held.unwrap());
    any_day_restores(&machine, &cx, &days);
    the_last_year_costs_what_the_first_did(&costs);
}

type Day = (SnapshotId, Timestamp, [u16; FILES]);

/// Every day was promised to stay at least to the end of the next calendar year, and no person has deleted anything.
fn every_snapshot_of_the_term_is_there(cx: &Context, days: &[Day]) {
    let archive = listing(cx, "archive");
    assert!(archive.damaged.is_empty(), "{:?}", archive.damaged);
    let there: Vec<SnapshotId> = archive.snapshots.iter().rev().map(|line| line.id).collect();
    let made: Vec<SnapshotId> = days.iter().map(|day| day.0).collect();
    assert_eq!(there.len(), made.len());
    assert!(there == made);
}

fn the_hot_store_is_small(machine: &Machine, cx: &Context, days: &[Day], held: SnapshotId) {
    let hot = listing(cx, "local");
    let there: Vec<SnapshotId> = hot.snapshots.iter().map(|line| line.id).collect();
    let recent = days[DAYS - HOT_DAYS..].iter().filter(|day| there.contains(&day.0)).count();
    assert_eq!(recent, HOT_DAYS, "the last days are all in the hot store");
    assert!(there.contains(&held), "the held snapshot stays");
    assert!(!there.contains(&days[100].0), "a hold that was ended keeps nothing");
    assert!(there.len() <= HOT_DAYS + CLEANUP_EVERY + 2, "{}", there.len());
    let (hot, archive) = (bytes_in(&machine.at("local/shop")), bytes_in(&machine.at("archive/shop")));
    eprintln!("hot {hot} bytes, archive {archive} bytes");
    assert!(hot * 10 < archive, "hot {hot} bytes, archive {archive} bytes");
}

fn any_day_restores(machine: &Machine, cx: &Context, days: &[Day]) {
    let mut seed = 0xda7e;
    for round in 0..10 {
        let day = (random(&mut seed) % DAYS as u64) as usize;
        let (id, taken_at, versions) = &days[day];
        let target = machine.at(&format!("back{round}"));
        let date = taken_at.to_zoned_datetime(cx.zone()).strftime("%Y-%m-%d").to_string();
        let options = RestoreOptions {
            project: "shop".to_owned(),
            choice: SnapshotChoice::Date(date.clone()),
            target: Some(target.clone()),
            ..RestoreOptions::default()
        };
        let outcome = restore::prepare(cx, &options).unwrap().execute().unwrap();
        assert_eq!(outcome.exit_status(), 0, "{date}: {outcome:?}");
        assert_eq!(outcome.plan.snapshot, *id, "{date}");
        for file in 0..FILES {
            assert_eq!(fs::read(target.join(name(file))).unwrap(), content(file, versions[file]), "{date}: {}", name(file));
        }
        let files = (0..3).map(|folder| fs::read_dir(target.join(format!("folder{folder}"))).unwrap().count()).sum::<usize>();
        assert_eq!(files, FILES, "{date}");
    }
}

/// The first day makes the vault: it is in neither sum.
fn the_last_year_costs_what_the_first_did(costs: &[Cost]) {
    let (first, last) = (total(costs, 1..365), total(costs, DAYS - 365..DAYS - 1));
    eprintln!("the first year: {first:?}\nthe last year:  {last:?}\ntime {:.2}", last.time.as_secs_f64() / first.time.as_secs_f64());
    for (what, first, last) in
        [("calls", first.calls, last.calls), ("objects listed", first.listed, last.listed), ("bytes read", first.read, last.read)]
    {
        assert!(last as f64 <= first as f64 * 1.2, "{what}: {first} in the first year, {last} in the last");
    }
}
