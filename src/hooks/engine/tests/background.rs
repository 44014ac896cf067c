//! Background runs: lanes, age, abandonment, the end.

use super::*;
use crate::lifecycle::Call;

#[tokio::test(start_paused = true)]
async fn background_runs_of_a_container_go_in_order_one_at_a_time() {
    let later = Point::post(Call::UpdateContainerResources);
    let kit = Kit::new([
        (background("a"), takes(secs(3))),
        (background("b"), takes(secs(1))),
        (Hook { point: later, ..background("later") }, takes(secs(1))),
    ]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.fire(later, "c", None).await.unwrap();
    kit.fire(Point::POST_START, "other", None).await.unwrap();
    kit.idle().await;
    let of = |container: &str| kit.log().into_iter().filter(|line| line.ends_with(container)).collect::<Vec<_>>();
    assert_eq!(of(" c"), ["+a c", "-a c", "+b c", "-b c", "+later c", "-later c"]);
    assert_eq!(kit.begun()[..2], ["a c", "a other"], "containers do not wait for each other");
}

#[tokio::test(start_paused = true)]
async fn a_blocking_run_waits_for_no_background_run() {
    let crowd = Options { concurrency: 1, ..Options::default() };
    let kit = Kit::with(&crowd, [(background("a"), takes(secs(9))), (hook("b"), takes(secs(1)))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    let begun = Instant::now();
    kit.stop(None).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_background_run_gives_way_to_calls_that_wait_for_the_journal_but_not_for_long() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    let call = kit.engine.means.way.pass();
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    assert!(kit.begun().is_empty());
    drop(call);
    settle().await;
    assert_eq!(kit.begun(), ["a c"]);
    let _call = kit.engine.means.way.pass();
    kit.fire(Point::POST_START, "d", None).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(kit.begun(), ["a c", "a d"]);
}

#[tokio::test(start_paused = true)]
async fn at_one_point_background_hooks_are_queued_before_blocking_ones_have_run() {
    let kit = Kit::new([
        (Hook { point: Point::POST_START, ..hook("blocking") }, takes(secs(5))),
        (background("a"), takes(secs(1))),
    ]);
    let call = kit.fire(Point::POST_START, "c", None);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(kit.runs(), ["a succeeded 1", "blocking - 0"]);
    call.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_post_point_fires_once_however_often_the_call_is_repeated() {
    let kit = Kit::new([(background("a"), takes(secs(5))), (background("b"), fails(Failing::Failed, "no"))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.idle().await;
    assert_eq!(kit.begun(), ["a c", "b c"]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.idle().await;
    assert_eq!(kit.begun(), ["a c", "b c", "b c"], "one that failed is run again");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_old_when_its_run_would_begin_is_abandoned() {
    let options = Options { max_age: secs(60), ..Options::default() };
    let hooks = [(Hook { timeout: secs(100), ..background("a") }, takes(secs(90))), (background("b"), takes(secs(1)))];
    let kit = Kit::with(&options, hooks);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.idle().await;
    assert_eq!(kit.runs(), ["a succeeded 1", "b abandoned 0 its event is older than 1m"]);
    let old = Event { at: (SystemTime::now() - secs(61)).into(), ..Kit::event(Point::POST_START, "d") };
    kit.fire_event(old, None, Repeat::Once).await.unwrap();
    kit.idle().await;
    assert_eq!(kit.runs()[2], "a abandoned 0 its event is older than 1m");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_abandoned() {
    let kit = Kit::new([(attempts(5, background("a")), fails(Failing::Gone, "the container is not running"))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.idle().await;
    assert_eq!(kit.runs(), ["a abandoned 1 the container is not running"]);
}

#[tokio::test(start_paused = true)]
async fn abandoning_ends_what_is_queued_at_once_and_what_runs_after_its_attempt() {
    let slow: Script = Arc::new(|_| {
        Box::pin(async {
            tokio::time::sleep(secs(3)).await;
            Err(failure(Failing::Failed, "refused"))
        })
    });
    let kit = Kit::new([(attempts(5, background("a")), slow), (background("b"), takes(secs(1)))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.fire(Point::POST_START, "other", None).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    kit.engine.abandon("c", Point::PRE_STOP, "another point");
    kit.engine.abandon("c", Point::POST_START, "the container is being stopped");
    assert_eq!(kit.runs()[..2], ["a - 0", "b abandoned 0 the container is being stopped"]);
    tokio::time::sleep(secs(3)).await;
    assert_eq!(kit.runs()[0], "a abandoned 1 the container is being stopped; last: refused");
    kit.idle().await;
    assert_eq!(kit.runs()[2..], ["a failed 5 refused", "b succeeded 1"], "another container's are its own");
}

#[tokio::test(start_paused = true)]
async fn abandoning_ends_a_wait_between_attempts_at_once() {
    let slow = Retries { attempts: 2, backoff: secs(1000), max_backoff: secs(1000) };
    let kit = Kit::new([(Hook { retries: slow, ..background("a") }, fails(Failing::Failed, "refused"))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    kit.engine.abandon("c", Point::POST_START, "the container is being stopped");
    settle().await;
    assert_eq!(kit.runs(), ["a abandoned 1 the container is being stopped; last: refused"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_the_attempt_under_way_and_leaves_the_rest_to_the_next_process() {
    let patient = Retries { attempts: 1000, backoff: secs(60), max_backoff: secs(60) };
    let kit = Kit::new([
        (background("a"), takes(secs(5))),
        (Hook { retries: patient, ..background("b") }, fails(Failing::Failed, "refused")),
    ]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    kit.drain.start();
    let begun = Instant::now();
    settle().await;
    assert_eq!(kit.runs(), ["a - 0", "b - 0"]);
    kit.drain.finished().await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(kit.runs(), ["a succeeded 1", "b - 0"]);
    kit.fire(Point::POST_START, "late", None).await.unwrap();
    assert_eq!(kit.runs()[2..], ["a - 0", "b - 0"]);
    assert_eq!(kit.metrics(&["crihook_hook_queue_length 0"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_a_retry() {
    let slow = Retries { attempts: 2, backoff: secs(1000), max_backoff: secs(1000) };
    let kit = Kit::new([(Hook { retries: slow, ..background("a") }, fails(Failing::Failed, "refused"))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    kit.drain.start();
    let begun = Instant::now();
    kit.drain.finished().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(kit.runs(), ["a - 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_forced_end_drops_the_attempt_under_way() {
    let kit = Kit::new([(background("a"), takes(secs(5)))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    kit.drain.force();
    kit.drain.finished().await;
    assert_eq!(kit.runs(), ["a - 1"]);
    assert_eq!(kit.log(), ["+a c", "-a c"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_blocking_has_its_time_in_a_drain() {
    let kit = Kit::new([(hook("a"), takes(secs(5)))]);
    let call = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    kit.drain.start();
    assert!(call.await.unwrap().ran);
    assert_eq!(kit.runs(), ["a succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_of_the_queue_a_run_is_recorded_as_abandoned() {
    let kit = Kit::new([(background("a"), takes(secs(5)))]);
    *kit.engine.book() = Subjects::new(2, 100);
    for container in ["c", "d", "e"] {
        kit.fire(Point::POST_START, container, None).await.unwrap();
    }
    let later = Point::POST_START;
    for _ in 0..3 {
        kit.fire_event(Kit::event(later, "c"), None, Repeat::Each).await.unwrap();
    }
    assert_eq!(kit.runs()[3..], ["a - 0", "a - 0", "a abandoned 0 queue full"]);
    kit.idle().await;
    assert_eq!(kit.metrics(&["crihook_hook_queue_length 0"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_hooks_are_paused_what_is_queued_waits_and_what_is_under_way_ends() {
    let kit = Kit::new([(background("a"), takes(secs(5))), (background("b"), takes(secs(1)))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    kit.pause.pause(None);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(kit.runs(), ["a succeeded 1", "b - 0"]);
    kit.pause.resume();
    kit.idle().await;
    assert_eq!(kit.runs(), ["a succeeded 1", "b succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slot_or_a_server_when_hooks_are_paused_waits_on() {
    let options = Options { concurrency: 1, ..Options::default() };
    let kit = Kit::with(&options, [(background("a"), takes(secs(5)))]);
    for container in ["c", "d"] {
        kit.fire(Point::POST_START, container, None).await.unwrap();
    }
    settle().await;
    kit.pause.pause(None);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(kit.begun(), ["a c"], "the slot is free again");
    kit.pause.resume();
    kit.idle().await;
    assert_eq!(kit.begun(), ["a c", "a d"]);

    let kit = Kit::new([(attempts(100, to_server(background("a"))), fails(Failing::Failed, "refused"))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    tokio::time::sleep(secs(25)).await;
    let begun = kit.begun().len();
    kit.pause.pause(None);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(kit.begun().len(), begun, "probes are runs of hooks, too");
    kit.pause.resume();
    settle().await;
    assert_eq!(kit.begun().len(), begun + 1, "one is due");
}
