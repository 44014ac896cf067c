//! /metrics after a script of known outcomes.

use super::*;

#[tokio::test]
async fn every_run_is_counted_by_what_became_of_it() {
    let place = Place::new();
    let (good, bad) = (place.answering("good", Reply::Ok), place.answering("bad", Reply::Status(500, "no")));
    let (held, hangs) = (place.answering("held", Reply::Held), place.answering("hangs", Reply::Hang));
    let hooks = [
        webhook("good", "PreStartContainer", &good, &plain()),
        webhook("bad", "PreStartContainer", &bad, &json!({"retries": {"attempts": 2, "backoff": "1ms"}})),
        webhook("slow", "PreStartContainer", &hangs, &json!({"timeout": "100ms"})),
        webhook("held", "PostStart", &held, &json!({"timeout": "60s"})),
        webhook("behind", "PostStart", &good, &plain()),
    ];
    place.write("a.yaml", &policy("mixed", &hooks));
    let node = place.start().await;
    node.running("one", &[]).await;
    node.running("two", &[]).await;
    held.wait(2).await;
    node.wait_metric("crihook_hook_runs_in_flight", &[], 2.0).await;
    node.wait_metric("crihook_hook_queue_length", &[], 2.0).await;
    held.release();
    node.ended("behind", 2).await;
    let runs = |hook: &'static str, point: &'static str, handler: &'static str, outcome: &'static str| {
        [("policy", "mixed"), ("hook", hook), ("point", point), ("handler", handler), ("outcome", outcome)]
    };
    for labels in [
        runs("good", "PreStartContainer", "webhook", "succeeded"),
        runs("bad", "PreStartContainer", "webhook", "failed"),
        runs("slow", "PreStartContainer", "webhook", "timed_out"),
        runs("held", "PostStartContainer", "webhook", "succeeded"),
        runs("behind", "PostStartContainer", "webhook", "succeeded"),
    ] {
        node.wait_metric("crihook_hook_runs_total", &labels, 2.0).await;
        node.wait_metric("crihook_hook_run_duration_seconds_count", &labels[..4], 2.0).await;
    }
    node.wait_metric("crihook_hook_runs_total", &[], 10.0).await;
    let page = node.metrics().await;
    let slow = page.sum("crihook_hook_run_duration_seconds_sum", &[("hook", "slow")]);
    assert!((0.19..30.0).contains(&slow), "{slow} s");
    for (hook, result, count) in [("good", "succeeded", 2.0), ("bad", "failed", 4.0), ("slow", "timed_out", 2.0)] {
        let labels = [("policy", "mixed"), ("hook", hook), ("result", result)];
        assert!((page.sum("crihook_hook_attempts_total", &labels) - count).abs() < 0.1, "{}", page.text);
    }
    for gauge in ["crihook_hook_runs_in_flight", "crihook_hook_queue_length", "crihook_hook_breaker_open"] {
        node.wait_metric(gauge, &[], 0.0).await;
    }
    assert_eq!(page.all("crihook_policy_info").count(), 1);
    assert!(page.sum("crihook_policy_reloads_total", &[("result", "success")]) >= 1.0, "{}", page.text);
    // What the calls waited for hooks is in no other share.
    let shares = crate::wire::peer::shares::Shares::of(&node.crihook, "StartContainer", 2).await;
    assert!(shares.hook_wait >= 0.19 && shares.overhead < 5.0, "{shares:?}");
    shares.assert_sum();
}

#[tokio::test]
async fn without_policies_nothing_of_hooks_is_in_the_way() {
    let place = Place::new();
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    node.cri.stop(&web.id, 10).await.expect("stopped");
    assert_eq!(node.stop_timeouts(), [10]);
    let page = node.metrics().await;
    assert_eq!(page.all("crihook_hook_runs_total").count(), 0);
    assert!(page.sum("crihook_cri_hook_wait_seconds_sum", &[]).abs() < 1e-9);
    // How it has ended the runtime is asked, after the call.
    let asked: Vec<_> = node.runtime.calls().into_keys().collect();
    let who = ["ListContainers", "PodSandboxStatus"];
    assert!(!who.iter().any(|call| asked.contains(call)), "nobody needs to know who it is: {asked:?}");
}
