//! Replays: a hook is run again for an event of the past, because somebody asked for it.

use std::sync::Arc;

use super::Engine;
use super::record::Begun;
use super::run::Run;
use super::terms::{Stop, Terms};
use crate::journal::{NATIVE, NewRun};
use crate::lifecycle::{Event, Point};

/// Why there is no replay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReplay {
    /// It is run as it is in the policies now, and there it is not.
    #[error("no policy `{policy}` in force has a hook `{hook}` at {point}: what it would do now is not known")]
    HookGone {
        /// The policy's name.
        policy: Arc<str>,
        /// The hook's name in it.
        hook: Arc<str>,
        /// Where it was bound.
        point: Point,
    },
    /// It is none of crihook's.
    #[error(
        "run {0} is of a hook that the pod itself has: the kubelet ran it, crihook has only seen it, and can run it no more"
    )]
    Native(Arc<str>),
    /// Nothing new is begun.
    #[error("crihook is ending, and begins nothing new")]
    Ending,
}

impl Engine {
    /// Runs the hook of `past` again for the event of `past`: as the hook is now, in the background, with its own timeout and retries. It waits for
    /// no other run of the container, and says nothing of what has been done for it: whatever comes of it, calls go on as they would have.
    /// Gives the id of the new run.
    ///
    /// # Errors
    /// See [`NoReplay`].
    pub fn replay(&self, past: &NewRun) -> Result<Arc<str>, NoReplay> {
        let means = &self.means;
        if means.drain.is_draining() {
            return Err(NoReplay::Ending);
        }
        if past.mode == NATIVE {
            return Err(NoReplay::Native(Arc::clone(&past.id)));
        }
        let point = past.event.point;
        let bound = self.active().bound(&past.policy, &past.hook, point).ok_or_else(|| NoReplay::HookGone {
            policy: Arc::clone(&past.policy),
            hook: Arc::clone(&past.hook),
            point,
        })?;
        let begun = Begun { replay_of: Some(Arc::clone(&past.id)), ..Begun::default() };
        // The call is over long ago, and so is its trace.
        let event = Arc::new(Event { trace: None, ..Event::clone(&past.event) });
        let run = Run::begin(means, &bound, &event, begun);
        let id = Arc::clone(&run.id);
        let (drain, guard) = (means.drain.clone(), means.drain.guard());
        let terms = Terms::Background {
            stop: Arc::new(Stop::default()),
            ending: drain.ending().clone(),
            expiry: run.expiry,
            max_age: means.max_age,
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = drain.forced().cancelled() => {}
                _ = run.perform(terms) => {}
            }
            drop(guard);
        });
        Ok(id)
    }
}
