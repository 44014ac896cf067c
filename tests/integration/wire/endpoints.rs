//! `ImageService` has an endpoint of its own when one is given; nothing else goes there.
use super::peer::grpc::{self, message, methods};
use super::peer::record::Asked;
use super::peer::{Call, Client, Stand, Upstream, until};

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b"x"), grpc::status(0, ""));
}

fn lines(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.line.split('"').nth(2).unwrap_or(&asked.line).trim()).collect()
}

async fn with_image_endpoint(scheme: &str) -> Stand {
    Stand::through_with(|flags, dir| {
        flags.set("--image-endpoint", format!("{scheme}{}", dir.join("images.sock").display()));
    })
    .await
}

#[tokio::test]
async fn image_calls_go_to_the_image_endpoint_and_all_others_to_the_runtime() {
    for scheme in ["", "unix://"] {
        let stand = with_image_endpoint(scheme).await;
        let runtime = Upstream::start(&stand.upstream, answer_ok);
        let images = Upstream::start(&stand.dir().join("images.sock"), answer_ok);
        let client = Client::connect(&stand.front).await;
        let mut paths: Vec<String> = methods().iter().map(grpc::Method::path).collect();
        paths.extend(
            ["/runtime.v1.ImageService/Invented", "/invented.v1.ImageService/ListImages", "/x"].map(str::to_owned),
        );
        for path in &paths {
            let answer = client.call(grpc::request(path), message(0, b"x")).await;
            assert_eq!(answer.grpc_status(), Some("0"), "{path}: {answer:?}");
        }
        let is_image = |path: &&String| path.starts_with("/runtime.v1.ImageService/");
        assert_eq!(images.asked().len(), paths.iter().filter(is_image).count());
        assert!(
            images.asked().iter().all(|asked| asked.line.contains("/runtime.v1.ImageService/")),
            "{:?}",
            lines(&images.asked())
        );
        assert_eq!(runtime.asked().len(), paths.iter().filter(|path| !is_image(path)).count());
        assert_eq!((runtime.accepted(), images.accepted()), (1, 1), "two upstream connections, each dialled once");
    }
}

#[tokio::test]
async fn one_absent_endpoint_does_not_hold_up_the_other() {
    let stand = with_image_endpoint("unix://").await;
    let runtime = Upstream::start(&stand.upstream, answer_ok);
    let client = Client::connect(&stand.front).await;
    let image = || client.call(grpc::request("/runtime.v1.ImageService/ListImages"), message(0, b"x"));
    let version = || client.call(grpc::request("/runtime.v1.RuntimeService/Version"), message(0, b"x"));
    assert_eq!(image().await.grpc_status(), Some("14"));
    assert_eq!(version().await.grpc_status(), Some("0"));
    drop(runtime);
    let _images = Upstream::start(&stand.dir().join("images.sock"), answer_ok);
    until("the runtime's end is seen", || async {
        let answer = version().await;
        if answer.grpc_status() == Some("14") { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(image().await.grpc_status(), Some("0"));
}

#[tokio::test]
async fn connections_are_dialled_on_first_use_and_only_where_they_are_used() {
    let stand = with_image_endpoint("unix://").await;
    let images = Upstream::start(&stand.dir().join("images.sock"), answer_ok);
    let client = Client::connect(&stand.front).await;
    assert_eq!(images.accepted(), 0);
    for _ in 0..3 {
        client.call(grpc::request("/runtime.v1.ImageService/ListImages"), message(0, b"x")).await;
    }
    assert_eq!(images.accepted(), 1);
    // Calls that begin together share one dial.
    let runtime = Upstream::start(&stand.upstream, answer_ok);
    let fresh = Client::connect(&stand.front).await;
    let mut pending = Vec::new();
    for _ in 0..20 {
        pending.push(fresh.start(grpc::request("/runtime.v1.RuntimeService/Status"), true).await.expect("a stream"));
    }
    for mut call in pending {
        assert_eq!(call.answer().await.grpc_status(), Some("0"));
    }
    assert_eq!((runtime.accepted(), images.accepted()), (1, 1));
}
