//! One signed HTTP request at a time: rusty-s3 signs, ureq sends. Knows nothing of objects and vaults.
//!
//! A signed address is a key for a quarter of an hour: it stays inside [`Client::send`], and no error text holds it.

use super::error::{Said, Situation, sort};
use havun_vault::store::{ObjectName, StoreError};
use rusty_s3::{
    Bucket, Credentials, S3Action,
    actions::{CompleteMultipartUpload, CreateMultipartUpload, DeleteObject, GetObject, HeadObject, PutObject},
};
use sha2::{Digest as _, Sha256};
use std::{
    io::Read,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use ureq::http::{HeaderMap, Method};

/// How long a signature is good for: as long as S3 puts up with a wrong clock in one that is sent as a header.
const SIGNED_FOR: Duration = Duration::from_secs(900);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);
/// Above any listing page or error text.
const LONGEST_TEXT: u64 = 16 << 20;

/// What is asked of the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb<'r> {
    Get,
    Head,
    Put,
    Delete,
    /// `POST ?uploads`
    CreateUpload,
    /// `POST ?uploadId=…`
    CompleteUpload(&'r str),
}

/// A request; `key` is empty where it is about the bucket.
#[derive(Debug, Clone)]
pub(super) struct Request<'r> {
    pub verb: Verb<'r>,
    pub key: &'r str,
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(&'static str, String)>,
    pub body: &'r [u8],
}

impl<'r> Request<'r> {
    pub fn new(verb: Verb<'r>, key: &'r str) -> Self {
        Self { verb, key, query: Vec::new(), headers: Vec::new(), body: &[] }
    }

    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// `name` in lower case.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    #[must_use]
    pub fn version(self, version: Option<&str>) -> Self {
        match version {
            Some(version) => self.query("versionId", version),
            None => self,
        }
    }

    /// With bytes whose SHA-256 the server compares before it takes them.
    #[must_use]
    pub fn body(self, bytes: &'r [u8], sha256: &[u8; 32]) -> Self {
        // The second header says the same and is what object lock asks for, in place of an MD5.
        let mut with = self.header("x-amz-checksum-sha256", base64_of(sha256)).header("x-amz-sdk-checksum-algorithm", "SHA256");
        with.body = bytes;
        with
    }

    /// Likewise, for a small text.
    #[must_use]
    pub fn text(self, text: &'r str) -> Self {
        let sha256: [u8; 32] = Sha256::digest(text).into();
        self.header("content-type", "application/xml").body(text.as_bytes(), &sha256)
    }
}

/// An answer whose body is not read yet.
pub(super) struct Answer {
    pub status: u16,
    headers: HeaderMap,
    body: ureq::Body,
    /// What was asked for, for errors.
    what: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Bytes of the body (of a `HEAD`: of the object).
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    pub fn version_id(&self) -> Option<String> {
        self.header("x-amz-version-id").filter(|id| *id != "null").map(str::to_owned)
    }

    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text.
    pub fn text(mut self) -> Result<String, StoreError> {
        self.body.with_config().limit(LONGEST_TEXT).read_to_string().map_err(|e| cut(&self.what, &e))
    }

    /// Fills `buf` from the body; false where it ends before.
    pub fn fill(self, buf: &mut [u8]) -> Result<bool, StoreError> {
        let mut reader = self.body.into_with_config().limit(u64::MAX).reader();
        match reader.read_exact(buf) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(StoreError::Unreachable { what: format!("{}: {e}", self.what) }),
        }
    }

    /// What the server says of its refusal.
    pub fn said(self) -> (String, Said) {
        let (status, date) = (self.status, self.header("date").map(str::to_owned));
        let what = self.what.clone();
        let text = self.text().unwrap_or_default();
        (what, Said::new(status, &text, date))
    }

    /// The kind of a refusal.
    pub fn error(self, situation: &Situation<'_>) -> StoreError {
        let (what, said) = self.said();
        sort(&what, &said, situation)
    }
}

/// A bucket and the right to use it.
pub(super) struct Client {
    agent: ureq::Agent,
    bucket: Bucket,
    credentials: Credentials,
    requests: AtomicU64,
}

