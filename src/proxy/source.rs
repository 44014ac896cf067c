//! Where a body comes from: a stream, what was held of one, or both.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

/// CRI's own limit of a message, and so the most that is held of one (with its prefix).
const CAP: usize = 16 * 1024 * 1024 + 5;

/// A body: first the pieces that were held, then the rest.
pub struct Source {
    held: VecDeque<Bytes>,
    rest: Rest,
    /// Whether the last piece was taken from the stream, whose window it has to open again.
    owed: bool,
}

enum Rest {
    Stream(RecvStream),
    /// All of the data is held; the trailers, until they are taken.
    Over(Option<Box<HeaderMap>>),
}

/// Nothing.
impl Default for Source {
    fn default() -> Self {
        Self { held: VecDeque::new(), rest: Rest::Over(None), owed: false }
    }
}

impl From<RecvStream> for Source {
    fn from(stream: RecvStream) -> Self {
        Self { held: VecDeque::new(), rest: Rest::Stream(stream), owed: false }
    }
}

impl Source {
    /// Whether nothing more comes, not even trailers.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held.is_empty()
            && match &self.rest {
                Rest::Stream(stream) => stream.is_end_stream(),
                Rest::Over(trailers) => trailers.is_none(),
            }
    }

    /// The next piece of data.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(piece) = self.held.pop_front() {
            self.owed = false;
            return Poll::Ready(Some(Ok(piece)));
        }
        self.owed = true;
        match &mut self.rest {
            Rest::Stream(stream) => stream.poll_data(cx),
            Rest::Over(_) => Poll::Ready(None),
        }
    }

    /// What follows the data.
    pub fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        match &mut self.rest {
            Rest::Stream(stream) => stream.poll_trailers(cx),
            Rest::Over(trailers) => Poll::Ready(Ok(trailers.take().map(|trailers| *trailers))),
        }
    }

    /// So many bytes of the last piece have been passed on.
    pub fn release(&mut self, length: usize) {
        if let (true, Rest::Stream(stream)) = (self.owed, &mut self.rest) {
            // Fails only for more than was received.
            let _ = stream.flow_control().release_capacity(length);
        }
    }
}

/// Takes in a body whole, up to CRI's limit of a message.
pub struct Holding {
    pieces: VecDeque<Bytes>,
    size: usize,
    rest: Rest,
}

/// How far a body could be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// To its end.
    Whole,
    /// To the limit; more is to come.
    Oversize,
}

impl Holding {
    /// Begins.
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self { pieces: VecDeque::new(), size: 0, rest: Rest::Stream(stream) }
    }

    /// Goes on until the body has ended or is too large.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, h2::Error>> {
        while self.size <= CAP {
            let Rest::Stream(stream) = &mut self.rest else { return Poll::Ready(Ok(Taken::Whole)) };
            match ready!(stream.poll_data(cx)) {
                Some(piece) => {
                    let piece = piece?;
                    // What is held is bounded by the cap, so the window may be opened at once. It fails only for more than was received.
                    let _ = stream.flow_control().release_capacity(piece.len());
                    self.size += piece.len();
                    if !piece.is_empty() {
                        self.pieces.push_back(piece);
                    }
                }
                None => self.rest = Rest::Over(ready!(stream.poll_trailers(cx))?.map(Box::new)),
            }
        }
        Poll::Ready(Ok(Taken::Oversize))
    }

    /// The data that there is, in one piece. It is copied only if it came in several.
    #[must_use]
    pub fn data(&mut self) -> Bytes {
        if self.pieces.len() > 1 {
            let mut joined = BytesMut::with_capacity(self.size);
            self.pieces.drain(..).for_each(|piece| joined.extend_from_slice(&piece));
            self.pieces.push_back(joined.freeze());
        }
        self.pieces.front().cloned().unwrap_or_default()
    }

    /// The trailers, if the body has ended with some.
    #[must_use]
    pub fn trailers(&self) -> Option<&HeaderMap> {
        match &self.rest {
            Rest::Over(trailers) => trailers.as_deref(),
            Rest::Stream(_) => None,
        }
    }

    /// All of it as it came, the part that is still to come included.
    #[must_use]
    pub fn into_source(self) -> Source {
        Source { held: self.pieces, rest: self.rest, owed: false }
    }

    /// Other data in its place.
    #[must_use]
    pub fn replaced(self, data: Bytes) -> Source {
        Self { pieces: VecDeque::from([data]), ..self }.into_source()
    }
}
