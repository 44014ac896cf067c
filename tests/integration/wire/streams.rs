//! Streams of messages pass in both directions as they come: nothing is held back, whoever ends first.
use bytes::Bytes;
use h2::RecvStream;
use tokio::sync::{Barrier, mpsc};

use super::peer::grpc::{self, message, noise};
use super::peer::record::{self, Answer, Asked, Body, End};
use super::peer::{Call, Client, Upstream, same, within};

const CHAT: &str = "/invented.v1.Chat/Talk";

fn ok(mut call: Call) -> Call {
    call.answer(grpc::response(), message(0, b"yes"), grpc::status(0, ""));
    call
}

/// Flags, sizes and counts of messages; an empty message is five bytes, an empty stream is none.
#[tokio::test]
async fn compressed_empty_and_many_messages_pass_unchanged_in_both_directions() {
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        message(0, b"").to_vec(),
        message(1, &noise(1, 999)).to_vec(),
        // A flag and a length that gRPC has not defined.
        message(0x82, &noise(2, 10)).to_vec(),
        vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3],
        vec![0, 0],
        (0..50).flat_map(|seed| message(u8::from(seed % 3 == 0), &noise(seed, 17 * 13))).collect(),
        noise(3, 300_000),
    ];
    same(async |stand| {
        let mirror = async |mut call: Call| {
            let asked = call.read().await;
            let mut head = grpc::response();
            head.headers_mut().extend(grpc::fields(&[("grpc-encoding", "gzip")]));
            call.answer(head, asked.body.0.into(), grpc::status(0, ""));
        };
        let upstream = Upstream::start(&stand.upstream, mirror);
        let client = Client::connect(&stand.front).await;
        let mut answers = Vec::new();
        for body in &bodies {
            let mut request = grpc::request(CHAT);
            request.headers_mut().extend(grpc::fields(&[("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")]));
            let answer = client.call(request, body.clone().into()).await;
            assert_eq!(&answer.body.0, body);
            answers.push(answer);
        }
        let asked = upstream.asked().clone();
        (asked, answers)
    })
    .await;
}

#[tokio::test]
async fn a_message_passes_while_its_stream_is_still_open() {
    same(async |stand| {
        let echo = async |mut call: Call| {
            let mut stream = call.head(grpc::response());
            while let Some(Ok(bytes)) = call.body.data().await {
                let _ = call.body.flow_control().release_capacity(bytes.len());
                stream.send_data(bytes, false).expect("open");
            }
            stream.send_trailers(grpc::status(0, "")).expect("open");
        };
        let _upstream = Upstream::start(&stand.upstream, echo);
        let client = Client::connect(&stand.front).await;
        let mut pending = client.start(grpc::request(CHAT), false).await.expect("a stream");
        // The head comes before any message was sent; then each message comes back before the next one goes out.
        let (mut answer, mut stream) = pending.head().await.expect("a head");
        for round in 0..200 {
            let ping = message(0, &noise(round, 1 + usize::try_from(round).expect("small") * 7));
            pending.send.send_data(ping.clone(), false).expect("open");
            assert_eq!(record::take(&mut stream, ping.len()).await.expect("an echo"), ping);
        }
        pending.send.send_data(Bytes::new(), true).expect("open");
        answer.end = record::drain(&mut stream, &mut answer.body).await;
        answer
    })
    .await;
}

/// What the client, and then the runtime, saw.
type Both = (Answer, Asked);

#[tokio::test]
async fn the_client_may_end_first_and_the_answer_still_comes() {
    let (answer, asked) = same(async |stand| {
        let (seen, mut ends) = mpsc::unbounded_channel();
        let upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
            let seen = seen.clone();
            async move {
                call.read().await;
                seen.send(()).expect("the test waits");
                let mut stream = call.head(grpc::response());
                for part in 0..20 {
                    stream.send_data(message(0, &noise(part, 1000)), false).expect("open");
                    tokio::task::yield_now().await;
                }
                stream.send_trailers(grpc::status(0, "")).expect("open");
            }
        });
        let client = Client::connect(&stand.front).await;
        let mut pending = client.start(grpc::request(CHAT), false).await.expect("a stream");
        pending.send.send_data(message(0, b"that is all"), true).expect("open");
        within("the end of the request at the runtime", ends.recv()).await;
        let answer = pending.answer().await;
        let asked = upstream.asked()[0].clone();
        Both::from((answer, asked))
    })
    .await;
    assert_eq!(asked.end, End::Stream);
    assert_eq!(answer.body.0.len(), 20 * 1005);
}

