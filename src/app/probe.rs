//! Whether the runtime is there: told as a metric and in the log, and imitated by the CRI socket's file.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{App, PROBE_LIMIT};
use crate::config::Config;
use crate::proxy::Listener;
use crate::runtime::Runtime;

/// How often the runtime is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(1);

impl App {
    /// Keeps `crihook_upstream_up` true, and the socket's file like the runtime's once there is one, for as long as this process serves.
    pub(super) fn probe(&self, runtime: Runtime) -> impl Future<Output = ()> + 'static {
        let (up, config, drain) = (self.upstream_up.clone(), self.config.clone(), self.drain.clone());
        let owns_file = self.sockets.cri.owns_file();
        let mut imitated = !owns_file || imitate(&config);
        async move {
            let (mut ticks, mut last) = (interval(PROBE_EVERY), None);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // While another process serves, the file is that one's.
            while drain.ours().await {
                ticks.tick().await;
                let found = runtime.version(PROBE_LIMIT).await;
                if drain.is_draining() {
                    // The socket's file may be gone by now, or another's.
                    continue;
                }
                up.set(i64::from(found.is_ok()));
                if last != Some(found.is_ok()) {
                    match &found {
                        Ok(found) => tracing::info!(name = found.name, version = found.version, "the runtime answers"),
                        Err(why) => tracing::warn!("the runtime at {} does not answer: {why}", config.runtime_endpoint),
                    }
                    imitated &= found.is_ok() || !owns_file;
                }
                last = Some(found.is_ok());
                if !imitated && found.is_ok() {
                    imitated = imitate(&config);
                }
            }
        }
    }

    /// Says at once what would otherwise be found out late.
    pub(super) fn look_at_endpoint(&self) {
        let runtime = self.config.runtime_endpoint.path();
        let is_socket = |found: std::fs::Metadata| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type());
        if std::fs::metadata(runtime).is_ok_and(|found| !is_socket(found)) {
            tracing::error!(
                "the runtime endpoint {} is not a socket: calls will fail until one is there; name the runtime's socket with --runtime-endpoint",
                runtime.display()
            );
        }
    }
}

fn imitate(config: &Config) -> bool {
    let (own, runtime) = (config.listen.path(), config.runtime_endpoint.path());
    Listener::imitate(own, runtime).unwrap_or_else(|error| {
        tracing::warn!("{} keeps its own owner and mode: {error}", own.display());
        true
    })
}
