//! `crihook pause` and `crihook resume`: hooks off and on; calls pass all the same.

use std::process::ExitCode;

use serde_json::json;

use super::client::{Asking, SOON};
use super::text::{age, visible};
use crate::app::api::Switched;

/// What `pause` is told.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// Why, for those who wonder later: shown in status, readiness and log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: ResumeArgs,
}

/// What `resume` is told.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Hooks off. Where they are already, nothing changes but the reason.
pub fn pause(args: &PauseArgs) -> ExitCode {
    let body = args.reason.as_ref().map_or(json!({}), |reason| json!({"reason": reason}));
    switch(&args.common, "/v1/pause", &body, |done| {
        let was = if done.changed { "hooks are paused" } else { "hooks were paused already" };
        let reason = done.paused.as_ref().and_then(|paused| paused.reason.as_ref());
        match reason {
            Some(reason) => format!("{was}: {}", visible(reason)),
            None => was.to_owned(),
        }
    })
}

/// Hooks on. Where they are already, nothing changes.
pub fn resume(args: &ResumeArgs) -> ExitCode {
    switch(args, "/v1/resume", &json!({}), |done| match &done.paused {
        Some(paused) => {
            format!("hooks are on again, after {}", age(paused.since.elapsed().unwrap_or_default()))
        }
        None => "hooks were on already".to_owned(),
    })
}

fn switch(args: &ResumeArgs, path: &str, body: &serde_json::Value, words: impl Fn(&Switched) -> String) -> ExitCode {
    args.asking.run(async |client| {
        let document = client.post(path, body, SOON).await?;
        client.show(document, |done: &Switched| {
            if let Some(why) = &done.not_kept {
                eprintln!("crihook: a restart will not find it so: {}", visible(why));
            }
            Ok(format!("{}\n", words(done)))
        })
    })
}
