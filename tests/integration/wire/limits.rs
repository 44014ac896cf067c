//! A runtime that allows few streams at once delays calls and loses none.
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::peer::frames::{self, Wire};
use super::peer::grpc::{self, message, noise};
use super::peer::record::End;
use super::peer::{Call, Client, Stand, Upstream, same, upstream, within};

fn limit(max_streams: u32) -> upstream::Settings {
    upstream::Settings { max_streams: Some(max_streams), ..Default::default() }
}

#[tokio::test]
async fn more_calls_than_the_runtime_allows_at_once_all_succeed() {
    same(async |stand| {
        let mirror = async |mut call: Call| {
            let asked = call.read().await;
            tokio::task::yield_now().await;
            call.answer(grpc::response(), asked.body.0.into(), grpc::status(0, ""));
        };
        let _upstream = Upstream::with(&stand.upstream, &limit(10), mirror);
        let client = Client::connect(&stand.front).await;
        // The limit is known once a call has gone through.
        client.call(grpc::request("/a.b/First"), message(0, b"")).await;
        let mut pending = Vec::new();
        for seed in 0..200 {
            let mut call = client.start(grpc::request("/a.b/C"), false).await.expect("a stream");
            call.send.send_data(message(0, &noise(seed, 3000)), true).expect("open");
            pending.push(call);
        }
        let mut answers = Vec::new();
        for mut call in pending {
            let answer = within("an answer", call.answer()).await;
            assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
            answers.push(answer);
        }
        answers
    })
    .await;
}

/// The call that waits for its place is given up; the runtime may never hear of it, and the place goes to the next.
#[tokio::test]
async fn a_call_cancelled_while_it_waits_for_its_place_leaves_the_place_to_the_next() {
    let stand = Stand::through().await;
    let gate = Arc::new(Notify::new());
    let opener = gate.clone();
    let (here, mut arrivals) = mpsc::unbounded_channel();
    let _upstream = Upstream::with(&stand.upstream, &limit(1), move |mut call: Call| {
        let (gate, here) = (gate.clone(), here.clone());
        async move {
            here.send(call.asked.line.clone()).expect("the test waits");
            call.read().await;
            if call.asked.line.contains("Held") {
                gate.notified().await;
            }
            call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
        }
    });
    let client = Client::connect(&stand.front).await;
    assert_eq!(client.call(grpc::request("/a.b/First"), message(0, b"")).await.grpc_status(), Some("0"));
    within("the first call", arrivals.recv()).await;
    let mut held = client.start(grpc::request("/a.b/Held"), true).await.expect("a stream");
    within("the held call", arrivals.recv()).await;
    for whole in [true, false] {
        let mut waiting = client.start(grpc::request("/a.b/Waiting"), whole).await.expect("a stream");
        let unanswered = tokio::time::timeout(std::time::Duration::from_millis(50), waiting.head()).await;
        assert!(unanswered.is_err(), "there is no place for it");
        waiting.reset(8);
    }
    let mut next = client.start(grpc::request("/a.b/Next"), true).await.expect("a stream");
    opener.notify_one();
    assert_eq!(within("the held call's answer", held.answer()).await.grpc_status(), Some("0"));
    let answer = within("the next call's answer", next.answer()).await;
    assert_eq!((answer.grpc_status(), matches!(answer.end, End::Trailers(_))), (Some("0"), true), "{answer:?}");
    // And all is as before.
    assert_eq!(client.call(grpc::request("/a.b/Last"), message(0, b"")).await.grpc_status(), Some("0"));
}

/// Holding a frame of one byte costs far more than a byte. Who sends masses of them that nobody takes loses its connection, alone.
#[tokio::test]
async fn masses_of_tiny_frames_that_nobody_takes_cost_their_sender_its_connection_and_little_memory() {
    const FRAMES: usize = 600_000;
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, |mut call: Call| async move {
        if call.asked.line.contains("Unread") {
            call.gone().await;
        } else {
            call.read().await;
            call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
        }
    });
    let other = Client::connect(&stand.front).await;
    other.call(grpc::request("/a.b/C"), message(0, b"")).await;
    let before = stand.crihook().resident();
    let mut flood = Wire::connect(&stand.front).await;
    flood.send(&frames::request(1, "/a.b/Unread", false)).await;
    let one_byte_of_stream_1 = [0, 0, 1, frames::DATA, 0, 0, 0, 0, 1, b'x'];
    within("the flood", flood.raw(&one_byte_of_stream_1.repeat(FRAMES))).await;
    within("the end of the connection", async { while flood.next().await.is_some() {} }).await;
    let grown = stand.crihook().resident().saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB", grown >> 20);
    let answer = other.call(grpc::request("/a.b/C"), message(0, b"")).await;
    assert_eq!(answer.grpc_status(), Some("0"), "the other connection is unharmed");
}
