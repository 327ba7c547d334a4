//! Webhooks as a receiver gets them, and commands as programs do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use havun_notify::{
    Channel, ChatChannel, CommandChannel, CommandSettings, Event, Field, Message, Patience, SendError, Severity, WebhookAuthentication,
    WebhookChannel,
};
use havun_tests::{HttpReceiver, SmtpSecurity, SmtpServer};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};
use zeroize::Zeroizing;

const SHORT: Patience = Patience { step: Duration::from_millis(300), whole: Duration::from_millis(600) };
const SECRET: &str = "/services/T0AAAA/B0BBBB/sEcReT-hOoK";

fn message() -> Message {
    Message {
        key: "alert/1/failure".to_owned(),
        event: Event::Failure,
        severity: Severity::Critical,
        host: "HavunCore".to_owned(),
        project: "havunadmin".to_owned(),
        title: "HavunAdmin".to_owned(),
        priority: "critical".to_owned(),
        at: "2026-11-21T02:00:00Z".parse().unwrap(),
        subject: "[HavunCore] BACKUP FAILED - HavunAdmin".to_owned(),
        text: "cannot read <!channel> & @everyone ```".to_owned(),
        html: "<p>x</p>".to_owned(),
        fields: vec![Field { name: "Status".to_owned(), value: "failed <@U1>".to_owned() }],
    }
}

fn webhook(url: &str, authentication: WebhookAuthentication) -> WebhookChannel {
    WebhookChannel::new(url, authentication, None, Patience::default()).unwrap()
}

#[test]
fn a_webhook_is_given_the_documented_shape_with_a_signature() {
    let receiver = HttpReceiver::start();
    let secret = "gedeeld-geheim";
    webhook(&receiver.url("/hook"), WebhookAuthentication::Signature(Zeroizing::new(secret.to_owned()))).send(&message()).unwrap();
    let received = &receiver.received()[0];
    let json = received.json();
    let expected = serde_json::json!({
        "schema_version": 1, "key": "alert/1/failure", "event": "failure", "severity": "critical", "host": "HavunCore",
        "project": "havunadmin", "title": "HavunAdmin", "priority": "critical", "at": "2026-11-21T02:00:00Z",
        "subject": "[HavunCore] BACKUP FAILED - HavunAdmin", "text": "cannot read <!channel> & @everyone ```", "html": "<p>x</p>",
        "fields": [{ "name": "Status", "value": "failed <@U1>" }],
    });
    assert_eq!((received.method.as_str(), received.path.as_str(), json), ("POST", "/hook", expected));
    assert_eq!(received.headers["x-havun-key"], "alert/1/failure");
    assert_eq!(received.headers["x-havun-event"], "failure");
    assert_eq!(received.headers["x-havun-signature"], format!("sha256={}", openssl_hmac(secret, &received.body)));
}

