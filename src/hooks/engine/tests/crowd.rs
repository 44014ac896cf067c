//! Many at once.

use super::*;

#[tokio::test(start_paused = true)]
async fn five_hundred_containers_with_three_hooks_each_all_complete_within_the_bound() {
    let kit = Kit::new(["a", "b", "c"].map(|name| (background(name), takes(millis(300)))));
    let calls: Vec<_> = (0..500).map(|n| kit.fire(Point::POST_START, &n.to_string(), None)).collect();
    for call in calls {
        assert!(!call.await.unwrap().ran);
    }
    kit.idle().await;
    assert_eq!(kit.runs().len(), 1500);
    assert!(kit.runs().iter().all(|run| run.ends_with("succeeded 1")));
    let most = *locked(&kit.log.most);
    assert!((32..=64).contains(&most), "{most}");
    assert_eq!(kit.engine.book().size().1, 0);
    assert_eq!(kit.metrics(&["crihook_hook_runs_in_flight 0"]).len(), 1);
    assert_eq!(kit.metrics(&["crihook_hook_queue_length 0"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn as_many_blocking_runs_are_bounded_too() {
    let kit = Kit::new([(hook("a"), takes(millis(300)))]);
    let calls: Vec<_> = (0..500).map(|n| kit.fire(Point::PRE_STOP, &n.to_string(), None)).collect();
    for call in calls {
        assert!(call.await.unwrap().ran);
    }
    assert!(*locked(&kit.log.most) <= 64);
}

#[tokio::test(start_paused = true)]
async fn a_hook_whose_server_hangs_does_not_stop_the_others() {
    let other = |name| Hook { point: Point::post(crate::lifecycle::Call::CreateContainer), ..background(name) };
    let kit = Kit::new([
        (Hook { timeout: secs(3600), ..background("hung") }, takes(secs(3600))),
        (other("well"), takes(millis(10))),
    ]);
    for n in 0..500 {
        kit.fire(Point::POST_START, &n.to_string(), None).await.unwrap();
    }
    settle().await;
    let begun = Instant::now();
    for n in 500..1000 {
        kit.fire(other("well").point, &n.to_string(), None).await.unwrap();
    }
    let well = |kit: &Kit| kit.runs().iter().filter(|run| run.starts_with("well succeeded")).count();
    while well(&kit) < 500 {
        assert!(begun.elapsed() < secs(2), "{} of 500", well(&kit));
        tokio::time::sleep(millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocking_run_that_gets_no_slot_ends_with_its_budget() {
    let options = Options { concurrency: 1, ..Options::default() };
    let kit = Kit::with(&options, [(hook("a"), takes(secs(9)))]);
    let first = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    let begun = Instant::now();
    kit.fire(Point::PRE_STOP, "d", Some(secs(2))).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert_eq!(kit.runs()[1], "a timed_out 0 no time is left of the call");
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_next_attempt_holds_no_slot() {
    let options = Options { concurrency: 1, ..Options::default() };
    let slow = Retries { attempts: 2, backoff: secs(1000), max_backoff: secs(1000) };
    let other = Hook { point: Point::post(crate::lifecycle::Call::CreateContainer), ..background("b") };
    let kit = Kit::with(
        &options,
        [(Hook { retries: slow, ..background("a") }, fails(Failing::Failed, "refused")), (other, takes(millis(1)))],
    );
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    settle().await;
    kit.fire(Point::post(crate::lifecycle::Call::CreateContainer), "d", None).await.unwrap();
    tokio::time::sleep(millis(5)).await;
    assert_eq!(kit.runs(), ["a - 1", "b succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn those_that_only_sleep_do_not_wait_for_each_other() {
    let options = Options { concurrency: 1, ..Options::default() };
    let sleeping = Hook { action: Action::Sleep(secs(5)), ..hook("a") };
    let kit = Kit::with(&options, [(sleeping, takes(secs(5)))]);
    let begun = Instant::now();
    let calls: Vec<_> = (0..100).map(|n| kit.fire(Point::PRE_STOP, &n.to_string(), None)).collect();
    for call in calls {
        assert!(call.await.unwrap().ran);
    }
    assert_eq!(begun.elapsed().as_secs(), 5);
}
