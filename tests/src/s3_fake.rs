//! A hand-written S3 for what moto cannot do: refuse what a real server refuses, and lie as a bad one does.
//!
//! One bucket, named `bucket`, which keeps versions. It compares no checksum and no signature.

use super::s3_http::{HttpAnswer, HttpRequest, HttpServer};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct FakeRules {
    /// Knows `If-None-Match`.
    pub conditions: bool,
    /// Refuses to remove a locked version or to shorten its lock.
    pub enforces_locks: bool,
    /// A policy that allows neither deletion nor a second version of a name beneath this prefix.
    pub write_once: Option<String>,
    /// Answers that many requests with 503 `SlowDown`.
    pub slow_down: u32,
    /// Bytes it takes in all.
    pub quota: Option<u64>,
    /// Its clock differs from ours: the `Date` header, and a refusal.
    pub date: Option<String>,
    /// Every signature is wrong.
    pub refuses_signature: bool,
    /// `HEAD` shows one byte less than it got.
    pub lies_about_size: bool,
    /// Locks are taken and forgotten.
    pub forgets_locks: bool,
    /// A lock that comes with the object is forgotten, one that is set by itself is kept.
    pub forgets_first_lock: bool,
    /// No lock lasts longer: locks get this date instead.
    pub longest_lock: Option<String>,
    /// Parts it takes before it cuts the connection.
    pub parts_before_cut: Option<u32>,
    /// Says 200 to the last request of a multipart upload and an error in its body.
    pub late_error: bool,
}

impl Default for FakeRules {
    fn default() -> Self {
        Self {
            conditions: true,
            enforces_locks: true,
            write_once: None,
            slow_down: 0,
            quota: None,
            date: None,
            refuses_signature: false,
            lies_about_size: false,
            forgets_locks: false,
            forgets_first_lock: false,
            longest_lock: None,
            parts_before_cut: None,
            late_error: false,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct FakeVersion {
    key: String,
    id: String,
    bytes: Vec<u8>,
    checksum: Option<String>,
    lock: Option<(String, String)>,
    is_marker: bool,
}

#[derive(Debug, Default)]
struct FakeState {
    /// The newest last.
    versions: Vec<FakeVersion>,
    uploads: BTreeMap<String, (String, Option<(String, String)>, BTreeMap<u32, Vec<u8>>)>,
    counter: u64,
    log: Vec<String>,
}

/// A running fake; ends when it is dropped.
pub struct FakeS3 {
    server: HttpServer,
    rules: Arc<Mutex<FakeRules>>,
    state: Arc<Mutex<FakeState>>,
}

impl FakeS3 {
    /// Starts it on a free port.
    #[must_use]
    pub fn start(rules: FakeRules) -> Self {
        let (rules, state) = (Arc::new(Mutex::new(rules)), Arc::new(Mutex::new(FakeState::default())));
        let (its_rules, its_state) = (Arc::clone(&rules), Arc::clone(&state));
        let server = HttpServer::start(move |request| {
            let (mut rules, mut state) = (lock(&its_rules), lock(&its_state));
            let mut answer = state.answer(request, &mut rules);
            let date = rules.date.clone().unwrap_or_else(|| "Thu, 01 Jan 1970 00:00:00 GMT".to_owned());
            if rules.date.is_some() {
                answer.headers.push(("date".to_owned(), date));
            }
            answer
        });
        Self { server, rules, state }
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut FakeRules)) {
        change(&mut lock(&self.rules));
    }

    /// Requests so far: `PUT bucket/key?partNumber`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        lock(&self.state).log.clone()
    }

    /// Multipart uploads that are neither completed nor aborted.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        lock(&self.state).uploads.len()
    }

