//! Every method of CRI v1, and methods that no version of it has, arrive as they were sent.
use bytes::Bytes;
use http::HeaderMap;

use super::peer::grpc::{self, message, methods, noise};
use super::peer::{Call, Client, Stand, Upstream, same};

/// Answers with bytes that follow from the path alone, in as many messages as the request's path asks for.
async fn answer_by_path(mut call: Call) {
    let asked = call.read().await;
    let seed = asked.line.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let count = if asked.line.contains("Stream") || asked.line.contains("Events") { 5 } else { 1 };
    let mut head = grpc::response();
    head.headers_mut().extend(grpc::fields(&[("x-runtime", "scripted"), ("x-seed", &seed.to_string())]));
    let mut stream = call.head(head);
    for part in 0..count {
        // 300 to 3,300 bytes that no decoder of CRI knows: invented fields are nothing but bytes here.
        let payload = noise(seed + part, 300 + usize::try_from(seed % 3000).expect("small"));
        stream.send_data(message(0, &payload), false).expect("the stream takes data");
    }
    stream.send_trailers(grpc::status(0, "")).expect("the stream takes trailers");
}

async fn play(stand: &Stand, paths: &[String]) -> Vec<(super::peer::record::Asked, super::peer::record::Answer)> {
    let upstream = Upstream::start(&stand.upstream, answer_by_path);
    let client = Client::connect(&stand.front).await;
    let mut record = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let seed = 1 + u64::try_from(index).expect("small");
        let mut request = grpc::request(path);
        request.headers_mut().extend(grpc::fields(&[("grpc-timeout", "1999857u"), ("x-call", &index.to_string())]));
        let answer = client.call(request, message(0, &noise(seed, 40 * index))).await;
        let asked = upstream.asked().last().expect("the call reached the runtime").clone();
        record.push((asked, answer));
    }
    assert_eq!(upstream.accepted(), 1, "one upstream connection per downstream connection");
    record
}

#[tokio::test]
async fn every_method_of_cri_passes_unchanged() {
    let methods = methods();
    assert_eq!(methods.iter().filter(|method| method.service == "RuntimeService").count(), 35);
    assert_eq!(methods.iter().filter(|method| method.service == "ImageService").count(), 6);
    assert_eq!(methods.iter().filter(|method| method.streams).count(), 7);
    let paths: Vec<String> = methods.iter().map(super::peer::grpc::Method::path).collect();
    let record = same(async |stand| play(stand, &paths).await).await;
    for ((asked, answer), method) in record.iter().zip(&methods) {
        assert!(asked.line.contains(&method.path()), "{asked:?}");
        assert_eq!(answer.grpc_status(), Some("0"), "{method:?}");
    }
}

#[tokio::test]
async fn methods_and_services_that_do_not_exist_pass_unchanged() {
    let paths = [
        "/runtime.v1.RuntimeService/DefragmentSandbox",
        "/runtime.v1.ImageService/PrefetchImage",
        "/runtime.v2.RuntimeService/Version",
        "/runtime.v1alpha2.RuntimeService/Version",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/some.invented.Service/StreamEverything",
        "/not-even-two-segments",
        "/",
        "/three/segments/here?and=a&query=%20string",
        "/runtime.v1.RuntimeService/",
        "//Version",
    ];
    same(async |stand| play(stand, &paths.map(str::to_owned)).await).await;
}

#[tokio::test]
async fn methods_other_than_post_and_bodies_other_than_grpc_pass_unchanged() {
    same(async |stand| {
        let upstream = Upstream::start(&stand.upstream, async |mut call: Call| {
            call.read().await;
            let head = http::Response::builder().status(418).header("content-type", "text/plain").body(());
            call.answer(head.expect("well formed"), Bytes::from_static(b"short and stout"), HeaderMap::new());
        });
        let client = Client::connect(&stand.front).await;
        let request = http::Request::put("http://localhost/coffee?milk=1").body(()).expect("well formed");
        let answer = client.call(request, Bytes::from_static(b"no gRPC frame")).await;
        let asked = upstream.asked().clone();
        (asked, answer)
    })
    .await;
}
