//! A collector of traces that a test reads spans back from: it takes OTLP over gRPC, or lets whoever tells it wait.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::until;

/// A span as it came, with its ids in hexadecimal digits and its values as text.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty at the root of a trace.
    pub parent: String,
    pub name: String,
    pub kind: otlp::span::SpanKind,
    /// In nanoseconds since 1970.
    pub time: (u64, u64),
    pub values: BTreeMap<String, String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Of whoever told it.
    pub resource: BTreeMap<String, String>,
}

/// See the module. It ends when it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    taken: Arc<Taken>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Taken {
    spans: Mutex<Vec<Span>>,
    hanging: AtomicBool,
}

impl Collector {
    /// On a port of its own.
    pub async fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), None).await
    }

    /// At this address, with this certificate and key.
    pub async fn at(address: SocketAddr, identity: Option<Identity>) -> Self {
        let listener = until("the address of the collector", || TcpListener::bind(address)).await;
        let (address, taken) = (listener.local_addr().expect("an address"), Arc::<Taken>::default());
        let mut server = Server::builder();
        if let Some(identity) = identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).expect("a certificate and its key");
        }
        let service = TraceServiceServer::from_arc(Arc::clone(&taken));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            server.add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
        });
        Self { address, taken, _serving: serving }
    }

    /// Whoever tells it waits from now on.
    pub fn hang(&self) {
        self.taken.hanging.store(true, Ordering::Relaxed);
    }

    /// As a flag has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that was told, in the order of its beginning.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.taken.spans.lock().expect("no panic while it is held").clone();
        spans.sort_by_key(|span| span.time);
        spans
    }

    /// Waits until so many spans of a trace were told.
    pub async fn trace(&self, id: &str, count: usize) -> Vec<Span> {
        until(&format!("{count} spans of the trace {id}"), || async {
            let all = self.spans();
            let of_it: Vec<_> = all.iter().filter(|span| span.trace == id).cloned().collect();
            if of_it.len() >= count { Ok(of_it) } else { Err(all) }
        })
        .await
    }
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn values(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        for told in request.into_inner().resource_spans {
            let resource = values(told.resource.unwrap_or_default().attributes);
            for span in told.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let failed = span.status.clone().filter(|status| status.code() == otlp::status::StatusCode::Error);
                self.spans.lock().expect("no panic while it is held").push(Span {
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    kind: span.kind(),
                    name: span.name,
                    time: (span.start_time_unix_nano, span.end_time_unix_nano),
                    values: values(span.attributes),
                    error: failed.map(|status| status.message),
                    resource: resource.clone(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
