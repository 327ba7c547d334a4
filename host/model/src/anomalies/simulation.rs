//! Three years of a project that nobody has attacked, and what attacks do to a day of it.

use super::{DatabaseCounts, KindCounts, Observation, TreeCounts};
use jiff::{Timestamp, ToSpan as _, civil::date, tz::TimeZone};
use std::collections::BTreeMap;

/// xorshift64*: the same numbers for the same seed everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Log-normal with median 1.
    pub fn noise(&mut self, sigma: f64) -> f64 {
        let (a, b) = (self.unit().max(1e-12), self.unit());
        (sigma * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()).exp()
    }

    fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }
}

/// Kinds of files: share of all, mean bytes, share of the new ones that looks random.
const KINDS: [(&str, f64, f64, f64); 6] = [
    ("pdf", 0.35, 180e3, 0.02),
    ("jpg", 0.25, 900e3, 0.01),
    ("php", 0.25, 9e3, 0.0),
    ("zip", 0.03, 2e6, 0.35),
    ("log", 0.02, 400e3, 0.0),
    ("", 0.10, 2e3, 0.1),
];

/// A project that is backed up every night.
pub struct Project {
    pub random: Random,
    files: BTreeMap<&'static str, f64>,
    rows: BTreeMap<&'static str, f64>,
    growth: f64,
    day: i64,
    weekend: f64,
    deploy_every: f64,
    noise: f64,
}

impl Project {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let size = 10f64.powf(random.between(2.5, 5.0));
        let files = KINDS.iter().map(|(name, share, _, _)| (*name, (size * share * random.noise(0.4)).max(3.0))).collect();
        let rows = [("orders", 40e3), ("users", 8e3), ("lines", 200e3), ("sessions", 3e3), ("audit", 100e3)];
        let scale = random.noise(1.0);
        let rows = rows.into_iter().map(|(name, rows)| (name, rows * scale)).collect();
        let growth = random.between(0.0, 0.002);
        let (weekend, deploy_every) = (random.between(0.05, 0.8), random.between(5.0, 40.0));
        let noise = random.between(0.2, 0.6);
        Self { random, files, rows, growth, day: 0, weekend, deploy_every, noise }
    }

    /// The next night.
    pub fn night(&mut self) -> Observation {
        let at = night(self.day);
        let busy = self.activity(at);
        self.day += 1;
        let deploy = self.random.chance(1.0 / self.deploy_every);
        let mut kinds = BTreeMap::new();
        for (name, _, mean, opaque) in KINDS {
            kinds.insert(name.to_owned(), self.kind(name, mean, opaque, busy, deploy));
        }
        let tree = TreeCounts { compared: self.day > 1, renamed: 0, kinds };
        let database = self.database(busy, at);
        let total = tree.total();
        let file_bytes: f64 = KINDS.iter().map(|(name, _, mean, _)| self.files.get(name).copied().unwrap_or(0.0) * mean).sum();
        let changed_share = self.random.between(0.02, 0.1) * busy.max(0.1);
        let bytes_new = total.bytes_new + (database.bytes as f64 * changed_share.min(0.6)) as u64;
        let duration = (20e3 + file_bytes / 200e3 + bytes_new as f64 / 5e3) * self.random.noise(0.25);
        Observation {
            at,
            duration_ms: duration as u64,
            bytes: file_bytes as u64 + database.bytes,
            bytes_new,
            tree,
            databases: [("main".to_owned(), database)].into(),
            flagged: false,
        }
    }

    fn activity(&mut self, at: Timestamp) -> f64 {
        let day = at.to_zoned_datetime(TimeZone::UTC).date();
        let weekend = matches!(day.weekday().to_monday_zero_offset(), 5 | 6);
        let holiday = (day.month() == 12 && day.day() >= 24) || (day.month() == 5 && day.day() < 4) || (day.month() == 8 && day.day() < 15);
        let month_end = day.last_of_month() == day;
        let rhythm = if weekend { self.weekend } else { 1.0 };
        rhythm * if holiday { 0.1 } else { 1.0 } * if month_end { 4.0 } else { 1.0 } * self.random.noise(self.noise)
    }

    fn kind(&mut self, name: &'static str, mean: f64, opaque: f64, busy: f64, deploy: bool) -> KindCounts {
        let before = self.files.get(name).copied().unwrap_or(0.0).floor();
        let code = name == "php";
        let new = if code && !deploy {
            0.0
        } else {
            (before * self.growth * busy * 2.0).floor() + f64::from(u8::from(self.random.chance(busy.min(1.0))))
        };
        let share = match name {
            "php" if deploy => self.random.between(0.01, 0.2),
            "log" => 0.5,
            "php" => 0.0,
            _ => 0.002 * busy * self.random.noise(0.5),
        };
        // Logs are rotated each week.
        let rotated = if name == "log" && self.day % 7 == 0 { 0.2 } else { 0.0004 * busy };
        let (changed, deleted) = ((before * share).floor(), (before * rotated).floor());
        self.files.insert(name, before + new - deleted);
        let touched = changed + new;
        let bytes_new = touched * mean * self.random.noise(0.2);
        let judged = touched * 0.95;
        KindCounts {
            files: (before + new - deleted) as u64,
            changed: changed as u64,
            new: new as u64,
            deleted: deleted as u64,
            judged: judged as u64,
            opaque: (judged * (opaque * self.random.noise(0.3)).min(1.0)) as u64,
            bytes_new: bytes_new as u64,
            bytes_opaque: (bytes_new * opaque) as u64,
        }
    }

    fn database(&mut self, busy: f64, at: Timestamp) -> DatabaseCounts {
        let weekday = at.to_zoned_datetime(TimeZone::UTC).date().weekday();
        let mut rows = BTreeMap::new();
        let mut bytes = 60e3;
        for (name, count) in &mut self.rows {
            match *name {
                // What visitors leave is thrown away on Sundays.
                "sessions" => *count = (*count + 400.0 * busy) * if weekday.to_monday_zero_offset() == 6 { 0.3 } else { 0.98 },
                _ => *count += *count * self.growth * busy,
            }
            rows.insert((*name).to_owned(), *count as u64);
            bytes += *count * 160.0 * self.random.noise(0.003);
        }
        DatabaseCounts { bytes: bytes as u64, rows }
    }
}

