//! Whatever a client sends instead of HTTP/2, or by way of it, hurts that client alone and is told in one line.
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::peer::frames::{self, Frame, Wire};
use super::peer::grpc::{self, message, noise};
use super::peer::{Call, Client, Crihook, Stand, Upstream, until, within};

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b"fine"), grpc::status(0, ""));
}

/// A connection that was there before, and a call on it that is in flight all the while.
struct Bystander {
    client: Client,
    _upstream: Upstream,
}

impl Bystander {
    async fn start(stand: &Stand) -> Self {
        let upstream = Upstream::start(&stand.upstream, answer_ok);
        let bystander = Self { client: Client::connect(&stand.front).await, _upstream: upstream };
        bystander.is_well().await;
        bystander
    }

    async fn is_well(&self) {
        let answer = within("a bystander's call", self.client.call(grpc::request("/a.b/C"), message(0, b"x"))).await;
        assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
    }
}

/// Waits for a line of trouble, gives time for a second one to be an error, and gives the one.
async fn one_line(crihook: &Crihook) -> String {
    let trouble = || crihook.lines_at(&["WARN", "ERROR"]);
    until("a line in the log", || async { if trouble().is_empty() { Err(crihook.log()) } else { Ok(()) } }).await;
    // Whatever comes after the first line comes before the answer to this.
    crihook.metrics().await;
    let lines = trouble();
    assert_eq!(lines.len(), 1, "one line: {lines:?}");
    lines[0]["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn bytes_that_are_no_http2_end_their_own_connection_and_are_told_in_one_line() {
    let noise = noise(1, 4000);
    let http1 = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (bytes, shown) in [(&noise[..], None), (http1, Some("GET /metrics HTTP/1.1")), (tls, Some("\\x16\\x03\\x01"))] {
        let stand = Stand::through().await;
        let bystander = Bystander::start(&stand).await;
        let mut io = UnixStream::connect(&stand.front).await.expect("a connection");
        io.write_all(bytes).await.expect("bytes are taken");
        let mut rest = Vec::new();
        // Closed, be it with an error, since it was closed on unread bytes.
        let _ = within("the end of the connection", io.read_to_end(&mut rest)).await;
        let line = one_line(stand.crihook()).await;
        assert!(line.contains("HTTP/2") && line.contains("PRI * HTTP/2.0"), "says what would be right: {line}");
        assert!(shown.is_none_or(|shown| line.contains(shown)), "says what came: {line}");
        bystander.is_well().await;
    }
}

#[tokio::test]
async fn a_preface_that_stops_half_way_is_told_in_one_line_and_holds_up_nobody() {
    let stand = Stand::through().await;
    let bystander = Bystander::start(&stand).await;
    let mut io = UnixStream::connect(&stand.front).await.expect("a connection");
    io.write_all(&frames::PREFACE[..10]).await.expect("bytes are taken");
    bystander.is_well().await;
    drop(io);
    let line = one_line(stand.crihook()).await;
    assert!(line.contains("HTTP/2") && line.contains("PRI * HTT"), "{line}");
    bystander.is_well().await;
}

/// A probe of the socket (as `systemd` or `ss` users make it) is no mistake.
#[tokio::test]
async fn a_connection_without_a_word_is_not_worth_a_line() {
    let stand = Stand::through().await;
    let bystander = Bystander::start(&stand).await;
    for _ in 0..20 {
        drop(UnixStream::connect(&stand.front).await.expect("a connection"));
    }
    until("they are gone", || async {
        let open = stand.crihook().metrics().await.sum("crihook_cri_connections", &[("side", "downstream")]);
        if open < 1.5 { Ok(()) } else { Err(open) }
    })
    .await;
    bystander.is_well().await;
    assert!(stand.crihook().lines_at(&["WARN", "ERROR"]).is_empty(), "{:?}", stand.crihook().log());
}

/// Good manners at first, then a frame that breaks the connection: each of these is a connection error of RFC 9113.
#[tokio::test]
async fn frames_that_break_http2_end_their_own_connection_and_are_told_in_one_line() {
    let broken: [(&str, Vec<Frame>); 5] = [
        ("DATA on stream 0", vec![Frame::new(frames::DATA, 0, 0, *b"x")]),
        ("DATA on an idle stream", vec![Frame::new(frames::DATA, 0, 9, *b"x")]),
        ("an even stream", frames::request(2, "/a.b/C", true)),
        ("a header block that is none", vec![Frame::new(frames::HEADERS, 5, 1, [0xff; 40])]),
        ("a window beyond its limit", vec![frames::window(0, 0x7fff_ffff), frames::window(0, 0x7fff_ffff)]),
    ];
    for (what, frames) in broken {
        let stand = Stand::through().await;
        let bystander = Bystander::start(&stand).await;
        let mut wire = Wire::connect(&stand.front).await;
        wire.send(&frames).await;
        within(what, async { while wire.next().await.is_some() {} }).await;
        let line = one_line(stand.crihook()).await;
        assert!(line.contains("HTTP/2"), "{what}: {line}");
        bystander.is_well().await;
    }
}

/// 50,000 calls, each cancelled in the same breath, as in the attack known as rapid reset.
#[tokio::test]
async fn a_flood_of_resets_ends_at_worst_its_own_connection() {
    let mut stand = Stand::through().await;
    let bystander = Bystander::start(&stand).await;
    let mut wire = Wire::connect(&stand.front).await;
    let calm = stand.crihook().resident();
    for batch in 0..100u32 {
        let mut flood = Vec::new();
        for stream in (batch * 1000 + 1..(batch + 1) * 1000).step_by(2) {
            flood.extend(frames::request(stream, "/runtime.v1.RuntimeService/Status", false));
            flood.push(frames::reset(stream, 8));
        }
        // A flooder does not read, and does not mind when it has been hung up on.
        let _ = tokio::time::timeout(Duration::from_secs(5), wire.send(&flood)).await;
        if batch % 10 == 0 {
            bystander.is_well().await;
        }
    }
    drop(wire);
    until("the flood is over", || async {
        let page = stand.crihook().metrics().await;
        let open = page.sum("crihook_cri_connections", &[("side", "downstream")]);
        let in_flight = page.sum("crihook_cri_requests_in_flight", &[]);
        if open < 1.5 && in_flight < 0.5 { Ok(()) } else { Err((open, in_flight)) }
    })
    .await;
    bystander.is_well().await;
    let lines = stand.crihook().lines_at(&["WARN", "ERROR"]);
    assert!(lines.len() <= 1, "the flood does not reach the log: {lines:?}");
    let after = stand.crihook().resident();
    assert!(after < calm + (64 << 20), "memory went from {calm} to {after}");
    assert!(stand.crihook_mut().running());
}

/// A request beyond what any peer may ask: headers that never end.
#[tokio::test]
async fn headers_without_end_are_refused_and_hold_up_nobody() {
    let stand = Stand::through().await;
    let bystander = Bystander::start(&stand).await;
    let mut wire = Wire::connect(&stand.front).await;
    let piece = frames::block(&[("x-endless", &noise_text(15_000))]);
    wire.send(&[Frame::new(frames::HEADERS, 0, 1, frames::block(&[(":method", b"POST")]))]).await;
    for _ in 0..4000 {
        wire.send(&[Frame::new(frames::CONTINUATION, 0, 1, &piece[..])]).await;
    }
    bystander.is_well().await;
    assert!(stand.crihook().resident() < 256 << 20, "{}", stand.crihook().resident());
    drop(wire);
    bystander.is_well().await;
}

fn noise_text(length: usize) -> Vec<u8> {
    noise(5, length).iter().map(|byte| b'a' + byte % 26).collect()
}
