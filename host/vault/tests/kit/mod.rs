//! What the engine's tests share: a vault in any store, and a backup of one tree.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

use havun_model::{BackupPlan, Cancel, Digest, ItemName, Outcome, ProjectName, RetentionRecord, Snapshot, SnapshotStrategy, TreeItem};
use havun_vault::{
    BackupOptions, Committed, LeaseWait, NewVault, NoProgress, PruneOptions, ReplicateOptions, SnapshotDraft, StreamError, StreamProfile,
    TreeSummary, Vault, VaultError,
    keys::Identity,
    store::{Lease, Listed, ObjectName, Promises, Store, StoreError, Upload},
};
use jiff::Timestamp;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub struct Bench {
    pub identity: Identity,
    pub escrow: Identity,
    pub state: tempfile::TempDir,
    pub encryption: bool,
}

impl Bench {
    pub fn new(encryption: bool) -> Self {
        Self { identity: Identity::generate(), escrow: Identity::generate(), state: tempfile::tempdir().unwrap(), encryption }
    }

    pub fn create(&self, store: &Arc<dyn Store>) -> Result<(), VaultError> {
        let recipients = vec![self.identity.recipient(), self.escrow.recipient()];
        let project = ProjectName::new("sample").unwrap();
        Vault::create(Arc::clone(store), &NewVault { project, encryption: self.encryption, recipients, created: now(0) })
    }

    pub fn open(&self, store: &Arc<dyn Store>) -> Result<Vault, VaultError> {
        Vault::open(Arc::clone(store), std::slice::from_ref(&self.identity))
    }

    pub fn options(&self, hour: i64) -> BackupOptions {
        BackupOptions {
            now: now(hour),
            recipients: vec![self.identity.recipient(), self.escrow.recipient()],
            state_dir: self.state.path().to_path_buf(),
            threads: 2,
            level: 3,
            force_lease: false,
            holder: "test".to_owned(),
            lease_wait: LeaseWait { up_to: Duration::ZERO, ..LeaseWait::default() },
            cancel: Cancel::default(),
            progress: Arc::new(NoProgress),
        }
    }

    /// A dump and a tree, committed.
    pub fn backup(&self, vault: &Vault, root: &Path, dump: &[u8], hour: i64) -> Result<(Committed, TreeSummary), VaultError> {
        let mut session = vault.begin_backup(self.options(hour))?;
        let stored = session.add_stream("databases/main.sql", "main", 0o600, now(0), StreamProfile::Dump, |out| out.write_all(dump));
        stored.map_err(|e| match e {
            StreamError::Vault(error) => error,
            StreamError::Produce(error) => panic!("{error}"),
        })?;
        let tree = session.add_tree(root, &everything())?;
        Ok((session.finish(draft(hour))?, tree))
    }
}

/// One object after the other, so that calls come in the same order each time.
pub fn replicate_options(catalogue: Option<&Path>) -> ReplicateOptions {
    let catalogue = catalogue.map(Path::to_path_buf);
    ReplicateOptions {
        holder: "test".to_owned(),
        threads: 1,
        catalogue,
        full: false,
        selection: None,
        on_lost: None,
        now: now(0),
        cancel: Cancel::default(),
    }
}

pub fn everything() -> Vec<(ItemName, TreeItem)> {
    let item = TreeItem { path: String::new(), include: vec![], exclude: vec![], json: false };
    vec![(ItemName::new("files").unwrap(), item)]
}

/// Hours after a moment that lies ahead of any file that a test makes, so that none of them counts as just changed.
pub fn now(hour: i64) -> Timestamp {
    let base: Timestamp = "2091-03-01T00:00:00Z".parse().unwrap();
    base.checked_add(jiff::Span::new().hours(hour)).unwrap()
}

