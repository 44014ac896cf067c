//! What a scrape costs, and what it costs the calls that are made at the same time, on the embedded runtime.
//!
//! One crihook gets a million calls of every method that the runtime answers, so that every series exists and has counted. Then calls are
//! timed in turns: without scrapes, with a scrape every second, with scrapes without a pause, and with such scrapes of a second crihook that
//! nobody calls. The last one takes the same share of the machine and touches nothing that the calls use: what it costs is the cores', not crihook's.
//! Ratios are taken within a round, where all met the same machine. A call that fails ends the run with an error.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Parser;

#[path = "scrape/calls.rs"]
mod calls;

use calls::{Caller, Question};

/// Measures what a scrape costs and prints tables.
#[derive(Parser)]
struct Flags {
    /// Calls before anything is measured.
    #[arg(long, default_value_t = 1_000_000)]
    calls: usize,
    /// Rounds; in each, every way of scraping has a turn of each kind of load.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How long a turn takes.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    turn: Duration,
    /// Two short rounds after 50,000 calls: does it all still work?
    #[arg(long)]
    quick: bool,
    /// Where the built `crihook` and `examples/sim` are.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
}

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Calls in flight while the million is made, and in the second kind of load.
const MANY: usize = 64;
const SOME: usize = 16;
/// Pods that live and go before anything is measured.
const PODS: u32 = 5;
/// Scrapes while nothing is called.
const QUIET_SCRAPES: usize = 200;

/// A process that ends with the run.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("cannot start {command:?}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A crihook with a hook at every point that the pods pass.
struct Stand {
    process: Process,
    socket: PathBuf,
    metrics: SocketAddr,
}

impl Stand {
    async fn start(flags: &Flags, dir: &Path, name: &str) -> Result<Self> {
        let own = dir.join(name);
        std::fs::create_dir_all(own.join("hooks.d"))?;
        let points = ["PreStartContainer", "PostStart", "PreStop", "PostStopContainer"];
        let hooks = points.map(|point| format!("  - {{name: at-{}, on: {point}, sleep: 1ms}}\n", point.to_lowercase()));
        let policy = format!(
            "apiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {{name: bench}}\nspec:\n  hooks:\n{}",
            hooks.concat()
        );
        std::fs::write(own.join("hooks.d/bench.yaml"), policy)?;
        // One that was free a moment ago.
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let socket = own.join("crihook.sock");
        let mut command = Command::new(flags.bin_dir.join("crihook"));
        command.args(["serve", "--metrics-addr", &metrics.to_string()]);
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
        there(&socket).await?;
        Ok(Self { process, socket, metrics })
    }

    /// Has every series that there can be, and some more: a pod's whole life, and `calls` in all of what changes nothing.
    async fn fill(&self, calls: usize) -> Result<()> {
        calls::pods(&self.socket, PODS).await?;
        let questions = calls::questions(&self.socket).await?;
        let tasks = (0..MANY).map(|task| {
            let questions = &questions;
            async move {
                let caller = Caller::connect(&self.socket).await?;
                for at in (task..calls).step_by(MANY) {
                    caller.call(&questions[at % questions.len()]).await?;
                }
                Ok::<_, anyhow::Error>(())
            }
        });
        futures_util::future::try_join_all(tasks).await.map(|_| ())
    }

    /// What the thread of this name has used of the CPUs.
    fn cpu(&self, thread: &str) -> Result<Duration> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.0.id()))?.flatten() {
            if std::fs::read_to_string(task.path().join("comm"))?.trim_end() == thread {
                let used = std::fs::read_to_string(task.path().join("schedstat"))?;
                let used = used.split(' ').next().context("no time in schedstat")?;
                return Ok(Duration::from_nanos(used.parse()?));
            }
        }
        bail!("crihook has no thread {thread}")
    }
}

