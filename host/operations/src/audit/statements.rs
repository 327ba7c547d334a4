//! The statements of the audit tables: the same for each of the three, and portable between servers.

use super::LogKind;

/// The columns of a [`super::LogRow`], in its order, after the kind.
macro_rules! columns {
    () => {
        "id, run_id, project, host, action, status, started_at, ended_at, duration_ms, snapshot, stores, target, strategy, \
         strategy_digest, files, bytes, bytes_added, problems, message, details, started_by, user_name, program"
    };
}

macro_rules! for_table {
    ($kind:expr, $head:literal, $tail:expr) => {
        match $kind {
            LogKind::Backup => concat!($head, "backup_logs", $tail),
            LogKind::Restore => concat!($head, "restore_logs", $tail),
            LogKind::Test => concat!($head, "test_logs", $tail),
        }
    };
}

pub(super) fn insert(kind: LogKind) -> &'static str {
    for_table!(
        kind,
        "INSERT INTO ",
        " (id, run_id, project, host, action, status, started_at, snapshot, stores, target, strategy, strategy_digest, files, bytes, \
         bytes_added, problems, message, details, started_by, user_name, program, pid, process_key) \
         VALUES (?, ?, ?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, '', '{}', ?, ?, ?, ?, ?)"
    )
}

pub(super) fn complete(kind: LogKind) -> &'static str {
    for_table!(
        kind,
        "UPDATE ",
        " SET status = ?, ended_at = ?, duration_ms = ?, snapshot = COALESCE(?, snapshot), files = ?, bytes = ?, bytes_added = ?, \
         problems = ?, message = ?, details = ? WHERE id = ? AND status IN ('running', 'interrupted')"
    )
}

pub(super) fn running(kind: LogKind) -> &'static str {
    for_table!(kind, "SELECT id, pid, process_key FROM ", " WHERE status = 'running' AND host = ?")
}

pub(super) fn interrupt(kind: LogKind) -> &'static str {
    for_table!(kind, "UPDATE ", " SET status = 'interrupted', message = ? WHERE id = ? AND status = 'running'")
}

macro_rules! list {
    ($filter:literal) => {
        concat!(
            "SELECT 'backup' AS kind, ",
            columns!(),
            " FROM backup_logs",
            $filter,
            " UNION ALL SELECT 'restore' AS kind, ",
            columns!(),
            " FROM restore_logs",
            $filter,
            " UNION ALL SELECT 'test' AS kind, ",
            columns!(),
            " FROM test_logs",
            $filter,
            " ORDER BY started_at DESC, id DESC LIMIT ?"
        )
    };
}

/// Newest first; binds project, host, action and limit.
pub(super) const LIST_TESTS: &str = concat!(
    "SELECT 'test' AS kind, ",
    columns!(),
    " FROM test_logs WHERE project = ? AND host = ? AND action = ? ORDER BY started_at DESC, id DESC LIMIT ?"
);
/// Binds project, host, action and the target that does not count; one row.
pub(super) const COUNT_TESTS: &str =
    "SELECT COUNT(DISTINCT run_id) AS counted FROM test_logs WHERE project = ? AND host = ? AND action = ? AND target <> ?";
/// Binds project and host; one row at most, which the index finds at once.
pub(super) const FIRST_COMMIT: &str = "SELECT started_at AS earliest FROM backup_logs WHERE project = ? AND host = ? AND action = 'run' \
                                       AND snapshot IS NOT NULL ORDER BY started_at LIMIT 1";
/// Newest first; binds the project and the limit.
pub(super) const LIST_RUNS: &str = concat!(
    "SELECT 'backup' AS kind, ",
    columns!(),
    " FROM backup_logs WHERE project = ? AND action = 'run' ORDER BY started_at DESC, id DESC LIMIT ?"
);
/// Binds the project and a time.
pub(super) const STORED_SINCE: &str = "SELECT started_at, bytes_added FROM backup_logs WHERE project = ? AND action = 'run' \
                                       AND started_at >= ? AND snapshot IS NOT NULL";
/// Newest first; binds the limit.
pub(super) const LIST_ALL: &str = list!("");
/// Newest first; binds the project three times, then the limit.
pub(super) const LIST_PROJECT: &str = list!(" WHERE project = ?");
