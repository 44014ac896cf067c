//! `exec`: a command in the container, through the runtime.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::values::{Node, Values};
use super::{Delivery, Evidence, Failing, Failure, Handler, tail, trouble};
use crate::hooks::policy::Template;
use crate::hooks::{Boxed, ExecError, Runtime};

/// Succeeds with exit code 0. At the deadline it stops waiting; the process is the runtime's to kill, since CRI has no call for it.
pub(super) struct Exec {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) node: Node,
    pub(super) command: Vec<Template>,
}

impl Handler for Exec {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let Some(container) = &delivery.event.container else {
                return Err(Failure::failed("there is no container to run the command in"));
            };
            let values = Values { delivery: &delivery, node: &self.node };
            let command: Vec<String> = self.command.iter().map(|argument| values.fill(argument)).collect();
            let limit = delivery.deadline.saturating_duration_since(Instant::now());
            // To the runtime no time at all would mean: without a limit.
            if limit.is_zero() {
                return Err(Failure::of(Failing::TimedOut, "there was no time left to run the command"));
            }
            let running = self.runtime.exec(&container.id, &command, limit);
            let Ok(ended) = timeout_at(delivery.deadline, running).await else {
                let message = format!("the command did not end within {}", trouble::span(limit));
                return Err(Failure::of(Failing::TimedOut, message));
            };
            let ran = ended.map_err(|error| failure(&error))?;
            let evidence = Evidence {
                exit_code: Some(ran.exit_code),
                stdout: tail::end_of(&ran.stdout),
                stderr: tail::end_of(&ran.stderr),
                ..Evidence::default()
            };
            if ran.exit_code == 0 {
                return Ok(evidence);
            }
            Err(Failure { kind: Failing::Failed, message: format!("exit code {}", ran.exit_code), evidence })
        })
    }
}

fn failure(error: &ExecError) -> Failure {
    let kind = match error {
        ExecError::NotStarted(_) | ExecError::Runtime(_) => Failing::Failed,
        ExecError::TimedOut => Failing::TimedOut,
        ExecError::NotRunning(_) => Failing::Gone,
    };
    let message = match error {
        ExecError::NotStarted(_) | ExecError::TimedOut => format!("the command: {error}"),
        ExecError::NotRunning(_) | ExecError::Runtime(_) => error.to_string(),
    };
    Failure::of(kind, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::{Workshop, testing};
    use super::*;
    use crate::hooks::Executed;
    use crate::hooks::policy::Action;

    async fn run(answer: Option<Result<Executed, ExecError>>) -> (Result<Evidence, Failure>, testing::Asked) {
        let runtime = Arc::new(testing::Scripted { answer, ..testing::Scripted::default() });
        let command = ["/bin/drain", "--pod", "$(POD_NAME)", "$$(X) a b"].map(testing::template).to_vec();
        let hook = testing::hook("PreStop", Action::Exec(command));
        let handler = Workshop::new(runtime.clone(), "node-7".into(), testing::LOCAL).build(&hook).unwrap();
        let result = handler.attempt(testing::delivery(hook)).await;
        let asked = runtime.asked.lock().unwrap().remove(0);
        (result, asked)
    }

    fn ended(exit_code: i32) -> Executed {
        let stdout = Bytes::from(vec![b'x'; tail::CAP + 1]);
        Executed { exit_code, stdout, stderr: Bytes::from_static(b"oh") }
    }

    #[tokio::test(start_paused = true)]
    async fn the_command_is_expanded_argument_by_argument_and_its_output_kept() {
        let (result, (container, command, limit)) = run(Some(Ok(ended(0)))).await;
        assert_eq!(container, "c1");
        assert_eq!(command, ["/bin/drain", "--pod", "web-0", "$(X) a b"]);
        assert_eq!(limit, Duration::from_secs(10));
        let evidence = result.unwrap();
        assert_eq!((evidence.exit_code, evidence.stdout.len(), &evidence.stderr[..]), (Some(0), tail::CAP, &b"oh"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_deadline_nothing_is_begun() {
        let runtime = Arc::new(testing::Scripted { answer: Some(Ok(ended(0))), ..testing::Scripted::default() });
        let hook = testing::hook("PreStop", Action::Exec(vec![testing::template("/bin/drain")]));
        let handler = Workshop::new(runtime.clone(), "node-7".into(), testing::LOCAL).build(&hook).unwrap();
        let mut delivery = testing::delivery(hook);
        delivery.deadline = Instant::now();
        assert_eq!(handler.attempt(delivery).await.unwrap_err().kind, Failing::TimedOut);
        assert!(runtime.asked.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_told_apart() {
        let told = async |answer| {
            let failure = run(answer).await.0.unwrap_err();
            format!("{:?}: {} ({:?})", failure.kind, failure.message, failure.evidence.exit_code)
        };
        assert_eq!(told(Some(Ok(ended(3)))).await, "Failed: exit code 3 (Some(3))");
        assert_eq!(
            told(Some(Err(ExecError::NotStarted("/bin/drain: no such file".into())))).await,
            "Failed: the command: cannot be started in the container: /bin/drain: no such file (None)"
        );
        assert_eq!(
            told(Some(Err(ExecError::TimedOut))).await,
            "TimedOut: the command: killed by the runtime at its limit (None)"
        );
        assert_eq!(
            told(Some(Err(ExecError::NotRunning("exited".into())))).await,
            "Gone: the container is not running: exited (None)"
        );
        assert_eq!(told(None).await, "TimedOut: the command did not end within 10s (None)");
    }
}
