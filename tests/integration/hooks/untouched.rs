//! What hooks look at arrives as it was sent: unknown fields, what cannot be decoded, and all that they do not change.

use bytes::Bytes;
use crihook::cri::v1::{RunPodSandboxRequest, StopContainerRequest};
use prost::Message;

use super::*;
use crate::wire::peer::grpc::{message, noise, request, response, status};
use crate::wire::peer::{Call, Client, Stand, Upstream, record};

fn path(method: &str) -> String {
    format!("/runtime.v1.RuntimeService/{method}")
}

/// A field of some later CRI: number 3001, a text.
fn future_field(message: &impl Message) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    bytes.extend_from_slice(&[0xca, 0xbb, 0x01, 11]);
    bytes.extend_from_slice(b"from-future");
    bytes
}

async fn call(client: &Client, method: &str, body: Bytes) -> record::Answer {
    within("an answer", client.call(request(&path(method)), body)).await
}

#[tokio::test]
async fn unknown_fields_of_a_request_that_hooks_look_at_reach_the_runtime() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let hooks = ["PreRunPodSandbox", "PostRunPodSandbox", "PostStart"];
    let hooks = hooks.map(|on| webhook(&on.to_lowercase(), on, &server, &plain()));
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    let client = Client::connect(&node.front()).await;
    let sent = RunPodSandboxRequest { config: Some(pod("web")), runtime_handler: "runc".into() };
    let sent = message(0, &future_field(&sent));
    let answer = call(&client, "RunPodSandbox", sent.clone()).await;
    assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
    server.wait(2).await;
    assert!(node.heard("RunPodSandbox")[0].body == sent, "a policy that matches and patches nothing changes nothing");
    // The same through the typed client.
    let web = node.running("other", &[]).await;
    server.wait(5).await;
    let body = &node.heard("StartContainer")[0].body;
    assert_eq!(body[5..], crihook::cri::v1::StartContainerRequest { container_id: web.id }.encode_to_vec());
}

#[tokio::test]
async fn a_patched_stop_keeps_every_field_that_crihook_does_not_know() {
    let place = Place::new();
    place.write("a.yaml", &policy("drain-web", &[hook("wait", "PreStop", &json!({"sleep": {"seconds": 1}}))]));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let client = Client::connect(&node.front()).await;
    let sent = future_field(&StopContainerRequest { container_id: web.id, timeout: 20 });
    let answer = call(&client, "StopContainer", message(0, &sent)).await;
    assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
    let heard = node.heard("StopContainer").remove(0);
    let request: StopContainerRequest = heard.request().expect("a message still");
    assert!((10..20).contains(&request.timeout), "{request:?}");
    assert!(heard.body[5..].starts_with(&sent), "what was sent is all there: {}", heard.body.escape_ascii());
    let length = u32::from_be_bytes(heard.body[1..5].try_into().expect("four bytes"));
    assert_eq!(length as usize, heard.body.len() - 5, "the prefix fits");
}

#[tokio::test]
async fn a_stop_without_grace_is_passed_on_byte_for_byte() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("drain-web", &[webhook("drain", "PreStop", &server, &plain())]));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    let client = Client::connect(&node.front()).await;
    // A zero is not written by most encoders; one that is must not be lost.
    let mut sent = future_field(&StopContainerRequest { container_id: web.id, timeout: 0 });
    sent.extend_from_slice(&[0x10, 0]);
    let sent = message(0, &sent);
    let answer = call(&client, "StopContainer", sent.clone()).await;
    assert_eq!(answer.grpc_status(), Some("0"), "{answer:?}");
    assert!(node.heard("StopContainer")[0].body == sent);
    assert!(server.delivered().is_empty());
}