fn night(day: i64) -> Timestamp {
    let first = date(2023, 1, 1).at(3, 0, 0, 0).in_tz("UTC").unwrap();
    first.checked_add(day.days()).unwrap().timestamp()
}

/// What befalls a project between two nights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    EncryptedInPlace,
    EncryptedAndRenamed,
    MassDeletion,
    TruncatedDump,
    EmptiedTable,
    SuddenGrowth,
}

impl Attack {
    pub const ALL: [Self; 6] = [
        Self::EncryptedInPlace,
        Self::EncryptedAndRenamed,
        Self::MassDeletion,
        Self::TruncatedDump,
        Self::EmptiedTable,
        Self::SuddenGrowth,
    ];

    /// A night as it would have been without, made what it is after it.
    pub fn on(self, night: &mut Observation, random: &mut Random) {
        match self {
            Self::EncryptedInPlace | Self::EncryptedAndRenamed => encrypt(night, random, self == Self::EncryptedAndRenamed),
            Self::MassDeletion => delete(night, random),
            Self::TruncatedDump => truncate(night, random.between(0.01, 0.75)),
            Self::EmptiedTable => drop(night.databases.get_mut("main").unwrap().rows.insert("orders".to_owned(), 0)),
            Self::SuddenGrowth => grow(night, random.between(1.4, 8.0)),
        }
    }
}

/// From a third of the documents to all of them; malware begins with what people miss.
fn encrypt(night: &mut Observation, random: &mut Random, rename: bool) {
    let share = random.between(0.35, 1.0);
    let mut locked = KindCounts::default();
    for (name, kind) in night.tree.kinds.iter_mut().filter(|(name, _)| ["pdf", "jpg", "zip"].contains(&name.as_str())) {
        let mean = KINDS.iter().find(|known| known.0 == name).unwrap().2;
        let hit = (kind.files as f64 * share) as u64;
        let bytes = (hit as f64 * mean) as u64;
        let taken = if rename { &mut locked } else { &mut *kind };
        taken.judged += hit;
        taken.opaque += hit;
        taken.bytes_new += bytes;
        taken.bytes_opaque += bytes;
        match rename {
            true => {
                (locked.files, locked.new) = (locked.files + hit, locked.new + hit);
                (kind.files, kind.deleted) = (kind.files - hit, kind.deleted + hit);
            }
            false => kind.changed = (kind.changed + hit).min(kind.files),
        }
        night.bytes_new += bytes;
        night.duration_ms += bytes / 20_000;
    }
    if rename {
        night.tree.renamed = locked.new;
        night.tree.kinds.insert("locked".to_owned(), locked);
    }
}

fn delete(night: &mut Observation, random: &mut Random) {
    let share = random.between(0.25, 1.0);
    for (name, kind) in &mut night.tree.kinds {
        let mean = KINDS.iter().find(|known| known.0 == name).unwrap().2;
        let hit = (kind.files as f64 * share) as u64;
        (kind.files, kind.deleted) = (kind.files - hit, kind.deleted + hit);
        night.bytes = night.bytes.saturating_sub((hit as f64 * mean) as u64);
    }
}

fn truncate(night: &mut Observation, share: f64) {
    let dump = night.databases.get_mut("main").unwrap();
    let left = (dump.bytes as f64 * share) as u64;
    night.bytes -= dump.bytes - left;
    dump.bytes = left;
}

fn grow(night: &mut Observation, times: f64) {
    let more = (night.bytes as f64 * (times - 1.0)) as u64;
    night.bytes += more;
    night.bytes_new += more;
    night.duration_ms += more / 20_000;
}
