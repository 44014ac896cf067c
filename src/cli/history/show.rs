//! `crihook history show`: all of one run, what its attempts have printed included.

use std::fmt::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::run::{Attempt, Run};
use super::{ago, query};
use crate::cli::client::Asking;
use crate::cli::text::{block, took, visible};

/// What `history show` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or how that begins or ends
    #[arg(value_name = "RUN", value_parser = query::run)]
    run: String,
    #[command(flatten)]
    asking: Asking,
}

/// Shows it.
pub fn run(args: &Args) -> ExitCode {
    args.asking.run(async |client| {
        let document = client.get(&format!("/v1/runs/{}", args.run), &[]).await?;
        client.show(document, |run| {
            let mut page = String::new();
            whole(&mut page, run).map(|()| page)
        })
    })
}

fn whole(page: &mut String, run: &Run) -> fmt::Result {
    let mut line = |name: &str, text: &str| writeln!(page, "{name:<10}  {}", visible(text));
    line("run", &run.id)?;
    if let Some(of) = &run.replay_of {
        line("replay of", of)?;
    }
    line("hook", &format!("{}/{} ({}, {})", run.policy, run.hook, run.handler, run.mode))?;
    line("point", &run.point)?;
    line("pod", &format!("{}/{}", run.namespace, run.pod))?;
    if let Some(container) = &run.container {
        let id = run.container_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
        line("container", &format!("{container}{id}"))?;
    }
    if let Some(sandbox) = &run.sandbox_id {
        line("sandbox", sandbox)?;
    }
    let at = |time: SystemTime| humantime::format_rfc3339_millis(time).to_string();
    line("asked for", &format!("{}, {} ago", at(run.created_at), ago(run.created_at)))?;
    if let Some(began) = run.started_at {
        line("began", &at(began))?;
    }
    if let Some(ended) = run.ended_at {
        let took = run.duration(ended).map(|time| format!(", after {}", took(time))).unwrap_or_default();
        line("ended", &format!("{}{took}", at(ended)))?;
    }
    let reason = run.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    line("outcome", &format!("{}{reason}", run.state()))?;
    for attempt in &run.attempts {
        writeln!(page)?;
        one(page, attempt)?;
    }
    Ok(())
}

fn one(page: &mut String, attempt: &Attempt) -> fmt::Result {
    let at = humantime::format_rfc3339_millis(attempt.started_at);
    let time = took(Duration::try_from_secs_f64(attempt.duration).unwrap_or_default());
    write!(page, "attempt {}   {at}, {time}, {}", attempt.number, visible(&attempt.result))?;
    match (&attempt.message, attempt.exit_code, attempt.http_status) {
        // It tells of codes, too.
        (Some(message), ..) => writeln!(page, ": {}", visible(message)),
        (None, Some(code), _) => writeln!(page, ": exit code {code}"),
        (None, None, Some(status)) => writeln!(page, ": status {status}"),
        (None, None, None) => writeln!(page),
    }?;
    for (name, text) in [("stdout", &attempt.stdout), ("stderr", &attempt.stderr), ("body", &attempt.body)] {
        if !text.is_empty() {
            write!(page, "  {name}\n{}", block(text, "    "))?;
        }
    }
    Ok(())
}
