//! One connection of a client: the client's streams, the connections to the runtime that they go to, and the calls between them.
//!
//! It is one task. Each of its wake-ups is a *round*:
//!
//! ```text
//!   ┌─▶ read from the runtime ─▶ read from the client ─▶ move the calls on ─┐   until nothing moves
//!   └──────────────────────────────────────────────────────────────────────┘
//!       write to the client; note the time: what took part in the round now waits for somebody else
//!       write to the runtime; resets go out when what was sent before them has
//! ```
//!
//! So a burst of frames costs one write, and the time from the wake-up to that note is crihook's own share of every call
//! that took part.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use prometheus::IntGauge;
use tokio::net::UnixStream;
use tokio::task::coop;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::intercept::{Gate, Gated, Interceptor};
use super::io::{Flusher, Gathered, gather};
use super::latency::{Phase, Recorder, Stopwatch};
use super::relay::{self, AnswerTo, Relay, Round};
use super::settings;
use super::source::Source;
use super::upstream::{Accepted, OpenConnection, Placed, Upstreams};
use super::wake::{Bell, Flag};
use crate::cri::{Code, Method, Service};
use crate::drain::Drain;

/// A client that has connected speaks HTTP/2 within this time, or is sent away (gRPC's Go server waits as long).
const HANDSHAKE: Duration = Duration::from_mins(2);
/// A client without calls that does not hang up after a GOAWAY is hung up on, and one that still does not is left.
const LINGER: Duration = Duration::from_secs(1);
/// The same after a handover, which is in no hurry: a client that is held up has heard of it when it makes its next call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns of one round before other connections get theirs.
const TURNS: usize = 16;

/// What all connections of a data path share.
pub struct Shared {
    /// The runtime's socket, and the image service's if it is another.
    pub endpoints: Vec<PathBuf>,
    /// Begins the calls.
    pub recorder: Recorder,
    /// Open connections of clients.
    pub downstream: IntGauge,
    /// Open connections to the runtime.
    pub upstream: IntGauge,
    /// Who may want to see calls.
    pub interceptor: Arc<dyn Interceptor>,
    /// The end.
    pub drain: Drain,
}

impl Shared {
    fn linger(&self) -> Duration {
        if self.drain.ending().is_cancelled() { LINGER } else { PATIENCE }
    }
}

/// Serves one client until it hangs up, or until a drain has ended its last call.
pub async fn serve(socket: UnixStream, shared: Rc<Shared>, draining: CancellationToken) {
    let _guard = shared.drain.guard();
    let _open = OpenConnection::new(&shared.downstream);
    let (io, flusher) = match gather(socket) {
        Ok(halves) => halves,
        Err(error) => return tracing::warn!("cannot serve a client of the CRI socket: {error}"),
    };
    let mut handshake = settings::server().handshake::<_, Bytes>(io);
    let shaken = std::future::poll_fn(|cx| {
        let shaken = Pin::new(&mut handshake).poll(cx);
        let _ = flusher.poll_flush(cx);
        shaken
    });
    // Who connected just before a drain has a call to make, and would count it as failed.
    let too_late = async {
        draining.cancelled().await;
        let _ = shared.drain.forced().run_until_cancelled(tokio::time::sleep(shared.linger())).await;
    };
    let shaken = tokio::select! {
        biased;
        shaken = tokio::time::timeout(HANDSHAKE, shaken) => shaken,
        () = too_late => return,
    };
    match shaken {
        Ok(Ok(down)) => {
            let (last, forced) = (flusher.clone(), shared.drain.forced().clone());
            Connection::new(down, flusher, shared, &draining).await;
            let _ = forced.run_until_cancelled(tokio::time::timeout(LINGER, last.hang_up())).await;
        }
        Ok(Err(error)) => say_not_http2(&flusher.first_bytes(), Some(&error)),
        Err(_) => say_not_http2(&flusher.first_bytes(), None),
    }
}

fn say_not_http2(first: &[u8], error: Option<&h2::Error>) {
    let cut_short = error.is_none_or(h2::Error::is_io);
    if first.is_empty() && cut_short {
        tracing::debug!("a client connected and said nothing");
        return;
    }
    let sent = first.escape_ascii();
    let what = if cut_short { "stopped in the middle of the HTTP/2 preface" } else { "does not speak HTTP/2" };
    tracing::warn!(
        "a client of the CRI socket {what}: it sent \"{sent}\" where gRPC sends \"PRI * HTTP/2.0\"; hung up"
    );
}

