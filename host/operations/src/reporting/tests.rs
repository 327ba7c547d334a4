//! Reports of a seeded audit database; the words that are sent, in both languages.

use super::*;
use crate::{
    audit::{Alert, LogEnd},
    config::Config,
    context::{Context, SilentObserver},
};
use havun_model::Cancel;
use havun_notify::{Event, Language, Severity};
use jiff::{Timestamp, ToSpan as _, civil::Date};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// The four projects of the specification.
const PROJECTS: &str = r#"
[projects.havunadmin]
title = "HavunAdmin"
strategy = "files"
root = "/nowhere"
priority = "critical"
compliance = ["belastingdienst", "gdpr"]
schedule = "daily 03:00"
stores = ["local", "hetzner"]
[projects.havunadmin.retention]
archive = "7y"
[projects.herdenkingsportaal]
title = "Herdenkingsportaal"
strategy = "files"
root = "/nowhere"
schedule = "daily 04:00"
stores = ["local", "hetzner"]
[projects.havuncore]
title = "HavunCore"
strategy = "files"
root = "/nowhere"
schedule = "weekly sun 05:00"
stores = ["local", "hetzner"]
[projects.havun-mcp]
title = "havun-mcp"
strategy = "files"
root = "/nowhere"
schedule = "weekly sun 06:00"
stores = ["local", "hetzner"]
encryption = false
"#;

struct Host {
    cx: Context,
    now: Arc<Mutex<Timestamp>>,
    folder: TempDir,
}

impl Host {
    /// `HavunCore` at a moment, with these projects.
    fn new(at: &str, projects: &str, language: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[host]\nname = \"HavunCore\"\nstate_dir = \"{state}\"\ntimezone = \"Europe/Amsterdam\"\n\
             [notify]\nlanguage = \"{language}\"\n\
             [stores.local]\ntier = \"hot\"\nkind = \"local\"\npath = \"{state}/hot\"\n\
             [stores.hetzner]\ntier = \"archive\"\nkind = \"local\"\npath = \"{state}/archive\"\ncost_per_tb_month = \"3.81 EUR\"\n{projects}",
            state = folder.path().display()
        );
        let config = Config::parse(&text, &folder.path().join("havun-backup.toml"), 0o600).unwrap_or_else(|e| panic!("{e:?}"));
        let now = Arc::new(Mutex::new(moment(at)));
        let clock = Arc::clone(&now);
        let mut cx = Context::new(config, Cancel::default(), Arc::new(SilentObserver)).with_clock(Arc::new(move || *clock.lock().unwrap()));
        cx.started_by = "schedule".to_owned();
        cx.config.warnings.clear();
        Self { cx, now, folder }
    }

    fn specification(language: &str) -> Self {
        Self::new("2025-11-21T06:00:00Z", PROJECTS, language)
    }

    fn run(&self, project: &str, at: &str, status: &str, megabytes: u64, message: &str) {
        self.run_at(project, moment(at), status, megabytes, message);
    }

    fn run_at(&self, project: &str, at: Timestamp, status: &str, megabytes: u64, message: &str) {
        let mut start = self.cx.log_start("r", project, "run", at);
        start.snapshot = (status == "ok").then(|| "ab".repeat(32));
        start.stores = vec!["local".to_owned(), "hetzner".to_owned()];
        start.user = "root".to_owned();
        self.cx.audit().unwrap().add_whole(&[(start, end(at, status, megabytes, message))]).unwrap();
    }

    /// The runs of a good week before 21 November 2025, a Friday.
    fn good_week(&self) {
        for day in 14..=21 {
            self.run("havunadmin", &format!("2025-11-{day}T02:00:04Z"), "ok", 1188 + day, "");
            self.run("herdenkingsportaal", &format!("2025-11-{day}T03:00:03Z"), "ok", 9_400, "");
        }
        self.run("havuncore", "2025-11-16T04:00:02Z", "ok", 310, "");
        self.run("havun-mcp", "2025-11-16T05:00:01Z", "ok", 24, "");
    }

    fn report(&self, span: Span, day: &str) -> Report {
        let period = period(&self.cx, span, Some(day.parse::<Date>().unwrap())).unwrap();
        let mut report = gather(&self.cx, &period, &[]).unwrap();
        // Nobody made these stores: what would lie in them is said here.
        for line in report.projects.iter_mut().flat_map(|project| &mut project.storage) {
            (line.state, line.why, line.bytes, line.snapshots) = ("whole", String::new(), 3_125_000_000, 30);
            line.cost.iter_mut().for_each(|cost| cost.amount = 0.01);
        }
        for store in &mut report.stores {
            store.bytes = if store.tier == "archive" { 245_800_000_000 } else { 12_500_000_000 };
            store.cost.iter_mut().for_each(|cost| cost.amount = 0.94);
        }
        (report.totals.local_bytes, report.totals.offsite_bytes) = (12_500_000_000, 245_800_000_000);
        report.totals.unknown.clear();
        report
    }

    fn alert(&self, kind: &str, message: &str, raised: &str, resolved: Option<&str>) {
        let audit = self.cx.audit().unwrap();
        let alert = Alert {
            project: "havunadmin",
            store: "hetzner",
            kind,
            message: message.to_owned(),
            hint: String::new(),
            exit_status: 10,
            run_id: "r",
        };
        audit.raise(&alert, moment(raised)).unwrap();
        if let Some(at) = resolved {
            audit.resolve("havunadmin", "hetzner", kind, moment(at)).unwrap();
        }
    }
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn end(started_at: Timestamp, status: &str, megabytes: u64, message: &str) -> LogEnd {
    LogEnd {
        status: status.to_owned(),
        ended_at: started_at.checked_add(125.seconds()).unwrap(),
        snapshot: None,
        files: 1_204,
        bytes: megabytes * 1_000_000,
        bytes_added: megabytes * 10_000,
        problems: u64::from(status != "ok"),
        message: message.to_owned(),
        details: serde_json::json!({ "warnings": [] }),
    }
}

