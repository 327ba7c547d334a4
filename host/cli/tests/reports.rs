//! `report` and `doctor`, as a person and a script call them.

mod common;

use common::Machine;
use std::{fs, os::unix::fs::PermissionsExt};

/// A machine with a schedule and one good backup.
fn backed_up() -> Machine {
    let machine = Machine::prepared();
    machine.change("stores = [\"local\"]", "title = \"The <b>Blog</b>\"\nschedule = \"daily 03:00\"\nstores = [\"local\"]");
    machine.call(&["run"]).ended(0);
    machine
}

#[test]
fn a_report_has_four_forms_and_goes_to_a_private_file() {
    let machine = backed_up();
    let text = machine.call(&["report", "--daily"]).ended(0).stdout;
    assert!(text.starts_with("[host] Daily Backup Report - 20") && text.contains("\nALL BACKUPS SUCCESSFUL\n"), "{text}");
    assert!(text.contains("✓  The <b>Blog</b>") && text.contains("Storage: ") && text.contains(" local / 0 B offsite"), "{text}");

    let page = machine.call(&["report", "--daily", "--format", "html"]).ended(0).stdout;
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("The &lt;b&gt;Blog&lt;/b&gt;"), "{page}");

    let json = machine.call(&["report", "--daily", "--format", "json"]).ended(0).json();
    assert_eq!((json["schema_version"].as_u64(), json["totals"]["succeeded"].as_u64()), (Some(1), Some(1)));
    assert_eq!(machine.call(&["--json", "report", "--daily"]).ended(0).json()["projects"][0]["mark"], "good");

    let year = json["period"]["label"].as_str().unwrap()[..4].to_owned();
    machine.call(&["report", "--audit", &year, "--format", "csv", "-o", "audit.csv"]).ended(0);
    let csv = fs::read_to_string(machine.at("audit.csv")).unwrap();
    assert_eq!(fs::metadata(machine.at("audit.csv")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(csv.starts_with("record,project,at,") && csv.contains("\r\nrun,blog,"), "{csv}");
    machine.call(&["report", "--audit", &year, "--format", "csv", "-o", "audit.csv"]).ended(1).says("exists already");
    assert_eq!(fs::read_to_string(machine.at("audit.csv")).unwrap(), csv);
}

#[test]
fn a_report_whose_period_is_nonsense_is_refused() {
    let machine = backed_up();
    machine.call(&["report", "--daily", "--date", "yesterday"]).ended(2).says("is not a date");
    machine.call(&["report", "--daily", "--date", "2999-01-01"]).ended(2).says("has not begun yet");
    machine.call(&["report", "--audit", "25"]).ended(2).says("is not a year");
    machine.call(&["report", "--daily", "--weekly"]).ended(2);
    machine.call(&["report", "--format", "csv"]).ended(2);
    machine.call(&["report", "--daily", "--project", "blgo"]).ended(2).says("did you mean `blog`?");
}

#[test]
fn a_failed_run_leads_from_the_alert_to_its_page() {
    let machine = backed_up();
    fs::rename(machine.at("blog"), machine.at("moved")).unwrap();
    machine.call(&["run"]).ended(1);
    let text = machine.call(&["report", "--daily"]).ended(0).stdout;
    assert!(text.contains("1 OF 1 BACKUPS FAILED") && text.contains("cannot be read"), "{text}");
    let doctor = machine.call(&["doctor"]).ended(4).stdout;
    assert!(doctor.contains("problem  project blog: root ") && doctor.contains("# The files of a project cannot be read"), "{doctor}");
    assert!(doctor.contains("havun-backup run --project blog"), "{doctor}");
    let json = machine.call(&["--json", "doctor"]).ended(4).json();
    assert_eq!(json["alerts"][0]["page"], "source");
    // Mended as the page says.
    fs::rename(machine.at("moved"), machine.at("blog")).unwrap();
    machine.call(&["run", "--project", "blog"]).ended(0);
    machine.call(&["doctor"]).ended(0);
}

#[test]
fn doctor_mends_only_when_it_is_told_to() {
    let machine = backed_up();
    let key = machine.at("keys/service.agekey");
    let mode = || fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let told = machine.call(&["doctor", "--kind", "key-permissions"]).ended(4).stdout;
    assert!(told.contains("With --fix this program would:") && told.contains("to 600"), "{told}");
    machine.call(&["doctor", "--kind", "key-permissions", "--fix"]).ended(2).says("nobody is there to agree");
    assert_eq!(mode(), 0o644);
    let mended = machine.call(&["doctor", "--kind", "key-permissions", "--fix", "--yes"]).ended(0).stdout;
    assert!(mended.contains("mended   ") && mode() == 0o600, "{mended}");
    machine.call(&["doctor", "--kind", "disk-ful"]).ended(2).says("disk-full");
}

#[test]
fn doctor_without_a_right_configuration_shows_the_page_of_that() {
    let machine = backed_up();
    machine.change("strategy = \"files\"", "strategie = \"files\"");
    let called = machine.call(&["doctor"]).ended(78).says("strategie");
    assert!(called.stdout.contains("# The configuration is wrong") && called.stdout.contains("havun-backup config --check"));
}
