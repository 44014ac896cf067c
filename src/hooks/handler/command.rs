//! `command`: a process on the node, with the event on its standard input and in its environment.
//!
//! ```text
//! crihook ──spawns──▶ crihook __command (supervisor) ──spawns──▶ the command ──▶ ... its descendants, setsid'd ones too
//! ```
//!
//! The supervisor adopts whatever the command leaves behind, so that all of it is below one process (`cli/command.rs`). When the command ends, the
//! supervisor kills the rest and exits with the command's code. At the deadline, or when the attempt's future is dropped, it is
//! told to end all; should it not get that done, crihook does. If crihook dies, the kernel tells the supervisor: more exactly, if the thread
//! ends that started it, so attempts belong on a runtime whose threads last (never `spawn_blocking`).

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout, timeout_at};

use super::tail::Tail;
use super::values::{Node, Values};
use super::{Delivery, Evidence, Failing, Failure, Handler, event, tree, trouble};
use crate::hooks::policy::{self, Name};
use crate::hooks::{Boxed, Runtime};

/// Where a command finds other programs: crihook's own search path may be anything.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The supervisor's exit code when there was nothing to run; with it goes a message that begins with the run's token.
pub const NOT_STARTED: u8 = 126;
/// What the command's environment is marked with on its way through the supervisor, which it must not concern (`LD_PRELOAD`).
pub const ENV_MARK: &str = "+";
/// How long the supervisor may take to end all before crihook does it by itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often crihook tries before it gives a process up: only one that hangs in the kernel outlives it.
const ROUNDS: usize = 5;
/// How long the output may stay open after the command and its descendants have ended: as long as somebody else was handed it.
const LINGER: Duration = Duration::from_millis(500);

/// Succeeds with exit code 0.
pub(super) struct Command {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) node: Node,
    pub(super) spec: policy::Command,
    pub(super) supervisor: PathBuf,
}

impl Handler for Command {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        Box::pin(self.run(delivery))
    }
}

impl Command {
    async fn run(&self, mut delivery: Delivery) -> Result<Evidence, Failure> {
        let limit = delivery.deadline.saturating_duration_since(Instant::now());
        // POD_IP is always in the environment, whether or not the policy's text mentions it.
        let sandbox = &delivery.event.pod.sandbox_id;
        if delivery.address.is_none() && !sandbox.is_empty() {
            let asked = timeout_at(delivery.deadline, self.runtime.address(sandbox)).await;
            delivery.address = asked.ok().and_then(Result::ok);
        }
        if delivery.deadline <= Instant::now() {
            return Err(Failure::of(Failing::TimedOut, "there was no time left to run the command"));
        }
        let token = format!("crihook-{:016x}", fastrand::u64(..));
        let child = self.spawn(Values { delivery: &delivery, node: &self.node }, &token)?;
        let (((mut stdin, mut stdout), mut stderr), mut family) = Family::of(child)?;

        let (out, err) = (Mutex::default(), Mutex::default());
        let document = event::document(&delivery, &self.node);
        let ended = {
            let talking = async {
                let feeding = async {
                    // A command need not read it.
                    let _ = stdin.write_all(&document).await;
                    drop(stdin);
                };
                tokio::join!(feeding, collect(&mut stdout, &out), collect(&mut stderr, &err));
            };
            timeout_at(delivery.deadline, family.wait(talking)).await
        };
        if ended.is_err() {
            family.end().await;
        }
        let kept = |tail: &Mutex<Tail>| tail.lock().unwrap_or_else(PoisonError::into_inner).kept();
        let evidence = Evidence { stdout: kept(&out), stderr: kept(&err), ..Evidence::default() };
        match ended {
            Ok(Ok(status)) => verdict(status, &token, evidence),
            Ok(Err(error)) => Err(Failure::failed(format!("the command cannot be waited for: {error}"))),
            Err(_) => {
                let message = format!("the command did not end within {}, and was killed", trouble::span(limit));
                Err(Failure { kind: Failing::TimedOut, message, evidence })
            }
        }
    }

    fn spawn(&self, values: Values<'_>, token: &str) -> Result<Child, Failure> {
        let hook = &values.delivery.hook;
        let point = values.delivery.event.point;
        let known = Name::ALL.iter().map(|name| (name.text(), values.get(*name)));
        let told = [("PATH", PATH), ("POINT", point.name()), ("POLICY", &hook.policy), ("HOOK", &hook.name)];
        let own = self.spec.env.iter().map(|(name, value)| (name.as_str(), values.fill(value)));
        let replay = values.delivery.replay_of.as_deref().map(|of| ("REPLAY_OF", of));
        // The name that command-line tools of OpenTelemetry read.
        let trace = values.delivery.trace.as_ref().map(|trace| ("TRACEPARENT", trace.to_string()));
        let told = told.into_iter().chain(replay).map(|(name, value)| (name, value.to_owned())).chain(trace);
        let env = told.chain(known).chain(own);

        let mut command = tokio::process::Command::new(&self.supervisor);
        command.arg0("crihook").args(["__command", "supervise", "--token", token]);
        command.args(["--parent", &std::process::id().to_string()]);
        if let Some(user) = &self.spec.user {
            command.arg(format!("--user={user}"));
        }
        command.arg("--").args(self.spec.command.iter().map(|argument| values.fill(argument)));
        command.env_clear().envs(env.map(|(name, value)| (format!("{ENV_MARK}{name}"), value)));
        // Not in crihook's group: a terminal's Ctrl-C is for crihook, which then ends its commands in an orderly way.
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| Failure::failed(format!("the command's supervisor cannot be started: {error}")))
    }
}

