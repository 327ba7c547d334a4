//! The protocol of Redis (RESP2), as far as a backup needs it.

use super::super::{DatabaseError, ResolvedConnection};
use havun_model::Cancel;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// How often a quiet server is left to look at the cancel flag.
const TICK: Duration = Duration::from_millis(200);
/// How long a server may be silent; it sends a line break each second while it prepares a dump.
const SILENCE: Duration = Duration::from_secs(120);
/// The longest reply that is taken into memory, in bytes: the longest value of Redis.
const LONGEST_REPLY: u64 = 512 << 20;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Text(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Reply>),
    Nothing,
}

impl Reply {
    pub(super) fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Error(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Self::List(_) | Self::Nothing => String::new(),
        }
    }
}

/// A connection that has logged in.
pub(super) struct Wire {
    reader: BufReader<Socket>,
    describe: String,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Socket {
    stream: Stream,
    cancel: Cancel,
}

impl Wire {
    pub(super) fn connect(connection: &ResolvedConnection, describe: &str, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let opened = match connection.get("socket") {
            Some(path) => UnixStream::connect(path).map(Stream::Unix),
            None => {
                let host = connection.get("host").unwrap_or("127.0.0.1");
                TcpStream::connect((host, connection.port()?.unwrap_or(6379))).map(Stream::Tcp)
            }
        };
        let mut wire = Self::on(opened, describe, cancel)?;
        if let Some(password) = connection.get("password") {
            let words: Vec<&[u8]> = match connection.get("user") {
                Some(user) => vec![b"AUTH".as_slice(), user.as_bytes(), password.as_bytes()],
                None => vec![b"AUTH".as_slice(), password.as_bytes()],
            };
            wire.ask(&words).map_err(|error| wire.away(error.to_string()))?;
        }
        wire.ask(&[b"PING"]).map_err(|error| wire.away(error.to_string()))?;
        Ok(wire)
    }

    /// To a server of our own.
    pub(super) fn private(socket: &Path, cancel: &Cancel) -> Result<Self, DatabaseError> {
        Self::on(UnixStream::connect(socket).map(Stream::Unix), "the private Redis server", cancel)
    }

