//! GOAWAY: what it covers completes, what it does not cover is refused as unprocessed, and the next call goes elsewhere.
use bytes::Bytes;

use super::peer::frames::{self, Frame, Wire};
use super::peer::grpc::{self, message, noise};
use super::peer::record::{Answer, End};
use super::peer::{Call, Client, Stand, Upstream, same, upstream, within};

const PATH: &str = "/runtime.v1.RuntimeService/CreateContainer";

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b"elsewhere"), grpc::status(0, ""));
}

fn whole_answer(stream: u32) -> Vec<Frame> {
    let data = frames::data(stream, &message(0, &noise(stream.into(), 30_000)), false);
    [frames::response(stream), data, frames::trailers(stream)].concat()
}

/// Four calls reach a runtime that then says GOAWAY for the last two, answers the first two, and closes.
async fn goaway_after_two(stand: &Stand, code: u32) -> (Vec<Answer>, Answer) {
    let listener = upstream::bind(&stand.upstream);
    let client = Client::connect(&stand.front).await;
    let mut wire = None;
    let mut pending = Vec::new();
    for stream in [1, 3, 5, 7] {
        let mut call = client.start(grpc::request(PATH), false).await.expect("a stream");
        call.send.send_data(message(0, b"x"), true).expect("open");
        pending.push(call);
        if wire.is_none() {
            let (io, _) = within("a connection", listener.accept()).await.expect("a connection");
            wire = Some(Wire::accept(io, &[]).await);
        }
        within("the call at the runtime", wire.as_mut().expect("just made").read_request(stream)).await;
    }
    let mut wire = wire.expect("four calls came");
    wire.send(&[frames::goaway(3, code)]).await;
    let mut refused = Vec::new();
    for call in &mut pending.split_off(2) {
        refused.push(within("the refusal", call.answer()).await);
    }
    // The connection goes on for what the GOAWAY covers; new calls go to a new one meanwhile.
    let elsewhere = Upstream::on(listener, &upstream::Settings::default(), answer_ok);
    let next = within("the next call", client.call(grpc::request(PATH), Bytes::new())).await;
    assert_eq!((next.grpc_status(), elsewhere.accepted()), (Some("0"), 1), "{next:?}");
    wire.send(&[whole_answer(1), whole_answer(3)].concat()).await;
    let mut answers = Vec::new();
    for call in &mut pending {
        answers.push(within("the answer", call.answer()).await);
    }
    drop(wire);
    let again = within("a call after all that", client.call(grpc::request(PATH), Bytes::new())).await;
    assert_eq!((again.grpc_status(), elsewhere.accepted()), (Some("0"), 1), "{again:?}");
    answers.append(&mut refused);
    (answers, next)
}

#[tokio::test]
async fn a_goaway_of_the_runtime_refuses_what_it_did_not_process_and_completes_the_rest() {
    for code in [0, 11] {
        let (answers, _) = goaway_after_two(&Stand::through().await, code).await;
        for (answer, stream) in answers[..2].iter().zip([1, 3]) {
            assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
            assert_eq!(answer.body.0, message(0, &noise(stream, 30_000)));
        }
        for answer in &answers[2..] {
            assert_eq!(
                (answer.status, &answer.end),
                (None, &End::Reset(7)),
                "REFUSED_STREAM, which clients send again"
            );
        }
    }
}

/// The first half of a graceful end, as Go's and Rust's servers do it: GOAWAY with the highest id, then the real one.
#[tokio::test]
async fn a_graceful_goaway_of_the_runtime_loses_no_call() {
    let stand = Stand::through().await;
    let listener = upstream::bind(&stand.upstream);
    let client = Client::connect(&stand.front).await;
    let mut first = client.start(grpc::request(PATH), true).await.expect("a stream");
    let (io, _) = within("a connection", listener.accept()).await.expect("a connection");
    let mut wire = Wire::accept(io, &[]).await;
    within("the call", wire.read_request(1)).await;
    wire.send(&[frames::goaway(0x7fff_ffff, 0), Frame::new(frames::PING, 0, 0, *b"farewell")]).await;
    // The answer to the ping says that the GOAWAY was read.
    within("the ping's answer", async {
        while let Some(frame) = wire.next().await {
            if (frame.kind, frame.flags) == (frames::PING, frames::FLAG_END) {
                return;
            }
        }
        panic!("the connection ended with a call on it");
    })
    .await;
    wire.send(&[frames::goaway(1, 0)]).await;
    let elsewhere = Upstream::on(listener, &upstream::Settings::default(), answer_ok);
    let next = within("the next call", client.call(grpc::request(PATH), Bytes::new())).await;
    assert_eq!((next.grpc_status(), elsewhere.accepted()), (Some("0"), 1), "{next:?}");
    wire.send(&whole_answer(1)).await;
    assert_eq!(within("the first call's answer", first.answer()).await.grpc_status(), Some("0"));
}

/// The client says GOAWAY and means to open nothing more; what it has open completes.
#[tokio::test]
async fn a_goaway_of_the_client_lets_its_calls_complete() {
    same(async |stand| {
        let gate = std::sync::Arc::new(tokio::sync::Notify::new());
        let opener = gate.clone();
        let (here, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
        let upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
            let (gate, here) = (gate.clone(), here.clone());
            async move {
                call.read().await;
                here.send(()).expect("the test waits");
                gate.notified().await;
                call.answer(grpc::response(), message(0, &noise(9, 50_000)), grpc::status(0, ""));
            }
        });
        let mut client = Wire::connect(&stand.front).await;
        client.send(&[frames::window(0, 1 << 20)]).await;
        for stream in [1, 3] {
            client.send(&frames::request(stream, PATH, true)).await;
            within("the call at the runtime", arrivals.recv()).await;
        }
        client.send(&[frames::goaway(0, 0)]).await;
        opener.notify_one();
        opener.notify_one();
        let mut bytes = 0;
        let mut ended = Vec::new();
        while ended.len() < 2 {
            let frame = within("the answers", client.next_call()).await.expect("the connection outlives its calls");
            if frame.kind == frames::DATA {
                bytes += frame.payload.len();
            }
            if frame.ends() {
                ended.push(frame.stream);
            }
        }
        ended.sort_unstable();
        assert_eq!(upstream.accepted(), 1);
        (bytes, ended)
    })
    .await;
}
