//! The composition root: binds, registers, composes, spawns, drains.
//!
//! Two runtimes share the process. The data path has a thread and a current-thread runtime of its own; everything else
//! runs on the caller's. They meet in atomics (metrics), in the drain's signals and in one channel (the heartbeat).

pub mod api;
mod hooks;
mod sight;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep, timeout};

use crate::admin::{Admin, Checks, Report};
use crate::config::Config;
use crate::drain::Drain;
use crate::hooks::engine::RunSeen;
use crate::interposer::Interposer;
use crate::metrics::{self, PulledCounter};
use crate::proxy::{self, Finished, Heartbeat, LatencyMetrics, Listener, Recorder, Shared, Tap};
use crate::runtime::Runtime;

use api::Api;
use api::status::Sources;
use hooks::{HookFamilies, Hooks};
use sight::Sight;

/// How often the runtime is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long the data path may take to answer a heartbeat before it counts as stuck.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(5);
/// How long the end waits for a copy of the policies that is being written.
const LAST_COPY: Duration = Duration::from_secs(5);
/// How often a metrics address that is in use is tried again.
const REBIND_EVERY: Duration = Duration::from_secs(5);

/// A crihook that has its socket and does not accept yet.
pub struct App {
    config: Config,
    listener: Listener,
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
    metrics: Option<std::net::TcpListener>,
    started: (SystemTime, Instant),
}

