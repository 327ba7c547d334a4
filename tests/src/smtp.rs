//! An SMTP server of the test's own on loopback: aiosmtpd, which stores what it is given in a Maildir. It can ask for
//! STARTTLS, TLS and a login, hang, refuse, and be stopped and started again on the same port.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Debian's: aiosmtpd is one of its packages.
const PYTHON: &str = "/usr/bin/python3";

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// Not at all.
    None,
    /// The client has to ask for TLS before anything else.
    StartTls,
    /// TLS from the first byte on.
    Tls,
}

impl SmtpSecurity {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::None => "smtp",
            Self::StartTls => "smtp+starttls",
            Self::Tls => "smtps",
        }
    }
}

/// What the server does with the next command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpBehaviour {
    /// Takes every mail, but none for an address that begins with `unknown`.
    Takes,
    /// Says nothing after the greeting.
    Hangs,
    /// Takes the whole mail and then says nothing.
    HangsAfterData,
    /// Answers 451.
    Busy,
    /// Answers 554.
    Refuses,
}

impl SmtpBehaviour {
    fn word(self) -> &'static str {
        match self {
            Self::Takes => "takes",
            Self::Hangs => "hang",
            Self::HangsAfterData => "hang-after-data",
            Self::Busy => "busy",
            Self::Refuses => "refuse",
        }
    }
}

/// A mail as the server has it, as Python's parser understands it.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Sender of the envelope.
    pub from: String,
    /// Recipients of the envelope.
    pub to: Vec<String>,
    /// Whether the connection was.
    pub encrypted: bool,
    /// Who logged in; empty for nobody.
    pub user: String,
    /// Decoded, in their order.
    pub headers: Vec<(String, String)>,
    /// Media types of all parts, the outermost first.
    pub parts: Vec<String>,
    /// The part for readers of text.
    pub text: String,
    /// The part for everybody else.
    pub html: String,
    /// Byte for byte.
    pub raw: String,
}

impl Mail {
    /// A header, decoded; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Its subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.header("Subject")
    }
}

/// A running server; stopped, and its mails removed, when it is dropped.
pub struct SmtpServer {
    folder: TempDir,
    security: SmtpSecurity,
    login: Option<(String, String)>,
    port: u16,
    server: Option<Child>,
}

impl SmtpServer {
    /// Starts a server that takes every mail from everybody.
    ///
    /// # Panics
    /// When aiosmtpd is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(SmtpSecurity::None, None)
    }

    /// Starts a server with TLS, and a login where one is given.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(security: SmtpSecurity, login: Option<(&str, &str)>) -> Self {
        let folder = tempfile::Builder::new().prefix("havun-smtp-test-").tempdir().expect("a temporary folder");
        for name in ["tmp", "new", "cur", "understood"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        if security != SmtpSecurity::None {
            make_certificates(folder.path());
        }
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let mut server = Self { folder, security, login, port: 0, server: None };
        server.behave(SmtpBehaviour::Takes);
        server.resume();
        server
    }

    /// Ends the server; connections to its port are refused from now on.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("a process of ours");
            server.wait().expect("a process of ours");
        }
    }

    /// Starts it again on the same port, with the mails that it has.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn resume(&mut self) {
        let mut command = Command::new(PYTHON);
        command.args(["-c", include_str!("smtp_server.py")]).arg(self.folder.path()).arg(self.port.to_string()).arg(self.security.word());
        command.args(self.login.iter().flat_map(|(user, password)| [user, password]));
        let mut server = command.stdout(Stdio::piped()).spawn().expect("python3 starts");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut line).expect("a port");
        self.port = line.trim().parse().expect("aiosmtpd starts (package python3-aiosmtpd)");
        self.server = Some(server);
    }

    /// What it does from now on.
    ///
    /// # Panics
    /// When the disk does not let it.
    pub fn behave(&self, behaviour: SmtpBehaviour) {
        let (new, name) = (self.folder.path().join("behaviour.new"), self.folder.path().join("behaviour"));
        fs::write(&new, behaviour.word()).and_then(|()| fs::rename(&new, &name)).expect("a file");
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `smtp` in [notify.email] has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.security.scheme(), self.port)
    }

    /// The authority that signed its certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The Maildir.
    #[must_use]
    pub fn maildir(&self) -> &Path {
        self.folder.path()
    }

    /// Every mail so far, in the order of their arrival.
    ///
    /// # Panics
    /// When the Maildir cannot be read.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        let entries = fs::read_dir(self.folder.path().join("new")).expect("a Maildir");
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        names.iter().map(|path| read_mail(self.folder.path(), path)).collect()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read_mail(folder: &Path, path: &Path) -> Mail {
    let understood = folder.join("understood").join(path.file_name().expect("a name")).with_extension("json");
    let found: Value = serde_json::from_slice(&fs::read(understood).expect("what the server understood")).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| found.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let field = |name: &str| found.get(name).map(text).unwrap_or_default();
    let pair = |pair: &Value| (pair.get(0).map(text).unwrap_or_default(), pair.get(1).map(text).unwrap_or_default());
    Mail {
        from: field("from"),
        to: list("to").iter().map(text).collect(),
        encrypted: found.get("encrypted").and_then(Value::as_bool).unwrap_or(false),
        user: field("user"),
        headers: list("headers").iter().map(pair).collect(),
        parts: list("parts").iter().map(text).collect(),
        text: field("text"),
        html: field("html"),
        raw: String::from_utf8_lossy(&fs::read(path).expect("a mail")).into_owned(),
    }
}

/// An authority (`ca.pem`) and, signed by it, a certificate for 127.0.0.1 and localhost (`cert.pem`, `key.pem`).
fn make_certificates(folder: &Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
    openssl(
        folder,
        &["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650", "-subj", "/CN=Test"],
        &[&key[..], &authority].concat(),
    );
    openssl(folder, &["req", "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost"], &key);
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        .expect("a file");
    let sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "800", "-extfile", "names"];
    openssl(folder, &["x509", "-req", "-in", "request.pem", "-out", "cert.pem"], &sign);
}

fn openssl(folder: &Path, arguments: &[&str], more: &[&str]) {
    let output = Command::new("openssl").current_dir(folder).args(arguments).args(more).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
