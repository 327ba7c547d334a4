//! Backs up files, one after the other, as the daily dumps of one database, and restores each: what a vault of dumps takes,
//! and how long it takes to make it and to get it back.
//!
//!     cargo run --release -p havun-vault --example dumps -- FOLDER DUMP…
//!
//! FOLDER must not exist; the vault is made in it, encrypted. `tests/bench/dumps.sh` makes the dumps and compares with peers.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use havun_model::{BackupPlan, Cancel, Digest, Outcome, ProjectName, RetentionRecord, Snapshot, SnapshotStrategy, StoreName};
use havun_vault::{
    BackupOptions, Committed, LeaseWait, NewVault, NoProgress, RestoreRequest, SnapshotDraft, StreamProfile, Vault,
    keys::Identity,
    store::{LocalRoot, Store},
};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use std::{
    error::Error,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

type Fallible<T> = Result<T, Box<dyn Error>>;

const PATH: &str = "databases/main.sql";

fn main() -> Fallible<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = args.next().ok_or("give a folder and dumps")?;
    let dumps: Vec<PathBuf> = args.collect();
    fs::create_dir(&folder)?;
    let bench = Bench::new(&folder)?;
    println!("{:>4} {:>10} {:>9} {:>7} {:>7} {:>7} {:>7}", "day", "dump MB", "vault MB", "CPU s", "wall s", "chunks", "deltas");
    for (day, dump) in (0..).zip(&dumps) {
        let (begun, cpu) = (Instant::now(), cpu_secs()?);
        let committed = bench.backup(day, dump)?;
        let (stats, cpu) = (committed.stats, cpu_secs()? - cpu);
        let size = mb(fs::metadata(dump)?.len());
        let (vault, wall) = (mb(stored_bytes(&folder.join("store"))?), begun.elapsed().as_secs_f64());
        println!("{:>4} {size:>10.1} {vault:>9.2} {cpu:>7.2} {wall:>7.2} {:>7} {:>7}", day + 1, stats.chunks_new, stats.chunks_delta);
    }
    println!("peak memory after the backups: {} MB", peak_mb()?);
    println!("{:>4} {:>9} {:>9}", "day", "CPU s", "MB/CPU s");
    for (day, (stored, dump)) in bench.vault()?.snapshots()?.snapshots.iter().zip(&dumps).enumerate() {
        let cpu = cpu_secs()?;
        let target = bench.restore(&stored.snapshot)?;
        let cpu = cpu_secs()? - cpu;
        let restored = target.join(PATH);
        if hash(&restored)? != hash(dump)? {
            return Err(format!("day {} is not what it was", day + 1).into());
        }
        println!("{:>4} {cpu:>9.2} {:>9.0}", day + 1, mb(fs::metadata(&restored)?.len()) / cpu);
        fs::remove_dir_all(target)?;
    }
    println!("peak memory after the restores: {} MB", peak_mb()?);
    Ok(())
}

struct Bench {
    folder: PathBuf,
    store: Arc<dyn Store>,
    identities: Vec<Identity>,
}

impl Bench {
    fn new(folder: &Path) -> Fallible<Self> {
        let project = ProjectName::new("bench")?;
        let store: Arc<dyn Store> = Arc::new(LocalRoot::create(&folder.join("store"), &StoreName::new("hot")?)?.vault(&project));
        let identities = vec![Identity::generate(), Identity::generate()];
        let recipients = identities.iter().map(Identity::recipient).collect();
        Vault::create(Arc::clone(&store), &NewVault { project, encryption: true, recipients, created: time(0)? })?;
        Ok(Self { folder: folder.to_path_buf(), store, identities })
    }

    fn vault(&self) -> Fallible<Vault> {
        Ok(Vault::open(Arc::clone(&self.store), &self.identities)?)
    }

    fn backup(&self, day: i64, dump: &Path) -> Fallible<Committed> {
        let vault = self.vault()?;
        let mut session = vault.begin_backup(self.options(day)?)?;
        let read = |out: &mut (dyn io::Write + Send)| io::copy(&mut File::open(dump)?, out).map(drop);
        session.add_stream(PATH, "main", 0o600, time(day)?, StreamProfile::Dump, read)?;
        Ok(session.finish(draft(day)?)?)
    }

    fn options(&self, day: i64) -> Fallible<BackupOptions> {
        Ok(BackupOptions {
            now: time(day)?,
            recipients: self.identities.iter().map(Identity::recipient).collect(),
            state_dir: self.folder.join("state"),
            threads: 2,
            level: 3,
            force_lease: false,
            holder: "bench".to_owned(),
            lease_wait: LeaseWait::default(),
            cancel: Cancel::default(),
            progress: Arc::new(NoProgress),
        })
    }

    fn restore(&self, snapshot: &Snapshot) -> Fallible<PathBuf> {
        let target = self.folder.join("restored");
        let request = RestoreRequest {
            select: &|entry| Some(PathBuf::from(OsStr::from_bytes(&entry.path))),
            target: &target,
            overwrite: false,
            owner: false,
            threads: 2,
            sync: false,
            cancel: Cancel::default(),
        };
        let report = self.vault()?.restore(snapshot, &request, &NoProgress)?;
        if report.failed.is_empty() { Ok(target) } else { Err(format!("{:?}", report.failed).into()) }
    }
}

fn time(day: i64) -> Fallible<Timestamp> {
    Ok("2026-03-01T03:00:00Z".parse::<Timestamp>()?.checked_add(SignedDuration::from_hours(24 * day))?)
}

fn draft(day: i64) -> Fallible<SnapshotDraft> {
    Ok(SnapshotDraft {
        title: "Bench".to_owned(),
        run_id: format!("run-{day}"),
        host: "host".to_owned(),
        root: "/srv/bench".to_owned(),
        outcome: Outcome::Ok,
        strategy: SnapshotStrategy { id: "files".to_owned(), version: "1.0.0".to_owned(), digest: Digest::from_bytes([0; 32]) },
        plan: BackupPlan::default(),
        items: Default::default(),
        retention: RetentionRecord { hot: "30d".to_owned(), archive: "7y".to_owned(), retain_until: time(4000)? },
        audit_head: String::new(),
        warnings: Vec::new(),
        program: "bench".to_owned(),
        ended_at: time(day)?,
    })
}

/// User and system seconds of this process.
fn cpu_secs() -> Fallible<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok()).ok_or("no /proc/self/stat");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn peak_mb() -> Fallible<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn stored_bytes(folder: &Path) -> Fallible<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { stored_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

fn hash(path: &Path) -> Fallible<Vec<u8>> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut Writer(&mut hasher))?;
    Ok(hasher.finalize().to_vec())
}

struct Writer<'h>(&'h mut Sha256);

impl io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
