//! E-mail over SMTP (RFC 5321), with STARTTLS or TLS, and a login where one is given.
//!
//! Certificates are always verified, against the system's authorities or those of `ca_file` alone. A login never goes
//! over an unprotected connection to another machine. One recipient that the server refuses keeps no other from being told.
//! The whole delivery runs on a thread of its own, so that neither a name server nor a server that says one byte at a
//! time can hold up the caller for longer than the whole patience.

use crate::{Channel, Message, Patience, SendError, Severity, veil::Veil, visible::visible_line};
use lettre::{
    Address,
    message::{
        Mailbox, MessageBuilder, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{Certificate, CertificateStore, SmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, MailParameter},
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    error::Error as _,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, SystemTime},
};
use url::Url;
use zeroize::Zeroizing;

/// The longest file of authorities that is read, in bytes.
const LONGEST_CA: u64 = 4 << 20;

/// What a mail needs.
pub struct EmailSettings {
    /// `smtp://`, `smtp+starttls://` or `smtps://` with host, and a port where it is not 25, 587 or 465.
    pub server: Zeroizing<String>,
    /// Login name; with a password.
    pub user: Option<Zeroizing<String>>,
    /// Password; with a login name.
    pub password: Option<Zeroizing<String>>,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Authorities to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long it is waited.
    pub patience: Patience,
}

/// A mail server and who is written to.
pub struct EmailChannel {
    server: Arc<Server>,
    from: Address,
    to: Vec<Address>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    None,
    StartTls,
    Tls,
}

struct Server {
    host: String,
    port: u16,
    protection: Protection,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    veil: Veil,
    patience: Patience,
}

/// A mail as it goes over the wire.
struct Envelope {
    hello: ClientId,
    from: Address,
    to: Vec<Address>,
    content: Vec<u8>,
}

impl EmailChannel {
    /// # Errors
    /// [`SendError::Setting`], [`SendError::Tls`].
    pub fn new(settings: EmailSettings) -> Result<Self, SendError> {
        let address = |setting, text: &str| {
            text.parse().map_err(|_| fault(setting, format!("holds `{}`, which is not a mail address", visible_line(text))))
        };
        let from = address("from", &settings.from)?;
        let to: Vec<Address> = settings.to.iter().map(|text| address("to", text)).collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(fault("to", "names nobody"));
        }
        Ok(Self { server: Arc::new(Server::new(settings)?), from, to })
    }

    /// lettre does not survive a line break in a name.
    fn content(&self, message: &Message) -> Result<Vec<u8>, SendError> {
        let domain = self.from.domain();
        let mut mail = MessageBuilder::new()
            .from(Mailbox::new(Some(format!("{} backup", visible_line(&message.host))), self.from.clone()))
            .subject(visible_line(&message.subject))
            .date(moment(message.at))
            .message_id(Some(format!("<{}@{domain}>", digest(&message.key))))
            .raw_header(header("Auto-Submitted", "auto-generated")?)
            .raw_header(header("X-Havun-Event", message.event.word())?);
        for to in &self.to {
            mail = mail.to(Mailbox::new(None, to.clone()));
        }
        if message.severity == Severity::Critical {
            mail = mail.raw_header(header("Importance", "high")?);
        }
        let mail = if message.html.is_empty() {
            mail.singlepart(SinglePart::plain(message.text.clone()))
        } else {
            mail.multipart(MultiPart::alternative_plain_html(message.text.clone(), message.html.clone()))
        };
        mail.map(|mail| mail.formatted()).map_err(|error| SendError::Form { why: error.to_string() })
    }
}

impl Channel for EmailChannel {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        let content = self.content(message)?;
        let envelope = Envelope { hello: hello(&message.host), from: self.from.clone(), to: self.to.clone(), content };
        self.server.within(move |server| server.deliver(&envelope))
    }

    fn probe(&self) -> Result<String, SendError> {
        let to = self.to.len();
        self.server.within(move |server| {
            let mut connection = server.connect(&hello(""))?;
            let login = if server.credentials.is_some() { "takes the login" } else { "asks for no login" };
            let _ = connection.quit();
            Ok(format!("{} answers and {login}; {to} to write to", server.place()))
        })
    }
}

