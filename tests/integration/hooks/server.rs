//! A server that webhooks go to, as bad as a test wants it. It speaks HTTP/1.1 by hand, since the worst answers are none that a
//! library would give.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::until;

/// What a request gets.
#[derive(Debug, Clone)]
pub enum Reply {
    /// 200 without a body.
    Ok,
    /// This status, with a text.
    Status(u16, &'static str),
    /// 200, so much later.
    Late(Duration),
    /// 200, once the test says so.
    Held,
    /// Nothing, for as long as the client stays.
    Hang,
    /// The end of the connection.
    Close,
    /// What is not HTTP.
    Garbage,
    /// 200 and a body without an end.
    Endless,
    /// 307 to this place.
    Redirect(String),
}

/// A request.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub at: Instant,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Its body; null if it had none that is JSON.
    pub document: Value,
}

impl Delivered {
    fn data(&self, name: &str) -> &Value {
        &self.document["data"][name]
    }

    /// The event's point.
    pub fn point(&self) -> &str {
        self.data("point").as_str().unwrap_or_default()
    }

    /// The hook's name.
    pub fn hook(&self) -> &str {
        self.data("hook").as_str().unwrap_or_default()
    }

    /// The event's id.
    pub fn id(&self) -> &str {
        self.document["id"].as_str().unwrap_or_default()
    }

    /// Which attempt it is.
    pub fn attempt(&self) -> u64 {
        self.data("attempt").as_u64().unwrap_or_default()
    }

    /// The pod's name.
    pub fn pod(&self) -> &str {
        self.data("pod")["name"].as_str().unwrap_or_default()
    }

    /// The container's part.
    pub fn container(&self) -> &Value {
        self.data("container")
    }
}

type Script = dyn Fn(&Delivered) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    delivered: Mutex<Vec<Delivered>>,
    answered: Mutex<Vec<Delivered>>,
    open: AtomicUsize,
    peak: AtomicUsize,
    left: AtomicUsize,
    gate: watch::Sender<bool>,
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn serve_next(&self, shared: Arc<Shared>, connections: &mut JoinSet<()>) {
        match self {
            Self::Unix(listener) => {
                let (client, _) = listener.accept().await.expect("a client");
                connections.spawn(serve(client, shared));
            }
            Self::Tcp(listener) => {
                let (client, _) = listener.accept().await.expect("a client");
                connections.spawn(serve(client, shared));
            }
        }
    }
}

/// A listening server; it ends when it is dropped.
pub struct HookServer {
    /// What a policy calls it, without a path.
    url: String,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl HookServer {
    /// Listens on a unix socket.
    pub fn unix(path: &Path, script: impl Fn(&Delivered) -> Reply + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        Self::start(format!("unix://{}:", path.display()), script, Listener::Unix(listener))
    }

    /// Listens on a port of the loopback address.
    pub async fn tcp(script: impl Fn(&Delivered) -> Reply + Send + Sync + 'static) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0), script).await
    }

    /// Listens on an address.
    pub async fn at(address: (Ipv4Addr, u16), script: impl Fn(&Delivered) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("an address");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        Self::start(url, script, Listener::Tcp(listener))
    }

    fn start(url: String, script: impl Fn(&Delivered) -> Reply + Send + Sync + 'static, listener: Listener) -> Self {
        let shared = Arc::new(Shared {
            script: Box::new(script),
            delivered: Mutex::default(),
            answered: Mutex::default(),
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            gate: watch::Sender::new(false),
        });
        let mut task = JoinSet::new();
        let served = Arc::clone(&shared);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                listener.serve_next(Arc::clone(&served), &mut connections).await;
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url, shared, _task: task }
    }

    /// A webhook's URL.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The port of a server on TCP.
    pub fn port(&self) -> u16 {
        self.url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
    }

    /// What has come, in order.
    pub fn delivered(&self) -> Vec<Delivered> {
        self.shared.delivered.lock().expect("no panic while it is held").clone()
    }

