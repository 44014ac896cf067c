//! The composition root: binds, registers, composes, spawns, drains.
//!
//! Two runtimes share the process. The data path has a thread and a current-thread runtime of its own; everything else
//! runs on the caller's. They meet in atomics (metrics), in the drain's signals and in one channel (the heartbeat).

pub mod api;
mod hooks;
mod page;
mod probe;
mod sight;
mod sockets;
mod systemd;
mod traces;
pub mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use sd_notify::NotifyState;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::admin::{Admin, Checks, Report};
use crate::config::Config;
use crate::drain::{Drain, Hold};
use crate::hooks::engine::RunSeen;
use crate::interposer::Interposer;
use crate::journal::SqliteJournal;
use crate::metrics::{self, PulledCounter};
use crate::proxy::{self, Finished, Heartbeat, LatencyMetrics, Recorder, Shared, Tap};
use crate::runtime::Runtime;
use crate::trace::Tracer;

use api::Api;
use api::status::Sources;
use hooks::{Around, HookFamilies, Hooks};
use page::Page;
use sight::Sight;
use sockets::Sockets;
use systemd::{notify, watchdog};
use upgrade::{Inherited, Predecessor, Program, Requests, Upgrades};

/// How long it may take to say so.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long the data path may take to answer a heartbeat before it counts as stuck.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(5);
/// How long the end waits for the collector to take the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// How long the end waits for a copy of the policies that is being written.
const LAST_COPY: Duration = Duration::from_secs(5);

/// A crihook that has its socket and does not accept yet.
pub struct App {
    config: Config,
    sockets: Sockets,
    registry: Registry,
    latency: LatencyMetrics,
    connections: IntGaugeVec,
    upstream_up: IntGauge,
    hooks: HookFamilies,
    sight: Option<Sight>,
    drain: Drain,
    observer: Option<mpsc::Sender<Finished>>,
    run_observer: Option<mpsc::Sender<RunSeen>>,
    hangup: Option<mpsc::Receiver<()>>,
    predecessor: Predecessor,
    program: Option<Program>,
    upgrades: (Upgrades, Option<Requests>),
    journal: Option<Arc<SqliteJournal>>,
    started: (SystemTime, Instant),
}

