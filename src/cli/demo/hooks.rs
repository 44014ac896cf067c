//! The demo's hooks: policies as an operator would write them, in a directory of the demo's own, and the server that they call.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Events are far smaller.
const MAX_EVENT: usize = 1 << 20;
/// Attempts that `/flaky` refuses before it accepts one.
const REFUSED: u64 = 2;

/// A command in the container, before it is told to stop.
const DRAIN: &str = r#"apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: drain-web}
spec:
  match:
    namespaces: [payments]
    podSelector: {matchLabels: {app: web}}
    containers: [main]
  hooks:
  - name: drain
    on: PreStop
    exec: {command: [/bin/sleep, "0.3"]}
    timeout: 5s
"#;

/// A webhook that works, and one that does not at first: after a container has started, nobody waits for them.
const ANNOUNCE: &str = r"apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: announce}
spec:
  match: {namespaces: [payments]}
  hooks:
  - name: register
    on: PostStart
    webhook: {url: URL/register}
---
apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: warm-up}
spec:
  match: {namespaces: [payments], containers: [main]}
  hooks:
  - name: cache
    on: PostStart
    webhook: {url: URL/flaky}
    retries: {attempts: 5, backoff: 40ms}
";

/// A webhook that is never answered: the stop goes on without it.
const STUCK: &str = r"apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: deregister}
spec:
  match: {namespaces: [payments], containers: ['*', '!main']}
  hooks:
  - name: mesh
    on: PreStop
    webhook: {url: URL/hang}
    timeout: 600ms
";

/// Writes the policies into `hooks_dir`, which it makes, for a server at `socket`.
pub(super) fn write_policies(hooks_dir: &Path, socket: &Path) -> Result<()> {
    let write = || -> io::Result<()> {
        std::fs::create_dir(hooks_dir)?;
        let url = format!("unix://{}:", socket.display());
        for (name, text) in [("10-drain", DRAIN), ("20-announce", ANNOUNCE), ("30-deregister", STUCK)] {
            std::fs::write(hooks_dir.join(format!("{name}.yaml")), text.replace("URL", &url))?;
        }
        Ok(())
    };
    write().with_context(|| format!("cannot write policies into {}", hooks_dir.display()))
}

/// A hook server: `/register` accepts, `/flaky` accepts from an event's third attempt on, `/hang` never answers.
pub(super) struct HookServer {
    listener: UnixListener,
    socket: PathBuf,
}

impl HookServer {
    pub fn bind(socket: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        Ok(Self { listener, socket: socket.to_owned() })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Serves until it is dropped, and its connections with it.
    pub async fn serve(self) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = self.listener.accept().await {
            connections.spawn(converse(stream));
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn converse(stream: UnixStream) {
    // Whoever hangs up, hangs up: there is nobody to tell.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let Ok(event) = Limited::new(request.into_body(), MAX_EVENT).collect().await else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    Ok(match path.as_str() {
        "/register" => status(StatusCode::OK),
        "/flaky" if attempt(&event.to_bytes()) > REFUSED => status(StatusCode::OK),
        "/flaky" => status(StatusCode::SERVICE_UNAVAILABLE),
        "/hang" => std::future::pending().await,
        _ => status(StatusCode::NOT_FOUND),
    })
}

fn status(code: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = code;
    response
}

/// Which attempt at its delivery an event says that it is; 0 if it does not.
fn attempt(event: &[u8]) -> u64 {
    let event: serde_json::Value = serde_json::from_slice(event).unwrap_or_default();
    event["data"]["attempt"].as_u64().unwrap_or_default()
}
