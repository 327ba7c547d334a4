//! An OpenSSH server of the test's own: its own keys, a port on loopback, killable and startable again.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Requests that a server allows which lets its users create and read, and nothing else.
pub const CREATE_AND_READ: &str =
    "ForceCommand internal-sftp -u 0222 -p open,close,read,write,lstat,fstat,stat,opendir,readdir,realpath,fsync,statvfs,limits";

/// An ordinary user that only a server knows which was started by [`Sshd::start_for_a_plain_user`], and the password.
pub const PLAIN_USER: (&str, &str) = ("havun-plain", "it's a p#ass \\ \"word\"");

/// `$1` is the server's folder. The system's own lists of users stay as they are.
const ADD_PLAIN_USER: &str = "\
    cp /etc/passwd /etc/shadow \"$1\"; \
    echo 'havun-plain:x:54321:54321::/tmp:/bin/sh' >> \"$1/passwd\"; \
    echo \"havun-plain:$(printf %s \"$PLAIN_PASSWORD\" | openssl passwd -6 -stdin):19000:0:99999:7:::\" >> \"$1/shadow\"; \
    mount --bind \"$1/passwd\" /etc/passwd; mount --bind \"$1/shadow\" /etc/shadow; chown 54321:54321 \"$1/store\"";

/// A running server; killed with all its connections, and its files removed, when it is dropped.
pub struct Sshd {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
    /// Shell commands that only the server sees the effects of.
    apart: Option<String>,
}

impl Sshd {
    /// Starts a server with further lines for its configuration; those of `Subsystem sftp internal-sftp` are there already.
    ///
    /// # Panics
    /// When OpenSSH is not installed or does not start.
    #[must_use]
    pub fn start(lines: &[&str]) -> Self {
        Self::start_after(None, lines)
    }

    /// Starts a server whose folder for a store is a disk of `size` (as `mount` has it: `24m`) that nobody else sees; it is gone
    /// with the server.
    ///
    /// # Panics
    /// As [`Self::start`], and when the test does not run as root.
    #[must_use]
    pub fn start_on_a_disk_of(size: &str, lines: &[&str]) -> Self {
        Self::start_after(Some(format!("mount -t tmpfs -o size={size},mode=755 tmpfs \"$1/store\"")), lines)
    }

    /// Starts a server that knows [`PLAIN_USER`], who owns the folder for a store.
    ///
    /// # Panics
    /// As [`Self::start_on_a_disk_of`].
    #[must_use]
    pub fn start_for_a_plain_user(lines: &[&str]) -> Self {
        Self::start_after(Some(ADD_PLAIN_USER.to_owned()), lines)
    }

    fn start_after(apart: Option<String>, lines: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("havun-sshd-").tempdir().expect("a temporary folder");
        // Others must be able to pass, where the server changes to another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        for key in ["host", "client", "other"] {
            keygen(&folder.path().join(key));
        }
        fs::copy(folder.path().join("client.pub"), folder.path().join("authorized")).expect("a copy");
        fs::create_dir(folder.path().join("store")).expect("a folder");
        let port = free_port();
        fs::write(folder.path().join("config"), config(folder.path(), port, lines)).expect("a configuration");
        let mut started = Self { folder, port, server: None, apart };
        started.start_again();
        started
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user who starts the test may log in.
    #[must_use]
    pub fn user(&self) -> String {
        output(Command::new("id").arg("-un"))
    }

    /// An empty folder of the server's, for a store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A path of the server's as others see it, who do not see its disk.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn inside(&self, path: &Path) -> PathBuf {
        let process = self.server.as_ref().expect("a running server").id();
        PathBuf::from(format!("/proc/{process}/root")).join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// Makes a key pair with these arguments of `ssh-keygen` and lets it log in; where the private key lies.
    ///
    /// # Panics
    /// When `ssh-keygen` fails.
    #[must_use]
    pub fn new_key(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.folder.path().join(name);
        keygen_with(&path, arguments);
        let mut all = read(&self.folder.path().join("authorized"));
        all.push_str(&read(&path.with_extension("pub")));
        fs::write(self.folder.path().join("authorized"), all).expect("a file");
        path
    }

    /// The server's public key, as a line.
    #[must_use]
    pub fn host_key(&self) -> String {
        read(&self.folder.path().join("host.pub"))
    }

    /// The private key that may log in.
    #[must_use]
    pub fn client_key(&self) -> String {
        read(&self.folder.path().join("client"))
    }

    /// Where it lies.
    #[must_use]
    pub fn client_key_file(&self) -> PathBuf {
        self.folder.path().join("client")
    }

    /// A private key that may not, and a public key that is not the server's.
    #[must_use]
    pub fn other_key(&self) -> (String, String) {
        (read(&self.folder.path().join("other")), read(&self.folder.path().join("other.pub")))
    }

    /// Gives the server another host key, from its next start on.
    pub fn change_host_key(&self) {
        for end in ["", ".pub"] {
            let path = |name: &str| self.folder.path().join(format!("{name}{end}"));
            fs::copy(path("other"), path("host")).expect("a copy");
        }
    }

    /// Kills the server and every connection of it, as a power cut would.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // The listener first, so that no connection is made meanwhile.
        let mut processes = vec![server.id()];
        processes.extend(descendants(server.id()));
        for process in processes {
            let _gone = Command::new("sh").args(["-c", "kill -9 \"$0\" 2> /dev/null", &process.to_string()]).status();
        }
        let _status = server.wait();
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_again(&mut self) {
        self.kill();
        // sshd wants it where it is started by root.
        let _exists = fs::create_dir_all("/run/sshd");
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log file");
        let mut command = self.program();
        command.args(["-D", "-e", "-f"]).arg(self.folder.path().join("config"));
        self.server = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("sshd starts"));
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "sshd does not answer: {}", read(&self.folder.path().join("log")));
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Sshd {
    fn program(&self) -> Command {
        let Some(apart) = &self.apart else { return Command::new(program()) };
        let mut command = Command::new("unshare");
        let script = format!("{apart}; shift; exec \"$@\"");
        command.args(["--mount", "--", "sh", "-euc", &script, "sh"]).arg(self.folder.path()).arg(program());
        command.env("PLAIN_PASSWORD", PLAIN_USER.1);
        command
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program() -> &'static str {
    // sshd re-executes itself and insists on an absolute path.
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd", "/usr/bin/sshd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("sshd is installed")
}

fn keygen(path: &Path) {
    keygen_with(path, &["-t", "ed25519", "-N", ""]);
}

fn keygen_with(path: &Path, arguments: &[&str]) {
    let status = Command::new("ssh-keygen").args(["-q", "-C", "test"]).args(arguments).arg("-f").arg(path).status();
    assert!(status.expect("ssh-keygen is installed").success(), "ssh-keygen failed");
}

fn config(folder: &Path, port: u16, lines: &[&str]) -> String {
    let folder = folder.display();
    // The first line about a thing counts.
    let mut text = lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
    text += &format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
         MaxStartups 100\nUseDNS no\nSubsystem sftp internal-sftp\n"
    );
    text
}

/// Children, their children and so on, as the kernel lists them.
fn descendants(of: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (process, parent)));
    }
    let (mut found, mut next) = (Vec::new(), vec![of]);
    while let Some(parent) = next.pop() {
        let children: Vec<u32> = parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process).collect();
        found.extend(&children);
        next.extend(children);
    }
    found
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file").trim_end().to_owned() + "\n"
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program runs");
    String::from_utf8(output.stdout).expect("its output").trim().to_owned()
}