impl Client {
    pub fn new(bucket: Bucket, credentials: Credentials, connections: usize) -> Self {
        let on_this_machine = matches!(bucket.base_url().host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("havun-backup/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(NO_PROGRESS_TIMEOUT))
            .timeout_per_write(Some(NO_PROGRESS_TIMEOUT))
            .max_idle_connections(connections + 4)
            .max_idle_connections_per_host(connections + 4);
        if on_this_machine {
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), bucket, credentials, requests: AtomicU64::new(0) }
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn bucket(&self) -> &str {
        self.bucket.name()
    }

    /// Host and port, for people.
    pub fn host(&self) -> String {
        let url = self.bucket.base_url();
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub fn is_encrypted(&self) -> bool {
        self.bucket.base_url().scheme() == "https"
    }

    /// `s3://bucket/key`, for people.
    pub fn place(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket.name())
    }

    /// Sends a request; an answer of any status is an answer.
    pub fn send(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (method, url) = self.sign(request);
        let what = format!("{method} {}", self.place(request.key));
        let mut http = ureq::http::Request::builder().method(method.clone()).uri(&url);
        for (name, value) in &request.headers {
            http = http.header(*name, value);
        }
        drop(url);
        let sends_body = matches!(method, Method::PUT | Method::POST);
        let answer = if sends_body {
            self.agent.run(http.body(request.body).map_err(|e| unsendable(&what, &e))?)
        } else {
            self.agent.run(http.body(()).map_err(|e| unsendable(&what, &e))?)
        };
        let (head, body) = answer.map_err(|e| cut(&what, &e))?.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, what })
    }

    /// Sends a request that has to succeed.
    pub fn ask(&self, request: &Request<'_>, name: Option<&ObjectName>) -> Result<Answer, StoreError> {
        let answer = self.send(request)?;
        if answer.is_ok() {
            return Ok(answer);
        }
        Err(answer.error(&Situation { place: &self.place(request.key), name }))
    }

    fn sign(&self, request: &Request<'_>) -> (Method, String) {
        let (bucket, credentials, key) = (&self.bucket, Some(&self.credentials), request.key);
        let (method, url) = match request.verb {
            Verb::Get => (Method::GET, filled(GetObject::new(bucket, credentials, key), request)),
            Verb::Head => (Method::HEAD, filled(HeadObject::new(bucket, credentials, key), request)),
            Verb::Put => (Method::PUT, filled(PutObject::new(bucket, credentials, key), request)),
            Verb::Delete => (Method::DELETE, filled(DeleteObject::new(bucket, credentials, key), request)),
            Verb::CreateUpload => (Method::POST, filled(CreateMultipartUpload::new(bucket, credentials, key), request)),
            Verb::CompleteUpload(id) => {
                let none = std::iter::empty::<&str>();
                (Method::POST, filled(CompleteMultipartUpload::new(bucket, credentials, key, id, none), request))
            }
        };
        (method, url.to_string())
    }
}

fn filled<'a>(mut action: impl S3Action<'a>, request: &Request<'_>) -> url::Url {
    for (name, value) in &request.query {
        action.query_mut().insert(*name, value.clone());
    }
    for (name, value) in &request.headers {
        action.headers_mut().insert(*name, value.clone());
    }
    action.sign(SIGNED_FOR)
}

/// A request that cannot even be built: a text that cannot stand in a header.
fn unsendable(what: &str, error: &ureq::http::Error) -> StoreError {
    StoreError::Refused { what: what.to_owned(), why: error.to_string(), hint: "check `endpoint`, `bucket` and `region` of the store" }
}

/// No answer, or half of one.
fn cut(what: &str, error: &ureq::Error) -> StoreError {
    let why = match error {
        // Holds the address, which is signed.
        ureq::Error::BadUri(_) => "the address is not valid".to_owned(),
        other => other.to_string(),
    };
    if matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_)) {
        let hint = "the server's certificate is not trusted: check `endpoint`, and add its authority to the system's certificates";
        return StoreError::Refused { what: what.to_owned(), why, hint };
    }
    StoreError::Unreachable { what: format!("{what}: {why}") }
}

/// Standard base64, as S3 writes checksums.
pub(super) fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The SHA-256 of a whole object out of a checksum header; `None` for one that was made of those of its parts.
pub(super) fn sha256_of(text: &str) -> Option<[u8; 32]> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}
