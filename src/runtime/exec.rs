//! Commands in containers, for hooks.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::Runtime;
use super::identity::within;
use crate::cri::v1::ExecSyncRequest;
use crate::hooks::{self, Boxed, ExecError, Executed};
use crate::inventory::{self, State};
use crate::lifecycle::Address;

/// What the runtime may take beyond a command's own limit, as the kubelet has it.
const SLACK: Duration = Duration::from_mins(2);

impl hooks::Runtime for Runtime {
    fn exec(&self, container: &str, command: &[String], limit: Duration) -> Boxed<'_, Result<Executed, ExecError>> {
        // CRI counts in whole seconds, and 0 is no limit.
        let seconds = limit.as_millis().div_ceil(1000).max(1);
        let timeout = i64::try_from(seconds).unwrap_or(i64::MAX);
        let request = ExecSyncRequest { container_id: container.to_owned(), cmd: command.to_vec(), timeout };
        let (mut client, container) = (self.client.clone(), container.to_owned());
        // A task of its own, so that the call outlives whoever waits for it: one whose limit has come is sure to kill the process, while
        // containerd 1.6 and 1.7 leave it running for good if the call is cancelled just as they start it.
        let asked = tokio::spawn(async move { client.exec_sync(within(limit + SLACK, request)).await });
        Box::pin(async move {
            match asked.await {
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    if answer.exit_code == KILLED && self.killed_with(&container).await {
                        return Err(ExecError::NotRunning("it ended while the command ran".to_owned()));
                    }
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

/// What a shell reports of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;
/// How long the runtime may go on calling a container running whose processes have been killed: containerd tells of the command first.
const SETTLING: Duration = Duration::from_secs(1);
/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

impl Runtime {
    /// A process that was killed, in a container that does not run any more, was killed with it; CRI does not tell.
    async fn killed_with(&self, container: &str) -> bool {
        let settled = Instant::now() + SETTLING;
        loop {
            match inventory::Runtime::state(self, container).await {
                Ok(Some(State::Running)) if Instant::now() < settled => sleep(PAUSE).await,
                answer => return answer.is_ok_and(|state| state != Some(State::Running)),
            }
        }
    }
}

/// Tells by the runtime's code and words what went wrong, since CRI has no codes for it. The words are those of containerd 1.6 to 2.1 and runc.
fn explain(status: &Status) -> ExecError {
    let text = status.message();
    match status.code() {
        Code::DeadlineExceeded => ExecError::TimedOut,
        Code::ResourceExhausted => {
            ExecError::Runtime(format!("the command printed more than fits a CRI message ({text})"))
        }
        Code::NotFound => ExecError::NotRunning("there is no such container any more".to_owned()),
        _ if text.contains("container is in CONTAINER_") || text.contains("is in state CONTAINER_") => {
            let state =
                text.split("CONTAINER_").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_uppercase()).next());
            ExecError::NotRunning(format!("it is {}", state.unwrap_or("not running").to_ascii_lowercase()))
        }
        _ => match text.split_once("OCI runtime exec failed: ") {
            Some((_, why)) => {
                let why = why.rsplit_once("unable to start container process: ").map_or(why, |(_, why)| why);
                ExecError::NotStarted(why.trim_end_matches(": unknown").to_owned())
            }
            None => ExecError::Runtime(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerds_words_tell_a_missing_binary_from_a_container_that_is_not_running() {
        let explained = |code, text: &str| explain(&Status::new(code, text)).to_string();
        let missing = "failed to exec in container: failed to start exec \"c9\": OCI runtime exec failed: exec failed: unable to start \
                       container process: exec: \"/bin/nothing\": stat /bin/nothing: no such file or directory: unknown";
        assert_eq!(
            explained(Code::Unknown, missing),
            "cannot be started in the container: exec: \"/bin/nothing\": stat /bin/nothing: no such file or directory"
        );
        let exited = "failed to exec in container: container is in CONTAINER_EXITED state";
        assert_eq!(explained(Code::Unknown, exited), "the container is not running: it is exited");
        let slow = "failed to exec in container: timeout 1s exceeded: context deadline exceeded";
        assert_eq!(explain(&Status::deadline_exceeded(slow)), ExecError::TimedOut);
    }
}
