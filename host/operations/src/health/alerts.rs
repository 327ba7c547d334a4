//! What health finds is an alert like any other: one for each kind, and for each store where it is about one, until health
//! does not find it any more.

use super::{Finding, FindingKind, kind::Whose};
use crate::{audit::AlertRow, context::Context, error::exit, report::Failure};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The one alert of earlier versions, for all findings of a project.
const FORMER: &str = "health";

/// Raises what was found about `project` (empty: this host), closes what was not. `open` are the open alerts.
pub(super) fn settle(cx: &Context, project: &str, problems: &[Finding], open: &[AlertRow]) {
    let mut found: BTreeMap<(FindingKind, &str), Vec<&Finding>> = BTreeMap::new();
    for finding in problems {
        found.entry((finding.kind, store_of(finding))).or_default().push(finding);
    }
    let open: Vec<&AlertRow> = open.iter().filter(|row| row.project == project).collect();
    let is_open = |kind: FindingKind, store: &str| open.iter().any(|row| row.kind == kind.word() && row.store == store);
    for ((kind, store), findings) in &found {
        let raise = match kind.whose() {
            Whose::Health => true,
            Whose::Another => !is_open(*kind, store),
            Whose::Nobody => false,
        };
        if raise {
            cx.alert(project, store, kind.word(), Some(&failure(findings)), "");
        }
    }
    // A store that could not be looked at has nothing that is right again.
    let blind = |store: &str| found.keys().any(|(kind, at)| *kind == FindingKind::Store && (store.is_empty() || *at == store));
    for row in open {
        let kind = FindingKind::ALL.iter().find(|kind| kind.word() == row.kind).copied();
        let ours = kind.is_some_and(|kind| kind.whose() == Whose::Health);
        let gone = kind.is_none_or(|kind| !found.contains_key(&(kind, row.store.as_str())));
        let is_seen = kind == Some(FindingKind::Store) || !blind(&row.store) || !depends_on_a_store(row);
        if (ours && gone && is_seen) || row.kind == FORMER {
            cx.alert(project, &row.store, &row.kind, None, "");
        }
    }
}

/// Closes what a good run since has mended, wherever it ran: a run closes the alerts of its own host only.
pub(super) fn close_older_than(cx: &Context, project: &str, success: Timestamp, open: &[AlertRow]) {
    let of_runs = open.iter().filter(|row| row.project == project && matches!(row.kind.as_str(), "run" | "lease"));
    for row in of_runs.filter(|row| row.last_seen.parse::<Timestamp>().is_ok_and(|seen| seen < success)) {
        cx.alert(project, &row.store, &row.kind, None, "");
    }
}

/// Closes alerts about projects and stores that the configuration does not name any more: nothing else ever would.
pub(super) fn close_of_nothing(cx: &Context, open: &[AlertRow]) {
    let is_known = |row: &AlertRow| {
        let project = cx.config.projects.values().find(|project| project.name.as_str() == row.project);
        let has =
            |project| crate::project::store_order(cx, project, None).is_ok_and(|all| all.iter().any(|name| name.as_str() == row.store));
        project.is_some_and(|project| row.store.is_empty() || has(project))
    };
    for row in open.iter().filter(|row| !row.project.is_empty() && !is_known(row)) {
        cx.alert(&row.project, &row.store, &row.kind, None, "");
    }
}

fn depends_on_a_store(row: &AlertRow) -> bool {
    !row.store.is_empty() || row.kind == FindingKind::Age.word()
}

/// A run that fails, or does not begin, leaves every store without a new snapshot: that is one alert.
fn store_of(finding: &Finding) -> &str {
    match finding.kind {
        FindingKind::Age | FindingKind::Missed => "",
        _ => finding.store.as_ref().map_or("", |store| store.as_str()),
    }
}

fn failure(findings: &[&Finding]) -> Failure {
    let mut told: Vec<String> = findings.iter().map(|finding| finding.what.clone()).collect();
    told.dedup();
    let hint = findings.iter().map(|finding| finding.hint.clone()).find(|hint| !hint.is_empty());
    Failure { message: told.join("; "), causes: Vec::new(), hint, exit_status: exit::UNHEALTHY }
}
