use super::*;
use crate::store::{Fault, FaultPlan, FaultStore, LocalRoot, MemoryStore, Tamper};
use havun_model::{ProjectName, StoreName};
use std::{cell::Cell, fs};

fn clock() -> impl Fn() -> Duration {
    let ticks = Cell::new(0);
    move || {
        ticks.set(ticks.get() + 1);
        Duration::from_millis(100 * ticks.get())
    }
}

fn small() -> StoreCheckOptions {
    StoreCheckOptions { measure_bytes: 1000, ..StoreCheckOptions::default() }
}

fn outcome(check: &StoreCheck, tamper: Tamper) -> Enforcement {
    check.enforcement.iter().find(|attempt| attempt.attempt == tamper).unwrap().outcome
}

#[test]
fn a_local_folder_protects_by_convention_only_and_is_clean_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let root = LocalRoot::create(folder.path(), &StoreName::new("hot").unwrap()).unwrap();
    let store = root.vault(&ProjectName::new("check").unwrap());
    let check = store_check(&store, small(), &clock(), &|_| ()).unwrap();
    assert!(check.passed() && check.leftovers.is_empty(), "{check:#?}");
    assert_eq!(check.level, Level::ByConvention);
    for tamper in Tamper::ALL {
        let expected = if tamper == Tamper::ShortenLock { Enforcement::NotTried } else { Enforcement::Convention };
        assert_eq!(outcome(&check, tamper), expected, "{tamper:?}");
    }
    assert!(store.list("").unwrap().is_empty());
    assert!(fs::read_dir(store.path().join("tmp")).unwrap().next().is_none());
}

#[test]
fn memory_is_measured_by_the_clock_it_is_given() {
    let steps = std::cell::RefCell::new(Vec::new());
    let store = MemoryStore::new("test");
    let check = store_check(&store, small(), &clock(), &|step| steps.borrow_mut().push(step)).unwrap();
    assert_eq!(check.measured, Some(Measured { up_bytes_per_sec: 40_000, down_bytes_per_sec: 40_000, latency_millis: 100.0 }));
    assert_eq!(*steps.borrow(), [CheckStep::Conformance, CheckStep::Enforcement, CheckStep::Measure, CheckStep::CleanUp]);
    assert_eq!(check.level.as_str(), "by convention");
    assert!(store.list("").unwrap().is_empty());
    let json = serde_json::to_value(&check).unwrap();
    assert_eq!(json["level"], "by convention");
    assert_eq!(json["enforcement"][0]["attempt"], "delete");
    assert_eq!(json["enforcement"][0]["outcome"], "convention");
}

#[test]
fn a_store_that_does_not_answer_is_one_error() {
    let store = FaultStore::new(MemoryStore::new("test"), FaultPlan::from(0, Fault::Hang));
    assert!(store_check(&store, small(), &clock(), &|_| ()).unwrap_err().is_transient());
    assert_eq!(store.calls(), 1);
}

#[test]
fn a_level_is_enforced_only_where_deletion_and_overwriting_were_stopped() {
    let made = |outcomes: [(Tamper, Enforcement); 3]| {
        let attempts: Vec<_> = outcomes.map(|(attempt, outcome)| Attempt { attempt, outcome, said: String::new() }).into();
        Level::of(&attempts, Promises::ALL)
    };
    let (yes, no, not) = (Enforcement::Enforced, Enforcement::Convention, Enforcement::NotTried);
    assert_eq!(made([(Tamper::Delete, yes), (Tamper::Overwrite, yes), (Tamper::Rename, not)]), Level::EnforcedByServer);
    assert_eq!(made([(Tamper::Delete, yes), (Tamper::Overwrite, yes), (Tamper::ShortenLock, no)]), Level::ByConvention);
    assert_eq!(made([(Tamper::Delete, not), (Tamper::Overwrite, yes), (Tamper::Rename, yes)]), Level::ByConvention);
    assert_eq!(made([(Tamper::Delete, yes), (Tamper::Overwrite, yes), (Tamper::ChangeMode, no)]), Level::EnforcedByServer);
    assert_eq!(Level::of(&[], Promises { no_overwrite: false, ..Promises::ALL }), Level::None);
}
