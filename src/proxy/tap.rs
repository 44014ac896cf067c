//! A tap: what passes by on a few methods, for somebody else to look at.
//!
//! The pieces of requests and answers are handed on as they are, by reference count, with the call's times: nothing is decoded, copied or
//! waited for here. What is held for whoever looks is bounded, a call at a time and in all; what goes beyond is lost, and counted.
//!
//! ```text
//!   Request ──▶ Answer ──▶ over          Begun is told at the first arrow, Ended at the second
//!      │           └─ too large: told that it has ended, without its answer
//!      └─ too large, or nobody took Begun in time: nothing is told
//! ```

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::mpsc;

use super::latency::Finished;
use crate::cri::{Method, only_message};

/// What is held of a request, and of an answer, in bytes.
const CAP: usize = 1 << 20;
/// What is held of all of them together, those included that wait to be looked at.
const CAP_OF_ALL: usize = 64 << 20;
/// Begins and ends that wait to be looked at.
const BEHIND: usize = 16_384;

/// Something that was seen of a call.
#[derive(Debug)]
pub enum Seen {
    /// Its request is there, whole.
    Begun(Begun),
    /// It is over. Nothing else is told of this call after that, and this only if it was told that it has begun.
    Ended(Ended),
}

/// A call whose request is there.
#[derive(Debug)]
pub struct Begun {
    /// Its number: no two calls have the same.
    pub call: u64,
    /// The number of its client's connection.
    pub connection: u64,
    /// Which method is called.
    pub method: Method,
    /// When it was first seen.
    pub at: Instant,
    /// Its request, as the client sent it.
    pub request: Body,
}

/// A call that is over.
#[derive(Debug)]
pub struct Ended {
    /// As in [`Begun::call`].
    pub call: u64,
    /// How it ended, and when.
    pub finished: Finished,
    /// What the client was answered, as far as it came; `None` if that was too large.
    pub answer: Option<Body>,
}

/// The bytes of a body, in the pieces that they came in.
#[derive(Debug)]
pub struct Body {
    pieces: Vec<Bytes>,
    size: usize,
    held: Arc<AtomicUsize>,
}

impl Body {
    fn new(held: &Arc<AtomicUsize>) -> Self {
        Self { pieces: Vec::new(), size: 0, held: Arc::clone(held) }
    }

    /// False if there is no room for it.
    fn push(&mut self, piece: &Bytes) -> bool {
        let held = self.held.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
        self.size += piece.len();
        if self.size > CAP || held > CAP_OF_ALL {
            return false;
        }
        self.pieces.push(piece.clone());
        true
    }

