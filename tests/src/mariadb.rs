//! A MariaDB server of the test's own: a fresh data folder, a private socket and a port on loopback.

use std::{
    fs::File,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The server that [`MariaDb::shared`] hands out, while somebody holds it.
static SHARED: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());

/// A running server; stopped, and its data removed, when it is dropped.
pub struct MariaDb {
    folder: TempDir,
    port: u16,
    server: Child,
}

impl MariaDb {
    /// Starts a server with default options. `root@localhost` has no password.
    ///
    /// # Panics
    /// When MariaDB is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further options, such as `--event-scheduler=ON`.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("havun-mariadb-").tempdir().expect("a temporary folder");
        install(folder.path());
        let port = free_port();
        let server = serve(folder.path(), port, options);
        let mut started = Self { folder, port, server };
        started.wait_until_it_answers();
        started
    }

    /// Ends the server in order and starts it again, with its data and its port, and default options.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn restart(&mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.server.id().to_string()]).status().expect("kill runs").success());
        self.server.wait().expect("the server ends");
        self.server = serve(self.folder.path(), self.port, &[]);
        self.wait_until_it_answers();
    }

    /// A server that the tests of one process share; each test uses databases and users of its own.
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

    /// Runs a script as root and returns what it answers, one row a line, fields apart by tabs.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn sql(&self, script: &str) -> String {
        let output = self.try_sql(script);
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// As [`Self::sql`], for statements that may fail.
    ///
    /// # Panics
    /// When the client cannot be run.
    pub fn try_sql(&self, script: &str) -> Output {
        let mut command = Command::new(program(&["mariadb", "mysql"]));
        command.args(["--no-defaults", "--batch", "--skip-column-names", "--default-character-set=utf8mb4", "-uroot"]);
        command.arg(format!("--socket={}", self.socket().display()));
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client runs");
        let mut stdin = client.stdin.take().expect("a pipe");
        let script = script.to_owned();
        let writer = thread::spawn(move || stdin.write_all(script.as_bytes()));
        let output = client.wait_with_output().expect("the client ends");
        let _ = writer.join();
        output
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.try_sql("SELECT 1").status.success() {
            let ended = self.server.try_wait().expect("the server can be asked");
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "mariadbd does not answer: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn serve(folder: &Path, port: u16, options: &[&str]) -> Child {
    let mut command = Command::new(program(&["mariadbd", "/usr/sbin/mariadbd", "mysqld", "/usr/sbin/mysqld"]));
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--socket={}", folder.join("s").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .args(["--bind-address=127.0.0.1", &format!("--port={port}"), "--user", &user()])
        .args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--max-allowed-packet=64M"])
        .args(options);
    let log = File::create(folder.join("log")).expect("a log file");
    command.env("TMPDIR", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("mariadbd starts")
}

fn install(folder: &Path) {
    let mut command = Command::new(program(&["mariadb-install-db", "mysql_install_db"]));
    command
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--user={}", user()));
    // A server that starts removes every `#sql…` file of its folder for temporary ones, another's too.
    command.env("TMPDIR", folder);
    let output = command.output().expect("mariadb-install-db runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// Who we are: the server refuses to run as root unless it is told so.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn program(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("none of {} is installed; see the README", names.join(", ")))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port on loopback");
    listener.local_addr().expect("an address").port()
}
