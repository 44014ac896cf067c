//! `RST_STREAM` arrives with its code, from either side, at any moment, and after the data that was sent before it.
use bytes::Bytes;
use tokio::sync::mpsc;

use super::peer::frames::{self, Wire};
use super::peer::grpc::{self, message, noise};
use super::peer::record::{self, Answer, Asked, End};
use super::peer::{Call, Client, Stand, Upstream, same, upstream, within};

/// Every code that HTTP/2 defines and two that it does not.
fn codes() -> impl Iterator<Item = u32> {
    (0..=13).chain([0x42, u32::MAX])
}

const PATH: &str = "/runtime.v1.RuntimeService/StopContainer";

/// An ordinary call, to show that the connection outlived what was done to it.
async fn still_works(client: &Client) -> Answer {
    let answer = client.call(grpc::request("/still/works"), message(0, b"?")).await;
    assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
    answer
}

/// The runtime resets; `x-code` says with what, `x-when` says when.
async fn reset_by_runtime(mut call: Call) {
    let Some(code) = call.asked.fields.get("x-code").map(|code| code.parse().expect("a number")) else {
        call.read().await;
        return call.answer(grpc::response(), Bytes::new(), grpc::status(0, ""));
    };
    if call.asked.fields.get("x-when") == Some("after the request") {
        call.read().await;
    }
    call.reset(code);
}

#[tokio::test]
async fn a_reset_by_the_runtime_before_any_headers_arrives_with_its_code() {
    for when in ["at once", "after the request"] {
        let (answers, _) = same(async |stand| {
            let _upstream = Upstream::start(&stand.upstream, reset_by_runtime);
            let client = Client::connect(&stand.front).await;
            let mut answers = Vec::new();
            for code in codes() {
                let mut request = grpc::request(PATH);
                request.headers_mut().extend(grpc::fields(&[("x-code", &code.to_string()), ("x-when", when)]));
                let mut pending = client.start(request, false).await.expect("a stream");
                pending.send.send_data(message(0, b"x"), when == "after the request").expect("open");
                answers.push(pending.answer().await);
            }
            (answers, still_works(&client).await)
        })
        .await;
        let ends: Vec<End> = answers.into_iter().map(|answer| answer.end).collect();
        assert_eq!(ends, codes().map(End::Reset).collect::<Vec<_>>());
    }
}

/// Frames that a runtime writes in one go before its reset; what arrives of them must not depend on the reset's haste.
async fn reset_after(stand: &Stand, before: impl Fn(u32) -> Vec<frames::Frame>, end: bool) -> Vec<(Answer, End)> {
    let listener = upstream::bind(&stand.upstream);
    let client = Client::connect(&stand.front).await;
    let runtime = async {
        let (io, _) = listener.accept().await.expect("a connection");
        let mut wire = Wire::accept(io, &[]).await;
        for code in codes() {
            let head = wire.next_call().await.expect("a call");
            assert_eq!(head.kind, frames::HEADERS);
            if end {
                wire.read_request(head.stream).await;
            }
            let mut answer = before(head.stream);
            answer.push(frames::reset(head.stream, code));
            wire.send(&answer).await;
            // The other side may reset what is still open of its own; then comes the next call.
        }
        wire
    };
    let calls = async {
        let mut answers = Vec::new();
        for _ in codes() {
            let mut pending = client.start(grpc::request(PATH), false).await.expect("a stream");
            if end {
                pending.send.send_data(message(0, b"x"), true).expect("open");
            }
            let answer = pending.answer().await;
            let gone = if end { End::Stream } else { pending.gone().await };
            answers.push((answer, gone));
        }
        answers
    };
    tokio::join!(runtime, calls).1
}

#[tokio::test]
async fn a_reset_by_the_runtime_after_headers_arrives_after_the_headers() {
    for end in [true, false] {
        let answers = same(async |stand| reset_after(stand, frames::response, end).await).await;
        for ((answer, _), code) in answers.iter().zip(codes()) {
            assert_eq!(
                (answer.status, &answer.end),
                (Some(200), &End::Reset(code)),
                "NO_ERROR too is no end of stream"
            );
        }
    }
}

#[tokio::test]
async fn data_sent_before_a_reset_by_the_runtime_arrives_before_it() {
    for end in [true, false] {
        let part = noise(5, 40_000);
        let answers = same(async |stand| {
            let before = |stream| [frames::response(stream), frames::data(stream, &part, false)].concat();
            reset_after(stand, before, end).await
        })
        .await;
        for ((answer, _), code) in answers.iter().zip(codes()) {
            assert_eq!((&answer.body.0, &answer.end), (&part, &End::Reset(code)));
        }
    }
}

/// As much as the windows let through, and the reset right behind it.
#[tokio::test]
async fn much_data_sent_before_a_reset_by_the_runtime_arrives_before_it() {
    let part = noise(6, 1_900_000);
    let answers = same(async |stand| {
        let before = |stream| [frames::response(stream), frames::data(stream, &part, false)].concat();
        reset_after(stand, before, true).await
    })
    .await;
    for ((answer, _), code) in answers.iter().zip(codes()) {
        assert_eq!((answer.body.0.len(), &answer.end), (part.len(), &End::Reset(code)));
    }
}

