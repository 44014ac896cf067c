//! Whose turn it is on a connection: the client's, to ask and to take its answer, or crihook's.
//!
//! ```text
//!   Quiet ──first byte──▶ Asking ──all of the request's head──▶ Ours ──an answer──▶ Taking
//!     ▲                                                          └──one without an end──▶ Live
//!     └──────────────────────── all of it is in the socket ──────────────────────────────┘ (of Taking)
//! ```
//!
//! A turn of the client's has one limit of time as a whole: a byte now and then is no better than none.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// For each turn of a client; as long as Prometheus waits for a scrape unless told otherwise.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Who has to do something, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The client, which may ask something, and owes nothing.
    Quiet,
    /// The client, which has begun to ask.
    Asking,
    /// crihook.
    Ours,
    /// The client, which is to read its answer.
    Taking,
    /// Nobody: the answer goes on as things happen.
    Live,
}

impl Turn {
    /// Whether crihook waits for the client.
    pub fn is_the_clients(self) -> bool {
        matches!(self, Self::Quiet | Self::Asking | Self::Taking)
    }

    /// What a client has failed to do that was hung up on; nothing, if it owed nothing.
    pub fn owed(self) -> Option<&'static str> {
        match self {
            Self::Asking => Some("did not finish its request"),
            Self::Taking => Some("did not read its answer"),
            Self::Quiet | Self::Ours | Self::Live => None,
        }
    }
}

/// The turns of one connection.
#[derive(Clone)]
pub struct Turns(Arc<watch::Sender<(Turn, Instant)>>);

impl Turns {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new((Turn::Quiet, Instant::now()))))
    }

    /// Whose turn it is, and since when.
    pub fn now(&self) -> (Turn, Instant) {
        *self.0.borrow()
    }

    pub fn pass(&self, to: Turn) {
        self.0.send_replace((to, Instant::now()));
    }

    fn pass_from(&self, from: Turn, to: Turn) {
        if self.now().0 == from {
            self.pass(to);
        }
    }

    /// Waits until the client has let a turn of its own go by, and gives it.
    pub async fn missed(&self) -> Turn {
        let mut turns = self.0.subscribe();
        loop {
            let (turn, since) = *turns.borrow_and_update();
            // It changes or it does not: the sender is here.
            let changed = turns.changed();
            if !turn.is_the_clients() {
                let _ = changed.await;
            } else if timeout_at(since + LIMIT, changed).await.is_err() {
                return turn;
            }
        }
    }
}

/// The client's end, which tells when a request begins and when an answer has gone out.
pub struct Watched<T> {
    client: T,
    turns: Turns,
}

impl<T> Watched<T> {
    pub fn new(client: T, turns: Turns) -> Self {
        Self { client, turns }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.client).poll_read(cx, into))?;
        if into.filled().len() > before {
            self.turns.pass_from(Turn::Quiet, Turn::Asking);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.client.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.client).poll_flush(cx))?;
        self.turns.pass_from(Turn::Taking, Turn::Quiet);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(cx)
    }
}
