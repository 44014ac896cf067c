//! `crihook upgrade`: the installed binary takes over, and no call is lost.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::client::{Asking, SOON};
use crate::app::upgrade::Upgraded;
use crate::config::Span;

/// What `upgrade` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the new process may take to become ready; if it does not, the old one goes on
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: Span,
    #[command(flatten)]
    asking: Asking,
}

/// Succeeds once another process serves.
pub fn run(args: &Args) -> ExitCode {
    args.asking.run(async |client| {
        let limit = args.timeout.0;
        let body = json!({"timeout": humantime::format_duration(limit).to_string()});
        let document = client.post("/v1/upgrade", &body, limit.saturating_add(SOON)).await?;
        client.show(document, |Upgraded { old_pid, new_pid, milliseconds }| {
            let took = humantime::format_duration(Duration::from_millis(*milliseconds));
            Ok(format!(
                "process {new_pid} serves, after {took}; process {old_pid} finishes its calls and runs, and ends\n"
            ))
        })
    })
}
