//! Spans on their way to a collector: a bounded queue, batches, and a word when they do not arrive.
//!
//! OpenTelemetry's own batch processor does the work on a thread of its own, and its exporter speaks to the collector; both heed the environment variables that people know them
//! by (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_BSP_SCHEDULE_DELAY`, `OTEL_RESOURCE_ATTRIBUTES`, ...). What is here counts, and says
//! once what is wrong.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use http::Uri;
use opentelemetry::trace::{SpanContext, SpanId, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, OTEL_BSP_SCHEDULE_DELAY, SpanData, SpanEvents, SpanExporter, SpanLinks,
    SpanProcessor,
};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::transport::ClientTlsConfig;

use super::{Context, Span};

/// Spans that wait for the collector.
const QUEUE: usize = 2048;
/// The least time between batches: without any, the processor's thread would never rest.
const LEAST_DELAY: Duration = Duration::from_millis(10);

/// A collector that takes OTLP over gRPC, as `http://HOST:PORT` or `https://HOST:PORT`; without a scheme it is the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector(String);

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "write the address of a collector that takes OTLP over gRPC, as http://127.0.0.1:4317";
        if text.contains('@') {
            return Err(format!(
                "the address names a user; put what the collector asks for into OTEL_EXPORTER_OTLP_HEADERS, and {RIGHT}"
            ));
        }
        let (scheme, address) = text.split_once("://").unwrap_or(("http", text));
        if !matches!(scheme, "http" | "https") {
            return Err(format!("`{text}` is neither http:// nor https://; {RIGHT}"));
        }
        let uri: Uri =
            format!("{scheme}://{address}").parse().map_err(|_| format!("`{text}` is not an address; {RIGHT}"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if uri.port_u16().is_none() || uri.host().is_none_or(str::is_empty) {
            return Err(format!("`{text}` does not name a host and a port; {RIGHT}"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("`{text}` has a path, which gRPC chooses by itself; {RIGHT}"));
        }
        Ok(Self(format!("{scheme}://{authority}")))
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What has become of spans.
#[derive(Debug, Clone)]
struct Counters {
    exported: IntCounter,
    failed: IntCounter,
    dropped: IntCounter,
}

/// Takes spans and brings them to a collector.
#[derive(Debug)]
pub struct Exporter {
    processor: BatchSpanProcessor,
    collector: Collector,
    scope: InstrumentationScope,
    /// Spans that the processor holds.
    waiting: Arc<AtomicUsize>,
    counters: Counters,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Exporter {
    /// Begins to export to this collector, as the node of that name. It is dialled when there is something to tell. Must be called within a tokio
    /// runtime, which does the work of the connection.
    ///
    /// # Errors
    /// Fails if the environment's settings of the exporter cannot be used, and if its metrics are registered already.
    pub fn start(collector: &Collector, node: &str, registry: &Registry) -> anyhow::Result<Arc<Self>> {
        let runtime = Handle::try_current().context("there is no runtime")?;
        let counters = Counters::register(registry)?;
        let limit = [OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT].into_iter().find_map(milliseconds);
        let limit = limit.unwrap_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT);
        let mut exporter = client(collector, limit)?;
        exporter.set_resource(&resource(node));
        let waiting = Arc::new(AtomicUsize::new(0));
        let trouble = Arc::default();
        let watched = Watched {
            exporter: Arc::new(exporter),
            runtime,
            limit,
            collector: collector.clone(),
            waiting: Arc::clone(&waiting),
            counters: counters.clone(),
            trouble: Arc::clone(&trouble),
        };
        let mut config = BatchConfigBuilder::default().with_max_queue_size(QUEUE);
        if let Some(delay) = milliseconds(OTEL_BSP_SCHEDULE_DELAY) {
            config = config.with_scheduled_delay(delay.max(LEAST_DELAY));
        }
        let processor = BatchSpanProcessor::builder(watched).with_batch_config(config.build()).build();
        let scope = InstrumentationScope::builder("crihook").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Arc::new(Self { processor, collector: collector.clone(), scope, waiting, counters, trouble }))
    }

    /// Takes a span, or drops it if too many wait.
    pub(super) fn take(&self, span: Span) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.dropped.inc();
            return;
        }
        self.processor.on_end(self.data(span));
    }

    fn data(&self, span: Span) -> SpanData {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let at = |at: Instant| wall.checked_sub(now.saturating_duration_since(at)).unwrap_or(wall);
        let parent = span.parent.as_ref().map(|Context(parent)| parent);
        SpanData {
            parent_span_id: parent.map_or(SpanId::INVALID, SpanContext::span_id),
            parent_span_is_remote: parent.is_some_and(SpanContext::is_remote),
            span_context: span.context.0,
            span_kind: span.kind,
            name: span.name,
            start_time: at(span.begun),
            end_time: at(span.ended),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// Why spans do not arrive; `None` while they do.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Exports what is left, for `limit` at most. It blocks, and not on the thread of the runtime that it was started in.
    pub fn finish(&self, limit: Duration) {
        if let Err(OTelSdkError::Timeout(_)) = self.processor.shutdown_with_timeout(limit) {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            if trouble.is_none() {
                let what = format!("the last traces did not arrive at {} within {limit:?}", self.collector);
                tracing::warn!("{what}");
                *trouble = Some(what);
            }
        }
    }
}

fn client(collector: &Collector, limit: Duration) -> Result<opentelemetry_otlp::SpanExporter, ExporterBuildError> {
    let builder = opentelemetry_otlp::SpanExporter::builder().with_tonic();
    let builder = builder.with_endpoint(collector.to_string()).with_timeout(limit);
    let secure = collector.0.starts_with("https:");
    if secure { builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots()) } else { builder }.build()
}

/// A time that the environment sets, as OpenTelemetry writes them.
fn milliseconds(variable: &str) -> Option<Duration> {
    std::env::var(variable).ok()?.parse().ok().map(Duration::from_millis)
}

/// Who tells the spans.
fn resource(node: &str) -> Resource {
    let own = [
        KeyValue::new("service.name", "crihook"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("k8s.node.name", node.to_owned()),
    ];
    // An empty variable is as good as none.
    let named = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let named = named.map(|name| KeyValue::new("service.name", name));
    let detectors: [Box<dyn ResourceDetector>; 2] =
        [Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())];
    Resource::builder_empty().with_attributes(own).with_detectors(&detectors).with_attributes(named).build()
}

/// The exporter, with an eye on what comes of it.
#[derive(Debug)]
struct Watched {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    /// Where it does its work.
    runtime: Handle,
    /// How long a batch may take, the connection included: the exporter's own limit begins once there is one.
    limit: Duration,
    collector: Collector,
    waiting: Arc<AtomicUsize>,
    counters: Counters,
    trouble: Arc<Mutex<Option<String>>>,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let (exporter, limit) = (Arc::clone(&self.exporter), self.limit);
        let exporting = self.runtime.spawn(async move { timeout(limit, exporter.export(batch)).await });
        let result = match exporting.await {
            Ok(Ok(result)) => result,
            Ok(Err(_elapsed)) => Err(OTelSdkError::Timeout(limit)),
            Err(ended) => Err(OTelSdkError::InternalFailure(ended.to_string())),
        };
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let counter = if result.is_ok() { &self.counters.exported } else { &self.counters.failed };
        counter.inc_by(spans as u64);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Err(error) if trouble.is_none() => {
                let what = format!("traces do not arrive at {}: {}", self.collector, words(error));
                tracing::warn!("{what}; calls go on, and their spans are lost until it takes them");
                *trouble = Some(what);
            }
            Ok(()) if trouble.take().is_some() => tracing::info!("traces arrive at {} again", self.collector),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(limit)
    }
}

