//! `crihook history`: what hooks have done, and `crihook history show`: all of one run.

mod follow;
mod run;
mod show;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::client::{Asking, Client, Refused};
use super::text::{self, NOTHING, Table};
use super::{Output, print};
use crate::app::api::query;
use crate::lifecycle::{Outcome, Point};
pub use run::Run;

/// Runs that are shown unless a limit is given.
const USUAL: usize = 50;
/// The same before those that are followed.
const USUAL_BEFORE: usize = 10;

/// What `history` is told.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Everything about one run: its attempts, and what they printed
    Show(show::Args),
}

/// Which runs, and how.
#[derive(Debug, clap::Args)]
struct List {
    /// Only of pods in this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only of the pod of this name
    #[arg(long)]
    pod: Option<String>,
    /// Only of containers of this name, or of the one with this id
    #[arg(long)]
    container: Option<String>,
    /// Only of hooks of this policy
    #[arg(long)]
    policy: Option<String>,
    /// Only of hooks of this name
    #[arg(long)]
    hook: Option<String>,
    /// Only at this point, named as in policies
    #[arg(long)]
    point: Option<Point>,
    /// Only with this outcome; those that are pending have none yet
    #[arg(long, value_parser = outcomes())]
    outcome: Option<String>,
    /// Only those that were asked for since then: how long ago (1h30m), or when (2026-01-31T08:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = query::since)]
    since: Option<SystemTime>,
    /// Not more than these, the newest [default: 50; with --follow, 10]
    #[arg(long, value_name = "N", value_parser = query::limit)]
    limit: Option<usize>,
    /// Go on with runs as they end, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    asking: Asking,
}

fn outcomes() -> PossibleValuesParser {
    Outcome::ALL.map(Outcome::name).into_iter().chain([query::PENDING]).into()
}

/// Shows them, the newest last.
pub fn run(args: &Args) -> ExitCode {
    let list = &args.list;
    match &args.command {
        Some(Command::Show(args)) => show::run(args),
        None if list.follow && list.outcome.as_deref() == Some(query::PENDING) => {
            eprintln!("crihook: what can be followed are runs as they end: leave out --outcome pending, or --follow");
            ExitCode::from(2)
        }
        None if list.follow => list.asking.run(async |client| follow::follow(list, &client).await),
        None => list.asking.run(async |client| show_list(list, &client).await),
    }
}

impl List {
    /// How many are shown of those that there are.
    fn limit(&self) -> usize {
        self.limit.unwrap_or(if self.follow { USUAL_BEFORE } else { USUAL })
    }

    /// What is asked for.
    fn query(&self, limit: usize) -> Vec<(&'static str, String)> {
        let given = [
            ("namespace", self.namespace.clone()),
            ("pod", self.pod.clone()),
            ("container", self.container.clone()),
            ("policy", self.policy.clone()),
            ("hook", self.hook.clone()),
            ("point", self.point.map(|point| point.name().to_owned())),
            ("outcome", self.outcome.clone()),
            ("since", self.since.map(|since| humantime::format_rfc3339_micros(since).to_string())),
            ("limit", Some(limit.to_string())),
            // What they printed is for documents only.
            ("attempts", Some((self.asking.output == Output::Json).to_string())),
            ("follow", self.follow.then(|| "true".to_owned())),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

async fn show_list(list: &List, client: &Client) -> Result<(), Refused> {
    let limit = list.limit();
    // One more than is shown tells whether there are more.
    let document = client.get("/v1/runs", &list.query(limit.saturating_add(1))).await?;
    let mut found: Vec<Value> = client.understand(document)?;
    if found.len() > limit {
        found.truncate(limit);
        if list.limit.is_none() {
            eprintln!("crihook: these are the newest {limit}; --limit shows more");
        }
    }
    found.reverse();
    if list.asking.output == Output::Json {
        return Ok(print(&format!("{:#}\n", Value::Array(found)))?);
    }
    let runs: Vec<Run> = client.understand(Value::Array(found))?;
    if runs.is_empty() {
        eprintln!("crihook: no runs");
        return Ok(());
    }
    let mut table = Table::new(head("AGE"), text::columns());
    let now = SystemTime::now();
    for run in &runs {
        table.add(row(run, now, text::age(now.duration_since(run.created_at).unwrap_or_default())));
    }
    Ok(print(&table.print())?)
}

fn head(time: &'static str) -> [&'static str; 10] {
    [time, "NAMESPACE/POD", "CONTAINER", "POLICY/HOOK", "POINT", "OUTCOME", "ATTEMPTS", "DURATION", "ID", "REASON"]
}

fn row(run: &Run, now: SystemTime, time: String) -> [String; 10] {
    let mut reason = run.reason.clone().unwrap_or_default();
    if let Some(of) = &run.replay_of {
        let of = format!("replay of {}", short(of));
        reason = if reason.is_empty() { of } else { format!("{of}: {reason}") };
    }
    [
        time,
        format!("{}/{}", run.namespace, run.pod),
        run.container.clone().unwrap_or_else(|| NOTHING.to_owned()),
        format!("{}/{}", run.policy, run.hook),
        run.point.clone(),
        run.state().to_owned(),
        run.started.to_string(),
        run.duration(now).map_or_else(|| NOTHING.to_owned(), text::took),
        short(&run.id).to_owned(),
        reason,
    ]
}

/// The end of an id, which tells it from others: its beginning is the time.
pub fn short(id: &str) -> &str {
    const DIGITS: usize = 8;
    id.len().checked_sub(DIGITS).and_then(|from| id.get(from..)).unwrap_or(id)
}

/// How long ago, for a sentence.
fn ago(time: SystemTime) -> String {
    text::age(time.elapsed().unwrap_or(Duration::ZERO))
}
