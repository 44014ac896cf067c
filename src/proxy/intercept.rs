//! Calls that somebody wants to see before and after: held whole, shown, and passed on, unchanged or with a patch.
//!
//! ```text
//!   Holding ──▶ Asking ──▶ passed on to a relay, which holds the answer and asks again if somebody wants to see that too
//!      │           └─────▶ refused with a status
//!      └─ too large, compressed, not one message ──▶ passed on as it is, and counted
//! ```
//!
//! Who is asked is an [`Interceptor`]. It does its work elsewhere and the connection goes on meanwhile; a client that gives up drops
//! the question, which is how the interceptor hears of it. Calls that nobody wants to see never come here.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use http::header::CONTENT_LENGTH;
use http::request::Parts;

use super::latency::{Phase, Stopwatch};
use super::relay::Round;
use super::rescue::Status;
use super::source::{Holding, Taken};
use super::upstream::Accepted;
use crate::cri::{Code, Method, Unreadable, deadline_of, framed, only_message};
use crate::trace::Context;

/// A question and its answer to come.
pub type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Sees calls before they reach the runtime. Dropping what it returns means that the client has given up.
pub trait Interceptor: Send + Sync {
    /// Whether it wants to see calls of this method now. Asked for every call: it neither waits nor allocates.
    fn wants(&self, method: Method) -> bool;

    /// Shows a call.
    fn before(&self, call: Call) -> Asked<Verdict>;
}

/// Sees what became of a call that it let pass. Dropped unasked, it means that nobody knows.
pub trait Witness: Send {
    /// Shows how the runtime answered. The answer waits.
    ///
    /// # Errors
    /// What the client is to be told in place of the runtime's answer.
    fn after(self: Box<Self>, answer: Answer) -> Asked<Judged>;
}

/// A call on its way to the runtime.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which method is called.
    pub method: Method,
    /// The request's only message, without gRPC's prefix.
    pub message: Bytes,
    /// When it was first seen.
    pub seen: Instant,
    /// When the client gives up, if it says so.
    pub deadline: Option<Instant>,
    /// What the spans of its hooks are below, if it is traced.
    pub trace: Option<Context>,
}

/// What is to become of a call.
pub struct Verdict {
    /// See [`Decision`].
    pub decision: Decision,
    /// How long the call was kept waiting for blocking hooks, or until what others are promised is safe. What else the question took is overhead.
    pub waited: Duration,
}

/// The part of a [`Verdict`] that the wire sees.
pub enum Decision {
    /// Pass it on.
    Pass {
        /// The message to send in place of the original.
        patched: Option<Bytes>,
        /// Who wants to see the answer.
        witness: Option<Box<dyn Witness>>,
    },
    /// It could not be decoded: pass it on as it is.
    Undecodable,
    /// The client is told this, and the runtime never hears of it.
    Refuse(Status),
}

/// The runtime's answer to a call.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its gRPC status.
    pub code: Code,
    /// The only message of an answer that is OK; empty if there is none that can be read.
    pub message: Bytes,
}

/// What became of an answer that was shown.
pub struct Judged {
    /// What the client is told in its place.
    pub replaced: Option<Status>,
    /// As [`Verdict::waited`].
    pub waited: Duration,
}

/// Lets everything pass unseen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Interceptor for Nobody {
    fn wants(&self, _: Method) -> bool {
        false
    }

    fn before(&self, _: Call) -> Asked<Verdict> {
        let decision = Decision::Pass { patched: None, witness: None };
        Box::pin(std::future::ready(Verdict { decision, waited: Duration::ZERO }))
    }
}

/// A question that is timed: the part of it that was not waiting for hooks is overhead.
pub struct Timed<T> {
    asked: Asked<T>,
    since: Instant,
}

impl<T> Timed<T> {
    /// Asked at `since`.
    #[must_use]
    pub fn new(asked: Asked<T>, since: Instant) -> Self {
        Self { asked, since }
    }

    /// The answer, once it is there. `waited` tells how much of the time was spent waiting for hooks.
    pub fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
        watch: &Stopwatch,
        now: Instant,
        waited: impl FnOnce(&T) -> Duration,
    ) -> Poll<T> {
        let Poll::Ready(answer) = self.asked.as_mut().poll(cx) else {
            watch.asked(self.since);
            return Poll::Pending;
        };
        watch.told(self.since, waited(&answer), now);
        Poll::Ready(answer)
    }
}

/// A call that is shown before it goes on.
pub struct Gate {
    watch: Rc<Stopwatch>,
    round: Rc<Round>,
    interceptor: std::sync::Arc<dyn Interceptor>,
    /// Which of the upstream endpoints it goes to.
    endpoint: usize,
    seen: Instant,
    call: Option<(Parts, SendResponse<Bytes>)>,
    state: State,
}

