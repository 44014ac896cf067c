//! A runtime made of a script, on the `h2` crate's server.
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::record::{self, Asked, Body, End};

/// One call as the upstream got it.
pub struct Call {
    /// What came so far.
    pub asked: Asked,
    /// What is still to come.
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Call {
    /// Reads the request to its end and puts it on record.
    pub async fn read(&mut self) -> Asked {
        self.asked.end = record::drain(&mut self.body, &mut self.asked.body).await;
        self.log.lock().expect("no test panics while it records").push(self.asked.clone());
        self.asked.clone()
    }

    /// Sends the head.
    pub fn head(&mut self, head: Response<()>) -> SendStream<Bytes> {
        self.respond.send_response(head, false).expect("the stream still takes a head")
    }

    /// Sends a whole answer.
    pub fn answer(&mut self, head: Response<()>, body: Bytes, trailers: HeaderMap) {
        let mut stream = self.head(head);
        stream.send_data(body, false).expect("the stream still takes data");
        stream.send_trailers(trailers).expect("the stream still takes trailers");
    }

    /// Sends a head that is all.
    pub fn answer_head_only(&mut self, head: Response<()>) {
        self.respond.send_response(head, true).expect("the stream still takes a head");
    }

    /// Resets the stream.
    pub fn reset(&mut self, code: u32) {
        self.respond.send_reset(Reason::from(code));
    }

    /// Waits until the other side has reset a call that was not answered yet, or its connection is gone.
    pub async fn gone(&mut self) -> End {
        match std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await {
            Ok(code) => End::Reset(code.into()),
            Err(error) => error.into(),
        }
    }
}

/// The runtime's own settings where a test cares about them.
#[derive(Clone, Default)]
pub struct Settings {
    pub window: Option<u32>,
    pub max_streams: Option<u32>,
}

/// A listening runtime. Dropping it closes the listener and every connection.
pub struct Upstream {
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<Asked>>>,
    closings: watch::Sender<usize>,
    _task: JoinSet<()>,
}

/// Binds a unix socket, replacing a file left there by an earlier runtime.
pub fn bind(path: &Path) -> UnixListener {
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).expect("the test's directory takes a socket")
}

impl Upstream {
    /// Listens on `path` and runs `script` for every call.
    pub fn start<F>(path: &Path, script: impl Fn(Call) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(path, &Settings::default(), script)
    }

    /// As `start`, with settings.
    pub fn with<F>(path: &Path, settings: &Settings, script: impl Fn(Call) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on(bind(path), settings, script)
    }

    /// As `with`, on a socket that already listens.
    pub fn on<F>(
        listener: UnixListener,
        settings: &Settings,
        script: impl Fn(Call) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let accepted = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (closings, watcher) = watch::channel(0);
        let mut task = JoinSet::new();
        let (count, live, calls, builder) = (accepted.clone(), open.clone(), log.clone(), builder(settings));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((io, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let served = serve(io, builder.clone(), watcher.clone(), calls.clone(), script.clone());
                let live = Open::new(live.clone());
                connections.spawn(async move {
                    served.await;
                    drop(live);
                });
            }
        });
        Self { accepted, open, log, closings, _task: task }
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The requests that were read, in the order of their ends.
    pub fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.log.lock().expect("no test panics while it records")
    }

    /// Closes every connection that is open now, as a runtime that crashes does; the listener goes on.
    pub fn close_connections(&self) {
        self.closings.send_modify(|times| *times += 1);
    }
}

/// Counts one connection for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(settings.window.unwrap_or(1 << 20))
        .initial_connection_window_size((1 << 31) - 1)
        .max_header_list_size(16 << 20)
        .max_send_buffer_size(64 << 20)
        .max_pending_accept_reset_streams(100_000)
        .max_local_error_reset_streams(None);
    if let Some(max) = settings.max_streams {
        builder.max_concurrent_streams(max);
    }
    builder
}

async fn serve<F>(
    io: UnixStream,
    builder: Builder,
    mut stop: watch::Receiver<usize>,
    log: Arc<Mutex<Vec<Asked>>>,
    script: impl Fn(Call) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    stop.mark_unchanged();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    // The scripts outlive a connection that breaks under them, so that they can tell how it ended for them.
    let mut calls = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = connection.accept() => next,
            _ = stop.changed() => break,
        };
        let Some(Ok((request, respond))) = next else { break };
        calls.spawn(script(call(request, respond, log.clone())));
    }
    drop(connection);
    while calls.join_next().await.is_some() {}
}

fn call(request: Request<RecvStream>, respond: SendResponse<Bytes>, log: Arc<Mutex<Vec<Asked>>>) -> Call {
    let asked = Asked { body: Body::default(), ..Asked::head(&request) };
    Call { asked, body: request.into_body(), respond, log }
}
