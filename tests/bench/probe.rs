//! Reads what h2load does not: the grpc-status in the trailers, and the bytes of every answer.
//!
//! `tests/bench/run` sends a burst through each peer before and after each round, in the shape of the load. The probe fails
//! unless every single call ended with HTTP 200, one whole gRPC message and `grpc-status: 0`, and all messages were equal.
//! It prints that message's length (with its five bytes of prefix) and a digest, so that the run can tell whether a peer's
//! answers are the runtime's own, and whether h2load received as many bytes as whole answers have. It measures no time.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Parser;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

/// Wide enough that no answer ever waits for a window.
const WINDOW: u32 = 1 << 30;

/// What h2load sends too: an empty, uncompressed message.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

// FNV-1a: it does not depend on where a peer cuts its DATA frames.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// Calls a unary method over and over and checks how each call ended.
#[derive(Parser, Clone)]
struct Burst {
    /// The unix socket to call.
    #[arg(long)]
    socket: PathBuf,
    /// The method: /package.Service/Method.
    #[arg(long)]
    path: String,
    /// Calls of each stream slot; the total is this times connections times streams.
    #[arg(long, default_value_t = 1)]
    calls: usize,
    /// Connections open at the same time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 1)]
    streams: usize,
}

/// One whole message, prefix included.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Answer {
    length: usize,
    digest: u64,
}

impl Burst {
    async fn run(self) -> Result<Answer, Failure> {
        let mut slots = JoinSet::new();
        for _ in 0..self.connections {
            let socket = UnixStream::connect(&self.socket).await?;
            let (requests, connection) = h2::client::Builder::new()
                .initial_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .handshake::<_, Bytes>(socket)
                .await?;
            // Its failure surfaces in the calls it carried.
            tokio::spawn(connection);
            for _ in 0..self.streams {
                slots.spawn(repeat(requests.clone(), self.path.clone(), self.calls));
            }
        }
        let mut answer = None;
        while let Some(slot) = slots.join_next().await {
            agree(&mut answer, slot??)?;
        }
        answer.ok_or_else(|| "no call was made".into())
    }
}

async fn repeat(requests: SendRequest<Bytes>, path: String, calls: usize) -> Result<Answer, Failure> {
    let mut answer = None;
    for _ in 0..calls {
        agree(&mut answer, call(requests.clone(), &path).await?)?;
    }
    answer.ok_or_else(|| "no call was made".into())
}

fn agree(seen: &mut Option<Answer>, answer: Answer) -> Result<(), Failure> {
    if *seen.get_or_insert(answer) == answer {
        Ok(())
    } else {
        Err("two calls were answered with different messages".into())
    }
}

async fn call(requests: SendRequest<Bytes>, path: &str) -> Result<Answer, Failure> {
    let request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = requests.ready().await?.send_request(request, false)?;
    body.send_data(Bytes::from_static(EMPTY_MESSAGE), true)?;
    let (head, mut body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("HTTP status {}", head.status).into());
    }
    let mut answer = Answer { length: 0, digest: FNV_OFFSET };
    let mut prefix = Vec::with_capacity(EMPTY_MESSAGE.len());
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        prefix.extend_from_slice(&chunk[..chunk.len().min(EMPTY_MESSAGE.len() - prefix.len())]);
        answer.length += chunk.len();
        answer.digest =
            chunk.iter().fold(answer.digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
    }
    let trailers = body.trailers().await?;
    succeeded(trailers.as_ref().unwrap_or(&head.headers))?;
    let [0, length @ ..] = prefix.as_slice() else {
        return Err("the answer is compressed or has no message".into());
    };
    let announced = u32::from_be_bytes(length.try_into()?) as usize;
    if answer.length != announced + EMPTY_MESSAGE.len() {
        return Err(
            format!("a message of {announced} bytes was announced, {} came with its prefix", answer.length).into()
        );
    }
    Ok(answer)
}

fn succeeded(trailers: &HeaderMap) -> Result<(), Failure> {
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        status => Err(format!("grpc-status {status:?}, grpc-message {:?}", trailers.get("grpc-message")).into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Burst::parse().run().await {
        Ok(answer) => {
            println!("{} {:016x}", answer.length, answer.digest);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("probe: {failure}");
            ExitCode::FAILURE
        }
    }
}
