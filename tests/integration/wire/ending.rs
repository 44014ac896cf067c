//! The orderly end: no new connections, GOAWAY to the old ones, calls in flight finish, and at the latest at the drain timeout it is over.
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::peer::frames::{self, Wire};
use super::peer::grpc::{self, message, noise};
use super::peer::record::End;
use super::peer::{Call, Client, Stand, Upstream, until, within};

/// Answers `Held` when told, `GetContainerEvents` with one event and then nothing, and the rest at once.
async fn script(mut call: Call, gate: Arc<Notify>) {
    let line = call.asked.line.clone();
    call.read().await;
    let mut stream = call.head(grpc::response());
    stream.send_data(message(0, &noise(1, 50_000)), false).expect("open");
    if line.contains("GetContainerEvents") {
        super::peer::record::stopped(&mut stream).await;
        return;
    }
    if line.contains("Held") {
        gate.notified().await;
    }
    stream.send_trailers(grpc::status(0, "")).expect("open");
}

fn start(stand: &Stand) -> (Upstream, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    (Upstream::start(&stand.upstream, move |call| script(call, held.clone())), gate)
}

/// Waits until crihook has heard the signal.
async fn draining(stand: &Stand) {
    until("the listener is closed", || async {
        if UnixStream::connect(&stand.front).await.is_err() { Ok(()) } else { Err("it still takes connections") }
    })
    .await;
}

#[tokio::test]
async fn a_call_in_flight_at_sigterm_finishes_and_new_connections_are_refused() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut stand = Stand::through().await;
        let (_upstream, gate) = start(&stand);
        let mut client = Client::connect(&stand.front).await;
        let idle = Client::connect(&stand.front).await;
        let mut pending = client.start(grpc::request("/a.b/Held"), true).await.expect("a stream");
        let (mut answer, mut stream) = within("a head", pending.head()).await.expect("a head");
        stand.crihook().signal(signal);
        draining(&stand).await;
        assert!(stand.crihook_mut().running(), "it waits for the call");
        gate.notify_one();
        answer.end = within("the answer", super::peer::record::drain(&mut stream, &mut answer.body)).await;
        assert_eq!((answer.grpc_status(), answer.body.0.len()), (Some("0"), 50_005), "{answer:?}");
        let closed = within("the connection's end", client.closed()).await;
        assert!(matches!(closed, Ok(()) | Err(End::GoneAway(0))), "an orderly end: {closed:?}");
        drop(idle);
        assert_eq!(within("the exit", stand.crihook_mut().exit()).await, Some(0), "{signal}");
        assert!(!stand.front.exists(), "the socket is taken away");
    }
}

/// What a client sees of it: GOAWAY with `NO_ERROR`, then the rest of its call, then the end of the connection.
#[tokio::test]
async fn a_client_sees_goaway_and_then_the_rest_of_its_call() {
    let mut stand = Stand::through().await;
    let (_upstream, gate) = start(&stand);
    let mut client = Wire::connect(&stand.front).await;
    client.send(&frames::request(1, "/a.b/Held", true)).await;
    let head = within("the head", client.next_call()).await.expect("an answer");
    assert_eq!((head.kind, head.stream), (frames::HEADERS, 1));
    stand.crihook().signal(Signal::SIGTERM);
    let mut goaways = Vec::new();
    let mut ended = false;
    while let Some(frame) = within("the end", client.next_call()).await {
        if frame.kind == frames::GOAWAY {
            gate.notify_one();
            goaways.push(frame.code());
        }
        ended |= frame.stream == 1 && frame.ends();
    }
    assert!(ended, "the call was cut off");
    assert!(!goaways.is_empty() && goaways.iter().all(|code| *code == 0), "{goaways:?}");
    assert_eq!(within("the exit", stand.crihook_mut().exit()).await, Some(0));
}