impl App {
    /// Takes the CRI socket, the one thing without which crihook is of no use. What else cannot be had is said in the log.
    ///
    /// # Errors
    /// Fails if the socket cannot be listened on.
    pub fn bind(config: Config, log_lines_dropped: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self> {
        raise_descriptor_limit();
        let listener = Listener::bind(config.listen.path())?;
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
        let metrics = bind_metrics(config.metrics_addr)
            .inspect_err(|error| {
                tracing::error!(
                    "cannot serve metrics on {}: {error}; serving calls without, and trying again every {REBIND_EVERY:?}",
                    config.metrics_addr
                );
            })
            .ok();
        let hooks = HookFamilies::register(&registry)?;
        let sight = Some(Sight::register(&registry)?);
        Ok(Self {
            config,
            listener,
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
            metrics,
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

    /// What ends it: `start` to finish what is there, `force` to stop at once.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Where metrics are served, unless the address could not be had.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until a drain is started and has finished, at the latest after the drain timeout.
    ///
    /// # Errors
    /// Fails if the data path does.
    pub async fn run(mut self) -> Result<()> {
        imitate(&self.config);
        self.prepare_directories();
        let runtime = Runtime::new(self.config.runtime_endpoint.path());
        let hangup = self.hangup.take().unwrap_or_else(|| mpsc::channel(1).1);
        let families = self.hooks.clone();
        let hooks = Hooks::start(&self.config, families, &runtime, &self.drain, self.run_observer.take(), hangup);
        let output = self.config.hooks.record_native_output;
        let (tap, looking) = self.sight.take().map(|sight| sight.start(&hooks, output)).unzip();
        let (heartbeat, mut ended) = self.start_data_path(hooks.interposer.clone(), tap)?;
        let copies = hooks.copies.clone();
        tokio::spawn(probe(runtime.clone(), self.upstream_up.clone(), self.config.clone(), self.drain.clone()));
        self.start_admin(runtime, hooks, &heartbeat);
        tracing::info!(
            listen = %self.config.listen,
            runtime = %self.config.runtime_endpoint,
            images = self.config.image_endpoint.as_ref().map(tracing::field::display),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );
        notify(&[NotifyState::Ready]);
        tokio::spawn(watchdog(heartbeat));

        tokio::select! {
            // First: without clients the data path ends as soon as a drain starts.
            biased;
            () = self.drain.draining().cancelled() => {}
            ended = &mut ended => return ended.context("the data path is gone")?,
        }
        tracing::info!("finishing the calls in flight, for {:?} at most", self.config.drain_timeout);
        notify(&[NotifyState::Stopping]);
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
        tracing::info!("done");
        ended.context("the data path is gone")?
    }

    fn start_data_path(
        &mut self,
        interposer: Interposer,
        tap: Option<Tap>,
    ) -> Result<(Heartbeat, oneshot::Receiver<Result<()>>)> {
        let socket = self.listener.accepting().context("cannot use the CRI socket")?;
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
            let recorder = Recorder::new(latency, observer, tap);
            let shared = Shared { endpoints, recorder, downstream, upstream, interceptor, drain };
            runtime.block_on(proxy::run(socket, shared, beats)).context("the CRI socket cannot be used")
        };
        thread::Builder::new().name("data".into()).spawn(move || done.send(body())).context("cannot start a thread")?;
        Ok((heartbeat, ended))
    }

    fn start_admin(&mut self, runtime: Runtime, hooks: Hooks, heartbeat: &Heartbeat) {
        let metrics_served = Arc::new(AtomicBool::new(self.metrics.is_some()));
        let [downstream, upstream] = ["downstream", "upstream"].map(|side| self.connections.with_label_values(&[side]));
        let sources = Sources {
            config: self.config.clone(),
            started: self.started,
            drain: self.drain.clone(),
            heartbeat: heartbeat.clone(),
            runtime: runtime.clone(),
            downstream,
            upstream,
            metrics_served: Arc::clone(&metrics_served),
            policies: hooks.health.clone(),
            engine: Arc::clone(&hooks.engine),
            pause: hooks.pause.clone(),
            journal: Arc::clone(&hooks.journal),
        };
        let api = Api::new(&hooks, sources);
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
                let (policies, running) = (hooks.policies(), hooks.running());
                let (listen, endpoint) = (config.listen.clone(), config.runtime_endpoint.clone());
                Box::pin(async move {
                    let mut checks = Checks::default();
                    let listening = !drain.is_draining();
                    let at =
                        if listening { format!("listening on {listen}") } else { "ending, takes no new calls".into() };
                    checks.add("cri", listening, at);
                    check_heartbeat(&heartbeat, &mut checks).await;
                    // Wrong policies and paused hooks keep no call from succeeding.
                    checks.add("policies", true, policies);
                    checks.add("hooks", true, running);
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
        let admin = Admin { registry: self.registry.clone(), alive, ready, api: None };
        match self.metrics.take().map(TcpListener::from_std) {
            Some(Ok(listener)) => {
                if let Ok(addr) = listener.local_addr() {
                    tracing::info!(%addr, "metrics");
                }
                tokio::spawn(admin.clone().serve(listener));
            }
            _ => drop(tokio::spawn(serve_metrics_later(admin.clone(), self.config.metrics_addr, metrics_served))),
        }
        let admin = Admin { api: Some(api.serve()), ..admin };
        tokio::spawn(serve_admin_socket(admin, self.config.admin_socket.path().to_owned(), self.drain.clone()));
    }

    /// Says at once what would otherwise be found out late.
    fn prepare_directories(&self) {
        let state = &self.config.state_dir;
        if let Err(error) = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state) {
            tracing::warn!("cannot create the state directory {}: {error}; serving without", state.display());
        }
        let runtime = self.config.runtime_endpoint.path();
        let is_socket = |found: std::fs::Metadata| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type());
        if std::fs::metadata(runtime).is_ok_and(|found| !is_socket(found)) {
            tracing::error!(
                "the runtime endpoint {} is not a socket: calls will fail until one is there; name the runtime's socket with --runtime-endpoint",
                runtime.display()
            );
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

fn imitate(config: &Config) -> bool {
    let (own, runtime) = (config.listen.path(), config.runtime_endpoint.path());
    Listener::imitate(own, runtime).unwrap_or_else(|error| {
        tracing::warn!("{} keeps its own owner and mode: {error}", own.display());
        true
    })
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify systemd: {error}");
    }
}

/// Tells systemd that crihook is well, as long as the data path answers.
async fn watchdog(heartbeat: Heartbeat) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = interval(limit / 2);
    loop {
        ticks.tick().await;
        if heartbeat.beat(limit / 2).await {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

async fn check_heartbeat(heartbeat: &Heartbeat, checks: &mut Checks) {
    let beats = heartbeat.beat(HEARTBEAT_LIMIT).await;
    checks.add("data path", beats, if beats { "moving" } else { "does not answer" });
}

/// Keeps `crihook_upstream_up` true, and the socket's file like the runtime's once there is one.
async fn probe(runtime: Runtime, up: IntGauge, config: Config, drain: Drain) {
    let (mut ticks, mut imitated, mut last) = (interval(PROBE_EVERY), false, None);
    loop {
        ticks.tick().await;
        let found = runtime.version(PROBE_LIMIT).await;
        if drain.is_draining() {
            // The socket's file may be gone by now, and nobody calls any more.
            return;
        }
        up.set(i64::from(found.is_ok()));
        if last != Some(found.is_ok()) {
            match &found {
                Ok(found) => tracing::info!(name = found.name, version = found.version, "the runtime answers"),
                Err(why) => tracing::warn!("the runtime at {} does not answer: {why}", config.runtime_endpoint),
            }
            imitated &= found.is_ok();
        }
        last = Some(found.is_ok());
        if !imitated && found.is_ok() {
            imitated = imitate(&config);
        }
    }
}

fn bind_metrics(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve_metrics_later(admin: Admin, addr: SocketAddr, served: Arc<AtomicBool>) {
    let listener = loop {
        sleep(REBIND_EVERY).await;
        if let Ok(listener) = TcpListener::bind(addr).await {
            break listener;
        }
    };
    tracing::info!(%addr, "metrics");
    served.store(true, Ordering::Relaxed);
    admin.serve(listener).await;
}

async fn serve_admin_socket(admin: Admin, path: PathBuf, drain: Drain) {
    let bound = Listener::bind(&path).map_err(anyhow::Error::from);
    let socket = bound.and_then(|mut bound| Ok((UnixListener::from_std(bound.accepting()?)?, bound)));
    match socket {
        Ok((socket, _file)) => {
            tokio::select! {
                () = admin.serve(socket) => {}
                () = drain.finished() => {}
            }
        }
        Err(error) => tracing::warn!("no admin socket: {error}"),
    }
}