/// The text of a message without its last lines, which name the version.
fn body(message: &havun_notify::Message) -> String {
    message.text.split("\n--\n").next().unwrap().to_owned()
}

fn digest_of(host: &Host) -> havun_notify::Message {
    message(&host.cx, &host.report(Span::Daily, "2025-11-21"))
}

#[test]
fn the_mail_of_a_good_day_is_that_of_the_specification() {
    let host = Host::specification("en");
    host.good_week();
    let message = digest_of(&host);
    assert_eq!(message.subject, "[HavunCore] Daily Backup Report - 2025-11-21");
    assert_eq!((message.event, message.severity), (Event::Digest, Severity::Info));
    let expected = "\
ALL BACKUPS SUCCESSFUL

   Project                 Size   Change
✓  HavunAdmin            1.2 GB  +1.0 MB
     03:00, 2 min 05 s, 3 h old · hetzner: up to date
✓  havun-mcp            24.0 MB       ±0
     2025-11-16 06:00, 2 min 05 s, 5 days old · hetzner: up to date
✓  HavunCore           310.0 MB       ±0
     2025-11-16 05:00, 2 min 05 s, 5 days old · hetzner: up to date
✓  Herdenkingsportaal    9.4 GB       ±0
     04:00, 2 min 05 s, 2 h old · hetzner: up to date

Storage: 12.5 GB local / 245.8 GB offsite
";
    assert_eq!(body(&message), expected);
    assert!(message.html.contains("ALL BACKUPS SUCCESSFUL") && message.html.contains("Storage: 12.5 GB local / 245.8 GB offsite"));
    assert_eq!(message.fields.first().map(|field| (field.name.as_str(), field.value.as_str())), Some(("HavunAdmin", "✓ 1.2 GB")));
}

/// Columns are as wide as they must be; that is tested where they are made.
fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_same_in_dutch() {
    let host = Host::specification("nl");
    host.good_week();
    let message = digest_of(&host);
    assert_eq!(message.subject, "[HavunCore] Dagelijks back-uprapport - 2025-11-21");
    let text = squeezed(&body(&message));
    assert_eq!(text.first().map(String::as_str), Some("ALLE BACK-UPS GESLAAGD"));
    assert!(text.contains(&"Opslag: 12,5 GB lokaal / 245,8 GB extern".to_owned()), "{text:?}");
    assert!(text.contains(&"03:00, 2 min 05 s, 3 u oud · hetzner: bij".to_owned()), "{text:?}");
    assert!(message.html.contains("<html lang=\"nl\">"));
}

