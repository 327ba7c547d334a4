//! Messages about alerts, in the operator's language.

use super::decide::Tell;
use crate::{
    audit::AlertRow,
    config::ProjectConfig,
    context::Context,
    error::exit,
    incidents::{self, Page, Place},
};
use havun_notify::{Event, Field, Language, Message, Severity, Templates};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::cell::RefCell;

/// How many other open alerts a message names.
const NAMED: usize = 10;

/// The templates of the configuration, and what was wrong with them so far.
pub(super) struct Words {
    templates: Templates,
    language: Language,
    complaint: RefCell<Option<String>>,
}

/// What a message tells, before it has words.
struct Facts<'a> {
    key: String,
    event: Event,
    severity: Severity,
    project: Option<&'a ProjectConfig>,
    name: &'a str,
    fields: Vec<Field>,
    values: Value,
}

impl Words {
    pub fn new(cx: &Context) -> Self {
        let notify = &cx.config.notify;
        let templates = Templates::new(notify.language, notify.templates.as_deref());
        Self { templates, language: notify.language, complaint: RefCell::new(None) }
    }

    /// Why words of the operator's own were not used.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.borrow_mut().take()
    }

    /// A failure, a reminder, flapping or a recovery.
    pub fn alert(&self, cx: &Context, tell: &Tell<'_>, history: &[AlertRow], now: Timestamp) -> Message {
        let alert = tell.alert;
        let project = cx.config.projects.values().find(|project| project.name.as_str() == alert.project);
        let severity = if tell.event == Event::Recovery { Severity::Info } else { severity(cx, alert) };
        let number = if tell.number > 0 { format!("/{}", tell.number) } else { String::new() };
        let at = |text: &str| text.parse::<Timestamp>().map_or_else(|_| text.to_owned(), |at| local(cx, at));
        let until = alert.resolved_at.as_deref().and_then(|text| text.parse().ok()).unwrap_or(now);
        let queue = cx.audit().ok().and_then(|audit| audit.queue().ok()).unwrap_or_default();
        let waiting = queue.iter().find(|row| alert.kind == "replication" && row.project == alert.project && row.store == alert.store);
        let values = json!({
            "kind": alert.kind,
            "status": alert.exit_status,
            "place": alert.store,
            "since": at(&alert.raised_at),
            "until": local(cx, until),
            "lasted": alert.raised_at.parse().map_or_else(|_| String::new(), |since| lasted(until.duration_since(since))),
            "last_seen": at(&alert.last_seen),
            "times": alert.times,
            "changes": tell.changes,
            "errors": errors(alert),
            "tried": [],
            "attempts": waiting.map_or(0, |row| row.attempts),
            "next_try": waiting.map_or_else(String::new, |row| local(cx, row.next_try)),
            "advice": alert.hint.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>(),
            "command": command(alert),
            "steps": steps(cx, alert),
            "incident": format!("docs/incidents/{}.md", page(alert).slug),
            "also": also(cx, alert, history),
        });
        self.message(
            cx,
            if tell.event == Event::Recovery { "recovery" } else { "failure" },
            Facts {
                key: format!("alert/{}/{}{number}", alert.id, tell.event.word()),
                event: tell.event,
                severity,
                project,
                name: &alert.project,
                fields: self.fields(alert, project, at(&alert.raised_at)),
                values,
            },
            now,
        )
    }

    /// That there is no audit database.
    pub fn audit_away(&self, cx: &Context, error: &str, hint: &str, since: Timestamp, now: Timestamp) -> Message {
        let values = self.audit_values(cx, error, hint, since, now);
        let fields = vec![self.field("Error", "Fout", error.to_owned())];
        let (key, event) = (format!("audit-away/{since}/{now}"), if since == now { Event::Failure } else { Event::Reminder });
        self.message(cx, "failure", Facts { key, event, severity: Severity::Critical, project: None, name: "", fields, values }, now)
    }

    /// That there is one again.
    pub fn audit_back(&self, cx: &Context, since: Timestamp, now: Timestamp) -> Message {
        let values = self.audit_values(cx, "the audit database could not be used", "", since, now);
        let (key, event) = (format!("audit-back/{since}"), Event::Recovery);
        self.message(
            cx,
            "recovery",
            Facts { key, event, severity: Severity::Info, project: None, name: "", fields: Vec::new(), values },
            now,
        )
    }

    /// That messages arrive.
    pub fn test(&self, cx: &Context, channel: &str, now: Timestamp) -> Message {
        let (key, values) = (format!("test/{channel}/{now}"), json!({ "channel": channel }));
        let facts = Facts { key, event: Event::Test, severity: Severity::Info, project: None, name: "", fields: Vec::new(), values };
        self.message(cx, "test", facts, now).made_visible()
    }

    fn audit_values(&self, cx: &Context, error: &str, hint: &str, since: Timestamp, now: Timestamp) -> Value {
        let advice: Vec<&str> = Some(hint).filter(|hint| !hint.is_empty()).into_iter().collect();
        json!({
            "kind": "audit", "status": exit::FAILED, "place": "", "since": local(cx, since), "until": local(cx, now),
            "lasted": lasted(now.duration_since(since)), "last_seen": local(cx, now), "times": 1, "changes": 0, "errors": [error],
            "tried": [], "attempts": 0, "next_try": "", "advice": advice, "command": "havun-backup config --check --online",
            "steps": [], "incident": "docs/incidents/audit-database.md", "also": [],
        })
    }

    fn message(&self, cx: &Context, name: &str, facts: Facts<'_>, now: Timestamp) -> Message {
        let host = cx.config.host.name.clone();
        let title =
            facts.project.map_or_else(|| if facts.name.is_empty() { host.clone() } else { facts.name.to_owned() }, |p| p.title.clone());
        let priority = facts.project.map_or("", |project| project.priority.word());
        let mut values = facts.values;
        if let Some(all) = values.as_object_mut() {
            let own = json!({
                "host": host, "at": local(cx, now), "event": facts.event.word(), "severity": facts.severity.word(), "subject": "",
                "project": facts.name, "title": title, "priority": priority,
            });
            all.extend(own.as_object().cloned().unwrap_or_default());
        }
        let (subject, text, html) = self.render(name, &visible(values));
        Message {
            key: facts.key,
            event: facts.event,
            severity: facts.severity,
            host,
            project: facts.name.to_owned(),
            title: if facts.name.is_empty() { String::new() } else { title },
            priority: priority.to_owned(),
            at: now,
            subject,
            text,
            html,
            fields: facts.fields,
        }
    }

    /// A built-in template that does not fit would be a defect; even then somebody is told.
    fn render(&self, name: &str, values: &Value) -> (String, String, String) {
        match self.templates.render(name, values) {
            Ok(rendered) => {
                if let Some(complaint) = rendered.complaint {
                    *self.complaint.borrow_mut() = Some(complaint.to_string());
                }
                (rendered.subject, rendered.text, rendered.html)
            }
            Err(error) => {
                *self.complaint.borrow_mut() = Some(error.to_string());
                let word = |name: &str| values.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                (format!("[{}] {} - {}", word("host"), word("event"), word("title")), format!("{values:#}\n"), String::new())
            }
        }
    }

    fn fields(&self, alert: &AlertRow, project: Option<&ProjectConfig>, since: String) -> Vec<Field> {
        let mut fields = Vec::new();
        if let Some(project) = project {
            fields.push(self.field("Project", "Project", project.title.clone()));
            fields.push(self.field("Priority", "Prioriteit", project.priority.word().to_owned()));
        }
        if alert.kind == super::NOTIFY {
            fields.push(self.field("Channel", "Kanaal", alert.store.clone()));
        } else if !alert.store.is_empty() {
            fields.push(self.field("Store", "Opslag", alert.store.clone()));
        }
        fields.push(self.field("Kind", "Soort", alert.kind.clone()));
        fields.push(self.field("Since", "Sinds", since));
        fields
    }

    fn field(&self, english: &str, dutch: &str, value: String) -> Field {
        let name = if self.language == Language::Dutch { dutch } else { english };
        Field { name: name.to_owned(), value }
    }
}