/// Reads to the end, and keeps the end.
async fn collect(from: &mut (impl AsyncRead + Unpin), tail: &Mutex<Tail>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..read]);
        // A command that writes without end shares the thread with everything else.
        tokio::task::yield_now().await;
    }
}

fn verdict(status: ExitStatus, token: &str, mut evidence: Evidence) -> Result<Evidence, Failure> {
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        let message = format!("the command's supervisor was killed by signal {signal}");
        return Err(Failure { kind: Failing::Failed, message, evidence });
    };
    if code == i32::from(NOT_STARTED)
        && let Some(reason) = evidence.stderr.strip_prefix(token.as_bytes())
    {
        return Err(Failure::failed(String::from_utf8_lossy(reason).trim()));
    }
    evidence.exit_code = Some(code);
    if code == 0 {
        return Ok(evidence);
    }
    Err(Failure { kind: Failing::Failed, message: format!("exit code {code}"), evidence })
}

/// The supervisor and all below it. Dropped before it has ended, it is made to end.
struct Family {
    supervisor: Pid,
    /// `None` once it has ended, or somebody else sees to that.
    child: Option<Child>,
}

/// The command's three streams.
type Pipes = ((ChildStdin, ChildStdout), ChildStderr);

impl Family {
    fn of(mut child: Child) -> Result<(Pipes, Self), Failure> {
        let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take());
        let supervisor = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        // It was spawned with three pipes and nobody has waited for it yet.
        let (Some(pipes), Some(supervisor)) = (pipes, supervisor) else {
            return Err(Failure::failed("the command's supervisor was lost"));
        };
        Ok((pipes, Self { supervisor, child: Some(child) }))
    }

    /// Until it has ended and its output has been read.
    async fn wait(&mut self, talking: impl Future<Output = ()>) -> std::io::Result<ExitStatus> {
        let Some(child) = &mut self.child else { return Err(std::io::ErrorKind::NotFound.into()) };
        tokio::pin!(talking);
        let mut talks = true;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = &mut talking, if talks => talks = false,
            }
        };
        self.child = None;
        if talks {
            let _ = timeout(LINGER, talking).await;
        }
        Ok(status)
    }

    /// Kills all of it, and returns when it is gone.
    async fn end(&mut self) {
        self.ask_to_end();
        if let Some(child) = &mut self.child {
            make_end(child, self.supervisor).await;
            self.child = None;
        }
    }

    /// Whoever has stopped the supervisor has not thereby stopped this.
    fn ask_to_end(&self) {
        // Nobody has waited for it yet, so the number is still its own.
        let _ = kill(self.supervisor, Signal::SIGTERM);
        let _ = kill(self.supervisor, Signal::SIGCONT);
    }
}

/// Waits for the supervisor, which has been told to end all; does it in its place if that takes too long.
async fn make_end(child: &mut Child, supervisor: Pid) {
    for _ in 0..ROUNDS {
        if timeout(PATIENCE, child.wait()).await.is_ok() {
            return;
        }
        // However many there were: they are gone when the supervisor says so.
        let _ = tree::kill_below(supervisor);
    }
    let _ = kill(supervisor, Signal::SIGKILL);
    let _ = timeout(PATIENCE, child.wait()).await;
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.ask_to_end();
        let supervisor = self.supervisor;
        // Without a runtime crihook is about to end, which the supervisor will be told by the kernel.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { make_end(&mut child, supervisor).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn said(code: i32, stderr: &'static str) -> Result<Evidence, Failure> {
        let evidence = Evidence { stderr: Bytes::from_static(stderr.as_bytes()), ..Evidence::default() };
        verdict(ExitStatus::from_raw(code << 8), "crihook-1", evidence)
    }

    #[test]
    fn a_command_that_never_ran_is_told_from_one_that_failed() {
        let failure = said(126, "crihook-1 /bin/nothing: no such file\n").unwrap_err();
        assert_eq!((failure.message.as_str(), failure.evidence), ("/bin/nothing: no such file", Evidence::default()));
        let failure = said(126, "sh: not executable\n").unwrap_err();
        assert_eq!((failure.message.as_str(), failure.evidence.exit_code), ("exit code 126", Some(126)));
        assert_eq!(said(0, "").unwrap().exit_code, Some(0));
    }
}
