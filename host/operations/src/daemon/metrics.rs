//! `/metrics` and `/healthz` over HTTP, in a thread of their own: whoever asks, however slowly, delays no run.
//!
//! What is answered is kept in memory; nothing is looked up for a question. Requests are small, few at a time, and end
//! after seconds.

use super::work::Done;
use crate::run::RunOutcome;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, oneshot};

/// Of a request's head.
const LONGEST_HEAD: usize = 8 << 10;
/// For a whole connection.
const LONGEST_TIME: Duration = Duration::from_secs(10);
/// Connections at once.
const MOST: usize = 16;
/// The loop shows that it lives at least so often.
const SILENCE: Duration = Duration::from_secs(60);

/// What is answered.
#[derive(Default)]
pub(super) struct Exposition(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    started: Option<Instant>,
    beat: Option<Instant>,
    beat_at: Option<Timestamp>,
    running: usize,
    runs: BTreeMap<(String, &'static str), u64>,
    failures: u64,
    /// What health found last, as Prometheus reads it.
    health: String,
}

impl Exposition {
    fn with<T>(&self, work: impl FnOnce(&mut Numbers) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The loop lives.
    pub fn beat(&self, now: Timestamp, running: usize) {
        self.with(|numbers| {
            numbers.started.get_or_insert_with(Instant::now);
            (numbers.beat, numbers.beat_at, numbers.running) = (Some(Instant::now()), Some(now), running);
        });
    }

    /// A piece of work has ended.
    pub fn count(&self, done: &Done) {
        self.with(|numbers| {
            if let Some(run) = &done.run {
                *numbers.runs.entry((run.project.to_string(), label(run.outcome))).or_default() += 1;
            }
            numbers.failures += u64::from(done.failure.is_some());
            if let Some(exposed) = &done.exposed {
                numbers.health.clone_from(exposed);
            }
        });
    }

    fn is_alive(&self) -> bool {
        self.with(|numbers| numbers.beat.is_some_and(|beat| beat.elapsed() < SILENCE))
    }

    fn text(&self) -> String {
        self.with(|numbers| {
            let mut text = numbers.health.clone();
            let gauge = |text: &mut String, name: &str, help: &str, kind: &str| {
                let _ = writeln!(text, "# HELP havun_backup_daemon_{name} {help}\n# TYPE havun_backup_daemon_{name} {kind}");
            };
            gauge(&mut text, "uptime_seconds", "Seconds since the daemon began.", "gauge");
            let uptime = numbers.started.map_or(0, |started| started.elapsed().as_secs());
            let _ = writeln!(text, "havun_backup_daemon_uptime_seconds {uptime}");
            gauge(&mut text, "beat_timestamp_seconds", "When its loop last went round.", "gauge");
            let beat = numbers.beat_at.map_or(0, Timestamp::as_second);
            let _ = writeln!(text, "havun_backup_daemon_beat_timestamp_seconds {beat}");
            gauge(&mut text, "jobs_running", "Runs and tasks under way.", "gauge");
            let _ = writeln!(text, "havun_backup_daemon_jobs_running {}", numbers.running);
            gauge(&mut text, "task_failures_total", "Tasks that failed since it began.", "counter");
            let _ = writeln!(text, "havun_backup_daemon_task_failures_total {}", numbers.failures);
            gauge(&mut text, "runs_total", "Runs since it began, by how they ended.", "counter");
            for ((project, outcome), count) in &numbers.runs {
                let _ = writeln!(text, "havun_backup_daemon_runs_total{{project=\"{project}\",outcome=\"{outcome}\"}} {count}");
            }
            text
        })
    }
}

fn label(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Ok => "ok",
        RunOutcome::Partial => "partial",
        RunOutcome::Locked => "locked",
        _ => "failed",
    }
}

/// The server; dropping it ends it.
pub(super) struct MetricsServer {
    asked_for: SocketAddr,
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl MetricsServer {
    /// Listens at `address`.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub fn start(address: SocketAddr, exposition: Arc<Exposition>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let listen = move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = stopped => {}
                    ended = accept(listener, exposition) => if let Err(error) = ended {
                        tracing::error!(%error, "metrics are not served any more");
                    }
                }
            });
        };
        thread::Builder::new().name("metrics".to_owned()).spawn(listen)?;
        Ok(Self { asked_for: address, address: bound, _stop: stop })
    }

    /// As configured.
    pub fn asked_for(&self) -> SocketAddr {
        self.asked_for
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, exposition: Arc<Exposition>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files: it passes.
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let exposition = Arc::clone(&exposition);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &exposition);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(LONGEST_TIME).max_buf_size(LONGEST_HEAD).keep_alive(false);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            // One that asks slowly, or sends what is no request, harms itself only.
            drop(tokio::time::timeout(LONGEST_TIME, connection).await);
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, exposition: &Exposition) -> Response<String> {
    let with = |status: StatusCode, body: String| {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => with(StatusCode::OK, exposition.text()),
        (&Method::GET | &Method::HEAD, "/healthz") if exposition.is_alive() => with(StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/healthz") => with(StatusCode::SERVICE_UNAVAILABLE, "the loop does not go round\n".to_owned()),
        (&Method::GET | &Method::HEAD, _) => with(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".to_owned()),
        _ => {
            let mut response = with(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            response
        }
    }
}
