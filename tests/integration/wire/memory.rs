//! What crihook holds does not grow with the calls and connections that it has served.
use std::collections::BTreeMap;

use tokio::net::UnixListener;
use tokio::task::JoinSet;

use super::peer::frames::{self, Frame, Wire};
use super::peer::grpc::{self, message};
use super::peer::{Call, Client, Stand, Upstream, until, upstream, within};

/// Streams that are open at once.
const ABREAST: u32 = 250;
const WARM_UP: u32 = 20_000;
const CALLS: u32 = 200_000;
/// Less than 21 bytes a call.
const GROWTH: u64 = 4 << 20;

/// A runtime that takes as little of the machine's time as it can: every call gets the same few bytes.
async fn runtime(listener: UnixListener) {
    let mut connections = JoinSet::new();
    while let Ok((io, _)) = listener.accept().await {
        connections.spawn(async move {
            let mut wire = Wire::accept(io, &[]).await;
            wire.send(&[frames::window(0, 1 << 30)]).await;
            while let Some(frame) = wire.next_call().await {
                if frame.ends() {
                    let data = frames::data(frame.stream, &message(0, b"1.36"), false);
                    let answer = [frames::response(frame.stream), data, frames::trailers(frame.stream)];
                    wire.send(&answer.concat()).await;
                }
            }
        });
    }
}

/// One client connection that makes calls, `ABREAST` at a time, and sees each of them end.
struct Caller {
    wire: Wire,
    next: u32,
}

impl Caller {
    async fn connect(stand: &Stand) -> Self {
        let mut wire = Wire::connect(&stand.front).await;
        wire.send(&[frames::window(0, 1 << 30)]).await;
        Self { wire, next: 1 }
    }

    async fn call(&mut self, count: u32) {
        for _ in 0..count / ABREAST {
            let mut batch: Vec<Frame> = Vec::new();
            for _ in 0..ABREAST {
                batch.extend(frames::request(self.next, "/runtime.v1.RuntimeService/Version", false));
                batch.extend(frames::data(self.next, &message(0, b"x"), true));
                self.next += 2;
            }
            self.wire.send(&batch).await;
            let mut open = ABREAST;
            while open > 0 {
                let frame = within("the answers", self.wire.next_call()).await.expect("the connection stays");
                assert_ne!(frame.kind, frames::RST_STREAM, "no call fails");
                open -= u32::from(frame.ends());
            }
        }
    }
}

#[tokio::test]
async fn memory_does_not_grow_over_two_hundred_thousand_calls() {
    let stand = Stand::through().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(runtime(upstream::bind(&stand.upstream)));
    let mut caller = Caller::connect(&stand).await;
    caller.call(WARM_UP).await;
    let before = stand.crihook().resident();
    caller.call(CALLS).await;
    let after = stand.crihook().resident();
    assert!(after < before + GROWTH, "{before} bytes became {after} over {CALLS} calls");
    let all = f64::from(WARM_UP + CALLS);
    until("every call on record", || async {
        let page = stand.crihook().metrics().await;
        let count = page.sum("crihook_cri_requests_total", &[("method", "Version"), ("code", "OK")]);
        if count.total_cmp(&all).is_eq() { Ok(()) } else { Err(count) }
    })
    .await;
}

/// The kinds of ends that leave something behind most easily.
async fn odd_calls(stand: &Stand, rounds: usize) {
    for _ in 0..rounds {
        let client = Client::connect(&stand.front).await;
        let mut pending = Vec::new();
        for _ in 0..20 {
            pending.push(client.start(grpc::request("/a.b/Held"), false).await.expect("a stream"));
        }
        client.call(grpc::request("/a.b/C"), message(0, b"x")).await;
        for call in pending.iter_mut().take(10) {
            call.reset(8);
        }
        client.call(grpc::request("/a.b/C"), message(0, b"x")).await;
        // The rest goes with the connection.
    }
}

/// No message is held whole: what nobody takes stays with whoever sends it.
#[tokio::test]
async fn large_messages_that_nobody_reads_are_not_held() {
    let stand = Stand::through().await;
    let settings = upstream::Settings { window: Some(1000), ..Default::default() };
    let large = bytes::Bytes::from(vec![7; 64 << 20]);
    let answer = large.clone();
    let (here, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let _upstream = Upstream::with(&stand.upstream, &settings, move |mut call: Call| {
        let (answer, here) = (answer.clone(), here.clone());
        async move {
            here.send(()).expect("the test waits");
            if call.asked.line.contains("Unread") {
                call.gone().await;
            } else {
                call.answer(grpc::response(), answer, grpc::status(0, ""));
                super::peer::record::drain(&mut call.body, &mut call.asked.body).await;
            }
        }
    });
    let client = Client::with_window(&stand.front, 1000).await.expect("a connection");
    let before = stand.crihook().resident();
    let mut pending = Vec::new();
    for path in ["/a.b/Unread", "/a.b/Unanswered"] {
        let mut call = client.start(grpc::request(path), false).await.expect("a stream");
        call.send.send_data(large.clone(), true).expect("open");
        within("the call at the runtime", arrivals.recv()).await;
        pending.push(call);
    }
    let (_, _unread) = within("a head", pending[1].head()).await.expect("a head");
    // Other calls pass, so all that can move has moved.
    let small = Client::connect(&stand.front).await;
    for _ in 0..20 {
        let mut other = small.start(grpc::request("/a.b/Unanswered"), true).await.expect("a stream");
        within("the call at the runtime", arrivals.recv()).await;
        let (_, mut stream) = within("a head", other.head()).await.expect("a head");
        super::peer::record::take(&mut stream, 100_000).await.expect("the beginning of the answer");
    }
    let after = stand.crihook().resident();
    assert!(after < before + (32 << 20), "{before} bytes became {after} while 128 MiB waited");
}

#[tokio::test]
async fn descriptors_and_memory_return_to_where_they_were_when_connections_close() {
    let stand = Stand::through().await;
    let upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
        if call.asked.line.contains("Held") {
            call.gone().await;
        } else {
            call.read().await;
            call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
        }
    });
    // Each scrape of the metrics is a connection, too, and closes in its own time.
    stand.crihook().metrics_addr().await;
    let settled = async |expected: Option<&BTreeMap<String, usize>>| {
        until("the descriptors of closed connections are closed", || async {
            let now = stand.crihook().descriptors();
            if expected.is_none_or(|expected| *expected == now) && upstream.open() == 0 { Ok(now) } else { Err(now) }
        })
        .await
    };
    let cycle = async || {
        let mut clients = Vec::new();
        for _ in 0..200 {
            let client = Client::connect(&stand.front).await;
            client.call(grpc::request("/a.b/C"), message(0, b"x")).await;
            clients.push(client);
        }
        let most: usize = stand.crihook().descriptors().values().sum();
        drop(clients);
        odd_calls(&stand, 50).await;
        most
    };
    odd_calls(&stand, 1).await;
    let before = settled(None).await;
    // The first cycles bring memory to its height, on a busy machine not before the fourth or so; what they leave is kept by the allocator
    // for the next.
    let mut resident = Vec::new();
    for _ in 0..10 {
        let most = cycle().await;
        assert!(most >= before.values().sum::<usize>() + 400, "200 connections are open on both sides: {most}");
        settled(Some(&before)).await;
        resident.push(stand.crihook().resident());
    }
    assert!(resident[9] < resident[4] + GROWTH, "resident bytes after each 250 connections: {resident:?}");
}