struct Connection {
    shared: Rc<Shared>,
    number: u64,
    bell: Arc<Bell>,
    down: h2::server::Connection<Gathered, Bytes>,
    down_io: Flusher,
    down_flag: Flag,
    down_resets: Vec<(AnswerTo, Reason)>,
    up: Upstreams,
    /// Calls that are shown before they go on.
    gates: FuturesUnordered<Gate>,
    gates_flag: Flag,
    calls: FuturesUnordered<Relay>,
    calls_flag: Flag,
    round: Rc<Round>,
    /// Calls whose answer waits for the client to read what was sent before.
    unread: VecDeque<Rc<Stopwatch>>,
    drain: Draining,
    /// Ends the calls that only a drain ends: once the client has been told to go elsewhere, so that it makes them anew there.
    farewell: CancellationToken,
    forced: Pin<Box<WaitForCancellationFutureOwned>>,
    drain_flag: Flag,
}

enum Draining {
    /// Waits for the word.
    No(Pin<Box<WaitForCancellationFutureOwned>>),
    /// Waits for the calls, and then for the client to hang up.
    Yes(Option<Pin<Box<Sleep>>>),
}

impl Connection {
    fn new(
        down: h2::server::Connection<Gathered, Bytes>,
        down_io: Flusher,
        shared: Rc<Shared>,
        draining: &CancellationToken,
    ) -> Self {
        let (bell, number) = (Arc::new(Bell::default()), shared.recorder.connection());
        let up = Upstreams::new(&shared.endpoints, &bell, &shared.upstream);
        let signal = |token: &CancellationToken| Box::pin(token.clone().cancelled_owned());
        let (drain, forced) = (Draining::No(signal(draining)), signal(shared.drain.forced()));
        let farewell = CancellationToken::new();
        let round = Rc::new(Round::new(Instant::now()));
        let [down_flag, gates_flag, calls_flag, drain_flag] = std::array::from_fn(|_| Flag::new(&bell));
        let (gates, calls) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (unread, down_resets) = (VecDeque::new(), Vec::new());
        Self {
            shared,
            number,
            bell,
            down,
            down_io,
            down_flag,
            down_resets,
            up,
            gates,
            gates_flag,
            calls,
            calls_flag,
            round,
            unread,
            drain,
            farewell,
            forced,
            drain_flag,
        }
    }

    fn accept(&mut self, request: Request<RecvStream>, to_client: SendResponse<Bytes>) {
        let method = Method::from_path(request.uri().path());
        let watch = self.shared.recorder.begin(method, request.headers(), self.number, self.round.now.get());
        let endpoint = usize::from(method.service() == Service::Image);
        if self.shared.interceptor.wants(method) {
            let interceptor = Arc::clone(&self.shared.interceptor);
            self.gates.push(Gate::new((watch, request, to_client), endpoint, &self.round, interceptor));
            return self.gates_flag.raise();
        }
        self.up.submit(endpoint, Accepted { watch, request: request.map(Source::from), to_client, witness: None });
    }

    fn poll_gates(&mut self) {
        while let Poll::Ready(Some(gated)) = Pin::new(&mut self.gates).poll_next(&mut self.gates_flag.context()) {
            match gated {
                Gated::Pass(endpoint, call) => self.up.submit(endpoint, *call),
                Gated::Refuse(watch, to_client, status) => relay::refuse(&watch, &self.round, to_client, status),
                Gated::GivenUp => {}
            }
        }
    }

