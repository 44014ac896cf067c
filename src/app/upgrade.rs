//! Upgrades without a lost call: this process starts the installed binary, gives it its sockets, and finishes what it has.
//!
//! ```text
//!   old                                        new
//!    │ starts it; passes sockets, state lock ──▶ reads config and policies, opens the journal
//!    │ ◀───────────────────── ready, or why not │
//!    │ accepts no more; MAINPID to systemd      │
//!    │ go ────────────────────────────────────▶ accepts; READY to systemd
//!    │ GOAWAY; finishes its calls and runs      │
//!    ▼ ends. If the new one dies before that:   │
//!      accepts again ◀───────────────────────── ╳
//! ```
//!
//! The new one says *released* when it is told to stop or is upgraded in its turn: then nothing is taken back. No socket's file is removed on the
//! way, and nobody else accepts between, so what dials meanwhile waits in the socket's queue.

pub(super) mod passage;
pub(super) mod predecessor;
mod program;
mod successor;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::App;
use super::systemd::notify;
use crate::drain::{Guard, Hold};
pub use predecessor::{Inherited, Predecessor};
pub use program::Program;
pub use successor::NotReady;
use successor::{Fate, Successor};

/// How long the new process may take to become ready unless somebody says otherwise.
pub const READY_LIMIT: Duration = Duration::from_secs(30);

/// An upgrade that was done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgraded {
    /// The process that finishes what it has.
    pub old_pid: u32,
    /// The process that serves.
    pub new_pid: u32,
    /// From the start of the new process until it was told to accept.
    pub milliseconds: u64,
}

/// Why there was no upgrade. This process goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum NoUpgrade {
    /// One is under way.
    #[error("an upgrade is under way already")]
    UnderWay,
    /// One was done.
    #[error("process {0} has taken over already")]
    Done(u32),
    /// There will be nothing to take over from.
    #[error("crihook is ending, and cannot be upgraded")]
    Ending,
    /// It does not know what to start.
    #[error("this crihook is part of another program, and cannot be upgraded")]
    Embedded,
    /// The new process.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

/// An upgrade that is wanted.
struct Request {
    limit: Duration,
    answer: oneshot::Sender<Result<(Upgraded, Guard), NoUpgrade>>,
}

/// Asks for upgrades. Cheap to clone.
#[derive(Clone)]
pub struct Upgrades(mpsc::Sender<Request>);

/// Where they are asked for.
pub(super) struct Requests(mpsc::Receiver<Request>);

impl Upgrades {
    pub(super) fn new() -> (Self, Requests) {
        let (ask, asked) = mpsc::channel(1);
        (Self(ask), Requests(asked))
    }

    /// Upgrades, and says what came of it: within `limit`, and the little that all else takes. The process that was asked does not end while
    /// the guard is held.
    ///
    /// # Errors
    /// See [`NoUpgrade`].
    pub async fn ask(&self, limit: Duration) -> Result<(Upgraded, Guard), NoUpgrade> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Request { limit, answer }).await.map_err(|_| NoUpgrade::Ending)?;
        answered.await.map_err(|_| NoUpgrade::Ending)?
    }
}

impl App {
    /// Serves, and upgrades when asked, until this process is to end or has handed over and has nothing left to do.
    pub(super) async fn serve(&mut self, mut requests: Requests) {
        let drain = self.drain.clone();
        loop {
            let request = tokio::select! {
                biased;
                () = drain.ending().cancelled() => return,
                Some(request) = requests.0.recv() => request,
            };
            match self.upgrade(request.limit, &mut requests).await {
                Ok((successor, done)) => {
                    // Nobody may be waiting for it.
                    let _ = request.answer.send(Ok((done, drain.guard())));
                    if self.outlive(successor, &mut requests).await {
                        return;
                    }
                }
                Err(why) => {
                    tracing::error!("no upgrade, going on as before: {why}");
                    let _ = request.answer.send(Err(why));
                }
            }
        }
    }

    /// Hands over to a new process.
    async fn upgrade(&mut self, limit: Duration, others: &mut Requests) -> Result<(Successor, Upgraded), NoUpgrade> {
        let began = Instant::now();
        let program = self.program.as_ref().ok_or(NoUpgrade::Embedded)?;
        let state = match &self.journal {
            Some(journal) => journal.share_lock().await,
            None => None,
        };
        let copies = self.sockets.copies(state).map_err(NotReady::from)?;
        tracing::info!(program = %program.path.display(), "upgrading");
        let mut successor = Successor::start(program, &copies)?;
        drop(copies);
        let taken = tokio::select! {
            biased;
            taken = successor.ready(limit) => Some(taken?),
            () = self.drain.ending().cancelled() => None,
            never = others.refuse(|| NoUpgrade::UnderWay) => match never {},
        };
        let Some(taken) = taken else {
            successor.kill().await;
            return Err(NoUpgrade::Ending);
        };
        let pid = successor.pid();
        self.sockets.lend(&taken);
        self.drain.hand_over();
        notify(&[NotifyState::MainPid(pid)]);
        if let Err(error) = successor.go().await {
            tracing::warn!("process {pid} cannot be told to accept: {error}");
        }
        self.predecessor.release();
        let milliseconds = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        tracing::info!(
            pid,
            milliseconds,
            "another process serves now; finishing the calls and runs in flight, for {:?} at most",
            self.config.drain_timeout
        );
        Ok((successor, Upgraded { old_pid: std::process::id(), new_pid: pid, milliseconds }))
    }

    /// Finishes what there is while `successor` serves. False if this process serves again.
    async fn outlive(&mut self, mut successor: Successor, others: &mut Requests) -> bool {
        let drain = self.drain.clone();
        let deadline = tokio::time::Instant::now() + self.config.drain_timeout;
        let pid = successor.pid();
        loop {
            tokio::select! {
                biased;
                fate = successor.fate(), if drain.hold() == Hold::Lent => match fate {
                    Fate::Released => {
                        drain.let_go();
                        self.sockets.close();
                    }
                    Fate::Died(why) => {
                        tracing::error!(pid, "the process that had taken over is gone ({why}); serving again");
                        self.take_back();
                        return false;
                    }
                },
                () = drain.ending().cancelled() => return true,
                () = drain.finished() => return true,
                () = sleep_until(deadline) => {
                    tracing::warn!("some calls or runs have not finished within {:?}; stopping anyway", self.config.drain_timeout);
                    drain.force();
                    return true;
                }
                never = others.refuse(|| NoUpgrade::Done(pid)) => match never {},
            }
        }
    }

    fn take_back(&mut self) {
        self.sockets.lend(&[]);
        notify(&[NotifyState::MainPid(std::process::id())]);
        self.drain.take_back();
    }
}

impl Requests {
    /// Refuses whatever is asked, for as long as it is polled.
    async fn refuse(&mut self, why: impl Fn() -> NoUpgrade) -> Infallible {
        while let Some(request) = self.0.recv().await {
            tracing::warn!("no upgrade: {}", why());
            let _ = request.answer.send(Err(why()));
        }
        std::future::pending().await
    }
}
