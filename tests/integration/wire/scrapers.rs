//! Scrapers that ask and never read, or never finish asking: they are hung up on, one line says so, and nobody else notices.
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::peer::exposition::get;
use super::peer::grpc::{self, message};
use super::peer::{Call, Client, Stand, Upstream, until, within};

/// Of each kind; more in all than may be there at once.
const SLOW: usize = 40;
/// Clients that crihook has at once, and some of its own.
const SOCKETS: usize = 32 + 8;
/// A page of 3 MiB for each of them would be too much.
const GROWTH: u64 = 48 << 20;

/// What slow scrapers say, and no more than that.
const KINDS: [&str; 3] = [
    "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nhost:",
];

/// A client whose socket holds next to nothing, so that what it does not read stays with crihook.
async fn slow(addr: &str, says: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2048).expect("a small buffer");
    let mut client = socket.connect(addr.parse().expect("an address")).await.expect("a connection");
    client.write_all(says.as_bytes()).await.expect("it is taken");
    client
}

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
}

/// Makes the page as large as it gets.
async fn call_everything(client: &Client) {
    for method in grpc::methods() {
        let answer = client.call(grpc::request(&method.path()), message(0, b"")).await;
        assert_eq!(answer.grpc_status(), Some("0"), "{}: {answer:?}", method.name);
    }
}

/// Calls until told to stop, and gives how many there were.
async fn calls_go_on(client: &Client, over: &AtomicBool) -> u32 {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let answer =
            within("an answer", client.call(grpc::request("/runtime.v1.RuntimeService/Status"), message(0, b""))).await;
        assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
        count += 1;
    }
    count
}

/// Waits until only so many sockets are open.
async fn settled(stand: &Stand, sockets: usize) {
    until("the slow ones are hung up on", || async {
        let now = stand.crihook().descriptors()["socket"];
        if now <= sockets { Ok(()) } else { Err(now) }
    })
    .await;
}

/// The warnings about clients that had to go.
fn complaints(stand: &Stand) -> Vec<String> {
    let lines = stand.crihook().lines_at(&["WARN", "ERROR"]).into_iter();
    lines.map(|line| line.to_string()).filter(|line| line.contains("hung up on")).collect()
}

#[tokio::test]
async fn scrapers_that_never_read_are_hung_up_on_and_nobody_else_notices() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    let (client, addr) = (Client::connect(&stand.front).await, stand.crihook().metrics_addr().await);
    call_everything(&client).await;
    let page = stand.crihook().metrics().await.text.len();
    assert!(page > 256 << 10, "no socket swallows it: {page} bytes");
    let (before, idle) = (stand.crihook().resident(), stand.crihook().descriptors()["socket"]);

    let over = AtomicBool::new(false);
    let scrapers = async {
        let mut held = Vec::new();
        for says in KINDS.iter().cycle().take(KINDS.len() * SLOW) {
            held.push(slow(&addr, says).await);
            let sockets = stand.crihook().descriptors()["socket"];
            assert!(sockets <= idle + SOCKETS, "{sockets} sockets, {idle} without scrapers");
        }
        for _ in 0..10 {
            assert_eq!(within("others", get(&addr, "/metrics")).await.0, 200);
            assert_eq!(within("others", get(&addr, "/livez")).await.0, 200);
        }
        let grown = stand.crihook().resident().saturating_sub(before);
        assert!(grown < GROWTH, "{grown} bytes more");
        settled(&stand, idle).await;
        over.store(true, Ordering::Relaxed);
        held.len()
    };
    let (held, calls) = tokio::join!(scrapers, calls_go_on(&client, &over));
    assert!(calls > 100, "{calls} calls beside {held} scrapers");
    let said = complaints(&stand);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("127.0.0.1:") && said[0].contains("the metrics address"), "{}", said[0]);
}

#[tokio::test]
async fn commands_that_never_read_are_hung_up_on_and_who_follows_runs_is_not() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    let client = Client::connect(&stand.front).await;
    call_everything(&client).await;
    let path = stand.dir().join("admin.sock");
    let ask = |says: &str| {
        let mut client = UnixStream::connect(&path).expect("the admin socket takes connections");
        client.write_all(says.as_bytes()).expect("it is taken");
        client
    };
    let idle = stand.crihook().descriptors()["socket"];
    let mut follower = ask("GET /v1/runs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut status = [0; 15];
    follower.read_exact(&mut status).expect("a head");
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    let held: Vec<_> = KINDS.iter().cycle().take(KINDS.len() * SLOW).map(|says| ask(says)).collect();
    until("a word about it", || async { complaints(&stand).pop().ok_or(()) }).await;
    settled(&stand, idle + 1).await;
    assert_eq!(stand.crihook().descriptors()["socket"], idle + 1, "who follows stays");
    drop(held);
    let said = complaints(&stand);
    assert_eq!(said.len(), 1, "{said:#?}");
    let asker = format!("process {}", std::process::id());
    assert!(said[0].contains(&asker) && said[0].contains("the admin socket"), "{}", said[0]);
}
