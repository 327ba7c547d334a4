//! Which page belongs to an alert.
//!
//! An alert keeps its message and not its error: it is written by one process and read by another, perhaps of a later
//! version. So a cause is found by the words of its error; the tests make the real errors and hold that they are found.

use super::{HEALTH, Page, page};
use crate::error::exit;

/// Kinds whose page does not depend on what the message says, with their slugs.
const KINDS: &[(&str, &str)] = &[
    ("anomaly", "anomaly"),
    ("audit", "audit-database"),
    ("clock", "clock"),
    ("config", "configuration"),
    ("daemon", "daemon"),
    ("start", "configuration"),
    ("metrics", "daemon"),
    ("key", "key-permissions"),
    ("lease", "locked"),
    ("missed", "daemon"),
    ("schedule", "daemon"),
    ("notify", "notify"),
    ("ping", "notify"),
    ("heartbeat", "daemon"),
    ("clock-skew", "clock"),
];

/// The page where the message does not say more, by kind.
const ELSE: &[(&str, &str)] = &[
    ("run", "run"),
    ("cleanup", "run"),
    ("task", "daemon"),
    ("replication", "archive-away"),
    ("health", "health"),
    ("scrub", "damage"),
    ("drill", "drill"),
    ("age", "run"),
    ("store", "archive-away"),
    ("missing", "deleted"),
    ("changed", "deleted"),
    ("damage", "damage"),
    ("scrub-overdue", "damage"),
    ("drill-overdue", "drill"),
    ("space", "disk-full"),
    ("left-behind", "left-behind"),
    ("restore", "left-behind"),
    ("lag", "archive-away"),
    ("paused", "health"),
    ("textfile", "health"),
];

/// Words of errors, the gravest cause first: an alert may name several.
const WORDS: &[(&str, &[&str])] = &[
    ("host-key", &["the host key of "]),
    ("deleted", &["behind the program's back", "objects are lost from it", "are gone from it"]),
    ("left-behind", &["may still be resting", "may rest still", "was killed while the application rested", "a restore was interrupted"]),
    ("wrong-key", &["none of the given identities opens", "there is no key to open the vault"]),
    ("key-permissions", &["is not safe: ", "others can use it", "can be read by others"]),
    ("disk-full", &["no space left for", "No space left on device", "full at ", "bytes free only", "bytes are needed for a drill"]),
    ("audit-database", &["the audit database cannot be used", " the audit database"]),
    (
        "damage",
        &[" is damaged: ", "damaged objects", "reads back as other bytes", "did not read back the same", "is in no pack of the vault"],
    ),
    (
        "locked",
        &["vault is locked by", "is locked by", "lease was taken over", "was taken over meanwhile by", "is being backed up by host"],
    ),
    (
        "database-login",
        &[
            "would lack",
            "Access denied",
            "password authentication failed",
            "permission denied for",
            "NOAUTH",
            "WRONGPASS",
            "no pg_hba.conf entry",
        ],
    ),
    (
        "database",
        &[
            "cannot connect to ",
            "the dump is cut short",
            "the dump is not whole",
            "the dump is refused",
            "a table of ",
            "a table changed its definition",
            "no client for ",
            "there is no database file",
            "is not a SQLite database",
            "is locked by another program",
            "database item `",
        ],
    ),
    ("strategy", &["strategy `", "cannot be planned", "names the unknown strategy"]),
    ("source", &["was not made to rest", "snapshot could be made of", "root `"]),
    ("archive-away", &["store is unreachable", "cannot be asked", "behind since", "not copied to `", "access to ", "the marker file "]),
    ("daemon", &["no run began", "the daemon"]),
    ("clock", &["the clock"]),
];

/// The page for an alert, by what it is about.
pub fn page_for(kind: &str, exit_status: i64, message: &str) -> &'static Page {
    page(slug(kind, exit_status, message)).unwrap_or(&HEALTH)
}

fn slug(kind: &str, exit_status: i64, message: &str) -> &'static str {
    let by_kind = |table: &[(&str, &'static str)]| table.iter().find(|(known, _)| *known == kind).map(|(_, slug)| *slug);
    if let Some(slug) = by_kind(KINDS) {
        return slug;
    }
    // A database that another program has locked is not a vault that another run has.
    let is_database = message.contains("is locked by another program");
    let words = WORDS.iter().filter(|(slug, _)| !(is_database && *slug == "locked"));
    let said = words.clone().find(|(_, words)| words.iter().any(|word| message.contains(word))).map(|(slug, _)| *slug);
    said.or_else(|| by_status(exit_status)).or_else(|| by_kind(ELSE)).unwrap_or("run")
}

/// What an exit status alone says.
fn by_status(status: i64) -> Option<&'static str> {
    let is = |known: u8| status == i64::from(known);
    [
        (exit::INTEGRITY, "damage"),
        (exit::UNREACHABLE, "archive-away"),
        (exit::LOCKED, "locked"),
        (exit::WRONG_KEY, "wrong-key"),
        (exit::CONFIG, "configuration"),
        (exit::DRILL, "drill"),
    ]
    .into_iter()
    .find(|(known, _)| is(*known))
    .map(|(_, slug)| slug)
}

/// Whether a kind of alert is known here.
pub(crate) fn is_kind(kind: &str) -> bool {
    KINDS.iter().chain(ELSE).any(|(known, _)| *known == kind)
}
