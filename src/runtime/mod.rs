//! crihook's own client of the runtime. It never shares a connection with the kubelet's calls.
//!
//! `hooks` and `inventory` say in traits of their own what they want of a runtime; [`Runtime`] gives it to both.

mod exec;
mod identity;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::cri::v1::VersionRequest;
use crate::cri::v1::runtime_service_client::RuntimeServiceClient;

/// CRI's own limit of a message.
const MAX_MESSAGE: usize = 16 << 20;

/// What the runtime says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As `containerd`.
    pub name: String,
    /// As `1.7.24`.
    pub version: String,
}

/// A client of one runtime. It dials when it is first used, and again after it was lost.
#[derive(Debug, Clone)]
pub struct Runtime {
    client: RuntimeServiceClient<Channel>,
}

impl Runtime {
    /// A client of the runtime at this socket. Must be called within a tokio runtime.
    ///
    /// # Panics
    /// Never: the address is a constant.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let path = PathBuf::from(path);
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Self { client: RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE) }
    }

    /// Asks the runtime who it is.
    ///
    /// # Errors
    /// Fails with words for people if it does not answer properly within `limit`.
    pub async fn version(&self, limit: Duration) -> Result<Version, String> {
        let mut client = self.client.clone();
        let asked = client.version(VersionRequest { version: String::new() });
        match tokio::time::timeout(limit, asked).await {
            Err(_) => Err(format!("no answer to Version within {limit:?}")),
            Ok(Err(status)) => Err(root_cause(&status)),
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                Ok(Version { name: answer.runtime_name, version: answer.runtime_version })
            }
        }
    }
}

/// tonic wraps "No such file or directory" into three layers of "transport error".
fn root_cause(status: &tonic::Status) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| format!("{:?}: {}", status.code(), status.message()), ToString::to_string)
}
