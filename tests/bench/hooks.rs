//! What hooks cost: `StartContainer` with a hook beside the same without, on the embedded runtime.
//!
//! Four crihooks stand in front of one runtime: without policies, with a Background webhook, with a Blocking one, and with three hooks a
//! container for a storm. The first three are asked in turns within each round, so that all meet the same machine; what is compared is the difference of
//! their medians. The hook server answers at once, on a unix socket, on a thread of its own. A call or a delivery that is missing ends the run with an error.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use crihook::cri::v1::image_service_client::ImageServiceClient;
use crihook::cri::v1::runtime_service_client::RuntimeServiceClient;
use crihook::cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, PodSandboxConfig, PodSandboxMetadata,
    PullImageRequest, RemoveContainerRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
};
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint};

/// Measures what hooks cost and prints a table.
#[derive(Parser)]
struct Flags {
    /// Rounds; in each, every crihook starts as many containers as --starts says.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Containers that each crihook starts in a round.
    #[arg(long, default_value_t = 50)]
    starts: usize,
    /// Containers that start at once in the storm.
    #[arg(long, default_value_t = 500)]
    storm: usize,
    /// Containers that start at once in each of the crowds.
    #[arg(long, default_value_t = 50)]
    crowd: usize,
    /// On whose disk the state directories are [default: the system's temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the built `crihook` and `examples/sim` are.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
}

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process that ends with the run.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("cannot start {command:?}"))
    }

    /// In MiB: now, and at most so far.
    fn resident(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Counts what is delivered to it.
#[derive(Default)]
struct Server {
    seen: AtomicUsize,
    busy: AtomicUsize,
    busiest: AtomicUsize,
}

impl Server {
    /// Serves on a thread of its own; each answer takes `pause`.
    fn start(self: &Arc<Self>, socket: &Path, pause: Duration) -> Result<()> {
        let (server, listener) = (Arc::clone(self), std::os::unix::net::UnixListener::bind(socket)?);
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = UnixListener::from_std(listener) else { return };
                while let Ok((client, _)) = listener.accept().await {
                    let server = Arc::clone(&server);
                    tokio::spawn(async move {
                        let service =
                            service_fn(|request: hyper::Request<hyper::body::Incoming>| server.answer(request, pause));
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(client), service)
                            .await;
                    });
                }
            });
        });
        Ok(())
    }

    async fn answer(
        &self,
        request: hyper::Request<hyper::body::Incoming>,
        pause: Duration,
    ) -> Result<hyper::Response<Empty<bytes::Bytes>>, hyper::Error> {
        self.busiest.fetch_max(self.busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        request.into_body().collect().await?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
        self.seen.fetch_add(1, Ordering::SeqCst);
        Ok(hyper::Response::new(Empty::new()))
    }

    async fn has_seen(&self, count: usize) -> Result<()> {
        let begun = Instant::now();
        while self.seen.load(Ordering::SeqCst) < count {
            ensure!(begun.elapsed() < PATIENCE, "{} of {count} deliveries", self.seen.load(Ordering::SeqCst));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// A crihook with these hooks, and a client of it.
struct Stand {
    process: Process,
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    sandbox: String,
    made: u32,
}

impl Stand {
    async fn start(flags: &Flags, dir: &Path, name: &str, hooks: &[String]) -> Result<Self> {
        let own = dir.join(name);
        std::fs::create_dir_all(own.join("hooks.d"))?;
        if !hooks.is_empty() {
            let policy = format!(
                "apiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {{name: bench}}\nspec:\n  hooks:\n{}",
                hooks.concat()
            );
            std::fs::write(own.join("hooks.d/bench.yaml"), policy)?;
        }
        let socket = own.join("crihook.sock");
        let mut command = Command::new(flags.bin_dir.join("crihook"));
        command.args(["serve", "--metrics-addr", "127.0.0.1:0"]);
        for (flag, value) in [
            ("--listen", socket.clone()),
            ("--runtime-endpoint", dir.join("sim.sock")),
            ("--admin-socket", own.join("admin.sock")),
            ("--hooks-dir", own.join("hooks.d")),
            ("--state-dir", own.join("state")),
        ] {
            command.arg(flag).arg(value);
        }
        let process = Process::spawn(&mut command)?;
        let channel = dial(&socket).await?;
        let (pods, images) = (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));
        let mut stand = Self { process, pods, images, sandbox: String::new(), made: 0 };
        let image = Some(ImageSpec { image: "busybox".into(), ..ImageSpec::default() });
        stand.images.pull_image(PullImageRequest { image, sandbox_config: None }).await?;
        let metadata =
            Some(PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "bench".into(), attempt: 0 });
        let config = Some(PodSandboxConfig { metadata, ..PodSandboxConfig::default() });
        let request = RunPodSandboxRequest { config, runtime_handler: String::new() };
        stand.sandbox = stand.pods.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
        Ok(stand)
    }

    async fn create(&mut self) -> Result<String> {
        self.made += 1;
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: self.made }),
            image: Some(ImageSpec { image: "busybox".into(), ..ImageSpec::default() }),
            ..ContainerConfig::default()
        };
        let request =
            CreateContainerRequest { pod_sandbox_id: self.sandbox.clone(), config: Some(config), sandbox_config: None };
        Ok(self.pods.create_container(request).await?.into_inner().container_id)
    }

    /// Creates a container, and times its start.
    async fn timed_start(&mut self) -> Result<(Duration, String)> {
        let container_id = self.create().await?;
        let begun = Instant::now();
        self.pods.start_container(StartContainerRequest { container_id: container_id.clone() }).await?;
        Ok((begun.elapsed(), container_id))
    }

    /// Stops and removes a container. What is to be delivered for its start should have been: a stop abandons what has not begun.
    async fn end(&mut self, container_id: String) -> Result<()> {
        self.pods.stop_container(StopContainerRequest { container_id: container_id.clone(), timeout: 0 }).await?;
        self.pods.remove_container(RemoveContainerRequest { container_id }).await?;
        Ok(())
    }
}