/// By another implementation.
fn openssl_hmac(secret: &str, body: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("body"), body).unwrap();
    let output = Command::new("openssl").args(["dgst", "-sha256", "-hmac", secret, "-r"]).arg(folder.path().join("body")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_bearer_token_is_sent_and_never_told() {
    let receiver = HttpReceiver::start();
    let channel = webhook(&receiver.url(SECRET), WebhookAuthentication::Bearer(Zeroizing::new("t0ken-t0ken".to_owned())));
    channel.send(&message()).unwrap();
    assert_eq!(receiver.received()[0].headers["authorization"], "Bearer t0ken-t0ken");
    // A server that repeats all that it was asked with.
    receiver.answer(403, &[], &format!("no {SECRET} for t0ken-t0ken\u{1b}[31m, sEcReT-hOoK"));
    let error = channel.send(&message()).unwrap_err();
    assert!(matches!(error, SendError::Login { .. }) && !error.is_passing(), "{error}");
    let told = format!("{error} {error:?}");
    assert!(!told.contains("sEcReT") && !told.contains("t0ken") && !told.contains('\u{1b}') && !told.contains("T0AAAA"), "{told}");
}

#[test]
fn slack_gets_its_own_form_and_nobody_is_called() {
    let receiver = HttpReceiver::start();
    ChatChannel::slack(&receiver.url(SECRET), Patience::default()).unwrap().send(&message()).unwrap();
    let json = receiver.received()[0].json();
    let body = json.to_string();
    assert!(!body.contains("<!channel>") && !body.contains("<@U1>") && body.contains("&lt;!channel&gt; &amp;"), "{body}");
    assert_eq!(json["text"], "[HavunCore] BACKUP FAILED - HavunAdmin");
    let blocks = &json["attachments"][0]["blocks"];
    assert_eq!((blocks[0]["type"].as_str(), blocks[0]["text"]["type"].as_str()), (Some("header"), Some("plain_text")));
    assert_eq!(blocks[1]["fields"][0]["text"], "*Status*\nfailed &lt;@U1&gt;");
}

#[test]
fn discord_gets_its_own_form_and_nobody_is_called() {
    let receiver = HttpReceiver::start();
    receiver.answer(204, &[], "");
    ChatChannel::discord(&receiver.url(SECRET), Patience::default()).unwrap().send(&message()).unwrap();
    let json = receiver.received()[0].json();
    assert_eq!(json["allowed_mentions"]["parse"].as_array().map(Vec::len), Some(0));
    assert_eq!(json["embeds"][0]["timestamp"], "2026-11-21T02:00:00Z");
    assert!(json["embeds"][0]["fields"][0]["value"].as_str().unwrap().contains("\\<@\u{200b}U1\\>"), "{json}");
}

#[test]
fn long_messages_stay_within_what_slack_and_discord_take() {
    let receiver = HttpReceiver::start();
    let mut long = message();
    (long.subject, long.text) = ("<".repeat(5000), "&<>`".repeat(5000));
    long.fields = (0..60).map(|_| Field { name: "*n".repeat(400), value: "<v".repeat(4000) }).collect();
    ChatChannel::slack(&receiver.url("/s"), Patience::default()).unwrap().send(&long).unwrap();
    ChatChannel::discord(&receiver.url("/d"), Patience::default()).unwrap().send(&long).unwrap();
    let received = receiver.received();
    let characters = |value: &serde_json::Value| value.as_str().unwrap().chars().count();
    let slack = &received[0].json()["attachments"][0]["blocks"];
    assert!(characters(&slack[0]["text"]["text"]) <= 150 && characters(&slack[2]["text"]["text"]) <= 3000);
    let facts = slack[1]["fields"].as_array().unwrap();
    assert!(facts.len() <= 10 && facts.iter().all(|fact| characters(&fact["text"]) <= 2000));
    let discord = &received[1].json()["embeds"][0];
    let fields = discord["fields"].as_array().unwrap();
    let total = characters(&discord["title"])
        + characters(&discord["description"])
        + fields.iter().map(|field| characters(&field["name"]) + characters(&field["value"])).sum::<usize>();
    assert!(characters(&discord["title"]) <= 256 && characters(&discord["description"]) <= 4096 && total <= 6000, "{total}");
}

#[test]
fn a_redirect_is_refused_wherever_it_leads() {
    let inside = HttpReceiver::start();
    let outside = HttpReceiver::start();
    for target in [
        inside.url("/latest/meta-data"),
        "http://169.254.169.254/x".to_owned(),
        "https://elsewhere.example/y".to_owned(),
        "/sEcReT-hOoK".to_owned(),
    ] {
        for status in [301, 302, 303, 307, 308] {
            outside.answer(status, &[("location", &target)], "");
            let error = webhook(&outside.url(SECRET), WebhookAuthentication::None).send(&message()).unwrap_err();
            assert!(matches!(error, SendError::Redirected { .. }) && !error.is_passing(), "{error}");
            assert!(error.to_string().contains("never followed") && !error.to_string().contains("sEcReT"), "{error}");
        }
    }
    assert!(inside.received().is_empty(), "nothing was sent on");
}

#[test]
fn a_server_in_trouble_passes_and_a_wrong_address_does_not() {
    let receiver = HttpReceiver::start();
    let channel = webhook(&receiver.url(SECRET), WebhookAuthentication::None);
    receiver.answer(500, &[], "oops");
    let error = channel.send(&message()).unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("status 500 oops"), "{error}");
    receiver.answer(429, &[("retry-after", "120")], "");
    assert_eq!(channel.send(&message()).unwrap_err().retry_after(), Some(Duration::from_secs(120)));
    receiver.answer(404, &[], "no_such_hook");
    assert!(!channel.send(&message()).unwrap_err().is_passing());
    receiver.answer(0, &[], "");
    assert!(channel.send(&message()).unwrap_err().is_passing());
}