#[test]
fn one_failed_project_of_four_is_said_first_with_its_reason() {
    for (language, headline, status) in [("en", "1 OF 4 BACKUPS FAILED", "failed: "), ("nl", "1 VAN 4 BACK-UPS MISLUKT", "mislukt: ")] {
        let host = Host::specification(language);
        host.good_week();
        host.run("havunadmin", "2025-11-21T02:30:00Z", "failed", 0, "no item could be backed up: cannot connect to shop: refused");
        host.alert("run", "no item could be backed up: cannot connect to shop: refused", "2025-11-21T02:30:00Z", None);
        let message = digest_of(&host);
        let text = squeezed(&body(&message));
        assert_eq!(text.first().map(String::as_str), Some(headline));
        assert!(text.iter().any(|line| line.starts_with("✗ HavunAdmin")), "{text:?}");
        assert!(text.iter().any(|line| line.starts_with(&format!("{status}no item could be backed up"))), "{text:?}");
        assert_eq!(message.severity, Severity::Warning);
        assert!(message.html.contains("band-bad"));
    }
}

#[test]
fn a_run_that_did_not_begin_is_a_failure_and_a_failure_that_was_mended_is_none() {
    let host = Host::specification("en");
    host.good_week();
    *host.now.lock().unwrap() = moment("2025-11-22T06:00:00Z");
    // Saturday: HavunAdmin did not run; Herdenkingsportaal failed and was whole at the second try.
    host.run("herdenkingsportaal", "2025-11-22T03:00:03Z", "failed", 0, "away");
    host.run("herdenkingsportaal", "2025-11-22T03:20:03Z", "ok", 9_400, "");
    let report = host.report(Span::Daily, "2025-11-22");
    assert_eq!((report.totals.failed, report.totals.succeeded), (1, 3));
    let text = message(&host.cx, &report).text;
    assert!(text.contains("no run began at 2025-11-22 03:00 or since"), "{text}");
    assert!(text.contains("1 of 2 runs ok"), "{text}");
    assert_eq!(report.totals.success_percent, Some(50.0));
    // On Monday the weekly ones are missing too, and stay so until they have run.
    *host.now.lock().unwrap() = moment("2025-11-25T06:00:00Z");
    assert_eq!(host.report(Span::Daily, "2025-11-25").totals.failed, 4);
}

#[test]
fn an_empty_history_has_a_report() {
    let host = Host::specification("en");
    for span in [Span::Daily, Span::Weekly, Span::Monthly, Span::Audit] {
        let report = host.report(span, "2025-11-21");
        let document = document(&report, Language::English, &host.cx.zone());
        assert!(document.html().unwrap().contains("</html>"));
        assert!(!document.text().contains("SUCCESSFUL"), "{}", document.text());
        assert!(csv(&report).starts_with("record,project,at,"));
        serde_json::to_string(&report).unwrap();
    }
    // What is due daily and never ran is missing; what is due on Sundays is so too, since last Sunday.
    assert_eq!(host.report(Span::Daily, "2025-11-21").totals.failed, 4);
    let none = Host::new("2025-11-21T06:00:00Z", "", "en");
    assert!(message(&none.cx, &none.report(Span::Daily, "2025-11-21")).text.starts_with("NO BACKUPS ARE CONFIGURED"));
}

#[test]
fn a_report_of_the_future_is_refused_and_one_of_the_past_knows_nothing_later() {
    let host = Host::specification("en");
    host.good_week();
    assert!(period(&host.cx, Span::Daily, Some("2025-11-22".parse().unwrap())).is_err());
    let report = host.report(Span::Daily, "2025-11-18");
    let admin = report.projects.iter().find(|project| project.project == "havunadmin").unwrap();
    assert_eq!(admin.newest_good, Some(moment("2025-11-18T02:00:04Z")));
    assert_eq!((admin.due, admin.done, admin.change), (1, 1, Some(1_000_000)));
}

