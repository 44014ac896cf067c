//! One direction of a call's body: DATA and trailers, piece by piece, as fast as the other side takes them.
//!
//! A piece is taken from the source only when the one before it is gone, and the source's window is opened again only by what has
//! been passed on. So what is held is bounded by the window, whatever the size of the message.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::source::Source;
use crate::cri::{Code, Meter};

/// The window that every stream has from the start: RFC 9113, section 6.9.2.
const INITIAL_WINDOW: usize = 65_535;

/// What a pump that is pending waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The side it reads from has sent nothing more.
    Source,
    /// The side it writes to takes nothing more.
    Sink,
}

/// Why a pump could not go on.
#[derive(Debug)]
pub enum Broken {
    /// The side it reads from failed.
    Source(h2::Error),
    /// The side it writes to wants no more, for this reason.
    Sink(Reason),
}

/// Carries a body from one stream to another.
pub struct Pump {
    from: Source,
    to: SendStream<Bytes>,
    piece: Bytes,
    last: bool,
    meter: Meter,
    /// Bytes that may be handed over before the sink says that it has room for them.
    credit: usize,
    /// What it waits for while pending.
    pub waiting: Waiting,
    /// What the trailers said, once they have passed.
    pub status: Option<Code>,
}

impl Pump {
    /// Towards the client: nothing is handed over that it has not made room for, since its slowness is to be seen.
    #[must_use]
    pub fn of_answer(from: impl Into<Source>, to: SendStream<Bytes>) -> Self {
        Self::new(from.into(), to, 0)
    }

    /// Towards the runtime. h2 gives a stream no room until its headers are on their way, so the first bytes are handed over
    /// without asking: as many as HTTP/2 lets a client send before it has heard anything. So they go up with the headers, and
    /// they are on their way even if the client resets the stream right behind them.
    #[must_use]
    pub fn of_request(from: impl Into<Source>, to: SendStream<Bytes>) -> Self {
        Self::new(from.into(), to, INITIAL_WINDOW)
    }

    fn new(from: Source, to: SendStream<Bytes>, credit: usize) -> Self {
        let (piece, meter) = (Bytes::new(), Meter::default());
        Self { from, to, piece, last: false, meter, credit, waiting: Waiting::Source, status: None }
    }

    /// The writing side, to send a status or a reset on after the pump is done with.
    #[must_use]
    pub fn into_sink(self) -> SendStream<Bytes> {
        self.to
    }

    /// Passes on what can be; ready when the end of the stream has been passed on. `message` hears the size of each message, `passing` sees
    /// each piece.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut message: impl FnMut(u32),
        passing: impl Fn(&Bytes),
    ) -> Poll<Result<(), Broken>> {
        loop {
            if !self.piece.is_empty() {
                self.waiting = Waiting::Sink;
                ready!(self.poll_pass_on(cx))?;
                if self.last && self.piece.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            self.waiting = Waiting::Source;
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.meter.feed(&piece, &mut message);
                    passing(&piece);
                    self.last = self.from.is_over();
                    // An empty frame that does not end the stream says nothing.
                    if piece.is_empty() && self.last {
                        return Poll::Ready(self.finish(cx, |to| to.send_data(Bytes::new(), true)));
                    }
                    self.piece = piece;
                }
                Some(Err(error)) => return Poll::Ready(Err(Broken::Source(error))),
                None => {
                    return Poll::Ready(match ready!(self.from.poll_trailers(cx)) {
                        Ok(Some(trailers)) => {
                            self.status = Some(Code::from_headers(&trailers));
                            self.finish(cx, |to| to.send_trailers(trailers))
                        }
                        Ok(None) => self.finish(cx, |to| to.send_data(Bytes::new(), true)),
                        Err(error) => Err(Broken::Source(error)),
                    });
                }
            }
        }
    }

    fn poll_pass_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut room = self.credit;
        if room == 0 {
            self.to.reserve_capacity(self.piece.len());
            room = self.to.capacity();
        }
        if room == 0 {
            room = match ready!(self.to.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                _ => return Poll::Ready(Err(self.sink_broken(cx))),
            };
        }
        let part = self.piece.split_to(room.min(self.piece.len()));
        let length = part.len();
        self.credit = self.credit.saturating_sub(length);
        let last = self.last && self.piece.is_empty();
        Poll::Ready(self.finish(cx, |to| to.send_data(part, last)).map(|()| {
            self.from.release(length);
        }))
    }

    fn finish(
        &mut self,
        cx: &mut Context<'_>,
        send: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>,
    ) -> Result<(), Broken> {
        send(&mut self.to).map_err(|_| self.sink_broken(cx))
    }

    fn sink_broken(&mut self, cx: &mut Context<'_>) -> Broken {
        Broken::Sink(match self.to.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => reason,
            _ => Reason::CANCEL,
        })
    }

    /// Hears whether the side it writes to has reset the stream (with this code) or is gone.
    pub fn poll_sink_reset(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        self.to.poll_reset(cx).map(Result::ok)
    }
}
