//! What the demo prints: a line a call and a line a run of a hook, and a table of all calls and all runs.

mod runs;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal, Write, stdout};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::Endpoint;
use crate::cri::{Code, Method};
use crate::hooks::engine::RunSeen;
use crate::lifecycle::Outcome;
use crate::proxy::Finished;
use runs::{MARK, Runs};

/// Calls of a method from which its percentiles are taken: the last ones. Counts and shares are of all.
const KEPT: usize = 10_000;

/// Writes to standard output; in colour only if that is a terminal and `NO_COLOR` is not set.
pub(super) struct Report {
    out: Box<dyn Write + Send>,
    paint: bool,
    begun: Instant,
    tally: BTreeMap<usize, Row>,
    runs: Runs,
}

/// A method's calls so far.
struct Row {
    method: Method,
    calls: u64,
    failed: u64,
    duration: Duration,
    own: Duration,
    recent: VecDeque<(Duration, Duration)>,
}

/// SGR parameters.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Good,
    Bad,
    Own,
    Hook,
}

impl Ink {
    fn sgr(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "33",
            Self::Own => "36",
            Self::Hook => "35",
        }
    }
}

impl Report {
    pub fn to_stdout() -> Self {
        let paint = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::new(Box::new(stdout()), paint)
    }

    fn new(out: Box<dyn Write + Send>, paint: bool) -> Self {
        Self { out, paint, begun: Instant::now(), tally: BTreeMap::new(), runs: Runs::default() }
    }

    /// Takes what is padded already: the escapes must not count as width.
    fn ink(&self, ink: Ink, text: &str) -> String {
        if self.paint { format!("\x1b[{}m{text}\x1b[0m", ink.sgr()) } else { text.to_owned() }
    }

    /// Who is who, and where. `hooks` are the directory of policies and the socket of their server; `metrics` is the address, or the one that could not be had.
    pub fn opening(
        &mut self,
        crihook: &Endpoint,
        runtime: &Endpoint,
        hooks: (&Path, &Path),
        metrics: Result<SocketAddr, SocketAddr>,
        once: bool,
    ) -> io::Result<()> {
        let title = self.ink(Ink::Bold, "a scripted kubelet ─▶ crihook ─▶ an embedded runtime");
        let [page, metrics] = ["", "metrics"].map(|path| match metrics {
            Ok(addr) => format!("http://{addr}/{path}"),
            Err(addr) => format!("not served: {addr} cannot be had"),
        });
        let ends = if once { "after one round" } else { "with Ctrl-C; until then any CRI client may join in:" };
        let (policies, server) = hooks;
        writeln!(self.out, "{title}\n")?;
        for (name, value) in [
            ("crihook", crihook.to_string().as_str()),
            ("runtime", &runtime.to_string()),
            ("hooks", &format!("{} (policies, as on a node)", policies.display())),
            ("", &format!("unix://{} (the server that they call)", server.display())),
            ("page", &page),
            ("metrics", &metrics),
            ("ends", ends),
        ] {
            writeln!(self.out, "  {}  {value}", self.ink(Ink::Dim, &format!("{name:<7}")))?;
        }
        if !once {
            writeln!(self.out, "           crictl --runtime-endpoint {crihook} pods")?;
        }
        let head = format!(
            "{:>8}   {:<26}{:<12}{:>10}{:>10}{:>10}{:>10}",
            "at", "call", "code", "took", "runtime", "hooks", "crihook"
        );
        writeln!(self.out, "\n{}", self.ink(Ink::Dim, &head))
    }

    pub fn step(&mut self, step: &str) -> io::Result<()> {
        writeln!(self.out, "{:>8} {}", "──", self.ink(Ink::Bold, step))
    }

    /// A line for a call that has just ended.
    pub fn call(&mut self, call: &Finished) -> io::Result<()> {
        let Finished { method, code, duration, shares, .. } = *call;
        let row = self.tally.entry(method.index()).or_insert_with(|| Row::new(method));
        row.add(call);
        let at = self.ink(Ink::Dim, &format!("{:>8}", precise(self.begun.elapsed())));
        let none = || "–".to_owned();
        let (runtime, own) =
            if method.is_endless() { (none(), none()) } else { (human(shares.upstream), human(shares.overhead)) };
        let hooks = if shares.hooks.is_zero() { none() } else { human(shares.hooks) };
        let hooks = self.ink(if shares.hooks.is_zero() { Ink::Dim } else { Ink::Hook }, &format!("{hooks:>10}"));
        // A stream that lasts as long as its client ends by being cancelled.
        let good = code == Code::OK || method.is_endless();
        let code = self.ink(if good { Ink::Good } else { Ink::Bad }, &format!("{:<12}", code.name()));
        let own = self.ink(Ink::Own, &format!("{own:>10}"));
        writeln!(self.out, "{at}   {:<26}{code}{:>10}{runtime:>10}{hooks}{own}", method.name(), human(duration))
    }

