//! One call: a stream from the client and a stream to the runtime, tied together frame by frame.
//!
//! ```text
//!            request                     answer
//!   Flowing ──▶ Over               Awaited ──▶ Flowing ──▶ Over      (with a witness: Awaited ──▶ Held ──▶ Flowing)
//!      │ the runtime wants             │          │
//!      ▼ no more of it                 ▼          ▼
//!     Over                      the client resets, the runtime resets, the runtime is lost
//! ```
//!
//! The call ends when the answer is over and so is the request, or when either side breaks it off. A relay decodes nothing and
//! has no timer: deadlines and retries are the client's.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::held::HeldAnswer;
use super::intercept::Witness;
use super::latency::{Phase, Stopwatch};
use super::pump::{Broken, Pump, Waiting};
use super::rescue::{self, Rescue, Status};
use super::source::Source;
use crate::cri::Code;

/// What the calls of a connection share with it during a round.
pub struct Round {
    /// When the round began.
    pub now: Cell<Instant>,
    /// The calls that took part.
    pub touched: RefCell<Vec<Rc<Stopwatch>>>,
    /// The calls whose answer is complete once the downstream half is flushed.
    pub answered: RefCell<Vec<Rc<Stopwatch>>>,
}

impl Round {
    /// A round that begins at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { now: Cell::new(now), touched: RefCell::default(), answered: RefCell::default() }
    }
}

/// The client's end of the answer, whether or not headers have gone down.
pub enum AnswerTo {
    /// No headers yet.
    Fresh(SendResponse<Bytes>),
    /// Headers were sent.
    Begun(SendStream<Bytes>),
}

impl AnswerTo {
    /// Resets the client's stream.
    pub fn reset(&mut self, reason: Reason) {
        match self {
            Self::Fresh(respond) => respond.send_reset(reason),
            Self::Begun(stream) => stream.send_reset(reason),
        }
    }

    /// Ends the client's stream with a status.
    fn end(self, status: Status) {
        // An error means that the client is gone, and with it whoever would have wanted to know.
        let _ = match self {
            Self::Fresh(mut respond) => respond.send_response(status.into_response(), true).map(drop),
            Self::Begun(mut stream) => stream.send_trailers(status.into_trailers()),
        };
    }
}

/// What is left to do when a call is over: resets, which must not overtake what was queued before them.
#[derive(Default)]
pub struct Leftover {
    /// To the client.
    pub down: Option<(AnswerTo, Reason)>,
    /// To the runtime, over the upstream connection with this number.
    pub up: Option<(usize, SendStream<Bytes>, Reason)>,
}

enum Request {
    Flowing(Pump),
    Over(SendStream<Bytes>),
    /// Only while it is being changed.
    Taken,
}

enum Answer {
    Awaited(ResponseFuture, SendResponse<Bytes>),
    /// Somebody wants to see it first.
    Held(HeldAnswer, SendResponse<Bytes>),
    Flowing(Pump),
    /// Kept for a reset that the runtime may still send, to stop a client that goes on writing.
    Over(Option<SendStream<Bytes>>),
}

/// See the module.
pub struct Relay {
    watch: Rc<Stopwatch>,
    round: Rc<Round>,
    link: usize,
    request: Request,
    answer: Answer,
    /// Who wants to see the answer before the client does.
    witness: Option<Box<dyn Witness>>,
    /// For calls that only a drain ends.
    draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// The two streams of a call, right after the request's headers were sent up.
pub struct Streams {
    /// The request's body, if it has one.
    pub request: Option<Source>,
    /// Where the request goes.
    pub to_runtime: SendStream<Bytes>,
    /// Where the answer comes from.
    pub answer: ResponseFuture,
    /// Where the answer goes.
    pub to_client: SendResponse<Bytes>,
    /// The number of the upstream connection.
    pub link: usize,
    /// Who wants to see the answer before the client does.
    pub witness: Option<Box<dyn Witness>>,
}

/// Answers a call that never got as far as the runtime.
pub fn refuse(watch: &Rc<Stopwatch>, round: &Round, to_client: SendResponse<Bytes>, status: Status) {
    watch.ended(status.code);
    AnswerTo::Fresh(to_client).end(status);
    round.answered.borrow_mut().push(Rc::clone(watch));
}

impl Relay {
    /// Ties the two streams together.
    #[must_use]
    pub fn new(
        watch: Rc<Stopwatch>,
        round: Rc<Round>,
        streams: Streams,
        draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ) -> Self {
        let request = match streams.request {
            Some(body) => Request::Flowing(Pump::of_request(body, streams.to_runtime)),
            None => Request::Over(streams.to_runtime),
        };
        let answer = Answer::Awaited(streams.answer, streams.to_client);
        Self { watch, round, link: streams.link, request, answer, witness: streams.witness, draining }
    }

