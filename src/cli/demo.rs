//! `crihook demo`: a scripted kubelet, a real crihook and the embedded runtime, on real sockets in a directory that is
//! gone afterwards, with policies in it and a hook server. It needs neither root nor containerd.

mod hooks;
mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::App;
use crate::app::upgrade::Inherited;
use crate::config::{Address, Config, Endpoint, Settings, Span};
use crate::hooks::engine::RunSeen;
use crate::proxy::Finished;
use crate::sim::kubelet::Kubelet;
use crate::sim::{Options, Runtime, serve};
use crate::telemetry::{Level, Log};
use hooks::HookServer;
use report::Report;

/// The kubelet's rest after a call: so that the calls can be watched as they pass.
const PACE: Duration = Duration::from_millis(15);
/// Its rest after a round.
const REST: Duration = Duration::from_secs(5);
/// How long calls and connections get to end.
const END: Duration = Duration::from_secs(2);
/// Finished calls, and runs, that the screen may be behind.
const BACKLOG: usize = 1024;

/// What a real node takes its time for.
const DELAYS: [(&str, Duration); 7] = [
    ("RunPodSandbox", Duration::from_millis(60)),
    ("PullImage", Duration::from_millis(250)),
    ("CreateContainer", Duration::from_millis(12)),
    ("StartContainer", Duration::from_millis(25)),
    ("StopPodSandbox", Duration::from_millis(30)),
    ("RemoveContainer", Duration::from_millis(8)),
    ("RemovePodSandbox", Duration::from_millis(15)),
];

/// What `demo` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after one round instead of going on until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Where the status page and /metrics are served; with port 0, wherever there is room
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metrics_addr: SocketAddr,
}

/// What the screen shows between the calls.
enum Note {
    /// What the kubelet does next.
    Step(String),
    /// The first round is over; more follow.
    Round,
}

/// Shows crihook at work until it is told to stop.
pub fn run(args: &Args) -> ExitCode {
    // Hooks that fail are no news here: the timeline shows them.
    let log = Log::start(Level::Error);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(demo(args, &log))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crihook: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: &Args, log: &Log) -> Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(heed_signals(stop.clone())?);
    let directory = tempfile::Builder::new().prefix("crihook-demo-").tempdir().context("cannot make a directory")?;
    let config = configure(directory.path(), args.metrics_addr)?;

    let (ended, sim) = (CancellationToken::new(), config.runtime_endpoint.clone());
    let listener =
        UnixListener::bind(sim.path()).with_context(|| format!("cannot listen on {sim} (TMPDIR decides where)"))?;
    let mut options = Options::default();
    for (method, delay) in DELAYS {
        options = options.delay(method, delay)?;
    }
    let runtime = tokio::spawn(serve(Runtime::new(&options), listener, ended.clone().cancelled_owned()));

    let hook_server = HookServer::bind(&directory.path().join("hooks.sock"))?;
    hooks::write_policies(&config.hooks_dir, hook_server.socket())?;
    let (policies, callee) = (config.hooks_dir.clone(), hook_server.socket().to_owned());
    let serving_hooks = AbortOnDropHandle::new(tokio::spawn(hook_server.serve()));

    let (observer, calls) = mpsc::channel(BACKLOG);
    let (run_observer, runs) = mpsc::channel(BACKLOG);
    let (notes, steps) = mpsc::channel(BACKLOG);
    let (listen, asked) = (config.listen.clone(), args.metrics_addr);
    let app = App::bind(config, Inherited::default(), log.dropped())?.observe(observer).observe_runs(run_observer);
    let drain = app.drain();
    let mut report = Report::to_stdout();
    report.opening(&listen, &sim, (&policies, &callee), app.metrics_addr().ok_or(asked), args.once)?;

    let driving = async {
        let narrator = notes.clone();
        let kubelet = Kubelet::new(listen.path(), PACE).narrate(move |step| {
            // Only a screen that stands still loses a heading.
            let _ = narrator.try_send(Note::Step(step.to_owned()));
        });
        let outcome = tokio::select! {
            outcome = drive(kubelet, args.once, notes) => outcome,
            () = stop.cancelled() => Ok(()),
        };
        // The kubelet hangs up first: what it left open ends as its doing, not as crihook's.
        sleep(PACE).await;
        drain.start();
        outcome
    };
    let seen = Seen { calls, runs, notes: steps };
    let (served, driven, shown) = tokio::join!(app.run(), driving, show(&mut report, seen, &stop));
    ended.cancel();
    drop(serving_hooks);
    let _ = timeout(END, runtime).await;
    served?;
    driven?;
    shown.or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
    Ok(())
}

/// Everything in one directory; nothing of the machine's own configuration is read.
fn configure(directory: &Path, metrics_addr: SocketAddr) -> Result<Config> {
    let directory = std::path::absolute(directory).context("the directory for temporary files has no path")?;
    let endpoint = |name: &str| -> Result<Option<Endpoint>> {
        let path = directory.join(name);
        let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        path.parse().map(Some).map_err(anyhow::Error::msg)
    };
    let settings = Settings {
        listen: endpoint("crihook.sock")?,
        runtime_endpoint: endpoint("runtime.sock")?,
        admin_socket: endpoint("admin.sock")?,
        hooks_dir: Some(directory.join("hooks.d")),
        state_dir: Some(directory.join("state")),
        metrics_addr: Some(Address(metrics_addr)),
        drain_timeout: Some(Span(END)),
        ..Settings::default()
    };
    Ok(settings.try_into()?)
}

/// Ends with the first round or a failure, or not at all. The kubelet is gone afterwards, its stream of events with it.
async fn drive(mut kubelet: Kubelet, once: bool, notes: mpsc::Sender<Note>) -> Result<()> {
    kubelet.start().await?;
    for round in 1.. {
        kubelet.run_pod(round).await.with_context(|| format!("round {round}"))?;
        if once {
            break;
        }
        if round == 1 {
            notes.send(Note::Round).await.ok();
        }
        sleep(REST).await;
    }
    Ok(())
}

/// What there is to show.
struct Seen {
    calls: mpsc::Receiver<Finished>,
    runs: mpsc::Receiver<RunSeen>,
    notes: mpsc::Receiver<Note>,
}

/// Shows calls, runs and steps as they come, until no more calls can, and then the table. A screen that is gone ends the demo.
async fn show(report: &mut Report, mut seen: Seen, interrupted: &CancellationToken) -> std::io::Result<()> {
    let shown = async {
        loop {
            tokio::select! {
                // A run comes before the call that waited for it, a call that has ended before the step that follows it.
                biased;
                Some(run) = seen.runs.recv() => report.run(&run)?,
                call = seen.calls.recv() => match call {
                    Some(call) => report.call(&call)?,
                    None => break,
                },
                Some(note) = seen.notes.recv() => match note {
                    Note::Step(step) => report.step(&step)?,
                    Note::Round => report.interim()?,
                },
            }
        }
        while let Ok(run) = seen.runs.try_recv() {
            report.run(&run)?;
        }
        report.closing()
    };
    let shown = shown.await;
    if shown.is_err() {
        interrupted.cancel();
    }
    shown
}

fn heed_signals(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
        stop.cancel();
    })
}
