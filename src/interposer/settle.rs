//! What became of a call that nobody heard the end of: the client went away, the runtime did, or crihook died.
//!
//! The runtime is asked. What it says of a call that is not done is believed only after a while, since it may still be at it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Interposer, Watched};
use crate::cri::Code;
use crate::hooks::engine::{Bound, Promise};
use crate::inventory::State;
use crate::lifecycle::Call;

/// Before each time that the runtime is asked. Its answers to the last question are final.
const ASK: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// How often a runtime is asked that does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether an answer with this code leaves it open what the runtime has done, or will.
pub(super) const fn is_doubtful(code: Code) -> bool {
    matches!(code, Code::CANCELED | Code::DEADLINE_EXCEEDED | Code::UNAVAILABLE)
}

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    /// It was done, and made what has this id.
    Done(Option<String>),
    /// It was not, or not yet.
    NotDone,
    /// Nobody can tell any more.
    Lost(&'static str),
}

impl Interposer {
    /// Finds out what became of a call that something depends on, and goes on accordingly. It never ends before it knows.
    pub(super) fn settle(&self, promise: Promise, watched: Watched, hooks: Vec<Arc<Bound>>) {
        let interposer = self.clone();
        self.0.handle.spawn(async move {
            match interposer.find_out(&promise, &watched).await {
                Became::Done(made) => drop(interposer.succeeded(watched, made, Some(promise), hooks).await),
                Became::NotDone => promise.broken(),
                Became::Lost(why) => promise.lost(why),
            }
        });
    }

    async fn find_out(&self, promise: &Promise, watched: &Watched) -> Became {
        let mut asked = ASK.into_iter();
        let mut wait = asked.next();
        while let Some(pause) = wait {
            sleep(pause).await;
            if !promise.is_pending() {
                // Another call has decided.
                break;
            }
            wait = match self.became(watched).await {
                Ok(Became::NotDone) => asked.next(),
                Ok(known) => return known,
                Err(why) => {
                    tracing::debug!(call = watched.kind.name(), "the runtime cannot say what became of a call: {why}");
                    Some(AGAIN)
                }
            };
        }
        Became::NotDone
    }

    async fn became(&self, watched: &Watched) -> Result<Became, String> {
        let runtime = self.0.inventory.runtime();
        let pod = &watched.subject.pod;
        let done = |done: bool| if done { Became::Done(None) } else { Became::NotDone };
        let Some(container) = &watched.subject.container else {
            let sandbox = &pod.sandbox_id;
            return Ok(match watched.kind {
                Call::RunPodSandbox => match runtime.find_sandbox(&pod.uid, pod.attempt).await? {
                    Some((id, true)) => Became::Done(Some(id)),
                    _ => Became::NotDone,
                },
                Call::StopPodSandbox => done(runtime.is_ready(sandbox).await? != Some(true)),
                _ => done(runtime.is_ready(sandbox).await?.is_none()),
            });
        };
        if watched.kind == Call::CreateContainer {
            let found = runtime.find_container(&pod.sandbox_id, &container.name, container.attempt).await?;
            return Ok(found.map_or(Became::NotDone, |id| Became::Done(Some(id))));
        }
        let state = runtime.state(&container.id).await?;
        Ok(match (watched.kind, state) {
            (Call::StartContainer, None) => {
                Became::Lost("the container is gone, and nobody can tell whether it had been started")
            }
            (Call::StartContainer, state) => done(state != Some(State::Created)),
            (Call::StopContainer, state) => done(state != Some(State::Running)),
            (Call::RemoveContainer, state) => done(state.is_none()),
            _ => Became::Lost("nobody heard the runtime's answer, and it cannot be asked whether it has done it"),
        })
    }
}
