//! Which policies hold now: read at start, read again on SIGHUP and when the directory changes.
//!
//! All documents are read and validated, and the new set takes the place of the old one at once. If anything is wrong, nothing changes:
//! the last good set stays, each mistake goes to the log, and the [`Health`] says so. A start finds the last good set in the state directory.
//!
//! What is not watched: files that a policy names (certificates), and files elsewhere that a link in the directory leads to. For those there is
//! SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::PolicySet;
use super::diagnostic::Diagnostic;
use super::last_good::LastGood;
use super::load::{Loaded, load};
use crate::hooks::Defaults;

/// A burst of changes is over when nothing has changed for this long.
const QUIET: Duration = Duration::from_millis(100);
/// A directory that never is quiet is read after this time all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// Mistakes that [`Health`] holds.
const MOST_ERRORS: usize = 20;

/// How the policies are, for readiness details and `crihook status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Of the set that holds.
    pub hash: String,
    /// When it was read.
    pub loaded_at: SystemTime,
    /// How many policies it has.
    pub policies: usize,
    /// How many hooks they have.
    pub hooks: usize,
    /// What is wrong with the documents in the directory; empty if nothing is.
    pub errors: Vec<String>,
    /// The set that holds is not what the directory says, but the last one that was good.
    pub from_last_good: bool,
}

/// The policies' own metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    reloads: IntCounterVec,
    well: IntGauge,
    info: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// Fails only if they are registered twice, which is a mistake in this crate.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reloads = Opts::new(
            "crihook_policy_reloads_total",
            "How often policies were read, the start included: with success, or with an error, after which the last good set stays.",
        );
        let info = Opts::new("crihook_policy_info", "Always 1; the label says which set of policies holds.");
        let metrics = Self {
            reloads: IntCounterVec::new(reloads, &["result"])?,
            well: IntGauge::new(
                "crihook_policy_last_reload_successful",
                "Whether the policies were right when they were last read; while they are not, older ones hold, or none.",
            )?,
            info: IntGaugeVec::new(info, &["hash"])?,
        };
        for result in ["success", "error"] {
            metrics.reloads.with_label_values(&[result]);
        }
        registry.register(Box::new(metrics.reloads.clone()))?;
        registry.register(Box::new(metrics.well.clone()))?;
        registry.register(Box::new(metrics.info.clone()))?;
        Ok(metrics)
    }

    fn read(&self, well: bool) {
        self.reloads.with_label_values(&[if well { "success" } else { "error" }]).inc();
        self.well.set(well.into());
    }

    fn holds(&self, hash: &str) {
        self.info.reset();
        self.info.with_label_values(&[hash]).set(1);
    }
}

/// Reads policies, again and again.
pub struct Reloader {
    directory: PathBuf,
    defaults: Defaults,
    kept: LastGood,
    keeper: std::sync::mpsc::Sender<(Loaded, TaskTrackerToken)>,
    copies: TaskTracker,
    metrics: Metrics,
    health: watch::Sender<Health>,
    changed: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
}

impl Reloader {
    /// Reads the policies for the first time: those of the directory, or if anything is wrong with them, the last good ones, or if
    /// there are none, none. It reads files and may take a moment.
    #[must_use]
    pub fn start(directory: &Path, state: &Path, defaults: Defaults, metrics: Metrics) -> (Self, PolicySet) {
        let nothing = Health {
            hash: String::new(),
            loaded_at: SystemTime::now(),
            policies: 0,
            hooks: 0,
            errors: vec![],
            from_last_good: false,
        };
        let mut reloader = Self {
            directory: directory.to_owned(),
            defaults,
            keeper: keeper(LastGood::below(state)),
            copies: TaskTracker::new(),
            kept: LastGood::below(state),
            metrics,
            health: watch::Sender::new(nothing),
            changed: Arc::new(Notify::new()),
            watcher: None,
        };
        // First: what changes while it is read is then read again.
        reloader.watcher = watch(directory, &reloader.changed);
        let set = match load(directory, &defaults) {
            Ok(loaded) => reloader.accept(loaded),
            Err(mistakes) => {
                reloader.refuse(&mistakes);
                reloader.recall()
            }
        };
        (reloader, set)
    }

    /// How they are.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Copies that are still being written, to be waited for, though not for long: their disk may hang.
    #[must_use]
    pub fn copies(&self) -> TaskTracker {
        self.copies.clone()
    }

