//! Sets of policies that come and go.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_plan_has_the_hooks_of_a_point_in_order() {
    let kit = Kit::new([(hook("a"), hangs()), (background("b"), hangs()), (hook("c"), hangs())]);
    let active = kit.engine.active();
    let names = |point| {
        active.plan(point, &Pod::default(), None).iter().map(|bound| bound.hook.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(Point::PRE_STOP), ["a", "c"]);
    assert_eq!(active.points().collect::<Vec<_>>(), [Point::POST_START, Point::PRE_STOP]);
    assert!(!active.uses(Point::pre(crate::lifecycle::Call::RunPodSandbox)));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_left_alone_by_its_label_only_where_that_is_allowed() {
    for (allowed, value, hooks) in [(false, "true", 1), (true, "true", 0), (true, "yes", 1)] {
        let options = Options { allow_opt_out: allowed, ..Options::default() };
        let kit = Kit::with(&options, [(hook("a"), hangs())]);
        let pod = Pod { labels: [(OPT_OUT.to_owned(), value.to_owned())].into(), ..Pod::default() };
        assert_eq!(kit.engine.active().plan(Point::PRE_STOP, &pod, None).len(), hooks, "{allowed} {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_the_set_that_it_began_with() {
    let kit = Kit::new([(hook("a"), takes(secs(5))), (hook("b"), takes(secs(1)))]);
    let call = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    kit.engine.activate(set([]));
    assert!(!kit.engine.active().uses(Point::PRE_STOP));
    call.await.unwrap();
    assert_eq!(kit.runs(), ["a succeeded 1", "b succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_without_a_handler_fails_and_says_why() {
    let kit = Kit::new([]);
    kit.engine.activate(set([fail(hook("a"))]));
    assert_eq!(kit.stop(None).await.verdict.unwrap_err().cause, "cannot be set up: no script");
}

#[tokio::test(start_paused = true)]
async fn series_are_there_from_activation_and_go_with_the_last_run() {
    let kit = Kit::new([(hook("a"), takes(secs(5))), (hook("b"), takes(secs(1)))]);
    let series = |hook: &str| kit.metrics(&[&format!("hook=\"{hook}\"")]).len();
    let line = "crihook_hook_runs_total{handler=\"exec\",hook=\"a\",outcome=\"failed\",point=\"PreStopContainer\",policy=\"p\"} 0";
    assert_eq!(kit.metrics(&[line]).len(), 1);
    let call = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    kit.engine.activate(set([hook("b")]));
    assert!(series("a") > 0, "a run is under way");
    call.await.unwrap();
    settle().await;
    assert_eq!(series("a"), 0);
    assert_eq!(kit.metrics(&["crihook_hook_run_duration_seconds_count", "hook=\"b\"", "} 1"]).len(), 1);
    assert_eq!(kit.metrics(&["crihook_hook_attempts_total", "hook=\"b\"", "result=\"succeeded\"", "} 1"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_stays_keeps_its_counts_and_one_that_moves_takes_no_other_along() {
    let kit = Kit::new([(to_server(hook("a")), takes(secs(1)))]);
    kit.stop(None).await;
    settle().await;
    kit.engine.activate(set([to_server(hook("a"))]));
    assert_eq!(kit.metrics(&["crihook_hook_runs_total", "succeeded", "} 1"]).len(), 1);
    kit.engine.activate(set([to_server(background("a"))]));
    assert_eq!(kit.metrics(&["PreStopContainer"]).len(), 0);
    assert_eq!(kit.metrics(&["crihook_hook_breaker_open{"]).len(), 1);
}