    /// Versions of a key that are no delete markers, the oldest first.
    #[must_use]
    pub fn versions(&self, key: &str) -> Vec<Vec<u8>> {
        let state = lock(&self.state);
        state.versions.iter().filter(|v| v.key == key && !v.is_marker).map(|v| v.bytes.clone()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plain(status: u16) -> HttpAnswer {
    HttpAnswer { status, ..HttpAnswer::default() }
}

fn error(status: u16, code: &str, message: &str) -> HttpAnswer {
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>").into_bytes();
    HttpAnswer { status, body, ..HttpAnswer::default() }
}

fn page(text: String) -> HttpAnswer {
    HttpAnswer { status: 200, body: text.into_bytes(), ..HttpAnswer::default() }
}

fn with(mut answer: HttpAnswer, name: &str, value: impl Into<String>) -> HttpAnswer {
    answer.headers.push((name.to_owned(), value.into()));
    answer
}

impl FakeState {
    fn answer(&mut self, request: &HttpRequest, rules: &mut FakeRules) -> HttpAnswer {
        let names: Vec<&str> = request.query.keys().filter(|name| !name.starts_with("X-Amz")).map(String::as_str).collect();
        self.log.push(format!("{} {}?{}", request.method, request.path.trim_start_matches('/'), names.join("&")));
        if rules.slow_down > 0 {
            rules.slow_down -= 1;
            return error(503, "SlowDown", "Please reduce your request rate.");
        }
        if rules.date.is_some() {
            return error(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.");
        }
        if rules.refuses_signature {
            return error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.");
        }
        let path = request.path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if bucket != "bucket" {
            return error(404, "NoSuchBucket", "The specified bucket does not exist");
        }
        match (request.method.as_str(), key) {
            ("GET", "") => self.list(request),
            ("GET" | "HEAD", _) if request.query.contains_key("uploadId") => self.parts(request),
            ("GET" | "HEAD", _) => self.get(request, key, rules),
            ("PUT", _) if request.query.contains_key("retention") => self.retain(request, key, rules),
            ("PUT", _) if request.query.contains_key("uploadId") => self.put_part(request, rules),
            ("PUT", _) => self.put(key, request, request.body.clone(), lock_of(request), rules),
            ("POST", _) if request.query.contains_key("uploads") => self.create(request, key),
            ("POST", _) => self.complete(request, key, rules),
            ("DELETE", _) => self.delete(request, key, rules),
            _ => error(405, "MethodNotAllowed", ""),
        }
    }

    fn current(&self, key: &str) -> Option<&FakeVersion> {
        self.versions.iter().rev().find(|version| version.key == key).filter(|version| !version.is_marker)
    }

    fn next_id(&mut self) -> String {
        self.counter += 1;
        format!("v{:06}", self.counter)
    }

    fn put(&mut self, key: &str, request: &HttpRequest, bytes: Vec<u8>, lock: Option<(String, String)>, rules: &FakeRules) -> HttpAnswer {
        let taken = self.current(key).is_some();
        if taken && rules.conditions && request.headers.contains_key("if-none-match") {
            return error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
        }
        if taken && rules.write_once.as_ref().is_some_and(|prefix| key.starts_with(prefix)) {
            return error(403, "AccessDenied", "Access Denied by the bucket's policy");
        }
        let used: usize = self.versions.iter().map(|version| version.bytes.len()).sum();
        if rules.quota.is_some_and(|quota| (used + bytes.len()) as u64 > quota) {
            return error(403, "QuotaExceeded", "The quota of the bucket is used up");
        }
        let id = self.next_id();
        let lock = lock.filter(|_| !rules.forgets_locks && !rules.forgets_first_lock);
        let lock = lock.map(|(mode, date)| (mode, rules.longest_lock.clone().unwrap_or(date)));
        let checksum = request.headers.get("x-amz-checksum-sha256").cloned().filter(|_| request.method == "PUT");
        self.versions.push(FakeVersion { key: key.to_owned(), id: id.clone(), bytes, checksum, lock, is_marker: false });
        with(with(plain(200), "x-amz-version-id", id), "etag", "\"e\"")
    }

    fn get(&self, request: &HttpRequest, key: &str, rules: &FakeRules) -> HttpAnswer {
        let found = match request.query.get("versionId") {
            Some(id) => self.versions.iter().find(|version| version.key == key && version.id == *id),
            None => self.current(key),
        };
        let Some(version) = found else { return error(404, "NoSuchKey", "The specified key does not exist.") };
        let size = version.bytes.len();
        let mut answer = with(plain(200), "x-amz-version-id", &*version.id);
        if let Some((mode, date)) = &version.lock {
            answer = with(with(answer, "x-amz-object-lock-mode", mode), "x-amz-object-lock-retain-until-date", date);
        }
        if let Some(sum) = version.checksum.as_ref().filter(|_| request.headers.contains_key("x-amz-checksum-mode")) {
            answer = with(answer, "x-amz-checksum-sha256", sum);
        }
        if request.method == "HEAD" {
            let shown = if rules.lies_about_size { size.saturating_sub(1) } else { size };
            return with(answer, "content-length", shown.to_string());
        }
        answer.body.clone_from(&version.bytes);
        let range = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.split_once('-').map(|(a, b)| (a.parse::<u64>(), b.parse::<u64>())));
        if let Some((Ok(from), Ok(to))) = range {
            if from >= size as u64 {
                return error(416, "InvalidRange", "The requested range is not satisfiable");
            }
            let end = usize::try_from(to).map_or(size, |to| size.min(to.saturating_add(1)));
            answer.status = 206;
            answer.body = version.bytes.get(usize::try_from(from).unwrap_or(size)..end).unwrap_or_default().to_vec();
        }
        answer
    }

    fn delete(&mut self, request: &HttpRequest, key: &str, rules: &FakeRules) -> HttpAnswer {
        if let Some(id) = request.query.get("uploadId") {
            self.uploads.remove(id);
            return plain(204);
        }
        if rules.write_once.as_ref().is_some_and(|prefix| key.starts_with(prefix)) {
            return error(403, "AccessDenied", "Access Denied by the bucket's policy");
        }
        if let Some(id) = request.query.get("versionId") {
            let locked = |v: &FakeVersion| v.key == key && v.id == *id && v.lock.is_some();
            if rules.enforces_locks && self.versions.iter().any(locked) {
                return error(403, "AccessDenied", "Access Denied because object protected by object lock.");
            }
            self.versions.retain(|version| !(version.key == key && version.id == *id));
            return plain(204);
        }
        let id = self.next_id();
        self.versions.push(FakeVersion { key: key.to_owned(), id, is_marker: true, ..FakeVersion::default() });
        with(plain(204), "x-amz-delete-marker", "true")
    }

    fn retain(&mut self, request: &HttpRequest, key: &str, rules: &FakeRules) -> HttpAnswer {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let part = |name: &str| {
            text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<')).map(|(value, _)| value.to_owned())
        };
        let (Some(mode), Some(date)) = (part("Mode"), part("RetainUntilDate")) else { return error(400, "MalformedXML", "") };
        let id = request.query.get("versionId").cloned().or_else(|| self.current(key).map(|version| version.id.clone()));
        let Some(version) = self.versions.iter_mut().find(|version| version.key == key && Some(&version.id) == id.as_ref()) else {
            return error(404, "NoSuchKey", "");
        };
        if rules.enforces_locks && version.lock.as_ref().is_some_and(|(_, there)| *there > date) {
            return error(403, "AccessDenied", "Access Denied because object protected by object lock.");
        }
        if !rules.forgets_locks {
            version.lock = Some((mode, rules.longest_lock.clone().unwrap_or(date)));
        }
        plain(200)
    }

    fn create(&mut self, request: &HttpRequest, key: &str) -> HttpAnswer {
        let id = self.next_id();
        self.uploads.insert(id.clone(), (key.to_owned(), lock_of(request), BTreeMap::new()));
        page(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
    }

    fn put_part(&mut self, request: &HttpRequest, rules: &mut FakeRules) -> HttpAnswer {
        let number: u32 = request.query.get("partNumber").and_then(|n| n.parse().ok()).unwrap_or(0);
        let upload = request.query.get("uploadId").and_then(|id| self.uploads.get_mut(id));
        let Some((_, _, parts)) = upload else { return error(404, "NoSuchUpload", "") };
        if let Some(left) = rules.parts_before_cut.as_mut() {
            if *left == 0 {
                return plain(0);
            }
            *left -= 1;
        }
        parts.insert(number, request.body.clone());
        with(plain(200), "etag", format!("\"part-{number}-{}\"", request.body.len()))
    }

    fn parts(&self, request: &HttpRequest) -> HttpAnswer {
        let upload = request.query.get("uploadId").and_then(|id| self.uploads.get(id));
        let Some((_, _, parts)) = upload else { return error(404, "NoSuchUpload", "") };
        let mut text = "<ListPartsResult><IsTruncated>false</IsTruncated>".to_owned();
        for (number, bytes) in parts {
            let size = bytes.len();
            let etag = format!("&quot;part-{number}-{size}&quot;");
            let _ = write!(text, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Size>{size}</Size></Part>");
        }
        page(text + "</ListPartsResult>")
    }

    fn complete(&mut self, request: &HttpRequest, key: &str, rules: &FakeRules) -> HttpAnswer {
        let Some(id) = request.query.get("uploadId").filter(|id| self.uploads.contains_key(*id)).cloned() else {
            return error(404, "NoSuchUpload", "");
        };
        if rules.late_error {
            return HttpAnswer { status: 200, ..error(200, "InternalError", "We encountered an internal error.") };
        }
        let Some((_, lock, parts)) = self.uploads.get(&id).cloned() else { return error(404, "NoSuchUpload", "") };
        let answer = self.put(key, request, parts.into_values().flatten().collect(), lock, rules);
        if answer.status != 200 {
            return answer;
        }
        self.uploads.remove(&id);
        HttpAnswer { body: b"<CompleteMultipartUploadResult/>".to_vec(), ..answer }
    }

    fn list(&self, request: &HttpRequest) -> HttpAnswer {
        let prefix = request.query.get("prefix").cloned().unwrap_or_default();
        if request.query.contains_key("uploads") {
            let uploads = self.uploads.iter().filter(|(_, (key, ..))| key.starts_with(&prefix));
            let rows = uploads.map(|(id, (key, ..))| {
                format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>")
            });
            return page(format!("<ListMultipartUploadsResult>{}</ListMultipartUploadsResult>", rows.collect::<String>()));
        }
        let delimiter = request.query.get("delimiter").is_some();
        let all = request.query.contains_key("versions");
        let keys: BTreeSet<&String> = self.versions.iter().map(|version| &version.key).filter(|key| key.starts_with(&prefix)).collect();
        let most = request.query.get("max-keys").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let (mut rows, mut prefixes) = (Vec::new(), BTreeSet::new());
        for key in keys {
            let folder = key.strip_prefix(&prefix).and_then(|rest| rest.split_once('/')).filter(|_| delimiter);
            if let Some((folder, _)) = folder {
                if all || self.current(key).is_some() {
                    prefixes.insert(format!("{prefix}{folder}/"));
                }
            } else if all {
                for version in self.versions.iter().rev().filter(|version| version.key == *key) {
                    let name = if version.is_marker { "DeleteMarker" } else { "Version" };
                    let (id, size) = (&version.id, version.bytes.len());
                    rows.push(format!("<{name}><Key>{key}</Key><VersionId>{id}</VersionId><Size>{size}</Size></{name}>"));
                }
            } else if let Some(version) = self.current(key) {
                rows.push(format!("<Contents><Key>{key}</Key><Size>{}</Size></Contents>", version.bytes.len()));
            }
        }
        let rows: String = rows.into_iter().take(most).collect();
        let prefixes: String =
            prefixes.into_iter().map(|prefix| format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>")).collect();
        let root = if all { "ListVersionsResult" } else { "ListBucketResult" };
        page(format!("<{root}><IsTruncated>false</IsTruncated>{rows}{prefixes}</{root}>"))
    }
}

fn lock_of(request: &HttpRequest) -> Option<(String, String)> {
    let header = |name: &str| request.headers.get(name).cloned();
    header("x-amz-object-lock-mode").zip(header("x-amz-object-lock-retain-until-date"))
}
