use super::*;
use crate::{
    audit::Alert,
    config::Config,
    context::{Context, SilentObserver},
};
use havun_model::Cancel;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};
use tempfile::TempDir;

/// A host with a key, a local store, and the project `shop`, which was backed up into no store yet.
fn host() -> (TempDir, Context) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("shop")).unwrap();
    let text = format!(
        "[host]\nname = \"here\"\nstate_dir = \"{0}/state\"\ntimezone = \"UTC\"\n\
         [keys]\nidentity = {{ file = \"{0}/service.agekey\" }}\n\
         [stores.local]\ntier = \"hot\"\nkind = \"local\"\npath = \"{0}/store\"\n\
         [projects.shop]\nstrategy = \"files\"\nroot = \"{0}/shop\"\nstores = [\"local\"]\n",
        folder.path().display()
    );
    let config = Config::parse(&text, &at("havun-backup.toml"), 0o600).unwrap_or_else(|e| panic!("{e:?}"));
    let cx = Context::new(config, Cancel::default(), Arc::new(SilentObserver));
    (folder, cx)
}

fn look(cx: &Context, kind: &str) -> DoctorReport {
    examine(cx, &DoctorOptions { kind: Some(kind.to_owned()), ..DoctorOptions::default() }).unwrap()
}

fn problems(report: &DoctorReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.state == FindingState::Problem).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_that_others_can_read_is_found_and_closed() {
    let (folder, cx) = host();
    crate::init::prepare(&cx);
    let key = folder.path().join("service.agekey");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let report = look(&cx, "key-permissions");
    assert_eq!(report.exit_status(), exit::UNHEALTHY);
    assert!(problems(&report).iter().any(|finding| finding.detail.contains("service.agekey can be read by others (mode 644)")));
    let repairs = report.repairs();
    assert_eq!(repairs, [Repair::Permissions { path: key.clone(), mode: 0o600 }]);
    assert!(repairs[0].describe().contains("to 600") && !repairs[0].needs_care());
    assert_eq!(mode(&key), 0o644, "looking changes nothing");
    mend(&cx, &repairs[0]).unwrap();
    assert_eq!(mode(&key), 0o600);
    assert_eq!(look(&cx, "key-permissions").exit_status(), exit::OK);
}

#[test]
fn an_open_alert_brings_its_page_with_the_names_of_the_place() {
    let (_folder, cx) = host();
    crate::init::prepare(&cx);
    let message = "store `local` cannot be used: store is unreachable: connection refused".to_owned();
    let alert = Alert { project: "shop", store: "local", kind: "replication", message, hint: String::new(), exit_status: 10, run_id: "r" };
    cx.audit().unwrap().raise(&alert, cx.now()).unwrap();
    let report = examine(&cx, &DoctorOptions::default()).unwrap();
    // `health`, which is a part of it, may raise others: the project was never backed up.
    assert!(report.alerts.iter().any(|open| open.page == "archive-away"), "{:?}", report.alerts);
    let page = report.procedures.iter().find(|procedure| procedure.page == "archive-away").unwrap();
    assert!(page.text.contains("havun-backup archive push --project shop"), "{}", page.text);
    assert_eq!(report.exit_status(), exit::UNHEALTHY);
    // Another page has no part in it.
    assert!(look(&cx, "clock").alerts.is_empty());
    let other = DoctorOptions { kind: Some("replication".to_owned()), ..DoctorOptions::default() };
    assert_eq!(examine(&cx, &other).unwrap().procedures[0].page, "archive-away");
}

#[test]
fn a_page_that_there_is_not_names_the_nearest() {
    let (_folder, cx) = host();
    let error = examine(&cx, &DoctorOptions { kind: Some("disk-ful".to_owned()), ..DoctorOptions::default() }).unwrap_err();
    assert_eq!((error.exit_status(), error.hint().unwrap().as_str()), (exit::USAGE, "did you mean `disk-full`?"));
}

#[test]
fn an_audit_database_that_is_damaged_is_a_finding_and_no_end() {
    let (folder, cx) = host();
    fs::create_dir_all(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/audit.db"), "this is no database, but long enough to be taken for one".repeat(200)).unwrap();
    let report = examine(&cx, &DoctorOptions::default()).unwrap();
    let audit: Vec<_> = problems(&report).into_iter().filter(|finding| finding.topic == Topic::Audit).collect();
    assert_eq!(audit.len(), 1, "{:?}", report.findings);
    assert!(audit[0].detail.contains("audit database"), "{}", audit[0].detail);
    let narrowed = look(&cx, "audit-database");
    assert!(narrowed.procedures[0].text.contains("state/audit.db.damaged"), "the page has the paths of this machine");
}

#[test]
fn what_a_killed_run_left_is_found_and_undone() {
    let (folder, cx) = host();
    crate::init::prepare(&cx);
    let done = folder.path().join("went-on");
    let pauses = folder.path().join("state/pauses");
    fs::create_dir_all(&pauses).unwrap();
    let marker = serde_json::json!({
        "project": "shop", "run_id": "r1", "pid": 999_999_999, "process_key": "gone",
        "after": { "argv": ["touch", done], "user": null, "folder": "/", "timeout_secs": 10 }, "steps": [],
    });
    fs::write(pauses.join("shop.json"), marker.to_string()).unwrap();
    let report = look(&cx, "left-behind");
    assert!(report.repairs().contains(&Repair::UndoLeftBehind), "{:?}", report.findings);
    assert!(!done.exists());
    let said = mend(&cx, &Repair::UndoLeftBehind).unwrap();
    assert!(done.exists() && said.contains("has been run now"), "{said}");
    assert!(!look(&cx, "left-behind").repairs().contains(&Repair::UndoLeftBehind));
}

#[test]
fn a_leftover_of_a_killed_drill_is_found_and_removed() {
    let (folder, cx) = host();
    crate::init::prepare(&cx);
    let left = folder.path().join("state/drills/0123456789abcdef");
    fs::create_dir_all(&left).unwrap();
    let owner = serde_json::json!({ "pid": 999_999_999, "process": "gone", "servers": folder.path().join("nowhere"), "foreign": [] });
    fs::write(left.join("owner.json"), owner.to_string()).unwrap();
    let report = look(&cx, "left-behind");
    assert!(report.repairs().contains(&Repair::RemoveDrillLeftovers), "{:?}", report.findings);
    assert!(left.exists(), "looking removes nothing");
    mend(&cx, &Repair::RemoveDrillLeftovers).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_clock_that_went_back_is_in_doubt() {
    let (_folder, cx) = host();
    crate::init::prepare(&cx);
    let later = cx.now().checked_add(jiff::SignedDuration::from_hours(48)).unwrap();
    drop(cx.audit().unwrap().begin_backup(&cx.log_start("r", "shop", "run", later)).unwrap());
    let report = look(&cx, "clock");
    assert_eq!(problems(&report).len(), 1);
    assert!(report.procedures[0].text.contains("timedatectl"));
}
