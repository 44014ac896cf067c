//! `grpc`: calls a hook server's `crihook.v1.HookService/Handle` (`proto/hook.proto`).
//!
//! One channel a hook: dialled when first used, kept, and dialled again after it was lost.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, TimeoutExpired};

use super::tls::Trust;
use super::v1::hook_service_client::HookServiceClient;
use super::v1::{self, HandleRequest, HandleResponse, handle_response::Verdict};
use super::values::Node;
use super::{Delivery, Evidence, Failing, Failure, Handler, event, http, trouble};
use crate::hooks::Boxed;
use crate::hooks::policy::{self, GrpcEndpoint};
use crate::lifecycle::Stage;

/// A hook server's answer says yes or no; this is plenty. What is sent is bounded by the API server's limit on a pod.
const ANSWER_CAP: usize = 64 * 1024;
/// How much of a server's words is kept.
const WORDS_CAP: usize = 1024;
/// When a peer that acknowledges nothing any more counts as lost. Without it a channel to a machine that vanished would take
/// its calls for a quarter of an hour. (Pings would be for nothing: servers forbid more than one in five minutes.)
const LOST: Duration = Duration::from_secs(30);

/// How long dialling and TLS may take. All calls share it, so that it must not wait for as long as TCP would.
const CONNECT: Duration = Duration::from_secs(5);

/// Succeeds when the server accepts.
pub(super) struct Grpc {
    node: Node,
    client: HookServiceClient<Channel>,
    peer: String,
}

impl Grpc {
    /// With a channel to its endpoint. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Fails for an address that is none, and for certificates and keys that are none.
    pub(super) fn new(node: Node, spec: &policy::Grpc, trust: &Trust) -> Result<Self, String> {
        let (channel, peer) = match &spec.endpoint {
            GrpcEndpoint::Unix(path) => {
                let socket = path.clone();
                let connect = tower::service_fn(move |_: Uri| {
                    let socket = socket.clone();
                    async move { UnixStream::connect(socket).await.map(TokioIo::new) }
                });
                let channel = endpoint(&Uri::from_static("http://localhost"))?.connect_with_connector_lazy(connect);
                (channel, format!("unix://{}", path.display()))
            }
            GrpcEndpoint::Tcp(address) => (over_tcp(address, spec, trust)?, address.clone()),
        };
        let client = HookServiceClient::new(channel).max_decoding_message_size(ANSWER_CAP);
        Ok(Self { node, client, peer })
    }

    fn request(&self, delivery: &Delivery, limit: Duration) -> Request<HandleRequest> {
        let Delivery { event, hook, .. } = delivery;
        let pod = v1::Pod {
            namespace: event.pod.namespace.clone(),
            name: event.pod.name.clone(),
            uid: event.pod.uid.clone(),
            labels: event.pod.labels.clone().into_iter().collect(),
            annotations: event::annotations(&event.pod).map(|(key, value)| (key.into(), value.into())).collect(),
            sandbox_id: event.pod.sandbox_id.clone(),
            runtime_handler: event.pod.runtime_handler.clone(),
        };
        let container = event.container.as_ref().map(|container| v1::Container {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
        });
        let mut request = Request::new(HandleRequest {
            event_id: delivery.event_id.to_string(),
            attempt: delivery.attempt,
            point: event.point.name().to_owned(),
            node: self.node.name.to_string(),
            policy: hook.policy.to_string(),
            hook: hook.name.to_string(),
            time: Some(event.at.wall.into()),
            // A duration that protobuf cannot hold is longer than any grace period.
            grace: event.grace.and_then(|grace| grace.try_into().ok()),
            pod: Some(pod),
            container,
            replay_of: delivery.replay_of.as_deref().unwrap_or_default().to_owned(),
        });
        request.set_timeout(limit);
        if let Some(trace) = &delivery.trace {
            trace.write(request.metadata_mut().as_mut());
        }
        request
    }