#[test]
fn incidents_are_told_open_and_resolved_with_how_long() {
    let host = Host::specification("en");
    host.good_week();
    host.alert("replication", "store is unreachable: timed out", "2025-11-20T12:00:00Z", Some("2025-11-20T15:00:00Z"));
    host.alert("anomaly", "1,204 of 1,310 PDF files changed and no longer compress", "2025-11-21T02:10:00Z", None);
    host.alert("scrub", "long ago", "2025-10-01T00:00:00Z", Some("2025-10-02T00:00:00Z"));
    let report = host.report(Span::Daily, "2025-11-21");
    let told: Vec<_> = report.incidents.iter().map(|i| (i.kind.as_str(), i.page, i.resolved_at.is_some(), i.open_secs)).collect();
    assert_eq!(told, [("replication", "archive-away", true, 10_800), ("anomaly", "anomaly", false, 13_800)]);
    let text = message(&host.cx, &report).text;
    assert!(text.contains("Open\n----") && text.contains("Resolved\n--------") && text.contains("no longer compress"), "{text}");
    assert!(!text.contains("long ago"));
}

#[test]
fn a_month_has_rates_durations_cost_and_retention() {
    let host = Host::specification("en");
    host.good_week();
    host.run("havunadmin", "2025-11-20T10:00:00Z", "partial", 1_200, "files: 1 file could not be read");
    let report = host.report(Span::Monthly, "2025-11-01");
    assert_eq!(report.period.label, "2025-11");
    assert_eq!((report.totals.runs, report.totals.runs_ok), (19, 18));
    let admin = &report.projects[0];
    assert_eq!((admin.runs.ok, admin.runs.partial, admin.usual_ms), (8, 1, Some(125_000)));
    assert!(admin.retention.grounds[0].contains("art. 52 AWR") && admin.retention.doubts.is_empty(), "{:?}", admin.retention);
    assert_eq!(admin.retention.until, moment("2032-12-31T23:00:00Z"));
    let text = document(&report, Language::English, &host.cx.zone()).text();
    for part in [
        "Monthly Backup Report - 2025-11",
        "94.7 %",
        "Storage and cost",
        "0.01 EUR",
        "0.94 EUR",
        "Test restores",
        "Retention",
        "2 min 05 s",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn a_term_that_is_shorter_than_the_law_wants_is_doubted() {
    let short = PROJECTS
        .replace("archive = \"7y\"", "archive = \"5y\"")
        .replace("stores = [\"local\", \"hetzner\"]\n[projects.havunadmin.ret", "stores = [\"local\"]\n[projects.havunadmin.ret");
    let host = Host::new("2025-11-21T06:00:00Z", &short, "en");
    let doubts = &host.report(Span::Monthly, "2025-11-01").projects[0].retention.doubts;
    assert!(doubts.len() == 2 && doubts[0].contains("7 years") && doubts[1].contains("archive"), "{doubts:?}");
}

/// A year of daily runs with a week in summer in which the machine was down, a failure, and a drill.
fn year() -> Host {
    let host = Host::new("2026-02-01T08:00:00Z", PROJECTS, "en");
    let mut at = moment("2025-03-01T02:00:05Z");
    let mut rows = Vec::new();
    while at < moment("2026-01-03T00:00:00Z") {
        let day = at.strftime("%m-%d").to_string();
        if !("07-10".."07-17").contains(&day.as_str()) {
            let status = if day == "09-09" { "failed" } else { "ok" };
            let mut start = host.cx.log_start("r", "havunadmin", "run", at);
            start.snapshot = (status == "ok").then(|| "cd".repeat(32));
            start.program =
                if day.as_str() < "06-01" && at < moment("2025-06-01T00:00:00Z") { "havun-backup 0.0.9" } else { "havun-backup 0.1.0" }
                    .to_owned();
            rows.push((start, end(at, status, 1_200, if status == "ok" { "" } else { "=cmd|'/c calc'!A1, \"quoted\"\nsecond line" })));
        }
        at = at.checked_add(24.hours()).unwrap();
    }
    let audit = host.cx.audit().unwrap();
    audit.add_whole(&rows).unwrap();
    let certificate = host.folder.path().join("certificates/havunadmin/20250601T090000Z-cdcdcdcd.json");
    std::fs::create_dir_all(certificate.parent().unwrap()).unwrap();
    std::fs::write(&certificate, "{}\n").unwrap();
    let began = moment("2025-06-01T09:00:00Z");
    let mut start = host.cx.log_start("d", "havunadmin", "drill", began);
    start.snapshot = Some("cd".repeat(32));
    let mut ended = end(began, "ok", 1_200, "");
    ended.details = serde_json::json!({ "certificate": { "id": "drill-77" }, "files": [certificate] });
    audit.end(audit.begin_test(&start).unwrap(), &ended).unwrap();
    let mut restore = host.cx.log_start("x", "havunadmin", "restore", moment("2025-09-10T10:00:00Z"));
    (restore.user, restore.target) = ("anna".to_owned(), "/tmp/look".to_owned());
    audit.end(audit.begin_restore(&restore).unwrap(), &end(restore.started_at, "ok", 5, "")).unwrap();
    for (action, at) in [
        ("hold", "2025-10-01T10:00:00Z"),
        ("archive-expire", "2025-12-01T10:00:00Z"),
        ("erasure", "2025-11-01T10:00:00Z"),
        ("cleanup", "2025-11-02T10:00:00Z"),
    ] {
        let start = host.cx.log_start("y", "havunadmin", action, moment(at));
        audit.add_whole(&[(start, end(moment(at), "ok", 1, "tax audit of 2025"))]).unwrap();
    }
    host
}

#[test]
fn the_evidence_of_a_year_has_every_run_and_explains_each_gap() {
    let host = year();
    let report = host.report(Span::Audit, "2025-01-01");
    let admin = &report.projects[0];
    // 306 days from 1 March to 31 December; a week without a run, a day that failed.
    assert_eq!((admin.due, admin.done, admin.gaps.len()), (306, 298, 8));
    assert_eq!(admin.gaps.iter().filter(|gap| gap.outcome == "missed").count(), 7);
    assert_eq!(admin.gaps.iter().find(|gap| gap.outcome == "failed").unwrap().due_at, moment("2025-09-09T01:00:00Z"));
    let evidence = &report.evidence.as_ref().unwrap().projects[0];
    assert_eq!(evidence.runs.len(), 299);
    assert_eq!(evidence.drills[0].certificate, "drill-77");
    assert_eq!(evidence.drills[0].sha256, "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356");
    assert_eq!((evidence.restores[0].user.as_str(), evidence.restores[0].about.as_str()), ("anna", "/tmp/look"));
    let acts = |records: &[Record]| records.iter().map(|record| record.action.clone()).collect::<Vec<_>>();
    assert_eq!(
        (acts(&evidence.holds), acts(&evidence.deletions), acts(&evidence.erasures)),
        (vec!["hold".to_owned()], vec!["cleanup".to_owned(), "archive-expire".to_owned()], vec!["erasure".to_owned()])
    );
    assert_eq!(
        evidence.changes.iter().map(|change| (change.what.as_str(), change.at)).collect::<Vec<_>>(),
        [("program", moment("2025-06-01T02:00:05Z"))]
    );
    let text = document(&report, Language::English, &host.cx.zone()).text();
    for part in [
        "Due and not done",
        "HavunAdmin, 2025-07-10 03:00: no run began",
        "drill-77",
        "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
        "298 OF 306 BACKUPS WERE MADE",
        "art. 52 AWR",
        "tax audit of 2025",
        "there is no escrow key",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    // Those that never ran have nothing that was due.
    assert_eq!(report.projects[1].due, 0);
}

#[test]
fn the_csv_is_read_by_another_program_and_no_cell_is_a_formula() {
    let host = year();
    let csv = csv(&host.report(Span::Audit, "2025-01-01"));
    let path = host.folder.path().join("report.csv");
    std::fs::write(&path, &csv).unwrap();
    let script = "import csv,sys,collections\n\
                  rows=list(csv.DictReader(open(sys.argv[1],newline='',encoding='utf-8'),strict=True))\n\
                  assert all(None not in r and None not in r.values() for r in rows)\n\
                  assert not any(v[:1] in '=+-@' for r in rows for v in r.values() if v)\n\
                  bad=[r for r in rows if r['record']=='run' and r['status']=='failed']\n\
                  c=collections.Counter(r['record'] for r in rows)\n\
                  print(c['run'],c['gap'],c['drill'],c['restore'],c['deletion'],c['hold'],c['erasure'],c['change'],bad[0]['detail'])";
    let told = std::process::Command::new("python3").arg("-c").arg(script).arg(&path).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "299 8 1 1 2 1 1 1 '=cmd|'/c calc'!A1, \"quoted\"; second line");
}

#[test]
fn a_title_cannot_put_markup_or_a_header_into_a_mail() {
    let bad = PROJECTS.replace("title = \"HavunAdmin\"", "title = \"<script>alert(1)</script>\"");
    let host = Host::new("2025-11-21T06:00:00Z", &bad, "en");
    host.run("havunadmin", "2025-11-21T02:00:04Z", "failed", 1, "</td><img src=x onerror=y>\u{1b}[2J");
    let message = digest_of(&host);
    assert!(!message.html.contains("<script") && !message.html.contains("<img"), "{}", message.html);
    assert!(message.html.contains("&lt;script&gt;"));
    assert!(!message.text.contains('\u{1b}') && !message.html.contains('\u{1b}'));
    assert!(!message.subject.contains('\n'));
}

#[test]
fn the_logs_of_other_kinds_do_not_count_as_runs() {
    let host = Host::specification("en");
    host.good_week();
    let start = host.cx.log_start("c", "havunadmin", "cleanup", moment("2025-11-21T05:00:00Z"));
    host.cx.audit().unwrap().add_whole(&[(start, end(moment("2025-11-21T05:00:00Z"), "failed", 0, "x"))]).unwrap();
    assert_eq!(host.report(Span::Daily, "2025-11-21").totals.failed, 0);
}

#[test]
fn the_mail_as_a_real_server_receives_it_has_the_subject_and_both_parts() {
    use havun_notify::{Channel as _, EmailChannel, EmailSettings, Patience};
    let server = havun_tests::SmtpServer::start();
    let channel = EmailChannel::new(EmailSettings {
        server: zeroize::Zeroizing::new(server.url()),
        user: None,
        password: None,
        from: "backup@example.org".to_owned(),
        to: vec!["ops@example.org".to_owned()],
        ca_file: None,
        patience: Patience::default(),
    });
    let channel = channel.unwrap();
    for language in ["en", "nl"] {
        let host = Host::specification(language);
        host.good_week();
        channel.send(&digest_of(&host)).unwrap();
        host.run("havunadmin", "2025-11-21T02:30:00Z", "failed", 0, "cannot connect to shop on 127.0.0.1:3306: Connection refused");
        channel.send(&digest_of(&host)).unwrap();
        channel.send(&message(&host.cx, &host.report(Span::Monthly, "2025-11-21"))).unwrap();
    }
    let mails = server.mails();
    let subjects: Vec<&str> = mails.iter().map(|mail| mail.subject()).collect();
    let [english, dutch] = ["[HavunCore] Daily Backup Report - 2025-11-21", "[HavunCore] Dagelijks back-uprapport - 2025-11-21"];
    let monthly = ["[HavunCore] Monthly Backup Report - 2025-11", "[HavunCore] Maandelijks back-uprapport - 2025-11"];
    assert_eq!(subjects, [english, english, monthly[0], dutch, dutch, monthly[1]]);
    for (mail, first) in
        mails.iter().zip(["ALL BACKUPS SUCCESSFUL", "1 OF 4 BACKUPS FAILED", "1 OF 4 BACKUPS FAILED", "ALLE BACK-UPS GESLAAGD"])
    {
        assert_eq!(mail.parts, ["multipart/alternative", "text/plain", "text/html"]);
        assert!(mail.text.starts_with(first) && mail.html.contains(first), "{}", mail.text);
        assert!(mail.text.contains("✓  Herdenkingsportaal") && mail.html.contains("Herdenkingsportaal"));
        assert!(!mail.header("Date").is_empty() && !mail.header("Message-ID").is_empty());
    }
}
