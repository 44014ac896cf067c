//! The answer to crihook's own question, whether the runtime is there.
use std::path::Path;

use tokio::net::UnixListener;
use tokio::task::JoinSet;

use super::grpc::{self, message};
use super::stand::within;

/// A runtime for crihook's own connection only. It answers every call on it with an empty message until it is dropped.
pub struct Probed(#[expect(dead_code, reason = "the connection lives as long as its task")] JoinSet<()>);

impl Probed {
    /// Waits at `listener`, bound to `path` before crihook was started, until crihook has asked; then leaves the path to others.
    pub async fn start(listener: UnixListener, path: &Path) -> Self {
        let (io, _) = within("crihook's own connection", listener.accept()).await.expect("a connection");
        std::fs::remove_file(path).expect("the socket is still there");
        drop(listener);
        let mut connection = within("its preface", h2::server::handshake(io)).await.expect("HTTP/2");
        let first = within("its question", connection.accept()).await.expect("a call").expect("a call");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut call = Some(Ok(first));
            while let Some(Ok((_, mut respond))) = call {
                let mut stream = respond.send_response(grpc::response(), false).expect("a call takes a head");
                let _ = stream.send_data(message(0, b""), false);
                let _ = stream.send_trailers(grpc::status(0, ""));
                call = connection.accept().await;
            }
        });
        Self(task)
    }
}
