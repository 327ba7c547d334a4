//! A strategy that misbehaves in a call: each deed ends in an error that names it, and another strategy keeps
//! working beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod common;

use common::{Ears, assert_error, bench, told};
use havun_model::{Blame, Cancel, ItemKind, ScratchDatabase, StoredItem, Strategy, StrategyError};
use havun_plugin_runtime::Limits;
use std::{
    os::unix::fs::symlink,
    sync::{Arc, Mutex},
    time::Duration,
};

fn tight() -> Limits {
    common::tight()
}

#[track_caller]
fn deed(deed: &str, code: &str, part: &str) -> StrategyError {
    let bench = bench(tight());
    let strategy = bench.unruly();
    let error = strategy.plan_backup(&told(&[("do", deed)]), &bench.root()).expect_err("an error");
    assert_error(&error, "plan-backup", code, part);
    let next = strategy.plan_backup(&told(&[("do", "fine")]), &bench.root()).unwrap();
    assert_eq!(next.items.len(), 1, "the next call starts afresh");
    error
}

#[test]
fn a_plan_comes_back_whole() {
    let bench = bench(tight());
    let plan = bench.unruly().plan_backup(&told(&[("do", "fine")]), &bench.root()).unwrap();
    assert_eq!(plan.warnings, ["run run-1"]);
    assert_eq!((plan.items[0].name.as_str(), plan.items[0].reason.as_str()), ("files", "because"));
    assert!(matches!(plan.items[0].kind, ItemKind::Tree(_)));
}

#[test]
fn detection_is_bounded_and_sees_the_root() {
    let bench = bench(tight());
    let found = bench.unruly().detect(&bench.root(), &Cancel::default()).unwrap().unwrap();
    assert_eq!((found.confidence, found.label.as_str()), (100, "marker of 4 bytes"));
    std::fs::remove_file(bench.root().join("marker")).unwrap();
    assert_eq!(bench.unruly().detect(&bench.root(), &Cancel::default()).unwrap(), None);
}

#[test]
fn a_root_that_is_gone_is_the_hosts_error() {
    let bench = bench(tight());
    let error = bench.unruly().detect(&bench.root().join("gone"), &Cancel::default()).unwrap_err();
    assert_error(&error, "detect", "io", "gone");
    assert_eq!(error.blame, Blame::Host);
}

#[test]
fn it_loops_for_ever() {
    assert_eq!(deed("loop", "limit", "processor time").blame, Blame::Strategy);
}

#[test]
fn it_calls_the_host_for_ever() {
    deed("loop-in-host", "limit", "processor time");
}

#[test]
fn it_allocates_without_end() {
    deed("allocate", "limit", "memory limit of 64 MiB");
}

#[test]
fn it_floods_the_log() {
    deed("flood", "limit", "log lines");
}

#[test]
fn it_floods_its_standard_output() {
    let bench = bench(tight());
    let error = bench.unruly().plan_backup(&told(&[("do", "flood-stdout")]), &bench.root()).expect_err("an error");
    assert_eq!((error.strategy.as_str(), error.call), ("unruly", "plan-backup"));
    assert!(matches!(error.code.as_str(), "trap" | "limit"), "{error}");
    assert!(error.message.len() < 5000);
}

#[test]
fn it_returns_too_much() {
    deed("huge-line", "limit", "too much data");
    deed("huge-error", "limit", "too much data");
    deed("huge-list", "limit", "too much data");
    deed("many-items", "invalid", "1000 items");
}

#[test]
fn it_recurses() {
    // Rust keeps large frames in linear memory, so that end is reached first; `instances` has the other one.
    deed("recurse", "trap", "out of bounds");
}

#[test]
fn it_traps_panics_and_exits() {
    deed("trap", "trap", "unreachable");
    deed("panic", "trap", "deliberate panic");
    deed("exit", "trap", "exit");
}

#[test]
fn it_sleeps_for_an_hour() {
    let mut limits = tight();
    limits.plan.wall = Duration::from_millis(300);
    let bench = bench(limits);
    let error = bench.unruly().plan_backup(&told(&[("do", "sleep")]), &bench.root()).unwrap_err();
    assert_error(&error, "plan-backup", "timeout", "longer than 300 ms");
}

#[test]
fn it_is_cancelled_while_it_computes_and_while_it_sleeps() {
    let bench = bench(Limits::default());
    for deed in ["loop", "sleep"] {
        let ears = Arc::new(Ears::default());
        let mut cx = told(&[("do", deed)]);
        (cx.cancel, cx.log) = (ears.cancel.clone(), ears.clone());
        let error = bench.unruly().plan_backup(&cx, &bench.root()).unwrap_err();
        assert_error(&error, "plan-backup", "cancelled", "stopped");
        assert_eq!(error.blame, Blame::Operator);
    }
}

