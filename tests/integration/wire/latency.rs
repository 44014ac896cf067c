//! Time is put down to whoever spent it: the runtime, the client, or crihook itself.
//!
//! Every test makes one delay and looks where it went. The delays are long against what a busy machine adds, and the bounds are wide.
use std::time::Duration;

use super::peer::frames::{self, Wire};
use super::peer::grpc::{self, message, noise};
use super::peer::record::{self, Body};
use super::peer::shares::Shares;
use super::peer::{Call, Client, Crihook, Stand, Upstream, process, until, upstream, within};

const DELAY: Duration = Duration::from_millis(400);

async fn delay() {
    tokio::time::sleep(DELAY).await;
}

fn path(method: &str) -> String {
    format!("/runtime.v1.RuntimeService/{method}")
}

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b"fine"), grpc::status(0, ""));
}

#[tokio::test]
async fn a_slow_runtime_shows_in_upstream_duration_wherever_it_is_slow() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
        let line = call.asked.line.clone();
        call.read().await;
        if line.contains("Version") {
            delay().await;
        }
        let mut stream = call.head(grpc::response());
        if line.contains("Status") {
            delay().await;
        }
        stream.send_data(message(0, b"half"), false).expect("open");
        if line.contains("ListImages") {
            delay().await;
        }
        stream.send_trailers(grpc::status(0, "")).expect("open");
    });
    let client = Client::connect(&stand.front).await;
    let slow = [path("Version"), path("Status"), "/runtime.v1.ImageService/ListImages".to_owned()];
    for path in &slow {
        client.call(grpc::request(path), message(0, b"x")).await;
    }
    for method in ["Version", "Status", "ListImages"] {
        let shares = Shares::of(stand.crihook(), method, 1).await;
        shares.assert_in(shares.upstream, DELAY.as_secs_f64());
    }
}

/// The runtime gives no window for the request.
#[tokio::test]
async fn a_runtime_that_reads_slowly_shows_in_upstream_duration() {
    let stand = Stand::through().await;
    let settings = upstream::Settings { window: Some(1000), ..Default::default() };
    let _upstream = Upstream::with(&stand.upstream, &settings, async |mut call: Call| {
        delay().await;
        call.read().await;
        call.answer(grpc::response(), message(0, b""), grpc::status(0, ""));
    });
    let client = Client::connect(&stand.front).await;
    client.call(grpc::request(&path("CreateContainer")), message(0, &noise(1, 100_000))).await;
    let shares = Shares::of(stand.crihook(), "CreateContainer", 1).await;
    shares.assert_in(shares.upstream, DELAY.as_secs_f64());
}

#[tokio::test]
async fn a_client_that_gives_no_window_shows_in_client_wait() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
        call.read().await;
        call.answer(grpc::response(), message(0, &noise(2, 100_000)), grpc::status(0, ""));
    });
    let client = Client::with_window(&stand.front, 1000).await.expect("a connection");
    let mut pending = client.start(grpc::request(&path("ListContainers")), true).await.expect("a stream");
    let (_, mut stream) = pending.head().await.expect("a head");
    delay().await;
    let mut body = Body::default();
    record::drain(&mut stream, &mut body).await;
    assert_eq!(body.0.len(), 100_005);
    let shares = Shares::of(stand.crihook(), "ListContainers", 1).await;
    shares.assert_in(shares.client_wait, DELAY.as_secs_f64());
}

/// The windows are wide open and nobody reads the socket.
#[tokio::test]
async fn a_client_that_does_not_read_its_socket_shows_in_client_wait() {
    let stand = Stand::through().await;
    let large = message(0, &noise(3, 8 << 20));
    let _upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
        let large = large.clone();
        async move {
            call.read().await;
            call.answer(grpc::response(), large, grpc::status(0, ""));
        }
    });
    let mut client = Wire::connect(&stand.front).await;
    // SETTINGS_INITIAL_WINDOW_SIZE of 16 MiB, and as much for the connection.
    client.send(&[frames::settings(&[(4, 16 << 20)]), frames::window(0, 16 << 20)]).await;
    client.send(&frames::request(1, &path("ListPodSandbox"), true)).await;
    let head = within("the head", client.next_call()).await.expect("an answer");
    assert_eq!(head.kind, frames::HEADERS);
    delay().await;
    within("the answer", client.read_request(1)).await;
    let shares = Shares::of(stand.crihook(), "ListPodSandbox", 1).await;
    shares.assert_in(shares.client_wait, DELAY.as_secs_f64());
}

#[tokio::test]
async fn a_client_that_writes_slowly_shows_in_client_wait_wherever_it_is_slow() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    let client = Client::connect(&stand.front).await;
    for (method, parts) in [("Attach", [0, 10]), ("Exec", [4, 10]), ("PortForward", [10, 10])] {
        let whole = message(0, b"hello");
        let mut pending = client.start(grpc::request(&path(method)), false).await.expect("a stream");
        if parts[0] > 0 {
            pending.send.send_data(whole.slice(..parts[0]), false).expect("open");
        }
        until("crihook has seen the call", || async {
            let open = stand.crihook().metrics().await.sum("crihook_cri_requests_in_flight", &[("method", method)]);
            if open > 0.5 { Ok(()) } else { Err(open) }
        })
        .await;
        delay().await;
        // In the last case all but END_STREAM had been sent.
        pending.send.send_data(whole.slice(parts[0]..parts[1]), true).expect("open");
        assert_eq!(pending.answer().await.grpc_status(), Some("0"));
        let shares = Shares::of(stand.crihook(), method, 1).await;
        shares.assert_in(shares.client_wait, DELAY.as_secs_f64());
    }
}