/// The same moment in every run, so that a repeated dump has an equal entry.
pub fn draft(hour: i64) -> SnapshotDraft {
    SnapshotDraft {
        title: "Sample".to_owned(),
        run_id: format!("run-{hour}"),
        host: "host".to_owned(),
        root: "/srv/sample".to_owned(),
        outcome: Outcome::Ok,
        strategy: SnapshotStrategy { id: "files".to_owned(), version: "1.0.0".to_owned(), digest: Digest::from_bytes([0; 32]) },
        plan: BackupPlan::default(),
        items: Default::default(),
        retention: RetentionRecord { hot: "30d".to_owned(), archive: "7y".to_owned(), retain_until: now(100_000) },
        audit_head: String::new(),
        warnings: vec![],
        program: "0.1.0".to_owned(),
        ended_at: now(hour),
    }
}

/// Every pack with some waste is repacked, and nothing waits.
pub fn prune_options() -> PruneOptions {
    PruneOptions { total_percent: 0, min_waste_bytes: 0, sleeper: Arc::new(|_: Duration| {}), ..PruneOptions::default() }
}

/// Path and content of every regular file of a snapshot.
pub fn contents(vault: &Vault, snapshot: &Snapshot) -> Vec<(PathBuf, Vec<u8>)> {
    let mut reader = vault.contents(snapshot).unwrap();
    let mut files = Vec::new();
    for entry in vault.entries(snapshot).unwrap() {
        let entry = entry.unwrap();
        if entry.kind == havun_vault::EntryKind::File {
            let mut bytes = Vec::new();
            reader.write(&entry, &mut bytes).unwrap();
            files.push((PathBuf::from(String::from_utf8_lossy(&entry.path).into_owned()), bytes));
        }
    }
    files
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// A dump a day later: a byte in 5000 is another one, here and there.
pub fn a_day_later(dump: &[u8], day: usize) -> Vec<u8> {
    let mut later = dump.to_vec();
    for at in (day * 131..later.len()).step_by(5003) {
        later[at] = later[at].wrapping_add(1 + day as u8);
    }
    later
}

/// A small tree of every size class: empty, small, equal, several chunks.
pub fn make_tree(root: &Path) {
    for (name, bytes) in [
        ("a.txt", b"hello".to_vec()),
        ("empty", vec![]),
        ("dir/b.txt", b"hello".to_vec()),
        ("dir/deep/c.bin", noise(1, 100_000)),
        ("dir.d/e", noise(2, 300_000)),
        ("large.bin", noise(3, 6_000_000)),
    ] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::create_dir_all(root.join("many")).unwrap();
    for n in 0..300 {
        std::fs::write(root.join(format!("many/{n}.txt")), format!("file number {n}\n").repeat(20)).unwrap();
    }
}

/// A store that promises less than the one inside: names may be lost in a power cut, and a lease keeps nobody out.
pub struct Weak<S>(pub S);

struct NoLease;

impl Lease for NoLease {
    fn fencing(&self) -> u64 {
        1
    }

    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl<S: Store> Store for Weak<S> {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn promises(&self) -> Promises {
        Promises { durable_name: false, exclusive: false, ..self.0.promises() }
    }

    fn notes(&self) -> Vec<String> {
        vec!["a name may not survive a power cut".to_owned()]
    }

    fn as_dyn(&self) -> &dyn Store {
        self
    }

    fn begin(&self) -> Result<Box<dyn Upload + '_>, StoreError> {
        self.0.begin()
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, StoreError> {
        self.0.size(name)
    }

    fn read(&self, name: &ObjectName, max: u64) -> Result<Vec<u8>, StoreError> {
        self.0.read(name, max)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.0.read_range(name, offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.0.list(folder)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.0.folders(folder)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.remove(name)
    }

    fn remove_stale_uploads(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.0.remove_stale_uploads(older_than)
    }

    fn lease(&self, _holder: &str, _force: bool) -> Result<Box<dyn Lease>, StoreError> {
        Ok(Box::new(NoLease))
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.0.free_bytes()
    }
}
