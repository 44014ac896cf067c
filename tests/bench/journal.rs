//! What the journal costs: a hundred thousand runs looked up and recovered from, and commits of many at once beside the disk's own speed.
//!
//! Each phase is a process of its own, so that its memory is its own: `fill` writes the runs, `history` asks for them, `recovery` opens what a
//! process has left that was killed, `commits` writes with fifty tasks that each wait until what they wrote is safe.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use crihook::journal::{
    AttemptRecord, AttemptResult, Entry, Filter, Journal, JournalMetrics, Left, NewRun, Retention, Settings,
    SqliteJournal,
};
use crihook::lifecycle::{Container, Event, Outcome, Pod, Point};
use prometheus::Registry;
use tokio::sync::mpsc;

/// Measures the journal and prints a table.
#[derive(Parser)]
struct Flags {
    /// Runs in the journal.
    #[arg(long, default_value_t = 100_000)]
    runs: u32,
    /// Runs of them that have not ended.
    #[arg(long, default_value_t = 200)]
    open: u32,
    /// Tasks that write at once.
    #[arg(long, default_value_t = 50)]
    writers: usize,
    /// How often each of them writes and waits.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Where the journal is made; on the disk that is to be measured.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// One phase alone, on the journal that is in --dir.
    #[arg(long)]
    phase: Option<Phase>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Phase {
    Fill,
    History,
    Recovery,
    Commits,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match flags.phase {
        None => all(&flags),
        Some(phase) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(run(&flags, phase))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All phases, each in a process of its own.
fn all(flags: &Flags) -> Result<()> {
    std::fs::create_dir_all(&flags.dir)?;
    let place = tempfile::tempdir_in(&flags.dir)?;
    for phase in Phase::value_variants() {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--dir")
            .arg(place.path())
            .arg("--phase")
            .arg(phase.to_possible_value().context("a name")?.get_name());
        for (flag, value) in [
            ("--runs", flags.runs as usize),
            ("--open", flags.open as usize),
            ("--writers", flags.writers),
            ("--rounds", flags.rounds),
        ] {
            command.args([flag, &value.to_string()]);
        }
        ensure!(command.status()?.success(), "{command:?} failed");
    }
    Ok(())
}

async fn run(flags: &Flags, phase: Phase) -> Result<()> {
    match phase {
        Phase::Fill => fill(flags).await,
        Phase::History => history(flags).await,
        Phase::Recovery => recovery(flags).await,
        Phase::Commits => commits(flags).await,
    }?;
    println!("{:<54}{:>8.1} MiB", "    resident at most", resident()?);
    Ok(())
}

async fn open(flags: &Flags) -> Result<(Arc<SqliteJournal>, Left)> {
    let metrics = JournalMetrics::register(&Registry::new())?;
    let (journal, mut left): (_, mpsc::UnboundedReceiver<Left>) =
        SqliteJournal::open(Settings::new(flags.dir.join("state"), Retention::default()), None, metrics);
    let left = left.recv().await.context("the journal lives")?;
    ensure!(journal.health().degraded.is_none(), "{:?}", journal.health());
    Ok((journal, left))
}

async fn fill(flags: &Flags) -> Result<()> {
    let (journal, _) = open(flags).await?;
    let began = Instant::now();
    for number in 0..flags.runs {
        let run = new_run(number);
        let (id, at) = (Arc::clone(&run.id), run.created_at);
        journal.write(Entry::Begin { run, intended: true });
        journal.write(Entry::Start { id: Arc::clone(&id), number: 1, at });
        if number + flags.open < flags.runs {
            journal.write(Entry::Attempt { id: Arc::clone(&id), attempt: attempt(at) });
            let outcome = if number.is_multiple_of(50) { Outcome::Failed } else { Outcome::Succeeded };
            journal.write(Entry::End { id, at, outcome, reason: None });
        }
        if number.is_multiple_of(1000) {
            journal.recorded().await;
        }
    }
    journal.recorded().await;
    let took = began.elapsed().as_secs_f64();
    println!("{} runs of four entries each", flags.runs);
    println!("{:<54}{:>8.0} /s", "    written", f64::from(flags.runs) * 4.0 / took);
    // It is left as a process leaves it that is killed: with runs that have not ended.
    journal.close().await;
    let bytes = flags.dir.join("state/journal.db").metadata()?.len();
    println!("{:<54}{:>8.1} MiB", "    size", mebibytes(bytes));
    Ok(())
}

async fn history(flags: &Flags) -> Result<()> {
    let (journal, _) = open(flags).await?;
    println!("history: 100 of {} runs, with their attempts; the median and the longest of 20", flags.runs);
    let text = |text: &str| Some(text.to_owned());
    let all = || Filter { limit: 100, ..Filter::default() };
    let since = SystemTime::now() - Duration::from_hours(1);
    let questions = [
        ("the latest", all()),
        ("of a pod", Filter { namespace: text("team-3"), pod: text("web-333"), ..all() }),
        ("of a namespace", Filter { namespace: text("team-3"), ..all() }),
        ("of a container's name", Filter { container: text("main"), ..all() }),
        ("of a container's id", Filter { container: Some(format!("{:064x}", 77)), ..all() }),
        ("of a policy that has none", Filter { policy: text("none"), ..all() }),
        ("of a namespace that has none", Filter { namespace: text("none"), ..all() }),
        ("that failed", Filter { outcome: Some(Outcome::Failed), ..all() }),
        ("that timed out, of which there are none", Filter { outcome: Some(Outcome::TimedOut), ..all() }),
        ("that have not ended", Filter { ended: Some(false), ..all() }),
        ("of the last hour", Filter { since: Some(since), ..all() }),
        ("of the last hour that timed out", Filter { since: Some(since), outcome: Some(Outcome::TimedOut), ..all() }),
        ("whose id ends so", Filter { id: text("0000004d"), ..all() }),
    ];
    for (question, filter) in questions {
        let mut times = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            journal.runs(filter.clone()).await.map_err(anyhow::Error::msg)?;
            times.push(began.elapsed());
        }
        say(question, &mut times);
    }
    journal.close().await;
    Ok(())
}

async fn recovery(flags: &Flags) -> Result<()> {
    let began = Instant::now();
    let (journal, left) = open(flags).await?;
    let took = began.elapsed();
    ensure!(left.runs.len() == flags.open as usize, "{} runs were left", left.runs.len());
    println!("recovery: {} open runs among {}, {} done", left.runs.len(), flags.runs, left.done.len());
    println!("{:<54}{:>8.1} ms", "    until they are told", took.as_secs_f64() * 1e3);
    journal.close().await;
    Ok(())
}

async fn commits(flags: &Flags) -> Result<()> {
    let mut times = disk(&flags.dir, flags.rounds * 4)?;
    println!("commits: {} tasks at once; the median and the longest but one in a hundred", flags.writers);
    percentiles("the disk alone: 16 KiB and fdatasync", &mut times);
    let (journal, _) = open(flags).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..flags.writers {
        let (journal, rounds) = (Arc::clone(&journal), flags.rounds);
        tasks.spawn(async move {
            let mut times = Vec::new();
            for round in 0..rounds {
                let number = u32::try_from(1_000_000 + writer * rounds + round).expect("a small number");
                let run = new_run(number);
                let (id, event) = (Arc::clone(&run.id), Arc::clone(&run.event));
                let mut safe = async |entry| {
                    let began = Instant::now();
                    journal.write(entry);
                    journal.recorded().await;
                    times.push(began.elapsed());
                };
                safe(Entry::Begin { run, intended: true }).await;
                safe(Entry::Confirm { id: Arc::clone(&id), event }).await;
                let at = SystemTime::now();
                safe(Entry::Start { id: Arc::clone(&id), number: 1, at }).await;
                journal.write(Entry::Attempt { id: Arc::clone(&id), attempt: attempt(at) });
                journal.write(Entry::End { id, at, outcome: Outcome::Succeeded, reason: None });
            }
            times
        });
    }
    let began = Instant::now();
    let mut times: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let took = began.elapsed().as_secs_f64();
    percentiles("an entry, until it is safe", &mut times);
    let runs = u32::try_from(flags.writers * flags.rounds)?;
    println!("{:<54}{:>8.0} /s", "    runs, from promise to end", f64::from(runs) / took);
    journal.close().await;
    Ok(())
}

/// What the disk takes for a write of a commit's size.
fn disk(dir: &Path, times: usize) -> Result<Vec<Duration>> {
    let path = dir.join("disk");
    let mut file: File = OpenOptions::new().create(true).append(true).open(&path)?;
    let block = [0x5a; 16 << 10];
    let mut took = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(took)
}

/// A run as a node has them: ids of the runtime's length, some labels and annotations.
fn new_run(number: u32) -> Arc<NewRun> {
    let pairs = |of: &[(&str, &str)]| of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let pod = Pod {
        namespace: format!("team-{}", number % 10),
        name: format!("web-{}", number % 1000),
        uid: format!("0b1a7c3e-5d2f-4a86-9c41-{number:012x}"),
        attempt: 0,
        sandbox_id: format!("{:064x}", u64::from(number) << 32),
        labels: pairs(&[
            ("app", "web"),
            ("tier", "front"),
            ("pod-template-hash", "6d4cf56db6"),
            ("io.kubernetes.pod.name", "web"),
        ]),
        annotations: pairs(&[
            ("kubernetes.io/config.seen", "2026-05-04T03:02:01.123456789Z"),
            ("kubernetes.io/config.source", "api"),
            ("example.com/drain", "true"),
        ]),
        runtime_handler: Some(String::new()),
    };
    let container = Container {
        id: format!("{number:064x}"),
        name: if number.is_multiple_of(2) { "main" } else { "sidecar" }.to_owned(),
        image: "registry.example/shop/web:1.27.3".to_owned(),
        attempt: 0,
        annotations: pairs(&[
            ("io.kubernetes.container.hash", "7a1c2b3d"),
            ("io.kubernetes.container.ports", r#"[{"name":"http","containerPort":8080,"protocol":"TCP"}]"#),
            ("io.kubernetes.container.restartCount", "0"),
            ("io.kubernetes.pod.terminationGracePeriod", "30"),
        ]),
    };
    let now = SystemTime::now();
    let event = Event {
        point: Point::POST_START,
        pod: Arc::new(pod),
        container: Some(Arc::new(container)),
        grace: None,
        at: now.into(),
        trace: None,
    };
    Arc::new(NewRun {
        id: format!("0192f3a4-5b6c-7d8e-9f00-{number:012x}").into(),
        policy: if number.is_multiple_of(3) { "announce" } else { "drain-web" }.into(),
        hook: "drain".into(),
        handler: "webhook".into(),
        mode: "Background".into(),
        event: Arc::new(event),
        once: number % 100 == 1,
        replay_of: None,
        created_at: now - Duration::from_secs((200_000 - u64::from(number).min(200_000)) / 4),
    })
}

fn attempt(at: SystemTime) -> AttemptRecord {
    AttemptRecord {
        number: 1,
        started_at: at,
        duration: Duration::from_millis(12),
        result: AttemptResult::Succeeded,
        message: None,
        exit_code: None,
        http_status: Some(200),
        stdout: String::new(),
        stderr: String::new(),
        body: r#"{"status":"accepted","endpoint":"10.0.3.17:8080","weight":100}"#.to_owned(),
    }
}

fn say(what: &str, times: &mut [Duration]) {
    times.sort();
    println!("    {what:<50}{:>8.2} ms{:>9.2} ms", millis(times[times.len() / 2]), millis(times[times.len() - 1]));
}

fn percentiles(what: &str, times: &mut [Duration]) {
    times.sort();
    println!(
        "    {what:<50}{:>8.2} ms{:>9.2} ms",
        millis(times[times.len() / 2]),
        millis(times[times.len() * 99 / 100])
    );
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// This process, at most so far, in MiB.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