#[test]
fn a_receiver_that_hangs_costs_no_more_than_the_patience() {
    let receiver = HttpReceiver::start();
    receiver.hang();
    let channel = WebhookChannel::new(&receiver.url(SECRET), WebhookAuthentication::None, None, SHORT).unwrap();
    let error = channel.send(&message()).unwrap_err();
    assert!(matches!(error, SendError::TimedOut { .. }) && !error.to_string().contains("sEcReT"), "{error}");
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let receiver = HttpReceiver::start();
    receiver.answer(400, &[], &"x".repeat(3_000_000));
    let error = webhook(&receiver.url("/h"), WebhookAuthentication::None).send(&message()).unwrap_err();
    assert!(error.to_string().len() < 1000, "{}", error.to_string().len());
}

#[test]
fn an_untrusted_certificate_is_refused_and_an_own_authority_accepted() {
    // It speaks SMTP, which is no HTTP; the handshake comes before either.
    let server = SmtpServer::start_with(SmtpSecurity::Tls, None);
    let url = format!("https://127.0.0.1:{}{SECRET}", server.port());
    let error = webhook(&url, WebhookAuthentication::None).send(&message()).unwrap_err();
    assert!(matches!(error, SendError::Tls { .. }) && !error.to_string().contains("sEcReT"), "{error:?}");
    let trusted = WebhookChannel::new(&url, WebhookAuthentication::None, Some(&server.ca_file()), Patience::default()).unwrap();
    let error = trusted.send(&message()).unwrap_err();
    assert!(!matches!(error, SendError::Tls { .. }), "{error:?}");
}

#[test]
fn only_http_addresses_are_webhooks_and_no_fault_shows_the_address() {
    for url in ["file:///etc/passwd", "gopher://127.0.0.1/sEcReT-hOoK", "sEcReT-hOoK", "https://user:sEcReT-hOoK@example.org/"] {
        let error = ChatChannel::slack(url, Patience::default()).err().unwrap();
        assert!(matches!(error, SendError::Setting { .. }) && !format!("{error:?}").contains("sEcReT"), "{error:?}");
    }
}

#[test]
fn a_probe_posts_nothing() {
    let receiver = HttpReceiver::start();
    let told = webhook(&receiver.url(SECRET), WebhookAuthentication::None).probe().unwrap();
    assert!(told.contains("answers") && !told.contains("sEcReT"), "{told}");
    let received = receiver.received();
    assert_eq!((received[0].method.as_str(), received[0].path.as_str()), ("HEAD", "/"));
}

fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("hook");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.display().to_string()
}

fn command(argv: &[&str], timeout: Duration) -> CommandChannel {
    CommandChannel::new(CommandSettings { argv: argv.iter().map(|word| (*word).to_owned()).collect(), timeout }).unwrap()
}

#[test]
fn a_command_is_given_json_and_no_shell_reads_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let program = script(folder.path(), "cat > \"$1/body\"; printf '%s' \"$2\" > \"$1/argument\"; env > \"$1/environment\"");
    command(&[&program, &out, "$(touch pwned); `id` 'x'"], Duration::from_secs(30)).send(&message()).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join("body")).unwrap()).unwrap();
    assert_eq!(body, message().to_json());
    assert_eq!(fs::read_to_string(folder.path().join("argument")).unwrap(), "$(touch pwned); `id` 'x'");
    let environment = fs::read_to_string(folder.path().join("environment")).unwrap();
    assert!(!environment.contains("CARGO") && !environment.contains("HOME="), "{environment}");
}

#[test]
fn a_command_that_fails_hangs_or_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "echo 'no\x1b[31m way' >&2; exit 7");
    let error = command(&[&program], Duration::from_secs(30)).send(&message()).unwrap_err();
    assert!(error.to_string().contains(r"exit status 7): no\u{1b}[31m way"), "{error}");
    let program = script(folder.path(), "sleep 3600 & sleep 3600");
    let error = command(&[&program], Duration::from_millis(300)).send(&message()).unwrap_err();
    assert!(error.to_string().contains("killed after") && error.is_passing(), "{error}");
    let missing = command(&["/nowhere/hook"], Duration::from_secs(1));
    assert!(!missing.send(&message()).unwrap_err().is_passing());
    assert!(missing.probe().is_err() && command(&["true"], Duration::from_secs(1)).probe().is_ok());
}

#[test]
fn a_command_that_reads_nothing_and_a_large_message_do_not_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut large = message();
    large.text = "x".repeat(1 << 20);
    command(&[&script(folder.path(), "exit 0")], Duration::from_secs(30)).send(&large).unwrap();
}
