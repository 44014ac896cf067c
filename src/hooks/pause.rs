//! Hooks off, proxy on: until somebody says otherwise, over restarts.
//!
//! A file in the state directory says so, and its being there is what counts: one that cannot be read means paused, too, since somebody
//! wanted it. Who cannot write it down is told, and hooks are off all the same.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::{IntGauge, Registry};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// In the state directory.
const FILE: &str = "paused";

/// The metric of it.
///
/// # Errors
/// Fails if it is registered already.
pub fn register(registry: &Registry) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new("crihook_hooks_paused", "1 while hooks are off and calls just pass.")?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Since when hooks are off, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    /// When somebody paused them.
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether hooks are off. Cheap to clone, and to ask.
#[derive(Debug, Clone)]
pub struct Pause(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<Option<Paused>>,
    /// The same in short, for the data path, which takes no lock.
    paused: AtomicBool,
    gauge: IntGauge,
    directory: PathBuf,
    /// Held while the file is changed.
    file: Mutex<()>,
}

impl Pause {
    /// As this state directory has it. It reads a file.
    #[must_use]
    pub fn open(state_dir: &Path, gauge: IntGauge) -> Self {
        let found = recall(&state_dir.join(FILE));
        if let Some(paused) = &found {
            tracing::warn!(since = %humantime::format_rfc3339_seconds(paused.since), reason = paused.reason, "hooks are paused, and were before");
        }
        gauge.set(found.is_some().into());
        let paused = AtomicBool::new(found.is_some());
        let (state, directory) = (watch::Sender::new(found), state_dir.to_owned());
        Self(Arc::new(Inner { state, paused, gauge, directory, file: Mutex::default() }))
    }

    /// Whether hooks are off.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.0.paused.load(Ordering::Acquire)
    }

    /// Since when and why, if they are off.
    #[must_use]
    pub fn state(&self) -> Option<Paused> {
        self.0.state.borrow().clone()
    }

    /// Waits until hooks are on; returns at once if they are.
    pub async fn resumed(&self) {
        // It cannot fail: the sender is in here.
        let _ = self.0.state.subscribe().wait_for(Option::is_none).await;
    }

    /// Hooks are off from now on. If they are already, they stay so since then; a new reason takes the place of the old one. Gives whether
    /// that changed whether they are off. It is not written down yet: see [`Pause::keep`].
    #[allow(clippy::must_use_candidate, reason = "what it does matters more")]
    pub fn pause(&self, reason: Option<&str>) -> bool {
        let mut changed = false;
        self.0.state.send_modify(|state| {
            changed = state.is_none();
            let paused = state.get_or_insert_with(|| Paused { since: SystemTime::now(), reason: None });
            if let Some(reason) = reason {
                paused.reason = Some(reason.to_owned());
            }
            self.show(true);
        });
        if changed {
            tracing::warn!(reason, "hooks are paused");
        }
        changed
    }

    /// Hooks are on from now on. Gives since when and why they were off, if they were. It is not written down yet.
    #[allow(clippy::must_use_candidate, reason = "what it does matters more")]
    pub fn resume(&self) -> Option<Paused> {
        let mut was = None;
        self.0.state.send_modify(|state| {
            was = state.take();
            self.show(false);
        });
        if was.is_some() {
            tracing::info!("hooks are on again");
        }
        was
    }

    /// Within a change of the state, so that the short forms never disagree with it for good.
    fn show(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Release);
        self.0.gauge.set(paused.into());
    }

    /// Writes down how it is now, so that it outlives the process. The disk may take its time.
    ///
    /// # Errors
    /// What the system says: a restart will find what was written before.
    pub fn keep(&self) -> io::Result<()> {
        let _alone = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: the last one who writes writes the last state.
        let (state, file) = (self.state(), self.file());
        let Some(paused) = state else {
            return match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                Err(_) => Ok(()),
                Ok(()) => File::open(&self.0.directory)?.sync_all(),
            };
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0.directory)?;
        let draft = self.0.directory.join(format!(".{FILE}"));
        // What a crash has left.
        let _ = fs::remove_file(&draft);
        let mut writing = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writing.write_all(&serde_json::to_vec(&paused)?)?;
        writing.sync_all()?;
        fs::rename(&draft, &file)?;
        File::open(&self.0.directory)?.sync_all()
    }

    /// Where it is written down.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.0.directory.join(FILE)
    }
}

fn recall(file: &Path) -> Option<Paused> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!("{} cannot be read, so hooks stay on: {error}", file.display());
            return None;
        }
    };
    Some(serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!("{} is not what was written there; that it is there counts: {error}", file.display());
        let changed = fs::metadata(file).and_then(|found| found.modified());
        Paused { since: changed.unwrap_or_else(|_| SystemTime::now()), reason: None }
    }))
}

/// Times as documents have them, for serde's `with`.
pub mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// To microseconds.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_micros(*time))
    }

    /// Any RFC 3339 time in UTC.
    ///
    /// # Errors
    /// As the deserializer, and for other text.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn gauge() -> IntGauge {
        register(&Registry::new()).unwrap()
    }

    #[tokio::test]
    async fn it_is_found_again_with_its_reason_until_it_is_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let pause = Pause::open(&state, gauge());
        pause.resumed().await;
        assert!(pause.pause(Some("tests")));
        pause.keep().unwrap();
        assert_eq!(fs::metadata(pause.file()).unwrap().permissions().mode() & 0o777, 0o600);

        let (again, gauge) = (Pause::open(&state, gauge()), gauge());
        assert!(again.paused());
        let (kept, told) = (again.state().unwrap(), pause.state().unwrap());
        assert_eq!(kept.reason.as_deref(), Some("tests"));
        assert!(told.since.duration_since(kept.since).unwrap().as_millis() < 1, "to the microsecond");
        assert!(again.resume().is_some());
        again.keep().unwrap();
        again.resumed().await;
        assert!(!Pause::open(&state, gauge).paused());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn saying_it_twice_changes_nothing_but_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let pause = Pause::open(directory.path(), gauge());
        assert_eq!(pause.resume(), None);
        pause.keep().unwrap();
        assert!(pause.pause(Some("one")));
        let since = pause.state().unwrap().since;
        assert!(!pause.pause(None));
        assert_eq!(pause.state().unwrap(), Paused { since, reason: Some("one".into()) });
        assert!(!pause.pause(Some("two")));
        assert_eq!(pause.state().unwrap(), Paused { since, reason: Some("two".into()) });
        pause.keep().unwrap();
        pause.keep().unwrap();
    }

    #[test]
    fn a_damaged_file_means_paused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{").unwrap();
        let gauge = gauge();
        assert!(Pause::open(directory.path(), gauge.clone()).paused());
        assert_eq!(gauge.get(), 1);
    }

    #[test]
    fn what_cannot_be_written_down_holds_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("file");
        fs::write(&blocked, "").unwrap();
        let pause = Pause::open(&blocked.join("state"), gauge());
        pause.pause(None);
        assert!(pause.keep().is_err());
        assert!(pause.paused());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let pause = Pause::open(directory.path(), gauge());
        pause.pause(None);
        let waits = tokio::spawn({
            let pause = pause.clone();
            async move { pause.resumed().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        pause.resume();
        waits.await.unwrap();
    }
}
