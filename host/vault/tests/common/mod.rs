//! What the vault's integration tests share: a project, a clock that stands still, and runs over both.
#![allow(dead_code, reason = "every test binary takes what it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

pub mod listing;
pub mod tree;

use havun_model::{BackupPlan, Cancel, Digest, ItemName, Outcome, ProjectName, RetentionRecord, SnapshotStrategy, StoreName, TreeItem};
use havun_vault::{
    BackupOptions, Committed, NewVault, NoProgress, SnapshotDraft, StreamProfile, Vault, VaultError,
    keys::{Identity, Recipient},
    store::{LocalRoot, LocalStore, Store},
};
use jiff::Timestamp;
use listing::Listing;
use std::{collections::BTreeMap, io::Write, path::Path, sync::Arc};

/// Rows in the dump of every run.
const ROWS: u64 = 9_000;

/// The day of run `number`, at three o'clock.
pub fn day(number: i64) -> Timestamp {
    "2026-11-01T03:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_hours(24 * number)
}

pub fn project() -> ProjectName {
    ProjectName::new("shop").unwrap()
}

/// The vault's store beneath `folder`, which is made a store named `hot`.
pub fn local(folder: &Path) -> LocalStore {
    LocalRoot::create(folder, &StoreName::new("hot").unwrap()).unwrap().vault(&project())
}

/// Makes a vault, encrypted for `identities` unless there are none, and opens it.
pub fn new_vault(store: Arc<dyn Store>, identities: &[Identity]) -> Result<Vault, VaultError> {
    let recipients = recipients(identities);
    let new = NewVault { project: project(), encryption: !identities.is_empty(), recipients, created: day(0) };
    Vault::create(Arc::clone(&store), &new)?;
    Vault::open(store, identities)
}

pub fn recipients(identities: &[Identity]) -> Vec<Recipient> {
    identities.iter().map(Identity::recipient).collect()
}

/// One run over a project.
pub struct Run<'r> {
    pub root: &'r Path,
    pub state_dir: &'r Path,
    pub identities: &'r [Identity],
    /// Decides the time and the dump.
    pub number: i64,
}

impl Run<'_> {
    /// Two streams and the tree, committed.
    pub fn backup(&self, vault: &Vault) -> Result<Committed, VaultError> {
        let mut session = vault.begin_backup(self.options())?;
        let now = day(self.number);
        for (path, item, profile, bytes) in self.streams() {
            let write = |out: &mut (dyn Write + Send)| out.write_all(&bytes);
            match session.add_stream(path, item, 0o600, now, profile, write) {
                Ok(_) => {}
                Err(havun_vault::StreamError::Vault(error)) => return Err(error),
                Err(havun_vault::StreamError::Produce(error)) => panic!("{error}"),
            }
        }
        let all = TreeItem { path: String::new(), include: Vec::new(), exclude: Vec::new(), json: false };
        let summary = session.add_tree(self.root, &[(ItemName::new("files").unwrap(), all)])?;
        for (item, summary) in &summary.items {
            assert_eq!(summary.problem_count, 0, "{item}: {:?}", summary.problems);
        }
        session.finish(draft(self.number))
    }

    /// What a restore of this run has to bring back.
    pub fn expected(&self) -> Listing {
        let mut listing = listing::scan(self.root, "tree");
        for (path, _, _, bytes) in self.streams() {
            listing.insert(path.to_owned(), listing::stream(&bytes, "0600", day(self.number).as_second()));
        }
        listing
    }

    fn streams(&self) -> [(&'static str, &'static str, StreamProfile, Vec<u8>); 2] {
        let changed = 40 * self.number.unsigned_abs();
        [
            ("databases/database.sql", "database", StreamProfile::Dump, tree::dump(ROWS, changed)),
            ("generated/meta/facts.json", "meta", StreamProfile::File, format!("{{\"run\":{}}}\n", self.number).into_bytes()),
        ]
    }

    fn options(&self) -> BackupOptions {
        BackupOptions {
            now: day(self.number),
            recipients: recipients(self.identities),
            state_dir: self.state_dir.to_owned(),
            threads: 2,
            level: 3,
            force_lease: false,
            holder: "the tests".to_owned(),
            lease_wait: Default::default(),
            cancel: Cancel::default(),
            progress: Arc::new(NoProgress),
        }
    }
}

fn draft(number: i64) -> SnapshotDraft {
    let digest = Digest::from_bytes([0x11; 32]);
    SnapshotDraft {
        title: "The shop".to_owned(),
        run_id: format!("run-{number}"),
        host: "testhost".to_owned(),
        root: "/srv/shop".to_owned(),
        outcome: Outcome::Ok,
        strategy: SnapshotStrategy { id: "files".to_owned(), version: "1.0.0".to_owned(), digest },
        plan: BackupPlan::default(),
        items: BTreeMap::new(),
        retention: RetentionRecord { hot: "30d".to_owned(), archive: "7y".to_owned(), retain_until: day(4000) },
        audit_head: String::new(),
        warnings: Vec::new(),
        program: "havun-backup tests".to_owned(),
        ended_at: day(number),
    }
}

/// The golden vaults: what earlier versions of the program wrote.
pub mod golden {
    use super::{Listing, listing, local};
    use havun_vault::{Vault, keys::Identity, store::LocalStore};
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::Arc,
    };

    /// Folders of `tests/fixtures/golden`.
    pub const VAULTS: [&str; 4] = ["v1-encrypted", "v1-plain", "v1-deltas-encrypted", "v1-deltas-plain"];

    /// A copy of one golden vault, to read and to write to.
    pub struct Golden {
        scratch: tempfile::TempDir,
        pub identities: Vec<Identity>,
    }

    impl Golden {
        pub fn copy(name: &str) -> Self {
            let scratch = tempfile::tempdir().unwrap();
            copy_folder(&fixtures().join(name), scratch.path());
            let text = fs::read_to_string(scratch.path().join("identity.txt")).unwrap_or_default();
            let identities = if text.is_empty() { Vec::new() } else { Identity::parse_all(&text).unwrap() };
            Self { scratch, identities }
        }

        /// The vault's folder.
        pub fn folder(&self) -> PathBuf {
            self.scratch.path().join("store/shop")
        }

        /// The age identity file; `None` where the vault is not encrypted.
        pub fn identity_file(&self) -> Option<PathBuf> {
            Some(self.scratch.path().join("identity.txt")).filter(|path| path.exists())
        }

        pub fn store(&self) -> LocalStore {
            local(&self.scratch.path().join("store"))
        }

        pub fn open(&self) -> Vault {
            Vault::open(Arc::new(self.store()), &self.identities).unwrap()
        }
    }

    /// What a restore of snapshot `number` (1 or 2) of any golden vault has to bring back.
    pub fn expected(number: usize) -> Listing {
        listing::from_text(&fs::read_to_string(fixtures().join(format!("expected-{number}.jsonl"))).unwrap())
    }

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden")
    }

    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (entry, target) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
            if entry.is_dir() {
                copy_folder(&entry, &target);
            } else {
                fs::copy(&entry, &target).unwrap();
            }
        }
    }
}
