//! Health, as somebody sees it who watches from elsewhere: exit status, alerts by cause, metrics, a dead man's switch.

use havun_tests::{Called, HttpReceiver, Machine};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
};

fn machine(more: &str) -> Machine {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", more);
    fs::write(root.join("a.txt"), "1").unwrap();
    machine
}

fn later(machine: &Machine, by: &str, arguments: &[&str]) -> Called {
    let inner = machine.command(arguments);
    let mut command = Command::new("faketime");
    command.arg(by).arg(inner.get_program()).args(inner.get_args()).current_dir(machine.path());
    Called::of(command.output().unwrap())
}

/// With a dead man's switch whose address is a secret.
fn watched_by(machine: &mut Machine, url: &str) {
    let file = machine.at("ping-url");
    fs::write(&file, url).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    machine.section("[health.ping]\nurl = { file = \"ping-url\" }");
}

/// Kinds of the problems of the only project, and of the host.
fn problems(report: &Value) -> Vec<String> {
    let of = |findings: &Value| findings.as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let project = report["projects"].as_array().unwrap().first().map(|project| of(&project["problems"])).unwrap_or_default();
    project.into_iter().chain(of(&report["host"]["problems"])).collect()
}

fn open(machine: &Machine) -> Vec<String> {
    let alerts = machine.json(&["logs", "--alerts"]).ended(0).json();
    let open = alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["resolved_at"].is_null());
    open.map(|alert| alert["kind"].as_str().unwrap().to_owned()).collect()
}

fn snapshots(machine: &Machine) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![machine.at("local")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.parent().unwrap().ends_with("snapshots") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn each_cause_is_an_alert_of_its_own_and_ends_by_itself() {
    let machine = machine("");
    machine.call(&["run"]).ended(0);
    machine.call(&["run"]).ended(0);
    machine.call(&["health"]).ended(0);
    let gone = snapshots(&machine).remove(0);
    fs::rename(&gone, machine.at("aside")).unwrap();
    fs::set_permissions(machine.at("service.agekey"), fs::Permissions::from_mode(0o644)).unwrap();
    let sick = machine.json(&["health"]).ended(4).json();
    assert!(problems(&sick).contains(&"key".to_owned()), "{sick}");
    fs::set_permissions(machine.at("service.agekey"), fs::Permissions::from_mode(0o600)).unwrap();
    let sick = machine.json(&["health"]).ended(4).json();
    assert_eq!(problems(&sick), ["missing"], "{sick}");
    assert!(sick.to_string().contains("1 objects were deleted behind the program's back"), "{sick}");
    assert_eq!(open(&machine), ["missing"], "the key is right again, and its alert is closed");
    machine.call(&["health"]).ended(4);
    fs::rename(machine.at("aside"), &gone).unwrap();
    machine.call(&["health"]).ended(0);
    assert_eq!(open(&machine), Vec::<String>::new());
}

#[test]
fn what_a_cleanup_deletes_is_not_missed() {
    let machine = machine("stores = [\"local\"]\n[projects.shop.retention]\nhot = \"1d\"\n");
    for day in 0..6 {
        later(&machine, &format!("+{day} days"), &["run"]).ended(0);
        later(&machine, &format!("+{day} days"), &["health"]).ended(0);
    }
    later(&machine, "+7 days", &["cleanup", "--all"]).ended(0);
    assert!(snapshots(&machine).len() < 6);
    later(&machine, "+7 days", &["health"]).ended(0);
}

#[test]
fn a_run_that_did_not_begin_a_long_pause_and_a_silent_daemon_are_found() {
    let machine = machine("schedule = \"daily 03:00\"\n");
    machine.call(&["run"]).ended(0);
    machine.call(&["health"]).ended(0);
    let sick = later(&machine, "+3 days", &["--json", "health"]).ended(4).json();
    assert!(problems(&sick).contains(&"missed".to_owned()) && problems(&sick).contains(&"age".to_owned()), "{sick}");
    assert!(sick.to_string().contains("no run began although one was due at"), "{sick}");
    let beat = |at: &str, stopped: &str| {
        fs::write(
            machine.at("state/daemon.json"),
            format!("{{\"pid\":1,\"mode\":\"daemon\",\"beat_at\":\"{at}\",\"stopped_at\":{stopped}}}"),
        )
    };
    beat("2020-01-01T00:00:00Z", "null").unwrap();
    let sick = machine.json(&["health"]).ended(4).json();
    assert_eq!(problems(&sick), ["heartbeat"], "{sick}");
    beat("2020-01-01T00:00:00Z", "\"2020-01-01T00:00:01Z\"").unwrap();
    let well = machine.json(&["health"]).ended(0).json();
    assert!(well["host"]["notes"].to_string().contains("was stopped"), "{well}");

    let paused = self::machine("paused = true\n");
    paused.call(&["run", "--project", "shop", "--force"]).ended(0);
    later(&paused, "+20 days", &["health"]).ended(0);
    let sick = later(&paused, "+31 days", &["--json", "health"]).ended(4).json();
    assert_eq!(problems(&sick), ["paused"], "{sick}");
}

#[test]
fn a_clock_that_was_ahead_is_found() {
    let machine = machine("");
    later(&machine, "+2 days", &["run"]).ended(0);
    let sick = machine.json(&["health"]).ended(4).json();
    assert!(problems(&sick).contains(&"clock-skew".to_owned()), "{sick}");
}

#[test]
fn an_audit_database_that_cannot_be_used_is_unhealthy_and_the_dead_mans_switch_hears_it() {
    let mut machine = machine("");
    let switch = HttpReceiver::start();
    watched_by(&mut machine, &switch.url("/abc"));
    machine.call(&["run"]).ended(0);
    machine.call(&["health"]).ended(0);
    let paths = |receiver: &HttpReceiver| receiver.received().into_iter().map(|request| request.path).collect::<Vec<_>>();
    assert_eq!(paths(&switch), ["/abc/start", "/abc", "/abc"], "a run begins, it went well, all is well");
    for file in ["audit.db-wal", "audit.db-shm"] {
        let _absent = fs::remove_file(machine.at("state").join(file));
    }
    fs::write(machine.at("state/audit.db"), "this is no database at all, and long enough to be read as one. ".repeat(200)).unwrap();
    let sick = machine.json(&["health"]).ended(4).json();
    assert_eq!(problems(&sick), ["audit"], "{sick}");
    assert_eq!(paths(&switch).last().unwrap(), "/abc/fail");
    let told = String::from_utf8(switch.received().pop().unwrap().body).unwrap();
    assert_eq!(told, "host: audit", "nothing but kinds and names");
}

#[test]
fn a_dead_mans_switch_that_does_not_answer_fails_nothing() {
    let mut machine = machine("");
    let switch = HttpReceiver::start();
    switch.answer(500, &[], "no");
    watched_by(&mut machine, &switch.url("/geheim"));
    machine.call(&["run"]).ended(0);
    let well = machine.json(&["health"]).ended(0);
    assert!(well.json()["host"]["notes"].to_string().contains("the dead man's switch was not told"), "{well:?}");
    assert!(!well.text().contains("geheim"), "its address is a secret");
}

/// The text format 0.0.4, strictly: each series after the HELP and TYPE of its family, once, with labels that are quoted.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let (mut helped, mut typed, mut ended) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut current, mut series) = (String::new(), BTreeMap::new());
    let is_name =
        |name: &str| name.starts_with("havun_backup_") && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && helped.insert(name.to_owned()), "{line}");
            ended.insert(std::mem::replace(&mut current, name.to_owned()));
            assert!(!ended.contains(name), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest, format!("{current} gauge"));
            typed.insert(current.clone());
        } else {
            let (id, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = id.split_once('{').map_or((id, None), |(name, rest)| (name, Some(rest.strip_suffix('}').unwrap())));
            assert!(name == current && typed.contains(name), "{line}");
            for label in labels.into_iter().flat_map(|labels| labels.split("\",")) {
                let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(key.bytes().all(|b| b.is_ascii_lowercase()) && !value.trim_end_matches('"').contains(['"', '\n']), "{line}");
            }
            assert!(series.insert(id.to_owned(), value.parse::<f64>().unwrap()).is_none(), "twice: {line}");
        }
    }
    assert_eq!(helped, typed);
    series
}

