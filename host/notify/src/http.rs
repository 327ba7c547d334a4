//! One POST to a server of the operator's choice.
//!
//! The address is a secret: errors name scheme, host and port only. A redirect is never followed, wherever it leads: it
//! would hand the message, and with some servers the secret, to whom nobody chose, or make this host call its own
//! network. A name or address that the operator wrote may be of this machine or its network.

use crate::{Patience, error::SendError, veil::Veil};
use std::{io::Read as _, path::Path, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// How much of an answer is read, in bytes.
const LONGEST_ANSWER: u64 = 64 * 1024;
/// How long a server may ask to be left alone.
const LONGEST_REST: u64 = 6 * 3600;

/// A place to post to.
pub(crate) struct Poster {
    agent: ureq::Agent,
    url: Zeroizing<String>,
    place: String,
    veil: Veil,
    patience: Patience,
}

impl Poster {
    /// Checks the address; `ca_file` holds authorities to trust besides none but itself.
    pub fn new(url: &str, ca_file: Option<&Path>, patience: Patience) -> Result<Self, SendError> {
        let fault = |why: &str| SendError::Setting { setting: "webhook", why: why.to_owned() };
        let parsed = Url::parse(url.trim()).map_err(|_| fault("is not an address"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(fault("must begin with https:// or http://"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(fault("must not hold a login: use `bearer` or `secret`"));
        }
        let place = place_of(&parsed).ok_or_else(|| fault("names no host"))?;
        let mut veil = Veil::default().over(url.trim()).over(parsed.as_str()).over(parsed.path());
        for piece in parsed.path_segments().into_iter().flatten().chain(parsed.query()) {
            veil = veil.over(piece);
        }
        Ok(Self { agent: agent(&parsed, ca_file, patience)?, url: Zeroizing::new(parsed.into()), place, veil, patience })
    }

    /// Keeps a further secret out of errors.
    pub fn hiding(mut self, secret: &str) -> Self {
        self.veil = self.veil.over(secret);
        self
    }

    /// Posts; only a status of 2xx is success.
    pub fn post(&self, body: &str, headers: &[(&str, Zeroizing<String>)]) -> Result<(), SendError> {
        let mut request = ureq::http::Request::post(self.url.as_str()).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value.as_str());
        }
        let unsendable = |_| SendError::Setting { setting: "webhook", why: "or a secret with it holds what no request can".to_owned() };
        let request = request.body(body).map_err(unsendable)?;
        let answer = self.agent.run(request).map_err(|error| self.cut(&error))?;
        let (head, mut body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(());
        }
        let mut said = Vec::new();
        let _ = body.as_reader().take(LONGEST_ANSWER).read_to_end(&mut said);
        Err(self.refusal(&head, &String::from_utf8_lossy(&said)))
    }

    /// Whether somebody answers at all: a webhook has no question that would not be a message.
    pub fn reach(&self) -> Result<String, SendError> {
        let request = ureq::http::Request::head(origin(&self.url)).body(());
        let request = request.map_err(|_| SendError::Setting { setting: "webhook", why: "is not an address".to_owned() })?;
        self.agent.run(request).map_err(|error| self.cut(&error))?;
        Ok(format!("{} answers", self.place))
    }

    fn refusal(&self, head: &ureq::http::response::Parts, said: &str) -> SendError {
        let place = self.place.clone();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let code = head.status.as_u16();
        let why = self.veil.clean(&format!("status {code} {said}"));
        match code {
            300..=399 => SendError::Redirected { place, to: self.veil.clean(&destination(&self.url, header("location"))) },
            401 | 403 => SendError::Login { place, why },
            408 | 425 | 429 | 500..=599 => SendError::Busy { place, why, retry_after: header("retry-after").and_then(rest) },
            _ => SendError::Refused { place, why },
        }
    }

    fn cut(&self, error: &ureq::Error) -> SendError {
        let (place, why) = (self.place.clone(), self.veil.clean(&error.to_string()));
        match error {
            ureq::Error::Timeout(_) => SendError::TimedOut { place, after: self.patience.whole },
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) | ureq::Error::TlsRequired => SendError::Tls { place, why },
            // ureq gives what a handshake says as an error of the connection.
            ureq::Error::Io(io) if why.contains("certificate") || io.kind() == std::io::ErrorKind::InvalidData => {
                SendError::Tls { place, why }
            }
            ureq::Error::BadUri(_) => SendError::Setting { setting: "webhook", why: "is not an address".to_owned() },
            _ => SendError::Unreachable { place, why },
        }
    }
}

fn agent(url: &Url, ca_file: Option<&Path>, patience: Patience) -> Result<ureq::Agent, SendError> {
    let roots = match ca_file {
        Some(path) => authorities(path)?,
        None => ureq::tls::RootCerts::PlatformVerifier,
    };
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build())
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("havun-backup/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(patience.step))
        .timeout_per_read(Some(patience.step))
        .timeout_per_write(Some(patience.step))
        .timeout_global(Some(patience.whole))
        .max_idle_connections(0);
    if matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")) {
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

fn authorities(path: &Path) -> Result<ureq::tls::RootCerts, SendError> {
    let pem = crate::email::read_authorities(path)?;
    let found: Result<Vec<_>, _> = ureq::tls::parse_pem(&pem).collect();
    let fault = || SendError::Setting { setting: "ca_file", why: format!("{} holds no certificate", path.display()) };
    let certificates = found.map_err(|_| fault())?.into_iter().filter_map(|item| match item {
        ureq::tls::PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() { Err(fault()) } else { Ok(ureq::tls::RootCerts::new_with_certs(&certificates)) }
}

/// Scheme, host and port.
fn place_of(url: &Url) -> Option<String> {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
}

fn origin(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| place_of(&url)).unwrap_or_default()
}

/// Where a redirect leads, without path and query: they may repeat the secret.
fn destination(from: &str, location: Option<&str>) -> String {
    let target = location.and_then(|location| Url::parse(from).ok()?.join(location).ok());
    target.and_then(|url| place_of(&url)).unwrap_or_else(|| "nowhere".to_owned())
}

/// `Retry-After` in seconds; a date is left alone.
fn rest(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(|seconds: u64| Duration::from_secs(seconds.min(LONGEST_REST)))
}
