//! What all metrics share: the registry, the buckets, and the families that describe the process itself.
//!
//! The metrics of a component stand beside it and are registered here by `app`. There is no global registry: a test
//! has its own.

use std::sync::Arc;
use std::thread;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntCounter, IntGauge, Opts, Registry, TextEncoder};

/// Seconds: from 50 µs, about what crihook itself takes, to 10 min, a long image pull.
pub const DURATION_BUCKETS: [f64; 22] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 120.0, 240.0, 600.0,
];

/// Bytes: from an id to CRI's limit of 16 MiB.
pub const SIZE_BUCKETS: [f64; 10] =
    [64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

/// The media type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A registry with `crihook_build_info` and `process_*` in it.
///
/// # Errors
/// Fails only if a name is malformed or registered twice, which is a mistake in this crate.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let info = IntGauge::with_opts(
        Opts::new("crihook_build_info", "Always 1; the label says which version is running.")
            .const_label("version", env!("CARGO_PKG_VERSION")),
    )?;
    info.set(1);
    registry.register(Box::new(info))?;
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(registry)
}

/// Bytes of text after which [`render`] makes way: all of the page takes a millisecond and more, which the data path need not wait for where both
/// threads share a core. Each time may cost the scrape some milliseconds on a busy machine.
const STRETCH: usize = 64 << 10;

/// The text that Prometheus scrapes.
///
/// # Errors
/// Fails if two families disagree about their type, which is a mistake in this crate.
pub fn render(registry: &Registry) -> prometheus::Result<Vec<u8>> {
    let (mut text, mut rested) = (Vec::new(), 0);
    for family in registry.gather() {
        TextEncoder::new().encode(&[family], &mut text)?;
        if text.len() - rested >= STRETCH {
            rested = text.len();
            thread::yield_now();
        }
    }
    Ok(text)
}

/// A counter that is kept elsewhere and read when scraped.
pub struct PulledCounter {
    counter: IntCounter,
    read: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl PulledCounter {
    /// `read` gives the present total; it must never fall.
    ///
    /// # Errors
    /// Fails if the name is malformed.
    pub fn new(name: &str, help: &str, read: impl Fn() -> u64 + Send + Sync + 'static) -> prometheus::Result<Self> {
        Ok(Self { counter: IntCounter::new(name, help)?, read: Arc::new(read) })
    }
}

impl Collector for PulledCounter {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.counter.inc_by((self.read)().saturating_sub(self.counter.get()));
        self.counter.collect()
    }
}
