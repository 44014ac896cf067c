//! Many calls of all kinds at once over narrow windows: each gets its own bytes, none hangs, nothing is left over.
use bytes::Bytes;
use tokio::task::JoinSet;

use super::peer::grpc::{self, noise};
use super::peer::record::{self, Body, End, stopped};
use super::peer::{Call, Client, Stand, Upstream, until, upstream, within};

const CALLS: u64 = 600;
const ABREAST: usize = 40;

/// What a call does, all of it following from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Echo,
    Refused,
    ResetByRuntime,
    ResetByClient,
    AnsweredEarly,
}

fn kind(number: u64) -> Kind {
    match number % 10 {
        0 => Kind::Refused,
        1 => Kind::ResetByRuntime,
        2 | 3 => Kind::ResetByClient,
        4 => Kind::AnsweredEarly,
        _ => Kind::Echo,
    }
}

fn body(number: u64) -> Vec<u8> {
    noise(number + 1, usize::try_from(number * 7919 % 30_000).expect("small"))
}

async fn script(mut call: Call) {
    let number: u64 = call.asked.fields.get("x-number").expect("sent").parse().expect("a number");
    match kind(number) {
        Kind::Refused => return call.answer_head_only(grpc::refusal(5, "no such container")),
        Kind::ResetByRuntime => {
            let _ = record::take(&mut call.body, body(number).len() / 2).await;
            return call.reset(2);
        }
        Kind::AnsweredEarly => {
            call.answer(grpc::response(), body(number).into(), grpc::status(0, ""));
            // What is still coming is read to its end.
            call.read().await;
            return;
        }
        Kind::Echo | Kind::ResetByClient => {}
    }
    let Ok(mut stream) = call.respond.send_response(grpc::response(), false) else { return };
    while let Some(Ok(bytes)) = call.body.data().await {
        let _ = call.body.flow_control().release_capacity(bytes.len());
        if stream.send_data(bytes, false).is_err() {
            return;
        }
        if number.is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
    }
    if kind(number) == Kind::ResetByClient {
        stopped(&mut stream).await;
        return;
    }
    let _ = stream.send_trailers(grpc::status(0, ""));
}

/// Makes one call; sends and reads at the same time, as the windows are narrower than what is sent.
async fn call(client: &Client, number: u64) {
    let mut request = grpc::request("/runtime.v1.RuntimeService/ExecSync");
    request.headers_mut().extend(grpc::fields(&[("x-number", &number.to_string())]));
    let mut pending = client.start(request, false).await.expect("a stream");
    let whole = body(number);
    let mut parts: Vec<&[u8]> = whole.chunks(1 + usize::try_from(number * 31 % 4001).expect("small")).collect();
    let last = parts.pop().unwrap_or_default();
    let (cancelled, begun) = (kind(number) == Kind::ResetByClient, !parts.is_empty());
    for part in parts {
        let _ = pending.send.send_data(Bytes::copy_from_slice(part), false);
        tokio::task::yield_now().await;
    }
    if cancelled {
        // Every other one waits until it has something of its own back.
        if begun
            && number.is_multiple_of(4)
            && let Ok((_, mut stream)) = pending.head().await
        {
            let _ = record::take(&mut stream, 1).await;
        }
        return pending.reset(8);
    }
    let _ = pending.send.send_data(Bytes::copy_from_slice(last), true);
    let answer = pending.answer().await;
    match kind(number) {
        Kind::Echo | Kind::AnsweredEarly => {
            assert_eq!((answer.grpc_status(), &answer.body), (Some("0"), &Body(whole)), "call {number}");
        }
        Kind::Refused => assert_eq!(answer.grpc_status(), Some("5"), "call {number}: {answer:?}"),
        Kind::ResetByRuntime => assert_eq!(answer.end, End::Reset(2), "call {number}"),
        Kind::ResetByClient => {}
    }
}

async fn play(stand: &Stand) {
    let settings = upstream::Settings { window: Some(2000), ..Default::default() };
    let _upstream = Upstream::with(&stand.upstream, &settings, script);
    let client = std::sync::Arc::new(Client::with_window(&stand.front, 3000).await.expect("a connection"));
    let mut running = JoinSet::new();
    for number in 0..CALLS {
        if running.len() >= ABREAST {
            within("a call", running.join_next()).await.expect("there are some").expect("a call went as it should");
        }
        let client = client.clone();
        running.spawn(async move { call(&client, number).await });
    }
    while let Some(ended) = within("a call", running.join_next()).await {
        ended.expect("a call went as it should");
    }
}

#[tokio::test]
async fn many_calls_of_all_kinds_over_narrow_windows_keep_apart_and_none_hangs() {
    play(&Stand::direct()).await;
    let stand = Stand::through().await;
    play(&stand).await;
    let all: f64 = u32::try_from(CALLS).expect("small").into();
    until("every call on record and none in flight", || async {
        let page = stand.crihook().metrics().await;
        let recorded = page.sum("crihook_cri_requests_total", &[("method", "ExecSync")]);
        let open = page.sum("crihook_cri_requests_in_flight", &[]);
        if recorded.total_cmp(&all).is_eq() && open.abs() < 0.5 { Ok(()) } else { Err((recorded, open)) }
    })
    .await;
}