/// What went wrong, without the names of the library's parts.
fn words(error: &OTelSdkError) -> String {
    let text = match error {
        OTelSdkError::InternalFailure(text) => text.clone(),
        OTelSdkError::Timeout(limit) => format!("timeout, it has not taken them within {limit:?}"),
        OTelSdkError::AlreadyShutdown => error.to_string(),
    };
    text.split_once("gRPC code: ").map_or_else(|| text.clone(), |(_, what)| what.to_owned())
}

impl Counters {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "crihook_trace_spans_total",
            "Spans that the collector has taken, has not taken, or was too slow for.",
        );
        let spans = IntCounterVec::new(opts, &["result"])?;
        registry.register(Box::new(spans.clone()))?;
        let [exported, failed, dropped] =
            ["exported", "failed", "dropped"].map(|result| spans.with_label_values(&[result]));
        Ok(Self { exported, failed, dropped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        let read = |text: &str| text.parse::<Collector>();
        for (text, url) in [
            ("127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("http://[::1]:4317/", "http://[::1]:4317"),
            ("https://otel.example:443", "https://otel.example:443"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), url);
        }
        for (text, why) in [
            ("otel.example", "does not name a host and a port"),
            ("http://:4317", "does not name a host and a port"),
            ("unix:///run/otel.sock", "neither http:// nor https://"),
            ("http://otel.example:4318/v1/traces", "has a path"),
            ("", "is not an address"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(why) && told.ends_with("as http://127.0.0.1:4317"), "{text}: {told}");
        }
        for text in ["http://me:hunter2@otel.example:4317", "grpc://me:hunter2@otel.example:4317", "me:hunter2@ otel"] {
            let told = read(text).unwrap_err();
            assert!(told.contains("names a user") && !told.contains("hunter2"), "{told}");
        }
    }
}
