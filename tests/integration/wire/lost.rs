//! A runtime that is lost, absent, restarted or hanging: calls fail as Unavailable and nothing else, and work again when it is back.
use bytes::Bytes;
use tokio::net::UnixListener;

use super::peer::frames::{self, Wire};
use super::peer::grpc::{self, message, noise};
use super::peer::record::{Answer, End, stopped, take};
use super::peer::{Call, Client, Stand, Upstream, until, upstream, within};

const PATH: &str = "/runtime.v1.RuntimeService/RunPodSandbox";

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b"fine"), grpc::status(0, ""));
}

async fn call(client: &Client) -> Answer {
    within("a call", client.call(grpc::request(PATH), message(0, b"x"))).await
}

/// crihook's own word for a lost runtime.
fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.grpc_status(), Some("14"), "{answer:?}");
    assert!(answer.grpc_message().is_some_and(|message| message.starts_with("crihook: ")), "{answer:?}");
}

/// One call to a runtime that says `before` and then closes its connection; then one to a runtime that is well again.
async fn lose_after(before: &[frames::Frame], rubbish: &[u8]) -> Answer {
    let stand = Stand::through().await;
    let listener = upstream::bind(&stand.upstream);
    let client = Client::connect(&stand.front).await;
    let runtime = async {
        let (io, _) = listener.accept().await.expect("a connection");
        let mut wire = Wire::accept(io, &[]).await;
        wire.read_request(1).await;
        wire.send(before).await;
        wire.raw(rubbish).await;
    };
    let (answer, ()) = tokio::join!(call(&client), runtime);
    let _upstream = Upstream::on(listener, &upstream::Settings::default(), answer_ok);
    let next = call(&client).await;
    assert_eq!(next.grpc_status(), Some("0"), "the next call of the same connection works: {next:?}");
    answer
}

#[tokio::test]
async fn a_runtime_lost_before_headers_gives_unavailable_as_trailers_only() {
    let answer = lose_after(&[], &[]).await;
    assert_unavailable(&answer);
    assert_eq!((answer.status, answer.trailers_only), (Some(200), true), "{answer:?}");
    assert_eq!(answer.fields.get("content-type"), Some("application/grpc"));
}

#[tokio::test]
async fn a_runtime_lost_after_headers_gives_unavailable_as_trailers() {
    let answer = lose_after(&frames::headers(1, &[(":status", b"200"), ("x-begun", b"yes")], false), &[]).await;
    assert_unavailable(&answer);
    assert!(matches!(answer.end, End::Trailers(_)), "{answer:?}");
    assert_eq!((answer.fields.get("x-begun"), answer.body.0.len()), (Some("yes"), 0));
}

#[tokio::test]
async fn a_runtime_lost_in_mid_message_gives_what_came_and_then_unavailable_as_trailers() {
    let part = &message(0, &noise(8, 100_000))[..30_000];
    let answer = lose_after(&[frames::response(1), frames::data(1, part, false)].concat(), &[]).await;
    assert_unavailable(&answer);
    assert_eq!(answer.body.0, part);
    assert!(matches!(answer.end, End::Trailers(_)), "{answer:?}");
}

#[tokio::test]
async fn a_runtime_lost_in_mid_frame_gives_unavailable_as_trailers() {
    // A DATA frame that promises 100 bytes and holds 3.
    let answer = lose_after(&frames::response(1), &[0, 0, 100, 0, 0, 0, 0, 0, 1, 1, 2, 3]).await;
    assert_unavailable(&answer);
    assert!(matches!(answer.end, End::Trailers(_)), "{answer:?}");
}

