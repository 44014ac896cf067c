//! One HTTP/1.1 request at a time, over loopback or a unix socket.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Returns the status and the body of what `path` gives.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    try_get(address, path).await.unwrap_or_else(|error| panic!("http://{address}{path}: {error}"))
}

pub async fn try_get(address: SocketAddr, path: &str) -> Result<(u16, String), Box<dyn Error>> {
    ask(TcpStream::connect(address).await?, &address.to_string(), path).await
}

/// [`get`] from the server that listens on a unix socket.
pub async fn get_unix(socket: &Path, path: &str) -> (u16, String) {
    let asked = async { ask(UnixStream::connect(socket).await?, "localhost", path).await };
    asked.await.unwrap_or_else(|error| panic!("{}{path}: {error}", socket.display()))
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path: &str,
) -> Result<(u16, String), Box<dyn Error>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.await??;
    Ok((status, String::from_utf8(body.to_vec())?))
}
