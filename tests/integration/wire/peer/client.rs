//! A kubelet made of a script, on the `h2` crate's client.
use std::path::Path;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::record::{self, Answer, End};

/// A connection. Dropping it closes the socket at once, as a client that vanishes does.
pub struct Client {
    send: SendRequest<Bytes>,
    connection: JoinSet<Result<(), h2::Error>>,
}

/// A call in progress.
pub struct Pending {
    pub send: SendStream<Bytes>,
    pub response: ResponseFuture,
}

impl Client {
    /// Connects to `path`, with windows so large that they never matter.
    pub async fn connect(path: &Path) -> Self {
        Self::with_window(path, 64 << 20).await.expect("the socket takes connections")
    }

    /// Connects with this stream window.
    pub async fn with_window(path: &Path, window: u32) -> std::io::Result<Self> {
        Self::over(UnixStream::connect(path).await?, window).await
    }

    /// Speaks on this connection.
    pub async fn over(io: UnixStream, window: u32) -> std::io::Result<Self> {
        let mut builder = Builder::new();
        builder
            .initial_window_size(window)
            .initial_connection_window_size((1 << 31) - 1)
            .max_header_list_size(16 << 20)
            .max_send_buffer_size(64 << 20)
            .max_concurrent_reset_streams(100_000)
            .max_local_error_reset_streams(None)
            .enable_push(false);
        let (send, connection) = builder.handshake(io).await.map_err(std::io::Error::other)?;
        let mut task = JoinSet::new();
        task.spawn(connection);
        Ok(Self { send, connection: task })
    }

    /// Sends a head; the body is up to the caller, unless `end`.
    pub async fn start(&self, request: Request<()>, end: bool) -> Result<Pending, End> {
        let mut ready = self.send.clone().ready().await?;
        let (response, send) = ready.send_request(request, end)?;
        Ok(Pending { send, response })
    }

    /// A whole call with one body.
    pub async fn call(&self, request: Request<()>, body: Bytes) -> Answer {
        match self.start(request, false).await {
            Ok(mut pending) => {
                // An upstream that has answered already makes this fail; the answer says so.
                let _ = pending.send.send_data(body, true);
                pending.answer().await
            }
            Err(end) => Answer::none(end),
        }
    }

    /// Waits until the connection is over, however that came.
    pub async fn closed(&mut self) -> Result<(), End> {
        self.connection.join_next().await.expect("waited for once").expect("no panic").map_err(End::from)
    }
}

impl Pending {
    /// Waits for the head.
    pub async fn head(&mut self) -> Result<(Answer, RecvStream), End> {
        let response = (&mut self.response).await?;
        Ok((Answer::head(&response), response.into_body()))
    }

    /// Reads the whole answer. The request's side stays as it is.
    pub async fn answer(&mut self) -> Answer {
        match self.head().await {
            Ok((mut answer, mut stream)) => {
                answer.end = record::drain(&mut stream, &mut answer.body).await;
                answer
            }
            Err(end) => Answer::none(end),
        }
    }

    /// Resets the call.
    pub fn reset(&mut self, code: u32) {
        self.send.send_reset(Reason::from(code));
    }

    /// Waits for a reset by the other side.
    pub async fn gone(&mut self) -> End {
        record::stopped(&mut self.send).await
    }
}
