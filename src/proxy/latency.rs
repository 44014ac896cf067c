//! Where the time of a call goes.
//!
//! A call is in one [`Phase`] at a time, and its [`Stopwatch`] adds up how long it was in each: every share is measured by
//! itself, and together they are the call's duration. The unit of measure is a *round* of its connection (see
//! `connection`): from the wake-up that brought something for the call until its answer is written, or its request about to be. That
//! span is crihook's own doing and counts as overhead; what lies between rounds is spent waiting for somebody else.
//!
//! A call is recorded exactly once: when its answer has been handed over, or, whatever else becomes of it, when it is dropped.

mod metrics;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

pub use metrics::LatencyMetrics;
use metrics::MethodMetrics;

use super::spans::Spans;
use super::tap::{Tap, Tapped};
use crate::cri::{Code, Method};
use crate::trace::{Context, Tracer};

/// What a call is waiting for, or who is at work on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// crihook itself: dialling, decoding, queueing, relaying.
    Overhead,
    /// The runtime.
    Upstream,
    /// A client that writes its request or reads its answer slowly.
    Client,
    /// Hooks that the call has to wait for.
    Hooks,
}

/// How long a call spent where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shares {
    /// crihook itself: dialling, decoding, queueing, relaying.
    pub overhead: Duration,
    /// The runtime.
    pub upstream: Duration,
    /// A client that writes its request or reads its answer slowly.
    pub client: Duration,
    /// Waiting for blocking hooks.
    pub hooks: Duration,
}

/// What is known of a call when it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// Which method was called.
    pub method: Method,
    /// How it ended.
    pub code: Code,
    /// When it was first seen.
    pub begun: Instant,
    /// When its request had been handed on to the runtime, if it was.
    pub handed_on: Option<Instant>,
    /// From the request's first sight to the last frame handed over.
    pub duration: Duration,
    /// The same, divided.
    pub shares: Shares,
}

/// Begins the calls of one thread.
pub struct Recorder {
    metrics: Rc<LatencyMetrics>,
    methods: [OnceCell<Rc<MethodMetrics>>; Method::COUNT],
    observer: Option<mpsc::Sender<Finished>>,
    tap: Option<Rc<Tap>>,
    tracer: Tracer,
    calls: Cell<u64>,
    connections: Cell<u64>,
}

impl Recorder {
    /// `observer` hears of every ended call as long as it keeps up; what it cannot take is dropped. `tap` sees what passes, and `tracer` is told
    /// of the calls that are traced.
    #[must_use]
    pub fn new(
        metrics: LatencyMetrics,
        observer: Option<mpsc::Sender<Finished>>,
        tap: Option<Tap>,
        tracer: Tracer,
    ) -> Self {
        let (metrics, tap) = (Rc::new(metrics), tap.map(Rc::new));
        let methods = [const { OnceCell::new() }; Method::COUNT];
        Self { metrics, methods, observer, tap, tracer, calls: Cell::new(0), connections: Cell::new(0) }
    }

    /// A number that no other connection of a client has.
    #[must_use]
    pub fn connection(&self) -> u64 {
        next(&self.connections)
    }

    /// Starts the stopwatch of a call that came with these headers and was first seen at `now`, on the connection of that number, on crihook's own
    /// account.
    #[must_use]
    pub fn begin(&self, method: Method, headers: &HeaderMap, connection: u64, now: Instant) -> Rc<Stopwatch> {
        let metrics = Rc::clone(self.methods[method.index()].get_or_init(|| Rc::new(self.metrics.resolve(method))));
        metrics.in_flight.inc();
        let call = next(&self.calls);
        Rc::new(Stopwatch {
            method,
            metrics,
            families: Rc::clone(&self.metrics),
            observer: self.observer.clone(),
            tapped: self.tap.as_ref().and_then(|tap| tap.begin(call, connection, method, now)),
            spans: Spans::enter(&self.tracer, method, headers).map(Box::new),
            begun: now,
            handed_on: Cell::new(None),
            since: Cell::new(now),
            phase: Cell::new(Phase::Overhead),
            next: Cell::new(Phase::Upstream),
            shares: Cell::new(Shares::default()),
            code: Cell::new(None),
            recorded: Cell::new(false),
            touched: Cell::new(false),
        })
    }
}

fn next(numbers: &Cell<u64>) -> u64 {
    numbers.replace(numbers.get() + 1)
}

/// One call's clock and its place in the metrics.
pub struct Stopwatch {
    method: Method,
    metrics: Rc<MethodMetrics>,
    families: Rc<LatencyMetrics>,
    observer: Option<mpsc::Sender<Finished>>,
    tapped: Option<Tapped>,
    spans: Option<Box<Spans>>,
    begun: Instant,
    handed_on: Cell<Option<Instant>>,
    since: Cell<Instant>,
    phase: Cell<Phase>,
    next: Cell<Phase>,
    shares: Cell<Shares>,
    code: Cell<Option<Code>>,
    recorded: Cell<bool>,
    touched: Cell<bool>,
}

impl Stopwatch {
    /// The method that was called.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// What its spans are below, if it is traced.
    #[must_use]
    pub fn context(&self) -> Option<&Context> {
        self.spans.as_ref().map(|spans| spans.context())
    }