    /// Its only message; `None` if it is not one that can be read.
    #[must_use]
    pub fn message(&self) -> Option<Bytes> {
        let whole = match &self.pieces[..] {
            [one] => one.clone(),
            pieces => {
                let mut joined = BytesMut::with_capacity(self.size);
                for piece in pieces {
                    joined.extend_from_slice(piece);
                }
                joined.freeze()
            }
        };
        only_message(&whole).ok()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Which methods are tapped, and what becomes of what is seen. Cheap to clone.
#[derive(Clone)]
pub struct Tap {
    methods: [bool; Method::COUNT],
    to: mpsc::Sender<Seen>,
    held: Arc<AtomicUsize>,
    late: IntCounter,
    large: IntCounter,
}

impl Tap {
    /// Taps these methods. What is seen comes out of the other end.
    ///
    /// # Errors
    /// Fails if its metrics are registered already.
    pub fn register(
        registry: &Registry,
        taps: impl Fn(Method) -> bool,
    ) -> prometheus::Result<(Self, mpsc::Receiver<Seen>)> {
        let opts = Opts::new(
            "crihook_observations_lost_total",
            "Begins and ends of calls that were not looked at: too large to be held, or nobody looked in time.",
        );
        let lost = IntCounterVec::new(opts, &["reason"])?;
        registry.register(Box::new(lost.clone()))?;
        let [late, large] = ["late", "large"].map(|reason| lost.with_label_values(&[reason]));
        let mut methods = [false; Method::COUNT];
        for method in Method::all() {
            methods[method.index()] = taps(method);
        }
        let (to, seen) = mpsc::channel(BEHIND);
        Ok((Self { methods, to, held: Arc::default(), late, large }, seen))
    }

    /// A call of this method begins. `None` if it is not tapped.
    pub(super) fn begin(self: &Rc<Self>, call: u64, connection: u64, method: Method, at: Instant) -> Option<Tapped> {
        let part = || RefCell::new(Part::Request(Body::new(&self.held)));
        self.methods[method.index()].then(|| Tapped {
            tap: Rc::clone(self),
            call,
            connection,
            method,
            at,
            part: part(),
        })
    }

    fn tell(&self, seen: Seen) -> bool {
        let told = self.to.try_send(seen).is_ok();
        if !told {
            self.late.inc();
        }
        told
    }
}

/// A call that is tapped.
pub(super) struct Tapped {
    tap: Rc<Tap>,
    call: u64,
    connection: u64,
    method: Method,
    at: Instant,
    part: RefCell<Part>,
}

/// What of it is being looked at.
enum Part {
    Request(Body),
    /// `None`: it was too large.
    Answer(Option<Body>),
    Over,
}

impl Tapped {
    /// A piece of the request passes.
    pub fn request(&self, piece: &Bytes) {
        let mut part = self.part.borrow_mut();
        if let Part::Request(body) = &mut *part
            && !body.push(piece)
        {
            *part = Part::Over;
            self.tap.large.inc();
        }
    }

    /// All of the request has passed. What passes of it again is another version, and not looked at.
    pub fn request_is_over(&self) {
        let mut part = self.part.borrow_mut();
        if !matches!(*part, Part::Request(_)) {
            return;
        }
        let Part::Request(request) = mem::replace(&mut *part, Part::Over) else { return };
        let Self { call, connection, method, at, .. } = *self;
        if self.tap.tell(Seen::Begun(Begun { call, connection, method, at, request })) {
            *part = Part::Answer(Some(Body::new(&self.tap.held)));
        }
    }

    /// A piece of the answer passes.
    pub fn answer(&self, piece: &Bytes) {
        if let Part::Answer(answer) = &mut *self.part.borrow_mut()
            && answer.as_mut().is_some_and(|body| !body.push(piece))
        {
            *answer = None;
            self.tap.large.inc();
        }
    }

    /// The call is over.
    pub fn ended(&self, finished: Finished) {
        if let Part::Answer(answer) = self.part.replace(Part::Over) {
            self.tap.tell(Seen::Ended(Ended { call: self.call, finished, answer }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cri::{Code, framed};
    use crate::proxy::Shares;

    fn tap() -> (Rc<Tap>, mpsc::Receiver<Seen>) {
        let (tap, seen) = Tap::register(&Registry::new(), |method| method.name() == "ExecSync").unwrap();
        (Rc::new(tap), seen)
    }

    fn method(name: &str) -> Method {
        Method::from_path(&format!("/runtime.v1.RuntimeService/{name}"))
    }

    fn call(tap: &Rc<Tap>) -> Tapped {
        tap.begin(7, 2, method("ExecSync"), Instant::now()).expect("tapped")
    }

    fn finished() -> Finished {
        let now = Instant::now();
        let (method, shares) = (method("ExecSync"), Shares::default());
        Finished { method, code: Code::OK, begun: now, handed_on: Some(now), duration: Duration::ZERO, shares }
    }

    #[test]
    fn both_messages_of_a_call_come_out_however_they_were_cut() {
        let (tap, mut seen) = tap();
        assert!(tap.begin(1, 1, method("Version"), Instant::now()).is_none(), "not tapped");
        let (call, request, answer) = (call(&tap), framed(b"question"), framed(b"answer"));
        call.request(&request.slice(..3));
        call.request(&request.slice(3..));
        call.request_is_over();
        call.request(&framed(b"patched"));
        call.request_is_over();
        call.answer(&answer);
        call.ended(finished());
        let Seen::Begun(begun) = seen.try_recv().unwrap() else { panic!("it has begun") };
        assert_eq!((begun.call, begun.connection, &begun.request.message().unwrap()[..]), (7, 2, &b"question"[..]));
        let Seen::Ended(ended) = seen.try_recv().unwrap() else { panic!("it has ended") };
        assert_eq!((ended.call, &ended.answer.as_ref().unwrap().message().unwrap()[..]), (7, &b"answer"[..]));
        assert!(seen.try_recv().is_err());
        assert_ne!(tap.held.load(Ordering::Relaxed), 0);
        drop((begun, ended));
        assert_eq!(tap.held.load(Ordering::Relaxed), 0, "nothing is held any more");
    }

    #[test]
    fn what_is_too_large_is_counted_and_not_held() {
        let (tap, mut seen) = tap();
        let (large, little) = (Bytes::from(vec![0; CAP + 1]), framed(b"x"));
        let over = call(&tap);
        over.request(&large);
        over.request_is_over();
        over.ended(finished());
        assert!(seen.try_recv().is_err(), "of a request that is too large nothing is told");
        let call = call(&tap);
        call.request(&little);
        call.request_is_over();
        call.answer(&large);
        call.answer(&little);
        call.ended(finished());
        assert!(matches!(seen.try_recv(), Ok(Seen::Begun(_))));
        assert!(
            matches!(seen.try_recv(), Ok(Seen::Ended(Ended { answer: None, .. }))),
            "its end is known all the same"
        );
        assert_eq!((tap.large.get(), tap.late.get(), tap.held.load(Ordering::Relaxed)), (2, 0, 0));
    }

    #[test]
    fn nobody_who_looks_too_slowly_holds_up_a_call_or_hears_of_half_of_one() {
        let (tap, mut seen) = tap();
        let calls: Vec<_> = (0..=BEHIND).map(|_| call(&tap)).collect();
        calls.iter().for_each(Tapped::request_is_over);
        assert_eq!(tap.late.get(), 1);
        while seen.try_recv().is_ok() {}
        for call in &calls {
            call.ended(finished());
        }
        assert_eq!(std::iter::from_fn(|| seen.try_recv().ok()).count(), BEHIND, "one was never told to have begun");
        assert_eq!(tap.late.get(), 1);
    }
}
