//! `crihook demo` as people run it: a process, its output, its end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crihook::sim::kubelet::Kubelet;
use crihook::sim::{Options, Runtime, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixListener;

/// Far beyond what a round takes.
const LONG: Duration = Duration::from_mins(1);

struct Demo {
    child: Child,
    lines: Box<dyn BufRead>,
    /// What was read so far.
    seen: String,
    /// Its temporary files must be nowhere else.
    temporary: tempfile::TempDir,
}

impl Demo {
    fn start(flags: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_crihook"))
            .arg("demo")
            .args(flags)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Box::new(BufReader::new(child.stdout.take().unwrap()));
        Self { child, lines, seen: String::new(), temporary }
    }

    /// Reads on until a line contains this.
    fn until(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert!(read > 0, "the output ended without {text:?}:\n{}", self.seen);
            self.seen.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    /// All of its output, and how it ended.
    fn end(mut self) -> (String, ExitStatus) {
        self.lines.read_to_string(&mut self.seen).unwrap();
        let deadline = Instant::now() + LONG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(files(self.temporary.path()), Vec::<PathBuf>::new(), "it leaves its files behind");
        (std::mem::take(&mut self.seen), status)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The counts of the last table in the output.
fn counts(output: &str) -> BTreeMap<String, u64> {
    let (_, table) = output.rsplit_once("\nmethod ").expect("a table");
    let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    rows.map(|row| {
        let mut words = row.split_whitespace();
        (words.next().unwrap().to_owned(), words.next().unwrap().parse().unwrap())
    })
    .collect()
}

/// Runs, runs that did not succeed, and attempts of each hook, by the last table in the output.
fn hooks(output: &str) -> BTreeMap<String, [u64; 3]> {
    let (_, table) = output.rsplit_once("\nhook ").expect("a table of hooks");
    let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    rows.map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        // The two percentiles are a number and a unit each.
        (words[0].to_owned(), [words[1], words[2], words[7]].map(|number| number.parse().unwrap()))
    })
    .collect()
}

/// The place and the text of the only line of the timeline that contains all of these.
fn line<'a>(output: &'a str, words: &[&str]) -> (usize, &'a str) {
    let lines: Vec<_> =
        output.lines().enumerate().filter(|(_, line)| words.iter().all(|word| line.contains(word))).collect();
    match lines.as_slice() {
        [only] => *only,
        all => panic!("{} lines with {words:?}:\n{output}", all.len()),
    }
}

/// What the script calls in one round, by the embedded runtime's own count.
async fn script() -> BTreeMap<String, u64> {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sim.sock");
    let runtime = Runtime::new(&Options::default());
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = tokio::spawn(serve(runtime.clone(), listener, std::future::pending()));
    let mut kubelet = Kubelet::new(&socket, Duration::ZERO);
    kubelet.start().await.unwrap();
    kubelet.run_pod(1).await.unwrap();
    serving.abort();
    runtime.calls().into_iter().map(|(method, count)| (method.to_owned(), count)).collect()
}

#[tokio::test]
async fn once_shows_every_call_of_one_round_and_their_counts() {
    let (output, status) = Demo::start(&["--once"]).end();
    assert!(status.success(), "{status}\n{output}");
    assert!(!output.contains('\x1b'), "no colour where there is no terminal");

    let mut expected = script().await;
    let all = expected.values().sum();
    for (method, count) in &expected {
        let lines =
            output.lines().filter(|line| line.contains(" s   ") && line.split_whitespace().nth(2) == Some(method));
        assert_eq!(lines.count() as u64, *count, "lines of {method} in the timeline:\n{output}");
    }
    expected.insert("all".to_owned(), all);
    assert_eq!(counts(&output), expected);
    assert!(output.contains("NotFound"), "the runtime's errors are shown as they are:\n{output}");
}

#[test]
fn once_shows_hooks_that_drain_announce_retry_and_time_out() {
    let (output, status) = Demo::start(&["--once"]).end();
    assert!(status.success(), "{status}\n{output}");
    assert!(line(&output, &["hooks.d"]).1.contains("policies"), "where the policies are is said");

    let (drained, drain) = line(&output, &["◆ PreStopContainer", "drain-web/drain for main"]);
    assert!(drain.contains("succeeded") && drain.ends_with("1 attempt"), "{drain}");
    let first_stop = output.lines().position(|line| line.split_whitespace().nth(2) == Some("StopContainer"));
    assert!(drained < first_stop.expect("a stop"), "no container is stopped before it is drained:\n{output}");

    for container in ["main", "sidecar"] {
        let announced = line(&output, &["◆ PostStartContainer", &format!("announce/register for {container}")]).1;
        assert!(announced.contains("succeeded"), "{announced}");
    }
    let retried = line(&output, &["◆ PostStartContainer", "warm-up/cache for main"]).1;
    assert!(retried.contains("succeeded") && retried.ends_with("3 attempts"), "{retried}");
    let stuck = line(&output, &["◆ PreStopContainer", "deregister/mesh for sidecar"]).1;
    assert!(stuck.contains("timed_out") && stuck.contains("no answer"), "{stuck}");

    let expected = [
        ("announce/register", [2, 0, 2]),
        ("deregister/mesh", [1, 1, 1]),
        ("drain-web/drain", [1, 0, 1]),
        ("warm-up/cache", [1, 0, 3]),
    ];
    assert_eq!(hooks(&output), expected.map(|(name, counts)| (name.to_owned(), counts)).into());
}

#[test]
fn it_goes_on_until_ctrl_c_with_its_metrics_readable() {
    let mut demo = Demo::start(&[]);
    let url = demo.until("http://");
    let addr = url.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned();
    demo.until("more rounds follow");
    let first = counts(&demo.seen);
    assert_eq!(first["RunPodSandbox"], 1);
    assert!(get(&addr, "/").contains("crihook-sim"), "the page is there");
    let page = get(&addr, "/metrics");
    let line = r#"crihook_cri_requests_total{code="OK",method="PullImage",service="runtime.v1.ImageService"} "#;
    let pulls = page.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("no pulls:\n{page}"));
    assert!(pulls.parse::<u64>().unwrap() >= first["PullImage"]);
    // Another round begins by itself.
    demo.until("a pod arrives");

    demo.interrupt();
    let (output, status) = demo.end();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(counts(&output)["Version"] >= 1);
    assert_eq!(counts(&output)["GetContainerEvents"], 1, "the stream that was open all the time is counted at its end");
}

#[test]
fn ctrl_c_in_the_middle_of_a_call_ends_it_too() {
    let mut demo = Demo::start(&[]);
    demo.until("its container main starts");
    demo.interrupt();
    let begun = Instant::now();
    let (output, status) = demo.end();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(begun.elapsed() < LONG);
    assert_eq!(counts(&output)["RunPodSandbox"], 1);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut demo = Demo::start(&[]);
    demo.until("the kubelet starts");
    demo.lines = Box::new(std::io::empty());
    let (_, status) = demo.end();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_metrics_address_that_cannot_be_had_is_said_and_the_demo_goes_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (output, status) = Demo::start(&["--once", "--metrics-addr", &addr]).end();
    assert!(status.success(), "{output}");
    assert!(output.contains(&format!("not served: {addr} cannot be had")), "{output}");
    assert_eq!(counts(&output)["StopPodSandbox"], 1);
}

fn get(addr: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}
