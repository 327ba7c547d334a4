//! The erasure register of a vault: added to, withdrawn from, damaged, copied.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{
    Digest,
    erasures::{Erasure, Withdrawal},
};
use havun_vault::{
    NoProgress, Vault, VaultError, VerifyOptions,
    store::{MemoryStore, ObjectName, Store},
};
use kit::{Bench, noise, now};
use std::{fs, sync::Arc};

fn vault(encryption: bool) -> (MemoryStore, Vault) {
    let bench = Bench::new(encryption);
    let memory = MemoryStore::new("memory");
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    bench.create(&store).unwrap();
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), noise(1, 5000)).unwrap();
    bench.backup(&bench.open(&store).unwrap(), root.path(), &noise(50, 100_000), 0).unwrap();
    (memory, bench.open(&store).unwrap())
}

fn erasure(hour: i64) -> Erasure {
    let subject = Digest::from_bytes([u8::try_from(hour).unwrap(); 32]);
    Erasure { id: String::new(), created: now(hour), by: "jan".to_owned(), subject, note: "request 17".to_owned() }
}

fn damage(vault: &Vault) -> Vec<String> {
    let report = vault.verify(&VerifyOptions { snapshot: None, read_data: false, threads: 2 }, &NoProgress).unwrap();
    report.damage.into_iter().map(|d| d.object).collect()
}

#[test]
fn an_erasure_stands_until_it_is_withdrawn_and_says_nothing_without_the_key() {
    for encryption in [true, false] {
        let (memory, vault) = vault(encryption);
        let first = vault.add_erasure(erasure(1), "test").unwrap();
        let second = vault.add_erasure(erasure(2), "test").unwrap();
        assert_eq!(first.erasure.id.len(), 16);
        // Another store has it under the same id.
        vault.add_erasure(first.erasure.clone(), "test").unwrap();
        assert_eq!(vault.erasures().unwrap().standing.len(), 2);
        let withdrawal = Withdrawal { erasure: second.erasure.id.clone(), at: now(3), by: "piet".to_owned(), reason: "mistake".to_owned() };
        vault.withdraw_erasure(withdrawal.clone(), "test").unwrap();
        let erasures = vault.erasures().unwrap();
        assert_eq!((erasures.standing.len(), erasures.withdrawn[0].1.reason.as_str()), (1, "mistake"));
        assert!(matches!(vault.withdraw_erasure(withdrawal, "test"), Err(VaultError::NoErasure { .. })), "it is withdrawn already");
        assert!(damage(&vault).is_empty());
        let bytes = memory.read(&ObjectName::new(&first.object).unwrap(), 1 << 20).unwrap();
        assert!(!encryption || !String::from_utf8_lossy(&bytes).contains("request"), "sealed like a hold");
    }
}

#[test]
fn a_damaged_record_is_named_and_keeps_no_snapshot_from_anything() {
    let (memory, vault) = vault(true);
    let stored = vault.add_erasure(erasure(1), "test").unwrap();
    let object = ObjectName::new(&stored.object).unwrap();
    assert!(memory.damage(&object, |bytes| bytes[70] ^= 1));
    assert_eq!(vault.erasures().unwrap().damaged[0].object, stored.object);
    assert_eq!(damage(&vault), std::slice::from_ref(&stored.object));
    assert!(vault.holds().unwrap().damaged.is_empty());
}