#[tokio::test]
async fn requests_that_cannot_be_decoded_pass_and_are_counted() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Status(403, "no"));
    let guard = webhook("guard", "PreRunPodSandbox", &server, &json!({"failurePolicy": "Fail"}));
    place.write("a.yaml", &policy("admission", &[guard]));
    let node = place.start().await;
    let client = Client::connect(&node.front()).await;
    let mut big = RunPodSandboxRequest { config: Some(pod("web")), runtime_handler: String::new() };
    big.config.get_or_insert_default().hostname = "x".repeat(16 << 20);
    let bad = [
        ("malformed", message(0, &noise(7, 500))),
        ("malformed", message(0, &pod("x").encode_to_vec()).slice(..40)),
        ("malformed", Bytes::new()),
        ("compressed", message(1, &big.encode_to_vec()[..500])),
        ("oversize", message(0, &big.encode_to_vec())),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for (reason, body) in bad {
        let through = call(&client, "RunPodSandbox", body.clone()).await;
        let direct = Client::connect(&place.path("runtime.sock")).await;
        let direct = call(&direct, "RunPodSandbox", body).await;
        assert_eq!(through.grpc_status(), direct.grpc_status(), "{reason}: the runtime's own answer, {through:?}");
        *counts.entry(reason).or_insert(0.0) += 1.0;
        let labels = [("method", "RunPodSandbox"), ("reason", reason)];
        node.wait_metric("crihook_cri_passthrough_total", &labels, counts[reason]).await;
    }
    assert!(server.delivered().is_empty(), "no hook was asked");
    let status = node.cri.run_pod(&pod("web")).await.expect_err("a good one is looked at");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn a_request_that_is_given_up_halfway_is_forgotten() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("watch-web", &[webhook("watch", "PreRunPodSandbox", &server, &plain())]));
    let node = place.start().await;
    let before = node.crihook.resident();
    let sent = message(0, &noise(5, 4 << 20));
    for _ in 0..20 {
        let client = Client::connect(&node.front()).await;
        let mut pending = client.start(request(&path("RunPodSandbox")), false).await.expect("a stream");
        pending.send.send_data(sent.slice(..1 << 20), false).expect("open");
        node.wait_in_flight("RunPodSandbox", 1.0).await;
        pending.reset(8);
        node.wait_in_flight("RunPodSandbox", 0.0).await;
    }
    let grown = node.crihook.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB", grown >> 20);
    node.cri.run_pod(&pod("web")).await.expect("a sandbox");
    assert_eq!((node.heard("RunPodSandbox").len(), server.delivered().len()), (1, 1));
}

/// Only calls that some policy needs to see are read to their end before they go on.
#[tokio::test]
async fn a_call_that_no_policy_asks_about_is_passed_on_piece_by_piece() {
    let hooks = [hook("wait", "PreStop", &json!({"sleep": {"seconds": 1}}))];
    let stand = Stand::through_with(|_, dir| {
        let directory = dir.join("hooks.d");
        std::fs::create_dir(&directory).expect("a directory of policies");
        std::fs::write(directory.join("a.yaml"), policy("drain-web", &hooks)).expect("a policy");
    })
    .await;
    let (here, mut pieces) = tokio::sync::mpsc::unbounded_channel();
    let _upstream = Upstream::start(&stand.upstream, move |mut call: Call| {
        let here = here.clone();
        async move {
            here.send(record::take(&mut call.body, 100).await).expect("the test waits");
            call.read().await;
            call.answer(response(), message(0, b""), status(0, ""));
        }
    });
    let client = Client::connect(&stand.front).await;
    for method in ["StartContainer", "UpdateContainerResources", "ExecSync", "ListContainers"] {
        let mut pending = client.start(request(&path(method)), false).await.expect("a stream");
        let sent = message(0, &noise(3, 195));
        pending.send.send_data(sent.slice(..100), false).expect("open");
        let first = within("the first half at the runtime", pieces.recv()).await.expect("a call");
        assert_eq!(first.expect("half of a request"), sent[..100], "{method}");
        pending.send.send_data(sent.slice(100..), true).expect("open");
        assert_eq!(within("the answer", pending.answer()).await.grpc_status(), Some("0"), "{method}");
    }
}
