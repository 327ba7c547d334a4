//! Alerts until people have read of them: real servers, a queue that survives, a clock of the test's own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use havun_model::Cancel;
use havun_notify::{Event, Message, Severity};
use havun_operations::{
    audit::{Alert, AuditLog},
    config::Config,
    context::{Context, SilentObserver},
    notify::{Outbox, TickReport, test_channels},
};
use havun_tests::{HttpReceiver, SmtpBehaviour, SmtpServer};
use jiff::{SignedDuration, Timestamp};
use std::{fs, path::Path, sync::Arc};
use tempfile::TempDir;

const HOOK: &str = "/services/T0AAAA/B0BBBB/sEcReT-hOoK";

fn minute(minute: i64) -> Timestamp {
    "2026-11-21T02:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

/// A host with these channels.
struct Host {
    folder: TempDir,
    config: String,
}

impl Host {
    fn new(notify: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[host]\nname='HavunCore'\nstate_dir='{0}/state'\ntimezone='Europe/Amsterdam'\n\
             [stores.local]\ntier='hot'\nkind='local'\npath='{0}/local'\n{notify}\n\
             [projects.havunadmin]\ntitle='HavunAdmin'\nstrategy='files'\nroot='{0}'\npriority='critical'\nstores=['local']\n\
             [projects.blog]\nstrategy='files'\nroot='{0}'\npriority='low'\nstores=['local']\n",
            folder.path().display()
        );
        Self { folder, config }
    }

    fn cx(&self) -> Context {
        let config = Config::parse(&self.config, &self.folder.path().join("config.toml"), 0o600).unwrap();
        Context::new(config, Cancel::default(), Arc::new(SilentObserver))
    }

    fn database(&self) -> Vec<u8> {
        fs::read_dir(self.folder.path().join("state")).unwrap().filter_map(|entry| fs::read(entry.unwrap().path()).ok()).flatten().collect()
    }
}

fn mail_to(server: &SmtpServer) -> String {
    format!("[notify.email]\nsmtp='{}'\nfrom='backup@example.org'\nto=['ops@example.org']\n", server.url())
}

fn hook_to(receiver: &HttpReceiver) -> String {
    format!("[notify.webhook]\nurl='{}'\n", receiver.url(HOOK))
}

fn raise(audit: &AuditLog, project: &str, kind: &str, message: &str, at: Timestamp) {
    let hint = "start the server".to_owned();
    audit.raise(&Alert { project, store: "", kind, message: message.to_owned(), hint, exit_status: 1, run_id: "r" }, at).unwrap();
}

fn tick(cx: &Context, at: Timestamp) -> TickReport {
    Outbox::new(cx).tick(at).unwrap()
}

fn subjects(server: &SmtpServer) -> Vec<String> {
    server.mails().iter().map(|mail| mail.subject().to_owned()).collect()
}

