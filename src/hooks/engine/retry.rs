//! Whether and when a failed attempt is followed by another: a decision without a clock or dice of its own.

use std::time::Duration;

use crate::hooks::handler::Failing;
use crate::hooks::policy::Retries;

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another, after this long.
    After(Duration),
    /// None: there are no more.
    Exhausted,
    /// None: it would fail as well.
    Useless,
    /// None: the budget ends before it could begin.
    NoTime,
}

/// What follows the attempt number `made`, which failed in the way of `kind`. `left` is the time until the budget ends, if there
/// is one; `random` is from 0 to 1.
pub(super) fn next(retries: &Retries, made: u32, kind: Failing, left: Option<Duration>, random: f64) -> Next {
    if matches!(kind, Failing::Rejected | Failing::Gone) {
        return Next::Useless;
    }
    if made >= retries.attempts {
        return Next::Exhausted;
    }
    let wait = backoff(retries, made, random);
    if left.is_some_and(|left| wait >= left) { Next::NoTime } else { Next::After(wait) }
}

/// Full jitter: anything from zero to a ceiling that doubles from attempt to attempt, so that the hooks of many containers that
/// failed together do not come back together.
fn backoff(retries: &Retries, made: u32, random: f64) -> Duration {
    let ceiling = ceiling(retries, made);
    Duration::try_from_secs_f64(ceiling.as_secs_f64() * random.clamp(0.0, 1.0)).unwrap_or(ceiling).min(ceiling)
}

fn ceiling(retries: &Retries, made: u32) -> Duration {
    1_u32
        .checked_shl(made.saturating_sub(1))
        .and_then(|factor| retries.backoff.checked_mul(factor))
        .map_or(retries.max_backoff, |grown| grown.min(retries.max_backoff))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries(attempts: u32, backoff: u64, max: u64) -> Retries {
        Retries { attempts, backoff: Duration::from_millis(backoff), max_backoff: Duration::from_millis(max) }
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        let retries = retries(9, 200, 5000);
        let most = |made| match next(&retries, made, Failing::Failed, None, 1.0) {
            Next::After(wait) => wait.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(most), [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(next(&retries, 1, Failing::TimedOut, None, 0.25), Next::After(Duration::from_millis(50)));
    }

    #[test]
    fn what_cannot_help_is_not_tried() {
        let retries = retries(3, 200, 5000);
        assert_eq!(next(&retries, 3, Failing::Failed, None, 0.5), Next::Exhausted);
        assert_eq!(next(&retries, 1, Failing::Rejected, None, 0.5), Next::Useless);
        assert_eq!(next(&retries, 1, Failing::Gone, None, 0.5), Next::Useless);
        assert_eq!(next(&retries, 1, Failing::Failed, Some(Duration::from_millis(100)), 0.5), Next::NoTime);
        assert_eq!(next(&retries, 1, Failing::Failed, Some(Duration::ZERO), 0.0), Next::NoTime);
    }

    proptest! {
        #[test]
        fn attempts_and_waits_keep_their_bounds(
            attempts in 1_u32..200, backoff in 0_u64..1_000_000_000, max in 0_u64..1_000_000_000,
            made in 1_u32..300, left in proptest::option::of(0_u64..2_000_000_000), random in 0.0..1.0_f64,
        ) {
            let retries = retries(attempts, backoff, max);
            let left = left.map(Duration::from_millis);
            match next(&retries, made, Failing::Failed, left, random) {
                Next::After(wait) => {
                    prop_assert!(made < attempts);
                    prop_assert!(wait <= retries.max_backoff);
                    prop_assert!(left.is_none_or(|left| wait < left));
                }
                Next::Exhausted => prop_assert!(made >= attempts),
                Next::NoTime => prop_assert!(left.is_some() && made < attempts),
                Next::Useless => prop_assert!(false, "a plain failure is worth another attempt"),
            }
            prop_assert!(ceiling(&retries, made) <= ceiling(&retries, made + 1), "waits never shrink");
        }
    }
}
