//! What is counted and timed of calls: families, and what a method has of them.

use std::cell::OnceCell;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::cri::{Code, Method};
use crate::metrics::{DURATION_BUCKETS, SIZE_BUCKETS};

/// The families, before they are split by method.
#[derive(Clone)]
pub struct LatencyMetrics {
    pub(super) requests: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) upstream: HistogramVec,
    pub(super) hook_wait: HistogramVec,
    pub(super) client_wait: HistogramVec,
    pub(super) overhead: HistogramVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) bytes: HistogramVec,
    pub(super) passthrough: IntCounterVec,
}

impl LatencyMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// Fails if they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let labels = ["service", "method"];
        let histogram = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec());
            let family = HistogramVec::new(opts, &labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let metrics = Self {
            requests: counter(
                "crihook_cri_requests_total",
                "CRI calls that have ended, by gRPC status code.",
                &["service", "method", "code"],
            )?,
            duration: histogram(
                "crihook_cri_request_duration_seconds",
                "Whole calls, from the request's first sight to its last frame handed over.",
            )?,
            upstream: histogram("crihook_cri_upstream_duration_seconds", "The part of a call spent in the runtime.")?,
            hook_wait: histogram(
                "crihook_cri_hook_wait_seconds",
                "The part of a call spent waiting for blocking hooks, and until what is promised to others is on disk.",
            )?,
            client_wait: histogram(
                "crihook_cri_client_wait_seconds",
                "The part of a call spent waiting for a client that reads or writes slowly.",
            )?,
            overhead: histogram(
                "crihook_cri_overhead_seconds",
                "The part of a call spent in crihook: dialling, decoding, queueing, relaying.",
            )?,
            in_flight: IntGaugeVec::new(
                Opts::new("crihook_cri_requests_in_flight", "CRI calls that have begun and not ended."),
                &labels,
            )?,
            bytes: HistogramVec::new(
                HistogramOpts::new("crihook_cri_message_bytes", "Sizes of gRPC messages without their prefix.")
                    .buckets(SIZE_BUCKETS.to_vec()),
                &["service", "method", "direction"],
            )?,
            passthrough: counter(
                "crihook_cri_passthrough_total",
                "Messages that a policy asked for and that were passed on undecoded.",
                &["method", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        Ok(metrics)
    }

    /// Those of a method.
    pub(super) fn resolve(&self, method: Method) -> MethodMetrics {
        let (m, labels) = (self, [method.service().name(), method.name()]);
        let bytes = |direction| m.bytes.with_label_values(&[labels[0], labels[1], direction]);
        if method.is_lifecycle() {
            for reason in ["oversize", "compressed", "malformed"] {
                let _ = m.passthrough.with_label_values(&[method.name(), reason]);
            }
        }
        MethodMetrics {
            requests: [const { OnceCell::new() }; Code::COUNT],
            duration: m.duration.with_label_values(&labels),
            upstream: m.upstream.with_label_values(&labels),
            hook_wait: m.hook_wait.with_label_values(&labels),
            client_wait: m.client_wait.with_label_values(&labels),
            overhead: m.overhead.with_label_values(&labels),
            in_flight: m.in_flight.with_label_values(&labels),
            request_bytes: bytes("request"),
            response_bytes: bytes("response"),
        }
    }
}

/// One method's metrics, resolved at its first call, so that a call looks up no label and takes no lock.
pub struct MethodMetrics {
    pub(super) requests: [OnceCell<IntCounter>; Code::COUNT],
    pub(super) duration: Histogram,
    pub(super) upstream: Histogram,
    pub(super) hook_wait: Histogram,
    pub(super) client_wait: Histogram,
    pub(super) overhead: Histogram,
    pub(super) in_flight: IntGauge,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
}
