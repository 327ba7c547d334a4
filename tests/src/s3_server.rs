//! A real S3 server process of the test's own: moto, with its state in memory, on a free port on loopback.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// The server that [`S3Server::shared`] hands out, while somebody holds it.
static SHARED: Mutex<Weak<S3Server>> = Mutex::new(Weak::new());

/// A running server; stopped, and forgotten, when it is dropped.
pub struct S3Server {
    port: u16,
    server: Child,
}

impl S3Server {
    /// Starts a server without buckets. It takes every key.
    ///
    /// # Panics
    /// When moto is not installed (the message says how) or does not start.
    #[must_use]
    pub fn start() -> Self {
        let program = program();
        // The port may be taken between our look and the server's: then another one.
        (0..5).find_map(|_| Self::try_start(&program)).expect("moto_server starts and answers")
    }

    /// A server that the tests of one process share; each test makes buckets of its own.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket, with object lock (and so with versions) or without.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_bucket(&self, name: &str, object_lock: bool) {
        let headers = if object_lock { "x-amz-bucket-object-lock-enabled: true\r\n" } else { "" };
        let answer = self.ask("PUT", &format!("/{name}"), headers, "").expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Sends an unsigned request, as a thief with rights of his own would, and returns the whole answer.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let auth =
            "Authorization: AWS4-HMAC-SHA256 Credential=thief/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n";
        let len = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {len}\r\n{auth}{headers}\r\n{body}",
            self.port
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn try_start(program: &PathBuf) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).env_remove("MOTO_PORT");
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("moto_server runs");
        let mut started = Self { port, server };
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if started.server.try_wait().expect("the server can be asked").is_some() {
                return None;
            }
            if started.ask("GET", "/moto-api/", "", "").is_ok_and(|answer| answer.starts_with("HTTP/1.1 ")) {
                return Some(started);
            }
            thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// `$HAVUN_MOTO_SERVER`, or where `tests/run.sh` installs it beside the build.
fn program() -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.ancestors().nth(3)?.join("moto/bin/moto_server"));
    let program = std::env::var_os("HAVUN_MOTO_SERVER").map(PathBuf::from).or_else(beside).expect("a path");
    let how = "run tests/run.sh, or: python3 -m venv VENV && VENV/bin/pip install 'moto[server]==5.2.5' && export HAVUN_MOTO_SERVER=VENV/bin/moto_server";
    assert!(program.is_file(), "{} is missing: {how}", program.display());
    program
}