impl Server {
    fn new(settings: EmailSettings) -> Result<Self, SendError> {
        let url = Url::parse(settings.server.trim()).map_err(|_| fault("smtp", "is not an address"))?;
        let (protection, port) = match url.scheme() {
            "smtp" => (Protection::None, 25),
            "smtp+starttls" => (Protection::StartTls, 587),
            "smtps" => (Protection::Tls, 465),
            _ => return Err(fault("smtp", "must begin with smtp://, smtp+starttls:// or smtps://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| fault("smtp", "names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (user, password) = login(&url, &settings)?;
        if user.is_some() && protection == Protection::None && !is_this_machine(&host) {
            let why = "would carry the password to another machine for everybody to read: use smtp+starttls:// or smtps://";
            return Err(fault("smtp", why));
        }
        let mut veil = Veil::default();
        if let Some(password) = &password {
            veil = veil.over(password);
        }
        let credentials = user.zip(password).map(|(user, password)| Credentials::new(user.to_string(), password.to_string()));
        let tls = if protection == Protection::None { None } else { Some(tls(&host, settings.ca_file.as_deref())?) };
        Ok(Self { host, port: url.port().unwrap_or(port), protection, tls, credentials, veil, patience: settings.patience })
    }

    fn place(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    /// Does `work` on a thread of its own and waits for it no longer than the whole patience.
    fn within<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, SendError> + Send + 'static,
    ) -> Result<T, SendError> {
        let (done, end) = mpsc::channel();
        let server = Arc::clone(self);
        std::thread::spawn(move || done.send(work(&server)));
        end.recv_timeout(self.patience.whole).unwrap_or_else(|_| Err(self.timed_out(self.patience.whole)))
    }

    fn connect(&self, hello: &ClientId) -> Result<SmtpConnection, SendError> {
        let failed = |error| self.failed(&error);
        let wrapper = self.tls.as_ref().filter(|_| self.protection == Protection::Tls);
        let place = (self.host.as_str(), self.port);
        let mut connection = SmtpConnection::connect(place, Some(self.patience.step), hello, wrapper, None).map_err(failed)?;
        if let (Protection::StartTls, Some(tls)) = (self.protection, &self.tls) {
            connection.starttls(tls, hello).map_err(failed)?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).map_err(|error| self.login_failed(&error))?;
        }
        Ok(connection)
    }

    fn deliver(&self, mail: &Envelope) -> Result<(), SendError> {
        let failed = |error| self.failed(&error);
        let mut connection = self.connect(&mail.hello)?;
        let utf8 = std::iter::once(&mail.from).chain(&mail.to).any(|address| !AsRef::<str>::as_ref(address).is_ascii());
        let parameters = if utf8 { vec![MailParameter::SmtpUtfEight] } else { Vec::new() };
        connection.command(Mail::new(Some(mail.from.clone()), parameters)).map_err(failed)?;
        let mut refused = None;
        let mut taken = 0;
        for to in &mail.to {
            match connection.command(Rcpt::new(to.clone(), Vec::new())) {
                Ok(_) => taken += 1,
                Err(error) if error.is_permanent() || error.is_transient() => refused = Some((to, self.failed(&error))),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        if let Some((to, error)) = refused {
            if taken == 0 {
                return Err(error);
            }
            tracing::warn!(recipient = %to, %error, "a mail goes to the other recipients only");
        }
        connection.command(Data).map_err(failed)?;
        connection.message(&mail.content).map_err(failed)?;
        let _ = connection.quit();
        Ok(())
    }

    fn timed_out(&self, after: Duration) -> SendError {
        SendError::TimedOut { place: self.place(), after }
    }

    fn failed(&self, error: &Error) -> SendError {
        let (place, why) = (self.place(), self.veil.clean(&chain(error)));
        let status = error.status().map(u16::from);
        match status {
            Some(530 | 534 | 535 | 538) => return SendError::Login { place, why },
            Some(400..=499) => return SendError::Busy { place, why, retry_after: None },
            Some(_) => return SendError::Refused { place, why },
            None => {}
        }
        match source_kind(error) {
            Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => self.timed_out(self.patience.step),
            Some(io::ErrorKind::InvalidData) => SendError::Tls { place, why },
            _ if error.is_tls() || why.contains("STARTTLS") => SendError::Tls { place, why },
            _ if error.is_client() => SendError::Refused { place, why },
            _ => SendError::Unreachable { place, why },
        }
    }

    /// A server that offers no login that fits refuses it too.
    fn login_failed(&self, error: &Error) -> SendError {
        match self.failed(error) {
            SendError::Refused { place, why } => SendError::Login { place, why },
            other => other,
        }
    }
}

/// Login name and password: both or neither, in the settings or in the address.
fn login(url: &Url, settings: &EmailSettings) -> Result<(Option<Zeroizing<String>>, Option<Zeroizing<String>>), SendError> {
    let in_url = |text: &str| (!text.is_empty()).then(|| decoded(text));
    let user = settings.user.clone().or_else(|| in_url(url.username()));
    let password = settings.password.clone().or_else(|| in_url(url.password().unwrap_or_default()));
    match (&user, &password) {
        (Some(_), None) => Err(fault("password", "is missing: `user` alone logs nobody in")),
        (None, Some(_)) => Err(fault("user", "is missing: `password` alone logs nobody in")),
        _ => Ok((user, password)),
    }
}

fn decoded(text: &str) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = rest.clone().take(2).collect::<Vec<_>>();
        let escaped = (byte == b'%').then(|| u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()).flatten();
        bytes.push(escaped.unwrap_or(byte));
        if escaped.is_some() {
            rest.nth(1);
        }
    }
    Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, SendError> {
    let wrong = |error: Error| SendError::Tls { place: host.to_owned(), why: chain(&error) };
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let authorities = Certificate::from_pem(&read_authorities(path)?);
        let authorities = authorities.map_err(|_| fault("ca_file", format!("{} holds no certificate", path.display())))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authorities);
    }
    builder.build().map_err(wrong)
}

/// A file of certificates.
pub(crate) fn read_authorities(path: &Path) -> Result<Vec<u8>, SendError> {
    let mut pem = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_CA).read_to_end(&mut pem));
    read.map_err(|error| fault("ca_file", format!("{} cannot be read: {error}", path.display())))?;
    if pem.windows(11).any(|window| window == b"-----BEGIN ") {
        Ok(pem)
    } else {
        Err(fault("ca_file", format!("{} holds no certificate", path.display())))
    }
}

fn fault(setting: &'static str, why: impl Into<String>) -> SendError {
    SendError::Setting { setting, why: why.into() }
}

fn header(name: &'static str, value: &str) -> Result<HeaderValue, SendError> {
    let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|error| SendError::Form { why: error.to_string() })?;
    Ok(HeaderValue::new(name, value.to_owned()))
}

/// What this host says it is, where its name can be one.
fn hello(host: &str) -> ClientId {
    let fits = !host.is_empty() && host.len() < 256 && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    ClientId::Domain(if fits { host.to_owned() } else { "localhost".to_owned() })
}

fn moment(at: jiff::Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

/// Stable for a key, and nothing that a header could not hold.
fn digest(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes())).chars().take(40).collect()
}

fn chain(error: &Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}

fn source_kind(error: &Error) -> Option<io::ErrorKind> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}
