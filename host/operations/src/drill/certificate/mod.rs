//! What a drill certifies, as a value. Its JSON is what is signed; the Markdown and HTML forms are made from it alone, so
//! that whoever has the JSON can make them again and compare.
//!
//! A certificate names no secret and holds no content. It does name tables and files, where something is wrong with them.

mod html;
mod markdown;

pub use html::html;
pub use markdown::markdown;

use crate::restore::FailedPath;
use havun_model::{Check, Digest, ItemRecord, Outcome, ProjectName, SnapshotId, StepReport};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The first field of every certificate.
pub(super) const FORMAT: &str = "havun-backup drill certificate 1";

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillResult {
    /// Everything was proven.
    Passed,
    /// Nothing failed, but not everything could be proven.
    Incomplete,
    /// Something is wrong.
    Failed,
}

impl DrillResult {
    /// `passed`, `incomplete` or `failed`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// The certificate of the drill of one snapshot. Fields are only ever added within a format, so a program reads what an older
/// one did not know, and passes over what a newer one added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// `havun-backup drill certificate 1`.
    pub format: String,
    /// Unique to the drill.
    pub id: String,
    /// How it ended.
    pub result: DrillResult,
    /// Why it did not pass, one line each; empty when it did.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The project.
    pub project: ProjectName,
    /// For people.
    #[serde(default)]
    pub title: String,
    /// Rules that the project falls under.
    #[serde(default)]
    pub compliance: Vec<String>,
    /// The host that the drill ran on.
    #[serde(default)]
    pub host: String,
    /// The program and its version.
    #[serde(default)]
    pub program: String,
    /// Login name of who started it.
    #[serde(default)]
    pub user: String,
    /// `operator`, `schedule`, …
    #[serde(default)]
    pub started_by: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What was restored.
    pub snapshot: CertifiedSnapshot,
    /// What knows the application.
    pub strategy: CertifiedStrategy,
    /// Files, compared one by one.
    #[serde(default)]
    pub files: CertifiedFiles,
    /// Databases, loaded one by one.
    #[serde(default)]
    pub databases: Vec<CertifiedDatabase>,
    /// Steps in the restored tree.
    #[serde(default)]
    pub steps: Vec<StepReport>,
    /// The strategy's checks, and our own.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// How long it took, how old the backup is, and what was asked for.
    #[serde(default)]
    pub objectives: Objectives,
    /// Erasures that must be applied again after a restore of this snapshot.
    #[serde(default)]
    pub erasures: Vec<String>,
    /// What was not proven and is accepted all the same, and by whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<Accepted>,
    /// What a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The key that signs it.
    #[serde(default)]
    pub signer: String,
}

/// Something that was not proven, and whose word it is that it need not be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accepted {
    /// What was not proven, and why it could not be.
    pub what: String,
    /// The entry of `accept_unproven`, and where it stands.
    pub by: String,
}

/// The snapshot that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedSnapshot {
    /// SHA-256 of the snapshot object.
    pub id: SnapshotId,
    /// When the backup began.
    pub taken_at: Timestamp,
    /// The host that made it.
    pub host: String,
    /// The program that made it.
    pub program: String,
    /// As the run said: `ok` or `partial`.
    pub outcome: Outcome,
    /// `newest`, `oldest`, `random` or `named`.
    pub chosen_as: String,
    /// The store that it was read from.
    pub store: String,
    /// `hot`, `archive`, …
    pub tier: String,
    /// Items.
    pub items: u64,
    /// Bytes of all items.
    pub bytes: u64,
    /// Kept until.
    pub retain_until: Timestamp,
}

/// Which strategy planned the backup, and which one judged the restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedStrategy {
    /// Its id.
    pub id: String,
    /// Its version when the backup was made.
    pub version: String,
    /// SHA-256 of its component then.
    pub digest: Digest,
    /// Its version now; empty when it could not be asked.
    #[serde(default)]
    pub judged_by_version: String,
    /// SHA-256 of its component now; empty when it could not be asked.
    #[serde(default)]
    pub judged_by_digest: String,
}

