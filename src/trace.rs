//! Traces: crihook's own spans below those of whoever called, told to a collector in OTLP over gRPC.
//!
//! ```text
//!   traceparent ─▶ Context ─▶ Tracer::enter ─▶ the call's own Context ─▶ child: upstream, hook wait, each attempt
//!                                                                              │ over: Tracer::tell(Span)
//!                                                        export: queue ─▶ batch ─▶ collector
//! ```
//!
//! Whoever called has decided whether a trace is recorded, and crihook keeps to that. A span is told once, when it is over, so that nothing of it is held
//! meanwhile but its [`Context`]. Telling never waits: what the collector does not take in time is dropped, and counted. Without a collector there are no contexts
//! and no spans, and nobody pays for them.

mod export;

pub use export::{Collector, Exporter};
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

/// The header, and the name under which a context is known elsewhere.
const TRACEPARENT: &str = "traceparent";
/// The bytes of a `tracestate` that are passed on (W3C Trace Context, section 3.3.1.5). A longer one is left out, lest whoever is asked refuses the headers.
const STATE: usize = 512;

/// A span as others refer to it: its trace, its id, and whether it is recorded. As text, a `traceparent` (W3C Trace Context, section 3.2).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Context(SpanContext);

impl Context {
    /// Of a trace of its own, which is recorded.
    fn root() -> Self {
        let ids = RandomIdGenerator::default();
        let (trace, span) = (ids.new_trace_id(), ids.new_span_id());
        Self(SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE))
    }

    /// Of a span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        let Self(parent) = self;
        let (span, state) = (RandomIdGenerator::default().new_span_id(), parent.trace_state().clone());
        Self(SpanContext::new(parent.trace_id(), span, parent.trace_flags(), false, state))
    }

    /// Whether its spans are told.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.0.is_sampled()
    }

    fn extract(carrier: &dyn Extractor) -> Option<Self> {
        let found = TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), carrier);
        let parent = found.span().span_context().clone();
        parent.is_valid().then_some(Self(parent))
    }

    fn inject(&self, carrier: &mut dyn Injector) {
        let context = opentelemetry::Context::new().with_remote_span_context(self.0.clone());
        TraceContextPropagator::new().inject_context(&context, carrier);
    }

    /// Writes it into the headers of a request, so that whoever is asked can go on with the trace. One that is there already stays.
    pub fn write(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(TRACEPARENT) {
            self.inject(&mut Headers(headers));
        }
    }

    /// The id of its trace, as logs and search fields have it: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        self.0.trace_id()
    }

    /// What log lines that are written inside of it carry.
    #[must_use]
    pub fn log(context: Option<&Self>) -> tracing::Span {
        context
            .map_or_else(tracing::Span::none, |context| tracing::error_span!("trace", trace_id = %context.trace_id()))
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut carrier = HashMap::new();
        self.inject(&mut carrier);
        f.write_str(carrier.get(TRACEPARENT).map_or("", String::as_str))
    }
}

impl FromStr for Context {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), text.to_owned())]);
        Self::extract(&carrier).ok_or_else(|| format!("`{text}` is not a traceparent"))
    }
}

impl From<Context> for String {
    fn from(context: Context) -> Self {
        context.to_string()
    }
}

impl TryFrom<String> for Context {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Headers of a request that was received.
struct Received<'a>(&'a HeaderMap);

impl Extractor for Received<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key).filter(|value| key == TRACEPARENT || value.len() <= STATE);
        value?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Headers of a request that is to be sent.
struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        // The propagator also writes a state that is empty.
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

/// Something that took time, and is over.
#[derive(Debug)]
pub struct Span {
    /// Itself.
    pub context: Context,
    /// What it is a part of.
    pub parent: Option<Context>,
    /// What it is, in few different words.
    pub name: Cow<'static, str>,
    /// On which side of a call it was.
    pub kind: SpanKind,
    /// When it began.
    pub begun: Instant,
    /// When it was over.
    pub ended: Instant,
    /// More about it; no secrets.
    pub attributes: Vec<KeyValue>,
    /// What went wrong, for people.
    pub error: Option<Cow<'static, str>>,
}

