//! The connections of one downstream connection to the runtime.
//!
//! Each endpoint (the runtime, and with `--image-endpoint` the image service) has a connection that is dialled when the first call
//! wants it, shared by all calls, and dialled again after it broke or said GOAWAY. A connection that said GOAWAY stays until
//! its last call has ended. Calls that wait for a dial wait for the same one.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Request, Version};
use prometheus::IntGauge;
use tokio::net::UnixStream;

use super::intercept::Witness;
use super::io::{Flusher, Gathered, gather};
use super::latency::Stopwatch;
use super::relay::Streams;
use super::rescue::Status;
use super::settings;
use super::source::Source;
use super::wake::{Bell, Flag};

/// A call that was accepted from the client and not yet sent on.
pub struct Accepted {
    /// Its clock.
    pub watch: Rc<Stopwatch>,
    /// Its headers, and where its body comes from.
    pub request: Request<Source>,
    /// Where its answer goes.
    pub to_client: SendResponse<Bytes>,
    /// Who wants to see its answer.
    pub witness: Option<Box<dyn Witness>>,
}

/// What became of an accepted call.
pub enum Placed {
    /// Its headers are on their way to the runtime.
    Opened(Rc<Stopwatch>, Streams),
    /// It cannot be sent on.
    Refused(Rc<Stopwatch>, SendResponse<Bytes>, Status),
}

type Dialled = (SendRequest<Bytes>, Connection<Gathered, Bytes>, Flusher);

enum Slot {
    Idle,
    Dialling(Pin<Box<dyn Future<Output = io::Result<Dialled>>>>),
    Up(SendRequest<Bytes>, usize),
}

struct Endpoint {
    path: Rc<Path>,
    slot: Slot,
    waiting: VecDeque<Accepted>,
    flag: Flag,
}

struct Link {
    number: usize,
    connection: Connection<Gathered, Bytes>,
    io: Flusher,
    flag: Flag,
    resets: Vec<(SendStream<Bytes>, Reason)>,
    _open: OpenConnection,
}

/// Counts a connection for as long as it is open.
pub struct OpenConnection(IntGauge);

impl OpenConnection {
    /// Counts one more on `gauge`.
    #[must_use]
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// See the module.
pub struct Upstreams {
    endpoints: Vec<Endpoint>,
    links: Vec<Link>,
    next_number: usize,
    bell: Arc<Bell>,
    gauge: IntGauge,
}

impl Upstreams {
    /// Nothing is dialled yet. `gauge` counts the open connections.
    #[must_use]
    pub fn new(paths: &[PathBuf], bell: &Arc<Bell>, gauge: &IntGauge) -> Self {
        let endpoint = |path: &PathBuf| Endpoint {
            path: path.as_path().into(),
            slot: Slot::Idle,
            waiting: VecDeque::new(),
            flag: Flag::new(bell),
        };
        Self {
            endpoints: paths.iter().map(endpoint).collect(),
            links: Vec::new(),
            next_number: 0,
            bell: Arc::clone(bell),
            gauge: gauge.clone(),
        }
    }

    /// Takes a call for the endpoint with this index; an index that does not exist means the first.
    pub fn submit(&mut self, endpoint: usize, call: Accepted) {
        let endpoint = if endpoint < self.endpoints.len() { endpoint } else { 0 };
        let endpoint = &mut self.endpoints[endpoint];
        endpoint.waiting.push_back(call);
        endpoint.flag.raise();
    }

    /// Resets a stream of the connection with this number, after everything that was sent before.
    pub fn reset(&mut self, number: usize, stream: SendStream<Bytes>, reason: Reason) {
        if let Some(link) = self.links.iter_mut().find(|link| link.number == number) {
            link.resets.push((stream, reason));
            link.flag.raise();
        }
    }

    /// Whether a call waits to be sent on.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.endpoints.iter().any(|endpoint| !endpoint.waiting.is_empty())
    }

