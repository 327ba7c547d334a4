//! A ProFTPD server of the test's own, with `mod_sftp` and one user who exists for it alone.

use super::{SftpOptions, key, pin, with_defaults};
use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The user, where the test runs as root; else it is the one who runs it.
const USER_ID: u32 = 54_321;

pub struct ProFtpd {
    folder: TempDir,
    port: u16,
    server: Child,
}

impl ProFtpd {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("havun-proftpd-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.unwrap().success());
        }
        let public = Command::new("ssh-keygen").arg("-ef").arg(at("client.pub")).output().unwrap();
        fs::write(at("authorized"), public.stdout).unwrap();
        fs::create_dir(at("store")).unwrap();
        let own = rustix::process::geteuid();
        let id = if own.is_root() { USER_ID } else { own.as_raw() };
        chown(at("store"), Some(id), Some(id)).unwrap();
        fs::write(at("users"), format!("shop:*:{id}:{id}::{}:/bin/false\n", at("store").display())).unwrap();
        fs::set_permissions(at("users"), fs::Permissions::from_mode(0o600)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(at("config"), config(folder.path(), port)).unwrap();
        let mut command = Command::new(program());
        command.args(["-n", "-q", "-c"]).arg(at("config")).stdin(Stdio::null()).stdout(Stdio::null());
        let server = command.stderr(File::create(at("errors")).unwrap()).spawn().expect("proftpd starts");
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "proftpd does not answer: {}", fs::read_to_string(at("errors")).unwrap());
            thread::sleep(Duration::from_millis(10));
        }
        Self { folder, port, server }
    }

    pub fn options(&self) -> SftpOptions {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
        with_defaults(
            self.port,
            "shop",
            &self.folder.path().join("store"),
            key(&read("client")),
            pin(&read("host.pub")),
            &self.folder.path().join("spool"),
        )
    }
}

impl Drop for ProFtpd {
    fn drop(&mut self) {
        // Its own children end with it only when it is asked to end.
        let asked = Command::new("kill").arg(self.server.id().to_string()).status();
        if asked.is_ok_and(|status| status.success()) {
            let _status = self.server.wait();
        }
    }
}

fn program() -> &'static str {
    ["/usr/sbin/proftpd", "/usr/local/sbin/proftpd"].into_iter().find(|path| Path::new(path).exists()).expect("proftpd is installed")
}

fn config(folder: &Path, port: u16) -> String {
    let root = rustix::process::geteuid().is_root();
    let user = if root { "User nobody\nGroup nogroup\n" } else { "" };
    let folder = folder.display();
    format!(
        "ModulePath /usr/lib/proftpd\nLoadModule mod_sftp.c\nServerName test\nServerType standalone\nUseIPv6 off\n\
         DefaultAddress 127.0.0.1\nSocketBindTight on\nPort {port}\n{user}ScoreboardFile {folder}/scoreboard\nPidFile {folder}/pid\n\
         SystemLog {folder}/log\nWtmpLog off\nTransferLog none\nAuthUserFile {folder}/users\nAuthOrder mod_auth_file.c\n\
         RequireValidShell off\nAllowOverwrite on\nAllowStoreRestart on\nMaxInstances 60\nSFTPEngine on\nSFTPLog {folder}/sftp.log\n\
         SFTPHostKey {folder}/host\nSFTPAuthMethods publickey\nSFTPAuthorizedUserKeys file:{folder}/authorized\n"
    )
}