/// Files, expected and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertifiedFiles {
    /// Whether they were compared; the drill may have stopped before. Certificates that do not say it are of programs that
    /// made none then.
    #[serde(default = "yes")]
    pub done: bool,
    /// Entries that the manifest has.
    pub expected: u64,
    /// Entries that are as the manifest has them.
    pub found: u64,
    /// Bytes that the manifest has.
    pub bytes_expected: u64,
    /// Bytes of files that are as the manifest has them.
    pub bytes_found: u64,
    /// Files with content of their own (a further name of a file has none).
    pub to_compare: u64,
    /// Those of them whose whole content was hashed and is as the manifest has it.
    pub compared: u64,
    /// The first that are not as they should be.
    pub failed: Vec<FailedPath>,
    /// How many there are.
    pub failed_count: u64,
}

/// One database, expected and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertifiedDatabase {
    /// The item.
    pub item: String,
    /// `mariadb`, `postgresql`, …
    pub engine: String,
    /// `passed`, `failed` or `skipped`.
    pub result: String,
    /// Why, when it is not `passed`.
    pub detail: String,
    /// The server that the backup was made from.
    pub recorded_server: String,
    /// The server that it was loaded into; empty when there was none.
    pub scratch_server: String,
    /// Bytes of the dump.
    pub bytes: u64,
    /// Tables that the snapshot's record has.
    pub tables_expected: u64,
    /// Tables that were compared.
    pub tables_found: u64,
    /// Rows that the snapshot's record has.
    pub rows_expected: u64,
    /// Rows that were counted.
    pub rows_found: u64,
    /// What a reader should know.
    pub notes: Vec<String>,
}

fn yes() -> bool {
    true
}

impl CertifiedDatabase {
    pub(super) fn of(item: &str, record: &ItemRecord) -> Self {
        let database = record.database.clone().unwrap_or_default();
        Self {
            item: item.to_owned(),
            engine: database.engine,
            result: "passed".to_owned(),
            detail: String::new(),
            recorded_server: database.server_version,
            scratch_server: String::new(),
            bytes: 0,
            tables_expected: database.rows.len() as u64,
            tables_found: 0,
            rows_expected: database.rows.values().sum(),
            rows_found: 0,
            notes: Vec::new(),
        }
    }

    pub(super) fn failed(&mut self, why: String) {
        (self.result, self.detail) = ("failed".to_owned(), why);
    }

    pub(super) fn skipped(&mut self, why: String) {
        (self.result, self.detail) = ("skipped".to_owned(), why);
    }
}

/// Times, wanted and real.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objectives {
    /// How long a restore may take, as configured.
    pub rto: Option<String>,
    /// How long it took: files, histories, databases and the strategy's steps; not the checks.
    /// None when the restore did not come to its end.
    pub restore_ms: Option<u64>,
    /// Whether that was within `rto`.
    pub within_rto: Option<bool>,
    /// How old the newest backup may be, as configured.
    pub rpo: Option<String>,
    /// When the newest good backup of the project was made.
    pub newest_at: Option<Timestamp>,
    /// Its age when the drill began.
    pub newest_age_secs: Option<i64>,
    /// Whether that was within `rpo`.
    pub within_rpo: Option<bool>,
}

