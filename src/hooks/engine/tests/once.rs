//! Repeated calls: what is shared, what is not done again.

use super::*;
use proptest::prelude::*;

#[tokio::test(start_paused = true)]
async fn a_repeated_call_joins_the_run_in_progress_and_gets_its_verdict() {
    let kit = Kit::new([(fail(hook("a")), takes(secs(20)))]);
    let begun = Instant::now();
    let first = kit.fire(Point::PRE_STOP, "c", None);
    tokio::time::sleep(secs(3)).await;
    let second = kit.fire(Point::PRE_STOP, "c", None);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(begun.elapsed().as_secs(), 10, "the hook's own timeout, from the first call");
    assert_eq!(first, second);
    assert_eq!(first.verdict.unwrap_err().cause, "timed out");
    assert_eq!(kit.begun(), ["a c"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_succeeded_is_not_run_again_and_what_has_failed_is() {
    let kit = Kit::new([(hook("a"), takes(secs(1))), (hook("b"), fails(Failing::Failed, "no"))]);
    kit.stop(None).await;
    assert!(kit.stop(None).await.ran);
    assert_eq!(kit.begun(), ["a c", "b c", "b c"]);
    kit.fire(Point::PRE_STOP, "other", None).await.unwrap();
    assert_eq!(kit.begun()[3..], ["a other", "b other"]);
}

#[tokio::test(start_paused = true)]
async fn after_all_have_succeeded_a_repeated_call_waits_for_nothing() {
    let kit = Kit::new([(hook("a"), takes(secs(1)))]);
    assert!(kit.stop(None).await.ran);
    assert_eq!(kit.stop(None).await, Fired::default());
}

#[tokio::test(start_paused = true)]
async fn a_joining_call_shortens_the_attempt_under_way() {
    let kit = Kit::new([(hook("a"), takes(secs(9)))]);
    let begun = Instant::now();
    let first = kit.fire(Point::PRE_STOP, "c", Some(secs(30)));
    tokio::time::sleep(secs(1)).await;
    let second = kit.fire(Point::PRE_STOP, "c", Some(secs(2)));
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 3);
    assert_eq!(kit.runs(), ["a timed_out 1 cut: a later call leaves it less time"]);
}

#[tokio::test(start_paused = true)]
async fn a_joining_call_with_more_time_lengthens_nothing() {
    let kit = Kit::new([(hook("a"), takes(secs(9)))]);
    let begun = Instant::now();
    let first = kit.fire(Point::PRE_STOP, "c", Some(secs(3)));
    tokio::time::sleep(secs(1)).await;
    kit.fire(Point::PRE_STOP, "c", Some(secs(30))).await.unwrap();
    first.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_joining_call_shortens_the_wait_between_attempts() {
    let slow = Retries { attempts: 2, backoff: secs(1000), max_backoff: secs(1000) };
    let hook = Hook { retries: slow, ..hook("a") };
    let kit = Kit::new([(hook, fails(Failing::Failed, "refused"))]);
    let begun = Instant::now();
    let first = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    kit.fire(Point::PRE_STOP, "c", Some(millis(1))).await.unwrap();
    first.await.unwrap();
    assert!(begun.elapsed() < secs(1));
    assert_eq!(kit.runs(), ["a failed 1 refused; no time is left to try again"]);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_until_the_last_call_has_gone() {
    let kit = Kit::new([(hook("a"), takes(secs(5)))]);
    let first = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    let second = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    first.abort();
    settle().await;
    assert_eq!(kit.log(), ["+a c"]);
    second.abort();
    settle().await;
    assert_eq!(kit.log(), ["+a c", "-a c"]);
    assert_eq!(kit.runs(), ["a cancelled 1 nobody waits for it any more"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_as_the_last_one_goes_begins_anew_after_the_old_has_ended() {
    let kit = Kit::new([(hook("a"), takes(secs(5)))]);
    let first = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    first.abort();
    let second = kit.fire(Point::PRE_STOP, "c", Some(secs(8)));
    assert!(second.await.unwrap().ran);
    assert_eq!(kit.log(), ["+a c", "-a c", "+a c", "-a c"]);
    assert_eq!(kit.runs(), ["a cancelled 1 nobody waits for it any more", "a succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn each_call_is_an_event_of_its_own_where_the_point_says_so() {
    let point = Point::pre(crate::lifecycle::Call::UpdateContainerResources);
    let kit = Kit::new([(Hook { point, ..hook("a") }, takes(secs(1)))]);
    let one = kit.fire_event(Kit::event(point, "c"), None, Repeat::Each);
    let two = kit.fire_event(Kit::event(point, "c"), None, Repeat::Each);
    assert!(one.await.unwrap().ran && two.await.unwrap().ran);
    assert!(kit.fire_event(Kit::event(point, "c"), None, Repeat::Each).await.unwrap().ran);
    assert_eq!(kit.begun().len(), 3);
    settle().await;
    assert_eq!(kit.engine.book().size(), (0, 0), "nothing is remembered of it");
}

#[tokio::test(start_paused = true)]
async fn what_is_unfinished_is_known_until_the_subject_is_forgotten() {
    let kit = Kit::new([(hook("a"), takes(secs(1)))]);
    let hooks = kit.engine.active().plan(Point::PRE_STOP, &Pod::default(), None);
    assert!(kit.engine.unfinished("c", &hooks, Point::PRE_STOP));
    kit.stop(None).await;
    assert!(!kit.engine.unfinished("c", &hooks, Point::PRE_STOP));
    assert!(!kit.engine.unfinished("c", &[], Point::PRE_STOP));
    kit.engine.forget("c");
    assert!(kit.engine.unfinished("c", &hooks, Point::PRE_STOP));
    assert_eq!(kit.engine.book().size(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn forgetting_waits_for_what_runs() {
    let kit = Kit::new([(hook("a"), takes(secs(5)))]);
    let first = kit.fire(Point::PRE_STOP, "c", None);
    settle().await;
    kit.engine.forget("c");
    let second = kit.fire(Point::PRE_STOP, "c", None);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(kit.begun(), ["a c"], "the second call joined");
    settle().await;
    assert_eq!(kit.engine.book().size(), (0, 0));
}

/// What a kubelet might do to a container's stop.
#[derive(Debug, Clone)]
enum Step {
    Call(Option<u64>),
    Go(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        proptest::option::of(1_u64..3000).prop_map(Step::Call),
        (0_usize..8).prop_map(Step::Go),
        (1_u64..2500).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever calls come and go: a hook never runs twice at once for a container, nor again once it has succeeded; hooks keep
    /// their order; a call that stays gets its answer by its deadline; and in the end every run has ended.
    #[test]
    fn whatever_calls_come_and_go(steps in steps(), times in proptest::collection::vec(1_u64..2000, 3)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let hooks = times.iter().enumerate().map(|(n, time)| {
                let script: Script = if n == 1 { succeeds_at(2) } else { takes(millis(*time)) };
                (attempts(3, Hook { timeout: millis(1500), ..hook(&n.to_string()) }), script)
            });
            let kit = Kit::new(hooks);
            let mut calls: Vec<(JoinHandle<Fired>, Option<Instant>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Call(budget) => {
                        let deadline = budget.map(|budget| Instant::now() + millis(budget));
                        calls.push((kit.fire(Point::PRE_STOP, "c", budget.map(millis)), deadline));
                        settle().await;
                    }
                    Step::Go(which) if which < calls.len() => calls[which].0.abort(),
                    Step::Go(_) => {}
                    Step::Pass(time) => tokio::time::sleep(millis(time)).await,
                }
                for (call, deadline) in &calls {
                    let late = deadline.is_some_and(|deadline| Instant::now() > deadline + millis(5));
                    prop_assert!(!late || call.is_finished(), "a call waits beyond its deadline");
                }
            }
            for (call, _) in calls {
                if let Ok(fired) = call.await {
                    prop_assert!(fired.verdict.is_ok());
                }
            }
            settle().await;
            let mut under_way = None;
            for line in kit.log() {
                let (sign, name) = line.split_at(1);
                if sign == "+" {
                    prop_assert_eq!(under_way.replace(name.to_owned()), None, "two at once");
                } else {
                    prop_assert_eq!(under_way.take(), Some(name.to_owned()));
                }
            }
            prop_assert_eq!(under_way, None);
            let runs = kit.runs();
            prop_assert!(runs.iter().all(|run| !run.contains(" - ")), "{runs:?}");
            for n in 0..3 {
                let of = runs.iter().filter(|run| run.starts_with(&n.to_string())).collect::<Vec<_>>();
                let succeeded = of.iter().position(|run| run.contains("succeeded"));
                prop_assert!(succeeded.is_none_or(|at| at + 1 == of.len()), "run again after it had succeeded: {of:?}");
            }
            Ok(())
        })?;
    }
}
