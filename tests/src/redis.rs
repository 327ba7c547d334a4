//! A Redis server of the test's own: a private socket and a port on loopback.

use std::{
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running server; stopped, and its data removed, when it is dropped.
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    password: String,
    server: Child,
}

impl RedisServer {
    /// Starts a server with further lines of configuration, and a password where one is given.
    ///
    /// # Panics
    /// When Redis is not installed or does not start.
    #[must_use]
    pub fn start(password: &str, lines: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("havun-redis-test-").tempdir().expect("a temporary folder");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port on loopback").port();
        let mut settings = format!(
            "bind 127.0.0.1\nport {port}\nunixsocket {0}/s\ndir {0}\nsave \"\"\nenable-debug-command yes\nlogfile {0}/log\n",
            folder.path().display()
        );
        if !password.is_empty() {
            let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
            settings.push_str(&format!("requirepass \"{quoted}\"\n"));
        }
        lines.iter().for_each(|line| settings.push_str(&format!("{line}\n")));
        let mut server =
            Command::new("redis-server").arg("-").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("redis-server starts");
        server.stdin.take().expect("a pipe").write_all(settings.as_bytes()).expect("redis-server reads its configuration");
        let started = Self { folder, port, password: password.to_owned(), server };
        let deadline = Instant::now() + Duration::from_secs(30);
        while started.ask(&["PING"]) != "PONG" {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        started
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server answers to a command, as `redis-cli` prints it.
    ///
    /// # Panics
    /// When the client cannot be run.
    pub fn ask(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        // Where there is no password, asking with an empty one keeps the client from choosing a database.
        if !self.password.is_empty() {
            command.env("REDISCLI_AUTH", &self.password);
        }
        command.arg("-s").arg(self.socket()).args(words);
        let output = command.output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
