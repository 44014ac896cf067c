//! What systemd hears by `sd_notify(3)`.

use sd_notify::NotifyState;
use tokio::time::interval;

use crate::drain::{Drain, Hold};
use crate::proxy::Heartbeat;

pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify systemd: {error}");
    }
}

/// Tells systemd that crihook is well, as long as the data path answers; while another process serves, that is the other one's business.
pub(super) async fn watchdog(heartbeat: Heartbeat, drain: Drain) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = interval(limit / 2);
    loop {
        ticks.tick().await;
        if drain.hold() == Hold::Ours && heartbeat.beat(limit / 2).await {
            notify(&[NotifyState::Watchdog]);
        }
    }
}
