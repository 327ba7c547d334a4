//! Mails as a real SMTP server receives them, and what becomes of them when it does not want to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use havun_notify::{Channel, EmailChannel, EmailSettings, Event, Field, Message, Patience, SendError, Severity};
use havun_tests::{SmtpBehaviour, SmtpSecurity, SmtpServer};
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

const SHORT: Patience = Patience { step: Duration::from_millis(400), whole: Duration::from_millis(1200) };

fn message(subject: &str) -> Message {
    Message {
        key: "alert/1/failure".to_owned(),
        event: Event::Failure,
        severity: Severity::Critical,
        host: "HavunCore".to_owned(),
        project: "havunadmin".to_owned(),
        title: "HavunAdmin".to_owned(),
        priority: "critical".to_owned(),
        at: "2026-11-21T02:00:00Z".parse().unwrap(),
        subject: subject.to_owned(),
        text: "Het ging mis — één keer.\n.\nregel na de punt\n".to_owned(),
        html: "<p>Het ging mis — één keer.</p>".to_owned(),
        fields: vec![Field { name: "Status".to_owned(), value: "failed".to_owned() }],
    }
}

fn settings(url: &str) -> EmailSettings {
    EmailSettings {
        server: Zeroizing::new(url.to_owned()),
        user: None,
        password: None,
        from: "backup@example.org".to_owned(),
        to: vec!["ops@example.org".to_owned(), "night@example.org".to_owned()],
        ca_file: None,
        patience: Patience::default(),
    }
}

fn with_login(url: &str, ca_file: Option<PathBuf>, password: &str) -> EmailSettings {
    let secret = |text: &str| Some(Zeroizing::new(text.to_owned()));
    EmailSettings { user: secret("havun"), password: secret(password), ca_file, ..settings(url) }
}

#[test]
fn a_mail_arrives_with_headers_both_parts_and_a_key_that_stays() {
    let server = SmtpServer::start();
    let channel = EmailChannel::new(settings(&server.url())).unwrap();
    channel.send(&message("[HavunCore] BACKUP FAILED - HavunAdmin (één)")).unwrap();
    channel.send(&message("[HavunCore] BACKUP FAILED - HavunAdmin (één)")).unwrap();
    let mails = server.mails();
    let mail = &mails[0];
    assert_eq!((mail.from.as_str(), mail.to.join(" ")), ("backup@example.org", "ops@example.org night@example.org".to_owned()));
    assert_eq!(mail.subject(), "[HavunCore] BACKUP FAILED - HavunAdmin (één)");
    assert_eq!(mail.header("From"), "HavunCore backup <backup@example.org>");
    assert_eq!(mail.header("To"), "ops@example.org, night@example.org");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("Date"), "Sat, 21 Nov 2026 02:00:00 +0000");
    assert!(mail.header("Message-ID").ends_with("@example.org>"), "{:?}", mail.headers);
    assert_eq!(mail.header("Message-ID"), mails[1].header("Message-ID"), "a repeat is known by it");
    assert_eq!(mail.parts, ["multipart/alternative", "text/plain", "text/html"]);
    assert_eq!(mail.text.replace("\r\n", "\n"), "Het ging mis — één keer.\n.\nregel na de punt\n");
    assert_eq!(mail.html.trim_end(), "<p>Het ging mis — één keer.</p>");
    assert!(mail.raw.is_ascii(), "any server can carry it");
}

#[test]
fn a_title_or_file_name_with_line_breaks_adds_no_header() {
    let server = SmtpServer::start();
    let channel = EmailChannel::new(settings(&server.url())).unwrap();
    let evil = "FAILED - x\r\nBcc: thief@example.org\r\n\r\nbody\u{1b}[2J";
    let mut hostile = message(evil);
    (hostile.host, hostile.title) = (evil.to_owned(), evil.to_owned());
    channel.send(&hostile.clone().made_visible()).unwrap();
    // As it is, without the queue's care: what reaches the wire is one header still.
    channel.send(&hostile).unwrap();
    let mails = server.mails();
    assert_eq!(mails[0].subject(), r"FAILED - x\u{d}\u{a}Bcc: thief@example.org\u{d}\u{a}\u{d}\u{a}body\u{1b}[2J");
    for mail in mails {
        assert!(mail.header("From").ends_with("<backup@example.org>"), "{}", mail.raw);
        assert_eq!(mail.header("Bcc"), "", "{}", mail.raw);
        assert_eq!(mail.to, ["ops@example.org", "night@example.org"]);
        assert_eq!(mail.parts, ["multipart/alternative", "text/plain", "text/html"], "{}", mail.raw);
        assert!(!mail.raw.contains('\u{1b}'), "{}", mail.raw);
    }
}

#[test]
fn starttls_and_tls_carry_a_login_over_a_verified_connection() {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Tls] {
        let server = SmtpServer::start_with(security, Some(("havun", "wachtwoord-één")));
        let channel = EmailChannel::new(with_login(&server.url(), Some(server.ca_file()), "wachtwoord-één")).unwrap();
        assert!(channel.probe().unwrap().contains("takes the login"));
        assert!(server.mails().is_empty(), "a probe sends nothing");
        channel.send(&message("s")).unwrap();
        let mails = server.mails();
        assert_eq!((mails.len(), mails[0].encrypted, mails[0].user.as_str()), (1, true, "havun"), "{security:?}");
    }
}