#[tokio::test]
async fn calls_that_outlast_the_drain_timeout_end_and_the_exit_is_in_time() {
    let mut stand = Stand::through_with(|flags, _| {
        flags.set("--drain-timeout", "700ms");
    })
    .await;
    let (_upstream, _gate) = start(&stand);
    let client = Client::connect(&stand.front).await;
    let mut pending = client.start(grpc::request("/a.b/Held"), true).await.expect("a stream");
    let (mut answer, mut stream) = within("a head", pending.head()).await.expect("a head");
    let begun = Instant::now();
    stand.crihook().signal(Signal::SIGTERM);
    answer.end = within("the end of the call", super::peer::record::drain(&mut stream, &mut answer.body)).await;
    assert!(begun.elapsed() >= Duration::from_millis(690), "the timeout was used: {:?}", begun.elapsed());
    assert_ne!(answer.grpc_status(), Some("0"), "no success was invented: {answer:?}");
    assert_eq!(within("the exit", stand.crihook_mut().exit()).await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut stand = Stand::through().await;
    let (_upstream, _gate) = start(&stand);
    let client = Client::connect(&stand.front).await;
    let mut pending = client.start(grpc::request("/a.b/Held"), true).await.expect("a stream");
    let _answer = within("a head", pending.head()).await.expect("a head");
    stand.crihook().signal(Signal::SIGTERM);
    draining(&stand).await;
    stand.crihook().signal(Signal::SIGTERM);
    assert_eq!(within("the exit", stand.crihook_mut().exit()).await, Some(0));
}

/// A stream of events would hold up every drain; the kubelet opens it again elsewhere when it is told.
#[tokio::test]
async fn streams_of_events_end_with_unavailable_when_the_drain_starts() {
    let mut stand = Stand::through().await;
    let (upstream, gate) = start(&stand);
    let client = Client::connect(&stand.front).await;
    let events = grpc::request("/runtime.v1.RuntimeService/GetContainerEvents");
    let mut stream_of_events = client.start(events, true).await.expect("a stream");
    let (mut answer, mut stream) = within("a head", stream_of_events.head()).await.expect("a head");
    let mut held = client.start(grpc::request("/a.b/Held"), true).await.expect("a stream");
    let _answer = within("a head", held.head()).await.expect("a head");
    stand.crihook().signal(Signal::SIGTERM);
    answer.end = within("the end of the stream", super::peer::record::drain(&mut stream, &mut answer.body)).await;
    assert_eq!(answer.grpc_status(), Some("14"), "{answer:?}");
    assert!(answer.grpc_message().is_some_and(|message| message.starts_with("crihook: ")), "{answer:?}");
    assert_eq!(answer.body.0.len(), 50_005, "the events before the drain arrived");
    assert!(stand.crihook_mut().running(), "the other call goes on");
    gate.notify_one();
    assert_eq!(within("the exit", stand.crihook_mut().exit()).await, Some(0));
    drop(upstream);
}

#[tokio::test]
async fn without_calls_the_end_is_at_once_though_clients_stay_connected() {
    let mut stand = Stand::through().await;
    let (_upstream, _gate) = start(&stand);
    let used = Client::connect(&stand.front).await;
    used.call(grpc::request("/a.b/C"), message(0, b"x")).await;
    let _silent = UnixStream::connect(&stand.front).await.expect("a connection");
    let _greeted = Wire::connect(&stand.front).await;
    let begun = Instant::now();
    stand.crihook().signal(Signal::SIGTERM);
    assert_eq!(within("the exit", stand.crihook_mut().exit()).await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

async fn elapse(time: Duration) {
    let begun = Instant::now();
    until("time passes", || async { if begun.elapsed() > time { Ok(()) } else { Err(()) } }).await;
}

/// An answer that has left the runtime is not yet with the client: crihook holds what the socket does not take.
#[tokio::test]
async fn an_answer_that_the_client_has_not_read_yet_is_still_delivered() {
    const SIZE: usize = 500_000;
    let mut stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, |mut call: Call| async move {
        call.read().await;
        let mut stream = call.head(grpc::response());
        stream.send_data(message(0, &noise(1, SIZE)), false).expect("open");
        stream.send_trailers(grpc::status(0, "")).expect("open");
    });
    let mut client = Wire::connect(&stand.front).await;
    client.send(&[frames::settings(&[(4, 8 << 20)]), frames::window(0, 8 << 20)]).await;
    client.send(&frames::request(1, "/runtime.v1.RuntimeService/ListContainers", true)).await;
    until("the answer is on its way", || async {
        let labels = [("method", "ListContainers"), ("direction", "response")];
        let seen = stand.crihook().metrics().await.sum("crihook_cri_message_bytes_count", &labels);
        if seen > 0.5 { Ok(()) } else { Err(seen) }
    })
    .await;
    // Time for crihook to take all of it; nothing outside shows when it has.
    elapse(Duration::from_millis(500)).await;
    stand.crihook().signal(Signal::SIGTERM);
    draining(&stand).await;
    // Longer than a client without calls is waited for.
    elapse(Duration::from_millis(1500)).await;
    assert!(stand.crihook_mut().running(), "it waits for the reader");
    let mut read = 0;
    while let Some(frame) = within("the rest of the answer", client.next_call()).await {
        if frame.kind == frames::DATA {
            read += frame.payload.len();
            client.send(&[frames::window(0, 1 << 16)]).await;
        }
        if frame.stream == 1 && frame.ends() {
            break;
        }
    }
    assert_eq!(read, SIZE + 5);
    drop(client);
    assert_eq!(within("the exit", stand.crihook_mut().exit()).await, Some(0));
}
