//! Holds placed, released, damaged, and what they keep; snapshots that are complete in a store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod kit;

use havun_model::{
    SnapshotId,
    holds::{Hold, HoldScope, Release},
};
use havun_vault::{
    NoProgress, Vault, VaultError, VerifyOptions,
    store::{MemoryStore, ObjectName, Store},
};
use kit::{Bench, noise, now};
use std::{collections::BTreeSet, fs, sync::Arc};

struct Scene {
    memory: MemoryStore,
    vault: Vault,
    snapshots: Vec<SnapshotId>,
}

fn scene(encryption: bool) -> Scene {
    let bench = Bench::new(encryption);
    let memory = MemoryStore::new("memory");
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    bench.create(&store).unwrap();
    let root = tempfile::tempdir().unwrap();
    let vault = bench.open(&store).unwrap();
    for hour in 0..3 {
        fs::write(root.path().join("file"), noise(hour, 5000)).unwrap();
        bench.backup(&vault, root.path(), &noise(50 + hour, 100_000), hour as i64).unwrap();
    }
    let vault = bench.open(&store).unwrap();
    let snapshots = vault.snapshots().unwrap().snapshots.iter().map(|s| s.id).collect();
    Scene { memory, vault, snapshots }
}

fn hold(hour: i64, scope: HoldScope) -> Hold {
    Hold { id: String::new(), created: now(hour), by: "jan".to_owned(), reason: "tax audit".to_owned(), scope, automatic: false }
}

impl Scene {
    fn held(&self) -> Vec<bool> {
        let list = self.vault.snapshots().unwrap().snapshots;
        let held = self.vault.holds().unwrap().held(&list);
        self.snapshots.iter().map(|id| held.contains_key(id)).collect()
    }

    fn damage(&self) -> Vec<String> {
        let report = self.vault.verify(&VerifyOptions { snapshot: None, read_data: false, threads: 2 }, &NoProgress).unwrap();
        report.damage.into_iter().map(|d| d.object).collect()
    }
}

#[test]
fn a_hold_keeps_what_its_scope_says_until_it_is_released() {
    for encryption in [true, false] {
        let scene = scene(encryption);
        assert_eq!(scene.held(), [false; 3]);
        let scopes = [
            (HoldScope::All, [true, true, true]),
            (HoldScope::Epoch { epoch: "2091".to_owned() }, [true, true, true]),
            (HoldScope::Epoch { epoch: "2092".to_owned() }, [false, false, false]),
            (HoldScope::Snapshots { ids: vec![scene.snapshots[1]] }, [false, true, false]),
            (HoldScope::Period { from: now(1), until: now(9) }, [false, true, true]),
        ];
        for (hour, (scope, expected)) in (10..).zip(scopes) {
            let stored = scene.vault.add_hold(hold(hour, scope), "test").unwrap();
            assert_eq!(stored.hold.id.len(), 16);
            assert_eq!(scene.held(), expected, "{stored:?}");
            let list = scene.vault.snapshots().unwrap().snapshots;
            let why = list.iter().find_map(|s| scene.vault.holds().unwrap().covers(s));
            assert_eq!(why.is_some(), expected.contains(&true));
            let release = Release { hold: stored.hold.id.clone(), at: now(hour), by: "piet".to_owned(), reason: "closed".to_owned() };
            scene.vault.release_hold(release.clone(), "test").unwrap();
            assert_eq!(scene.held(), [false; 3]);
            assert!(matches!(scene.vault.release_hold(release, "test"), Err(VaultError::NoHold { .. })), "it was released already");
        }
        let holds = scene.vault.holds().unwrap();
        assert_eq!((holds.active.len(), holds.released.len(), holds.damaged.len()), (0, 5, 0));
        assert_eq!(holds.released[0].1.by, "piet");
        assert!(scene.damage().is_empty());
        if encryption {
            let object = ObjectName::new(&holds.released[0].0.object).unwrap();
            let bytes = scene.memory.read(&object, 1 << 20).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("tax"), "a hold says nothing without the key");
        }
    }
}

#[test]
fn a_damaged_hold_keeps_everything_and_is_named() {
    let scene = scene(true);
    let stored = scene.vault.add_hold(hold(9, HoldScope::Snapshots { ids: vec![scene.snapshots[0]] }), "test").unwrap();
    let object = ObjectName::new(&stored.object).unwrap();
    assert!(scene.memory.damage(&object, |bytes| bytes[70] ^= 1));
    let holds = scene.vault.holds().unwrap();
    assert_eq!(holds.damaged[0].object, stored.object);
    assert_eq!(scene.held(), [true; 3]);
    assert!(holds.covers_epoch("1999").is_some());
    assert_eq!(scene.damage(), std::slice::from_ref(&stored.object));
}

#[test]
fn a_hold_waits_for_no_one_who_holds_the_lease() {
    let scene = scene(true);
    let lease = scene.vault.store().lease("a backup", false).unwrap();
    lease.check().unwrap();
    assert!(matches!(scene.vault.add_hold(hold(9, HoldScope::All), "test"), Err(VaultError::Locked { .. })));
    drop(lease);
    assert!(scene.vault.add_hold(hold(9, HoldScope::All), "test").is_ok());
}

#[test]
fn a_snapshot_is_complete_while_its_packs_are_there_in_full() {
    let scene = scene(true);
    let all: BTreeSet<SnapshotId> = scene.snapshots.iter().copied().collect();
    assert_eq!(scene.vault.complete_snapshots().unwrap(), all);
    let some = BTreeSet::from([scene.snapshots[1]]);
    assert_eq!(scene.vault.complete_among(&some).unwrap(), some);
    let list = scene.vault.snapshots().unwrap().snapshots;
    // A pack that only the last snapshot needs.
    let earlier: BTreeSet<_> = list[..2].iter().flat_map(|s| s.snapshot.packs.iter().copied()).collect();
    let last = *list[2].snapshot.packs.iter().find(|id| !earlier.contains(id)).unwrap();
    let object = havun_vault::layout::pack("2091", &last);
    assert!(scene.memory.damage(&object, |bytes| bytes.truncate(bytes.len() - 1)));
    assert_eq!(scene.vault.complete_snapshots().unwrap(), scene.snapshots[..2].iter().copied().collect());
    // A flipped bit is nothing that a listing can see.
    assert!(scene.memory.damage(&object, |bytes| bytes.push(0)));
    assert_eq!(scene.vault.complete_snapshots().unwrap(), all);
    scene.memory.remove(&object).unwrap();
    assert_eq!(scene.vault.complete_snapshots().unwrap(), scene.snapshots[..2].iter().copied().collect());
}
