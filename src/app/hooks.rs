//! Puts the hooks together: runtime, handlers, engine, journal, interposer, and the policies that drive them.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntGauge, Registry};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Config;
use crate::drain::Drain;
use crate::hooks::engine::{Engine, RunSeen, Surroundings};
use crate::hooks::handler::{Workshop, default_node_address};
use crate::hooks::metrics::HookMetrics;
use crate::hooks::pause::{self, Pause};
use crate::hooks::policy::reload::{self, Health, Reloader};
use crate::interposer::Interposer;
use crate::inventory::Inventory;
use crate::journal::{Journal, JournalMetrics, Settings, SqliteJournal};
use crate::runtime::Runtime;
use crate::trace::Tracer;

use super::api::BEHIND;

/// How long serving waits for what is left in the journal. It is gone on with all the same when it comes later.
const OPENING: Duration = Duration::from_secs(2);

/// What hooks register before they run.
#[derive(Clone)]
pub(super) struct HookFamilies {
    hooks: HookMetrics,
    policies: reload::Metrics,
    journal: JournalMetrics,
    paused: IntGauge,
}

impl HookFamilies {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            hooks: HookMetrics::register(registry)?,
            policies: reload::Metrics::register(registry)?,
            journal: JournalMetrics::register(registry)?,
            paused: pause::register(registry)?,
        })
    }
}

/// What there is around hooks.
pub(super) struct Around {
    pub families: HookFamilies,
    pub runtime: Runtime,
    pub drain: Drain,
    pub tracer: Tracer,
}

/// Hooks that are at work.
pub(super) struct Hooks {
    pub interposer: Interposer,
    pub engine: Arc<Engine>,
    pub journal: Arc<SqliteJournal>,
    pub inventory: Arc<Inventory>,
    /// The ids of runs that end, hooks' and those of the pods' own.
    pub ended: broadcast::Sender<Arc<str>>,
    pub pause: Pause,
    pub health: watch::Receiver<Health>,
    /// Copies of policies that are being written.
    pub copies: TaskTracker,
}

impl Hooks {
    /// Reads the policies, puts them in force, and keeps up with them; goes on with what the journal says is left. `hangup` brings the requests
    /// to read policies again; `lock` is the state directory's, if another crihook has handed it over.
    pub async fn start(
        config: &Config,
        Around { families, runtime, drain, tracer }: Around,
        observer: Option<mpsc::Sender<RunSeen>>,
        hangup: mpsc::Receiver<()>,
        lock: Option<OwnedFd>,
    ) -> Self {
        let options = &config.hooks;
        let address: IpAddr = options.node_address.unwrap_or_else(default_node_address);
        let runtime = Arc::new(runtime);
        let workshop = Workshop::new(runtime.clone(), options.node_name.clone(), address);
        let pause = Pause::open(&config.state_dir, families.paused);
        let settings = Settings::new(config.state_dir.clone(), config.journal);
        let (journal, mut left) = SqliteJournal::open(settings, lock, families.journal);
        let around = Surroundings {
            runtime: runtime.clone(),
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            metrics: families.hooks,
            pause: pause.clone(),
            clock: Clock::system(),
            drain: drain.clone(),
            tracer,
        };
        let engine = Engine::new(options, around, move |hook| workshop.build(hook));
        if let Some(observer) = observer {
            engine.observe(observer);
        }
        let inventory = Arc::new(Inventory::new(runtime));
        let interposer =
            Interposer::new(Arc::clone(&engine), Arc::clone(&inventory), options.reserve, pause.clone(), drain);
        let (reloader, set) =
            Reloader::start(&config.hooks_dir, &config.state_dir, options.defaults, families.policies);
        interposer.activate(set);
        let (health, copies, applied) = (reloader.health(), reloader.copies(), interposer.clone());
        tokio::spawn(reloader.run(hangup, move |set| applied.activate(set)));
        // Before the first call: one that is repeated goes on with what its forerunner has left.
        if let Ok(Some(first)) = timeout(OPENING, left.recv()).await {
            interposer.recover(engine.adopt(first));
        } else {
            tracing::warn!("what the journal says is left is not known after {OPENING:?}; serving meanwhile");
        }
        let (heir, hooks) = (interposer.clone(), Arc::clone(&engine));
        tokio::spawn(async move {
            while let Some(left) = left.recv().await {
                heir.recover(hooks.adopt(left));
            }
        });
        let ended = broadcast::Sender::new(BEHIND);
        Self { interposer, engine, journal, inventory, ended, pause, health, copies }
    }

    /// For people: whether hooks run.
    pub fn running(&self) -> String {
        match self.pause.state() {
            None => "on".to_owned(),
            Some(paused) => {
                let reason = paused.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("paused since {}{reason}", humantime::format_rfc3339_seconds(paused.since))
            }
        }
    }

    /// For people: whether what hooks do is safe.
    pub fn journal(journal: &dyn Journal) -> String {
        let health = journal.health();
        match health.degraded {
            None => format!("{} runs in {}", health.runs, health.path.display()),
            Some((why, since)) => format!("degraded since {}: {why}", humantime::format_rfc3339_seconds(since)),
        }
    }

    /// For people: which policies are in force, and what is wrong with those that are not.
    pub fn policies(&self) -> String {
        let health = self.health.borrow();
        let from = if health.from_last_good { "not what the directory says, but the last good ones: " } else { "" };
        let mut text = format!("{from}{} policies with {} hooks", health.policies, health.hooks);
        if !health.errors.is_empty() {
            text += "; what is wrong:";
            for error in &health.errors {
                // The place and the message; the quoted line is in the log.
                text += "\n    ";
                text += error.lines().next().unwrap_or_default();
            }
        }
        text
    }
}