    /// A line for a hook's run that has just ended.
    pub fn run(&mut self, run: &RunSeen) -> io::Result<()> {
        self.runs.add(run);
        let at = self.ink(Ink::Dim, &format!("{:>8}", precise(self.begun.elapsed())));
        let point = self.ink(Ink::Hook, &format!("{:<26}", format!("{MARK} {}", run.hook.point)));
        let ink = if run.outcome == Outcome::Succeeded { Ink::Good } else { Ink::Bad };
        let outcome = self.ink(ink, &format!("{:<12}", run.outcome.name()));
        writeln!(self.out, "{at}   {point}{outcome}{:>10}   {}", human(run.duration), runs::words(run))
    }

    /// The table after the first of many rounds.
    pub fn interim(&mut self) -> io::Result<()> {
        self.table()?;
        let text = "more rounds follow until Ctrl-C, then the table of all of them";
        writeln!(self.out, "{}\n", self.ink(Ink::Dim, text))
    }

    pub fn closing(&mut self) -> io::Result<()> {
        self.table()?;
        self.out.flush()
    }

    fn table(&mut self) -> io::Result<()> {
        let head = format!(
            "{:<26}{:>7}{:>8}{:>11}{:>11}{:>13}{:>13}{:>8}",
            "method", "calls", "not OK", "p50", "p99", "crihook p50", "crihook p99", "share"
        );
        writeln!(self.out, "\n{}", self.ink(Ink::Bold, &head))?;
        let (mut calls, mut failed, mut duration, mut own) = (0, 0, Duration::ZERO, Duration::ZERO);
        for row in self.tally.values() {
            writeln!(self.out, "{}", self.line(row))?;
            (calls, failed) = (calls + row.calls, failed + row.failed);
            (duration, own) = (duration + row.duration, own + row.own);
        }
        let share = self.ink(Ink::Own, &format!("{:>8}", percent(own, duration)));
        let total = format!("{:<26}{calls:>7}{failed:>8}{:>48}", "all", "");
        writeln!(self.out, "{}{share}\n", self.ink(Ink::Bold, &total))?;
        if self.runs.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "{}", self.ink(Ink::Bold, &Runs::head()))?;
        for line in self.runs.lines() {
            writeln!(self.out, "{}", self.ink(Ink::Hook, &line))?;
        }
        writeln!(self.out)
    }

    fn line(&self, row: &Row) -> String {
        let Row { method, calls, failed, .. } = row;
        let times = if method.is_endless() {
            // Counted, not timed.
            let none = "–";
            format!("{none:>11}{none:>11}{none:>13}{none:>13}{none:>8}")
        } else {
            let [p50, p99] = [50, 99].map(|p| human(percentile(row.recent.iter().map(|pair| pair.0).collect(), p)));
            let [own50, own99] = [50, 99].map(|p| human(percentile(row.recent.iter().map(|pair| pair.1).collect(), p)));
            let own = format!("{own50:>13}{own99:>13}{:>8}", percent(row.own, row.duration));
            format!("{p50:>11}{p99:>11}{}", self.ink(Ink::Own, &own))
        };
        format!("{:<26}{calls:>7}{failed:>8}{times}", method.name())
    }
}

impl Row {
    fn new(method: Method) -> Self {
        let (duration, own) = (Duration::ZERO, Duration::ZERO);
        Self { method, calls: 0, failed: 0, duration, own, recent: VecDeque::new() }
    }

    fn add(&mut self, call: &Finished) {
        self.calls += 1;
        if self.method.is_endless() {
            return;
        }
        self.failed += u64::from(call.code != Code::OK);
        self.duration += call.duration;
        self.own += call.shares.overhead;
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((call.duration, call.shares.overhead));
    }
}

/// The smallest value that `percent` of all do not exceed (the nearest rank). `all` is not empty.
fn percentile(mut all: Vec<Duration>, percent: usize) -> Duration {
    all.sort_unstable();
    let rank = (all.len() * percent).div_ceil(100).max(1);
    all.get(rank - 1).copied().unwrap_or_default()
}

fn percent(part: Duration, whole: Duration) -> String {
    if whole.is_zero() {
        return "–".to_owned();
    }
    format!("{:.1} %", 100.0 * part.as_secs_f64() / whole.as_secs_f64())
}

