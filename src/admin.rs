//! HTTP for people and machines that look at crihook: `/metrics`, `/livez`, `/readyz`.
//!
//! The same answers are served on the metrics address and on the admin socket. Nothing here touches the data path; a
//! client that asks and never reads holds its own task and nothing else.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::metrics;

/// A client sends its request's head within this time.
const HEAD: Duration = Duration::from_secs(10);
/// A client that keeps its connection alive opens another one after this time. Prometheus does so without a word.
const STAY: Duration = Duration::from_mins(5);
/// Clients at once, on each of the two sockets: scrapers that never read must not use up the descriptors that calls need.
const CLIENTS: usize = 64;
/// Between two tries to accept when the system has no room.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer that `app` gives when asked: lines of a report, and whether all is well.
pub type Report = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Checks> + Send>> + Send + Sync>;

/// The parts of a report, each with a name, whether it is well, and what there is to say.
#[derive(Debug, Clone, Default)]
pub struct Checks(Vec<(&'static str, bool, String)>);

impl Checks {
    /// Adds a part.
    pub fn add(&mut self, name: &'static str, well: bool, text: impl Into<String>) {
        self.0.push((name, well, text.into()));
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let well = self.0.iter().all(|(_, well, _)| *well);
        let mut body = String::new();
        for (name, well, text) in &self.0 {
            let _ = writeln!(body, "[{}] {name}: {text}", if *well { '+' } else { '-' });
        }
        let (status, verdict) = if well { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ok") };
        text(status, format!("{body}{verdict}\n"))
    }
}

/// A socket that clients come from.
pub trait Accept: Send + Sync {
    /// Waits for the next one.
    fn client(&self) -> impl Future<Output = io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>> + Send;
}

impl Accept for TcpListener {
    async fn client(&self) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        self.accept().await.map(|(client, _)| client)
    }
}

impl Accept for UnixListener {
    async fn client(&self) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        self.accept().await.map(|(client, _)| client)
    }
}

/// Documents for crihook's own commands, by path: JSON, or `None` where there is none. They may hold what hooks have printed, so they are
/// served on the admin socket and nowhere else.
pub type Documents = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// What the server can say.
#[derive(Clone)]
pub struct Admin {
    /// For `/metrics`.
    pub registry: Registry,
    /// For `/livez`: does crihook itself still move?
    pub alive: Report,
    /// For `/readyz`: would a call succeed?
    pub ready: Report,
    /// On the admin socket only.
    pub documents: Option<Documents>,
}

impl Admin {
    /// Made where it holds up nobody: it may be large.
    async fn document(&self, path: &str) -> Option<Vec<u8>> {
        let (documents, path) = (self.documents.clone()?, path.to_owned());
        tokio::task::spawn_blocking(move || documents(&path)).await.ok().flatten()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/metrics" => match metrics::render(&self.registry) {
                Ok(body) => respond(StatusCode::OK, metrics::CONTENT_TYPE, body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/livez" => (self.alive)().await.into_response(),
            "/readyz" => (self.ready)().await.into_response(),
            "/" => text(
                StatusCode::OK,
                concat!(
                    "crihook ",
                    env!("CARGO_PKG_VERSION"),
                    "\n\n/metrics  for Prometheus\n/livez    is it alive\n/readyz   would a call succeed\n"
                ),
            ),
            other => match self.document(other).await {
                Some(document) => respond(StatusCode::OK, "application/json", document),
                None => text(StatusCode::NOT_FOUND, format!("nothing at {other}; try /metrics, /livez or /readyz\n")),
            },
        }
    }

    async fn serve_client(self, client: impl AsyncRead + AsyncWrite + Unpin, _place: OwnedSemaphorePermit) {
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(client), service);
        match timeout(STAY, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a client of the metrics address hung up"),
            Err(_) => tracing::debug!("a client of the metrics address has stayed too long; hung up"),
        }
    }

    /// Serves a socket for as long as the task lives.
    pub async fn serve(self, listener: impl Accept) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        let mut failing = false;
        // Never closed, so there is always a place to wait for.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.client().await {
                Ok(client) => {
                    failing = false;
                    tokio::spawn(self.clone().serve_client(client, place));
                }
                Err(error) => {
                    // The pending client stays in the queue when descriptors run out, so trying at once would spin.
                    if !failing {
                        tracing::error!("cannot accept clients of the metrics address or the admin socket: {error}");
                    }
                    failing = true;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
