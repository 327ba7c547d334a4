//! What a server's refusal means to us. Status and code decide, the words are kept for people.

use super::xml;
use havun_vault::store::{ObjectName, StoreError};
use jiff::{Timestamp, fmt::rfc2822};
use std::path::PathBuf;

/// S3 puts up with a quarter of an hour.
const MOST_SKEW_SECS: i64 = 900;
/// Enough for people; a server can send what it likes.
const LONGEST_MESSAGE: usize = 300;

/// A refusal as the server words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub status: u16,
    /// `NoSuchKey`, `AccessDenied` …; empty where the answer had no body.
    pub code: String,
    message: String,
    /// The server's clock.
    date: Option<String>,
}

impl Said {
    pub fn new(status: u16, body: &str, date: Option<String>) -> Self {
        let root = xml::parse(body).unwrap_or_default();
        let text = |name: &str| root.text_of(name).unwrap_or_default().chars().filter(|c| !c.is_control()).take(LONGEST_MESSAGE).collect();
        Self { status, code: text("Code"), message: text("Message"), date }
    }

    /// For people.
    pub fn words(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            ("", _) => format!("the server answers HTTP {}", self.status),
            (code, "") => format!("{code} (HTTP {})", self.status),
            (code, message) => format!("{code}: {message} (HTTP {})", self.status),
        }
    }

    /// Both clocks, where they are too far apart.
    fn skew(&self, now: Timestamp) -> Option<String> {
        let theirs = rfc2822::parse(self.date.as_deref()?).ok()?.timestamp();
        let apart = now.as_second().saturating_sub(theirs.as_second()).abs();
        let complains = self.code == "RequestTimeTooSkewed" || self.message.contains("expired") || self.message.contains("not yet valid");
        let ours = now.strftime("%Y-%m-%d %H:%M:%S UTC");
        let theirs = theirs.strftime("%Y-%m-%d %H:%M:%S UTC");
        (complains || apart > MOST_SKEW_SECS).then(|| format!("it is {ours} here and {theirs} on the server"))
    }
}

/// Where it happened.
pub(super) struct Situation<'s> {
    /// `s3://bucket/key`
    pub place: &'s str,
    /// The object, if it was about one.
    pub name: Option<&'s ObjectName>,
}

/// The error of a refusal.
pub(super) fn sort(what: &str, said: &Said, situation: &Situation<'_>) -> StoreError {
    sort_at(what, said, situation, Timestamp::now())
}

fn sort_at(what: &str, said: &Said, situation: &Situation<'_>, now: Timestamp) -> StoreError {
    let refused = |hint| StoreError::Refused { what: what.to_owned(), why: said.words(), hint };
    let code = said.code.as_str();
    if is_transient(said) {
        return StoreError::Unreachable { what: format!("{what}: {}", said.words()) };
    }
    if said.status == 507 || code.contains("Quota") || code.contains("StorageFull") || code == "InsufficientStorage" {
        return StoreError::NoSpace { path: PathBuf::from(situation.place), free: None };
    }
    if matches!(said.status, 400 | 401 | 403)
        && let Some(clocks) = said.skew(now)
    {
        let why = format!("{}; {clocks}", said.words());
        return StoreError::Refused { what: what.to_owned(), why, hint: "set this machine's clock right (chrony, systemd-timesyncd)" };
    }
    match (said.status, code) {
        (_, "NoSuchBucket") => refused("there is no such bucket: check `bucket` and `endpoint` of the store"),
        (404, _) if situation.name.is_some() => not_found(situation.name, what, said),
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => {
            refused("the server does not accept the access key: check the store's key id, secret and region")
        }
        (_, "InvalidObjectState") => refused("the object lies in cold storage: have the provider restore it first"),
        (_, "ObjectLockConfigurationNotFoundError") | (400, "InvalidRequest") if said.message.contains("Lock") => {
            refused("the bucket has no object lock: it can only be switched on when a bucket is made")
        }
        (301 | 307 | 308, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            refused("the bucket lies in another region: check `region` and `endpoint` of the store")
        }
        (401 | 403, _) => refused("these credentials do not allow it: check the bucket's policy, and whether a lock still stands"),
        _ => refused("the server does not do what the store needs; `havun-backup store check` tries everything it can"),
    }
}

fn not_found(name: Option<&ObjectName>, what: &str, said: &Said) -> StoreError {
    match name {
        Some(name) => StoreError::NotFound { name: name.clone() },
        None => StoreError::Refused { what: what.to_owned(), why: said.words(), hint: "check `bucket` and `prefix` of the store" },
    }
}

/// Worth another try in a while. Damage on the way (a checksum that does not fit) is.
fn is_transient(said: &Said) -> bool {
    let code = matches!(
        said.code.as_str(),
        "SlowDown"
            | "RequestTimeout"
            | "InternalError"
            | "ServiceUnavailable"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "ConditionalRequestConflict"
            | "OperationAborted"
            | "BadDigest"
            | "XAmzContentChecksumMismatch"
            | "IncompleteBody"
    );
    code || said.code.is_empty() && said.status == 409 || matches!(said.status, 408 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: u16, code: &str, message: &str) -> StoreError {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let said = Said::new(status, &body, Some("Tue, 22 Sep 2026 10:00:00 GMT".to_owned()));
        let name = ObjectName::new("a").unwrap();
        sort_at("GET s3://b/a", &said, &Situation { place: "s3://b/a", name: Some(&name) }, "2026-09-22T10:01:00Z".parse().unwrap())
    }

    #[test]
    fn what_mends_itself_is_transient() {
        for (status, code) in [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout"), (429, ""), (400, "BadDigest"), (409, "")]
        {
            assert!(sorted(status, code, "").is_transient(), "{status} {code}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        assert!(matches!(sorted(404, "NoSuchKey", ""), StoreError::NotFound { .. }));
        for (status, code) in [(507, ""), (403, "QuotaExceeded"), (400, "XMinioStorageFull")] {
            assert!(matches!(sorted(status, code, ""), StoreError::NoSpace { .. }), "{code}");
        }
        for (status, code, message, expected) in [
            (404, "NoSuchBucket", "", "`bucket`"),
            (403, "SignatureDoesNotMatch", "", "secret"),
            (403, "AccessDenied", "", "policy"),
            (403, "InvalidObjectState", "", "cold"),
            (400, "InvalidRequest", "Bucket is missing Object Lock Configuration", "object lock"),
            (301, "PermanentRedirect", "", "region"),
        ] {
            let error = sorted(status, code, message);
            assert!(matches!(error, StoreError::Refused { .. }) && error.hint().unwrap().contains(expected), "{error:?}");
        }
    }

    #[test]
    fn a_wrong_clock_is_named_with_both_times() {
        for (code, message) in [("RequestTimeTooSkewed", ""), ("AccessDenied", "Request has expired")] {
            let error = sorted(403, code, message);
            let text = error.to_string();
            assert!(text.contains("2026-09-22 10:01:00 UTC here") && text.contains("10:00:00 UTC on the server"), "{text}");
            assert!(error.hint().unwrap().contains("clock"));
        }
    }
}
