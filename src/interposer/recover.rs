//! What a crihook that died has left to do.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Interposer, Subject, Watched};
use crate::hooks::engine::{Bound, Limits, Open, Repeat};
use crate::inventory::State;
use crate::lifecycle::{Event, Point};

/// How often a runtime is asked that does not answer.
const AGAIN: Duration = Duration::from_secs(1);

impl Interposer {
    /// Finds out what the engine has to know of what it [adopted](crate::hooks::engine::Engine::adopt). Returns at once; it goes on by itself.
    pub fn recover(&self, open: Vec<Open>) {
        for open in open {
            match open {
                Open::Doubtful(promise, event, hooks) => self.settle(promise, self.watched_again(&event), hooks),
                Open::Unfinished(event, hooks) => {
                    let interposer = self.clone();
                    self.0.handle.spawn(async move {
                        interposer.0.pause.resumed().await;
                        interposer.finish(&event, hooks).await;
                    });
                }
            }
        }
    }

    fn watched_again(&self, event: &Event) -> Watched {
        let subject = Subject { pod: Arc::clone(&event.pod), container: event.container.clone() };
        let (active, trace) = (self.0.engine.active(), event.trace.clone());
        Watched { kind: event.point.call, active, subject, deadline: None, trace }
    }

    /// Runs hooks that a call waited for when crihook died.
    async fn finish(&self, event: &Event, hooks: Vec<Arc<Bound>>) {
        let watched = self.watched_again(event);
        if event.point == Point::PRE_STOP {
            return self.finish_pre_stop(&watched, event, &hooks).await;
        }
        let limits = Limits { deadline: None, repeat: Repeat::Once };
        let fired = self.0.engine.fire(event.clone(), hooks, limits).await;
        if let Err(rejection) = fired.verdict
            && event.point == Point::POST_START
        {
            let told = self.undo_start(&watched, rejection).await;
            tracing::warn!("{}", told.message);
        }
    }

    /// A stop cannot be called off, so its hooks need not wait for the kubelet to ask again; if it does meanwhile, it joins them.
    async fn finish_pre_stop(&self, watched: &Watched, event: &Event, hooks: &[Arc<Bound>]) {
        let Some(container) = &watched.subject.container else { return };
        let ago = self.0.engine.clock().age(&event.at);
        self.0.graces.record(&container.id, ago, event.grace.unwrap_or_default());
        while self.0.engine.is_left(&container.id, hooks, Point::PRE_STOP) {
            match self.0.inventory.runtime().state(&container.id).await {
                Ok(Some(State::Running)) => {
                    let grace = self.0.graces.left(&container.id).unwrap_or_default();
                    self.pre_stop(watched, watched.plan(Point::PRE_STOP), grace).await;
                    return;
                }
                Ok(state) => {
                    let what = if state.is_some() { "does not run any more" } else { "is gone" };
                    self.0.engine.abandon(&container.id, Point::PRE_STOP, &format!("the container {what}"));
                    return;
                }
                Err(why) => {
                    tracing::debug!(container = container.id, "the runtime cannot say whether it runs: {why}");
                    sleep(AGAIN).await;
                }
            }
        }
    }
}