#[tokio::test]
async fn a_request_whose_head_is_all_passes_as_such() {
    let (_, asked) = same(async |stand| {
        let upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            assert!(call.body.is_end_stream(), "END_STREAM comes with the head, not after it");
            call.read().await;
            ok(call);
        });
        let client = Client::connect(&stand.front).await;
        let mut pending = client.start(grpc::request(CHAT), true).await.expect("a stream");
        let answer = pending.answer().await;
        let asked = upstream.asked()[0].clone();
        Both::from((answer, asked))
    })
    .await;
    assert_eq!(asked.end, End::Stream);
}

/// The runtime ends its side, and the client goes on sending for as long as it likes.
#[tokio::test]
async fn the_runtime_may_end_first_and_the_rest_of_the_request_still_arrives() {
    let (answer, asked) = same(async |stand| {
        let upstream = Upstream::start(&stand.upstream, async |call: Call| {
            ok(call).read().await;
        });
        let client = Client::connect(&stand.front).await;
        let mut pending = client.start(grpc::request(CHAT), false).await.expect("a stream");
        let answer = pending.answer().await;
        for part in 0..30 {
            pending.send.send_data(message(0, &noise(part, 5000)), part == 29).expect("still open");
            tokio::task::yield_now().await;
        }
        let asked = super::peer::until("the request at the runtime", || async {
            upstream.asked().first().cloned().ok_or("not yet")
        });
        Both::from((answer, asked.await))
    })
    .await;
    assert_eq!((asked.end, asked.body.0.len()), (End::Stream, 30 * 5005));
    assert_eq!(answer.grpc_status(), Some("0"));
}

/// gRPC servers that have answered early say so with `RST_STREAM(NO_ERROR)` after the end of the response (RFC 9113 §8.1).
#[tokio::test]
async fn an_answer_before_the_end_of_the_request_arrives_whole_and_its_reset_after_it() {
    let (answer, end) = same(async |stand| {
        let _upstream = Upstream::start(&stand.upstream, async |call: Call| {
            // Dropping an open call after a full answer is how the h2 server says NO_ERROR.
            drop(ok(call));
        });
        let client = Client::connect(&stand.front).await;
        let mut pending = client.start(grpc::request(CHAT), false).await.expect("a stream");
        pending.send.send_data(message(0, b"only the beginning"), false).expect("open");
        let answer = pending.answer().await;
        (answer, pending.gone().await)
    })
    .await;
    assert_eq!(answer.grpc_status(), Some("0"));
    assert_eq!(end, End::Reset(0));
}

#[tokio::test]
async fn a_response_of_20_mib_and_a_request_of_15_mib_pass_unchanged() {
    same(async |stand| {
        let upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            call.read().await;
            call.answer(grpc::response(), message(0, &noise(20, 20 << 20)), grpc::status(0, ""));
        });
        let client = Client::connect(&stand.front).await;
        let answer = client.call(grpc::request(CHAT), message(0, &noise(15, 15 << 20))).await;
        let asked = upstream.asked()[0].clone();
        assert_eq!((asked.body.0.len(), answer.body.0.len()), (5 + (15 << 20), 5 + (20 << 20)));
        (asked, answer)
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_tiny_messages_pass_unchanged() {
    same(async |stand| {
        let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            let mut stream = call.head(grpc::response());
            for _ in 0..10_000 {
                stream.send_data(message(0, b"."), false).expect("open");
            }
            stream.send_trailers(grpc::status(0, "")).expect("open");
        });
        let client = Client::connect(&stand.front).await;
        let answer = client.call(grpc::request(CHAT), message(0, b"count")).await;
        assert_eq!(answer.body.0.len(), 60_000);
        answer
    })
    .await;
}