    /// Reads them again whenever the directory has changed, and for each message of `hangup`. `apply` gets each good set, and nothing else.
    /// It never ends.
    pub async fn run(mut self, mut hangup: mpsc::Receiver<()>, apply: impl Fn(PolicySet)) {
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => tracing::info!("told to read the policies again"),
                () = self.changed.notified() => settle(&self.changed).await,
            }
            let (directory, defaults, changed) = (self.directory.clone(), self.defaults, Arc::clone(&self.changed));
            // The directory may be another one than before, so it is watched anew; and before it is read, as at the start.
            let reading = move || (watch(&directory, &changed), load(&directory, &defaults));
            let read = tokio::task::spawn_blocking(reading).await;
            match read {
                Ok((watcher, read)) => {
                    self.watcher = watcher;
                    match read {
                        Ok(loaded) => apply(self.accept(loaded)),
                        Err(mistakes) => self.refuse(&mistakes),
                    }
                }
                Err(error) => self.refuse(&[Diagnostic::of_file(&self.directory, error.to_string())]),
            }
        }
    }

    /// A good set holds from now on.
    fn accept(&self, loaded: Loaded) -> PolicySet {
        self.metrics.read(true);
        self.hold(&loaded.set, vec![], false);
        let set = loaded.set.clone();
        // The keeper ends with this.
        let _ = self.keeper.send((loaded, self.copies.token()));
        set
    }

    /// Nothing changes but what is said.
    fn refuse(&self, mistakes: &[Diagnostic]) {
        self.metrics.read(false);
        for mistake in mistakes {
            tracing::error!(
                file = %mistake.file.display(),
                line = mistake.line,
                column = mistake.column,
                help = mistake.help,
                "wrong policy: {}",
                mistake.message
            );
        }
        tracing::error!("the policies in {} are not used; the last good ones stay", self.directory.display());
        self.health.send_modify(|health| {
            health.errors = mistakes.iter().take(MOST_ERRORS).map(Diagnostic::brief).collect();
            let more = mistakes.len().saturating_sub(MOST_ERRORS);
            if more > 0 {
                health.errors.push(format!("and {more} mistakes more"));
            }
            health.from_last_good = true;
        });
    }

    /// The set that a run before this one has kept.
    fn recall(&self) -> PolicySet {
        let errors = self.health.borrow().errors.clone();
        let set = match self.kept.load(&self.defaults) {
            Ok(Some(loaded)) => loaded.set,
            Ok(None) => {
                tracing::error!("there are no last good policies: no hooks run");
                PolicySet::default()
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    tracing::error!("the last good policies cannot be used: {}", mistake.brief());
                }
                tracing::error!("no hooks run");
                PolicySet::default()
            }
        };
        let found = !set.hash.is_empty();
        self.hold(&set, errors, found);
        set
    }

    fn hold(&self, set: &PolicySet, errors: Vec<String>, from_last_good: bool) {
        let (policies, hooks) = (set.policies.len(), set.hooks());
        tracing::info!(policies, hooks, hash = set.hash, "policies hold");
        if !set.hash.is_empty() {
            self.metrics.holds(&set.hash);
        }
        let (hash, loaded_at) = (set.hash.clone(), SystemTime::now());
        self.health.send_replace(Health { hash, loaded_at, policies, hooks, errors, from_last_good });
    }
}

/// Keeps what it is sent on a thread of its own, the newest last: the state directory's disk may be slow or hang, and neither calls nor
/// hooks wait for it.
fn keeper(kept: LastGood) -> std::sync::mpsc::Sender<(Loaded, TaskTrackerToken)> {
    let (keeper, sent) = std::sync::mpsc::channel::<(Loaded, TaskTrackerToken)>();
    let keep = move || {
        while let Ok(first) = sent.recv() {
            let (newest, _under_way) = sent.try_iter().last().unwrap_or(first);
            if let Err(error) = kept.keep(&newest) {
                tracing::warn!(
                    "cannot keep a copy of the policies; a restart will not find them if the directory is wrong then: {error}"
                );
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("policies".into()).spawn(keep) {
        tracing::warn!("cannot keep copies of policies: {error}");
    }
    keeper
}

/// Waits until a burst of changes is over.
async fn settle(changed: &Notify) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && timeout(QUIET, changed.notified()).await.is_ok() {}
}

/// Tells of changes of the directory, also when it is made later, replaced, or a link on the way to it is.
fn watch(directory: &Path, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let real = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let places = [directory.to_owned(), real];
    let (notify, ours) = (Arc::clone(changed), places.clone());
    let handler = move |event: notify::Result<notify::Event>| {
        // An error is a lost event: better to read once too often.
        if event.map_or(true, |event| concerns(&event, &ours)) {
            notify.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(handler)
        .inspect_err(|error| tracing::warn!("cannot watch the hooks directory; SIGHUP reloads it: {error}"))
        .ok()?;
    let mut done = Vec::new();
    for place in places.iter().flat_map(|place| place.ancestors()) {
        // The root is busy and is never replaced; it is watched only if nothing below it is there.
        let needed = place.parent().is_some() || done.is_empty();
        if needed && !done.contains(&place) && place.is_dir() {
            if let Err(error) = watcher.watch(place, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}; SIGHUP reloads the policies: {error}", place.display());
            }
            done.push(place);
        }
    }
    Some(watcher)
}

/// Whether an event may change what is read.
fn concerns(event: &notify::Event, places: &[PathBuf]) -> bool {
    match event.kind {
        // Reading is no change; above all, our own reading is none.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        _ if event.need_rescan() => return true,
        _ => {}
    }
    event.paths.iter().any(|path| {
        places.iter().any(|place| {
            place.starts_with(path)
                || path.parent() == Some(place) && {
                    // A ConfigMap's files change by a link called `..data`.
                    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                    name.starts_with(b"..") || !name.starts_with(b".") && name.ends_with(b".yaml")
                }
        })
    })
}

#[cfg(test)]
mod tests;
