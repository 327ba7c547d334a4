//! Mails and webhooks as whoever calls the program by cron gets them: no daemon runs here.

use havun_tests::{HttpReceiver, Machine, SmtpBehaviour, SmtpServer, program};
use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const HOOK: &str = "/services/T0AAAA/sEcReT-hOoK";

fn mail_to(server: &SmtpServer) -> String {
    format!("[notify.email]\nsmtp = \"{}\"\nfrom = \"backup@example.org\"\nto = [\"ops@example.org\"]", server.url())
}

/// The address of a webhook is a secret: it stands in a file of its own.
fn hook_to(machine: &Machine, receiver: &HttpReceiver) -> String {
    let path = machine.at("hook");
    fs::write(&path, receiver.url(HOOK)).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    "[notify.webhook]\nurl = { file = \"hook\" }".to_owned()
}

fn subjects(server: &SmtpServer) -> Vec<String> {
    server.mails().iter().map(|mail| mail.subject().to_owned()).collect()
}

#[test]
fn one_project_failing_of_five_is_one_mail_and_its_recovery_another() {
    let server = SmtpServer::start();
    let mut machine = Machine::new();
    machine.section(&mail_to(&server));
    for name in ["a", "b", "c", "d", "e"] {
        fs::write(machine.project(name, "files", &format!("title = \"Project {name}\"\npriority = \"critical\"")).join("file"), name)
            .unwrap();
    }
    fs::rename(machine.at("projects/c"), machine.at("projects/away")).unwrap();
    machine.call(&["run"]).ended(3);
    machine.call(&["run"]).ended(3);
    machine.call(&["health"]).ended(4);
    assert_eq!(subjects(&server), ["[TestHost] BACKUP FAILED - Project c"], "health says nothing that was not said");
    let mail = &server.mails()[0];
    for words in ["Project c", "critical", "projects/c", "WHAT WAS TRIED", "WHAT TO DO NOW", "mount it", "docs/incidents/"] {
        assert!(mail.text.contains(words), "{words}: {}", mail.text);
    }
    fs::rename(machine.at("projects/away"), machine.at("projects/c")).unwrap();
    machine.call(&["run"]).ended(0);
    machine.call(&["health"]).ended(0);
    assert_eq!(subjects(&server)[1..], ["[TestHost] RECOVERED - Project c"]);
}

