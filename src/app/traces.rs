//! Puts the tracer together, if there is a collector.

use prometheus::Registry;

use crate::config::Config;
use crate::trace::{Exporter, Tracer};

/// A tracer that tells the config's collector. Nothing that is wrong with it keeps crihook from serving.
pub(super) fn start(config: &Config, registry: &Registry) -> Tracer {
    let Some(collector) = &config.otlp_endpoint else { return Tracer::default() };
    match Exporter::start(collector, &config.hooks.node_name, registry) {
        Ok(exporter) => Tracer::new(exporter),
        Err(error) => {
            let reason = format!("no traces, for they cannot be told to {collector}: {error:#}");
            tracing::error!("{reason}");
            Tracer::without(&reason)
        }
    }
}
