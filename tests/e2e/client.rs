//! A kubelet's view of a CRI socket.

use std::path::Path;

use crihook::cri::v1::image_service_client::ImageServiceClient;
use crihook::cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Both services over one connection, as the kubelet has them.
#[derive(Clone)]
pub struct Client {
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
    channel: Channel,
}

impl Client {
    pub async fn connect(socket: &Path) -> Self {
        Self::try_connect(socket).await.unwrap_or_else(|error| panic!("{}: {error}", socket.display()))
    }

    pub async fn try_connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::try_from(format!("unix://{}", socket.display()))?.connect().await?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel.clone()),
            channel,
        })
    }

    /// `Exec`, which the crate's view of CRI leaves out. Returns the URL where the command's streams are to be had.
    pub async fn exec(&mut self, container: &str, command: &[&str]) -> Result<String, Status> {
        let command = command.iter().map(ToString::to_string).collect();
        let request = ExecRequest { container_id: container.to_owned(), cmd: command, stdout: true, stderr: true };
        self.call::<_, ExecResponse>("/runtime.v1.RuntimeService/Exec", request).await.map(|answer| answer.url)
    }

    /// A unary call of any method.
    pub async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        grpc.unary(Request::new(request), path, ProstCodec::default()).await.map(tonic::Response::into_inner)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExecRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "2")]
    cmd: Vec<String>,
    #[prost(bool, tag = "5")]
    stdout: bool,
    #[prost(bool, tag = "6")]
    stderr: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExecResponse {
    #[prost(string, tag = "1")]
    url: String,
}
