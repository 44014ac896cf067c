//! Background runs: one lane a subject, which works on them one at a time and in order, and is no more when it is empty.
//!
//! A drain does not wait for a lane's waiting: only the attempt under way goes on, and what is queued is abandoned at once.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use tracing::warn;

use super::active::Bound;
use super::run::{ENDING, Ended, FAR, Run};
use super::subjects::{Put, Queued};
use super::terms::{Stop, Terms};
use super::{Book, Engine};
use crate::lifecycle::{Event, Outcome, Point};

/// A run that waits for its turn.
pub(super) struct Waiting {
    run: Run,
    expiry: Instant,
}

impl Engine {
    /// Queues a run of `bound`; the lane is `Put::First` if it needs a worker. Its record is made whatever becomes of it.
    pub(super) fn queue(
        &self,
        book: &mut Book,
        subject: &str,
        bound: &Arc<Bound>,
        event: &Arc<Event>,
        once: bool,
    ) -> Put {
        let run = Run::new(&self.means, bound, event);
        if self.means.drain.is_draining() {
            run.end(&Ended::new(Outcome::Abandoned, ENDING));
            return Put::Full;
        }
        let age = SystemTime::now().duration_since(event.at).unwrap_or_default();
        let left = self.means.max_age.saturating_sub(age).min(FAR);
        let expiry = Instant::now() + left;
        let (key, point) = (bound.key.clone(), event.point);
        let (put, back) = book.put(subject, Queued { point, key, once, run: Waiting { run, expiry } });
        if let Some(Queued { run, .. }) = back {
            warn!(policy = %bound.hook.policy, hook = %bound.hook.name, "the queue of background runs is full");
            run.run.end(&Ended::new(Outcome::Abandoned, "queue full"));
        }
        put
    }

    /// Works on the lane of `subject` until it is empty.
    pub(super) async fn work(self: Arc<Self>, subject: Arc<str>) {
        let drain = &self.means.drain;
        let _guard = drain.guard();
        loop {
            let stop = Arc::new(Stop::default());
            let Some(Queued { point, key, once, run: Waiting { run, expiry } }) =
                self.book().take(&subject, Arc::clone(&stop))
            else {
                return;
            };
            let draining = drain.draining().clone();
            let max_age = self.means.max_age;
            let mut swept = false;
            let ended = {
                let run = run.perform(Terms::Background { stop, draining: draining.clone(), expiry, max_age });
                tokio::pin!(run);
                loop {
                    tokio::select! {
                        biased;
                        () = drain.forced().cancelled() => break None,
                        () = draining.cancelled(), if !swept => {
                            swept = true;
                            self.give_up(&subject, None, ENDING);
                        }
                        ended = &mut run => break Some(ended),
                    }
                }
            };
            let succeeded = ended.is_some_and(|ended| ended.outcome == Outcome::Succeeded);
            self.book().ended(&subject, point, key, once, succeeded);
        }
    }

    /// Ends what is queued for `subject`, at `point` or at all points.
    pub(super) fn give_up(&self, subject: &str, point: Option<Point>, reason: &str) {
        let taken = self.book().take_queued(subject, point);
        for queued in taken {
            queued.run.run.end(&Ended::new(Outcome::Abandoned, reason));
        }
    }
}