    /// Reads from the client. Ready when the client is gone.
    fn poll_down(&mut self) -> Poll<()> {
        loop {
            match self.down.poll_accept(&mut self.down_flag.context()) {
                Poll::Ready(Some(Ok((request, to_client)))) => self.accept(request, to_client),
                Poll::Ready(Some(Err(error))) => {
                    let _ = self.down_io.poll_flush(&mut self.down_flag.context());
                    if error.is_io() || error.is_remote() {
                        tracing::debug!(%error, "a client hung up");
                    } else {
                        tracing::warn!("a client of the CRI socket breaks HTTP/2 ({error}); hung up");
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(None) => {
                    let _ = self.down_io.poll_flush(&mut self.down_flag.context());
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_up(&mut self) -> bool {
        let Self { up, calls, calls_flag, round, farewell, .. } = self;
        up.poll(|placed| match placed {
            Placed::Opened(watch, streams) => {
                let endless = watch.method().is_endless();
                let farewell = endless.then(|| Box::pin(farewell.clone().cancelled_owned()));
                calls.push(Relay::new(watch, Rc::clone(round), streams, farewell));
                calls_flag.raise();
            }
            Placed::Refused(watch, to_client, status) => relay::refuse(&watch, round, to_client, status),
        })
    }

    fn poll_calls(&mut self) {
        while let Poll::Ready(Some(left)) = Pin::new(&mut self.calls).poll_next(&mut self.calls_flag.context()) {
            self.down_resets.extend(left.down);
            if let Some((link, stream, reason)) = left.up {
                self.up.reset(link, stream, reason);
            }
        }
    }

    /// Hears of the end. Ready when it is to be now.
    fn poll_drain(&mut self) -> Poll<()> {
        let cx = &mut self.drain_flag.context();
        if let Draining::No(asked) = &mut self.drain {
            if asked.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.drain = Draining::Yes(None);
            // Sent when the client is next read from, which comes before the calls are moved on.
            self.down.graceful_shutdown();
            self.down_flag.raise();
            self.farewell.cancel();
        }
        let Draining::Yes(linger) = &mut self.drain else { return Poll::Pending };
        if self.forced.as_mut().poll(cx).is_ready() {
            self.calls.iter().for_each(|call| call.give_up(Code::UNAVAILABLE));
            self.gates.iter().for_each(|gate| gate.give_up(Code::UNAVAILABLE));
            return Poll::Ready(());
        }
        let written = self.unread.is_empty() && self.round.answered.borrow().is_empty() && self.down_resets.is_empty();
        if !written || !self.calls.is_empty() || !self.gates.is_empty() || self.up.has_waiting() {
            *linger = None;
            return Poll::Pending;
        }
        linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.shared.linger()))).as_mut().poll(cx)
    }

    /// Writes, and does what had to wait for the writes.
    fn flush(&mut self) {
        // The client first: gRPC servers ask for a PING with every answer, and the answer should not wait for the reply to that.
        let written = self.down_io.poll_flush(&mut self.down_flag.context());
        self.end_round(written);
        // After the time was noted: the runtime may be at work, on this very core, before the write returns.
        self.up.poll_flush();
    }

    fn end_round(&mut self, written: Poll<()>) {
        let now = Instant::now();
        for watch in self.round.touched.borrow_mut().drain(..) {
            watch.end_round(now);
        }
        self.round.now.set(now);
        if self.down_flag.is_raised() {
            // h2 still holds frames that it has not given to `down_io`: nothing is handed over yet.
            return;
        }
        let mut answered = self.round.answered.borrow_mut();
        if written.is_pending() {
            for watch in answered.drain(..) {
                watch.enter(Phase::Client, now);
                self.unread.push_back(watch);
            }
            return;
        }
        for watch in self.unread.drain(..).chain(answered.drain(..)) {
            watch.record(now);
        }
        for (mut stream, reason) in self.down_resets.drain(..) {
            stream.reset(reason);
            self.down_flag.raise();
        }
        // A call that ended may have been the last that a drain waits for.
        if matches!(self.drain, Draining::Yes(..)) {
            self.drain_flag.raise();
        }
    }

    fn is_raised(&self) -> bool {
        [&self.down_flag, &self.gates_flag, &self.calls_flag, &self.drain_flag].into_iter().any(Flag::is_raised)
            || self.up.is_raised()
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.bell.begin(cx);
        me.round.now.set(Instant::now());
        for turn in 1.. {
            let mut moved = me.poll_up();
            if me.down_flag.take() {
                moved = true;
                if me.poll_down().is_ready() {
                    return Poll::Ready(());
                }
            }
            if me.gates_flag.take() {
                moved = true;
                me.poll_gates();
            }
            if me.calls_flag.take() {
                moved = true;
                me.poll_calls();
            }
            let enough = turn >= TURNS || !coop::has_budget_remaining();
            if moved && !enough {
                continue;
            }
            // Out of turns: what the calls have given to h2 still goes out.
            if enough && me.down_flag.take() && me.poll_down().is_ready() {
                return Poll::Ready(());
            }
            me.flush();
            if me.drain_flag.take() && me.poll_drain().is_ready() {
                return Poll::Ready(());
            }
            if enough || !me.is_raised() {
                break;
            }
        }
        me.bell.end();
        if me.is_raised() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
