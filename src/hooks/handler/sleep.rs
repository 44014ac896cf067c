//! `sleep`: waits.

use std::time::Duration;

use tokio::time::Instant;

use super::{Delivery, Evidence, Failing, Failure, Handler, trouble};
use crate::hooks::Boxed;

/// Waits for as long as it says; cut at the deadline.
#[derive(Debug)]
pub(super) struct Sleep(pub(super) Duration);

impl Handler for Sleep {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let left = delivery.deadline.saturating_duration_since(Instant::now());
            tokio::time::sleep(self.0.min(left)).await;
            if self.0 <= left {
                return Ok(Evidence::default());
            }
            let (wanted, left) = (trouble::span(self.0), trouble::span(left));
            Err(Failure::of(Failing::TimedOut, format!("a sleep of {wanted} was cut after {left}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::hooks::policy::Action;

    #[tokio::test(start_paused = true)]
    async fn it_takes_as_long_as_it_says() {
        let began = Instant::now();
        testing::attempt(Action::Sleep(Duration::from_secs(3))).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_beyond_the_deadline_is_cut_there() {
        let began = Instant::now();
        let failure = testing::attempt(Action::Sleep(Duration::from_mins(1))).await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert_eq!((failure.kind, failure.message.as_str()), (Failing::TimedOut, "a sleep of 1m was cut after 10s"));
    }
}
