//! Headers, metadata and trailers arrive as they were sent, whatever they hold and however long they are.
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};

use super::peer::grpc::{self, fields, message, noise};
use super::peer::record::{Answer, Asked, End};
use super::peer::{Call, Client, Stand, Upstream, frames, same, upstream};

/// One call: what is asked, and what the runtime answers with.
async fn exchange(stand: &Stand, request: Request<()>, script: fn(&mut Call)) -> (Asked, Answer) {
    let upstream = Upstream::start(&stand.upstream, move |mut call: Call| async move {
        call.read().await;
        script(&mut call);
    });
    let client = Client::connect(&stand.front).await;
    let answer = client.call(request, message(0, b"a request")).await;
    let asked = upstream.asked().last().cloned().expect("the call reached the runtime");
    (asked, answer)
}

fn version() -> Request<()> {
    grpc::request("/runtime.v1.RuntimeService/Version")
}

#[tokio::test]
async fn binary_duplicate_and_empty_metadata_pass_unchanged_in_all_three_places() {
    // As a gRPC library writes them: base64 with and without padding, values joined by commas, blanks inside.
    const ODD: &[(&str, &str)] = &[
        ("trace-bin", "AAECAwQF+/8"),
        ("trace-bin", "AAECAw=="),
        ("trace-bin", "AQ,Ag,Aw"),
        ("twice", "second comes first"),
        ("twice", "first comes second"),
        ("twice", "second comes first"),
        ("empty", ""),
        ("empty", ""),
        ("empty-bin", ""),
        ("punctuation", "~!@#$%^&*()_+|}{[]:;'<>?,./\"\\"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=a,other=b"),
        ("tracestate", "third=c"),
        ("x_under.score-1", "x"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("date", "yesterday"),
        ("server", "runtime"),
        ("via", "1.1 somebody"),
        ("x-forwarded-for", "nobody"),
        ("forwarded", "for=nobody"),
        ("accept-encoding", "identity"),
        ("authorization", "Bearer of news"),
    ];
    let (asked, answer) = same(async |stand| {
        let mut request = version();
        request.headers_mut().extend(fields(ODD));
        exchange(stand, request, |call| {
            let mut head = grpc::response();
            head.headers_mut().extend(fields(ODD));
            let mut trailers = grpc::status(0, "");
            trailers.extend(fields(ODD));
            call.answer(head, message(0, b"an answer"), trailers);
        })
        .await
    })
    .await;
    assert_eq!(asked.fields.0["twice"], ["second comes first", "first comes second", "second comes first"]);
    assert_eq!(answer.fields.0["trace-bin"], ["AAECAwQF+/8", "AAECAw==", "AQ,Ag,Aw"]);
    let End::Trailers(trailers) = &answer.end else { panic!("{answer:?}") };
    assert_eq!(trailers.0["empty"], ["", ""]);
}

#[tokio::test]
async fn header_values_that_are_no_text_pass_unchanged() {
    same(async |stand| {
        let mut request = version();
        let raw = HeaderValue::from_bytes(&[0x80, 0xff, b' ', b'\t', 0xc3, 0xa4, 0xfe]).expect("obs-text is allowed");
        request.headers_mut().append("raw", raw);
        exchange(stand, request, |call| {
            let raw = HeaderValue::from_bytes("naïve – ünïcode".as_bytes()).expect("obs-text is allowed");
            let mut trailers = grpc::status(2, "");
            trailers.append("grpc-message", raw);
            call.answer(grpc::response(), Bytes::new(), trailers);
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn deadlines_pass_untouched() {
    let deadlines = ["1H", "2M", "119999m", "99999999u", "1n", "0S", "not a deadline", ""];
    let record = same(async |stand| {
        let mut record = Vec::new();
        for deadline in deadlines {
            let mut request = version();
            request.headers_mut().extend(fields(&[("grpc-timeout", deadline)]));
            let ok = |call: &mut Call| call.answer(grpc::response(), message(0, b""), grpc::status(0, ""));
            record.push(exchange(stand, request, ok).await);
        }
        record
    })
    .await;
    for ((asked, _), deadline) in record.iter().zip(deadlines) {
        assert_eq!(asked.fields.get("grpc-timeout"), Some(deadline));
    }
}

#[tokio::test]
async fn statuses_with_details_pass_unchanged_in_trailers_and_trailers_only() {
    const DETAILS: &str = "CAUSBm5vIHBvZBooCiR0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuSW5mbxIA";
    let codes: Vec<u32> = (0..=16).chain([17, 99, u32::MAX]).collect();
    let record = same(async |stand| {
        let mut record = Vec::new();
        for code in &codes {
            let mut request = version();
            request.headers_mut().extend(fields(&[("x-code", &code.to_string())]));
            let fail = |call: &mut Call| {
                let code = call.asked.fields.get("x-code").expect("sent").parse().expect("a number");
                let mut trailers = grpc::status(code, "no such container: \\x22%C3%A4%22 %0A second line");
                trailers.extend(fields(&[("grpc-status-details-bin", DETAILS)]));
                call.answer(grpc::response(), Bytes::new(), trailers);
            };
            record.push(exchange(stand, request, fail).await);
        }
        record
    })
    .await;
    for ((_, answer), code) in record.iter().zip(codes) {
        assert_eq!(answer.grpc_status(), Some(code.to_string().as_str()));
    }
    let (_, answer) = same(async |stand| {
        exchange(stand, version(), |call| {
            let mut head = grpc::refusal(5, "an error occurred when try to find container");
            head.headers_mut().extend(fields(&[("grpc-status-details-bin", DETAILS)]));
            call.answer_head_only(head);
        })
        .await
    })
    .await;
    assert!(answer.trailers_only);
    assert_eq!(answer.fields.get("grpc-status-details-bin"), Some(DETAILS));
}

/// Two digits a byte.
fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[tokio::test]
async fn a_status_message_of_100_kib_passes_whole_in_trailers_and_in_trailers_only() {
    fn long() -> String {
        hexadecimal(&noise(11, 50 << 10))
    }
    let (_, answer) = same(async |stand| {
        exchange(stand, version(), |call| call.answer(grpc::response(), message(0, b"x"), grpc::status(13, &long())))
            .await
    })
    .await;
    assert_eq!(answer.grpc_message().map(str::len), Some(100 << 10));
    let (_, answer) =
        same(async |stand| exchange(stand, version(), |call| call.answer_head_only(grpc::refusal(13, &long()))).await)
            .await;
    assert!(answer.trailers_only);
    assert_eq!(answer.grpc_message().map(str::len), Some(100 << 10));
}

#[tokio::test]
async fn metadata_of_60_kib_passes_whole_in_all_three_places() {
    fn big() -> HeaderMap {
        let mut map = HeaderMap::new();
        for index in 0..60 {
            map.append("x-part", hexadecimal(&noise(index, 512)).parse().expect("a header's value"));
        }
        map
    }
    let (asked, answer) = same(async |stand| {
        let mut request = version();
        request.headers_mut().extend(big());
        exchange(stand, request, |call| {
            let mut head = grpc::response();
            head.headers_mut().extend(big());
            let mut trailers = grpc::status(0, "");
            trailers.extend(big());
            call.answer(head, message(0, b"x"), trailers);
        })
        .await
    })
    .await;
    assert_eq!(asked.fields.0["x-part"].len(), 60);
    assert_eq!(answer.fields.0["x-part"].len(), 60);
}

#[tokio::test]
async fn trailers_of_a_request_pass_unchanged() {
    same(async |stand| {
        let upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            call.read().await;
            call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
        });
        let client = Client::connect(&stand.front).await;
        let mut pending = client.start(version(), false).await.expect("a stream");
        pending.send.send_data(message(0, b"x"), false).expect("open");
        pending.send.send_trailers(fields(&[("x-sum", "1"), ("x-sum", "2")])).expect("open");
        let answer = pending.answer().await;
        let asked = upstream.asked().clone();
        assert!(matches!(&asked[0].end, End::Trailers(sums) if sums.0["x-sum"] == ["1", "2"]));
        (asked, answer)
    })
    .await;
}

/// Pseudo-headers as other clients write them: another authority, none at all, another scheme, a length that is known.
#[tokio::test]
async fn other_request_lines_pass_unchanged() {
    let lines: [&[(&str, &[u8])]; 5] = [
        &[(":scheme", b"http"), (":authority", b"unix"), (":path", b"/runtime.v1.RuntimeService/Version")],
        &[(":scheme", b"https"), (":authority", b"[::1]:4443"), (":path", b"/runtime.v1.RuntimeService/Version")],
        &[(":scheme", b"http"), (":authority", b"a-host.example:1"), (":path", b"/s/m?q")],
        &[(":scheme", b"http"), (":path", b"/runtime.v1.RuntimeService/Version")],
        &[(":scheme", b"http"), (":path", b"/runtime.v1.RuntimeService/Version"), ("host", b"named-the-old-way")],
    ];
    let record = same(async |stand| {
        let upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            call.read().await;
            call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
        });
        let mut client = frames::Wire::connect(&stand.front).await;
        for (index, line) in lines.iter().enumerate() {
            let stream = 1 + 2 * u32::try_from(index).expect("small");
            let mut fields = vec![(":method", &b"POST"[..])];
            fields.extend_from_slice(line);
            fields.extend([("content-type", &b"application/grpc"[..]), ("te", b"trailers"), ("content-length", b"6")]);
            let mut call = frames::headers(stream, &fields, false);
            call.extend(frames::data(stream, &message(0, b"x"), true));
            client.send(&call).await;
            client.read_request(stream).await;
        }
        upstream.asked().clone()
    })
    .await;
    assert_eq!(record.len(), lines.len());
}

/// Fields with a length, and answers without any status, as no gRPC library writes them.
#[tokio::test]
async fn other_heads_of_answers_pass_unchanged() {
    let heads: [&[(&str, &[u8])]; 4] = [
        &[(":status", b"200"), ("content-type", b"application/grpc"), ("content-length", b"6")],
        &[(":status", b"503"), ("retry-after", b"1")],
        &[(":status", b"404"), ("content-type", b"text/html"), ("x-reason", b"none")],
        &[(":status", b"299")],
    ];
    same(async |stand| {
        let listener = upstream::bind(&stand.upstream);
        let client = Client::connect(&stand.front).await;
        let runtime = async {
            let (io, _) = listener.accept().await.expect("a connection");
            let mut wire = frames::Wire::accept(io, &[]).await;
            for (index, head) in heads.iter().enumerate() {
                let stream = 1 + 2 * u32::try_from(index).expect("small");
                wire.read_request(stream).await;
                let mut answer = frames::headers(stream, head, false);
                answer.extend(frames::data(stream, &message(0, b"x"), true));
                wire.send(&answer).await;
            }
            wire
        };
        let calls = async {
            let mut answers = Vec::new();
            for _ in heads {
                answers.push(client.call(version(), message(0, b"")).await);
            }
            answers
        };
        tokio::join!(runtime, calls).1
    })
    .await;
}
