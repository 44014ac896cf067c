//! Every call is on record exactly once, under the right name and code, however it ends.
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use http::HeaderMap;

use super::peer::exposition::Exposition;
use super::peer::grpc::{self, message, noise};
use super::peer::record::{stopped, take};
use super::peer::{Call, Client, Crihook, Stand, Upstream, until, within};

fn path(method: &str) -> String {
    format!("/runtime.v1.RuntimeService/{method}")
}

/// Ends a call as its request's `x-end` says.
async fn end_as_told(mut call: Call) {
    let end = call.asked.fields.get("x-end").unwrap_or("0").to_owned();
    if end == "early" {
        call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
        return;
    }
    if let Some(code) = end.strip_prefix("reset ") {
        return call.reset(code.parse().expect("a code"));
    }
    if end == "wait" {
        call.gone().await;
        return;
    }
    if end == "begin" {
        let mut stream = call.head(grpc::response());
        stream.send_data(message(0, b"x"), false).expect("open");
        stopped(&mut stream).await;
        return;
    }
    call.read().await;
    match end.as_str() {
        "no status" => call.answer(grpc::response(), message(0, b"x"), HeaderMap::new()),
        "no trailers" => {
            call.head(grpc::response()).send_data(message(0, b"x"), true).expect("open");
        }
        "trailers-only" => call.answer_head_only(grpc::refusal(5, "no such container")),
        status => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().expect("a value"));
            call.answer(grpc::response(), message(0, b"x"), trailers);
        }
    }
}

async fn call(client: &Client, method: &str, end: &str) {
    let mut request = grpc::request(&path(method));
    request.headers_mut().extend(grpc::fields(&[("x-end", end)]));
    within("a call", client.call(request, message(0, b"x"))).await;
}

/// `crihook_cri_requests_total` of a method, by code.
fn codes(page: &Exposition, method: &str) -> BTreeMap<String, u64> {
    let mut codes = BTreeMap::new();
    for (_, labels, value) in page.all("crihook_cri_requests_total") {
        if labels["method"] == method && *value > 0.0 {
            codes.insert(labels["code"].clone(), value.to_string().parse().expect("a whole number"));
        }
    }
    codes
}

/// Waits until `method` has no call in flight, and asserts what is on record of it.
async fn assert_recorded(crihook: &Crihook, method: &str, expected: &[(&str, u64)]) {
    let expected: BTreeMap<String, u64> = expected.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect();
    until(&format!("{expected:?} of {method} on record"), || async {
        let page = crihook.metrics().await;
        let seen = codes(&page, method);
        let in_flight = page.sum("crihook_cri_requests_in_flight", &[("method", method)]);
        if seen.values().sum::<u64>() >= expected.values().sum() && in_flight.abs() < 0.5 {
            Ok(())
        } else {
            Err((seen, in_flight))
        }
    })
    .await;
    // What ends a call is counted in turn; a page of the very moment may have a half of it.
    let page = crihook.metrics().await;
    assert_eq!(codes(&page, method), expected, "{method}");
    let all: u64 = expected.values().sum();
    for name in ["request_duration", "upstream_duration", "client_wait", "overhead", "hook_wait"] {
        let count = page.sum(&format!("crihook_cri_{name}_seconds_count"), &[("method", method)]);
        assert_eq!(count.to_string(), all.to_string(), "{name} of {method} has every call once");
    }
}

#[tokio::test]
async fn statuses_are_counted_under_grpcs_names() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, end_as_told);
    let client = Client::connect(&stand.front).await;
    for status in ["0", "0", "1", "2", "4", "5", "12", "14", "16", "17", "99", "x"] {
        call(&client, "StopContainer", status).await;
    }
    let expected = [
        ("OK", 2),
        ("Canceled", 1),
        ("Unknown", 1),
        ("DeadlineExceeded", 1),
        ("NotFound", 1),
        ("Unimplemented", 1),
        ("Unavailable", 1),
        ("Unauthenticated", 1),
        ("other", 3),
    ];
    assert_recorded(stand.crihook(), "StopContainer", &expected).await;
    call(&client, "StartContainer", "trailers-only").await;
    assert_recorded(stand.crihook(), "StartContainer", &[("NotFound", 1)]).await;
    call(&client, "Exec", "no status").await;
    call(&client, "Exec", "no trailers").await;
    assert_recorded(stand.crihook(), "Exec", &[("Unknown", 2)]).await;
}