#[tokio::test]
async fn a_runtime_that_breaks_the_protocol_gives_unavailable() {
    // DATA on stream 0 is a connection error, and so is HTTP/1.1.
    for rubbish in [&[0, 0, 1, 0, 0, 0, 0, 0, 0, 9][..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        assert_unavailable(&lose_after(&[], rubbish).await);
        assert_unavailable(&lose_after(&frames::response(1), rubbish).await);
    }
}

/// GOAWAY that covers the call, with and without an error, and then the end: it may have been done, so no `REFUSED_STREAM`.
#[tokio::test]
async fn a_runtime_that_says_goaway_and_closes_gives_unavailable_for_what_it_may_have_done() {
    for code in [0, 2, 11] {
        assert_unavailable(&lose_after(&[frames::goaway(1, code)], &[]).await);
        assert_unavailable(&lose_after(&[frames::response(1), vec![frames::goaway(1, code)]].concat(), &[]).await);
    }
}

#[tokio::test]
async fn a_runtime_absent_at_start_fails_calls_fast_and_serves_them_once_it_is_there() {
    let stand = Stand::through().await;
    let client = Client::connect(&stand.front).await;
    for _ in 0..3 {
        let answer = call(&client).await;
        assert_unavailable(&answer);
        assert!(answer.trailers_only, "{answer:?}");
    }
    // A file without a listener is as absent as no file.
    drop(upstream::bind(&stand.upstream));
    assert_unavailable(&call(&client).await);
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    assert_eq!(call(&client).await.grpc_status(), Some("0"), "the same connection, the first call after");
}

#[tokio::test]
async fn a_request_that_is_still_being_sent_to_an_absent_runtime_is_answered_at_once() {
    let stand = Stand::through().await;
    let client = Client::connect(&stand.front).await;
    let mut pending = client.start(grpc::request(PATH), false).await.expect("a stream");
    assert_unavailable(&within("the answer", pending.answer()).await);
}

#[tokio::test]
async fn a_restarted_runtime_fails_the_calls_in_flight_and_serves_the_next() {
    let stand = Stand::through().await;
    let client = Client::connect(&stand.front).await;
    for _ in 0..3 {
        let (here, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
        let runtime = Upstream::start(&stand.upstream, move |mut call: Call| {
            let here = here.clone();
            async move {
                here.send(()).expect("the test waits");
                call.gone().await;
            }
        });
        let mut pending = Vec::new();
        for _ in 0..5 {
            pending.push(client.start(grpc::request(PATH), true).await.expect("a stream"));
            within("the call at the runtime", arrivals.recv()).await;
        }
        drop(runtime);
        for mut call in pending {
            assert_unavailable(&within("the end of the call", call.answer()).await);
        }
        assert_unavailable(&call(&client).await);
        let again = Upstream::start(&stand.upstream, answer_ok);
        assert_eq!(call(&client).await.grpc_status(), Some("0"));
        drop(again);
        seen_gone(&stand).await;
    }
}

/// Waits until crihook has seen the end of its connections to the runtime: a call that was sent before that is lost with them.
async fn seen_gone(stand: &Stand) {
    until("crihook has seen the end of its upstream connections", || async {
        let open = stand.crihook().metrics().await.sum("crihook_cri_connections", &[("side", "upstream")]);
        if open < 0.5 { Ok(()) } else { Err(open) }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_while_idle_is_dialled_again_without_a_failed_call() {
    let stand = Stand::through().await;
    let upstream = Upstream::start(&stand.upstream, answer_ok);
    let client = Client::connect(&stand.front).await;
    for round in 1..=5 {
        assert_eq!(call(&client).await.grpc_status(), Some("0"));
        assert_eq!(upstream.accepted(), round);
        upstream.close_connections();
        until("the connection is closed", || async {
            if upstream.open() == 0 { Ok(()) } else { Err(upstream.open()) }
        })
        .await;
        seen_gone(&stand).await;
    }
}

/// A runtime that takes the connection and says nothing: the call waits for as long as its client does, and nobody else does.
#[tokio::test]
async fn a_hanging_runtime_holds_up_its_own_call_until_the_client_cancels_and_no_other_connection() {
    let stand = Stand::through().await;
    let listener: UnixListener = upstream::bind(&stand.upstream);
    let waiting = Client::connect(&stand.front).await;
    let mut pending = waiting.start(grpc::request(PATH), true).await.expect("a stream");
    let (silent, _) = within("the connection at the runtime", listener.accept()).await.expect("a connection");
    let _upstream = Upstream::on(listener, &upstream::Settings::default(), answer_ok);
    let other = Client::connect(&stand.front).await;
    for _ in 0..20 {
        assert_eq!(call(&other).await.grpc_status(), Some("0"));
    }
    let unanswered = tokio::time::timeout(std::time::Duration::from_millis(200), pending.head()).await;
    assert!(unanswered.is_err(), "crihook has no deadline of its own");
    // The cancellation reaches even this runtime: the reset lies in its socket, to be read when it wakes.
    pending.reset(8);
    let mut wire = Wire::accept(silent, &[]).await;
    let reset = within("the reset", async {
        loop {
            let frame = wire.next_call().await.expect("the connection stays");
            if frame.kind == frames::RST_STREAM {
                return frame;
            }
        }
    });
    assert_eq!(reset.await.code(), 8);
}

/// A response that began and stalls is not an end either.
#[tokio::test]
async fn a_runtime_that_hangs_in_mid_response_holds_up_its_own_call_only() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
        let stalls = call.asked.line.contains("Stall");
        call.read().await;
        let mut stream = call.head(grpc::response());
        stream.send_data(message(0, b"begun"), false).expect("open");
        if stalls {
            stopped(&mut stream).await;
        } else {
            stream.send_trailers(grpc::status(0, "")).expect("open");
        }
    });
    let client = Client::connect(&stand.front).await;
    let mut pending = client.start(grpc::request("/a.b/Stall"), true).await.expect("a stream");
    let (_, mut stream) = within("a head", pending.head()).await.expect("a head");
    take(&mut stream, 10).await.expect("the beginning");
    for _ in 0..20 {
        assert_eq!(client.call(grpc::request("/a.b/C"), Bytes::new()).await.grpc_status(), Some("0"));
    }
    let stalled = tokio::time::timeout(std::time::Duration::from_millis(100), stream.data()).await;
    assert!(stalled.is_err(), "nothing was invented for the stalled call");
}