#[test]
fn the_metrics_are_what_prometheus_reads_and_the_textfile_holds_them() {
    let mut machine = machine("schedule = \"daily 03:00\"\n");
    fs::create_dir(machine.at("metrics")).unwrap();
    machine.section("[health]\ntextfile = \"metrics/havun.prom\"");
    machine.call(&["run"]).ended(0);
    let series = parsed(&machine.call(&["health", "--prometheus"]).ended(0).stdout);
    let of = |name: &str| *series.get(name).unwrap_or_else(|| panic!("{name} in {series:#?}"));
    assert_eq!(of("havun_backup_healthy"), 1.0);
    assert_eq!(of("havun_backup_last_run_ok{project=\"shop\"}"), 1.0);
    assert_eq!(of("havun_backup_store_reachable{project=\"shop\",store=\"archive\",tier=\"archive\"}"), 1.0);
    assert!(of("havun_backup_last_success_age_seconds{project=\"shop\"}") < 3600.0);
    assert!(of("havun_backup_store_free_bytes{project=\"shop\",store=\"local\",tier=\"hot\"}") > 0.0);
    assert!(
        series.keys().any(|name| name.starts_with("havun_backup_last_run_busy_seconds{project=\"shop\",stage=\"commit\"}")),
        "{series:#?}"
    );
    let file = machine.at("metrics/havun.prom");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(parsed(&fs::read_to_string(&file).unwrap()).keys().collect::<Vec<_>>(), series.keys().collect::<Vec<_>>());
    assert_eq!(fs::read_dir(machine.at("metrics")).unwrap().count(), 1, "nothing half-written stays");
    let sick = later(&machine, "+3 days", &["health", "--prometheus"]).ended(4);
    let series = parsed(&sick.stdout);
    assert_eq!(series["havun_backup_healthy"], 0.0);
    assert_eq!(series["havun_backup_alerts_open{kind=\"age\"}"], 1.0, "{series:#?}");

    fs::remove_dir_all(machine.at("metrics")).unwrap();
    let sick = machine.json(&["health"]).ended(4).json();
    assert_eq!(problems(&sick), ["textfile"], "{sick}");
}
