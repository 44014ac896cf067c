//! An event fires its hooks: those in the background are queued, the blocking ones run one after another in a session.
//!
//! ```text
//!   fire ─▶ enter ─┬─▶ Free     nothing blocks
//!                  ├─▶ Waits    for the verdict of a session, its own or the one of the call that it repeats ─▶ sit ─▶ sequence
//!                  └─▶ Later    for the end of one that was given up, and then enters again
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::active::Bound;
use super::call::{Fired, Limits, Rejection, Repeat};
use super::record::Begun;
use super::run::{ENDING, Run};
use super::session::{Caller, Session, Verdict};
use super::terms::Terms;
use super::{Engine, HookKey};
use crate::hooks::policy::{FailurePolicy, Mode};
use crate::lifecycle::{Event, Outcome, Point};

/// A hook, and the run of it that has begun already.
type Ready = (Arc<Bound>, Option<Run>);

/// How a fire goes on.
enum Entered {
    /// No blocking run is needed.
    Free,
    /// A session runs.
    Waits(Caller),
    /// One that was given up is ending.
    Later(Arc<Session>),
}

impl Engine {
    /// Queues the background hooks among `hooks` and runs the blocking ones, all in order, until one with
    /// `failurePolicy: Fail` fails. Dropping the future means that its call is gone.
    pub async fn fire(self: &Arc<Self>, event: Event, hooks: Vec<Arc<Bound>>, limits: Limits) -> Fired {
        self.fire_with(HashMap::new(), event, hooks, limits).await
    }

    /// As [`Engine::fire`], with runs that have begun already.
    pub(super) async fn fire_with(
        self: &Arc<Self>,
        mut ready: HashMap<HookKey, Run>,
        event: Event,
        hooks: Vec<Arc<Bound>>,
        limits: Limits,
    ) -> Fired {
        let event = Arc::new(event);
        let subject: Arc<str> = event.subject().into();
        let mut queued = false;
        let entered = loop {
            if hooks.is_empty() {
                break Entered::Free;
            }
            match self.enter(&event, &subject, &hooks, limits, &mut ready, &mut queued) {
                Entered::Later(session) => session.ended().cancelled().await,
                entered => break entered,
            }
        };
        for run in std::mem::take(&mut ready).into_values() {
            run.retract("another run has taken its place");
        }
        let Entered::Waits(caller) = entered else { return Fired { queued, ..Fired::default() } };
        let verdict = caller.verdict().await.unwrap_or_else(|| cut_short(&hooks));
        Fired { ran: true, queued, verdict }
    }

    fn enter(
        self: &Arc<Self>,
        event: &Arc<Event>,
        subject: &Arc<str>,
        hooks: &[Arc<Bound>],
        limits: Limits,
        ready: &mut HashMap<HookKey, Run>,
        queued: &mut bool,
    ) -> Entered {
        let (point, once) = (event.point, limits.repeat == Repeat::Once);
        let mut book = self.book();
        if once && let Some(session) = book.session(subject, point) {
            return match session.join(limits.deadline) {
                Some(caller) => Entered::Waits(caller),
                None => Entered::Later(Arc::clone(session)),
            };
        }
        let mut blocking = Vec::new();
        for bound in hooks {
            if once && book.is_done(subject, point, &bound.key) {
                continue;
            }
            match bound.hook.mode {
                Mode::Background if once && book.is_pending(subject, point, &bound.key) => {}
                mode => {
                    let begun = ready.remove(&bound.key).map(|mut run| {
                        run.confirm(event);
                        run
                    });
                    let run = begun.or_else(|| book.take_left(subject, point, &bound.key));
                    if mode == Mode::Blocking {
                        blocking.push((Arc::clone(bound), run));
                        continue;
                    }
                    let begun = Begun { once, ..Begun::default() };
                    let run = run.unwrap_or_else(|| Run::begin(&self.means, bound, event, begun));
                    *queued = true;
                    self.start(&mut book, subject, run, once);
                }
            }
        }
        if blocking.is_empty() {
            return Entered::Free;
        }
        let (session, caller) = Session::new(limits.deadline);
        if once {
            book.set_session(subject, point, Some(Arc::clone(&session)));
        }
        drop(book);
        tokio::spawn(Arc::clone(self).sit(session, Arc::clone(event), Arc::clone(subject), blocking, once));
        Entered::Waits(caller)
    }

    /// Runs a session to its end.
    async fn sit(
        self: Arc<Self>,
        session: Arc<Session>,
        event: Arc<Event>,
        subject: Arc<str>,
        hooks: Vec<Ready>,
        once: bool,
    ) {
        let seat =
            Seat { engine: Arc::clone(&self), session: Arc::clone(&session), at: (Arc::clone(&subject), event.point) };
        let guard = self.means.drain.guard();
        let verdict = tokio::select! {
            biased;
            () = session.gone().cancelled() => None,
            () = self.means.drain.forced().cancelled() => None,
            verdict = self.sequence(&session, &event, &subject, hooks, once) => Some(verdict),
        };
        // First nobody can join it any more, then those who wait are told: one of them may fire again.
        seat.clear();
        if let Some(verdict) = verdict {
            session.conclude(verdict);
        }
        drop((seat, guard));
    }

    async fn sequence(
        &self,
        session: &Session,
        event: &Arc<Event>,
        subject: &str,
        hooks: Vec<Ready>,
        once: bool,
    ) -> Verdict {
        let mut hooks = hooks.into_iter();
        while let Some((bound, run)) = hooks.next() {
            let begun = Begun { once, ..Begun::default() };
            let run = run.unwrap_or_else(|| Run::begin(&self.means, &bound, event, begun));
            let Ok(ended) = run.perform(Terms::Blocking(session.budget())).await else { continue };
            if ended.outcome == Outcome::Succeeded {
                if once {
                    self.book().done(subject, event.point, bound.key.clone());
                }
            } else if bound.hook.failure_policy == FailurePolicy::Fail {
                let rejection = rejection(&bound, ended.reason.unwrap_or_default());
                for run in hooks.filter_map(|(_, run)| run) {
                    run.abandon(&format!("the hook `{}` before it has failed", rejection.hook));
                }
                return Err(rejection);
            }
        }
        Ok(())
    }
}

/// A session's place in the book. However its task ends, nobody waits for it in vain.
struct Seat {
    engine: Arc<Engine>,
    session: Arc<Session>,
    at: (Arc<str>, Point),
}

impl Seat {
    fn clear(&self) {
        let (mut book, (subject, point)) = (self.engine.book(), &self.at);
        if book.session(subject, *point).is_some_and(|session| Arc::ptr_eq(session, &self.session)) {
            book.set_session(subject, *point, None);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clear();
        self.session.end();
    }
}

/// Crihook was ended before there was a verdict: what must not fail has not succeeded.
fn cut_short(hooks: &[Arc<Bound>]) -> Verdict {
    let must = hooks.iter().find(|bound| bound.hook.failure_policy == FailurePolicy::Fail);
    must.map_or(Ok(()), |bound| Err(rejection(bound, ENDING.to_owned())))
}

fn rejection(bound: &Bound, cause: String) -> Rejection {
    Rejection { policy: Arc::clone(&bound.hook.policy), hook: Arc::clone(&bound.hook.name), cause }
}