async fn there(socket: &Path) -> Result<()> {
    let begun = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        ensure!(begun.elapsed() < PATIENCE, "nobody listens on {}", socket.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// One who scrapes over one connection, as Prometheus does.
struct Scraper {
    socket: TcpStream,
    page: Vec<u8>,
}

impl Scraper {
    fn connect(at: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(at)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, page: Vec::new() })
    }

    /// From the request to the last byte of the page.
    fn scrape(&mut self) -> Result<Duration> {
        const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n";
        let begun = Instant::now();
        self.socket.write_all(REQUEST)?;
        let mut answer = vec![0; 64 << 10];
        let mut filled = 0;
        let head = loop {
            let read = self.socket.read(&mut answer[filled..])?;
            ensure!(read > 0, "crihook has hung up");
            filled += read;
            if let Some(head) = answer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
                break head + 4;
            }
        };
        let fields = std::str::from_utf8(&answer[..head])?.to_ascii_lowercase();
        ensure!(fields.starts_with("http/1.1 200"), "{fields}");
        let length = fields.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        self.page.clear();
        self.page.extend_from_slice(&answer[head..filled]);
        let begun_with = self.page.len();
        self.page.resize(length.parse()?, 0);
        self.socket.read_exact(&mut self.page[begun_with..])?;
        Ok(begun.elapsed())
    }

    /// The samples of the last page.
    fn samples(&self) -> Result<impl Iterator<Item = &str>> {
        Ok(std::str::from_utf8(&self.page)?.lines().filter(|line| !line.starts_with('#')))
    }

    /// The calls of the last page.
    fn calls(&self) -> Result<f64> {
        let counted = self.samples()?.filter(|line| line.starts_with("crihook_cri_requests_total{"));
        let numbers =
            counted.map(|line| Ok(line.rsplit(' ').next().context("a sample without a value")?.parse::<f64>()?));
        numbers.sum()
    }
}

/// Somebody who scrapes on a thread of its own.
struct Scraping {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>>>,
}

impl Scraping {
    fn start(at: SocketAddr, pause: Duration) -> Result<Self> {
        let mut scraper = Scraper::connect(at)?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !told.load(Ordering::Relaxed) {
                took.push(scraper.scrape()?);
                std::thread::park_timeout(pause);
            }
            Ok(took)
        });
        Ok(Self { over, thread })
    }

    fn stop(self) -> Result<Vec<Duration>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().map_err(|_| anyhow!("the scraper has panicked"))?
    }
}

/// Who is scraped while calls are timed, and how often.
#[derive(Clone, Copy)]
enum Way {
    Nobody,
    EverySecond,
    WithoutPause,
    Bystander,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Nobody, "nobody"),
    (Way::EverySecond, "crihook, every second"),
    (Way::WithoutPause, "crihook, without a pause"),
    (Way::Bystander, "another crihook, without a pause"),
];

/// Times calls for as long as `turn`, `abreast` at a time.
async fn load(caller: &Caller, question: &Question, abreast: usize, turn: Duration) -> Result<Vec<Duration>> {
    let begun = Instant::now();
    let tasks = (0..abreast).map(|_| async {
        let mut took = Vec::new();
        while begun.elapsed() < turn {
            let begun = Instant::now();
            caller.call(question).await?;
            took.push(begun.elapsed());
        }
        Ok::<_, anyhow::Error>(took)
    });
    Ok(futures_util::future::try_join_all(tasks).await?.concat())
}

fn percentile(all: &[Duration], percent: usize) -> Duration {
    let mut all = all.to_vec();
    all.sort_unstable();
    all[(all.len() * percent / 100).min(all.len() - 1)]
}

/// The median of these, the lowest and the highest.
fn spread(mut all: Vec<f64>) -> String {
    all.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", all[all.len() / 2], all[0], all[all.len() - 1])
}

