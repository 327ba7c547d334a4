//! The audit database of a lost host, as far as its snapshots tell it: one row of `backup_logs` for each.

use super::survey::Survey;
use crate::{
    audit::{LogEnd, LogStart},
    context::Context,
    error::OperationError,
};
use havun_vault::StoredSnapshot;
use std::collections::HashSet;

/// Rows of one project that are looked through for what is there already.
const KNOWN: u32 = 1_000_000;

/// Writes a row for every snapshot that the audit database does not know. Returns how many.
///
/// # Errors
/// [`OperationError::Audit`].
pub fn rebuild_history(cx: &Context, survey: &Survey) -> Result<u64, OperationError> {
    let failed = |e| OperationError::Audit(Box::new(e));
    let audit = cx.audit()?;
    let mut written = 0;
    for found in &survey.vaults {
        let rows = audit.logs(Some(found.project.as_str()), KNOWN).map_err(failed)?;
        let known: HashSet<String> = rows.into_iter().filter(|row| row.action == "run").filter_map(|row| row.snapshot).collect();
        let missing = found.snapshots.iter().filter(|stored| !known.contains(&stored.id.to_hex()));
        let rows: Vec<(LogStart, LogEnd)> = missing.map(|stored| row(cx, survey, stored)).collect();
        audit.add_whole(&rows).map_err(failed)?;
        written += rows.len() as u64;
    }
    Ok(written)
}

fn row(cx: &Context, survey: &Survey, stored: &StoredSnapshot) -> (LogStart, LogEnd) {
    let s = &stored.snapshot;
    let problems: Vec<String> =
        s.items.iter().flat_map(|(name, item)| item.problems.iter().map(move |problem| format!("{name}: {problem}"))).collect();
    let start = LogStart {
        host: s.host.clone(),
        snapshot: Some(stored.id.to_hex()),
        stores: vec![survey.store.to_string()],
        target: s.root.clone(),
        strategy: format!("{} {}", s.strategy.id, s.strategy.version),
        strategy_digest: s.strategy.digest.to_hex(),
        started_by: "recover".to_owned(),
        program: s.program.clone(),
        ..cx.log_start(&s.run_id, s.project.as_str(), "run", s.started_at)
    };
    let end = LogEnd {
        status: s.outcome.word().to_owned(),
        ended_at: s.ended_at,
        snapshot: Some(stored.id.to_hex()),
        files: s.manifest.entries,
        bytes: s.manifest.bytes,
        bytes_added: 0,
        problems: problems.len() as u64,
        message: problems.join("\n"),
        details: serde_json::json!({
            "recovered": true, "recovered_at": cx.now(), "recovered_from": survey.place, "items": s.items, "warnings": s.warnings,
        }),
    };
    (start, end)
}