/// gRPC servers use `NO_ERROR` here; whatever they use arrives, and the answer is whole.
#[tokio::test]
async fn a_reset_after_a_whole_answer_leaves_the_answer_whole_and_arrives_with_its_code() {
    let answers = same(async |stand| {
        let whole = |stream| {
            let data = frames::data(stream, &message(0, &noise(6, 20_000)), false);
            [frames::response(stream), data, frames::trailers(stream)].concat()
        };
        reset_after(stand, whole, false).await
    })
    .await;
    for ((answer, gone), code) in answers.iter().zip(codes()) {
        assert_eq!((answer.grpc_status(), answer.body.0.len()), (Some("0"), 20_005));
        assert_eq!(gone, &End::Reset(code));
    }
}

/// What the runtime saw of one call that the client resets: the request, and how its own side ended.
type Cancelled = (Asked, End);

/// The client resets with every code; `whole` says whether its request had ended, `head` whether an answer had begun.
async fn reset_by_client(stand: &Stand, whole: bool, head: bool) -> (Vec<Cancelled>, Answer) {
    let (report, mut reports) = mpsc::unbounded_channel();
    let (here, mut arrivals) = mpsc::unbounded_channel();
    let _upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
        let (report, here) = (report.clone(), here.clone());
        async move {
            if call.asked.line.contains("/still/works") {
                call.read().await;
                return call.answer(grpc::response(), Bytes::new(), grpc::status(0, ""));
            }
            let first = record::take(&mut call.body, 6).await.expect("the beginning of the request");
            let mut stream = None;
            if head {
                stream = Some(call.head(grpc::response()));
                stream.as_mut().expect("just sent").send_data(message(0, b"begun"), false).expect("open");
            }
            here.send(()).expect("the test waits");
            call.asked.body.0.extend(first);
            let asked = call.read().await;
            let gone = match &mut stream {
                Some(stream) => record::stopped(stream).await,
                None => call.gone().await,
            };
            report.send((asked, gone)).expect("the test waits");
        }
    });
    let client = Client::connect(&stand.front).await;
    let mut record = Vec::new();
    for code in codes() {
        let mut pending = client.start(grpc::request(PATH), false).await.expect("a stream");
        pending.send.send_data(message(0, b"x"), whole).expect("open");
        within("the call at the runtime", arrivals.recv()).await;
        if head {
            let (_, mut stream) = pending.head().await.expect("a head");
            record::take(&mut stream, 10).await.expect("the beginning of the answer");
        }
        pending.reset(code);
        record.push(within("the reset at the runtime", reports.recv()).await.expect("a report"));
    }
    (record, still_works(&client).await)
}

#[tokio::test]
async fn a_reset_by_the_client_arrives_with_its_code_whatever_was_sent_before() {
    for (whole, head) in [(false, false), (false, true), (true, false), (true, true)] {
        let (record, _) = same(async |stand| reset_by_client(stand, whole, head).await).await;
        for ((asked, gone), code) in record.iter().zip(codes()) {
            assert_eq!(gone, &End::Reset(code), "request ended: {whole}, answer begun: {head}");
            assert_eq!(asked.end, if whole { End::Stream } else { End::Reset(code) });
        }
    }
}

/// Head, data and reset in one write: as much data as a client may send before it has heard of any window.
#[tokio::test]
async fn data_sent_before_a_reset_by_the_client_arrives_before_it() {
    let record = same(async |stand| {
        let (report, mut reports) = mpsc::unbounded_channel();
        let _upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
            let report = report.clone();
            async move {
                let asked = call.read().await;
                report.send(asked).expect("the test waits");
            }
        });
        let mut client = Wire::connect(&stand.front).await;
        let mut record = Vec::new();
        for (stream, code) in (1..).step_by(2).zip(codes()) {
            let mut call = frames::request(stream, PATH, false);
            call.extend(frames::data(stream, &noise(7, 65_000), false));
            call.push(frames::reset(stream, code));
            client.send(&call).await;
            record.push(within("the call at the runtime", reports.recv()).await.expect("a report"));
        }
        record
    })
    .await;
    for (asked, code) in record.iter().zip(codes()) {
        assert_eq!((asked.body.0.len(), &asked.end), (65_000, &End::Reset(code)));
    }
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_calls_at_the_runtime() {
    let stand = Stand::through().await;
    let (report, mut reports) = mpsc::unbounded_channel();
    let (here, mut arrivals) = mpsc::unbounded_channel();
    let upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
        let (report, here) = (report.clone(), here.clone());
        async move {
            here.send(()).expect("the test waits");
            report.send((call.gone().await, call.read().await.end)).expect("the test waits");
        }
    });
    let other = Client::connect(&stand.front).await;
    let mut others = other.start(grpc::request(PATH), false).await.expect("a stream");
    others.send.send_data(message(0, b"x"), false).expect("open");
    within("the other connection's call at the runtime", arrivals.recv()).await;
    for whole in [false, true] {
        let client = Client::connect(&stand.front).await;
        let mut pending = client.start(grpc::request(PATH), false).await.expect("a stream");
        pending.send.send_data(message(0, b"x"), whole).expect("open");
        within("the call at the runtime", arrivals.recv()).await;
        drop(client);
        let (gone, asked) = within("the end of the call at the runtime", reports.recv()).await.expect("a report");
        assert!(matches!(gone, End::Lost | End::Reset(8)), "as cancelled or by its connection's end: {gone:?}");
        assert!(whole || matches!(asked, End::Lost | End::Reset(8)), "no end of stream was invented: {asked:?}");
    }
    super::peer::until("the vanished clients' upstream connections close", || async {
        if upstream.open() == 1 { Ok(()) } else { Err(upstream.open()) }
    })
    .await;
    assert!(reports.try_recv().is_err(), "the other connection's call goes on");
}