impl App {
    /// Takes the CRI socket, the one thing without which crihook is of no use: the one that was inherited, or its own. What else cannot be had is
    /// said in the log.
    ///
    /// # Errors
    /// Fails if the socket cannot be listened on.
    pub fn bind(
        mut config: Config,
        inherited: Inherited,
        log_lines_dropped: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<Self> {
        raise_descriptor_limit();
        let predecessor = inherited.predecessor();
        let sockets = Sockets::open(&mut config, inherited)?;
        let registry = metrics::registry()?;
        let latency = LatencyMetrics::register(&registry)?;
        let connections = IntGaugeVec::new(
            Opts::new(
                "crihook_cri_connections",
                "Open connections: of clients (downstream), to the runtime (upstream).",
            ),
            &["side"],
        )?;
        registry.register(Box::new(connections.clone()))?;
        let upstream_up = IntGauge::new("crihook_upstream_up", "Whether the runtime answered when last asked.")?;
        registry.register(Box::new(upstream_up.clone()))?;
        registry.register(Box::new(PulledCounter::new(
            "crihook_log_lines_dropped_total",
            "Log lines that nobody read in time.",
            log_lines_dropped,
        )?))?;
        let hooks = HookFamilies::register(&registry)?;
        let (upgrades, requests) = Upgrades::new();
        let sight = Some(Sight::register(&registry)?);
        Ok(Self {
            config,
            sockets,
            registry,
            latency,
            connections,
            upstream_up,
            hooks,
            sight,
            drain: Drain::default(),
            observer: None,
            run_observer: None,
            hangup: None,
            predecessor,
            program: None,
            upgrades: (upgrades, Some(requests)),
            journal: None,
            started: (SystemTime::now(), Instant::now()),
        })
    }

    /// Hears of every run of a hook that ends from now on, as long as the receiver keeps up.
    #[must_use]
    pub fn observe_runs(mut self, observer: mpsc::Sender<RunSeen>) -> Self {
        self.run_observer = Some(observer);
        self
    }

    /// Reads the policies again whenever something comes from there; it does so by itself when their directory changes.
    #[must_use]
    pub fn reload_on(mut self, hangup: mpsc::Receiver<()>) -> Self {
        self.hangup = Some(hangup);
        self
    }

    /// Hears of every call that ends from now on, as long as the receiver keeps up.
    #[must_use]
    pub fn observe(mut self, observer: mpsc::Sender<Finished>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Can be upgraded from now on, by starting `program`.
    #[must_use]
    pub fn upgrade_by(mut self, program: Program) -> Self {
        self.program = Some(program);
        self
    }

    /// What asks it for an upgrade.
    #[must_use]
    pub fn upgrades(&self) -> Upgrades {
        self.upgrades.0.clone()
    }

    /// What ends it: `start` to finish what is there, `force` to stop at once.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Where metrics are served, unless the address could not be had.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.sockets.metrics.get().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until a drain is started and has finished, at the latest after the drain timeout; or until another process has taken over and
    /// what was there before has finished.
    ///
    /// # Errors
    /// Fails if the data path does.
    pub async fn run(mut self) -> Result<()> {
        self.look_at_endpoint();
        let runtime = Runtime::new(self.config.runtime_endpoint.path());
        let hangup = self.hangup.take().unwrap_or_else(|| mpsc::channel(1).1);
        let tracer = traces::start(&self.config, &self.registry);
        let (families, drain) = (self.hooks.clone(), self.drain.clone());
        let around = Around { families, runtime: runtime.clone(), drain, tracer: tracer.clone() };
        let (observer, lock) = (self.run_observer.take(), self.sockets.state.take());
        let hooks = Hooks::start(&self.config, around, observer, hangup, lock).await;
        let journal = Arc::clone(&hooks.journal);
        self.journal = Some(Arc::clone(&journal));
        // Nothing that could fail follows. Clients wait in the queue of the socket meanwhile.
        self.predecessor.relieve(&self.sockets.taken).await.context("the process before this one cannot be reached")?;
        let output = self.config.hooks.record_native_output;
        let (tap, looking) = self.sight.take().map(|sight| sight.start(&hooks, output)).unzip();
        let (heartbeat, mut ended) = self.start_data_path(hooks.interposer.clone(), tap, tracer.clone())?;
        let copies = hooks.copies.clone();
        tokio::spawn(self.probe(runtime.clone()));
        self.start_admin(runtime, hooks, &heartbeat, tracer.clone());
        tracing::info!(
            listen = %self.config.listen,
            runtime = %self.config.runtime_endpoint,
            images = self.config.image_endpoint.as_ref().map(tracing::field::display),
            version = env!("CARGO_PKG_VERSION"),
            pid = std::process::id(),
            "serving"
        );
        notify(&[NotifyState::Ready]);
        tokio::spawn(watchdog(heartbeat, self.drain.clone()));

        let requests = self.upgrades.1.take().context("it has run already")?;
        tokio::select! {
            // First: without clients the data path ends as soon as a drain starts.
            biased;
            () = self.serve(requests) => {}
            ended = &mut ended => return ended.context("the data path is gone")?,
        }
        if self.drain.hold() == Hold::Ours {
            tracing::info!("finishing the calls in flight, for {:?} at most", self.config.drain_timeout);
            notify(&[NotifyState::Stopping]);
            self.predecessor.release();
        }
        self.sockets.close();
        self.drain.start();
        let ended = if let Ok(ended) = timeout(self.config.drain_timeout, &mut ended).await {
            ended
        } else {
            tracing::warn!("some calls have not finished within {:?}; stopping anyway", self.config.drain_timeout);
            self.drain.force();
            ended.await
        };
        if let Some(looking) = looking {
            looking.finish().await;
        }
        copies.close();
        if timeout(LAST_COPY, copies.wait()).await.is_err() {
            tracing::warn!("the policies could not be copied to the state directory within {LAST_COPY:?}");
        }
        // Whatever could write has ended.
        journal.close().await;
        tracer.finish(LAST_SPANS).await;
        tracing::info!(pid = std::process::id(), "done");
        ended.context("the data path is gone")?
    }

    fn start_data_path(
        &mut self,
        interposer: Interposer,
        tap: Option<Tap>,
        tracer: Tracer,
    ) -> Result<(Heartbeat, oneshot::Receiver<Result<()>>)> {
        let socket = self.sockets.cri.handle().context("cannot use the CRI socket")?;
        let mut endpoints = vec![self.config.runtime_endpoint.path().to_owned()];
        endpoints.extend(self.config.image_endpoint.iter().map(|image| image.path().to_owned()));
        let interceptor = Arc::new(interposer);
        let (latency, observer, drain) = (self.latency.clone(), self.observer.take(), self.drain.clone());
        let [downstream, upstream] = ["downstream", "upstream"].map(|side| self.connections.with_label_values(&[side]));
        let (heartbeat, beats) = Heartbeat::new();
        let (done, ended) = oneshot::channel();
        let body = move || -> Result<()> {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            let recorder = Recorder::new(latency, observer, tap, tracer);
            let shared = Shared { endpoints, recorder, downstream, upstream, interceptor, drain };
            runtime.block_on(proxy::run(socket, shared, beats)).context("the CRI socket cannot be used")
        };
        thread::Builder::new().name("data".into()).spawn(move || done.send(body())).context("cannot start a thread")?;
        Ok((heartbeat, ended))
    }

    fn start_admin(&mut self, runtime: Runtime, hooks: Hooks, heartbeat: &Heartbeat, tracer: Tracer) {
        let [downstream, upstream] = ["downstream", "upstream"].map(|side| self.connections.with_label_values(&[side]));
        let sources = Arc::new(Sources {
            config: self.config.clone(),
            started: self.started,
            drain: self.drain.clone(),
            heartbeat: heartbeat.clone(),
            runtime: runtime.clone(),
            downstream,
            upstream,
            metrics: Arc::clone(&self.sockets.metrics),
            policies: hooks.health.clone(),
            engine: Arc::clone(&hooks.engine),
            pause: hooks.pause.clone(),
            journal: Arc::clone(&hooks.journal) as _,
            tracer,
        });
        let page = Page::start(Arc::clone(&sources), self.registry.clone()).serve();
        let api = Api::new(&hooks, sources, self.upgrades());
        let alive: Report = {
            let heartbeat = heartbeat.clone();
            Arc::new(move || {
                let heartbeat = heartbeat.clone();
                Box::pin(async move {
                    let mut checks = Checks::default();
                    check_heartbeat(&heartbeat, &mut checks).await;
                    checks
                })
            })
        };
        let ready: Report = {
            let (heartbeat, drain, config) = (heartbeat.clone(), self.drain.clone(), self.config.clone());
            Arc::new(move || {
                let (heartbeat, runtime, drain) = (heartbeat.clone(), runtime.clone(), drain.clone());
                let (policies, running, journal) = (hooks.policies(), hooks.running(), Hooks::journal(&*hooks.journal));
                let (listen, endpoint) = (config.listen.clone(), config.runtime_endpoint.clone());
                Box::pin(async move {
                    let mut checks = Checks::default();
                    let listening = !drain.is_draining();
                    let at =
                        if listening { format!("listening on {listen}") } else { "ending, takes no new calls".into() };
                    checks.add("cri", listening, at);
                    check_heartbeat(&heartbeat, &mut checks).await;
                    // Wrong policies, paused hooks and a journal in memory keep no call from succeeding.
                    checks.add("policies", true, policies);
                    checks.add("hooks", true, running);
                    checks.add("journal", true, journal);
                    match runtime.version(PROBE_LIMIT).await {
                        Ok(found) => {
                            checks.add("runtime", true, format!("{} {} at {endpoint}", found.name, found.version));
                        }
                        Err(why) => checks.add("runtime", false, format!("{endpoint} does not answer: {why}")),
                    }
                    checks
                })
            })
        };
        let admin = Admin { page, registry: self.registry.clone(), alive, ready, api: None };
        let metrics = Arc::clone(&self.sockets.metrics);
        tokio::spawn(sockets::serve_metrics(admin.clone(), metrics, self.config.metrics_addr, self.drain.clone()));
        if let Some(socket) = self.sockets.admin.as_ref().and_then(|admin| admin.handle().ok()) {
            tokio::spawn(sockets::serve_admin(Admin { api: Some(api.serve()), ..admin }, socket, self.drain.clone()));
        }
    }
}

/// Every connection takes two or three descriptors; the soft limit of 1024 is for programs that use select(2).
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files stays at {soft}");
    }
}

async fn check_heartbeat(heartbeat: &Heartbeat, checks: &mut Checks) {
    let beats = heartbeat.beat(HEARTBEAT_LIMIT).await;
    checks.add("data path", beats, if beats { "moving" } else { "does not answer" });
}
