//! `/livez`, `/readyz` and `crihook_upstream_up`: whether a call would succeed, and why not.
use super::peer::exposition::get;
use super::peer::grpc::{self, message};
use super::peer::{Call, Crihook, Stand, Upstream, process, until, upstream};

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b""), grpc::status(0, ""));
}

async fn assert_ready(crihook: &Crihook, ready: bool, why: &str) {
    let addr = crihook.metrics_addr().await;
    until(&format!("readiness of {ready}, because of {why:?}"), || async {
        let (code, body) = get(&addr, "/readyz").await;
        let up = crihook.metrics().await.sum("crihook_upstream_up", &[]) > 0.5;
        if (code == 200) == ready && up == ready && body.contains(why) { Ok(()) } else { Err((code, up, body)) }
    })
    .await;
    assert_eq!(get(&addr, "/livez").await.0, 200, "alive all the same");
}

#[tokio::test]
async fn readiness_follows_the_runtime_and_says_why_not() {
    let stand = Stand::empty();
    let crihook = Crihook::serving_as(process::serve(stand.dir()).command()).await;
    let place = stand.upstream.display().to_string();
    assert_ready(&crihook, false, &place).await;
    let runtime = Upstream::start(&stand.upstream, answer_ok);
    assert_ready(&crihook, true, &place).await;
    drop(runtime);
    assert_ready(&crihook, false, &place).await;
    // It comes back, and then hangs.
    let runtime = Upstream::start(&stand.upstream, answer_ok);
    assert_ready(&crihook, true, &place).await;
    drop(runtime);
    let nobody_accepts = upstream::bind(&stand.upstream);
    assert_ready(&crihook, false, "no answer to Version").await;
    drop(nobody_accepts);
    // A runtime that answers with an error is there and yet of no use.
    let _broken = Upstream::start(&stand.upstream, async |mut call: Call| {
        call.read().await;
        call.answer_head_only(grpc::refusal(13, "out of order"));
    });
    assert_ready(&crihook, false, "out of order").await;
}

#[tokio::test]
async fn unknown_pages_and_methods_are_told() {
    let stand = Stand::through().await;
    let addr = stand.crihook().metrics_addr().await;
    assert_eq!(get(&addr, "/metrics").await.0, 200);
    assert_eq!(get(&addr, "/").await.0, 200);
    let (code, body) = get(&addr, "/nothing").await;
    assert_eq!(code, 404);
    assert!(body.contains("/metrics"), "says what there is: {body}");
}