enum State {
    Holding(Holding),
    Asking(Timed<Verdict>, Holding),
    Over,
}

/// What came of a call at its gate.
pub enum Gated {
    /// It goes on to this endpoint.
    Pass(usize, Box<Accepted>),
    /// It is refused.
    Refuse(Rc<Stopwatch>, SendResponse<Bytes>, Status),
    /// Its client has given it up.
    GivenUp,
}

impl Gate {
    /// A call that was accepted at `seen`.
    #[must_use]
    pub fn new(
        accepted: (Rc<Stopwatch>, Request<RecvStream>, SendResponse<Bytes>),
        endpoint: usize,
        round: &Rc<Round>,
        interceptor: std::sync::Arc<dyn Interceptor>,
    ) -> Self {
        let (watch, request, to_client) = accepted;
        let (head, body) = request.into_parts();
        let (seen, state) = (round.now.get(), State::Holding(Holding::new(body)));
        let (round, call) = (Rc::clone(round), Some((head, to_client)));
        Self { watch, round, interceptor, endpoint, seen, call, state }
    }

    /// Notes how a call ends that is about to be dropped.
    pub fn give_up(&self, code: Code) {
        self.watch.ended(code);
    }

    fn poll_state(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Passing, Status>>> {
        loop {
            match mem::replace(&mut self.state, State::Over) {
                State::Holding(mut holding) => match holding.poll(cx) {
                    Poll::Pending => {
                        self.watch.wait_for(Phase::Client);
                        self.state = State::Holding(holding);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(Taken::Oversize)) => return self.undecoded(holding, "oversize"),
                    Poll::Ready(Ok(Taken::Whole)) => match only_message(&holding.data()) {
                        Err(Unreadable::Compressed) => return self.undecoded(holding, "compressed"),
                        Err(Unreadable::Malformed) => return self.undecoded(holding, "malformed"),
                        Ok(message) => {
                            // As the client sent it: what goes on may be patched.
                            self.watch.request_piece(&holding.data());
                            self.watch.request_is_over();
                            let deadline =
                                self.call.as_ref().and_then(|(head, _)| deadline_of(&head.headers, self.seen));
                            let (method, trace) = (self.watch.method(), self.watch.context().cloned());
                            let call = Call { method, message, seen: self.seen, deadline, trace };
                            let asked = self.interceptor.before(call);
                            self.state = State::Asking(Timed::new(asked, self.round.now.get()), holding);
                        }
                    },
                },
                State::Asking(mut asking, holding) => {
                    let verdict = asking.poll(cx, &self.watch, self.round.now.get(), |verdict| verdict.waited);
                    let Poll::Ready(verdict) = verdict else {
                        self.state = State::Asking(asking, holding);
                        return Poll::Pending;
                    };
                    return match verdict.decision {
                        Decision::Refuse(status) => Poll::Ready(Some(Err(status))),
                        Decision::Undecodable => self.undecoded(holding, "malformed"),
                        Decision::Pass { patched: None, witness } => {
                            Poll::Ready(Some(Ok(Passing { source: holding.into_source(), witness, patched: false })))
                        }
                        Decision::Pass { patched: Some(message), witness } => {
                            let source = holding.replaced(framed(&message));
                            Poll::Ready(Some(Ok(Passing { source, witness, patched: true })))
                        }
                    };
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn undecoded(&self, holding: Holding, reason: &'static str) -> Poll<Option<Result<Passing, Status>>> {
        self.watch.undecoded(reason);
        Poll::Ready(Some(Ok(Passing { source: holding.into_source(), witness: None, patched: false })))
    }
}

struct Passing {
    source: super::source::Source,
    witness: Option<Box<dyn Witness>>,
    patched: bool,
}

impl Future for Gate {
    type Output = Gated;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Gated> {
        let me = &mut *self;
        if me.watch.touch(me.round.now.get()) {
            me.round.touched.borrow_mut().push(Rc::clone(&me.watch));
        }
        let given_up = |me: &Self| {
            me.watch.ended(Code::CANCELED);
            Poll::Ready(Gated::GivenUp)
        };
        if let Some((_, to_client)) = &mut me.call
            && to_client.poll_reset(cx).is_ready()
        {
            return given_up(me);
        }
        let decided = ready!(me.poll_state(cx));
        let (Some((mut head, to_client)), Some(decided)) = (me.call.take(), decided) else { return given_up(me) };
        let watch = Rc::clone(&me.watch);
        Poll::Ready(match decided {
            Err(status) => Gated::Refuse(watch, to_client, status),
            Ok(Passing { source, witness, patched }) => {
                if patched {
                    head.headers.remove(CONTENT_LENGTH);
                }
                let request = Request::from_parts(head, source);
                Gated::Pass(me.endpoint, Box::new(Accepted { watch, request, to_client, witness }))
            }
        })
    }
}
