//! An answer that somebody wants to see before the client does.
//!
//! It is taken in whole, shown to its [`Witness`], and goes down as it came, or is replaced by a status. An answer above CRI's limit of
//! a message goes down without having been read: its code, which comes last, is not known then, so the witness is dropped.

use std::mem;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::Response;
use http::response::Parts;

use super::intercept::{Answer, Judged, Timed, Witness};
use super::latency::Stopwatch;
use super::source::{Holding, Source, Taken};
use crate::cri::{Code, only_message};

/// See the module.
pub struct HeldAnswer {
    head: Option<Parts>,
    state: State,
}

enum State {
    Holding(Holding, Box<dyn Witness>),
    Shown(Timed<Judged>, Holding),
    Over,
}

impl HeldAnswer {
    /// An answer whose headers have come.
    #[must_use]
    pub fn new(response: Response<RecvStream>, witness: Box<dyn Witness>) -> Self {
        let (head, body) = response.into_parts();
        Self { head: Some(head), state: State::Holding(Holding::new(body), witness) }
    }

    /// Whether the witness is looking at it: what is waited for is no longer the runtime.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        matches!(self.state, State::Shown(..))
    }

    /// What goes down to the client, once it may.
    ///
    /// # Errors
    /// The runtime broke the answer off.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Stopwatch,
        now: Instant,
    ) -> Poll<Result<Response<Source>, h2::Error>> {
        loop {
            match &mut self.state {
                State::Holding(holding, _) => {
                    let taken = ready!(holding.poll(cx))?;
                    let State::Holding(mut holding, witness) = mem::replace(&mut self.state, State::Over) else {
                        return Poll::Pending;
                    };
                    if taken == Taken::Oversize {
                        return self.release(holding.into_source());
                    }
                    let answer = self.read(&mut holding);
                    self.state = State::Shown(Timed::new(witness.after(answer), now), holding);
                }
                State::Shown(shown, _) => {
                    let judged = ready!(shown.poll(cx, watch, now, |judged| judged.waited));
                    let State::Shown(_, holding) = mem::replace(&mut self.state, State::Over) else {
                        return Poll::Pending;
                    };
                    return match judged.replaced {
                        Some(status) => Poll::Ready(Ok(status.into_response().map(|()| Source::default()))),
                        None => self.release(holding.into_source()),
                    };
                }
                State::Over => return Poll::Pending,
            }
        }
    }

    fn read(&self, holding: &mut Holding) -> Answer {
        // Without trailers, the status stands in the headers.
        let headers = holding.trailers().or(self.head.as_ref().map(|head| &head.headers));
        let code = headers.map_or(Code::UNKNOWN, Code::from_headers);
        let message = only_message(&holding.data()).unwrap_or_else(|_| Bytes::new());
        Answer { code, message }
    }

    fn release(&mut self, body: Source) -> Poll<Result<Response<Source>, h2::Error>> {
        match self.head.take() {
            Some(head) => Poll::Ready(Ok(Response::from_parts(head, body))),
            None => Poll::Pending,
        }
    }
}