/// A client that is slow to write, and then a runtime that is slow to answer, and then a client that is slow to read.
#[tokio::test]
async fn delays_of_both_sides_are_told_apart_within_one_call() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
        call.read().await;
        delay().await;
        delay().await;
        call.answer(grpc::response(), message(0, &noise(4, 100_000)), grpc::status(0, ""));
    });
    let client = Client::with_window(&stand.front, 1000).await.expect("a connection");
    let mut pending = client.start(grpc::request(&path("ExecSync")), false).await.expect("a stream");
    until("crihook has seen the call", || async {
        let open = stand.crihook().metrics().await.sum("crihook_cri_requests_in_flight", &[("method", "ExecSync")]);
        if open > 0.5 { Ok(()) } else { Err(open) }
    })
    .await;
    delay().await;
    pending.send.send_data(message(0, b"x"), true).expect("open");
    let (_, mut stream) = pending.head().await.expect("a head");
    delay().await;
    delay().await;
    record::drain(&mut stream, &mut Body::default()).await;
    let shares = Shares::of(stand.crihook(), "ExecSync", 1).await;
    let delay = DELAY.as_secs_f64();
    assert!((1.6 * delay..2.6 * delay).contains(&shares.upstream), "{shares:?}");
    assert!((2.6 * delay..3.6 * delay).contains(&shares.client_wait), "{shares:?}");
    assert!(shares.overhead < delay / 2.0, "{shares:?}");
    shares.assert_sum();
}

#[tokio::test]
async fn a_call_that_reaches_no_runtime_is_overhead_and_nothing_else() {
    let stand = Stand::through().await;
    let client = Client::connect(&stand.front).await;
    let answer = client.call(grpc::request(&path("Version")), message(0, b"x")).await;
    assert_eq!(answer.grpc_status(), Some("14"));
    let shares = Shares::of(stand.crihook(), "Version", 1).await;
    assert!(shares.overhead > 0.0, "{shares:?}");
    assert!(shares.upstream == 0.0 && shares.client_wait == 0.0, "{shares:?}");
    shares.assert_sum();
}

/// A unix socket is dialled in no time, so the kernel is asked to take its time: strace delays every connect(2) of this crihook.
#[tokio::test]
async fn dialling_shows_in_overhead_and_in_the_first_call_only() {
    let stand = Stand::empty();
    let inner = process::serve(stand.dir()).command();
    let mut traced = std::process::Command::new("strace");
    let inject = format!("inject=connect:delay_enter={}", DELAY.as_micros());
    // -D: crihook stays this process's child, and the tracer ends with it.
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=connect", "-e", &inject, "--"]);
    traced.arg(inner.get_program()).args(inner.get_args());
    let crihook = Crihook::traced(traced).await;
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    let client = Client::connect(&stand.front).await;
    for (method, first) in [("Status", true), ("Version", false)] {
        // Version is asked by crihook itself as well, on a connection of its own, which is not counted among the calls.
        assert_eq!(client.call(grpc::request(&path(method)), message(0, b"x")).await.grpc_status(), Some("0"));
        let shares = Shares::of(&crihook, method, 1).await;
        if first {
            shares.assert_in(shares.overhead, DELAY.as_secs_f64());
        } else {
            assert!(shares.duration < DELAY.as_secs_f64() / 2.0, "{shares:?}");
        }
    }
}

/// Nothing is lost or counted twice in many calls of all kinds at once.
#[tokio::test]
async fn the_shares_of_many_calls_at_once_add_up_to_their_duration() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
        let asked = call.read().await;
        tokio::time::sleep(Duration::from_millis(asked.body.0.len() as u64 % 7)).await;
        call.answer(grpc::response(), asked.body.0.into(), grpc::status(0, ""));
    });
    let client = Client::with_window(&stand.front, 2000).await.expect("a connection");
    for round in 0..5 {
        let mut pending = Vec::new();
        for seed in 0..100 {
            let size = usize::try_from(seed * 37 + round).expect("small");
            let mut call = client.start(grpc::request(&path("ContainerStatus")), false).await.expect("a stream");
            call.send.send_data(message(0, &noise(seed, size)), true).expect("open");
            pending.push(call);
        }
        for mut call in pending {
            call.answer().await;
        }
    }
    let shares = Shares::of(stand.crihook(), "ContainerStatus", 500).await;
    assert_eq!(shares.calls.to_string(), "500");
    shares.assert_sum();
    let page = stand.crihook().metrics().await;
    for name in ["upstream_duration", "client_wait", "overhead", "hook_wait"] {
        let count = page.sum(&format!("crihook_cri_{name}_seconds_count"), &[("method", "ContainerStatus")]);
        assert_eq!(count.to_string(), "500", "{name} has every call once");
    }
}