#[test]
fn its_own_errors_keep_their_code_but_cannot_pose_as_the_hosts() {
    deed("own-code", "no-composer-json", "no composer.json");
    deed("spoof", "other", "not \u{fffd}[31mred");
    assert_eq!(deed("denied", "denied", "not granted: shell").blame, Blame::Operator);
}

#[test]
fn it_sees_nothing_of_the_world_outside() {
    let bench = bench(Limits::default());
    let plan = bench.unruly().plan_backup(&told(&[("do", "surroundings")]), &bench.root()).unwrap();
    assert_eq!(plan.warnings, ["variables 0", "arguments 0", "file false", "folder false", "write false", "network false"]);
    bench.unruly().plan_backup(&told(&[("do", "random")]), &bench.root()).unwrap();
}

#[test]
fn it_asks_for_what_lies_outside_the_root() {
    let bench = bench(tight());
    let root = bench.root();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../../../../../etc", root.join("etc")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let strategy = bench.unruly();
    for path in ["../../etc/passwd", "/etc/passwd", "absolute", "etc/passwd", "fifo", "a/../../b", "", "./marker"] {
        let error = strategy.plan_backup(&told(&[("do", "read"), ("path", path)]), &root).unwrap_err();
        assert_error(&error, "plan-backup", "invalid", path);
    }
    for (deed, path, code) in [("list", "etc", "invalid"), ("link", "marker", "invalid"), ("read", "nothing", "not-found")] {
        let error = strategy.plan_backup(&told(&[("do", deed), ("path", path)]), &root).unwrap_err();
        assert_error(&error, "plan-backup", code, path);
    }
    let found = strategy.plan_backup(&told(&[("do", "find"), ("glob", "**")]), &root).unwrap();
    assert_eq!(found.warnings, ["symlink absolute", "symlink etc", "other fifo", "file marker"]);
    let error = strategy.plan_backup(&told(&[("do", "find"), ("glob", "../*")]), &root).unwrap_err();
    assert_error(&error, "plan-backup", "invalid", "../*");
}

#[test]
fn handles_that_it_keeps_are_harmless() {
    let bench = bench(tight());
    bench.unruly().plan_backup(&told(&[("do", "keep")]), &bench.root()).unwrap();
}

fn generate(deed: &str) -> (Result<u64, StrategyError>, Vec<u8>) {
    let bench = bench(tight());
    let mut out = Vec::new();
    let result = bench.unruly().generate(&told(&[("do", deed)]), &bench.root(), "list", &mut out);
    (result, out)
}

#[test]
fn a_generated_item_arrives() {
    let (result, out) = generate("fine");
    assert_eq!((result.unwrap(), &out[..]), (14, &b"list generated"[..]));
}

#[test]
fn an_item_that_is_not_finished_fails() {
    for (deed, code, part) in [
        ("drop", "invalid", "was not finished"),
        ("fail", "not-found", "the other half"),
        ("endless", "limit", "more than 2097152 bytes"),
        ("big", "limit", "more than 1048576"),
        ("one-big", "limit", "too much data"),
        ("after-finish", "invalid", "finished"),
        ("trap", "trap", "unreachable"),
    ] {
        assert_error(&generate(deed).0.unwrap_err(), "generate", code, part);
    }
}

#[test]
fn a_destination_that_fails_is_the_hosts_error_whatever_the_guest_says() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no space left"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let bench = bench(tight());
    for deed in ["fine", "ignore-errors"] {
        let error = bench.unruly().generate(&told(&[("do", deed)]), &bench.root(), "list", &mut Full).unwrap_err();
        assert_error(&error, "generate", "io", "no space left");
        assert_eq!(error.blame, Blame::Host);
    }
}

fn stored() -> Vec<StoredItem> {
    vec![StoredItem { name: "files".into(), kind: "tree".into(), complete: true, bytes: 1, files: 1 }]
}

#[test]
fn a_restore_plan_stays_beneath_its_target() {
    let bench = bench(tight());
    let strategy = bench.unruly();
    let plan = strategy.plan_restore(&told(&[("path", "a/b")]), &stored()).unwrap();
    assert_eq!((plan.steps[0].destination.as_str(), plan.after.len()), ("a/b", 1));
    for path in ["../x", "/etc", "a/../.."] {
        let error = strategy.plan_restore(&told(&[("path", path)]), &stored()).unwrap_err();
        assert_error(&error, "plan-restore", "invalid", path);
    }
    let error = strategy.plan_restore(&told(&[("do", "unknown")]), &stored()).unwrap_err();
    assert_error(&error, "plan-restore", "invalid", "nobody");
}

