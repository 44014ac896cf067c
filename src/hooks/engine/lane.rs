//! Background runs: one lane a subject, which works on them one at a time and in order, and is no more when it is empty.
//!
//! The end does not wait for a lane's waiting: only the attempt under way goes on, and what is queued is left to the next process.

use std::sync::Arc;

use tracing::warn;

use super::run::{Left, Run};
use super::subjects::{Put, Queued};
use super::terms::{Stop, Terms};
use super::{Book, Engine};
use crate::lifecycle::{Outcome, Point};

impl Engine {
    /// Queues a run; the lane is `Put::First` if it needs a worker. Its record is made whatever becomes of it. Once crihook is ending, it
    /// is left to the next process.
    pub(super) fn queue(&self, book: &mut Book, subject: &str, mut run: Run, once: bool) -> Put {
        if self.means.drain.ending().is_cancelled() {
            run.leave();
            return Put::Full;
        }
        let (key, point) = (run.bound.key.clone(), run.event.point);
        let (put, back) = book.put(subject, Queued { point, key, once, run });
        if let Some(Queued { run, .. }) = back {
            let hook = &run.bound.hook;
            warn!(policy = %hook.policy, hook = %hook.name, "the queue of background runs is full");
            run.abandon("queue full");
        }
        put
    }

    /// Works on the lane of `subject` until it is empty.
    pub(super) async fn work(self: Arc<Self>, subject: Arc<str>) {
        let drain = &self.means.drain;
        let _guard = drain.guard();
        loop {
            let stop = Arc::new(Stop::default());
            let Some(Queued { point, key, once, run }) = self.book().take(&subject, Arc::clone(&stop)) else {
                self.forget_if_gone(&subject);
                return;
            };
            let ending = drain.ending().clone();
            let mut swept = false;
            let ended = {
                let run = {
                    let (expiry, max_age) = (run.expiry, self.means.max_age);
                    run.perform(Terms::Background { stop, ending: ending.clone(), expiry, max_age })
                };
                tokio::pin!(run);
                loop {
                    tokio::select! {
                        biased;
                        () = drain.forced().cancelled() => break Err(Left),
                        () = ending.cancelled(), if !swept => {
                            swept = true;
                            self.leave(&subject);
                        }
                        ended = &mut run => break ended,
                    }
                }
            };
            let succeeded = ended.is_ok_and(|ended| ended.outcome == Outcome::Succeeded);
            self.book().ended(&subject, point, key, once, succeeded);
        }
    }

    /// What is queued for `subject` at `point` makes no sense any more.
    pub(super) fn give_up(&self, subject: &str, point: Point, reason: &str) {
        let taken = self.book().take_queued(subject, Some(point));
        for queued in taken {
            queued.run.abandon(reason);
        }
    }

    /// What is queued for `subject` is the next process's.
    fn leave(&self, subject: &str) {
        // Dropped, they are left.
        let _left = self.book().take_queued(subject, None);
    }
}