#[tokio::test]
async fn cancelled_reset_and_lost_calls_are_counted_once_each() {
    let stand = Stand::through().await;
    let upstream = Upstream::start(&stand.upstream, end_as_told);
    let client = Client::connect(&stand.front).await;
    let crihook = stand.crihook();
    let begin = async |client: &Client, method: &str, end: &str, whole: bool| {
        let mut request = grpc::request(&path(method));
        request.headers_mut().extend(grpc::fields(&[("x-end", end)]));
        let mut pending = client.start(request, false).await.expect("a stream");
        pending.send.send_data(message(0, b"x"), whole).expect("open");
        if end == "begin" {
            let (_, mut stream) = within("a head", pending.head()).await.expect("a head");
            take(&mut stream, 6).await.expect("the beginning of the answer");
            return (pending, Some(stream));
        }
        until("the call in flight", || async {
            let open = crihook.metrics().await.sum("crihook_cri_requests_in_flight", &[("method", method)]);
            if open > 0.5 { Ok(()) } else { Err(open) }
        })
        .await;
        (pending, None)
    };

    // The client cancels, with any code, before and after the answer has begun.
    for (end, whole) in [("wait", true), ("wait", false), ("begin", true), ("begin", false)] {
        for code in [8, 0, 5] {
            let (mut pending, _stream) = begin(&client, "ExecSync", end, whole).await;
            pending.reset(code);
        }
    }
    assert_recorded(crihook, "ExecSync", &[("Canceled", 12)]).await;

    // The client vanishes.
    for end in ["wait", "begin"] {
        let vanishing = Client::connect(&stand.front).await;
        let held = begin(&vanishing, "Exec", end, true).await;
        drop(vanishing);
        drop(held);
    }
    assert_recorded(crihook, "Exec", &[("Canceled", 2)]).await;

    // The runtime resets; gRPC says which status each code stands for.
    for code in [0, 1, 2, 7, 8, 11, 12, 66] {
        call(&client, "Status", &format!("reset {code}")).await;
    }
    let expected =
        [("Internal", 4), ("Unavailable", 1), ("Canceled", 1), ("ResourceExhausted", 1), ("PermissionDenied", 1)];
    assert_recorded(crihook, "Status", &expected).await;

    // The answer comes before the end of the request.
    call(&client, "Attach", "early").await;
    let mut request = grpc::request(&path("PortForward"));
    request.headers_mut().extend(grpc::fields(&[("x-end", "early")]));
    let mut unfinished = client.start(request, false).await.expect("a stream");
    assert_eq!(within("the answer", unfinished.answer()).await.grpc_status(), Some("0"));
    drop(unfinished);
    assert_recorded(crihook, "Attach", &[("OK", 1)]).await;
    assert_recorded(crihook, "PortForward", &[("OK", 1)]).await;

    // The runtime is lost, and then is absent.
    let mut held = Vec::new();
    for end in ["wait", "begin"] {
        held.push(begin(&client, "RunPodSandbox", end, true).await);
    }
    drop(upstream);
    assert_recorded(crihook, "RunPodSandbox", &[("Unavailable", 2)]).await;
    call(&client, "Version", "0").await;
    assert_recorded(crihook, "Version", &[("Unavailable", 1)]).await;
}

#[tokio::test]
async fn a_call_is_in_flight_while_it_lasts_and_connections_are_counted_on_both_sides() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, end_as_told);
    let crihook = stand.crihook();
    let assert_gauges = async |open: u32, sides: u32| {
        until(&format!("{open} in flight, {sides} connections"), || async {
            let page = crihook.metrics().await;
            let gauges = [
                page.sum(
                    "crihook_cri_requests_in_flight",
                    &[("service", "runtime.v1.RuntimeService"), ("method", "ExecSync")],
                ),
                page.sum("crihook_cri_connections", &[("side", "downstream")]),
                page.sum("crihook_cri_connections", &[("side", "upstream")]),
            ];
            let expected = [open, sides, sides].map(f64::from);
            if gauges.iter().zip(expected).all(|(is, want)| (is - want).abs() < 0.5) { Ok(()) } else { Err(gauges) }
        })
        .await;
    };
    let mut clients = Vec::new();
    for count in 1..=3 {
        let client = Client::connect(&stand.front).await;
        let mut request = grpc::request(&path("ExecSync"));
        request.headers_mut().extend(grpc::fields(&[("x-end", "wait")]));
        let pending = client.start(request, true).await.expect("a stream");
        clients.push((client, pending));
        assert_gauges(count, count).await;
    }
    for left in (0..3).rev() {
        drop(clients.pop());
        assert_gauges(left, left).await;
    }
}