/// Starts `count` containers at once, and times each start.
async fn crowd(stand: &mut Stand, count: usize) -> Result<(Vec<Duration>, Vec<String>)> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(stand.create().await?);
    }
    let starts = ids.iter().map(|id| {
        let (mut pods, container_id) = (stand.pods.clone(), id.clone());
        async move {
            let begun = Instant::now();
            pods.start_container(StartContainerRequest { container_id }).await.map(|_| begun.elapsed())
        }
    });
    let took = futures_util::future::join_all(starts).await.into_iter().collect::<Result<_, _>>()?;
    Ok((took, ids))
}

/// What it takes to have a page on the disk of `dir`.
fn sync(dir: &Path) -> Result<Duration> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("sync"))?;
    file.write_all(&[1; 4096])?;
    let begun = Instant::now();
    file.sync_data()?;
    Ok(begun.elapsed())
}

async fn dial(socket: &Path) -> Result<Channel> {
    let begun = Instant::now();
    loop {
        let path = socket.to_owned();
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        match Endpoint::from_static("http://localhost").connect_with_connector(connect).await {
            Ok(channel) => return Ok(channel),
            Err(error) => ensure!(begun.elapsed() < PATIENCE, "{}: {error}", socket.display()),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn hook(name: &str, mode: &str, socket: &Path) -> String {
    format!("  - {{name: {name}, on: PostStart, mode: {mode}, webhook: {{url: \"unix://{}:/\"}}}}\n", socket.display())
}

fn median(all: &[Duration]) -> Duration {
    percentile(all, 50)
}

fn percentile(all: &[Duration], percent: usize) -> Duration {
    let mut all = all.to_vec();
    all.sort_unstable();
    all[(all.len() * percent / 100).min(all.len() - 1)]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let flags = Flags::parse();
    let parent = flags.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::Builder::new().prefix("crihook-hooks-").tempdir_in(parent)?;
    let dir = dir.path();
    let _sim =
        Process::spawn(Command::new(flags.bin_dir.join("examples/sim")).arg("--listen").arg(dir.join("sim.sock")))?;
    dial(&dir.join("sim.sock")).await?;
    let (fast, slow) = (Arc::new(Server::default()), Arc::new(Server::default()));
    fast.start(&dir.join("fast.sock"), Duration::ZERO)?;
    slow.start(&dir.join("slow.sock"), Duration::from_millis(5))?;

    let background = hook("announce", "Background", &dir.join("fast.sock"));
    let blocking = hook("announce", "Blocking", &dir.join("fast.sock"));
    let mut stands = [
        Stand::start(&flags, dir, "none", &[]).await?,
        Stand::start(&flags, dir, "background", &[background]).await?,
        Stand::start(&flags, dir, "blocking", &[blocking]).await?,
    ];
    let mut took: [Vec<Duration>; 3] = Default::default();
    let mut delivered = 0;
    for round in 0..=flags.rounds {
        for turn in 0..flags.starts * 3 {
            let at = (turn + round) % 3;
            let (time, id) = stands[at].timed_start().await?;
            delivered += usize::from(at > 0);
            // What was delivered in the background is not to meet the next one.
            fast.has_seen(delivered).await?;
            stands[at].end(id).await?;
            // The first round warms up.
            if round > 0 {
                took[at].push(time);
            }
        }
    }
    let [none, background, blocking] = [&took[0], &took[1], &took[2]].map(|took| median(took));
    println!("| StartContainer, median of {} | takes | more than without | wanted |", flags.rounds * flags.starts);
    println!("| --- | --- | --- | --- |");
    println!("| without hooks | {none:.1?} | | |");
    println!("| one Background webhook | {background:.1?} | {:.1?} | under 100 µs |", background.saturating_sub(none));
    println!(
        "| one Blocking webhook over a unix socket, server at once | {blocking:.1?} | {:.1?} | under 1 ms |",
        blocking.saturating_sub(none)
    );

    let (mut alone, mut hooked, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=flags.rounds {
        for turn in 0..2 {
            let at = (turn + round) % 2;
            let (took, ids) = crowd(&mut stands[at], flags.crowd).await?;
            delivered += at * flags.crowd;
            fast.has_seen(delivered).await?;
            for id in ids {
                stands[at].end(id).await?;
            }
            let sync = sync(dir)?;
            if round > 0 {
                [&mut alone, &mut hooked][at].extend(took);
                syncs.push(sync);
            }
        }
    }
    println!("\n| {} starts at once, {} rounds | p50 | p99 |\n| --- | --- | --- |", flags.crowd, flags.rounds);
    for (name, took) in [
        ("without hooks", &alone),
        ("one Background webhook, recorded before the call and before its answer", &hooked),
        ("one page on this disk (`fdatasync`)", &syncs),
    ] {
        println!("| {name} | {:.1?} | {:.1?} |", percentile(took, 50), percentile(took, 99));
    }

    let hooks = ["a", "b", "c"].map(|name| hook(name, "Background", &dir.join("slow.sock")));
    let mut stand = Stand::start(&flags, dir, "storm", &hooks).await?;
    let mut ids = Vec::new();
    for _ in 0..flags.storm {
        ids.push(stand.create().await?);
    }
    let (before, _) = stand.process.resident()?;
    let begun = Instant::now();
    let starts = ids.into_iter().map(|container_id| {
        let mut pods = stand.pods.clone();
        async move { pods.start_container(StartContainerRequest { container_id }).await }
    });
    for started in futures_util::future::join_all(starts).await {
        started?;
    }
    let answered = begun.elapsed();
    slow.has_seen(flags.storm * 3).await?;
    let (after, peak) = stand.process.resident()?;
    println!(
        "\n{} containers started at once with three hooks of 5 ms each: all answered after {answered:.1?}, all {} hooks run after {:.1?}, \
         at most {} at once; resident {before:.1} MiB before, {after:.1} after, {peak:.1} at most.",
        flags.storm,
        flags.storm * 3,
        begun.elapsed(),
        slow.busiest.load(Ordering::SeqCst)
    );
    Ok(ExitCode::SUCCESS)
}
