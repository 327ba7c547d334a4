//! Seven years of daily backups in a few minutes, with a clock that the test sets.
//!
//! What holds after 2,557 runs: the archive has every snapshot of its term, a term that was shortened half-way takes nothing
//! back, the hot store stays small, any day restores exactly, and a run costs in the last year what it cost in the
//! first, counted in calls, objects listed and bytes read at the stores, and in what the process read and wrote in all (the
//! audit database and what is remembered of the archive included). Each day is a process of its own as far as that
//! goes: everything is opened anew.
//!
//! A second project lets its archive be shortened by itself (`archive_auto_delete`), and at the end a person expires what is
//! past its term in the first; holds keep what they hold in both.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr, reason = "a test stops at the first surprise")]

use havun_model::{Cancel, SnapshotId, StoreName};
use havun_operations::{
    cleanup::{self, CleanupOptions},
    config::Config,
    context::{Context, SilentObserver},
    drill::{DrillOptions, drill},
    expire::{self, ExpireOptions},
    health::{self, HealthOptions},
    holds::{self, HoldWhat},
    list::{ListOptions, StoreListing, list},
    restore::{self, RestoreOptions},
    run::{RunOptions, RunOutcome, run},
    scrub::{ScrubRequest, scrub_stores},
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
/// The snapshots of these days are held to the end.
const HELD: usize = 1600;
const JOURNAL_HELD: usize = 406;

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
    /// Bytes that the process read and wrote, wherever.
    moved: u64,
    /// How often it read and wrote.
    moves: u64,
    /// Processor time, in hundredths of a second: too coarse for one run, good for a year of them.
    cpu: u64,
    time: Duration,
}

/// Processor time of this process so far, its threads included.
fn process_cpu() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// What this process has read and written so far: bytes, and calls.
fn process_io() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().parse::<u64>().unwrap();
    (value("rchar:") + value("wchar:"), value("syscr:") + value("syscw:"))
}