    fn verdict(delivery: &Delivery, answer: HandleResponse) -> Result<Evidence, Failure> {
        let Some(Verdict::Reject(reject)) = answer.verdict else { return Ok(Evidence::default()) };
        let reason = printable(&reject.reason);
        let message =
            if reason.is_empty() { "rejected without a reason".to_owned() } else { format!("rejected: {reason}") };
        // Where nothing can be refused any more, a rejection is a failure like any other.
        let kind = if delivery.event.point.stage == Stage::Pre { Failing::Rejected } else { Failing::Failed };
        Err(Failure::of(kind, message))
    }

    fn failure(&self, status: &Status, limit: Duration) -> Failure {
        let peer = &self.peer;
        match status.code() {
            Code::DeadlineExceeded => trouble::no_answer(peer, limit),
            // tonic measures the time by itself, too.
            _ if trouble::find::<TimeoutExpired>(status).is_some() => trouble::no_answer(peer, limit),
            // tonic's own statuses have a source; the server's have none.
            _ if status.source().is_some() => Failure::failed(trouble::words(status, peer)),
            Code::Unimplemented => Failure::failed(format!("{peer} does not serve crihook.v1.HookService")),
            code => {
                let said = printable(status.message());
                let said = if said.is_empty() { said } else { format!(": {said}") };
                Failure::failed(format!("{peer} answered {code:?}{said}"))
            }
        }
    }
}

impl Handler for Grpc {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let limit = delivery.deadline.saturating_duration_since(Instant::now());
            let asked = async {
                let mut client = self.client.clone();
                match client.handle(self.request(&delivery, limit)).await {
                    // The channel has noticed only now that its connection is gone. The next call dials.
                    Err(status) if trouble::never_sent(&status) => client.handle(self.request(&delivery, limit)).await,
                    answered => answered,
                }
            };
            match timeout_at(delivery.deadline, asked).await {
                Ok(Ok(answer)) => Self::verdict(&delivery, answer.into_inner()),
                Ok(Err(status)) => Err(self.failure(&status, limit)),
                Err(_) => Err(trouble::no_answer(&self.peer, limit)),
            }
        })
    }
}

fn endpoint(uri: &Uri) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from(uri.clone()).connect_timeout(CONNECT);
    endpoint.user_agent(http::USER_AGENT).map_err(|error| format!("no gRPC client: {error}"))
}

/// TLS is ours and not tonic's, so that it means the same as for `webhook`; tonic sees a plain `http` address, and the server
/// the right `:scheme`.
fn over_tcp(address: &str, spec: &policy::Grpc, trust: &Trust) -> Result<Channel, String> {
    let wrong = |_| format!("`{address}` is not HOST:PORT");
    let uri: Uri = format!("http://{address}").parse().map_err(wrong)?;
    let (Some(host), Some(port)) = (uri.host().map(str::to_owned), uri.port_u16()) else {
        return Err(format!("`{address}` is not HOST:PORT"));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let Some(tls) = &spec.tls else {
        let connect = tower::service_fn(move |_: Uri| {
            let host = host.clone();
            async move { dial(&host, port).await.map(TokioIo::new) }
        });
        return Ok(endpoint(&uri)?.connect_with_connector_lazy(connect));
    };
    let mut config = trust.config(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let name =
        ServerName::try_from(host.clone()).map_err(|_| format!("`{host}` is not a name that a server can have"))?;
    let connect = tower::service_fn(move |_: Uri| {
        let (host, name, connector) = (host.clone(), name.clone(), connector.clone());
        async move { connector.connect(name, dial(&host, port).await?).await.map(TokioIo::new) }
    });
    let origin: Uri = format!("https://{address}").parse().map_err(wrong)?;
    Ok(endpoint(&uri)?.origin(origin).connect_with_connector_lazy(connect))
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    setsockopt(&stream, sockopt::TcpUserTimeout, &u32::try_from(LOST.as_millis()).unwrap_or(u32::MAX))?;
    Ok(stream)
}

/// A server's words on one line, and no more than a kilobyte of them.
fn printable(words: &str) -> String {
    let end = words.floor_char_boundary(WORDS_CAP);
    words[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
