//! Waiting for a condition, with a deadline and never for a fixed time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Far more than anything here takes: two slow cores shared with a compiler still pass.
pub const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `attempt` until it gives `Ok`, and returns that.
///
/// # Panics
/// After [`PATIENCE`], with `what` and the last error.
pub async fn until<T, E: Debug>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(began.elapsed() < PATIENCE, "still waiting for {what}: {error:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`until`] for places without a runtime, such as `Drop`: the last error is returned.
pub fn until_blocking<T, E>(patience: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(_) if began.elapsed() < patience => std::thread::sleep(PAUSE),
            last => return last,
        }
    }
}
