//! What health finds is an alert like any other: one for each kind, and for each store where it is about one, until health
//! does not find it any more.

use super::{Finding, FindingKind, kind::Whose};
use crate::{audit::AlertRow, context::Context, error::exit, report::Failure};
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