/// A kubelet that lists while a log is unread: the windows of three streams are exhausted, the fourth has to flow.
#[tokio::test]
async fn three_responses_left_unread_do_not_hold_up_a_fourth() {
    same(async |stand| {
        let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            call.answer(grpc::response(), message(0, &noise(4, 8 << 20)), grpc::status(0, ""));
        });
        let client = Client::with_window(&stand.front, 1 << 20).await.expect("a connection");
        let mut unread: Vec<RecvStream> = Vec::new();
        for _ in 0..3 {
            let mut pending = client.start(grpc::request(CHAT), true).await.expect("a stream");
            let (_, mut stream) = pending.head().await.expect("a head");
            // All that the window lets through is here before the next call begins.
            exhaust(&mut stream, 1 << 20).await;
            unread.push(stream);
        }
        let fourth = client.call(grpc::request(CHAT), Bytes::new()).await;
        assert_eq!(fourth.body.0.len(), 5 + (8 << 20));
        // The unread ones were not spoiled by the wait.
        let mut rest = Vec::new();
        for mut stream in unread {
            stream.flow_control().release_capacity(1 << 20).expect("what was taken is given back");
            let mut body = Body::default();
            let end = record::drain(&mut stream, &mut body).await;
            rest.push((body, end));
        }
        (fourth, rest)
    })
    .await;
}

/// Takes `length` bytes off a stream without giving its window back.
async fn exhaust(stream: &mut RecvStream, length: usize) {
    let mut taken = 0;
    while taken < length {
        taken += stream.data().await.expect("more to come").expect("no error").len();
    }
    assert_eq!(taken, length, "no peer sends beyond the window");
}

#[tokio::test]
async fn a_thousand_streams_are_open_at_once_on_one_connection() {
    let answers = same(async |stand| {
        let all = std::sync::Arc::new(Barrier::new(1000));
        let upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
            let all = all.clone();
            async move {
                let asked = call.read().await;
                // Nobody is answered before everybody is here.
                all.wait().await;
                call.answer(grpc::response(), asked.body.0.into(), grpc::status(0, ""));
            }
        });
        let client = Client::connect(&stand.front).await;
        let mut pending = Vec::new();
        for seed in 0..1000 {
            let mut call = client.start(grpc::request(CHAT), false).await.expect("a stream");
            call.send.send_data(message(0, &noise(seed, 100)), true).expect("open");
            pending.push(call);
        }
        let mut answers = Vec::new();
        for (seed, mut call) in (0..).zip(pending) {
            let answer = call.answer().await;
            assert_eq!(answer.body.0, message(0, &noise(seed, 100)), "each call gets its own answer");
            answers.push(answer);
        }
        assert_eq!(upstream.accepted(), 1);
        answers
    })
    .await;
    assert!(answers.iter().all(|answer| answer.grpc_status() == Some("0")));
}

#[tokio::test]
async fn two_hundred_connections_have_two_hundred_upstream_connections() {
    same(async |stand| {
        let upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            let asked = call.read().await;
            call.answer(grpc::response(), asked.body.0.into(), grpc::status(0, ""));
        });
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(Client::connect(&stand.front).await);
        }
        let mut answers = Vec::new();
        for round in 0..2 {
            for (seed, client) in (0..).zip(&clients) {
                let body = message(0, &noise(seed + 1000 * round, 64));
                let answer = client.call(grpc::request(CHAT), body.clone()).await;
                assert_eq!(answer.body.0, body);
                answers.push(answer);
            }
        }
        assert_eq!(upstream.accepted(), 200, "one upstream connection each, dialled once");
        drop(clients);
        super::peer::until("the runtime's connections close with the clients'", || async {
            if upstream.open() == 0 { Ok(()) } else { Err(upstream.open()) }
        })
        .await;
        answers
    })
    .await;
}
