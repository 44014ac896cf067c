//! A client that does what gRPC's own do: it has one connection, and another one once that has said GOAWAY.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crihook::cri::v1::{StopContainerRequest, VersionRequest};
use prost::Message;
use tokio::sync::Mutex;

use super::within;
use crate::wire::peer::Client;
use crate::wire::peer::client::Pending;
use crate::wire::peer::grpc::{message, request};
use crate::wire::peer::record::{Answer, End};

/// Its clones share the connection.
#[derive(Clone)]
pub struct Kubelet {
    path: PathBuf,
    current: Arc<Mutex<Arc<Client>>>,
}

impl Kubelet {
    pub async fn connect(path: &Path) -> Self {
        let client = Arc::new(Client::connect(path).await);
        Self { path: path.to_owned(), current: Arc::new(Mutex::new(client)) }
    }

    /// Sends a call. What cannot be sent on a connection was not sent, so it goes to the next one.
    pub async fn begin(&self, method: &str, body: &impl Message) -> (Arc<Client>, Pending) {
        loop {
            let client = Arc::clone(&*self.current.lock().await);
            let head = request(&format!("/runtime.v1.RuntimeService/{method}"));
            match client.start(head, false).await {
                Ok(mut pending) => {
                    // A call that has failed already says so in its answer.
                    let _ = pending.send.send_data(message(0, &body.encode_to_vec()), true);
                    return (client, pending);
                }
                Err(End::GoneAway(0) | End::Lost) => {
                    let mut current = self.current.lock().await;
                    if Arc::ptr_eq(&current, &client) {
                        *current = Arc::new(Client::connect(&self.path).await);
                    }
                }
                Err(other) => panic!("a connection ended without a reason: {other:?}"),
            }
        }
    }

    /// A whole call. One that the GOAWAY proves unprocessed is sent again, as gRPC has it (gRFC A6).
    pub async fn call(&self, method: &str, body: &impl Message) -> Answer {
        loop {
            // While a call is open, its connection is.
            let (_open, mut pending) = self.begin(method, body).await;
            let answer = within(method, pending.answer()).await;
            if answer.end != End::GoneAway(0) {
                return answer;
            }
        }
    }

    pub async fn version(&self) -> Answer {
        self.call("Version", &VersionRequest { version: String::new() }).await
    }

    pub async fn stop(&self, container: &str) -> Answer {
        self.call("StopContainer", &StopContainerRequest { container_id: container.into(), timeout: 30 }).await
    }
}

/// What is wrong with a call that should have succeeded.
pub fn failure(answer: &Answer) -> Option<String> {
    (answer.grpc_status() != Some("0")).then(|| format!("{answer:?}"))
}
