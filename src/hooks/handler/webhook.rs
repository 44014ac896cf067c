//! `webhook`: POSTs the event as a `CloudEvents` document, over http, https or a unix socket.
//!
//! Connections are kept for the next event; over a unix socket that makes the difference between a fraction of a millisecond and a
//! handshake.

use std::path::{Path, PathBuf};

use ::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyperlocal::UnixConnector;
use reqwest::Url;
use tokio::time::{Instant, timeout_at};

use super::redial::{self, Noting};
use super::tls::Trust;
use super::values::{Node, Values};
use super::{Delivery, Evidence, Failure, Handler, event, http, trouble};
use crate::hooks::Boxed;
use crate::hooks::policy::{self, Template, WebhookUrl};

/// Succeeds with a status from 200 to 399.
pub(super) struct Webhook {
    node: Node,
    spec: policy::Webhook,
    client: Transport,
}

/// No server takes more.
const URI_CAP: usize = 32 * 1024;

type UnixClient = Client<Noting<UnixConnector>, Full<Bytes>>;

/// The client of either kind of server.
enum Transport {
    Tcp { client: reqwest::Client, url: Template },
    Unix { client: Box<UnixClient>, socket: PathBuf, path: Template },
}

impl Webhook {
    /// With the client that its URL needs.
    ///
    /// # Errors
    /// Fails for certificates and keys that are none.
    pub(super) fn new(node: Node, spec: &policy::Webhook, trust: &Trust) -> Result<Self, String> {
        let client = match &spec.url {
            WebhookUrl::Http(url) => {
                let client = http::client(trust, &spec.tls, http::Purpose::Post)?;
                Transport::Tcp { client, url: url.clone() }
            }
            WebhookUrl::Unix { socket, path } => {
                let (idle, most) = http::IDLE;
                let client = Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(idle)
                    .pool_max_idle_per_host(most)
                    .build(Noting(UnixConnector));
                Transport::Unix { client: Box::new(client), socket: socket.clone(), path: path.clone() }
            }
        };
        Ok(Self { node, spec: spec.clone(), client })
    }
}

impl Handler for Webhook {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let values = Values { delivery: &delivery, node: &self.node };
            let mut headers = http::headers(values, &self.spec.headers)?;
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(event::CONTENT_TYPE));
            let document = event::document(&delivery, &self.node);
            match &self.client {
                Transport::Tcp { client, url } => {
                    // An error would show the URL.
                    let url = Url::parse(&values.fill(url))
                        .map_err(|_| Failure::failed("the URL of the policy, once filled in, is none"))?;
                    over_tcp(client, &url, &headers, &document, delivery.deadline).await
                }
                Transport::Unix { client, socket, path } => {
                    headers.entry(HOST).or_insert(HeaderValue::from_static("localhost"));
                    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(http::USER_AGENT));
                    let mut request = Request::new(Full::new(document));
                    *request.method_mut() = Method::POST;
                    *request.uri_mut() = uri(socket, &values.fill(path))
                        .ok_or_else(|| Failure::failed("the path of the policy, once filled in, is none"))?;
                    *request.headers_mut() = headers;
                    let peer = format!("unix://{}", socket.display());
                    over_unix(client, &request, &peer, delivery.deadline).await
                }
            }
        })
    }
}

/// hyperlocal wants only what is sure to make a URI; the socket's path takes part in its length, in hexadecimal digits.
fn uri(socket: &Path, path: &str) -> Option<Uri> {
    let fits = path.len() + 2 * socket.as_os_str().len() < URI_CAP;
    let path = path.parse::<PathAndQuery>().ok().filter(|path| fits && path.as_str().starts_with('/'))?;
    Some(hyperlocal::Uri::new(socket, path.as_str()).into())
}

async fn over_tcp(
    client: &reqwest::Client,
    url: &Url,
    headers: &HeaderMap,
    document: &Bytes,
    deadline: Instant,
) -> Result<Evidence, Failure> {
    let limit = deadline.saturating_duration_since(Instant::now());
    let host = url.host_str().unwrap_or_default();
    let peer = url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let sent = redial::send(|| client.post(url.clone()).headers(headers.clone()).body(document.clone()).send());
    match timeout_at(deadline, sent).await {
        Ok(Ok(answer)) => http::verdict(answer.into(), &peer, deadline).await,
        Ok(Err(error)) => Err(http::failure(&error, &peer)),
        Err(_) => Err(trouble::no_answer(&peer, limit)),
    }
}

/// A socket has no host that a redirect could be to: whatever it answers is the answer.
async fn over_unix(
    client: &UnixClient,
    request: &Request<Full<Bytes>>,
    peer: &str,
    deadline: Instant,
) -> Result<Evidence, Failure> {
    let limit = deadline.saturating_duration_since(Instant::now());
    match timeout_at(deadline, redial::send(|| client.request(request.clone()))).await {
        Ok(Ok(answer)) => http::verdict(answer, peer, deadline).await,
        Ok(Err(error)) => Err(Failure::failed(trouble::words(&error, peer))),
        Err(_) => Err(trouble::no_answer(peer, limit)),
    }
}

#[cfg(test)]
mod tests;