    fn on(opened: io::Result<Stream>, describe: &str, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let away = |error: io::Error| DatabaseError::Connect { database: describe.to_owned(), message: error.to_string() };
        let stream = opened.map_err(away)?;
        match &stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(TICK)).and_then(|()| stream.set_nodelay(true)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(TICK)),
        }
        .map_err(away)?;
        let socket = Socket { stream, cancel: cancel.clone() };
        Ok(Self { reader: BufReader::with_capacity(256 * 1024, socket), describe: describe.to_owned() })
    }

    fn away(&self, message: String) -> DatabaseError {
        DatabaseError::Connect { database: self.describe.clone(), message }
    }

    fn broken(&self, error: io::Error) -> DatabaseError {
        if self.reader.get_ref().cancel.is_cancelled() { DatabaseError::Cancelled } else { self.away(error.to_string()) }
    }

    /// Sends a command and takes its answer.
    ///
    /// # Errors
    /// Of the connection, or what the server refuses.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, DatabaseError> {
        self.send(words)?;
        self.answer(words)
    }

    /// Sends a command; [`Self::answer`] takes its answer later.
    pub(super) fn send(&mut self, words: &[&[u8]]) -> Result<(), DatabaseError> {
        let mut text = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            text.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            text.extend_from_slice(word);
            text.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&text).map_err(|error| self.broken(error))
    }

    /// The answer to `words`.
    pub(super) fn answer(&mut self, words: &[&[u8]]) -> Result<Reply, DatabaseError> {
        match self.reply()? {
            Reply::Error(message) => {
                // Never the arguments: AUTH has one.
                let command = words.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
                Err(DatabaseError::Client { program: command, status: self.describe.clone(), message })
            }
            reply => Ok(reply),
        }
    }

    fn reply(&mut self) -> Result<Reply, DatabaseError> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
        let number = || rest.parse::<i64>().map_err(|_| self.away(format!("it answers `{line}`")));
        Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(number()?),
            "$" => match u64::try_from(number()?) {
                Ok(length) => Reply::Bytes(self.bytes(length)?),
                Err(_) => Reply::Nothing,
            },
            "*" => match u64::try_from(number()?) {
                Ok(count) => Reply::List((0..count).map(|_| self.reply()).collect::<Result<_, _>>()?),
                Err(_) => Reply::Nothing,
            },
            _ => return Err(self.away(format!("it answers `{line}`"))),
        })
    }

    fn line(&mut self) -> Result<String, DatabaseError> {
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(64 * 1024).read_until(b'\n', &mut line);
        read.map_err(|error| self.broken(error))?;
        if !line.ends_with(b"\n") {
            return Err(self.away("it closed the connection".to_owned()));
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, DatabaseError> {
        if length > LONGEST_REPLY {
            return Err(self.away(format!("it answers with {length} bytes")));
        }
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length + 2).read_to_end(&mut bytes).map_err(|error| self.broken(error))?;
        if bytes.len() as u64 != length + 2 {
            return Err(self.away("it closed the connection".to_owned()));
        }
        bytes.truncate(bytes.len() - 2);
        Ok(bytes)
    }

    /// Whether the user may ask for a dump.
    ///
    /// # Errors
    /// [`DatabaseError::Privileges`].
    pub(super) fn may_replicate(&mut self) -> Result<(), DatabaseError> {
        match self.ask(&[b"REPLCONF", b"capa", b"eof"]) {
            Err(DatabaseError::Client { message, .. }) if message.starts_with("NOPERM") => Err(self.not_allowed()),
            Err(error @ (DatabaseError::Connect { .. } | DatabaseError::Cancelled)) => Err(error),
            _ => Ok(()),
        }
    }

    fn not_allowed(&mut self) -> DatabaseError {
        let user = self.ask(&[b"ACL", b"WHOAMI"]).map(Reply::text).unwrap_or_else(|_| "USER".to_owned());
        let grant = format!("ACL SETUSER {user} +psync +sync +replconf +info +ping");
        DatabaseError::Privileges { user, lacking: "everything: the replication stream is not allowed".to_owned(), grant }
    }

    /// Takes the whole data set as the server gives it to a new replica, and leaves.
    pub(super) fn replicate(mut self, take: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>) -> Result<(), DatabaseError> {
        self.may_replicate()?;
        // Older servers do not know it: they would go on with a replica's stream, which nobody reads.
        self.send(&[b"REPLCONF", b"rdb-only", b"1"])?;
        let _ = self.reply()?;
        self.send(&[b"SYNC"])?;
        let head = loop {
            // A line break each second says that it still prepares.
            let line = self.line()?;
            if !line.is_empty() {
                break line;
            }
        };
        if let Some(message) = head.strip_prefix('-') {
            if message.starts_with("NOPERM") {
                return Err(self.not_allowed());
            }
            return Err(DatabaseError::Client { program: "SYNC".to_owned(), status: self.describe.clone(), message: message.to_owned() });
        }
        match head.strip_prefix("$EOF:") {
            Some(mark) => self.until(mark.as_bytes(), take),
            None => {
                let length = head.strip_prefix('$').and_then(|length| length.parse().ok());
                self.exactly(length.ok_or_else(|| self.away(format!("it answers `{head}` to SYNC")))?, take)
            }
        }
    }

    fn exactly(&mut self, mut left: u64, take: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>) -> Result<(), DatabaseError> {
        while left > 0 {
            let piece = self.reader.fill_buf();
            let piece = match piece {
                Ok([]) => {
                    return Err(DatabaseError::Truncated { what: format!("{left} bytes are missing: the server closed the connection") });
                }
                Ok(piece) => piece.get(..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))).unwrap_or_default(),
                Err(error) => return Err(self.broken(error)),
            };
            take(piece)?;
            let used = piece.len();
            self.reader.consume(used);
            left -= used as u64;
        }
        Ok(())
    }

    /// A server that sends from memory does not know the length: forty random bytes end its stream.
    fn until(&mut self, mark: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>) -> Result<(), DatabaseError> {
        let mut held: Vec<u8> = Vec::new();
        loop {
            let used = match self.reader.fill_buf() {
                Ok([]) => return Err(DatabaseError::Truncated { what: "the server closed the connection before its end".to_owned() }),
                Ok(piece) => {
                    held.extend_from_slice(piece);
                    piece.len()
                }
                Err(error) => return Err(self.broken(error)),
            };
            self.reader.consume(used);
            if held.ends_with(mark) {
                return take(held.get(..held.len() - mark.len()).unwrap_or_default());
            }
            let ready = held.len().saturating_sub(mark.len());
            take(held.get(..ready).unwrap_or_default())?;
            held.drain(..ready);
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(buffer),
                Stream::Unix(stream) => stream.read(buffer),
            };
            match read {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.cancel.is_cancelled() {
                        return Err(io::Error::other("stopped by the operator"));
                    }
                    if begun.elapsed() > SILENCE {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "it has been silent for two minutes"));
                    }
                }
                read => return read,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
