//! Commands in containers, for hooks.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status};

use super::Runtime;
use super::identity::within;
use crate::cri::v1::ExecSyncRequest;
use crate::hooks::{self, Boxed, ExecError, Executed};
use crate::lifecycle::Address;

/// What the runtime may take beyond a command's own limit, as the kubelet has it.
const SLACK: Duration = Duration::from_mins(2);

impl hooks::Runtime for Runtime {
    fn exec(&self, container: &str, command: &[String], limit: Duration) -> Boxed<'_, Result<Executed, ExecError>> {
        // CRI counts in whole seconds, and 0 is no limit.
        let seconds = limit.as_millis().div_ceil(1000).max(1);
        let timeout = i64::try_from(seconds).unwrap_or(i64::MAX);
        let request = ExecSyncRequest { container_id: container.to_owned(), cmd: command.to_vec(), timeout };
        let mut client = self.client.clone();
        // A task of its own, so that the call outlives whoever waits for it: a runtime whose call was cancelled may leave the process
        // behind, one whose limit has come kills it.
        let asked = tokio::spawn(async move { client.exec_sync(within(limit + SLACK, request)).await });
        Box::pin(async move {
            match asked.await {
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    let (stdout, stderr) = (Bytes::from(answer.stdout), Bytes::from(answer.stderr));
                    Ok(Executed { exit_code: answer.exit_code, stdout, stderr })
                }
                Ok(Err(status)) => Err(explain(&status)),
                Err(error) => Err(ExecError::Runtime(error.to_string())),
            }
        })
    }

    fn address(&self, sandbox: &str) -> Boxed<'_, Result<Address, String>> {
        let sandbox = sandbox.to_owned();
        Box::pin(async move { self.address_of(&sandbox).await })
    }
}

/// Tells by the runtime's code and words what went wrong: CRI has no codes for it.
fn explain(status: &Status) -> ExecError {
    let text = status.message();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status.code() {
        Code::DeadlineExceeded => ExecError::TimedOut,
        Code::NotFound => ExecError::NotRunning(text.to_owned()),
        _ if says(&["is in CONTAINER_EXITED", "is in state CONTAINER_", "not running", "container is stopped"]) => {
            ExecError::NotRunning(text.to_owned())
        }
        _ if says(&["no such file or directory", "executable file not found", "permission denied", "exec format"]) => {
            ExecError::NotStarted(text.to_owned())
        }
        _ => ExecError::Runtime(text.to_owned()),
    }
}
