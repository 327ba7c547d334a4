//! Object lock: asked for with the object, read back afterwards, asked for once more by itself where it is not there,
//! and an error where it still is not.

use super::{
    client::{Answer, Client, Request, Verb},
    xml,
};
use havun_vault::store::{ObjectName, StoreError};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// Servers may keep whole seconds only.
const ROUNDING: SignedDuration = SignedDuration::from_secs(1);

/// Who may take a lock away before its date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    /// As S3 writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// Which lock each object gets.
#[derive(Clone)]
pub struct ObjectLock {
    /// Who may take it away.
    pub mode: LockMode,
    /// Until when; an object whose date has passed already is stored without a lock.
    pub until: Arc<dyn Fn(&ObjectName) -> Timestamp + Send + Sync>,
}

/// The lock of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lock {
    mode: LockMode,
    pub until: Timestamp,
}

impl Lock {
    /// `None` where no lock is asked for, or its date has passed.
    pub fn of(asked: Option<&ObjectLock>, name: &ObjectName) -> Option<Self> {
        let asked = asked?;
        let until = (asked.until)(name);
        (until > Timestamp::now()).then_some(Self { mode: asked.mode, until })
    }

    /// Its date in whole seconds, rounded up.
    pub fn date(&self) -> String {
        let whole =
            if self.until.subsec_nanosecond() == 0 { self.until } else { self.until.saturating_add(ROUNDING).unwrap_or(self.until) };
        whole.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Adds the lock to a request that makes an object.
    pub fn ask<'r>(lock: Option<&Self>, request: Request<'r>) -> Request<'r> {
        let Some(lock) = lock else { return request };
        let request = request.header("x-amz-object-lock-mode", lock.mode.as_str());
        request.header("x-amz-object-lock-retain-until-date", lock.date())
    }

    /// What a `HEAD` shows, if it is less than was asked for.
    pub fn missing(&self, head: &Answer) -> Option<String> {
        let mode = head.header("x-amz-object-lock-mode").unwrap_or("no lock");
        let until = head.header("x-amz-object-lock-retain-until-date").unwrap_or("no date");
        let date = until.parse::<Timestamp>().ok();
        let long_enough = date.is_some_and(|date| date.saturating_add(ROUNDING).is_ok_and(|date| date >= self.until));
        let strong_enough = mode == LockMode::Compliance.as_str() || mode == self.mode.as_str();
        (!long_enough || !strong_enough)
            .then(|| format!("it has {mode} until {until}, and should have {} until {}", self.mode.as_str(), self.date()))
    }

    /// Sets the lock of an object that is there.
    pub fn set(&self, client: &Client, key: &str, version: Option<&str>) -> Result<(), StoreError> {
        let text = self.document();
        let request = Request::new(Verb::Put, key).query("retention", "").version(version).text(&text);
        client.ask(&request, None).map(|_| ())
    }

    fn document(&self) -> String {
        let (mode, date) = (xml::escape(self.mode.as_str()), xml::escape(&self.date()));
        format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>"
        )
    }

    /// The same lock with an earlier date, for the attempt to shorten it.
    pub fn shortened(&self) -> Self {
        let now = Timestamp::now();
        let left = self.until.duration_since(now);
        Self { until: now.saturating_add(left / 2).unwrap_or(now), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_rounded_up_to_whole_seconds_and_a_past_one_is_no_lock() {
        let name = ObjectName::new("a").unwrap();
        let asked = |until: &str| {
            let until: Timestamp = until.parse().unwrap();
            ObjectLock { mode: LockMode::Compliance, until: Arc::new(move |_| until) }
        };
        assert_eq!(Lock::of(Some(&asked("2100-01-01T00:00:00.2Z")), &name).unwrap().date(), "2100-01-01T00:00:01Z");
        assert_eq!(Lock::of(Some(&asked("2100-01-01T00:00:00Z")), &name).unwrap().date(), "2100-01-01T00:00:00Z");
        assert_eq!(Lock::of(Some(&asked("2001-01-01T00:00:00Z")), &name), None);
        assert_eq!(Lock::of(None, &name), None);
    }
}