    /// Whether some part wants to be polled.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.links.iter().any(|link| link.flag.is_raised()) || self.endpoints.iter().any(|e| e.flag.is_raised())
    }

    /// Reads what the runtime sent, dials, and sends waiting calls on. True if anything was polled.
    pub fn poll(&mut self, mut placed: impl FnMut(Placed)) -> bool {
        let mut worked = false;
        self.links.retain_mut(|link| {
            if !link.flag.take() {
                return true;
            }
            worked = true;
            match Pin::new(&mut link.connection).poll(&mut link.flag.context()) {
                Poll::Pending => true,
                Poll::Ready(ended) => {
                    // Its last words (a GOAWAY) are worth one try.
                    let _ = link.io.poll_flush(&mut link.flag.context());
                    tracing::debug!(?ended, "a connection to the runtime has ended");
                    false
                }
            }
        });
        for at in 0..self.endpoints.len() {
            if self.endpoints[at].flag.take() {
                worked = true;
                self.poll_endpoint(at, &mut placed);
            }
        }
        worked
    }

    fn poll_endpoint(&mut self, at: usize, placed: &mut impl FnMut(Placed)) {
        let endpoint = &mut self.endpoints[at];
        loop {
            match &mut endpoint.slot {
                Slot::Idle if endpoint.waiting.is_empty() => return,
                Slot::Idle => endpoint.slot = Slot::Dialling(Box::pin(dial(Rc::clone(&endpoint.path)))),
                Slot::Dialling(dialling) => match dialling.as_mut().poll(&mut endpoint.flag.context()) {
                    Poll::Pending => return,
                    Poll::Ready(Ok((send, connection, io))) => {
                        let (number, flag) = (self.next_number, Flag::new(&self.bell));
                        self.next_number += 1;
                        let (resets, open) = (Vec::new(), OpenConnection::new(&self.gauge));
                        self.links.push(Link { number, connection, io, flag, resets, _open: open });
                        endpoint.slot = Slot::Up(send, number);
                    }
                    Poll::Ready(Err(error)) => {
                        endpoint.slot = Slot::Idle;
                        let status = Status::unavailable(unreachable(&endpoint.path, &error));
                        for call in endpoint.waiting.drain(..) {
                            placed(Placed::Refused(call.watch, call.to_client, status.clone()));
                        }
                        return;
                    }
                },
                Slot::Up(send, number) => {
                    let Some(call) = endpoint.waiting.pop_front() else { return };
                    match send.poll_ready(&mut endpoint.flag.context()) {
                        // It broke or said GOAWAY since: nothing of this call has gone up, so a new connection may have it.
                        Poll::Ready(Err(_)) => {
                            endpoint.waiting.push_front(call);
                            endpoint.slot = Slot::Idle;
                            continue;
                        }
                        // The runtime limits its streams and the last one still waits for a place. h2 queues one per handle.
                        Poll::Pending => *send = send.clone(),
                        Poll::Ready(Ok(())) => {}
                    }
                    placed(open(send, *number, call));
                }
            }
        }
    }

    /// Writes what was gathered for the runtime, and then the resets that waited for it.
    pub fn poll_flush(&mut self) {
        for link in &mut self.links {
            let flushed = link.io.poll_flush(&mut link.flag.context()).is_ready();
            // A raised flag: h2 still holds frames that it has not given to `io`.
            if flushed && !link.flag.is_raised() && !link.resets.is_empty() {
                for (mut stream, reason) in link.resets.drain(..) {
                    stream.send_reset(reason);
                }
                link.flag.raise();
            }
        }
    }
}

async fn dial(path: Rc<Path>) -> io::Result<Dialled> {
    let (io, flusher) = gather(UnixStream::connect(&path).await?)?;
    let (send, connection) = settings::client().handshake(io).await.map_err(io::Error::other)?;
    Ok((send, connection, flusher))
}

fn unreachable(path: &Path, error: &io::Error) -> String {
    let what = match std::fs::metadata(path) {
        Ok(found) if !found.file_type().is_socket() => "this path is not a socket".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot reach the runtime at unix://{}: {what}", path.display())
}

fn open(send: &mut SendRequest<Bytes>, link: usize, call: Accepted) -> Placed {
    let Accepted { watch, request, to_client, witness } = call;
    let (mut head, body) = request.into_parts();
    if head.uri.authority().is_none() {
        // A request without `:authority` is legal; h2 sends one only if the message says that it is a forwarded one.
        head.version = Version::HTTP_11;
    }
    let alone = body.is_over();
    match send.send_request(Request::from_parts(head, ()), alone) {
        Ok((answer, to_runtime)) => {
            let request = (!alone).then_some(body);
            Placed::Opened(watch, Streams { request, to_runtime, answer, to_client, link, witness })
        }
        Err(error) => {
            Placed::Refused(watch, to_client, Status::internal(format!("cannot pass this request on: {error}")))
        }
    }
}