fn keys(receiver: &HttpReceiver) -> Vec<String> {
    receiver.received().iter().map(|request| request.json()["subject"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_failure_is_told_at_once_by_every_channel_and_so_is_its_end_and_nothing_twice() {
    let (server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let host = Host::new(&format!("{}{}", mail_to(&server), hook_to(&receiver)));
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "database item `main` cannot be backed up: Access denied", minute(0));
    let first = tick(&cx, minute(0));
    assert_eq!((first.queued, first.sent, first.failed.len()), (1, 2, 0));
    for later in 1..10 {
        raise(&cx.audit().unwrap(), "havunadmin", "run", "it is still so", minute(later));
        assert_eq!(tick(&cx, minute(later)), TickReport::default());
    }
    cx.audit().unwrap().resolve("havunadmin", "", "run", minute(60)).unwrap();
    tick(&cx, minute(60));
    tick(&cx, minute(61));
    let expected = ["[HavunCore] BACKUP FAILED - HavunAdmin", "[HavunCore] RECOVERED - HavunAdmin"];
    assert_eq!((subjects(&server), keys(&receiver)), (expected.map(str::to_owned).to_vec(), expected.map(str::to_owned).to_vec()));
    let mail = &server.mails()[0];
    for words in [
        "HavunAdmin",
        "critical",
        "Access denied",
        "WHAT WAS TRIED",
        "WHAT TO DO NOW",
        "start the server",
        "docs/incidents/",
        "2026-11-21 03:00",
    ] {
        assert!(mail.text.contains(words), "{words}: {}", mail.text);
    }
    assert!(mail.html.contains("Access denied") && mail.html.contains("What to do now"), "{}", mail.html);
    assert!(server.mails()[1].text.contains("2026-11-21 04:00 (1 h)"), "{}", server.mails()[1].text);
}

#[test]
fn messages_are_dutch_by_configuration() {
    let server = SmtpServer::start();
    let host = Host::new(&format!("[notify]\nlanguage='nl'\n{}", mail_to(&server)));
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    tick(&cx, minute(0));
    let mail = &server.mails()[0];
    assert_eq!(mail.subject(), "[HavunCore] BACK-UP MISLUKT - HavunAdmin");
    assert!(mail.text.contains("WAT NU TE DOEN") && mail.html.contains("Wat nu te doen"), "{}", mail.text);
}

#[test]
fn the_queue_survives_a_restart_and_the_message_keeps_its_key() {
    let mut server = SmtpServer::start();
    let host = Host::new(&mail_to(&server));
    server.stop();
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    let away = tick(&cx, minute(0));
    assert_eq!((away.sent, away.failed.len()), (0, 1));
    assert!(away.failed[0].contains("cannot be reached"), "{away:?}");
    drop(cx);

    let cx = host.cx();
    let queue = Outbox::new(&cx).queue(minute(0)).unwrap();
    assert_eq!((queue.waiting.len(), queue.waiting[0].attempts), (1, 1));
    server.resume();
    assert_eq!(tick(&cx, minute(0)).sent, 0, "it waits before it tries again");
    assert_eq!(tick(&cx, minute(1)).sent, 1);
    assert_eq!(Outbox::new(&cx).queue(minute(1)).unwrap().waiting, []);
    assert_eq!(subjects(&server), ["[HavunCore] BACKUP FAILED - HavunAdmin"]);
}

#[test]
fn what_a_killed_process_had_taken_is_sent_by_another_a_while_later() {
    let server = SmtpServer::start();
    let host = Host::new(&mail_to(&server));
    let cx = host.cx();
    server.behave(SmtpBehaviour::Busy);
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    tick(&cx, minute(0));
    server.behave(SmtpBehaviour::Takes);
    // Somebody takes it, and is killed before it is sent.
    let row = Outbox::new(&cx).queue(minute(1)).unwrap().waiting.remove(0);
    let audit = cx.audit().unwrap();
    assert!(audit.claim_delivery(&row, minute(11)).unwrap());
    assert!(!audit.claim_delivery(&row, minute(11)).unwrap(), "nobody else gets it meanwhile");
    assert_eq!(tick(&host.cx(), minute(2)).sent, 0);
    assert_eq!(tick(&host.cx(), minute(11)).sent, 1);
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn two_processes_at_once_send_a_message_once() {
    let receiver = HttpReceiver::start();
    let host = Host::new(&hook_to(&receiver));
    let first = host.cx();
    raise(&first.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    let others: Vec<Context> = (0..4).map(|_| host.cx()).collect();
    std::thread::scope(|scope| {
        for cx in &others {
            scope.spawn(|| tick(cx, minute(0)));
        }
    });
    tick(&first, minute(1));
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn a_channel_that_fails_is_told_by_the_others_and_again_when_it_works() {
    let (server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let host = Host::new(&format!("{}{}", mail_to(&server), hook_to(&receiver)));
    let cx = host.cx();
    receiver.answer(404, &[], "no such hook");
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    let told = tick(&cx, minute(0));
    assert_eq!((told.sent, told.failed.len()), (2, 1), "{told:?}");
    assert_eq!(subjects(&server), ["[HavunCore] BACKUP FAILED - HavunAdmin", "[HavunCore] MESSAGES NOT DELIVERED - HavunCore"]);
    let mail = &server.mails()[1];
    assert!(mail.text.contains("webhook") && mail.text.contains("status 404 no such hook"), "{}", mail.text);
    receiver.answer(200, &[], "");
    assert_eq!(tick(&cx, minute(30)), TickReport::default(), "a refusal is tried again after an hour");
    tick(&cx, minute(61));
    assert_eq!(subjects(&server).last().unwrap(), "[HavunCore] RECOVERED - HavunCore");
    let heard = keys(&receiver);
    assert_eq!(
        heard.last().unwrap(),
        "[HavunCore] BACKUP FAILED - HavunAdmin",
        "it is told what it missed, and not that it failed: {heard:?}"
    );
}

#[test]
fn a_server_that_is_away_for_a_moment_is_no_alert_and_one_that_stays_away_is() {
    let (mut server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let host = Host::new(&format!("{}{}", mail_to(&server), hook_to(&receiver)));
    server.stop();
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    for at in 0..10 {
        tick(&cx, minute(at));
    }
    assert_eq!(keys(&receiver), ["[HavunCore] BACKUP FAILED - HavunAdmin"]);
    for at in 10..60 {
        tick(&cx, minute(at));
    }
    assert_eq!(keys(&receiver)[1..], ["[HavunCore] MESSAGES NOT DELIVERED - HavunCore"]);
    server.resume();
    for at in 60..91 {
        tick(&cx, minute(at));
    }
    assert_eq!(subjects(&server), ["[HavunCore] BACKUP FAILED - HavunAdmin"]);
    assert_eq!(keys(&receiver)[2..], ["[HavunCore] RECOVERED - HavunCore"]);
}

#[test]
fn after_three_days_a_message_is_given_up_and_that_is_an_alert() {
    let (mut server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let host = Host::new(&format!("{}{}", mail_to(&server), hook_to(&receiver)));
    server.stop();
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "blog", "run", "m", minute(0));
    for hour in 0..=72 {
        tick(&cx, minute(hour * 60));
    }
    let queue = Outbox::new(&cx).queue(minute(72 * 60)).unwrap();
    assert_eq!((queue.waiting.len(), queue.given_up.len()), (0, 1));
    assert!(queue.given_up[0].last_error.contains("three days have passed"), "{queue:?}");
    let open = cx.audit().unwrap().alerts(true, 10).unwrap();
    let notify = open.iter().find(|alert| alert.kind == "notify").unwrap();
    assert!(notify.store == "email" && notify.message.contains("given up"), "{notify:?}");
}

#[test]
fn an_alert_that_comes_and_goes_brings_few_messages() {
    let receiver = HttpReceiver::start();
    let host = Host::new(&hook_to(&receiver));
    let cx = host.cx();
    let audit = cx.audit().unwrap();
    for round in 0..20 {
        raise(&audit, "havunadmin", "replication", "away", minute(round * 10));
        tick(&cx, minute(round * 10));
        audit.resolve("havunadmin", "", "replication", minute(round * 10 + 5)).unwrap();
        tick(&cx, minute(round * 10 + 5));
    }
    let heard = keys(&receiver);
    assert_eq!((heard.len(), heard.last().unwrap().as_str()), (7, "[HavunCore] UNSTABLE: ARCHIVE IS BEHIND - HavunAdmin"), "{heard:?}");
    tick(&cx, minute(190 + 5 + 6 * 60));
    assert_eq!(keys(&receiver)[7..], ["[HavunCore] RECOVERED - HavunAdmin"]);
}

#[test]
fn channels_get_what_they_asked_for() {
    let (important, everything) = (HttpReceiver::start(), HttpReceiver::start());
    let host = Host::new(&format!(
        "[notify.webhook]\nurl='{}'\n[notify.channels.night]\nkind='webhook'\nurl='{}'\nevents=['failure']\nmin_priority='high'\n",
        everything.url("/all"),
        important.url("/night"),
    ));
    let cx = host.cx();
    let audit = cx.audit().unwrap();
    raise(&audit, "blog", "run", "m", minute(0));
    raise(&audit, "havunadmin", "run", "m", minute(0));
    tick(&cx, minute(0));
    audit.resolve("havunadmin", "", "run", minute(5)).unwrap();
    tick(&cx, minute(5));
    Outbox::new(&cx).put(digest("digest/2026-11-21"), minute(6)).unwrap();
    tick(&cx, minute(6));
    assert_eq!(keys(&important), ["[HavunCore] BACKUP FAILED - HavunAdmin"]);
    assert_eq!(everything.received().len(), 4);
}

fn digest(key: &str) -> Message {
    Message {
        key: key.to_owned(),
        event: Event::Digest,
        severity: Severity::Info,
        host: "HavunCore".to_owned(),
        project: String::new(),
        title: String::new(),
        priority: String::new(),
        at: minute(0),
        subject: "[HavunCore] Daily Backup Report - 2026-11-21".to_owned(),
        text: format!("a\u{1b}[2J file\n{}", "x".repeat(200_000)),
        html: String::new(),
        fields: Vec::new(),
    }
}

#[test]
fn a_digest_of_one_day_is_sent_once_and_a_long_one_whole() {
    let receiver = HttpReceiver::start();
    let host = Host::new(&hook_to(&receiver));
    let cx = host.cx();
    let outbox = Outbox::new(&cx);
    assert!(outbox.put(digest("digest/2026-11-21"), minute(0)).unwrap());
    assert!(!outbox.put(digest("digest/2026-11-21"), minute(1)).unwrap());
    tick(&cx, minute(1));
    tick(&cx, minute(2));
    let received = receiver.received();
    assert_eq!(received.len(), 1);
    let text = received[0].json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("a\\u{1b}[2J file\n") && text.len() > 200_000);
}

#[test]
fn a_file_name_or_title_with_escapes_and_line_breaks_stays_what_it_is() {
    let (server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let mut host = Host::new(&format!("{}{}", mail_to(&server), hook_to(&receiver)));
    host.config = host.config.replace("title='HavunAdmin'", "title=\"Havun\\r\\nBcc: thief@example.org\"");
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "cannot read `a\u{1b}[2J\u{202e}\r\nWHAT TO DO NOW\n  rm -rf /`", minute(0));
    tick(&cx, minute(0));
    let mail = &server.mails()[0];
    assert_eq!((mail.header("Bcc"), mail.to.len()), ("", 1));
    assert!(mail.subject().ends_with(r"Havun\u{d}\u{a}Bcc: thief@example.org"), "{}", mail.subject());
    assert!(mail.text.contains(r"a\u{1b}[2J\u{202e}"), "{}", mail.text);
    for text in [&mail.text, &mail.html, &receiver.received()[0].json().to_string()] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }
}

#[test]
fn a_template_that_cannot_be_used_is_told_once_and_the_message_goes_out() {
    let server = SmtpServer::start();
    let templates = tempfile::tempdir().unwrap();
    fs::write(templates.path().join("failure.txt"), "{{ no_such_field }}").unwrap();
    let host = Host::new(&format!("[notify]\ntemplates='{}'\n{}", templates.path().display(), mail_to(&server)));
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    tick(&cx, minute(0));
    raise(&cx.audit().unwrap(), "blog", "run", "m", minute(1));
    tick(&cx, minute(1));
    let mails = server.mails();
    let expected =
        ["[HavunCore] BACKUP FAILED - HavunAdmin", "[HavunCore] MESSAGES NOT DELIVERED - HavunCore", "[HavunCore] BACKUP FAILED - blog"];
    assert_eq!(subjects(&server), expected);
    assert!(mails[0].text.contains("WHAT TO DO NOW") && mails[1].text.contains("failure.txt"), "{}", mails[1].text);
}

#[test]
fn without_an_audit_database_that_is_told_directly_once_and_its_return_too() {
    let receiver = HttpReceiver::start();
    let mut host = Host::new(&hook_to(&receiver));
    let good = host.config.clone();
    host.config = format!("{good}[audit]\nurl='sqlite:///proc/no/audit.db'\n");
    let cx = host.cx();
    for at in [0, 1, 60] {
        assert!(Outbox::new(&cx).tick(minute(at)).is_err());
    }
    assert_eq!(keys(&receiver), ["[HavunCore] AUDIT DATABASE UNREACHABLE - HavunCore"]);
    host.config = good;
    let cx = host.cx();
    for at in [90, 91] {
        tick(&cx, minute(at));
    }
    assert_eq!(keys(&receiver)[1..], ["[HavunCore] RECOVERED - HavunCore"]);
}

#[test]
fn a_channel_that_left_the_configuration_is_waited_for_no_more() {
    let (mut server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let mut host = Host::new(&format!("{}{}", mail_to(&server), hook_to(&receiver)));
    server.stop();
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    (0..20).for_each(|at| drop(tick(&cx, minute(at))));
    host.config = host.config.replace(&mail_to(&server), "");
    let cx = host.cx();
    tick(&cx, minute(21));
    assert_eq!(Outbox::new(&cx).queue(minute(21)).unwrap().waiting, []);
    assert!(cx.audit().unwrap().alerts(true, 10).unwrap().iter().all(|alert| alert.kind != "notify"));
}

#[test]
fn secrets_stand_nowhere() {
    let (server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    receiver.answer(403, &[], &format!("invalid token at {HOOK}"));
    server.behave(SmtpBehaviour::Refuses);
    let host = Host::new(&format!(
        "[notify.email]\nsmtp='smtp://127.0.0.1:{}'\nuser='havun'\npassword='pAsS-w0rd-9'\nfrom='a@example.org'\nto=['b@example.org']\n\
         [notify.slack]\nwebhook='{}'\n[notify.discord]\nwebhook='ftp://example.org{HOOK}'\n[notify.webhook]\nurl='{}'\nbearer='t0Ken-t0Ken'\n",
        server.port(),
        receiver.url(HOOK),
        receiver.url(HOOK),
    ));
    let cx = host.cx();
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(0));
    let report = tick(&cx, minute(0));
    assert_eq!((report.sent, report.failed.len() >= 4), (0, true), "{report:?}");
    let tested = test_channels(&cx, None).unwrap();
    let told = format!(
        "{report:?} {tested:?} {:?} {:?}",
        Outbox::new(&cx).queue(minute(0)).unwrap(),
        cx.audit().unwrap().alerts(false, 99).unwrap()
    );
    drop(cx);
    let database = String::from_utf8_lossy(&host.database()).into_owned();
    assert!(database.contains("BACKUP FAILED"), "it is the right file");
    for secret in ["sEcReT-hOoK", "T0AAAA", "B0BBBB", "pAsS-w0rd-9", "t0Ken-t0Ken"] {
        assert!(!told.contains(secret), "{secret}: {told}");
        assert!(!database.contains(secret), "{secret} in the database");
    }
}

#[test]
fn a_test_message_goes_out_by_the_named_channel() {
    let (server, receiver) = (SmtpServer::start(), HttpReceiver::start());
    let host = Host::new(&format!("{}{}", mail_to(&server), hook_to(&receiver)));
    let report = test_channels(&host.cx(), Some("email")).unwrap();
    assert_eq!((report.exit_status(), report.channels.len()), (0, 1));
    assert_eq!(subjects(&server), ["[HavunCore] Test message"]);
    assert!(receiver.received().is_empty());
    let error = test_channels(&host.cx(), Some("emial")).unwrap_err();
    assert_eq!((error.exit_status(), error.hint().unwrap()), (2, "did you mean `email`?".to_owned()));
    assert!(Path::new(&host.folder.path().join("state")).read_dir().is_err(), "a test needs no audit database");
}

#[test]
fn messages_about_one_alert_arrive_in_their_order_and_others_pass() {
    let receiver = HttpReceiver::start();
    let host = Host::new(&hook_to(&receiver));
    let cx = host.cx();
    let audit = cx.audit().unwrap();
    receiver.answer(400, &[], "");
    raise(&audit, "havunadmin", "run", "m", minute(0));
    tick(&cx, minute(0));
    receiver.answer(200, &[], "");
    audit.resolve("havunadmin", "", "run", minute(10)).unwrap();
    raise(&audit, "blog", "run", "m", minute(10));
    tick(&cx, minute(10));
    tick(&cx, minute(61));
    let expected = ["BACKUP FAILED - HavunAdmin", "BACKUP FAILED - blog", "BACKUP FAILED - HavunAdmin", "RECOVERED - HavunAdmin"];
    assert_eq!(keys(&receiver), expected.map(|subject| format!("[HavunCore] {subject}")));
}

#[test]
fn too_many_messages_make_room_for_new_ones_and_that_is_an_alert() {
    let receiver = HttpReceiver::start();
    let host = Host::new(&hook_to(&receiver));
    let cx = host.cx();
    receiver.answer(503, &[], "");
    for number in 0..503 {
        let mut message = digest(&format!("digest/{number:04}"));
        message.text = number.to_string();
        Outbox::new(&cx).put(message, minute(0)).unwrap();
    }
    assert_eq!(tick(&cx, minute(0)).given_up, 3);
    let queue = Outbox::new(&cx).queue(minute(0)).unwrap();
    assert_eq!((queue.waiting.len(), queue.waiting[0].key.as_str()), (500, "digest/0003"));
    assert!(cx.audit().unwrap().alerts(true, 1).unwrap()[0].message.contains("too many messages wait"));
    assert_eq!(receiver.received().len(), 1, "a server in trouble is asked once, not for each message");
}

#[test]
fn messages_that_nobody_wants_block_no_other() {
    let receiver = HttpReceiver::start();
    let host = Host::new(&hook_to(&receiver));
    let cx = host.cx();
    receiver.answer(413, &[], "");
    for number in 0..60 {
        Outbox::new(&cx).put(Message { text: number.to_string(), ..digest(&format!("digest/{number:02}")) }, minute(0)).unwrap();
    }
    tick(&cx, minute(0));
    assert_eq!(tick(&cx, minute(1)).sent, 0);
    receiver.answer(200, &[], "");
    raise(&cx.audit().unwrap(), "havunadmin", "run", "m", minute(2));
    assert_eq!(tick(&cx, minute(2)).sent, 1);
    assert_eq!(keys(&receiver).last().unwrap(), "[HavunCore] BACKUP FAILED - HavunAdmin");
}
