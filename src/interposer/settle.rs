//! What became of a call that nobody heard the end of: the client went away, the runtime did, or crihook died.
//!
//! The runtime is asked. What it says of a call that is not done is believed only after a while, since it may still be at it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Interposer, Watched};
use crate::cri::Code;
use crate::hooks::engine::{Bound, Promise};
use crate::inventory::State;
use crate::lifecycle::Call;

/// The pause after the first question; later ones are twice as long each, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause between two questions, and the one between those that are not answered.
const LONGEST: Duration = Duration::from_secs(8);
/// How long the runtime may still be at it: the kubelet's own deadline for most calls.
const PATIENCE: Duration = Duration::from_mins(2);

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
        // The call whose time it was is over.
        let (interposer, watched) = (self.clone(), Watched { deadline: None, ..watched });
        self.0.handle.spawn(async move {
            let open = || promise.is_pending();
            let known = find_out(|| interposer.became(&watched), open).await;
            match known {
                Became::Done(made) => {
                    interposer.0.pause.resumed().await;
                    drop(interposer.succeeded(watched, made, Some(promise), hooks).await);
                }
                Became::NotDone => promise.broken(),
                Became::Lost(why) => promise.lost(why),
            }
        });
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

/// Asks until the answer is final, or nobody needs it any more.
async fn find_out<F>(mut ask: impl FnMut() -> F, open: impl Fn() -> bool) -> Became
where
    F: Future<Output = Result<Became, String>>,
{
    let (began, mut pause) = (Instant::now(), FIRST);
    while open() {
        match ask().await {
            Ok(Became::NotDone) if began.elapsed() >= PATIENCE => break,
            Ok(Became::NotDone) => {}
            Ok(known) => return known,
            Err(why) => tracing::debug!("the runtime cannot say what became of a call: {why}"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
    Became::NotDone
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_done_may_still_be_for_a_while() {
        let began = Instant::now();
        let slow = || ready(if began.elapsed() < secs(90) { Ok(Became::NotDone) } else { Ok(Became::Done(None)) });
        assert_eq!(find_out(slow, || true).await, Became::Done(None));
        assert!(began.elapsed() < secs(90) + LONGEST);
        let began = Instant::now();
        assert_eq!(find_out(|| ready(Ok(Became::NotDone)), || true).await, Became::NotDone);
        assert!((PATIENCE..PATIENCE + LONGEST).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_does_not_answer_is_asked_until_it_does() {
        let began = Instant::now();
        let down = || ready(if began.elapsed() < secs(3600) { Err("down".to_owned()) } else { Ok(Became::Done(None)) });
        assert_eq!(find_out(down, || true).await, Became::Done(None));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_for_an_answer_that_nobody_needs() {
        let asked = std::cell::Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            ready(Ok(Became::NotDone))
        };
        assert_eq!(find_out(ask, || asked.get() < 2).await, Became::NotDone);
        assert_eq!(asked.get(), 2);
    }
}
