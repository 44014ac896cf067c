//! The measured shares of the calls of one method, as /metrics tells them.
use super::process::Crihook;
use super::stand::until;

/// Sums, in seconds, and how many calls they are of.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    pub calls: f64,
    pub duration: f64,
    pub upstream: f64,
    pub client_wait: f64,
    pub overhead: f64,
    pub hook_wait: f64,
}

impl Shares {
    /// Waits until `calls` calls of `method` are on record and none is in flight, and reads.
    pub async fn of(crihook: &Crihook, method: &str, calls: u32) -> Self {
        let labels = [("method", method)];
        until(&format!("{calls} calls of {method} on record"), || async {
            let page = crihook.metrics().await;
            let sum = |name: &str| page.sum(&format!("crihook_cri_{name}_seconds_sum"), &labels);
            let shares = Self {
                calls: page.sum("crihook_cri_request_duration_seconds_count", &labels),
                duration: sum("request_duration"),
                upstream: sum("upstream_duration"),
                client_wait: sum("client_wait"),
                overhead: sum("overhead"),
                hook_wait: sum("hook_wait"),
            };
            let in_flight = page.sum("crihook_cri_requests_in_flight", &labels);
            let all = shares.calls.total_cmp(&f64::from(calls)).is_ge() && in_flight.abs() < 0.5;
            if all { Ok(shares) } else { Err((shares, in_flight)) }
        })
        .await
    }

    /// The shares together are the duration, to a few milliseconds per call.
    pub fn assert_sum(&self) {
        let sum = self.upstream + self.client_wait + self.overhead + self.hook_wait;
        assert!((sum - self.duration).abs() < 0.005 * self.calls, "{sum} s are not the duration: {self:?}");
    }

    /// `share` holds the delay that the test made, and the others hold little. On a busy machine crihook sees the beginning of a
    /// delay later than who makes it, so a part may be missing.
    pub fn assert_in(&self, share: f64, delay: f64) {
        assert!(share >= delay * 0.7, "a delay of {delay} s is missing from its share of {share} s: {self:?}");
        let rest = self.duration - share;
        assert!(rest < delay / 2.0, "{rest} s are in other shares: {self:?}");
        self.assert_sum();
    }
}
