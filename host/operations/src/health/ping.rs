//! A dead man's switch: somebody elsewhere is told when a run or a look at health begins and how it ended, and raises the
//! alarm when that stays away. It is told no more than names of projects. That it cannot be reached is said, and fails
//! nothing.

use crate::{config::Ping, context::Context, error::one_line};
use havun_notify::Patience;
use std::time::Duration;
use url::Url;

/// Somebody who does not answer must not keep a backup waiting.
const PATIENCE: Patience = Patience { step: Duration::from_secs(4), whole: Duration::from_secs(6) };

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It begins.
    Start,
    /// It went well.
    Success,
    /// It did not.
    Failure,
}

/// Gives a sign; what went wrong with that, for people.
pub(crate) fn give(cx: &Context, sign: Sign, body: &str) -> Option<String> {
    let ping = cx.config.health.ping.as_ref()?;
    let sent = address(ping, sign).and_then(|url| havun_notify::ping(&url, body, PATIENCE).map_err(|error| one_line(&error)));
    let told = sent.err().map(|why| format!("the dead man's switch was not told: {why}"));
    if let Some(told) = &told {
        tracing::warn!("{told}");
    }
    told
}

/// Its own address where there is one; else `/start` and `/fail` beneath that of success.
fn address(ping: &Ping, sign: Sign) -> Result<String, String> {
    let (own, ending) = match sign {
        Sign::Start => (&ping.start, "start"),
        Sign::Failure => (&ping.failure, "fail"),
        Sign::Success => return resolved(&ping.url),
    };
    match own {
        Some(own) => resolved(own),
        None => beneath(&resolved(&ping.url)?, ending),
    }
}

fn resolved(secret: &crate::config::Secret) -> Result<String, String> {
    secret.resolve().map(|text| text.trim().to_owned()).map_err(|error| one_line(&error))
}

fn beneath(url: &str, ending: &str) -> Result<String, String> {
    let mut url = Url::parse(url).map_err(|_| "its address is none".to_owned())?;
    url.path_segments_mut().map_err(|()| "its address is none".to_owned())?.pop_if_empty().push(ending);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_failure_lie_beneath_the_address_of_success() {
        assert_eq!(beneath("https://hc.example.org/abc", "start").unwrap(), "https://hc.example.org/abc/start");
        assert_eq!(beneath("https://hc.example.org/abc/?x=1", "fail").unwrap(), "https://hc.example.org/abc/fail?x=1");
        assert!(beneath("mailto:x", "fail").is_err());
    }
}
