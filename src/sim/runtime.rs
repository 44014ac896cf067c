//! The runtime as an object: the one lock around the state, and what takes time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::Status;

use super::container::Container;
use super::exec::{Plan, failed, plan};
use super::image::Images;
use super::intake::Intake;
use super::options::{Options, UnknownMethod, named};
use super::record::Heard;
use super::state::State;
use crate::cri::v1::ExecSyncResponse;

/// An embedded container runtime. Its clones are the same runtime.
///
/// It belongs to a tokio runtime: [`serve`](super::serve) answers calls for it, and containers that exit by themselves
/// do so on tasks.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    intake: Arc<Intake>,
}

impl Runtime {
    /// A runtime without pods, and without images unless `options` asks for some.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let state = State::new(Images::filled(options.image_bytes));
        Self { shared: Arc::new(Shared { state: Mutex::new(state), intake: Arc::new(Intake::new(options)) }) }
    }

    /// How many calls have come in, by the method's bare name, counted before their delay; `other` is what CRI v1 does not have.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.shared.intake.calls()
    }

    /// The latest calls, oldest first, if [`Options::record`] was asked for.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.intake.heard()
    }

    /// The next calls of `method` (its bare name), so many of them, fail with Internal and change nothing.
    ///
    /// # Errors
    /// Fails if CRI has no such method.
    pub fn fail_next(&self, method: &str, times: u64) -> Result<(), UnknownMethod> {
        self.shared.intake.fail_next(named(method)?, times);
        Ok(())
    }

    pub(super) fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.shared.intake)
    }

    /// Never held across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, id: &str) -> Result<(), Status> {
        let container = self.state().start_container(id)?;
        if let Some(after) = container.behaviour.exit_after {
            self.exit_later(container, after);
        }
        Ok(())
    }

    /// SIGTERM, and SIGKILL if it still runs after `grace`. A call that is cancelled in between leaves the container
    /// with the SIGTERM it has had.
    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<(), Status> {
        let Some((container, first)) = self.state().terminate(id)? else { return Ok(()) };
        let exited = container.exited.clone();
        let id = container.id.clone();
        if grace > Duration::ZERO {
            if first {
                self.exit_later_or_now(container);
            }
            if timeout(grace, exited.cancelled()).await.is_ok() {
                return Ok(());
            }
        }
        self.state().kill(&id);
        Ok(())
    }

    fn exit_later_or_now(&self, container: Container) {
        let Container { id, behaviour, .. } = &container;
        if behaviour.stop_takes.is_zero() {
            self.state().exit(id, behaviour.exit_code);
        } else {
            let after = behaviour.stop_takes;
            self.exit_later(container, after);
        }
    }

    fn exit_later(&self, container: Container, after: Duration) {
        let runtime = self.clone();
        tokio::spawn(async move {
            if timeout(after, container.exited.cancelled()).await.is_err() {
                runtime.state().exit(&container.id, container.behaviour.exit_code);
            }
        });
    }

    /// Runs one of the commands of `exec.rs` in a running container; `limit` is zero for none.
    pub(super) async fn exec(&self, id: &str, cmd: &[String], limit: Duration) -> Result<ExecSyncResponse, Status> {
        self.run(id, cmd, limit).await.map_err(|status| failed(&status))
    }

    async fn run(&self, id: &str, cmd: &[String], limit: Duration) -> Result<ExecSyncResponse, Status> {
        let container = {
            let state = self.state();
            let container = state.container(id)?;
            container.must_be_running()?;
            container.clone()
        };
        let Plan { takes, exit_code, stdout, stderr } = plan(cmd)?;
        let done = ExecSyncResponse { stdout: stdout.into(), stderr: stderr.into(), exit_code };
        if takes.is_zero() {
            return Ok(done);
        }
        let over = async { if limit.is_zero() { std::future::pending().await } else { sleep(limit).await } };
        tokio::select! {
            () = sleep(takes) => Ok(done),
            // A container takes its processes with it.
            () = container.exited.cancelled() => Ok(ExecSyncResponse { exit_code: 128 + 9, ..ExecSyncResponse::default() }),
            () = over => Err(Status::deadline_exceeded(format!("timeout {limit:?} exceeded: context deadline exceeded"))),
        }
    }
}
