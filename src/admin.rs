//! HTTP for people and machines that look at crihook: the page at `/`, `/metrics`, `/livez`, `/readyz`; and the way in for crihook's own commands: `/v1/`.
//!
//! The former are served on the metrics address and on the admin socket, the latter on the admin socket alone, whose file only its owner
//! may use. Nothing here touches the data path; a client that asks and never reads holds its own task and its page, and not for long (`turn`,
//! `connections`).

mod connections;
#[cfg(test)]
mod tests;
mod turn;

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::Registry;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{sleep, timeout};

use crate::metrics;
use connections::Connections;
use turn::{Turn, Turns, Watched};

/// A client that keeps its connection alive opens another one after this time. Prometheus does so without a word.
const STAY: Duration = Duration::from_mins(5);
/// What a command may say.
const MAX_BODY: usize = 64 << 10;
/// Between two tries to accept when the system has no room.
const PAUSE: Duration = Duration::from_millis(100);

/// What an answer consists of; it may go on for as long as its reader stays.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

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

    fn into_response(self) -> Response<Body> {
        let well = self.0.iter().all(|(_, well, _)| *well);
        let mut body = String::new();
        for (name, well, text) in &self.0 {
            let _ = writeln!(body, "[{}] {name}: {text}", if *well { '+' } else { '-' });
        }
        let (status, verdict) = if well { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ok") };
        text(status, format!("{body}{verdict}\n"))
    }
}

/// A client's end, and what to call it in the log.
pub type Client<T> = (T, Arc<str>);

/// A socket that clients come from.
pub trait Accept: Send + Sync {
    /// Waits for the next one.
    fn client(
        &self,
    ) -> impl Future<Output = io::Result<Client<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>>> + Send;
}

impl Accept for TcpListener {
    async fn client(&self) -> io::Result<Client<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>> {
        let (client, peer) = self.accept().await?;
        Ok((client, peer.to_string().into()))
    }
}

impl Accept for UnixListener {
    async fn client(&self) -> io::Result<Client<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>> {
        let (client, _) = self.accept().await?;
        let pid = client.peer_cred().ok().and_then(|peer| peer.pid());
        let peer = pid.map_or("of another PID namespace".to_owned(), |pid| format!("process {pid}"));
        Ok((client, peer.into()))
    }
}

/// What a command of crihook asks.
#[derive(Debug)]
pub struct Ask {
    /// GET to read, POST to change.
    pub method: Method,
    /// Begins with `/v1/`.
    pub path: String,
    /// What follows the `?`, as it came.
    pub query: String,
    /// At most 64 KiB.
    pub body: Bytes,
}

/// Answers crihook's own commands. It may tell what hooks have printed.
pub type Api = Arc<dyn Fn(Ask) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync>;

/// The page for people, for what follows the `?`. It tells nothing that must not be on the network.
pub type Page = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync>;

/// What the server can say.
#[derive(Clone)]
pub struct Admin {
    /// For `/`.
    pub page: Page,
    /// For `/metrics`.
    pub registry: Registry,
    /// For `/livez`: does crihook itself still move?
    pub alive: Report,
    /// For `/readyz`: would a call succeed?
    pub ready: Report,
    /// For `/v1/`; on the admin socket only.
    pub api: Option<Api>,
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Some(api) = self.api.as_ref().filter(|_| request.uri().path().starts_with("/v1/")) {
            return match read(request).await {
                Ok(ask) => api(ask).await,
                Err(refused) => refused,
            };
        }
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
            "/" => (self.page)(request.uri().query().unwrap_or_default().to_owned()).await,
            other => text(StatusCode::NOT_FOUND, format!("nothing at {other}; try /, /metrics, /livez or /readyz\n")),
        }
    }

    async fn serve_client(self, client: impl AsyncRead + AsyncWrite + Unpin, turns: Turns) {
        let service = service_fn(|request| async {
            turns.pass(Turn::Ours);
            let response = self.answer(request).await;
            turns.pass(if response.extensions().get::<Endless>().is_some() { Turn::Live } else { Turn::Taking });
            Ok::<_, Infallible>(response)
        });
        let served = http1::Builder::new().serve_connection(TokioIo::new(Watched::new(client, turns.clone())), service);
        tokio::pin!(served);
        let ended = if let Ok(ended) = timeout(STAY, &mut served).await {
            ended
        } else {
            // What it has asked is answered, and nothing after that.
            served.as_mut().graceful_shutdown();
            served.await
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client of the metrics address or the admin socket hung up");
        }
    }

    /// Serves a socket for as long as the task lives.
    pub async fn serve(self, listener: &impl Accept) {
        let mut connections = Connections::new(self.socket());
        let mut failing = false;
        loop {
            let place = connections.place().await;
            match listener.client().await {
                Ok((client, peer)) => {
                    failing = false;
                    connections.open(place, peer, |turns| self.clone().serve_client(client, turns));
                }
                Err(error) => {
                    // The pending client stays in the queue when descriptors run out, so trying at once would spin.
                    if !failing {
                        tracing::error!("cannot accept clients of {}: {error}", self.socket());
                    }
                    failing = true;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// What people call it.
    fn socket(&self) -> &'static str {
        if self.api.is_some() { "the admin socket" } else { "the metrics address" }
    }
}

/// Takes in what a command says.
async fn read(request: Request<Incoming>) -> Result<Ask, Response<Body>> {
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    match timeout(turn::LIMIT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(Ask { method: head.method, path, query, body: body.to_bytes() }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {} KiB", MAX_BODY >> 10)))
        }
        Ok(Err(error)) => Err(refusal(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {:?}", turn::LIMIT))),
    }
}

/// No, and why, for crihook's own commands.
pub fn refusal(status: StatusCode, why: impl Into<String>) -> Response<Body> {
    json(status, &serde_json::json!({"error": why.into()}))
}

/// A document for crihook's own commands.
pub fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(document) {
        Ok(body) => respond(status, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Marks an answer that goes on for as long as its reader stays, who may rest from reading.
#[derive(Clone)]
struct Endless;

/// Documents for crihook's own commands, each on a line of its own, as they come.
pub fn json_lines(lines: Body) -> Response<Body> {
    let mut response = Response::new(lines);
    response.extensions_mut().insert(Endless);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// A page for people.
#[must_use]
pub fn html(page: String) -> Response<Body> {
    respond(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
