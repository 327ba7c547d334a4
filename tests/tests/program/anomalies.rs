//! A run that is unlike those before it is said to be, and what was good before it stays.

use havun_tests::{Called, Machine};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const DOCUMENTS: usize = 120;

/// The program on a later day.
fn later(machine: &Machine, day: usize, arguments: &[&str]) -> Called {
    let inner = machine.command(arguments);
    let mut command = Command::new("faketime");
    command.arg(format!("+{day} days")).arg(inner.get_program()).args(inner.get_args()).current_dir(machine.path());
    Called::of(command.output().unwrap())
}

fn run(machine: &Machine, day: usize) -> Value {
    let report = later(machine, day, &["--json", "run"]).ended(0).json();
    report["projects"][0].clone()
}

fn document(root: &Path, number: usize) -> PathBuf {
    root.join(format!("invoices/{}/invoice-{number:04}.pdf", number % 7))
}

fn text(number: usize, day: usize) -> String {
    let line = format!("Invoice {number}, version {day}: 3 hours of work at 80 euros, to be paid within 14 days.\n");
    format!("%PDF-1.7\n{}%%EOF\n", line.repeat(40))
}

/// A project whose only store is the hot one, with invoices of which some change every day.
fn project(machine: &mut Machine) -> PathBuf {
    let root = machine.project("papers", "files", "stores = [\"local\"]\n[projects.papers.retention]\nhot = \"30d\"\n");
    (0..7).for_each(|folder| fs::create_dir_all(root.join(format!("invoices/{folder}"))).unwrap());
    (0..DOCUMENTS).for_each(|number| fs::write(document(&root, number), text(number, 0)).unwrap());
    root
}

fn work(root: &Path, day: usize) {
    fs::write(document(root, day), text(day, day)).unwrap();
    fs::write(document(root, DOCUMENTS + day), text(DOCUMENTS + day, day)).unwrap();
}

/// What malware does: encrypts each document, gives it another name, and deletes the original.
fn encrypt(root: &Path) -> usize {
    let mut encrypted = 0;
    for folder in fs::read_dir(root.join("invoices")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let locked = PathBuf::from(format!("{}.locked", path.display()));
            let mut openssl = Command::new("openssl");
            openssl.args(["enc", "-aes-256-cbc", "-pbkdf2", "-iter", "1", "-pass", "pass:x", "-in"]).arg(&path).arg("-out").arg(&locked);
            assert!(openssl.status().unwrap().success());
            fs::remove_file(&path).unwrap();
            encrypted += 1;
        }
    }
    encrypted
}

fn alerts(machine: &Machine, day: usize) -> Vec<Value> {
    let alerts = later(machine, day, &["--json", "logs", "--alerts"]).ended(0).json();
    let open = alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["kind"] == "anomaly" && alert["resolved_at"].is_null());
    open.cloned().collect()
}

/// Each snapshot of the hot store that a clean-up looks at: whether it stays, and why.
fn verdicts(machine: &Machine, day: usize) -> Vec<(String, bool, String)> {
    let outcome = later(machine, day, &["--json", "cleanup", "--all", "--dry-run"]).ended(0).json();
    let lines = outcome["stores"][0]["snapshots"].as_array().unwrap_or_else(|| panic!("{outcome}")).clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines.iter().map(|line| (text(&line["id"]), line["keep"].as_bool().unwrap(), text(&line["reason"]))).collect()
}

