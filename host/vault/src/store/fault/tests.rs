use super::*;
use crate::store::{MemoryStore, conformance};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn put(store: &dyn Store, at: &str) -> Result<Published, StoreError> {
    let mut upload = store.begin()?;
    upload.write(b"0123456789")?;
    upload.publish(&name(at))
}

#[test]
fn without_faults_it_passes_the_conformance_suite() {
    let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::none());
    let problems = conformance::problems(&store);
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(store.calls() > 50);
}

#[test]
fn the_suite_notices_a_store_that_lies() {
    for fault in [Fault::ShortWrite, Fault::LyingRename, Fault::StaleList, Fault::Error] {
        let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::from(0, fault));
        assert!(!conformance::problems(&store).is_empty(), "{fault:?}");
    }
}

#[test]
fn a_crash_at_each_call_leaves_the_object_whole_or_not_at_all() {
    let count = FaultStore::new(MemoryStore::new("test"), FaultPlan::none());
    put(&count, "a").unwrap();
    assert_eq!(count.calls(), 3);
    for call in 0..3 {
        for fault in [Fault::Crash, Fault::CrashAfter] {
            let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::at(call, fault));
            assert!(put(&store, "a").is_err());
            assert!(store.has_crashed() && put(&store, "b").is_err());
            for keep in [true, false] {
                let left = store.inner().after_power_cut(keep);
                let published = (call, fault) == (2, Fault::CrashAfter);
                assert_eq!(left.size(&name("a")).unwrap(), published.then_some(10), "{call} {fault:?}");
                assert_eq!(put(&left, "a").unwrap() == Published::AlreadyThere, published);
            }
        }
    }
}

#[test]
fn an_upload_of_a_dead_process_stays_behind() {
    let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::at(1, Fault::Crash));
    assert!(put(&store, "a").is_err());
    assert_eq!(store.inner().upload_count(), 1);
    assert_eq!(store.inner().after_power_cut(true).remove_stale_uploads(Duration::ZERO).unwrap(), 1);
}

#[test]
fn a_power_cut_takes_back_what_was_not_fsynced() {
    let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::none());
    put(&store, "old").unwrap();
    store.reset(FaultPlan::from(0, Fault::DroppedFsync));
    put(&store, "new").unwrap();
    store.remove(&name("old")).unwrap();
    assert_eq!(store.inner().list("").unwrap().len(), 1);
    store.power_cut().unwrap();
    let left: Vec<_> = store.inner().list("").unwrap().into_iter().map(|l| l.name).collect();
    assert_eq!(left, [name("old")]);
    assert_eq!(store.inner().read(&name("old"), 99).unwrap(), b"0123456789");
}

#[test]
fn a_short_write_shows_on_reading_back() {
    let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::at(1, Fault::ShortWrite));
    let mut upload = store.begin().unwrap();
    upload.write(b"0123").unwrap();
    assert!(matches!(upload.read_back(0, &mut [0; 4]), Err(StoreError::Short { .. })));
}

#[test]
fn calls_are_logged_in_their_order() {
    let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::none());
    let lease = store.lease("me", false).unwrap();
    put(&store, "a/b").unwrap();
    lease.check().unwrap();
    let operations: Vec<_> = store.log().into_iter().map(|call| (call.operation, call.name)).collect();
    let expected = [
        (Operation::Lease, "me"),
        (Operation::Begin, ""),
        (Operation::Write, ""),
        (Operation::Publish, "a/b"),
        (Operation::CheckLease, ""),
    ];
    assert_eq!(operations, expected.map(|(operation, name)| (operation, name.to_owned())));
}
