//! `doctor`: what is wrong, what to do about it, and the repairs that this program can make.
//!
//! Looking writes nothing but what `health` writes (alerts), and takes each vault's lease for a moment to see whether it is free. A
//! [`Repair`] is a value that can be shown before it is carried out; none of them deletes a backup.
//!
//! Read `checks` (what is looked at), `repairs` (what can be done), `crate::incidents` (the pages).
//!
//! Shape of `havun-backup doctor --json`: one [`DoctorReport`].

mod checks;
mod repairs;
#[cfg(test)]
mod tests;

pub use repairs::{Repair, mend};

use crate::{
    audit::AlertRow,
    context::Context,
    error::{OperationError, exit, nearest},
    incidents::{PAGES, Page, Place, Topic, page, page_for},
    project,
    report::SCHEMA_VERSION,
};
use jiff::Timestamp;
use serde::Serialize;

/// More open alerts than this are not read.
const ALERTS: u32 = 1000;

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct DoctorOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// A page's slug, or a kind of alert: only what belongs to it.
    pub kind: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct DoctorReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it was found.
    pub at: Timestamp,
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
    /// Alerts that are open, newest first.
    pub alerts: Vec<OpenAlert>,
    /// The incident procedures of the open alerts, or the one that was asked for.
    pub procedures: Vec<Procedure>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to.
    pub topic: Topic,
    /// `store hetzner`, `project shop`.
    pub subject: String,
    /// How it is.
    pub state: FindingState,
    /// What was found, on one line.
    pub detail: String,
    /// What to do; empty where nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
    /// What this program can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<Repair>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    /// As it should be.
    Ok,
    /// The operator should know.
    Note,
    /// Something is wrong.
    Problem,
}

impl FindingState {
    /// `ok`, `note` or `problem`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// An alert that is open, with the page that belongs to it.
#[derive(Debug, Clone, Serialize)]
pub struct OpenAlert {
    /// The alert.
    #[serde(flatten)]
    pub alert: AlertRow,
    /// The slug of its page.
    pub page: &'static str,
}

/// An incident procedure, with the names of this machine in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Procedure {
    /// The slug of its page.
    pub page: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// The whole page, as Markdown, in the language of `[notify]`.
    pub text: String,
}

impl DoctorReport {
    /// 0, or 4 where something is wrong or an alert is open.
    pub fn exit_status(&self) -> u8 {
        let wrong = self.findings.iter().any(|finding| finding.state == FindingState::Problem);
        if wrong || !self.alerts.is_empty() { exit::UNHEALTHY } else { exit::OK }
    }

    /// The repairs that were offered, each once.
    pub fn repairs(&self) -> Vec<Repair> {
        let mut repairs: Vec<Repair> = Vec::new();
        for repair in self.findings.iter().filter_map(|finding| finding.repair.clone()) {
            if !repairs.contains(&repair) {
                repairs.push(repair);
            }
        }
        repairs
    }
}

/// Looks.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::UnknownPage`], [`OperationError::Interrupted`]. What is wrong is in the
/// report, an audit database that is away too.
pub fn examine(cx: &Context, options: &DoctorOptions) -> Result<DoctorReport, OperationError> {
    let projects = project::select(cx, &options.projects)?;
    let asked = options.kind.as_deref().map(asked).transpose()?;
    let topics: &[Topic] = asked.map_or_else(|| page("health").map_or(&[][..], |page| page.topics), |page| page.topics);
    let mut findings = checks::Findings::default();
    checks::look(cx, &projects, topics, &mut findings)?;
    let mut report = DoctorReport {
        schema_version: SCHEMA_VERSION,
        at: cx.now(),
        findings: findings.all,
        alerts: open_alerts(cx, &options.projects, asked),
        procedures: Vec::new(),
    };
    report.procedures = procedures(cx, options, &report.alerts, asked);
    Ok(report)
}

/// The page that is meant by a slug or by a kind of alert.
fn asked(kind: &str) -> Result<&'static Page, OperationError> {
    if let Some(page) = page(kind) {
        return Ok(page);
    }
    let by_kind = page_for(kind, 0, "");
    // A kind that nobody knows has the general page, which is not what was asked for.
    match crate::incidents::is_kind(kind) {
        true => Ok(by_kind),
        false => Err(OperationError::UnknownPage { name: kind.to_owned(), nearest: nearest(kind, PAGES.iter().map(|page| page.slug)) }),
    }
}

/// Open alerts of these projects (or all), and of this page (or all); none where the audit database is away, which is a finding.
fn open_alerts(cx: &Context, projects: &[String], asked: Option<&Page>) -> Vec<OpenAlert> {
    let rows = cx.audit().ok().and_then(|audit| audit.alerts(true, ALERTS).ok()).unwrap_or_default();
    let with_page = rows.into_iter().map(|alert| {
        let page = page_for(&alert.kind, alert.exit_status, &alert.message).slug;
        OpenAlert { alert, page }
    });
    let named = |name: &str| projects.is_empty() || name.is_empty() || projects.iter().any(|project| project == name);
    with_page.filter(|open| named(&open.alert.project) && asked.is_none_or(|page| page.slug == open.page)).collect()
}

/// Each page once; one that two projects need names neither.
fn procedures(cx: &Context, options: &DoctorOptions, alerts: &[OpenAlert], asked: Option<&'static Page>) -> Vec<Procedure> {
    let mut pages: Vec<&'static Page> = asked.into_iter().collect();
    for known in alerts.iter().filter_map(|open| page(open.page)) {
        if !pages.contains(&known) {
            pages.push(known);
        }
    }
    let state_dir = cx.config.host.state_dir.to_string_lossy();
    let one = |page: &'static Page| {
        let mut of_it = alerts.iter().filter(|open| open.page == page.slug).map(|open| (&open.alert.project, &open.alert.store));
        let first = of_it.next();
        let only = first.filter(|first| of_it.all(|other| other == *first));
        let named = if let [one] = options.projects.as_slice() { one.as_str() } else { "" };
        let (project, store) = only.map_or((named, ""), |(project, store)| (project.as_str(), store.as_str()));
        let page = page.localised(cx.config.notify.language);
        let text = page.text(Place { project, store, state_dir: &state_dir });
        Procedure { page: page.slug, title: page.title(), text }
    };
    pages.into_iter().map(one).collect()
}
