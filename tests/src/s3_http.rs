//! As much of an HTTP/1.1 server as the hand-written S3 needs: one thread per connection, bodies with a length.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// A request.
pub struct HttpRequest {
    /// `GET` …
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// All of it.
    pub body: Vec<u8>,
}

/// An answer; with status 0 the connection is cut instead.
#[derive(Default)]
pub struct HttpAnswer {
    /// 200 …
    pub status: u16,
    /// `content-length` is added where it is missing.
    pub headers: Vec<(String, String)>,
    /// Not sent to a `HEAD`.
    pub body: Vec<u8>,
}

/// A server on loopback; ends when it is dropped.
pub struct HttpServer {
    /// On 127.0.0.1.
    pub port: u16,
    ended: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves with `answer`.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(answer: impl Fn(&HttpRequest) -> HttpAnswer + Send + Sync + 'static) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("an address").port();
        let (ended, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let flag = Arc::clone(&ended);
        let listener = thread::spawn(move || {
            for stream in socket.incoming().filter_map(Result::ok) {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self { port, ended, listener: Some(listener) }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn serve(stream: TcpStream, answer: &impl Fn(&HttpRequest) -> HttpAnswer) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut input = BufReader::new(stream);
    while let Some(request) = read(&mut input) {
        let reply = answer(&request);
        if reply.status == 0 || send(&mut out, &request, &reply).is_err() {
            let _ = out.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read(input: &mut BufReader<TcpStream>) -> Option<HttpRequest> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let len = headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    input.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
    Some(HttpRequest { method, path: decode(path), query, headers, body })
}

fn send(out: &mut TcpStream, request: &HttpRequest, reply: &HttpAnswer) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        text.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    text.push_str("\r\n");
    out.write_all(text.as_bytes())?;
    if request.method == "HEAD" { Ok(()) } else { out.write_all(&reply.body) }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).unwrap_or(0);
        bytes.push(if byte == b'%' { u8::try_from(hex(rest.next()) * 16 + hex(rest.next())).unwrap_or(b'?') } else { byte });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