#[test]
fn an_archive_that_is_away_is_one_alert_and_no_failed_backup() {
    let server = SmtpServer::start();
    let mut machine = Machine::new();
    machine.section(&mail_to(&server));
    fs::write(machine.project("shop", "files", "").join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    fs::rename(machine.at("archive"), machine.at("away")).unwrap();
    fs::write(machine.at("projects/shop/new"), "y").unwrap();
    machine.call(&["run"]);
    machine.call(&["health"]).ended(4);
    assert_eq!(subjects(&server), ["[TestHost] ARCHIVE IS BEHIND - shop"]);
    fs::rename(machine.at("away"), machine.at("archive")).unwrap();
    machine.call(&["run"]).ended(0);
    assert_eq!(subjects(&server)[1..], ["[TestHost] RECOVERED - shop"]);
}

#[test]
fn a_dry_run_tells_nobody() {
    let server = SmtpServer::start();
    let mut machine = Machine::new();
    machine.section(&mail_to(&server));
    let root = machine.project("shop", "files", "");
    machine.call(&["run"]);
    fs::remove_dir_all(root).unwrap();
    machine.call(&["run", "--dry-run"]);
    assert!(server.mails().is_empty(), "{:?}", subjects(&server));
}

#[test]
fn a_message_outlives_the_process_that_was_killed_while_it_sent_it() {
    let receiver = HttpReceiver::start();
    let mut machine = Machine::new();
    machine.section(&hook_to(&machine, &receiver));
    fs::remove_dir_all(machine.project("shop", "files", "")).unwrap();
    receiver.hang();
    let mut run = machine.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while receiver.received().is_empty() {
        assert!(Instant::now() < deadline, "no message was sent");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    receiver.answer(200, &[], "");
    let queue = machine.json(&["notify", "queue"]).ended(0).json();
    assert_eq!(queue["waiting"][0]["subject"], "[TestHost] BACKUP FAILED - shop", "{queue}");
    // A quarter of an hour later somebody else sends it.
    let mut later = Command::new("faketime");
    later
        .args(["-f", "+15m"])
        .arg(program())
        .arg("--config")
        .arg(machine.at("havun-backup.toml"))
        .arg("health")
        .current_dir(machine.path());
    later.output().unwrap();
    let keys: Vec<_> = receiver.received().iter().map(|request| request.headers["x-havun-key"].clone()).collect();
    assert!(keys.len() >= 2 && keys[0] == keys[1], "the same message, known by its key: {keys:?}");
    assert_eq!(machine.json(&["notify", "queue"]).json()["waiting"].as_array().map(Vec::len), Some(0));
}

#[test]
fn channels_are_tested_without_sending_and_by_sending() {
    let (server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let mut machine = Machine::new();
    machine.section(&mail_to(&server));
    machine.section(&hook_to(&machine, &receiver));
    let checked = machine.call(&["config", "--check", "--online"]);
    assert!(checked.stdout.contains("channel email") && checked.stdout.contains("channel webhook"), "{checked:?}");
    assert!(server.mails().is_empty() && receiver.received().iter().all(|request| request.method == "HEAD"));
    machine.call(&["notify", "test"]).ended(0);
    assert_eq!(subjects(&server), ["[TestHost] Test message"]);
    server.behave(SmtpBehaviour::Refuses);
    let refused = machine.call(&["notify", "test", "--channel", "email"]).ended(1);
    assert!(refused.text().contains("refused by a rule") && refused.text().contains("Hint:"), "{refused:?}");
    let unknown = machine.call(&["notify", "test", "--channel", "emial"]).ended(2);
    assert!(unknown.text().contains("did you mean `email`?"), "{unknown:?}");
}

#[test]
fn neither_output_nor_log_nor_database_shows_the_address_of_a_webhook() {
    let receiver = HttpReceiver::start();
    receiver.answer(403, &[], &format!("invalid_token {HOOK}"));
    let mut machine = Machine::new();
    machine.section(&hook_to(&machine, &receiver));
    fs::remove_dir_all(machine.project("shop", "files", "")).unwrap();
    let calls: [&[&str]; 6] = [
        &["-vv", "run"],
        &["-vv", "--log-format", "json", "health"],
        &["-vv", "notify", "test"],
        &["notify", "queue"],
        &["--json", "logs", "--alerts"],
        &["config"],
    ];
    let told: String = calls.iter().map(|call| machine.call(call).text()).collect();
    assert!(told.contains("refuses the login"), "{told}");
    assert!(!told.contains("sEcReT") && !told.contains("T0AAAA"), "{told}");
    let database = fs::read(machine.at("state/audit.db")).unwrap();
    assert!(!String::from_utf8_lossy(&database).contains("sEcReT"));
}

#[test]
fn a_terminal_escape_in_a_file_name_reaches_no_mail() {
    let server = SmtpServer::start();
    let mut machine = Machine::new();
    machine.section(&mail_to(&server));
    machine.section(
        "[projects.shop]\nstrategy = \"files\"\nstores = [\"local\"]\nroot = \"/nowhere/evil\\u001b[31m\\u202e\\nBcc: x\"\n\
         title = \"Shop\\u001b[2J\\r\\nBcc: thief@example.org\"",
    );
    machine.call(&["run"]);
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject().contains(r"Shop\u{1b}[2J\u{d}\u{a}Bcc"), "{}", mails[0].subject());
    assert_eq!(mails[0].header("Bcc"), "");
    assert!(mails[0].text.contains(r"evil\u{1b}[31m\u{202e}\u{a}Bcc: x"), "{}", mails[0].text);
    assert!(!mails[0].raw.contains('\u{1b}') && !mails[0].text.contains('\u{1b}') && !mails[0].html.contains('\u{1b}'));
}
