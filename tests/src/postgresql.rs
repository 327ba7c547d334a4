//! A PostgreSQL server of the test's own: a fresh data folder, a private socket and a port on loopback. PostgreSQL refuses
//! to run as root; under root the server runs as `postgres` or `nobody`.

use std::{
    fs::{self, File},
    io::Write,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The server that [`PostgreSql::shared`] hands out, while somebody holds it.
static SHARED: Mutex<Weak<PostgreSql>> = Mutex::new(Weak::new());

/// A running server; stopped, and its data removed, when it is dropped. The superuser `postgres` needs no password on the
/// socket; over TCP everybody needs one.
pub struct PostgreSql {
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    server: Child,
}

impl PostgreSql {
    /// Starts a server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on(|_| Vec::new())
    }

    /// Starts a server that has TLS with this certificate and key (PEM).
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        Self::start_on(|folder| {
            let mut settings = vec!["ssl=on".to_owned()];
            for (setting, file) in [("ssl_cert_file", certificate), ("ssl_key_file", key)] {
                let own = folder.join(setting);
                fs::copy(file, &own).expect("the file is copied");
                fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).expect("it is made private");
                if let Some((uid, gid)) = account() {
                    chown(&own, Some(uid), Some(gid)).expect("it is given away");
                }
                settings.push(format!("{setting}={}", own.display()));
            }
            settings
        })
    }

    fn start_on(settings: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = tempfile::Builder::new().prefix("havun-postgresql-").tempdir().expect("a temporary folder");
        let account = account();
        if let Some((uid, gid)) = account {
            chown(folder.path(), Some(uid), Some(gid)).expect("the folder is given away");
        }
        install(folder.path(), account);
        let port = free_port();
        let settings = settings(folder.path());
        let server = serve(folder.path(), port, &settings);
        let mut started = Self { folder, port, settings, server };
        started.wait_until_it_answers();
        started
    }

    /// Ends the server and every connection to it, and starts it again, with its data and its port.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn restart(&mut self) {
        assert!(Command::new("kill").args(["-INT", &self.server.id().to_string()]).status().expect("kill runs").success());
        self.server.wait().expect("the server ends");
        self.server = serve(self.folder.path(), self.port, &self.settings);
        self.wait_until_it_answers();
    }

    /// A server that the tests of one process share; each test uses databases and roles of its own.
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

    /// The folder of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// The port on 127.0.0.1, and the number of the socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a script as `postgres` in `database` and returns what it answers, one row a line, fields apart by `|`.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn sql(&self, database: &str, script: &str) -> String {
        let output = self.try_sql(database, script);
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// As [`Self::sql`], for statements that may fail.
    ///
    /// # Panics
    /// When psql cannot be run.
    pub fn try_sql(&self, database: &str, script: &str) -> Output {
        let mut command = self.client("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("psql runs");
        let mut stdin = client.stdin.take().expect("a pipe");
        let script = script.to_owned();
        let writer = thread::spawn(move || stdin.write_all(script.as_bytes()));
        let output = client.wait_with_output().expect("psql ends");
        let _ = writer.join();
        output
    }

    /// A client program that logs in as `postgres`.
    #[must_use]
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.args(["-h".as_ref(), self.socket().as_os_str()]).args(["-p", &self.port.to_string(), "-U", "postgres"]);
        command.env("PGCLIENTENCODING", "UTF8").env("LC_ALL", "C.UTF-8");
        command
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.try_sql("postgres", "SELECT 1").status.success() {
            let ended = self.server.try_wait().expect("the server can be asked");
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "postgres does not answer: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for PostgreSql {
    fn drop(&mut self) {
        // At once, but with its children and its shared memory.
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.server.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn serve(folder: &Path, port: u16, settings: &[String]) -> Child {
    let mut command = unprivileged(&program("postgres"), account());
    command.arg("-D").arg(folder.join("data")).current_dir(folder);
    for setting in [
        format!("port={port}"),
        format!("unix_socket_directories={}", folder.display()),
        "listen_addresses=127.0.0.1".to_owned(),
        "fsync=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "max_prepared_transactions=5".to_owned(),
    ] {
        command.args(["-c", &setting]);
    }
    command.args(settings.iter().flat_map(|setting| ["-c", setting]));
    let log = File::create(folder.join("log")).expect("a log file");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("postgres starts")
}

fn install(folder: &Path, account: Option<(u32, u32)>) {
    let mut command = unprivileged(&program("initdb"), account);
    command
        .args(["--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres", "--encoding=UTF8"])
        .args(["--locale=C.UTF-8", "-D"])
        .arg(folder.join("data"))
        .current_dir(folder);
    let output = command.output().expect("initdb runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// Whom the server runs as when we are root.
fn account() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().expect("id runs");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"].into_iter().find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)))
}

fn unprivileged(program: &Path, account: Option<(u32, u32)>) -> Command {
    let Some((uid, gid)) = account else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]).arg(program);
    command
}

/// From the newest installation; Debian keeps servers off the PATH.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = || std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.pop().map(|(_, path)| path).or_else(elsewhere).unwrap_or_else(|| panic!("{name} is not installed; see the README"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port on loopback");
    listener.local_addr().expect("an address").port()
}