#[test]
fn encrypted_files_are_an_alert_and_what_was_good_is_kept_until_a_person_has_looked() {
    let mut machine = Machine::new();
    let root = project(&mut machine);
    let mut snapshots = Vec::new();
    for day in 0..30 {
        work(&root, day);
        let ended = run(&machine, day);
        assert!(ended["anomalies"].is_null(), "day {day}: {ended}");
        snapshots.push(ended["snapshot"].as_str().unwrap().to_owned());
    }
    assert_eq!(alerts(&machine, 29), Vec::<Value>::new());

    let encrypted = encrypt(&root);
    let ended = run(&machine, 30);
    assert_eq!(ended["outcome"], "ok", "it warns and never blocks: {ended}");
    let suspicious = ended["snapshot"].as_str().unwrap().to_owned();
    let said = format!(
        "{encrypted} of {encrypted} files are gone, and {encrypted} new LOCKED files came that do not compress ({encrypted} of them are \
         the old files under a new name): this is what encryption by malware looks like"
    );
    assert_eq!(ended["anomalies"][0]["sentence"], said, "{ended}");
    assert!(ended["warnings"].to_string().contains(&said), "{ended}");
    let open = alerts(&machine, 30);
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(open[0]["message"].as_str().unwrap().contains(&said), "{open:?}");

    // The day after is like the day of the attack, and the alert stands all the same.
    assert!(run(&machine, 31)["anomalies"].is_null());
    assert_eq!(alerts(&machine, 31).len(), 1);
    let list = later(&machine, 31, &["--json", "hold", "list"]).ended(0).json();
    let hold = &list["projects"][0]["active"][0];
    let reason = hold["reason"].as_str().unwrap();
    assert!(reason.starts_with("suspicious: ") && reason.contains(&said), "{hold}");
    assert!(open[0]["hint"].as_str().unwrap().contains(&format!("hold remove {}", hold["id"].as_str().unwrap())), "{open:?}");
    let health = later(&machine, 31, &["--json", "health"]);
    assert!(health.stdout.contains(&said), "{health:?}");

    (62..70).for_each(|day| drop(run(&machine, day)));
    let kept: Vec<String> =
        verdicts(&machine, 70).into_iter().filter(|(_, keep, why)| *keep && why.contains("held: hold")).map(|v| v.0).collect();
    assert_eq!(kept, [suspicious.clone(), snapshots[29].clone()]);
    later(&machine, 70, &["cleanup", "--all"]).ended(0);
    let left: Vec<String> = verdicts(&machine, 70).into_iter().map(|verdict| verdict.0).collect();
    assert!(left.contains(&suspicious) && left.contains(&snapshots[29]) && !left.contains(&snapshots[28]), "{left:?}");
    let target = machine.at("good");
    let arguments = ["restore", "--project", "papers", "--snapshot", &snapshots[29], "--target", target.to_str().unwrap(), "--yes"];
    later(&machine, 70, &arguments).ended(0);
    assert_eq!(fs::read_to_string(document(&target, 50)).unwrap(), text(50, 0));

    later(&machine, 70, &["hold", "remove", hold["id"].as_str().unwrap(), "--reason", "restored, machine replaced"]).ended(0);
    assert_eq!(alerts(&machine, 70), Vec::<Value>::new(), "explained");
    let going: Vec<String> = verdicts(&machine, 70).into_iter().filter(|verdict| !verdict.1).map(|verdict| verdict.0).collect();
    assert!(going.contains(&suspicious) && going.contains(&snapshots[29]), "{going:?}");
    let logs = later(&machine, 70, &["logs", "--limit", "100"]).ended(0).text();
    assert!(logs.contains("hold-release"), "{logs}");
}

#[test]
fn the_history_is_in_the_snapshots_where_the_audit_database_is_new() {
    let mut machine = Machine::new();
    let root = project(&mut machine);
    for day in 0..6 {
        work(&root, day);
        run(&machine, day);
    }
    for file in ["audit.db", "audit.db-wal", "audit.db-shm"] {
        let _absent = fs::remove_file(machine.at("state").join(file));
    }
    encrypt(&root);
    let ended = run(&machine, 6);
    assert_eq!(ended["anomalies"][0]["rule"], "encryption", "{ended}");
}

#[test]
fn where_the_time_of_a_run_went_is_in_its_log() {
    let mut machine = Machine::new();
    project(&mut machine);
    machine.call(&["run"]).ended(0);
    let logs = machine.json(&["logs", "--limit", "5"]).ended(0).json();
    let rows = logs.as_array().cloned().or_else(|| logs["rows"].as_array().cloned()).or_else(|| logs["logs"].as_array().cloned());
    let rows = rows.unwrap_or_else(|| panic!("{logs}"));
    let row = rows.iter().find(|row| row["action"] == "run").unwrap();
    let metrics = &row["details"]["metrics"];
    for step in ["databases", "files", "commit", "replicate"] {
        assert!(metrics["steps_ms"][step].is_u64(), "{step}: {metrics}");
    }
    for stage in ["walk_ms", "read_ms", "hash_ms", "compress_ms", "write_ms", "publish_ms", "commit_ms"] {
        assert!(metrics["busy_ms"][stage].is_u64(), "{stage}: {metrics}");
    }
    assert!(metrics["busy_ms"]["commit_ms"].as_u64().unwrap() > 0, "{metrics}");
    assert!(metrics["compression"].as_f64().unwrap() > 1.0, "{metrics}");
}