impl Counts {
    fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    fn so_far(&self) -> Cost {
        let (moved, moves) = process_io();
        let (calls, listed, read) = (self.calls.load(Relaxed), self.listed.load(Relaxed), self.read.load(Relaxed));
        Cost { calls, listed, read, moved, moves, cpu: process_cpu(), time: Duration::ZERO }
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
             [projects.shop.retention]\nhot = \"{HOT_DAYS}d\"\narchive = \"{archive_term}\"\n\
             [projects.journal]\nstrategy = \"files\"\nroot = \"{}\"\nstores = [\"local\", \"archive\"]\n\
             [projects.journal.retention]\nhot = \"{HOT_DAYS}d\"\narchive = \"1y\"\narchive_auto_delete = true\n",
            self.at("shop").display(),
            self.at("journal").display()
        );
        let config = Config::parse(&text, &self.at("havun-backup.toml"), 0o600).unwrap();
        let runtime = RuntimeConfig { cache_dir: self.at("strategies"), compiler: PathBuf::new(), limits: Limits::default() };
        let (clock, counts) = (Arc::clone(&self.clock), Arc::clone(&self.counts));
        Context::new(config, Cancel::default(), Arc::new(SilentObserver))
            .with_sleeper(Arc::new(|_| {}))
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

fn back_up(cx: &Context, project: &str) -> SnapshotId {
    let report = run(cx, &RunOptions { projects: vec![project.to_owned()], ..RunOptions::default() }).unwrap();
    let project = &report.projects[0];
    assert_eq!(project.outcome, RunOutcome::Ok, "{project:?}");
    project.snapshot.unwrap()
}

fn clean_up(cx: &Context) {
    let outcome = cleanup::prepare(cx, &CleanupOptions::default()).unwrap().execute().unwrap();
    assert_eq!(outcome.exit_status(), 0, "{outcome:?}");
    assert!(outcome.stores.iter().all(|store| store.skipped.is_none()), "{outcome:?}");
    assert!(outcome.archives.iter().all(|store| store.project.as_str() == "journal" && store.skipped.is_none()), "{outcome:?}");
}

fn listing(cx: &Context, project: &str, store: &str) -> StoreListing {
    let options = ListOptions { projects: vec![project.to_owned()], store: Some(store.to_owned()), ..ListOptions::default() };
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

/// The run in the middle, by each measure for itself; of the processor time, the sum.
fn median(costs: &[Cost], days: Range<usize>) -> Cost {
    let middle = |measure: &dyn Fn(&Cost) -> u64| {
        let mut values: Vec<u64> = costs[days.clone()].iter().map(measure).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    Cost {
        calls: middle(&|cost| cost.calls),
        listed: middle(&|cost| cost.listed),
        read: middle(&|cost| cost.read),
        moved: middle(&|cost| cost.moved),
        moves: middle(&|cost| cost.moves),
        cpu: costs[days.clone()].iter().map(|cost| cost.cpu).sum(),
        time: Duration::from_micros(middle(&|cost| cost.time.as_micros() as u64)),
    }
}

#[test]
fn seven_years_of_daily_backups() {
    let machine = Machine::new();
    let mut project = Project::new(machine.at("shop"));
    fs::create_dir_all(machine.at("journal")).unwrap();
    let (mut costs, mut days, mut journal) = (Vec::new(), Vec::new(), Vec::new());
    let (mut hold, mut held) = (None, None);
    for day in 0..DAYS {
        let taken_at = machine.set_day(day);
        project.change();
        let (before, started) = (machine.counts.so_far(), Instant::now());
        let cx = machine.context(if day < SHORTENED { "7y" } else { "1y" });
        let id = back_up(&cx, "shop");
        let after = machine.counts.so_far();
        costs.push(Cost {
            calls: after.calls - before.calls,
            listed: after.listed - before.listed,
            read: after.read - before.read,
            moved: after.moved - before.moved,
            moves: after.moves - before.moves,
            cpu: after.cpu - before.cpu,
            time: started.elapsed(),
        });
        days.push((id, taken_at, project.versions));
        if day % CLEANUP_EVERY == 0 {
            fs::write(machine.at("journal/today.txt"), format!("day {day}")).unwrap();
            journal.push((back_up(&cx, "journal"), taken_at));
            if day == JOURNAL_HELD {
                let what = HoldWhat::Snapshots(vec![journal.last().unwrap().0.to_hex()]);
                holds::add(&cx, "journal", &what, "a question of the heirs").unwrap();
            }
        }
        match day {
            100 => {
                let what = HoldWhat::Snapshots(vec![id.to_hex()]);
                hold = Some(holds::add(&cx, "shop", &what, "a question of the tax office").unwrap().hold.id);
            }
            1500 => {
                holds::remove(&cx, Some("shop"), hold.as_deref().unwrap(), "answered").unwrap();
            }
            HELD => {
                holds::add(&cx, "shop", &HoldWhat::Snapshots(vec![id.to_hex()]), "a lawsuit").unwrap();
                held = Some(id);
            }
            _ => {}
        }
        if day % CLEANUP_EVERY == CLEANUP_EVERY - 1 {
            clean_up(&cx);
        }
        if day % 500 == 499 {
            let hot = listing(&cx, "shop", "local").snapshots;
            assert!(hot.len() <= HOT_DAYS + CLEANUP_EVERY + 2, "{} snapshots in the hot store on day {day}", hot.len());
            eprintln!(
                "day {day}: {:?} a run, hot {} snapshots, {} bytes",
                started.elapsed(),
                hot.len(),
                bytes_in(&machine.at("local/shop"))
            );
        }
    }
    let cx = machine.context("1y");
    every_snapshot_of_the_term_is_there(&cx, &days);
    the_hot_store_is_small(&machine, &cx, &days, held.unwrap());
    any_day_restores(&machine, &cx, &days);
    the_journal_was_shortened_by_itself(&cx, &journal);
    a_person_expires_what_is_past_its_term(&cx, &days, held.unwrap());
    what_was_never_read_back_is_unhealthy(&cx);
    a_hot_store_that_was_lost_gets_its_term_back(&machine);
    the_last_year_costs_what_the_first_did(&costs);
}

/// Whatever else is well.
fn what_was_never_read_back_is_unhealthy(cx: &Context) {
    let look = || {
        let report = health::health(cx, &HealthOptions { projects: vec!["journal".to_owned()] }).unwrap();
        let (status, mut projects) = (report.exit_status(), report.projects);
        (status, projects.remove(0))
    };
    let (status, found) = look();
    assert_eq!(status, 4);
    let unread: Vec<_> = found.problems.iter().filter(|problem| problem.what.contains("was ever read back")).collect();
    assert_eq!(unread.len(), 2, "both stores: {:?}", found.problems);
    assert!(unread.iter().all(|problem| problem.hint.contains("havun-backup scrub --all")));
    assert!(found.notes.iter().any(|note| note.what.contains("no schedule") && note.hint.contains("[projects.journal]")));
    let request = ScrubRequest { projects: vec!["journal".to_owned()], all: true, ..ScrubRequest::default() };
    assert_eq!(scrub_stores(cx, &request).unwrap().exit_status(), 0);
    let (status, found) = look();
    let overdue: Vec<_> = found.problems.iter().filter(|problem| problem.what.contains("no restore was ever proven")).collect();
    assert_eq!((status, found.problems.len(), overdue.len()), (4, 1, 1), "{:?}", found.problems);
    let drilled = drill(cx, &DrillOptions { projects: vec!["journal".to_owned()], ..DrillOptions::default() }).unwrap();
    assert_eq!(drilled.exit_status(), 0, "{drilled:?}");
    let (status, found) = look();
    assert_eq!((status, found.problems.len()), (0, 0), "{:?}", found.problems);
}

/// The archive has the rest.
fn a_hot_store_that_was_lost_gets_its_term_back(machine: &Machine) {
    fs::remove_dir_all(machine.at("local/shop")).unwrap();
    machine.set_day(DAYS);
    let cx = machine.context("1y");
    back_up(&cx, "shop");
    let hot = listing(&cx, "shop", "local").snapshots.len();
    assert!((HOT_DAYS..=HOT_DAYS + 3).contains(&hot), "{hot} snapshots");
    assert!(listing(&cx, "shop", "archive").snapshots.len() > 1500);
}

fn year(taken_at: Timestamp, cx: &Context) -> i16 {
    taken_at.to_zoned_datetime(cx.zone()).year()
}

/// With a term of one year, the last two calendar years and what is held are in the archive: no more, no less.
fn the_journal_was_shortened_by_itself(cx: &Context, journal: &[(SnapshotId, Timestamp)]) {
    let held = journal[JOURNAL_HELD / CLEANUP_EVERY].0;
    let expected: Vec<SnapshotId> =
        journal.iter().filter(|(id, taken_at)| *id == held || year(*taken_at, cx) >= 2031).map(|(id, _)| *id).collect();
    let archive = listing(cx, "journal", "archive");
    let there: Vec<SnapshotId> = archive.snapshots.iter().rev().map(|line| line.id).collect();
    assert_eq!((there.len(), archive.damaged.len()), (expected.len(), 0));
    assert!(there == expected);
}

/// What was made after the term was shortened may go; what was promised for seven years may not, nor what is held; and the
/// run after it brings nothing back.
fn a_person_expires_what_is_past_its_term(cx: &Context, days: &[Day], held: SnapshotId) {
    let goes = |(at, day): (usize, &Day)| (at >= SHORTENED && year(day.1, cx) <= 2030 && day.0 != held).then_some(day.0);
    let due: Vec<SnapshotId> = days.iter().enumerate().filter_map(goes).collect();
    let options = ExpireOptions { projects: vec!["shop".to_owned()], ..ExpireOptions::default() };
    let prepared = expire::prepare(cx, &options).unwrap();
    let line = &prepared.outcome().stores[0];
    assert_eq!((line.held, line.snapshots, line.remove.len()), (1, DAYS as u64, due.len()), "{:?}", line.skipped);
    let confirmation = prepared.outcome().confirmation.clone().unwrap();
    assert_eq!(confirmation, format!("delete {} of shop", due.len()));
    assert!(expire::prepare(cx, &options).unwrap().execute("asked by the board", "delete everything").is_err());
    let outcome = prepared.execute("asked by the board", &confirmation).unwrap();
    assert_eq!(outcome.exit_status(), 0, "{outcome:?}");
    back_up(cx, "shop");
    let archive = listing(cx, "shop", "archive");
    let there: Vec<SnapshotId> = archive.snapshots.iter().map(|line| line.id).collect();
    assert_eq!(there.len(), days.len() - due.len() + 1);
    assert!(there.contains(&held) && due.iter().all(|id| !there.contains(id)) && archive.damaged.is_empty());
}

type Day = (SnapshotId, Timestamp, [u16; FILES]);

/// Every day was promised to stay at least to the end of the next calendar year, and no person has deleted anything.
fn every_snapshot_of_the_term_is_there(cx: &Context, days: &[Day]) {
    let archive = listing(cx, "shop", "archive");
    assert!(archive.damaged.is_empty(), "{:?}", archive.damaged);
    let there: Vec<SnapshotId> = archive.snapshots.iter().rev().map(|line| line.id).collect();
    let made: Vec<SnapshotId> = days.iter().map(|day| day.0).collect();
    assert_eq!(there.len(), made.len());
    assert!(there == made);
}

fn the_hot_store_is_small(machine: &Machine, cx: &Context, days: &[Day], held: SnapshotId) {
    let hot = listing(cx, "shop", "local");
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

/// The first day makes the vault: it is in neither year. Time is told and not judged: what it is made of is.
fn the_last_year_costs_what_the_first_did(costs: &[Cost]) {
    let (first, last) = (median(costs, 1..365), median(costs, DAYS - 365..DAYS - 1));
    let ratio = |first: u64, last: u64| last as f64 / first as f64;
    let time = ratio(first.time.as_micros() as u64, last.time.as_micros() as u64);
    eprintln!("a run of the first year: {first:?}\na run of the last year:  {last:?}");
    let measures = [
        ("calls", first.calls, last.calls),
        ("objects listed", first.listed, last.listed),
        ("bytes read at the stores", first.read, last.read),
        ("bytes read and written by the process", first.moved, last.moved),
        ("reads and writes of the process", first.moves, last.moves),
    ];
    measures.iter().for_each(|(what, first, last)| eprintln!("{what}: {:.2} of the first year", ratio(*first, *last)));
    eprintln!("time: {time:.2} of the first year; processor time: {:.2}", ratio(first.cpu, last.cpu));
    for (what, first, last) in measures {
        assert!(ratio(first, last) <= 1.2, "{what}: {first} in the first year, {last} in the last");
    }
}
