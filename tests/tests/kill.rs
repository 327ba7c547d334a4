//! `kill -9` at 50 random moments of a real run: every committed snapshot verifies, and the next run succeeds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

use havun_tests::{Machine, tree_difference};
use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

const KILLS: u64 = 50;

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// New content for some of the files, so that each run has something to store.
fn change(root: &Path, seed: &mut u64) {
    for n in (random(seed) % 3..60).step_by(3) {
        let bytes: Vec<u8> = (0..20_000 + n * 2_000).map(|_| (random(seed) & 0xff) as u8).collect();
        fs::write(root.join(format!("{n}.bin")), bytes).unwrap();
    }
}

fn committed(machine: &Machine) -> usize {
    let list = machine.json(&["list"]).ended(0).json();
    list["projects"][0]["stores"][0]["snapshots"].as_array().unwrap_or_else(|| panic!("{list}")).len()
}

#[test]
fn a_run_killed_at_any_moment_loses_nothing() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "");
    let mut seed = u64::from(std::process::id()) ^ 0x5eed;
    eprintln!("seed {seed}");
    change(&root, &mut seed);
    let started = Instant::now();
    machine.call(&["run"]).ended(0);
    // How long a run lasts is learned on the way: one that ended before its moment makes the next moments earlier.
    let mut span = started.elapsed();
    let (mut killed, mut snapshots) = (0, committed(&machine));
    for round in 0..KILLS {
        change(&root, &mut seed);
        let mut run = machine.command(&["run", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moment = Instant::now() + span.mul_f64((random(&mut seed) % 1000) as f64 / 1000.0);
        while Instant::now() < moment {
            std::thread::park_timeout(moment.saturating_duration_since(Instant::now()));
        }
        run.kill().unwrap();
        let died = run.wait().unwrap().code().is_none();
        killed += u32::from(died);
        span = if died { span.mul_f64(1.05) } else { span.mul_f64(0.8) }.max(Duration::from_millis(10));
        // Whatever was committed is whole, in every store; a snapshot may have come, none may have gone.
        let verified = machine.call(&["verify", "--read-data"]);
        assert_eq!(verified.status, 0, "round {round}: {verified:?}");
        let now = committed(&machine);
        assert!(now >= snapshots, "round {round}: {now} snapshots of {snapshots}");
        snapshots = now;
        if round % 10 == 9 {
            machine.call(&["run"]).ended(0);
            snapshots = committed(&machine);
        }
    }
    assert!(killed > 5, "only {killed} runs were killed before their end");
    machine.call(&["run"]).ended(0);
    machine.call(&["verify", "--read-data"]).ended(0);
    for store in ["local", "archive"] {
        let target = machine.at(&format!("back-{store}"));
        machine
            .call(&["restore", "--project", "shop", "--latest", "--store", store, "--target", target.to_str().unwrap(), "--yes"])
            .ended(0);
        assert_eq!(tree_difference(&root, &target, &[]), "", "{store}");
    }
}