    /// Notes how a call ends that is about to be dropped.
    pub fn give_up(&self, code: Code) {
        self.watch.ended(code);
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<(), Reason> {
        let Request::Flowing(pump) = &mut self.request else { return Ok(()) };
        let watch = &self.watch;
        match pump.poll(cx, |size| watch.request_message(size), |piece| watch.request_piece(piece)) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(Broken::Source(error))) => return Err(rescue::downstream_failed(&error)),
            // What the runtime made of the call, its answer says; that it reads no more is no error yet.
            Poll::Ready(Ok(()) | Err(Broken::Sink(_))) => {}
        }
        watch.request_is_over();
        if let Request::Flowing(pump) = mem::replace(&mut self.request, Request::Taken) {
            self.request = Request::Over(pump.into_sink());
        }
        Ok(())
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BrokenOff>> {
        loop {
            match &mut self.answer {
                Answer::Awaited(answer, to_client) => match Pin::new(answer).poll(cx) {
                    Poll::Ready(Ok(response)) => {
                        let answer = mem::replace(&mut self.answer, Answer::Over(None));
                        let Answer::Awaited(_, to_client) = answer else { return Poll::Ready(Ok(())) };
                        if let Some(witness) = self.witness.take() {
                            self.answer = Answer::Held(HeldAnswer::new(response, witness), to_client);
                            continue;
                        }
                        ready!(self.begin_answer(response.map(Source::from), to_client, cx))?;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(BrokenOff::Runtime(error))),
                    Poll::Pending => {
                        return to_client
                            .poll_reset(cx)
                            .map(|reason| Err(BrokenOff::Client(reason.unwrap_or(Reason::CANCEL))));
                    }
                },
                Answer::Held(held, to_client) => {
                    if let Poll::Ready(reset) = to_client.poll_reset(cx) {
                        return Poll::Ready(Err(BrokenOff::Client(reset.unwrap_or(Reason::CANCEL))));
                    }
                    let shown = ready!(held.poll(cx, &self.watch, self.round.now.get()));
                    let response = match shown {
                        Err(error) => return Poll::Ready(Err(BrokenOff::Runtime(error))),
                        Ok(response) => response,
                    };
                    let answer = mem::replace(&mut self.answer, Answer::Over(None));
                    let Answer::Held(_, to_client) = answer else { return Poll::Ready(Ok(())) };
                    ready!(self.begin_answer(response, to_client, cx))?;
                }
                Answer::Flowing(pump) => {
                    let watch = &self.watch;
                    match pump.poll(cx, |size| watch.response_message(size), |piece| watch.answer_piece(piece)) {
                        Poll::Ready(Ok(())) => {
                            let status = pump.status.unwrap_or(Code::UNKNOWN);
                            let Answer::Flowing(pump) = mem::replace(&mut self.answer, Answer::Over(None)) else {
                                return Poll::Ready(Ok(()));
                            };
                            return self.answer_is_over(status, Some(pump.into_sink()));
                        }
                        Poll::Ready(Err(Broken::Source(error))) => return Poll::Ready(Err(BrokenOff::Runtime(error))),
                        Poll::Ready(Err(Broken::Sink(reason))) => return Poll::Ready(Err(BrokenOff::Client(reason))),
                        Poll::Pending => {
                            return pump
                                .poll_sink_reset(cx)
                                .map(|reason| Err(BrokenOff::Client(reason.unwrap_or(Reason::CANCEL))));
                        }
                    }
                }
                Answer::Over(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Sends the answer's headers down. Ready with an end unless a body follows.
    fn begin_answer(
        &mut self,
        response: http::Response<Source>,
        mut to_client: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BrokenOff>> {
        let (head, body) = response.into_parts();
        let alone = body.is_over();
        let status = Code::from_headers(&head.headers);
        match to_client.send_response(http::Response::from_parts(head, ()), alone) {
            Err(_) => return Poll::Ready(Err(BrokenOff::Client(reset_of(&mut to_client, cx)))),
            Ok(stream) if alone => return self.answer_is_over(status, Some(stream)),
            Ok(stream) => self.answer = Answer::Flowing(Pump::of_answer(body, stream)),
        }
        Poll::Ready(Ok(()))
    }

    fn answer_is_over(&mut self, status: Code, stream: Option<SendStream<Bytes>>) -> Poll<Result<(), BrokenOff>> {
        self.watch.ended(status);
        self.round.answered.borrow_mut().push(Rc::clone(&self.watch));
        self.answer = Answer::Over(stream);
        Poll::Ready(Ok(()))
    }

    /// The answer is complete; the request is not. Goes on with it until the runtime says that it wants no more.
    fn poll_rest_of_request(&mut self, cx: &mut Context<'_>) -> Poll<Leftover> {
        let Request::Flowing(pump) = &mut self.request else { return Poll::Ready(Leftover::default()) };
        // NO_ERROR here is the usual way to stop a client.
        let reason = match pump.poll_sink_reset(cx) {
            Poll::Ready(reason) => reason.unwrap_or(Reason::NO_ERROR),
            Poll::Pending => return Poll::Pending,
        };
        let down = match &mut self.answer {
            Answer::Over(stream) => stream.take().map(|stream| (AnswerTo::Begun(stream), reason)),
            _ => None,
        };
        Poll::Ready(Leftover { down, up: None })
    }

    fn break_off(&mut self, by: BrokenOff) -> Leftover {
        let to_runtime = match mem::replace(&mut self.request, Request::Taken) {
            Request::Flowing(pump) => Some(pump.into_sink()),
            Request::Over(stream) => Some(stream),
            Request::Taken => None,
        };
        let to_client = match mem::replace(&mut self.answer, Answer::Over(None)) {
            Answer::Awaited(_, respond) | Answer::Held(_, respond) => Some(AnswerTo::Fresh(respond)),
            Answer::Flowing(pump) => Some(AnswerTo::Begun(pump.into_sink())),
            Answer::Over(_) => None,
        };
        let link = self.link;
        let up = |reason| to_runtime.map(|stream| (link, stream, reason));
        match by {
            BrokenOff::Client(reason) => {
                self.watch.ended(Code::CANCELED);
                Leftover { down: None, up: up(reason) }
            }
            BrokenOff::Drain => {
                if let Some(to_client) = to_client {
                    let status = Status::unavailable("is ending; open the stream again");
                    self.watch.ended(status.code);
                    to_client.end(status);
                    self.round.answered.borrow_mut().push(Rc::clone(&self.watch));
                }
                Leftover { down: None, up: up(Reason::CANCEL) }
            }
            BrokenOff::Runtime(error) => {
                let begun = matches!(to_client, Some(AnswerTo::Begun(_)));
                match (rescue::upstream_failed(&error, begun), to_client) {
                    (Rescue::Reset(reason), Some(to_client)) => {
                        self.watch.ended(Code::from_reset(reason));
                        Leftover { down: Some((to_client, reason)), up: None }
                    }
                    (Rescue::Status(status), Some(to_client)) => {
                        self.watch.ended(status.code);
                        to_client.end(status);
                        self.round.answered.borrow_mut().push(Rc::clone(&self.watch));
                        Leftover::default()
                    }
                    (_, None) => Leftover::default(),
                }
            }
        }
    }

    /// Whom the call waits for now. A request that is still being written while nothing has come back waits for its
    /// writer; an answer that is not taken waits for its reader; all else waits for the runtime.
    fn phase(&self) -> Phase {
        let writing = matches!(&self.request, Request::Flowing(pump) if pump.waiting == Waiting::Source);
        match &self.answer {
            Answer::Flowing(pump) if pump.waiting == Waiting::Sink => Phase::Client,
            Answer::Held(held, _) if held.is_shown() => Phase::Hooks,
            Answer::Awaited(..) if writing => Phase::Client,
            _ => Phase::Upstream,
        }
    }
}

/// Who broke a call off.
enum BrokenOff {
    Client(Reason),
    Runtime(h2::Error),
    Drain,
}

fn reset_of(to_client: &mut SendResponse<Bytes>, cx: &mut Context<'_>) -> Reason {
    match to_client.poll_reset(cx) {
        Poll::Ready(Ok(reason)) => reason,
        _ => Reason::CANCEL,
    }
}

impl Future for Relay {
    type Output = Leftover;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Leftover> {
        let me = &mut *self;
        if me.watch.touch(me.round.now.get()) {
            me.round.touched.borrow_mut().push(Rc::clone(&me.watch));
        }
        if let Err(reason) = me.poll_request(cx) {
            return Poll::Ready(me.break_off(BrokenOff::Client(reason)));
        }
        match me.poll_answer(cx) {
            Poll::Ready(Ok(())) => return me.poll_rest_of_request(cx),
            Poll::Ready(Err(by)) => return Poll::Ready(me.break_off(by)),
            Poll::Pending => {}
        }
        if let Some(draining) = &mut me.draining
            && draining.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(me.break_off(BrokenOff::Drain));
        }
        me.watch.wait_for(me.phase());
        Poll::Pending
    }
}
