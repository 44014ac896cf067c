//! A unix socket whose writes are gathered until the round of its connection ends.
//!
//! h2 flushes after every DATA frame. Here a flush by h2 does nothing; the owner of the connection flushes once it has passed on all
//! that there is. So a burst of frames costs one system call, and the owner knows the moment when everything that was queued
//! before has reached the kernel: only then may a reset follow, since h2 drops what is still queued when it sends one.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Bytes that are gathered before they are written without waiting for the end of the round.
const GATHER: usize = 64 * 1024;
/// What is asked for when little is expected: safe code must zero what it reads into, which costs more than reading a small frame.
const ASK: usize = 1024;
/// What an idle connection keeps.
const KEEP: usize = 4 * 1024;
/// How much of what a peer sent first is kept, to say what it was if it is no HTTP/2.
const FIRST: usize = 24;

/// The kernel reports a unix socket as writable each time its peer has read something. So the socket is watched for reading alone, and
/// a second descriptor is watched for writing only while a write has to wait; otherwise each answer would wake the task again
/// for nothing.
#[derive(Debug)]
struct Inner {
    socket: AsyncFd<StdStream>,
    room: Option<AsyncFd<StdStream>>,
    out: BytesMut,
    first: Vec<u8>,
    /// The peer takes no more. What it sent before is still read; after that, reading fails too.
    broken: bool,
    /// How much to ask for at the next read.
    ask: usize,
}

impl Inner {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.out.is_empty() {
            if let Some(room) = &self.room {
                match ready!(room.poll_write_ready(cx)) {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => self.broken = true,
                }
            }
            match self.socket.get_ref().write(&self.out) {
                Ok(written) if written > 0 => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.broken => {
                    self.watch_for_room();
                }
                _ => {
                    self.broken = true;
                    self.out.clear();
                    // h2 reads before it writes: it has to look once more to hear of this.
                    cx.waker().wake_by_ref();
                }
            }
        }
        self.room = None;
        if self.out.capacity() > KEEP {
            self.out = BytesMut::new();
        }
        Poll::Ready(())
    }

    fn watch_for_room(&mut self) {
        if self.room.is_none() {
            let again = self.socket.get_ref().try_clone();
            self.room = again.and_then(|again| watch(again, Interest::WRITABLE)).ok();
            // Without a descriptor left for it, the peer cannot be waited for.
            self.broken = self.room.is_none();
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            let asked = self.ask.min(buf.remaining());
            let free = buf.initialize_unfilled_to(asked);
            match ready.try_io(|socket| socket.get_ref().read(free)) {
                Ok(Ok(read)) => {
                    self.ask = if read == asked { usize::MAX } else { ASK };
                    // A stream socket that gave less than was asked for is empty: the next read would only say so.
                    if 0 < read && read < asked {
                        ready.clear_ready();
                    }
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.out.len() < GATHER { Poll::Ready(()) } else { self.poll_drain(cx) }
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        if !self.broken {
            if self.out.is_empty() && bytes.len() > KEEP {
                // A large frame seldom comes alone: one allocation for all that will be gathered.
                self.out.reserve(GATHER + bytes.len());
            }
            self.out.extend_from_slice(bytes);
        }
        bytes.len()
    }
}

/// The half that h2 owns: reads and gathers.
#[derive(Debug)]
pub struct Gathered(Rc<RefCell<Inner>>);

/// The half that the connection's owner keeps: flushes.
#[derive(Debug, Clone)]
pub struct Flusher(Rc<RefCell<Inner>>);

#[expect(
    deprecated,
    reason = "its replacement is unsafe, for the sake of types that may close or change their descriptor early; this one owns it"
)]
fn watch(socket: StdStream, interest: Interest) -> io::Result<AsyncFd<StdStream>> {
    AsyncFd::with_interest(socket, interest)
}

/// Wraps a connected socket.
///
/// # Errors
/// Fails if the reactor does not take it.
pub fn gather(socket: UnixStream) -> io::Result<(Gathered, Flusher)> {
    let socket = watch(socket.into_std()?, Interest::READABLE)?;
    let inner = Inner { socket, room: None, out: BytesMut::new(), first: Vec::new(), broken: false, ask: ASK };
    let inner = Rc::new(RefCell::new(inner));
    Ok((Gathered(Rc::clone(&inner)), Flusher(inner)))
}

impl Flusher {
    /// Writes what was gathered. Ready means that all of it is in the kernel's hands, or that nobody will ever read it.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_drain(cx)
    }

    /// Says that nothing more comes, and waits until the peer has said so too. A socket that is closed with something unread breaks for its
    /// peer, which may just be answering a GOAWAY.
    pub async fn hang_up(self) {
        let _ = self.0.borrow().socket.get_ref().shutdown(Shutdown::Write);
        let mut unread = [0; ASK];
        std::future::poll_fn(|cx| {
            loop {
                let mut buf = ReadBuf::new(&mut unread);
                match ready!(self.0.borrow_mut().poll_read(cx, &mut buf)) {
                    Ok(()) if !buf.filled().is_empty() => {}
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    /// The first bytes that the peer sent, at most 24.
    #[must_use]
    pub fn first_bytes(&self) -> Vec<u8> {
        self.0.borrow().first.clone()
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        let before = buf.filled().len();
        match inner.poll_read(cx, buf) {
            Poll::Ready(read) => read?,
            Poll::Pending if inner.broken => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Poll::Pending => return Poll::Pending,
        }
        if inner.first.len() < FIRST {
            let new = &buf.filled()[before..];
            let room = FIRST - inner.first.len();
            inner.first.extend_from_slice(&new[..new.len().min(room)]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx));
        Poll::Ready(Ok(inner.put(buf)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx));
        Poll::Ready(Ok(bufs.iter().map(|buf| inner.put(buf)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_drain(cx));
        Poll::Ready(inner.socket.get_ref().shutdown(std::net::Shutdown::Write))
    }
}