#[test]
fn the_restored_tree_is_written_beneath_its_root_only() {
    let bench = bench(tight());
    let root = bench.root();
    symlink("..", root.join("up")).unwrap();
    let strategy = bench.unruly();
    let tell = |deed: &str, path: &str, link: &str| strategy.after_restore(&told(&[("do", deed), ("path", path), ("link", link)]), &root);
    assert_eq!(tell("dir", "public/new", "").unwrap()[0].outcome, "done");
    tell("write", "public/file", "").unwrap();
    tell("symlink", "public/storage", "../marker").unwrap();
    assert_eq!(std::fs::read(root.join("public/storage")).unwrap(), b"here");
    for (deed, path, link) in [
        ("write", "../x", ""),
        ("write", "up/x", ""),
        ("write", "/tmp/x", ""),
        ("dir", "up/x", ""),
        ("symlink", "x", "/etc"),
        ("symlink", "x", "../y"),
        ("symlink", "up/x", "y"),
        ("odd-outcome", "", ""),
    ] {
        let error = tell(deed, path, link).unwrap_err();
        assert_error(&error, "after-restore", "invalid", "");
    }
    assert_error(&tell("mode", "marker", "").unwrap_err(), "after-restore", "limit", "4777");
    assert_error(&tell("handles", "", "").unwrap_err(), "after-restore", "limit", "");
    assert!(!bench.folder.path().join("x").exists());
}

struct People;

impl ScratchDatabase for People {
    fn tables(&mut self) -> Result<Vec<String>, String> {
        Ok(vec!["people".into()])
    }
    fn count_rows(&mut self, _table: &str) -> Result<u64, String> {
        Ok(300_000)
    }
    fn sample(&mut self, _table: &str, _column: &str, limit: u32) -> Result<Vec<Option<String>>, String> {
        Ok(vec![Some("Zoë".into()); limit as usize])
    }
}

#[test]
fn verify_asks_the_scratch_database() {
    let bench = bench(tight());
    let checks = bench.unruly().verify(&told(&[]), &bench.root(), vec![("database".into(), Box::new(People))]).unwrap();
    assert_eq!(checks[0].detail, "1 entries");
    assert_eq!((checks[1].name.as_str(), checks[1].outcome.as_str()), ("database", "pass"));
    assert_eq!(checks[1].detail, r#"["people"] 300000 rows, 100 values, first Some(Some("Zoë"))"#);
}

#[test]
fn log_lines_are_cleaned_bounded_and_end() {
    let bench = bench(Limits { log_lines: 3, log_flood: 1000, ..tight() });
    let ears = Arc::new(Ears::default());
    let mut cx = told(&[("do", "flood")]);
    cx.log = ears.clone();
    bench.unruly().plan_backup(&cx, &bench.root()).unwrap_err();
    let lines = ears.lines.lock().unwrap().clone();
    assert_eq!(lines, ["info: again", "info: again", "info: again", "warn: further log lines of this call are dropped"]);
}

#[test]
fn another_strategy_works_beside_one_that_misbehaves() {
    let bench = bench(tight());
    let (bad, good) = (bench.unruly(), bench.unruly());
    let root = bench.root();
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for deed in ["loop", "allocate", "flood", "recurse"] {
            let (bad, root, failures) = (&bad, &root, &failures);
            scope.spawn(move || {
                let error = bad.plan_backup(&told(&[("do", deed)]), root).unwrap_err();
                failures.lock().unwrap().push(error.code);
            });
        }
        for _ in 0..20 {
            assert_eq!(good.plan_backup(&told(&[("do", "fine")]), &root).unwrap().items.len(), 1);
        }
    });
    assert_eq!(failures.into_inner().unwrap().len(), 4);
}

#[test]
fn nothing_is_left_running_after_a_call() {
    let bench = bench(tight());
    let strategy = bench.unruly();
    strategy.plan_backup(&told(&[("do", "fine")]), &bench.root()).unwrap();
    strategy.plan_backup(&told(&[("do", "loop")]), &bench.root()).unwrap_err();
    let names =
        std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    // Other tests of this program run beside this one and have calls of their own: only runtimes are looked for.
    assert!(!names.into_iter().any(|name| name.starts_with("tokio")));
}

#[test]
fn a_strategy_is_called_from_within_a_runtime_too() {
    let bench = bench(tight());
    let strategy: Arc<dyn Strategy> = bench.unruly();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let plan = runtime.block_on(async { strategy.plan_backup(&told(&[("do", "fine")]), &bench.root()) });
    assert_eq!(plan.unwrap().items.len(), 1);
}

#[test]
fn a_strategy_that_was_built_before_there_were_erase_steps_has_none_and_works() {
    let bench = bench(tight());
    let items = [StoredItem { name: "files".to_owned(), kind: "tree".to_owned(), complete: true, bytes: 1, files: 1 }];
    assert_eq!(bench.unruly().plan_erase(&told(&[]), &items).unwrap(), None);
    assert_eq!(bench.unruly().plan_backup(&told(&[("do", "fine")]), &bench.root()).unwrap().items.len(), 1);
}