/// What a way of scraping did to the calls, a round after the other.
#[derive(Default)]
struct Turns {
    p50: Vec<Duration>,
    p99: Vec<Duration>,
    calls: usize,
    scrapes: Vec<Duration>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut flags = Flags::parse();
    if flags.quick {
        (flags.calls, flags.rounds, flags.turn) = (50_000, 2, Duration::from_secs(1));
    }
    let dir = tempfile::Builder::new().prefix("crihook-scrape-").tempdir()?;
    let dir = dir.path();
    let _sim =
        Process::spawn(Command::new(flags.bin_dir.join("examples/sim")).arg("--listen").arg(dir.join("sim.sock")))?;
    there(&dir.join("sim.sock")).await?;
    let (stand, bystander) =
        (Stand::start(&flags, dir, "measured").await?, Stand::start(&flags, dir, "bystander").await?);
    bystander.fill(MANY * 100).await?;
    let begun = Instant::now();
    stand.fill(flags.calls).await?;
    let mut scraper = Scraper::connect(stand.metrics)?;
    scraper.scrape()?;
    let calls = scraper.calls()?;
    println!("{calls} calls after {:.0?}, then:\n", begun.elapsed());

    let used = stand.cpu("crihook")?;
    let quiet = (0..QUIET_SCRAPES).map(|_| scraper.scrape()).collect::<Result<Vec<_>>>()?;
    let used = stand.cpu("crihook")?.saturating_sub(used) / u32::try_from(QUIET_SCRAPES)?;
    println!("| a scrape, {QUIET_SCRAPES} of them, nothing else going on | | wanted |\n| --- | --- | --- |");
    println!("| from the request to the last byte, median | {:.1?} | under 20 ms |", percentile(&quiet, 50));
    println!("| p99; the longest | {:.1?}; {:.1?} | |", percentile(&quiet, 99), percentile(&quiet, 100));
    println!("| CPU of crihook | {used:.1?} | |");
    println!("| the page | {} KiB, {} series | |", scraper.page.len() >> 10, scraper.samples()?.count());

    let (caller, question) = (Caller::connect(&stand.socket).await?, Question::version());
    for (abreast, title) in [(1, "one call at a time".to_owned()), (SOME, format!("{SOME} calls at a time"))] {
        let mut turns: [Turns; WAYS.len()] = Default::default();
        for round in 0..=flags.rounds {
            for turn in 0..WAYS.len() {
                let at = (turn + round) % WAYS.len();
                let scraping = match WAYS[at].0 {
                    Way::Nobody => None,
                    Way::EverySecond => Some(Scraping::start(stand.metrics, Duration::from_secs(1))?),
                    Way::WithoutPause => Some(Scraping::start(stand.metrics, Duration::ZERO)?),
                    Way::Bystander => Some(Scraping::start(bystander.metrics, Duration::ZERO)?),
                };
                let took = load(&caller, &question, abreast, flags.turn).await?;
                let pages = scraping.map(Scraping::stop).transpose()?.unwrap_or_default();
                // The first round warms up.
                if round > 0 {
                    let of = &mut turns[at];
                    of.p50.push(percentile(&took, 50));
                    of.p99.push(percentile(&took, 99));
                    of.calls += took.len();
                    of.scrapes.extend(pages);
                }
            }
        }
        tell(&title, &turns, &flags);
    }
    Ok(())
}

fn tell(title: &str, turns: &[Turns; WAYS.len()], flags: &Flags) {
    println!(
        "\n| {title}, {} rounds of {:?}; scraped is | p50 | p99 | p50 : without | p99 : without | calls | scrapes | their median; p99 |",
        flags.rounds, flags.turn
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (of, (_, name)) in turns.iter().zip(WAYS) {
        let ratios = |times: &[Duration], without: &[Duration]| {
            spread(times.iter().zip(without).map(|(time, without)| time.div_duration_f64(*without)).collect())
        };
        let scrapes = if of.scrapes.is_empty() {
            String::new()
        } else {
            format!("{:.1?}; {:.1?}", percentile(&of.scrapes, 50), percentile(&of.scrapes, 99))
        };
        println!(
            "| {name} | {:.1?} | {:.1?} | {} | {} | {} | {} | {scrapes} |",
            percentile(&of.p50, 50),
            percentile(&of.p99, 50),
            ratios(&of.p50, &turns[0].p50),
            ratios(&of.p99, &turns[0].p99),
            of.calls,
            of.scrapes.len(),
        );
    }
}
