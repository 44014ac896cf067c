//! What time it is, so that an age can be told whatever becomes of the wall clock.
//!
//! Hooks that nobody got to for too long are given up. Were their age taken from the wall clock alone, one that jumps an hour ahead while crihook is
//! restarted would lose them all. So a [`Moment`] also says how long the machine had been up, which counts as long as it has not been booted since.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use nix::time::ClockId;
use serde::{Deserialize, Serialize};

/// A moment of the past or the present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// For people.
    pub wall: SystemTime,
    /// For arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<Uptime>,
}

/// How long a machine had been up, times of sleep included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// Since which boot; no two have the same.
    pub boot: Arc<str>,
    /// For how long.
    pub time: Duration,
}

impl From<SystemTime> for Moment {
    fn from(wall: SystemTime) -> Self {
        Self { wall, uptime: None }
    }
}

/// Where the time comes from; cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| Moment { wall: SystemTime::now(), uptime: uptime() })
    }

    /// One that tells what `now` says.
    pub fn new(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        (self.0)()
    }

    /// Now, for people.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        self.now().wall
    }

    /// How long ago that was; zero if it is still to come.
    #[must_use]
    pub fn age(&self, moment: &Moment) -> Duration {
        let now = self.now();
        match (&now.uptime, &moment.uptime) {
            (Some(now), Some(then)) if now.boot == then.boot => now.time.saturating_sub(then.time),
            _ => now.wall.duration_since(moment.wall).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

fn uptime() -> Option<Uptime> {
    static BOOT: LazyLock<Option<Arc<str>>> = LazyLock::new(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().into())
    });
    let time = ClockId::CLOCK_BOOTTIME.now().ok()?;
    Some(Uptime { boot: BOOT.clone()?, time: time.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: u64, boot: &str, up: u64) -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(wall);
        Moment { wall, uptime: Some(Uptime { boot: boot.into(), time: Duration::from_secs(up) }) }
    }

    fn age(now: &Moment, then: &Moment) -> u64 {
        let now = now.clone();
        Clock::new(move || now.clone()).age(then).as_secs()
    }

    #[test]
    fn an_age_does_not_jump_with_the_wall_clock() {
        let then = moment(10_000, "a", 500);
        assert_eq!(age(&moment(10_007, "a", 507), &then), 7);
        assert_eq!(age(&moment(13_607, "a", 507), &then), 7, "an hour ahead");
        assert_eq!(age(&moment(6_407, "a", 507), &then), 7, "an hour back");
    }

    #[test]
    fn after_a_boot_the_wall_clock_is_all_there_is() {
        let then = moment(10_000, "a", 500);
        assert_eq!(age(&moment(10_090, "b", 3), &then), 90);
        assert_eq!(age(&moment(9_000, "b", 3), &then), 0, "still to come");
        assert_eq!(age(&moment(10_090, "a", 999), &then.wall.into()), 90, "it is not known since when");
    }

    #[test]
    fn the_machine_says_how_long_it_has_been_up() {
        let (clock, first) = (Clock::system(), Clock::system().now());
        assert!(first.uptime.is_some());
        assert!(clock.age(&first) < Duration::from_hours(1));
    }
}