#[tokio::test]
async fn what_is_not_cri_is_counted_as_other() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, end_as_told);
    let client = Client::connect(&stand.front).await;
    let paths = [
        ("/runtime.v1.RuntimeService/Invented", "runtime.v1.RuntimeService"),
        ("/runtime.v1.ImageService/Invented", "runtime.v1.ImageService"),
        ("/invented.v1.Service/Version", "other"),
        ("/", "other"),
        ("/runtime.v1.RuntimeService/Version/", "runtime.v1.RuntimeService"),
        ("/runtime.v1alpha2.RuntimeService/Version", "other"),
    ];
    for (path, _) in paths {
        within("a call", client.call(grpc::request(path), message(0, b"x"))).await;
    }
    let page = until("six calls on record", || async {
        let page = stand.crihook().metrics().await;
        let count = page.sum("crihook_cri_requests_total", &[("method", "other")]);
        if count > 5.5 { Ok(page) } else { Err(count) }
    })
    .await;
    for service in ["runtime.v1.RuntimeService", "runtime.v1.ImageService", "other"] {
        let expected = paths.iter().filter(|(_, expected)| *expected == service).count();
        let labels = [("service", service), ("method", "other"), ("code", "OK")];
        assert_eq!(page.sum("crihook_cri_requests_total", &labels).to_string(), expected.to_string(), "{service}");
    }
    assert!(!page.text.contains("nvented"), "no name of a client's choice becomes a label");
}

#[tokio::test]
async fn messages_are_counted_by_size_and_direction() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
        call.read().await;
        let body: Vec<u8> = (0..4).flat_map(|seed| message(0, &noise(seed, 10_000)).to_vec()).collect();
        call.answer(grpc::response(), body.into(), grpc::status(0, ""));
    });
    let client = Client::connect(&stand.front).await;
    let mut pending = client.start(grpc::request(&path("CreateContainer")), false).await.expect("a stream");
    // Two messages and an empty one, cut where it hurts: within a prefix and within a message.
    let bytes = [message(0, &noise(1, 300)), message(0, b""), message(1, &noise(2, 700))].concat();
    for (index, cut) in [(0, 3), (3, 100), (100, 307), (307, 311), (311, bytes.len())].into_iter().enumerate() {
        let part = Bytes::copy_from_slice(&bytes[cut.0..cut.1]);
        pending.send.send_data(part, index == 4).expect("open");
        tokio::task::yield_now().await;
    }
    pending.answer().await;
    assert_recorded(stand.crihook(), "CreateContainer", &[("OK", 1)]).await;
    let page = stand.crihook().metrics().await;
    for (direction, count, sum) in [("request", "3", "1000"), ("response", "4", "40000")] {
        let labels = [("method", "CreateContainer"), ("direction", direction)];
        assert_eq!(page.sum("crihook_cri_message_bytes_count", &labels).to_string(), count, "{direction}");
        assert_eq!(page.sum("crihook_cri_message_bytes_sum", &labels).to_string(), sum, "{direction}");
    }
}

#[tokio::test]
async fn a_stream_of_events_is_counted_and_not_timed() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, end_as_told);
    let client = Client::connect(&stand.front).await;
    for end in ["0", "12", "reset 8"] {
        call(&client, "GetContainerEvents", end).await;
    }
    let page = until("three streams on record", || async {
        let page = stand.crihook().metrics().await;
        let seen = codes(&page, "GetContainerEvents");
        if seen.values().sum::<u64>() >= 3 { Ok(page) } else { Err(seen) }
    })
    .await;
    let seen = codes(&page, "GetContainerEvents");
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["Canceled", "OK", "Unimplemented"]);
    let labels = [("method", "GetContainerEvents")];
    for (name, _, value) in page.all("crihook_cri_").filter(|(name, _, _)| name.ends_with("_seconds_count")) {
        assert!(page.sum(name, &labels).abs() < 0.5, "{name} is {value}");
    }
}

#[tokio::test]
async fn the_metrics_page_is_what_prometheus_expects() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, end_as_told);
    let client = Client::connect(&stand.front).await;
    call(&client, "Version", "0").await;
    assert_recorded(stand.crihook(), "Version", &[("OK", 1)]).await;
    let page = stand.crihook().metrics().await;

    let version = [("service", "runtime.v1.RuntimeService"), ("method", "Version")];
    let bounds = |name: &str| {
        let name = format!("crihook_cri_{name}_seconds_bucket");
        let of = page.all(&name).filter(|(_, labels, _)| version.iter().all(|(k, v)| labels[*k] == *v));
        let mut bounds: Vec<f64> = of.map(|(_, labels, _)| labels["le"].parse().expect("a bound")).collect();
        bounds.sort_by(f64::total_cmp);
        bounds
    };
    for name in ["request_duration", "upstream_duration", "client_wait", "overhead", "hook_wait"] {
        let bounds = bounds(name);
        assert_eq!(format!("{:?}", &bounds[..1]), "[5e-5]", "{name}");
        assert_eq!(format!("{:?}", &bounds[bounds.len() - 2..]), "[600.0, inf]", "{name}");
    }
    for name in
        ["crihook_upstream_up", "crihook_build_info", "process_cpu_seconds_total", "process_resident_memory_bytes"]
    {
        assert!(page.all(name).count() == 1, "{name} is there");
    }
    assert!(page.sum("crihook_upstream_up", &[]) > 0.5);

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (Debian's package prometheus)");
    promtool.stdin.take().expect("piped").write_all(page.text.as_bytes()).expect("the page is taken");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", said.escape_ascii());
}