impl Certificate {
    /// What is signed: its JSON, with a line break at the end.
    pub fn signed_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// A count with its bytes grouped: `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2 h 03 min`, `41.3 s`.
pub(super) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// One line of a list of facts.
pub(super) type Fact = (&'static str, String);

/// Who, when, what: the head of both forms.
pub(super) fn facts(c: &Certificate) -> Vec<Fact> {
    let time = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let s = &c.snapshot;
    let judged = match c.strategy.judged_by_version.is_empty() {
        true => "could not be asked".to_owned(),
        false => format!("{} {}, SHA-256 {}", c.strategy.id, c.strategy.judged_by_version, c.strategy.judged_by_digest),
    };
    let took = u64::try_from(c.ended_at.as_millisecond().saturating_sub(c.started_at.as_millisecond())).unwrap_or(0);
    let mut facts = vec![
        ("Project", if c.title == c.project.as_str() { c.title.clone() } else { format!("{} ({})", c.title, c.project) }),
        ("Falls under", if c.compliance.is_empty() { "–".to_owned() } else { c.compliance.join(", ") }),
        ("Drill", c.id.clone()),
        ("Began", time(c.started_at)),
        ("Took", duration(took)),
        ("By", format!("{} ({}) on {}, {}", c.user, c.started_by, c.host, c.program)),
        ("Backup (SHA-256)", s.id.to_hex()),
        ("Backup made", format!("{} on {}, {}; {}", time(s.taken_at), s.host, s.program, s.outcome.word())),
        ("Chosen as", format!("{}, from store {} ({})", s.chosen_as, s.store, s.tier)),
        ("Kept until", time(s.retain_until)),
        ("Planned by", format!("{} {}, SHA-256 {}", c.strategy.id, c.strategy.version, c.strategy.digest)),
        ("Judged by", judged),
    ];
    facts.retain(|(name, value)| *name != "Falls under" || value != "–");
    facts
}

/// The verdict on what the drill did not come to.
const NOT_DONE: &str = "not done";

/// Expected, found and verdict of files, databases and times.
pub(super) fn comparisons(c: &Certificate) -> Vec<[String; 4]> {
    let verdict = |good: bool| if good { "passed" } else { "FAILED" }.to_owned();
    let f = &c.files;
    let of_files = |good: bool| if f.done { verdict(good) } else { NOT_DONE.to_owned() };
    let files_good = f.failed_count == 0 && f.expected == f.found;
    let mut rows = vec![
        ["Files and folders".to_owned(), count(f.expected), count(f.found), of_files(files_good)],
        ["Bytes of files".to_owned(), count(f.bytes_expected), count(f.bytes_found), of_files(f.bytes_expected == f.bytes_found)],
        ["Files compared by SHA-256".to_owned(), count(f.to_compare), count(f.compared), of_files(f.to_compare == f.compared)],
    ];
    for d in &c.databases {
        let word = match d.result.as_str() {
            "passed" => "passed".to_owned(),
            "skipped" => "not proven".to_owned(),
            _ => "FAILED".to_owned(),
        };
        let side = |tables: u64, rows: u64| format!("{} tables, {} rows", count(tables), count(rows));
        rows.push([
            if d.item == "database" { format!("Database ({})", d.engine) } else { format!("Database {} ({})", d.item, d.engine) },
            side(d.tables_expected, d.rows_expected),
            side(d.tables_found, d.rows_found),
            word,
        ]);
    }
    let o = &c.objectives;
    let objective = |within: Option<bool>| within.map_or_else(|| "no objective".to_owned(), verdict);
    let wanted = |text: &Option<String>| text.as_ref().map_or_else(|| "–".to_owned(), |text| format!("at most {text}"));
    rows.push(match o.restore_ms {
        Some(took) => ["Time to restore".to_owned(), wanted(&o.rto), duration(took), objective(o.within_rto)],
        None => ["Time to restore".to_owned(), wanted(&o.rto), "–".to_owned(), NOT_DONE.to_owned()],
    });
    let age = o.newest_age_secs.and_then(|age| u64::try_from(age).ok()).map_or_else(|| "none".to_owned(), |age| duration(age * 1000));
    rows.push(["Age of the newest backup".to_owned(), wanted(&o.rpo), age, objective(o.within_rpo)]);
    rows
}

/// What was accepted, and by whom.
pub(super) fn accepted_lines(c: &Certificate) -> Vec<String> {
    c.accepted.iter().map(|accepted| format!("{} (accepted by {})", accepted.what, accepted.by)).collect()
}

/// Versions of servers, and what there is to say of databases.
pub(super) fn database_lines(c: &Certificate) -> Vec<String> {
    let one = |d: &CertifiedDatabase| {
        let scratch = if d.scratch_server.is_empty() { "none" } else { &d.scratch_server };
        let mut line = format!("{}: backed up from {}; loaded into {scratch}", d.item, d.recorded_server);
        for more in std::iter::once(&d.detail).chain(&d.notes).filter(|text| !text.is_empty()) {
            line.push_str("; ");
            line.push_str(more);
        }
        line
    };
    c.databases.iter().map(one).collect()
}

#[cfg(test)]
pub(super) fn example() -> Certificate {
    let at: Timestamp = "2026-11-28T03:00:00Z".parse().unwrap_or_default();
    let digest = "ab".repeat(32);
    let text = serde_json::json!({
        "format": FORMAT, "id": "run/shop/abcd", "result": "passed", "project": "shop", "started_at": at, "ended_at": at,
        "snapshot": {
            "id": digest, "taken_at": at, "host": "core", "program": "havun-backup 0.1.0", "outcome": "ok", "chosen_as": "newest",
            "store": "local", "tier": "hot", "items": 2, "bytes": 10, "retain_until": at,
        },
        "strategy": { "id": "laravel", "version": "1.0.0", "digest": digest },
    });
    serde_json::from_value(text).expect("a certificate of the first program has at least this")
}
