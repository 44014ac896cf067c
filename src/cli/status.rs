//! `crihook status`: how a crihook is that serves.

use std::fmt::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::client::Asking;
use super::counted;
use super::text::{age, size, visible};
use crate::app::api::status::Status;

/// What `status` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
}

/// Shows it. That something is not as it should be is no failure of the command: it is what was asked.
pub fn run(args: &Args) -> ExitCode {
    args.asking.run(async |client| {
        let document = client.get("/v1/status", &[]).await?;
        client.show(document, |status| {
            let mut page = String::new();
            whole(&mut page, status).map(|()| page)
        })
    })
}

/// What is not as it should be comes first: it is what people look for.
fn whole(page: &mut String, status: &Status) -> fmt::Result {
    let doing = if status.draining { "ending" } else { "serving" };
    let uptime = age(Duration::from_secs(status.uptime));
    let verdict = if status.degradations.is_empty() { "all is well" } else { "not all is as it should be" };
    writeln!(page, "crihook {}, {doing}, up for {uptime} (pid {}): {verdict}\n", visible(&status.version), status.pid)?;
    for found in &status.degradations {
        writeln!(page, "! {}: {}", visible(&found.what), visible(&found.why))?;
        // The documents' mistakes, each with its place.
        let errors = status.policies.errors.iter().filter(|_| found.what == "policies");
        for error in errors {
            writeln!(page, "    {}", visible(error.lines().next().unwrap_or_default()))?;
        }
        writeln!(page, "    {}\n", visible(&found.remedy))?;
    }
    let mut line = |name: &str, text: String| writeln!(page, "{name:<11}  {}", visible(&text));
    line("listen", status.listen.clone())?;
    line("runtime", runtime(status))?;
    if let Some(images) = &status.runtime.image_endpoint {
        line("images", images.clone())?;
    }
    let connections = status.connections;
    line("connections", format!("{} of clients, {} to the runtime", connections.downstream, connections.upstream))?;
    line("policies", policies(status))?;
    line("hooks", hooks(status))?;
    line("queue", format!("{} waiting, {} in flight", status.queue.waiting, status.queue.in_flight))?;
    if status.breakers.is_empty() {
        line("breakers", "none open".to_owned())?;
    }
    for (n, breaker) in status.breakers.iter().enumerate() {
        let open = age(since(breaker.open_since));
        let name = if n == 0 { "breakers" } else { "" };
        line(name, format!("{}/{} open for {open}", breaker.policy, breaker.hook))?;
    }
    line("journal", journal(status))
}

fn runtime(status: &Status) -> String {
    let runtime = &status.runtime;
    match (&runtime.name, &runtime.version) {
        (Some(name), Some(version)) => format!("{name} {version} at {}", runtime.endpoint),
        _ => format!("{} does not answer", runtime.endpoint),
    }
}

fn policies(status: &Status) -> String {
    let policies = &status.policies;
    if policies.hash.is_empty() {
        return format!("none, from {}", policies.directory.display());
    }
    let number = counted(policies.policies, "policy", "policies");
    let hooks = counted(policies.hooks, "hook", "hooks");
    let from = if policies.from_last_good {
        "the last good ones".to_owned()
    } else {
        format!("from {}", policies.directory.display())
    };
    let age = age(since(policies.loaded_at));
    format!("{number} with {hooks}, hash {}, {from}, in force for {age}", policies.hash)
}

fn hooks(status: &Status) -> String {
    let Some(paused) = &status.paused else { return "on".to_owned() };
    let reason = paused.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("paused for {}{reason}", age(since(paused.since)))
}

fn journal(status: &Status) -> String {
    let journal = &status.journal;
    let runs = counted(usize::try_from(journal.runs).unwrap_or(usize::MAX), "run", "runs");
    let mut text = format!("{}, {runs}, {}", journal.path.display(), size(journal.bytes));
    if journal.unwritten > 0 {
        let _ = write!(text, ", {} entries not written yet", journal.unwritten);
    }
    if let Some(degraded) = &journal.degraded {
        let _ = write!(text, ", not safe for {}", age(since(degraded.since)));
    }
    text
}

/// For how long something has been so; the clock may have been set back meanwhile.
fn since(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}
