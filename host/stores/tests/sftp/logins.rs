//! Every way to log in, on a real server with a real agent.

use crate::kit::{PLAIN_USER, Place, Sshd, key, name, sha, store_name, vault};
use havun_stores::sftp::{SftpOptions, SftpRoot, SshAuth};
use havun_vault::store::{Published, Store, StoreError};
use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

fn with_auth(place: &Place, auth: SshAuth) -> SftpOptions {
    SftpOptions { auth: vec![auth], ..place.options() }
}

/// Logs in, stores something and reads it.
fn works(options: SftpOptions) -> Result<(), StoreError> {
    let root = SftpRoot::new(options)?;
    root.prepare(&store_name())?;
    let at = name("a/b");
    assert_eq!(vault(&root).put(&at, &b"stored".as_slice(), &sha(b"stored"))?, Published::New);
    assert_eq!(vault(&root).read(&at, 100)?, b"stored");
    vault(&root).remove(&at)
}

fn locked_key(path: &Path, passphrase: &str) -> SshAuth {
    SshAuth::Key { text: Zeroizing::new(fs::read_to_string(path).unwrap()), passphrase: Some(Zeroizing::new(passphrase.to_owned())) }
}

/// What is said where the login is refused.
fn refusal(options: SftpOptions) -> String {
    match works(options) {
        Err(error @ StoreError::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_of_every_kind_log_in() {
    let place = Place::start(&[]);
    for (kind, bits) in [("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")] {
        let path = place.sshd.new_key(&format!("{kind}-{bits}"), &["-t", kind, "-b", bits, "-N", ""]);
        works(with_auth(&place, key(&fs::read_to_string(path).unwrap()))).unwrap_or_else(|error| panic!("{kind} {bits}: {error}"));
    }
}

#[test]
fn keys_with_a_passphrase_log_in_and_without_it_the_error_says_so() {
    let place = Place::start(&[]);
    for (name, arguments) in [("rsa", &["-t", "rsa", "-b", "2048"][..]), ("ecdsa", &["-t", "ecdsa"]), ("ed25519", &["-t", "ed25519"])] {
        let path = place.sshd.new_key(name, &[arguments, &["-N", "correct horse"]].concat());
        works(with_auth(&place, locked_key(&path, "correct horse"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        for wrong in [locked_key(&path, "wrong horse"), key(&fs::read_to_string(&path).unwrap())] {
            let said = refusal(with_auth(&place, wrong));
            assert!(said.contains("the private key cannot be read") && !said.contains("horse"), "{said}");
        }
    }
}

/// An agent of the test's own.
struct Agent {
    process: Child,
    folder: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(folder.path().join("socket")).stdin(Stdio::null()).stdout(Stdio::null());
        let agent = Self { process: command.spawn().unwrap(), folder };
        let until = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(agent.socket()).is_err() {
            assert!(Instant::now() < until, "ssh-agent does not start");
            thread::sleep(Duration::from_millis(10));
        }
        agent
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", self.socket()).output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }

    fn auth(&self) -> SshAuth {
        SshAuth::Agent { socket: self.socket() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

#[test]
fn an_agent_logs_in_with_whichever_of_its_keys_is_allowed() {
    let (place, agent) = (Place::start(&[]), Agent::start());
    let said = refusal(with_auth(&place, agent.auth()));
    assert!(said.contains("the agent has no key"), "{said}");
    agent.add(&place.sshd.client_key_file().with_file_name("other"));
    let said = refusal(with_auth(&place, agent.auth()));
    assert!(said.contains("the agent's keys are refused"), "{said}");
    for (name, arguments) in [("rsa", ["-t", "rsa", "-b", "2048", "-N", ""]), ("ecdsa", ["-t", "ecdsa", "-b", "384", "-N", ""])] {
        let agent = Agent::start();
        agent.add(&place.sshd.client_key_file().with_file_name("other"));
        agent.add(&place.sshd.new_key(name, &arguments));
        works(with_auth(&place, agent.auth())).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn an_agent_that_is_not_there_is_said() {
    let place = Place::start(&[]);
    let said = refusal(with_auth(&place, SshAuth::Agent { socket: PathBuf::new() }));
    assert!(said.contains("$SSH_AUTH_SOCK is not set"), "{said}");
    let gone = place.spool.path().join("gone");
    let said = refusal(with_auth(&place, SshAuth::Agent { socket: gone.clone() }));
    assert!(said.contains(&*gone.to_string_lossy()) && said.contains("does not answer"), "{said}");
}

#[test]
fn a_password_logs_in_and_a_wrong_one_is_refused_without_being_repeated() {
    let place = Place::of(Sshd::start_for_a_plain_user(&["PasswordAuthentication yes"]));
    let options = |password: &str| SftpOptions {
        user: PLAIN_USER.0.to_owned(),
        ..with_auth(&place, SshAuth::Password(Zeroizing::new(password.to_owned())))
    };
    works(options(PLAIN_USER.1)).unwrap();
    let said = refusal(options("not-the-password"));
    assert!(said.contains("the password is refused") && !said.contains("not-the-password"), "{said}");
}
