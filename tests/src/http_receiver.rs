//! A receiver of webhooks on loopback: keeps every request, and answers as it was told to.

use crate::s3_http::{HttpAnswer, HttpRequest, HttpServer};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
};

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST` …
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Received {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    silent: bool,
}

/// A running receiver; ends when it is dropped.
pub struct HttpReceiver {
    state: Arc<(Mutex<State>, Condvar)>,
    server: HttpServer,
}

impl HttpReceiver {
    /// Starts one that answers 200.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start() -> Self {
        let state = Arc::new((Mutex::new(State { status: 200, ..State::default() }), Condvar::new()));
        let seen = Arc::clone(&state);
        Self { state, server: HttpServer::start(move |request| answer(&seen, request)) }
    }

    /// Answers like this from now on; with status 0 the connection is cut.
    ///
    /// # Panics
    /// When a thread of it panicked.
    pub fn answer(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut state = self.state.0.lock().expect("a lock");
        state.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        (state.status, state.body, state.silent) = (status, body.as_bytes().to_vec(), false);
        self.state.1.notify_all();
    }

    /// Takes requests and says nothing, until it is told to answer again.
    ///
    /// # Panics
    /// As [`Self::answer`].
    pub fn hang(&self) {
        self.state.0.lock().expect("a lock").silent = true;
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The address of `path`, which begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.server.port)
    }

    /// Every request so far, in the order of their arrival.
    ///
    /// # Panics
    /// As [`Self::answer`].
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state.0.lock().expect("a lock").received.clone()
    }
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.answer(0, &[], "");
    }
}

fn answer(state: &(Mutex<State>, Condvar), request: &HttpRequest) -> HttpAnswer {
    let mut now = state.0.lock().expect("a lock");
    now.received.push(Received {
        method: request.method.clone(),
        path: request.path.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
    });
    let now = state.1.wait_while(now, |state| state.silent).expect("a lock");
    HttpAnswer { status: now.status, headers: now.headers.clone(), body: now.body.clone() }
}
