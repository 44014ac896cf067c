//! `crihook replay`: a hook is run again for an event of the past.

use std::process::ExitCode;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::json;

use super::Output;
use super::client::{Asking, Client, Refused, SOON};
use super::history::{Run, short};
use super::text::{took, visible};
use crate::app::api::query;

/// What `replay` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's id, or how that begins or ends
    #[arg(value_name = "RUN", value_parser = query::run)]
    run: String,
    /// Do not wait for the new run to end
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    id: String,
    replay_of: String,
}

/// Replays. The exit code is 1 if the new run does not succeed.
pub fn run(args: &Args) -> ExitCode {
    args.asking.run(async |client| replay(args, &client).await)
}

async fn replay(args: &Args, client: &Client) -> Result<(), Refused> {
    let document = client.post(&format!("/v1/runs/{}/replay", args.run), &json!({}), SOON).await?;
    let begun: Begun = client.understand(document.clone())?;
    if args.no_wait {
        return client.show(document, |begun: &Begun| Ok(format!("run {} replays {}\n", begun.id, begun.replay_of)));
    }
    if args.asking.output == Output::Text {
        let (new, old) = (short(&begun.id), short(&begun.replay_of));
        eprintln!("crihook: run {new} replays {old}; waiting for it to end (Ctrl-C does not stop it)");
    }
    // One that is over already is told at once.
    let ends = [("id", begun.id.clone()), ("limit", "1".to_owned()), ("follow", "true".to_owned())];
    let mut lines = client.lines("/v1/runs", &ends).await?;
    let document = loop {
        match lines.next().await? {
            Some(document) if document.get("id").is_some() => break document,
            Some(_) => {}
            None => {
                let why =
                    format!("crihook is ending; `crihook history show {}` tells what became of it", short(&begun.id));
                return Err(Refused::Failed(why));
            }
        }
    };
    let run: Run = client.understand(document.clone())?;
    let succeeded = run.outcome.as_deref() == Some("succeeded");
    client.show(document, |run: &Run| {
        let time = run.duration(SystemTime::now()).map(|time| format!(" after {}", took(time))).unwrap_or_default();
        let reason = run.reason.as_ref().map(|reason| format!(": {}", visible(reason))).unwrap_or_default();
        Ok(format!("run {} {}{time}{reason}\n", run.id, visible(run.state())))
    })?;
    if succeeded { Ok(()) } else { Err(Refused::Told) }
}
