//! A report as CSV (RFC 4180): one line for each run, gap, test restore, other act, incident and store.

use super::{Record, Report};
use jiff::Timestamp;

const TITLES: [&str; 15] = [
    "record",
    "project",
    "at",
    "ended",
    "status",
    "action",
    "snapshot",
    "store",
    "bytes",
    "bytes_added",
    "duration_ms",
    "user",
    "started_by",
    "host",
    "detail",
];

/// One line, its fields by the place of their titles.
#[derive(Default)]
struct Line<'a> {
    record: &'a str,
    project: &'a str,
    at: Option<Timestamp>,
    ended: Option<Timestamp>,
    status: &'a str,
    action: &'a str,
    snapshot: &'a str,
    store: &'a str,
    bytes: Option<u64>,
    bytes_added: Option<u64>,
    duration_ms: Option<u64>,
    user: &'a str,
    started_by: &'a str,
    host: &'a str,
    detail: String,
}

/// The report as CSV, with a line of titles, lines ended by CR and LF.
pub fn csv(report: &Report) -> String {
    let mut out = row(TITLES.iter().map(|title| (*title).to_owned()));
    projects(report, &mut out);
    evidence(report, &mut out);
    for incident in &report.incidents {
        out.push_str(&line(Line {
            record: "incident",
            project: &incident.project,
            at: Some(incident.raised_at),
            ended: incident.resolved_at,
            status: if incident.resolved_at.is_some() { "resolved" } else { "open" },
            action: &incident.kind,
            store: &incident.store,
            duration_ms: Some(incident.open_secs.saturating_mul(1000)),
            detail: incident.message.clone(),
            ..Line::default()
        }));
    }
    out
}

fn projects(report: &Report, out: &mut String) {
    for project in &report.projects {
        let name = project.project.as_str();
        let last = project.last.iter().filter(|_| report.evidence.is_none());
        last.for_each(|run| out.push_str(&self::run("last-run", name, run)));
        let kept = &project.retention;
        let grounds = kept.grounds.iter().chain(&kept.doubts).cloned().collect::<Vec<_>>().join("; ");
        out.push_str(&line(Line {
            record: "retention",
            project: name,
            at: Some(report.made_at),
            ended: Some(kept.until),
            action: &kept.archive,
            detail: grounds,
            ..Line::default()
        }));
        for gap in &project.gaps {
            out.push_str(&line(Line {
                record: "gap",
                project: name,
                at: Some(gap.due_at),
                status: gap.outcome,
                detail: gap.why.clone(),
                ..Line::default()
            }));
        }
        for stored in &project.storage {
            let cost = stored.cost.as_ref().map(|cost| format!("{:.2} {} a month", cost.amount, cost.currency));
            out.push_str(&line(Line {
                record: "storage",
                project: name,
                at: Some(report.made_at),
                status: stored.state,
                store: &stored.store,
                bytes: Some(stored.bytes),
                detail: cost.unwrap_or_default(),
                ..Line::default()
            }));
        }
    }
}

fn evidence(report: &Report, out: &mut String) {
    for project in report.evidence.iter().flat_map(|evidence| &evidence.projects) {
        let name = project.project.as_str();
        project.runs.iter().for_each(|run| out.push_str(&self::run("run", name, run)));
        for drill in &project.drills {
            let sum = if drill.sha256.is_empty() { String::new() } else { format!("SHA-256 {}; ", drill.sha256) };
            out.push_str(&line(Line {
                record: "drill",
                project: name,
                at: Some(drill.at),
                status: &drill.result,
                snapshot: &drill.snapshot,
                duration_ms: drill.duration_ms,
                user: &drill.user,
                detail: format!("certificate {}; {sum}{}", drill.certificate, drill.reasons),
                ..Line::default()
            }));
        }
        let records: [(&str, &[Record]); 5] = [
            ("restore", &project.restores),
            ("deletion", &project.deletions),
            ("hold", &project.holds),
            ("erasure", &project.erasures),
            ("check", &project.checks),
        ];
        for (word, records) in records {
            records.iter().for_each(|record| out.push_str(&of_record(word, name, record)));
        }
        for change in &project.changes {
            let detail = format!("{} -> {}", change.from, change.to);
            out.push_str(&line(Line {
                record: "change",
                project: name,
                at: Some(change.at),
                action: &change.what,
                detail,
                ..Line::default()
            }));
        }
    }
}

fn run(word: &str, project: &str, run: &super::RunLine) -> String {
    line(Line {
        record: word,
        project,
        at: Some(run.started_at),
        status: &run.status,
        action: "run",
        snapshot: run.snapshot.as_deref().unwrap_or_default(),
        bytes: Some(run.bytes),
        bytes_added: Some(run.bytes_added),
        duration_ms: run.duration_ms,
        user: &run.user,
        started_by: &run.started_by,
        host: &run.host,
        detail: run.message.clone(),
        ..Line::default()
    })
}

fn of_record(word: &str, project: &str, record: &Record) -> String {
    line(Line {
        record: word,
        project,
        at: Some(record.at),
        status: &record.status,
        action: &record.action,
        bytes: Some(record.bytes),
        user: &record.user,
        started_by: &record.started_by,
        host: &record.host,
        detail: format!("{}; {}", record.about, record.reason),
        ..Line::default()
    })
}

fn line(line: Line<'_>) -> String {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    row([
        line.record.to_owned(),
        line.project.to_owned(),
        time(line.at),
        time(line.ended),
        line.status.to_owned(),
        line.action.to_owned(),
        line.snapshot.to_owned(),
        line.store.to_owned(),
        number(line.bytes),
        number(line.bytes_added),
        number(line.duration_ms),
        line.user.to_owned(),
        line.started_by.to_owned(),
        line.host.to_owned(),
        line.detail,
    ])
}

fn row(fields: impl IntoIterator<Item = String>) -> String {
    fields.into_iter().map(|field| quoted(&field)).collect::<Vec<_>>().join(",") + "\r\n"
}

/// In quotes where it must be. A text that a spreadsheet would take for a formula gets an apostrophe before it: messages hold names of
/// files, and those are foreign.
fn quoted(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{field}") } else { field.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
