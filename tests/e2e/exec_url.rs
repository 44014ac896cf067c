//! The URL that `Exec` answers with is containerd's own: the kubelet dials it without crihook, and it must work.

use std::net::SocketAddr;

use hyper::Uri;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::node::{Node, Series};
use crate::pod::{POLITE, Pod};
use crate::proxy::Crihook;

#[tokio::test]
async fn an_exec_url_is_dialled_and_works_on_containerd_1_6() {
    an_exec_url_is_dialled_and_works(Series::V1_6).await;
}

#[tokio::test]
async fn an_exec_url_is_dialled_and_works_on_containerd_1_7() {
    an_exec_url_is_dialled_and_works(Series::V1_7).await;
}

async fn an_exec_url_is_dialled_and_works(series: Series) {
    let node = Node::start(series).await;
    let crihook = Crihook::start(&node).await;
    let mut client = crihook.client().await;
    let pod = Pod::run(&mut client, &node, "shell").await;
    let container = pod.start(&mut client, "main", POLITE).await;
    let script = ["/bin/sh", "-c", "hostname; echo oops >&2; exit 42"];

    let url = client.exec(&container, &script).await.unwrap();
    let streams = over_websocket(&url).await;
    assert_eq!((&*streams.stdout, &*streams.stderr), ("shell\n", "oops\n"));
    assert_eq!(streams.status["details"]["causes"][0]["message"], "42", "{}", streams.status);

    // A kubelet's own protocol; the token in a URL is good for one use.
    let url = client.exec(&container, &script).await.unwrap();
    let spdy = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    upgrade(&url, "POST", spdy).await;

    pod.remove(&mut client).await;
    crihook.stop();
}

#[derive(Default)]
struct Streams {
    stdout: String,
    stderr: String,
    /// Kubernetes' `Status`: how the command ended.
    status: Value,
}

/// Dials `url` as a websocket that speaks `v4.channel.k8s.io`: the first byte of a message names its stream.
async fn over_websocket(url: &str) -> Streams {
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: Y3JpaG9vayBlMmUgdGVzdA==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
    let mut stream = upgrade(url, "GET", headers).await;
    let mut streams = Streams::default();
    loop {
        let (opcode, payload) = frame(&mut stream).await;
        match (opcode, payload.split_first()) {
            (CLOSE, _) => return streams,
            (BINARY, Some((1, text))) => streams.stdout += &String::from_utf8_lossy(text),
            (BINARY, Some((2, text))) => streams.stderr += &String::from_utf8_lossy(text),
            (BINARY, Some((3, status))) if !status.is_empty() => {
                streams.status = serde_json::from_slice(status).unwrap();
            }
            (BINARY, _) => {}
            other => panic!("no message of v4.channel.k8s.io: {other:?}"),
        }
    }
}

/// RFC 6455, section 5.2.
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// Reads a frame, which a server never masks nor, at this length, fragments.
async fn frame(stream: &mut BufReader<TcpStream>) -> (u8, Vec<u8>) {
    let (head, length) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
    let length = match length {
        126 => usize::from(stream.read_u16().await.unwrap()),
        short if short < 126 => usize::from(short),
        long => panic!("a masked or endless frame: {long}"),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (head & 0x0f, payload)
}

/// Sends a request without a body and expects to be switched to another protocol.
async fn upgrade(url: &str, method: &str, headers: &str) -> BufReader<TcpStream> {
    let uri: Uri = url.parse().unwrap();
    let address: SocketAddr = uri.authority().unwrap().as_str().parse().unwrap();
    assert!(address.ip().is_loopback(), "{url}");
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let request = format!("{method} {} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n", uri.path());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "the answer ends early: {head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}