/// Begins and tells spans. Cheap to clone; the default has no collector.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    exporter: Option<Arc<Exporter>>,
    /// Why there is none though there should be.
    missing: Option<Arc<str>>,
}

impl Tracer {
    /// Tells spans to this exporter.
    #[must_use]
    pub fn new(exporter: Arc<Exporter>) -> Self {
        Self { exporter: Some(exporter), missing: None }
    }

    /// Tells nobody, for this reason.
    #[must_use]
    pub fn without(reason: &str) -> Self {
        Self { exporter: None, missing: Some(reason.into()) }
    }

    /// The contexts of a call that came with these headers, of its span and of the caller's. Without a caller's, a trace begins if
    /// `root` says so. `None`: it has no span.
    #[must_use]
    pub fn enter(&self, headers: &HeaderMap, root: impl FnOnce() -> bool) -> Option<(Context, Option<Context>)> {
        self.exporter.as_ref()?;
        match Context::extract(&Received(headers)) {
            Some(caller) => Some((caller.child(), Some(caller))),
            None => root().then(|| (Context::root(), None)),
        }
    }

    /// Has a span exported, if it is to be recorded.
    pub fn tell(&self, span: Span) {
        if let Some(exporter) = &self.exporter
            && span.context.is_recorded()
        {
            exporter.take(span);
        }
    }

    /// Why spans do not arrive; `None` while they do, or nobody wants them.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match &self.exporter {
            Some(exporter) => exporter.trouble(),
            None => self.missing.as_deref().map(str::to_owned),
        }
    }

    /// Exports what is left, for `limit` at most.
    pub async fn finish(self, limit: Duration) {
        if let Some(exporter) = self.exporter {
            let finished = tokio::task::spawn_blocking(move || exporter.finish(limit));
            let _ = finished.await;
        }
    }

    /// Whether there is somebody to tell.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.exporter.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_and_written_as_a_traceparent() {
        let parent: Context = PARENT.parse().unwrap();
        assert_eq!((parent.to_string(), parent.trace_id().to_string()), (PARENT.into(), PARENT[3..35].into()));
        let child = parent.child().to_string();
        assert_eq!((&child[..36], &child[52..]), (&PARENT[..36], "-01"), "the same trace, the same decision");
        assert_ne!(child, PARENT);
        for wrong in ["", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ü"] {
            assert!(wrong.parse::<Context>().is_err(), "{wrong}");
        }
        let document = serde_json::to_string(&parent).unwrap();
        assert_eq!(document, format!("\"{PARENT}\""));
        assert_eq!(serde_json::from_str::<Context>(&document).unwrap(), parent);
    }

    #[test]
    fn the_state_goes_with_the_context_and_none_is_made_up() {
        let headers = |state: Option<&str>| {
            let mut headers =
                HeaderMap::from_iter([("traceparent".parse().unwrap(), HeaderValue::from_static(PARENT))]);
            headers.extend(state.map(|state| (HeaderName::from_static("tracestate"), state.parse().unwrap())));
            headers
        };
        let long = |length| ["a=1", "b=2"].map(|member| format!("{member:x<length$}")).join(",");
        let (most, more) = (long(255), long(256));
        for (state, kept) in
            [(Some("vendor=x"), true), (None, true), (Some(most.as_str()), true), (Some(more.as_str()), false)]
        {
            let caller = Context::extract(&Received(&headers(state))).unwrap();
            let mut sent = HeaderMap::new();
            caller.child().write(&mut sent);
            assert_eq!(sent.get("tracestate").map(|state| state.to_str().unwrap()), state.filter(|_| kept));
            assert!(sent["traceparent"].to_str().unwrap().starts_with(&PARENT[..36]));
        }
    }

    #[test]
    fn a_traceparent_that_a_policy_asks_for_is_the_one_that_is_sent() {
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static(TRACEPARENT), "its own".parse().unwrap())]);
        PARENT.parse::<Context>().unwrap().write(&mut headers);
        let sent: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
        assert_eq!((sent, headers.len()), (vec![&HeaderValue::from_static("its own")], 1));
    }

    #[test]
    fn without_a_collector_there_are_no_spans() {
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), HeaderValue::from_static(PARENT))]);
        assert!(Tracer::default().enter(&headers, || true).is_none());
    }
}
