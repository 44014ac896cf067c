//! What the page shows: the template's own words, so that nothing comes to the network which is not named here.
//!
//! Of [`Status`] that leaves out why breakers are open, since it may quote what a hook's server has answered. What is wrong with policies is told
//! by its place and its message, with secrets masked, and without the line that it stands in.

use std::time::{Duration, SystemTime};

use askama::Template;

use super::super::api::status::{Breaker, Degradation, Status};
use super::calls::Calls;
use super::facts::{Fact, facts};
use super::hooks::{self, Hook};
use super::snapshot::Snapshot;
use super::times::{self, Times};
use super::words::age;

/// Mistakes in policies that are told; `crihook check` tells all.
const MISTAKES: usize = 20;

/// The page. Its fields are what the template names.
#[derive(Template)]
#[template(path = "page.html", config = "src/app/page/askama.toml")]
pub struct View<'a> {
    pub style: &'a str,
    pub script: &'a str,
    pub node: &'a str,
    /// Which times are told.
    pub period: Period,
    /// How long these are.
    pub length: String,
    pub status: &'a Status,
    pub facts: Vec<Fact>,
    pub wrong: Vec<&'a Degradation>,
    pub breakers: Vec<OpenBreaker>,
    pub mistakes: Vec<&'a str>,
    /// How many are not told.
    pub more_mistakes: usize,
    pub calls: Calls,
    pub hooks: Vec<Hook>,
    pub times: Vec<Times>,
    /// When this was so, in UTC.
    pub now: String,
}

/// A hook whose server is left alone.
#[derive(Debug)]
pub struct OpenBreaker {
    pub hook: String,
    /// For how long.
    pub open: String,
}

/// Which calls and runs are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// The last minutes.
    Recent,
    /// All since crihook has started.
    Start,
}

impl Period {
    /// By the page's query; what it does not know is the usual.
    pub fn asked(query: &str) -> Self {
        let since = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "since");
        if since.is_some_and(|(_, value)| value == "start") { Self::Start } else { Self::Recent }
    }
}

/// What the page is made of.
pub struct Material<'a> {
    pub node: &'a str,
    pub style: &'a str,
    pub script: &'a str,
    pub status: &'a Status,
    pub period: Period,
    /// Metrics of that time.
    pub came: &'a Snapshot,
    pub length: Duration,
}

impl<'a> View<'a> {
    /// Puts it into words, as of `now`.
    pub fn of(material: &Material<'a>, now: SystemTime) -> Self {
        let &Material { node, style, script, status, period, came, length } = material;
        // Open breakers are told below, without the reason.
        let wrong = status.degradations.iter().filter(|found| found.what != "breaker");
        let breaker = |breaker: &Breaker| OpenBreaker {
            hook: format!("{}/{}", breaker.policy, breaker.hook),
            open: age(now.duration_since(breaker.open_since).unwrap_or_default()),
        };
        let mistakes = status.policies.errors.iter().map(|error| error.lines().next().unwrap_or_default());
        Self {
            style,
            script,
            node,
            period,
            length: age(length),
            status,
            facts: facts(status, now),
            wrong: wrong.collect(),
            breakers: status.breakers.iter().map(breaker).collect(),
            mistakes: mistakes.take(MISTAKES).collect(),
            more_mistakes: status.policies.errors.len().saturating_sub(MISTAKES),
            calls: Calls::within(length, came),
            hooks: hooks::hooks(came),
            times: times::times(came),
            now: humantime::format_rfc3339_seconds(now).to_string().replace('T', " ").replace('Z', " UTC"),
        }
    }

    /// How many things are not as they should be.
    pub fn troubles(&self) -> usize {
        self.wrong.len() + self.breakers.len()
    }

    /// In a few words.
    pub fn state(&self) -> String {
        match self.troubles() {
            0 => "All is well".to_owned(),
            1 => "1 thing is not as it should be".to_owned(),
            many => format!("{many} things are not as they should be"),
        }
    }
}

/// A text in pieces: whether it stood between backticks, and what stood there.
fn pieces(text: &str) -> impl Iterator<Item = (bool, &str)> {
    text.split('`').enumerate().map(|(n, piece)| (n % 2 == 1, piece))
}