#[test]
fn a_wrong_password_is_permanent_and_told_nowhere() {
    let server = SmtpServer::start_with(SmtpSecurity::StartTls, Some(("havun", "right")));
    let channel = EmailChannel::new(with_login(&server.url(), Some(server.ca_file()), "wr0ng-secret")).unwrap();
    let error = channel.send(&message("s")).unwrap_err();
    assert!(matches!(error, SendError::Login { .. }), "{error}");
    assert!(!error.is_passing() && !format!("{error:?}").contains("wr0ng-secret"), "{error:?}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Tls] {
        let server = SmtpServer::start_with(security, None);
        let error = EmailChannel::new(settings(&server.url())).unwrap().send(&message("s")).unwrap_err();
        assert!(matches!(error, SendError::Tls { .. }), "{security:?}: {error}");
        let other = SmtpServer::start_with(security, None);
        let strange = EmailSettings { ca_file: Some(other.ca_file()), ..settings(&server.url()) };
        let error = EmailChannel::new(strange).unwrap().send(&message("s")).unwrap_err();
        assert!(matches!(error, SendError::Tls { .. }), "{security:?}: {error}");
        assert!(server.mails().is_empty());
    }
}

#[test]
fn a_server_without_starttls_is_not_spoken_to_in_the_clear() {
    let server = SmtpServer::start();
    let url = server.url().replace("smtp://", "smtp+starttls://");
    let error = EmailChannel::new(settings(&url)).unwrap().send(&message("s")).unwrap_err();
    assert!(matches!(error, SendError::Tls { .. }), "{error}");
    assert!(server.mails().is_empty());
}

#[test]
fn a_password_is_never_sent_in_the_clear_to_another_machine() {
    let refused = EmailChannel::new(with_login("smtp://mail.example.org", None, "hunter2")).err().unwrap();
    assert!(matches!(refused, SendError::Setting { setting: "smtp", .. }) && !refused.to_string().contains("hunter2"), "{refused}");
    EmailChannel::new(with_login("smtp://127.0.0.1:2525", None, "hunter2")).unwrap();
}

#[test]
fn a_server_that_is_away_busy_or_unwilling_is_told_apart() {
    let mut server = SmtpServer::start();
    let channel = EmailChannel::new(settings(&server.url())).unwrap();
    server.behave(SmtpBehaviour::Busy);
    let error = channel.send(&message("s")).unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("try again later"), "{error}");
    server.behave(SmtpBehaviour::Refuses);
    let error = channel.send(&message("s")).unwrap_err();
    assert!(!error.is_passing() && error.to_string().contains("refused by a rule"), "{error}");
    server.stop();
    let error = channel.send(&message("s")).unwrap_err();
    assert!(matches!(error, SendError::Unreachable { .. }) && error.is_passing(), "{error}");
    server.behave(SmtpBehaviour::Takes);
    server.resume();
    channel.send(&message("s")).unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn one_refused_recipient_keeps_no_other_from_being_told() {
    let server = SmtpServer::start();
    let to = |list: &[&str]| EmailSettings { to: list.iter().map(|to| (*to).to_owned()).collect(), ..settings(&server.url()) };
    EmailChannel::new(to(&["unknown@example.org", "ops@example.org"])).unwrap().send(&message("s")).unwrap();
    assert_eq!(server.mails()[0].to, ["ops@example.org"]);
    let error = EmailChannel::new(to(&["unknown@example.org"])).unwrap().send(&message("s")).unwrap_err();
    assert!(!error.is_passing() && error.to_string().contains("no such mailbox"), "{error}");
}

#[test]
fn a_server_that_hangs_costs_no_more_than_the_patience() {
    let server = SmtpServer::start();
    for behaviour in [SmtpBehaviour::Hangs, SmtpBehaviour::HangsAfterData] {
        server.behave(behaviour);
        let error =
            EmailChannel::new(EmailSettings { patience: SHORT, ..settings(&server.url()) }).unwrap().send(&message("s")).unwrap_err();
        assert!(matches!(error, SendError::TimedOut { .. }) && error.is_passing(), "{behaviour:?}: {error}");
    }
}

#[test]
fn a_server_that_greets_nobody_and_one_that_says_a_byte_at_a_time_time_out() {
    for drips in [false, true] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("smtp://{}", socket.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            while drips && stream.write_all(b"2").is_ok() {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let begun = Instant::now();
        let error = EmailChannel::new(EmailSettings { patience: SHORT, ..settings(&url) }).unwrap().send(&message("s")).unwrap_err();
        assert!(matches!(error, SendError::TimedOut { .. }), "{error}");
        assert!(begun.elapsed() < SHORT.whole * 5, "it came back at all: the bound is wide, the machine may be busy");
        drop(server);
    }
}