/// How much an alert matters: what may have harmed stored data and what hits important projects has to be acted upon now.
pub(super) fn severity(cx: &Context, alert: &AlertRow) -> Severity {
    use crate::config::Priority;
    let project = cx.config.projects.values().find(|project| project.name.as_str() == alert.project);
    let priority = project.map_or(Priority::Critical, |project| project.priority);
    let is_harm = alert.exit_status == i64::from(exit::INTEGRITY) || alert.exit_status == i64::from(exit::WRONG_KEY);
    match alert.kind.as_str() {
        "anomaly" | "drill-overdue" | "lease" | "metrics" | "paused" | "scrub-overdue" | "textfile" => Severity::Warning,
        _ if is_harm || priority <= Priority::High => Severity::Critical,
        _ => Severity::Warning,
    }
}

fn local(cx: &Context, at: Timestamp) -> String {
    at.to_zoned_datetime(cx.zone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// `3 h 20 min`, `2 d 4 h`: the same in both languages.
fn lasted(time: SignedDuration) -> String {
    let minutes = time.as_mins().max(0);
    let (days, hours, rest) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours, rest) {
        (0, 0, rest) => format!("{rest} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, rest) => format!("{hours} h {rest} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// What health found of a kind, or what a backup lacks, is one thing after the other. A line break never makes a line: a file name
/// may hold one.
fn errors(alert: &AlertRow) -> Vec<&str> {
    let is_list = [exit::UNHEALTHY, exit::PARTIAL].map(i64::from).contains(&alert.exit_status);
    let parts: Vec<&str> = if is_list { alert.message.split("; ").collect() } else { vec![alert.message.as_str()] };
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

fn command(alert: &AlertRow) -> String {
    match (alert.kind.as_str(), alert.project.as_str()) {
        (super::NOTIFY, _) => "havun-backup notify test".to_owned(),
        (_, project) if !project.is_empty() && alert.exit_status == i64::from(exit::UNHEALTHY) => {
            format!("havun-backup health --project {project}")
        }
        (_, "") => "havun-backup logs --alerts".to_owned(),
        (_, project) => format!("havun-backup logs --project {project}"),
    }
}

fn page(alert: &AlertRow) -> &'static Page {
    incidents::page_for(&alert.kind, alert.exit_status, &alert.message)
}

/// The procedure of what happened, with the names of this machine.
fn steps(cx: &Context, alert: &AlertRow) -> Vec<Value> {
    let state_dir = cx.config.host.state_dir.to_string_lossy();
    let store = if alert.kind == super::NOTIFY { "" } else { &alert.store };
    let steps = page(alert).localised(cx.config.notify.language).steps(Place { project: &alert.project, store, state_dir: &state_dir });
    steps.iter().map(|step| json!({ "text": step.text, "commands": step.commands.lines().collect::<Vec<_>>() })).collect()
}

/// What else is open of the same project.
fn also(cx: &Context, alert: &AlertRow, history: &[AlertRow]) -> Vec<String> {
    let others = history.iter().filter(|other| other.resolved_at.is_none() && other.id != alert.id && other.project == alert.project);
    let line = |other: &AlertRow| {
        let place = if other.store.is_empty() { other.kind.clone() } else { format!("{} ({})", other.kind, other.store) };
        let since = other.raised_at.parse().map_or_else(|_| other.raised_at.clone(), |at| local(cx, at));
        format!("{place}, {since}: {}", other.message)
    };
    others.take(NAMED).map(line).collect()
}

/// What came out of file names and errors is made visible before a template sees it: a line break in one would look like a line
/// of ours.
fn visible(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(havun_notify::visible_line(&text)),
        Value::Array(list) => list.into_iter().map(visible).collect(),
        Value::Object(entries) => entries.into_iter().map(|(name, value)| (name, visible(value))).collect(),
        other => other,
    }
}
