//! What was tried, and what came of it.

use std::fmt;
use std::time::Duration;

use super::stage::Hit;

/// Of all trials.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub took: Duration,
    /// Kills.
    pub trials: usize,
    /// Of these: while crihook began.
    pub beginning: usize,
    /// While crihook owed somebody an answer.
    pub in_call: usize,
    /// While a hook was run.
    pub in_run: usize,
    pub nodes: usize,
    pub pods: usize,
    /// Hooks that had to be run, by what the runtime says.
    pub due: usize,
    pub deliveries: usize,
    /// Deliveries that repeat one of the same id.
    pub redeliveries: usize,
    /// What was due and has not come.
    pub lost: Vec<String>,
    /// What came again under another id.
    pub twice: Vec<String>,
    /// Attempts whose number is not above the one before.
    pub numbers: Vec<String>,
    /// Containers that were stopped before their `PreStop`.
    pub early: Vec<String>,
    /// Calls that failed though crihook lived.
    pub failures: Vec<String>,
}

impl Report {
    pub fn kill(&mut self, hit: Hit) {
        self.trials += 1;
        self.beginning += usize::from(hit.beginning);
        self.in_call += usize::from(hit.calls > 0);
        self.in_run += usize::from(hit.runs > 0);
    }

    /// Everything that must not be, each kind under its name.
    fn wrongs(&self) -> [(&'static str, &Vec<String>); 5] {
        [
            ("due and never delivered", &self.lost),
            ("delivered again as new", &self.twice),
            ("delivered with a number that had been", &self.numbers),
            ("containers stopped before their PreStop", &self.early),
            ("calls failed though crihook lived", &self.failures),
        ]
    }

    pub fn is_clean(&self) -> bool {
        self.wrongs().iter().all(|(_, wrongs)| wrongs.is_empty())
    }
}

impl fmt::Display for Report {
    /// Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, what: &str, count: usize| writeln!(f, "| {what} | {count} |");
        writeln!(f, "| `kill -9`, seed {}, {} s | |\n| --- | ---: |", self.seed, self.took.as_secs())?;
        row(f, "trials (kills)", self.trials)?;
        row(f, "- that hit a run in flight", self.in_run)?;
        row(f, "- that hit a call in flight", self.in_call)?;
        row(f, "- that hit crihook while it began", self.beginning)?;
        row(f, "nodes, one after another", self.nodes)?;
        row(f, "pods, from RunPodSandbox to RemovePodSandbox", self.pods)?;
        row(f, "hooks due, by the runtime's events", self.due)?;
        row(f, "deliveries", self.deliveries)?;
        row(f, "- of them redeliveries: same EVENT_ID, higher ATTEMPT", self.redeliveries)?;
        for (what, wrongs) in self.wrongs() {
            row(f, &format!("**{what}**"), wrongs.len())?;
        }
        for (what, wrongs) in self.wrongs().iter().filter(|(_, wrongs)| !wrongs.is_empty()) {
            writeln!(f, "\n{what}:")?;
            wrongs.iter().take(20).try_for_each(|wrong| writeln!(f, "- {wrong}"))?;
        }
        Ok(())
    }
}