    /// Those that have had their answer, in the order in which they got it, without the first `seen` of them.
    pub fn answered(&self, seen: usize) -> Vec<Delivered> {
        self.shared.answered.lock().expect("no panic while it is held").get(seen..).unwrap_or_default().to_vec()
    }

    /// The points that have come, in order.
    pub fn points(&self) -> Vec<String> {
        self.delivered().iter().map(|delivered| delivered.point().to_owned()).collect()
    }

    /// Waits until so many requests have come.
    pub async fn wait(&self, count: usize) -> Vec<Delivered> {
        until(&format!("{count} requests at {}", self.url), || async {
            let delivered = self.delivered();
            if delivered.len() >= count { Ok(delivered) } else { Err(delivered) }
        })
        .await
    }

    /// Lets go of what is held, and holds nothing any more.
    pub fn release(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Requests without an answer, now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The most requests that there were at once.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    /// Clients that have hung up before their answer.
    pub fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }

    /// Waits until so many clients have hung up before their answer.
    pub async fn wait_left(&self, count: usize) {
        until(&format!("{count} clients that hang up"), || async {
            let left = self.left();
            if left >= count { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

/// Counts a request for as long as it lives.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak.fetch_max(open, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let mut inbox = Vec::new();
    while let Some(delivered) = request(&mut io, &mut inbox).await {
        let open = Open::new(&shared);
        shared.delivered.lock().expect("no panic while it is held").push(delivered.clone());
        let reply = (shared.script)(&delivered);
        let mut gate = shared.gate.subscribe();
        // A client that hangs up is told from one that waits by reading on.
        let mut byte = [0];
        let done = tokio::select! {
            done = answer(reply, &mut gate) => done,
            _ = io.read(&mut byte) => {
                shared.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
        };
        // Counted out before the client can know, so that its next request is never counted beside this one.
        drop(open);
        match done {
            Done::Answer(text) => {
                if io.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
                shared.answered.lock().expect("no panic while it is held").push(delivered);
            }
            Done::Last(bytes) => {
                let _ = io.write_all(&bytes).await;
                return;
            }
            Done::Endless => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let mut next = io.write_all(head.as_bytes()).await;
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                while next.is_ok() {
                    next = io.write_all(chunk.as_bytes()).await;
                }
                return;
            }
        }
    }
}

enum Done {
    Answer(String),
    Last(Vec<u8>),
    Endless,
}

async fn answer(reply: Reply, gate: &mut watch::Receiver<bool>) -> Done {
    let ok = Done::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into());
    match reply {
        Reply::Ok => ok,
        Reply::Status(status, text) => {
            Done::Answer(format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{text}", text.len()))
        }
        Reply::Late(by) => {
            tokio::time::sleep(by).await;
            ok
        }
        Reply::Held => {
            let _ = gate.wait_for(|open| *open).await;
            ok
        }
        Reply::Hang => std::future::pending().await,
        Reply::Close => Done::Last(Vec::new()),
        Reply::Garbage => Done::Last(vec![0xa7; 50_000]),
        Reply::Endless => Done::Endless,
        Reply::Redirect(to) => {
            Done::Answer(format!("HTTP/1.1 307 Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"))
        }
    }
}

/// Reads one request; none at the end of the connection.
async fn request(io: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>) -> Option<Delivered> {
    let head = loop {
        if let Some(end) = inbox.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = inbox.split_off(end + 4);
            break String::from_utf8(std::mem::replace(inbox, rest)).expect("a head in UTF-8");
        }
        if io.read_buf(inbox).await.ok()? == 0 {
            return None;
        }
    };
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    assert!(!headers.contains_key("transfer-encoding"), "an event's length is known: {headers:?}");
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    while inbox.len() < length {
        if io.read_buf(inbox).await.ok()? == 0 {
            return None;
        }
    }
    let rest = inbox.split_off(length);
    let body = std::mem::replace(inbox, rest);
    let document = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Delivered { at: Instant::now(), path, headers, document })
}