    /// Ends the present phase and begins another.
    pub fn enter(&self, phase: Phase, now: Instant) {
        // A round may touch a call again after it has written: time never runs backwards.
        let since = self.since.get();
        let now = now.max(since);
        self.since.set(now);
        if phase == Phase::Upstream && self.handed_on.get().is_none() {
            self.handed_on.set(Some(now));
        }
        let (mut shares, spent) = (self.shares.get(), now.duration_since(since));
        let last = self.phase.replace(phase);
        if last == Phase::Upstream
            && let Some(spans) = &self.spans
        {
            spans.answered(now);
        }
        *match last {
            Phase::Overhead => &mut shares.overhead,
            Phase::Upstream => &mut shares.upstream,
            Phase::Client => &mut shares.client,
            Phase::Hooks => &mut shares.hooks,
        } += spent;
        self.shares.set(shares);
    }

    /// Says what the call waits for once the present round is over.
    pub fn wait_for(&self, phase: Phase) {
        self.next.set(phase);
    }

    /// Ends the round.
    pub fn end_round(&self, now: Instant) {
        self.touched.set(false);
        self.enter(self.next.get(), now);
    }

    /// Marks the call as part of the round that began at `now`; true if it was not yet.
    pub fn touch(&self, now: Instant) -> bool {
        if self.touched.replace(true) {
            return false;
        }
        self.enter(Phase::Overhead, now);
        true
    }

    /// Notes how the call ended. The first word counts.
    pub fn ended(&self, code: Code) {
        if self.code.get().is_none() {
            self.code.set(Some(code));
        }
        self.next.set(Phase::Overhead);
    }

    /// Records the call, if it was not yet: its last frame has been handed over.
    pub fn record(&self, now: Instant) {
        if self.recorded.replace(true) {
            return;
        }
        self.enter(Phase::Overhead, now);
        let m = &self.metrics;
        // A call that nobody ended was left behind by its client, the one end that a drop cannot tell by itself.
        let code = self.code.get().unwrap_or(Code::CANCELED);
        let counter = m.requests[code.index()].get_or_init(|| {
            self.families.requests.with_label_values(&[self.method.service().name(), self.method.name(), code.name()])
        });
        counter.inc();
        m.in_flight.dec();
        let shares = self.shares.get();
        let duration = now.saturating_duration_since(self.begun);
        if !self.method.is_endless() {
            m.duration.observe(duration.as_secs_f64());
            m.upstream.observe(shares.upstream.as_secs_f64());
            m.hook_wait.observe(shares.hooks.as_secs_f64());
            m.client_wait.observe(shares.client.as_secs_f64());
            m.overhead.observe(shares.overhead.as_secs_f64());
        }
        tracing::debug!(
            method = self.method.name(),
            code = code.name(),
            ?duration,
            ?shares,
            trace_id = self.context().map(|context| tracing::field::display(context.trace_id())),
            "call"
        );
        let (begun, handed_on) = (self.begun, self.handed_on.get());
        let finished = Finished { method: self.method, code, begun, handed_on, duration, shares };
        if let Some(tapped) = &self.tapped {
            tapped.ended(finished);
        }
        if let Some(spans) = &self.spans {
            spans.ended(&finished);
        }
        if let Some(observer) = &self.observer {
            let _ = observer.try_send(finished);
        }
    }

    /// An answer has been waited for since then, perhaps for hooks.
    pub fn asked(&self, since: Instant) {
        self.wait_for(Phase::Hooks);
        if let Some(spans) = &self.spans {
            spans.asked(since);
        }
    }

    /// It is there: of the time since it was `asked` for, this was `waited` for hooks. The rest, which was counted as such, was spent on the question whether there are
    /// any: crihook's own doing.
    pub fn told(&self, asked: Instant, waited: Duration, now: Instant) {
        if let Some(spans) = &self.spans {
            let since = now.checked_sub(waited).map(|since| since.max(asked));
            spans.told(since.filter(|_| !waited.is_zero()), now);
        }
        let time = now.saturating_duration_since(asked).saturating_sub(waited);
        let mut shares = self.shares.get();
        let time = time.min(shares.hooks);
        shares.hooks -= time;
        shares.overhead += time;
        self.shares.set(shares);
    }

    /// Counts a request that was passed on undecoded though somebody wanted to see it.
    pub fn undecoded(&self, reason: &'static str) {
        self.families.passthrough.with_label_values(&[self.method.name(), reason]).inc();
    }

    /// A piece of the request passes.
    pub fn request_piece(&self, piece: &Bytes) {
        if let Some(tapped) = &self.tapped {
            tapped.request(piece);
        }
    }

    /// All of the request has passed.
    pub fn request_is_over(&self) {
        if let Some(tapped) = &self.tapped {
            tapped.request_is_over();
        }
    }

    /// A piece of the answer passes.
    pub fn answer_piece(&self, piece: &Bytes) {
        if let Some(tapped) = &self.tapped {
            tapped.answer(piece);
        }
    }

    /// Counts a message of the request.
    pub fn request_message(&self, bytes: u32) {
        self.metrics.request_bytes.observe(f64::from(bytes));
    }

    /// Counts a message of the response.
    pub fn response_message(&self, bytes: u32) {
        self.metrics.response_bytes.observe(f64::from(bytes));
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.record(Instant::now());
    }
}