/// Seconds since the start, to the millisecond, so that the column is in order to the eye.
fn precise(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// Three digits and the unit that suits them.
fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = [(1e6, "µs"), (1e3, "ms"), (1.0, "s")]
        .map(|(scale, unit)| (seconds * scale, unit))
        .into_iter()
        .find(|&(value, unit)| value < 999.5 || unit == "s")
        .unwrap_or((seconds, "s"));
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::hooks::Defaults;
    use crate::hooks::policy::{Action, FailurePolicy, Hook, Mode};
    use crate::lifecycle::{Container, Event};
    use crate::proxy::Shares;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn times_have_three_digits_and_the_unit_that_suits_them() {
        let shown = [1, 84, 999, 1_000, 61_240, 999_700, 1_500_000, 61_000_000].map(|n| human(micros(n)));
        assert_eq!(shown, ["1.00 µs", "84.0 µs", "999 µs", "1.00 ms", "61.2 ms", "1.00 s", "1.50 s", "61.0 s"]);
        assert_eq!(human(Duration::ZERO), "0.00 µs");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let all: Vec<_> = (1..=200).rev().map(micros).collect();
        assert_eq!(percentile(all.clone(), 50), micros(100));
        assert_eq!(percentile(all, 99), micros(198));
        assert_eq!(percentile(vec![micros(7)], 50), micros(7));
    }

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one writer").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn run(name: &str, on: &str, outcome: Outcome, attempts: u32, millis: u64) -> RunSeen {
        let (point, defaults) = (on.parse().expect("a point"), Defaults::default());
        let hook = Hook {
            policy: "demo".into(),
            name: name.into(),
            point,
            action: Action::Sleep(Duration::ZERO),
            timeout: defaults.timeout,
            retries: defaults.retries,
            mode: Mode::of(point),
            failure_policy: FailurePolicy::Ignore,
        };
        let container = Some(Arc::new(Container { name: "main".to_owned(), ..Container::default() }));
        let event = Event {
            point,
            pod: Arc::default(),
            container,
            grace: None,
            at: std::time::SystemTime::now().into(),
            trace: None,
        };
        RunSeen {
            id: "1".into(),
            hook: Arc::new(hook),
            event: Arc::new(event),
            outcome,
            reason: (outcome != Outcome::Succeeded).then(|| "no answer\nat all".to_owned()),
            attempts,
            duration: Duration::from_millis(millis),
        }
    }

    #[test]
    fn a_run_has_a_line_that_says_whose_it_was_and_why_it_did_not_succeed() {
        let page = Page::default();
        let mut report = Report::new(Box::new(page.clone()), false);
        report.run(&run("drain", "PreStop", Outcome::TimedOut, 1, 600)).expect("written");
        report.run(&run("warm", "PostStart", Outcome::Succeeded, 3, 90)).expect("written");
        let bytes = page.0.lock().expect("one writer").clone();
        let text = String::from_utf8(bytes).expect("text");
        let lines: Vec<_> = text.lines().map(|line| line.split_once(" s   ").expect("a time").1).collect();
        assert_eq!(
            lines,
            [
                "◆ PreStopContainer        timed_out       600 ms   demo/drain for main, 1 attempt: no answer at all",
                "◆ PostStartContainer      succeeded      90.0 ms   demo/warm for main, 3 attempts",
            ]
        );
    }

    fn table(paint: bool) -> String {
        let page = Page::default();
        let mut report = Report::new(Box::new(page.clone()), paint);
        let method = |name: &str| Method::from_path(&format!("/runtime.v1.RuntimeService/{name}"));
        for (name, code, overhead) in
            [("Version", Code::OK, 90), ("Version", Code::UNAVAILABLE, 110), ("GetContainerEvents", Code::CANCELED, 5)]
        {
            let shares = Shares { overhead: micros(overhead), upstream: micros(1_000 - overhead), ..Shares::default() };
            let (begun, handed_on) = (std::time::Instant::now(), None);
            let call = Finished { method: method(name), code, begun, handed_on, duration: micros(1_000), shares };
            report.call(&call).expect("written");
        }
        for millis in [300, 310] {
            report.run(&run("drain", "PreStop", Outcome::Succeeded, 1, millis)).expect("written");
        }
        report.run(&run("drain", "PreStop", Outcome::TimedOut, 2, 600)).expect("written");
        report.run(&run("warm", "PostStart", Outcome::Succeeded, 3, 90)).expect("written");
        page.0.lock().expect("one writer").clear();
        report.closing().expect("written");
        let bytes = page.0.lock().expect("one writer").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn the_table_has_a_row_for_each_method_and_for_each_hook() {
        insta::assert_snapshot!(table(false));
    }

    #[test]
    fn colours_do_not_shift_the_columns() {
        let painted = table(true);
        assert!(painted.contains("\x1b["));
        let mut plain = String::new();
        for (n, piece) in painted.split("\x1b[").enumerate() {
            plain.push_str(if n == 0 { piece } else { piece.split_once('m').expect("an escape").1 });
        }
        assert_eq!(plain, table(false));
    }
}
