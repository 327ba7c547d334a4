//! A file that is written while it is read.

use havun_tests::Machine;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Read again and again, then stored as it is, and said.
#[test]
fn a_json_store_that_is_written_all_the_while_is_stored_and_makes_the_run_partial() {
    let mut machine = Machine::new();
    let root = machine.project("orders", "nodejs", "");
    fs::create_dir_all(root.join("data")).unwrap();
    fs::write(root.join("package.json"), r#"{"name":"orders","dependencies":{"express":"^5.0.0"}}"#).unwrap();
    let store = root.join("data/orders.json");
    let rows: Vec<String> = (0..300_000).map(|n| format!("{{\"id\":{n},\"note\":\"x\"}}")).collect();
    fs::write(&store, format!("[{}]", rows.join(",\n"))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, store) = (Arc::clone(&stop), store.clone());
        thread::spawn(move || {
            let mut file = OpenOptions::new().append(true).open(store).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"\n").unwrap();
                thread::yield_now();
            }
        })
    };
    let report = machine.json(&["run"]).ended(3).json();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let project = &report["projects"][0];
    assert_eq!(project["outcome"], "partial", "{report}");
    let problems = project["problems"].to_string();
    assert!(problems.contains("data/orders.json") && problems.contains("kept changing while it was read"), "{problems}");
    let target = machine.at("target");
    machine.call(&["restore", "--project", "orders", "--path", "data/orders.json", "--target", &target.to_string_lossy(), "--yes"]);
    let stored = fs::read_to_string(target.join("data/orders.json")).unwrap();
    assert!(stored.starts_with("[{\"id\":0,") && stored.contains("{\"id\":299999,\"note\":\"x\"}]"), "all that was there before is in it");
    // At rest it is whole again.
    machine.call(&["run"]).ended(0);
}
